// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recurrences as one product of all inputs with their weights, and steps.
//!
//! Before: `lstm(x: [S,B,I], w, r, b, h0, c0)`;
//! after: `g = contract(x: [S*B,I], transpose(w): [I,D*4*H]) + b`, `lstm_steps(g: [S,B,D,4,H], r.blocks, h0, c0)`.
//!
//! The product is a contraction as any other. The recurrent weights are cut into blocks of hidden units, as many as two vectors hold: a
//! step reads a block from end to end. Both biases go into `g`, but for that of a GRU's gate h where the reset gate is applied behind the
//! state's product. Recurrences in floats narrower than f32 are computed in f32.
//!
//! Weights of bytes, which come as `lstm_byte_steps` over one block, are cut the same way, with as many neighbors along the state next to each
//! other as an instruction multiplies at once.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Graph, NodeId, Op, PadMode, Patch, ValueId};
use portwright_ir::sym::SymExpr;

use crate::rules::consts::is_static;
use crate::rules::{Edit, RuleLog, Tap, sweep};
use crate::spec::{CpuSpec, MachineClass, Math};

const NAME: &str = "recurrence-steps";

/// Rewrites all recurrences with a known number of hidden units, those of regions included.
pub fn recurrences(graph: &mut Graph, machine: &MachineClass, math: Math, log: &mut RuleLog) {
    let MachineClass::Cpu(spec) = machine else { return };
    sweep(graph, NAME, log, &|g, n| match g.node(n).op {
        Op::Lstm { .. } | Op::Gru { .. } => rewrite(g, n, spec, math),
        Op::LstmByteSteps { group: 1, .. } => in_blocks(g, n, spec),
        _ => None,
    });
}

/// Sizes of a recurrence.
struct Form {
    steps: SymExpr,
    batch: SymExpr,
    directions: i64,
    gates: i64,
    hidden: i64,
    input: SymExpr,
    /// Hidden units of a block of recurrent weights.
    width: i64,
    /// Elements of the state that an instruction multiplies at once; weights are of bf16 if they are more than one.
    depth: i64,
}

fn rewrite(g: &Graph, n: NodeId, spec: &CpuSpec, math: Math) -> Option<Patch> {
    let node = g.node(n);
    let gates = if matches!(node.op, Op::Lstm { .. }) { 4 } else { 3 };
    let &[x, w, r, b, h0, ref cell @ ..] = node.operands.as_slice() else { return None };
    let dtype = g.ty(x).dtype;
    let real = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let (x_dims, r_dims) = (&g.ty(x).dims, &g.ty(r).dims);
    let hidden = r_dims.get(2)?.as_const().filter(|&h| h > 0)?;
    let halves = spec.dot(DType::BF16, DType::BF16, DType::F32).map(|f| i64::from(f.depth));
    let halves = halves.filter(|d| math == Math::Fast && dtype == DType::F32 && hidden % d == 0 && is_static(g, r));
    let form = Form {
        steps: x_dims.first()?.clone(),
        batch: x_dims.get(1)?.clone(),
        directions: r_dims.first()?.as_const()?,
        gates,
        hidden,
        input: x_dims.get(2)?.clone(),
        width: i64::from(spec.block_columns(Some(hidden))),
        depth: halves.unwrap_or(1),
    };
    let mut e = Edit::new(g, NAME, &[n]);
    let given = form.given(&mut e, [x, w, b], &node.op, real)?;
    let blocks = form.blocks(&mut e, r, real)?;
    let state = e.cast(h0, real)?;
    let made = match (&node.op, cell) {
        (Op::Lstm { direction }, &[c0]) => {
            let c0 = e.cast(c0, real)?;
            e.add(Op::LstmSteps { direction: *direction, depth: form.depth }, &[given, blocks, state, c0])?
        }
        (Op::Gru { direction, linear_before_reset }, []) => {
            let behind = form.bias(&mut e, b, real, 1)?;
            let behind = e.slice_axis(behind, 1, 2.into(), 1.into())?;
            let behind = e.reshape(behind, vec![form.directions.into(), hidden.into()])?;
            let op = Op::GruSteps { direction: *direction, linear_before_reset: *linear_before_reset, depth: form.depth };
            e.add(op, &[given, blocks, behind, state])?
        }
        _ => return None,
    };
    let Tap::New(at, _) = made else { return None };
    for (i, &old) in node.results.iter().enumerate() {
        let new = e.cast(Tap::New(at, i), dtype)?;
        e.replace(old, new)?;
    }
    Some(e.done())
}

/// Cuts recurrent weights of bytes that lie in one block.
fn in_blocks(g: &Graph, n: NodeId, spec: &CpuSpec) -> Option<Patch> {
    let node = g.node(n);
    let Op::LstmByteSteps { direction, .. } = node.op else { return None };
    let mut operands: Vec<Tap> = node.operands.iter().map(|&v| v.into()).collect();
    let &[d, 1, hidden, 4, columns] = g.ty(*node.operands.get(1)?).static_dims()?.as_slice() else { return None };
    let width = i64::from(spec.block_columns(Some(hidden)));
    let group = spec.byte_dot().map_or(1, |f| f.depth);
    let neighbors = i64::from(group);
    let (blocks, groups) = ((hidden + width - 1) / width, (hidden + neighbors - 1) / neighbors);
    if columns != hidden || (width == hidden && group == 1) {
        return None;
    }
    let mut e = Edit::new(g, NAME, &[n]);
    let mut r = e.reshape(*operands.get(1)?, dims(&[d, hidden, 4, hidden]))?;
    if blocks * width != hidden || groups * neighbors != hidden {
        let zero = e.scalar(DType::I8, 0.0)?;
        let op = Op::Pad {
            mode: PadMode::Constant,
            low: dims(&[0; 4]),
            high: dims(&[0, groups * neighbors - hidden, 0, blocks * width - hidden]),
            interior: vec![0; 4],
        };
        r = e.add(op, &[r, zero])?;
    }
    r = e.reshape(r, dims(&[d, groups, neighbors, 4, blocks, width]))?;
    r = e.transpose(r, vec![0, 4, 1, 3, 5, 2])?;
    *operands.get_mut(1)? = e.reshape(r, dims(&[d, blocks, groups, 4, width * neighbors]))?;
    let Tap::New(at, _) = e.add(Op::LstmByteSteps { direction, group }, &operands)? else { return None };
    for (i, &old) in node.results.iter().enumerate() {
        e.replace(old, Tap::New(at, i))?;
    }
    Some(e.done())
}

impl Form {
    /// One of the two biases, as `[D,G,H]`.
    fn bias(&self, e: &mut Edit<'_>, b: ValueId, real: DType, which: i64) -> Option<Tap> {
        let b = e.cast(b, real)?;
        let b = e.reshape(b, dims(&[self.directions, 2, self.gates, self.hidden]))?;
        let b = e.slice_axis(b, 1, which.into(), 1.into())?;
        e.reshape(b, dims(&[self.directions, self.gates, self.hidden]))
    }

    /// What inputs and biases give the gates, `[S,B,D,G,H]`.
    fn given(&self, e: &mut Edit<'_>, [x, w, b]: [ValueId; 3], op: &Op, real: DType) -> Option<Tap> {
        let columns = self.directions * self.gates * self.hidden;
        let x = e.cast(x, real)?;
        let x = e.reshape(x, vec![&self.steps * &self.batch, self.input.clone()])?;
        let w = e.cast(w, real)?;
        let w = e.reshape(w, vec![columns.into(), self.input.clone()])?;
        let w = e.transpose(w, vec![1, 0])?;
        let y = e.contract("mk,kn->mn", x, w, real, real)?;
        let (first, mut second) = (self.bias(e, b, real, 0)?, self.bias(e, b, real, 1)?);
        if let Op::Gru { linear_before_reset: true, .. } = op {
            let kept = e.slice_axis(second, 1, 0.into(), 2.into())?;
            let zero = e.scalar(real, 0.0)?;
            let none = e.broadcast(zero, dims(&[self.directions, 1, self.hidden]))?;
            second = e.concat(&[kept, none], 1)?;
        }
        let bias = e.binary(BinaryOp::Add, first, second)?;
        let bias = e.reshape(bias, dims(&[columns]))?;
        let y = e.binary(BinaryOp::Add, y, bias)?;
        let tail = dims(&[self.directions, self.gates, self.hidden]);
        e.reshape(y, [self.steps.clone(), self.batch.clone()].into_iter().chain(tail).collect())
    }

    /// Recurrent weights `[D,G*H,H]` in blocks `[D,blocks,H/depth,G,width*depth]`.
    fn blocks(&self, e: &mut Edit<'_>, r: ValueId, real: DType) -> Option<Tap> {
        let Form { directions, gates, hidden, width, depth, .. } = *self;
        let blocks = (hidden + width - 1) / width;
        let r = e.cast(r, real)?;
        let mut r = e.reshape(r, dims(&[directions, gates, hidden, hidden]))?;
        if blocks * width != hidden {
            let zero = e.scalar(real, 0.0)?;
            let op = Op::Pad {
                mode: PadMode::Constant,
                low: dims(&[0, 0, 0, 0]),
                high: dims(&[0, 0, blocks * width - hidden, 0]),
                interior: vec![0; 4],
            };
            r = e.add(op, &[r, zero])?;
        }
        if depth == 1 {
            let r = e.reshape(r, dims(&[directions, gates, blocks, width, hidden]))?;
            return e.transpose(r, vec![0, 2, 4, 1, 3]);
        }
        let r = e.cast(r, DType::BF16)?;
        let r = e.reshape(r, dims(&[directions, gates, blocks, width, hidden / depth, depth]))?;
        let r = e.transpose(r, vec![0, 2, 4, 1, 3, 5])?;
        e.reshape(r, dims(&[directions, blocks, hidden / depth, gates, width * depth]))
    }
}

fn dims(of: &[i64]) -> Dims {
    of.iter().map(|&d| d.into()).collect()
}
