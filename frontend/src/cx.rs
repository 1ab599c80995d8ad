// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an importer works with: the node's inputs and attributes, and short forms for adding ops.

use std::rc::Rc;
use std::sync::Arc;

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::graph::{
    BinaryOp, Dims, Graph, HostOp, ListType, Literal, Op, Origin, PadMode, ReduceOp, Scalar, SymSource, TensorType, UnaryOp, ValueId,
};
use portwright_ir::numerics;
use portwright_ir::sym::{SymExpr, SymName};
use smallvec::SmallVec;

use crate::fault::Fault;
use crate::import::Importer;
use crate::model::{AttrValue, GraphDef, NodeDef, TensorData, TensorDef, TypeDef, dtype_of};
use crate::scope::{Env, Frame, Slot};

/// Result of importing, or of a step of it.
pub type Res<T> = Result<T, Fault>;

/// Lists of more elements than this are never bound to symbols.
const MAX_BOUND: i64 = 64;

/// Elements of an integer tensor as expressions, if they are known.
pub fn elements(f: &mut Frame, v: ValueId) -> Option<Vec<SymExpr>> {
    if let Some(value) = f.graph.as_literal(v).filter(|l| l.dtype.is_int() || l.dtype == DType::Bool) {
        return Some(value.to_i64s()?.into_iter().map(SymExpr::from).collect());
    }
    f.sym.get(&f.graph, v).map(|e| e.to_vec())
}

/// The source op that has the elements of `v`, if they are known.
pub fn dim_tensor(f: &mut Frame, v: ValueId) -> Option<Op> {
    let ty = f.graph.ty(v).clone();
    if !ty.dtype.is_int() || ty.rank() > 1 {
        return None;
    }
    let values = elements(f, v)?;
    Some(Op::DimTensor { values, dtype: ty.dtype, scalar: ty.rank() == 0 })
}

/// A host operation to be added.
pub struct HostCall {
    /// Which one.
    pub op: HostOp,
    /// Its numbers.
    pub params: Vec<i64>,
    /// What it takes.
    pub operands: Vec<ValueId>,
    /// Dtypes and dims of its results.
    pub gives: Vec<(DType, Dims)>,
    /// Dims that it finds.
    pub symbols: Vec<SymName>,
    /// Type of the list among its results.
    pub list: Option<ListType>,
}

impl HostCall {
    /// An operation of one result, without params and symbols.
    pub fn new(op: HostOp, operands: &[ValueId], dtype: DType, dims: Dims) -> Self {
        HostCall { op, params: Vec::new(), operands: operands.to_vec(), gives: vec![(dtype, dims)], symbols: Vec::new(), list: None }
    }
}

/// A node being imported.
pub struct Cx<'a, 'm> {
    pub(crate) imp: &'a mut Importer<'m>,
    pub(crate) node: &'m NodeDef,
    /// Version of the operator set.
    pub version: i64,
    /// Path of the node.
    pub path: Arc<str>,
    /// Inputs.
    pub slots: SmallVec<[Slot; 4]>,
    pub(crate) env: Rc<Env<'m>>,
}

impl<'m> Cx<'_, 'm> {
    // ---- inputs ----

    /// Input `i`, which must be given.
    pub fn input(&self, i: usize) -> Res<ValueId> {
        match self.slots.get(i) {
            Some(Slot::Value(v)) => Ok(*v),
            Some(Slot::Poison) => Err(Fault::follows()),
            Some(Slot::List(..)) => Err(Fault::form(format!("input {i} is a sequence, expected a tensor"))),
            Some(Slot::Absent) | None => Err(Fault::new(Code::BAD_ARITY, format!("input {i} is missing"))),
        }
    }
    /// Input `i`, if it is given.
    pub fn opt(&self, i: usize) -> Res<Option<ValueId>> {
        match self.slots.get(i) {
            None | Some(Slot::Absent) => Ok(None),
            _ => self.input(i).map(Some),
        }
    }
    /// All inputs, each of which must be given.
    pub fn all_inputs(&self) -> Res<Vec<ValueId>> {
        (0..self.slots.len()).map(|i| self.input(i)).collect()
    }
    /// Whether output `i` is wanted.
    pub fn wants(&self, i: usize) -> bool {
        self.node.outputs.get(i).is_some_and(|n| !n.is_empty())
    }

    // ---- attributes ----

    /// An attribute with references of function bodies resolved.
    pub fn attr(&self, name: &str) -> Option<&'m AttrValue> {
        let a = self.node.attrs.iter().find(|a| a.name == name)?;
        match &a.value {
            AttrValue::Ref(r) => self.env.get(r.as_str()).copied(),
            v => Some(v),
        }
    }
    fn wrong<T>(&self, name: &str, expected: &str, found: &AttrValue) -> Res<T> {
        Err(Fault::attr(format!("attribute `{name}` is {}, expected {expected}", found.kind())))
    }
    /// An integer attribute.
    pub fn int_opt(&self, name: &str) -> Res<Option<i64>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Int(v)) => Ok(Some(*v)),
            Some(other) => self.wrong(name, "an integer", other),
        }
    }
    /// An integer attribute with a default.
    pub fn int(&self, name: &str, default: i64) -> Res<i64> {
        Ok(self.int_opt(name)?.unwrap_or(default))
    }
    /// An integer attribute that must be given.
    pub fn need_int(&self, name: &str) -> Res<i64> {
        self.int_opt(name)?.ok_or_else(|| Fault::attr(format!("attribute `{name}` is missing")))
    }
    /// A truth value.
    pub fn flag(&self, name: &str, default: bool) -> Res<bool> {
        Ok(self.int(name, default.into())? != 0)
    }
    /// A number.
    pub fn float_opt(&self, name: &str) -> Res<Option<f64>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Float(v)) => Ok(Some(f64::from(*v))),
            Some(AttrValue::Int(v)) => Ok(Some(*v as f64)),
            Some(other) => self.wrong(name, "a number", other),
        }
    }
    /// A number with a default.
    pub fn float(&self, name: &str, default: f64) -> Res<f64> {
        Ok(self.float_opt(name)?.unwrap_or(default))
    }
    /// A list of integers.
    pub fn ints(&self, name: &str) -> Res<Option<Vec<i64>>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Ints(v)) => Ok(Some(v.clone())),
            Some(AttrValue::Int(v)) => Ok(Some(vec![*v])),
            // An empty list has no kind in old files.
            Some(AttrValue::Floats(v)) if v.is_empty() => Ok(Some(Vec::new())),
            Some(other) => self.wrong(name, "a list of integers", other),
        }
    }
    /// A list of numbers.
    pub fn floats(&self, name: &str) -> Res<Option<Vec<f64>>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Floats(v)) => Ok(Some(v.iter().map(|v| f64::from(*v)).collect())),
            Some(other) => self.wrong(name, "a list of numbers", other),
        }
    }
    /// A text.
    pub fn text_opt(&self, name: &str) -> Res<Option<&'m str>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Str(v)) => {
                std::str::from_utf8(v).map(Some).map_err(|_| Fault::attr(format!("attribute `{name}` is not UTF-8")))
            }
            Some(other) => self.wrong(name, "text", other),
        }
    }
    /// A text with a default.
    pub fn text(&self, name: &str, default: &'m str) -> Res<&'m str> {
        Ok(self.text_opt(name)?.unwrap_or(default))
    }
    /// A list of texts.
    pub fn texts(&self, name: &str) -> Res<Option<Vec<&'m str>>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Strs(v)) => {
                let read = |s: &'m Vec<u8>| std::str::from_utf8(s).map_err(|_| Fault::attr(format!("attribute `{name}` is not UTF-8")));
                v.iter().map(read).collect::<Res<Vec<_>>>().map(Some)
            }
            Some(other) => self.wrong(name, "a list of texts", other),
        }
    }
    /// A tensor.
    pub fn tensor(&self, name: &str) -> Res<Option<&'m TensorDef>> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Tensor(t)) => Ok(Some(t)),
            Some(other) => self.wrong(name, "a tensor", other),
        }
    }
    /// Elements of a tensor attribute as numbers.
    pub fn tensor_numbers(&mut self, name: &str) -> Res<Option<Vec<f64>>> {
        let Some(t) = self.tensor(name)? else { return Ok(None) };
        let t = crate::tensor::check(t, &mut self.imp.external)?;
        let bytes = t.bytes().ok_or_else(|| Fault::form(format!("attribute `{name}` has its data in another file")))?;
        let elems = t.dims.iter().product::<i64>();
        Ok(Some((0..elems as usize).map(|i| numerics::decode_f64(t.dtype, numerics::get(bytes, t.dtype, i))).collect()))
    }
    /// A subgraph that must be given.
    pub fn subgraph(&self, name: &str) -> Res<&'m GraphDef> {
        match self.attr(name) {
            Some(AttrValue::Graph(g)) => Ok(g),
            Some(other) => self.wrong(name, "a graph", other),
            None => Err(Fault::attr(format!("attribute `{name}` is missing"))),
        }
    }
    /// A dtype given by its ONNX number; 0 counts as not given.
    pub fn dtype_attr(&self, name: &str) -> Res<Option<DType>> {
        match self.int_opt(name)? {
            None | Some(0) => Ok(None),
            Some(n) => match i32::try_from(n).ok().and_then(dtype_of) {
                Some(d) => Ok(Some(d)),
                None => Err(Fault::attr(format!("attribute `{name}` is {n}, which is no dtype of ONNX"))),
            },
        }
    }

    // ---- the graph ----

    /// The graph under construction.
    pub fn g(&self) -> &Graph {
        // There is always a frame while nodes are imported.
        &self.imp.frames[self.imp.frames.len() - 1].graph
    }
    /// The graph under construction.
    pub fn g_mut(&mut self) -> &mut Graph {
        let top = self.imp.frames.len() - 1;
        &mut self.imp.frames[top].graph
    }
    /// Type of a value.
    pub fn ty(&self, v: ValueId) -> &TensorType {
        self.g().ty(v)
    }
    /// Dtype of a value.
    pub fn dtype(&self, v: ValueId) -> DType {
        self.ty(v).dtype
    }
    /// Dims of a value.
    pub fn dims(&self, v: ValueId) -> Dims {
        self.ty(v).dims.clone()
    }
    /// Rank of a value.
    pub fn rank(&self, v: ValueId) -> usize {
        self.ty(v).rank()
    }
    /// Dim `i` of a value.
    ///
    /// # Errors
    /// The rank is too small.
    pub fn dim(&self, v: ValueId, i: usize) -> Res<SymExpr> {
        let ty = self.ty(v);
        ty.dims.get(i).cloned().ok_or_else(|| Fault::shape(format!("{ty} has no dim {i}")))
    }
    /// Checks the rank of a value.
    pub fn want_rank(&self, v: ValueId, rank: std::ops::RangeInclusive<usize>) -> Res<usize> {
        let r = self.rank(v);
        if rank.contains(&r) {
            return Ok(r);
        }
        let expected = if rank.start() == rank.end() {
            rank.start().to_string()
        } else if *rank.end() == usize::MAX {
            format!("{} or more", rank.start())
        } else {
            format!("{} to {}", rank.start(), rank.end())
        };
        Err(Fault::shape(format!("an input is {}, expected rank {expected}", self.ty(v))))
    }
    /// An axis that may count from the end.
    pub fn axis_of(&self, axis: i64, rank: usize) -> Res<usize> {
        let a = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(a).ok().filter(|a| *a < rank).ok_or_else(|| Fault::attr(format!("axis {axis} is outside of rank {rank}")))
    }
    /// Axes that may count from the end, sorted and unique.
    pub fn axes_of(&self, axes: &[i64], rank: usize) -> Res<Vec<u32>> {
        let mut out = axes.iter().map(|&a| self.axis_of(a, rank).map(|a| a as u32)).collect::<Res<Vec<_>>>()?;
        out.sort_unstable();
        if out.windows(2).any(|w| w[0] == w[1]) {
            return Err(Fault::attr(format!("axes {axes:?} name a dim twice")));
        }
        Ok(out)
    }
    /// The attribute `axis`, which may count from the end of `v`.
    pub fn axis(&self, v: ValueId, default: i64) -> Res<usize> {
        self.axis_of(self.int("axis", default)?, self.rank(v))
    }
    /// Elements of an integer tensor as expressions, if they are known.
    pub fn elements(&mut self, v: ValueId) -> Option<Vec<SymExpr>> {
        let top = self.imp.frames.len() - 1;
        let f = &mut self.imp.frames[top];
        elements(f, v).or_else(|| {
            // A long list of integers is a weight until an operator is shaped by it.
            let w = f.graph.weight(f.graph.as_weight(v)?);
            let bytes = w.bytes().filter(|b| b.len() as u64 <= crate::tensor::CONST_BYTES)?;
            Some(crate::tensor::ints(w.dtype, bytes)?.into_iter().map(SymExpr::from).collect())
        })
    }
    /// As [`elements`](Self::elements), with `None` for elements that are not known.
    pub fn partial(&mut self, v: ValueId) -> Option<Vec<Option<SymExpr>>> {
        if let Some(e) = self.elements(v) {
            return Some(e.into_iter().map(Some).collect());
        }
        let f = self.imp.frames.last_mut()?;
        f.sym.partial(&f.graph, v)
    }
    /// Elements of an integer tensor that must be known as numbers.
    pub fn const_ints(&mut self, v: ValueId, what: &str) -> Res<Vec<i64>> {
        let known = self.elements(v).and_then(|e| e.iter().map(SymExpr::as_const).collect::<Option<Vec<_>>>());
        known.ok_or_else(|| Fault::form(format!("{what} must be known when the model is compiled")))
    }
    /// Elements of an integer tensor of rank 0 or 1; what only data can tell is bound to fresh symbols of 0 and more.
    pub fn exprs(&mut self, v: ValueId, hint: &str) -> Res<Vec<SymExpr>> {
        self.exprs_from(v, hint, 0)
    }
    /// As [`exprs`](Self::exprs), with fresh symbols of `lo` and more.
    pub fn exprs_from(&mut self, v: ValueId, hint: &str, lo: i64) -> Res<Vec<SymExpr>> {
        let ty = self.ty(v).clone();
        if !ty.dtype.is_int() || ty.rank() > 1 {
            return Err(Fault::shape(format!("{hint} is {ty}, expected a list of integers")));
        }
        if let Some(e) = self.elements(v) {
            return Ok(e);
        }
        let n = ty.elems().as_const().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= MAX_BOUND as usize);
        let Some(n) = n else {
            return Err(Fault::form(format!("{hint} has {} elements; how many must be known when the model is compiled", ty.elems())));
        };
        let exprs: Vec<SymExpr> = (0..n).map(|_| self.imp.fresh_from(hint, SymSource::Bind, lo)).collect();
        let symbols = exprs.iter().filter_map(|e| e.as_sym().cloned()).collect();
        let origin = Origin::path(self.path.clone());
        self.g_mut().add(Op::Bind { symbols }, &[v], origin)?;
        Ok(exprs)
    }
    /// One integer, known or bound to a fresh symbol.
    pub fn expr(&mut self, v: ValueId, hint: &str) -> Res<SymExpr> {
        match <[SymExpr; 1]>::try_from(self.exprs(v, hint)?) {
            Ok([e]) => Ok(e),
            Err(_) => Err(Fault::shape(format!("{hint} must be one integer"))),
        }
    }
    /// A number that must be known when the model is compiled.
    pub fn const_number(&mut self, v: ValueId, what: &str) -> Res<f64> {
        match self.const_numbers(v).as_deref() {
            Some([n]) => Ok(*n),
            _ => Err(Fault::form(format!("{what} must be known when the model is compiled"))),
        }
    }
    /// Elements of a tensor as numbers, if they are known.
    pub fn const_numbers(&mut self, v: ValueId) -> Option<Vec<f64>> {
        let f = self.imp.frames.last_mut()?;
        if let Some(l) = f.graph.as_literal(v) {
            return Some(l.to_f64s());
        }
        if let Some(n) = f.sym.constants(&f.graph, v) {
            return Some(n);
        }
        // Lists of floats that shape the graph (scales of a resize) are weights by their dtype.
        let w = f.graph.weight(f.graph.as_weight(v)?);
        let (elems, bytes) = (w.elems().filter(|n| *n <= MAX_BOUND as u64)?, w.bytes()?);
        Some((0..elems as usize).map(|i| numerics::decode_f64(w.dtype, numerics::get(bytes, w.dtype, i))).collect())
    }
    /// The smaller of two expressions, decided by the ranges of their symbols where that is possible.
    pub fn min(&self, a: &SymExpr, b: &SymExpr) -> SymExpr {
        let (lo, hi) = self.g().bounds(&(b - a));
        if lo >= 0 {
            a.clone()
        } else if hi <= 0 {
            b.clone()
        } else {
            a.minimum(b)
        }
    }
    /// The larger of two expressions, decided by the ranges of their symbols where that is possible.
    pub fn max(&self, a: &SymExpr, b: &SymExpr) -> SymExpr {
        let (lo, hi) = self.g().bounds(&(b - a));
        if lo >= 0 {
            b.clone()
        } else if hi <= 0 {
            a.clone()
        } else {
            a.maximum(b)
        }
    }
    /// A symbol of a new name.
    pub fn fresh(&mut self, hint: &str, source: SymSource) -> SymExpr {
        self.imp.fresh_symbol(hint, source)
    }

    // ---- adding ops ----

    /// Adds a node and returns its results.
    pub fn add_all(&mut self, op: Op, operands: &[ValueId]) -> Res<Vec<ValueId>> {
        let origin = Origin::path(self.path.clone());
        let n = self.g_mut().add(op, operands, origin)?;
        Ok(self.g().node(n).results.clone())
    }
    /// Adds a node and returns its first result.
    pub fn add(&mut self, op: Op, operands: &[ValueId]) -> Res<ValueId> {
        let origin = Origin::path(self.path.clone());
        let n = self.g_mut().add(op, operands, origin)?;
        self.g().node(n).results.first().copied().ok_or_else(|| Fault::new(Code::INTERNAL, "an op without results"))
    }
    /// Adds a node with regions and returns its results.
    pub fn add_regions(&mut self, op: Op, operands: &[ValueId], regions: Vec<Graph>) -> Res<Vec<ValueId>> {
        let origin = Origin::path(self.path.clone());
        let n = self.g_mut().add_with_regions(op, operands, regions, origin)?;
        Ok(self.g().node(n).results.clone())
    }
    /// Adds a host operation and returns its results.
    pub fn host(&mut self, call: HostCall) -> Res<Vec<ValueId>> {
        let HostCall { op, params, operands, gives, symbols, list } = call;
        let takes = operands.iter().map(|&v| self.dtype(v)).collect();
        let (gives, dims) = gives.into_iter().unzip();
        self.add_all(Op::Host { op, params, takes, gives, dims, symbols, list, lowered: false }, &operands)
    }
    /// Adds a host operation and returns its first result.
    pub fn host1(&mut self, call: HostCall) -> Res<ValueId> {
        self.host(call)?.first().copied().ok_or_else(|| Fault::new(Code::INTERNAL, "a host operation without results"))
    }
    /// A list of values, which a run makes.
    pub fn list_of(&mut self, list: ListType, values: &[ValueId]) -> Res<ValueId> {
        let origin = Origin::path(self.path.clone());
        self.imp.list_of(list, values, &origin)
    }
    /// What stands for a slot where a value of the declared type is wanted.
    pub fn coerce(&mut self, slot: Slot, ty: &TypeDef) -> Res<ValueId> {
        let origin = Origin::path(self.path.clone());
        self.imp.coerce(slot, ty, &origin)
    }
    /// Elementwise function of one operand.
    pub fn un(&mut self, op: UnaryOp, x: ValueId) -> Res<ValueId> {
        self.add(Op::Unary(op), &[x])
    }
    /// Elementwise function of two operands.
    pub fn bin(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> Res<ValueId> {
        self.add(Op::Binary(op), &[a, b])
    }
    /// Elementwise function with a number as second operand.
    pub fn bin_c(&mut self, op: BinaryOp, a: ValueId, c: f64) -> Res<ValueId> {
        let c = self.scalar(self.dtype(a), c)?;
        self.bin(op, a, c)
    }
    /// `cond ? a : b`.
    pub fn select(&mut self, cond: ValueId, a: ValueId, b: ValueId) -> Res<ValueId> {
        self.add(Op::Select {}, &[cond, a, b])
    }
    /// Converts, saturating where ONNX does.
    pub fn cast(&mut self, x: ValueId, to: DType) -> Res<ValueId> {
        if self.dtype(x) == to { Ok(x) } else { self.add(Op::Cast { to, saturate: true }, &[x]) }
    }
    /// Computes in f32 what has a narrower float dtype, and rounds once.
    pub fn wide(&mut self, x: ValueId, f: impl FnOnce(&mut Self, ValueId) -> Res<ValueId>) -> Res<ValueId> {
        let dtype = self.dtype(x);
        if !dtype.is_float() || dtype.bits() >= 32 {
            return f(self, x);
        }
        let w = self.cast(x, DType::F32)?;
        let y = f(self, w)?;
        self.cast(y, dtype)
    }
    /// A number as rank-0 constant.
    pub fn scalar(&mut self, dtype: DType, v: f64) -> Res<ValueId> {
        let s = if dtype.is_float() { Scalar::from_f64(dtype, v) } else { Scalar::from_i64(dtype, v as i64) };
        self.scalar_bits(s)
    }
    /// A scalar as rank-0 constant.
    pub fn scalar_bits(&mut self, s: Scalar) -> Res<ValueId> {
        self.add(Op::Const { value: Literal::scalar(s) }, &[])
    }
    /// A list of integers as 1-D constant.
    pub fn int_list(&mut self, values: &[i64]) -> Res<ValueId> {
        self.add(Op::Const { value: Literal::vector(DType::I64, values) }, &[])
    }
    /// Numbers as constant of the given dims.
    pub fn numbers(&mut self, dtype: DType, dims: &[i64], values: &[f64]) -> Res<ValueId> {
        let bits =
            values.iter().map(|v| if dtype.is_float() { Scalar::from_f64(dtype, *v) } else { Scalar::from_i64(dtype, *v as i64) }.bits);
        let value = Literal::from_bits(dtype, dims, bits).ok_or_else(|| Fault::new(Code::BAD_TENSOR, "numbers do not fit their dims"))?;
        self.add(Op::Const { value }, &[])
    }
    /// f32 numbers as a constant tensor: a weight unless it is a single number.
    pub fn table_f32(&mut self, dims: &[i64], values: &[f32]) -> Res<ValueId> {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.table(1, dims, bytes)
    }
    /// f64 numbers as a constant tensor.
    pub fn table_f64(&mut self, dims: &[i64], values: &[f64]) -> Res<ValueId> {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.table(11, dims, bytes)
    }
    /// i64 numbers as a constant tensor.
    pub fn table_i64(&mut self, dims: &[i64], values: &[i64]) -> Res<ValueId> {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.table(7, dims, bytes)
    }
    /// Texts as a constant tensor.
    pub fn table_texts(&mut self, dims: &[i64], values: &[&str]) -> Res<ValueId> {
        let bytes = values.iter().flat_map(|v| self.text_number(v).to_le_bytes()).collect::<Vec<u8>>();
        self.table(8, dims, bytes)
    }
    /// Number of a text in the table that runs begin with.
    pub fn text_number(&mut self, text: &str) -> i64 {
        self.imp.frames[0].graph.texts.intern(text)
    }
    fn table(&mut self, elem: i32, dims: &[i64], bytes: Vec<u8>) -> Res<ValueId> {
        let name = format!("{}.table", self.path);
        let t = TensorDef { name: String::new(), elem, dims: dims.to_vec(), data: TensorData::Bytes(bytes.into()) };
        let origin = Origin::path(self.path.clone());
        self.imp.constant(&t, &name, origin)
    }
    /// Shape arithmetic as an i64 tensor.
    pub fn dims_value(&mut self, values: Vec<SymExpr>) -> Res<ValueId> {
        self.add(Op::DimTensor { values, dtype: DType::I64, scalar: false }, &[])
    }
    /// Shape arithmetic as an i64 scalar.
    pub fn dim_value(&mut self, value: SymExpr) -> Res<ValueId> {
        self.add(Op::DimTensor { values: vec![value], dtype: DType::I64, scalar: true }, &[])
    }
    /// A number everywhere.
    pub fn fill(&mut self, dtype: DType, v: f64, dims: Dims) -> Res<ValueId> {
        let value = if dtype.is_float() { Scalar::from_f64(dtype, v) } else { Scalar::from_i64(dtype, v as i64) };
        self.add(Op::Fill { value, dims }, &[])
    }
    /// Index along an axis.
    pub fn iota(&mut self, dtype: DType, axis: usize, dims: Dims) -> Res<ValueId> {
        self.add(Op::Iota { dtype, axis: axis as u32, dims }, &[])
    }
    /// Same elements in other dims.
    pub fn reshape(&mut self, x: ValueId, dims: Dims) -> Res<ValueId> {
        if self.ty(x).dims == dims { Ok(x) } else { self.add(Op::Reshape { dims }, &[x]) }
    }
    /// Permutes dims.
    pub fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Res<ValueId> {
        if perm.iter().enumerate().all(|(i, p)| i == *p) && perm.len() == self.rank(x) {
            return Ok(x);
        }
        self.add(Op::Transpose { perm: perm.iter().map(|&p| p as u32).collect() }, &[x])
    }
    /// Broadcasts.
    pub fn broadcast(&mut self, x: ValueId, dims: Dims) -> Res<ValueId> {
        if self.ty(x).dims == dims { Ok(x) } else { self.add(Op::Broadcast { dims }, &[x]) }
    }
    /// Inserts dims of 1 at `axes` (sorted positions in the result).
    pub fn unsqueeze(&mut self, x: ValueId, axes: &[usize]) -> Res<ValueId> {
        let mut dims = self.dims(x);
        for &a in axes {
            if a > dims.len() {
                return Err(Fault::attr(format!("axis {a} is outside of rank {}", dims.len())));
            }
            dims.insert(a, 1.into());
        }
        self.reshape(x, dims)
    }
    /// Elements `start..start + len` by `step` along one axis.
    pub fn slice_axis(&mut self, x: ValueId, axis: usize, start: SymExpr, len: SymExpr, step: i64) -> Res<ValueId> {
        let mut dims = self.dims(x);
        let rank = dims.len();
        let d = dims.get_mut(axis).ok_or_else(|| Fault::attr(format!("axis {axis} is outside of rank {rank}")))?;
        if *d == len && start.is(0) && step == 1 {
            return Ok(x);
        }
        *d = len;
        let mut starts: Dims = vec![0.into(); rank];
        starts[axis] = start;
        let mut steps = vec![1; rank];
        steps[axis] = step;
        self.add(Op::Slice { starts, steps, dims }, &[x])
    }
    /// Splits an axis into parts of the given sizes.
    pub fn split(&mut self, x: ValueId, axis: usize, sizes: &[SymExpr]) -> Res<Vec<ValueId>> {
        let mut at = SymExpr::from(0);
        let mut out = Vec::with_capacity(sizes.len());
        for s in sizes {
            out.push(self.slice_axis(x, axis, at.clone(), s.clone(), 1)?);
            at = &at + s;
        }
        Ok(out)
    }
    /// Pads with a number.
    pub fn pad(&mut self, x: ValueId, low: Dims, high: Dims, interior: Vec<i64>, value: f64) -> Res<ValueId> {
        if low.iter().chain(&high).all(|p| p.is(0)) && interior.iter().all(|i| *i == 0) {
            return Ok(x);
        }
        let v = self.scalar(self.dtype(x), value)?;
        self.add(Op::Pad { mode: PadMode::Constant, low, high, interior }, &[x, v])
    }
    /// Joins along an axis.
    pub fn concat(&mut self, parts: &[ValueId], axis: usize) -> Res<ValueId> {
        match parts {
            [one] => Ok(*one),
            _ => self.add(Op::Concat { axis: axis as u32 }, parts),
        }
    }
    /// Reduces axes (sorted, unique).
    pub fn reduce(&mut self, op: ReduceOp, x: ValueId, axes: &[u32], keep: bool) -> Res<ValueId> {
        if axes.is_empty() {
            return Ok(x);
        }
        self.add(Op::Reduce { op, axes: axes.to_vec(), keep }, &[x])
    }
    /// An expression as a scalar of `dtype`.
    pub fn number_of(&mut self, n: SymExpr, dtype: DType) -> Res<ValueId> {
        match n.as_const() {
            Some(n) => self.scalar(dtype, n as f64),
            None => {
                let v = self.dim_value(n)?;
                self.cast(v, dtype)
            }
        }
    }
    /// Sum of products by labels, accumulated as the meaning of numbers has it.
    pub fn contract(&mut self, spec: &str, a: ValueId, b: ValueId) -> Res<ValueId> {
        let out = self.dtype(a);
        let acc = match out {
            DType::F16 | DType::BF16 => DType::F32,
            d if d.is_float() && d.bits() < 16 => DType::F32,
            d => d,
        };
        self.add(Op::Contract { spec: spec.into(), acc, out }, &[a, b])
    }
    /// Rows by index.
    pub fn gather(&mut self, x: ValueId, i: ValueId, axis: usize) -> Res<ValueId> {
        self.add(Op::Gather { axis: axis as u32 }, &[x, i])
    }
    /// Makes a value of rank 0 from one of a single element.
    pub fn as_scalar(&mut self, x: ValueId) -> Res<ValueId> {
        self.reshape(x, Vec::new())
    }
}

/// A single result.
pub fn one(v: ValueId) -> Res<Vec<Slot>> {
    Ok(vec![Slot::Value(v)])
}

/// Several results.
pub fn many(v: impl IntoIterator<Item = ValueId>) -> Res<Vec<Slot>> {
    Ok(v.into_iter().map(Slot::Value).collect())
}

/// Integers as expressions.
pub fn exprs_of(v: &[i64]) -> Dims {
    v.iter().map(|&v| v.into()).collect()
}
