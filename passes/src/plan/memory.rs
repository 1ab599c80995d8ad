// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Offsets of arena buffers: what is not alive at the same time shares bytes.
//!
//! Sizes that are numbers are placed largest first at the lowest free offset. Sizes that are expressions get slots behind them: a slot is
//! taken again by a later buffer whose size is provably not larger.

use portwright_ir::sym::SymExpr;

/// Alignment of every offset in bytes.
pub(crate) const ALIGN: i64 = 64;

/// A buffer to be placed.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Bytes.
    pub(crate) bytes: SymExpr,
    /// First statement that touches it.
    pub(crate) from: usize,
    /// Last statement that touches it.
    pub(crate) to: usize,
}

/// Offsets, one a request, and the bytes of the whole arena.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    /// First byte of each.
    pub(crate) offsets: Vec<SymExpr>,
    /// Bytes of the arena.
    pub(crate) bytes: SymExpr,
}

/// Places buffers; `fits(a, b)` says whether `a <= b` always.
pub(crate) fn place(requests: &[Request], fits: &dyn Fn(&SymExpr, &SymExpr) -> bool) -> Placement {
    let mut offsets: Vec<SymExpr> = vec![0.into(); requests.len()];
    let mut fixed: Vec<(usize, i64)> =
        requests.iter().enumerate().filter_map(|(i, r)| r.bytes.as_const().map(|b| (i, b.max(0)))).filter(|(_, b)| *b > 0).collect();
    fixed.sort_by_key(|&(i, b)| (std::cmp::Reverse(b), requests[i].from, i));
    let mut placed: Vec<(i64, i64, usize)> = Vec::new();
    let mut end = 0i64;
    for (i, bytes) in fixed {
        let size = round(bytes);
        let r = &requests[i];
        let mut alive: Vec<(i64, i64)> = placed
            .iter()
            .filter(|(_, _, j)| requests[*j].from <= r.to && r.from <= requests[*j].to)
            .map(|&(at, size, _)| (at, size))
            .collect();
        alive.sort_unstable();
        let mut at = 0;
        for (other, len) in alive {
            if at + size <= other {
                break;
            }
            at = at.max(other + len);
        }
        placed.push((at, size, i));
        offsets[i] = at.into();
        end = end.max(at + size);
    }
    // Symbolic sizes, in order of first use.
    let mut slots: Vec<(SymExpr, usize, SymExpr)> = Vec::new();
    let mut total = SymExpr::from(end);
    let mut symbolic: Vec<usize> = (0..requests.len()).filter(|&i| requests[i].bytes.as_const().is_none()).collect();
    symbolic.sort_by_key(|&i| (requests[i].from, i));
    for i in symbolic {
        let r = &requests[i];
        let free = slots.iter_mut().find(|(size, busy_to, _)| *busy_to < r.from && (*size == r.bytes || fits(&r.bytes, size)));
        match free {
            Some((_, busy_to, at)) => {
                *busy_to = r.to;
                offsets[i] = at.clone();
            }
            None => {
                offsets[i] = total.clone();
                slots.push((r.bytes.clone(), r.to, total.clone()));
                total = total + r.bytes.round_up(ALIGN);
            }
        }
    }
    Placement { offsets, bytes: total }
}

fn round(bytes: i64) -> i64 {
    bytes.saturating_add(ALIGN - 1) / ALIGN * ALIGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_alive_together_shares_bytes() {
        let n = SymExpr::sym("N");
        let r = |bytes: SymExpr, from, to| Request { bytes, from, to };
        let list = [r(100.into(), 0, 1), r(200.into(), 1, 2), r(100.into(), 2, 3), r(n.clone(), 0, 1), r(n.clone(), 2, 3), r(n, 1, 2)];
        let p = place(&list, &|_, _| false);
        let text: Vec<String> = p.offsets.iter().map(SymExpr::to_string).collect();
        assert_eq!(text, ["256", "0", "256", "384", "384", "64*ceil(N, 64) + 384"]);
        assert_eq!(p.bytes.to_string(), "128*ceil(N, 64) + 384");
    }
}
