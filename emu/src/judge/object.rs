// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a code object of AMD's family says of its kernels: the note `AMDGPU`, type 32, whose content is MessagePack (LLVM's AMDGPU usage guide,
//! "Code Object V3 Metadata").

/// What a kernel takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Name.
    pub name: String,
    /// Registers of a lane.
    pub registers: u64,
    /// Registers of a warp.
    pub scalars: u64,
    /// Bytes of the group's memory without what launches ask for.
    pub shared: u64,
    /// Bytes of a lane's stack.
    pub stack: u64,
    /// Registers of lanes and of warps that were put into memory because there are no more.
    pub spills: u64,
    /// Lanes of a warp.
    pub lanes: u64,
    /// Lanes of a group, at most.
    pub group: u64,
}

/// The kernels of a code object, in its order. `None` where it is none.
pub fn resources(elf: &[u8]) -> Option<Vec<Resources>> {
    let note = note(elf)?;
    let (value, _) = Value::read(note, 0)?;
    let Value::Map(top) = &value else { return None };
    let Value::List(kernels) = &top.iter().find(|(k, _)| k == "amdhsa.kernels")?.1 else { return None };
    kernels.iter().map(kernel).collect()
}

fn kernel(v: &Value) -> Option<Resources> {
    let Value::Map(map) = v else { return None };
    let field = |name: &str| map.iter().find(|(k, _)| k == name).map(|(_, v)| v);
    let number = |name: &str| match field(name) {
        Some(Value::Number(n)) => *n,
        _ => 0,
    };
    let Some(Value::Text(name)) = field(".name") else { return None };
    Some(Resources {
        name: name.clone(),
        registers: number(".vgpr_count"),
        scalars: number(".sgpr_count"),
        shared: number(".group_segment_fixed_size"),
        stack: number(".private_segment_fixed_size"),
        spills: number(".vgpr_spill_count").saturating_add(number(".sgpr_spill_count")),
        lanes: number(".wavefront_size"),
        group: number(".max_flat_workgroup_size"),
    })
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let all = bytes.get(at..at.checked_add(N)?)?;
    Some(all.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
}

/// The content of the note, in a little-endian ELF of 64 bits.
fn note(elf: &[u8]) -> Option<&[u8]> {
    let start = usize::try_from(number::<8>(elf, 0x20)?).ok().filter(|_| elf.starts_with(b"\x7fELF\x02\x01"))?;
    let (size, count) = (number::<2>(elf, 0x36)?, number::<2>(elf, 0x38)?);
    for i in 0..count {
        let header = start.checked_add(usize::try_from(i.checked_mul(size)?).ok()?)?;
        // PT_NOTE
        if number::<4>(elf, header)? != 4 {
            continue;
        }
        let from = usize::try_from(number::<8>(elf, header.checked_add(8)?)?).ok()?;
        let bytes = usize::try_from(number::<8>(elf, header.checked_add(32)?)?).ok()?;
        let mut rest = elf.get(from..from.checked_add(bytes)?)?;
        while let (Some(name), Some(content), Some(kind)) = (number::<4>(rest, 0), number::<4>(rest, 4), number::<4>(rest, 8)) {
            let [name, content] = [usize::try_from(name).ok()?, usize::try_from(content).ok()?];
            let at = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
            let end = at.checked_add(content)?;
            if kind == 32 && rest.get(12..)?.starts_with(b"AMDGPU\0") {
                return rest.get(at..end);
            }
            rest = rest.get(end.checked_next_multiple_of(4)?..).unwrap_or_default();
        }
    }
    None
}

/// As much of MessagePack as the note has.
enum Value {
    Number(u64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    Other,
}

/// Lists and maps lie in each other at most so deep.
const DEPTH: u32 = 16;

impl Value {
    /// The first value, and what follows it.
    fn read(bytes: &[u8], depth: u32) -> Option<(Value, &[u8])> {
        let (&tag, rest) = bytes.split_first().filter(|_| depth < DEPTH)?;
        let big = |n: usize| -> Option<(u64, &[u8])> {
            let (number, rest) = rest.split_at_checked(n)?;
            Some((number.iter().fold(0, |n, b| n << 8 | u64::from(*b)), rest))
        };
        let text = |n: u64, rest| -> Option<(Value, &[u8])> {
            let (text, rest) = <[u8]>::split_at_checked(rest, usize::try_from(n).ok()?)?;
            Some((Value::Text(String::from_utf8_lossy(text).into_owned()), rest))
        };
        match tag {
            0..=0x7f => Some((Value::Number(tag.into()), rest)),
            0xe0..=0xff | 0xc0 | 0xc2 => Some((Value::Other, rest)),
            0xc3 => Some((Value::Number(1), rest)),
            0x80..=0x8f => Value::map(u64::from(tag & 15), rest, depth),
            0x90..=0x9f => Value::list(u64::from(tag & 15), rest, depth),
            0xa0..=0xbf => text(u64::from(tag & 31), rest),
            0xcc..=0xcf => big(1 << (tag - 0xcc)).map(|(n, rest)| (Value::Number(n), rest)),
            0xd0..=0xd3 => big(1 << (tag - 0xd0)).map(|(_, rest)| (Value::Other, rest)),
            0xd9..=0xdb => big(1 << (tag - 0xd9)).and_then(|(n, rest)| text(n, rest)),
            0xdc | 0xdd => big(2 << (tag - 0xdc)).and_then(|(n, rest)| Value::list(n, rest, depth)),
            0xde | 0xdf => big(2 << (tag - 0xde)).and_then(|(n, rest)| Value::map(n, rest, depth)),
            _ => None,
        }
    }
    fn list(n: u64, mut rest: &[u8], depth: u32) -> Option<(Value, &[u8])> {
        let mut out = Vec::new();
        for _ in 0..n {
            let (v, more) = Value::read(rest, depth + 1)?;
            out.push(v);
            rest = more;
        }
        Some((Value::List(out), rest))
    }
    fn map(n: u64, mut rest: &[u8], depth: u32) -> Option<(Value, &[u8])> {
        let mut out = Vec::new();
        for _ in 0..n {
            let (key, more) = Value::read(rest, depth + 1)?;
            let (v, more) = Value::read(more, depth + 1)?;
            if let Value::Text(key) = key {
                out.push((key, v));
            }
            rest = more;
        }
        Some((Value::Map(out), rest))
    }
}
