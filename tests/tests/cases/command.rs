// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command from outside: this program, told to be it. So the command that is tested is never an older one, and its workers, which
//! are processes of the same program, are tested too.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Set for processes that shall be the command.
pub const MARK: &str = "PORTWRIGHT_TESTS_RUN_THE_COMMAND";

/// Longest time of one command.
const LIMIT: Duration = Duration::from_secs(400);

/// If this process shall be the command, does what it does.
pub fn be_the_command() -> Option<ExitCode> {
    std::env::var_os(MARK).map(|_| portwright_cli::run(std::env::args_os()))
}

/// How a command ended.
pub struct Ended {
    /// Exit code; -1 for a signal.
    pub code: i32,
    /// What it wrote on stdout.
    pub stdout: String,
    /// What it wrote on stderr.
    pub stderr: String,
}

impl Ended {
    /// `Ok` if it ended well.
    pub fn well(self) -> Result<Ended, String> {
        if self.code == 0 { Ok(self) } else { Err(format!("exit code {}\n{}{}", self.code, self.stdout, self.stderr)) }
    }
}

/// Runs the command in `folder`.
pub fn portwright(folder: &Path, args: &[&str]) -> Result<Ended, String> {
    portwright_in(folder, args, &[])
}

/// Runs the command in `folder` with variables of the environment changed.
pub fn portwright_in(folder: &Path, args: &[&str], environment: &[(&str, &Path)]) -> Result<Ended, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut c = Command::new(program);
    c.args(args).current_dir(folder).env(MARK, "1").envs(environment.iter().copied());
    ended(c)
}

/// Runs any program to its end, at most [`LIMIT`] long.
pub fn ended(mut c: Command) -> Result<Ended, String> {
    let name = c.get_program().to_string_lossy().into_owned();
    let mut child = c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| format!("{name}: {e}"))?;
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut p) = pipe {
                let _ = p.read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = read(child.stdout.take().map(|p| Box::new(p) as _));
    let stderr = read(child.stderr.take().map(|p| Box::new(p) as _));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(s) => break s,
            None if start.elapsed() > LIMIT => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{name} ran longer than {} s", LIMIT.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = |t: std::thread::JoinHandle<String>| t.join().unwrap_or_default();
    Ok(Ended { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) })
}

/// Everything in a folder by path, with its bytes.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    fn walk(folder: &Path, from: &Path, out: &mut Vec<(PathBuf, Vec<u8>)>) {
        for e in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let p = e.path();
            let name = p.strip_prefix(from).unwrap_or(&p).to_path_buf();
            if p.is_dir() {
                out.push((name, Vec::new()));
                walk(&p, from, out);
            } else {
                out.push((name, std::fs::read(&p).unwrap_or_default()));
            }
        }
    }
    let mut out = Vec::new();
    walk(folder, folder, &mut out);
    out.sort();
    out
}

/// A folder of this run under the build's own.
pub fn scratch(name: &str) -> Result<PathBuf, String> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).map_err(|e| e.to_string())?;
    Ok(path)
}

/// Root of the repository.
pub fn repository() -> PathBuf {
    crate::snap::root().parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Where `./setup` puts tools.
#[cfg(all(feature = "mlir", feature = "emu"))]
pub fn tools() -> PathBuf {
    std::env::var_os("PORTWRIGHT_TOOLS").map_or_else(|| repository().join("tools/.cache"), PathBuf::from)
}

/// The first of these programs that answers to `--version`.
pub fn program(names: &[&str]) -> Option<PathBuf> {
    let works =
        |n: &&&str| Command::new(n).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    names.iter().find(works).map(PathBuf::from)
}
