// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright bench`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_runtime::tensor::{Tensor, View};

use crate::Cx;
use crate::args::BenchArgs;
use crate::compile::Scratch;
use crate::progress::Progress;

/// Runs before anything is timed.
const WARM_UP: Duration = Duration::from_millis(100);

/// Times a model or bundle.
///
/// # Errors
/// Anything on the way.
pub fn run(a: BenchArgs, cx: &mut Cx) -> Lowered<()> {
    if !(a.min_time > 0.0 && a.min_time < 1e6) {
        return cx.fail(Diagnostic::error(Code::BAD_OPTION, format!("--min-time {} is no number of seconds", a.min_time)));
    }
    let mut progress = Progress::new(cx.quiet);
    let scratch = Scratch::new(cx)?;
    let bundle = super::run::bundle(&a.model, &a.target, &scratch, &mut progress, cx)?;
    let loaded = super::run::load(&bundle, a.threads, a.profile, cx)?;
    let seed = a.inputs.is_none().then_some(1);
    let inputs = super::run::inputs(a.inputs.as_deref(), seed, &loaded, cx)?;
    let views: Vec<View<'_>> = inputs.iter().map(Tensor::view).collect();
    let mut session = loaded.open().map_err(|e| cx.diags.report(super::run::run_error(&e)))?;
    progress.stage("bench");
    let mut once = |cx: &mut Cx| -> Lowered<u64> {
        let start = Instant::now();
        session.execute(&views).map_err(|e| cx.diags.report(super::run::run_error(&e)))?;
        Ok(start.elapsed().as_nanos() as u64)
    };
    let begin = Instant::now();
    once(cx)?;
    while begin.elapsed() < WARM_UP {
        once(cx)?;
    }
    loaded.take_profile();
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.is_empty() || begin.elapsed().as_secs_f64() < a.min_time {
        times.push(once(cx)?);
    }
    progress.end();
    let runs = times.len();
    times.sort_unstable();
    let (min, median) = (times[0], times[runs / 2]);
    let threads = if a.threads > 0 { a.threads } else { std::thread::available_parallelism().map_or(1, |n| n.get() as u32) };
    let peak = peak_rss_bytes();
    let profile = a.profile.then(|| by_node(&loaded.take_profile(), runs));
    if a.json {
        let mut v = serde_json::json!({
            "schema": 1, "min_ns": min, "median_ns": median, "runs": runs, "threads": threads, "peak_rss_bytes": peak,
        });
        if let Some(p) = &profile {
            v["kernels"] = p.iter().map(|k| serde_json::json!({"node": k.0, "ns": k.1, "launches": k.2})).collect();
        }
        println!("{v}");
        return Ok(());
    }
    println!("min {}  median {}  ({runs} runs, {threads} threads, {:.1} MB peak)", time(min), time(median), peak as f64 / 1e6);
    for (node, ns, launches) in profile.into_iter().flatten() {
        println!("{:>12}  {:>5.1} %  x{launches}  {node}", time(ns), ns as f64 * 100.0 / median.max(1) as f64);
    }
    Ok(())
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
