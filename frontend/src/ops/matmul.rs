// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Products of matrices and sums of products by labels.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, ReduceOp, ValueId};

use super::{Entry, MANY, op};
use crate::cx::{Cx, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("Einsum", 12, 1, MANY, einsum), op("Gemm", 1, 2, 3, gemm), op("MatMul", 1, 2, 2, matmul)];

/// Labels of batch dims, outermost first; `m`, `k` and `n` stay free.
const BATCH: &[u8] = b"abcdefghijlopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Labels of a product of stacks of matrices, as numpy's `matmul` has it.
///
/// # Errors
/// An operand is a scalar, or has more dims than there are labels.
pub fn matmul_spec(ra: usize, rb: usize, trans_a: bool, trans_b: bool) -> Res<String> {
    if ra == 0 || rb == 0 {
        return Err(Fault::shape("an operand is a scalar, expected rank 1 or more"));
    }
    let batch = ra.max(rb).saturating_sub(2);
    let Some(labels) = BATCH.get(..batch) else {
        return Err(Fault::shape(format!("ranks {ra} and {rb} are more than a product takes")));
    };
    let text = |l: &[u8]| String::from_utf8_lossy(l).into_owned();
    let side = |rank: usize, matrix: &str| match rank {
        1 => "k".to_string(),
        _ => text(&labels[batch - (rank - 2)..]) + matrix,
    };
    let a = side(ra, if trans_a { "km" } else { "mk" });
    let b = side(rb, if trans_b { "nk" } else { "kn" });
    let out = text(labels) + if ra > 1 { "m" } else { "" } + if rb > 1 { "n" } else { "" };
    Ok(format!("{a},{b}->{out}"))
}

fn matmul(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let spec = matmul_spec(cx.rank(a), cx.rank(b), false, false)?;
    one(cx.contract(&spec, a, b)?)
}

/// `alpha * A' * B' + beta * C`
fn gemm(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    one(gemm_of(cx)?)
}

/// The general product of matrices that the node's inputs and attributes say.
pub fn gemm_of(cx: &mut Cx<'_, '_>) -> Res<ValueId> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (alpha, beta) = (cx.float("alpha", 1.0)?, cx.float("beta", 1.0)?);
    let spec = matmul_spec(2, 2, cx.flag("transA", false)?, cx.flag("transB", false)?)?;
    cx.want_rank(a, 2..=2)?;
    cx.want_rank(b, 2..=2)?;
    let scaled = |cx: &mut Cx<'_, '_>, v: ValueId, by: f64| {
        if by == 1.0 {
            return Ok(v);
        }
        let dtype = cx.dtype(v);
        if dtype.is_float() {
            return cx.bin_c(BinaryOp::Mul, v, by);
        }
        // Integer products take a real factor through f64.
        let w = cx.cast(v, DType::F64)?;
        let w = cx.bin_c(BinaryOp::Mul, w, by)?;
        cx.cast(w, dtype)
    };
    let y = cx.contract(&spec, a, b)?;
    let mut y = scaled(cx, y, alpha)?;
    if let Some(c) = cx.opt(2)?.filter(|_| beta != 0.0) {
        let c = scaled(cx, c, beta)?;
        y = cx.bin(BinaryOp::Add, y, c)?;
    }
    Ok(y)
}

/// An operand of an einsum with a label a dim.
struct Term {
    value: ValueId,
    labels: Vec<char>,
}

fn einsum(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let equation: String = cx.text("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let inputs = cx.all_inputs()?;
    let (left, right) = match equation.split_once("->") {
        Some((l, r)) => (l, Some(r)),
        None => (equation.as_str(), None),
    };
    let parts: Vec<&str> = left.split(',').collect();
    if parts.len() != inputs.len() {
        return Err(Fault::attr(format!("equation {equation:?} has {} terms for {} inputs", parts.len(), inputs.len())));
    }
    let used = |c: char| equation.contains(c);
    let mut free = ('a'..='z').chain('A'..='Z').filter(|c| !used(*c));
    let mut ellipsis: Vec<char> = Vec::new();
    let mut widths = Vec::new();
    for (part, &v) in parts.iter().zip(&inputs) {
        let named = part.chars().filter(|c| *c != '.').count();
        let width = if part.contains("...") { cx.rank(v).checked_sub(named) } else { (named == cx.rank(v)).then_some(0) };
        let Some(width) = width else {
            return Err(Fault::shape(format!("term {part:?} does not fit {}", cx.ty(v))));
        };
        while ellipsis.len() < width {
            let c = free.next().ok_or_else(|| Fault::attr("more dims than there are letters"))?;
            ellipsis.insert(0, c);
        }
        widths.push(width);
    }
    let expand = |part: &str, width: usize| -> Vec<char> {
        let dots: String = ellipsis[ellipsis.len() - width..].iter().collect();
        part.replace("...", &dots).chars().collect()
    };
    let mut terms = Vec::new();
    for ((part, &value), &width) in parts.iter().zip(&inputs).zip(&widths) {
        terms.push(diagonal(cx, Term { value, labels: expand(part, width) })?);
    }
    let result: Vec<char> = match right {
        Some(r) => expand(r, ellipsis.len()),
        None => {
            // Without a result it has the ellipsis, then every label that is named once, in order of the alphabet.
            let all: Vec<char> = left.chars().filter(|c| c.is_alphabetic()).collect();
            let mut once: Vec<char> = all.iter().copied().filter(|c| all.iter().filter(|d| *d == c).count() == 1).collect();
            once.sort_unstable();
            ellipsis.iter().copied().chain(once).collect()
        }
    };
    if let Some(c) = result.iter().find(|c| !c.is_alphabetic() || !terms.iter().any(|t| t.labels.contains(c))) {
        return Err(Fault::attr(format!("equation {equation:?}: label {c:?} of the result is in no term")));
    }
    let mut rest = terms.into_iter();
    let Some(mut at) = rest.next() else { return Err(Fault::attr("an equation without terms")) };
    let later: Vec<Term> = rest.collect();
    for i in 0..later.len() {
        let wanted: Vec<char> = result.iter().copied().chain(later[i + 1..].iter().flat_map(|t| t.labels.iter().copied())).collect();
        let right = Term { value: later[i].value, labels: later[i].labels.clone() };
        at = product_of(cx, at, right, &wanted)?;
    }
    let at = sum_out(cx, at, &result)?;
    let perm: Vec<usize> = result.iter().filter_map(|c| at.labels.iter().position(|l| l == c)).collect();
    one(cx.transpose(at.value, &perm)?)
}

/// Sums over labels that nothing else needs.
fn sum_out(cx: &mut Cx<'_, '_>, t: Term, wanted: &[char]) -> Res<Term> {
    let axes: Vec<u32> = t.labels.iter().enumerate().filter(|(_, c)| !wanted.contains(c)).map(|(i, _)| i as u32).collect();
    let value = cx.reduce(ReduceOp::Sum, t.value, &axes, false)?;
    Ok(Term { value, labels: t.labels.into_iter().filter(|c| wanted.contains(c)).collect() })
}

fn product_of(cx: &mut Cx<'_, '_>, a: Term, b: Term, wanted: &[char]) -> Res<Term> {
    let need = |other: &Term| -> Vec<char> { wanted.iter().chain(&other.labels).copied().collect() };
    let (keep_a, keep_b) = (need(&b), need(&a));
    let (a, b) = (sum_out(cx, a, &keep_a)?, sum_out(cx, b, &keep_b)?);
    let mut labels: Vec<char> = a.labels.iter().chain(&b.labels).copied().filter(|c| wanted.contains(c)).collect();
    let mut seen = Vec::new();
    labels.retain(|c| {
        !seen.contains(c) && {
            seen.push(*c);
            true
        }
    });
    let text = |l: &[char]| l.iter().collect::<String>();
    let spec = format!("{},{}->{}", text(&a.labels), text(&b.labels), text(&labels));
    Ok(Term { value: cx.contract(&spec, a.value, b.value)?, labels })
}

/// Takes the diagonal where a label is named twice in one term.
fn diagonal(cx: &mut Cx<'_, '_>, mut t: Term) -> Res<Term> {
    while let Some((i, j)) = (0..t.labels.len()).find_map(|j| t.labels[..j].iter().position(|c| *c == t.labels[j]).map(|i| (i, j))) {
        // Off the diagonal everything is zero, so a sum over one of both dims leaves it.
        let dims = cx.dims(t.value);
        let (rows, columns) = (cx.iota(DType::I64, i, dims.clone())?, cx.iota(DType::I64, j, dims)?);
        let on = cx.bin(BinaryOp::Eq, rows, columns)?;
        let zero = cx.scalar(cx.dtype(t.value), 0.0)?;
        let only = cx.select(on, t.value, zero)?;
        t.value = cx.reduce(ReduceOp::Sum, only, &[j as u32], false)?;
        t.labels.remove(j);
    }
    Ok(t)
}
