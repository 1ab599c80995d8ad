// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How many registers lanes want, read from the text of their code, and what the assembler is told of it.
//!
//! Of its own accord ptxas weighs spills against groups that run beside each other, and spills a few words to fit one more. `.minnctapersm` (PTX
//! ISA, 11.4.4) says that one group is enough; told that, it would write out loops and load ahead until no register is left, so loops of such
//! kernels say `nounroll` (11.5): what pays, schedules have written out. Kernels in which little lives are left to the assembler.

use std::collections::{BTreeSet, HashMap};

/// Words that a lane has room for, whatever the assembler weighs.
const ROOM: u32 = 24;

/// The text with a line for each kernel whose lanes want more registers than they would be given.
pub(super) fn eased(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut out = String::with_capacity(text.len() + 256);
    let mut kernel = false;
    let mut heads: BTreeSet<usize> = BTreeSet::new();
    for (i, line) in lines.iter().enumerate() {
        out.push_str(line);
        if heads.contains(&i) {
            out.push_str("\t.pragma \"nounroll\";\n");
        }
        kernel = (kernel || line.contains(".entry ")) && !line.starts_with('}');
        if kernel && line.starts_with(".reqntid ") {
            let body = &lines[i..];
            let end = body.iter().position(|l| l.starts_with('}')).unwrap_or(body.len());
            let (most, loops) = live(&body[..end]);
            if most > ROOM {
                out.push_str(".minnctapersm 1\n");
                heads.extend(loops.into_iter().map(|at| i + at));
            }
        }
    }
    out
}

/// First and last line on which a register stands.
type Range = (usize, usize);

/// Most words that live at once, and the lines on which loops begin.
fn live(body: &[&str]) -> (u32, Vec<usize>) {
    let mut words: HashMap<&str, u32> = HashMap::new();
    let mut labels: HashMap<&str, usize> = HashMap::new();
    let mut ranges: HashMap<&str, Range> = HashMap::new();
    let mut back: Vec<Range> = Vec::new();
    let mut branches: Vec<(usize, &str)> = Vec::new();
    for (i, line) in body.iter().enumerate() {
        let line = line.trim();
        if let Some(decl) = line.strip_prefix(".reg .") {
            // `.reg .b32 %r<12>;`
            let mut parts = decl.split_whitespace();
            if let (Some(ty), Some(name)) = (parts.next(), parts.next().and_then(|n| n.split('<').next())) {
                let bits: u32 = ty.trim_start_matches(|c: char| c.is_alphabetic()).parse().unwrap_or(0);
                words.insert(name, bits.div_ceil(32));
            }
            continue;
        }
        if let Some(label) = line.strip_suffix(':') {
            labels.insert(label, i);
            continue;
        }
        if let Some((_, to)) = line.split_once("bra") {
            let to = to.trim_start_matches(".uni").trim().trim_end_matches(';');
            branches.push((i, to));
            back.extend(labels.get(to).map(|&at| (at, i)));
        }
        for name in names(line) {
            ranges.entry(name).and_modify(|r| r.1 = i).or_insert((i, i));
        }
    }
    back.sort_by_key(|loops| (loops.1, std::cmp::Reverse(loops.0)));
    let mut change = vec![0i64; body.len() + 1];
    for (name, (first, mut last)) in ranges {
        let n = i64::from(words.get(name.trim_end_matches(|c: char| c.is_ascii_digit())).copied().unwrap_or(0));
        // What was there before a loop and is read in it is there until its end; inner loops end first.
        for (from, to) in &back {
            if first < *from && (*from..*to).contains(&last) {
                last = *to;
            }
        }
        change[first] += n;
        change[last + 1] -= n;
    }
    let (mut now, mut most) = (0, 0);
    for c in change {
        now += c;
        most = most.max(now);
    }
    let mut begins: BTreeSet<usize> = BTreeSet::new();
    for &(from, to) in &back {
        begins.insert(from);
        // LLVM may lay a loop out with its first block in the middle, to which what is before it jumps.
        let entered = branches.iter().filter(|(i, _)| !(from..=to).contains(i)).filter_map(|(_, label)| labels.get(label));
        begins.extend(entered.filter(|at| (from..=to).contains(at)));
    }
    (u32::try_from(most).unwrap_or(0), begins.into_iter().collect())
}

/// Registers that a line names.
fn names(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices('%').filter_map(move |(at, _)| {
        let rest = &line[at..];
        let end = rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(rest.len(), |n| n + 1);
        // `%tid.x` is a register of the machine.
        (!rest[end..].starts_with('.')).then(|| &rest[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: &str = "\t.reg .b32 %r<9>;\n\t.reg .b64 %rd<3>;\n\t.reg .pred %p<2>;\n\tmov.u32 %r1, %tid.x;\n\tld.global.b64 %rd1, [%rd2];\n$L:\n\
        \tadd.s64 %rd1, %rd1, 1;\n\tsetp.lt.u64 %p1, %rd1, %rd2;\n\t@%p1 bra $L;\n\tst.global.b32 [%rd2], %r1;\n";

    #[test]
    fn what_lives_through_a_loop_is_counted_there() {
        let body: Vec<&str> = LOOP.split_inclusive('\n').collect();
        assert_eq!(live(&body), (5, vec![5]));
        assert_eq!(live(&[]), (0, vec![]));
        assert_eq!(names("mov.b32 {%r1, %rs2}, %ctaid.x, %r3;").collect::<Vec<_>>(), ["%r1", "%rs2", "%r3"]);
    }

    #[test]
    fn a_loop_begins_where_it_is_entered() {
        let text =
            "\tbra.uni $B;\n$A:\n\tadd.s64 %rd1, %rd1, 1;\n@%p1 bra $B;\n\tbra $C;\n$B:\n\t@%p2 bra $A;\n\tbra.uni $A;\n$C:\n\tret;\n";
        let body: Vec<&str> = text.split_inclusive('\n').collect();
        assert_eq!(live(&body).1, [1, 5]);
    }

    #[test]
    fn kernels_that_want_much_say_that_one_group_is_enough() {
        let kernel = |values: usize| {
            let defs: String = (0..values).map(|i| format!("\tmov.b32 %r{i}, 0;\n")).collect();
            let uses: String = (0..values).map(|i| format!("\tst.b32 [%rd1], %r{i};\n")).collect();
            format!(".visible .entry k(\n)\n.reqntid 128\n{{\n\t.reg .b32 %r<999>;\n{defs}$L:\n{uses}\tbra $L;\n}}\n")
        };
        let (few, many) = (kernel(ROOM as usize), kernel(ROOM as usize + 1));
        assert_eq!(eased(&few), few);
        let told = many.replace("128\n{", "128\n.minnctapersm 1\n{").replace("$L:\n", "$L:\n\t.pragma \"nounroll\";\n");
        assert_eq!(eased(&(few.clone() + &many)), few + &told);
        assert_eq!(eased(""), "");
        assert_eq!(eased(".reqntid 4096\n"), ".reqntid 4096\n");
    }
}
