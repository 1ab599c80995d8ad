// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Element types, from f64 down to 2-bit integers and every 8-, 6- and 4-bit float.

use std::fmt;

/// Element type of a tensor, a buffer or a register.
///
/// Types under a byte are packed in memory as ONNX packs them: low bits first, two 4-bit or four 2-bit elements a byte;
/// 6-bit floats take a byte each.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE binary64.
    F64,
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16: the upper half of binary32.
    BF16,
    /// 1-4-3, no infinity, NaN is S.1111.111 (OCP 8-bit floating point).
    F8E4M3FN,
    /// 1-4-3 with bias 8, no infinity, no negative zero, NaN is 0x80.
    F8E4M3FNUZ,
    /// 1-5-2 with infinity and NaN as IEEE (OCP 8-bit floating point).
    F8E5M2,
    /// 1-5-2 with bias 16, no infinity, no negative zero, NaN is 0x80.
    F8E5M2FNUZ,
    /// Power-of-two scale 2^(x-127), NaN is 0xFF (OCP microscaling).
    F8E8M0,
    /// 1-2-3, no infinity, no NaN (OCP microscaling).
    F6E2M3,
    /// 1-3-2, no infinity, no NaN (OCP microscaling).
    F6E3M2,
    /// 1-2-1, no infinity, no NaN (OCP microscaling).
    F4E2M1,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed 8-bit integer.
    I8,
    /// Signed 4-bit integer.
    I4,
    /// Signed 2-bit integer.
    I2,
    /// Unsigned 64-bit integer.
    U64,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 4-bit integer.
    U4,
    /// Unsigned 2-bit integer.
    U2,
    /// Truth value, one byte, 0 or 1.
    Bool,
    /// Two f32.
    C64,
    /// Two f64.
    C128,
    /// UTF-8 text, as the number (64 bits) of an entry in the run's table of texts: equal texts have equal numbers, and the empty one is 0.
    Str,
    /// A sequence, an optional or a map, as the number (64 bits) of an entry in the run's table of lists.
    List,
}

/// What kind of arithmetic a dtype has.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Floating point.
    Float,
    /// Two's complement integer.
    Signed,
    /// Unsigned integer.
    Unsigned,
    /// Truth value.
    Bool,
    /// Pair of floats.
    Complex,
    /// Number of an entry in a table of texts or lists.
    Handle,
}

/// Bit layout of a floating-point dtype.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct FloatFormat {
    /// Exponent width in bits.
    pub exponent_bits: u32,
    /// Stored significand width in bits.
    pub mantissa_bits: u32,
    /// Exponent bias.
    pub bias: i32,
    /// Whether the format has infinities.
    pub infinity: bool,
    /// How NaN is encoded.
    pub nan: NanCode,
    /// Whether there is a sign bit.
    pub signed: bool,
}

/// How a floating-point format encodes NaN.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum NanCode {
    /// All-ones exponent with a non-zero significand.
    Ieee,
    /// All bits but the sign are ones.
    AllOnes,
    /// The code of negative zero.
    NegativeZero,
    /// There is none.
    None,
}

macro_rules! dtypes {
    ($($v:ident $name:literal $bits:literal $kind:ident),* $(,)?) => {
        impl DType {
            /// Every dtype, widest float first.
            pub const ALL: &'static [DType] = &[$(DType::$v),*];
            /// Name in text, as in `f32[2,3]`.
            pub fn name(self) -> &'static str {
                match self { $(DType::$v => $name),* }
            }
            /// The dtype of that name.
            pub fn from_name(name: &str) -> Option<DType> {
                match name { $($name => Some(DType::$v),)* _ => None }
            }
            /// Width of one element in bits.
            pub fn bits(self) -> u32 {
                match self { $(DType::$v => $bits),* }
            }
            /// Kind of arithmetic.
            pub fn kind(self) -> Kind {
                match self { $(DType::$v => Kind::$kind),* }
            }
        }
    };
}

dtypes! {
    F64 "f64" 64 Float, F32 "f32" 32 Float, F16 "f16" 16 Float, BF16 "bf16" 16 Float,
    F8E4M3FN "f8e4m3fn" 8 Float, F8E4M3FNUZ "f8e4m3fnuz" 8 Float, F8E5M2 "f8e5m2" 8 Float,
    F8E5M2FNUZ "f8e5m2fnuz" 8 Float, F8E8M0 "f8e8m0" 8 Float,
    F6E2M3 "f6e2m3" 8 Float, F6E3M2 "f6e3m2" 8 Float, F4E2M1 "f4e2m1" 4 Float,
    I64 "i64" 64 Signed, I32 "i32" 32 Signed, I16 "i16" 16 Signed, I8 "i8" 8 Signed, I4 "i4" 4 Signed, I2 "i2" 2 Signed,
    U64 "u64" 64 Unsigned, U32 "u32" 32 Unsigned, U16 "u16" 16 Unsigned, U8 "u8" 8 Unsigned, U4 "u4" 4 Unsigned, U2 "u2" 2 Unsigned,
    Bool "bool" 8 Bool, C64 "c64" 64 Complex, C128 "c128" 128 Complex, Str "str" 64 Handle, List "list" 64 Handle,
}

impl DType {
    /// Whether elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        self.kind() == Kind::Float
    }
    /// Whether elements are integers (not truth values).
    pub fn is_int(self) -> bool {
        matches!(self.kind(), Kind::Signed | Kind::Unsigned)
    }
    /// Whether elements are signed integers.
    pub fn is_signed_int(self) -> bool {
        self.kind() == Kind::Signed
    }
    /// Whether elements are numbers of entries in a table of the run: texts and lists, which only host operations look into.
    pub fn is_handle(self) -> bool {
        self.kind() == Kind::Handle
    }
    /// Whether several elements share a byte.
    pub fn is_packed(self) -> bool {
        self.bits() < 8
    }
    /// Bytes of one element that fills whole bytes; `None` for packed types.
    pub fn bytes(self) -> Option<u32> {
        (self.bits() >= 8).then(|| self.bits() / 8)
    }
    /// Bytes that `elems` elements take, packed types rounded up to a byte; `None` on overflow.
    pub fn bytes_for(self, elems: u64) -> Option<u64> {
        elems.checked_mul(u64::from(self.bits())).map(|b| b.div_ceil(8))
    }
    /// Bit layout, for floating-point dtypes.
    pub fn float_format(self) -> Option<FloatFormat> {
        let f = |exponent_bits, mantissa_bits, bias, infinity, nan, signed| {
            Some(FloatFormat { exponent_bits, mantissa_bits, bias, infinity, nan, signed })
        };
        match self {
            DType::F64 => f(11, 52, 1023, true, NanCode::Ieee, true),
            DType::F32 => f(8, 23, 127, true, NanCode::Ieee, true),
            DType::F16 => f(5, 10, 15, true, NanCode::Ieee, true),
            DType::BF16 => f(8, 7, 127, true, NanCode::Ieee, true),
            DType::F8E4M3FN => f(4, 3, 7, false, NanCode::AllOnes, true),
            DType::F8E4M3FNUZ => f(4, 3, 8, false, NanCode::NegativeZero, true),
            DType::F8E5M2 => f(5, 2, 15, true, NanCode::Ieee, true),
            DType::F8E5M2FNUZ => f(5, 2, 16, false, NanCode::NegativeZero, true),
            DType::F8E8M0 => f(8, 0, 127, false, NanCode::AllOnes, false),
            DType::F6E2M3 => f(2, 3, 1, false, NanCode::None, true),
            DType::F6E3M2 => f(3, 2, 3, false, NanCode::None, true),
            DType::F4E2M1 => f(2, 1, 1, false, NanCode::None, true),
            _ => None,
        }
    }
    /// Smallest and largest integer, for integer dtypes and `bool` (0 and 1).
    pub fn int_range(self) -> Option<(i128, i128)> {
        match self.kind() {
            Kind::Signed => Some((-(1i128 << (self.bits() - 1)), (1i128 << (self.bits() - 1)) - 1)),
            Kind::Unsigned => Some((0, (1i128 << self.bits()) - 1)),
            Kind::Bool => Some((0, 1)),
            _ => None,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
