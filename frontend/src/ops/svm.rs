// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Support vector machines of `ai.onnx.ml`.

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::ArgOp;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, UnaryOp, ValueId};

use super::control::{loop_of, loop_while};
use super::ml::{floats, labels, post_transform, rows};
use super::{Entry, op};
use crate::cx::{Cx, Res, exprs_of, many, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("SVMClassifier", 1, 1, 1, svm_classifier), op("SVMRegressor", 1, 1, 1, svm_regressor)];

/// Most classes.
const MAX_CLASSES: usize = 1 << 10;

/// Classes up to which the steps of a trip of [`coupled`] are written out.
const UNROLLED: i64 = 4;

/// Values of the kernel for rows `x: [N,F]` and `count` vectors, `[N, count]`.
fn kernel(cx: &mut Cx<'_, '_>, x: ValueId, count: i64) -> Res<ValueId> {
    use BinaryOp::*;
    let vectors = floats(cx, "support_vectors")?;
    let params = floats(cx, "kernel_params")?;
    let params = match params.as_slice() {
        [] => [0.0; 3],
        &[gamma, add, degree] => [gamma, add, degree].map(f64::from),
        other => return Err(Fault::attr(format!("`kernel_params` has {} entries, expected 3", other.len()))),
    };
    let [gamma, add, degree] = params;
    if count < 1 || vectors.is_empty() || vectors.len() as i64 % count != 0 {
        return Err(Fault::attr(format!("{} numbers are no {count} support vectors", vectors.len())));
    }
    let features = vectors.len() as i64 / count;
    let v = cx.table_f32(&[count, features], &vectors)?;
    let v = cx.reshape(v, exprs_of(&[count, features]))?;
    let kind = cx.text("kernel_type", "LINEAR")?;
    if kind == "RBF" {
        let (x, v) = (cx.unsqueeze(x, &[1])?, cx.unsqueeze(v, &[0])?);
        let d = cx.bin(Sub, x, v)?;
        let d = cx.bin(Mul, d, d)?;
        let d = cx.reduce(ReduceOp::Sum, d, &[2], false)?;
        let d = cx.bin_c(Mul, d, -gamma)?;
        return cx.un(UnaryOp::Exp, d);
    }
    let dot = cx.contract("nf,vf->nv", x, v)?;
    if kind == "LINEAR" {
        return Ok(dot);
    }
    let y = cx.bin_c(Mul, dot, gamma)?;
    let y = cx.bin_c(Add, y, add)?;
    match kind {
        "POLY" => cx.bin_c(Pow, y, degree),
        "SIGMOID" => cx.un(UnaryOp::Tanh, y),
        other => Err(Fault::attr(format!("`kernel_type` is {other:?}, expected LINEAR, POLY, RBF or SIGMOID"))),
    }
}

/// `[N,F] -> [N,1]`: sums of kernels, or of features where there are no support vectors; with `one_class` 1 where that is above 0, else -1.
fn svm_regressor(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (coefficients, rho, n) = (floats(cx, "coefficients")?, floats(cx, "rho")?, cx.int("n_supports", 0)?);
    let Some(&rho) = rho.first() else { return Err(Fault::attr("attribute `rho` is missing")) };
    let x = rows(cx)?;
    let k = if n > 0 { kernel(cx, x, n)? } else { x };
    if coefficients.is_empty() || (n > 0 && coefficients.len() as i64 != n) {
        return Err(Fault::attr(format!("{} coefficients for {n} support vectors", coefficients.len())));
    }
    let count = coefficients.len() as i64;
    let c = cx.table_f32(&[1, count], &coefficients)?;
    let c = cx.reshape(c, exprs_of(&[1, count]))?;
    let y = cx.contract("nv,tv->nt", k, c)?;
    let y = cx.bin_c(BinaryOp::Add, y, rho.into())?;
    let y = if cx.flag("one_class", false)? {
        let (above, yes, no) = (cx.bin_c(BinaryOp::Gt, y, 0.0)?, cx.scalar(DType::F32, 1.0)?, cx.scalar(DType::F32, -1.0)?);
        cx.select(above, yes, no)?
    } else {
        y
    };
    // ONNX Runtime looks at no other transform, and the reference has none.
    match cx.text("post_transform", "NONE")? {
        "NONE" => one(y),
        other => Err(Fault::form(format!("`post_transform` is {other:?}; NONE is computed"))),
    }
}

/// `[N,F] -> labels [N], scores`. Every pair of classes has a machine of its own that votes for one of them. Scores are those of the pairs,
/// or with `prob_a` the probabilities of the classes that fit those of the pairs best.
fn svm_classifier(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    use BinaryOp::*;
    let labels = labels(cx, "classlabels_ints")?;
    let k = labels.len();
    let per = cx.ints("vectors_per_class")?.unwrap_or_default();
    if per.iter().sum::<i64>() == 0 {
        let f = Fault::form("it has no support vectors; machines with support vectors are computed");
        return Err(f.help("export it as LinearClassifier"));
    }
    if !(2..=MAX_CLASSES).contains(&k) || per.len() != k || per.iter().any(|n| !(0..=1 << 24).contains(n)) {
        return Err(Fault::attr(format!("{} numbers of support vectors for {k} classes", per.len())));
    }
    let vectors = per.iter().sum::<i64>() as usize;
    let pairs: Vec<(usize, usize)> = (0..k).flat_map(|i| (i + 1..k).map(move |j| (i, j))).collect();
    let (coefficients, rho) = (floats(cx, "coefficients")?, floats(cx, "rho")?);
    if coefficients.len() != (k - 1) * vectors || rho.len() != pairs.len() {
        let m = format!("{} coefficients and {} offsets for {k} classes and {vectors} support vectors", coefficients.len(), rho.len());
        return Err(Fault::attr(m));
    }
    if pairs.len().checked_mul(vectors).is_none_or(|n| n > 1 << 28) {
        return Err(Fault::attr(format!("{} pairs of {vectors} support vectors are too large a table", pairs.len())));
    }
    // What each support vector counts for each pair of classes.
    let starts: Vec<usize> = per.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + *n as usize))).collect();
    let mut counts = vec![0f32; pairs.len() * vectors];
    for (line, &(i, j)) in counts.chunks_mut(vectors).zip(&pairs) {
        for (class, row) in [(i, j - 1), (j, i)] {
            let range = starts[class]..starts[class] + per[class] as usize;
            line[range.clone()].copy_from_slice(&coefficients[row * vectors..][range]);
        }
    }
    let x = rows(cx)?;
    let kernel = kernel(cx, x, vectors as i64)?;
    let dims = [pairs.len() as i64, vectors as i64];
    let counts = cx.table_f32(&dims, &counts)?;
    let counts = cx.reshape(counts, exprs_of(&dims))?;
    let s = cx.contract("nv,pv->np", kernel, counts)?;
    let rho = cx.table_f32(&[rho.len() as i64], &rho)?;
    let s = cx.bin(Add, s, rho)?;
    // Votes: for the first class of a pair above 0, else for the second.
    let (mut first, mut second) = (vec![0f32; pairs.len() * k], vec![0f32; k]);
    for (p, &(i, j)) in pairs.iter().enumerate() {
        first[p * k + i] += 1.0;
        first[p * k + j] -= 1.0;
        second[j] += 1.0;
    }
    let dims = [pairs.len() as i64, k as i64];
    let first = cx.table_f32(&dims, &first)?;
    let first = cx.reshape(first, exprs_of(&dims))?;
    let second = cx.table_f32(&[k as i64], &second)?;
    let above = cx.bin_c(Gt, s, 0.0)?;
    let above = cx.cast(above, DType::F32)?;
    let votes = cx.contract("np,pk->nk", above, first)?;
    let votes = cx.bin(Add, votes, second)?;
    let at = cx.add(Op::ArgReduce { op: ArgOp::Max, axis: 1, keep: false, last: false }, &[votes])?;
    let table = labels.table(cx)?;
    let label = cx.gather(table, at, 0)?;
    let (a, b) = (floats(cx, "prob_a")?, floats(cx, "prob_b")?);
    if !a.is_empty() {
        if a.len() != pairs.len() || b.len() != pairs.len() {
            return Err(Fault::attr(format!("{} and {} coefficients of probabilities for {} pairs", a.len(), b.len(), pairs.len())));
        }
        let n = [pairs.len() as i64];
        let (a, b) = (cx.table_f32(&n, &a)?, cx.table_f32(&n, &b)?);
        let scaled = cx.bin(Mul, s, a)?;
        let moved = cx.bin(Add, scaled, b)?;
        let back = cx.un(UnaryOp::Neg, moved)?;
        let r = cx.un(UnaryOp::Sigmoid, back)?;
        let r = cx.bin_c(Max, r, 1e-7)?;
        let r = cx.bin_c(Min, r, 1.0 - 1e-7)?;
        let p = coupled(cx, r, k, &pairs)?;
        let scores = post_transform(cx, p)?;
        return many([label, scores]);
    }
    if k > 2 {
        let scores = post_transform(cx, s)?;
        return many([label, scores]);
    }
    // One score of two classes is that of the second one and, negated, of the first.
    let back = cx.un(UnaryOp::Neg, s)?;
    let both = cx.concat(&[back, s], 1)?;
    let scores = match cx.text("post_transform", "NONE")? {
        "NONE" | "LOGISTIC" => post_transform(cx, both)?,
        other => return Err(Fault::form(format!("`post_transform` is {other:?} for one score of two classes"))),
    };
    many([label, scores])
}

/// Probabilities of `k` classes that fit those of their pairs (`r: [N, pairs]`, of the first of each) best, `[N, k]`.
///
/// The second method of Wu, Lin and Weng, as libsvm has it: classes are adjusted in turn until a row changes by less than `0.005 / k`, at
/// most `max(100, k)` times.
fn coupled(cx: &mut Cx<'_, '_>, r: ValueId, k: usize, pairs: &[(usize, usize)]) -> Res<ValueId> {
    use BinaryOp::*;
    let batch = cx.dim(r, 0)?;
    let (n, count) = (k as i64, pairs.len() as i64);
    // r[i,j] of every two classes, 0 where they are the same.
    let unit = cx.scalar(DType::F32, 1.0)?;
    let other = cx.bin(Sub, unit, r)?;
    let zero = cx.fill(DType::F32, 0.0, vec![batch.clone(), 1.into()])?;
    let all = cx.concat(&[r, other, zero], 1)?;
    let mut places = vec![2 * count; k * k];
    for (p, &(i, j)) in pairs.iter().enumerate() {
        places[i * k + j] = p as i64;
        places[j * k + i] = p as i64 + count;
    }
    let places = cx.table_i64(&[n * n], &places)?;
    let r = cx.gather(all, places, 1)?;
    let r = cx.reshape(r, vec![batch.clone(), n.into(), n.into()])?;
    // Q[t,t] is the sum of r[j,t]^2, Q[t,j] is -r[j,t] r[t,j].
    let squares = cx.bin(Mul, r, r)?;
    let sums = cx.reduce(ReduceOp::Sum, squares, &[1], false)?;
    let wide = cx.unsqueeze(sums, &[2])?;
    let across = cx.transpose(r, &[0, 2, 1])?;
    let product = cx.bin(Mul, r, across)?;
    let negative = cx.un(UnaryOp::Neg, product)?;
    let plane = exprs_of(&[n, n]);
    let (row, column) = (cx.iota(DType::I64, 0, plane.clone())?, cx.iota(DType::I64, 1, plane)?);
    let diagonal = cx.bin(Eq, row, column)?;
    let q = cx.select(diagonal, wide, negative)?;
    let p = cx.fill(DType::F32, 1.0 / k as f64, vec![batch, n.into()])?;
    let out = loop_while(cx, &100.max(n).into(), &[p], &[q, sums], |cx, _, states, xs| {
        let (p, q, own) = (states[0], xs[0], xs[1]);
        let qp = cx.contract("nij,nj->ni", q, p)?;
        let pqp = cx.bin(Mul, p, qp)?;
        let pqp = cx.reduce(ReduceOp::Sum, pqp, &[1], true)?;
        let error = cx.bin(Sub, qp, pqp)?;
        let error = cx.un(UnaryOp::Abs, error)?;
        let error = cx.reduce(ReduceOp::Max, error, &[1], true)?;
        let open = cx.bin_c(Ge, error, 0.005 / k as f64)?;
        let mut state = vec![p, qp, pqp];
        if n <= UNROLLED {
            for t in 0..n {
                let t = cx.scalar(DType::I64, t as f64)?;
                state = adjust(cx, &state, t, q, own)?;
            }
        } else {
            state = loop_of(cx, &n.into(), &state, &[q, own], |cx, t, states, xs| Ok((adjust(cx, states, t, xs[0], xs[1])?, Vec::new())))?;
        }
        let p = cx.select(open, state[0], p)?;
        let goes_on = cx.reduce(ReduceOp::Any, open, &[0, 1], false)?;
        Ok((goes_on, vec![p]))
    })?;
    Ok(out[0])
}

/// Adjusts class `t` of `[p, Q p, p Q p]` (`[N,k]`, `[N,k]`, `[N,1]`), `own` being the diagonal of `q`.
fn adjust(cx: &mut Cx<'_, '_>, state: &[ValueId], t: ValueId, q: ValueId, own: ValueId) -> Res<Vec<ValueId>> {
    use BinaryOp::*;
    let &[p, qp, pqp] = state else { return Err(Fault::shape("a step without its state")) };
    let at = |cx: &mut Cx<'_, '_>, v: ValueId| -> Res<ValueId> {
        let v = cx.gather(v, t, 1)?;
        cx.unsqueeze(v, &[1])
    };
    let (qpt, qtt) = (at(cx, qp)?, at(cx, own)?);
    let above = cx.bin(Sub, pqp, qpt)?;
    let diff = cx.bin(Div, above, qtt)?;
    let scale = cx.bin_c(Add, diff, 1.0)?;
    // (pQp + diff * (diff * Qtt + 2 Qpt)) / (1 + diff)^2
    let inner = cx.bin(Mul, diff, qtt)?;
    let twice = cx.bin_c(Mul, qpt, 2.0)?;
    let inner = cx.bin(Add, inner, twice)?;
    let inner = cx.bin(Mul, inner, diff)?;
    let pqp = cx.bin(Add, pqp, inner)?;
    let pqp = cx.bin(Div, pqp, scale)?;
    let pqp = cx.bin(Div, pqp, scale)?;
    let row = cx.gather(q, t, 1)?;
    let row = cx.bin(Mul, row, diff)?;
    let qp = cx.bin(Add, qp, row)?;
    let qp = cx.bin(Div, qp, scale)?;
    let width = cx.dim(p, 1)?;
    let class = cx.iota(DType::I64, 1, vec![1.into(), width])?;
    let mine = cx.bin(Eq, class, t)?;
    let more = cx.bin(Add, p, diff)?;
    let p = cx.select(mine, more, p)?;
    let p = cx.bin(Div, p, scale)?;
    Ok(vec![p, qp, pqp])
}
