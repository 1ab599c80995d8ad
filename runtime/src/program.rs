// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Static executables, as `compile --static` makes them: the linked program, the weight store at a multiple of the largest page, the
//! manifest, and a tail that says where they are (`pw_program_tail` in `c/static/program.h`). The program maps its weights from its own file,
//! so their size does not matter.

use crate::bundle::BundleError;
use crate::manifest::Manifest;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// First bytes of the tail.
pub const MAGIC: [u8; 8] = *b"PWPROG\r\n";
/// Its layout's version.
pub const VERSION: u32 = 1;
/// Bytes of the tail.
pub const TAIL: u64 = 64;
/// The store begins at a multiple of it: the largest page of the machines that are compiled for.
pub const PAGE: u64 = 1 << 16;
/// Longest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 1 << 30;

/// A static executable that is there.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// What it was made of: as that of a bundle, without files.
    pub manifest: Manifest,
    /// Bytes of the whole file.
    pub bytes: u64,
}

/// What the tail says, in its order: store, manifest, whole file.
struct Tail([u64; 5]);

impl Tail {
    fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 4]);
        self.0.iter().for_each(|n| out.extend(n.to_le_bytes()));
        out.extend(check(&out).to_le_bytes());
        out
    }

    fn read(bytes: &[u8], size: u64) -> Option<Tail> {
        let head = bytes.get(..TAIL as usize - 8)?;
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        if head.get(..8)? != MAGIC || number(8)? != u64::from(VERSION) || number(TAIL as usize - 8)? != check(head) {
            return None;
        }
        let t = Tail([number(16)?, number(24)?, number(32)?, number(40)?, number(48)?]);
        let inside = |at: u64, n: u64| at.checked_add(n).is_some_and(|end| end <= size);
        (inside(t.0[0], t.0[1]) && inside(t.0[2], t.0[3]) && t.0[4] == size).then_some(t)
    }
}

/// Exclusive or of the words.
fn check(bytes: &[u8]) -> u64 {
    bytes.chunks_exact(8).fold(0, |sum, w| sum ^ u64::from_le_bytes(w.try_into().unwrap_or_default()))
}

impl Program {
    /// Reads what a static executable says of itself; `None` for every other file.
    ///
    /// # Errors
    /// [`BundleError::Io`], and [`BundleError::Manifest`] for one whose manifest is damaged.
    pub fn read(path: &Path) -> Result<Option<Program>, BundleError> {
        let io = |e| BundleError::Io(path.to_path_buf(), e);
        let meta = fs::metadata(path).map_err(io)?;
        if !meta.is_file() || meta.len() < TAIL {
            return Ok(None);
        }
        let mut file = File::open(path).map_err(io)?;
        let mut tail = [0u8; TAIL as usize];
        file.seek(SeekFrom::Start(meta.len() - TAIL)).and_then(|_| file.read_exact(&mut tail)).map_err(io)?;
        let Some(Tail([_, _, at, bytes, size])) = Tail::read(&tail, meta.len()) else { return Ok(None) };
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(at)).map_err(io)?;
        file.take(bytes.min(MAX_MANIFEST)).read_to_end(&mut text).map_err(io)?;
        let manifest = Manifest::from_json(&String::from_utf8_lossy(&text)).map_err(|e| BundleError::Manifest(path.to_path_buf(), e))?;
        Ok(Some(Program { path: path.to_path_buf(), manifest, bytes: size }))
    }

    /// Whether the file is one that [`complete`] wrote, whole.
    pub fn is_program(path: &Path) -> bool {
        matches!(Program::read(path), Ok(Some(_)))
    }
}

/// Fails unless an executable may be written at `place`: nothing is there, or another one.
///
/// # Errors
/// [`BundleError::Occupied`].
pub fn check_place(place: &Path) -> Result<(), BundleError> {
    match fs::symlink_metadata(place) {
        Ok(_) if !Program::is_program(place) => Err(BundleError::Occupied(place.to_path_buf())),
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(BundleError::Io(place.to_path_buf(), e)),
    }
}

/// Where the store of a linked program begins: behind its code, at a multiple of [`PAGE`].
///
/// # Errors
/// The file cannot be read.
pub fn store_place(linked: &Path) -> io::Result<u64> {
    Ok(fs::metadata(linked)?.len().next_multiple_of(PAGE))
}

/// Completes a linked program, behind whose code the store lies from byte `store_at` to the end if it has one, and moves it to `place`,
/// which is on the same disk. The same parts give the same bytes.
///
/// # Errors
/// [`BundleError::Occupied`], [`BundleError::Io`]; then the place is as it was before.
pub fn complete(linked: &Path, store_at: Option<u64>, manifest: &Manifest, place: &Path) -> Result<Program, BundleError> {
    check_place(place)?;
    let done = close(linked, store_at, manifest).and_then(|bytes| {
        // A link is followed: what it leads to is replaced, not the link.
        let target = fs::canonicalize(place).unwrap_or_else(|_| place.to_path_buf());
        fs::rename(linked, target).map(|()| bytes)
    });
    match done {
        Ok(bytes) => Ok(Program { path: place.to_path_buf(), manifest: manifest.clone(), bytes }),
        Err(e) => Err(BundleError::Io(place.to_path_buf(), e)),
    }
}

fn close(linked: &Path, store_at: Option<u64>, manifest: &Manifest) -> io::Result<u64> {
    let mut out = File::options().write(true).open(linked)?;
    let end = out.seek(SeekFrom::End(0))?;
    let (store_at, store_bytes) = store_at.map_or((0, 0), |at| (at, end.saturating_sub(at)));
    // The tail is read in words, and so begins at a multiple of one.
    let mut text = manifest.to_json().into_bytes();
    let bytes = text.len() as u64;
    text.resize(((end + bytes).next_multiple_of(8) - end) as usize, b'\n');
    out.write_all(&text)?;
    let size = end + text.len() as u64 + TAIL;
    out.write_all(&Tail([store_at, store_bytes, end, bytes, size]).write())?;
    let mode = out.metadata()?.permissions().mode();
    // Whoever may read it may run it.
    out.set_permissions(fs::Permissions::from_mode(mode | (mode & 0o444) >> 2))?;
    out.sync_all()?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Blob;

    #[test]
    fn put_together_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (elf, place) = (dir.path().join("elf"), dir.path().join("model"));
        let link = || {
            fs::write(&elf, b"\x7fELF and more").unwrap();
            store_place(&elf).unwrap()
        };
        let manifest = |name: &str| Manifest::of_blob(&Blob { name: name.into(), ..Blob::default() });
        for (name, store) in [("one", true), ("two", false)] {
            let at = link();
            if store {
                let mut code = fs::read(&elf).unwrap();
                code.resize(at as usize, 0);
                code.extend(b"weights");
                fs::write(&elf, code).unwrap();
            }
            let made = complete(&elf, store.then_some(at), &manifest(name), &place).unwrap();
            let read = Program::read(&place).unwrap().unwrap();
            assert_eq!((read.manifest.name.as_str(), read.bytes), (name, made.bytes));
            let bytes = fs::read(&place).unwrap();
            assert_eq!((bytes.len() as u64, &bytes[..13]), (made.bytes, &b"\x7fELF and more"[..]));
            if store {
                assert_eq!(&bytes[PAGE as usize..PAGE as usize + 7], b"weights");
            }
            assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o100, 0o100);
        }
        // One that was cut short, and anything else, is none and stays.
        let whole = fs::read(&place).unwrap();
        for cut in [&whole[..whole.len() - 1], &whole[1..], &whole[..20], b"", b"precious"] {
            fs::write(&place, cut).unwrap();
            assert!(!Program::is_program(&place));
            link();
            assert!(matches!(complete(&elf, None, &manifest("x"), &place), Err(BundleError::Occupied(_))));
            assert_eq!(fs::read(&place).unwrap(), cut);
        }
        assert!(matches!(complete(&elf, None, &manifest("x"), dir.path()), Err(BundleError::Occupied(_))));
        fs::remove_file(&place).unwrap();
        assert!(matches!(complete(&dir.path().join("none"), None, &manifest("x"), &place), Err(BundleError::Io(..))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
