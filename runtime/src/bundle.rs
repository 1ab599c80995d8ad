// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A bundle's folder: written beside its place and renamed when whole, so that nobody ever sees half of one.

use crate::manifest::{self, Manifest, ManifestError};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, process};

/// Path of the manifest in a bundle.
pub const MANIFEST: &str = "manifest.json";
/// Path of the library in a bundle.
pub const LIBRARY: &str = "lib/libmodel.so";
/// Path of the weight store in a bundle.
pub const STORE: &str = "weights/store.bin";

/// Why a bundle cannot be written or read.
#[derive(Debug)]
pub enum BundleError {
    /// The place is taken by something that is not a bundle.
    Occupied(PathBuf),
    /// This is not a bundle, or a damaged one: path and reason.
    NotABundle(PathBuf, String),
    /// The manifest cannot be read.
    Manifest(PathBuf, ManifestError),
    /// The file system.
    Io(PathBuf, io::Error),
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BundleError::Occupied(p) => write!(f, "{} exists and is not a bundle; it is left alone", p.display()),
            BundleError::NotABundle(p, why) => write!(f, "{} is not a bundle: {why}", p.display()),
            BundleError::Manifest(p, e) => write!(f, "{}: {e}", p.display()),
            BundleError::Io(p, e) => write!(f, "{}: {e}", p.display()),
        }
    }
}

impl std::error::Error for BundleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BundleError::Io(_, e) => Some(e),
            BundleError::Manifest(_, e) => Some(e),
            _ => None,
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> BundleError + '_ {
    move |e| BundleError::Io(path.to_path_buf(), e)
}

/// A bundle that is there.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Its folder.
    pub path: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Bundle {
    /// Whether the folder looks like a bundle, that is, has the manifest of one.
    pub fn is_bundle(path: &Path) -> bool {
        Bundle::read(path).is_ok()
    }

    /// Reads the manifest of the bundle in that folder.
    ///
    /// # Errors
    /// [`BundleError::NotABundle`], [`BundleError::Manifest`], [`BundleError::Io`].
    pub fn read(path: &Path) -> Result<Bundle, BundleError> {
        let file = path.join(MANIFEST);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound || e.kind() == io::ErrorKind::NotADirectory => {
                return Err(BundleError::NotABundle(path.to_path_buf(), format!("it has no {MANIFEST}")));
            }
            Err(e) => return Err(BundleError::Io(file, e)),
        };
        let manifest = Manifest::from_json(&text).map_err(|e| BundleError::Manifest(file, e))?;
        Ok(Bundle { path: path.to_path_buf(), manifest })
    }

    /// Compares every file with the hash in the manifest.
    ///
    /// # Errors
    /// [`BundleError::NotABundle`] for the first file that differs or is missing.
    pub fn verify(&self) -> Result<(), BundleError> {
        for (name, wanted) in &self.manifest.files {
            let file = self.path.join(
                relative(name)
                    .ok_or_else(|| BundleError::NotABundle(self.path.clone(), format!("its manifest names the file {name:?}")))?,
            );
            let found = hash_file(&file).map_err(io_error(&file))?;
            if found != *wanted {
                return Err(BundleError::NotABundle(self.path.clone(), format!("{name} was changed")));
            }
        }
        Ok(())
    }

    /// Path of the library.
    pub fn library(&self) -> PathBuf {
        self.path.join(LIBRARY)
    }

    /// Path of the weight store.
    pub fn store(&self) -> PathBuf {
        self.path.join(STORE)
    }
}

/// The path, if it stays within the folder that it is relative to.
fn relative(name: &str) -> Option<&Path> {
    let path = Path::new(name);
    (!name.is_empty() && path.components().all(|c| matches!(c, Component::Normal(_)))).then_some(path)
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut h = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(manifest::hex(&h.finalize()));
        }
        h.update(&buffer[..n]);
    }
}

/// Writes a bundle. Dropped before [`BundleWriter::finish`] it leaves nothing behind.
#[derive(Debug)]
pub struct BundleWriter {
    place: PathBuf,
    work: PathBuf,
    whole: bool,
    durable: bool,
}

impl BundleWriter {
    /// Begins a bundle at `place`, in a folder of its own beside it. The folder that `place` lies in must exist.
    ///
    /// # Errors
    /// [`BundleError::Occupied`] when there is something else than a bundle, [`BundleError::Io`].
    pub fn create(place: &Path) -> Result<BundleWriter, BundleError> {
        let place = match fs::symlink_metadata(place) {
            Ok(_) => {
                if !Bundle::is_bundle(place) {
                    return Err(BundleError::Occupied(place.to_path_buf()));
                }
                fs::canonicalize(place).map_err(io_error(place))?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => place.to_path_buf(),
            Err(e) => return Err(BundleError::Io(place.to_path_buf(), e)),
        };
        let Some(name) = place.file_name() else {
            return Err(BundleError::Io(place.clone(), io::Error::new(io::ErrorKind::InvalidInput, "a bundle needs a name")));
        };
        let work = sibling(&place, &name.to_string_lossy(), "new");
        fs::create_dir(&work).map_err(io_error(&place))?;
        let writer = BundleWriter { place, work, whole: false, durable: true };
        for dir in ["lib", "weights", "include"] {
            let dir = writer.work.join(dir);
            fs::create_dir(&dir).map_err(io_error(&dir))?;
        }
        Ok(writer)
    }

    /// Whether files have to be on the disk when [`BundleWriter::finish`] returns, which they have unless this says otherwise: a bundle that
    /// is run once and removed need not survive a crash of the system.
    #[must_use]
    pub fn durable(mut self, durable: bool) -> BundleWriter {
        self.durable = durable;
        self
    }

    /// The folder that the bundle is written in. A path under it is not yet the bundle's.
    pub fn folder(&self) -> &Path {
        &self.work
    }

    /// Writes a file; `name` is relative to the bundle, with `/`. Its folders are made.
    ///
    /// # Errors
    /// [`BundleError::Io`]; a name that leaves the bundle is one.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let Some(path) = relative(name) else {
            let e = io::Error::new(io::ErrorKind::InvalidInput, "the path leaves the bundle");
            return Err(BundleError::Io(PathBuf::from(name), e));
        };
        let path = self.work.join(path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(io_error(dir))?;
        }
        let file = fs::File::create(&path).map_err(io_error(&path))?;
        let sync = |()| if self.durable { file.sync_data() } else { Ok(()) };
        (&file).write_all(bytes).and_then(sync).map_err(io_error(&path))
    }

    /// Copies a file of another bundle or of the compiler's work to `name`.
    ///
    /// # Errors
    /// [`BundleError::Io`].
    pub fn copy(&self, from: &Path, name: &str) -> Result<(), BundleError> {
        let mut bytes = Vec::new();
        fs::File::open(from).and_then(|mut f| f.read_to_end(&mut bytes)).map_err(io_error(from))?;
        self.write(name, &bytes)
    }

    /// Writes the manifest, with the hashes of all files but the store's, and puts the bundle in its place. A bundle that was
    /// there is replaced. Returns the bundle.
    ///
    /// # Errors
    /// [`BundleError::Io`]; then the place is as it was before.
    pub fn finish(mut self, mut manifest: Manifest) -> Result<Bundle, BundleError> {
        manifest.files.clear();
        let mut names = Vec::new();
        list(&self.work, "", &mut names).map_err(io_error(&self.work))?;
        names.sort();
        for name in names.into_iter().filter(|n| n != STORE && n != MANIFEST) {
            let file = self.work.join(&name);
            let hash = hash_file(&file).map_err(io_error(&file))?;
            manifest.files.insert(name, hash);
        }
        self.write(MANIFEST, manifest.to_json().as_bytes())?;
        self.swap()?;
        Ok(Bundle { path: self.place.clone(), manifest })
    }

    fn swap(&mut self) -> Result<(), BundleError> {
        let place = self.place.clone();
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let old = sibling(&place, &name, "old");
        let replaced = match fs::rename(&place, &old) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(BundleError::Io(place, e)),
        };
        if let Err(e) = fs::rename(&self.work, &place) {
            if replaced {
                // Nothing better can be done than to try to put it back.
                let _ = fs::rename(&old, &place);
            }
            return Err(BundleError::Io(place, e));
        }
        self.whole = true;
        if replaced {
            // The new bundle stands. What is left of the old one is only dirt, which the next line may fail to remove.
            let _ = fs::remove_dir_all(&old);
        }
        Ok(())
    }
}

impl Drop for BundleWriter {
    fn drop(&mut self) {
        if !self.whole {
            let _ = fs::remove_dir_all(&self.work);
        }
    }
}

/// A name beside `place` that nobody else takes.
fn sibling(place: &Path, name: &str, what: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    place.with_file_name(format!(".{name}.{what}-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

fn list(dir: &Path, prefix: &str, out: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), out)?;
        } else {
            out.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Blob;

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn manifest(name: &str) -> Manifest {
        Manifest::of_blob(&Blob { name: name.into(), ..Blob::default() })
    }

    #[test]
    fn written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("m");
        drop(BundleWriter::create(&place).unwrap());
        assert_eq!(entries(dir.path()), [""; 0]);
        for round in ["one", "two"] {
            let w = BundleWriter::create(&place).unwrap();
            w.write("lib/libmodel.so", round.as_bytes()).unwrap();
            w.write("a/b/c.txt", b"text").unwrap();
            assert!(w.write("../x", b"").is_err() && w.write("/x", b"").is_err() && w.write("", b"").is_err());
            let b = w.finish(manifest(round)).unwrap();
            assert_eq!(b.manifest.files.len(), 2);
            let b = Bundle::read(&place).unwrap();
            assert_eq!(b.manifest.name, round);
            b.verify().unwrap();
            assert_eq!(entries(dir.path()), ["m"]);
        }
        fs::write(place.join("a/b/c.txt"), "other").unwrap();
        assert!(Bundle::read(&place).unwrap().verify().unwrap_err().to_string().contains("c.txt was changed"));
    }

    #[test]
    fn what_is_no_bundle_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder, odd) = (dir.path().join("f"), dir.path().join("d"), dir.path().join("o"));
        fs::write(&file, "precious").unwrap();
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&odd).unwrap();
        fs::write(odd.join(MANIFEST), "{\"name\": \"a web app\"}").unwrap();
        for path in [&file, &folder, &odd] {
            assert!(matches!(BundleWriter::create(path), Err(BundleError::Occupied(_))));
            assert!(Bundle::read(path).is_err());
        }
        assert!(matches!(BundleWriter::create(&dir.path().join("no/such/m")), Err(BundleError::Io(..))));
        assert!(matches!(BundleWriter::create(Path::new("/")), Err(BundleError::Occupied(_))));
        assert_eq!(entries(dir.path()), ["d", "f", "o"]);
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    #[test]
    fn a_failing_write_leaves_the_old_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("m");
        BundleWriter::create(&place).unwrap().finish(manifest("old")).unwrap();
        let w = BundleWriter::create(&place).unwrap();
        // A folder where a file should be written fails on every system and for every user.
        fs::create_dir(w.folder().join(MANIFEST)).unwrap();
        assert!(matches!(w.finish(manifest("new")), Err(BundleError::Io(..))));
        assert_eq!(Bundle::read(&place).unwrap().manifest.name, "old");
        assert_eq!(entries(dir.path()), ["m"]);
    }

    #[test]
    fn a_full_disk_leaves_nothing() {
        // mount -t tmpfs -o size=256k none DIR
        let Some(disk) = std::env::var_os("PORTWRIGHT_SMALL_DISK") else {
            return println!("skipped: PORTWRIGHT_SMALL_DISK names no folder on a disk of less than 1 MiB");
        };
        let dir = tempfile::tempdir_in(disk).unwrap();
        let place = dir.path().join("m");
        BundleWriter::create(&place).unwrap().finish(manifest("old")).unwrap();
        let w = BundleWriter::create(&place).unwrap();
        let e = w.write("lib/libmodel.so", &vec![1; 1 << 20]).unwrap_err();
        assert!(matches!(&e, BundleError::Io(_, e) if e.kind() == io::ErrorKind::StorageFull), "{e}");
        let mut layout = crate::store::Layout::new();
        layout.push("w", 2, &[1 << 20], 1 << 20, 64).unwrap();
        let store = crate::store::StoreWriter::create(&w.folder().join(STORE), &layout).unwrap();
        assert!(store.put(0, 0, &vec![1; 1 << 20]).is_err());
        drop(w);
        assert_eq!(entries(dir.path()), ["m"]);
        assert_eq!(Bundle::read(&place).unwrap().manifest.name, "old");
    }
}
