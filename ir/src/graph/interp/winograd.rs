// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Winograd's transforms, each product of matrices formed in f64 and rounded once.

use super::tensor::Tensor;
use super::{Fault, Run};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::winograd::{KERNEL, SPAN, TILE, both, input, output};
use crate::numerics;

fn rounded(dtype: DType) -> impl Fn(f64) -> f64 {
    move |x| numerics::decode_f64(dtype, numerics::encode_f64(dtype, x, false))
}

fn no_form() -> Fault {
    Fault::new(Code::SHAPE_MISMATCH, "operand 0 does not have the dims that the op takes")
}

/// `[N,H,W,C]` to `[36,tiles,C]`.
pub(super) fn input_tiles(x: &Tensor, pads: &[i64]) -> Run {
    let (&[n, h, w, c], &[top, left, bottom, right]) = (x.dims.as_slice(), pads) else { return Err(no_form()) };
    let tiles = |len: usize, pads: i64| {
        let out = len as i64 + pads - (KERNEL as i64 - 1);
        usize::try_from(out).map_err(|_| no_form()).map(|o| o.div_ceil(TILE))
    };
    let (th, tw) = (tiles(h, top + bottom)?, tiles(w, left + right)?);
    let (count, values, round) = (n * th * tw, x.to_f64(), rounded(x.dtype));
    let mut out = vec![0u64; SPAN * SPAN * count * c];
    for t in 0..count {
        let (image, ty, tx) = (t / (th * tw), t / tw % th, t % tw);
        for channel in 0..c {
            let at = |i: usize, j: usize| {
                let y = usize::try_from((ty * TILE + i) as i64 - top).ok().filter(|y| *y < h)?;
                let x = usize::try_from((tx * TILE + j) as i64 - left).ok().filter(|x| *x < w)?;
                values.get(((image * h + y) * w + x) * c + channel).copied()
            };
            let d = std::array::from_fn(|i| std::array::from_fn(|j| at(i, j).unwrap_or(0.0)));
            for (i, v) in both(&input(), &d, &round).iter().flatten().enumerate() {
                out[(i * count + t) * c + channel] = numerics::encode_f64(x.dtype, *v, false);
            }
        }
    }
    Ok(Tensor::from_bits(x.dtype, vec![SPAN * SPAN, count, c], out))
}

/// `[36,tiles,C]` to `[N,H,W,C]`.
pub(super) fn output_tiles(m: &Tensor, dims: &[usize]) -> Run {
    let (&[points, count, c], &[n, h, w]) = (m.dims.as_slice(), dims) else { return Err(no_form()) };
    let (th, tw) = (h.div_ceil(TILE), w.div_ceil(TILE));
    if points != SPAN * SPAN || count != n * th * tw {
        return Err(no_form());
    }
    let (values, round) = (m.to_f64(), rounded(m.dtype));
    let mut out = vec![0u64; n * h * w * c];
    for t in 0..count {
        let (image, ty, tx) = (t / (th * tw), t / tw % th, t % tw);
        for channel in 0..c {
            let d = std::array::from_fn(|i| std::array::from_fn(|j| values[((i * SPAN + j) * count + t) * c + channel]));
            for (i, row) in both(&output(), &d, &round).iter().enumerate() {
                for (j, v) in row.iter().enumerate() {
                    let (y, x) = (ty * TILE + i, tx * TILE + j);
                    if y < h && x < w {
                        out[((image * h + y) * w + x) * c + channel] = numerics::encode_f64(m.dtype, *v, false);
                    }
                }
            }
        }
    }
    Ok(Tensor::from_bits(m.dtype, vec![n, h, w, c], out))
}
