// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Contractions, convolutions and pooling.
//!
//! As an oracle the interpreter forms float products and sums in f64 whatever the accumulation dtype, and rounds once to that dtype and
//! then to the result's. Integers wrap in the accumulation dtype, which for sums and products is the same as wrapping at the end.

use super::movement::{each_index, transpose};
use super::reduce::Acc;
use super::tensor::{Tensor, count};
use super::walk::{broadcast_strides, strides};
use super::{Fault, Run};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::infer::Labels;
use crate::graph::op::ReduceOp;
use crate::numerics;

/// Elements as the numbers that a sum of products is formed of.
enum Numbers {
    F32(Vec<f32>),
    F64(Vec<f64>),
    Int(Vec<i64>),
}

impl Numbers {
    fn of(t: &Tensor) -> Self {
        match t.dtype {
            DType::F64 => Numbers::F64(t.to_f64()),
            d if d.is_float() => Numbers::F32(t.to_f32()),
            _ => Numbers::Int(t.to_i64()),
        }
    }
}

/// An element and the sum that it enters.
trait Term: Copy {
    type Sum: Copy + Default;
    /// `sum + a * b`.
    fn add(sum: Self::Sum, a: Self, b: Self) -> Self::Sum;
}
impl Term for f32 {
    type Sum = f64;
    fn add(sum: f64, a: f32, b: f32) -> f64 {
        sum + f64::from(a) * f64::from(b)
    }
}
impl Term for f64 {
    type Sum = f64;
    fn add(sum: f64, a: f64, b: f64) -> f64 {
        sum + a * b
    }
}
impl Term for i64 {
    type Sum = i64;
    fn add(sum: i64, a: i64, b: i64) -> i64 {
        sum.wrapping_add(a.wrapping_mul(b))
    }
}

/// Sums that are rounded to `acc`, then to `out`.
fn finish_float(dims: Vec<usize>, sums: &[f64], acc: DType, out: DType) -> Tensor {
    if acc == DType::F32 && out == DType::F32 {
        return Tensor::encode_f32(out, dims, &sums.iter().map(|&s| s as f32).collect::<Vec<_>>());
    }
    let bits = sums.iter().map(|&s| numerics::cast(numerics::encode_f64(acc, s, false), acc, out, false));
    Tensor::from_bits(out, dims, bits)
}
fn finish_int(dims: Vec<usize>, sums: &[i64], acc: DType, out: DType) -> Tensor {
    let bits = sums.iter().map(|&s| numerics::cast(numerics::int_to_bits(acc, s.into()), acc, out, false));
    Tensor::from_bits(out, dims, bits)
}

/// `a: [B.., M, K]`, `b: [B.., K, N]`, batches by offset; the row of sums lies close, so that the inner loop is one over memory.
fn products<T: Term>(a: &[T], b: &[T], batches: &[(usize, usize)], m: usize, k: usize, n: usize) -> Vec<T::Sum> {
    let mut out = vec![T::Sum::default(); batches.len() * m * n];
    if n == 0 {
        return out;
    }
    for (row, sums) in out.chunks_exact_mut(n).enumerate() {
        let (ba, bb) = batches[row / m];
        let (left, right) = (&a[ba + row % m * k..], &b[bb..]);
        for i in 0..k {
            let l = left[i];
            for (s, &r) in sums.iter_mut().zip(&right[i * n..(i + 1) * n]) {
                *s = T::add(*s, l, r);
            }
        }
    }
    out
}

pub(super) fn contract(a: &Tensor, b: &Tensor, spec: &str, acc: DType, out: DType) -> Run {
    let labels = Labels::parse(spec).map_err(|m| Fault::new(Code::BAD_ATTRIBUTE, m))?;
    let mismatch = || Fault::new(Code::SHAPE_MISMATCH, format!("{:?} and {:?} do not fit {spec:?}", a.dims, b.dims));
    if labels.left.len() != a.rank() || labels.right.len() != b.rank() || a.dtype != b.dtype {
        return Err(mismatch());
    }
    let in_left = |c: &char| labels.left.contains(c);
    let in_right = |c: &char| labels.right.contains(c);
    let in_result = |c: &char| labels.result.contains(c);
    let batch: Vec<char> = labels.result.iter().copied().filter(|c| in_left(c) && in_right(c)).collect();
    let rows: Vec<char> = labels.result.iter().copied().filter(|c| !in_right(c)).collect();
    let columns: Vec<char> = labels.result.iter().copied().filter(|c| !in_left(c)).collect();
    let summed: Vec<char> = labels.left.iter().copied().filter(|c| !in_result(c)).collect();
    // Bring the operands to [batch.., rows.., summed..] and [batch.., summed.., columns..].
    let arrange = |t: &Tensor, own: &[char], order: [&[char]; 3]| -> Result<Tensor, Fault> {
        let perm: Option<Vec<u32>> = order.concat().iter().map(|c| own.iter().position(|o| o == c).map(|p| p as u32)).collect();
        transpose(t, &perm.ok_or_else(mismatch)?)
    };
    let (left, right) = (arrange(a, &labels.left, [&batch, &rows, &summed])?, arrange(b, &labels.right, [&batch, &summed, &columns])?);
    let (nb, nr, ns) = (batch.len(), rows.len(), summed.len());
    if left.dims[nb + nr..] != right.dims[nb..nb + ns] {
        return Err(mismatch());
    }
    let size = |d: &[usize]| count(d).ok_or_else(mismatch);
    let (m, k, n) = (size(&left.dims[nb..nb + nr])?, size(&right.dims[nb..nb + ns])?, size(&right.dims[nb + ns..])?);
    let batch_dims = super::walk::broadcast_dims(&[&left.dims[..nb], &right.dims[..nb]])?;
    let (sa, sb) = (broadcast_strides(&left.dims[..nb], &batch_dims), broadcast_strides(&right.dims[..nb], &batch_dims));
    let (sa, sb) = (sa.ok_or_else(mismatch)?, sb.ok_or_else(mismatch)?);
    let mut batches = Vec::new();
    each_index(&batch_dims, |at, _| {
        let offset = |s: &[isize]| at.iter().zip(s).map(|(&i, &s)| i * s as usize).sum::<usize>();
        batches.push((offset(&sa) * m * k, offset(&sb) * k * n));
    });
    let dims = [&batch_dims[..], &left.dims[nb..nb + nr], &right.dims[nb + ns..]].concat();
    size(&dims)?;
    let r = match (Numbers::of(&left), Numbers::of(&right)) {
        (Numbers::F32(a), Numbers::F32(b)) => finish_float(dims, &products(&a, &b, &batches, m, k, n), acc, out),
        (Numbers::F64(a), Numbers::F64(b)) => finish_float(dims, &products(&a, &b, &batches, m, k, n), acc, out),
        (Numbers::Int(a), Numbers::Int(b)) => finish_int(dims, &products(&a, &b, &batches, m, k, n), acc, out),
        _ => return Err(mismatch()),
    };
    // From [batch.., rows.., columns..] to the order of the result's labels.
    let have = [&batch[..], &rows, &columns].concat();
    let perm: Option<Vec<u32>> = labels.result.iter().map(|c| have.iter().position(|h| h == c).map(|p| p as u32)).collect();
    transpose(&r, &perm.ok_or_else(mismatch)?)
}

/// Geometry of a sliding window along the spatial dims.
struct Window<'a> {
    input: &'a [usize],
    kernel: Vec<usize>,
    out: Vec<usize>,
    strides: &'a [i64],
    dilations: &'a [i64],
    pads: &'a [i64],
}

impl Window<'_> {
    fn check(&self) -> Result<(), Fault> {
        let n = self.input.len();
        let sized = self.strides.len() == n && self.dilations.len() == n && self.pads.len() == 2 * n && self.kernel.len() == n;
        let small = |v: &i64| (0..=i64::from(i32::MAX)).contains(v);
        let positive = self.strides.iter().chain(self.dilations).all(|v| small(v) && *v > 0);
        if n >= 1 && sized && positive && self.pads.iter().all(small) && self.kernel.iter().all(|&k| k <= i32::MAX as usize) {
            return Ok(());
        }
        Err(Fault::new(Code::BAD_ATTRIBUTE, "kernel, strides, dilations or pads do not fit the spatial dims".to_owned()))
    }
    /// Position in the input along dim `d` of tap `k` at output `o`.
    fn at(&self, d: usize, o: usize, k: usize) -> i64 {
        o as i64 * self.strides[d] - self.pads[d] + k as i64 * self.dilations[d]
    }
    /// As [`at`](Self::at), if it lies inside the tensor.
    fn inside(&self, d: usize, o: usize, k: usize) -> Option<usize> {
        usize::try_from(self.at(d, o, k)).ok().filter(|&i| i < self.input[d])
    }
}

pub(super) fn conv(x: &Tensor, w: &Tensor, strides: &[i64], dilations: &[i64], pads: &[i64], groups: i64, out: DType) -> Run {
    let mismatch = || Fault::new(Code::SHAPE_MISMATCH, format!("{:?} and {:?} with {groups} groups do not fit together", x.dims, w.dims));
    let groups = usize::try_from(groups).ok().filter(|&g| g > 0).ok_or_else(mismatch)?;
    if x.rank() < 3
        || w.rank() != x.rank()
        || x.dtype != w.dtype
        || w.dims[1].checked_mul(groups) != Some(x.dims[1])
        || !w.dims[0].is_multiple_of(groups)
    {
        return Err(mismatch());
    }
    let mut window = Window { input: &x.dims[2..], kernel: w.dims[2..].to_vec(), out: Vec::new(), strides, dilations, pads };
    window.check()?;
    let n = window.input.len();
    for d in 0..n {
        let span = (window.kernel[d] as i64 - 1) * dilations[d] + 1;
        let room = window.input[d] as i64 + pads[d] + pads[n + d] - span;
        if room < 0 {
            return Err(Fault::new(Code::BAD_DIM, format!("spatial dim {d}: a kernel that spans {span} does not fit")));
        }
        window.out.push((room / strides[d]) as usize + 1);
    }
    let dims = [&[x.dims[0], w.dims[0]], &window.out[..]].concat();
    count(&dims).ok_or_else(mismatch)?;
    // Integer sums wrap to the operands' dtype; narrow floats are summed as f32.
    let acc = if x.dtype.is_float() && x.dtype != DType::F64 { DType::F32 } else { x.dtype };
    Ok(match (Numbers::of(x), Numbers::of(w)) {
        (Numbers::F32(a), Numbers::F32(b)) => finish_float(dims, &convolve(&a, &b, &x.dims, &w.dims, groups, &window), acc, out),
        (Numbers::F64(a), Numbers::F64(b)) => finish_float(dims, &convolve(&a, &b, &x.dims, &w.dims, groups, &window), acc, out),
        (Numbers::Int(a), Numbers::Int(b)) => finish_int(dims, &convolve(&a, &b, &x.dims, &w.dims, groups, &window), acc, out),
        _ => return Err(mismatch()),
    })
}

/// `[N,spatial..,C]` as `[N,C,spatial..]`.
pub(super) fn channels_first(x: &Tensor) -> Run {
    let last = x.rank().saturating_sub(1) as u32;
    let perm: Vec<u32> = if last == 0 { vec![0] } else { [0, last].into_iter().chain(1..last).collect() };
    super::movement::transpose(x, &perm)
}

/// `[N,C,spatial..]` as `[N,spatial..,C]`.
pub(super) fn channels_last(x: &Tensor) -> Run {
    let rank = x.rank() as u32;
    let perm: Vec<u32> = if rank < 2 { (0..rank).collect() } else { [0].into_iter().chain(2..rank).chain([1]).collect() };
    super::movement::transpose(x, &perm)
}

/// Filters with `depth` neighbors along the dim that is the `from`th from behind side by side in the last one, as filters without: `[..,Q,..,B*d]`
/// as `[..,Q*d,..,B]`.
pub(super) fn apart(w: &Tensor, depth: usize, from: usize) -> Run {
    let wrong = || Fault::new(Code::SHAPE_MISMATCH, format!("{:?} has no {depth} neighbors side by side", w.dims));
    let rank = w.rank();
    if depth == 0 || rank < from || from < 2 || !w.dims[rank - 1].is_multiple_of(depth) {
        return Err(wrong());
    }
    let mut dims = w.dims.clone();
    dims[rank - 1] /= depth;
    let split = super::movement::reshape(w, [&dims[..], &[depth]].concat())?;
    let at = rank - from + 1;
    let perm: Vec<u32> = (0..at).chain([rank]).chain(at..rank).map(|i| i as u32).collect();
    let turned = super::movement::transpose(&split, &perm)?;
    dims[rank - from] *= depth;
    super::movement::reshape(&turned, dims)
}

/// Panels of filters `[P,kernel..,C,B]` as `[channels,C,kernel..]`.
pub(super) fn filters_first(w: &Tensor, channels: i64) -> Run {
    let rank = w.rank();
    let wrong = || Fault::new(Code::SHAPE_MISMATCH, format!("{:?} is no panels of {channels} filters", w.dims));
    let count = usize::try_from(channels).map_err(|_| wrong())?;
    if rank < 4 || w.dims[0] * w.dims[rank - 1] < count {
        return Err(wrong());
    }
    let last = rank as u32 - 1;
    let perm: Vec<u32> = [0, last, last - 1].into_iter().chain(1..last - 1).collect();
    let turned = super::movement::transpose(w, &perm)?;
    let mut dims: Vec<usize> = turned.dims[1..].to_vec();
    dims[0] *= turned.dims[0];
    let all = super::movement::reshape(&turned, dims.clone())?;
    dims[0] = count;
    super::movement::slice(&all, &vec![0; dims.len()], &vec![1; dims.len()], dims)
}

/// One filter tap at a time is added to a whole plane of sums; the innermost loop runs along the last spatial dim.
fn convolve<T: Term>(x: &[T], w: &[T], x_dims: &[usize], w_dims: &[usize], groups: usize, window: &Window<'_>) -> Vec<T::Sum> {
    let (batch, channels, filters, per_group) = (x_dims[0], x_dims[1], w_dims[0], w_dims[1]);
    let plane_in: usize = window.input.iter().product();
    let plane_out: usize = window.out.iter().product();
    let taps: usize = window.kernel.iter().product();
    let mut out = vec![T::Sum::default(); batch * filters * plane_out];
    if plane_out == 0 {
        return out;
    }
    let rows = taps_rows(window);
    for (plane, sums) in out.chunks_exact_mut(plane_out).enumerate() {
        let (b, o) = (plane / filters, plane % filters);
        let first = o / (filters / groups) * per_group;
        for c in 0..per_group {
            let input = &x[(b * channels + first + c) * plane_in..][..plane_in];
            let filter = &w[(o * per_group + c) * taps..][..taps];
            for (&weight, rows) in filter.iter().zip(&rows) {
                for r in rows {
                    let sums = &mut sums[r.out..r.out + r.n];
                    if r.step == 1 {
                        for (s, &v) in sums.iter_mut().zip(&input[r.input..r.input + r.n]) {
                            *s = T::add(*s, weight, v);
                        }
                    } else {
                        for (i, s) in sums.iter_mut().enumerate() {
                            *s = T::add(*s, weight, input[r.input + i * r.step]);
                        }
                    }
                }
            }
        }
    }
    out
}

/// `n` elements of an output row and of the input row that one tap pairs them with.
struct Row {
    out: usize,
    input: usize,
    n: usize,
    step: usize,
}

/// For each tap the rows of the plane that it touches, clipped to the input.
fn taps_rows(w: &Window<'_>) -> Vec<Vec<Row>> {
    let last = w.input.len() - 1;
    let (own_in, own_out) = (strides(w.input), strides(&w.out));
    let step = w.strides[last] as usize;
    let mut all = Vec::new();
    each_index(&w.kernel, |tap, _| {
        let begin = (0..w.out[last]).find(|&o| w.at(last, o, tap[last]) >= 0).unwrap_or(w.out[last]);
        let end = (0..w.out[last]).rev().find(|&o| w.at(last, o, tap[last]) < w.input[last] as i64).map_or(0, |o| o + 1);
        let mut rows = Vec::new();
        if begin < end {
            each_index(&w.out[..last], |o, _| {
                let outer: Option<usize> = (0..last).map(|d| Some(w.inside(d, o[d], tap[d])? * own_in[d] as usize)).sum();
                if let Some(outer) = outer {
                    let out: usize = o.iter().zip(&own_out).map(|(&o, &s)| o * s as usize).sum();
                    let input = outer + w.at(last, begin, tap[last]) as usize;
                    rows.push(Row { out: out + begin, input, n: end - begin, step });
                }
            });
        }
        all.push(rows);
    });
    all
}

/// Attributes of a pooling op with their expressions evaluated.
pub(super) struct Pool<'a> {
    pub op: ReduceOp,
    pub kernel: &'a [i64],
    pub strides: &'a [i64],
    pub dilations: &'a [i64],
    pub pads: &'a [i64],
    pub count_pad: bool,
    pub dims: Vec<usize>,
}

pub(super) fn pool(x: &Tensor, p: Pool<'_>) -> Run {
    let bad = || Fault::new(Code::BAD_ATTRIBUTE, format!("kernel and dims do not fit operand {:?}", x.dims));
    let kernel: Option<Vec<usize>> = p.kernel.iter().map(|&k| usize::try_from(k).ok()).collect();
    if x.rank() < 3 || p.dims.len() != x.rank() - 2 || !(x.dtype.is_float() || x.dtype.is_int()) {
        return Err(bad());
    }
    let w = Window {
        input: &x.dims[2..],
        kernel: kernel.ok_or_else(bad)?,
        out: p.dims,
        strides: p.strides,
        dilations: p.dilations,
        pads: p.pads,
    };
    w.check()?;
    let n = w.input.len();
    let planes = count(&x.dims[..2]).ok_or_else(bad)?;
    let plane_in: usize = w.input.iter().product();
    let own = strides(w.input);
    let dims = [&x.dims[..2], &w.out[..]].concat();
    let mut out = vec![0u64; count(&dims).ok_or_else(bad)?];
    let plane_out = count(&w.out).ok_or_else(bad)?;
    // Along each dim, and for each window: offsets of the taps inside the tensor, and how many lie in the padded tensor.
    let taps = |d: usize| -> Vec<(Vec<usize>, usize)> {
        let padded = -p.pads[d]..w.input[d] as i64 + p.pads[n + d];
        let one = |o: usize| {
            let inside = (0..w.kernel[d]).filter_map(|k| Some(w.inside(d, o, k)? * own[d] as usize)).collect();
            (inside, (0..w.kernel[d]).filter(|&k| padded.contains(&w.at(d, o, k))).count())
        };
        (0..w.out[d]).map(one).collect()
    };
    let taps: Vec<Vec<(Vec<usize>, usize)>> = (0..n).map(taps).collect();
    let f32s = if x.dtype == DType::F32 { x.to_f32() } else { Vec::new() };
    let mut at = Vec::new();
    each_index(&w.out, |o, window| {
        // What a window covers is the same in every plane.
        at.clear();
        at.push(0);
        for (d, taps) in taps.iter().enumerate() {
            at = at.iter().flat_map(|&a| taps[o[d]].0.iter().map(move |&b| a + b)).collect();
        }
        let padded: usize = (0..n).map(|d| taps[d][o[d]].1).product();
        let divisor = if p.count_pad { padded } else { at.len() };
        for plane in 0..planes {
            let base = plane * plane_in;
            out[plane * plane_out + window] = match p.op {
                ReduceOp::Max if x.dtype == DType::F32 => {
                    let larger = |m: f32, v: f32| if v.is_nan() || v > m { v } else { m };
                    let max = at.iter().fold(f32::NEG_INFINITY, |m, &i| if m.is_nan() { m } else { larger(m, f32s[base + i]) });
                    u64::from(max.to_bits())
                }
                _ => {
                    let mut acc = Acc::new(p.op, x.dtype);
                    at.iter().for_each(|&i| acc.take(x.bits(base + i)));
                    // A window of padding alone has the mean 0.
                    acc.finish(divisor.max(1))
                }
            };
        }
    });
    Ok(Tensor::from_bits(x.dtype, dims, out))
}
