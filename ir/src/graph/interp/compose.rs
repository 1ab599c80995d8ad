// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Composites by their definitions, in f64; results are rounded once.

use super::tensor::{Tensor, count};
use super::walk::{View, split, walk};
use super::{Fault, Run};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::op::{BinaryOp, Direction, UnaryOp};
use crate::numerics::{binary_f64, unary_f64};

fn shape(what: &str) -> Fault {
    Fault::new(Code::SHAPE_MISMATCH, format!("dims of {what} do not fit together"))
}

/// Largest number, NaN if any is.
fn max(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::NEG_INFINITY, |m, v| binary_f64(BinaryOp::Max, m, v))
}

pub(super) fn softmax(x: &Tensor, axis: usize, log: bool) -> Run {
    let (outer, n, inner) = split(&x.dims, axis)?;
    let mut v = x.to_f64();
    for o in 0..outer {
        for i in 0..inner {
            let at = |a: usize| (o * n + a) * inner + i;
            let m = max((0..n).map(|a| v[at(a)]));
            let sum: f64 = (0..n).map(|a| libm::exp(v[at(a)] - m)).sum();
            for a in 0..n {
                let d = v[at(a)] - m;
                v[at(a)] = if log { d - libm::log(sum) } else { libm::exp(d) / sum };
            }
        }
    }
    Ok(Tensor::from_f64(x.dtype, x.dims.clone(), &v))
}

/// Layer norm, or without `center` the norm by the root of the mean square.
pub(super) fn norm(x: &Tensor, scale: Option<&Tensor>, bias: Option<&Tensor>, axis: usize, eps: f64, center: bool) -> Run {
    if axis >= x.rank() {
        return Err(shape("axis and operand"));
    }
    let n = count(&x.dims[axis..]).unwrap_or(0);
    let dims = &x.dims[axis..];
    let factor = |t: Option<&Tensor>, default: f64| -> Result<Vec<f64>, Fault> {
        let Some(t) = t else { return Ok(vec![default; n]) };
        let (values, view) = (t.to_f64(), View::broadcast(&t.dims, dims)?);
        let mut out = Vec::with_capacity(n);
        walk(dims, [&view], [values.len()], |[i]| out.push(values[i]))?;
        Ok(out)
    };
    let (scale, bias) = (factor(scale, 1.0)?, factor(bias, 0.0)?);
    let mut v = x.to_f64();
    for row in v.chunks_exact_mut(n.max(1)) {
        let mean = if center { row.iter().sum::<f64>() / n as f64 } else { 0.0 };
        let square = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
        let root = (square + eps).sqrt();
        for (i, v) in row.iter_mut().enumerate() {
            *v = (*v - mean) / root * scale[i] + bias[i];
        }
    }
    Ok(Tensor::from_f64(x.dtype, x.dims.clone(), &v))
}

/// Attributes and optional operands of attention.
pub(super) struct Attention<'a> {
    pub scale: f64,
    pub causal: bool,
    pub softcap: f64,
    pub mask: Option<&'a Tensor>,
    pub offset: i64,
}

pub(super) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, a: &Attention<'_>) -> Run {
    let (dims, runs) = attend(q, k, v, a, None)?;
    let out: Vec<f64> = runs.into_iter().flat_map(|r| r.0).collect();
    Ok(Tensor::from_f64(q.dtype, dims, &out))
}

/// Results of each run of `part` keys and the logarithms of their sums.
pub(super) fn attention_parts(q: &Tensor, k: &Tensor, v: &Tensor, a: &Attention<'_>, part: usize) -> Result<Vec<Tensor>, Fault> {
    let (dims, runs) = attend(q, k, v, a, Some(part.max(1)))?;
    let (&[b, h, s, d], &[_, _, keys, _]) = (&dims[..], &k.dims[..]) else { return Err(shape("q, k and v")) };
    let parts = keys.div_ceil(part.max(1));
    let dtype = if q.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    // Runs come row by row; results have all rows of a head's part side by side.
    let at = |i: usize| (i / (parts * s) * s + i % s) * parts + i / s % parts;
    let rows = (0..b * h * parts * s).map(|i| runs.get(at(i)).ok_or_else(|| shape("q, k and v")));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let y: Vec<f64> = rows.iter().flat_map(|r| r.0.iter().copied()).collect();
    let log: Vec<f64> = rows.iter().map(|r| r.1).collect();
    Ok(vec![Tensor::from_f64(dtype, vec![b, h, parts, s, d], &y), Tensor::from_f64(dtype, vec![b, h, parts, s], &log)])
}

pub(super) fn merge_parts(y: &Tensor, log: &Tensor, to: DType) -> Run {
    let &[b, h, parts, s, d] = &y.dims[..] else { return Err(shape("the parts")) };
    if log.dims[..] != [b, h, parts, s] {
        return Err(shape("parts and their logarithms"));
    }
    let (y, log) = (y.to_f64(), log.to_f64());
    let mut out = vec![0.0; b * h * s * d];
    for (row, out) in out.chunks_exact_mut(d.max(1)).enumerate() {
        let at = |p: usize| (row / s * parts + p) * s + row % s;
        let top = max((0..parts).map(|p| log[at(p)]));
        let weights: Vec<f64> = (0..parts).map(|p| libm::exp(log[at(p)] - top)).collect();
        let sum: f64 = weights.iter().sum();
        for (p, w) in weights.iter().enumerate().filter(|(_, w)| **w != 0.0) {
            out.iter_mut().zip(&y[at(p) * d..]).for_each(|(o, y)| *o += w / sum * y);
        }
    }
    Ok(Tensor::from_f64(to, vec![b, h, s, d], &out))
}

/// What a row has of a run of keys: its weighted values, and the logarithm of its sum of exponentials.
type RowRun = (Vec<f64>, f64);

/// Dims of the result of attention, and for each row of it the runs of `part` keys, or one of all of them.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, a: &Attention<'_>, part: Option<usize>) -> Result<(Vec<usize>, Vec<RowRun>), Fault> {
    let (&[b, hq, sq, d], &[bk, hk, sk, dk], &[bv, hv, sv, dv]) = (&q.dims[..], &k.dims[..], &v.dims[..]) else {
        return Err(shape("q, k and v"));
    };
    if (bk, bv, hv, sv, dk) != (b, b, hk, sk, d) || hk == 0 && hq > 0 || hk > 0 && hq % hk != 0 {
        return Err(shape("q, k and v"));
    }
    let scores = [b, hq, sq, sk];
    let mask_view = a.mask.map(|m| View::broadcast(&m.dims, &scores)).transpose()?;
    // What is added to a score: 0 or minus infinity for a bool mask.
    let mask: Option<Vec<f64>> = a.mask.map(|m| match m.dtype {
        DType::Bool => m.all_bits().map(|b| if b & 1 == 1 { 0.0 } else { f64::NEG_INFINITY }).collect(),
        _ => m.to_f64(),
    });
    let whole = part.is_none();
    let (nothing, part) = match (part, q.dtype) {
        (Some(p), DType::F64) => (f64::MIN, p),
        (Some(p), _) => (f64::from(f32::MIN), p),
        (None, _) => (0.0, sk.max(1)),
    };
    let runs = if whole { 1 } else { sk.div_ceil(part) };
    let (q, k, v) = (q.to_f64(), k.to_f64(), v.to_f64());
    let mut out = Vec::with_capacity(b * hq * sq * runs);
    for row in 0..b * hq * sq {
        let (n, h, i) = (row / (hq * sq), row / sq % hq, row % sq);
        let head = n * hk + h / (hq / hk);
        let query = &q[row * d..(row + 1) * d];
        let score = |j: usize| {
            if a.causal && (j as i64) > (i as i64).saturating_add(a.offset) {
                return f64::NEG_INFINITY;
            }
            let key = &k[(head * sk + j) * d..][..d];
            let mut s = query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>() * a.scale;
            if a.softcap != 0.0 {
                s = a.softcap * libm::tanh(s / a.softcap);
            }
            let added = match (&mask, &mask_view) {
                (Some(m), Some(view)) => {
                    let s = &view.strides;
                    m[n * s[0] as usize + h * s[1] as usize + i * s[2] as usize + j * s[3] as usize]
                }
                _ => 0.0,
            };
            s + added
        };
        for run in 0..runs {
            let keys = run * part..sk.min((run + 1) * part);
            let mut y = vec![0.0; dv];
            let scores: Vec<f64> = keys.clone().map(score).collect();
            let m = max(scores.iter().copied());
            if m == f64::NEG_INFINITY {
                out.push((y, nothing)); // nothing to see
                continue;
            }
            let weights: Vec<f64> = scores.iter().map(|s| libm::exp(s - m)).collect();
            let sum: f64 = weights.iter().sum();
            for (j, w) in keys.zip(&weights) {
                // A masked key has weight 0, and its value must not matter even if it is not finite.
                if *w != 0.0 {
                    let value = &v[(head * sk + j) * dv..][..dv];
                    y.iter_mut().zip(value).for_each(|(o, v)| *o += w / sum * v);
                }
            }
            out.push((y, m + libm::log(sum)));
        }
    }
    Ok((vec![b, hq, sq, dv], out))
}

pub(super) fn rotary(x: &Tensor, cos: &Tensor, sin: &Tensor, rotary_dims: i64, interleaved: bool) -> Run {
    let &[b, h, s, d] = &x.dims[..] else { return Err(shape("the operand")) };
    let r = usize::try_from(rotary_dims).ok().filter(|&r| r <= d && r % 2 == 0).ok_or_else(|| shape("rotary_dims and operand"))?;
    let half = r / 2;
    let angle = [b, s, half];
    let (vc, vs) = (View::broadcast(&cos.dims, &angle)?, View::broadcast(&sin.dims, &angle)?);
    let (cos, sin) = (cos.to_f64(), sin.to_f64());
    let at = |v: &View, n: usize, t: usize, i: usize| n * v.strides[0] as usize + t * v.strides[1] as usize + i * v.strides[2] as usize;
    let mut v = x.to_f64();
    for (row, v) in v.chunks_exact_mut(d.max(1)).enumerate() {
        let (n, t) = (row / (h * s), row % s);
        for i in 0..half {
            let (p, q) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
            let (c, s) = (cos[at(&vc, n, t, i)], sin[at(&vs, n, t, i)]);
            (v[p], v[q]) = (v[p] * c - v[q] * s, v[p] * s + v[q] * c);
        }
    }
    Ok(Tensor::from_f64(x.dtype, x.dims.clone(), &v))
}

/// Operands of a recurrence, as numbers, with its sizes.
struct Recurrence {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    gates: usize,
    directions: usize,
    x: Vec<f64>,
    w: Vec<f64>,
    r: Vec<f64>,
    bias: Vec<f64>,
}

impl Recurrence {
    fn new(operands: &[&Tensor], gates: usize, direction: Direction) -> Result<Self, Fault> {
        let bad = || shape("the recurrence's operands");
        let [x, w, r, bias, states @ ..] = operands else { return Err(bad()) };
        let (&[steps, batch, input], &[_, _, hidden]) = (&x.dims[..], &r.dims[..]) else { return Err(bad()) };
        let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
        let fits = w.dims == [directions, gates * hidden, input]
            && r.dims == [directions, gates * hidden, hidden]
            && bias.dims == [directions, 2 * gates * hidden]
            && states.iter().all(|s| s.dims == [directions, batch, hidden]);
        if !fits {
            return Err(bad());
        }
        let (x, w, r, bias) = (x.to_f64(), w.to_f64(), r.to_f64(), bias.to_f64());
        Ok(Recurrence { steps, batch, input, hidden, gates, directions, x, w, r, bias })
    }
    /// Row `j` of gate `g` times the input of a step, with its bias.
    fn input_part(&self, d: usize, g: usize, j: usize, t: usize, b: usize) -> f64 {
        let row = g * self.hidden + j;
        let w = &self.w[(d * self.gates * self.hidden + row) * self.input..][..self.input];
        let x = &self.x[(t * self.batch + b) * self.input..][..self.input];
        dot(w, x) + self.bias[d * 2 * self.gates * self.hidden + row]
    }
    /// Row `j` of gate `g` times a state, with its bias.
    fn state_part(&self, d: usize, g: usize, j: usize, state: &[f64]) -> f64 {
        let row = g * self.hidden + j;
        let r = &self.r[(d * self.gates * self.hidden + row) * self.hidden..][..self.hidden];
        dot(r, state) + self.bias[(d * 2 + 1) * self.gates * self.hidden + row]
    }
    /// Runs `step(direction, time, batch, state)` over time for every direction and sample; `state` holds the hidden state first.
    /// Returns the hidden state after every step, and the last states.
    fn run(&self, direction: Direction, states: &mut [Vec<f64>], mut step: impl FnMut(usize, usize, usize, &mut [Vec<f64>])) -> Vec<f64> {
        let (h, n) = (self.hidden, self.directions * self.batch);
        let mut y = vec![0.0; self.steps * n * h];
        for d in 0..self.directions {
            let backward = d == 1 || direction == Direction::Reverse;
            for b in 0..self.batch {
                let at = (d * self.batch + b) * h;
                let mut own: Vec<Vec<f64>> = states.iter().map(|s| s[at..at + h].to_vec()).collect();
                for i in 0..self.steps {
                    let t = if backward { self.steps - 1 - i } else { i };
                    step(d, t, b, &mut own);
                    y[t * n * h + at..][..h].copy_from_slice(&own[0]);
                }
                states.iter_mut().zip(&own).for_each(|(s, o)| s[at..at + h].copy_from_slice(o));
            }
        }
        y
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
fn sigmoid(v: f64) -> f64 {
    unary_f64(UnaryOp::Sigmoid, v)
}

fn recurrent_results(r: &Recurrence, dtype: DType, y: &[f64], states: &[Vec<f64>]) -> Vec<Tensor> {
    let dims = vec![r.directions, r.batch, r.hidden];
    let mut out = vec![Tensor::from_f64(dtype, [&[r.steps], &dims[..]].concat(), y)];
    out.extend(states.iter().map(|s| Tensor::from_f64(dtype, dims.clone(), s)));
    out
}

pub(super) fn lstm(operands: &[&Tensor], direction: Direction) -> Result<Vec<Tensor>, Fault> {
    let r = Recurrence::new(operands, 4, direction)?;
    let [x, _, _, _, h0, c0] = operands else { return Err(shape("the recurrence's operands")) };
    let mut states = vec![h0.to_f64(), c0.to_f64()];
    let y = r.run(direction, &mut states, |d, t, b, state| {
        let before = state[0].clone();
        let (hidden, cells) = state.split_at_mut(1);
        for (j, (h, cell)) in hidden[0].iter_mut().zip(&mut cells[0]).enumerate() {
            let gate = |g: usize| r.input_part(d, g, j, t, b) + r.state_part(d, g, j, &before);
            let (i, o, f, c) = (sigmoid(gate(0)), sigmoid(gate(1)), sigmoid(gate(2)), libm::tanh(gate(3)));
            *cell = f * *cell + i * c;
            *h = o * libm::tanh(*cell);
        }
    });
    Ok(recurrent_results(&r, x.dtype, &y, &states))
}

pub(super) fn gru(operands: &[&Tensor], direction: Direction, linear_before_reset: bool) -> Result<Vec<Tensor>, Fault> {
    let r = Recurrence::new(operands, 3, direction)?;
    let [x, _, _, _, h0] = operands else { return Err(shape("the recurrence's operands")) };
    let mut states = vec![h0.to_f64()];
    let y = r.run(direction, &mut states, |d, t, b, state| {
        let before = state[0].clone();
        let gate = |g: usize, j: usize| sigmoid(r.input_part(d, g, j, t, b) + r.state_part(d, g, j, &before));
        let reset: Vec<f64> = (0..r.hidden).map(|j| gate(1, j)).collect();
        let faded: Vec<f64> = reset.iter().zip(&before).map(|(r, h)| r * h).collect();
        for j in 0..r.hidden {
            let recurrent = if linear_before_reset { reset[j] * r.state_part(d, 2, j, &before) } else { r.state_part(d, 2, j, &faded) };
            let new = libm::tanh(r.input_part(d, 2, j, t, b) + recurrent);
            let z = gate(0, j);
            state[0][j] = (1.0 - z) * new + z * before[j];
        }
    });
    Ok(recurrent_results(&r, x.dtype, &y, &states))
}

/// Operands of a recurrence as it is before its inputs met their weights: the input's share is multiplied with one.
fn unblocked(operands: &[&Tensor], gates: usize, direction: Direction, depth: i64) -> Result<(Recurrence, Vec<f64>), Fault> {
    let bad = || shape("the recurrence's operands");
    let [g, r, ..] = operands else { return Err(bad()) };
    let r = super::contract::apart(r, usize::try_from(depth).map_err(|_| bad())?, 3)?;
    let (&[steps, batch, directions, count, hidden], &[_, blocks, _, _, width]) = (&g.dims[..], &r.dims[..]) else { return Err(bad()) };
    let fits = directions == if direction == Direction::Bidirectional { 2 } else { 1 }
        && count == gates
        && r.dims == [directions, blocks, hidden, gates, width]
        && width > 0
        && blocks == hidden.div_ceil(width);
    if !fits {
        return Err(bad());
    }
    let packed = r.to_f64();
    let mut weights = vec![0.0; directions * gates * hidden * hidden];
    for (i, w) in weights.iter_mut().enumerate() {
        let (k, j, gate, d) = (i % hidden, i / hidden % hidden, i / (hidden * hidden) % gates, i / (hidden * hidden * gates));
        *w = packed[(((d * blocks + j / width) * hidden + k) * gates + gate) * width + j % width];
    }
    let none = Recurrence {
        steps,
        batch,
        input: 0,
        hidden,
        gates,
        directions,
        x: Vec::new(),
        w: Vec::new(),
        r: weights,
        bias: vec![0.0; directions * 2 * gates * hidden],
    };
    Ok((none, g.to_f64()))
}

/// What inputs and biases give row `j` of gate `gate`.
fn given(r: &Recurrence, g: &[f64], d: usize, gate: usize, j: usize, t: usize, b: usize) -> f64 {
    g[(((t * r.batch + b) * r.directions + d) * r.gates + gate) * r.hidden + j]
}

/// States as they meet recurrent weights.
fn met(weights: &Tensor, states: &[f64]) -> Vec<f64> {
    match weights.dtype {
        DType::BF16 => Tensor::from_f64(DType::BF16, vec![states.len()], states).to_f64(),
        _ => states.to_vec(),
    }
}

pub(super) fn lstm_steps(operands: &[&Tensor], direction: Direction, depth: i64) -> Result<Vec<Tensor>, Fault> {
    let (r, g) = unblocked(operands, 4, direction, depth)?;
    let [x, weights, h0, c0] = operands else { return Err(shape("the recurrence's operands")) };
    let mut states = vec![h0.to_f64(), c0.to_f64()];
    let y = r.run(direction, &mut states, |d, t, b, state| {
        let before = met(weights, &state[0]);
        let (hidden, cells) = state.split_at_mut(1);
        for (j, (h, cell)) in hidden[0].iter_mut().zip(&mut cells[0]).enumerate() {
            let gate = |i: usize| given(&r, &g, d, i, j, t, b) + r.state_part(d, i, j, &before);
            let (i, o, f, c) = (sigmoid(gate(0)), sigmoid(gate(1)), sigmoid(gate(2)), libm::tanh(gate(3)));
            *cell = f * *cell + i * c;
            *h = o * libm::tanh(*cell);
        }
    });
    Ok(recurrent_results(&r, x.dtype, &y, &states))
}

/// A row of numbers as those of 256 that a dynamic quantization gives it, less the zero point, and their scale; in f32.
fn rounded(row: &[f64]) -> (Vec<f64>, f64) {
    let (lo, hi) = row.iter().fold((0f32, 0f32), |(lo, hi), &x| (lo.min(x as f32), hi.max(x as f32)));
    let scale = if hi - lo == 0.0 { 1.0 } else { (hi - lo) / 255.0 };
    let zero = (-lo / scale).round_ties_even().clamp(0.0, 255.0);
    let values = row.iter().map(|&x| f64::from(((x as f32 / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero));
    (values.collect(), f64::from(scale))
}

pub(super) fn lstm_byte_steps(operands: &[&Tensor], direction: Direction, group: usize) -> Result<Vec<Tensor>, Fault> {
    let bad = || shape("the recurrence's operands");
    let [g, q, h0, c0, scale, zero, _] = operands else { return Err(bad()) };
    let (&[_, _, directions, _, hidden], &[_, blocks, groups, _, row]) = (&g.dims[..], &q.dims[..]) else { return Err(bad()) };
    let width = row.checked_div(group).filter(|w| *w > 0).ok_or_else(bad)?;
    let plain = [directions, blocks, hidden, 4, width];
    if q.dims != [directions, hidden.div_ceil(width), hidden.div_ceil(group), 4, width * group] || groups != hidden.div_ceil(group) {
        return Err(bad());
    }
    // The same weights as numbers, one element of the state after the other.
    let (bytes, scale, zero) = (q.to_f64(), scale.to_f64(), zero.to_f64());
    let mut numbers = vec![0.0; plain.iter().product()];
    for (i, n) in numbers.iter_mut().enumerate() {
        let (w, gate, k) = (i % width, i / width % 4, i / (width * 4) % hidden);
        let (block, d) = (i / (width * 4 * hidden) % blocks, i / (width * 4 * hidden * blocks));
        let j = block * width + w;
        if j < hidden {
            let column = (d * 4 + gate) * hidden + j;
            let at = (((d * blocks + block) * groups + k / group) * 4 + gate) * width * group + w * group + k % group;
            *n = (bytes[at] - zero[column]) * scale[column];
        }
    }
    let numbers = Tensor::from_f64(DType::F64, plain.to_vec(), &numbers);
    let (r, given_by) = unblocked(&[g, &numbers], 4, direction, 1)?;
    let mut states = vec![h0.to_f64(), c0.to_f64()];
    let y = r.run(direction, &mut states, |d, t, b, state| {
        let (before, unit) = rounded(&state[0]);
        let (hidden, cells) = state.split_at_mut(1);
        for (j, (h, cell)) in hidden[0].iter_mut().zip(&mut cells[0]).enumerate() {
            let gate = |i: usize| given(&r, &given_by, d, i, j, t, b) + r.state_part(d, i, j, &before) * unit;
            let (i, o, f, c) = (sigmoid(gate(0)), sigmoid(gate(1)), sigmoid(gate(2)), libm::tanh(gate(3)));
            *cell = f * *cell + i * c;
            *h = o * libm::tanh(*cell);
        }
    });
    Ok(recurrent_results(&r, g.dtype, &y, &states))
}

pub(super) fn gru_steps(operands: &[&Tensor], direction: Direction, linear_before_reset: bool, depth: i64) -> Result<Vec<Tensor>, Fault> {
    let (mut r, g) = unblocked(operands, 3, direction, depth)?;
    let [x, weights, rb, h0] = operands else { return Err(shape("the recurrence's operands")) };
    for (d, bias) in rb.to_f64().chunks_exact(r.hidden.max(1)).enumerate().take(r.directions) {
        r.bias[((d * 2 + 1) * 3 + 2) * r.hidden..][..r.hidden].copy_from_slice(bias);
    }
    let mut states = vec![h0.to_f64()];
    let y = r.run(direction, &mut states, |d, t, b, state| {
        let before = state[0].clone();
        let own = met(weights, &before);
        let gate = |i: usize, j: usize| sigmoid(given(&r, &g, d, i, j, t, b) + r.state_part(d, i, j, &own));
        let reset: Vec<f64> = (0..r.hidden).map(|j| gate(1, j)).collect();
        let faded: Vec<f64> = reset.iter().zip(&before).map(|(r, h)| r * h).collect();
        let faded = met(weights, &faded);
        for j in 0..r.hidden {
            let recurrent = if linear_before_reset { reset[j] * r.state_part(d, 2, j, &own) } else { r.state_part(d, 2, j, &faded) };
            let new = libm::tanh(given(&r, &g, d, 2, j, t, b) + recurrent);
            let z = gate(0, j);
            state[0][j] = (1.0 - z) * new + z * before[j];
        }
    });
    Ok(recurrent_results(&r, x.dtype, &y, &states))
}

/// Attributes of a resize with the scale of each dim.
pub(super) struct Resize<'a> {
    pub dims: Vec<usize>,
    pub mode: &'a str,
    pub coords: &'a str,
    pub nearest: &'a str,
    pub scales: Vec<f64>,
    pub cubic_a: f64,
    pub exclude_outside: bool,
    pub antialias: bool,
}

/// As the ONNX reference: one dim after the other, edges repeated; the window of a sample begins left of its position.
pub(super) fn resize(x: &Tensor, p: &Resize<'_>) -> Run {
    if p.dims.len() != x.rank() || !(p.scales.is_empty() || p.scales.len() == x.rank()) {
        return Err(Fault::new(Code::BAD_ATTRIBUTE, "dims or scales do not fit the rank".to_owned()));
    }
    let (mut values, mut dims) = (x.to_f64(), x.dims.clone());
    for axis in 0..x.rank() {
        let (n, to) = (dims[axis], p.dims[axis]);
        let scale = p.scales.get(axis).copied().unwrap_or(to as f64 / n as f64);
        if n == to && (scale - 1.0).abs() <= 1e-9 {
            continue;
        }
        // A scale that makes less than one element of a dim has no use, and with antialiasing no end of neighbours.
        if to > 0 && !(n > 0 && scale.is_finite() && scale * n as f64 >= 0.5) {
            return Err(Fault::new(Code::BAD_ATTRIBUTE, format!("dim {axis}: {n} elements do not resize to {to} by {scale}")));
        }
        // Taps of every result position: source positions and their weights.
        let taps: Vec<Vec<(usize, f64)>> = (0..to).map(|o| p.taps(o, n, to, scale)).collect();
        let (outer, _, inner) = split(&dims, axis)?;
        let mut next = dims.clone();
        next[axis] = to;
        let size = count(&next).ok_or_else(|| shape("the result"))?;
        let mut out = vec![0.0; size];
        for o in 0..outer {
            for (a, taps) in taps.iter().enumerate() {
                let line = &mut out[(o * to + a) * inner..][..inner];
                for &(from, weight) in taps {
                    let source = &values[(o * n + from) * inner..][..inner];
                    line.iter_mut().zip(source).for_each(|(l, s)| *l += weight * s);
                }
            }
        }
        (values, dims) = (out, next);
    }
    // Integers are rounded to nearest even and saturate.
    if x.dtype.is_int() {
        values.iter_mut().for_each(|v| *v = v.round_ties_even());
    }
    Ok(Tensor::from_f64(x.dtype, dims, &values))
}

impl Resize<'_> {
    /// Position in the source of result position `o`.
    fn position(&self, o: f64, n: f64, to: f64, scale: f64) -> f64 {
        let width = scale * n;
        match self.coords {
            "align_corners" if width == 1.0 => 0.0,
            "align_corners" => o * (n - 1.0) / (width - 1.0),
            "asymmetric" => o / scale,
            "pytorch_half_pixel" if width == 1.0 => -0.5,
            "half_pixel_symmetric" => n / 2.0 * (1.0 - to / width) + (o + 0.5) / scale - 0.5,
            _ => (o + 0.5) / scale - 0.5,
        }
    }
    fn taps(&self, o: usize, n: usize, to: usize, scale: f64) -> Vec<(usize, f64)> {
        let at = self.position(o as f64, n as f64, to as f64, scale).clamp(-1e15, 1e15);
        // The left neighbour, so that what remains is in (0, 1].
        let left = at.ceil() - 1.0;
        let ratio = at - left;
        let mut weights = self.weights(ratio, scale.min(1.0));
        let first = left as i64 - (weights.len() as i64 / 2 - 1);
        if self.exclude_outside {
            let inside = |i: usize| (0..n as i64).contains(&(first + i as i64));
            weights.iter_mut().enumerate().filter(|(i, _)| !inside(*i)).for_each(|(_, w)| *w = 0.0);
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        let clamp = |i: usize| (first + i as i64).clamp(0, n as i64 - 1) as usize;
        weights.iter().enumerate().filter(|(_, w)| **w != 0.0).map(|(i, w)| (clamp(i), *w)).collect()
    }
    /// Weights of the neighbours, an even number of them; half lie at or left of the left neighbour.
    fn weights(&self, ratio: f64, shrink: f64) -> Vec<f64> {
        let a = self.cubic_a;
        let cubic = |x: f64| match x.abs() {
            x if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            x if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            _ => 0.0,
        };
        let kernel = |reach: f64, f: &dyn Fn(f64) -> f64| -> Vec<f64> {
            let shrink = if self.antialias { shrink } else { 1.0 };
            let start = (-reach / shrink).floor() as i64 + 1;
            let w: Vec<f64> = (start..2 - start).map(|i| f((i as f64 - ratio) * shrink)).collect();
            let sum: f64 = if self.antialias { w.iter().sum() } else { 1.0 };
            w.into_iter().map(|w| w / sum).collect()
        };
        match self.mode {
            "linear" => kernel(1.0, &|x| (1.0 - x.abs()).max(0.0)),
            "cubic" => kernel(2.0, &cubic),
            _ => {
                let right = ratio == 1.0
                    || match self.nearest {
                        "round_prefer_ceil" => ratio >= 0.5,
                        "floor" => false,
                        "ceil" => true,
                        _ => ratio > 0.5,
                    };
                vec![f64::from(u8::from(!right)), f64::from(u8::from(right))]
            }
        }
    }
}
