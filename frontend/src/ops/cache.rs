// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attention over a cache of keys and values that grows in a buffer (`com.microsoft`).

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, Op, ReduceOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::attention::{Heads, attend, both, join_heads, rotary_of, split_heads};
use super::norm::rms_norm_of;
use super::{Entry, op};
use crate::cx::{Cx, Res, many};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] =
    &[op("GroupQueryAttention", 1, 7, 16, group_query_attention), op("SparseAttention", 1, 9, 11, sparse_attention)];

/// A position for each batch element, or one for all, as i64 `[B|1,1,1,1]`.
pub fn positions(cx: &mut Cx<'_, '_>, v: ValueId) -> Res<ValueId> {
    let v = cx.cast(v, DType::I64)?;
    let n = cx.ty(v).elems();
    cx.reshape(v, vec![n, 1.into(), 1.into(), 1.into()])
}

/// A cache `[B,H,keys,D]` of what `past` (`[B,H,P,D]`) has before `start`, then `new` (`[B,H,S,D]`), then zeros.
pub fn written(cx: &mut Cx<'_, '_>, past: ValueId, new: ValueId, start: ValueId, keys: &SymExpr) -> Res<ValueId> {
    let (mut dims, steps) = (cx.dims(new), cx.dim(new, 2)?);
    dims[2] = keys.clone();
    let past = lengthened(cx, past, 2, keys, 0.0)?;
    let j = cx.iota(DType::I64, 2, vec![1.into(), 1.into(), keys.clone(), 1.into()])?;
    let row = cx.bin(BinaryOp::Sub, j, start)?;
    let count = cx.number_of(steps.clone(), DType::I64)?;
    let (old, fresh) = (cx.bin_c(BinaryOp::Lt, row, 0.0)?, cx.bin(BinaryOp::Lt, row, count)?);
    let rows = if steps.is(1) {
        new
    } else {
        let last = cx.bin_c(BinaryOp::Sub, count, 1.0)?;
        let row = cx.bin_c(BinaryOp::Max, row, 0.0)?;
        let row = cx.bin(BinaryOp::Min, row, last)?;
        let row = cx.broadcast(row, dims)?;
        cx.add(Op::GatherElements { axis: 2 }, &[new, row])?
    };
    let zero = cx.scalar(cx.dtype(new), 0.0)?;
    let rest = cx.select(fresh, rows, zero)?;
    cx.select(old, past, rest)
}

/// `x` with `value` behind it along `axis`, up to `size`.
pub fn lengthened(cx: &mut Cx<'_, '_>, x: ValueId, axis: usize, size: &SymExpr, value: f64) -> Res<ValueId> {
    let rank = cx.rank(x);
    let (low, mut high) = (vec![0.into(); rank], vec![SymExpr::from(0); rank]);
    high[axis] = size - &cx.dim(x, axis)?;
    cx.pad(x, low, high, vec![0; rank], value)
}

/// Where queries stand among keys and which keys they see.
pub struct View {
    /// Place of the first query, i64 `[B|1,1,1,1]`; `None` is the first key.
    pub start: Option<ValueId>,
    /// Whether a query sees keys up to its own place only; else all that are written.
    pub causal: bool,
    /// How many keys a query sees, its own among them; `None` is all.
    pub window: Option<i64>,
}

impl View {
    /// Keeps what queries `[B,H,S,D]` see of `keys` keys, as bool `[B|1,1,S|1,keys]`, with the offset of a causal attention. What the offset
    /// alone says is not in the mask.
    pub fn masks(&self, cx: &mut Cx<'_, '_>, steps: &SymExpr, keys: &SymExpr) -> Res<(Option<ValueId>, Option<ValueId>)> {
        use BinaryOp::*;
        let j = cx.iota(DType::I64, 3, vec![1.into(), 1.into(), 1.into(), keys.clone()])?;
        let mut place = cx.iota(DType::I64, 2, vec![1.into(), 1.into(), steps.clone(), 1.into()])?;
        if let Some(s) = self.start {
            place = cx.bin(Add, place, s)?;
        }
        let mut keep = None;
        let mut and = |cx: &mut Cx<'_, '_>, side: ValueId| -> Res<()> {
            keep = Some(match keep {
                Some(k) => cx.bin(And, k, side)?,
                None => side,
            });
            Ok(())
        };
        if let Some(w) = self.window {
            let first = cx.bin_c(Sub, place, w as f64)?;
            let side = cx.bin(Gt, j, first)?;
            and(cx, side)?;
        }
        let mut offset = None;
        match self.start {
            Some(s) if self.causal => {
                if cx.dim(s, 0)?.is(1) {
                    offset = Some(cx.as_scalar(s)?);
                } else {
                    // The farthest batch element says which keys nobody sees, the mask the rest.
                    let side = cx.bin(Le, j, place)?;
                    and(cx, side)?;
                    offset = Some(cx.reduce(ReduceOp::Max, s, &[0, 1, 2, 3], false)?);
                }
            }
            Some(s) => {
                let count = cx.number_of(steps.clone(), DType::I64)?;
                let end = cx.bin(Add, s, count)?;
                let side = cx.bin(Lt, j, end)?;
                and(cx, side)?;
            }
            None => {}
        }
        Ok((keep, offset))
    }
}

/// Puts a key before all others that every query sees with the product `sink` (`[H]`, 0 where it is `None`) and whose value is 0: a softmax
/// whose weights sum up to less than one.
fn with_sink(
    cx: &mut Cx<'_, '_>,
    [q, k, v]: [ValueId; 3],
    mask: Option<ValueId>,
    offset: Option<ValueId>,
    sink: Option<ValueId>,
) -> Res<([ValueId; 3], ValueId, ValueId)> {
    let dtype = cx.dtype(q);
    let zero = cx.scalar(dtype, 0.0)?;
    let front = |cx: &mut Cx<'_, '_>, x: ValueId, axis: usize| {
        let mut low = vec![SymExpr::from(0); 4];
        low[axis] = 1.into();
        cx.pad(x, low, vec![0.into(); 4], vec![0; 4], 0.0)
    };
    let (k, v) = (front(cx, k, 2)?, front(cx, v, 2)?);
    let keys = cx.dim(k, 2)?;
    let others = match mask {
        None => zero,
        Some(m) => {
            let m = if cx.dtype(m) == DType::Bool {
                let hidden = cx.scalar(dtype, f64::NEG_INFINITY)?;
                cx.select(m, zero, hidden)?
            } else {
                cx.cast(m, dtype)?
            };
            front(cx, m, 3)?
        }
    };
    let sink = match sink {
        Some(s) => {
            let h = cx.dim(q, 1)?;
            let s = cx.cast(s, dtype)?;
            cx.reshape(s, vec![1.into(), h, 1.into(), 1.into()])?
        }
        None => zero,
    };
    let j = cx.iota(DType::I64, 3, vec![1.into(), 1.into(), 1.into(), keys])?;
    let first = cx.bin_c(BinaryOp::Eq, j, 0.0)?;
    let mask = cx.select(first, sink, others)?;
    let offset = match offset {
        Some(o) => cx.bin_c(BinaryOp::Add, o, 1.0)?,
        None => cx.scalar(DType::I64, 1.0)?,
    };
    Ok(([q, k, v], mask, offset))
}

/// Queries, keys and values of a node's first three inputs, heads apart: `[B,S,(Hq+2Hk)*D]` where the first has them all.
fn read_heads(cx: &mut Cx<'_, '_>) -> Res<[ValueId; 3]> {
    let q = cx.input(0)?;
    let (hq, hk) = (cx.need_int("num_heads")?, cx.need_int("kv_num_heads")?);
    if hq < 1 || hk < 1 || hq % hk != 0 {
        return Err(Fault::attr(format!("`num_heads` is {hq} and `kv_num_heads` {hk}, expected a positive multiple of a positive number")));
    }
    cx.want_rank(q, 3..=3)?;
    match (cx.opt(1)?, cx.opt(2)?) {
        (Some(k), Some(v)) => Ok([split_heads(cx, q, hq)?, split_heads(cx, k, hk)?, split_heads(cx, v, hk)?]),
        (None, None) => {
            // Queries, keys and values of a token lie one after the other.
            let all = split_heads(cx, q, hq + 2 * hk)?;
            let parts = cx.split(all, 1, &[hq.into(), hk.into(), hk.into()])?;
            Ok([parts[0], parts[1], parts[2]])
        }
        _ => Err(Fault::new(Code::BAD_ARITY, "keys are given without values, or values without keys")),
    }
}

/// Rotates queries and keys whose first stands at `start`, or that stand at `ids`, by tables of input `table` and the one behind it.
fn rotated(cx: &mut Cx<'_, '_>, [q, k]: [ValueId; 2], start: Option<ValueId>, ids: Option<ValueId>, table: usize) -> Res<[ValueId; 2]> {
    let tables = [cx.input(table)?, cx.input(table + 1)?];
    let interleaved = cx.flag("rotary_interleaved", false)?;
    let steps = cx.dim(q, 2)?;
    let ids = match (ids, start) {
        (Some(ids), _) => ids,
        (None, start) => {
            let at = cx.iota(DType::I64, 1, vec![1.into(), steps])?;
            match start {
                Some(s) => {
                    let b = cx.dim(s, 0)?;
                    let s = cx.reshape(s, vec![b, 1.into()])?;
                    cx.bin(BinaryOp::Add, at, s)?
                }
                None => at,
            }
        }
    };
    cx.want_rank(tables[0], 2..=2)?;
    let dims = cx.dim(tables[0], 1)?.as_const().ok_or_else(|| Fault::form("the table of angles has no fixed width"))? * 2;
    Ok([rotary_of(cx, q, tables, Some(ids), interleaved, dims, 0)?, rotary_of(cx, k, tables, Some(ids), interleaved, dims, 0)?])
}

/// Place of the first new key: the number of keys with the new ones, less the new ones; a prompt, which may be padded, begins at 0.
fn first_place(cx: &mut Cx<'_, '_>, total: ValueId, steps: &SymExpr) -> Res<ValueId> {
    let total = positions(cx, total)?;
    let count = cx.number_of(steps.clone(), DType::I64)?;
    let start = cx.bin(BinaryOp::Sub, total, count)?;
    cx.bin_c(BinaryOp::Max, start, 0.0)
}

/// Past keys and values, which come together.
fn pasts(cx: &mut Cx<'_, '_>, at: usize) -> Res<Option<[ValueId; 2]>> {
    match (cx.opt(at)?, cx.opt(at + 1)?) {
        (Some(k), Some(v)) => {
            cx.want_rank(k, 4..=4)?;
            cx.want_rank(v, 4..=4)?;
            Ok(Some([k, v]))
        }
        (None, None) => Ok(None),
        _ => Err(Fault::new(Code::BAD_ARITY, "past keys are given without past values, or values without keys")),
    }
}

/// Attention over a cache whose heads are shared. `seqlens_k` is the last valid key of each batch element, `total_sequence_length` the
/// largest number of them; a cache is as long as the longer of that and the past, so that a past with room behind it keeps its length.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.GroupQueryAttention`, version 1, with the placement of new keys of its CPU kernel.
fn group_query_attention(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    for name in ["k_quant_type", "v_quant_type"] {
        let kind = cx.text(name, "NONE")?;
        if kind != "NONE" {
            return Err(Fault::form(format!("`{name}` is {kind:?}: a quantized cache is not taken, NONE is")));
        }
    }
    if cx.flag("sliding_window_cache", false)? {
        return Err(Fault::form("`sliding_window_cache` is 1: a cache that drops its oldest keys is not taken")
            .help("export the model with a cache of the whole sequence"));
    }
    let window = match cx.int("local_window_size", -1)? {
        -1 => None,
        w if w > 0 => Some(w),
        w => return Err(Fault::attr(format!("`local_window_size` is {w}, expected -1 or more than 0"))),
    };
    let causal = match cx.int("causal", 1)? {
        0 if window.is_some() => return Err(Fault::attr("`local_window_size` is set although `causal` is 0")),
        0 => false,
        1 => true,
        other => return Err(Fault::attr(format!("`causal` is {other}, expected 0 or 1"))),
    };
    let [mut q, mut k, v] = read_heads(cx)?;
    let steps = cx.dim(q, 2)?;
    match (cx.opt(14)?, cx.opt(15)?) {
        (Some(qw), Some(kw)) => {
            let eps = cx.float("qk_norm_epsilon", 1e-6f32.into())?;
            (q, k) = (rms_norm_of(cx, q, qw, 3, eps)?, rms_norm_of(cx, k, kw, 3, eps)?);
        }
        (None, None) => {}
        _ => return Err(Fault::new(Code::BAD_ARITY, "one of `q_norm_weight` and `k_norm_weight` is given")),
    }
    let past = pasts(cx, 3)?;
    let last = cx.input(5)?;
    let start = match past {
        Some(_) => {
            let total = cx.cast(last, DType::I64)?;
            let total = cx.bin_c(BinaryOp::Add, total, 1.0)?;
            Some(first_place(cx, total, &steps)?)
        }
        None => None,
    };
    if cx.flag("do_rotary", false)? {
        let ids = cx.opt(9)?;
        [q, k] = rotated(cx, [q, k], start, ids, 7)?;
    }
    let (total, present_k, present_v) = match (past, start) {
        (Some([pk, pv]), Some(start)) => {
            let total = cx.input(6)?;
            let total = cx.expr(total, "total_sequence_length")?;
            let before = cx.dim(pk, 2)?;
            if cx.dim(q, 0)?.is(1) && total == &before + &steps {
                (total, cx.concat(&[pk, k], 2)?, cx.concat(&[pv, v], 2)?)
            } else {
                let keys = cx.max(&before, &total);
                (total, written(cx, pk, k, start, &keys)?, written(cx, pv, v, start, &keys)?)
            }
        }
        _ => (steps.clone(), k, v),
    };
    let keys = cx.dim(present_k, 2)?;
    let (keep, offset) = View { start, causal, window }.masks(cx, &steps, &keys)?;
    let mut mask = match cx.opt(10)? {
        Some(bias) => {
            cx.want_rank(bias, 4..=4)?;
            Some(lengthened(cx, bias, 3, &keys, 0.0)?)
        }
        None => None,
    };
    if let Some(keep) = keep {
        mask = Some(both(cx, mask, keep)?);
    }
    let scale = cx.float_opt("scale")?.filter(|s| *s != 0.0);
    let heads = Heads { scale, causal, softcap: cx.float("softcap", 0.0)?, precision: None };
    let operands = [q, present_k, present_v];
    let sink = cx.opt(11)?;
    let (y, products) = if sink.is_some() || cx.int("smooth_softmax", -1)? > 0 {
        if cx.wants(3) {
            return Err(Fault::form("products are asked for (output 3) beside a sink in the softmax"));
        }
        let (operands, mask, offset) = with_sink(cx, operands, mask, offset, sink)?;
        attend(cx, operands, Some(mask), Some(offset).filter(|_| causal), &heads, None)?
    } else {
        // 1 is what the softmax sees, 2 what it gives.
        let mode = match (cx.wants(3), cx.int("qk_output", 0)?) {
            (false, _) => None,
            (true, 1) => Some(2),
            (true, 2) => Some(3),
            (true, other) => return Err(Fault::attr(format!("`qk_output` is {other} although output 3 is used, expected 1 or 2"))),
        };
        attend(cx, operands, mask, offset, &heads, mode)?
    };
    let mut out = vec![join_heads(cx, y)?, present_k, present_v];
    if let Some(p) = products {
        // What a query does not see is 0 here.
        let p = cx.slice_axis(p, 3, 0.into(), total, 1)?;
        let (hidden, zero) = (cx.bin_c(BinaryOp::Eq, p, f64::NEG_INFINITY)?, cx.scalar(cx.dtype(p), 0.0)?);
        out.push(cx.select(hidden, zero, p)?);
    }
    many(out)
}

/// Attention of which each head sees some blocks of keys, over a cache of a fixed length.
///
/// # Source
/// ONNX Runtime contrib op `com.microsoft.SparseAttention`, version 1. Its block mask, in compressed rows, must be constant.
fn sparse_attention(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let block = cx.need_int("sparse_block_size")?;
    if ![16, 32, 64, 128].contains(&block) {
        return Err(Fault::attr(format!("`sparse_block_size` is {block}, expected 16, 32, 64 or 128")));
    }
    let [mut q, mut k, v] = read_heads(cx)?;
    let (steps, hq) = (cx.dim(q, 2)?, cx.need_int("num_heads")?);
    let Some([pk, pv]) = pasts(cx, 3)? else { return Err(Fault::new(Code::BAD_ARITY, "input 3 is missing")) };
    let lens = cx.input(8)?;
    let start = first_place(cx, lens, &steps)?;
    if cx.flag("do_rotary", false)? {
        [q, k] = rotated(cx, [q, k], Some(start), None, 9)?;
    }
    let keys = cx.dim(pk, 2)?;
    let (present_k, present_v) = (written(cx, pk, k, start, &keys)?, written(cx, pv, v, start, &keys)?);
    let (layouts, blocks, seen) = block_mask(cx)?;
    if hq % layouts != 0 {
        return Err(Fault::shape(format!("{layouts} layouts for {hq} heads, expected a divisor")));
    }
    let table = cx.numbers(DType::Bool, &[layouts, blocks, blocks], &seen)?;
    // Heads take layouts in turn: [1,H,blocks,blocks], then the blocks of queries and keys.
    let which: Vec<i64> = (0..hq).map(|h| h % layouts).collect();
    let which = cx.int_list(&which)?;
    let by_head = cx.gather(table, which, 0)?;
    let j = cx.iota(DType::I64, 0, vec![keys.clone()])?;
    let j = cx.bin_c(BinaryOp::Div, j, block as f64)?;
    let columns = cx.gather(by_head, j, 2)?;
    let i = cx.iota(DType::I64, 1, vec![1.into(), steps.clone()])?;
    let first = cx.dim(start, 0)?;
    let first = cx.reshape(start, vec![first, 1.into()])?;
    let place = cx.bin(BinaryOp::Add, first, i)?;
    let place = cx.bin_c(BinaryOp::Div, place, block as f64)?;
    let rows = cx.gather(columns, place, 1)?;
    let rows = cx.transpose(rows, &[1, 0, 2, 3])?;
    let (keep, offset) = View { start: Some(start), causal: true, window: None }.masks(cx, &steps, &keys)?;
    let mask = match keep {
        Some(k) => cx.bin(BinaryOp::And, rows, k)?,
        None => rows,
    };
    let scale = cx.float_opt("scale")?.filter(|s| *s != 0.0);
    let heads = Heads { scale, causal: true, softcap: 0.0, precision: None };
    let (y, _) = attend(cx, [q, present_k, present_v], Some(mask), offset, &heads, None)?;
    many([join_heads(cx, y)?, present_k, present_v])
}

/// Layouts, blocks a side and 1 where a block of keys is seen, `[layouts, blocks, blocks]`.
fn block_mask(cx: &mut Cx<'_, '_>) -> Res<(i64, i64, Vec<f64>)> {
    let (rows, columns) = (cx.input(5)?, cx.input(6)?);
    cx.want_rank(rows, 2..=2)?;
    cx.want_rank(columns, 2..=2)?;
    let known = |v: &SymExpr| v.as_const().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let (r, c) = (cx.dims(rows), cx.dims(columns));
    let (Some(layouts), Some(ends), Some(width)) = (known(&r[0]), known(&r[1]), known(&c[1]).filter(|_| c[0] == r[0])) else {
        return Err(Fault::shape(format!("a block mask of {} and {}", cx.ty(rows), cx.ty(columns))));
    };
    let blocks = ends - 1;
    let rows = cx.const_ints(rows, "`block_row_indices`")?;
    let columns = cx.const_ints(columns, "`block_col_indices`")?;
    let mut seen = vec![0.0; layouts * blocks * blocks];
    for l in 0..layouts {
        for b in 0..blocks {
            let ends = (rows.get(l * ends + b), rows.get(l * ends + b + 1));
            let (Some(&from), Some(&to)) = ends else { return Err(Fault::shape("`block_row_indices` is too short")) };
            for at in from..to {
                let column = usize::try_from(at).ok().filter(|a| *a < width).and_then(|a| columns.get(l * width + a));
                let place = column.and_then(|c| usize::try_from(*c).ok()).filter(|c| *c < blocks);
                match place {
                    Some(c) => seen[(l * blocks + b) * blocks + c] = 1.0,
                    None => {
                        let m = format!(
                            "row {b} of layout {l} names columns {from}..{to}, which are not in `block_col_indices` or beyond {blocks} blocks"
                        );
                        return Err(Fault::shape(m));
                    }
                }
            }
        }
    }
    Ok((layouts as i64, blocks as i64, seen))
}
