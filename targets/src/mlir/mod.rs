// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The MLIR emitter: Kernel IR of class cpu and the host plan, as text in the `llvm`, `arith`, `scf` and `vector` dialects.
//!
//! Kernels use the pointer policy: `llvm.func`, address arithmetic of our own, loads and stores with the alignment that
//! Kernel IR wrote. What has no spelling here was removed by a named rule before; anything left is a diagnostic.

use std::collections::BTreeSet;

use portwright_ir::diag::{Code as DiagCode, Diagnostic, Diags, Lowered};
use portwright_ir::dtype::DType;
use portwright_ir::entity::EntityId;
use portwright_ir::kernel::{KernelId, Module};
use portwright_ir::plan::{BufferId, HostPlan};

pub(crate) mod code;
mod dot;
mod expr;
mod fragment;
mod kernel;
#[cfg(feature = "mlir")]
pub mod llvm;
mod memory;
mod packed;
mod plan;
pub mod simt;

pub(crate) use kernel::guard_code;
pub use kernel::symbol;
pub(crate) use plan::check_code;
pub use plan::fault_code;

/// An instruction of a few products per sum: four of 8-bit integers in i32, or two of bf16 in f32.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct DotSpelling {
    /// Dtype of the first operand.
    pub a: DType,
    /// Dtype of the second operand.
    pub b: DType,
    /// Number of sums.
    pub lanes: u16,
    /// What forms them.
    pub code: DotCode,
}

/// What a dot product is, by LLVM's intrinsics.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum DotCode {
    /// One, of the sums, the first and the second operand.
    One(&'static str),
    /// One of vectors of unknown length, of which the operands are the first and only part: a machine whose length the bundle requires.
    Scalable(&'static str),
    /// Products of even and of odd neighbors in 16 bits, and the sum in 32 bits of each odd element of the first with the even one before it
    /// of the second.
    EvenOdd {
        /// Products of even elements.
        even: &'static str,
        /// Products of odd elements.
        odd: &'static str,
        /// Sums across.
        across: &'static str,
    },
}

/// How a machine spells what generic operations cannot say.
#[derive(Copy, Clone, Debug, Default)]
pub struct Spelling {
    /// Dot products.
    pub dots: &'static [DotSpelling],
    /// Products of tile registers: dtypes of a, b, c, and LLVM's intrinsic.
    pub tiles: &'static [([DType; 3], &'static str)],
    /// How many times 128 bits vectors of unknown length have on this machine, where kernels are compiled for just that.
    pub vscale: Option<u16>,
    /// No vectors at all, not even where LLVM would make some of a loop.
    pub one_lane: bool,
    /// What groups of lanes do together, on a machine that has them.
    pub simt: Option<&'static simt::Forms>,
    /// What kernels are written in, on a machine whose vendor's compiler makes its code.
    pub dialect: Option<&'static crate::cfamily::Dialect>,
}

/// What becomes one object.
#[derive(Copy, Clone, Debug)]
pub struct Unit<'a> {
    /// Kernels to emit.
    pub kernels: &'a [KernelId],
    /// The plan with the description of the model, if it belongs here.
    pub plan: Option<(&'a HostPlan, &'a [u8])>,
}

/// Emits part of a module as MLIR text. Kernels in `shared` are given buffers that may overlap.
///
/// # Errors
/// `E0503` for each kernel that has no form on this machine.
pub fn emit(module: &Module, unit: Unit<'_>, shared: &BTreeSet<KernelId>, spelling: &Spelling, sink: &mut Diags) -> Lowered<String> {
    let (mut out, mut locs) = (String::new(), String::new());
    let mut dynamic: Option<u32> = None;
    for (n, id) in unit.kernels.iter().enumerate() {
        let Some(k) = module.kernels.get(*id) else { continue };
        let path = origin(module, *id);
        let loc = format!("#loc{n}");
        locs.push_str(&format!("{loc} = loc({})\n", code::quote(&path)));
        let done = match spelling.simt {
            None => kernel::emit(module, k, spelling, !shared.contains(id), &loc, &mut out),
            Some(forms) => simt::emit(module, k, (spelling, forms), !shared.contains(id), &loc, &mut out).map(|d| dynamic = dynamic.max(d)),
        };
        if let Err(fault) = done {
            let d = Diagnostic::error(DiagCode::CODEGEN, format!("the kernel `{}` cannot be emitted: {fault}", k.name));
            sink.report(d.at(path));
        }
    }
    if let Some((plan, blob)) = unit.plan {
        locs.push_str("#plan = loc(\"host plan\")\n");
        if let Err(fault) = plan::emit(module, (plan, spelling.simt.is_some()), blob, "#plan", &mut out) {
            sink.report(Diagnostic::error(DiagCode::CODEGEN, format!("the host plan cannot be emitted: {fault}")));
        }
    }
    sink.check()?;
    let guards = unit.kernels.iter().any(|id| kernel::reports(&module.kernels[*id]));
    if spelling.simt.is_some() && !unit.kernels.is_empty() {
        simt::common(guards, dynamic, &mut out);
    } else if guards {
        out.push_str("llvm.func hidden @pw_rt_guard(!llvm.ptr, i32, i64, i64) attributes {passthrough = [\"cold\"]}\n");
    }
    Ok(locs + &out)
}

/// The description of a device's code, as a module of the host.
pub(crate) fn device_blob(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 5 / 4);
    for b in bytes {
        match b {
            b'"' | b'\\' => text.extend(['\\', char::from(*b)]),
            0x20..=0x7e => text.push(char::from(*b)),
            _ => text.push_str(&format!("\\{b:02X}")),
        }
    }
    let n = bytes.len();
    format!(
        "llvm.mlir.global external hidden constant @pw_device_blob(\"{text}\") {{addr_space = 0 : i32, alignment = 8 : i64}} : !llvm.array<{n} x i8>\n"
    )
}

/// Where a kernel comes from, for messages.
pub fn origin(module: &Module, id: KernelId) -> String {
    let k = &module.kernels[id];
    if k.origin.is_empty() { k.name.clone() } else { k.origin.join(" + ") }
}

/// Kernels that some launch gives a written buffer which may overlap another of its buffers: the same one twice. Memory of an output
/// that the caller puts over an input never gets here: the runtime writes such an output elsewhere first.
pub fn overlapping(module: &Module, plan: &HostPlan) -> BTreeSet<KernelId> {
    let mut out = BTreeSet::new();
    let place = |b: BufferId| plan.buffers.get(b).map(|b| &b.storage);
    plan::launches(&plan.body, &mut |l| {
        let id = KernelId::new(l.kernel.index());
        let Some(k) = module.kernels.get(id) else { return };
        let written: Vec<bool> = k.abi_bufs().map(|b| k.bufs[b].mode.writes()).collect();
        for (i, a) in l.buffers.iter().enumerate().filter(|(i, _)| written.get(*i) == Some(&true)) {
            for (j, b) in l.buffers.iter().enumerate() {
                let (Some(x), Some(y)) = (place(*a), place(*b)) else { continue };
                if i != j && x == y {
                    out.insert(id);
                }
            }
        }
    });
    out
}
