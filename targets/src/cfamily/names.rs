// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names of C++ for things that have names elsewhere.

use std::collections::HashSet;

/// Words of C++17, sorted.
const KEYWORDS: &[&str] = &[
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "asm",
    "auto",
    "bitand",
    "bitor",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "char16_t",
    "char32_t",
    "char8_t",
    "class",
    "co_await",
    "co_return",
    "co_yield",
    "compl",
    "concept",
    "const",
    "const_cast",
    "consteval",
    "constexpr",
    "constinit",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "dynamic_cast",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "not_eq",
    "nullptr",
    "operator",
    "or",
    "or_eq",
    "private",
    "protected",
    "public",
    "register",
    "reinterpret_cast",
    "requires",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "static_assert",
    "static_cast",
    "struct",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "typeof",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
    "while",
    "xor",
    "xor_eq",
];

/// Names that headers of the family, of C or of its mathematics take, as macros, functions or types; sorted.
const TAKEN: &[&str] = &[
    "EOF",
    "I",
    "INFINITY",
    "NAN",
    "NULL",
    "abs",
    "acos",
    "asin",
    "atan",
    "blockDim",
    "blockIdx",
    "ceil",
    "char1",
    "char2",
    "char3",
    "char4",
    "clock",
    "cos",
    "dim3",
    "div",
    "double1",
    "double2",
    "double3",
    "double4",
    "erf",
    "exp",
    "exp2",
    "fabs",
    "float1",
    "float2",
    "float3",
    "float4",
    "floor",
    "fma",
    "fmax",
    "fmin",
    "fmod",
    "gamma",
    "gridDim",
    "half",
    "half2",
    "index",
    "int1",
    "int2",
    "int3",
    "int4",
    "j0",
    "j1",
    "jn",
    "linux",
    "log",
    "log2",
    "long1",
    "long2",
    "main",
    "max",
    "min",
    "pow",
    "rint",
    "round",
    "short2",
    "short4",
    "sin",
    "sqrt",
    "tan",
    "tanh",
    "threadIdx",
    "time",
    "trunc",
    "uchar4",
    "uint",
    "uint1",
    "uint2",
    "uint3",
    "uint4",
    "ulong",
    "unix",
    "ushort",
    "ushort4",
    "warpSize",
    "y0",
    "y1",
    "yn",
];

/// Gives every thing a name of its own.
#[derive(Debug, Default)]
pub struct Namer {
    used: HashSet<String>,
}

impl Namer {
    /// A name like `wanted` that nothing else has. Names of two underscores and those that begin with `pw_` are the emitter's and the
    /// implementation's.
    pub fn name(&mut self, wanted: &str) -> String {
        let base = identifier(wanted);
        let mut name = base.clone();
        let mut n = 1u32;
        while !self.used.insert(name.clone()) {
            n += 1;
            name = format!("{base}_{n}");
        }
        name
    }
}

/// The identifier that is most like a text.
pub fn identifier(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        if !(c == '_' && out.ends_with('_')) {
            out.push(c);
        }
    }
    let out = out.trim_matches('_');
    let begins = out.chars().next().is_none_or(|c| c.is_ascii_digit());
    let out = if begins { format!("v{out}") } else { out.to_string() };
    let taken = KEYWORDS.binary_search(&out.as_str()).is_ok() || TAKEN.binary_search(&out.as_str()).is_ok();
    if taken || out.starts_with("pw_") { format!("{out}_") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(KEYWORDS.is_sorted() && TAKEN.is_sorted());
    }

    #[test]
    fn names_are_identifiers_and_distinct() {
        let mut n = Namer::default();
        let made: Vec<String> =
            ["acc", "acc", "float", "min", "3x", "a.b", "__x", "", "a__b", "pw_load"].iter().map(|w| n.name(w)).collect();
        assert_eq!(made, ["acc", "acc_2", "float_", "min_", "v3x", "a_b", "x", "v", "a_b_2", "pw_load_"]);
    }
}
