// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Device code in the vendors' dialects of C++, on this CPU: each file of `cases` is a program that checks its own results, on each chip that
//! it names, and says which changes to it must be noticed and how. Kernels of others lie in `kernels` as they were published.
//!
//!     // chip: cuda:sm_80 hip:gfx936      where it runs; `all` = every chip, `DIALECT:` = those of a dialect
//!     // needs: FOLDER                    what it includes beside `kernels`, a folder of tools/.cache; skipped where that is not here
//!     // expect: TEXT                     it fails, and says so; else it must succeed
//!     // mutate: "OLD" -> "NEW" : TEXT    with that change (\n = end of a line), once in its text or a kernel's that it includes, it must fail and say TEXT
#![allow(missing_docs)]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use portwright_emu::simt::{Chip, Compiler, chips};

/// A change to a program.
#[derive(Clone, Debug)]
struct Mutation {
    old: String,
    new: String,
    says: String,
}

struct Case {
    name: String,
    text: String,
    chips: Vec<Chip>,
    needs: Option<String>,
    expect: Option<String>,
    mutations: Vec<Mutation>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simt").join(name)
}

fn parse_mutation(line: &str) -> Option<Mutation> {
    let (old, rest) = line.trim().strip_prefix('"')?.split_once("\" -> \"")?;
    let (new, says) = rest.split_once("\" : ")?;
    let lines = |t: &str| t.replace("\\n", "\n");
    Some(Mutation { old: lines(old), new: lines(new), says: says.trim().into() })
}

fn parse(name: &str, text: String) -> Case {
    let mut c = Case { name: name.into(), text: String::new(), chips: Vec::new(), needs: None, expect: None, mutations: Vec::new() };
    for line in text.lines().filter_map(|l| l.strip_prefix("// ")) {
        if let Some(list) = line.strip_prefix("chip:") {
            let named = |c: &Chip, w: &str| w == "all" || c.to_string() == w || (w.ends_with(':') && c.to_string().starts_with(w));
            c.chips.extend(chips().filter(|c| list.split_whitespace().any(|w| named(c, w))));
        } else if let Some(folder) = line.strip_prefix("needs:") {
            c.needs = Some(folder.trim().into());
        } else if let Some(text) = line.strip_prefix("expect:") {
            c.expect = Some(text.trim().into());
        } else if let Some(m) = line.strip_prefix("mutate:") {
            c.mutations.push(parse_mutation(m).unwrap_or_else(|| panic!("{name}: no mutation: {m}")));
        }
    }
    assert!(!c.chips.is_empty(), "{name} names no chip");
    // What follows the head is what changes apply to.
    c.text = text;
    c
}

/// What a program says, and whether it succeeded.
fn run(compiler: &Compiler, chip: &Chip, name: &str, text: &str, folders: &[PathBuf]) -> (bool, String) {
    let program = match compiler.text(chip, name, text, folders) {
        Ok(p) => p,
        Err(e) => return (false, e.to_string()),
    };
    // A program that was just written may still be open in a child that another thread is about to turn into something else.
    let said = (0..100).find_map(|_| match program.command().stdin(Stdio::null()).output() {
        Err(e) if e.kind() == ErrorKind::ExecutableFileBusy => {
            std::thread::sleep(Duration::from_millis(20));
            None
        }
        said => Some(said.expect("it starts")),
    });
    let said = said.expect("it is no longer written");
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    (said.status.success(), program.lines(&text))
}

fn judge(outcome: (bool, String), expect: Option<&str>) -> Result<(), Failed> {
    match (outcome, expect) {
        ((true, _), None) => Ok(()),
        ((false, said), None) => Err(said.into()),
        ((true, _), Some(e)) => Err(format!("it succeeds, and should say: {e}").into()),
        ((false, said), Some(e)) if e.split(" .. ").all(|part| said.contains(part)) => Ok(()),
        ((false, said), Some(e)) => Err(format!("it says: {said}\nand should say: {e}").into()),
    }
}

/// Folders with a file changed that `text` includes.
fn changed(folders: &[PathBuf], text: &str, m: &Mutation) -> Option<(tempfile::TempDir, Vec<PathBuf>)> {
    let dir = tempfile::tempdir().ok()?;
    let mut found = false;
    for path in folders.iter().flat_map(|f| std::fs::read_dir(f).into_iter().flatten().flatten()).map(|e| e.path()) {
        let (Ok(mut file), Some(name)) = (std::fs::read_to_string(&path), path.file_name()) else { continue };
        if !found && text.contains(&format!("#include \"{}\"", name.to_string_lossy())) && file.contains(&m.old) {
            file = file.replacen(&m.old, &m.new, 1);
            found = true;
        }
        std::fs::write(dir.path().join(name), file).ok()?;
    }
    let folders = vec![dir.path().to_path_buf()];
    found.then_some((dir, folders))
}

/// A folder that `./setup` leaves in tools/.cache.
fn tool(folder: &str) -> Option<PathBuf> {
    let tools = std::env::var_os("PORTWRIGHT_TOOLS").map(PathBuf::from);
    let tools = tools.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/.cache"));
    Some(tools.join(folder)).filter(|f| f.is_dir())
}

fn main() {
    let args = Arguments::from_args();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let compiler = match Compiler::find(Some(cache)) {
        Ok(c) => Arc::new(c),
        Err(e) => {
            println!("skipped: {e}: {}", e.remedy());
            return;
        }
    };
    let mut trials = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder("cases")).expect("cases").flatten().map(|e| e.path()).collect();
    files.sort();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let case = Arc::new(parse(&name, std::fs::read_to_string(&path).expect("a case")));
        let mut folders = vec![folder("kernels")];
        if let Some(needed) = &case.needs {
            let Some(there) = tool(needed) else {
                println!("skipped: {name}: {needed} is not in tools/.cache: ./setup fetches it");
                trials.push(Trial::test(name, || Ok(())).with_ignored_flag(true));
                continue;
            };
            folders.push(there);
        }
        for chip in &case.chips {
            let folders = folders.clone();
            let (k, c, chip_) = (compiler.clone(), case.clone(), chip.clone());
            trials.push(Trial::test(format!("{}::{chip}", case.name), move || {
                judge(run(&k, &chip_, &c.name, &c.text, &folders), c.expect.as_deref())
            }));
        }
        // A change is noticed by the machine, not by a chip: the first one will do.
        for (n, m) in case.mutations.iter().enumerate() {
            let (k, c, m, folders) = (compiler.clone(), case.clone(), m.clone(), folders.clone());
            trials.push(Trial::test(format!("{}::mutation {}: {}", case.name, n + 1, m.says), move || {
                let head = c.text.lines().take_while(|l| l.starts_with("//")).map(|l| l.len() + 1).sum::<usize>();
                let (head, body) = c.text.split_at(head.min(c.text.len()));
                if body.contains(&m.old) {
                    let text = format!("{head}{}", body.replacen(&m.old, &m.new, 1));
                    return judge(run(&k, &c.chips[0], &c.name, &text, &folders), Some(&m.says));
                }
                let (_dir, folders) = changed(&folders, body, &m).ok_or_else(|| format!("no text has {:?}", m.old))?;
                judge(run(&k, &c.chips[0], &c.name, &c.text, &folders), Some(&m.says))
            }));
        }
    }
    libtest_mimic::run(&args, trials).exit();
}
