// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Uniform numbers from a counter: Philox 4x32-10 as `numerics::uniform` has it, in 64-bit lanes.

use portwright_ir::dtype::DType;
use portwright_ir::graph::Scalar;
use portwright_ir::kernel::{BinOp, Ex, Kb, Ty};
use portwright_ir::numerics;

use super::elementwise::lanes;

/// Numbers in `[low, high)` for the elements at these row-major positions (i64, scalar or vector).
pub(crate) fn uniform(k: &mut Kb<'_>, position: &Ex, (low, high): (Scalar, Scalar), seed: u64) -> Ex {
    let n = lanes(position);
    let word = |v: u64| Ex::int(v.into()).typed(&Ty::Scalar(DType::U64)).splat(n);
    let low32 = 0xffff_ffffu64;
    let index = k.let_("index", position.cast(DType::U64));
    let half = |k: &mut Kb<'_>, x: Ex| k.let_("w", x.bin(BinOp::Shr, word(32)));
    let mut c = [k.let_("c", &index & word(low32)), half(k, index.clone()), word(0), word(0)];
    let mut key = [seed as u32, (seed >> 32) as u32];
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
        }
        let p0 = k.let_("p", c[0].mul_w(word(0xd251_1f53)));
        let p1 = k.let_("p", c[2].mul_w(word(0xcd9e_8d57)));
        let (h0, h1) = (p0.bin(BinOp::Shr, word(32)), p1.bin(BinOp::Shr, word(32)));
        let next = [h1 ^ &c[1] ^ word(key[0].into()), &p1 & word(low32), h0 ^ &c[3] ^ word(key[1].into()), &p0 & word(low32)];
        c = next.map(|x| k.let_("c", x));
    }
    let d = low.dtype;
    let (lo, hi) = (low.to_f64(), high.to_f64());
    let shifted = |x: &Ex, by: u64| x.bin(BinOp::Shr, word(by));
    // Values under 2^32 convert alike from i64, which more machines can.
    let float = |x: Ex, to: DType| x.cast(DType::I64).cast(to);
    let lit = |d: DType, v: f64| Ex::lit(d, v).splat(n);
    let made = if d == DType::F64 {
        let u = float(shifted(&c[0], 5), d) * lit(d, 67_108_864.0) + float(shifted(&c[1], 6), d);
        u * lit(d, 1.0 / 9_007_199_254_740_992.0) * lit(d, hi - lo) + lit(d, lo)
    } else {
        let f = DType::F32;
        let u = float(shifted(&c[0], 8), f) * lit(f, 1.0 / 16_777_216.0);
        (lit(f, lo) + u * lit(f, f64::from(hi as f32 - lo as f32))).cast(d)
    };
    // What rounds up to the end or beyond is the begin.
    let made = k.let_("u", made);
    let limit = lit(d, numerics::decode_f64(d, high.bits));
    made.ge(limit).select(lit(d, lo), &made)
}
