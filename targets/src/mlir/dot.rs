// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums of a few products a lane: one instruction where the machine has it, else widened, multiplied and added.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::Ty;

use super::DotCode;
use super::expr::{reg_type, shaped};
use super::kernel::{Emit, Fault};

impl Emit<'_> {
    /// What forms sums of operands of these types, and which of them it takes first.
    fn spelled(&self, tys: &[Ty], lanes: u16) -> Option<(DotCode, usize, usize)> {
        let form = |a: usize, b: usize| {
            let mut forms = self.spelling.dots.iter();
            forms.find(|f| tys[a].elem() == Some(f.a) && tys[b].elem() == Some(f.b) && f.lanes == lanes).map(|f| (f.code, a, b))
        };
        form(1, 2).or_else(|| form(2, 1))
    }

    /// Sums of `n` lanes of type `t` with products of operands of `depth` times as many elements of type `elem`.
    fn sums(&mut self, code: DotCode, [acc, x, y]: [&str; 3], (n, depth, t): (u16, u16, &str), elem: &str) -> String {
        let whole = format!("vector<{}x{elem}>", n * depth);
        match code {
            DotCode::One(name) => {
                self.c.def(format_args!("llvm.call_intrinsic \"{name}\"({acc}, {x}, {y}) : ({t}, {whole}, {whole}) -> {t}"))
            }
            DotCode::Scalable(name) => {
                // An element of the sums has 32 bits: 4 of them in 128.
                let sum = t.trim_end_matches('>').rsplit('x').next().unwrap_or_default();
                let (st, sw) = (format!("vector<[4]x{sum}>"), format!("vector<[{}]x{elem}>", 4 * depth));
                let mut open = |v: &str, from: &str, to: &str| {
                    let any = self.c.shared(&format!("llvm.mlir.poison : {to}"));
                    self.c.def(format_args!("vector.scalable.insert {v}, {any}[0] : {from} into {to}"))
                };
                let (acc, x, y) = (open(acc, t, &st), open(x, &whole, &sw), open(y, &whole, &sw));
                let sums = self.c.def(format_args!("llvm.call_intrinsic \"{name}\"({acc}, {x}, {y}) : ({st}, {sw}, {sw}) -> {st}"));
                self.c.def(format_args!("vector.scalable.extract {sums}[0] : {t} from {st}"))
            }
            DotCode::EvenOdd { even, odd, across } => {
                let half = format!("vector<{}xi16>", n * depth / 2);
                let mut products =
                    |name| self.c.def(format_args!("llvm.call_intrinsic \"{name}\"({x}, {y}) : ({whole}, {whole}) -> {half}"));
                let (even, odd) = (products(even), products(odd));
                let mut add = |acc: &str, a: &str, b: &str| {
                    let pairs = self.c.def(format_args!("llvm.call_intrinsic \"{across}\"({a}, {b}) : ({half}, {half}) -> {t}"));
                    self.c.def(format_args!("arith.addi {acc}, {pairs} : {t}"))
                };
                let acc = add(acc, &even, &odd);
                add(&acc, &odd, &even)
            }
        }
    }

    /// i32 sums of four 8-bit products.
    pub(super) fn dot4(&mut self, args: &[String], tys: &[Ty], ty: &Ty) -> Result<String, Fault> {
        let n = ty.lanes().unwrap_or(1);
        let (wide, t) = (Ty::Vec(DType::I32, 4 * n), reg_type(ty));
        if let Some((code, x, y)) = self.spelled(tys, n) {
            return Ok(self.sums(code, [&args[0], &args[x], &args[y]], (n, 4, &t), "i8"));
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
        if let Some((code, x, y)) = self.spelled(tys, n) {
            let (from, to) = (reg_type(&tys[x]), shaped("bf16", &tys[x]));
            let x = self.c.def(format_args!("llvm.bitcast {} : {from} to {to}", args[x]));
            let y = self.c.def(format_args!("llvm.bitcast {} : {from} to {to}", args[y]));
            return Ok(self.sums(code, [&args[0], &x, &y], (n, 2, &t), "bf16"));
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
