// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Building patches with few words.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Graph, NodeId, Op, Patch, ReduceOp, TensorType, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;
use portwright_ir::weight::Weight;

use super::Tap;
use super::consts;

/// A patch under construction. Every method gives `None` when inference rejects the node, which ends the rule with no effect.
pub struct Edit<'g> {
    /// The graph that the patch is for.
    pub graph: &'g Graph,
    patch: Patch,
}

impl<'g> Edit<'g> {
    /// Starts a patch of `rule` that stands for the nodes `from`.
    pub fn new(graph: &'g Graph, rule: &'static str, from: &[NodeId]) -> Self {
        Edit { graph, patch: Patch::new(graph, rule, from) }
    }
    /// Type of a value of the graph or of the patch.
    pub fn ty(&self, t: impl Into<Tap>) -> &TensorType {
        self.patch.ty(self.graph, t)
    }
    /// Rank of a value.
    pub fn rank(&self, t: impl Into<Tap>) -> usize {
        self.ty(t).rank()
    }
    /// Adds a node and returns its first result.
    pub fn add(&mut self, op: Op, operands: &[Tap]) -> Option<Tap> {
        self.patch.add(self.graph, op, operands).ok()
    }
    /// Adds a node with regions and returns its first result.
    pub fn add_with_regions(&mut self, op: Op, operands: &[Tap], regions: Vec<Graph>) -> Option<Tap> {
        self.patch.add_with_regions(self.graph, op, operands, regions).ok()
    }
    /// `op(x)`.
    pub fn unary(&mut self, op: UnaryOp, x: impl Into<Tap>) -> Option<Tap> {
        self.add(Op::Unary(op), &[x.into()])
    }
    /// `op(x, y)`.
    pub fn binary(&mut self, op: BinaryOp, x: impl Into<Tap>, y: impl Into<Tap>) -> Option<Tap> {
        self.add(Op::Binary(op), &[x.into(), y.into()])
    }
    /// `op(x, c)` with a scalar constant of the dtype of `x`.
    pub fn with_scalar(&mut self, op: BinaryOp, x: impl Into<Tap>, c: f64) -> Option<Tap> {
        let x = x.into();
        let c = self.scalar(self.ty(x).dtype, c)?;
        self.binary(op, x, c)
    }
    /// A scalar constant, the number nearest to `v`.
    pub fn scalar(&mut self, dtype: DType, v: f64) -> Option<Tap> {
        self.add(Op::Const { value: consts::literal(dtype, v) }, &[])
    }
    /// `cond ? x : y`.
    pub fn select(&mut self, cond: impl Into<Tap>, x: impl Into<Tap>, y: impl Into<Tap>) -> Option<Tap> {
        self.add(Op::Select {}, &[cond.into(), x.into(), y.into()])
    }
    /// `x` as `to`; `x` itself when it is that already.
    pub fn cast(&mut self, x: impl Into<Tap>, to: DType) -> Option<Tap> {
        let x = x.into();
        if self.ty(x).dtype == to { Some(x) } else { self.add(Op::Cast { to, saturate: true }, &[x]) }
    }
    /// Reduction that keeps its dims as 1.
    pub fn reduce(&mut self, op: ReduceOp, x: impl Into<Tap>, axes: Vec<u32>) -> Option<Tap> {
        self.add(Op::Reduce { op, axes, keep: true }, &[x.into()])
    }
    /// The same elements with other dims; `x` itself when they are equal.
    pub fn reshape(&mut self, x: impl Into<Tap>, dims: Dims) -> Option<Tap> {
        let x = x.into();
        if self.ty(x).dims == dims { Some(x) } else { self.add(Op::Reshape { dims }, &[x]) }
    }
    /// Result dim `i` is dim `perm[i]`; `x` itself for the identity.
    pub fn transpose(&mut self, x: impl Into<Tap>, perm: Vec<u32>) -> Option<Tap> {
        let x = x.into();
        if perm.iter().enumerate().all(|(i, &p)| i as u32 == p) { Some(x) } else { self.add(Op::Transpose { perm }, &[x]) }
    }
    /// numpy broadcast; `x` itself when dims are equal.
    pub fn broadcast(&mut self, x: impl Into<Tap>, dims: Dims) -> Option<Tap> {
        let x = x.into();
        if self.ty(x).dims == dims { Some(x) } else { self.add(Op::Broadcast { dims }, &[x]) }
    }
    /// Elements `from..from + len` along `axis`; `x` itself when that is all.
    pub fn slice_axis(&mut self, x: impl Into<Tap>, axis: usize, from: SymExpr, len: SymExpr) -> Option<Tap> {
        let x = x.into();
        let mut dims = self.ty(x).dims.clone();
        if from.is(0) && *dims.get(axis)? == len {
            return Some(x);
        }
        let mut starts: Dims = vec![0.into(); dims.len()];
        *starts.get_mut(axis)? = from;
        *dims.get_mut(axis)? = len;
        self.add(Op::Slice { starts, steps: vec![1; dims.len()], dims }, &[x])
    }
    /// Joined along `axis`.
    pub fn concat(&mut self, parts: &[Tap], axis: usize) -> Option<Tap> {
        self.add(Op::Concat { axis: axis as u32 }, parts)
    }
    /// Index along `axis` of a tensor of those dims.
    pub fn iota(&mut self, dtype: DType, axis: usize, dims: Dims) -> Option<Tap> {
        self.add(Op::Iota { dtype, axis: axis as u32, dims }, &[])
    }
    /// Scalar or 1-D tensor of expressions.
    pub fn dims_tensor(&mut self, values: Dims, dtype: DType, scalar: bool) -> Option<Tap> {
        self.add(Op::DimTensor { values, dtype, scalar }, &[])
    }
    /// Contraction accumulated in `acc`.
    pub fn contract(&mut self, spec: &str, x: impl Into<Tap>, y: impl Into<Tap>, acc: DType, out: DType) -> Option<Tap> {
        self.add(Op::Contract { spec: spec.into(), acc, out }, &[x.into(), y.into()])
    }
    /// A weight of which only the type is looked at.
    pub fn weight(&mut self, w: Weight) -> Option<Tap> {
        let weight = self.patch.add_weight(w);
        self.add(Op::Weight { weight }, &[])
    }
    /// Makes users of `old` take `new` as well as what [`finish`](Self::finish) replaces. `None` if types differ.
    pub fn replace(&mut self, old: ValueId, new: impl Into<Tap>) -> Option<()> {
        let new = new.into();
        let (a, b) = (self.graph.ty(old), self.ty(new));
        if a != b || new == Tap::Old(old) {
            return None;
        }
        self.patch.replace(old, new);
        Some(())
    }
    /// The patch that makes users of `old` take `new`; `None` if their types differ.
    pub fn finish(mut self, old: ValueId, new: impl Into<Tap>) -> Option<Patch> {
        self.replace(old, new)?;
        Some(self.patch)
    }
    /// The patch with what was given to [`replace`](Self::replace).
    pub fn done(self) -> Patch {
        self.patch
    }
}

/// The only user of a value that is no output of the graph.
pub fn only_user(g: &Graph, v: ValueId) -> Option<NodeId> {
    if g.is_output(v) { None } else { g.single_user(v) }
}

/// The operands of the node that makes `v`, if it is `op`.
pub fn binary_of(g: &Graph, v: ValueId, op: BinaryOp) -> Option<(ValueId, ValueId)> {
    let node = g.producer(v)?;
    match (&node.op, node.operands.as_slice()) {
        (Op::Binary(b), &[x, y]) if *b == op => Some((x, y)),
        _ => None,
    }
}

/// The operand of the node that makes `v`, if it is `op`.
pub fn unary_of(g: &Graph, v: ValueId, op: UnaryOp) -> Option<ValueId> {
    let node = g.producer(v)?;
    match (&node.op, node.operands.as_slice()) {
        (Op::Unary(u), &[x]) if *u == op => Some(x),
        _ => None,
    }
}
