// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Products with constant integers that have a scale a block, in the panels that kernels read from end to end.
//!
//! Before: `contract_blocks(x, weight "w": u4[N, K], weight "s": [N, B])`, or `contract(x, dequantize(w, s))`;
//! after: `contract_panels(x, weight "w.packed": u8[P, B, G, 4 * W], weight "s.packed": [P, B, W])`. What is written here as movement, shifts and
//! `or` goes to the pack program: weights stay as narrow as they come. Signed integers are moved up to ones without sign, and zero points with them.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Graph, Literal, NodeId, Op, PadMode, Patch, Scalar, ValueId};
use portwright_ir::sym::{SymExpr, product};

use crate::canonical::contract::labels;
use crate::rules::consts::is_static;
use crate::rules::{Edit, RuleLog, Tap, sweep};
use crate::spec::{CpuSpec, MachineClass, Math};

const NAME: &str = "products-in-panels";

/// Rows of the left operand up to which bytes are multiplied as they lie: with more, products take the time, not memory.
const FEW_ROWS: i64 = 16;

/// Rewrites all products that it can, those of regions included.
pub fn in_panels(graph: &mut Graph, machine: &MachineClass, math: Math, log: &mut RuleLog) {
    let spec = match machine {
        MachineClass::Cpu(spec) => spec,
        MachineClass::Simt(spec) => return super::scaled::in_blocks(graph, spec, math, log),
    };
    if spec.lanes(DType::F32) < 4 {
        return;
    }
    sweep(graph, NAME, log, &|g, n| rewrite(g, n, spec));
}

/// A product in the terms of `contract_blocks`.
struct Product {
    x: ValueId,
    q: Tap,
    scale: Tap,
    zero: Option<Tap>,
    /// The zero point where there is no tensor of them.
    middle: i64,
    block: i64,
    narrow: bool,
    /// Where the rows of each group begin, if `q`, `scale` and `zero` have one part a group.
    starts: Option<ValueId>,
}

fn rewrite(g: &Graph, n: NodeId, spec: &CpuSpec) -> Option<Patch> {
    let mut e = Edit::new(g, NAME, &[n]);
    let node = g.node(n);
    let p = match (&node.op, node.operands.as_slice()) {
        (Op::ContractBlocks { block, narrow, zero, groups }, &[x, q, scale, ref rest @ ..]) => {
            let (rest, starts) = match rest.split_last() {
                Some((&starts, rest)) if *groups => (rest, Some(starts)),
                _ => (rest, None),
            };
            if ![q, scale].iter().chain(rest).all(|&v| is_static(g, v)) {
                return None;
            }
            let zero_point = rest.first().map(|&z| z.into());
            Product { x, q: q.into(), scale: scale.into(), zero: zero_point, middle: *zero, block: *block, narrow: *narrow, starts }
        }
        (Op::ContractGroups { acc: DType::F32, out }, &[x, w, starts]) if *out == g.ty(x).dtype => grouped(&mut e, g, x, w, starts)?,
        (Op::Contract { spec: text, acc: DType::F32, out }, &[x, w]) if *out == g.ty(x).dtype => dequantized(&mut e, g, text, x, w)?,
        _ => return None,
    };
    let y = p.panels(&mut e, g, spec)?;
    e.finish(g.result(n), y)
}

/// The product of a contraction whose right operand is dequantized.
fn dequantized(e: &mut Edit<'_>, g: &Graph, text: &str, x: ValueId, w: ValueId) -> Option<Product> {
    let source = g.producer(w)?;
    let (Op::Dequantize { axis, block, .. }, &[q, scale, ref rest @ ..]) = (&source.op, source.operands.as_slice()) else { return None };
    let [a, b, out] = labels(text)?;
    let (&k, lead) = a.split_last()?;
    let (&last, same) = out.split_last()?;
    let at = b.iter().position(|&c| c == k)?;
    if b.len() != 2 || same != lead || out.contains(&k) || b.get(1 - at) != Some(&last) || !source.operands.iter().all(|&v| is_static(g, v))
    {
        return None;
    }
    let x_dims = &g.ty(x).dims;
    let few = product(&x_dims[..x_dims.len().checked_sub(1)?]).as_const().is_some_and(|m| m <= FEW_ROWS);
    if g.ty(q).dtype.bits() > if few { 8 } else { 4 } {
        return None;
    }
    let dims = g.ty(q).static_dims()?;
    let (&depth, &n) = (dims.get(at)?, dims.get(1 - at)?);
    let by_rows = |e: &mut Edit<'_>, v: Tap| if at == 0 { e.transpose(v, vec![1, 0]) } else { Some(v) };
    let one_a_row = |e: &mut Edit<'_>, v: Tap| match e.ty(v).elems().as_const()? {
        1 => {
            let v = e.reshape(v, vec![1.into(), 1.into()])?;
            e.broadcast(v, vec![n.into(), 1.into()])
        }
        elems if elems == n && (*block <= 1 || *axis == Some(1 - at as u32)) => e.reshape(v, vec![n.into(), 1.into()]),
        _ => None,
    };
    let blocked = *axis == Some(at as u32) && *block > 1;
    if !blocked && axis.is_some_and(|a| a as usize == at) && !e.ty(scale).elems().is(1) {
        return None;
    }
    let spread = |e: &mut Edit<'_>, v: ValueId| if blocked { by_rows(e, v.into()) } else { one_a_row(e, v.into()) };
    let scale = spread(e, scale)?;
    let zero = match rest.first() {
        Some(&z) => Some(spread(e, z)?),
        None => None,
    };
    let q = by_rows(e, q.into())?;
    let block = if blocked { i64::from(*block) } else { depth };
    Some(Product { x, q, scale, zero, middle: 0, block, narrow: false, starts: None })
}

/// The product of rows in groups with matrices that are dequantized: one number a block along the summed dim, or one a matrix.
fn grouped(e: &mut Edit<'_>, g: &Graph, x: ValueId, w: ValueId, starts: ValueId) -> Option<Product> {
    let source = g.producer(w)?;
    let (w, columns_last) = match &source.op {
        Op::Transpose { perm } if perm.as_slice() == [0, 2, 1] => (*source.operands.first()?, false),
        _ => (w, true),
    };
    let source = g.producer(w)?;
    let (Op::Dequantize { axis, block, .. }, &[q, scale, ref rest @ ..]) = (&source.op, source.operands.as_slice()) else { return None };
    let few = g.ty(x).dims.first()?.as_const().is_some_and(|m| m <= FEW_ROWS);
    if !source.operands.iter().all(|&v| is_static(g, v)) || g.ty(q).dtype.bits() > if few { 8 } else { 4 } {
        return None;
    }
    let &[groups, a, b] = g.ty(q).static_dims()?.as_slice() else { return None };
    let (depth, n, along) = if columns_last { (a, b, 1) } else { (b, a, 2) };
    let by_rows = |e: &mut Edit<'_>, v: Tap| if columns_last { e.transpose(v, vec![0, 2, 1]) } else { Some(v) };
    let spread = |e: &mut Edit<'_>, v: ValueId| match axis {
        Some(at) if *at == along && *block > 1 => by_rows(e, v.into()),
        Some(0) if e.ty(v).elems().is(groups) => {
            let v = e.reshape(v, dims(&[groups, 1, 1]))?;
            e.broadcast(v, dims(&[groups, n, 1]))
        }
        _ => None,
    };
    let scale = spread(e, scale)?;
    let zero = match rest.first() {
        Some(&z) => Some(spread(e, z)?),
        None => None,
    };
    let q = by_rows(e, q.into())?;
    let block = if *axis == Some(0) { depth } else { i64::from(*block) };
    Some(Product { x, q, scale, zero, middle: 0, block, narrow: false, starts: Some(starts) })
}

impl Product {
    fn panels(&self, e: &mut Edit<'_>, g: &Graph, spec: &CpuSpec) -> Option<Tap> {
        let ty = e.ty(self.q).clone();
        let (bits, signed) = (i64::from(ty.dtype.bits()), ty.dtype.is_signed_int());
        let sizes = ty.static_dims()?;
        let (lead, &[n, depth]) = sizes.split_at_checked(usize::from(self.starts.is_some()))? else { return None };
        let float = |d: DType| matches!(d, DType::F32 | DType::F16 | DType::BF16);
        let takes = ty.dtype.is_int() && [2, 4, 8].contains(&bits) && float(g.ty(self.x).dtype) && float(e.ty(self.scale).dtype);
        // One column is a sum along rows, which has no vectors of columns.
        if !takes || n < 2 || depth < 1 {
            return None;
        }
        let blocks = (depth + self.block - 1) / self.block;
        // A block of its own may be filled up; others are whole vectors and whole words.
        let block = if blocks == 1 { (depth + 63) / 64 * 64 } else { self.block };
        if block % i64::from(spec.lanes(DType::F32)) != 0 || block * bits % 32 != 0 {
            return None;
        }
        let width = i64::from(spec.block_columns(Some(n)));
        let panels = (n + width - 1) / width;
        let (words, parts) = (block * bits / 32, 8 / bits);
        let moved = if signed { 1i64 << (bits - 1) } else { 0 };
        let unsigned = |e: &mut Edit<'_>, v: Tap| {
            if !signed {
                return e.cast(v, DType::U8);
            }
            let v = e.cast(v, DType::I32)?;
            let v = e.with_scalar(BinaryOp::Add, v, moved as f64)?;
            e.cast(v, DType::U8)
        };
        let q = unsigned(e, self.q)?;
        // A dim of groups stays ahead of the others.
        let l = lead.len() as u32;
        let within = |list: &[i64]| dims(&[lead, list].concat());
        let q = filled(e, q, [panels * width, blocks * block])?;
        let q = e.reshape(q, within(&[panels, width, blocks, words, parts, 4]))?;
        let q = e.transpose(q, [l + 4].into_iter().chain(0..l).chain([0, 2, 3, 1, 5].map(|p| l + p)).collect())?;
        let mut w: Option<Tap> = None;
        for j in 0..parts {
            let part = e.slice_axis(q, 0, j.into(), 1.into())?;
            let part = e.reshape(part, within(&[panels, blocks, words, 4 * width]))?;
            w = Some(match w {
                None => part,
                Some(w) => {
                    let part = e.with_scalar(BinaryOp::Shl, part, (bits * j) as f64)?;
                    e.binary(BinaryOp::Or, w, part)?
                }
            });
        }
        let by_block = |e: &mut Edit<'_>, v: Tap| {
            let v = filled(e, v, [panels * width, blocks])?;
            let v = e.reshape(v, within(&[panels, width, blocks]))?;
            e.transpose(v, (0..l).chain([0, 2, 1].map(|p| l + p)).collect())
        };
        let mut operands = vec![self.x.into(), w?, by_block(e, self.scale)?];
        if let Some(z) = self.zero {
            let z = if e.ty(z).dtype.is_int() { unsigned(e, z)? } else { z };
            operands.push(by_block(e, z)?);
        }
        let zero = self.middle + moved;
        operands.extend(self.starts.map(Tap::from));
        e.add(Op::ContractPanels { columns: n, bits, block, narrow: self.narrow, zero, groups: self.starts.is_some() }, &operands)
    }
}

fn dims(list: &[i64]) -> Dims {
    list.iter().map(|&d| d.into()).collect()
}

/// Matrices with zeros behind their rows and columns, which are the last dims.
fn filled(e: &mut Edit<'_>, x: Tap, to: [i64; 2]) -> Option<Tap> {
    let from = e.ty(x).static_dims()?;
    let lead = from.len().checked_sub(2)?;
    let behind = from.iter().skip(lead).zip(to).map(|(&d, t)| SymExpr::from(t - d));
    let high: Dims = vec![SymExpr::from(0); lead].into_iter().chain(behind).collect();
    if high.iter().all(|d| d.is(0)) {
        return Some(x);
    }
    let zero = e.add(Op::Const { value: Literal::scalar(Scalar::zero(e.ty(x).dtype)) }, &[])?;
    let low = vec![SymExpr::from(0); high.len()];
    e.add(Op::Pad { mode: PadMode::Constant, low, interior: vec![0; high.len()], high }, &[x, zero])
}
