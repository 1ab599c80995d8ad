// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums of products in narrow dtypes, for machines with instructions for them.
//!
//! Before: `contract(sub(cast<i32>(a: u8), za), sub(cast<i32>(b: i8), zb))`, products of i32;
//! after, with `b` constant: `contract(a, b) - za * sum(b - zb) - zb * sum(a)`, products of bytes. Sums are over the contracted dims; that
//! of `b` goes to the pack program. Integers wrap, so both sides are equal bit by bit. Operands of a dtype that no instruction takes are
//! shifted by 128 into one that it does, and their zero points with them.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Dims, Graph, NodeId, Op, Patch, ReduceOp, UnaryOp, ValueId};

use crate::canonical::contract::{labels, spec as spec_of};
use crate::rules::consts::is_static;
use crate::rules::{Edit, RuleLog, Tap, sweep};
use crate::spec::{MachineClass, Math, ProductForm};

mod attend;
mod blocks;
mod scaled;
mod split;

pub use attend::over_parts;
pub use blocks::in_panels;
pub use split::in_parts;

const NAME: &str = "products-of-bytes";

/// Rewrites all contractions that it can, those of regions included.
pub fn of_bytes(graph: &mut Graph, machine: &MachineClass, log: &mut RuleLog) {
    let any = match machine {
        MachineClass::Cpu(spec) => spec.dots.iter().any(|d| d.acc == DType::I32) || spec.tiles.iter().any(|t| t.acc == DType::I32),
        MachineClass::Simt(spec) => spec.fragments.iter().any(|f| f.dtypes[2] == DType::I32),
    };
    if any {
        sweep(graph, NAME, log, &|g, n| rewrite(g, n, &|dtypes| taken(machine, dtypes)));
    }
}

/// `q - zero` of bytes; the zero point has dims that broadcast to those of `q`.
struct Centered {
    q: ValueId,
    zero: Option<ValueId>,
    /// The zero point is added instead.
    negative: bool,
}

/// Forms the products of f32 contractions with constant right operands in bf16, where results may be rounded so and the machine has a
/// matrix unit or dot products for it: `contract(x: f32, w)` becomes `contract(cast<bf16>(x), cast<bf16>(w))` with sums in f32.
pub fn in_halves(graph: &mut Graph, machine: &MachineClass, math: Math, log: &mut RuleLog) {
    const NAME: &str = "products-in-bf16";
    let multiplies = match machine {
        MachineClass::Cpu(spec) => spec.products(DType::BF16, DType::BF16, DType::F32) != ProductForm::Multiply,
        MachineClass::Simt(spec) => spec.fragments.iter().any(|f| f.dtypes == [DType::BF16, DType::BF16, DType::F32]),
    };
    if math != Math::Fast || !multiplies {
        return;
    }
    sweep(graph, NAME, log, &|g, n| {
        let node = g.node(n);
        let (Op::Contract { spec: text, acc: DType::F32, out }, &[x, w]) = (&node.op, node.operands.as_slice()) else { return None };
        if [x, w].iter().any(|&v| g.ty(v).dtype != DType::F32) || !is_static(g, w) {
            return None;
        }
        let mut e = Edit::new(g, NAME, &[n]);
        let [a, b, result] = labels(text)?;
        // Instructions take neighbors along the summed dim: the operand that is rounded anyway gets that last.
        let summed = |i: &usize| b.contains(&a[*i]) && !result.contains(&a[*i]);
        let (inner, outer): (Vec<usize>, Vec<usize>) = (0..a.len()).partition(summed);
        let perm: Vec<usize> = outer.into_iter().chain(inner).collect();
        let mut x = Tap::Old(x);
        let mut text = text.clone();
        if !a.last().is_some_and(|c| b.contains(c) && !result.contains(c)) && perm.len() > 1 {
            x = e.transpose(x, perm.iter().map(|&i| i as u32).collect())?;
            text = spec_of(&[perm.iter().map(|&i| a[i]).collect(), b, result]);
        }
        let (x, w) = (e.cast(x, DType::BF16)?, e.cast(w, DType::BF16)?);
        let y = e.contract(&text, x, w, DType::F32, *out)?;
        e.finish(g.result(n), y)
    });
}

fn is_byte(d: DType) -> bool {
    matches!(d, DType::I8 | DType::U8)
}

impl Centered {
    fn of(g: &Graph, v: ValueId) -> Option<Self> {
        let byte = |v: ValueId| -> Option<ValueId> {
            if is_byte(g.ty(v).dtype) {
                return Some(v);
            }
            match g.producer(v).map(|n| (&n.op, n.operands.as_slice())) {
                Some((Op::Cast { .. }, &[q])) if is_byte(g.ty(q).dtype) => Some(q),
                _ => None,
            }
        };
        if let Some(q) = byte(v) {
            return Some(Centered { q, zero: None, negative: false });
        }
        let node = g.producer(v)?;
        let (Op::Binary(op), &[x, z]) = (&node.op, node.operands.as_slice()) else { return None };
        let (q, z, negative) = match op {
            BinaryOp::Sub => (byte(x)?, z, false),
            BinaryOp::Add => byte(x).map(|q| (q, z, true)).or_else(|| byte(z).map(|q| (q, x, true)))?,
            _ => return None,
        };
        (g.ty(q).dims == g.ty(v).dims).then_some(Centered { q, zero: Some(z), negative })
    }
}

/// One side of the product: the bytes that are multiplied, and what they are ahead of the numbers that they stand for.
struct Side {
    bytes: Tap,
    /// Has the dims of the result, or 1.
    ahead: Option<Tap>,
}

/// The dtypes that bytes of these dtypes are best multiplied in.
type Taken<'t> = dyn Fn([DType; 2]) -> Option<[DType; 2]> + 't;

fn rewrite(g: &Graph, n: NodeId, taken: &Taken<'_>) -> Option<Patch> {
    let node = g.node(n);
    let (Op::Contract { spec: text, acc: DType::I32, out: DType::I32 }, &[l, r]) = (&node.op, node.operands.as_slice()) else {
        return None;
    };
    let (a, b) = (Centered::of(g, l)?, Centered::of(g, r)?);
    let [a_labels, b_labels, out] = labels(text)?;
    let dtypes = [g.ty(a.q).dtype, g.ty(b.q).dtype];
    let wanted = taken(dtypes)?;
    let plain = a.zero.is_none() && b.zero.is_none() && is_byte(g.ty(l).dtype) && is_byte(g.ty(r).dtype);
    if !is_static(g, r) || (plain && dtypes == wanted) {
        return None;
    }
    let mut e = Edit::new(g, NAME, &[n]);
    let left = side(&mut e, g, &a, wanted[0], &a_labels, &out)?;
    let right = side(&mut e, g, &b, wanted[1], &b_labels, &out)?;
    let mut y = e.contract(text, left.bytes, right.bytes, DType::I32, DType::I32)?;
    if let Some(ahead) = left.ahead {
        let sum = sum_of(&mut e, r.into(), &b_labels, &out)?;
        let term = e.binary(BinaryOp::Mul, ahead, sum)?;
        y = e.binary(BinaryOp::Sub, y, term)?;
    }
    if let Some(ahead) = right.ahead {
        let sum = sum_of(&mut e, left.bytes, &a_labels, &out)?;
        let term = e.binary(BinaryOp::Mul, ahead, sum)?;
        y = e.binary(BinaryOp::Sub, y, term)?;
    }
    e.finish(g.result(n), y)
}

fn taken(machine: &MachineClass, [a, b]: [DType; 2]) -> Option<[DType; 2]> {
    let spec = match machine {
        MachineClass::Cpu(spec) => spec,
        MachineClass::Simt(spec) => {
            // Those that have a fragment as they are, else signed ones.
            let has = |d: [DType; 2]| spec.fragments.iter().any(|f| f.dtypes == [d[0], d[1], DType::I32]);
            return [[a, b], [DType::I8, DType::I8]].into_iter().find(|d| has(*d));
        }
    };
    if spec.tiles.iter().any(|t| t.acc == DType::I32 && is_byte(t.operand)) {
        return Some([a, b]);
    }
    let shifts = |d: &&crate::spec::DotForm| 2 * u32::from(d.a != a) + u32::from(d.b != b);
    spec.dots.iter().filter(|d| d.acc == DType::I32 && is_byte(d.a) && is_byte(d.b)).min_by_key(shifts).map(|d| [d.a, d.b])
}

fn side(e: &mut Edit<'_>, g: &Graph, c: &Centered, wanted: DType, own: &[char], out: &[char]) -> Option<Side> {
    let from = g.ty(c.q).dtype;
    let zero = match c.zero {
        Some(z) => {
            let z = aligned(e, g.ty(c.q).rank(), z, own, out)?;
            Some(if c.negative { e.unary(UnaryOp::Neg, z)? } else { z })
        }
        None => None,
    };
    if from == wanted {
        return Some(Side { bytes: c.q.into(), ahead: zero });
    }
    let shift = if wanted == DType::U8 { 128.0 } else { -128.0 };
    let wide = e.cast(c.q, DType::I32)?;
    let moved = e.with_scalar(BinaryOp::Add, wide, shift)?;
    let bytes = e.cast(moved, wanted)?;
    let ahead = match zero {
        Some(z) => e.with_scalar(BinaryOp::Add, z, shift)?,
        None => e.scalar(DType::I32, shift)?,
    };
    Some(Side { bytes, ahead: Some(ahead) })
}

/// A zero point of an operand of that rank with the dims of the result, or 1; `None` if it varies along a summed dim.
fn aligned(e: &mut Edit<'_>, rank: usize, z: ValueId, own: &[char], out: &[char]) -> Option<Tap> {
    if e.ty(z).rank() == 0 {
        return Some(z.into());
    }
    let mut dims: Dims = vec![1.into(); rank.checked_sub(e.ty(z).rank())?];
    dims.extend(e.ty(z).dims.clone());
    if own.iter().zip(&dims).any(|(c, d)| !out.contains(c) && !d.is(1)) {
        return None;
    }
    let z = e.reshape(z, dims)?;
    in_result(e, z, own, out)
}

/// Sum of bytes, or of numbers, over the summed dims, with the dims of the result, or 1.
fn sum_of(e: &mut Edit<'_>, x: Tap, own: &[char], out: &[char]) -> Option<Tap> {
    let x = e.cast(x, DType::I32)?;
    let axes = (0..own.len()).filter(|&i| !out.contains(&own[i])).map(|i| i as u32).collect();
    let sum = e.reduce(ReduceOp::Sum, x, axes)?;
    in_result(e, sum, own, out)
}

/// What has 1 for each summed dim, with its dims where the result has them.
fn in_result(e: &mut Edit<'_>, x: Tap, own: &[char], out: &[char]) -> Option<Tap> {
    let at = |c: &char| own.iter().position(|o| o == c);
    let summed = (0..own.len()).filter(|&i| !out.contains(&own[i]));
    let perm: Vec<u32> = out.iter().filter_map(at).chain(summed).map(|i| i as u32).collect();
    let dims: Dims = out.iter().map(|c| at(c).and_then(|i| e.ty(x).dims.get(i).cloned()).unwrap_or(1.into())).collect();
    let x = e.transpose(x, perm)?;
    e.reshape(x, dims)
}
