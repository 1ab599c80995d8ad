// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types of values, constants, symbols and where nodes come from.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::dtype::DType;
use crate::sym::{SymExpr, SymName};

/// Dims of a tensor, outermost first.
pub type Dims = Vec<SymExpr>;

/// How a quantized value stands for real numbers: `real = (stored - zero_point) * scale`, one scale a block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quant {
    /// Dtype of the real numbers.
    pub expressed: DType,
    /// Dtype of the scales.
    pub scale: DType,
    /// Whether there are zero points (of the storage dtype).
    pub zero_point: bool,
    /// Axis along which scales differ; `None` for one scale in all.
    pub axis: Option<u32>,
    /// Elements of a block along `axis` (the last may be short: counts are ceil-divided); 1 is per channel.
    pub block_elems: u32,
}

/// What a list is to a model.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// Any number of elements of one type.
    Sequence,
    /// One element or none.
    Optional,
    /// Two elements of equal length: keys in rank 1, and values.
    Map,
}

impl ListKind {
    /// Every kind.
    pub const ALL: &'static [ListKind] = &[ListKind::Sequence, ListKind::Optional, ListKind::Map];
    /// Name in text.
    pub fn name(self) -> &'static str {
        match self {
            ListKind::Sequence => "seq",
            ListKind::Optional => "optional",
            ListKind::Map => "map",
        }
    }
}

/// Rank of the tensors in a list.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum ItemRank {
    /// Nothing was put into the list yet that would tell.
    Unknown,
    /// Of all of them.
    Is(u32),
    /// They differ.
    Mixed,
}

/// What a list holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    /// Tensors of one dtype.
    Tensor(DType, ItemRank),
    /// Lists.
    List(Box<ListType>),
}

/// Type of a list: its kind and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListType {
    /// What it is.
    pub kind: ListKind,
    /// Type of its elements; of a map keys and values.
    pub items: Vec<Item>,
}

impl ListType {
    /// A sequence or optional of such elements.
    pub fn of(kind: ListKind, item: Item) -> Self {
        ListType { kind, items: vec![item] }
    }
    /// Type of the elements; of a map that of its keys.
    pub fn item(&self) -> Option<&Item> {
        self.items.first()
    }
    /// The type that takes both; `None` where they differ in more than what is known of ranks.
    pub fn join(&self, other: &ListType) -> Option<ListType> {
        if self.kind != other.kind || self.items.len() != other.items.len() {
            return None;
        }
        let items = self.items.iter().zip(&other.items).map(|(a, b)| a.join(b)).collect::<Option<_>>()?;
        Some(ListType { kind: self.kind, items })
    }
}

impl Item {
    /// The type that takes both; `None` where they differ in more than what is known of ranks.
    pub fn join(&self, other: &Item) -> Option<Item> {
        match (self, other) {
            (Item::Tensor(d, a), Item::Tensor(e, b)) if d == e => Some(Item::Tensor(
                *d,
                match (a, b) {
                    (ItemRank::Unknown, r) | (r, ItemRank::Unknown) => *r,
                    (a, b) if a == b => *a,
                    _ => ItemRank::Mixed,
                },
            )),
            (Item::List(a), Item::List(b)) => a.join(b).map(|l| Item::List(Box::new(l))),
            _ => None,
        }
    }
}

impl fmt::Display for ListType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.kind.name())?;
        for (i, item) in self.items.iter().enumerate() {
            f.write_str(if i > 0 { ", " } else { "" })?;
            match item {
                Item::Tensor(d, ItemRank::Unknown) => write!(f, "{d}")?,
                Item::Tensor(d, ItemRank::Is(r)) => write!(f, "{d} rank {r}")?,
                Item::Tensor(d, ItemRank::Mixed) => write!(f, "{d} mixed")?,
                Item::List(l) => write!(f, "{l}")?,
            }
        }
        f.write_str(")")
    }
}

/// Type of a value: storage dtype, dims, and the quantization if it stands for other numbers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Storage dtype.
    pub dtype: DType,
    /// Dims, outermost first; empty for a scalar.
    pub dims: Dims,
    /// Quantization, for values that carry scales with them.
    pub quant: Option<Box<Quant>>,
    /// What the list holds, for values of dtype `list`, which are scalars.
    pub list: Option<Box<ListType>>,
}

impl TensorType {
    /// A plain tensor.
    pub fn new(dtype: DType, dims: impl Into<Dims>) -> Self {
        TensorType { dtype, dims: dims.into(), quant: None, list: None }
    }
    /// A plain tensor of static dims.
    pub fn fixed(dtype: DType, dims: &[i64]) -> Self {
        Self::new(dtype, dims.iter().map(|&d| d.into()).collect::<Dims>())
    }
    /// A sequence, an optional or a map.
    pub fn list(list: ListType) -> Self {
        TensorType { list: Some(Box::new(list)), ..Self::new(DType::List, Dims::new()) }
    }
    /// Number of dims.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }
    /// Number of elements.
    pub fn elems(&self) -> SymExpr {
        crate::sym::product(&self.dims)
    }
    /// All dims as numbers, if they are static.
    pub fn static_dims(&self) -> Option<Vec<i64>> {
        self.dims.iter().map(SymExpr::as_const).collect()
    }
    /// Same dims, other dtype.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        TensorType { dtype, dims: self.dims.clone(), quant: None, list: None }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(l), true) = (&self.list, self.dims.is_empty()) {
            return write!(f, "{l}");
        }
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.dims.iter().enumerate() {
            write!(f, "{}{d}", if i > 0 { "," } else { "" })?;
        }
        f.write_str("]")?;
        if let Some(q) = &self.quant {
            write!(f, "<{} scale {}", q.expressed, q.scale)?;
            if q.zero_point {
                f.write_str(" zp")?;
            }
            if let Some(a) = q.axis {
                write!(f, " axis {a} block {}", q.block_elems)?;
            }
            f.write_str(">")?;
        }
        Ok(())
    }
}
impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One number of any dtype, as the bits of its encoding.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scalar {
    /// Dtype.
    pub dtype: DType,
    /// Encoding, right-aligned (complex: c64 only, real part low).
    pub bits: u64,
}

/// A small constant: dense row-major elements as they lie in memory, little-endian, types under a byte packed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Literal {
    /// Dtype.
    pub dtype: DType,
    /// Dims, all >= 0.
    pub dims: Vec<i64>,
    /// Elements.
    pub bytes: Arc<[u8]>,
}

/// Where the number behind a symbol comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SymSource {
    /// Read from the dims of the graph's inputs (the first input dim that is just this symbol), or given by the user.
    Input,
    /// Read from an element of a value by a `bind` node: its size depends on data.
    Bind,
    /// Found while a node of data-dependent result size runs.
    Result,
}

/// A named unknown with its range.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// Name, as the model file has it; unique in the graph.
    pub name: SymName,
    /// Smallest value.
    pub lo: i64,
    /// Largest value.
    pub hi: i64,
    /// A number that divides it; 1 where nothing is known.
    pub div: i64,
    /// Where it is read.
    pub source: SymSource,
}

/// What a model takes as unchecked: `left == right`, tested when a run binds its symbols.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Constraint {
    /// One side.
    pub left: SymExpr,
    /// Other side.
    pub right: SymExpr,
    /// Path of the node that needs it.
    pub path: Arc<str>,
}

/// Where a node comes from: paths in the model file and the rules that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Origin {
    /// Paths of the nodes that it stands for, as `main/If_12.then/Conv_3`; a fused node has several.
    pub paths: Vec<Arc<str>>,
    /// Names of the rules that produced it, first to last.
    pub rules: Vec<&'static str>,
}

impl Origin {
    /// The origin of an imported node.
    pub fn path(path: impl Into<Arc<str>>) -> Self {
        Origin { paths: vec![path.into()], rules: Vec::new() }
    }
    /// First path, or an empty text.
    pub fn first(&self) -> &str {
        self.paths.first().map_or("", |p| p)
    }
    /// Origin of what `rule` makes from nodes of these origins.
    pub fn merge<'a>(parts: impl IntoIterator<Item = &'a Origin>, rule: &'static str) -> Self {
        let mut out = Origin::default();
        // Filled once a list is too long to be searched.
        let mut seen: HashSet<&'a str> = HashSet::new();
        let mut listed: Vec<&'a str> = Vec::new();
        for o in parts {
            for p in &o.paths {
                if listed.len() == 16 && seen.is_empty() {
                    seen.extend(listed.iter().copied());
                }
                let new = if seen.is_empty() { !listed.contains(&&**p) } else { seen.insert(p) };
                if new {
                    listed.push(p);
                    out.paths.push(p.clone());
                }
            }
            for r in &o.rules {
                if !out.rules.contains(r) {
                    out.rules.push(r);
                }
            }
        }
        if out.rules.last() != Some(&rule) {
            out.rules.push(rule);
        }
        out
    }
}
