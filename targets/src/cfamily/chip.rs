// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A chip of the family: a dialect, limits and numbers, all of them data of its folder.

use portwright_ir::diag::{Diags, Lowered};
use portwright_ir::dtype::DType;
use portwright_ir::kernel::Digit;
use portwright_passes::kernel_rules::KernelCaps;
use portwright_passes::spec::{Fragment, MachineClass, QueueForm, SimtSpec};
use portwright_runtime::device::Driver;
use portwright_runtime::features::Arch;

use super::{Builtin, Dialect, LANES};
use crate::mlir::Spelling;
use crate::mlir::simt::{Forms, Held};
use crate::target::{Device, Machine, Roof, Target, TargetSpec, Toolchain, unknown_cpu};

/// A chip whose kernels are C++ for the vendor's compiler.
#[derive(Debug)]
pub struct Chip {
    /// Who it is. Its first name for `--cpu` is the one that the compiler takes.
    pub spec: TargetSpec,
    /// What its source files are written in.
    pub dialect: &'static Dialect,
    /// Its limits.
    pub forms: &'static Forms,
    /// Lanes of a warp among which exchanges reach.
    pub shuffle: u32,
    /// 32-bit registers of a lane, at most.
    pub registers: u32,
    /// Groups of 256 lanes that fill it.
    pub busy: u32,
    /// Matrix products that schedules choose among.
    pub fragments: &'static [Fragment],
    /// Floats in which lanes compute.
    pub floats: &'static [DType],
    /// Whether fused multiply-add is one instruction.
    pub fma: bool,
    /// Its row of the emulator's table of chips, where that is not in the table already.
    pub emulated: Option<&'static str>,
}

/// What is assumed of a chip until its folder says more.
pub const CHIP: Chip = Chip {
    spec: TargetSpec { id: "", vendor: "", about: "", cpus: &[], sources: &[], maintainer: "@portwright", roof: Roof::UNKNOWN },
    dialect: &LANES,
    forms: &limits(32, 1024, [16 << 10, 16 << 10]),
    shuffle: 32,
    registers: 255,
    busy: 64,
    fragments: &[],
    floats: &[DType::F32, DType::F64],
    fma: true,
    emulated: None,
};

/// Limits as most of the family has them: `warp` lanes, at most `group` in a group, which has `free` bytes of memory without asking and
/// `most` in all.
pub const fn limits(warp: u32, group: u32, [free, most]: [u32; 2]) -> Forms {
    Forms {
        warp,
        group,
        grid: [0x7fff_ffff, 0xffff, 0xffff],
        shared: [free, most],
        products: &[],
        async_copies: false,
        matrix_loads: false,
        signals: false,
    }
}

/// A matrix product of a shape over so many lanes, by the dtypes of a, b and c and where lanes hold them.
pub const fn fragment(name: &'static str, (shape, lanes): ([u16; 3], u16), dtypes: [DType; 3], [a, b, c]: [Held; 3]) -> Fragment {
    Fragment { name, shape, dtypes, lanes, operands: [[a.lane, a.reg], [b.lane, b.reg], [c.lane, c.reg]] }
}

/// A digit of coordinate m.
pub const fn m(stride: u16, extent: u16) -> Digit {
    Digit { dim: 0, stride, extent }
}
/// A digit of coordinate n.
pub const fn n(stride: u16, extent: u16) -> Digit {
    Digit { dim: 1, stride, extent }
}
/// A digit of coordinate k.
pub const fn k(stride: u16, extent: u16) -> Digit {
    Digit { dim: 2, stride, extent }
}

/// Row of a, column of b: lane % 16; k: 4 * (lane / 16) + i. Accumulator: row 4 * (lane / 16) + i, column lane % 16.
const QUADS: [Held; 3] = [
    Held { lane: &[m(1, 16), k(4, 4)], reg: &[k(1, 4)] },
    Held { lane: &[n(1, 16), k(4, 4)], reg: &[k(1, 4)] },
    Held { lane: &[n(1, 16), m(4, 4)], reg: &[m(1, 4)] },
];
/// Of the same product with its factors exchanged: lanes hold neighboring columns of the accumulator, and store them at once.
const TURNED: [Held; 3] = [QUADS[0], QUADS[1], Held { lane: &[m(1, 16), n(4, 4)], reg: &[n(1, 4)] }];

/// The 16x16x16 product over 64 lanes that several vendors have by different names: four neighbors of k a lane, sums in f32. `operand` is the
/// C++ type of a and of b.
pub const fn quads(name: &'static str, dtype: DType, call: &'static str, operand: &'static str) -> Builtin {
    let (form, dtypes) = (([16, 16, 16], 64), [dtype, dtype, DType::F32]);
    Builtin {
        fragment: fragment(name, form, dtypes, QUADS),
        call,
        operands: [operand, operand, "pw_float4"],
        chosen: fragment(name, form, dtypes, TURNED),
    }
}

impl Chip {
    /// Its name for the vendor's compiler.
    pub fn arch(&self) -> &'static str {
        self.spec.cpus.first().copied().unwrap_or_default()
    }
}

impl Target for Chip {
    fn spec(&self) -> &TargetSpec {
        &self.spec
    }
    fn machine(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine> {
        if let Some(name) = cpu.filter(|c| *c != self.arch()) {
            return Err(unknown_cpu("processor of this target", name, self.spec.cpus.iter().copied(), sink));
        }
        let [arch, triple] = [std::env::consts::ARCH; 2];
        // Sources are for any host; what the command says of one is said of the machine at hand.
        let arch = Arch::ALL.into_iter().find(|a| a.name() == arch).unwrap_or(Arch::ALL[0]);
        let triple = TRIPLES.iter().copied().find(|t| t.starts_with(triple)).unwrap_or(TRIPLES[0]);
        let class = MachineClass::Simt(SimtSpec {
            lanes: self.forms.warp,
            shuffle: self.shuffle,
            max_group: self.forms.group,
            max_grid: self.forms.grid[0],
            shared_bytes: self.forms.shared[1],
            banks: 32,
            registers: self.registers,
            vec_bytes: 16,
            busy: self.busy,
            queue: self.dialect.copies.map(|_| QueueForm { bytes: &[4, 8, 16], pending: 8 }),
            ldmatrix: false,
            fragments: self.fragments,
            floats: self.floats,
        });
        Ok(Machine {
            target: self.spec.id,
            arch,
            triple,
            cpu: self.arch().into(),
            llvm_cpu: "",
            abi: "",
            features: Vec::new(),
            class,
            caps: KernelCaps { masked_bits: &[], fma: self.fma, f16_convert: self.dialect.halves.is_some() },
            spelling: Spelling { simt: Some(self.forms), dialect: Some(self.dialect), ..Spelling::default() },
            device: Some(Device {
                triple: "",
                processor: self.arch(),
                features: "",
                driver: Driver::Source,
                capability: 0,
                exact: false,
                driver_version: 0,
            }),
        })
    }
    fn toolchain(&self) -> Option<&dyn Toolchain> {
        Some(self)
    }
    fn emulated(&self) -> Option<&'static str> {
        self.emulated
    }
}

/// Triples of hosts, the first where the machine at hand is none of them.
const TRIPLES: [&str; 4] = portwright_runtime::features::TRIPLES;
