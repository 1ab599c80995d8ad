// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What schedules may know of a machine: numbers, and which forms it has.

use portwright_ir::dtype::DType;

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
    /// Name of the Kernel IR atom.
    pub atom: &'static str,
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
    /// Dot-product forms.
    pub dots: &'static [DotForm],
    /// Matrix units.
    pub tiles: &'static [TileForm],
}

impl CpuSpec {
    /// Lanes of a vector of that dtype, at least 1.
    pub fn lanes(&self, dtype: DType) -> u32 {
        (self.vec_bytes * 8 / dtype.bits().max(8)).max(1)
    }
}

/// What kind of schedule a machine takes, with its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MachineClass {
    /// Threads, SIMD and matrix tiles with caches.
    Cpu(CpuSpec),
}
