// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elements in memory: little-endian, types under a byte packed with the first element in the lowest bits.

use crate::dtype::DType;

/// The element at `i`; 0 if it lies outside or the dtype has no scalar form.
pub fn get(data: &[u8], dtype: DType, i: usize) -> u64 {
    match dtype.bits() {
        8 => data.get(i).map_or(0, |&b| u64::from(b)),
        16 => word::<2>(data, i),
        32 => word::<4>(data, i),
        64 => word::<8>(data, i),
        bits @ (2 | 4) => {
            let bit = i * bits as usize;
            data.get(bit / 8).map_or(0, |&b| u64::from(b >> (bit % 8)) & super::mask(dtype))
        }
        _ => 0,
    }
}

fn word<const N: usize>(data: &[u8], i: usize) -> u64 {
    let mut w = [0u8; 8];
    if let Some(s) = i.checked_mul(N).and_then(|b| data.get(b..b.checked_add(N)?)) {
        w[..N].copy_from_slice(s);
    }
    u64::from_le_bytes(w)
}

/// Writes the element at `i`; nothing happens if it lies outside or the dtype has no scalar form.
pub fn set(data: &mut [u8], dtype: DType, i: usize, value: u64) {
    match dtype.bits() {
        bits @ (2 | 4) => {
            let (byte, shift) = (i * bits as usize / 8, i * bits as usize % 8);
            let m = super::mask(dtype) as u8;
            if let Some(b) = data.get_mut(byte) {
                *b = *b & !(m << shift) | (value as u8 & m) << shift;
            }
        }
        bits @ (8 | 16 | 32 | 64) => {
            let n = bits as usize / 8;
            if let Some(s) = i.checked_mul(n).and_then(|b| data.get_mut(b..b.checked_add(n)?)) {
                s.copy_from_slice(&value.to_le_bytes()[..n]);
            }
        }
        _ => {}
    }
}

/// One byte an element (types under a byte) or a copy (others).
pub fn unpack(data: &[u8], dtype: DType, n: usize) -> Vec<u8> {
    if dtype.is_packed() { (0..n).map(|i| get(data, dtype, i) as u8).collect() } else { data.to_vec() }
}

/// The inverse of [`unpack`].
pub fn pack(data: Vec<u8>, dtype: DType) -> Vec<u8> {
    if !dtype.is_packed() {
        return data;
    }
    let per_byte = 8 / dtype.bits() as usize;
    let m = super::mask(dtype) as u8;
    let join = |c: &[u8]| c.iter().rev().fold(0u8, |b, &e| b << dtype.bits() | e & m);
    data.chunks(per_byte).map(join).collect()
}

/// Elements to memory; `None` if the dtype has no scalar form.
pub(super) fn collect(dtype: DType, elems: impl Iterator<Item = u64>) -> Option<Vec<u8>> {
    Some(match dtype.bits() {
        2 | 4 => pack(elems.map(|e| e as u8).collect(), dtype),
        8 => elems.map(|e| e as u8).collect(),
        16 => elems.flat_map(|e| (e as u16).to_le_bytes()).collect(),
        32 => elems.flat_map(|e| (e as u32).to_le_bytes()).collect(),
        64 => elems.flat_map(u64::to_le_bytes).collect(),
        _ => return None,
    })
}
