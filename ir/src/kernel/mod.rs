// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kernel IR: the program that is printed, with every loop, temporary, copy, mask and signal written out.
//!
//! # Rules of meaning
//! 1. **Expressions are pure trees**, evaluated where their statement stands; each node has one parent, and sharing is
//!    only by a named `let`. Loads, shuffles, products of matrices and atomics are right sides of statements.
//! 2. **SPMD.** The body runs once per lane of every group. `let` and `var` are per lane. Levels: *grid* (groups, which
//!    are unordered), *group* (lanes that share `shared` memory and barriers), *warp* (lanes that shuffle), *lane*. On
//!    cpu a group is one task of the thread pool and has one lane. On tile_core a lane is a core, and its roles are the
//!    core's agents.
//! 3. **No order between lanes** but by barriers, waits, signals and acquire-release atomics.
//! 4. **Out of bounds is an error**, on each dim. Edges are written: `when`, `mask`, `valid`, `guard`. An element that
//!    is switched off touches no memory. Without `else` it is poison, and poison that reaches a store, an address, a
//!    condition, a reduction or a product is an error.
//! 5. **Types are explicit and equal.** Nothing is promoted, reassociated or contracted; `fma` is written; `hsum` is a
//!    fixed halving tree. `+ - *` of integers must not wrap (`+% -% *%` may); `/ %` of integers take operands >= 0.
//! 6. **Uniformity** is computed per expression; barriers need group-uniform control, shuffles and products warp-uniform.
//! 7. A `var` is definitely assigned before it is read; buffers begin as poison.
//!
//! # Building a kernel
//! `gelu(x + y)` on the cpu, 16 elements at a time, with a masked tail:
//! ```
//! use portwright_ir::at;
//! use portwright_ir::dtype::DType::F32;
//! use portwright_ir::kernel::{BufDecl, Class, Kb, Module, print_module};
//!
//! let mut m = Module::new();
//! let gelu = m.define_fn("gelu", &[("v", F32)], F32, |f, p| {
//!     let e = f.let_("e", (&p[0] * 0.70710678).erf());
//!     let h = f.let_("h", &p[0] * 0.5);
//!     h.fma(e, &h)
//! });
//! let mut k = Kb::new(&mut m, "add_gelu", Class::Cpu);
//! k.origin("main/Gelu_7");
//! let (mm, n) = (k.sym("M", 1, 1 << 30, 1), k.sym("N", 1, 1 << 30, 1));
//! let x = k.param("x", BufDecl::ro(F32, [mm.clone(), n.clone()]));
//! let y = k.param("y", BufDecl::ro(F32, [mm.clone(), n.clone()]));
//! let z = k.param("z", BufDecl::wo(F32, [mm.clone(), n.clone()]));
//! k.launch([mm.ceil_div(&8.into()), 1.into(), 1.into()]);
//! let nv = k.let_("nv", k.dim(&n) / 16 * 16);
//! let tm = k.let_("tm", nv.mask_lt(k.dim(&n), 16));
//! let r0 = k.let_("r0", k.gx() * 8);
//! let r1 = (&r0 + 8).min(k.dim(&mm));
//! k.for_("r", &r0, r1, 1, |k, r| {
//!     k.for_("c", 0, &nv, 16, |k, c| {
//!         let a = k.load("a", at!(x; &r, &c => 16));
//!         let b = k.load("b", at!(y; &r, &c => 16));
//!         let g = k.let_("g", k.call(gelu, &[a + b]));
//!         k.store(at!(z; &r, &c => 16), g);
//!     });
//!     k.if_(nv.lt(k.dim(&n)), |k| {
//!         let a = k.load("a", at!(x; &r, &nv => 16).mask(&tm).or(0.0));
//!         let b = k.load("b", at!(y; &r, &nv => 16).mask(&tm).or(0.0));
//!         let g = k.let_("g", k.call(gelu, &[a + b]));
//!         k.store(at!(z; &r, &nv => 16).mask(&tm), g);
//!     });
//! });
//! let id = k.finish();
//! assert_eq!(m.kernels[id].name, "add_gelu");
//! assert!(print_module(&m).contains("let a: f32x16 = load x[r, nv:16] mask tm else 0.0"));
//! ```

mod atom;
mod build;
mod build_shared;
mod ex;
mod expr;
mod hash;
pub mod interp;
mod parse;
mod print;
mod stmt;
mod types;
pub mod typing;
mod verify;

#[cfg(test)]
mod tests;

pub use atom::*;
pub use build::*;
pub use build_shared::{BlockOrder, Signal};
pub use ex::Ex;
pub use expr::*;
pub use parse::{ParseError, parse_module};
pub use print::{Lines, Printed, print_fn, print_kernel, print_module, reserved};
pub use stmt::*;
pub use types::*;
pub use verify::{Fault, Limits, Verified, verify, verify_kernel};
