// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The x86 machine at hand, from its CPUID bits: names lie in virtual machines, bits do not.

/// Features by LLVM's names, bytes of a core's first- and second-level data cache; `None` on another architecture.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn detect() -> Option<(Vec<String>, [u32; 2])> {
    None
}

/// Name, leaf, subleaf, register (eax to edx), bit, and the state that the system must save: 0 none, 1 ymm, 2 zmm, 3 tiles.
/// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A, CPUID.
#[cfg(target_arch = "x86_64")]
const BITS: &[(&str, u32, u32, usize, u32, usize)] = &[
    ("sse3", 1, 0, 2, 0, 0),
    ("ssse3", 1, 0, 2, 9, 0),
    ("fma", 1, 0, 2, 12, 1),
    ("cx16", 1, 0, 2, 13, 0),
    ("sse4.1", 1, 0, 2, 19, 0),
    ("sse4.2", 1, 0, 2, 20, 0),
    ("movbe", 1, 0, 2, 22, 0),
    ("popcnt", 1, 0, 2, 23, 0),
    ("xsave", 1, 0, 2, 27, 0),
    ("avx", 1, 0, 2, 28, 1),
    ("f16c", 1, 0, 2, 29, 1),
    ("bmi", 7, 0, 1, 3, 0),
    ("avx2", 7, 0, 1, 5, 1),
    ("bmi2", 7, 0, 1, 8, 0),
    ("avx512f", 7, 0, 1, 16, 2),
    ("avx512dq", 7, 0, 1, 17, 2),
    ("avx512ifma", 7, 0, 1, 21, 2),
    ("avx512cd", 7, 0, 1, 28, 2),
    ("avx512bw", 7, 0, 1, 30, 2),
    ("avx512vl", 7, 0, 1, 31, 2),
    ("avx512vbmi", 7, 0, 2, 1, 2),
    ("avx512vbmi2", 7, 0, 2, 6, 2),
    ("gfni", 7, 0, 2, 8, 0),
    ("vaes", 7, 0, 2, 9, 1),
    ("vpclmulqdq", 7, 0, 2, 10, 1),
    ("avx512vnni", 7, 0, 2, 11, 2),
    ("avx512bitalg", 7, 0, 2, 12, 2),
    ("avx512vpopcntdq", 7, 0, 2, 14, 2),
    ("amx-bf16", 7, 0, 3, 22, 3),
    ("avx512fp16", 7, 0, 3, 23, 2),
    ("amx-tile", 7, 0, 3, 24, 3),
    ("amx-int8", 7, 0, 3, 25, 3),
    ("avxvnni", 7, 1, 0, 4, 1),
    ("avx512bf16", 7, 1, 0, 5, 2),
    ("sahf", 0x8000_0001, 0, 2, 0, 0),
    ("lzcnt", 0x8000_0001, 0, 2, 5, 0),
];

/// Features by LLVM's names, bytes of a core's first- and second-level data cache.
#[cfg(target_arch = "x86_64")]
pub(super) fn detect() -> Option<(Vec<String>, [u32; 2])> {
    use std::arch::x86_64::__cpuid_count;
    let leaf = |l: u32, s: u32| {
        let top = __cpuid_count(l & 0x8000_0000, 0).eax;
        if l > top {
            return [0u32; 4];
        }
        let r = __cpuid_count(l, s);
        [r.eax, r.ebx, r.ecx, r.edx]
    };
    let saved = if leaf(1, 0)[2] >> 27 & 1 == 1 { saved_state() } else { 0 };
    // Bits of XCR0: 1 and 2 are xmm and ymm; 5 to 7 are mask and zmm registers; 17 and 18 are tiles.
    let state = [0, 0x6, 0xe6, 0x6_00e6];
    let on = |b: &(&str, u32, u32, usize, u32, usize)| leaf(b.1, b.2)[b.3] >> b.4 & 1 == 1 && saved & state[b.5] == state[b.5];
    let set = BITS.iter().filter(|b| on(b)).map(|b| b.0.to_string()).collect();
    let (mut l1, mut l2) = (32u32 << 10, 256u32 << 10);
    // Intel lists caches in leaf 4, AMD in the same form in its own leaf, which is empty elsewhere.
    let list = if leaf(0x8000_001d, 0)[0] & 0x1f != 0 { 0x8000_001d } else { 4 };
    for i in 0..16 {
        let [a, b, c, _] = leaf(list, i);
        let (kind, level) = (a & 0x1f, a >> 5 & 7);
        let bytes =
            ((b >> 22) + 1).saturating_mul((b >> 12 & 0x3ff) + 1).saturating_mul((b & 0xfff) + 1).saturating_mul(c.saturating_add(1));
        match (kind, level) {
            (0, _) => break,
            (1 | 3, 1) => l1 = bytes,
            (1 | 3, 2) => l2 = bytes,
            _ => {}
        }
    }
    Some((set, [l1, l2]))
}

/// XCR0: which register states the system saves.
#[cfg(target_arch = "x86_64")]
fn saved_state() -> u64 {
    #[target_feature(enable = "xsave")]
    fn read() -> u64 {
        // SAFETY: XGETBV of register 0 exists wherever OSXSAVE is set.
        unsafe { std::arch::x86_64::_xgetbv(0) }
    }
    // SAFETY: the caller has seen OSXSAVE, which implies XSAVE.
    unsafe { read() }
}
