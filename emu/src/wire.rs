// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The talk with `c/runner.c` in an emulated process; that file says what is sent.

use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use portwright_runtime::blob::{Item, Kind};
use portwright_runtime::dtype;
use portwright_runtime::load::{Info, InfoDim, LoadError, Status};
use portwright_runtime::tensor::{Bytes, Tensor};
use portwright_runtime::value::{Arg, Input, List, Texts, Value};

use crate::count::Counter;
use crate::{Count, Machine};

const MAGIC: u64 = u64::from_le_bytes(*b"PPWEMU01");
/// More values, dims or characters than any program of ours says; a reply with more is none.
const MOST: u64 = 1 << 20;

/// An emulated process in which a bundle is loaded.
pub(crate) struct Process {
    name: String,
    child: Child,
    to: Option<BufWriter<ChildStdin>>,
    from: BufReader<ChildStdout>,
    /// Gives the last line of its stderr, when that is closed.
    last_words: Option<JoinHandle<String>>,
    counter: Option<Counter>,
    inputs: Vec<Info>,
    outputs: Vec<Info>,
}

fn error(status: Status, message: impl Into<String>) -> LoadError {
    LoadError { status, message: message.into() }
}

/// Most lists that lie in each other.
const MOST_NESTED: u32 = 16;

fn put(to: &mut impl Write, w: u64) -> std::io::Result<()> {
    to.write_all(&w.to_le_bytes())
}

/// Whether a value is as large as its dims say.
fn fits(v: &Arg<'_>) -> Result<(), String> {
    match v {
        Arg::Tensor(v) if dtype::tensor_bytes(v.dtype, &v.dims) != Some(v.data.len() as u64) => {
            Err(format!("{} bytes are no {}{:?}", v.data.len(), dtype::name(v.dtype), v.dims))
        }
        Arg::Texts(t) if dtype::elements(&t.dims) != Some(t.values.len() as u64) => {
            Err(format!("{} texts are no str{:?}", t.values.len(), t.dims))
        }
        Arg::List(l) => l.items.iter().try_for_each(|v| fits(&v.arg())),
        _ => Ok(()),
    }
}

/// Writes a value as `c/runner.c` reads it.
fn send(to: &mut impl Write, v: &Arg<'_>) -> std::io::Result<()> {
    let head = |to: &mut dyn Write, kind: Kind, dtype: i32, dims: &[i64]| -> std::io::Result<()> {
        let words = [kind as u64, dtype as u64, dims.len() as u64].into_iter().chain(dims.iter().map(|d| *d as u64));
        words.into_iter().try_for_each(|w| to.write_all(&w.to_le_bytes()))
    };
    match v {
        Arg::Tensor(v) => {
            head(to, Kind::Tensor, v.dtype, &v.dims)?;
            put(to, v.data.len() as u64)?;
            to.write_all(v.data)
        }
        Arg::Texts(t) => {
            head(to, Kind::Strings, 8, &t.dims)?;
            put(to, t.values.len() as u64)?;
            for s in &t.values {
                put(to, s.len() as u64)?;
                to.write_all(s.as_bytes())?;
            }
            Ok(())
        }
        Arg::List(l) => {
            put(to, l.kind as u64)?;
            put(to, l.items.len() as u64)?;
            l.items.iter().try_for_each(|v| send(to, &v.arg()))
        }
    }
}

impl Process {
    /// Starts a program that speaks as the runner does; `counted` is the library whose functions' instructions are counted.
    pub(crate) fn start(mut command: Command, name: String, counted: Option<&Path>) -> Result<Process, LoadError> {
        let fail = |e: std::io::Error| error(Status::Internal, format!("{name} cannot be started: {e}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A program that was just written may still be open in a child that another thread is about to turn into something else.
        let mut tries = 0..100;
        let mut child = loop {
            match command.spawn() {
                Err(e) if e.kind() == ErrorKind::ExecutableFileBusy && tries.next().is_some() => {
                    std::thread::sleep(Duration::from_millis(20))
                }
                child => break child.map_err(fail)?,
            }
        };
        let gone = || fail(std::io::Error::other("it has no pipes"));
        let to = Some(BufWriter::new(child.stdin.take().ok_or_else(gone)?));
        let from = BufReader::with_capacity(1 << 16, child.stdout.take().ok_or_else(gone)?);
        let errors = BufReader::with_capacity(1 << 16, child.stderr.take().ok_or_else(gone)?);
        let counter = counted.map(Counter::new);
        let tally = counter.as_ref().map(Counter::tally);
        let last_words = Some(std::thread::spawn(move || crate::count::listen(errors, tally.as_deref())));
        let mut p = Process { name, child, to, from, last_words, counter, inputs: Vec::new(), outputs: Vec::new() };
        match p.hello() {
            Ok(Ok(())) => Ok(p),
            Ok(Err(refused)) => Err(refused),
            Err(_) => Err(p.died()),
        }
    }

    /// The outer error is that nothing was said, the inner one what was said.
    fn hello(&mut self) -> std::io::Result<Result<(), LoadError>> {
        if self.word()? != MAGIC {
            return Err(std::io::Error::other("another program"));
        }
        if let Err(e) = self.status()? {
            return Ok(Err(e));
        }
        let (base, _bytes) = (self.word()?, self.word()?);
        if let Some(c) = &mut self.counter {
            c.place(base);
        }
        self.inputs = self.infos()?;
        self.outputs = self.infos()?;
        Ok(Ok(()))
    }

    fn word(&mut self) -> std::io::Result<u64> {
        let mut b = [0; 8];
        self.from.read_exact(&mut b)?;
        Ok(u64::from_le_bytes(b))
    }

    /// A count or length that stays within reason.
    fn count(&mut self) -> std::io::Result<usize> {
        let n = self.word()?;
        if n <= MOST { Ok(n as usize) } else { Err(std::io::Error::other("a count out of reason")) }
    }

    fn text(&mut self) -> std::io::Result<String> {
        let mut b = vec![0; self.count()?];
        self.from.read_exact(&mut b)?;
        Ok(String::from_utf8_lossy(&b).into_owned())
    }

    fn status(&mut self) -> std::io::Result<Result<(), LoadError>> {
        let status = Status::from_code(self.word()? as i32);
        let message = self.text()?;
        Ok(if status == Status::Ok { Ok(()) } else { Err(error(status, message)) })
    }

    fn infos(&mut self) -> std::io::Result<Vec<Info>> {
        let n = self.count()?;
        let mut all = Vec::new();
        for _ in 0..n {
            let (kind, dtype, name, rank) = (self.kind()?, self.word()? as i32, self.text()?, self.count()?);
            let mut dims = Vec::new();
            for _ in 0..rank {
                let (symbolic, text, min, max) = (self.word()? != 0, self.text()?, self.word()? as i64, self.word()? as i64);
                dims.push(InfoDim { symbol: symbolic.then_some(text), min, max });
            }
            let (max_bytes, alias) = (self.word()?, self.word()? as i64);
            let (max_bytes, alias_of) = ((max_bytes > 0).then_some(max_bytes), usize::try_from(alias).ok());
            let mut items = Vec::new();
            for _ in 0..self.count()? {
                let (kind, dtype, rank) = (self.kind()?, self.word()? as i32, self.word()? as i64);
                items.push(Item { kind, dtype, rank: u32::try_from(rank).ok() });
            }
            all.push(Info { name, kind, dtype, dims, max_bytes, alias_of, items });
        }
        Ok(all)
    }

    fn kind(&mut self) -> std::io::Result<Kind> {
        let code = self.word()?;
        Kind::from_code(code as i32).ok_or_else(|| std::io::Error::other("a value of no kind"))
    }

    fn request(&mut self, inputs: &[Arg<'_>]) -> std::io::Result<()> {
        let to = self.to.as_mut().ok_or_else(|| std::io::Error::other("it has ended"))?;
        put(to, 1)?;
        put(to, inputs.len() as u64)?;
        inputs.iter().try_for_each(|v| send(to, v))?;
        to.flush()
    }

    fn reply(&mut self) -> std::io::Result<Result<Vec<Value>, LoadError>> {
        let status = self.status()?;
        let _ns = self.word()?;
        if let Err(e) = status {
            return Ok(Err(e));
        }
        (0..self.outputs.len()).map(|_| self.value(0)).collect::<std::io::Result<_>>().map(Ok)
    }

    fn value(&mut self, depth: u32) -> std::io::Result<Value> {
        let kind = self.kind()?;
        if depth > MOST_NESTED {
            return Err(std::io::Error::other("lists are nested too deeply"));
        }
        if kind.is_list() {
            let n = self.count()?;
            let items = (0..n).map(|_| self.value(depth + 1)).collect::<std::io::Result<_>>()?;
            return Ok(Value::List(List { kind, items }));
        }
        let (dtype, rank) = (self.word()? as i32, self.count()?);
        let mut dims = Vec::new();
        for _ in 0..rank {
            dims.push(self.word()? as i64);
        }
        let wrong = || std::io::Error::other("an output of another size than its dims say");
        let said = self.word()?;
        if kind == Kind::Strings {
            let n = dtype::elements(&dims).filter(|n| *n == said).ok_or_else(wrong)?;
            let values = (0..n).map(|_| self.text()).collect::<std::io::Result<_>>()?;
            return Texts::new(dims, values).map(Value::Texts).ok_or_else(wrong);
        }
        let bytes = dtype::tensor_bytes(dtype, &dims).filter(|n| *n == said).and_then(|n| usize::try_from(n).ok());
        let mut data = bytes.and_then(Bytes::try_zeroed).ok_or_else(wrong)?;
        self.from.read_exact(&mut data)?;
        Ok(Value::Tensor(Tensor { dtype, dims, data }))
    }

    /// How the process ended.
    fn died(&mut self) -> LoadError {
        self.to = None;
        // It is given a moment to say what it died of: a kill would hide the signal.
        let mut status = None;
        for _ in 0..200 {
            status = self.child.try_wait().ok().flatten();
            if status.is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if status.is_none() {
            let _ = self.child.kill();
            status = self.child.wait().ok();
        }
        let how = match status.and_then(|s| s.signal()) {
            Some(4) => "an illegal instruction (signal 4)".to_string(),
            Some(6) => "it aborted (signal 6)".into(),
            Some(8) => "an arithmetic trap (signal 8)".into(),
            Some(7 | 11) => "an access outside its memory, or a stack that overflowed (signal 11)".into(),
            Some(9) => "it was killed (signal 9), which a system out of memory does".into(),
            Some(s) => format!("signal {s}"),
            None => status.map_or_else(|| "no answer".into(), |s| s.to_string()),
        };
        let words = self.last_words.take().and_then(|t| t.join().ok()).filter(|w| !w.is_empty());
        let words = words.map_or_else(String::new, |w| format!(": {w}"));
        error(Status::Internal, format!("the program died under {}: {how}{words}", self.name))
    }
}

impl Machine for Process {
    fn inputs(&self) -> &[Info] {
        &self.inputs
    }
    fn outputs(&self) -> &[Info] {
        &self.outputs
    }
    fn run(&mut self, inputs: &[Arg<'_>]) -> Result<Vec<Value>, LoadError> {
        for (i, v) in inputs.iter().enumerate() {
            if let Err(what) = fits(v) {
                let name = self.inputs.get(i).map_or("?", |p| p.name.as_str());
                return Err(error(Status::Argument, format!("input {i} '{name}': {what}")));
            }
        }
        match self.request(inputs).and_then(|()| self.reply()) {
            Ok(outcome) => {
                self.counter.iter_mut().for_each(Counter::ran);
                outcome
            }
            Err(_) => Err(self.died()),
        }
    }
    fn take_counts(&mut self) -> Vec<Count> {
        self.counter.as_mut().map_or_else(Vec::new, Counter::take)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends with its stdin.
        self.to = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
