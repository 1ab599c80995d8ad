// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names, and what is said of those that do not exist.

use portwright_ir::diag::{Code, Diags};
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
    let mut sink = Diags::new();
    let m = machine("x86-64", Some("x86-64-v4+avx512vnni-avx512vl"), &mut sink);
    assert!(m.is_err(), "a feature is taken away by `-` only right behind the name");
    let m = machine("x86-64", Some("sapphirerapids-amx-tile"), &mut Diags::new()).unwrap_or_else(|_| panic!());
    assert!(!m.features.contains(&"amx-tile") && m.spelling.tiles.is_empty());
}
