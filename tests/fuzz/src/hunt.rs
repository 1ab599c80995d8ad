// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The loop: a child process feeds inputs to a target, this one watches it, restarts it, and makes finds small.
//!
//! Before each input the child writes it into a file with its number, and how many were accepted so far. So an input that ends the child (an abort, the limit of memory) or
//! stops it (the file stays as it is for ten seconds) is known. A panic is caught in the child, which stores the input and goes on.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use crate::draw::Draw;
use crate::targets::{ACCEPTED, TARGETS, Target, find};

/// Longest time of one input.
const HANG: Duration = Duration::from_secs(10);
/// Memory of a child.
const MEMORY: u64 = 2 << 30;
/// Time and tries for making a find small.
const SHRINK: (Duration, usize) = (Duration::from_secs(20), 300);
/// Most inputs that a child keeps.
const KEPT: usize = 4096;

/// Where the last panic was.
static PANIC: Mutex<String> = Mutex::new(String::new());
static HOOK: Once = Once::new();

thread_local! {
    /// Whether an input is being run here.
    static FED: Cell<bool> = const { Cell::new(false) };
}

/// Folder of what was found, a folder a target.
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Runs one input.
///
/// # Errors
/// What is wrong, panics included.
pub fn one(target: &Target, data: &[u8]) -> Result<Vec<u64>, String> {
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !FED.get() {
                return usual(info);
            }
            let at = info.location().map_or_else(String::new, |l| format!("{}:{}", l.file(), l.line()));
            let text = info.payload().downcast_ref::<String>().cloned();
            let text = text.or_else(|| info.payload().downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            if let Ok(mut p) = PANIC.lock() {
                *p = format!("panic at {at}: {text}");
            }
        }));
    });
    FED.set(true);
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| (target.run)(data)));
    FED.set(false);
    match done {
        Ok(r) => r,
        Err(_) => Err(PANIC.lock().map_or_else(|_| "panic".into(), |p| p.clone())),
    }
}

/// What a find is about, without its numbers: finds of one kind are one.
fn kind(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_ascii_digit() || line.starts_with("panic")).take(90).collect()
}

/// The command: `[SECONDS] [TARGET]`, and what it starts itself. Returns the number of finds.
///
/// # Errors
/// An argument that is none.
pub fn command(arguments: &[String]) -> Result<usize, String> {
    match arguments {
        [flag, name, seed, folder] if flag == "--child" => {
            let target = find(name).ok_or("no such target")?;
            child(target, seed.parse().unwrap_or(0), Path::new(folder));
            Ok(0)
        }
        [flag, name, file] if flag == "--one" => {
            let target = find(name).ok_or("no such target")?;
            limit();
            match one(target, &fs::read(file).map_err(|e| e.to_string())?) {
                Ok(_) => Ok(0),
                Err(message) => {
                    println!("{message}");
                    Ok(1)
                }
            }
        }
        rest => {
            let (mut seconds, mut wanted) = (600, None);
            for a in rest {
                match (a.parse::<u64>(), find(a)) {
                    (Ok(n), _) => seconds = n,
                    (_, Some(t)) => wanted = Some(t.name),
                    _ => {
                        let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
                        return Err(format!("`{a}` is neither a number of seconds nor a target: {}", names.join(", ")));
                    }
                }
            }
            let chosen: Vec<&Target> = TARGETS.iter().filter(|t| wanted.is_none_or(|w| w == t.name)).collect();
            // Formats are small; models and graphs are where the work is.
            let weight = |t: &Target| if matches!(t.name, "onnx" | "graph" | "inputs" | "text") { 4 } else { 1 };
            let all: u64 = chosen.iter().map(|t| weight(t)).sum();
            let mut done = Vec::new();
            for t in &chosen {
                done.push((t.name, hunt(t, Duration::from_secs(seconds) * weight(t) as u32 / all.max(1) as u32)?));
            }
            println!("{:10}{:>10}{:>10}{:>10}{:>8}", "target", "inputs", "accepted", "share", "finds");
            for (name, (fed, finds)) in &done {
                println!("{name:10}{:>10}{:>10}{:>8.1} %{finds:>8}", fed.inputs, fed.accepted, fed.share());
            }
            Ok(done.iter().map(|d| d.1.1).sum())
        }
    }
}

/// Hunts on one target; returns what was fed, and the number of new finds.
fn hunt(target: &Target, time: Duration) -> Result<(Fed, usize), String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let folder = std::env::temp_dir().join(format!("portwright-fuzz-{}-{}", target.name, std::process::id()));
    fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let (start, mut finds, mut fed, mut seed) = (Instant::now(), 0, Fed::default(), seed());
    while start.elapsed() < time {
        seed += 1;
        let _ = fs::remove_file(folder.join("current"));
        let mut running = Command::new(&program)
            .args(["--child", target.name, &seed.to_string()])
            .arg(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let ended = watch(&mut running, &folder, start + time, &mut fed);
        let _ = running.kill();
        let _ = running.wait();
        for (message, data) in stored(&folder).into_iter().chain(ended) {
            finds += usize::from(keep(target, &program, &folder, &message, data)?);
        }
    }
    println!("{}: {} inputs in {:.0} s, {finds} finds", target.name, fed.inputs, start.elapsed().as_secs_f64());
    let _ = fs::remove_dir_all(&folder);
    Ok((fed, finds))
}

fn seed() -> u64 {
    std::env::var("PORTWRIGHT_FUZZ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1)
}

/// How many inputs there were, and how many of them the target accepted.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Fed {
    inputs: u64,
    accepted: u64,
}

impl Fed {
    /// Accepted inputs, in percent.
    fn share(&self) -> f64 {
        100.0 * self.accepted as f64 / self.inputs.max(1) as f64
    }
}

/// The number and the bytes of the input that the child is at.
fn current(folder: &Path) -> Option<(Fed, Vec<u8>)> {
    let bytes = fs::read(folder.join("current")).ok()?;
    let (inputs, rest) = bytes.split_at_checked(8)?;
    let (accepted, data) = rest.split_at_checked(8)?;
    let number = |b: &[u8]| b.try_into().ok().map(u64::from_le_bytes);
    Some((Fed { inputs: number(inputs)?, accepted: number(accepted)? }, data.to_vec()))
}

/// Waits until the time is over, or the child has ended or hangs by an input, which is returned.
fn watch(child: &mut Child, folder: &Path, end: Instant, fed: &mut Fed) -> Option<(String, Vec<u8>)> {
    let (mut last, mut since) = (u64::MAX, Instant::now());
    let before = *fed;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let ended = child.try_wait().ok().flatten();
        let at = current(folder);
        if let Some((n, _)) = &at {
            *fed = Fed { inputs: before.inputs + n.inputs, accepted: before.accepted + n.accepted };
            if n.inputs != last {
                (last, since) = (n.inputs, Instant::now());
            }
        }
        if let Some(status) = ended {
            return if status.success() { None } else { at.map(|(_, data)| (format!("ended: {status}"), data)) };
        }
        if since.elapsed() > HANG && last != u64::MAX {
            return at.map(|(_, data)| ("hang: longer than 10 s".into(), data));
        }
        if Instant::now() >= end {
            return None;
        }
    }
}

/// Finds that the child has stored.
fn stored(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for e in fs::read_dir(folder.join("finds")).into_iter().flatten().flatten() {
        let bytes = fs::read(e.path()).unwrap_or_default();
        let _ = fs::remove_file(e.path());
        if let Some(at) = bytes.iter().position(|b| *b == 0) {
            out.push((String::from_utf8_lossy(&bytes[..at]).into_owned(), bytes[at + 1..].to_vec()));
        }
    }
    out
}

/// Makes a find small and stores it, unless one of its kind is there.
fn keep(target: &Target, program: &Path, folder: &Path, message: &str, data: Vec<u8>) -> Result<bool, String> {
    let place = corpus().join(target.name);
    fs::create_dir_all(&place).map_err(|e| e.to_string())?;
    let name = format!("{:016x}", Draw::bytes(kind(message).as_bytes()).next());
    let path = place.join(&name);
    if path.exists() {
        return Ok(false);
    }
    let data = shrink(target, program, folder, message, data);
    fs::write(&path, &data).map_err(|e| e.to_string())?;
    println!("{} {name}, {} bytes: {}", target.name, data.len(), message.lines().take(30).collect::<Vec<_>>().join("\n  "));
    Ok(true)
}

/// Takes parts away as long as the find stays of its kind.
fn shrink(target: &Target, program: &Path, folder: &Path, message: &str, mut data: Vec<u8>) -> Vec<u8> {
    let (start, mut tries) = (Instant::now(), 0);
    let file = folder.join("try");
    let mut same = |data: &[u8]| {
        tries += 1;
        if tries > SHRINK.1 || start.elapsed() > SHRINK.0 || fs::write(&file, data).is_err() {
            return false;
        }
        let run = Command::new(program).args(["--one", target.name]).arg(&file).stderr(Stdio::null()).stdin(Stdio::null()).output();
        run.is_ok_and(|o| {
            let said = String::from_utf8_lossy(&o.stdout).into_owned();
            if said.is_empty() { !o.status.success() && message.starts_with("ended") } else { kind(&said) == kind(message) }
        })
    };
    if message.starts_with("hang") {
        return data;
    }
    let mut size = data.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < data.len() {
            let mut fewer = data.clone();
            fewer.drain(at..(at + size).min(data.len()));
            if same(&fewer) { data = fewer } else { at += size }
        }
        size /= 2;
    }
    data
}

fn limit() {
    let _ = rlimit::setrlimit(rlimit::Resource::AS, MEMORY, MEMORY);
}

/// Where to begin: small models of the ONNX suite and images in its data, where it is at hand.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let folder = std::env::var_os("PORTWRIGHT_SUITE").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("PORTWRIGHT_TOOLS")?).join("suite")));
    let Some(folder) = folder.filter(|_| matches!(target.name, "onnx" | "images")) else { return Vec::new() };
    let cases = |group: &str| fs::read_dir(folder.join(group)).into_iter().flatten().flatten().map(|e| e.path().join("model.onnx"));
    let mut paths: Vec<PathBuf> = ["node", "simple", "pytorch-operator", "pytorch-converted"].into_iter().flat_map(cases).collect();
    paths.sort();
    if target.name == "images" {
        let data = paths
            .iter()
            .filter(|p| p.to_string_lossy().contains("image_decoder"))
            .map(|p| p.with_file_name("test_data_set_0").join("input_0.pb"));
        return data.filter_map(|p| Some(portwright_frontend::tensor_from_pb(&fs::read(p).ok()?, None).ok()?.data)).collect();
    }
    paths.into_iter().filter_map(|p| crate::change::seed(&fs::read(p).ok()?)).collect()
}

/// Feeds inputs until it is ended.
fn child(target: &Target, seed: u64, folder: &Path) {
    limit();
    let mut d = Draw::seed(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    // What was accepted leads further than what was refused.
    let mut refused: Vec<Vec<u8>> = files(&corpus().join(target.name));
    let mut kept: Vec<Vec<u8>> = seeds(target);
    let mut seen: HashSet<u64> = HashSet::new();
    let mut known: HashSet<String> = HashSet::new();
    let _ = fs::create_dir_all(folder.join("finds"));
    let Ok(mut current) = fs::File::create(folder.join("current")) else { return };
    for number in 0u64.. {
        let base = if d.one_in(8) { d.pick(&refused) } else { d.pick(&kept) };
        let new = d.one_in(if kept.is_empty() { 4 } else { 10 });
        let data = match base.filter(|_| !new) {
            Some(base) => (target.mutate)(base, &mut d),
            None => (target.fresh)(&mut d),
        };
        if put(&mut current, number, &data).is_err() {
            return;
        }
        let before = ACCEPTED.load(Ordering::Relaxed);
        match one(target, &data) {
            Ok(said) => {
                let new = said.into_iter().filter(|h| seen.insert(*h)).count();
                let to = if ACCEPTED.load(Ordering::Relaxed) > before { &mut kept } else { &mut refused };
                if new > 0 && to.len() < KEPT {
                    to.push(data);
                }
            }
            Err(message) => {
                if known.insert(kind(&message)) {
                    let bytes = [message.as_bytes(), &[0], &data].concat();
                    let _ = fs::write(folder.join("finds").join(format!("{number}")), bytes);
                }
            }
        }
    }
}

fn put(file: &mut fs::File, number: u64, data: &[u8]) -> std::io::Result<()> {
    use std::io::Seek;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&[&number.to_le_bytes()[..], &ACCEPTED.load(Ordering::Relaxed).to_le_bytes(), data].concat())
}

/// Contents of the files of a folder, by name.
pub fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths.into_iter().filter_map(|p| fs::read(p).ok()).collect()
}
