// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rules about words that belong to one room: a model format in `frontend`, a chip in its own folder.

use crate::text::{numbered, without_comments, without_tests};
use crate::{Fault, File};
use std::collections::{BTreeMap, BTreeSet};

/// Words of the model format and of the wire it comes on.
const FORMAT_WORDS: [&str; 3] = ["onnx", "protobuf", "opset"];

/// Rooms whose code must not know where a graph came from. Their comments may, to name a source.
const FORMAT_FREE: [&str; 2] = ["ir", "passes"];
/// The table of diagnostic codes is one for all rooms, so it says what each of them may find.
const CODE_TABLE: &str = "ir/src/diag.rs";

/// Chips that are also the name of an instruction set: `runtime` compiles for it, `emu` and `tools` run its emulator.
const INSTRUCTION_SETS: [&str; 4] = ["x86_64", "aarch64", "riscv64", "loongarch64"];
const RUNS_INSTRUCTION_SETS: [&str; 4] = ["runtime", "emu", "tools", "xtask"];
/// Chips whose code `emu` executes itself, by the vendor's name of it, whose assembler `tools` pins, and which `xtask` has executed.
const EXECUTED: [&str; 1] = ["nvidia"];
const EXECUTES: [&str; 3] = ["emu", "tools", "xtask"];

/// The chips of the repository: folders of `targets/src` whose `mod.rs` is a target, in order.
pub fn chips(files: &[File]) -> BTreeSet<String> {
    let folder = |file: &File| -> Option<String> {
        let chip = file.path.strip_prefix("targets/src/")?.strip_suffix("/mod.rs")?;
        // A chip is a target with code of its own, or one that is data.
        let target = file.text.contains("impl Target for ") || file.text.contains(": Chip = ");
        (!chip.contains('/') && target).then(|| chip.to_string())
    };
    files.iter().filter_map(folder).collect()
}

/// Vendors of the chips that are data, with the folders of their chips: the first word of what `vendor:` says there.
pub fn vendors(files: &[File]) -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files.iter().filter(|f| f.text.contains(": Chip = ")) {
        let Some(folder) = file.path.strip_prefix("targets/src/").and_then(|p| p.strip_suffix("/mod.rs")) else { continue };
        for said in file.text.split("vendor: \"").skip(1) {
            let word = said.split([' ', '"']).next().unwrap_or_default().to_lowercase();
            out.entry(word).or_default().insert(folder.to_string());
        }
    }
    // What is executed here is named where it is executed.
    out.retain(|word, _| !EXECUTED.contains(&word.as_str()));
    out
}

/// Applies the rules of this module to `file`.
pub fn check(file: &File, chips: &BTreeSet<String>, vendors: &BTreeMap<String, BTreeSet<String>>, faults: &mut Vec<Fault>) {
    format_words(file, faults);
    for chip in chips {
        chip_name(file, chip, faults);
    }
    for (vendor, folders) in vendors {
        let own = folders.iter().any(|f| file.path.starts_with(&format!("targets/src/{f}/")));
        // One that is a chip's folder was looked for above; a vendor may make CPUs too.
        if !own && !chips.contains(vendor) && !INSTRUCTION_SETS.iter().any(|i| file.path.starts_with(&format!("targets/src/{i}/"))) {
            chip_name(file, vendor, faults);
        }
    }
}

fn format_words(file: &File, faults: &mut Vec<Fault>) {
    if !FORMAT_FREE.contains(&file.room()) || !file.is_source() || file.is_test() || file.path == CODE_TABLE {
        return;
    }
    let code = without_comments(without_tests(file)).to_lowercase();
    for (number, line) in numbered(&code) {
        for word in FORMAT_WORDS {
            if line.contains(word) {
                let message = format!("`{word}` in code: this room does not know where a graph came from");
                faults.push(Fault::new(&file.path, number, "format-word", message));
            }
        }
    }
}

/// A chip is named by its folder, by the registry, and by nothing else that is compiled.
fn chip_name(file: &File, chip: &str, faults: &mut Vec<Fault>) {
    // A vendor may have a folder for each way to its chips.
    let own = ["/", ".", "_"].iter().any(|end| file.path.starts_with(&format!("targets/src/{chip}{end}")));
    let registry = matches!(file.path.as_str(), "targets/src/lib.rs" | "targets/src/target.rs");
    let prose = matches!(file.room(), "docs" | "bench" | "models" | ".ci") || file.extension() == "md";
    let data = !file.is_source() && file.extension() != "toml";
    let instruction_set = INSTRUCTION_SETS.contains(&chip) && RUNS_INSTRUCTION_SETS.contains(&file.room());
    let executed = EXECUTED.contains(&chip) && EXECUTES.contains(&file.room());
    if own || registry || prose || data || instruction_set || executed || file.is_test() || file.path == "setup" {
        return;
    }
    for (number, line) in numbered(without_tests(file)) {
        if mentions(line, chip) {
            let message = format!("names the chip `{chip}`: only targets/src/{chip}/ and the registry may");
            faults.push(Fault::new(&file.path, number, "chip-name", message));
        }
    }
}

/// Whether `line` has the chip's name in any spelling (`x86_64`, `x86-64`, `X86-64`), other than as the machine that this
/// code is compiled for (`target_arch = "..."`, `std::arch::...`).
fn mentions(line: &str, chip: &str) -> bool {
    let name = chip.replace('_', "-");
    let folded = line.to_lowercase().replace('_', "-");
    folded.match_indices(&name).any(|(at, _)| {
        let (before, after) = (&folded[..at], &folded[at + name.len()..]);
        let bounded = !before.ends_with(|c: char| c.is_alphanumeric()) && !after.starts_with(|c: char| c.is_alphanumeric());
        let compiled_for = before.ends_with("target-arch = \"") || before.ends_with("arch::");
        bounded && !compiled_for
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "// SPDX-License-Identifier: Apache-2.0 OR MIT\n";

    fn faults(path: &str, body: &str) -> Vec<&'static str> {
        let chips = chips(&[
            File::new("targets/src/loongarch64/mod.rs", "impl Target for LoongArch64 {"),
            File::new("targets/src/x86_64/mod.rs", "impl Target for X86_64 {"),
            File::new("targets/src/moore_mp31/mod.rs", "impl Target for Mp31 {"),
            File::new("targets/src/metax/mod.rs", "pub(crate) static C500: Chip = Chip {"),
            File::new("targets/src/mlir/mod.rs", "pub fn emit() {}"),
        ]);
        assert_eq!(chips.len(), 4);
        let vendors = vendors(&[File::new("targets/src/acme_dcu/mod.rs", "static A: Chip = Chip { vendor: \"Acme Chips\" };")]);
        let mut faults = Vec::new();
        check(&File::new(path, format!("{HEAD}{body}")), &chips, &vendors, &mut faults);
        faults.into_iter().map(|f| f.rule).collect()
    }

    #[test]
    fn a_model_format_in_a_room_below_is_caught() {
        assert_eq!(faults("ir/src/a.rs", "struct OnnxNode;\n"), ["format-word"]);
        assert_eq!(faults("passes/src/a.rs", "let a = \"ai.onnx\";\n"), ["format-word"]);
        assert_eq!(faults("passes/src/a.rs", "use protobuf::Message;\n"), ["format-word"]);
        assert!(faults("ir/src/a.rs", "/// Packed as ONNX packs it.\nstruct A;\n").is_empty());
        assert!(faults("frontend/src/a.rs", "struct OnnxNode;\n").is_empty());
        assert!(faults("runtime/src/a.rs", "let a = \"opset\";\n").is_empty());
    }

    #[test]
    fn a_chip_outside_its_folder_is_caught() {
        assert_eq!(faults("passes/src/a.rs", "if target == \"moore-mp31\" {}\n"), ["chip-name"]);
        assert_eq!(faults("targets/src/x86_64/emit.rs", "fn moore_mp31() {}\n"), ["chip-name"]);
        assert_eq!(faults("targets/src/mlir/emit.rs", "match arch { \"loongarch64\" => {} }\n"), ["chip-name"]);
        assert_eq!(faults("cli/Cargo.toml", "moore_mp31 = []\n"), ["chip-name"]);
        assert_eq!(faults("targets/src/cfamily/emit.rs", "// MetaX\n"), ["chip-name"]);
        assert_eq!(faults("emu/src/a.rs", "// moore-mp31\n"), ["chip-name"]);
        assert_eq!(faults("targets/src/cfamily/emit.rs", "// as Acme has it\n"), ["chip-name"]);
        assert!(faults("targets/src/acme_dcu/mod.rs", "id: \"acme-a1\"\n").is_empty());
    }

    #[test]
    fn a_chip_is_named_where_it_lives() {
        assert!(faults("targets/src/moore_mp31/mod.rs", "id: \"moore-mp31\"\n").is_empty());
        assert!(faults("targets/src/lib.rs", "moore_mp31::TARGET,\n").is_empty());
        assert!(faults("docs/targets.md", "moore-mp31\n").is_empty());
        assert!(faults("tests/src/lib.rs", "moore-mp31\n").is_empty());
        assert!(faults("runtime/build.rs", "\"loongarch64-unknown-linux-gnu\"\n").is_empty());
        assert!(faults("cli/src/a.rs", "#[cfg(target_arch = \"x86_64\")]\nuse std::arch::x86_64::*;\n").is_empty());
    }
}
