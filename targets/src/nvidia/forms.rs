// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each generation has, as data: limits, matrix products by registers, and where lanes hold their operands.
//!
//! Sources: PTX ISA 8.7, 9.7.14.5 (fragments of mma.sync), 9.7.9.25 (cp.async), 9.7.14.5.15 (ldmatrix), 9.7.13.15 (mbarrier);
//! CUDA C++ Programming Guide, technical specifications per compute capability.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::Digit;
use portwright_passes::spec::Fragment;

use crate::mlir::simt::{Forms, Held, Product};

const fn m(stride: u16, extent: u16) -> Digit {
    Digit { dim: 0, stride, extent }
}
const fn n(stride: u16, extent: u16) -> Digit {
    Digit { dim: 1, stride, extent }
}
const fn k(stride: u16, extent: u16) -> Digit {
    Digit { dim: 2, stride, extent }
}

const C: Held = Held { lane: &[n(2, 4), m(1, 8)], reg: &[n(1, 2), m(8, 2)] };
/// Of 16-bit elements, 16 summed coordinates.
const HALVES16: [Held; 3] = [
    Held { lane: &[k(2, 4), m(1, 8)], reg: &[k(1, 2), m(8, 2), k(8, 2)] },
    Held { lane: &[k(2, 4), n(1, 8)], reg: &[k(1, 2), k(8, 2)] },
    C,
];
/// Of 16-bit elements, 8 summed coordinates.
const HALVES8: [Held; 3] =
    [Held { lane: &[k(2, 4), m(1, 8)], reg: &[k(1, 2), m(8, 2)] }, Held { lane: &[k(2, 4), n(1, 8)], reg: &[k(1, 2)] }, C];
/// Of bytes, 32 summed coordinates.
const BYTES32: [Held; 3] = [
    Held { lane: &[k(4, 4), m(1, 8)], reg: &[k(1, 4), m(8, 2), k(16, 2)] },
    Held { lane: &[k(4, 4), n(1, 8)], reg: &[k(1, 4), k(16, 2)] },
    C,
];
/// Of bytes, 16 summed coordinates.
const BYTES16: [Held; 3] =
    [Held { lane: &[k(4, 4), m(1, 8)], reg: &[k(1, 4), m(8, 2)] }, Held { lane: &[k(4, 4), n(1, 8)], reg: &[k(1, 4)] }, C];
/// Of 32-bit elements that are read as tf32, 8 summed coordinates.
const WORDS8: [Held; 3] =
    [Held { lane: &[k(1, 4), m(1, 8)], reg: &[m(8, 2), k(4, 2)] }, Held { lane: &[k(1, 4), n(1, 8)], reg: &[k(4, 2)] }, C];
/// Of 32-bit elements that are read as tf32, 4 summed coordinates.
const WORDS4: [Held; 3] = [Held { lane: &[k(1, 4), m(1, 8)], reg: &[m(8, 2)] }, Held { lane: &[k(1, 4), n(1, 8)], reg: &[] }, C];

const fn product(
    name: &'static str,
    depth: u16,
    dtypes: [DType; 3],
    held: [Held; 3],
    intrinsic: &'static str,
    operand: &'static str,
) -> Product {
    Product { name, shape: [16, 8, depth], dtypes, held, intrinsic, operand }
}

const BF16: [DType; 3] = [DType::BF16, DType::BF16, DType::F32];
const F16: [DType; 3] = [DType::F16, DType::F16, DType::F32];
const TF32: [DType; 3] = [DType::F32, DType::F32, DType::F32];
const S8: [DType; 3] = [DType::I8, DType::I8, DType::I32];
const U8: [DType; 3] = [DType::U8, DType::U8, DType::I32];
const S8U8: [DType; 3] = [DType::I8, DType::U8, DType::I32];
const U8S8: [DType; 3] = [DType::U8, DType::I8, DType::I32];
const E4M3: [DType; 3] = [DType::F8E4M3FN, DType::F8E4M3FN, DType::F32];
const E5M2: [DType; 3] = [DType::F8E5M2, DType::F8E5M2, DType::F32];

/// Products by registers; the last two came with compute capability 8.9.
const PRODUCTS: [Product; 16] = [
    product("mma_bf16", 16, BF16, HALVES16, "llvm.nvvm.mma.m16n8k16.row.col.bf16", "i32"),
    product("mma_f16", 16, F16, HALVES16, "llvm.nvvm.mma.m16n8k16.row.col.f32.f32", "vector<2xf16>"),
    product("mma_s8", 32, S8, BYTES32, "llvm.nvvm.mma.m16n8k32.row.col.s8", "i32"),
    product("mma_u8", 32, U8, BYTES32, "llvm.nvvm.mma.m16n8k32.row.col.u8", "i32"),
    product("mma_s8_u8", 32, S8U8, BYTES32, "llvm.nvvm.mma.m16n8k32.row.col.s8.u8", "i32"),
    product("mma_u8_s8", 32, U8S8, BYTES32, "llvm.nvvm.mma.m16n8k32.row.col.u8.s8", "i32"),
    product("mma_tf32", 8, TF32, WORDS8, "llvm.nvvm.mma.m16n8k8.row.col.tf32", "i32"),
    product("mma_bf16_k8", 8, BF16, HALVES8, "llvm.nvvm.mma.m16n8k8.row.col.bf16", "i32"),
    product("mma_f16_k8", 8, F16, HALVES8, "llvm.nvvm.mma.m16n8k8.row.col.f32.f32", "vector<2xf16>"),
    product("mma_tf32_k4", 4, TF32, WORDS4, "llvm.nvvm.mma.m16n8k4.row.col.tf32", "i32"),
    product("mma_s8_k16", 16, S8, BYTES16, "llvm.nvvm.mma.m16n8k16.row.col.s8", "i32"),
    product("mma_u8_k16", 16, U8, BYTES16, "llvm.nvvm.mma.m16n8k16.row.col.u8", "i32"),
    product("mma_s8_u8_k16", 16, S8U8, BYTES16, "llvm.nvvm.mma.m16n8k16.row.col.s8.u8", "i32"),
    product("mma_u8_s8_k16", 16, U8S8, BYTES16, "llvm.nvvm.mma.m16n8k16.row.col.u8.s8", "i32"),
    product("mma_e4m3", 32, E4M3, BYTES32, "llvm.nvvm.mma.m16n8k32.row.col.f32.e4m3.e4m3.f32", "i32"),
    product("mma_e5m2", 32, E5M2, BYTES32, "llvm.nvvm.mma.m16n8k32.row.col.f32.e5m2.e5m2.f32", "i32"),
];
static HOPPER_PRODUCTS: [Product; 16] = PRODUCTS;
static AMPERE_PRODUCTS: [Product; 14] = first();
/// The products that schedules choose among: per pair of dtypes the deepest. Those that read f32 as tf32 are none of them: they round what
/// they are given, so that they are no products of f32.
pub(super) static FRAGMENTS: [Fragment; 6] = {
    let mut out = [fragment(&PRODUCTS[0]); 6];
    let mut i = 0;
    while i < out.len() {
        out[i] = fragment(&PRODUCTS[i]);
        i += 1;
    }
    out
};

/// The same with products of 8-bit floats, which came with compute capability 8.9.
pub(super) static HOPPER_FRAGMENTS: [Fragment; 7] = {
    let mut out = [fragment(&PRODUCTS[14]); 7];
    let mut i = 0;
    while i < FRAGMENTS.len() {
        out[i] = fragment(&PRODUCTS[i]);
        i += 1;
    }
    out
};

const fn fragment(p: &Product) -> Fragment {
    let [a, b, c] = p.held;
    Fragment { name: p.name, shape: p.shape, dtypes: p.dtypes, lanes: 32, operands: [[a.lane, a.reg], [b.lane, b.reg], [c.lane, c.reg]] }
}

const fn first<const N: usize>() -> [Product; N] {
    let mut out = [PRODUCTS[0]; N];
    let mut i = 0;
    while i < N {
        out[i] = PRODUCTS[i];
        i += 1;
    }
    out
}

/// What all of them have alike; 48 KiB of shared memory without asking.
const fn forms(shared: u32, products: &'static [Product]) -> Forms {
    Forms {
        warp: 32,
        group: 1024,
        grid: [0x7fff_ffff, 0xffff, 0xffff],
        shared: [48 << 10, shared],
        products,
        async_copies: true,
        matrix_loads: true,
        signals: true,
    }
}

/// Compute capability 8.0: 163 KiB of shared memory a group.
pub(super) static AMPERE: Forms = forms(163 << 10, &AMPERE_PRODUCTS);
/// Compute capabilities 9.0 and 10.0: 227 KiB.
pub(super) static HOPPER: Forms = forms(227 << 10, &HOPPER_PRODUCTS);
