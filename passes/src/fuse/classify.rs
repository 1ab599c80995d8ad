// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each op is to fusion.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, FusionKind, Graph, Node, Op, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use crate::rules::consts::splat_f64;

/// How a node takes part.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Needs no kernel and is copied or referred to.
    Source,
    /// Stays a node of the graph: `bind`, `if`, `loop`, reshapes.
    Stays,
    /// A reshape that only inserts or removes dims of 1.
    UnitReshape,
    /// A slice, a broadcast, a transpose of whole rows: each user may copy it.
    Rename,
    /// Elementwise.
    Elementwise,
    /// Moves elements.
    Movement,
    /// Reduction of trailing dims.
    RowReduce,
    /// Reduction of other dims, or to an index.
    OtherReduce,
    /// An op that makes a kernel with an epilogue.
    Core(FusionKind),
    /// A kernel of its own.
    Alone(FusionKind),
}

pub(super) fn class(g: &Graph, node: &Node) -> Class {
    match &node.op {
        Op::RandomUniform { .. } => Class::Alone(FusionKind::Single),
        op if op.is_source() => Class::Source,
        Op::Bind { .. } | Op::If {} | Op::Loop { .. } | Op::Fusion { .. } | Op::Quantized { .. } | Op::Host { .. } | Op::Handle { .. } => {
            Class::Stays
        }
        Op::Reshape { dims } => match node.operands.first() {
            Some(&x) if unit_stripped(&g.ty(x).dims) == unit_stripped(dims) => Class::UnitReshape,
            _ => Class::Stays,
        },
        Op::Slice { .. } | Op::Broadcast { .. } => Class::Rename,
        // Rows stay whole, as when attention heads change places.
        Op::Transpose { perm } if perm.last().is_some_and(|&p| p as usize + 1 == perm.len()) => Class::Rename,
        Op::Transpose { .. } | Op::Pad { .. } | Op::Concat { .. } | Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } => {
            Class::Movement
        }
        Op::Reduce { axes, .. } => {
            let rank = node.operands.first().map_or(0, |&x| g.ty(x).rank());
            let first = rank.saturating_sub(axes.len());
            let trailing = !axes.is_empty() && axes.iter().enumerate().all(|(i, &a)| a as usize == first + i);
            if trailing { Class::RowReduce } else { Class::OtherReduce }
        }
        Op::ArgReduce { .. } => Class::OtherReduce,
        Op::Contract { .. }
        | Op::ContractBlocks { .. }
        | Op::ContractScaled { .. }
        | Op::ContractPanels { .. }
        | Op::ContractGroups { .. } => Class::Core(FusionKind::Contract),
        Op::Conv { .. } | Op::ConvLast { .. } | Op::WinogradInput { .. } | Op::WinogradOutput { .. } => Class::Core(FusionKind::Conv),
        Op::Pool { .. } => Class::Core(FusionKind::Window),
        Op::Attention { .. } | Op::AttentionParts { .. } | Op::MergeParts { .. } => Class::Core(FusionKind::Attention),
        Op::Lstm { .. } | Op::Gru { .. } | Op::LstmSteps { .. } | Op::LstmByteSteps { .. } | Op::GruSteps { .. } => {
            Class::Alone(FusionKind::Recurrent)
        }
        Op::Cast { to: DType::F32, .. } if widens_stored(g, node) => Class::Rename,
        op if op.is_elementwise() => Class::Elementwise,
        _ => Class::Alone(FusionKind::Single),
    }
}

/// Whether a conversion reads what products read rounded, for elementwise ops alone: they widen it rather than that it is stored twice.
fn widens_stored(g: &Graph, node: &Node) -> bool {
    let (&[x], &[y]) = (node.operands.as_slice(), node.results.as_slice()) else { return false };
    let made = g.producer(x).map(|n| &n.op);
    g.ty(x).dtype == DType::BF16
        && matches!(made, Some(Op::Cast { to: DType::BF16, .. }))
        && g.users(x).into_iter().any(|n| matches!(g.node(n).op, Op::Contract { .. } | Op::ConvLast { .. }))
        && !g.is_output(y)
        && g.users(y).into_iter().all(|n| g.node(n).op.is_elementwise())
}

/// Whether kernels of that kind compute operands where they read them, so that what only moves elements can be copied into them.
pub(super) fn computes_operands(kind: FusionKind) -> bool {
    matches!(kind, FusionKind::Map | FusionKind::Reduce | FusionKind::Attention)
}

/// Dims without those of 1.
pub(super) fn unit_stripped(dims: &Dims) -> Vec<&SymExpr> {
    dims.iter().filter(|d| !d.is(1)).collect()
}

/// Whether a reshape must stay a node: it does more than insert or remove dims of 1.
pub fn materialized_reshape(g: &Graph, node: &Node) -> bool {
    class(g, node) == Class::Stays
}

/// Whether computing the node twice costs about as much as loading its result.
pub(super) fn cheap(g: &Graph, node: &Node) -> bool {
    use UnaryOp::*;
    match &node.op {
        Op::Unary(u) => matches!(u, Neg | Abs | Not | Sign | Floor | Ceil | Round | Trunc | IsNan | IsInf),
        // By a number that is known: a multiplication and a shift.
        Op::Binary(BinaryOp::Div | BinaryOp::Mod | BinaryOp::Rem) => {
            let number = |v: &ValueId| g.ty(*v).dtype.is_int() && splat_f64(g, *v).is_some_and(|n| n != 0.0);
            node.operands.get(1).is_some_and(number)
        }
        Op::Binary(b) => !matches!(b, BinaryOp::Pow),
        Op::Select {} | Op::Cast { .. } | Op::Bitcast { .. } => true,
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } | Op::Pad { .. } => true,
        _ => false,
    }
}

/// Whether a source is copied into regions: it says more briefly what memory would hold.
pub(super) fn inlined(op: &Op) -> bool {
    match op {
        Op::Const { value } => value.len() == 1,
        Op::Fill { .. } | Op::Iota { .. } | Op::DimTensor { .. } => true,
        _ => false,
    }
}

/// Elements of a row up to which it may be looked up one by one wherever it is read.
const MAX_SHORT_ROW: i64 = 64;

/// Whether a node looks up whole rows of its table, or elements of rows that are short: what reads the result may look them up itself.
pub(super) fn looks_up(g: &Graph, node: &Node) -> bool {
    let (Some(&table), Some(&found)) = (node.operands.first(), node.results.first()) else { return false };
    let whole = match &node.op {
        Op::Gather { axis } => *axis as usize + 1 < g.ty(table).rank(),
        Op::GatherElements { .. } => false,
        Op::GatherNd { .. } => {
            let depth = node.operands.get(1).and_then(|&i| g.ty(i).dims.last()?.as_const());
            depth.is_some_and(|d| d < g.ty(table).rank() as i64)
        }
        _ => return false,
    };
    whole || g.ty(found).dims.last().and_then(SymExpr::as_const).is_some_and(|n| n <= MAX_SHORT_ROW)
}

/// Whether a value is a source that only a kernel can put into memory.
pub(super) fn needs_kernel(g: &Graph, v: ValueId) -> bool {
    matches!(g.producer(v).map(|n| &n.op), Some(Op::Fill { .. } | Op::Iota { .. }))
}
