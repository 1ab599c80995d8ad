// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums of products with integers, or floats of 8 bits, that have a scale a block, formed in f64 and rounded once.

use super::tensor::Tensor;
use super::{Fault, Run};
use crate::diag::Code;
use crate::dtype::DType;
use crate::numerics;

/// The right operand by its columns `n`, summed coordinates `k` and blocks of them.
struct Columns<'t> {
    n: usize,
    block: usize,
    stored: Box<dyn Fn(usize, usize) -> f64 + 't>,
    /// Position of a column's block in scales and zero points.
    at: Box<dyn Fn(usize, usize) -> usize + 't>,
    scale: &'t Tensor,
    zero: Option<&'t Tensor>,
    /// The zero point where there is no tensor of them.
    middle: i64,
}

/// A number of any dtype.
fn number(t: &Tensor, i: usize) -> f64 {
    match t.dtype.int_range() {
        Some(_) => numerics::int_from_bits(t.dtype, t.bits(i)) as f64,
        None => numerics::decode_f64(t.dtype, t.bits(i)),
    }
}

fn products(x: &Tensor, c: &Columns<'_>) -> Run {
    let Some((&depth, lead)) = x.dims.split_last() else {
        return Err(Fault::new(Code::SHAPE_MISMATCH, "the left operand is a scalar"));
    };
    let rows: usize = lead.iter().product();
    let values = x.to_f64();
    let mut sums = vec![0.0; rows * c.n];
    for n in 0..c.n {
        let real: Vec<f64> = (0..depth)
            .map(|k| {
                let at = (c.at)(n, k / c.block);
                let zero = c.zero.map_or(c.middle as f64, |z| number(z, at));
                ((c.stored)(n, k) - zero) * number(c.scale, at)
            })
            .collect();
        for r in 0..rows {
            sums[r * c.n + n] = values[r * depth..(r + 1) * depth].iter().zip(&real).map(|(a, b)| a * b).sum();
        }
    }
    let dims = lead.iter().copied().chain([c.n]).collect();
    Ok(Tensor::from_f64(x.dtype, dims, &sums))
}

/// `contract_blocks`; shapes were checked by inference.
pub(super) fn plain(x: &Tensor, q: &Tensor, scale: &Tensor, zero: Option<&Tensor>, middle: i64, block: usize) -> Run {
    let (n, depth) = (q.dims[0], q.dims[1]);
    let blocks = depth.div_ceil(block.max(1));
    let stored = Box::new(move |n: usize, k: usize| number(q, n * depth + k));
    let at = Box::new(move |n: usize, b: usize| n * blocks + b);
    products(x, &Columns { n, block: block.max(1), stored, at, scale, zero, middle })
}

/// `contract_panels`; shapes were checked by inference.
pub(super) fn panels(x: &Tensor, w: &Tensor, more: [Option<&Tensor>; 2], middle: i64, [n, bits, block]: [usize; 3]) -> Run {
    let [Some(scale), zero] = more else { return Err(Fault::new(Code::BAD_ARITY, "no scales")) };
    let (blocks, words, width) = (w.dims[1], w.dims[2], w.dims[3] / 4);
    let stored = Box::new(move |n: usize, k: usize| {
        let (b, i) = (k / block, k % block);
        let (word, i) = (i / (32 / bits), i % (32 / bits));
        let at = ((n / width * blocks + b) * words + word) * 4 * width + n % width * 4 + i % 4;
        (numerics::int_from_bits(DType::U8, w.bits(at)) >> (i / 4 * bits) & ((1 << bits) - 1)) as f64
    });
    let at = Box::new(move |n: usize, b: usize| (n / width * blocks + b) * width + n % width);
    products(x, &Columns { n, block, stored, at, scale, zero, middle })
}

/// `contract_scaled`; shapes were checked by inference.
pub(super) fn scaled([a, b]: [&Tensor; 2], [sa, sb]: [&Tensor; 2], block: usize, out: DType) -> Run {
    let (Some((&depth, lead)), &[n, _]) = (a.dims.split_last(), b.dims.as_slice()) else {
        return Err(Fault::new(Code::SHAPE_MISMATCH, "the left operand is a scalar, or the right one no matrix"));
    };
    let rows: usize = lead.iter().product();
    let (x, y, block) = (a.to_f64(), b.to_f64(), block.max(1));
    let blocks = depth / block;
    let (sx, sy) = (sa.to_f64(), sb.to_f64());
    let mut sums = Vec::with_capacity(rows * n);
    for r in 0..rows {
        for c in 0..n {
            let part = |k: usize| {
                let products = (k * block..(k + 1) * block).map(|i| x[r * depth + i] * y[c * depth + i]);
                products.sum::<f64>() * sx[r * blocks + k] * sy[c * blocks + k]
            };
            sums.push((0..blocks).map(part).sum());
        }
    }
    Ok(Tensor::from_f64(out, lead.iter().copied().chain([n]).collect(), &sums))
}
