// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Objects that were made before, in a folder of the user: a request is known by the hash of all that decides its answer.
//!
//! A folder may be shared by any number of processes: an entry appears by a rename, carries a hash of its bytes, and is removed
//! where it does not hold. Nothing here fails a compilation: what cannot be read or written is compiled again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::codegen::{Failure, Output, Request, Workers, run_all};

/// Bytes that a cache keeps unless told otherwise.
pub const LIMIT: u64 = 512 << 20;
/// How long a look at the whole folder holds: looking at tens of thousands of files takes longer than compiling a small kernel.
const LOOKED: Duration = Duration::from_secs(600);
/// The part of the limit after whose writing a process looks again before that.
const PART: u64 = 16;
/// The file whose age says when somebody last looked.
const MARK: &str = "looked";
/// Age at which a half-written file belongs to nobody any more.
const STALE: Duration = Duration::from_secs(3600);
const MAGIC: &[u8; 8] = b"PWOBJ\0\0\x01";
const HEAD: usize = MAGIC.len() + 32;
const SUFFIX: &str = "obj";

/// A folder of objects.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    limit: u64,
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut h = Sha256::new();
    for p in parts {
        h.update((p.len() as u64).to_le_bytes());
        h.update(p);
    }
    h.finalize().into()
}

impl Cache {
    /// The cache in that folder, which is made when it is first written to, with at most `limit` bytes.
    pub fn new(folder: impl Into<PathBuf>, limit: u64) -> Cache {
        Cache { folder: folder.into(), limit }
    }

    /// Where the answer to a request lies: its text and target, and what turns text into code here.
    fn path(&self, r: &Request) -> PathBuf {
        // The way through LLVM is part of the answer; its source stands for it.
        let own: [&[u8]; 3] = [env!("CARGO_PKG_VERSION").as_bytes(), include_bytes!("mlir/llvm.rs"), llvm_version()];
        let asked: [&[u8]; 7] = [
            r.mlir.as_bytes(),
            r.triple.as_bytes(),
            r.cpu.as_bytes(),
            r.features.as_bytes(),
            r.abi.as_bytes(),
            &[r.opt_level],
            &[r.form as u8],
        ];
        let key = sha256(&own.into_iter().chain(asked).collect::<Vec<_>>());
        let name: String = key.iter().map(|b| format!("{b:02x}")).collect();
        self.folder.join(name).with_extension(SUFFIX)
    }

    fn get(&self, path: &Path) -> Option<Vec<u8>> {
        let bytes = fs::read(path).ok()?;
        let parts = bytes.split_at_checked(HEAD);
        let Some((_, object)) = parts.filter(|(head, object)| head.starts_with(MAGIC) && head.ends_with(&sha256(&[object]))) else {
            // Another process may be putting a good one there: the worst is one more compilation.
            let _ = fs::remove_file(path);
            return None;
        };
        // What is used stays; a folder that may not be written to only loses its order.
        if let Ok(f) = File::options().append(true).open(path) {
            let _ = f.set_modified(SystemTime::now());
        }
        Some(object.to_vec())
    }

    fn put(&self, path: &Path, object: &[u8]) -> std::io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(&self.folder)?;
        let part = self.folder.join(format!("{}-{}.part", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let written = File::create(&part).and_then(|mut f| {
            f.write_all(MAGIC)?;
            f.write_all(&sha256(&[object]))?;
            f.write_all(object)
        });
        let done = written.and_then(|()| fs::rename(&part, path));
        if done.is_err() {
            let _ = fs::remove_file(&part);
        }
        done
    }

    /// Whether it is time to look at the whole folder, where this process has written so many bytes.
    fn due(&self, written: u64) -> bool {
        static SINCE: AtomicU64 = AtomicU64::new(0);
        let since = SINCE.fetch_add(written, Ordering::Relaxed) + written;
        let mark = self.folder.join(MARK);
        let age = fs::metadata(&mark).and_then(|m| m.modified()).ok().and_then(|t| SystemTime::now().duration_since(t).ok());
        if since <= self.limit / PART && age.is_some_and(|a| a < LOOKED) {
            return false;
        }
        SINCE.store(0, Ordering::Relaxed);
        // A folder that may not be written to has nothing to be removed from either.
        File::create(mark).is_ok()
    }

    /// Removes what was unused longest until a quarter of the limit is free again, and what dead processes left.
    fn trim(&self) -> std::io::Result<()> {
        let now = SystemTime::now();
        let mut entries = Vec::new();
        for e in fs::read_dir(&self.folder)?.flatten() {
            let (path, Ok(meta)) = (e.path(), e.metadata()) else { continue };
            let used = meta.modified().unwrap_or(now);
            match path.extension().and_then(|x| x.to_str()) {
                Some(SUFFIX) => entries.push((used, meta.len(), path)),
                Some("part") if now.duration_since(used).is_ok_and(|age| age > STALE) => {
                    let _ = fs::remove_file(path);
                }
                _ => {}
            }
        }
        let mut total: u64 = entries.iter().map(|e| e.1).sum();
        if total <= self.limit {
            return Ok(());
        }
        entries.sort_unstable();
        for (_, bytes, path) in entries {
            if total <= self.limit / 4 * 3 {
                break;
            }
            // Another process that is faster has made the room already.
            let _ = fs::remove_file(path);
            total -= bytes;
        }
        Ok(())
    }

    /// Answers requests for objects as [`run_all`] does, those that were answered before without any worker.
    pub fn run_all(&self, requests: &[Request], workers: &Workers) -> Vec<Result<Output, Failure>> {
        let paths: Vec<PathBuf> = requests.iter().map(|r| self.path(r)).collect();
        let mut out: Vec<Option<Result<Output, Failure>>> =
            paths.iter().zip(requests).map(|(p, r)| self.get(p).and_then(|bytes| r.output(bytes)).map(Ok)).collect();
        let missing: Vec<usize> = (0..out.len()).filter(|i| out.get(*i).is_some_and(Option::is_none)).collect();
        let asked: Vec<Request> = missing.iter().filter_map(|i| requests.get(*i).cloned()).collect();
        if asked.is_empty() {
            return out.into_iter().flatten().collect();
        }
        let (mut stored, mut written) = (true, 0);
        for (i, r) in missing.into_iter().zip(run_all(&asked, workers)) {
            if let (Ok(o), Some(path)) = (&r, paths.get(i)) {
                // A full or foreign disk is no reason to fail, and no reason to try again for every kernel.
                stored = stored && self.put(path, o.bytes()).is_ok();
                written += o.bytes().len() as u64;
            }
            if let Some(slot) = out.get_mut(i) {
                *slot = Some(r);
            }
        }
        if self.due(written) {
            let _ = self.trim();
        }
        out.into_iter().flatten().collect()
    }
}

#[cfg(feature = "mlir")]
fn llvm_version() -> &'static [u8] {
    static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    VERSION.get_or_init(crate::mlir::llvm::version).as_bytes()
}
#[cfg(not(feature = "mlir"))]
fn llvm_version() -> &'static [u8] {
    b"none"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::Form;

    fn request(text: &str) -> Request {
        let s = String::new;
        Request { mlir: text.into(), triple: s(), cpu: s(), features: s(), abi: s(), opt_level: 2, form: Form::Object }
    }
    /// Workers that only die: whatever comes back was stored.
    fn none() -> Workers {
        Workers::Processes { program: "/bin/false".into(), args: Vec::new(), count: 1 }
    }

    #[test]
    fn what_was_stored_comes_back_and_damage_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("deep/er"), LIMIT);
        let (a, b) = (request("a"), request("b"));
        assert!(cache.run_all(&[a.clone()], &none())[0].is_err());
        let path = cache.path(&a);
        cache.put(&path, b"object a").unwrap();
        let again = cache.run_all(&[b.clone(), a.clone()], &none());
        assert!(again[0].is_err(), "another request gets another answer");
        assert_eq!(again[1].as_ref().unwrap().object, b"object a");
        for other in
            [Request { opt_level: 1, ..a.clone() }, Request { cpu: "x".into(), ..a.clone() }, Request { form: Form::Llvm, ..a.clone() }]
        {
            assert_ne!(cache.path(&other), path);
        }
        for damage in [&b""[..], b"PWOBJ", &[0; 100]] {
            fs::write(&path, damage).unwrap();
            assert!(cache.run_all(&[a.clone()], &none())[0].is_err());
            assert!(!path.exists(), "a damaged entry goes");
            cache.put(&path, b"object a").unwrap();
        }
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(cache.get(&path).is_none() && !path.exists());
    }

    #[test]
    fn what_was_unused_longest_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path(), 10_000);
        let paths: Vec<PathBuf> = (0..20).map(|i| cache.path(&request(&i.to_string()))).collect();
        for (i, p) in paths.iter().enumerate() {
            cache.put(p, &[0; 1000]).unwrap();
            let age = Duration::from_secs(100 - i as u64);
            File::options().append(true).open(p).unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
        let lost = dir.path().join("1-1.part");
        fs::write(&lost, b"half").unwrap();
        File::options().append(true).open(&lost).unwrap().set_modified(SystemTime::now() - 2 * STALE).unwrap();
        assert!(cache.get(&paths[0]).is_some());
        cache.trim().unwrap();
        let left: Vec<bool> = paths.iter().map(|p| p.exists()).collect();
        assert!(left[0] && left[19] && !left[1] && !left[10], "{left:?}");
        assert!(!lost.exists());
        let bytes: u64 = fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.metadata().unwrap().len()).sum();
        assert!(bytes <= 10_000 / 4 * 3);
    }

    #[test]
    fn writers_and_readers_at_once_see_whole_entries() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path(), 20_000);
        std::thread::scope(|s| {
            for t in 0..4u8 {
                let cache = &cache;
                s.spawn(move || {
                    for i in 0..100u32 {
                        let path = cache.path(&request(&(i % 7).to_string()));
                        if i % 2 == u32::from(t) % 2 {
                            cache.put(&path, &[(i % 7) as u8; 4000]).unwrap();
                            cache.trim().unwrap();
                        } else if let Some(o) = cache.get(&path) {
                            assert!(o.len() == 4000 && o.iter().all(|b| *b == (i % 7) as u8));
                        }
                    }
                });
            }
        });
    }
}
