// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What tells one vendor's C++ for lanes from another's: names, shapes of calls, matrix builtins, command lines. All of it is data.
//!
//! Calls are templates. `$` stands for the prefix of the runtime's names, `{word}` for what the emitter puts there; the words of each template
//! stand at its field. The constants [`LANES`] and [`API`] are what most of the family has alike; a chip's folder writes what differs.

use portwright_passes::spec::Fragment;

/// When kernels say how many lanes their groups have.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bounds {
    /// Always: a machine whose default is lower, or whose registers depend on it.
    Always,
    /// For groups of more lanes than that.
    Over(u32),
    /// Never.
    Never,
}

/// Conversions of f16 as functions of device code.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Halves {
    /// Headers that declare them.
    pub headers: &'static [&'static str],
    /// `{bits}`, a `uint16_t`, as f32.
    pub widen: &'static str,
    /// `{value}`, an f32, rounded to nearest even, as the `uint16_t` of its bits.
    pub round: &'static str,
}

/// Copies from global memory to that of the group that pass no register.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Copies {
    /// Headers that declare them.
    pub headers: &'static [&'static str],
    /// Starts one: `{to}`, `{from}`, `{bytes}`, and `{zeros}`, how many of them are filled with zeros instead.
    pub start: &'static str,
    /// Closes a group of copies.
    pub commit: &'static str,
    /// Waits for all but the last `{groups}`.
    pub wait: &'static str,
}

/// A matrix product of a warp that kernels call.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Builtin {
    /// Shape, dtypes and where lanes hold the operands.
    pub fragment: Fragment,
    /// The call of `{a}`, `{b}` and `{c}`.
    pub call: &'static str,
    /// Types of a, b and c at the call: names of [`Dialect::types`].
    pub operands: [&'static str; 3],
    /// What schedules choose: [`Builtin::fragment`], or the same product with its factors exchanged, whose lanes hold neighboring columns of
    /// the accumulator where those of the first hold neighboring rows.
    pub chosen: Fragment,
}

/// What schedules choose among of builtins.
pub const fn chosen<const N: usize>(of: &[Builtin; N]) -> [Fragment; N] {
    let mut out = [of[0].chosen; N];
    let mut i = 1;
    while i < N {
        out[i] = of[i].chosen;
        i += 1;
    }
    out
}

/// The vendor's runtime API, as the host's part of a bundle calls it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Api {
    /// What its names begin with.
    pub prefix: &'static str,
    /// Type of an error.
    pub error: &'static str,
    /// The error that is none.
    pub success: &'static str,
    /// The error of memory that is not there.
    pub no_memory: &'static str,
    /// Type of a stream.
    pub stream: &'static str,
    /// Text of `{error}`.
    pub text: &'static str,
    /// The error of what was called last.
    pub last: &'static str,
    /// Writes the number of devices to `{to}`.
    pub count: &'static str,
    /// Chooses device `{device}` for the calling thread.
    pub choose: &'static str,
    /// Writes free and total bytes to `{free}` and `{total}`.
    pub memory: &'static str,
    /// Takes `{bytes}` and writes their address to `{to}`, a `void **`.
    pub take: &'static str,
    /// Gives `{address}` back.
    pub give: &'static str,
    /// Makes a stream at `{to}`.
    pub open: &'static str,
    /// Ends `{stream}`.
    pub close: &'static str,
    /// Waits for `{stream}`.
    pub wait: &'static str,
    /// Copies `{bytes}` from `{from}` to `{to}` in `{stream}`; `{kind}` is one of [`Api::kinds`].
    pub copy: &'static str,
    /// Directions: to the device, from it, on it.
    pub kinds: [&'static str; 3],
    /// Lets `{kernel}` ask for `{bytes}` of the group's memory at launches, where that has to be said.
    pub dynamic: Option<&'static str>,
    /// Launches `{kernel}` with `{args}` over `{grid}` groups of `{group}` lanes with `{shared}` bytes in `{stream}`.
    pub launch: &'static str,
}

/// How a bundle is built with the vendor's tools. Words of command lines: `{compiler}`, `{arch}`, `{sdk}`, `{out}`, `{in}`, and `{flags}`,
/// which is [`Build::flags`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Build {
    /// The compiler's program, and the folder of the SDK that it is looked for in.
    pub compiler: &'static str,
    /// Variables that may name the SDK's folder, in order.
    pub variables: &'static [&'static str],
    /// Where the SDK usually is.
    pub folder: &'static str,
    /// Folders of the SDK that hold the compiler.
    pub bins: &'static [&'static str],
    /// Versions with which the command lines are known to work, as people write them, with what says so.
    pub known: &'static str,
    /// Lowest major version that `--version` may print.
    pub least: Option<u32>,
    /// Options that say nothing of the chip: the language, what is optimized, where headers of the bundle lie.
    pub flags: &'static str,
    /// From C++ to an object.
    pub compile: &'static str,
    /// From objects to the library.
    pub link: &'static str,
    /// Where the SDK comes from.
    pub remedy: &'static str,
}

/// How clang makes a code object of the kernels where there is no SDK, and what loads it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    /// From C++ to the code object: `{compiler}`, `{arch}`, `{in}`, `{out}`.
    pub compile: &'static str,
    /// Lowest major version of clang.
    pub least: u32,
    /// Files of `src`, by name: the headers that clang finds in `src/clang`, and the driver, `pw_module.c`, which carries
    /// `build/kernels.hsaco`.
    pub files: &'static [(&'static str, &'static str)],
}

/// A dialect of C++ for lanes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// What it is called where bundles say which they are in.
    pub name: &'static str,
    /// Suffix of source files.
    pub suffix: &'static str,
    /// Headers of every source file.
    pub headers: &'static [&'static str],
    /// When kernels say how many lanes their groups have.
    pub bounds: Bounds,
    /// Exchanges of 32-bit values of `{value}` by `{by}` in segments of `{width}` lanes: xor, up, down, from a lane.
    pub shuffles: [Option<&'static str>; 4],
    /// All lanes of a group meet.
    pub barrier: &'static str,
    /// All lanes of a warp meet, and see what each other wrote to the group's memory.
    pub warp_barrier: Option<&'static str>,
    /// Conversions of f16, where they are functions.
    pub halves: Option<Halves>,
    /// Asynchronous copies.
    pub copies: Option<Copies>,
    /// Types of operands of matrix builtins: a name and its declaration, with `{name}` where that stands.
    pub types: &'static [(&'static str, &'static str)],
    /// Matrix builtins.
    pub products: &'static [Builtin],
    /// The runtime.
    pub api: Api,
    /// The compiler.
    pub build: Build,
    /// Code objects, where LLVM has the chip.
    pub object: Option<Object>,
}

/// Names that most runtimes of the family share.
pub const API: Api = Api {
    prefix: "cuda",
    error: "$Error_t",
    success: "$Success",
    no_memory: "$ErrorMemoryAllocation",
    stream: "$Stream_t",
    text: "$GetErrorString({error})",
    last: "$GetLastError()",
    count: "$GetDeviceCount({to})",
    choose: "$SetDevice({device})",
    memory: "$MemGetInfo({free}, {total})",
    take: "$Malloc({to}, {bytes})",
    give: "$Free({address})",
    open: "$StreamCreate({to})",
    close: "$StreamDestroy({stream})",
    wait: "$StreamSynchronize({stream})",
    copy: "$MemcpyAsync({to}, {from}, {bytes}, {kind}, {stream})",
    kinds: ["$MemcpyHostToDevice", "$MemcpyDeviceToHost", "$MemcpyDeviceToDevice"],
    dynamic: None,
    launch: "{kernel}<<<{grid}, {group}, {shared}, {stream}>>>({args})",
};

/// What compilers that are made of clang take. Products and sums are not contracted: Kernel IR says what is rounded once. Loops that are to be
/// unrolled say so; unrolling others makes AMD's back end spill.
pub const BUILD: Build = Build {
    compiler: "",
    variables: &[],
    folder: "",
    bins: &["bin"],
    known: "",
    least: None,
    flags: "-std=c++17 -O3 -ffp-contract=off -fno-unroll-loops -fPIC -fvisibility=hidden -Isrc -Isrc/runtime -c {in} -o {out}",
    compile: "",
    link: "",
    remedy: "",
};

/// Operands of matrix builtins as clang has vectors, by the names that [`Builtin::operands`] calls them.
pub const VECTORS: &[(&str, &str)] = &[
    ("pw_half4", "_Float16 {name} __attribute__((ext_vector_type(4)))"),
    ("pw_short4", "short {name} __attribute__((ext_vector_type(4)))"),
    ("pw_float4", "float {name} __attribute__((ext_vector_type(4)))"),
    ("pw_char8", "signed char {name} __attribute__((ext_vector_type(8)))"),
    ("pw_int2", "int {name} __attribute__((ext_vector_type(2)))"),
    ("pw_int4", "int {name} __attribute__((ext_vector_type(4)))"),
];

/// What lets kernels ask for more of the group's memory than they have without asking, where it is CUDA's call.
pub const ASK_DYNAMIC: &str = "$FuncSetAttribute({kernel}, $FuncAttributeMaxDynamicSharedMemorySize, {bytes})";

/// Conversions of f16 by the names of `cuda_fp16.h`.
pub const HALVES: Halves =
    Halves { headers: &[], widen: "__half2float(__ushort_as_half({bits}))", round: "__half_as_ushort(__float2half_rn({value}))" };

/// Exchanges with a mask of that literal.
#[macro_export]
#[doc(hidden)]
macro_rules! shuffles_with_mask {
    ($mask:literal) => {
        [
            Some(concat!("__shfl_xor_sync(", $mask, ", {value}, {by}, {width})")),
            Some(concat!("__shfl_up_sync(", $mask, ", {value}, {by}, {width})")),
            Some(concat!("__shfl_down_sync(", $mask, ", {value}, {by}, {width})")),
            Some(concat!("__shfl_sync(", $mask, ", {value}, {by}, {width})")),
        ]
    };
}

/// What most dialects of the family have alike; names, exchanges and command lines are the vendor's.
pub const LANES: Dialect = Dialect {
    name: "",
    suffix: "cu",
    headers: &[],
    bounds: Bounds::Always,
    shuffles: [None; 4],
    barrier: "__syncthreads()",
    warp_barrier: None,
    halves: None,
    copies: None,
    types: VECTORS,
    products: &[],
    api: API,
    build: BUILD,
    object: None,
};

impl Api {
    /// A template with the prefix in.
    pub fn name(&self, template: &str) -> String {
        template.replace('$', self.prefix)
    }
    /// A call with its words in.
    pub fn call(&self, template: &str, words: &[(&str, &str)]) -> String {
        fill(&self.name(template), words)
    }
}

/// A template with its words in. What is put in is not looked through again.
pub fn fill(template: &str, words: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let found = from.find('}').and_then(|end| {
            let word = from.get(1..end)?;
            words.iter().find(|(w, _)| *w == word).map(|(_, text)| (*text, end + 1))
        });
        match found {
            Some((text, end)) => {
                out.push_str(text);
                rest = from.get(end..).unwrap_or_default();
            }
            None => {
                out.push('{');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_take_their_words_once() {
        assert_eq!(fill("f({a}, {b})", &[("a", "{b}"), ("b", "1")]), "f({b}, 1)");
        assert_eq!(fill("if (x) { y{z} }", &[("z", "[0]")]), "if (x) { y[0] }");
        assert_eq!(
            API.call(API.copy, &[("to", "d"), ("from", "s"), ("bytes", "n"), ("kind", "k"), ("stream", "q")]),
            "cudaMemcpyAsync(d, s, n, k, q)"
        );
    }
}
