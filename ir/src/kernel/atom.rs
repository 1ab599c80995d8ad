// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Matrix atoms: what one matrix instruction computes, and where each lane holds which element, as data.

use smallvec::SmallVec;

use super::{Operand, Swizzle};
use crate::dtype::DType;

/// A digit of a mixed-radix number: the `extent` next values of an index move coordinate `dim` by `stride` each.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digit {
    /// 0 is m, 1 is n, 2 is k.
    pub dim: u8,
    /// Distance in the coordinate.
    pub stride: u16,
    /// Number of values.
    pub extent: u16,
}

/// Digits, least significant first.
pub type Digits = SmallVec<[Digit; 4]>;

/// Where the elements of an operand are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place2 {
    /// In registers of lanes: a coordinate is the sum over the digits of the lane and of the register.
    PerLane {
        /// Digits of the lane.
        lane: Digits,
        /// Digits of the register.
        reg: Digits,
    },
    /// In shared memory, read by the matrix unit; rows are m or n, columns are k.
    Desc {
        /// Permutation of the rows.
        swizzle: Swizzle,
    },
    /// In a tile register of one lane.
    TileReg {
        /// Rows.
        rows: u8,
        /// Bytes of a row.
        row_bytes: u16,
        /// Elements of consecutive k that lie side by side (operand b).
        pack: u8,
    },
    /// A whole tile of a core.
    Tile,
}

/// One matrix instruction: `c[m, n] += a[m, k] * b[k, n]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Atom {
    /// Name in text.
    pub name: String,
    /// Extents m, n, k; of [`Place2::Tile`] operands the multiples that tiles must have.
    pub shape: [u16; 3],
    /// Element types of a, b, c.
    pub dtypes: [DType; 3],
    /// Lanes that take part.
    pub lanes: u16,
    /// Where a, b, c are.
    pub operands: [Place2; 3],
}

impl Atom {
    /// Where an operand is.
    pub fn operand(&self, o: Operand) -> &Place2 {
        &self.operands[o as usize]
    }
    /// Element type of an operand.
    pub fn dtype(&self, o: Operand) -> DType {
        self.dtypes[o as usize]
    }
    /// Rows and columns of an operand.
    pub fn extents(&self, o: Operand) -> [u32; 2] {
        o.dims().map(|d| u32::from(self.shape[d]))
    }
    /// Elements of an operand that one lane holds, if lanes hold them.
    pub fn regs(&self, o: Operand) -> Option<u32> {
        match self.operand(o) {
            Place2::PerLane { reg, .. } => Some(reg.iter().map(|d| u32::from(d.extent)).product()),
            Place2::TileReg { .. } => Some(self.extents(o).iter().product()),
            _ => None,
        }
    }
    /// Row and column of the element that `lane` holds in `reg`; tile registers are row-major.
    pub fn coord(&self, o: Operand, lane: u32, reg: u32) -> [u32; 2] {
        let [r, c] = o.dims();
        match self.operand(o) {
            Place2::PerLane { lane: l, reg: g } => {
                let mut at = [0u32; 3];
                for (digits, mut v) in [(l, lane), (g, reg)] {
                    for d in digits {
                        let e = u32::from(d.extent).max(1);
                        at[usize::from(d.dim).min(2)] += v % e * u32::from(d.stride);
                        v /= e;
                    }
                }
                [at[r], at[c]]
            }
            _ => {
                let cols = self.extents(o)[1].max(1);
                [reg / cols, reg % cols]
            }
        }
    }
    /// Number of neighboring columns that a lane holds in consecutive registers of the accumulator.
    pub fn each_width(&self) -> u32 {
        match self.operand(Operand::C) {
            Place2::PerLane { reg, .. } => match reg.first() {
                Some(d) if d.dim == 1 && d.stride == 1 => u32::from(d.extent),
                _ => 1,
            },
            _ => 1,
        }
    }
    /// The same instruction for the transposed product: a and b, m and n exchanged.
    pub fn swapped(&self, name: impl Into<String>) -> Atom {
        let flip = |p: &Place2| match p {
            Place2::PerLane { lane, reg } => {
                let f = |ds: &Digits| {
                    let swap = |d: u8| {
                        if d == 0 {
                            1
                        } else if d == 1 {
                            0
                        } else {
                            d
                        }
                    };
                    ds.iter().map(|d| Digit { dim: swap(d.dim), ..*d }).collect()
                };
                Place2::PerLane { lane: f(lane), reg: f(reg) }
            }
            other => other.clone(),
        };
        let [m, n, k] = self.shape;
        let [a, b, c] = self.dtypes;
        let [pa, pb, pc] = &self.operands;
        Atom { name: name.into(), shape: [n, m, k], dtypes: [b, a, c], lanes: self.lanes, operands: [flip(pb), flip(pa), flip(pc)] }
    }
}
