// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Expressions: pure trees of typed nodes, evaluated where their statement stands.

use smallvec::SmallVec;

use super::{ExprId, FnId, Ty, Var, VarId};
use crate::dtype::DType;
use crate::entity::PrimaryMap;
use crate::sym::SymExpr;

/// Operands of a node.
pub type Args = SmallVec<[ExprId; 3]>;

/// A node of an expression tree; its children precede it in the arena.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expr {
    /// What it computes.
    pub op: Op,
    /// Operands.
    pub args: Args,
    /// Type of the result.
    pub ty: Ty,
}

/// A constant.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lit {
    /// Integer or truth value (0, 1).
    Int(i128),
    /// Bits of an f64 that is exact in the node's dtype.
    Float(u64),
}

impl Lit {
    /// A floating-point constant.
    pub fn float(v: f64) -> Lit {
        Lit::Float(if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() })
    }
    /// The value as f64.
    pub fn as_f64(self) -> f64 {
        match self {
            Lit::Int(v) => v as f64,
            Lit::Float(b) => f64::from_bits(b),
        }
    }
}

/// Built-in position of a lane.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    /// Number of the group in x, y, z.
    Group(u8),
    /// Number of groups in x, y, z.
    Grid(u8),
    /// Number of the lane in its group.
    Lane,
    /// Number of the warp in its group.
    Warp,
    /// Number of the lane in its warp.
    WarpLane,
}

impl Id {
    /// All of them.
    pub const ALL: [Id; 9] =
        [Id::Group(0), Id::Group(1), Id::Group(2), Id::Grid(0), Id::Grid(1), Id::Grid(2), Id::Lane, Id::Warp, Id::WarpLane];
    /// Name in text.
    pub fn name(self) -> &'static str {
        match self {
            Id::Group(0) => "gx",
            Id::Group(1) => "gy",
            Id::Group(_) => "gz",
            Id::Grid(0) => "grid.x",
            Id::Grid(1) => "grid.y",
            Id::Grid(_) => "grid.z",
            Id::Lane => "lane",
            Id::Warp => "warp",
            Id::WarpLane => "wlane",
        }
    }
}

macro_rules! named_ops {
    ($(#[$doc:meta])* $en:ident { $($(#[$d:meta])* $v:ident $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $en { $($(#[$d])* $v),* }
        impl $en {
            /// All of them.
            pub const ALL: &'static [$en] = &[$($en::$v),*];
            /// Spelling in text.
            pub fn name(self) -> &'static str {
                match self { $($en::$v => $name),* }
            }
            /// The one spelled so.
            pub fn from_name(s: &str) -> Option<Self> {
                match s { $($name => Some($en::$v),)* _ => None }
            }
        }
    };
}
pub(crate) use named_ops;

named_ops! {
    /// Operations with one operand, elementwise.
    UnOp {
        /// `-x`; an integer must not be the smallest of its type.
        Neg "-",
        /// Bitwise complement; of truth values, negation.
        Not "!",
        /// Magnitude.
        Abs "abs",
        /// e^x.
        Exp "exp",
        /// 2^x.
        Exp2 "exp2",
        /// e^x - 1.
        Expm1 "expm1",
        /// Natural logarithm.
        Log "log",
        /// Binary logarithm.
        Log2 "log2",
        /// ln(1 + x).
        Log1p "log1p",
        /// Sine.
        Sin "sin",
        /// Cosine.
        Cos "cos",
        /// Tangent.
        Tan "tan",
        /// Inverse sine.
        Asin "asin",
        /// Inverse cosine.
        Acos "acos",
        /// Inverse tangent.
        Atan "atan",
        /// Hyperbolic sine.
        Sinh "sinh",
        /// Hyperbolic cosine.
        Cosh "cosh",
        /// Hyperbolic tangent.
        Tanh "tanh",
        /// Inverse hyperbolic sine.
        Asinh "asinh",
        /// Inverse hyperbolic cosine.
        Acosh "acosh",
        /// Inverse hyperbolic tangent.
        Atanh "atanh",
        /// Error function.
        Erf "erf",
        /// Square root, correctly rounded.
        Sqrt "sqrt",
        /// 1 / sqrt(x).
        Rsqrt "rsqrt",
        /// 1 / x.
        Rcp "rcp",
        /// Largest integer not above.
        Floor "floor",
        /// Smallest integer not below.
        Ceil "ceil",
        /// Nearest integer, ties to even.
        Rint "rint",
        /// Integer toward zero.
        Trunc "trunc",
    }
}

named_ops! {
    /// Operations with two operands of one type, elementwise.
    BinOp {
        /// Sum; an integer sum must not wrap.
        Add "+",
        /// Difference; an integer difference must not wrap.
        Sub "-",
        /// Product; an integer product must not wrap.
        Mul "*",
        /// Quotient; of integers, both `>= 0` and the divisor `> 0`.
        Div "/",
        /// Remainder of integers, both `>= 0` and the divisor `> 0`.
        Rem "%",
        /// Sum of integers modulo 2^bits.
        AddW "+%",
        /// Difference of integers modulo 2^bits.
        SubW "-%",
        /// Product of integers modulo 2^bits.
        MulW "*%",
        /// Quotient toward zero; the divisor is not 0; the smallest by -1 is itself.
        TDiv "tdiv",
        /// Remainder with the sign of the dividend, integer or float; an integer divisor is not 0.
        TRem "trem",
        /// Bitwise and; of truth values, conjunction.
        And "&",
        /// Bitwise or; of truth values, disjunction.
        Or "|",
        /// Bitwise exclusive or.
        Xor "^",
        /// Left shift; bits shifted out are lost, the amount is `0..bits`.
        Shl "<<",
        /// Right shift, arithmetic on signed integers; the amount is `0..bits`.
        Shr ">>",
        /// The smaller; NaN if either is.
        Min "min",
        /// The larger; NaN if either is.
        Max "max",
        /// The smaller; a NaN operand gives the other.
        MinNum "minnum",
        /// The larger; a NaN operand gives the other.
        MaxNum "maxnum",
        /// Power.
        Pow "pow",
        /// Angle of the point (second, first).
        Atan2 "atan2",
    }
}

named_ops! {
    /// Comparisons; the result is a truth value or a mask.
    CmpOp {
        /// Equal.
        Eq "==",
        /// Not equal; true if either is NaN.
        Ne "!=",
        /// Less.
        Lt "<",
        /// Less or equal.
        Le "<=",
        /// Greater.
        Gt ">",
        /// Greater or equal.
        Ge ">=",
    }
}

named_ops! {
    /// Reductions over the elements of one vector: a fixed halving tree (element i meets i + n/2).
    HOp {
        /// Sum; an integer sum must not wrap.
        Sum "hsum",
        /// Product; an integer product must not wrap.
        Prod "hprod",
        /// Largest; NaN if any is.
        Max "hmax",
        /// Smallest; NaN if any is.
        Min "hmin",
        /// Conjunction.
        And "hand",
        /// Disjunction.
        Or "hor",
    }
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A constant scalar.
    Lit(Lit),
    /// A launch-uniform integer computed from symbols.
    Dim(SymExpr),
    /// A position of this lane.
    Id(Id),
    /// A variable; the operands index its array of registers.
    Var(VarId),
    /// An element of a tile variable; one operand per dim. Only under `map`, `reduce` and `scan`.
    At(VarId),
    /// One operand, elementwise.
    Un(UnOp),
    /// Two operands of one type, elementwise. The amount of a shift has the type of the value.
    Bin(BinOp),
    /// Comparison of two operands of one type.
    Cmp(CmpOp),
    /// `select(c, a, b)`: `a` where `c` holds; a scalar condition chooses whole vectors.
    Select,
    /// `clamp(x, lo, hi)` = `min(max(x, lo), hi)`.
    Clamp,
    /// `fma(a, b, c)` = `a * b + c`, rounded once.
    Fma,
    /// Conversion of the number: to the nearest (ties to even) for floats, toward zero and saturating from float to
    /// integer (NaN gives 0), modulo 2^bits between integers, `!= 0` to bool.
    Cast,
    /// As `cast`, but values beyond the target's range give its nearest finite value.
    CastSat,
    /// The same bits as elements of another type; a vector of another width has so many more or fewer elements, low bits first.
    Bitcast,
    /// A vector of equal elements.
    Splat,
    /// `iota(base)`: `base, base + 1, ...` (integers).
    Iota,
    /// Element of a vector; the index is constant after unrolling.
    Extract,
    /// `insert(v, i, x)`: `v` with element `i` replaced; the index is constant after unrolling.
    Insert,
    /// First vector, then second.
    Concat,
    /// Elements of the one or two operand vectors, by position in their concatenation.
    Shufflev(SmallVec<[u16; 16]>),
    /// `mask.lt(base, end)`: element i is `base + i < end`.
    MaskLt,
    /// Reduction of a vector to a scalar.
    Hred(HOp),
    /// `dot4(acc, a, b)`: i32 accumulators plus four 8-bit products each, wrapping; operands have four times the elements.
    Dot4,
    /// `dot2(acc, a, b)`: f32 accumulators plus two bf16 products each; operands have twice the elements. The interpreter adds the second
    /// product, then the first, each rounded once to f32; a machine may add them in another order, or take subnormal numbers as zero.
    Dot2,
    /// An elementwise function, lifted to the operands' number of elements.
    Call(FnId),
}

/// A pure scalar program that is applied to scalars, vectors and tiles by lifting.
#[derive(Clone, Debug)]
pub struct ElemFn {
    /// Name, unique in the module and no built-in name.
    pub name: String,
    /// Parameters, in order; the first variables of `vars`.
    pub params: Vec<VarId>,
    /// Result type.
    pub ret: DType,
    /// Parameters and temporaries.
    pub vars: PrimaryMap<VarId, Var>,
    /// Nodes.
    pub exprs: PrimaryMap<ExprId, Expr>,
    /// Temporaries in order.
    pub lets: Vec<(VarId, ExprId)>,
    /// The value.
    pub result: ExprId,
}

impl ElemFn {
    /// Element types of the parameters.
    pub fn param_dtypes(&self) -> impl Iterator<Item = DType> + '_ {
        self.params.iter().filter_map(|p| self.vars[*p].ty.elem())
    }
}
