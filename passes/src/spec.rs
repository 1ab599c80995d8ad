// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What schedules may know of a machine: numbers, and which forms it has.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{Atom, Digit, Place2};

/// Whether results may be rounded below f32 in between.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Math {
    /// Every reduction in one stated order with compensated or wider accumulation where a narrower one loses bits.
    Exact,
    /// No result is rounded below f32 in between.
    #[default]
    F32,
    /// Products may be formed in bf16 or tf32.
    Fast,
}

impl Math {
    /// Name on the command line and in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Math::Exact => "exact",
            Math::F32 => "f32",
            Math::Fast => "fast",
        }
    }
}

/// A dot-product instruction: `lanes` accumulators of `acc`, each taking `depth` products of `a` and `b`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct DotForm {
    /// Dtype of the left operand.
    pub a: DType,
    /// Dtype of the right operand.
    pub b: DType,
    /// Dtype of the accumulator.
    pub acc: DType,
    /// Products that one accumulator takes at once.
    pub depth: u32,
}

/// A matrix unit that works on tile registers.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileForm {
    /// Dtype of both operands.
    pub operand: DType,
    /// Dtype of the accumulator.
    pub acc: DType,
    /// Rows, columns and depth of one instruction.
    pub shape: [u32; 3],
    /// Tile registers.
    pub registers: u32,
}

/// A CPU as the `cpu` schedule sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CpuSpec {
    /// Bytes of a vector register.
    pub vec_bytes: u32,
    /// Number of vector registers.
    pub vec_regs: u32,
    /// Whether masked loads and stores are one instruction (else ragged edges are scalar loops).
    pub masked_mem: bool,
    /// Whether fused multiply-add is one instruction for f32 and f64.
    pub fma: bool,
    /// Bytes of the first-level data cache of a core.
    pub l1_bytes: u32,
    /// Bytes of the second-level cache of a core.
    pub l2_bytes: u32,
    /// Dot-product forms that take less time than as many multiply-adds of the accumulators' dtype.
    pub dots: &'static [DotForm],
    /// Matrix units.
    pub tiles: &'static [TileForm],
}

impl CpuSpec {
    /// Lanes of a vector of that dtype, at least 1.
    pub fn lanes(&self, dtype: DType) -> u32 {
        (self.vec_bytes * 8 / dtype.bits().max(8)).max(1)
    }
    /// Columns of a block of a sum of products that has `n` of them: two vectors of 32-bit sums, or one if that is enough.
    pub fn block_columns(&self, n: Option<i64>) -> u32 {
        let w = self.lanes(DType::F32);
        if n.is_some_and(|n| n <= i64::from(w)) { w } else { 2 * w }
    }
    /// How sums of products of these dtypes are formed.
    pub fn products(&self, a: DType, b: DType, acc: DType) -> ProductForm {
        let bytes = |d: DType| matches!(d, DType::I8 | DType::U8);
        let alike = |x: DType, y: DType| x == y || (bytes(x) && bytes(y));
        if let Some(&t) = self.tiles.iter().find(|t| alike(t.operand, a) && alike(t.operand, b) && t.acc == acc) {
            return ProductForm::Tile(t);
        }
        self.dot(a, b, acc).map_or(ProductForm::Multiply, ProductForm::Dot)
    }
    /// The dot product of rounded states, of either sign, with signed bytes.
    pub fn byte_dot(&self) -> Option<DotForm> {
        [DType::U8, DType::I8].into_iter().find_map(|a| self.dot(a, DType::I8, DType::I32)).filter(|f| f.depth == 4)
    }
    /// The matrix unit that forms products of f32 as products of their parts in bf16.
    pub fn split_tile(&self) -> Option<TileForm> {
        self.tiles.iter().find(|t| t.operand == DType::BF16 && t.acc == DType::F32).copied()
    }
    /// The dot product of these dtypes.
    pub fn dot(&self, a: DType, b: DType, acc: DType) -> Option<DotForm> {
        self.dots.iter().find(|d| (d.a, d.b, d.acc) == (a, b, acc)).copied()
    }
}

/// How a sum of products is formed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProductForm {
    /// One product a lane at a time, in the dtype of the sum.
    Multiply,
    /// A few neighbors along the summed dim a lane at a time.
    Dot(DotForm),
    /// A block of rows, columns and summed coordinates at a time.
    Tile(TileForm),
}

impl ProductForm {
    /// Neighbors along the summed dim of the right operand that lie next to each other.
    pub fn group(self) -> u32 {
        match self {
            ProductForm::Multiply => 1,
            ProductForm::Dot(d) => d.depth,
            ProductForm::Tile(t) => 32 / t.operand.bits().max(1),
        }
    }
    /// Summed coordinates that one instruction takes.
    pub fn depth(self) -> u32 {
        match self {
            ProductForm::Tile(t) => t.shape[2],
            other => other.group(),
        }
    }
}

/// A matrix instruction whose operands lie in the registers of a warp's lanes: `c[m, n] += a[m, k] * b[k, n]`.
///
/// Digits are those of [`Atom`]: a coordinate is the sum over the digits of the lane and of the register, least significant first.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Name in kernels.
    pub name: &'static str,
    /// Extents m, n, k.
    pub shape: [u16; 3],
    /// Dtypes of a, b and of the accumulator.
    pub dtypes: [DType; 3],
    /// Lanes that take part.
    pub lanes: u16,
    /// Lane digits and register digits of a, b and the accumulator.
    pub operands: [[&'static [Digit]; 2]; 3],
}

impl Fragment {
    /// As an atom of Kernel IR.
    pub fn atom(&self) -> Atom {
        let place =
            |[lane, reg]: [&[Digit]; 2]| Place2::PerLane { lane: lane.iter().copied().collect(), reg: reg.iter().copied().collect() };
        Atom { name: self.name.into(), shape: self.shape, dtypes: self.dtypes, lanes: self.lanes, operands: self.operands.map(place) }
    }
}

/// Copies from global to shared memory that a lane starts and later waits for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueForm {
    /// Sizes of one copy in bytes, smallest first.
    pub bytes: &'static [u32],
    /// Closed groups of copies that may be in flight.
    pub pending: u32,
}

/// Lanes in warps with shared memory, as the `simt` schedule sees them. Everything in it is data: no schedule knows a chip.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SimtSpec {
    /// Lanes of a warp.
    pub lanes: u32,
    /// Lanes of a warp among which a shuffle can exchange values: all of them, or a part that is a power of two.
    pub shuffle: u32,
    /// Lanes of a group, at most.
    pub max_group: u32,
    /// Groups in x, at most; schedules leave y and z at 1.
    pub max_grid: i64,
    /// Bytes of shared memory of a group, at most.
    pub shared_bytes: u32,
    /// Banks of shared memory, each of four bytes.
    pub banks: u32,
    /// 32-bit registers of a lane, at most.
    pub registers: u32,
    /// Bytes of the widest load or store of a lane.
    pub vec_bytes: u32,
    /// Groups that make the machine busy: its processors times the groups of 256 lanes that one holds.
    pub busy: u32,
    /// Asynchronous copies to shared memory.
    pub queue: Option<QueueForm>,
    /// Whether a warp loads fragments of 16-bit elements from shared memory by one instruction, also turned.
    pub ldmatrix: bool,
    /// Matrix instructions.
    pub fragments: &'static [Fragment],
    /// Floats in which lanes compute; f32 is among them.
    pub floats: &'static [DType],
}

impl SimtSpec {
    /// Lanes among which values are exchanged without shared memory.
    pub fn reach(&self) -> u32 {
        self.shuffle.clamp(1, self.lanes.max(1))
    }
    /// Neighbors of that dtype that one load takes, at least 1.
    pub fn vector(&self, dtype: DType) -> u32 {
        (self.vec_bytes * 8 / dtype.bits().max(8)).max(1)
    }
    /// Lanes of a group that has `work` for that many: whole warps, a power of two of them.
    pub fn group(&self, work: Option<i64>) -> u32 {
        let most = self.max_group.min(256).max(self.lanes);
        let wanted = work.map_or(most, |n| u32::try_from(n.max(1)).unwrap_or(most).min(most).next_power_of_two());
        wanted.clamp(self.lanes, most)
    }
}

/// What kind of schedule a machine takes, with its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MachineClass {
    /// Threads, SIMD and matrix tiles with caches.
    Cpu(CpuSpec),
    /// Lanes in warps with shared memory.
    Simt(SimtSpec),
}
