// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rules about `Cargo.toml` files: which room may depend on which, and what every crate says of itself.

use crate::{Fault, File};
use toml::{Table, Value};

/// What each room may depend on, of the rooms. A crate whose folder is not here may depend on none.
const DIRECTION: [(&str, &[&str]); 11] = [
    ("ir", &[]),
    ("frontend", &["ir"]),
    ("passes", &["ir"]),
    ("runtime", &[]),
    ("targets", &["ir", "passes", "runtime"]),
    ("emu", &["runtime"]),
    ("cli", &["ir", "frontend", "passes", "targets", "runtime", "emu"]),
    ("tests", &["ir", "frontend", "passes", "targets", "runtime", "emu", "cli", "tests/fuzz"]),
    ("tests/fuzz", &["ir", "frontend", "passes", "runtime"]),
    ("xtask", &["tests/tidy", "cli"]),
    ("tests/tidy", &[]),
];

/// What tests of a room may depend on besides: kernels are run where their machines are not at hand.
const IN_TESTS: [(&str, &str); 1] = [("targets", "emu")];

/// Crates that link MLIR and LLVM into whatever depends on them: one room pays for it.
const HEAVY: [&str; 3] = ["melior", "mlir-sys", "llvm-sys"];

/// Applies the rules of this module to all manifests among `files`.
pub fn check(files: &[File], faults: &mut Vec<Fault>) {
    let mut heavy: Vec<(&str, String)> = Vec::new();
    let workspace = files.iter().find(|file| file.path == "Cargo.toml").and_then(|file| file.text.parse::<Table>().ok());
    for file in files {
        let Some(folder) = file.path.strip_suffix("/Cargo.toml") else { continue };
        let table = match file.text.parse::<Table>() {
            Ok(table) => table,
            Err(error) => {
                faults.push(Fault::new(&file.path, 0, "manifest", error.message()));
                continue;
            }
        };
        // A workspace of its own stands outside: it depends on what it likes.
        if table.contains_key("workspace") {
            continue;
        }
        crate_fields(file, &table, faults);
        for (name, section) in dependencies(&table) {
            if let Some(room) = room_of(&name, workspace.as_ref())
                && !(section == DEV && IN_TESTS.contains(&(folder, room.as_str())))
            {
                direction(file, folder, &room, faults);
            }
            if HEAVY.contains(&name.as_str()) {
                heavy.push((&file.path, name));
            }
        }
    }
    for (path, name) in &heavy {
        if heavy.iter().any(|(other, _)| other != path) {
            faults.push(Fault::new(path, 0, "one-heavy-crate", format!("`{name}`: MLIR and LLVM are linked by one crate only")));
        }
    }
    lock_file(files, faults);
}

fn crate_fields(file: &File, table: &Table, faults: &mut Vec<Fault>) {
    let inherits = |section: &str, key: Option<&str>| {
        let value = table.get(section).and_then(|s| key.map_or(Some(s), |key| s.get(key)));
        value.and_then(|v| v.get("workspace")).and_then(Value::as_bool) == Some(true)
    };
    if !inherits("lints", None) {
        faults.push(Fault::new(&file.path, 0, "lints", "must have `[lints] workspace = true`"));
    }
    if !inherits("package", Some("license")) {
        faults.push(Fault::new(&file.path, 0, "license-field", "must have `license.workspace = true`"));
    }
}

const DEV: &str = "dev-dependencies";

/// Names of all dependencies of a manifest with their sections: normal, build, dev, and those under `target`.
fn dependencies(table: &Table) -> Vec<(String, &'static str)> {
    let sections = ["dependencies", "build-dependencies", DEV];
    let of = |table: &Table| -> Vec<(String, &'static str)> {
        let tables = sections.iter().filter_map(|section| Some((table.get(*section)?.as_table()?, *section)));
        let named = tables.flat_map(|(t, section)| {
            t.iter().map(move |(key, value)| (value.get("package").and_then(Value::as_str).unwrap_or(key.as_str()).to_string(), section))
        });
        named.collect()
    };
    let mut names = of(table);
    if let Some(targets) = table.get("target").and_then(Value::as_table) {
        names.extend(targets.values().filter_map(Value::as_table).flat_map(of));
    }
    names
}

/// The folder of the workspace crate that is depended on under `name`, by the workspace's own table of paths.
fn room_of(name: &str, workspace: Option<&Table>) -> Option<String> {
    let listed = workspace?.get("workspace")?.get("dependencies")?.get(name);
    listed?.get("path")?.as_str().map(str::to_string)
}

fn direction(file: &File, folder: &str, room: &str, faults: &mut Vec<Fault>) {
    let allowed = DIRECTION.iter().find(|(name, _)| *name == folder).map_or(&[][..], |(_, allowed)| allowed);
    if !allowed.contains(&room) {
        let message = if allowed.is_empty() {
            format!("`{folder}` depends on `{room}`; it may depend on no room")
        } else {
            format!("`{folder}` depends on `{room}`; it may depend on {}", allowed.join(", "))
        };
        faults.push(Fault::new(&file.path, 0, "room-direction", message));
    }
}

fn lock_file(files: &[File], faults: &mut Vec<Fault>) {
    if !files.iter().any(|file| file.path == "Cargo.lock") {
        faults.push(Fault::new("Cargo.lock", 0, "lock-file", "must be committed"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace.dependencies]\nportwright-ir = { path = \"ir\" }\nportwright-passes = { path = \"passes\" }\n\
                        portwright-frontend = { path = \"frontend\" }\nportwright-runtime = { path = \"runtime\" }\nportwright-emu = { path = \"emu\" }\n";
    const FIELDS: &str = "[package]\nlicense.workspace = true\n[lints]\nworkspace = true\n";

    fn faults(manifests: &[(&str, &str)]) -> Vec<&'static str> {
        let mut files = vec![File::new("Cargo.toml", ROOT), File::new("Cargo.lock", "")];
        files.extend(manifests.iter().map(|(path, text)| File::new(*path, *text)));
        let mut faults = Vec::new();
        check(&files, &mut faults);
        faults.into_iter().map(|f| f.rule).collect()
    }

    fn with(dependencies: &str) -> String {
        format!("{FIELDS}{dependencies}")
    }

    #[test]
    fn a_dependency_against_the_direction_is_caught() {
        let up = with("[dependencies]\nportwright-passes.workspace = true\n");
        assert_eq!(faults(&[("ir/Cargo.toml", &up)]), ["room-direction"]);
        assert_eq!(faults(&[("frontend/Cargo.toml", &up)]), ["room-direction"]);
        assert_eq!(faults(&[("emu/Cargo.toml", &up)]), ["room-direction"]);
        assert!(faults(&[("targets/Cargo.toml", &up)]).is_empty());
        let dev = with("[dev-dependencies]\nportwright-frontend = { workspace = true }\n");
        assert_eq!(faults(&[("passes/Cargo.toml", &dev)]), ["room-direction"]);
        let under_target = with("[target.'cfg(unix)'.dependencies]\nportwright-ir.workspace = true\n");
        assert_eq!(faults(&[("runtime/Cargo.toml", &under_target)]), ["room-direction"]);
        let run = "emu = { workspace = true, package = \"portwright-emu\" }\n";
        assert!(faults(&[("targets/Cargo.toml", &with(&format!("[dev-dependencies]\n{run}")))]).is_empty());
        assert_eq!(faults(&[("targets/Cargo.toml", &with(&format!("[dependencies]\n{run}")))]), ["room-direction"]);
        assert_eq!(faults(&[("passes/Cargo.toml", &with(&format!("[dev-dependencies]\n{run}")))]), ["room-direction"]);
        let renamed = with("[dependencies]\nhouse = { package = \"portwright-ir\", workspace = true }\n");
        assert_eq!(faults(&[("emu/Cargo.toml", &renamed)]), ["room-direction"]);
        assert_eq!(faults(&[("new/Cargo.toml", &renamed)]), ["room-direction"]);
    }

    #[test]
    fn llvm_in_two_crates_is_caught() {
        let melior = with("[dependencies]\nmelior = \"0.27\"\n");
        let llvm = with("[dependencies]\nllvm-sys = \"221\"\n");
        assert_eq!(faults(&[("targets/Cargo.toml", &melior), ("emu/Cargo.toml", &llvm)]), ["one-heavy-crate"; 2]);
        let both = with("[dependencies]\nmelior = \"0.27\"\nllvm-sys = \"221\"\n");
        assert!(faults(&[("targets/Cargo.toml", &both)]).is_empty());
    }

    #[test]
    fn a_crate_without_lints_or_licence_is_caught() {
        assert_eq!(faults(&[("ir/Cargo.toml", "[package]\nlicense.workspace = true\n")]), ["lints"]);
        assert_eq!(faults(&[("ir/Cargo.toml", "[package]\n[lints]\nworkspace = true\n")]), ["license-field"]);
        assert_eq!(faults(&[("ir/Cargo.toml", "[package\n")]), ["manifest"]);
    }

    #[test]
    fn a_workspace_of_its_own_is_left_alone() {
        let outside = "[workspace]\n[package]\n[dependencies]\nportwright-ir = { path = \"../ir\" }\n";
        assert!(faults(&[("examples/a/Cargo.toml", outside)]).is_empty());
    }

    #[test]
    fn a_missing_lock_file_is_caught() {
        let mut found = Vec::new();
        check(&[File::new("Cargo.toml", ROOT)], &mut found);
        assert_eq!(found[0].rule, "lock-file");
    }
}
