// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Graphs as text with what they give: `cases.graph`, and the cases of the textual form with seeded inputs.

use super::*;
use crate::graph::text;

/// An output as a case has it: `NAME TYPE ELEMENTS`.
fn shown(name: &str, t: &Tensor) -> String {
    let dims = t.dims.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let elems = t.all_bits().map(|bits| format!(" {}", Scalar { dtype: t.dtype, bits }));
    format!("#= {name} {}[{dims}]{}", t.dtype, elems.collect::<String>())
}

#[test]
fn graphs_give_what_they_say() {
    for case in include_str!("cases.graph").split("----\n") {
        let g = text::parse(case).unwrap_or_else(|d| panic!("{d:#?}\n{case}"));
        let got = match run(&g, &[], &Options::default()) {
            Ok(out) => out.iter().zip(g.outputs()).map(|(t, o)| shown(&o.name, t)).collect(),
            Err(e) => vec![format!("#! {} {}: {}", e.code, e.path, e.message)],
        };
        let want: Vec<&str> = case.lines().filter(|l| l.starts_with("#=") || l.starts_with("#!")).collect();
        assert_eq!(got, want, "{case}");
    }
}

/// A value of a symbol in its range: small, and not 1 where it can be another.
fn small(s: &Symbol) -> i64 {
    let unit = s.div.max(1);
    let at = 3i64.clamp(s.lo, s.hi);
    (at - at.rem_euclid(unit) + if at.rem_euclid(unit) == 0 { 0 } else { unit }).clamp(s.lo, s.hi)
}

#[test]
fn the_cases_of_the_text_run() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/graph");
    let (mut ran, mut failed) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let all = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for case in all.split("----\n").map(|c| c.rsplit("====\n").next().unwrap_or(c)) {
            let Ok(g) = text::parse(case) else { continue };
            let known = g.symbols().iter().filter(|s| s.source == SymSource::Input);
            let bound = Bindings::new(known.map(|s| (s.name.clone(), small(s))).collect());
            let input = |(i, &v): (usize, &ValueId)| -> Option<Tensor> {
                let ty = g.ty(v);
                let dims = bound.dims(&ty.dims).ok().filter(|_| ty.quant.is_none())?;
                // Integers are indices and sizes: 0 and 1 are good for most.
                let n = tensor::count(&dims)?;
                if ty.dtype.is_int() {
                    return Some(Tensor::from_bits(ty.dtype, dims, (0..n as u64).map(|i| i & 1)));
                }
                let fixed: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
                Tensor::new(ty.dtype, dims, numerics::seeded_bytes(i as u64, ty.dtype, &fixed)?)
            };
            let Some(inputs) = g.inputs().iter().enumerate().map(input).collect::<Option<Vec<_>>>() else { continue };
            let weights: WeightReader = Arc::new(|w| numerics::seeded_bytes(1, w.dtype, &w.dims));
            let opts = Options { symbols: bound.values().clone(), weights: Some(weights), ..Options::default() };
            match run(&g, &inputs, &opts) {
                Ok(_) => ran += 1,
                Err(e) => failed.push(format!("{}: {e}", g.name)),
            }
        }
    }
    // What fails is a limit of the made-up inputs, never a fault of the interpreter or a wrong type.
    assert!(ran > 10, "{ran} ran, {failed:#?}");
    assert!(!failed.iter().any(|f| f.contains("its type is") || f.starts_with("E09")), "{failed:#?}");
}
