// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Result types of every op, from its attributes and operand types.
//!
//! Dims are compared by normal form. Dims that cannot be equal under the ranges of their symbols are a fault; dims that may be equal are
//! taken as equal and reported as assumptions, which [`Graph::insert`] records as constraints with the node's path.

use super::{Dims, Graph, Op, ReduceOp, TensorType, TypeFault};
use crate::diag::Code;
use crate::dtype::{DType, Kind};
use crate::sym::{Atom, SymExpr, View};

mod blocks;
mod compose;
mod contract;
mod control;
mod derive;
mod host;
mod index;
mod movement;
#[cfg(test)]
mod tests;
mod winograd;

pub use contract::Labels;
pub use derive::derivation;

/// Most elements that a tensor may have: beyond it no byte offset is safe from overflow.
pub const MAX_ELEMS: i64 = 1 << 48;

/// Most elements that a stride, a dilation, a kernel or the padding of a window counts, and the gaps of a padding.
pub const MAX_REACH: i64 = i32::MAX as i64;

/// Equalities that inference took as given.
pub type Assumptions = Vec<(SymExpr, SymExpr)>;

/// Result types of a node, and what they rest on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inferred {
    /// One type a result.
    pub types: Vec<TensorType>,
    /// Equalities that could neither be proven nor refuted.
    pub assumed: Assumptions,
}

/// Infers the result types of `op`, one a result.
///
/// `graph` gives the types of weights and the ranges of symbols. Dims that cannot be proven equal but may be are taken as equal (see
/// [`assumptions`]); dims that cannot be equal are a fault.
///
/// # Errors
/// Wrong number of operands, dtypes or dims that do not fit, attributes out of range.
pub fn infer(graph: &Graph, op: &Op, operands: &[&TensorType], regions: &[Graph]) -> Result<Vec<TensorType>, TypeFault> {
    infer_assuming(graph, op, operands, regions).map(|i| i.types)
}

/// Equalities between dims that the types of this node rest on; empty when all is proven.
///
/// # Errors
/// As [`infer`].
pub fn assumptions(graph: &Graph, op: &Op, operands: &[&TensorType], regions: &[Graph]) -> Result<Assumptions, TypeFault> {
    infer_assuming(graph, op, operands, regions).map(|i| i.assumed)
}

/// Infers the result types of `op` together with the equalities that they rest on.
///
/// # Errors
/// As [`infer`].
pub fn infer_assuming(graph: &Graph, op: &Op, operands: &[&TensorType], regions: &[Graph]) -> Result<Inferred, TypeFault> {
    let mut cx = Cx { graph, op, operands, regions, assumed: Vec::new() };
    let types = cx.types()?;
    for (i, t) in types.iter().enumerate() {
        cx.check_size(t, i)?;
    }
    Ok(Inferred { types, assumed: cx.assumed })
}

/// Broadcasts dims as numpy does, trailing dims matched: a static 1 meets any dim, other dims must be equal.
///
/// Returns the dims of the result and the equalities that could not be proven. Of two dims that are not provably equal the result takes
/// the static one, else the one that cannot be 1, else the first.
///
/// # Errors
/// `E0202` when two dims cannot be equal.
pub fn broadcast_dims(graph: &Graph, parts: &[&Dims]) -> Result<(Dims, Assumptions), TypeFault> {
    let rank = parts.iter().map(|d| d.len()).max().unwrap_or(0);
    let mut assumed = Vec::new();
    let mut out = Vec::with_capacity(rank);
    for axis in 0..rank {
        let mut dim: Option<&SymExpr> = None;
        let mut of = (0, 0);
        for (p, part) in parts.iter().enumerate() {
            // Missing leading dims read as 1.
            let Some(i) = (axis + part.len()).checked_sub(rank) else { continue };
            let d = &part[i];
            let old_of = std::mem::replace(&mut of, (p, i));
            dim = Some(match dim {
                None => d,
                Some(old) if old == d || d.is(1) => {
                    of = old_of;
                    old
                }
                Some(old) if old.is(1) => d,
                Some(old) => {
                    if !may_be_equal(graph, old, d) {
                        let m = format!("dims {old} and {d} do not broadcast (axis {} from the end)", rank - axis);
                        return Err(TypeFault { apart: vec![old_of, of], ..TypeFault::new(Code::SHAPE_MISMATCH, m) });
                    }
                    assumed.push((old.clone(), d.clone()));
                    let can_be_one = |e: &SymExpr| {
                        let (lo, hi) = graph.bounds(e);
                        lo <= 1 && hi >= 1
                    };
                    let take_new = old.as_const().is_none() && (d.as_const().is_some() || (can_be_one(old) && !can_be_one(d)));
                    if take_new {
                        d
                    } else {
                        of = old_of;
                        old
                    }
                }
            });
        }
        out.push(dim.cloned().unwrap_or_else(|| 1.into()));
    }
    Ok((out, assumed))
}

/// Whether two expressions can have the same value under the ranges of their symbols.
pub fn may_be_equal(graph: &Graph, a: &SymExpr, b: &SymExpr) -> bool {
    if let (Some(x), Some(y)) = (a.as_const(), b.as_const()) {
        return x == y;
    }
    let (lo, hi) = graph.bounds(&(a - b));
    lo <= 0 && hi >= 0
}

/// The same equality without common factors: a constant, and symbols that are never 0.
fn cancel(graph: &Graph, a: &SymExpr, b: &SymExpr) -> (SymExpr, SymExpr) {
    let (mut a, mut b) = (a.clone(), b.clone());
    let gcd = |mut x: u64, mut y: u64| {
        while y != 0 {
            (x, y) = (y, x % y);
        }
        x
    };
    let content = |e: &SymExpr| match e.view() {
        View::Const(c) => c.unsigned_abs(),
        View::Sum(terms, c) => terms.iter().fold(c.unsigned_abs(), |g, (k, _)| gcd(g, k.unsigned_abs())),
        View::Overflow => 1,
    };
    if let Ok(common @ 2..) = i64::try_from(gcd(content(&a), content(&b))) {
        let common = SymExpr::from(common);
        (a, b) = (a.div(&common), b.div(&common));
    }
    let View::Sum(terms, 0) = a.view() else { return (a, b) };
    let mut factors = terms.first().map(|(_, atoms)| atoms.clone()).unwrap_or_default();
    while let Some(f) = factors.pop() {
        let Atom::Sym(name) = &f else { continue };
        let symbol = SymExpr::sym(name.clone());
        let in_all = |e: &SymExpr| match e.view() {
            View::Sum(terms, 0) => terms.iter().all(|(_, atoms)| atoms.contains(&f)),
            _ => false,
        };
        if graph.bounds(&symbol).0 > 0 && in_all(&a) && in_all(&b) {
            (a, b) = (a.div(&symbol), b.div(&symbol));
        }
    }
    (a, b)
}

/// Dtype of the numbers that a value stands for.
fn real_dtype(t: &TensorType) -> DType {
    t.quant.as_ref().map_or(t.dtype, |q| q.expressed)
}

type Types = Result<Vec<TensorType>, TypeFault>;

/// The node whose types are inferred.
struct Cx<'a> {
    graph: &'a Graph,
    op: &'a Op,
    operands: &'a [&'a TensorType],
    regions: &'a [Graph],
    assumed: Assumptions,
}

/// Sets of dtypes that ops take.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Want {
    Any,
    Float,
    Int,
    Number,
    NumberOrComplex,
    Bool,
    BoolOrInt,
}

impl Want {
    fn takes(self, d: DType) -> bool {
        match self {
            Want::Any => true,
            Want::Float => d.is_float(),
            Want::Int => d.is_int(),
            Want::Number => d.is_float() || d.is_int(),
            Want::NumberOrComplex => d.is_float() || d.is_int() || d.kind() == Kind::Complex,
            Want::Bool => d == DType::Bool,
            Want::BoolOrInt => d == DType::Bool || d.is_int(),
        }
    }
    fn words(self) -> &'static str {
        match self {
            Want::Any => "any dtype",
            Want::Float => "a floating-point dtype",
            Want::Int => "an integer dtype",
            Want::Number => "a floating-point or integer dtype",
            Want::NumberOrComplex => "a floating-point, integer or complex dtype",
            Want::Bool => "bool",
            Want::BoolOrInt => "bool or an integer dtype",
        }
    }
}

impl<'a> Cx<'a> {
    fn types(&mut self) -> Types {
        let op: &'a Op = self.op;
        if !matches!(op, Op::If {} | Op::Loop { .. } | Op::Fusion { .. }) && !self.regions.is_empty() {
            return Err(self.fail(Code::BAD_ARITY, format!("found {} regions, expected none", self.regions.len())));
        }
        if !matches!(op, Op::If {} | Op::Loop { .. } | Op::Fusion { .. } | Op::Contract { .. } | Op::Conv { .. } | Op::ConvLast { .. })
            && let Some(i) = self.operands.iter().position(|t| t.quant.is_some())
        {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("operand {i} is a quantized value, expected a plain tensor")));
        }
        let takes_lists = matches!(op, Op::Host { .. } | Op::Handle { .. } | Op::If {} | Op::Loop { .. } | Op::Fusion { .. });
        if let Some(i) = self.operands.iter().position(|t| t.dtype == DType::List && !takes_lists) {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("operand {i} is {}, expected a tensor", self.operands[i])));
        }
        match op {
            Op::Unary(u) => self.unary(*u),
            Op::Binary(b) => self.binary(*b),
            Op::Select {} => self.select(),
            Op::Cast { to, .. } => self.cast(*to),
            Op::Bitcast { to } => self.bitcast(*to),
            Op::Weight { .. }
            | Op::Const { .. }
            | Op::Fill { .. }
            | Op::Iota { .. }
            | Op::DimTensor { .. }
            | Op::RandomUniform { .. }
            | Op::Bind { .. } => self.source(),
            Op::Reduce { op, axes, keep } => self.reduce(*op, axes, *keep),
            Op::ArgReduce { axis, keep, .. } => self.arg_reduce(*axis, *keep),
            Op::Scan { op, axis, .. } => self.scan(*op, *axis),
            Op::TopK { axis, k, .. } => self.top_k(*axis, k),
            Op::Contract { spec, acc, out } => self.contract(spec, *acc, *out),
            Op::ContractBlocks { block, groups, .. } => self.contract_blocks(*block, *groups),
            Op::ContractScaled { block, out, .. } => self.contract_scaled(*block, *out),
            Op::ContractPanels { columns, bits, block, groups, .. } => self.contract_panels(*columns, *bits, *block, *groups),
            Op::ContractGroups { acc, out } => self.contract_groups(*acc, *out),
            Op::GroupRows { groups } => self.group_rows(*groups),
            Op::Conv { strides, dilations, pads, groups } => self.conv(strides, dilations, pads, *groups),
            Op::ConvLast { channels, strides, dilations, pads, groups, planar, depth, out } => {
                self.conv_last((*channels, *groups), strides, dilations, pads, (*planar, *depth), *out)
            }
            Op::WinogradInput { pads } => self.winograd_input(pads),
            Op::WinogradOutput { dims } => self.winograd_output(dims),
            Op::Pool { op, kernel, strides, dilations, pads, dims, channels_last, .. } => {
                self.pool(*op, kernel, strides, dilations, pads, dims, *channels_last)
            }
            Op::Gather { axis } => self.gather(*axis),
            Op::GatherElements { axis } => self.gather_elements(*axis),
            Op::GatherNd { batch } => self.gather_nd(*batch),
            Op::ScatterElements { axis, op } => self.scatter_elements(*axis, *op),
            Op::ScatterNd { op } => self.scatter_nd(*op),
            Op::NonZero { count } => self.non_zero(count),
            Op::Reshape { dims } => self.reshape(dims),
            Op::Transpose { perm } => self.transpose(perm),
            Op::Broadcast { dims } => self.broadcast(dims),
            Op::Slice { starts, steps, dims } => self.slice(starts, steps, dims),
            Op::Pad { mode, low, high, interior } => self.pad(*mode, low, high, interior),
            Op::Concat { axis } => self.concat(*axis),
            Op::If {} => self.if_(),
            Op::Loop { carried, trips } => self.loop_(*carried, trips),
            Op::Fusion { .. } => self.fusion(),
            Op::Host { .. } => self.host(),
            Op::Handle { to, list } => self.handle(*to, list.as_ref()),
            Op::Quantize { to, axis, block, .. } => self.quantize(*to, *axis, *block),
            Op::Dequantize { to, axis, block } => self.dequantize(*to, *axis, *block),
            Op::Quantized { quant } => self.quantized(quant),
            Op::Softmax { axis } | Op::LogSoftmax { axis } => self.softmax(*axis),
            Op::LayerNorm { axis, .. } => self.norm(*axis, 3),
            Op::RmsNorm { axis, .. } => self.norm(*axis, 2),
            Op::Gelu { .. } | Op::Silu {} | Op::HardSwish {} => {
                self.arity(1, 1)?;
                self.want(0, Want::Float)?;
                Ok(vec![self.operands[0].clone()])
            }
            Op::Attention { has_mask, has_offset, .. } => self.attention(*has_mask, *has_offset),
            Op::AttentionParts { part, has_mask, has_offset, .. } => self.attention_parts(*part, *has_mask, *has_offset),
            Op::MergeParts { to } => self.merge_parts(*to),
            Op::Rotary { rotary_dims, .. } => self.rotary(rotary_dims),
            Op::Lstm { direction } => self.recurrent(*direction, 4),
            Op::Gru { direction, .. } => self.recurrent(*direction, 3),
            Op::LstmSteps { direction, depth } => self.steps(*direction, 4, *depth),
            Op::GruSteps { direction, depth, .. } => self.steps(*direction, 3, *depth),
            Op::LstmByteSteps { direction, group } => self.byte_steps(*direction, *group),
            Op::Resize { dims, mode, coords, nearest, scales, .. } => self.resize(dims, mode, coords, nearest, scales),
        }
    }

    // ---- faults and checks ----

    /// A fault that shows the op with the type of each operand.
    fn fail(&self, code: Code, message: impl AsRef<str>) -> TypeFault {
        let types: Vec<String> = self.operands.iter().map(|t| t.to_string()).collect();
        TypeFault::new(code, format!("{}({}): {}", self.op.mnemonic(), types.join(", "), message.as_ref()))
    }
    /// Which dims of operands these are, as far as they are some.
    fn places(&self, dims: &[&SymExpr]) -> Vec<(usize, usize)> {
        let place = |d: &&SymExpr| {
            let of = |t: &TensorType| t.dims.iter().position(|x| std::ptr::eq(x, *d));
            self.operands.iter().enumerate().find_map(|(i, t)| Some((i, of(t)?)))
        };
        dims.iter().filter_map(place).collect()
    }
    fn arity(&self, least: usize, most: usize) -> Result<(), TypeFault> {
        let n = self.operands.len();
        if (least..=most).contains(&n) {
            return Ok(());
        }
        let expected = match (least, most) {
            (a, b) if a == b => a.to_string(),
            (a, usize::MAX) => format!("at least {a}"),
            (a, b) => format!("{a} to {b}"),
        };
        Err(self.fail(Code::BAD_ARITY, format!("found {n} operands, expected {expected}")))
    }
    /// Checks the dtype of an operand.
    fn want(&self, operand: usize, want: Want) -> Result<(), TypeFault> {
        let t = self.operands[operand];
        let ok = want.takes(real_dtype(t));
        if ok {
            Ok(())
        } else {
            Err(self.fail(Code::DTYPE_MISMATCH, format!("operand {operand} is {}, expected {}", t.dtype, want.words())))
        }
    }
    /// Checks that two operands stand for the same dtype.
    fn same_dtype(&self, a: usize, b: usize) -> Result<(), TypeFault> {
        let (x, y) = (real_dtype(self.operands[a]), real_dtype(self.operands[b]));
        if x == y {
            return Ok(());
        }
        Err(self.fail(Code::DTYPE_MISMATCH, format!("operand {a} is {x} and operand {b} is {y}, expected one dtype")))
    }
    fn want_rank(&self, operand: usize, rank: usize) -> Result<(), TypeFault> {
        let found = self.operands[operand].rank();
        if found == rank {
            return Ok(());
        }
        Err(self.fail(Code::SHAPE_MISMATCH, format!("operand {operand} has rank {found}, expected {rank}")))
    }
    fn want_scalar(&self, operand: usize, dtype: DType) -> Result<(), TypeFault> {
        let t = self.operands[operand];
        if t.dtype == dtype && t.dims.is_empty() && t.quant.is_none() {
            return Ok(());
        }
        let code = if t.dtype == dtype { Code::SHAPE_MISMATCH } else { Code::DTYPE_MISMATCH };
        Err(self.fail(code, format!("operand {operand} is {t}, expected {dtype}[]")))
    }
    fn axis(&self, axis: u32, rank: usize) -> Result<usize, TypeFault> {
        let a = axis as usize;
        if a < rank { Ok(a) } else { Err(self.fail(Code::BAD_ATTRIBUTE, format!("axis is {axis}, expected less than the rank {rank}"))) }
    }
    fn len(&self, name: &str, found: usize, expected: usize) -> Result<(), TypeFault> {
        if found == expected {
            return Ok(());
        }
        Err(self.fail(Code::BAD_ATTRIBUTE, format!("`{name}` has {found} entries, expected {expected}")))
    }
    fn positive(&self, name: &str, values: &[i64]) -> Result<(), TypeFault> {
        match values.iter().find(|v| **v < 1) {
            None => Ok(()),
            Some(v) => Err(self.fail(Code::BAD_ATTRIBUTE, format!("`{name}` has {v}, expected 1 or more"))),
        }
    }
    /// Takes two dims as equal, or says what they are dims of; returns the static one if there is one, else the first.
    fn equal(&mut self, a: &SymExpr, b: &SymExpr, what: impl FnOnce() -> String) -> Result<SymExpr, TypeFault> {
        if a == b {
            return Ok(a.clone());
        }
        if !may_be_equal(self.graph, a, b) {
            let fault = self.fail(Code::SHAPE_MISMATCH, format!("{}: found {a} and {b}, expected equal dims", what()));
            return Err(TypeFault { apart: self.places(&[a, b]), ..fault });
        }
        let given = cancel(self.graph, a, b);
        if given.0 != given.1 {
            self.assumed.push(given);
        }
        Ok(if a.as_const().is_none() && b.as_const().is_some() { b.clone() } else { a.clone() })
    }
    /// Whether `a <= b` for all values of the symbols.
    fn never_above(&self, a: &SymExpr, b: &SymExpr) -> bool {
        (b - a).never_negative(&|s| self.graph.symbol(s).map(|s| (s.lo, s.hi)))
    }
    /// Takes `a <= b` as given where it is not proven.
    fn at_most(&mut self, a: &SymExpr, b: &SymExpr, what: impl FnOnce() -> String) -> Result<(), TypeFault> {
        if self.never_above(a, b) {
            return Ok(());
        }
        let least = a.minimum(b);
        if least.is_overflowed() || self.graph.bounds(&(b - a)).1 < 0 {
            return Err(self.fail(Code::BAD_DIM, format!("{}: found {a}, expected at most {b}", what())));
        }
        self.assumed.push((least, a.clone()));
        Ok(())
    }
    /// Checks that each of `values` counts at least `least` and at most [`MAX_REACH`] elements.
    fn reach(&self, name: &str, values: &[i64], least: i64) -> Result<(), TypeFault> {
        match values.iter().find(|v| !(least..=MAX_REACH).contains(*v)) {
            None => Ok(()),
            Some(v) => Err(self.fail(Code::BAD_ATTRIBUTE, format!("`{name}` has {v}, expected {least} to {MAX_REACH}"))),
        }
    }
    /// Checks that steps through a tensor lead to offsets that can be computed: a tensor whose dims are as long as the steps within them
    /// (`steps`, from dim `first` on) is no larger than tensors may be.
    fn offsets(&self, t: &TensorType, first: usize, steps: &[i64]) -> Result<(), TypeFault> {
        let mut elems: i128 = 1;
        for (i, d) in t.dims.iter().enumerate() {
            let step = i.checked_sub(first).and_then(|i| steps.get(i)).map_or(1, |s| s.unsigned_abs());
            elems = elems.saturating_mul(i128::from(self.graph.bounds(d).0).max(i128::from(step)));
        }
        if elems <= i128::from(MAX_ELEMS) {
            return Ok(());
        }
        let m = format!("steps of {steps:?} through {t} lead to offsets of more than 2^48 elements");
        Err(self.fail(Code::SIZE_OVERFLOW, m))
    }
    /// Takes two lists of dims as equal.
    fn equal_dims(&mut self, a: &[SymExpr], b: &[SymExpr], what: &str) -> Result<Dims, TypeFault> {
        if a.len() != b.len() {
            let m = format!("{what}: found rank {} and rank {}, expected equal dims", a.len(), b.len());
            return Err(self.fail(Code::SHAPE_MISMATCH, m));
        }
        a.iter().zip(b).enumerate().map(|(i, (x, y))| self.equal(x, y, || format!("{what}, dim {i}"))).collect()
    }
    /// Broadcasts operands and records what that assumes.
    fn broadcast_operands(&mut self, which: &[usize]) -> Result<Dims, TypeFault> {
        let parts: Vec<&Dims> = which.iter().map(|&i| &self.operands[i].dims).collect();
        let (dims, assumed) = broadcast_dims(self.graph, &parts).map_err(|f| {
            let apart = f.apart.iter().filter_map(|&(part, axis)| Some((*which.get(part)?, axis))).collect();
            TypeFault { apart, ..self.fail(f.code, f.message) }
        })?;
        self.assumed.extend(assumed);
        Ok(dims)
    }
    /// Checks that `part` broadcasts to `whole` without changing it.
    fn broadcasts_to(&mut self, part: &[SymExpr], whole: &[SymExpr], what: &str) -> Result<(), TypeFault> {
        if part.len() > whole.len() {
            let m = format!("{what} has rank {}, expected at most {}", part.len(), whole.len());
            return Err(self.fail(Code::SHAPE_MISMATCH, m));
        }
        for (i, (p, w)) in part.iter().rev().zip(whole.iter().rev()).enumerate() {
            if !p.is(1) {
                self.equal(p, w, || format!("{what}, axis {} from the end", i + 1))?;
            }
        }
        Ok(())
    }
    /// Checks that a type has a size: dims in range, at most [`MAX_ELEMS`] elements.
    fn check_size(&self, t: &TensorType, result: usize) -> Result<(), TypeFault> {
        let mut elems: i128 = 1;
        for (i, d) in t.dims.iter().enumerate() {
            let (lo, hi) = self.graph.bounds(d);
            if d.is_overflowed() {
                let m = format!("dim {i} of result {result} leaves the range of 64-bit integers or is too large an expression");
                return Err(self.fail(Code::SIZE_OVERFLOW, m));
            }
            if hi < 0 {
                return Err(self.fail(Code::BAD_DIM, format!("dim {i} of result {result} is {d}, expected 0 or more")));
            }
            elems = elems.saturating_mul(i128::from(lo.max(0)));
        }
        if elems > i128::from(MAX_ELEMS) {
            let m = format!("result {result} is {t}, which has more than 2^48 elements");
            return Err(self.fail(Code::SIZE_OVERFLOW, m));
        }
        if t.dims.iter().any(|d| d.as_const().is_none()) && t.elems().is_overflowed() && !t.dims.iter().any(|d| d.is(0)) {
            return Err(self.fail(
                Code::SIZE_OVERFLOW,
                format!("result {result} is {t}, whose size leaves the range of 64-bit integers or is too large an expression"),
            ));
        }
        Ok(())
    }

    // ---- sources and symbols ----

    fn source(&mut self) -> Types {
        if let Op::Bind { symbols } = self.op {
            return self.bind(symbols.len());
        }
        self.arity(0, 0)?;
        let t = match self.op {
            Op::Weight { weight } => {
                let Some(w) = self.graph.weights().get(*weight) else {
                    return Err(self.fail(Code::BAD_ATTRIBUTE, format!("no weight {weight:?} in the graph")));
                };
                if w.elems().is_none() {
                    return Err(self.fail(Code::BAD_DIM, format!("weight {:?} has dims {:?}, expected 0 or more each", w.name, w.dims)));
                }
                TensorType::fixed(w.dtype, &w.dims)
            }
            Op::Const { value } => {
                let elems = value.dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?));
                let expected = elems.and_then(|n| value.dtype.bytes_for(n));
                if expected != Some(value.bytes.len() as u64) || value.dtype == DType::List {
                    let m = format!("{} bytes do not fit {}{:?}", value.bytes.len(), value.dtype, value.dims);
                    return Err(self.fail(Code::BAD_TENSOR, m));
                }
                TensorType::fixed(value.dtype, &value.dims)
            }
            Op::Fill { value, dims } => TensorType::new(value.dtype, dims.clone()),
            Op::Iota { dtype, axis, dims } => {
                self.axis(*axis, dims.len())?;
                if !Want::Number.takes(*dtype) {
                    let m = format!("`dtype` is {dtype}, expected {}", Want::Number.words());
                    return Err(self.fail(Code::DTYPE_MISMATCH, m));
                }
                TensorType::new(*dtype, dims.clone())
            }
            Op::DimTensor { values, dtype, scalar } => {
                if !dtype.is_int() {
                    return Err(self.fail(Code::DTYPE_MISMATCH, format!("`dtype` is {dtype}, expected {}", Want::Int.words())));
                }
                if values.iter().any(SymExpr::is_overflowed) {
                    return Err(
                        self.fail(Code::SIZE_OVERFLOW, "an element leaves the range of 64-bit integers or is too large an expression")
                    );
                }
                if *scalar {
                    self.len("values", values.len(), 1)?;
                    TensorType::new(*dtype, Dims::new())
                } else {
                    TensorType::new(*dtype, vec![SymExpr::from_usize(values.len())])
                }
            }
            Op::RandomUniform { dtype, low, high, dims, .. } => {
                if !dtype.is_float() || low.dtype != *dtype || high.dtype != *dtype {
                    let m = format!("found dtype {dtype}, low {}, high {}, expected one floating-point dtype", low.dtype, high.dtype);
                    return Err(self.fail(Code::DTYPE_MISMATCH, m));
                }
                TensorType::new(*dtype, dims.clone())
            }
            _ => return Err(self.fail(Code::INTERNAL, "not a source")),
        };
        Ok(vec![t])
    }
    fn bind(&mut self, symbols: usize) -> Types {
        self.arity(1, 1)?;
        self.want(0, Want::Int)?;
        let t = self.operands[0];
        match t.dims.as_slice() {
            [] if symbols == 1 => {}
            [d] => {
                self.equal(d, &SymExpr::from_usize(symbols), || "elements and symbols".into())?;
            }
            _ => return Err(self.fail(Code::SHAPE_MISMATCH, format!("expected an integer tensor of {symbols} elements, of rank 0 or 1"))),
        }
        Ok(Vec::new())
    }

    // ---- elementwise and reductions ----

    fn unary(&mut self, u: super::UnaryOp) -> Types {
        use super::UnaryOp::*;
        self.arity(1, 1)?;
        let want = match u {
            Neg => Want::NumberOrComplex,
            Abs | Sign => Want::Number,
            Not => Want::BoolOrInt,
            _ => Want::Float,
        };
        self.want(0, want)?;
        let t = self.operands[0];
        Ok(vec![if u.is_predicate() { t.with_dtype(DType::Bool) } else { t.clone() }])
    }
    fn binary(&mut self, b: super::BinaryOp) -> Types {
        use super::BinaryOp::*;
        self.arity(2, 2)?;
        let want = match b {
            Add | Sub | Mul | Div => Want::NumberOrComplex,
            Mod | Rem | Pow | Min | Max | Lt | Le | Gt | Ge => Want::Number,
            And | Or | Xor => Want::BoolOrInt,
            Shl | Shr => Want::Int,
            Eq | Ne => Want::Any,
        };
        self.want(0, want)?;
        self.same_dtype(0, 1)?;
        let dims = self.broadcast_operands(&[0, 1])?;
        Ok(vec![TensorType::new(if b.is_compare() { DType::Bool } else { self.operands[0].dtype }, dims)])
    }
    fn select(&mut self) -> Types {
        self.arity(3, 3)?;
        self.want(0, Want::Bool)?;
        self.same_dtype(1, 2)?;
        let dims = self.broadcast_operands(&[0, 1, 2])?;
        Ok(vec![TensorType::new(self.operands[1].dtype, dims)])
    }
    fn cast(&mut self, to: DType) -> Types {
        self.arity(1, 1)?;
        let from = self.operands[0].dtype;
        let plain = |d: DType| !matches!(d.kind(), Kind::Complex | Kind::Handle);
        if from != to && !(plain(from) && plain(to)) && !(from.kind() == Kind::Complex && to.kind() == Kind::Complex) {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("there is no conversion from {from} to {to}")));
        }
        Ok(vec![self.operands[0].with_dtype(to)])
    }
    fn bitcast(&mut self, to: DType) -> Types {
        self.arity(1, 1)?;
        let from = self.operands[0].dtype;
        if from.bits() != to.bits() || from.is_handle() || to.is_handle() {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("{from} has {} bits and {to} has {}", from.bits(), to.bits())));
        }
        Ok(vec![self.operands[0].with_dtype(to)])
    }
    fn reduce(&mut self, op: ReduceOp, axes: &[u32], keep: bool) -> Types {
        self.arity(1, 1)?;
        self.want(0, if matches!(op, ReduceOp::Any | ReduceOp::All) { Want::Bool } else { Want::Number })?;
        let t = self.operands[0];
        if axes.windows(2).any(|w| w[0] >= w[1]) || axes.last().is_some_and(|&a| a as usize >= t.rank()) {
            let m = format!("axes are {axes:?}, expected sorted, unique and less than the rank {}", t.rank());
            return Err(self.fail(Code::BAD_ATTRIBUTE, m));
        }
        Ok(vec![TensorType::new(t.dtype, reduced(&t.dims, axes, keep))])
    }
    fn arg_reduce(&mut self, axis: u32, keep: bool) -> Types {
        self.arity(1, 1)?;
        self.want(0, Want::Number)?;
        let t = self.operands[0];
        let a = self.axis(axis, t.rank())?;
        if t.dims[a].is(0) {
            return Err(self.fail(Code::BAD_DIM, format!("dim {a} is 0, so there is no extreme element")));
        }
        Ok(vec![TensorType::new(DType::I64, reduced(&t.dims, &[axis], keep))])
    }
    fn scan(&mut self, op: ReduceOp, axis: u32) -> Types {
        self.arity(1, 1)?;
        self.want(0, Want::Number)?;
        if !matches!(op, ReduceOp::Sum | ReduceOp::Prod) {
            return Err(self.fail(Code::BAD_ATTRIBUTE, format!("`op` is {}, expected sum or prod", op.name())));
        }
        self.axis(axis, self.operands[0].rank())?;
        Ok(vec![self.operands[0].clone()])
    }
    fn top_k(&mut self, axis: u32, k: &SymExpr) -> Types {
        self.arity(1, 1)?;
        self.want(0, Want::Number)?;
        let t = self.operands[0];
        let a = self.axis(axis, t.rank())?;
        if self.graph.bounds(&(k - &t.dims[a])).0 > 0 {
            return Err(self.fail(Code::BAD_ATTRIBUTE, format!("k is {k}, expected at most {}, the size of dim {a}", t.dims[a])));
        }
        self.at_most(k, &t.dims[a], || format!("k of dim {a}"))?;
        let mut dims = t.dims.clone();
        dims[a] = k.clone();
        Ok(vec![TensorType::new(t.dtype, dims.clone()), TensorType::new(DType::I64, dims)])
    }
}

/// Dims without those of `axes` (sorted), or with 1 in their place.
fn reduced(dims: &[SymExpr], axes: &[u32], keep: bool) -> Dims {
    let is_reduced = |i: usize| axes.binary_search(&(i as u32)).is_ok();
    dims.iter()
        .enumerate()
        .filter(|(i, _)| keep || !is_reduced(*i))
        .map(|(i, d)| if is_reduced(i) { 1.into() } else { d.clone() })
        .collect()
}
