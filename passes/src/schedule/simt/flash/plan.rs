// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How attention on matrix instructions is cut for a machine's registers and shared memory.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{Atom, Digit, Operand, Place2};

use super::super::attention::Form;
use super::super::{Cx, Eval};
use crate::spec::Fragment;

/// Warps of a group, at most.
const WARPS: i64 = 4;

/// How a form is cut.
pub(in super::super) struct Plan {
    pub(super) fragment: Fragment,
    pub(super) warps: i64,
    /// Warps that have the same rows, each some columns of the values.
    pub(super) slices: i64,
    /// Keys of a block.
    pub(super) block: i64,
    /// Depths of keys and of values in whole fragments.
    pub(super) depth: i64,
    pub(super) width: i64,
    /// Whether queries stay in registers.
    pub(super) keep: bool,
}

/// Digits of the registers of lanes.
pub(super) fn digits(atom: &Atom, o: Operand) -> Option<(&[Digit], &[Digit])> {
    match atom.operand(o) {
        Place2::PerLane { lane, reg } => Some((lane, reg)),
        _ => None,
    }
}

/// Whether accumulators that lie side by side are, lane by lane and register by register, a left operand.
fn chained(atom: &Atom) -> bool {
    let (Some((la, ra)), Some((lc, rc))) = (digits(atom, Operand::A), digits(atom, Operand::C)) else { return false };
    let [_, n, k] = atom.shape;
    let summed = |d: &Digit| if d.dim == 1 { Digit { dim: 2, ..*d } } else { *d };
    let more = (k > n).then(|| Digit { dim: 2, stride: n, extent: k / n });
    k.is_multiple_of(n) && lc.iter().map(summed).eq(la.iter().copied()) && rc.iter().map(summed).chain(more).eq(ra.iter().copied())
}

/// The plan of a form; `None` where the machine has no fragment for it.
pub(in super::super) fn plan(cx: &Cx<'_>, eval: &Eval<'_>, f: &Form) -> Option<Plan> {
    let d = eval.dtype(f.q);
    if eval.dtype(f.k) != d || eval.dtype(f.v) != d || f.acc != DType::F32 {
        return None;
    }
    let fits = |x: &&Fragment| x.dtypes == [d, d, DType::F32] && u32::from(x.lanes) == cx.spec.lanes && chained(&x.atom());
    let fragment = *cx.spec.fragments.iter().find(fits)?;
    let [fm, _, fk] = fragment.shape.map(i64::from);
    let (depth, width) = (f.depth.as_const().filter(|n| *n > 0)?, f.width.as_const().filter(|n| *n > 0)?);
    // Few rows leave a fragment mostly empty, which costs nothing: then keys and values are what takes the time.
    let rows = eval.ix.bounds(&(&f.shared * &f.queries)).1.max(1);
    let whole = |n: i64, by: i64| (n + by - 1) / by * by;
    let (depth, width) = (whole(depth.min(1 << 16), fk), width.min(1 << 16));
    let most_warps = WARPS.min(i64::from(cx.spec.max_group / cx.spec.lanes));
    let (bytes, lanes) = (i64::from(d.bits()) / 8, i64::from(cx.spec.lanes));
    // Registers of 32 bits of a lane, of which five of twelve are left for addresses, fragments of keys and values and what softmax needs.
    let most = i64::from(cx.spec.registers) * 7 / 12;
    let queries = fm * depth * bytes / 4 / lanes;
    let keys = f.keys.as_const().unwrap_or(i64::MAX);
    // Values too wide for the registers of a warp are shared by several, which form their rows' scores each by itself.
    let mut slices = 1;
    while slices <= most_warps {
        let width = whole(width, fk * slices);
        let warps = ((rows.min(1 << 20) + fm - 1) / fm).min(most_warps / slices) * slices;
        // Vectors of keys and values that a lane moves each have an address at both ends.
        let moved = |block: i64| block * (depth + width) * bytes / i64::from(cx.spec.vec_bytes) / (lanes * warps);
        let busy = |block: i64| fm * width / slices / lanes + fm * block / lanes * 3 / 2 + 2 * moved(block);
        let shared = |block: i64| bytes * (warps / slices * fm * (depth + 8) + 2 * block * (depth + width + 16));
        let fits = |b: &i64| {
            b % fk == 0 && busy(*b) <= most && shared(*b) <= i64::from(cx.spec.shared_bytes) && (*b < keys.saturating_mul(2) || *b == fk)
        };
        if let Some(block) = [64, 32, 16].into_iter().find(fits) {
            return Some(Plan { fragment, warps, slices, block, depth, width, keep: busy(block) + queries <= most });
        }
        slices *= 2;
    }
    None
}

impl Plan {
    /// Rows of a group.
    pub(super) fn rows(&self) -> i64 {
        self.warps / self.slices * i64::from(self.fragment.shape[0])
    }
    /// Columns of values of a warp.
    pub(super) fn columns(&self) -> i64 {
        self.width / self.slices
    }
}
