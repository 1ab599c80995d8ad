// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types and state spaces of PTX.

/// A fundamental, packed or alternate type, as a suffix of an instruction or a declaration says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[rustfmt::skip]
pub enum Ty {
    Pred, B1, B8, B16, B32, B64, B128, U4, U8, U16, U32, U64, S4, S8, S16, S32, S64, F16, F16x2, BF16, BF16x2, TF32, F32, F32x2, F64,
    E4M3, E5M2, E2M1, E2M3, E3M2, UE8M0, E4M3x2, E5M2x2, E2M1x2, E2M3x2, E3M2x2, UE8M0x2, U8x4, S8x4, U16x2, S16x2,
}
use Ty::*;

impl Ty {
    /// The type that a suffix names, without its dot.
    #[rustfmt::skip]
    pub fn parse(s: &str) -> Option<Ty> {
        Some(match s {
            "pred" => Pred, "b1" => B1, "b8" => B8, "b16" => B16, "b32" => B32, "b64" => B64, "b128" => B128, "u4" => U4, "u8" => U8, "u16" => U16,
            "u32" => U32, "u64" => U64, "s4" => S4, "s8" => S8, "s16" => S16, "s32" => S32, "s64" => S64, "f16" => F16, "f16x2" => F16x2,
            "bf16" => BF16, "bf16x2" => BF16x2, "tf32" => TF32, "f32" => F32, "f32x2" => F32x2, "f64" => F64, "e4m3" => E4M3, "e5m2" => E5M2,
            "e2m1" => E2M1, "e2m3" => E2M3, "e3m2" => E3M2, "ue8m0" => UE8M0, "e4m3x2" => E4M3x2, "e5m2x2" => E5M2x2, "e2m1x2" => E2M1x2,
            "e2m3x2" => E2M3x2, "e3m2x2" => E3M2x2, "ue8m0x2" => UE8M0x2, "u8x4" => U8x4, "s8x4" => S8x4, "u16x2" => U16x2, "s16x2" => S16x2,
            _ => return None,
        })
    }

    /// Bits of a value.
    pub fn bits(self) -> u32 {
        match self {
            Pred | B1 => 1,
            U4 | S4 | E2M1 => 4,
            E2M3 | E3M2 => 6,
            B8 | U8 | S8 | E4M3 | E5M2 | UE8M0 | E2M1x2 => 8,
            B16 | U16 | S16 | F16 | BF16 | E4M3x2 | E5M2x2 | E2M3x2 | E3M2x2 | UE8M0x2 => 16,
            B64 | U64 | S64 | F64 | F32x2 => 64,
            B128 => 128,
            B32 | U32 | S32 | F16x2 | BF16x2 | TF32 | F32 | U8x4 | S8x4 | U16x2 | S16x2 => 32,
        }
    }

    /// Bytes of a value in memory.
    pub fn bytes(self) -> usize {
        self.bits().div_ceil(8) as usize
    }

    /// Integers with a sign.
    pub fn signed(self) -> bool {
        matches!(self, S4 | S8 | S16 | S32 | S64)
    }

    /// Unpacked floating-point types.
    pub fn float(self) -> bool {
        matches!(self, F16 | BF16 | TF32 | F32 | F64 | E4M3 | E5M2 | E2M1 | E2M3 | E3M2 | UE8M0)
    }
}

/// A state space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Space {
    /// Any address of the generic space; which one, the address says.
    Generic,
    /// Device memory.
    Global,
    /// Shared memory of the group (`shared::cta`).
    Shared,
    /// Shared memory of any group of the cluster (`shared::cluster`).
    Cluster,
    /// Memory of one thread.
    Local,
    /// Parameters of a kernel or function.
    Param,
    /// Constants, which lie in device memory here.
    Const,
}

impl Space {
    /// The space that a suffix names, without its dot.
    pub fn parse(s: &str) -> Option<Space> {
        Some(match s {
            "global" => Space::Global,
            "shared" | "shared::cta" => Space::Shared,
            "shared::cluster" => Space::Cluster,
            "local" => Space::Local,
            "param" | "param::entry" | "param::func" => Space::Param,
            "const" => Space::Const,
            _ => return None,
        })
    }
}

/// Generic addresses of shared memory begin here; bits 24.. of the rest are one more than the rank of the group in its cluster, or 0 for
/// the thread's own group.
pub const SHARED_WINDOW: u64 = 0x0100_0000_0000_0000;
/// Generic addresses of a thread's local memory begin here.
pub const LOCAL_WINDOW: u64 = 0x0200_0000_0000_0000;
/// Generic addresses of kernel parameters begin here.
pub const PARAM_WINDOW: u64 = 0x0300_0000_0000_0000;
/// Addresses of functions begin here.
pub const FUNC_WINDOW: u64 = 0x0400_0000_0000_0000;
/// Bytes of a window.
pub const WINDOW: u64 = 0x0100_0000_0000_0000;
/// Bits of an address inside one group's shared memory.
pub const RANK_SHIFT: u32 = 24;

/// The space of a generic address and the address in that space.
pub fn window(address: u64) -> (Space, u64) {
    match address / WINDOW {
        1 => (Space::Cluster, address - SHARED_WINDOW),
        2 => (Space::Local, address - LOCAL_WINDOW),
        3 => (Space::Param, address - PARAM_WINDOW),
        _ => (Space::Global, address),
    }
}
