// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The talk with `c/runner.c` in an emulated process; that file says what is sent.

use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use portwright_runtime::dtype;
use portwright_runtime::load::{Info, InfoDim, LoadError, Status};
use portwright_runtime::tensor::{Bytes, Tensor, View};

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

impl Process {
    /// Starts a program that speaks as the runner does; `counted` is the library whose functions' instructions are counted.
    pub(crate) fn start(mut command: Command, name: String, counted: Option<&Path>) -> Result<Process, LoadError> {
        let fail = |e: std::io::Error| error(Status::Internal, format!("{name} cannot be started: {e}"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(fail)?;
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
            let (kind, dtype, name, rank) = (self.word()? as i32, self.word()? as i32, self.text()?, self.count()?);
            let mut dims = Vec::new();
            for _ in 0..rank {
                let (symbolic, text, min, max) = (self.word()? != 0, self.text()?, self.word()? as i64, self.word()? as i64);
                dims.push(InfoDim { symbol: symbolic.then_some(text), min, max });
            }
            let (max_bytes, alias) = (self.word()?, self.word()? as i64);
            let (max_bytes, alias_of) = ((max_bytes > 0).then_some(max_bytes), usize::try_from(alias).ok());
            all.push(Info { name, kind, dtype, dims, max_bytes, alias_of });
        }
        Ok(all)
    }

    fn request(&mut self, inputs: &[View<'_>]) -> std::io::Result<()> {
        let bits: Vec<u64> = self.outputs.iter().map(|o| dtype::by_code(o.dtype).map_or(0, |d| u64::from(d.bits))).collect();
        let to = self.to.as_mut().ok_or_else(|| std::io::Error::other("it has ended"))?;
        let mut put = |w: u64| to.write_all(&w.to_le_bytes());
        put(1)?;
        put(inputs.len() as u64)?;
        for v in inputs {
            let mut put = |w: u64| to.write_all(&w.to_le_bytes());
            put(v.dtype as u64)?;
            put(v.dims.len() as u64)?;
            v.dims.iter().try_for_each(|d| put(*d as u64))?;
            put(v.data.len() as u64)?;
            to.write_all(v.data)?;
        }
        let mut put = |w: u64| to.write_all(&w.to_le_bytes());
        put(bits.len() as u64)?;
        bits.iter().try_for_each(|b| put(*b))?;
        to.flush()
    }

    fn reply(&mut self) -> std::io::Result<Result<Vec<Tensor>, LoadError>> {
        let status = self.status()?;
        let _ns = self.word()?;
        if let Err(e) = status {
            return Ok(Err(e));
        }
        let mut out = Vec::new();
        for i in 0..self.outputs.len() {
            let rank = self.count()?;
            let mut dims = Vec::new();
            for _ in 0..rank {
                dims.push(self.word()? as i64);
            }
            let said = self.word()?;
            let dtype = self.outputs.get(i).map_or(0, |o| o.dtype);
            let bytes = dtype::tensor_bytes(dtype, &dims).filter(|n| *n == said).and_then(|n| usize::try_from(n).ok());
            let Some(mut data) = bytes.and_then(Bytes::try_zeroed) else {
                return Err(std::io::Error::other("an output of another size than its dims say"));
            };
            self.from.read_exact(&mut data)?;
            out.push(Tensor { dtype, dims, data });
        }
        Ok(Ok(out))
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
    fn run(&mut self, inputs: &[View<'_>]) -> Result<Vec<Tensor>, LoadError> {
        for (i, v) in inputs.iter().enumerate() {
            if dtype::tensor_bytes(v.dtype, &v.dims) != Some(v.data.len() as u64) {
                let name = self.inputs.get(i).map_or("?", |p| p.name.as_str());
                let what = format!("{}{:?}", dtype::name(v.dtype), v.dims);
                return Err(error(Status::Argument, format!("input {i} '{name}': {} bytes are no {what}", v.data.len())));
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
