// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The closed set of operations of Graph IR: core ops, then composites.
//!
//! Elementwise ops, `select` and `contract` batch dims broadcast as numpy does: trailing dims are matched, and a
//! static dim of 1 meets any dim. A new op is declared here once; exhaustive matches lead to everything else.
//! Attributes are reflected, so that the textual form needs no code per op.

use std::sync::Arc;

use crate::dtype::DType;
use crate::entity_ids;
use crate::sym::{SymExpr, SymName};

use super::attr::{Attr, AttrValue, Attrs};
use super::types::{Dims, ListType, Literal, Quant, Scalar};

entity_ids! {
    /// A weight of a graph.
    WeightId "w",
}

/// Declares an enum of named alternatives, printed by name.
macro_rules! named {
    ($(#[$doc:meta])* $ty:ident { $($(#[$vd:meta])* $v:ident $name:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $ty { $($(#[$vd])* $v),* }
        impl $ty {
            /// Every alternative.
            pub const ALL: &'static [$ty] = &[$($ty::$v),*];
            /// Name in text.
            pub fn name(self) -> &'static str { match self { $($ty::$v => $name),* } }
            /// The alternative of that name.
            pub fn from_name(name: &str) -> Option<Self> { match name { $($name => Some($ty::$v),)* _ => None } }
        }
        impl AttrValue for $ty {
            fn to_attr(&self) -> Attr { Attr::Name(self.name().into()) }
            fn from_attr(a: &Attr) -> Option<Self> { match a { Attr::Name(n) => Self::from_name(n), _ => None } }
        }
    };
}

named! {
    /// Elementwise functions of one operand; the result has the operand's dtype, but for predicates, which give bool.
    UnaryOp {
        /// Negation (integers wrap).
        Neg "neg",
        /// Absolute value (integers wrap).
        Abs "abs",
        /// Logical not of bool, bitwise not of integers.
        Not "not",
        /// -1, 0 or 1; NaN stays NaN, zero keeps its sign.
        Sign "sign",
        /// Largest integer not above.
        Floor "floor",
        /// Smallest integer not below.
        Ceil "ceil",
        /// Nearest integer, ties to even.
        Round "round",
        /// Integer part.
        Trunc "trunc",
        /// Square root.
        Sqrt "sqrt",
        /// 1 / x.
        Recip "recip",
        /// e^x.
        Exp "exp",
        /// Natural logarithm.
        Log "log",
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
        /// Logistic function 1 / (1 + e^-x), without overflow.
        Sigmoid "sigmoid",
        /// log(1 + e^x), without overflow.
        Softplus "softplus",
        /// Predicate: NaN.
        IsNan "is_nan",
        /// Predicate: infinity of either sign.
        IsInf "is_inf",
    }
}

named! {
    /// Elementwise functions of two operands of one dtype.
    BinaryOp {
        /// Sum (integers wrap).
        Add "add",
        /// Difference (integers wrap).
        Sub "sub",
        /// Product (integers wrap).
        Mul "mul",
        /// Quotient; integers truncate, x/0 is 0, MIN/-1 is MIN.
        Div "div",
        /// Remainder with the divisor's sign (`x - y*floor(x/y)`); integers: x%0 is 0.
        Mod "mod",
        /// Remainder with the dividend's sign (C `fmod`); integers: x%0 is 0.
        Rem "rem",
        /// Power.
        Pow "pow",
        /// Smaller one; NaN if either is.
        Min "min",
        /// Larger one; NaN if either is.
        Max "max",
        /// Logical or bitwise and.
        And "and",
        /// Logical or bitwise or.
        Or "or",
        /// Logical or bitwise exclusive or.
        Xor "xor",
        /// Shift left; a shift of the width or more gives 0.
        Shl "shl",
        /// Logical shift right of unsigned, arithmetic of signed; a shift of the width or more gives 0 (or -1).
        Shr "shr",
        /// Equal (bool).
        Eq "eq",
        /// Not equal (bool; true for NaN).
        Ne "ne",
        /// Less (bool).
        Lt "lt",
        /// Less or equal (bool).
        Le "le",
        /// Greater (bool).
        Gt "gt",
        /// Greater or equal (bool).
        Ge "ge",
    }
}

impl UnaryOp {
    /// Whether the result is bool whatever the operand is.
    pub fn is_predicate(self) -> bool {
        matches!(self, UnaryOp::IsNan | UnaryOp::IsInf)
    }
}
impl BinaryOp {
    /// Whether the result is bool whatever the operands are.
    pub fn is_compare(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Lt | Le | Gt | Ge)
    }
}

named! {
    /// What a reduction computes.
    ReduceOp {
        /// Sum; 0 for none.
        Sum "sum",
        /// Sum divided by count.
        Mean "mean",
        /// Product; 1 for none.
        Prod "prod",
        /// Largest, NaN if any is; the dtype's lowest for none.
        Max "max",
        /// Smallest, NaN if any is; the dtype's highest for none.
        Min "min",
        /// Logical or; false for none.
        Any "any",
        /// Logical and; true for none.
        All "all",
    }
}

named! {
    /// What the host computes: operations on characters, on the structure of lists and on files. Nothing numeric is among them. The alternatives'
    /// order is the numbers by which the runtime knows them; `list` is a sequence, an optional or a map.
    HostOp {
        /// Texts joined one by one. `(str[d..], str[d..]) -> str[d..]`
        StringConcat "string_concat",
        /// Parts between delimiters, of an empty one between white space; `params` = [most cuts, or -1]. Symbol: the most parts of any text,
        /// to which the others are filled up with empty texts. `(str[d..], delimiter: str[]) -> (str[d.., parts], counts: i64[d..])`
        StringSplit "string_split",
        /// What is no stop word, in another case; `params` = [0 as it is, 1 lower, 2 upper; 1 where case counts]. Symbol: how many texts are
        /// left; where none is, there is one empty text. `(str[n], stop words: str[k]) -> str[kept]`
        StringNormalize "string_normalize",
        /// Whether the whole text matches the automaton of a regular expression ([`crate::regex`]). `(str[d..], i64[program]) -> bool[d..]`
        RegexFullMatch "regex_full_match",
        /// Tokens of each text; `params` = [0 what matches, 1 what lies between matches, 2 characters; 1 where begin and end are marked by
        /// \u{2} and \u{3}; fewest characters of a token]. Symbol: the most tokens of any text, to which others are filled up with `pad`.
        /// `(str[n], pad: str[], i64[programs]) -> str[n, tokens]`
        Tokenize "tokenize",
        /// How many different texts of the operand come before each, by their bytes. `(str[d..]) -> i64[d..]`
        StringRank "string_rank",
        /// Numbers as texts: of floating-point numbers the fewest digits that read back as the same number, in scientific notation where the
        /// power of ten is below -4, or from 8 (f32) or 16 (f64) on; `NaN`, `INF`, `-INF`. `(i64, u64, f32 or f64[d..]) -> str[d..]`
        StringOf "string_of",
        /// The number in each text; an integer without what stands behind its point. `(str[d..]) -> i64, u64, f32 or f64[d..]`
        NumberOf "number_of",
        /// A list of the operands. `(any..) -> list`
        ListOf "list_of",
        /// How many elements there are. `(list) -> i64[]`
        ListLength "list_length",
        /// The element at a position, which may count from the end. Symbols: the dims of a tensor. `(list, i64[]) -> element`
        ListAt "list_at",
        /// The element of an optional. Symbols: as `list_at`. `(list) -> element`
        OptionalGet "optional_get",
        /// With an element before that position, or at the end. `(list, element, i64[]?) -> list`
        ListInsert "list_insert",
        /// Without the element at that position, or the last. `(list, i64[]?) -> list`
        ListErase "list_erase",
        /// Cuts a tensor; `params` = [axis; 0 parts of one element without that axis, 1 parts of one element, 2 parts of equal size, 3 parts
        /// of given sizes]. `(any[d..], sizes: i64[]?) -> list`
        ListSplit "list_split",
        /// Joins tensors along an axis, or along a new one; `params` = [axis, 1 for a new one]. Symbols: the dims. `(list) -> any[..]`
        ListConcat "list_concat",
        /// Each row with its columns' keys as a map. `(number[n, k], keys: str[k] or i64[k]) -> sequence of maps`
        ZipMap "zip_map",
        /// Values of a map by keys, 0 where a key is missing. `(map, keys: str[k] or i64[k]) -> values[1, k]`
        MapLookup "map_lookup",
        /// Values of a map in the order of its keys. Symbol: how many. `(map: i64 to T) -> T[1, n]`
        MapValues "map_values",
        /// Pixels of an image in a file; `params` = [0 red, green, blue; 1 blue, green, red; 2 gray]. Symbols: height and width.
        /// `(u8[n]) -> u8[height, width, 3 or 1]`
        ImageDecode "image_decode",
    }
}

named! {
    /// Which index a reduction returns.
    ArgOp {
        /// Of the largest element.
        Max "argmax",
        /// Of the smallest element.
        Min "argmin",
    }
}

named! {
    /// What lies outside a padded tensor.
    PadMode {
        /// The value of the second operand.
        Constant "constant",
        /// Mirrored without the edge.
        Reflect "reflect",
        /// The edge.
        Edge "edge",
        /// The other side.
        Wrap "wrap",
    }
}

named! {
    /// How a scattered element meets what is there.
    ScatterOp {
        /// Replaces it.
        Set "set",
        /// Adds.
        Add "add",
        /// Multiplies.
        Mul "mul",
        /// Keeps the smaller.
        Min "min",
        /// Keeps the larger.
        Max "max",
    }
}

named! {
    /// What makes the body of a fusion one kernel.
    FusionKind {
        /// Elementwise and movement only.
        Map "map",
        /// A reduction with what comes before and after it (norms and softmax among them).
        Reduce "reduce",
        /// A contraction with its epilogue.
        Contract "contract",
        /// A convolution with its epilogue.
        Conv "conv",
        /// A pooling window with its epilogue.
        Window "window",
        /// Attention.
        Attention "attention",
        /// Recurrence.
        Recurrent "recurrent",
        /// An op that is a kernel of its own (sort, scatter, scan).
        Single "single",
    }
}

named! {
    /// Direction of a recurrence.
    Direction {
        /// First step first.
        Forward "forward",
        /// Last step first.
        Reverse "reverse",
        /// Both, as two directions.
        Bidirectional "bidirectional",
    }
}

/// Declares [`Op`] with its mnemonics and reflected attributes.
macro_rules! define_ops {
    ($($(#[$doc:meta])* $v:ident $name:literal { $($(#[$fd:meta])* $f:ident : $t:ty),* $(,)? }),* $(,)?) => {
        /// An operation with its attributes; operands and regions are on the node.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Op {
            /// Elementwise function of one operand.
            Unary(UnaryOp),
            /// Elementwise function of two operands.
            Binary(BinaryOp),
            $($(#[$doc])* #[allow(missing_docs)] $v { $($(#[$fd])* $f: $t),* }),*
        }
        impl Op {
            /// Every name in text.
            pub fn mnemonics() -> impl Iterator<Item = &'static str> {
                let others: &[&'static str] = &[$($name),*];
                UnaryOp::ALL.iter().map(|u| u.name()).chain(BinaryOp::ALL.iter().map(|b| b.name())).chain(others.iter().copied())
            }
            /// Name in text.
            pub fn mnemonic(&self) -> &'static str {
                match self {
                    Op::Unary(u) => u.name(),
                    Op::Binary(b) => b.name(),
                    $(Op::$v { .. } => $name),*
                }
            }
            /// Attributes by name, in order of declaration.
            pub fn attrs(&self) -> Attrs {
                match self {
                    Op::Unary(_) | Op::Binary(_) => Vec::new(),
                    $(Op::$v { $($f),* } => vec![$((stringify!($f), AttrValue::to_attr($f))),*]),*
                }
            }
            /// The op of that mnemonic; `Err` names the attribute that is missing or malformed, `Ok(None)` means no such op.
            pub fn from_attrs(name: &str, lookup: &dyn Fn(&str) -> Option<Attr>) -> Result<Option<Op>, &'static str> {
                if let Some(u) = UnaryOp::from_name(name) {
                    return Ok(Some(Op::Unary(u)));
                }
                if let Some(b) = BinaryOp::from_name(name) {
                    return Ok(Some(Op::Binary(b)));
                }
                match name {
                    $($name => Ok(Some(Op::$v { $($f: AttrValue::read(lookup(stringify!($f))).ok_or(stringify!($f))?),* })),)*
                    _ => Ok(None),
                }
            }
        }
    };
}

define_ops! {
    // ---- sources: no operands ----
    /// A weight of the graph. `-> [weight.dims]`
    Weight "weight" { weight: WeightId },
    /// A small constant.
    Const "const" { value: Literal },
    /// One number everywhere.
    Fill "fill" { value: Scalar, dims: Dims },
    /// Index along `axis` as `dtype`.
    Iota "iota" { dtype: DType, axis: u32, dims: Dims },
    /// A scalar (`scalar = true`) or 1-D integer tensor whose elements are expressions: shape arithmetic.
    DimTensor "dims" { values: Dims, dtype: DType, scalar: bool },

    // ---- symbols ----
    /// Binds symbols to the elements of an integer tensor of rank 0 or 1. `(x: int[n]) -> ()`
    Bind "bind" { symbols: Vec<SymName> },

    // ---- elementwise ----
    /// `cond ? a : b`, broadcasting. `(bool[..], T[..], T[..]) -> T[..]`
    Select "select" {},
    /// Converts: round to nearest even; float to int truncates and saturates, NaN to 0; `saturate` is ONNX's for 8-bit floats and below.
    Cast "cast" { to: DType, saturate: bool },
    /// Same bits, other dtype of the same width.
    Bitcast "bitcast" { to: DType },

    // ---- reductions ----
    /// Reduces `axes` (sorted, unique); `keep` leaves dims of 1.
    Reduce "reduce" { op: ReduceOp, axes: Vec<u32>, keep: bool },
    /// Index (i64) of the extreme element along `axis`; `last` takes the last of equals, else the first.
    ArgReduce "arg_reduce" { op: ArgOp, axis: u32, keep: bool, last: bool },

    // ---- contraction ----
    /// Sum of products by labels, as `"bmk,bkn->bmn"`: labels that are in both operands and not in the result are summed; products are
    /// formed and added in `acc`, the result has dtype `out`. A batch dim of static 1 broadcasts. `(T[..], T[..]) -> out[..]`
    Contract "contract" { spec: Arc<str>, acc: DType, out: DType },
    /// Sum of products with integers, or floats of 8 bits, that stand for `(q - zero) * scale`, one scale a row of them and `block` along `K` (the last may be short);
    /// the attribute is the zero point where operand 3 is not there. With `narrow` a machine may round `x` to 8 bits by the same blocks.
    /// `(x: T[.., K], q: int[N, K], scale: float[N, ceil(K / block)], zero?: [N, ceil(K / block)]) -> T[.., N]`; with `groups`, as
    /// `contract_groups`, `(x: T[R, K], q: int[E, N, K], scale: [E, ..], zero?: [E, ..], starts: int[E]) -> T[R, N]`
    ContractBlocks "contract_blocks" { block: i64, narrow: bool, zero: i64, groups: bool },
    /// Sum of products of floats of 8 bits that have a scale a row and `block` along `K`, which divides it: products of a block are added in f32,
    /// then blocks by their scales; with `narrow` a machine may add the products of a block with fewer bits. `(a: T[.., K], b: T[N, K], a_scale: float[.., K / block], b_scale: float[N, K / block]) -> out[.., N]`
    ContractScaled "contract_scaled" { block: i64, out: DType, narrow: bool },
    /// As `contract_blocks`, with integers of `bits` bits without sign in panels of `W` columns: bits `bits * j ..` of `w[p, b, g, 4 * c + i]` are
    /// that of column `p * W + c` at `b * block + g * 32 / bits + 4 * j + i`. What the last panel has beyond `columns` is not looked at.
    /// `(x: T[.., K], w: u8[P, B, block * bits / 32, 4 * W], scale: float[P, B, W], zero?: [P, B, W]) -> T[.., columns]`; with `groups`, as
    /// `contract_groups`, `(x: T[R, K], w: u8[E, P, ..], scale: [E, ..], zero?: [E, ..], starts: int[E]) -> T[R, columns]`
    ContractPanels "contract_panels" { columns: i64, bits: i64, block: i64, narrow: bool, zero: i64, groups: bool },
    /// Rows in groups, each of which meets a right operand of its own: the rows of group `e` are `starts[e]..starts[e + 1]`, but the first
    /// group begins at row 0 and the last one ends at row `R`, whatever `starts` says; `starts` does not fall. Sums are formed as in `contract`.
    /// `(x: T[R,K], w: T[E,K,N], starts: int[E]) -> out[R,N]`
    ContractGroups "contract_groups" { acc: DType, out: DType },
    /// Sorts rows by the group that each belongs to, those of one group in their order: row `order[i]` comes to place `i`, row `r` to place
    /// `places[r]`, and group `e` begins at place `starts[e]`. `0 <= group < groups`, else the run fails with the node's path.
    /// `(group: int[R]) -> (order: i64[R], places: i64[R], starts: i64[groups])`
    GroupRows "group_rows" { groups: i64 },
    /// Convolution without bias. `(x: [N,C,spatial..], w: [O,C/groups,kernel..]) -> [N,O,spatial'..]`; `pads` is begin.. then end..
    Conv "conv" { strides: Vec<i64>, dilations: Vec<i64>, pads: Dims, groups: i64 },
    /// As `conv`, with channels last and `channels` filters in `P` panels of `B`: filter `o` is `w[o / B, .., o % B]`, and what the last panel has
    /// beyond them is not looked at. With `planar` channels of `x` stay before its spatial dims. `depth` neighbors along the channels of `w`,
    /// or along its last kernel dim where `x` is planar, lie side by side: `w[.., q, .., b * depth + i]` is that of `q * depth + i` and filter
    /// `b`. Sums are formed as in `conv` and rounded to `out`, once.
    /// `(x: T[N,spatial..,C], w: T[P,kernel..,C/groups/depth,B*depth]) -> out[N,spatial'..,channels]`
    ConvLast "conv_last" {
        channels: i64,
        strides: Vec<i64>,
        dilations: Vec<i64>,
        pads: Dims,
        groups: i64,
        planar: bool,
        depth: i64,
        out: DType,
    },
    /// 6x6 tiles of the input of a 3x3 convolution, 4 apart and with zeros outside, as Winograd's F(4x4, 3x3) multiplies them
    /// ([`super::winograd`]): a tile `d` becomes `B^T d B`, its 36 points first. Tiles are counted through images, rows and columns.
    /// `(x: [N,H,W,C]) -> [36,N*ceil(H'/4)*ceil(W'/4),C]` with `H' = H + pads - 2`
    WinogradInput "winograd_input" { pads: Dims },
    /// 4x4 tiles of results from the sums of products of their 36 points: `A^T m A`. What lies beyond `dims = [N,H,W]` is cut off.
    /// `(m: [36,N*ceil(H/4)*ceil(W/4),C]) -> [N,H,W,C]`
    WinogradOutput "winograd_output" { dims: Dims },
    /// Reduction over a sliding window of the spatial dims of `[N,C,spatial..]`, or of `[N,spatial..,C]` with `channels_last`. `mean` divides by
    /// the elements inside the tensor, or by the window (clipped to the padded tensor) when `count_pad`; `dims` are the spatial dims of the
    /// result (ceiling modes differ).
    Pool "pool" {
        op: ReduceOp,
        kernel: Vec<i64>,
        strides: Vec<i64>,
        dilations: Vec<i64>,
        pads: Dims,
        count_pad: bool,
        dims: Dims,
        channels_last: bool,
    },

    // ---- gather and scatter ----
    /// Rows by index. `(x: [a.., D, b..], i: int[j..]) -> [a.., j.., b..]`; -D <= i < D, else the run fails with the node's path.
    Gather "gather" { axis: u32 },
    /// Elements by index along `axis`. `(x, i: int[..]) -> [i.dims]`
    GatherElements "gather_elements" { axis: u32 },
    /// Slices by index tuples. `(x, i: int[.., k]) -> [i.dims[..-1], x.dims[batch+k..]]`
    GatherNd "gather_nd" { batch: u32 },
    /// Copy of `x` with elements at `i` along `axis` updated. `(x, i, u) -> [x.dims]`
    ScatterElements "scatter_elements" { axis: u32, op: ScatterOp },
    /// Copy of `x` with slices at index tuples updated. `(x, i: int[.., k], u) -> [x.dims]`
    ScatterNd "scatter_nd" { op: ScatterOp },

    // ---- movement ----
    /// Same elements in row-major order. `(x) -> [dims]`
    Reshape "reshape" { dims: Dims },
    /// Result dim `i` is operand dim `perm[i]`.
    Transpose "transpose" { perm: Vec<u32> },
    /// numpy broadcast to `dims`.
    Broadcast "broadcast" { dims: Dims },
    /// Every dim: `dims[i]` elements from `starts[i]` by `steps[i]` (negative walks back).
    Slice "slice" { starts: Dims, steps: Vec<i64>, dims: Dims },
    /// Every dim: `interior[i]` elements between neighbours, then `low[i]` before and `high[i]` after (negative crops).
    /// `constant` takes the value as scalar operand 1.
    Pad "pad" { mode: PadMode, low: Dims, high: Dims, interior: Vec<i64> },
    /// Joins along `axis`.
    Concat "concat" { axis: u32 },

    // ---- order and prefix ----
    /// Running `sum` or `prod` along `axis`.
    Scan "scan" { op: ReduceOp, axis: u32, exclusive: bool, reverse: bool },
    /// The `k` largest (or smallest) along `axis` with their i64 indices; equals keep index order. `(x) -> (T[.., k, ..], i64[.., k, ..])`
    TopK "top_k" { axis: u32, k: SymExpr, largest: bool },
    /// Indices of non-zero elements, `i64[rank, count]`; `count` is a symbol found at run time.
    NonZero "non_zero" { count: SymName },

    // ---- control: regions take the operands listed as captures after their own ----
    /// Regions `then`, `else`. `(cond: bool[], captures..) -> results`
    If "if" {},
    /// Region body `(iteration: i64[], cond: bool[], carried.., captures..) -> (cond, carried.., scanned..)`.
    /// `(trip: i64[], cond: bool[], carried.., captures..) -> (carried.., scanned..)`; scanned results are stacked along a new first dim
    /// of symbol `trips`.
    Loop "loop" { carried: u32, trips: SymName },
    /// One kernel: region body over the operands.
    Fusion "fusion" { kind: FusionKind },

    // ---- host: texts and lists ----
    /// An operation of the host. `takes` are the dtypes of the operands and `gives` those of the results; once `lowered`, texts and lists
    /// are the i64 that [`Op::Handle`] makes of them, and are still named as they were. `dims` are the results' dims, and `symbols` those
    /// that the operation finds; a list that it gives is a `list`.
    Host "host" {
        op: HostOp,
        params: Vec<i64>,
        takes: Vec<DType>,
        gives: Vec<DType>,
        dims: Vec<Dims>,
        symbols: Vec<SymName>,
        list: Option<ListType>,
        lowered: bool,
    },
    /// Texts and lists as the numbers (i64) that they have in the tables of a run, and back.
    Handle "handle" { to: DType, list: Option<ListType> },

    // ---- quantization ----
    /// `round(x / scale) + zero_point` clamped to `to`. `(x, scale, zero_point?) -> to[..]`; `axis` and `block` as in [`Quant`].
    Quantize "quantize" { to: DType, axis: Option<u32>, block: u32, saturate: bool },
    /// `(q - zero_point) * scale` as `to`. `(q, scale, zero_point?) -> to[..]`
    Dequantize "dequantize" { to: DType, axis: Option<u32>, block: u32 },
    /// Binds storage to its scales as one quantized value. `(q, scale, zero_point?) -> quantized`
    Quantized "quantized" { quant: Quant },

    // ---- random ----
    /// Uniform in [low, high) from a counter-based generator (Philox 4x32-10) of `seed` and the element's index.
    RandomUniform "random_uniform" { dtype: DType, low: Scalar, high: Scalar, seed: u64, dims: Dims },

    // ---- composites ----
    /// `exp(x - max) / sum(exp(x - max))` along `axis`.
    Softmax "softmax" { axis: u32 },
    /// `x - max - log(sum(exp(x - max)))` along `axis`.
    LogSoftmax "log_softmax" { axis: u32 },
    /// `(x - mean) / sqrt(var + eps) * scale + bias` over dims `axis..`; computed in f32. `(x, scale?, bias?) -> [x.dims]`
    LayerNorm "layer_norm" { axis: u32, eps: Scalar },
    /// `x / sqrt(mean(x^2) + eps) * scale` over dims `axis..`; computed in f32. `(x, scale?) -> [x.dims]`
    RmsNorm "rms_norm" { axis: u32, eps: Scalar },
    /// `x * (1 + erf(x / sqrt 2)) / 2`, or with `tanh` its usual approximation.
    Gelu "gelu" { tanh: bool },
    /// `x * sigmoid(x)`.
    Silu "silu" {},
    /// `x * clamp(x / 6 + 0.5, 0, 1)`.
    HardSwish "hard_swish" {},
    /// `softmax(q k^T * scale + mask) v` per head; query head `h` uses key head `h / (Hq / Hk)`; a bool mask keeps where true; with `causal`
    /// query `i` sees keys `j <= i + offset`, `offset` being operand 4 as i64[] when present, else 0. A row with nothing to see gives 0.
    /// `(q: [B,Hq,Sq,D], k: [B,Hk,Sk,D], v: [B,Hk,Sk,Dv], mask?: broadcastable to [B,Hq,Sq,Sk], offset?: i64[]) -> [B,Hq,Sq,Dv]`;
    /// `operands` says which optional ones are there; `softcap` 0 is none.
    Attention "attention" { scale: Scalar, causal: bool, has_mask: bool, has_offset: bool, softcap: Scalar },
    /// `attention` over each run of `part` keys by itself, the last of which may be shorter: result `p` is that of keys `p * part ..`, beside the
    /// logarithm of the sum of its exponentials, which is the lowest finite number where a row sees nothing. `A` is f64 for f64, else f32.
    /// Operands as those of `attention`. `-> (y: A[B,Hq,P,Sq,Dv], log: A[B,Hq,P,Sq])` with `P = ceil(Sk / part)`
    AttentionParts "attention_parts" { part: i64, scale: Scalar, causal: bool, has_mask: bool, has_offset: bool, softcap: Scalar },
    /// The attention of which those are the parts: `sum over p of softmax over p(log) * y`, rounded to `to`, once. A part of weight 0 does not
    /// count, whatever it holds. `(y: A[B,H,P,S,D], log: A[B,H,P,S]) -> to[B,H,S,D]`
    MergeParts "merge_parts" { to: DType },
    /// Rotates pairs of the first `rotary_dims` of the last dim by angles given as cos and sin.
    /// `(x: [B,H,S,D], cos: [B|1,S,R/2], sin: [B|1,S,R/2]) -> [x.dims]`; `interleaved` pairs are (2i, 2i+1), else (i, i+R/2).
    Rotary "rotary" { rotary_dims: SymExpr, interleaved: bool },
    /// LSTM as ONNX has it (gates i, o, f, c), activations sigmoid, tanh, tanh; without peepholes and clip.
    /// `(x: [S,B,I], w: [D,4H,I], r: [D,4H,H], b: [D,8H], h0: [D,B,H], c0: [D,B,H]) -> (y: [S,D,B,H], h: [D,B,H], c: [D,B,H])`
    Lstm "lstm" { direction: Direction },
    /// GRU as ONNX has it (gates z, r, h). `(x, w: [D,3H,I], r: [D,3H,H], b: [D,6H], h0) -> (y: [S,D,B,H], h: [D,B,H])`
    Gru "gru" { direction: Direction, linear_before_reset: bool },
    /// The steps of an LSTM whose inputs have met their weights already: `g` holds what inputs and biases give the gates. The recurrent
    /// weights lie in blocks of `W` hidden units, `depth` elements of the state side by side: `r[d, j / W, k / depth, gate, j % W * depth + k % depth]`;
    /// what fills up the last block is not read. With weights of bf16 states are rounded to it where they meet them.
    /// `(g: [S,B,D,4,H], r: [D,ceil(H,W),H/depth,4,W*depth], h0: [D,B,H], c0: [D,B,H]) -> (y: [S,D,B,H], h: [D,B,H], c: [D,B,H])`
    LstmSteps "lstm_steps" { direction: Direction, depth: i64 },
    /// As `lstm_steps` with weights of bytes. At each step the state of a row is rounded to 256 values between its least and greatest element
    /// and 0, as a dynamic quantization rounds a tensor, and products are summed as integers. The weight of element `k` is `(q - zero) * scale`
    /// with `q = r[d, j / W, k / group, gate, j % W * group + k % group]`; `sums` are those of `q` over `k`.
    /// `(g: [S,B,D,4,H], r: i8 [D,ceil(H,W),ceil(H,group),4,W*group], h0, c0, scale: [D,4,H], zero: i32 [D,4,H], sums: i32 [D,4,H]) -> (y, h, c)`
    LstmByteSteps "lstm_byte_steps" { direction: Direction, group: u32 },
    /// As `lstm_steps` for a GRU; `rb` is the bias of gate h that meets the state's product, where the reset gate is applied to that.
    /// `(g: [S,B,D,3,H], r: [D,ceil(H,W),H/depth,3,W*depth], rb: [D,H], h0: [D,B,H]) -> (y: [S,D,B,H], h: [D,B,H])`
    GruSteps "gru_steps" { direction: Direction, linear_before_reset: bool, depth: i64 },
    /// Samples spatial dims at real coordinates; attributes as ONNX Resize, per dim of the operand; result dims `dims`.
    Resize "resize" { dims: Dims, mode: Arc<str>, coords: Arc<str>, nearest: Arc<str>, scales: Vec<Scalar>, cubic_a: Scalar, exclude_outside: bool, antialias: bool },
}

impl Op {
    /// Whether it has no operands and no effect, so that any number of copies means the same.
    pub fn is_source(&self) -> bool {
        matches!(
            self,
            Op::Weight { .. } | Op::Const { .. } | Op::Fill { .. } | Op::Iota { .. } | Op::DimTensor { .. } | Op::RandomUniform { .. }
        )
    }
    /// Whether the host computes it; `handle` is a view.
    pub fn is_host(&self) -> bool {
        matches!(self, Op::Host { .. })
    }
    /// Whether it only moves elements.
    pub fn is_movement(&self) -> bool {
        matches!(
            self,
            Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } | Op::Pad { .. } | Op::Concat { .. }
        )
    }
    /// Whether result element `i` depends on operand elements `i` alone (after broadcasting).
    pub fn is_elementwise(&self) -> bool {
        matches!(
            self,
            Op::Unary(_)
                | Op::Binary(_)
                | Op::Select {}
                | Op::Cast { .. }
                | Op::Bitcast { .. }
                | Op::Gelu { .. }
                | Op::Silu {}
                | Op::HardSwish {}
        )
    }
    /// Whether it is a composite, which has a decomposition into core ops.
    pub fn is_composite(&self) -> bool {
        matches!(
            self,
            Op::Softmax { .. }
                | Op::LogSoftmax { .. }
                | Op::LayerNorm { .. }
                | Op::RmsNorm { .. }
                | Op::Gelu { .. }
                | Op::Silu {}
                | Op::HardSwish {}
                | Op::Attention { .. }
                | Op::Rotary { .. }
                | Op::Lstm { .. }
                | Op::Gru { .. }
                | Op::Resize { .. }
        )
    }
}
