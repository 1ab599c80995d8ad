// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types and constancy of expressions.

use super::Verifier;
use crate::dtype::DType;
use crate::entity::EntityId;
use crate::kernel::{Class, ExprId, Op, Ty, VarId, VarKind, typing};

impl Verifier<'_> {
    /// Checks an expression that a statement uses, and that it has the type which its place asks for.
    pub(super) fn expr(&mut self, e: ExprId, want: Option<&Ty>, scope: &[bool]) {
        self.tree(e, scope);
        if let Some(t) = want {
            let got = self.k.exprs[e].ty.clone();
            self.need(got == *t, || format!("{} where {} is expected", got.show(), t.show()));
        }
    }
    /// An index: i32 or i64.
    pub(super) fn index(&mut self, e: ExprId, scope: &[bool]) {
        self.tree(e, scope);
        let t = self.k.exprs[e].ty.clone();
        self.need(matches!(t, Ty::Scalar(DType::I32 | DType::I64)), || format!("an index of type {}", t.show()));
    }

    fn tree(&mut self, root: ExprId, scope: &[bool]) {
        let mut work = vec![root];
        while let Some(e) = work.pop() {
            self.parents[e.index()] += 1;
            if self.parents[e.index()] == 2 {
                self.fault("an expression has two parents; name it with `let` to use it twice");
            }
            let k = self.k;
            let x = &k.exprs[e];
            work.extend(&x.args);
            let tys: Vec<Ty> = x.args.iter().map(|a| k.exprs[*a].ty.clone()).collect();
            let found = match &x.op {
                Op::Var(v) => self.variable(*v, &x.args, scope),
                Op::At(v) => self.tile_element(*v, &tys, scope),
                Op::Call(f) => typing::call_type(self.m.fns[*f].param_dtypes(), self.m.fns[*f].ret, &tys),
                op => typing::type_of(op, &tys, Some(&x.ty)),
            };
            match found {
                Ok(t) if t == x.ty => {}
                Ok(t) => self.fault(format!("{} where {} stands", t.show(), x.ty.show())),
                Err(m) => self.fault(m),
            }
            match &x.op {
                Op::Dim(s) => self.symbolic(s, "an expression"),
                Op::Extract | Op::Insert => {
                    let ok = x.args.get(1).is_some_and(|i| self.unroll_constant(*i));
                    self.need(ok, || "the position of an element is not constant after unrolling".into());
                }
                _ => {}
            }
        }
    }
    fn variable(&mut self, v: VarId, args: &[ExprId], scope: &[bool]) -> Result<Ty, String> {
        let var = &self.k.vars[v];
        if !scope[v.index()] {
            return Err(format!("`{}` is not in scope", var.name));
        }
        if args.len() != var.arr.len() {
            return Err(format!("`{}` is an array of {} dims, used with {} indices", var.name, var.arr.len(), args.len()));
        }
        self.register_index(v, args);
        Ok(var.ty.clone())
    }
    /// Indices of registers are constant after unrolling, and inside where that shows.
    pub(super) fn register_index(&mut self, v: VarId, args: &[ExprId]) {
        let var = &self.k.vars[v];
        for (a, d) in args.iter().zip(&var.arr) {
            let ok = self.unroll_constant(*a);
            self.need(ok, || format!("an index of `{}` is not constant after unrolling", var.name));
            if let Op::Lit(crate::kernel::Lit::Int(i)) = self.k.exprs[*a].op {
                self.need((0..i128::from(*d)).contains(&i), || format!("index {i} of `{}`, which has {d}", var.name));
            }
        }
    }
    fn tile_element(&mut self, v: VarId, tys: &[Ty], scope: &[bool]) -> Result<Ty, String> {
        let var = &self.k.vars[v];
        if !scope[v.index()] {
            return Err(format!("`{}` is not in scope", var.name));
        }
        let Ty::Tile { dtype, dims, .. } = &var.ty else { return Err(format!("`{}` is no tile", var.name)) };
        let ok = tys.len() == dims.len() && tys.iter().all(|t| matches!(t, Ty::Scalar(DType::I32 | DType::I64)));
        if ok { Ok(Ty::Scalar(*dtype)) } else { Err(format!("`{}` has {} dims", var.name, dims.len())) }
    }
    /// Whether an integer expression has a value once loops are unrolled and symbols are known.
    pub(super) fn unroll_constant(&self, e: ExprId) -> bool {
        let x = &self.k.exprs[e];
        let own = match &x.op {
            Op::Lit(_) => true,
            Op::Var(v) => self.k.vars[*v].kind == VarKind::Unrolled,
            Op::Un(_) | Op::Bin(_) | Op::Cmp(_) | Op::Select | Op::Clamp | Op::Cast => true,
            _ => false,
        };
        own && x.args.iter().all(|a| self.unroll_constant(*a))
    }
    /// Smallest and largest value that an integer expression can have; none if nothing is known.
    pub(super) fn range(&self, e: ExprId) -> Option<(i128, i128)> {
        use crate::kernel::{BinOp, Id, Lit};
        let x = &self.k.exprs[e];
        let a = |i: usize| x.args.get(i).and_then(|e| self.range(*e));
        match &x.op {
            Op::Lit(Lit::Int(v)) => Some((*v, *v)),
            Op::Dim(s) => {
                let (lo, hi) = self.sym_range(s);
                Some((lo.into(), hi.into()))
            }
            Op::Id(i) => {
                let g = i128::from(self.k.launch.group);
                let w = i128::from(self.k.launch.warp.max(1));
                let grid = |d: u8| i128::from(self.sym_range(&self.k.launch.grid[usize::from(d).min(2)]).1);
                Some(match i {
                    Id::Lane => (0, g - 1),
                    Id::Warp => (0, g / w - 1),
                    Id::WarpLane => (0, w - 1),
                    Id::Group(d) => (0, (grid(*d) - 1).max(0)),
                    Id::Grid(d) => (1, grid(*d).max(1)),
                })
            }
            Op::Bin(b) => {
                let ((al, ah), (bl, bh)) = (a(0)?, a(1)?);
                match b {
                    BinOp::Add => Some((al + bl, ah + bh)),
                    BinOp::Sub => Some((al - bh, ah - bl)),
                    BinOp::Mul => {
                        let all = [al.checked_mul(bl)?, al.checked_mul(bh)?, ah.checked_mul(bl)?, ah.checked_mul(bh)?];
                        Some((*all.iter().min()?, *all.iter().max()?))
                    }
                    BinOp::Div if al >= 0 && bl > 0 => Some((al / bh, ah / bl)),
                    BinOp::Rem if al >= 0 && bl > 0 => Some((0, ah.min(bh - 1))),
                    BinOp::Min => Some((al.min(bl), ah.min(bh))),
                    BinOp::Max => Some((al.max(bl), ah.max(bh))),
                    _ => None,
                }
            }
            Op::Clamp => {
                let ((l, _), (_, h)) = (a(1)?, a(2)?);
                Some((l, h))
            }
            Op::Select => {
                let ((al, ah), (bl, bh)) = (a(1)?, a(2)?);
                Some((al.min(bl), ah.max(bh)))
            }
            Op::Cast => a(0),
            _ => None,
        }
    }
    pub(super) fn is_simt(&self) -> bool {
        self.k.class == Class::Simt
    }
}
