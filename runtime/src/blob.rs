// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The description of a model that a bundle's library carries (`pw_model_blob`): typed form, writer and reader.
//! `c/pw_blob.h` defines the layout; the C runtime reads it at load, the reader here serves tests and `inspect`.

use crate::features::Arch;
use std::collections::HashMap;
use std::fmt;

/// First bytes of a blob.
pub const MAGIC: [u8; 8] = *b"PWBLOB\r\n";
/// Layout version (`PW_BLOB_VERSION`).
pub const VERSION: u32 = 2;
/// Version of the calls between plan and runtime (`PW_PLAN_VERSION`).
pub const PLAN_VERSION: u32 = 2;
/// Highest rank of an input or output.
pub const MAX_RANK: usize = 64;
/// Highest number of inputs, and of outputs.
pub const MAX_PORTS: usize = 65536;

const HEADER: usize = 200;
const SYMBOL: usize = 32;
const PORT: usize = 56;
const ITEM: usize = 12;
const DIM: usize = 16;
const CHECKED_FROM: usize = 32;
const NONE: u32 = u32::MAX;

/// Everything that the runtime must know of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob {
    /// Name of the model; also the NAME of its header and of `pw_NAME_api`.
    pub name: String,
    /// Architecture of the code; `None` is not written.
    pub arch: Option<Arch>,
    /// What it was compiled for, in words that help whoever has another machine, such as `x86-64 (x86-64-v4 amx-bf16)`.
    pub cpu: String,
    /// Bit numbers of [`crate::features`] that the code uses, in any order, below 256.
    pub features: Vec<u32>,
    /// Output shapes or control flow depend on values that kernels compute.
    pub data_shapes: bool,
    /// Symbolic dims that [`Dim::Symbol`] refers to.
    pub symbols: Vec<Symbol>,
    /// Inputs, in the order of calls.
    pub inputs: Vec<Port>,
    /// Outputs, in the order of calls.
    pub outputs: Vec<Port>,
    /// Node paths that launches, failures and outputs refer to by number.
    pub origins: Vec<String>,
    /// For each epoch of the arena the entry of `origins` that an error about its memory names. Its length is the number of
    /// epochs.
    pub epochs: Vec<Option<u32>>,
    /// Texts that constants are, each once; the first is empty.
    pub texts: Vec<String>,
    /// The weight store; `None` when the model has no weights.
    pub store: Option<StoreRef>,
}

/// What the library expects of `weights/store.bin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRef {
    /// Bytes of data behind the store's header.
    pub data_bytes: u64,
    /// Hash of names, dtypes, shapes and byte ranges ([`crate::store::Layout::hash`]).
    pub layout: [u8; 32],
}

/// A symbolic dim or, for outputs, an expression over such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Name or text of the expression.
    pub name: String,
    /// Smallest value.
    pub lo: i64,
    /// Largest value; `i64::MAX` = no bound known.
    pub hi: i64,
    /// Every value is a multiple of it.
    pub div: i64,
}

/// Size of one axis.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Always this.
    Fixed(i64),
    /// Entry of [`Blob::symbols`].
    Symbol(u32),
}

/// What an input or output holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
#[repr(i32)]
pub enum Kind {
    /// Numbers.
    #[default]
    Tensor = 0,
    /// Tensor of strings.
    Strings = 1,
    /// Sequence.
    Sequence = 2,
    /// Optional.
    Optional = 3,
    /// Map.
    Map = 4,
}

/// What a list holds. One that is a list itself is followed by what that holds, a map by its keys and then its values.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// ONNX TensorProto.DataType of tensors.
    pub dtype: i32,
    /// Rank of tensors, where it is known.
    pub rank: Option<u32>,
}

impl Kind {
    /// The kind of that number.
    pub fn from_code(code: i32) -> Option<Kind> {
        [Kind::Tensor, Kind::Strings, Kind::Sequence, Kind::Optional, Kind::Map].into_iter().find(|k| *k as i32 == code)
    }
    /// Whether its values are lists.
    pub fn is_list(self) -> bool {
        matches!(self, Kind::Sequence | Kind::Optional | Kind::Map)
    }
}

/// An input or output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// ONNX TensorProto.DataType.
    pub dtype: i32,
    /// Its dims.
    pub dims: Vec<Dim>,
    /// What a list holds; empty for others.
    pub items: Vec<Item>,
    /// Outputs: the input whose memory it may take.
    pub alias_of: Option<u32>,
    /// With `alias_of`: the output is that input with more appended on this axis; `None` = same shape.
    pub append_axis: Option<u32>,
    /// Outputs: entry of [`Blob::origins`] that makes it.
    pub origin: Option<u32>,
    /// Inputs: the plan itself reads the data, so `infer` needs it.
    pub read_by_plan: bool,
    /// Outputs that append: whether the plan writes only what is new where the caller put input and output into one memory.
    pub in_place: bool,
    /// Largest size of its data; 0 = no bound known.
    pub max_bytes: u64,
}

/// Why a blob cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobError(pub String);

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model description: {}", self.0)
    }
}

impl std::error::Error for BlobError {}

fn err<T>(text: impl Into<String>) -> Result<T, BlobError> {
    Err(BlobError(text.into()))
}

/// Checksum over 64-bit little-endian words; a rest under 8 bytes counts as padded with zeros.
pub fn checksum(bytes: &[u8]) -> u64 {
    let mut h = 0x9e37_79b9_7f4a_7c15u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0u8; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        h = (h ^ u64::from_le_bytes(word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h ^= h >> 32;
    }
    h
}

#[derive(Default)]
struct Writer {
    text: Vec<u8>,
    seen: HashMap<String, (u32, u32)>,
}

impl Writer {
    /// Offset and length of the text, stored once.
    fn text(&mut self, s: &str) -> Result<[u8; 8], BlobError> {
        if s.contains('\0') {
            return err(format!("the text {s:?} contains a zero byte"));
        }
        self.any_text(s)
    }
    /// As `text`, for texts whose lengths are always looked at.
    fn any_text(&mut self, s: &str) -> Result<[u8; 8], BlobError> {
        let (offset, bytes) = match self.seen.get(s) {
            Some(at) => *at,
            None => {
                let at = (to_u32(self.text.len())?, to_u32(s.len())?);
                self.text.extend_from_slice(s.as_bytes());
                self.text.push(0);
                self.seen.insert(s.to_string(), at);
                at
            }
        };
        Ok(pair(offset, bytes))
    }
}

fn pair(a: u32, b: u32) -> [u8; 8] {
    (u64::from(a) | u64::from(b) << 32).to_le_bytes()
}

fn to_u32(n: usize) -> Result<u32, BlobError> {
    u32::try_from(n).map_err(|_| BlobError(format!("{n} does not fit 32 bits")))
}

fn index(of: Option<u32>, count: usize, what: &str) -> Result<i32, BlobError> {
    match of {
        None => Ok(-1),
        Some(i) if (i as usize) < count && i <= i32::MAX as u32 => Ok(i as i32),
        Some(i) => err(format!("{what} {i} does not exist, there are {count}")),
    }
}

impl Blob {
    /// The bytes for `pw_model_blob`, 8-byte aligned in the object. The same description gives the same bytes.
    ///
    /// # Errors
    /// A number that refers to nothing, a rank over [`MAX_RANK`], an empty range, a text with a zero byte, over 4 GiB.
    pub fn write(&self) -> Result<Vec<u8>, BlobError> {
        let Some(arch) = self.arch else { return err("the architecture is not given") };
        if self.inputs.len() > MAX_PORTS || self.outputs.len() > MAX_PORTS {
            return err(format!("more than {MAX_PORTS} inputs or outputs"));
        }
        let mut features = [0u64; 4];
        for f in &self.features {
            match features.get_mut(*f as usize / 64) {
                Some(word) => *word |= 1 << (f % 64),
                None => return err(format!("CPU feature {f} does not exist")),
            }
        }
        let mut w = Writer::default();
        let (name, cpu) = (w.text(&self.name)?, w.text(&self.cpu)?);
        let mut symbols = Vec::with_capacity(self.symbols.len() * SYMBOL);
        for s in &self.symbols {
            if s.lo < 0 || s.hi < s.lo || s.div < 1 {
                return err(format!("symbol {:?} has the range {}..{} in steps of {}", s.name, s.lo, s.hi, s.div));
            }
            symbols.extend_from_slice(&w.text(&s.name)?);
            for n in [s.lo, s.hi, s.div] {
                symbols.extend_from_slice(&n.to_le_bytes());
            }
        }
        let mut dims = Vec::new();
        let inputs = self.write_ports(&mut w, &self.inputs, false, (&mut dims, 0))?;
        let in_items = self.inputs.iter().map(|p| p.items.len()).sum();
        let outputs = self.write_ports(&mut w, &self.outputs, true, (&mut dims, in_items))?;
        let mut items = Vec::new();
        for i in self.inputs.iter().chain(&self.outputs).flat_map(|p| &p.items) {
            for n in [i.kind as i32, i.dtype, i.rank.and_then(|r| i32::try_from(r).ok()).unwrap_or(-1)] {
                items.extend_from_slice(&n.to_le_bytes());
            }
        }
        if self.texts.first().is_some_and(|t| !t.is_empty()) {
            return err("the first text is not empty");
        }
        let mut texts = Vec::with_capacity(self.texts.len() * 8);
        for t in &self.texts {
            texts.extend_from_slice(&w.any_text(t)?);
        }
        let mut origins = Vec::with_capacity(self.origins.len() * 8);
        for o in &self.origins {
            origins.extend_from_slice(&w.text(o)?);
        }
        let mut epochs = Vec::with_capacity(self.epochs.len() * 8);
        for e in &self.epochs {
            epochs.extend_from_slice(&pair(index(*e, self.origins.len(), "origin")? as u32, 0));
        }
        w.text.resize(w.text.len().next_multiple_of(8), 0);
        items.resize(items.len().next_multiple_of(8), 0);
        let item_count = self.inputs.iter().chain(&self.outputs).map(|p| p.items.len()).sum::<usize>();

        let mut offset = HEADER;
        let mut tables = Vec::new();
        let mut body = Vec::new();
        for (bytes, entry) in [
            (&symbols, SYMBOL),
            (&inputs, PORT),
            (&outputs, PORT),
            (&dims, DIM),
            (&origins, 8),
            (&epochs, 8),
            (&w.text, 1),
            (&items, ITEM),
            (&texts, 8),
        ] {
            let count = if entry == ITEM { item_count } else { bytes.len() / entry };
            tables.extend_from_slice(&pair(to_u32(offset)?, to_u32(count)?));
            body.extend_from_slice(bytes);
            offset += bytes.len();
        }
        to_u32(offset)?;
        let (store_bytes, layout) = self.store.as_ref().map_or((0, [0; 32]), |s| (s.data_bytes, s.layout));
        let mut out = Vec::with_capacity(offset);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&pair(VERSION, PLAN_VERSION));
        out.extend_from_slice(&(offset as u64).to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&pair(arch as u32, u32::from(self.data_shapes)));
        for word in features {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&store_bytes.to_le_bytes());
        out.extend_from_slice(&layout);
        out.extend_from_slice(&name);
        out.extend_from_slice(&cpu);
        out.extend_from_slice(&tables);
        debug_assert_eq!(out.len(), HEADER);
        out.extend_from_slice(&body);
        let sum = checksum(&out[CHECKED_FROM..]);
        out[24..32].copy_from_slice(&sum.to_le_bytes());
        Ok(out)
    }

    fn write_ports(
        &self,
        w: &mut Writer,
        ports: &[Port],
        outputs: bool,
        (dims, mut item): (&mut Vec<u8>, usize),
    ) -> Result<Vec<u8>, BlobError> {
        let mut out = Vec::with_capacity(ports.len() * PORT);
        for p in ports {
            if p.dims.len() > MAX_RANK {
                return err(format!("{:?} has rank {}, the limit is {MAX_RANK}", p.name, p.dims.len()));
            }
            if !outputs && (p.alias_of.is_some() || p.append_axis.is_some()) {
                return err(format!("the input {:?} cannot alias", p.name));
            }
            let alias = index(p.alias_of, self.inputs.len(), "input")?;
            let axis = index(p.append_axis, p.dims.len(), "axis")?;
            if axis >= 0 && alias < 0 {
                return err(format!("{:?} appends to no input", p.name));
            }
            let first_dim = to_u32(dims.len() / DIM)?;
            for d in &p.dims {
                let (fixed, symbol) = match *d {
                    Dim::Fixed(n) if n >= 0 => (n, NONE),
                    Dim::Fixed(n) => return err(format!("{:?} has a dim of {n}", p.name)),
                    Dim::Symbol(s) => {
                        index(Some(s), self.symbols.len(), "symbol")?;
                        (-1, s)
                    }
                };
                dims.extend_from_slice(&fixed.to_le_bytes());
                dims.extend_from_slice(&pair(symbol, 0));
            }
            out.extend_from_slice(&w.text(&p.name)?);
            let origin = index(p.origin, self.origins.len(), "origin")?;
            for n in [
                p.kind as i32,
                p.dtype,
                p.dims.len() as i32,
                first_dim as i32,
                alias,
                axis,
                origin,
                i32::from(p.read_by_plan) | i32::from(p.in_place) << 1,
            ] {
                out.extend_from_slice(&n.to_le_bytes());
            }
            out.extend_from_slice(&p.max_bytes.to_le_bytes());
            if p.kind.is_list() == p.items.is_empty() || (p.kind.is_list() && !p.dims.is_empty()) {
                return err(format!("{:?} is a list that holds nothing, or holds something and is none", p.name));
            }
            out.extend_from_slice(&pair(to_u32(item)?, to_u32(p.items.len())?));
            item += p.items.len();
        }
        Ok(out)
    }

    /// Reads what [`Blob::write`] wrote. Unused text is not looked at.
    ///
    /// # Errors
    /// Anything that `write` does not produce: wrong magic, version, size, checksum, or a number that refers to nothing.
    pub fn read(bytes: &[u8]) -> Result<Blob, BlobError> {
        let r = Reader { bytes };
        if r.get(0, 8)? != MAGIC {
            return err("this is not a model description");
        }
        if r.u32(8)? != VERSION || r.u32(12)? != PLAN_VERSION {
            return err(format!("version {}.{}, expected {VERSION}.{PLAN_VERSION}", r.u32(8)?, r.u32(12)?));
        }
        if r.u64(16)? != bytes.len() as u64 || !bytes.len().is_multiple_of(8) || bytes.len() < HEADER {
            return err(format!("{} bytes, expected {}", bytes.len(), r.u64(16)?));
        }
        if r.u64(24)? != checksum(bytes.get(CHECKED_FROM..).unwrap_or_default()) {
            return err("the checksum is wrong");
        }
        let Some(arch) = Arch::from_code(r.u32(32)?) else { return err(format!("architecture {}", r.u32(32)?)) };
        let flags = r.u32(36)?;
        let mut features = Vec::new();
        for word in 0..4usize {
            let bits = r.u64(40 + 8 * word)?;
            features.extend((0..64).filter(|b| bits >> b & 1 == 1).map(|b| word as u32 * 64 + b));
        }
        let data_bytes = r.u64(72)?;
        let mut layout = [0u8; 32];
        layout.copy_from_slice(r.get(80, 32)?);
        let table = |i: usize, entry: usize| -> Result<(usize, usize), BlobError> {
            let (at, count) = (r.u32(128 + 8 * i)? as usize, r.u32(132 + 8 * i)? as usize);
            r.get(at, count.checked_mul(entry).ok_or_else(|| BlobError("a table is too large".into()))?)?;
            Ok((at, count))
        };
        let (text_at, text_bytes) = table(6, 1)?;
        let text = |at: usize| -> Result<String, BlobError> {
            let (offset, len) = (r.u32(at)? as usize, r.u32(at + 4)? as usize);
            let raw = r.get(text_at, text_bytes)?.get(offset..).and_then(|t| t.get(..len.checked_add(1)?));
            match raw.and_then(|t| t.split_last()) {
                Some((0, t)) => String::from_utf8(t.to_vec()).map_err(|_| BlobError("a text is not UTF-8".into())),
                _ => err("a text lies outside the text table"),
            }
        };
        let (symbols_at, symbols) = table(0, SYMBOL)?;
        let symbols: Vec<Symbol> = (0..symbols)
            .map(|i| symbols_at + i * SYMBOL)
            .map(|at| Ok(Symbol { name: text(at)?, lo: r.i64(at + 8)?, hi: r.i64(at + 16)?, div: r.i64(at + 24)? }))
            .collect::<Result<_, BlobError>>()?;
        let (dims_at, dims) = table(3, DIM)?;
        let (items_at, items) = table(7, ITEM)?;
        let (texts_at, texts) = table(8, 8)?;
        let port = |at: usize| -> Result<Port, BlobError> {
            let n = |i: usize| r.i32(at + 8 + 4 * i);
            let (rank, first) = (n(2)?, r.u32(at + 20)? as usize);
            if rank < 0 || rank as usize > MAX_RANK || first > dims || rank as usize > dims - first {
                return err("a port has dims that do not exist");
            }
            let mut own = Vec::new();
            for i in first..first + rank as usize {
                let fixed = r.i64(dims_at + i * DIM)?;
                own.push(if fixed >= 0 { Dim::Fixed(fixed) } else { Dim::Symbol(r.u32(dims_at + i * DIM + 8)?) });
            }
            let Some(kind) = Kind::from_code(n(0)?) else { return err(format!("kind {}", n(0)?)) };
            let (item, count) = (r.u32(at + 48)? as usize, r.u32(at + 52)? as usize);
            if item.checked_add(count).is_none_or(|end| end > items) {
                return err("a port holds what does not exist");
            }
            let read_item = |i: usize| -> Result<Item, BlobError> {
                let at = items_at + i * ITEM;
                let Some(kind) = Kind::from_code(r.i32(at)?) else { return err(format!("kind {}", r.i32(at)?)) };
                Ok(Item { kind, dtype: r.i32(at + 4)?, rank: u32::try_from(r.i32(at + 8)?).ok() })
            };
            let opt = |i: usize| n(i).map(|v| u32::try_from(v).ok());
            Ok(Port {
                name: text(at)?,
                kind,
                dtype: n(1)?,
                dims: own,
                items: (item..item + count).map(read_item).collect::<Result<_, _>>()?,
                alias_of: opt(4)?,
                append_axis: opt(5)?,
                origin: opt(6)?,
                read_by_plan: n(7)? & 1 != 0,
                in_place: n(7)? & 2 != 0,
                max_bytes: r.u64(at + 40)?,
            })
        };
        let ports = |i: usize| -> Result<Vec<Port>, BlobError> {
            let (at, count) = table(i, PORT)?;
            (0..count).map(|i| port(at + i * PORT)).collect()
        };
        let (origins_at, origins) = table(4, 8)?;
        let (epochs_at, epochs) = table(5, 8)?;
        let blob = Blob {
            name: text(112)?,
            arch: Some(arch),
            cpu: text(120)?,
            features,
            data_shapes: flags & 1 != 0,
            symbols,
            inputs: ports(1)?,
            outputs: ports(2)?,
            origins: (0..origins).map(|i| text(origins_at + 8 * i)).collect::<Result<_, _>>()?,
            epochs: (0..epochs).map(|i| r.i32(epochs_at + 8 * i).map(|o| u32::try_from(o).ok())).collect::<Result<_, _>>()?,
            texts: (0..texts).map(|i| text(texts_at + 8 * i)).collect::<Result<_, _>>()?,
            store: (data_bytes > 0).then_some(StoreRef { data_bytes, layout }),
        };
        // What refers to nothing would not be written again.
        blob.write().map(|_| blob)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn get(&self, at: usize, len: usize) -> Result<&'a [u8], BlobError> {
        at.checked_add(len)
            .and_then(|end| self.bytes.get(at..end))
            .ok_or_else(|| BlobError(format!("{len} bytes at {at} lie outside its {} bytes", self.bytes.len())))
    }
    fn u32(&self, at: usize) -> Result<u32, BlobError> {
        let mut b = [0; 4];
        b.copy_from_slice(self.get(at, 4)?);
        Ok(u32::from_le_bytes(b))
    }
    fn u64(&self, at: usize) -> Result<u64, BlobError> {
        let mut b = [0; 8];
        b.copy_from_slice(self.get(at, 8)?);
        Ok(u64::from_le_bytes(b))
    }
    fn i32(&self, at: usize) -> Result<i32, BlobError> {
        self.u32(at).map(|v| v as i32)
    }
    fn i64(&self, at: usize) -> Result<i64, BlobError> {
        self.u64(at).map(|v| v as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Blob {
        let port = |name: &str, dims: Vec<Dim>| Port { name: name.into(), dtype: 1, dims, ..Port::default() };
        Blob {
            name: "tiny".into(),
            arch: Some(Arch::X86_64),
            cpu: "x86-64 (x86-64-v3)".into(),
            features: vec![3, 16, 200],
            data_shapes: true,
            symbols: vec![Symbol { name: "N".into(), lo: 1, hi: 64, div: 2 }, Symbol { name: "2*N".into(), lo: 2, hi: i64::MAX, div: 4 }],
            inputs: vec![Port { read_by_plan: true, ..port("x", vec![Dim::Symbol(0), Dim::Fixed(3)]) }],
            outputs: vec![Port {
                alias_of: Some(0),
                append_axis: Some(1),
                origin: Some(1),
                max_bytes: 99,
                ..port("y", vec![Dim::Symbol(1), Dim::Fixed(3)])
            }],
            origins: vec!["a/Mul".into(), "b/Add".into(), "a/Mul".into()],
            epochs: vec![None, Some(2)],
            texts: vec![String::new(), "a word".into()],
            store: Some(StoreRef { data_bytes: 128, layout: [7; 32] }),
        }
    }

    #[test]
    fn round_trip() {
        for blob in [sample(), Blob { arch: Some(Arch::Loongarch64), ..Blob::default() }] {
            let bytes = blob.write().unwrap();
            assert_eq!(bytes.len() % 8, 0);
            assert_eq!(Blob::read(&bytes), Ok(blob));
        }
    }

    #[test]
    fn faults_are_errors() {
        type Change = fn(&mut Blob);
        let change: [(&str, Change); 9] = [
            ("architecture", |b| b.arch = None),
            ("feature", |b| b.features.push(256)),
            ("range", |b| b.symbols[0].hi = 0),
            ("zero byte", |b| b.origins[0] = "a\0b".into()),
            ("dim of -5", |b| b.inputs[0].dims[1] = Dim::Fixed(-5)),
            ("symbol 2", |b| b.inputs[0].dims[1] = Dim::Symbol(2)),
            ("origin 3", |b| b.epochs[0] = Some(3)),
            ("cannot alias", |b| b.inputs[0].alias_of = Some(0)),
            ("rank 65", |b| b.inputs[0].dims = vec![Dim::Fixed(1); 65]),
        ];
        for (text, f) in change {
            let mut blob = sample();
            f(&mut blob);
            let e = blob.write().unwrap_err().to_string();
            assert!(e.contains(text), "{e:?} does not say {text:?}");
        }
    }

    #[test]
    fn damaged_bytes_are_errors_not_panics() {
        let bytes = sample().write().unwrap();
        for cut in 0..bytes.len() {
            assert!(Blob::read(&bytes[..cut]).is_err());
        }
        let mut state = 1u64;
        for round in 0..20_000 {
            let mut b = bytes.clone();
            for _ in 0..1 + round % 3 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (state >> 33) as usize % b.len();
                b[at] = (state >> 20) as u8;
            }
            let sum = checksum(&b[CHECKED_FROM..]);
            b[24..32].copy_from_slice(&sum.to_le_bytes());
            let _ = Blob::read(&b);
        }
    }
}
