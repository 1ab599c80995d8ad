// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The weight store of a bundle, `weights/store.bin`: a header of [`DATA`] bytes (`pw_store_header` in `c/pw_blob.h`), then the
//! tensors at the places that a [`Layout`] gives them.
//!
//! The library and the store know each other by the layout's hash, which other weights of the same names, dtypes and shapes
//! keep. So new weights need a new store, not a new library.

use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// First bytes of a store.
pub const MAGIC: [u8; 8] = *b"PWSTORE\n";
/// Layout version of the header (`PW_STORE_VERSION`).
pub const VERSION: u32 = 1;
/// Where the data begins in the file.
pub const DATA: u64 = 4096;
/// Every tensor begins at a multiple of it.
pub const ALIGN: u64 = 64;

/// One tensor of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name: of the weight, or of what the pack program computes from weights.
    pub name: String,
    /// ONNX TensorProto.DataType.
    pub dtype: i32,
    /// Its shape.
    pub dims: Vec<i64>,
    /// First byte, counted from the start of the data.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// Which tensor lies where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    entries: Vec<Entry>,
    end: u64,
}

impl Layout {
    /// An empty store.
    pub fn new() -> Layout {
        Layout::default()
    }

    /// Appends a tensor and returns the offset that plans pass to `pw_rt_weight`. `align` is a power of two; at least
    /// [`ALIGN`] is kept.
    ///
    /// # Errors
    /// [`StoreError::Size`] when the store would not fit 62 bits.
    pub fn push(&mut self, name: &str, dtype: i32, dims: &[i64], bytes: u64, align: u64) -> Result<u64, StoreError> {
        let offset = self.end.checked_next_multiple_of(align.max(ALIGN)).unwrap_or(u64::MAX);
        match offset.checked_add(bytes) {
            Some(end) if end < 1 << 62 => self.end = end,
            _ => return Err(StoreError::Size(name.to_string())),
        }
        self.entries.push(Entry { name: name.to_string(), dtype, dims: dims.to_vec(), offset, bytes });
        Ok(offset)
    }

    /// The tensors, in ascending order of their places.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of data: the end of the last tensor, rounded up to [`ALIGN`] so that whole vectors may be read.
    pub fn data_bytes(&self) -> u64 {
        self.end.next_multiple_of(ALIGN)
    }

    /// Hash of the names, dtypes, shapes and places.
    pub fn hash(&self) -> [u8; 32] {
        let mut h = Sha256::new();
        h.update(b"portwright store layout 1");
        for e in &self.entries {
            h.update((e.name.len() as u64).to_le_bytes());
            h.update(e.name.as_bytes());
            h.update(e.dtype.to_le_bytes());
            h.update((e.dims.len() as u64).to_le_bytes());
            e.dims.iter().for_each(|d| h.update(d.to_le_bytes()));
            h.update(e.offset.to_le_bytes());
            h.update(e.bytes.to_le_bytes());
        }
        h.finalize().into()
    }

    /// What the library's description says of the store; `None` when there is nothing in it.
    pub fn reference(&self) -> Option<crate::blob::StoreRef> {
        (self.end > 0).then(|| crate::blob::StoreRef { data_bytes: self.data_bytes(), layout: self.hash() })
    }
}

/// Why a store cannot be written or read.
#[derive(Debug)]
pub enum StoreError {
    /// The tensor of that name makes the store too large.
    Size(String),
    /// There is no such tensor, or the bytes lie outside it.
    Range(String),
    /// The file is not a store, or not this one: path and reason.
    Format(PathBuf, String),
    /// The file system.
    Io(PathBuf, io::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Size(name) => write!(f, "the weight store with {name:?} is larger than 62 bits can say"),
            StoreError::Range(what) => write!(f, "weight store: {what}"),
            StoreError::Format(path, why) => write!(f, "{}: {why}", path.display()),
            StoreError::Io(path, e) => write!(f, "{}: {e}", path.display()),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Io(_, e) => Some(e),
            _ => None,
        }
    }
}

fn header(layout: &Layout, content: [u8; 32]) -> Vec<u8> {
    let mut h = Vec::with_capacity(96);
    h.extend_from_slice(&MAGIC);
    h.extend_from_slice(&VERSION.to_le_bytes());
    h.extend_from_slice(&[0; 4]);
    h.extend_from_slice(&layout.data_bytes().to_le_bytes());
    h.extend_from_slice(&layout.hash());
    h.extend_from_slice(&content);
    h
}

/// Writes a store, tensor by tensor, in any order and from any number of threads. Until [`StoreWriter::finish`] the file is not a
/// valid store.
pub struct StoreWriter<'a> {
    file: File,
    path: PathBuf,
    layout: &'a Layout,
    /// Where the store begins in the file.
    begin: u64,
}

impl<'a> StoreWriter<'a> {
    /// Creates the file with its full size; bytes that nobody writes are zero.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn create(path: &Path, layout: &'a Layout) -> Result<Self, StoreError> {
        let io = |e| StoreError::Io(path.to_path_buf(), e);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(io)?;
        file.set_len(DATA + layout.data_bytes()).map_err(io)?;
        Ok(StoreWriter { file, path: path.to_path_buf(), layout, begin: 0 })
    }

    /// Begins a store in a file that is there, at byte `begin`, which is its end or behind it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn append(path: &Path, begin: u64, layout: &'a Layout) -> Result<Self, StoreError> {
        let io = |e| StoreError::Io(path.to_path_buf(), e);
        let file = File::options().read(true).write(true).open(path).map_err(io)?;
        file.set_len(begin + DATA + layout.data_bytes()).map_err(io)?;
        Ok(StoreWriter { file, path: path.to_path_buf(), layout, begin })
    }

    /// Writes bytes of tensor number `index`, beginning at byte `at` of it.
    ///
    /// # Errors
    /// [`StoreError::Range`] outside the tensor, [`StoreError::Io`].
    pub fn put(&self, index: usize, at: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(e) = self.layout.entries.get(index) else {
            return Err(StoreError::Range(format!("there is no tensor {index}")));
        };
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > e.bytes) {
            return Err(StoreError::Range(format!("{:?} has {} bytes, got {} for byte {at}", e.name, e.bytes, bytes.len())));
        }
        self.file.write_all_at(bytes, self.begin + DATA + e.offset + at).map_err(|e| StoreError::Io(self.path.clone(), e))
    }

    /// Writes the header and returns the hash of the data.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(self) -> Result<[u8; 32], StoreError> {
        let content = self.hash_data().map_err(|e| StoreError::Io(self.path.clone(), e))?;
        self.file.write_all_at(&header(self.layout, content), self.begin).map_err(|e| StoreError::Io(self.path.clone(), e))?;
        self.file.sync_data().map_err(|e| StoreError::Io(self.path.clone(), e))?;
        Ok(content)
    }

    fn hash_data(&self) -> io::Result<[u8; 32]> {
        let mut h = Sha256::new();
        let mut buffer = vec![0u8; 1 << 20];
        let (mut at, end) = (self.begin + DATA, self.begin + DATA + self.layout.data_bytes());
        while at < end {
            let n = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let part = &mut buffer[..n];
            self.file.read_exact_at(part, at)?;
            h.update(&*part);
            at += n as u64;
        }
        Ok(h.finalize().into())
    }
}

/// What the header of a store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// Bytes of data.
    pub data_bytes: u64,
    /// Hash of the layout.
    pub layout: [u8; 32],
    /// SHA-256 of the data.
    pub content: [u8; 32],
}

/// Reads the header of a store and checks the file's size.
///
/// # Errors
/// [`StoreError::Format`] when it is not a store or too short, [`StoreError::Io`].
pub fn read_info(path: &Path) -> Result<StoreInfo, StoreError> {
    let io = |e| StoreError::Io(path.to_path_buf(), e);
    let format = |why: String| Err(StoreError::Format(path.to_path_buf(), why));
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut h = [0u8; 88];
    if size < h.len() as u64 {
        return format(format!("{size} bytes are too few for a weight store"));
    }
    file.read_exact_at(&mut h, 0).map_err(io)?;
    if h[..8] != MAGIC || h[8..12] != VERSION.to_le_bytes() {
        return format("this is not a weight store of this version".into());
    }
    let mut info = StoreInfo { data_bytes: 0, layout: [0; 32], content: [0; 32] };
    let mut number = [0u8; 8];
    number.copy_from_slice(&h[16..24]);
    info.data_bytes = u64::from_le_bytes(number);
    info.layout.copy_from_slice(&h[24..56]);
    info.content.copy_from_slice(&h[56..88]);
    match info.data_bytes.checked_add(DATA) {
        Some(needed) if size >= needed => Ok(info),
        _ => format(format!("{size} bytes are too few for a weight store with {} bytes of data", info.data_bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_places_and_hashes() {
        let mut l = Layout::new();
        assert_eq!(l.reference(), None);
        assert_eq!(l.push("a", 1, &[3], 12, 4).unwrap(), 0);
        assert_eq!(l.push("b", 16, &[2, 2], 8, 4096).unwrap(), 4096);
        assert_eq!(l.push("c", 1, &[], 4, 1).unwrap(), 4160);
        assert_eq!(l.data_bytes(), 4224);
        assert!(matches!(l.push("d", 1, &[1 << 62], 1 << 62, 64), Err(StoreError::Size(_))));
        let mut m = l.clone();
        m.push("x", 1, &[], 4, 64).unwrap();
        assert_ne!(l.hash(), m.hash());
    }

    #[test]
    fn written_store_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.bin");
        let mut l = Layout::new();
        l.push("a", 1, &[3], 12, 4).unwrap();
        l.push("b", 2, &[5], 5, 4).unwrap();
        let w = StoreWriter::create(&path, &l).unwrap();
        w.put(1, 0, b"hello").unwrap();
        w.put(0, 4, &[9; 8]).unwrap();
        assert!(matches!(w.put(1, 1, b"hello"), Err(StoreError::Range(_))));
        assert!(matches!(w.put(2, 0, b""), Err(StoreError::Range(_))));
        assert!(read_info(&path).is_err(), "an unfinished store is valid");
        let content = w.finish().unwrap();
        let info = read_info(&path).unwrap();
        assert_eq!(info, StoreInfo { data_bytes: 128, layout: l.hash(), content });
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[DATA as usize..DATA as usize + 5], &[0, 0, 0, 0, 9]);
        assert_eq!(&bytes[DATA as usize + 64..DATA as usize + 69], b"hello");
        let other = dir.path().join("program");
        std::fs::write(&other, b"code").unwrap();
        let w = StoreWriter::append(&other, 8192, &l).unwrap();
        w.put(1, 0, b"hello").and_then(|()| w.put(0, 4, &[9; 8])).unwrap();
        assert_eq!(w.finish().unwrap(), content);
        let appended = std::fs::read(&other).unwrap();
        assert!(appended[..4] == *b"code" && appended[8192..] == bytes[..], "a store elsewhere has other bytes");
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(read_info(&path), Err(StoreError::Format(..))));
        assert!(matches!(read_info(&dir.path().join("none")), Err(StoreError::Io(..))));
    }
}
