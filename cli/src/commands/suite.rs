// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright suite`: cases in a pool of worker processes. A worker that dies or runs too long costs its case and is replaced.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use serde::{Deserialize, Serialize};

use crate::args::{On, SuiteArgs};
use crate::progress::Progress;
use crate::{Cx, compile, place};

/// The model of a case.
pub const MODEL: &str = "model.onnx";
/// The model of a case that was compiled before, where there is no other: a bundle.
pub const BUNDLE: &str = "model.pw";

/// How a case ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All outputs agree.
    Passed,
    /// They do not, or the run failed.
    Failed,
    /// The model has something that is not supported, and the report says what.
    Unsupported,
    /// It was not run.
    Skipped,
}

/// Result of a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Folder's name.
    pub case: String,
    /// How it ended.
    pub status: Status,
    /// Rung of evidence: 0 interpreted, 1 executed here, 3 on the chip.
    pub rung: u8,
    /// Kernels of the model.
    pub kernels: usize,
    /// Nodes in kernels.
    pub device_nodes: usize,
    /// Nodes on the host.
    pub host_nodes: usize,
    /// Operators on the host.
    pub host_ops: Vec<String>,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Largest relative difference.
    pub max_rel: f64,
    /// Code of the error.
    pub code: Option<String>,
    /// What went wrong.
    pub message: Option<String>,
}

impl Outcome {
    /// A case that ended badly.
    pub fn bad(case: &str, status: Status, code: Option<String>, message: impl Into<String>) -> Self {
        Outcome {
            case: case.into(),
            status,
            rung: 1,
            kernels: 0,
            device_nodes: 0,
            host_nodes: 0,
            host_ops: Vec::new(),
            max_abs: 0.0,
            max_rel: 0.0,
            code,
            message: Some(message.into()),
        }
    }
}

/// Runs all cases and prints one line each.
///
/// # Errors
/// `E0601` if a case failed.
pub fn run(a: SuiteArgs, cx: &mut Cx) -> Lowered<()> {
    let mut cases = Vec::new();
    for f in &a.folders {
        if !f.is_dir() {
            cx.diags.report(Diagnostic::error(Code::FILE_READ, format!("`{}` is no folder", f.display())));
        }
        find(f, &mut cases, 0);
    }
    cx.diags.check()?;
    cases.sort();
    cases.dedup();
    if let Some(glob) = &a.filter {
        cases.retain(|c| matches_glob(glob.as_bytes(), name_of(c).as_bytes()));
    }
    if cases.is_empty() {
        return cx
            .fail(Diagnostic::error(Code::BAD_OPTION, "no test cases there: a case is a folder with a model.onnx or a bundle model.pw"));
    }
    let (place, together) = if a.on == Some(On::Interpreter) {
        super::interpret::refuse_machine_options(&a.target, 0, a.max_fallback, cx)?;
        ("in the interpreter of Graph IR (rung 0)".to_owned(), 1)
    } else {
        // Said once for all cases: options that are wrong, and a machine that nothing here can run.
        let options = compile::options(&a.target, cx)?;
        let place = place::choose(&compile::machine_target(&options.machine), a.on, cx)?;
        (place.line(), place.together())
    };
    crate::model::dims(&a.target.dims, cx)?;
    let jobs = a.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).clamp(1, 64).min(cases.len());
    let mut progress = Progress::new(cx.quiet);
    progress.say(&format!("{} cases for {} {place}, {jobs} workers", cases.len(), a.target.id()));
    progress.stage("suite");
    let numbered: Vec<(usize, PathBuf)> = cases.iter().cloned().enumerate().collect();
    let lists = numbered.chunks(together.min(cases.len().div_ceil(jobs)).max(1)).map(<[_]>::to_vec);
    let queue: Mutex<VecDeque<Vec<(usize, PathBuf)>>> = Mutex::new(lists.collect());
    let (send, results) = channel();
    let mut outcomes: Vec<Option<Outcome>> = vec![None; cases.len()];
    std::thread::scope(|s| {
        for _ in 0..jobs {
            let send = send.clone();
            let (queue, a) = (&queue, &a);
            s.spawn(move || {
                let mut worker = None;
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(list) = next else { break };
                    some(&mut worker, a, &list, &mut |i, outcome| drop(send.send((i, outcome))));
                }
            });
        }
        drop(send);
        for (i, o) in results {
            print_line(&o);
            if let Some(slot) = outcomes.get_mut(i) {
                *slot = Some(o);
            }
        }
    });
    progress.end();
    let list: Vec<Outcome> = outcomes.into_iter().flatten().collect();
    let count = |s| list.iter().filter(|o| o.status == s).count();
    let (passed, failed, unsupported, skipped) =
        (count(Status::Passed), count(Status::Failed), count(Status::Unsupported), count(Status::Skipped));
    if let Some(path) = &a.json {
        let text = serde_json::to_string_pretty(&list).unwrap_or_default();
        std::fs::write(path, text).or_else(|e| cx.fail(Diagnostic::error(Code::FILE_WRITE, format!("`{}`: {e}", path.display()))))?;
    }
    let skipped = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    println!("{passed} passed, {failed} failed, {unsupported} unsupported{skipped}");
    if failed > 0 {
        return cx.fail(Diagnostic::error(Code::NUMBERS_DIFFER, format!("{failed} of {} cases failed", list.len())));
    }
    Ok(())
}

fn print_line(o: &Outcome) {
    let status = match o.status {
        Status::Passed => "passed",
        Status::Failed => "FAILED",
        Status::Unsupported => "unsupported",
        Status::Skipped => "skipped",
    };
    let code = o.code.as_ref().map_or_else(String::new, |c| format!("{c}: "));
    let why = o.message.as_ref().map_or_else(String::new, |m| format!("  {code}{}", m.lines().next().unwrap_or_default()));
    println!("{status:<12}{}{why}", o.case);
}

/// Name of a case.
pub fn name_of(case: &Path) -> String {
    case.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

fn find(folder: &Path, out: &mut Vec<PathBuf>, depth: usize) {
    if folder.join(MODEL).is_file() || crate::model::is_bundle(&folder.join(BUNDLE)) {
        out.push(folder.to_path_buf());
        return;
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for e in entries.flatten().filter(|e| e.path().is_dir() && depth < 8) {
        find(&e.path(), out, depth + 1);
    }
}

/// `*` and `?`, without recursion.
fn matches_glob(glob: &[u8], name: &[u8]) -> bool {
    let (mut g, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, n));
                g += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match star {
                Some((sg, sn)) => {
                    star = Some((sg, sn + 1));
                    (g, n) = (sg + 1, sn + 1);
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&c| c == b'*')
}

/// A worker process.
struct Worker {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// Gives the last line of its stderr, when that is closed.
    last_words: JoinHandle<String>,
}

impl Worker {
    fn start(a: &SuiteArgs) -> std::io::Result<Worker> {
        let mut c = Command::new(std::env::current_exe()?);
        let options = [
            ("--target", a.target.target.clone()),
            ("--cpu", a.target.cpu.clone()),
            ("--math", a.target.math.map(written)),
            ("--on", a.on.map(written)),
            ("--max-fallback", a.max_fallback.map(|n| n.to_string())),
            ("--max-memory", Some(a.max_memory.to_string())),
        ];
        c.arg("suite-worker");
        for (option, value) in options.into_iter().chain(a.target.dims.iter().map(|d| ("--dim", Some(d.clone())))) {
            if let Some(v) = value {
                c.args([option, &v]);
            }
        }
        let mut child = c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let gone = || std::io::Error::other("a worker without pipes");
        let input = child.stdin.take().ok_or_else(gone)?;
        let output = child.stdout.take().ok_or_else(gone)?;
        let errors = child.stderr.take().ok_or_else(gone)?;
        let last_words = std::thread::spawn(move || {
            let lines = BufReader::new(errors).split(b'\n').map_while(Result::ok);
            let texts = lines.map(|l| String::from_utf8_lossy(&l).trim().to_owned());
            texts.filter(|l| !l.is_empty()).last().unwrap_or_default()
        });
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Worker { child, input, lines, last_words })
    }
    /// Ends it and says how it ended.
    fn end(mut self) -> String {
        let _ = self.child.kill();
        let how = match self.child.wait() {
            Ok(status) => match status.signal() {
                Some(8) => "the process died: an arithmetic trap (signal 8)".into(),
                Some(11) => "the process died: an access outside its memory, or a stack that overflowed (signal 11)".into(),
                Some(6) => "the process aborted (signal 6)".into(),
                Some(s) => format!("the process died of signal {s}"),
                None => format!("the process ended with {status}"),
            },
            Err(e) => e.to_string(),
        };
        match self.last_words.join() {
            Ok(words) if !words.is_empty() => format!("{how}: {words}"),
            _ => how,
        }
    }
}

/// A value of an option as it is written on the command line.
fn written(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
}

/// Runs cases that are compiled together. If the worker is lost on the way, those that are left run alone: which of them it was lost for, nobody
/// knows.
fn some(slot: &mut Option<Worker>, a: &SuiteArgs, list: &[(usize, PathBuf)], say: &mut dyn FnMut(usize, Outcome)) {
    let mut done = 0;
    let Err(why) = ask(slot, a, list, &mut |outcome| {
        if let Some((number, _)) = list.get(done) {
            say(*number, outcome);
        }
        done += 1;
    }) else {
        return;
    };
    for (number, case) in list.iter().skip(done) {
        if list.len() > 1 {
            some(slot, a, &[(*number, case.clone())], say);
        } else {
            say(*number, Outcome::bad(&name_of(case), Status::Failed, Some(Code::RUN_FAILED.to_string()), why.clone()));
        }
    }
}

/// Has a worker run cases, and hands on what it answers. It stays in the slot if it answers to the end; else the error says what became of it.
fn ask(slot: &mut Option<Worker>, a: &SuiteArgs, list: &[(usize, PathBuf)], each: &mut dyn FnMut(Outcome)) -> Result<(), String> {
    let mut worker = slot.take().map_or_else(|| Worker::start(a), Ok).map_err(|e| format!("no worker: {e}"))?;
    let cases: Vec<&PathBuf> = list.iter().map(|(_, case)| case).collect();
    let line = serde_json::to_string(&cases).map_err(|e| e.to_string())?;
    if writeln!(worker.input, "{line}").and_then(|()| worker.input.flush()).is_err() {
        return Err(worker.end());
    }
    let mut answers = 0;
    while answers < list.len() {
        match worker.lines.recv_timeout(Duration::from_secs(a.timeout.max(1))) {
            // It is at work.
            Ok(line) if line.is_empty() => {}
            Ok(line) => match serde_json::from_str(&line) {
                Ok(outcome) => {
                    each(outcome);
                    answers += 1;
                }
                Err(e) => {
                    worker.end();
                    return Err(format!("the worker's answer: {e}"));
                }
            },
            Err(RecvTimeoutError::Timeout) => {
                worker.end();
                return Err(format!("ran longer than {} s", a.timeout));
            }
            Err(RecvTimeoutError::Disconnected) => {
                // Wait first: a kill would hide the signal that it died of.
                let status = worker.child.wait();
                drop(status);
                return Err(worker.end());
            }
        }
    }
    *slot = Some(worker);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::matches_glob;

    #[test]
    fn globs() {
        let m = |g: &str, n: &str| matches_glob(g.as_bytes(), n.as_bytes());
        assert!(m("test_*", "test_add") && m("*add*", "test_add_bcast") && m("t?st", "test") && m("*", ""));
        assert!(!m("test_*", "xtest_add") && !m("t?st", "teest") && !m("", "a"));
    }
}
