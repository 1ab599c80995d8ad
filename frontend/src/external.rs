// SPDX-License-Identifier: Apache-2.0 OR MIT
//! External data: files beside the model, mapped once each, never outside the model's folder.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use portwright_ir::weight::{ByteOwner, WeightSource};

/// A file that is mapped read-only.
pub struct Mapped(Mmap);

impl ByteOwner for Mapped {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
    fn forget(&self, offset: usize, len: usize) {
        /// Pages of every machine at hand are of this size or smaller; a range in between is kept.
        const PAGE: usize = 64 << 10;
        let (from, to) = (offset.next_multiple_of(PAGE), offset.saturating_add(len) / PAGE * PAGE);
        if from < to && to <= self.0.len() {
            // SAFETY: the mapping is of a file and read-only, so what is dropped is read from the file again. A refusal costs memory only.
            let _ = unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, to - from) };
        }
    }
}

/// Maps a regular file.
///
/// # Errors
/// What the system says, or that it is no regular file.
pub fn map_file(path: &Path) -> Result<Arc<Mapped>, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let meta = file.metadata().map_err(|e| e.to_string())?;
    if !meta.is_file() {
        return Err("not a regular file".into());
    }
    // SAFETY: the mapping is private and read-only. A file that shrinks while it is mapped faults on access; that is the contract of
    // every mapped model file, and the command's manual says so.
    let map = unsafe { Mmap::map(&file) }.map_err(|e| e.to_string())?;
    Ok(Arc::new(Mapped(map)))
}

/// Why bytes of a data file cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFault {
    /// One sentence about the file.
    pub message: String,
    /// What concerns this tensor alone.
    pub note: Option<String>,
}

impl DataFault {
    fn with(message: String, note: String) -> Self {
        DataFault { message, note: Some(note) }
    }
}

impl From<String> for DataFault {
    fn from(message: String) -> Self {
        DataFault { message, note: None }
    }
}

/// Opens external data files of one model.
pub struct External {
    folder: Option<PathBuf>,
    weightless: bool,
    files: HashMap<String, Result<Arc<Mapped>, String>>,
}

impl External {
    /// Makes an opener for the model in `folder`; with `weightless` no file is ever opened.
    pub fn new(folder: Option<&Path>, weightless: bool) -> Self {
        let folder = folder.map(|f| if f.as_os_str().is_empty() { PathBuf::from(".") } else { f.to_path_buf() });
        External { folder, weightless, files: HashMap::new() }
    }
    /// Where `expected` bytes of a tensor are.
    ///
    /// # Errors
    /// The file is missing, too short or outside the folder.
    pub fn source(&mut self, location: &str, offset: u64, len: Option<u64>, expected: u64) -> Result<WeightSource, DataFault> {
        confined(location)?;
        if let Some(len) = len.filter(|l| *l != expected) {
            let m = format!("a range of `{location}` has another length than its tensor");
            return Err(DataFault::with(m, format!("{len} bytes are given, shape and dtype need {expected}")));
        }
        let Some(end) = offset.checked_add(expected) else {
            let m = format!("a range of `{location}` leaves the range of 64 bits");
            return Err(DataFault::with(m, format!("{expected} bytes from {offset} are expected")));
        };
        if self.weightless {
            return Ok(WeightSource::Absent { location: location.into(), offset, len: expected });
        }
        if !self.files.contains_key(location) {
            let opened = self.open(location);
            self.files.insert(location.to_string(), opened);
        }
        let map = match self.files.get(location) {
            Some(Ok(map)) => map.clone(),
            Some(Err(e)) => return Err(e.clone().into()),
            None => return Err(format!("`{location}` cannot be opened").into()),
        };
        let found = map.bytes().len() as u64;
        if end > found {
            let m = format!("`{location}` is too short: it has {found} bytes");
            return Err(DataFault::with(m, format!("bytes {offset}..{end} are expected")));
        }
        Ok(WeightSource::Bytes { owner: map, offset: offset as usize, len: expected as usize })
    }
    fn open(&self, location: &str) -> Result<Arc<Mapped>, String> {
        let folder = self.folder.as_deref().ok_or_else(|| format!("`{location}` lies beside a model that was given without its folder"))?;
        let folder = folder.canonicalize().map_err(|e| format!("the model's folder cannot be opened: {e}"))?;
        let path = folder.join(location);
        let real = path.canonicalize().map_err(|e| format!("`{location}` cannot be opened in the model's folder: {e}"))?;
        if !real.starts_with(&folder) {
            return Err(format!("`{location}` is a link that leaves the model's folder"));
        }
        map_file(&real).map_err(|e| format!("`{location}` cannot be opened: {e}"))
    }
}

/// Whether a location stays in the folder by its text alone.
fn confined(location: &str) -> Result<(), String> {
    let bad = Path::new(location).components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir));
    // Files written on Windows may hold its spellings of the same escapes.
    let windows = location.split(['/', '\\']).any(|p| p == "..") || location.contains(":\\") || location.starts_with('\\');
    if bad || windows || location.contains('\0') {
        return Err(format!("`{location}` points outside the model's folder"));
    }
    Ok(())
}
