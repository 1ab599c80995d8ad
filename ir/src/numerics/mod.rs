// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meaning of numbers: encodings, conversions and scalar arithmetic of every dtype.
//!
//! Both interpreters, constant folding and every test oracle call these functions, so that one rule has one home.
//! `docs/NUMERICS.md` lists the rules; each row of its table is a test of this module or of an interpreter.
//!
//! An element travels as the bits of its encoding, right-aligned in a `u64` with zeros above its width (`c64`: the real
//! part low; `c128` and `str` have no such form). All functions are total: an operation that has no sense for a dtype
//! gives a stated result, never a panic.

mod arith;
mod convert;
mod float;
mod literal;
mod packed;
mod random;
mod text;

#[cfg(test)]
mod tests;

pub use arith::{binary, binary_f32, binary_f64, unary, unary_f32, unary_f64};
pub use convert::{cast, cast_slice, int_from_bits, int_to_bits};
pub use float::{decode_f64, encode_f64, highest, is_nan, lowest};
pub use literal::Elems;
pub use packed::{get, pack, set, unpack};
pub use random::{philox, seeded_bytes, uniform};
pub use text::{parse_scalar, print_scalar};

use crate::dtype::DType;

/// Mask of the bits that an element has.
pub fn mask(dtype: DType) -> u64 {
    match dtype.bits() {
        0 => 0,
        b if b >= 64 => u64::MAX,
        b => (1 << b) - 1,
    }
}
