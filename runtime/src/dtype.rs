// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Element types as the bundle's interfaces know them: ONNX TensorProto.DataType numbers.

/// What is known of one dtype.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct DtypeInfo {
    /// ONNX TensorProto.DataType.
    pub code: i32,
    /// Short name, as in `f32`.
    pub name: &'static str,
    /// Bits of an element; 0 for strings.
    pub bits: u32,
    /// C type that holds it, or as many elements as fit a byte.
    pub c_type: &'static str,
    /// Macro-free name in `portwright.h`, as in `PW_F32`.
    pub c_name: &'static str,
}

macro_rules! table {
    ($($code:literal $name:literal $bits:literal $c_type:literal $c_name:literal),* $(,)?) => {
        /// Every dtype, by code.
        pub const ALL: &[DtypeInfo] =
            &[$(DtypeInfo { code: $code, name: $name, bits: $bits, c_type: $c_type, c_name: $c_name }),*];
    };
}

table! {
    1 "f32" 32 "float" "PW_F32", 2 "u8" 8 "uint8_t" "PW_U8", 3 "i8" 8 "int8_t" "PW_I8", 4 "u16" 16 "uint16_t" "PW_U16",
    5 "i16" 16 "int16_t" "PW_I16", 6 "i32" 32 "int32_t" "PW_I32", 7 "i64" 64 "int64_t" "PW_I64", 8 "str" 0 "char *" "PW_STR",
    9 "bool" 8 "uint8_t" "PW_BOOL", 10 "f16" 16 "uint16_t" "PW_F16", 11 "f64" 64 "double" "PW_F64", 12 "u32" 32 "uint32_t" "PW_U32",
    13 "u64" 64 "uint64_t" "PW_U64", 14 "c64" 64 "float" "PW_C64", 15 "c128" 128 "double" "PW_C128", 16 "bf16" 16 "uint16_t" "PW_BF16",
    17 "f8e4m3fn" 8 "uint8_t" "PW_F8E4M3FN", 18 "f8e4m3fnuz" 8 "uint8_t" "PW_F8E4M3FNUZ", 19 "f8e5m2" 8 "uint8_t" "PW_F8E5M2",
    20 "f8e5m2fnuz" 8 "uint8_t" "PW_F8E5M2FNUZ", 21 "u4" 4 "uint8_t" "PW_U4", 22 "i4" 4 "uint8_t" "PW_I4",
    23 "f4e2m1" 4 "uint8_t" "PW_F4E2M1", 24 "f8e8m0" 8 "uint8_t" "PW_F8E8M0", 25 "u2" 2 "uint8_t" "PW_U2", 26 "i2" 2 "uint8_t" "PW_I2",
    27 "f6e2m3" 8 "uint8_t" "PW_F6E2M3", 28 "f6e3m2" 8 "uint8_t" "PW_F6E3M2",
}

/// The dtype with that number.
pub fn by_code(code: i32) -> Option<&'static DtypeInfo> {
    ALL.iter().find(|d| d.code == code)
}

/// The dtype with that short name.
pub fn by_name(name: &str) -> Option<&'static DtypeInfo> {
    ALL.iter().find(|d| d.name == name)
}

/// Short name of a dtype, `dtype N` for an unknown one.
pub fn name(code: i32) -> String {
    by_code(code).map_or_else(|| format!("dtype {code}"), |d| d.name.to_string())
}

/// Bytes of a dense tensor; `None` for strings, unknown dtypes, negative dims, or when they do not fit 63 bits.
pub fn tensor_bytes(code: i32, dims: &[i64]) -> Option<u64> {
    let bits = by_code(code).filter(|d| d.bits > 0)?.bits;
    let count = elements(dims)?;
    let bytes = if bits < 8 { count.div_ceil(u64::from(8 / bits)) } else { count.checked_mul(u64::from(bits / 8))? };
    (bytes <= i64::MAX as u64).then_some(bytes)
}

/// Number of elements; `None` for a negative dim or when it does not fit 63 bits.
pub fn elements(dims: &[i64]) -> Option<u64> {
    if dims.iter().any(|d| *d < 0) {
        return None;
    }
    if dims.contains(&0) {
        return Some(0);
    }
    dims.iter().try_fold(1i64, |n, d| n.checked_mul(*d)).map(|n| n as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_agrees_with_the_headers() {
        let header = crate::embed::ABI_HEADER;
        for (i, d) in ALL.iter().enumerate() {
            assert_eq!(d.code, i as i32 + 1);
            assert!(header.contains(&format!("{} = {}", d.c_name, d.code)), "{} is not in portwright.h", d.c_name);
            assert_eq!(by_name(d.name), Some(d));
        }
        assert_eq!(tensor_bytes(1, &[2, 3]), Some(24));
        assert_eq!(tensor_bytes(22, &[3]), Some(2));
        assert_eq!(tensor_bytes(8, &[3]), None);
        assert_eq!(tensor_bytes(1, &[1 << 40, 1 << 40]), None);
        assert_eq!(tensor_bytes(1, &[1 << 62, 1 << 62, 0]), Some(0));
        assert_eq!(tensor_bytes(7, &[1 << 60]), None);
        assert_eq!(tensor_bytes(1, &[-1]), None);
    }
}
