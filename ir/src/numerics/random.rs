// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers from a seed: the counter-based generator that models use, and the contents of seeded weights.

use crate::dtype::{DType, Kind};

use super::float::{decode_f64, encode_f64};

/// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): four words for a counter and a key.
pub fn philox(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            k = [k[0].wrapping_add(0x9e37_79b9), k[1].wrapping_add(0xbb67_ae85)];
        }
        let p0 = u64::from(c[0]) * 0xd251_1f53;
        let p1 = u64::from(c[2]) * 0xcd9e_8d57;
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
    }
    c
}

/// Element `index` of a uniform tensor in `[low, high)`, as bits of `dtype`.
///
/// The counter is `(index low, index high, 0, 0)`, the key `(seed low, seed high)`. f64 takes `(w0 >> 5) * 2^26 + (w1 >> 6)`
/// over 2^53 and computes `low + u * (high - low)` in f64; others take `w0 >> 8` over 2^24 and compute in f32, then round.
/// What rounds up to `high` or beyond becomes `low`.
pub fn uniform(dtype: DType, low: u64, high: u64, seed: u64, index: u64) -> u64 {
    let w = philox([index as u32, (index >> 32) as u32, 0, 0], [seed as u32, (seed >> 32) as u32]);
    let (lo, hi) = (decode_f64(dtype, low), decode_f64(dtype, high));
    let bits = if dtype == DType::F64 {
        let u = ((u64::from(w[0] >> 5) << 26) + u64::from(w[1] >> 6)) as f64 / (1u64 << 53) as f64;
        (lo + u * (hi - lo)).to_bits()
    } else {
        let u = (w[0] >> 8) as f32 / 16_777_216.0;
        encode_f64(dtype, f64::from(lo as f32 + u * (hi as f32 - lo as f32)), false)
    };
    if decode_f64(dtype, bits) >= hi { low } else { bits }
}

/// Bytes of a weight that is given by a seed: the same on every machine.
///
/// Floats lie in [-1, 1] about zero like a normal distribution of deviation 0.29, scales of `f8e8m0` in [2^-8, 1];
/// integers of 8 bits and fewer take all their values, wider ones -100..=100 (unsigned 0..=100); complex parts are floats.
/// `None` if the size leaves `usize`, a dim is negative or the dtype is text.
pub fn seeded_bytes(seed: u64, dtype: DType, dims: &[i64]) -> Option<Vec<u8>> {
    let n = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?))?;
    usize::try_from(dtype.bytes_for(n)?).ok().filter(|&b| b <= isize::MAX as usize)?;
    let key = mix(seed ^ 0x5e_ed0f_4e19);
    let draw = |i: u64| mix(key.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    match dtype {
        d if d.is_handle() => None,
        DType::C64 => super::packed::collect(DType::F32, (0..n * 2).map(|i| element(DType::F32, draw(i)))),
        DType::C128 => super::packed::collect(DType::F64, (0..n * 2).map(|i| element(DType::F64, draw(i)))),
        d => super::packed::collect(d, (0..n).map(|i| element(d, draw(i)))),
    }
}

fn element(dtype: DType, r: u64) -> u64 {
    match dtype.kind() {
        Kind::Float if dtype == DType::F8E8M0 => 119 + r % 9,
        Kind::Float => {
            let sum = (0..4).map(|i| r >> (16 * i) & 0xffff).sum::<u64>() as f64;
            encode_f64(dtype, (sum - 131_070.0) / 131_070.0, true)
        }
        Kind::Bool => r & 1,
        Kind::Signed if dtype.bits() > 8 => ((r % 201) as i64 - 100) as u64 & super::mask(dtype),
        Kind::Unsigned if dtype.bits() > 8 => r % 101,
        _ => (r >> 32) & super::mask(dtype),
    }
}

/// The finalizer of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
