// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright bench`: nanoseconds on this machine, executed instructions on an emulated one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::text::{Cursor, parse_expr};
use portwright_runtime::bundle::Bundle;
use portwright_runtime::load::Info;
use portwright_runtime::manifest::{self, Kernel};
use portwright_runtime::value::Value;

use crate::Cx;
use crate::args::{BenchArgs, On};
use crate::compile::{self, Scratch};
use crate::limits::{self, Rates};
use crate::model;
use crate::place::{self, Executed, Place, Running, Start};
use crate::progress::Progress;

/// What the name of a kernel's function begins with in a bundle's library.
const KERNEL: &str = "pwk_";
/// Runs before anything is timed.
const WARM_UP: Duration = Duration::from_millis(100);

/// Times a model or bundle.
///
/// # Errors
/// Anything on the way.
pub fn run(a: BenchArgs, cx: &mut Cx) -> Lowered<()> {
    let seconds = a.min_time.unwrap_or(1.0);
    if !(seconds > 0.0 && seconds < 1e6) {
        return cx.fail(Diagnostic::error(Code::BAD_OPTION, format!("--min-time {seconds} is no number of seconds")));
    }
    if a.on == Some(On::Interpreter) {
        let d = Diagnostic::error(Code::OPTION_UNUSED, "--on interpreter: what the interpreter takes says nothing of the model");
        return cx.fail(d.help("leave --on out"));
    }
    let mut progress = Progress::new(cx.quiet);
    let scratch = Scratch::new(cx)?;
    let (bundle, place) = place::prepare(&a.model, &a.target, (a.on, None), &scratch, &mut progress, cx)?;
    progress.say(&place.line());
    let how = Start { threads: a.threads, profile: a.profile || !place.is_here() };
    let mut running = Running::start(&bundle, &place, how, cx)?;
    let seed = a.inputs.is_none().then_some(1);
    let inputs = super::run::inputs(a.inputs.as_deref(), seed, running.inputs(), cx)?;
    let given = inputs;
    progress.stage("bench");
    if !place.is_here() {
        drop(running);
        return instructions(&a, (&bundle, &place, &scratch), &given, progress, cx);
    }
    let begin = Instant::now();
    running.execute(&given, cx)?;
    while begin.elapsed() < WARM_UP {
        running.execute(&given, cx)?;
    }
    running.take_launches();
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.is_empty() || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        running.execute(&given, cx)?;
        times.push(start.elapsed().as_nanos() as u64);
    }
    progress.end();
    let runs = times.len();
    times.sort_unstable();
    let (min, median) = (times.first().copied().unwrap_or(0), times.get(runs / 2).copied().unwrap_or(0));
    let threads = if a.threads > 0 { a.threads } else { std::thread::available_parallelism().map_or(1, |n| n.get() as u32) };
    let peak = peak_rss_bytes();
    let profile = a.profile.then(|| {
        let rates = limits::measure(threads as usize);
        let work = work(&bundle, running.inputs(), &given);
        let times = by_node(&running.take_launches(), runs);
        let entry = |(node, ns, launches)| Entry::new(node, ns, launches, &work, &rates);
        (times.into_iter().map(entry).collect::<Vec<_>>(), rates)
    });
    if a.json {
        let mut v = serde_json::json!({
            "schema": 1, "min_ns": min, "median_ns": median, "runs": runs, "threads": threads, "peak_rss_bytes": peak,
        });
        if let Some((entries, rates)) = &profile {
            v["kernels"] = entries.iter().map(Entry::json).collect();
            v["limits"] = rates.json();
        }
        println!("{v}");
        return Ok(());
    }
    println!("min {}  median {}  ({runs} runs, {threads} threads, {:.1} MB peak)", time(min), time(median), peak as f64 / 1e6);
    if let Some((entries, rates)) = &profile {
        println!("limits: {rates}");
        println!("{:>12}  {:>7}  {:>9}  {:>8}  {:>6}  launches  node", "time", "of run", "bytes", "GFLOP/s", "limit");
        for e in entries {
            println!("{}", e.line(median));
        }
    }
    Ok(())
}

/// What nodes took, and what they had to do.
struct Entry {
    node: String,
    ns: u64,
    launches: usize,
    /// Bytes and products; none where sizes are known to the data alone.
    work: Option<(u64, u64)>,
    /// Least time over the time taken.
    share: Option<f64>,
}

impl Entry {
    fn new(node: String, ns: u64, launches: usize, work: &HashMap<String, (u64, u64, u64)>, rates: &Rates) -> Self {
        // Bodies of loops are launched more often than they stand in the plan.
        let scaled = |(bytes, products, sites): &(u64, u64, u64)| {
            let times = |n: u64| (u128::from(n) * launches as u128 / u128::from((*sites).max(1))) as u64;
            (times(*bytes), times(*products))
        };
        let work = work.get(&node).map(scaled);
        let share =
            work.and_then(|(bytes, products)| Some(rates.least_ns(bytes / launches.max(1) as u64, bytes, products)? / ns.max(1) as f64));
        Entry { node, ns, launches, work, share }
    }
    fn json(&self) -> serde_json::Value {
        let mut v = serde_json::json!({"node": self.node, "ns": self.ns, "launches": self.launches});
        if let Some((bytes, products)) = self.work {
            v["bytes"] = bytes.into();
            v["flops"] = products.saturating_mul(2).into();
        }
        if let Some(share) = self.share {
            v["share_of_limit"] = share.into();
        }
        v
    }
    fn line(&self, run: u64) -> String {
        let of = self.ns as f64 * 100.0 / run.max(1) as f64;
        let bytes = self.work.map_or_else(|| "?".to_owned(), |(b, _)| size(b));
        let flops = match self.work {
            Some((_, products)) if products > 0 => format!("{:.1}", 2.0 * products as f64 / self.ns.max(1) as f64),
            _ => "-".to_owned(),
        };
        let share = self.share.map_or_else(|| "?".to_owned(), |s| format!("{:.0} %", s * 100.0));
        format!("{:>12}  {of:>5.1} %  {bytes:>9}  {flops:>8}  {share:>6}  x{:<7}  {}", time(self.ns), self.launches, self.node)
    }
}

/// Bytes, products and launches by nodes, for inputs of these shapes.
fn work(bundle: &Path, inputs: &[Info], given: &[Value]) -> HashMap<String, (u64, u64, u64)> {
    let mut symbols: HashMap<&str, i64> = HashMap::new();
    for (info, value) in inputs.iter().zip(given) {
        let dims = match value {
            Value::Tensor(t) => &t.dims,
            Value::Texts(t) => &t.dims,
            Value::List(_) => continue,
        };
        for (axis, &d) in info.dims.iter().zip(dims) {
            if let Some(name) = &axis.symbol {
                symbols.insert(name, d);
            }
        }
    }
    let number = |text: &str| {
        let expr = parse_expr(&mut Cursor::new(text)).ok()?;
        expr.eval(&|s| symbols.get(s).copied()).and_then(|n| u64::try_from(n).ok())
    };
    let list = Bundle::read(bundle).map_or_else(|_| Vec::new(), |b| b.manifest.work);
    let entry = |w: manifest::Work| Some((w.nodes, (number(&w.bytes)?, number(&w.products)?, w.launches)));
    list.into_iter().filter_map(entry).collect()
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Instructions of one run; they are the same in every run.
struct Counts {
    total: u64,
    /// By function of the library, most first, with the nodes that a kernel computes.
    functions: Vec<(Executed, Vec<String>)>,
}

impl Counts {
    fn of(bundle: &Path, place: &Place, given: &[Value], cx: &mut Cx) -> Lowered<Counts> {
        let mut running = Running::start(bundle, place, Start { threads: 0, profile: true }, cx)?;
        // The first run sizes the arena and makes qemu translate, block by block as memory comes; the second is what a run costs.
        running.execute(given, cx)?;
        running.take_instructions();
        running.execute(given, cx)?;
        let counts = running.take_instructions();
        let kernels = Bundle::read(bundle).map_or_else(|_| Vec::new(), |b| b.manifest.kernels);
        let nodes = |function: &str| {
            let name = function.strip_prefix(KERNEL)?;
            kernels.iter().find(|k: &&Kernel| k.name == name).map(|k| k.nodes.clone())
        };
        let functions = counts.into_iter().map(|e| {
            let nodes = nodes(&e.function).unwrap_or_default();
            (e, nodes)
        });
        let functions: Vec<_> = functions.collect();
        Ok(Counts { total: functions.iter().map(|f| f.0.instructions).sum(), functions })
    }
    /// By the nodes that kernels compute, most first; the plan and the runtime are no node.
    fn by_nodes(&self) -> Vec<(String, u64)> {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for (e, nodes) in &self.functions {
            *sums.entry(nodes.join(", ")).or_default() += e.instructions;
        }
        let mut out: Vec<_> = sums.into_iter().collect();
        out.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        out
    }
}

/// Counts what one run executes, for time on an emulated machine says nothing; of a model, with `--profile`, also what the same machine
/// executes where it is used one element at a time.
fn instructions(
    a: &BenchArgs,
    (bundle, place, scratch): (&Path, &Place, &Scratch),
    given: &[Value],
    mut progress: Progress,
    cx: &mut Cx,
) -> Lowered<()> {
    if a.min_time.is_some() {
        let d = Diagnostic::error(Code::OPTION_UNUSED, "--min-time: on an emulated machine the instructions of one run are counted");
        return cx.fail(d.help("leave --min-time out"));
    }
    let counts = Counts::of(bundle, place, given, cx)?;
    let one_lane = match a.profile && !model::is_bundle(&a.model) {
        true => {
            let mut options = compile::options(&a.target, cx)?;
            options.machine = options.machine.one_lane();
            let m = model::load(&a.model, &a.target.dims, false, cx)?;
            let bundle = compile::bundle(m, &options, &scratch.path().join("one-lane.pw"), false, &mut progress, cx)?;
            progress.stage("bench (one lane)");
            Some(Counts::of(&bundle, place, given, cx)?)
        }
        false => None,
    };
    progress.end();
    let lanes: BTreeMap<String, u64> = one_lane.iter().flat_map(Counts::by_nodes).collect();
    let total = counts.total;
    if a.json {
        let entry = |(e, nodes): &(Executed, Vec<String>)| {
            let mut v = serde_json::json!({"function": e.function, "instructions": e.instructions, "nodes": nodes});
            if let Some(d) = &e.device {
                v["device"] = d.clone();
            }
            v
        };
        let list: Vec<_> = counts.functions.iter().map(entry).collect();
        let mut v = serde_json::json!({"schema": 1, "instructions": total, "emulator": place.name(), "functions": list});
        if let Some(one) = &one_lane {
            let entry = |(nodes, n): &(String, u64)| serde_json::json!({"nodes": nodes, "instructions": n, "one_lane": lanes.get(nodes)});
            v["one_lane"] = one.total.into();
            v["nodes"] = counts.by_nodes().iter().filter(|n| !n.0.is_empty()).map(entry).collect();
        }
        println!("{v}");
        return Ok(());
    }
    match &one_lane {
        None => println!("{total} instructions a run"),
        Some(one) => println!("{total} instructions a run; {} with one lane, {}", one.total, times(total, Some(&one.total))),
    }
    if a.profile {
        let head = if one_lane.is_some() { format!("  {:>14}  {:>7}", "one lane", "") } else { String::new() };
        println!("{:>14}  {:>7}{head}  node", "instructions", "of run");
        for (nodes, n) in counts.by_nodes() {
            let scalar = lanes.get(&nodes);
            let beside = match one_lane.is_some() {
                true => format!("  {:>14}  {:>7}", scalar.map_or_else(|| "-".into(), u64::to_string), times(n, scalar)),
                false => String::new(),
            };
            let name = if nodes.is_empty() { "(the plan and the runtime)" } else { &nodes };
            println!("{n:>14}  {:>5.1} %{beside}  {name}", n as f64 * 100.0 / total.max(1) as f64);
        }
    }
    Ok(())
}

/// How many times as many instructions one lane takes.
fn times(n: u64, one_lane: Option<&u64>) -> String {
    one_lane.map_or_else(|| "-".into(), |one| format!("{:.1} x", *one as f64 / n.max(1) as f64))
}

/// Nanoseconds and launches of a run, by node, longest first.
fn by_node(launches: &[portwright_runtime::load::Launch], runs: usize) -> Vec<(String, u64, usize)> {
    let mut sums: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for l in launches {
        let s = sums.entry(&l.node).or_default();
        s.0 += l.ns;
        s.1 += 1;
    }
    let mut out: Vec<_> = sums.into_iter().map(|(n, (ns, k))| (n.to_owned(), ns / runs.max(1) as u64, k / runs.max(1))).collect();
    out.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    out
}

fn time(ns: u64) -> String {
    match ns {
        0..=9_999 => format!("{ns} ns"),
        10_000..=9_999_999 => format!("{:.1} us", ns as f64 / 1e3),
        _ => format!("{:.2} ms", ns as f64 / 1e6),
    }
}

/// Most memory that this process had, as the system says it; 0 where it does not.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
