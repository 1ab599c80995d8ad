// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names, and what is said of those that do not exist.

use portwright_ir::diag::{Code, Diags};
use portwright_passes::spec::MachineClass;
use portwright_runtime::features;

use crate::target::{LookupError, all, lookup, machine};

#[test]
fn near_names_are_offered() {
    assert_eq!(lookup("x86_64").err(), Some(LookupError::Unknown { did_you_mean: Some("x86-64") }));
    assert_eq!(lookup("tpu").err(), Some(LookupError::Unknown { did_you_mean: None }));
    let mut sink = Diags::new();
    assert!(machine("x86-64", Some("x86-64-v5"), &mut sink).is_err());
    assert!(machine("x86-64", Some("x86-64-v3+avx512vni"), &mut sink).is_err());
    assert!(machine("loongarch64", Some("la46"), &mut sink).is_err());
    let help: Vec<_> = sink.all().iter().map(|d| (d.code, d.help.clone().unwrap_or_default())).collect();
    assert!(help.iter().all(|h| h.0 == Code::UNKNOWN_CPU));
    assert!(help[1].1.contains("`avx512vnni`"), "{help:?}");
    assert!(help[2].1.contains("`la464`"), "{help:?}");
}

#[test]
fn every_cpu_resolves_to_features_that_the_runtime_can_test() {
    for t in all() {
        for cpu in t.spec().cpus.iter().filter(|c| **c != "host") {
            let mut sink = Diags::new();
            let m = t.machine(Some(cpu), &mut sink).unwrap_or_else(|_| panic!("{:?}", sink.all()));
            assert_eq!(m.feature_bits().len(), m.features.len(), "{cpu}");
            assert!(features::all(m.arch).count() >= m.features.len());
        }
    }
}

/// Target, what `--cpu` says, bytes of a vector, number of forms of dot products.
const CHANGED: &[(&str, &str, u32, usize)] = &[
    ("x86-64", "x86-64-v4+avx512vnni", 64, 1),
    ("x86-64", "x86-64-v4+avx512vnni-avx512vl", 32, 0),
    ("x86-64", "sapphirerapids-amx-tile", 64, 2),
    ("loongarch64", "la464", 32, 3),
    ("loongarch64", "la464-lasx", 16, 3),
    ("loongarch64", "la664-lasx-lsx", 1, 0),
    ("loongarch64", "loongarch64-lsx", 16, 3),
    ("aarch64", "armv8-a", 16, 0),
    ("aarch64", "armv8-a+dotprod", 16, 2),
    ("aarch64", "neoverse-n2", 16, 4),
    ("aarch64", "neoverse-v1", 32, 4),
    ("aarch64", "neoverse-v1-vl256", 16, 4),
    ("aarch64", "a64fx", 64, 2),
    ("riscv64", "rv64gcv", 16, 0),
    ("riscv64", "rv64gcv+zvl512b", 64, 0),
    ("riscv64", "rv64gcv-zvl256b+zba", 32, 0),
    ("riscv64", "rv64gc", 1, 0),
    ("riscv64", "rv64gcv+one-lane", 1, 0),
    ("host", "+one-lane", 1, 0),
];

#[test]
fn features_are_added_and_taken_away() {
    for &(target, cpu, vec_bytes, dots) in CHANGED {
        let mut sink = Diags::new();
        let m = machine(target, Some(cpu), &mut sink).unwrap_or_else(|_| panic!("{cpu}: {:?}", sink.all()));
        let MachineClass::Cpu(spec) = &m.class else { panic!("{cpu} is no CPU") };
        assert_eq!((spec.vec_bytes, spec.dots.len()), (vec_bytes, dots), "{target} {cpu}");
        assert!(spec.dots.iter().all(|d| m.spelling.dots.iter().any(|s| (s.a, s.b) == (d.a, d.b))), "{cpu}: a form that is not spelled");
        assert_eq!(m.spelling.one_lane, cpu.ends_with("+one-lane"));
    }
    let m = machine("x86-64", Some("sapphirerapids-amx-tile"), &mut Diags::new()).unwrap_or_else(|_| panic!());
    assert!(!m.features.contains(&"amx-tile") && m.spelling.tiles.is_empty());
    let m = machine("aarch64", Some("neoverse-v1"), &mut Diags::new()).unwrap_or_else(|_| panic!());
    assert!(m.features.contains(&"vl256") && !m.feature_list().contains("vl256"), "a length is tested at load, and no feature to LLVM");
    let mut sink = Diags::new();
    for (target, cpu) in
        [("loongarch64", "la464-lasz"), ("riscv64", "rv64gcv+zvl256"), ("aarch64", "neoverse-n1+sve3"), ("aarch64", "neoverse-n1-neon")]
    {
        assert!(machine(target, Some(cpu), &mut sink).is_err(), "{cpu}");
    }
    let help: Vec<_> = sink.all().iter().map(|d| d.help.clone().unwrap_or_default()).collect();
    let near = ["`lasx`", "`zvl256b`", "`sve`"];
    assert!(near.iter().zip(&help).all(|(n, h)| h.contains(n)), "{help:?}");
    assert!(sink.all().iter().all(|d| d.code == Code::UNKNOWN_CPU));
}
