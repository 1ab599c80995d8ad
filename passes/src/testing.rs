// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What tests of passes share: cases in text, seeded inputs, and equality by the interpreter.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portwright_ir::dtype::DType;
use portwright_ir::graph::interp::{self, Options, Tensor};
use portwright_ir::graph::{Graph, text};
use portwright_ir::sym::SymName;
use portwright_ir::weight::WeightSource;

use crate::spec::{CpuSpec, MachineClass};

/// Folder of cases of that area.
pub(crate) fn cases(area: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases").join(area);
    let mut out: Vec<PathBuf> = std::fs::read_dir(&dir).map(|d| d.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    out.retain(|p| p.extension().is_some_and(|e| e == "graph"));
    out.sort();
    assert!(!out.is_empty(), "no cases in {}", dir.display());
    out
}

/// The graphs of a case file, which `----` separates.
pub(crate) fn read(path: &Path) -> Vec<Graph> {
    let text = std::fs::read_to_string(path).expect("a case can be read");
    text.split("\n----\n").map(|part| parse(part, &path.display().to_string())).collect()
}

/// Parses a graph.
pub(crate) fn parse(text: &str, name: &str) -> Graph {
    text::parse(text).unwrap_or_else(|d| panic!("{name}: {d:#?}"))
}

/// A machine with 32-byte vectors.
pub(crate) fn machine() -> MachineClass {
    MachineClass::Cpu(CpuSpec {
        vec_bytes: 32,
        vec_regs: 16,
        masked_mem: true,
        fma: true,
        l1_bytes: 32 << 10,
        l2_bytes: 1 << 20,
        dots: &[],
        tiles: &[],
    })
}

/// Seeded inputs; every symbol gets its smallest value plus `size`.
pub(crate) fn inputs(g: &Graph, size: i64, seed: u64) -> (Vec<Tensor>, HashMap<SymName, i64>) {
    let symbols: HashMap<SymName, i64> = g.symbols().iter().map(|s| (s.name.clone(), (s.lo + size).min(s.hi))).collect();
    let at = |n: &str| symbols.get(n).copied();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let tensors = g.inputs().iter().map(|&v| {
        let ty = g.ty(v);
        let dims: Vec<usize> = ty.dims.iter().map(|d| d.eval(&at).expect("dims of inputs are known") as usize).collect();
        let n = dims.iter().product();
        let elems: Vec<f64> = (0..n)
            .map(|_| match ty.dtype {
                DType::Bool => f64::from(next() < 0.5),
                d if d.is_int() => (next() * 4.0).floor(),
                _ => next() * 4.0 - 2.0,
            })
            .collect();
        Tensor::from_f64(ty.dtype, dims, &elems)
    });
    (tensors.collect(), symbols)
}

/// Runs a graph; what it packs is computed by `pack`.
pub(crate) fn run(g: &Graph, pack: Option<&Graph>, inputs: &[Tensor], symbols: &HashMap<SymName, i64>) -> Vec<Tensor> {
    let mut packed: HashMap<Arc<str>, Vec<u8>> = HashMap::new();
    if let Some(p) = pack.filter(|p| !p.outputs().is_empty()) {
        let made = interp::run(p, &[], &Options::default()).unwrap_or_else(|e| panic!("pack program: {e}\n{}", text::print(p)));
        packed = p.outputs().iter().zip(made).map(|(o, t)| (o.name.clone(), t.bytes().to_vec())).collect();
    }
    let known: HashMap<SymName, i64> = symbols.iter().filter(|(n, _)| g.symbol(n).is_some()).map(|(n, v)| (n.clone(), *v)).collect();
    let weights: interp::WeightReader =
        Arc::new(move |w| if matches!(w.source, WeightSource::Packed) { packed.get(&w.name).cloned() } else { None });
    let options = Options { symbols: known, weights: Some(weights), ..Default::default() };
    interp::run(g, inputs, &options).unwrap_or_else(|e| panic!("{e}\n{}", text::print(g)))
}

/// Asserts that two graphs compute the same, within `tolerance` relative to the largest element.
pub(crate) fn assert_equal(name: &str, before: &Graph, after: &Graph, pack: Option<&Graph>, tolerance: f64) {
    for size in [0, 3] {
        let (tensors, symbols) = inputs(before, size, 7 + size as u64);
        let (want, got) = (run(before, None, &tensors, &symbols), run(after, pack, &tensors, &symbols));
        assert_eq!(want.len(), got.len(), "{name}: number of outputs");
        for (i, (w, g)) in want.iter().zip(&got).enumerate() {
            assert_eq!((w.dtype, &w.dims), (g.dtype, &g.dims), "{name}: type of output {i}");
            let (w, g) = (w.to_f64(), g.to_f64());
            let scale = w.iter().filter(|x| x.is_finite()).fold(1e-3f64, |m, x| m.max(x.abs()));
            for (k, (a, b)) in w.iter().zip(&g).enumerate() {
                let same = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * scale;
                assert!(same, "{name}: output {i} element {k} is {b}, expected {a}\n{}", text::print(after));
            }
        }
    }
}

/// Number of nodes of that mnemonic, regions included.
pub(crate) fn count(g: &Graph, mnemonic: &str) -> usize {
    g.node_ids()
        .map(|n| {
            let node = g.node(n);
            usize::from(node.op.mnemonic() == mnemonic) + node.regions.iter().map(|r| count(r, mnemonic)).sum::<usize>()
        })
        .sum()
}
