// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Expression handles of the builder: small shared trees with operators, lowered into a kernel by the statement that
//! uses them.
//!
//! A literal takes the type of what it meets, and is splat where it meets a vector; nothing else is converted. A handle
//! that is used twice is computed twice: name it with [`Kb::let_`](super::Kb::let_) to compute it once.

use std::rc::Rc;

use smallvec::SmallVec;

use super::{BinOp, CmpOp, HOp, Lit, Op, Ty, UnOp, typing};
use crate::dtype::DType;

/// An expression that is not part of a kernel yet.
#[derive(Clone, Debug)]
pub struct Ex(pub(super) Rc<Node>);

#[derive(Debug)]
pub(super) struct Node {
    pub op: Op,
    pub args: Vec<Ex>,
    /// `None` while it is made of literals only.
    pub ty: Option<Ty>,
}

impl Ex {
    pub(super) fn node(op: Op, args: Vec<Ex>, ty: Option<Ty>) -> Ex {
        Ex(Rc::new(Node { op, args, ty }))
    }
    /// The type; `None` while it is made of literals only.
    pub fn ty(&self) -> Option<&Ty> {
        self.0.ty.as_ref()
    }
    /// An integer literal that takes the type of what it meets.
    pub fn int(v: i128) -> Ex {
        Ex::node(Op::Lit(Lit::Int(v)), vec![], None)
    }
    /// A floating-point literal that takes the type of what it meets.
    pub fn float(v: f64) -> Ex {
        Ex::node(Op::Lit(Lit::float(v)), vec![], None)
    }
    /// A literal of that type; a float type takes an integer value as well.
    pub fn lit(d: DType, v: f64) -> Ex {
        let lit = if d.is_float() { Lit::float(v) } else { Lit::Int(v as i128) };
        Ex::node(Op::Lit(lit), vec![], Some(Ty::Scalar(d)))
    }
    /// Gives literals that type; anything else stays.
    pub fn typed(&self, ty: &Ty) -> Ex {
        if self.0.ty.is_some() {
            return self.clone();
        }
        if let (Ty::Vec(d, _), Op::Lit(_)) = (ty, &self.0.op) {
            return Ex::node(Op::Splat, vec![self.typed(&Ty::Scalar(*d))], Some(ty.clone()));
        }
        if let (Ty::Scalar(d), Op::Lit(Lit::Int(v))) = (ty, &self.0.op)
            && d.is_float()
        {
            return Ex::lit(*d, *v as f64);
        }
        let args = self.0.args.iter().map(|a| a.typed(ty)).collect();
        Ex::node(self.0.op.clone(), args, Some(ty.clone()))
    }

    fn build(op: Op, args: Vec<Ex>, want: Option<Ty>) -> Ex {
        if args.iter().any(|a| a.0.ty.is_none()) && want.is_none() {
            return Ex::node(op, args, None);
        }
        let tys: Vec<Ty> = args.iter().filter_map(|a| a.0.ty.clone()).collect();
        // A wrong operand is reported by the verifier; here the handle gets the most plausible type.
        let ty = typing::type_of(&op, &tys, want.as_ref()).ok().or(want).or_else(|| tys.first().cloned());
        Ex::node(op, args, ty)
    }
    /// Operands of equal type: literals take the type of the others.
    fn unify(args: &[&Ex]) -> Vec<Ex> {
        match args.iter().find_map(|a| a.0.ty.clone()) {
            Some(t) => args.iter().map(|a| a.typed(&t)).collect(),
            None => args.iter().map(|a| (*a).clone()).collect(),
        }
    }

    /// One operand, elementwise.
    pub fn un(&self, op: UnOp) -> Ex {
        Ex::build(Op::Un(op), vec![self.clone()], None)
    }
    /// Two operands of one type, elementwise.
    pub fn bin(&self, op: BinOp, o: impl Into<Ex>) -> Ex {
        Ex::build(Op::Bin(op), Ex::unify(&[self, &o.into()]), None)
    }
    /// Comparison.
    pub fn cmp(&self, op: CmpOp, o: impl Into<Ex>) -> Ex {
        let args = Ex::unify(&[self, &o.into()]);
        let default = if matches!(args[0].0.op, Op::Lit(Lit::Float(_))) { DType::F32 } else { DType::I64 };
        let args = args.iter().map(|a| a.typed(&Ty::Scalar(default))).collect();
        Ex::build(Op::Cmp(op), args, None)
    }
    /// `fma(self, b, c)`, rounded once.
    pub fn fma(&self, b: impl Into<Ex>, c: impl Into<Ex>) -> Ex {
        Ex::build(Op::Fma, Ex::unify(&[self, &b.into(), &c.into()]), None)
    }
    /// `min(max(self, lo), hi)`.
    pub fn clamp(&self, lo: impl Into<Ex>, hi: impl Into<Ex>) -> Ex {
        Ex::build(Op::Clamp, Ex::unify(&[self, &lo.into(), &hi.into()]), None)
    }
    /// `a` where `self` holds, else `b`.
    pub fn select(&self, a: impl Into<Ex>, b: impl Into<Ex>) -> Ex {
        let ab = Ex::unify(&[&a.into(), &b.into()]);
        if ab[0].0.ty.is_none() {
            let ty = match self.0.ty {
                Some(Ty::Vec(_, n)) => Some(n),
                _ => None,
            };
            let d = if matches!(ab[0].0.op, Op::Lit(Lit::Float(_))) { DType::F32 } else { DType::I64 };
            let ty = Ty::of(d, ty.map_or(1, u32::from));
            return Ex::build(Op::Select, vec![self.clone(), ab[0].typed(&ty), ab[1].typed(&ty)], None);
        }
        Ex::build(Op::Select, vec![self.clone(), ab[0].clone(), ab[1].clone()], None)
    }
    fn conv(&self, op: Op, d: DType) -> Ex {
        let default = if matches!(self.0.op, Op::Lit(Lit::Float(_))) { DType::F32 } else { DType::I64 };
        let arg = self.typed(&Ty::Scalar(default));
        let want = arg.0.ty.as_ref().map(|t| t.with_elem(d));
        Ex::build(op, vec![arg], want)
    }
    /// Conversion of the number; see [`Op::Cast`].
    pub fn cast(&self, d: DType) -> Ex {
        if self.0.ty.as_ref().and_then(Ty::elem) == Some(d) { self.clone() } else { self.conv(Op::Cast, d) }
    }
    /// Conversion that saturates; see [`Op::CastSat`].
    pub fn cast_sat(&self, d: DType) -> Ex {
        self.conv(Op::CastSat, d)
    }
    /// The same bits as elements of another type; see [`Op::Bitcast`].
    pub fn bitcast(&self, d: DType) -> Ex {
        let arg = self.conv_default();
        let want = arg.0.ty.as_ref().map(|t| t.regrouped(d));
        Ex::build(Op::Bitcast, vec![arg], want)
    }
    /// A vector of `n` copies; `n == 1` is the scalar itself.
    pub fn splat(&self, n: u32) -> Ex {
        if n == 1 {
            return self.clone();
        }
        let x = self.conv_default();
        let want = x.0.ty.as_ref().and_then(Ty::elem).map(|d| Ty::of(d, n));
        Ex::build(Op::Splat, vec![x], want)
    }
    fn conv_default(&self) -> Ex {
        let d = if matches!(self.0.op, Op::Lit(Lit::Float(_))) { DType::F32 } else { DType::I64 };
        self.typed(&Ty::Scalar(d))
    }
    /// `self, self + 1, ...`, `n` of them.
    pub fn iota(&self, n: u32) -> Ex {
        let x = self.conv_default();
        let want = x.0.ty.as_ref().and_then(Ty::elem).map(|d| Ty::of(d, n));
        Ex::build(Op::Iota, vec![x], want)
    }
    /// Mask of `n` elements: element i is `self + i < end`.
    pub fn mask_lt(&self, end: impl Into<Ex>, n: u32) -> Ex {
        let args = Ex::unify(&[self, &end.into()]).iter().map(|a| a.typed(&Ty::Scalar(DType::I64))).collect();
        Ex::build(Op::MaskLt, args, Some(Ty::of(DType::Bool, n)))
    }
    /// Element `i`, which must be constant after unrolling.
    pub fn extract(&self, i: impl Into<Ex>) -> Ex {
        let i = i.into().typed(&Ty::Scalar(DType::I32));
        Ex::build(Op::Extract, vec![self.clone(), i], None)
    }
    /// Itself with element `i` replaced; `i` must be constant after unrolling.
    pub fn insert(&self, i: impl Into<Ex>, x: impl Into<Ex>) -> Ex {
        let i = i.into().typed(&Ty::Scalar(DType::I32));
        let d = self.0.ty.as_ref().and_then(Ty::elem).unwrap_or(DType::F32);
        Ex::build(Op::Insert, vec![self.clone(), i, x.into().typed(&Ty::Scalar(d))], None)
    }
    /// Its elements, then those of `o`.
    pub fn concat(&self, o: &Ex) -> Ex {
        Ex::build(Op::Concat, vec![self.clone(), o.clone()], None)
    }
    /// Elements by position.
    pub fn shufflev(&self, list: &[u16]) -> Ex {
        Ex::build(Op::Shufflev(SmallVec::from_slice(list)), vec![self.clone()], None)
    }
    /// Elements by position in its elements followed by those of `o`.
    pub fn shufflev2(&self, o: &Ex, list: &[u16]) -> Ex {
        Ex::build(Op::Shufflev(SmallVec::from_slice(list)), vec![self.clone(), o.clone()], None)
    }
    /// Reduction of a vector to a scalar; a scalar is its own reduction.
    pub fn hred(&self, op: HOp) -> Ex {
        if matches!(self.0.ty, Some(Ty::Scalar(_))) {
            return self.clone();
        }
        Ex::build(Op::Hred(op), vec![self.clone()], None)
    }
    /// `self` plus four 8-bit products an element.
    pub fn dot4(&self, a: &Ex, b: &Ex) -> Ex {
        Ex::build(Op::Dot4, vec![self.clone(), a.clone(), b.clone()], None)
    }
    /// `self` plus two bf16 products an element.
    pub fn dot2(&self, a: &Ex, b: &Ex) -> Ex {
        Ex::build(Op::Dot2, vec![self.clone(), a.clone(), b.clone()], None)
    }
}

macro_rules! named {
    ($($(#[$doc:meta])* $m:ident $op:ident),*) => {
        impl Ex {$(
            $(#[$doc])*
            pub fn $m(&self) -> Ex { self.un(UnOp::$op) }
        )*}
    };
}
named! {
    /// Magnitude.
    abs Abs,
    /// e^x.
    exp Exp,
    /// Natural logarithm.
    log Log,
    /// Hyperbolic tangent.
    tanh Tanh,
    /// Error function.
    erf Erf,
    /// Square root.
    sqrt Sqrt,
    /// 1 / sqrt(x).
    rsqrt Rsqrt,
    /// 1 / x.
    rcp Rcp,
    /// Largest integer not above.
    floor Floor,
    /// Smallest integer not below.
    ceil Ceil,
    /// Nearest integer, ties to even.
    rint Rint,
    /// Integer toward zero.
    trunc Trunc
}

macro_rules! named2 {
    ($($(#[$doc:meta])* $m:ident $f:ident $k:ident $op:ident),*) => {
        impl Ex {$(
            $(#[$doc])*
            pub fn $m(&self, o: impl Into<Ex>) -> Ex { self.$f($k::$op, o) }
        )*}
    };
}
named2! {
    /// The smaller; NaN if either is.
    min bin BinOp Min,
    /// The larger; NaN if either is.
    max bin BinOp Max,
    /// Power.
    pow bin BinOp Pow,
    /// Sum modulo 2^bits.
    add_w bin BinOp AddW,
    /// Difference modulo 2^bits.
    sub_w bin BinOp SubW,
    /// Product modulo 2^bits.
    mul_w bin BinOp MulW,
    /// Quotient toward zero.
    tdiv bin BinOp TDiv,
    /// Remainder with the sign of the dividend.
    trem bin BinOp TRem,
    /// `self < o`.
    lt cmp CmpOp Lt,
    /// `self <= o`.
    le cmp CmpOp Le,
    /// `self > o`.
    gt cmp CmpOp Gt,
    /// `self >= o`.
    ge cmp CmpOp Ge,
    /// `self == o`.
    equals cmp CmpOp Eq,
    /// `self != o`.
    differs cmp CmpOp Ne
}

impl Ex {
    /// Sum of a vector's elements.
    pub fn hsum(&self) -> Ex {
        self.hred(HOp::Sum)
    }
    /// Largest of a vector's elements.
    pub fn hmax(&self) -> Ex {
        self.hred(HOp::Max)
    }
    /// Smallest of a vector's elements.
    pub fn hmin(&self) -> Ex {
        self.hred(HOp::Min)
    }
}

impl From<&Ex> for Ex {
    fn from(e: &Ex) -> Ex {
        e.clone()
    }
}
macro_rules! from_int {
    ($($t:ty),*) => {$(
        impl From<$t> for Ex {
            fn from(v: $t) -> Ex { Ex::int(v as i128) }
        }
    )*};
}
from_int!(i32, i64, u32, usize);
impl From<f64> for Ex {
    fn from(v: f64) -> Ex {
        Ex::float(v)
    }
}
impl From<f32> for Ex {
    fn from(v: f32) -> Ex {
        Ex::float(f64::from(v))
    }
}
impl From<bool> for Ex {
    fn from(v: bool) -> Ex {
        Ex::lit(DType::Bool, f64::from(u8::from(v)))
    }
}

macro_rules! operators {
    ($($tr:ident $m:ident $op:ident),*) => {$(
        impl<T: Into<Ex>> std::ops::$tr<T> for Ex {
            type Output = Ex;
            fn $m(self, o: T) -> Ex { self.bin(BinOp::$op, o) }
        }
        impl<T: Into<Ex>> std::ops::$tr<T> for &Ex {
            type Output = Ex;
            fn $m(self, o: T) -> Ex { self.bin(BinOp::$op, o) }
        }
    )*};
}
operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Rem rem Rem, BitAnd bitand And, BitOr bitor Or,
           BitXor bitxor Xor, Shl shl Shl, Shr shr Shr);
impl std::ops::Neg for Ex {
    type Output = Ex;
    fn neg(self) -> Ex {
        self.un(UnOp::Neg)
    }
}
impl std::ops::Neg for &Ex {
    type Output = Ex;
    fn neg(self) -> Ex {
        self.un(UnOp::Neg)
    }
}
impl std::ops::Not for Ex {
    type Output = Ex;
    fn not(self) -> Ex {
        self.un(UnOp::Not)
    }
}
