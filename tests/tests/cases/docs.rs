// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pages of `docs/` that say what the program does are what the program does: `docs/LOWERING.md`, whose blocks are outputs of
//! `portwright lower`, `docs/COVERAGE.md` and `docs/CHIPS.md`, tables over the lists of passing cases. `cargo xtask bless docs/` writes them again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use onnx_protobuf::{GraphProto, ModelProto};
use protobuf::Message;

use crate::skip::{Done, trial};

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    #[cfg(feature = "mlir")]
    out.push(crate::skip::always("docs/lowering", || page("LOWERING.md", lowering)));
    out.push(crate::skip::always("docs/coverage::operators", operators_have_rows));
    out.push(crate::skip::always("docs/suite", || page("SUITE.md", |_| suite_page())));
    out.push(crate::skip::always("docs/chips", || page("CHIPS.md", |_| crate::chips::page())));
    out.push(trial("docs/suite::every_case_is_listed", || match std::env::var_os("PORTWRIGHT_SUITE").map(PathBuf::from) {
        Some(suite) => every_case_is_listed(&suite).map(|()| Done::Passed),
        None => Ok(Done::Skipped("PORTWRIGHT_SUITE names no ONNX suite".into())),
    }));
    out.push(trial("docs/coverage", || match std::env::var_os("PORTWRIGHT_SUITE").map(PathBuf::from) {
        Some(suite) => page("COVERAGE.md", |_| coverage(&suite)).map(|()| Done::Passed),
        None => Ok(Done::Skipped("PORTWRIGHT_SUITE names no ONNX suite".into())),
    }));
}

pub fn repository() -> PathBuf {
    crate::snap::root().parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Compares a page with what it should be, or writes it when snapshots are being accepted.
fn page(name: &str, should_be: impl Fn(&str) -> Result<String, String>) -> Result<(), String> {
    let path = repository().join("docs").join(name);
    let is = std::fs::read_to_string(&path).unwrap_or_default();
    let should = should_be(&is)?;
    if is == should {
        return Ok(());
    }
    if std::env::var("INSTA_UPDATE").is_ok_and(|v| v == "always") {
        return std::fs::write(&path, should).map_err(|e| format!("{}: {e}", path.display()));
    }
    let at = is.lines().zip(should.lines()).position(|(a, b)| a != b).unwrap_or_else(|| is.lines().count().min(should.lines().count()));
    let line = |t: &str| t.lines().nth(at).unwrap_or("(the end)").to_owned();
    Err(format!(
        "docs/{name} is out of date (`cargo xtask bless docs/` writes it again); line {}:\n  is        {}\n  should be {}",
        at + 1,
        line(&is),
        line(&should)
    ))
}

/// The page with every block filled in again. A fence says which output it shows, ```` ```text lower --stage graph ````, and after
/// that which part: `first N` lines, or the longest innermost `loop`.
#[cfg(feature = "mlir")]
fn lowering(page: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        out += line;
        out.push('\n');
        let Some((_, call)) = line.strip_prefix("```").and_then(|l| l.split_once(" lower ")) else { continue };
        if !lines.by_ref().any(|l| l == "```") {
            return Err(format!("no end of the block `{line}`"));
        }
        let words: Vec<&str> = call.split_whitespace().collect();
        let (options, part) = words.split_at(words.iter().position(|w| matches!(*w, "first" | "loop")).unwrap_or(words.len()));
        let fixed = ["--quiet", "lower", "docs/examples/dense_softmax.graph", "--target", "x86-64"];
        let text = crate::command::portwright(&repository(), &[&fixed[..], options].concat())?.well()?.stdout;
        out += &match part {
            ["first", n] => {
                let n: usize = n.parse().map_err(|_| format!("`{line}`: how many lines?"))?;
                text.lines().take(n).map(|l| format!("{l}\n")).collect::<String>() + "...\n"
            }
            ["loop"] => longest_loop(&text).ok_or_else(|| format!("`{line}`: no loop"))?,
            _ => text,
        };
        out += "```\n";
    }
    Ok(out)
}

/// The most lines from a label to a jump back to it with no other label between.
#[cfg(feature = "mlir")]
fn longest_loop(assembly: &str) -> Option<String> {
    let lines: Vec<&str> = assembly.lines().map(|l| l.split_once(" #").map_or(l, |(code, _)| code).trim_end()).collect();
    let label = |i: usize| lines.get(i).and_then(|l| l.strip_suffix(':')).filter(|l| l.starts_with(".L"));
    let mut best: Option<&[&str]> = None;
    for from in 0..lines.len() {
        let Some(name) = label(from) else { continue };
        let end = (from + 1..lines.len()).find(|&i| label(i).is_some()).unwrap_or(lines.len());
        let back = (from + 1..end).rev().find(|&i| lines.get(i).is_some_and(|l| l.starts_with("\tj") && l.ends_with(name)));
        if let Some(body) = back.and_then(|b| lines.get(from..=b))
            && best.is_none_or(|b| body.len() > b.len())
        {
            best = Some(body);
        }
    }
    Some(best?.iter().map(|l| format!("{l}\n")).collect())
}

/// Targets with a list of passing cases, `host` first.
pub fn lists() -> Vec<(String, BTreeSet<String>)> {
    let folder = std::fs::read_dir(repository().join("tests/suite")).into_iter().flatten().flatten();
    let mut out: Vec<(String, BTreeSet<String>)> = folder
        .filter_map(|e| {
            let name = e.file_name().to_str()?.strip_suffix(".txt").filter(|n| !n.ends_with("-not") && *n != "why")?.to_owned();
            let text = std::fs::read_to_string(e.path()).ok()?;
            Some((name, text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect()))
        })
        .collect();
    out.sort_by_key(|(name, _)| (name != "host", name.clone()));
    out
}

/// Lines of a file of `tests/suite`, without comments.
fn suite_lines(name: &str) -> Result<Vec<String>, String> {
    let path = repository().join("tests/suite").join(name);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect())
}

/// Cases that do not pass on a target: name, status, message.
fn not_passing(target: &str) -> Result<Vec<[String; 3]>, String> {
    let split = |l: String| {
        let mut parts = l.splitn(3, '\t').map(str::to_owned);
        Some([parts.next()?, parts.next()?, parts.next()?])
    };
    let file = format!("{target}-not.txt");
    suite_lines(&file)?.into_iter().map(|l| split(l.clone()).ok_or(format!("{file}: `{l}`"))).collect()
}

/// What becomes of the cases on other targets than the host: how many pass, and which pass on the host only.
fn other_targets(host: &[[String; 3]]) -> Result<String, String> {
    let mut s = String::from(
        "\n## Other targets\n\nIn their emulators, with no node on the host but for texts, sequences, optionals and maps. What does not pass on the \
         host does not pass\nthere either, and for the same reasons; the last column has the rest.\n\n\
         | target | passed | failed | unsupported | skipped | not passing, and passing on the host |\n| --- | ---: | ---: | ---: | ---: | --- |\n",
    );
    for (target, passing) in lists().into_iter().filter(|(name, _)| name != "host") {
        // Targets whose lists are older than the lists of what does not pass have no such list.
        let Ok(not) = not_passing(&target) else {
            s += &format!("| {target} | {} | | | | |\n", passing.len());
            continue;
        };
        let count = |status: &str| not.iter().filter(|c| c[1] == status).count();
        // What many cases end with is said once, with their number.
        let mut kinds: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
        for [name, status, message] in not.iter().filter(|[name, ..]| !host.iter().any(|h| h[0] == *name)) {
            // A node's path stands first.
            let text = message.split_once(": ").filter(|(path, _)| path.contains('/') && !path.contains(' ')).map_or(&**message, |m| m.1);
            kinds.entry((status, text.replace('|', "\\|"))).or_default().push(name);
        }
        let new = kinds.into_iter().map(|((status, message), names)| match names.as_slice() {
            [_, _, _, _, ..] => format!("{} cases ({status}: {message})", names.len()),
            _ => names.iter().map(|name| format!("`{name}` ({status}: {message})")).collect::<Vec<_>>().join("; "),
        });
        let new: Vec<String> = new.collect();
        let new = if new.is_empty() { "none".to_owned() } else { new.join("; ") };
        let [failed, unsupported, skipped] = ["failed", "unsupported", "skipped"].map(count);
        s += &format!("| {target} | {} | {failed} | {unsupported} | {skipped} | {new} |\n", passing.len());
    }
    Ok(s)
}

/// The page on cases that do not pass: what each ended with, and why that is so.
fn suite_page() -> Result<String, String> {
    // A family of names by its beginning, and one sentence.
    let why: Vec<(String, String)> =
        suite_lines("why.txt")?.iter().filter_map(|l| l.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned()))).collect();
    let (passing, cases) = (suite_lines("host.txt")?, not_passing("host")?);
    let mut s = format!(
        "# Cases of the ONNX test suite that do not pass\n\n\
         {} of the {} cases of the pinned suite pass on `host` (`cargo xtask suite-data`, `cargo xtask suite`). These do not; the message is that\n\
         of `portwright suite`. `cargo xtask suite --bless` writes the lists in `tests/suite`, `cargo xtask bless docs/` this page from them\n\
         and from `tests/suite/why.txt`.\n\n| case | ended | message | why |\n| --- | --- | --- | --- |\n",
        passing.len(),
        passing.len() + cases.len()
    );
    for [name, status, message] in &cases {
        let because = why.iter().filter(|(family, _)| name.starts_with(family.as_str())).max_by_key(|(family, _)| family.len());
        // A message that says what is not supported explains itself; numbers do not.
        if status == "failed" && because.is_none() {
            return Err(format!("tests/suite/why.txt does not say why `{name}` fails: {message}"));
        }
        let because = because.map_or("", |(_, b)| b);
        s += &format!("| `{name}` | {status} | {} | {because} |\n", message.replace('|', "\\|"));
    }
    let used = |family: &str| cases.iter().any(|[name, ..]| name.starts_with(family));
    match why.iter().find(|(family, _)| !used(family)) {
        Some((family, _)) => Err(format!("tests/suite/why.txt speaks of `{family}`, and all cases of that name pass")),
        None => Ok(s + &other_targets(&cases)?),
    }
}

/// Each case of the suite is in one of the two lists, and nothing else is.
fn every_case_is_listed(suite: &Path) -> Result<(), String> {
    let mut cases = BTreeSet::new();
    for kind in std::fs::read_dir(suite).map_err(|e| format!("{}: {e}", suite.display()))?.flatten().filter(|e| e.path().is_dir()) {
        cases.extend(std::fs::read_dir(kind.path()).into_iter().flatten().flatten().map(|e| e.file_name().to_string_lossy().into_owned()));
    }
    let mut listed: Vec<String> = suite_lines("host.txt")?;
    listed.extend(not_passing("host")?.into_iter().map(|[name, ..]| name));
    let all: BTreeSet<String> = listed.iter().cloned().collect();
    let missing: Vec<&String> = cases.difference(&all).collect();
    let more: Vec<&String> = all.difference(&cases).collect();
    if listed.len() == all.len() && missing.is_empty() && more.is_empty() {
        return Ok(());
    }
    Err(format!("{} listed twice, not listed: {missing:?}, listed and not there: {more:?}", listed.len() - all.len()))
}

/// Every operator that is imported has a row, and no other.
fn operators_have_rows() -> Result<(), String> {
    let page = std::fs::read_to_string(repository().join("docs/COVERAGE.md")).map_err(|e| e.to_string())?;
    let rows: BTreeSet<String> = page.lines().filter_map(|l| Some(l.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    let known: BTreeSet<String> = portwright_frontend::operators().into_iter().map(|(d, op, _)| row_name(d, op)).collect();
    let show = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>().join(", ");
    if rows == known {
        return Ok(());
    }
    Err(format!(
        "docs/COVERAGE.md lacks [{}] and has [{}] too many; `cargo xtask bless docs/` writes it again",
        show(&known, &rows),
        show(&rows, &known)
    ))
}

fn row_name(domain: &str, op: &str) -> String {
    if domain == "ai.onnx" { op.to_owned() } else { format!("{domain}.{op}") }
}

/// What a case uses.
#[derive(Default)]
struct Uses {
    operators: BTreeSet<String>,
    dtypes: BTreeSet<String>,
}

fn uses(case: &Path) -> Result<Uses, String> {
    let file = case.join("model.onnx");
    let bytes = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let model = ModelProto::parse_from_bytes(&bytes).map_err(|e| format!("{}: {e}", file.display()))?;
    fn walk(g: &GraphProto, out: &mut Uses) {
        for n in &g.node {
            out.operators.insert(row_name(if n.domain.is_empty() { "ai.onnx" } else { &n.domain }, &n.op_type));
            n.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).for_each(|g| walk(g, out));
        }
    }
    let mut out = Uses::default();
    walk(&model.graph, &mut out);
    for i in &model.graph.input {
        if i.type_.has_tensor_type() {
            out.dtypes.insert(portwright_runtime::dtype::name(i.type_.tensor_type().elem_type));
        }
    }
    Ok(out)
}

/// What was run on a target, and what of it passed.
struct Ran {
    target: String,
    run: BTreeSet<String>,
    passed: BTreeSet<String>,
}

impl Ran {
    /// Of these cases: how many passed, and how many were run.
    fn of(&self, cases: &[&String]) -> (usize, usize) {
        let count = |set: &BTreeSet<String>| cases.iter().filter(|c| set.contains(**c)).count();
        (count(&self.passed), count(&self.run))
    }
}

/// Every target with a list, `host` first. A case that was skipped was not run; where no list says which these are, all were that pass on the host.
fn ran() -> Vec<Ran> {
    let lists = lists();
    let host = lists.first().map(|l| l.1.clone()).unwrap_or_default();
    let one = |(target, passed): (String, BTreeSet<String>)| {
        let not = not_passing(&target).ok();
        let others = not.map_or(host.clone(), |n| n.into_iter().filter(|c| c[1] != "skipped").map(|c| c[0].clone()).collect());
        Ran { run: others.union(&passed).cloned().collect(), target, passed }
    };
    lists.into_iter().map(one).collect()
}

/// The table of operators, and what is different on which target.
fn coverage(suite: &Path) -> Result<String, String> {
    let targets = ran();
    let mut cases: BTreeMap<String, Uses> = BTreeMap::new();
    for kind in std::fs::read_dir(suite).map_err(|e| format!("{}: {e}", suite.display()))?.flatten().filter(|e| e.path().is_dir()) {
        for case in std::fs::read_dir(kind.path()).into_iter().flatten().flatten() {
            let name = case.file_name().to_string_lossy().into_owned();
            if targets.iter().any(|t| t.run.contains(&name)) {
                cases.insert(name, uses(&case.path())?);
            }
        }
    }
    let mut s = String::from(
        "# Operators by target\n\n\
         For each operator that is imported: its first version, how many cases of the ONNX test suite that use it give the right numbers, and the\n\
         dtypes of these cases' inputs. `host` is native code on x86-64, other CPUs are run by qemu, devices by machines of Portwright's own. `all`\n\
         stands for every case that was run on every such target, `n of m` for the target on which the fewest pass, a dash for an operator that\n\
         the suite has no case of; operators of other domains than ONNX's are tested in `frontend/tests`. Below the table is what each\n\
         target lacks; cases are listed in `tests/suite/TARGET.txt` and `TARGET-not.txt`. Written by `cargo xtask bless docs/`.\n\n\
         | operator | since | host | other CPUs | devices | dtypes |\n| --- | ---: | ---: | ---: | ---: | --- |\n",
    );
    // A device has its vendor's name before a dash.
    let groups: [Vec<&Ran>; 3] = [
        targets.iter().filter(|t| t.target == "host").collect(),
        targets.iter().filter(|t| t.target != "host" && !t.target.contains('-')).collect(),
        targets.iter().filter(|t| t.target.contains('-')).collect(),
    ];
    let mut lacking: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (domain, op, since) in portwright_frontend::operators() {
        let row = row_name(domain, op);
        let of: Vec<(&String, &Uses)> = cases.iter().filter(|(_, u)| u.operators.contains(&row)).collect();
        let names: Vec<&String> = of.iter().map(|c| c.0).collect();
        let cells = groups.each_ref().map(|group| {
            let counts: Vec<(usize, usize)> = group.iter().map(|t| t.of(&names)).filter(|c| c.1 > 0).collect();
            match counts.iter().filter(|c| c.0 < c.1).min_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1))) {
                Some((passed, run)) => format!("{passed} of {run}"),
                None if counts.is_empty() => "-".to_owned(),
                None => "all".to_owned(),
            }
        });
        for t in &targets {
            let (passed, run) = t.of(&names);
            if passed < run {
                lacking.entry(&t.target).or_default().push(format!("{row} {passed} of {run}"));
            }
        }
        let dtypes: BTreeSet<&str> = of.iter().flat_map(|(_, u)| u.dtypes.iter().map(String::as_str)).collect();
        let dtypes = dtypes.into_iter().collect::<Vec<_>>().join(" ");
        s += &format!("| `{row}` | {since} | {} | {dtypes} |\n", cells.join(" | "));
    }
    s += "\n## What a target lacks\n\nOperators with a case that was run and does not pass; docs/SUITE.md says why.\n";
    for t in &targets {
        let lacks = lacking.remove(t.target.as_str()).map_or_else(|| "none".to_owned(), |l| l.join(", "));
        s += &format!("\n**{}**: {} of {} cases pass. Lacks: {lacks}.\n", t.target, t.passed.len(), t.run.len());
    }
    Ok(s)
}
