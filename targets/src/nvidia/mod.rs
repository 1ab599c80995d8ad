// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NVIDIA GPUs through PTX: kernels of class simt by LLVM's NVPTX back end, a host plan that drives them.

use portwright_ir::diag::{Diags, Lowered};
use portwright_ir::dtype::DType;
use portwright_passes::kernel_rules::KernelCaps;
use portwright_passes::spec::{Fragment, MachineClass, QueueForm, SimtSpec};
use portwright_runtime::device::Driver;

use crate::mlir::Spelling;
use crate::mlir::simt::Forms;
use crate::target::{Device, Machine, Roof, Target, TargetSpec, lookup, unknown_cpu};

mod forms;
mod registers;

/// A generation: what its code is for, and what it has.
#[derive(Debug)]
pub(crate) struct Generation {
    spec: TargetSpec,
    /// LLVM's and ptxas's name of the processor.
    pub processor: &'static str,
    /// LLVM's feature: the lowest version of PTX that has all that is emitted.
    pub features: &'static str,
    /// Forms of its kernels.
    pub forms: &'static Forms,
    /// Products that schedules choose among.
    fragments: &'static [Fragment],
    /// Ten times the major and the minor version of the compute capability.
    capability: u32,
    /// Whether its code runs on no later one.
    exact: bool,
    /// CUDA's number of the version whose driver takes that PTX.
    driver: u32,
    /// Groups of 256 lanes that fill it.
    busy: u32,
}

const SOURCES: &[&str] = &[
    "PTX ISA 8.7: 9.7.14.5 (mma.sync, ldmatrix), 9.7.9.25 (cp.async), 9.7.13.15 (mbarrier), 13 (release notes: PTX versions and drivers)",
    "CUDA C++ Programming Guide, technical specifications per compute capability (lanes, shared memory, registers, grids)",
    "NVIDIA A100 80 GB, H100 SXM and HGX B200 data sheets (multiprocessors, bandwidth, dense peaks)",
];

/// Terabytes a second, and peaks.
const fn roof(bandwidth: f64, peaks: &'static [(DType, f64)]) -> Roof {
    Roof { bandwidth: Some(bandwidth * 1e12), peaks, launch: None }
}

const fn spec(id: &'static str, about: &'static str, cpus: &'static [&'static str], roof: Roof) -> TargetSpec {
    TargetSpec { id, vendor: "NVIDIA", about, cpus, sources: SOURCES, maintainer: "@portwright", roof }
}

// PTX versions are the lowest that LLVM takes for the processor, or that has what is emitted: test_wait.parity came with 7.1, products of
// 8-bit floats with 8.4. A multiprocessor holds 8 groups of 256 lanes.
pub(crate) static SM80: Generation = Generation {
    spec: spec(
        "nvidia-sm80",
        "NVIDIA GPUs of compute capability 8.0 and later (A100, A800), as PTX",
        &["sm_80"],
        roof(2.039, &[(DType::F32, 19.5e12), (DType::F64, 9.7e12), (DType::F16, 312e12), (DType::BF16, 312e12), (DType::I8, 624e12)]),
    ),
    processor: "sm_80",
    features: "+ptx71",
    forms: &forms::AMPERE,
    fragments: &forms::FRAGMENTS,
    capability: 80,
    exact: false,
    driver: 11010,
    busy: 108 * 8,
};
pub(crate) static SM90A: Generation = Generation {
    spec: spec(
        "nvidia-sm90a",
        "NVIDIA GPUs of compute capability 9.0 (H100, H800, H200, H20), as PTX",
        &["sm_90a"],
        roof(3.35, &[(DType::F32, 67e12), (DType::F64, 34e12), (DType::F16, 989e12), (DType::BF16, 989e12), (DType::I8, 1979e12)]),
    ),
    processor: "sm_90a",
    features: "+ptx84",
    forms: &forms::HOPPER,
    fragments: &forms::HOPPER_FRAGMENTS,
    capability: 90,
    exact: true,
    driver: 12040,
    busy: 132 * 8,
};
pub(crate) static SM100A: Generation = Generation {
    spec: spec(
        "nvidia-sm100a",
        "NVIDIA GPUs of compute capability 10.0 (B200, GB200), as PTX",
        &["sm_100a"],
        roof(8.0, &[(DType::F32, 75e12), (DType::F64, 37e12), (DType::F16, 2250e12), (DType::BF16, 2250e12), (DType::I8, 4500e12)]),
    ),
    processor: "sm_100a",
    features: "+ptx86",
    forms: &forms::HOPPER,
    fragments: &forms::HOPPER_FRAGMENTS,
    capability: 100,
    exact: true,
    driver: 12080,
    busy: 148 * 8,
};

/// LLVM's triple of device code.
pub(crate) const TRIPLE: &str = "nvptx64-nvidia-cuda";

/// What kernels may use: conversions of f16 and multiply-adds are instructions; masked accesses of vectors are not.
pub(crate) const CAPS: KernelCaps = KernelCaps { masked_bits: &[], fma: true, f16_convert: true };

impl Generation {
    /// The machine with that class, whose plan runs on `host`.
    fn machine_of(&self, class: MachineClass, host: Machine) -> Machine {
        Machine {
            target: self.spec.id,
            cpu: self.processor.into(),
            class,
            caps: CAPS,
            spelling: Spelling { simt: Some(self.forms), ..Spelling::default() },
            device: Some(Device {
                triple: TRIPLE,
                processor: self.processor,
                features: self.features,
                driver: Driver::Cuda,
                capability: self.capability,
                exact: self.exact,
                driver_version: self.driver,
            }),
            ..host
        }
    }
}

impl Target for Generation {
    fn spec(&self) -> &TargetSpec {
        &self.spec
    }
    fn finished(&self, text: String) -> String {
        registers::eased(&text)
    }
    fn machine(&self, cpu: Option<&str>, sink: &mut Diags) -> Lowered<Machine> {
        if let Some(name) = cpu.filter(|c| *c != self.processor) {
            return Err(unknown_cpu("processor of this target", name, self.spec.cpus.iter().copied(), sink));
        }
        // The plan runs on the machine that compiles, in the form that most of its kind take.
        let host = lookup("host").map_err(|e| sink.report(e.diagnostic("host")))?.machine(None, sink)?;
        let class = MachineClass::Simt(SimtSpec {
            lanes: self.forms.warp,
            max_group: self.forms.group,
            max_grid: self.forms.grid[0],
            shared_bytes: self.forms.shared[1],
            banks: 32,
            registers: 255,
            vec_bytes: 16,
            shuffle: self.forms.warp,
            busy: self.busy,
            queue: Some(QueueForm { bytes: &[4, 8, 16], pending: 8 }),
            ldmatrix: true,
            fragments: self.fragments,
            floats: &[DType::F32, DType::F64],
        });
        Ok(self.machine_of(class, host))
    }
}
