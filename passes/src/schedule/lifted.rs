// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Exponentials of which only ratios are wanted.
//!
//! A softmax divides exponentials of numbers up to 0 by their sum, so all of them may be 2^32 times as large. Then the smallest that the
//! quotient can tell from 0 is a normal number, and nothing in the kernel is concerned with subnormal ones until the last product rounds
//! to them.

use std::collections::HashSet;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Graph, Node, Op, ReduceOp, UnaryOp, ValueId};
use portwright_ir::kernel::{BinOp, Ex, Kb};

/// `2^32 e^x` for `x <= 0` within an ulp; below e^-104, which no f32 is, it stays there.
pub(super) fn exponential(k: &mut Kb<'_>, x: &Ex) -> Ex {
    let f = k.module().define_fn("exp_lifted", &[("x", DType::F32)], DType::F32, |f, args| {
        let x = &args[0];
        let c = f.let_("c", x.lt(-104.0).select(-104.0, x));
        // The sum with 1.5 * 2^23 + 127 + 32 has the exponent of 2^(n + 32) in its low bits, n the integer nearest to x / ln 2.
        let t = f.let_("t", c.fma(std::f64::consts::LOG2_E, 12_583_071.0));
        let n = f.let_("n", &t - 12_583_071.0);
        let r = f.let_("r", n.fma(1.904_654_299_957_768e-9, n.fma(-0.693_147_182_464_599_6, &c)));
        // e^r on both sides of 0 up to ln(2) / 2, within 4e-9.
        let p = r.fma(1.381_454e-3, 8.368_745e-3);
        let p = [4.166_839_1e-2, 1.666_652_04e-1, 4.999_999_34e-1, 1.0, 1.0].iter().fold(p, |p, c| p.fma(&r, *c));
        p * t.bitcast(DType::I32).bin(BinOp::Shl, Ex::lit(DType::I32, 23.0)).bitcast(DType::F32)
    });
    k.call(f, std::slice::from_ref(x))
}

/// The exponentials of a region that may be lifted: of what is at most 0, the difference to the largest of its row, and used by nothing
/// but their sum and quotients by it.
pub(super) fn of_region(region: &Graph) -> HashSet<ValueId> {
    let nodes: Vec<&Node> = region.order().into_iter().map(|n| region.node(n)).collect();
    let users = |v: ValueId| nodes.iter().copied().filter(move |n| n.operands.contains(&v));
    let reduced = |v: ValueId, over: ValueId, wanted: ReduceOp| {
        region.producer(v).is_some_and(|n| matches!(n.op, Op::Reduce { op, keep: true, .. } if op == wanted) && n.operands[0] == over)
    };
    let below_top = |v: ValueId| {
        region.producer(v).is_some_and(|n| n.op == Op::Binary(BinaryOp::Sub) && reduced(n.operands[1], n.operands[0], ReduceOp::Max))
    };
    // Whether a sum of exponentials `e` does nothing but divide them.
    let divides = |sum: ValueId, e: ValueId| {
        !region.is_output(sum)
            && users(sum).all(|n| match n.op {
                Op::Binary(BinaryOp::Div) => n.operands[..] == [e, sum],
                Op::Unary(UnaryOp::Recip) => {
                    let part = n.results[0];
                    !region.is_output(part) && users(part).all(|n| scales(n, e, part))
                }
                _ => false,
            })
    };
    let liftable = |n: &&Node| {
        let e = n.results[0];
        n.op == Op::Unary(UnaryOp::Exp)
            && region.ty(e).dtype == DType::F32
            && below_top(n.operands[0])
            && !region.is_output(e)
            && users(e).any(|n| reduced(n.results[0], e, ReduceOp::Sum))
            && users(e).all(|n| match n.op {
                Op::Reduce { op: ReduceOp::Sum, .. } => divides(n.results[0], e),
                Op::Binary(BinaryOp::Div) => reduced(n.operands[1], e, ReduceOp::Sum),
                Op::Binary(BinaryOp::Mul) => n.operands.iter().any(|&o| {
                    region.producer(o).is_some_and(|r| r.op == Op::Unary(UnaryOp::Recip) && reduced(r.operands[0], e, ReduceOp::Sum))
                }),
                _ => false,
            })
    };
    nodes.iter().copied().filter(liftable).map(|n| n.results[0]).collect()
}

/// Whether a node is the product of `e` and `part`.
fn scales(n: &Node, e: ValueId, part: ValueId) -> bool {
    n.op == Op::Binary(BinaryOp::Mul) && (n.operands[..] == [e, part] || n.operands[..] == [part, e])
}

#[cfg(test)]
mod tests {
    use portwright_ir::kernel::interp::{Args, Memory, RunOptions, run};
    use portwright_ir::kernel::{BufDecl, Class, Mem, Module};

    use super::*;

    #[test]
    fn lifted_exponentials_are_within_an_ulp() {
        // Every power of two that occurs, both sides of where it changes, and what is beyond the last.
        let mut xs: Vec<f32> = (0..1600).map(|i| -0.065 * i as f32).collect();
        xs.extend((0..150).flat_map(|n| [-0.499_999, -0.5, -0.500_001].map(|h| ((h - f64::from(n)) * std::f64::consts::LN_2) as f32)));
        xs.extend([-0.0, -1e-30, -103.999, -104.0, -104.001, -1e30, f32::NEG_INFINITY, f32::NAN]);
        let n = xs.len() as i64;
        let mut m = Module::default();
        let mut k = Kb::new(&mut m, "k", Class::Cpu);
        let (x, y) = (k.param("x", BufDecl::ro(DType::F32, [n.into()])), k.param("y", BufDecl::wo(DType::F32, [n.into()])));
        k.launch([1.into(), 1.into(), 1.into()]);
        k.for_("i", 0, n, 1, |k, i| {
            let v = k.load("v", Mem::new(x, vec![(i.clone(), 1)]));
            let e = exponential(k, &v);
            k.store(Mem::new(y, vec![(i, 1)]), e);
        });
        let id = k.finish();
        let bytes: Vec<u8> = xs.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut out = vec![0u8; bytes.len()];
        let mut memory = vec![Memory::Ro(&bytes), Memory::Rw(&mut out)];
        let args = Args { bufs: vec![(0, 0), (1, 0)], ..Args::default() };
        run(&m, id, &mut memory, &args, &RunOptions::default()).unwrap_or_else(|f| panic!("{f}"));
        drop(memory);
        for (x, y) in xs.iter().zip(out.chunks_exact(4)) {
            let got = f32::from_le_bytes([y[0], y[1], y[2], y[3]]);
            let want = f64::from(x.max(-104.0)).exp() * 2f64.powi(32);
            let ulp = 2f64.powi(want.log2().floor() as i32 - 23);
            let right = if x.is_nan() { got.is_nan() } else { (f64::from(got) - want).abs() <= ulp };
            assert!(right, "{x:e}: {got:e}, not {want:e}");
        }
    }
}
