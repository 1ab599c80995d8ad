// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums of a few products a lane: one instruction where the machine has it, else widened, multiplied and added.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::Ty;

use super::expr::{reg_type, shaped};
use super::kernel::{Emit, Fault};

impl Emit<'_> {
    /// The intrinsic that takes operands of these types, and which of them it takes first.
    fn spelled(&self, tys: &[Ty], lanes: u16) -> Option<(&'static str, usize, usize)> {
        let form = |a: usize, b: usize| {
            let mut forms = self.spelling.dots.iter();
            forms.find(|f| tys[a].elem() == Some(f.a) && tys[b].elem() == Some(f.b) && f.lanes == lanes).map(|f| (f.intrinsic, a, b))
        };
        form(1, 2).or_else(|| form(2, 1))
    }

    /// i32 sums of four 8-bit products.
    pub(super) fn dot4(&mut self, args: &[String], tys: &[Ty], ty: &Ty) -> Result<String, Fault> {
        let n = ty.lanes().unwrap_or(1);
        let (wide, t) = (Ty::Vec(DType::I32, 4 * n), reg_type(ty));
        if let Some((name, x, y)) = self.spelled(tys, n) {
            let bytes = format!("vector<{}xi8>", 4 * n);
            let (acc, x, y) = (&args[0], &args[x], &args[y]);
            return Ok(self.c.def(format_args!("llvm.call_intrinsic \"{name}\"({acc}, {x}, {y}) : ({t}, {bytes}, {bytes}) -> {t}")));
        }
        let a = self.cast(&args[1], &tys[1], &wide, false)?;
        let b = self.cast(&args[2], &tys[2], &wide, false)?;
        let w = reg_type(&wide);
        let p = self.c.def(format_args!("arith.muli {a}, {b} : {w}"));
        let mut acc = args[0].clone();
        for j in 0..4 {
            let part = self.every(&p, &w, n, 4, j);
            acc = self.c.def(format_args!("arith.addi {acc}, {part} : {t}"));
        }
        Ok(acc)
    }

    /// f32 sums of two bf16 products.
    pub(super) fn dot2(&mut self, args: &[String], tys: &[Ty], ty: &Ty) -> Result<String, Fault> {
        let n = ty.lanes().unwrap_or(1);
        let t = reg_type(ty);
        if let Some((name, x, y)) = self.spelled(tys, n) {
            let (from, to) = (reg_type(&tys[x]), shaped("bf16", &tys[x]));
            let x = self.c.def(format_args!("llvm.bitcast {} : {from} to {to}", args[x]));
            let y = self.c.def(format_args!("llvm.bitcast {} : {from} to {to}", args[y]));
            return Ok(self.c.def(format_args!("llvm.call_intrinsic \"{name}\"({}, {x}, {y}) : ({t}, {to}, {to}) -> {t}", args[0])));
        }
        let wide = Ty::Vec(DType::F32, 2 * n);
        let w = reg_type(&wide);
        let a = self.cast(&args[1], &tys[1], &wide, false)?;
        let b = self.cast(&args[2], &tys[2], &wide, false)?;
        let mut acc = args[0].clone();
        for j in [1, 0] {
            let (x, y) = (self.every(&a, &w, n, 2, j), self.every(&b, &w, n, 2, j));
            acc = self.c.def(format_args!("llvm.intr.fma({x}, {y}, {acc}) : ({t}, {t}, {t}) -> {t}"));
        }
        Ok(acc)
    }

    /// Elements `j`, `j + step`, .. of a vector of type `w`, `n` of them.
    fn every(&mut self, v: &str, w: &str, n: u16, step: i32, j: i32) -> String {
        if n == 1 {
            let at = self.c.i64(j.into());
            return self.c.def(format_args!("llvm.extractelement {v}[{at} : i64] : {w}"));
        }
        self.shuffle(v, v, (0..i32::from(n)).map(|i| step * i + j), w)
    }
}
