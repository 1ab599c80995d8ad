// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CPU features that a bundle can require: the one table is `c/features.def`, which the runtime tests at load.

use std::sync::OnceLock;

/// The instruction set of a bundle's code.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Arch {
    /// 64-bit x86.
    X86_64 = 1,
    /// 64-bit Arm.
    Aarch64 = 2,
    /// 64-bit RISC-V.
    Riscv64 = 3,
    /// 64-bit LoongArch.
    Loongarch64 = 4,
}

/// Triples of hosts, in the order of [`Arch::ALL`].
pub const TRIPLES: [&str; 4] = ["x86_64-linux-gnu", "aarch64-linux-gnu", "riscv64-linux-gnu", "loongarch64-linux-gnu"];

impl Arch {
    /// Every architecture that the runtime knows.
    pub const ALL: [Arch; 4] = [Arch::X86_64, Arch::Aarch64, Arch::Riscv64, Arch::Loongarch64];

    /// The name that begins its target triples.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::Riscv64 => "riscv64",
            Arch::Loongarch64 => "loongarch64",
        }
    }

    /// The architecture of a target triple such as `x86_64-linux-gnu`.
    pub fn of_triple(triple: &str) -> Option<Arch> {
        let first = triple.split('-').next()?;
        Arch::ALL.into_iter().find(|a| a.name() == first)
    }

    /// The architecture of a library's code, by the first bytes of its ELF file; `None` for another one, or another kind of file.
    pub fn of_elf(head: &[u8]) -> Option<Arch> {
        // e_machine of ELF-64: EM_X86_64, EM_AARCH64, EM_RISCV, EM_LOONGARCH.
        let machines = [(62, Arch::X86_64), (183, Arch::Aarch64), (243, Arch::Riscv64), (258, Arch::Loongarch64)];
        let &[low, high] = head.starts_with(b"\x7fELF\x02\x01").then(|| head.get(18..20)).flatten()? else { return None };
        machines.iter().find(|m| m.0 == u16::from_le_bytes([low, high])).map(|m| m.1)
    }

    /// The architecture with that number in a description blob.
    pub fn from_code(code: u32) -> Option<Arch> {
        Arch::ALL.into_iter().find(|a| *a as u32 == code)
    }

    fn macro_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "PW_X86(",
            Arch::Aarch64 => "PW_A64(",
            Arch::Riscv64 => "PW_RV(",
            Arch::Loongarch64 => "PW_LA(",
        }
    }
}

type Table = Vec<(Arch, u32, &'static str)>;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let text = include_str!("../c/features.def");
        let mut out = Table::new();
        for line in text.lines() {
            for arch in Arch::ALL {
                let Some(rest) = line.strip_prefix(arch.macro_name()) else { continue };
                let mut parts = rest.split(',').map(str::trim);
                if let (Some(bit), Some(name)) = (parts.next().and_then(|b| b.parse().ok()), parts.next()) {
                    out.push((arch, bit, name.trim_matches('"')));
                }
            }
        }
        out
    })
}

/// Bit number of the feature with LLVM's name `name`; `None` when the runtime cannot test for it at load, so that code must
/// not use it.
pub fn bit(arch: Arch, name: &str) -> Option<u32> {
    table().iter().find(|(a, _, n)| *a == arch && *n == name).map(|(_, b, _)| *b)
}

/// Whether LLVM knows a feature too: lengths of Arm's vectors are ours, and attributes of functions to LLVM.
pub fn of_llvm(arch: Arch, name: &str) -> bool {
    arch != Arch::Aarch64 || !name.starts_with("vl")
}

/// Name of the feature with that bit number.
pub fn name(arch: Arch, bit: u32) -> Option<&'static str> {
    table().iter().find(|(a, b, _)| *a == arch && *b == bit).map(|(_, _, n)| *n)
}

/// All features of an architecture that the runtime can test for, by bit number.
pub fn all(arch: Arch) -> impl Iterator<Item = (u32, &'static str)> {
    table().iter().filter(move |(a, _, _)| *a == arch).map(|(_, b, n)| (*b, *n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_whole_and_unambiguous() {
        for arch in Arch::ALL {
            let bits: Vec<u32> = all(arch).map(|(b, _)| b).collect();
            assert!(bits.len() > 10, "{arch:?} has too few features");
            assert!(bits.iter().enumerate().all(|(i, b)| *b == i as u32), "{arch:?}: bits are not 0, 1, 2, ...");
            for (b, n) in all(arch) {
                assert_eq!(bit(arch, n), Some(b));
                assert_eq!(name(arch, b), Some(n));
            }
        }
        assert_eq!(bit(Arch::X86_64, "avx2"), Some(16));
        assert_eq!(bit(Arch::Loongarch64, "lasx"), Some(4));
        assert_eq!(bit(Arch::X86_64, "lasx"), None);
        assert_eq!(Arch::of_triple("loongarch64-linux-gnu"), Some(Arch::Loongarch64));
        assert_eq!(Arch::of_triple("sparc-sun-solaris"), None);
        let head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\xf3\0";
        assert_eq!((Arch::of_elf(head), Arch::of_elf(&head[..19]), Arch::of_elf(b"MZ")), (Some(Arch::Riscv64), None, None));
    }
}
