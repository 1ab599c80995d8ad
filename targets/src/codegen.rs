// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Code generation in workers: an abort inside LLVM ends a worker, and its request becomes a diagnostic.
//!
//! A worker is the command itself with a hidden subcommand that calls [`serve`]. It reads requests and writes answers until
//! its input ends, so its start is paid once for many kernels.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a compilation is asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// An object file.
    Object,
    /// Assembly text.
    Assembly,
    /// Optimized LLVM IR text.
    Llvm,
}

impl Form {
    const ALL: [Form; 3] = [Form::Object, Form::Assembly, Form::Llvm];
}

/// One compilation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// MLIR text of a module.
    pub mlir: String,
    /// LLVM's target triple.
    pub triple: String,
    /// LLVM's name of the CPU.
    pub cpu: String,
    /// LLVM's feature list, as in `+avx2,+fma`.
    pub features: String,
    /// LLVM's name of the calling convention's variant; empty for the usual one.
    pub abi: String,
    /// 0 to 3.
    pub opt_level: u8,
    /// What to make.
    pub form: Form,
}

/// What one compilation made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The object file, if asked for.
    pub object: Vec<u8>,
    /// The text of the form that was asked for, if it is one of text.
    pub text: String,
}

/// Why a compilation failed: messages of MLIR or LLVM, each with the location it names.
pub type Failure = Vec<String>;

/// Who runs LLVM.
#[derive(Clone, Debug)]
pub enum Workers {
    /// This process; an abort of LLVM ends it.
    InProcess,
    /// Processes of that program with those arguments, which call [`serve`].
    Processes {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<String>,
        /// How many at once, at least 1.
        count: usize,
    },
}

const MAGIC: &[u8; 4] = b"PWCG";

fn write_bytes(w: &mut impl Write, b: &[u8]) -> io::Result<()> {
    w.write_all(&(b.len() as u64).to_le_bytes())?;
    w.write_all(b)
}

fn read_bytes(r: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut n = [0u8; 8];
    r.read_exact(&mut n)?;
    let n = u64::from_le_bytes(n);
    let mut out = Vec::new();
    if r.take(n).read_to_end(&mut out)? as u64 != n {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(out)
}

fn read_text(r: &mut impl Read) -> io::Result<String> {
    String::from_utf8(read_bytes(r)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

impl Output {
    /// What was asked for, as bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.object.is_empty() { self.text.as_bytes() } else { &self.object }
    }
}

impl Request {
    /// The output that has those bytes.
    pub(crate) fn output(&self, bytes: Vec<u8>) -> Option<Output> {
        Some(match self.form {
            Form::Object => Output { object: bytes, text: String::new() },
            _ => Output { object: Vec::new(), text: String::from_utf8(bytes).ok()? },
        })
    }
    fn write(&self, w: &mut impl Write) -> io::Result<()> {
        let form = Form::ALL.iter().position(|f| *f == self.form).unwrap_or(0) as u8;
        w.write_all(MAGIC)?;
        w.write_all(&[self.opt_level, form])?;
        for s in [&self.mlir, &self.triple, &self.cpu, &self.features, &self.abi] {
            write_bytes(w, s.as_bytes())?;
        }
        w.flush()
    }
    /// The next request; `None` at the end of the input.
    fn read(r: &mut impl Read) -> io::Result<Option<Request>> {
        let mut head = [0u8; 6];
        let mut have = 0;
        while have < head.len() {
            match r.read(&mut head[have..])? {
                0 if have == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => have += n,
            }
        }
        let [a, b, c, d, opt_level, form] = head;
        let form = Form::ALL.get(usize::from(form)).copied();
        let (Some(form), true) = (form, [a, b, c, d] == *MAGIC) else { return Err(io::ErrorKind::InvalidData.into()) };
        Ok(Some(Request {
            mlir: read_text(r)?,
            triple: read_text(r)?,
            cpu: read_text(r)?,
            features: read_text(r)?,
            abi: read_text(r)?,
            opt_level,
            form,
        }))
    }
}

/// Compiles in this process.
#[cfg(feature = "mlir")]
fn compile(r: &Request) -> Result<Output, Failure> {
    crate::mlir::llvm::compile(r)
}
#[cfg(not(feature = "mlir"))]
fn compile(_: &Request) -> Result<Output, Failure> {
    Err(vec!["this build has no code generation: build with `--features mlir`".into()])
}

/// The body of a worker: answers requests until the input ends. `before` sees the MLIR of each; one that ends the process shows what
/// follows from an abort of LLVM.
///
/// # Errors
/// A request that is no request, or an output that is gone.
pub fn serve(input: &mut impl Read, output: &mut impl Write, before: &dyn Fn(&str)) -> io::Result<()> {
    while let Some(r) = Request::read(input)? {
        before(&r.mlir);
        match compile(&r) {
            Ok(o) => {
                output.write_all(&[0])?;
                write_bytes(output, &o.object)?;
                write_bytes(output, o.text.as_bytes())?;
            }
            Err(messages) => {
                output.write_all(&[1])?;
                write_bytes(output, messages.join("\n").as_bytes())?;
            }
        }
        output.flush()?;
    }
    Ok(())
}

fn read_answer(r: &mut impl Read) -> io::Result<Result<Output, Failure>> {
    let mut status = [0u8];
    r.read_exact(&mut status)?;
    Ok(match status {
        [0] => Ok(Output { object: read_bytes(r)?, text: read_text(r)? }),
        _ => Err(read_text(r)?.lines().map(String::from).collect()),
    })
}

/// A worker process that is alive.
struct Worker(Child);

impl Worker {
    fn start(program: &PathBuf, args: &[String]) -> io::Result<Worker> {
        let mut c = Command::new(program);
        c.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Worker(c.spawn()?))
    }
    fn ask(&mut self, r: &Request) -> io::Result<Result<Output, Failure>> {
        let (Some(i), Some(o)) = (self.0.stdin.as_mut(), self.0.stdout.as_mut()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        r.write(i)?;
        read_answer(o)
    }
    /// How it ended, with the first lines of what it said.
    fn obituary(mut self) -> Failure {
        drop(self.0.stdin.take());
        let mut said = Vec::new();
        if let Some(e) = self.0.stderr.as_mut() {
            // What a dying process said is worth having, but no reason to fail once more.
            let _ = e.take(16 << 10).read_to_end(&mut said);
        }
        let end = self.0.wait().map_or_else(|e| e.to_string(), |s| s.to_string());
        let mut out = vec![format!("the code generator stopped: {end}")];
        out.extend(String::from_utf8_lossy(&said).lines().filter(|l| !l.trim().is_empty()).take(6).map(String::from));
        out
    }
}

/// Runs requests and returns their results in order.
pub fn run_all(requests: &[Request], workers: &Workers) -> Vec<Result<Output, Failure>> {
    let Workers::Processes { program, args, count } = workers else { return requests.iter().map(compile).collect() };
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<Output, Failure>>>> = requests.iter().map(|_| Mutex::new(None)).collect();
    // Long requests first, so that none is left over at the end.
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(requests[*i].mlir.len()));
    std::thread::scope(|s| {
        for _ in 0..(*count).clamp(1, requests.len().max(1)) {
            s.spawn(|| {
                let mut worker: Option<Worker> = None;
                while let Some(i) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut w = match worker.take().map_or_else(|| Worker::start(program, args), Ok) {
                        Ok(w) => w,
                        Err(e) => {
                            set(&results[*i], Err(vec![format!("the code generator does not start: {e}")]));
                            continue;
                        }
                    };
                    match w.ask(&requests[*i]) {
                        Ok(r) => {
                            set(&results[*i], r);
                            worker = Some(w);
                        }
                        Err(_) => set(&results[*i], Err(w.obituary())),
                    }
                }
                if let Some(mut w) = worker {
                    drop(w.0.stdin.take());
                    let _ = w.0.wait();
                }
            });
        }
    });
    let lost = || Err(vec!["the code generator gave no answer".to_string()]);
    results.into_iter().map(|m| m.into_inner().ok().flatten().unwrap_or_else(lost)).collect()
}

fn set(slot: &Mutex<Option<Result<Output, Failure>>>, r: Result<Output, Failure>) {
    if let Ok(mut s) = slot.lock() {
        *s = Some(r);
    }
}
