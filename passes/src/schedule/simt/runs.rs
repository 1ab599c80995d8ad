// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operands that are computed where they are loaded, and integers or floats of 8 bits with a scale a block, of which a lane reads many at a
//! time.

use portwright_ir::dtype::DType;
use portwright_ir::graph::ValueId;
use portwright_ir::kernel::{Ex, Kb, Ty};
use portwright_ir::sym::SymExpr;

use super::super::index::lane;
use super::problem::At;
use super::{Cx, Eval, Guard, Stop, vector};

/// Computes an element that is no value of the region, in the dtype of sums; one that the guard switches off may be anything.
pub(super) type One<'p> = dyn Fn(&mut Kb<'_>, &mut Eval<'_>, &At, &Guard) -> Result<Ex, Stop> + 'p;

/// A right operand that is no value of the region.
pub(super) struct Made<'p> {
    /// Its elements one by one.
    pub(super) one: &'p One<'p>,
    /// Its elements by neighbors along the sum, where they lie so.
    pub(super) run: Option<Run>,
}

/// Integers, or floats of 8 bits, `[n, k]` with a scale, and perhaps a zero point, a block of neighbors along `k`: `(q - zero) * scale`.
pub(super) struct Run {
    q: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    /// The zero point where there is no tensor of them.
    middle: i64,
    /// Neighbors that share a scale.
    block: i64,
    dtype: DType,
    /// Extent of `k`.
    depth: SymExpr,
}

/// Neighbors of a run: integers less their zero point in the dtype of sums, and the scale that all of them share, which is zero where the guard
/// switches them off.
pub(super) struct Values {
    pub(super) list: Vec<Ex>,
    pub(super) scale: Ex,
}

/// Bits of 2^23 as f32: integers below it, put into the lower bits, are added to it.
const MAGIC: i64 = 0x4b00_0000;

impl Run {
    /// `None` where the integers are computed, or have no such dtype.
    pub(super) fn of(eval: &Eval<'_>, [q, scale]: [ValueId; 2], zero: Option<ValueId>, block: i64, middle: i64) -> Option<Run> {
        let dtype = eval.dtype(q);
        let dims = eval.dims(q);
        let [_, depth] = dims.as_slice() else { return None };
        let stored = if dtype.is_float() { dtype.bits() == 8 } else { dtype.is_int() && matches!(dtype.bits(), 2 | 4 | 8) };
        let fits = eval.is_loaded(q) && stored && block > 0;
        fits.then(|| Run { q, scale, zero, middle, block, dtype, depth: depth.clone() })
    }
    /// Bytes of so many neighbors.
    fn bytes(&self, n: i64) -> i64 {
        n * i64::from(self.dtype.bits()) / 8
    }
    /// Whether `n` neighbors are always one aligned load and of one block.
    pub(super) fn fits(&self, cx: &Cx<'_>, eval: &Eval<'_>, n: i64) -> bool {
        let bytes = self.bytes(n);
        (4..=i64::from(cx.spec.vec_bytes)).contains(&bytes) && self.block % n == 0 && vector::divides(cx, eval, &self.depth, n)
    }
    /// The most neighbors, up to so many, that are one load.
    pub(super) fn widest(&self, cx: &Cx<'_>, eval: &Eval<'_>, most: i64) -> Option<i64> {
        [64, 32, 16, 8, 4].into_iter().find(|&n| n <= most && self.fits(cx, eval, n))
    }
    /// The `n` neighbors of row `row` that begin at `n * v`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn load(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        (row, v): (&SymExpr, &SymExpr),
        n: i64,
        acc: DType,
        guard: &Guard,
    ) -> Result<Values, Stop> {
        let (bits, bytes) = (i64::from(self.dtype.bits()), self.bytes(n));
        let along = v.clone() * bytes + lane();
        let at = match self.dtype.is_packed() {
            // The buffer holds bytes.
            true => vec![row * &self.depth.div(&(8 / bits).into()) + along],
            false => vec![row.clone(), along],
        };
        let Some((buf, _)) = eval.resolve(self.q, &at) else { return Stop::no("integers in blocks that are no memory") };
        let before = eval.width;
        eval.set_width(bytes as u32);
        let none = if self.dtype.is_float() { Ex::float(0.0) } else { Ex::int(0) };
        let from = eval.block(k, buf, &at, guard, none)?;
        let raw = k.load("q", from);
        let words = match self.dtype.is_float() {
            true => k.let_("q", raw.cast(acc)),
            false => k.let_("q", raw.bitcast(DType::I32)),
        };
        eval.set_width(1);
        let (of, _) = eval.ix.div_mod(v, &(self.block / n).into());
        let place = [row.clone(), of];
        let from = match self.zero {
            Some(z) => Some(eval.value(k, z, &place, guard)?.cast(acc)),
            None => None,
        };
        let from = from.map(|z| k.let_("z", z));
        let scale = eval.value(k, self.scale, &place, guard)?;
        let mut scale = k.let_("sc", if eval.dtype(self.scale) == acc { scale } else { scale.cast(acc) });
        if eval.resolve(self.scale, &place).is_none()
            && let Some(inside) = eval.mask(k, guard)?
        {
            scale = k.let_("sc", inside.select(scale, Ex::lit(DType::I32, 0.0).cast(acc)));
        }
        eval.set_width(before);
        let (sign, mask) = (if self.dtype.is_signed_int() { 1i64 << (bits - 1) } else { 0 }, (1i64 << bits) - 1);
        let middle = sign + if self.zero.is_none() { self.middle } else { 0 };
        let int = |x: i64| Ex::int(x.into()).typed(&Ty::Scalar(DType::I32));
        let per = 32 / bits;
        let list = (0..n)
            .map(|i| {
                if self.dtype.is_float() {
                    let x = words.extract(i);
                    return match (&from, self.middle) {
                        (Some(z), _) => x - z,
                        (None, 0) => x,
                        (None, middle) => x - Ex::lit(acc, middle as f64),
                    };
                }
                let word = if bytes == 4 { words.clone() } else { words.extract(i / per) };
                let mut low = (word >> int(i % per * bits)) & int(mask);
                if sign != 0 {
                    low = low ^ int(sign);
                }
                // Integers below 2^23 are exact, and cost no conversion.
                let x = match acc {
                    DType::F32 => (low | int(MAGIC)).bitcast(DType::F32) - Ex::float(f64::from(1 << 23) + middle as f64),
                    _ => (low - int(middle)).cast(acc),
                };
                match &from {
                    Some(z) => x - z,
                    None => x,
                }
            })
            .collect();
        Ok(Values { list, scale })
    }
}
