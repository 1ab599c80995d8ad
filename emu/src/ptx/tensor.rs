// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tensor maps: what the driver's `cuTensorMapEncodeTiled` makes. The driver's 128 bytes are its secret; these are our own, and only
//! this machine reads them.

/// Marks the bytes of a map.
const MAGIC: [u8; 8] = *b"pwtmap1\0";

/// Swizzles of a box in shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Swizzle {
    /// As it comes.
    None,
    /// 16-byte pieces of rows of 32 bytes.
    B32,
    /// 16-byte pieces of rows of 64 bytes.
    B64,
    /// 16-byte pieces of rows of 128 bytes.
    B128,
}

impl Swizzle {
    /// An address with its pieces changed.
    pub fn apply(self, a: u64) -> u64 {
        let mask = match self {
            Swizzle::None => 0,
            Swizzle::B32 => 1,
            Swizzle::B64 => 3,
            Swizzle::B128 => 7,
        };
        a ^ (a >> 7 & mask) << 4
    }
}

/// A tiled tensor in device memory and the box that one copy moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TensorMap {
    /// Address of the first element.
    pub address: u64,
    /// Bytes of an element: 1, 2, 4 or 8.
    pub element: u8,
    /// Dimensions, 1 to 5.
    pub rank: u8,
    /// Elements, innermost first.
    pub dims: [u32; 5],
    /// Bytes between elements of dimensions 1.., multiples of 16.
    pub strides: [u64; 4],
    /// Elements of the box.
    pub tile: [u16; 5],
    /// Steps between elements of the box.
    pub steps: [u8; 5],
    /// Order of the box in shared memory.
    pub swizzle: Swizzle,
    /// Elements outside are NaN instead of zero.
    pub nan: bool,
}

impl TensorMap {
    /// The bytes of a kernel's parameter.
    pub fn encode(&self) -> [u8; 128] {
        let mut b = [0; 128];
        b[..8].copy_from_slice(&MAGIC);
        b[8..16].copy_from_slice(&self.address.to_le_bytes());
        (b[16], b[17], b[18], b[19]) = (self.element, self.rank, self.swizzle as u8, u8::from(self.nan));
        for i in 0..5 {
            b[20 + 4 * i..24 + 4 * i].copy_from_slice(&self.dims[i].to_le_bytes());
            b[72 + 2 * i..74 + 2 * i].copy_from_slice(&self.tile[i].to_le_bytes());
            b[82 + i] = self.steps[i];
        }
        for i in 0..4 {
            b[40 + 8 * i..48 + 8 * i].copy_from_slice(&self.strides[i].to_le_bytes());
        }
        b
    }

    /// The map that bytes are; None where they are none.
    pub fn decode(b: &[u8; 128]) -> Option<TensorMap> {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| b[at + i]));
        let swizzle = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128].get(b[18] as usize).copied()?;
        let map = TensorMap {
            address: word(8),
            element: b[16],
            rank: b[17],
            dims: std::array::from_fn(|i| word(20 + 4 * i) as u32),
            strides: std::array::from_fn(|i| word(40 + 8 * i)),
            tile: std::array::from_fn(|i| word(72 + 2 * i) as u16),
            steps: std::array::from_fn(|i| b[82 + i]),
            swizzle,
            nan: b[19] == 1,
        };
        (b[..8] == MAGIC && matches!(map.element, 1 | 2 | 4 | 8) && (1..=5).contains(&map.rank) && map.elements() <= 1 << 20).then_some(map)
    }

    /// Elements of the box.
    pub fn elements(&self) -> u64 {
        self.tile[..self.rank.min(5) as usize].iter().map(|n| u64::from(*n)).product()
    }

    /// Address of an element of the box at coordinates; None where it lies outside the tensor.
    pub fn place(&self, coords: &[i32; 5], mut n: u64) -> Option<u64> {
        let mut a = self.address;
        for i in 0..self.rank as usize {
            let size = u64::from(self.tile[i]).max(1);
            let c = i64::from(coords[i]) + (n % size) as i64 * i64::from(self.steps[i].max(1));
            n /= size;
            if c < 0 || c >= i64::from(self.dims[i]) {
                return None;
            }
            let stride = if i == 0 { u64::from(self.element) } else { self.strides[i - 1] };
            a = a.wrapping_add((c as u64).wrapping_mul(stride));
        }
        Some(a)
    }

    /// An element that lies outside the tensor.
    pub fn outside(&self) -> u64 {
        match (self.nan, self.element) {
            (false, _) => 0,
            (true, 2) => 0x7fff,
            (true, 4) => 0x7fff_ffff,
            (true, _) => u64::MAX >> 1,
        }
    }
}
