// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random legal graphs: what inference takes is legal, and what it refuses is left out.

use portwright_ir::dtype::DType;
use portwright_ir::graph::interp::Tensor;
use portwright_ir::graph::{
    ArgOp, BinaryOp, Dims, Graph, Op, Origin, PadMode, ReduceOp, Scalar, ScatterOp, SymSource, Symbol, TensorType, UnaryOp, ValueId,
};
use portwright_ir::numerics;
use portwright_ir::sym::SymExpr;
use portwright_ir::weight::{Weight, WeightSource};

use crate::draw::Draw;

/// Sizes with what schedules find hard: nothing, one, odd, a vector, a vector and one.
const SIZES: &[i64] = &[1, 2, 3, 4, 5, 7, 8, 16, 17, 1, 2, 3, 0];
const DTYPES: &[DType] = &[
    DType::F32,
    DType::F32,
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::F64,
    DType::I64,
    DType::I32,
    DType::I8,
    DType::U8,
    DType::I16,
    DType::U32,
    DType::Bool,
];
/// Most elements of a value.
const ELEMS: i64 = 1024;

/// A graph under construction.
struct Maker<'d, 'b> {
    d: &'d mut Draw<'b>,
    g: Graph,
    pool: Vec<ValueId>,
    /// Whether indices are what inputs say, which may lie outside.
    raw: bool,
}

/// A random graph of at most `nodes` nodes beside constants. Values that nothing uses are its outputs.
pub fn graph(d: &mut Draw<'_>, nodes: usize) -> Graph {
    made(d, nodes, false)
}

/// As [`graph`], where inputs may be indices.
pub fn graph_of_data(d: &mut Draw<'_>, nodes: usize) -> Graph {
    made(d, nodes, true)
}

fn made(d: &mut Draw<'_>, nodes: usize, raw: bool) -> Graph {
    let mut m = Maker { d, g: Graph::new("random"), pool: Vec::new(), raw };
    if m.d.one_in(3) {
        m.g.add_symbol(Symbol { name: "N".into(), lo: 1, hi: 8, div: 1, source: SymSource::Input });
    }
    for i in 0..1 + m.d.below(3) {
        let mut ty = m.new_type();
        // An input that is not empty tells the symbol.
        if i == 0 && m.g.symbol("N").is_some() {
            ty = TensorType::new(ty.dtype, [vec![SymExpr::sym("N")], ty.dims.into_iter().take(2).collect()].concat());
        }
        let v = m.g.add_input(format!("x{i}"), ty);
        m.pool.push(v);
    }
    let wanted = 1 + m.d.below(nodes);
    // An op that does not fit costs a try.
    for n in 0..wanted * 6 {
        if m.g.node_ids().filter(|&n| !m.g.node(n).op.is_source()).count() >= wanted {
            break;
        }
        let _ = m.node(n);
    }
    let g = &m.g;
    let open: Vec<ValueId> =
        m.pool.iter().copied().filter(|&v| !g.is_used(v) && g.producer(v).is_some_and(|p| !p.op.is_source())).collect();
    let last = m.pool.last().copied();
    for (i, v) in open.into_iter().chain(last).take(6).enumerate() {
        m.g.add_output(format!("y{i}"), v);
    }
    m.g.remove_dead();
    m.g
}

/// Inputs for a graph: small numbers, indices that mostly fit, sizes of the symbol at its ends and between.
pub fn inputs(g: &Graph, d: &mut Draw<'_>) -> Vec<Tensor> {
    let n = [1i64, 2, 5, 8][d.below(4)];
    let one = |v: ValueId, d: &mut Draw<'_>| {
        let ty = g.ty(v);
        let dims: Vec<usize> = ty.dims.iter().map(|e| e.eval(&|_| Some(n)).and_then(|n| usize::try_from(n).ok()).unwrap_or(1)).collect();
        let elems: usize = dims.iter().product();
        let bits: Vec<u64> = (0..elems).map(|_| number(ty.dtype, d.next())).collect();
        Tensor::from_bits(ty.dtype, dims, bits)
    };
    g.inputs().iter().map(|&v| one(v, d)).collect()
}

/// Inputs that a caller may give and should not: other dims than the graph says, another dtype, one too few, numbers out of every range.
pub fn wrong_inputs(g: &Graph, d: &mut Draw<'_>) -> Vec<Tensor> {
    let mut list = inputs(g, d);
    for _ in 0..1 + d.below(3) {
        let i = d.below(list.len());
        let Some(t) = list.get(i) else { break };
        let (mut dtype, mut dims, mut bits) = (t.dtype, t.dims.clone(), (0..t.len()).map(|e| t.bits(e)).collect::<Vec<u64>>());
        let axis = d.below(dims.len());
        match d.below(8) {
            0 => {
                list.remove(i);
                continue;
            }
            1 => dtype = *d.pick(DTYPES).unwrap_or(&DType::F32),
            2 => dims.push(1),
            3 => {
                dims.pop();
            }
            4 => {
                if let Some(n) = dims.get_mut(axis) {
                    *n = [0, 1, 9, 64][d.below(4)];
                }
            }
            _ => {
                for b in &mut bits {
                    if d.one_in(3) {
                        *b = extreme(dtype, d);
                    }
                }
            }
        }
        let elems = dims.iter().product::<usize>();
        let last = bits.last().copied().unwrap_or(0);
        bits.resize(elems, last);
        list[i] = Tensor::from_bits(dtype, dims, bits);
    }
    list
}

/// The bits of a number at which something ends.
fn extreme(dtype: DType, d: &mut Draw<'_>) -> u64 {
    if dtype == DType::Bool {
        return d.next() & 1;
    }
    if dtype.is_float() {
        let x = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e308, 3.4e38, 1e-45, 65504.0, -1e9][d.below(9)];
        return numerics::encode_f64(dtype, x, false);
    }
    let (lo, hi) = dtype.int_range().unwrap_or((0, 1));
    let x = [lo, hi, lo + 1, hi - 1, 0, -1, 1 << 31, 1 << 40][d.below(8)];
    numerics::int_to_bits(dtype, x.clamp(lo, hi))
}

/// The bits of a small number.
fn number(dtype: DType, r: u64) -> u64 {
    let small = (r % 4096) as f64 / 1024.0 - 2.0;
    if dtype == DType::Bool {
        return r & 1;
    }
    if dtype.is_float() {
        return numerics::encode_f64(dtype, small, true);
    }
    let lo = if dtype.is_signed_int() { -3 } else { 0 };
    numerics::int_to_bits(dtype, i128::from(lo + (r % 7) as i64))
}

impl Maker<'_, '_> {
    fn size(&mut self) -> SymExpr {
        if self.g.symbol("N").is_some() && self.d.one_in(4) {
            return SymExpr::sym("N");
        }
        (*self.d.pick(SIZES).unwrap_or(&1)).into()
    }
    fn new_type(&mut self) -> TensorType {
        let rank = self.d.below(5);
        let dims: Dims = (0..rank).map(|_| self.size()).collect();
        let dtype = *self.d.pick(DTYPES).unwrap_or(&DType::F32);
        let ty = TensorType::new(dtype, dims);
        if self.g.bounds(&ty.elems()).1 > ELEMS { TensorType::new(dtype, vec![3.into(), 4.into()]) } else { ty }
    }
    fn any(&mut self) -> ValueId {
        // Younger values more often, so that chains grow.
        let n = self.pool.len();
        let back = self.d.below(n).min(self.d.below(n));
        self.pool[n - 1 - back]
    }
    fn add(&mut self, op: Op, operands: &[ValueId], number: usize) -> Option<ValueId> {
        let path = format!("main/{}_{number}", op.mnemonic());
        let n = self.g.add(op, operands, Origin::path(path)).ok()?;
        for v in self.g.node(n).results.clone() {
            if self.g.bounds(&self.g.ty(v).elems()).1 <= ELEMS {
                self.pool.push(v);
            }
        }
        self.g.node(n).results.first().copied()
    }
    /// Numbers of a type: a constant, a weight, one number everywhere, or indices.
    fn constant(&mut self, dtype: DType, dims: Dims) -> Option<ValueId> {
        let fixed: Option<Vec<i64>> = dims.iter().map(SymExpr::as_const).collect();
        let op = match (self.d.below(4), fixed) {
            (0 | 1, Some(dims)) => {
                let w =
                    self.g.add_weight(Weight::new(format!("w{}", self.g.weights().len()), dtype, dims, WeightSource::Seed(self.d.next())));
                Op::Weight { weight: w }
            }
            (2, _) if !dims.is_empty() && dtype.is_int() => Op::Iota { dtype, axis: self.d.below(dims.len()) as u32, dims },
            _ => {
                let r = self.d.next();
                Op::Fill { value: Scalar { dtype, bits: number(dtype, r) }, dims }
            }
        };
        let n = self.g.add(op, &[], Origin::default()).ok()?;
        Some(self.g.result(n))
    }
    /// A value that broadcasts with `v`.
    fn partner(&mut self, v: ValueId) -> Option<ValueId> {
        let ty = self.g.ty(v).clone();
        if self.d.one_in(2) {
            let same: Vec<ValueId> = self.pool.iter().copied().filter(|&p| self.g.ty(p).dtype == ty.dtype).collect();
            return self.d.pick(&same).copied();
        }
        let from = self.d.below(ty.rank() + 1);
        let dims = ty.dims[from..].iter().map(|d| if self.d.one_in(4) { 1.into() } else { d.clone() }).collect();
        self.constant(ty.dtype, dims)
    }
    fn axis(&mut self, v: ValueId) -> Option<usize> {
        let rank = self.g.ty(v).rank();
        (rank > 0).then(|| self.d.below(rank))
    }
    fn float(&mut self) -> Option<ValueId> {
        let v = self.any();
        if self.g.ty(v).dtype.is_float() {
            return Some(v);
        }
        let n = self.g.add(Op::Cast { to: DType::F32, saturate: true }, &[v], Origin::path("main/Cast")).ok()?;
        Some(self.g.result(n))
    }

    /// Tries one node.
    fn node(&mut self, number: usize) -> Option<ValueId> {
        let x = self.any();
        let (ty, rank) = (self.g.ty(x).clone(), self.g.ty(x).rank());
        match self.d.below(28) {
            0..=2 => {
                let op = *self.d.pick(UnaryOp::ALL)?;
                let x = if ty.dtype.is_float() || self.d.one_in(3) { x } else { self.float()? };
                self.add(Op::Unary(op), &[x], number)
            }
            3..=7 => {
                let (op, y) = (*self.d.pick(BinaryOp::ALL)?, self.partner(x)?);
                let pair = if self.d.one_in(2) { [x, y] } else { [y, x] };
                self.add(Op::Binary(op), &pair, number)
            }
            8 => {
                let y = self.partner(x)?;
                let cond = self.constant(DType::Bool, ty.dims.clone())?;
                let bools: Vec<ValueId> = self.pool.iter().copied().filter(|&v| self.g.ty(v).dtype == DType::Bool).collect();
                let cond = self.d.pick(&bools).copied().unwrap_or(cond);
                self.add(Op::Select {}, &[cond, x, y], number)
            }
            9 => {
                let to = *self.d.pick(DTYPES)?;
                self.add(Op::Cast { to, saturate: true }, &[x], number)
            }
            10 | 11 => {
                let axes: Vec<u32> = (0..rank as u32).filter(|_| self.d.one_in(2)).collect();
                let op = Op::Reduce { op: *self.d.pick(ReduceOp::ALL)?, axes, keep: self.d.one_in(2) };
                self.add(op, &[x], number)
            }
            12 => {
                let axis = self.axis(x)? as u32;
                let (op, keep, last) = (*self.d.pick(ArgOp::ALL)?, self.d.one_in(2), self.d.one_in(2));
                self.add(Op::ArgReduce { op, axis, keep, last }, &[x], number)
            }
            13 => {
                let axis = self.axis(x)? as u32;
                let op = *self.d.pick(&[ReduceOp::Sum, ReduceOp::Max, ReduceOp::Prod])?;
                let (exclusive, reverse) = (self.d.one_in(2), self.d.one_in(2));
                self.add(Op::Scan { op, axis, exclusive, reverse }, &[x], number)
            }
            14 => {
                let axis = self.axis(x)?;
                let k = self.g.bounds(&ty.dims[axis]).0.min(1 + self.d.below(4) as i64);
                let largest = self.d.one_in(2);
                self.add(Op::TopK { axis: axis as u32, k: k.into(), largest }, &[x], number)
            }
            15 | 16 => self.product(number),
            17 => {
                let mut perm: Vec<u32> = (0..rank as u32).collect();
                for i in (1..rank).rev() {
                    let j = self.d.below(i + 1);
                    perm.swap(i, j);
                }
                self.add(Op::Transpose { perm }, &[x], number)
            }
            18 => {
                let mut dims = ty.dims.clone();
                if rank > 1 && self.d.one_in(2) {
                    let i = self.d.below(rank - 1);
                    let merged = &dims[i] * &dims[i + 1];
                    dims.splice(i..i + 2, [merged]);
                } else {
                    let i = self.d.below(rank + 1);
                    dims.insert(i, 1.into());
                }
                self.add(Op::Reshape { dims }, &[x], number)
            }
            19 => {
                let mut dims: Dims = Vec::new();
                for d in &ty.dims {
                    dims.push(if d.is(1) { self.size() } else { d.clone() });
                }
                if self.d.one_in(2) {
                    dims.insert(0, self.size());
                }
                self.add(Op::Broadcast { dims }, &[x], number)
            }
            20 => {
                let (mut starts, mut steps, mut dims) = (vec![0.into(); rank], vec![1; rank], ty.dims.clone());
                let a = self.axis(x)?;
                let n = self.g.bounds(&ty.dims[a]).0;
                let (from, step) = (self.d.below(n as usize + 1) as i64, 1 + self.d.below(3) as i64);
                let len = (n - from + step - 1) / step;
                (starts[a], steps[a], dims[a]) = (from.into(), step, len.into());
                if self.d.one_in(3) && len > 0 {
                    (starts[a], steps[a]) = ((from + (len - 1) * step).into(), -step);
                }
                self.add(Op::Slice { starts, steps, dims }, &[x], number)
            }
            21 => {
                let mode = *self.d.pick(PadMode::ALL)?;
                let some = |m: &mut Self| -> Dims { (0..rank).map(|_| (m.d.below(3) as i64).into()).collect() };
                let (low, high) = (some(self), some(self));
                let interior = (0..rank).map(|_| i64::from(mode == PadMode::Constant && self.d.one_in(5))).collect();
                let value = self.constant(ty.dtype, Vec::new())?;
                let operands = if mode == PadMode::Constant { vec![x, value] } else { vec![x] };
                self.add(Op::Pad { mode, low, high, interior }, &operands, number)
            }
            22 => {
                let a = self.axis(x)?;
                let fits = |t: &TensorType| t.dtype == ty.dtype && t.rank() == rank && (0..rank).all(|i| i == a || t.dims[i] == ty.dims[i]);
                let same: Vec<ValueId> = self.pool.iter().copied().filter(|&v| fits(self.g.ty(v))).collect();
                let parts: Vec<ValueId> = (0..2 + self.d.below(2)).filter_map(|_| self.d.pick(&same).copied()).collect();
                self.add(Op::Concat { axis: a as u32 }, &parts, number)
            }
            23 => {
                let a = self.axis(x)?;
                if let Some(i) = self.given(None) {
                    return self.add(Op::Gather { axis: a as u32 }, &[x, i], number);
                }
                let n = self.g.bounds(&ty.dims[a]).0;
                let count = self.size();
                // Indices that fit: a remainder of what counts up.
                let i = self.g.add(Op::Iota { dtype: DType::I64, axis: 0, dims: vec![count] }, &[], Origin::default()).ok()?;
                let n =
                    self.g.add(Op::Fill { value: Scalar::from_i64(DType::I64, n.max(1)), dims: vec![] }, &[], Origin::default()).ok()?;
                let (i, n) = (self.g.result(i), self.g.result(n));
                let i = self.g.add(Op::Binary(BinaryOp::Rem), &[i, n], Origin::path("main/index")).ok()?;
                let i = self.g.result(i);
                self.add(Op::Gather { axis: a as u32 }, &[x, i], number)
            }
            24 => {
                let x = self.float()?;
                let a = self.axis(x)? as u32;
                let eps = Scalar::f32(1e-5);
                let scale = self.g.ty(x).dims[a as usize..].to_vec();
                let dtype = self.g.ty(x).dtype;
                match self.d.below(5) {
                    0 => self.add(Op::Softmax { axis: a }, &[x], number),
                    1 => self.add(Op::LogSoftmax { axis: a }, &[x], number),
                    2 => {
                        let (s, b) = (self.constant(dtype, scale.clone())?, self.constant(dtype, scale)?);
                        self.add(Op::LayerNorm { axis: a, eps }, &[x, s, b], number)
                    }
                    3 => {
                        let s = self.constant(dtype, scale)?;
                        self.add(Op::RmsNorm { axis: a, eps }, &[x, s], number)
                    }
                    _ => {
                        let op = [Op::Gelu { tanh: self.d.one_in(2) }, Op::Silu {}, Op::HardSwish {}][self.d.below(3)].clone();
                        self.add(op, &[x], number)
                    }
                }
            }
            25 => self.window(number),
            26 => {
                let a = self.axis(x)?;
                if let Some(i) = self.given(Some(&ty.dims)) {
                    let op = *self.d.pick(&[ScatterOp::Max, ScatterOp::Min])?;
                    let axis = a as u32;
                    let either = [Op::GatherElements { axis }, Op::ScatterElements { axis, op }];
                    let op = either[self.d.below(2)].clone();
                    let operands = [x, i, x];
                    return self.add(op.clone(), if matches!(op, Op::GatherElements { .. }) { &operands[..2] } else { &operands }, number);
                }
                let indices = self.constant(DType::I64, ty.dims.clone())?;
                let n = self.g.bounds(&ty.dims[a]).0;
                let n = self.constant_number(n.max(1))?;
                let i = self.g.add(Op::Binary(BinaryOp::Mod), &[indices, n], Origin::path("main/index")).ok()?;
                let i = self.g.result(i);
                if self.d.one_in(2) {
                    return self.add(Op::GatherElements { axis: a as u32 }, &[x, i], number);
                }
                // Elements that meet in one place are summed in one order: only what commutes is defined.
                let op = *self.d.pick(&[ScatterOp::Max, ScatterOp::Min])?;
                self.add(Op::ScatterElements { axis: a as u32, op }, &[x, i, x], number)
            }
            _ => {
                let x = self.float()?;
                let scale = self.constant_of(DType::F32, 0.05)?;
                let to = *self.d.pick(&[DType::I8, DType::U8])?;
                let q = self.g.add(Op::Quantize { to, axis: None, block: 1, saturate: true }, &[x, scale], Origin::path("main/q")).ok()?;
                let q = self.g.result(q);
                self.pool.push(q);
                self.add(Op::Dequantize { to: DType::F32, axis: None, block: 1 }, &[q, scale], number)
            }
        }
    }
    /// An input of indices of these dims, or of any.
    fn given(&mut self, dims: Option<&Dims>) -> Option<ValueId> {
        if !self.raw {
            return None;
        }
        let dims = match dims {
            Some(d) => d.clone(),
            None => (0..self.d.below(3)).map(|_| self.size()).collect(),
        };
        let dtype = *self.d.pick(&[DType::I64, DType::I32])?;
        Some(self.g.add_input(format!("i{}", self.g.inputs().len()), TensorType::new(dtype, dims)))
    }
    fn constant_number(&mut self, n: i64) -> Option<ValueId> {
        let n = self.g.add(Op::Fill { value: Scalar::from_i64(DType::I64, n), dims: vec![] }, &[], Origin::default()).ok()?;
        Some(self.g.result(n))
    }
    fn constant_of(&mut self, dtype: DType, x: f64) -> Option<ValueId> {
        let n = self.g.add(Op::Fill { value: Scalar::from_f64(dtype, x), dims: vec![] }, &[], Origin::default()).ok()?;
        Some(self.g.result(n))
    }
    /// A product of matrices, with batches, with either side turned.
    fn product(&mut self, number: usize) -> Option<ValueId> {
        let x = self.float()?;
        let ty = self.g.ty(x).clone();
        let (dtype, rank) = (ty.dtype, ty.rank());
        if rank < 2 {
            return None;
        }
        let (k, n) = (ty.dims[rank - 1].clone(), self.size());
        let batch: String = ('a'..).take(rank - 2).collect();
        let (turned, whole) = (self.d.one_in(2), self.d.one_in(3) && rank > 2);
        let mut dims: Dims = if whole { ty.dims[..rank - 2].to_vec() } else { Vec::new() };
        dims.extend(if turned { [n, k] } else { [k, n] });
        let w = self.constant(dtype, dims)?;
        let own = if whole { batch.as_str() } else { "" };
        let right = if turned { "nk" } else { "kn" };
        let acc = if dtype.bits() < 32 { DType::F32 } else { dtype };
        self.add(Op::Contract { spec: format!("{batch}mk,{own}{right}->{batch}mn").into(), acc, out: dtype }, &[x, w], number)
    }
    /// A convolution or a pooling.
    fn window(&mut self, number: usize) -> Option<ValueId> {
        let (c, spatial) = (1 + self.d.below(9) as i64, 1 + self.d.below(2));
        let mut dims: Vec<i64> = vec![1 + self.d.below(2) as i64, c];
        (0..spatial).for_each(|_| dims.push(3 + self.d.below(8) as i64));
        let x = match self.pool.iter().copied().find(|&v| self.g.ty(v).rank() == spatial + 2 && self.g.ty(v).dtype == DType::F32) {
            Some(v) if self.d.one_in(2) => v,
            _ => self.constant(DType::F32, dims.iter().map(|&d| d.into()).collect())?,
        };
        let given = self.g.ty(x).static_dims()?;
        let few = |m: &mut Self, n: usize| -> Vec<i64> { (0..spatial).map(|_| 1 + m.d.below(n) as i64).collect() };
        let (kernel, strides, dilations) = (few(self, 3), few(self, 2), few(self, 2));
        let pads: Dims = (0..2 * spatial).map(|_| (self.d.below(2) as i64).into()).collect();
        if self.d.one_in(3) {
            let reach = |i: usize| (kernel[i] - 1) * dilations[i] + 1;
            let pad = |i: usize| pads[i].as_const().unwrap_or(0);
            let out: Option<Dims> = (0..spatial)
                .map(|i| {
                    let room = given.get(i + 2)? + pad(i) + pad(i + spatial) - reach(i);
                    (room >= 0).then(|| (room / strides[i] + 1).into())
                })
                .collect();
            let op = *self.d.pick(&[ReduceOp::Max, ReduceOp::Mean, ReduceOp::Sum])?;
            let count_pad = self.d.one_in(2);
            return self.add(Op::Pool { op, kernel, strides, dilations, pads, count_pad, dims: out?, channels_last: false }, &[x], number);
        }
        let c = *given.get(1)?;
        let groups = if self.d.one_in(3) { c.max(1) } else { 1 };
        let filters = groups * (1 + self.d.below(9) as i64);
        let mut w: Dims = vec![filters.into(), (c / groups).into()];
        w.extend(kernel.iter().map(|&k| SymExpr::from(k)));
        let w = self.constant(DType::F32, w)?;
        self.add(Op::Conv { strides, dilations, pads, groups }, &[x, w], number)
    }
}
