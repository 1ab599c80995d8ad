// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask new-target NAME`: a folder for a chip whose kernels are C++ for its vendor's compiler, from a template that builds and runs.

use std::path::Path;
use std::{fs, io};

use crate::{Outcome, root};

const TEMPLATE: &str = r#"// SPDX-License-Identifier: Apache-2.0 OR MIT
//! TITLE through C++ for its vendor's compiler. docs/ADDING_A_TARGET.md goes through every line.

use crate::cfamily::{API, Api, BUILD, Build, CHIP, Chip, Dialect, LANES, limits};
use crate::shuffles_with_mask;
use crate::target::TargetSpec;

const COMPILER: Build = Build {
    compiler: "nvcc",
    variables: &["CUDA_HOME"],
    folder: "/usr/local/cuda",
    known: "none yet",
    flags: "-std=c++17 -O3 -fmad=false -Xcompiler -fPIC,-fvisibility=hidden -Isrc -Isrc/runtime -c {in} -o {out}",
    compile: "{compiler} -arch={arch} {flags}",
    link: "{compiler} -arch={arch} -shared -o {out} {in}",
    remedy: "the vendor's SDK has it",
    ..BUILD
};

/// Conversions of f16 and asynchronous copies are left out until a source says how they are spelled: rules and schedules do without.
static DIALECT: Dialect = Dialect {
    name: "cuda",
    suffix: "cu",
    headers: &["cuda_runtime.h"],
    shuffles: shuffles_with_mask!("0xffffffffu"),
    api: Api { prefix: "cuda", ..API },
    build: COMPILER,
    ..LANES
};

pub(crate) static TARGET: Chip = Chip {
    spec: TargetSpec {
        id: "ID",
        vendor: "VENDOR",
        about: "TITLE, as C++",
        cpus: &["sm_80"],
        sources: &["guessed: everything; write here where each number is from"],
        ..CHIP.spec
    },
    dialect: &DIALECT,
    forms: &limits(32, 1024, [48 << 10, 48 << 10]),
    ..CHIP
};
"#;

/// Makes the folder and adds its lines.
pub fn run(rest: &[String]) -> Outcome {
    let [name] = rest else { return Err("give a name: cargo xtask new-target NAME".into()) };
    add(&root(), name)?;
    println!("targets/src/{}/mod.rs is there and registered; docs/ADDING_A_TARGET.md says what to fill in", module(name));
    Ok(())
}

fn module(name: &str) -> String {
    name.replace('-', "_")
}

/// Adds a target to the repository at `root`.
pub fn add(root: &Path, name: &str) -> Outcome {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) || name.ends_with('-') {
        return Err(format!("`{name}` is no name of a target: small letters, digits and dashes, as `vendor-chip`"));
    }
    let module = module(name);
    let targets = root.join("targets/src");
    let folder = targets.join(&module);
    if folder.exists() || targets.join(format!("{module}.rs")).exists() {
        return Err(format!("targets/src/{module} exists"));
    }
    let fail = |what: &str| {
        let what = what.to_string();
        move |e: io::Error| format!("{what}: {e}")
    };
    let edit = |file: &str, change: &dyn Fn(&str) -> Option<String>| -> Outcome {
        let path = targets.join(file);
        let text = fs::read_to_string(&path).map_err(fail(file))?;
        let changed = change(&text).ok_or_else(|| format!("targets/src/{file} has no place for a target"))?;
        fs::write(&path, changed).map_err(fail(file))
    };
    edit("lib.rs", &|text| {
        // Before the first module that follows it by name.
        let after = |l: &str| l.split_once("mod ").and_then(|(_, m)| m.strip_suffix(';')).is_some_and(|m| m > module.as_str());
        let line = text.lines().find(|l| (l.starts_with("mod ") || l.starts_with("pub mod ")) && after(l))?;
        let gate = "#[cfg(feature = \"mlir\")]\n";
        let at = text.find(&format!("\n{line}\n"))? + 1;
        let at = if text[..at].ends_with(gate) { at - gate.len() } else { at };
        Some(format!("{}mod {module};\n{}", &text[..at], &text[at..]))
    })?;
    edit("target.rs", &|text| {
        let at = text.find("const OWN: &[&dyn Target] = &[")?;
        let end = at + text[at..].find("\n];")? + 1;
        Some(format!("{}    &crate::{module}::TARGET,\n{}", &text[..end], &text[end..]))
    })?;
    let vendor = name.split('-').next().unwrap_or(name);
    let text = TEMPLATE.replace("TITLE", name).replace("VENDOR", vendor).replace("ID", name);
    fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("mod.rs"), text)).map_err(fail(&module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_gets_its_folder_and_its_lines() {
        let at = std::env::temp_dir().join(format!("portwright-new-target-{}", std::process::id()));
        let src = at.join("targets/src");
        fs::create_dir_all(&src).unwrap();
        for file in ["lib.rs", "target.rs"] {
            fs::copy(root().join("targets/src").join(file), src.join(file)).unwrap();
        }
        add(&at, "demo-one").unwrap();
        let [lib, registry] = ["lib.rs", "target.rs"].map(|f| fs::read_to_string(src.join(f)).unwrap());
        assert!(lib.contains("\nmod demo_one;\n") && registry.contains("    &crate::demo_one::TARGET,\n];"));
        let text = fs::read_to_string(src.join("demo_one/mod.rs")).unwrap();
        assert!(text.contains("id: \"demo-one\"") && text.lines().count() <= 300);
        assert!(add(&at, "demo-one").is_err() && add(&at, "Demo").is_err());
        fs::remove_dir_all(&at).unwrap();
    }
}
