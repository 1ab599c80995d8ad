// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the judges take and refuse: small texts in each dialect.

use super::{Clang, JudgeError, Made, Mode, Nvcc, modes, resources};

/// Verdict on a text for a chip; `None` where there is no clang.
fn judged(arch: &str, suffix: &str, text: &str) -> Option<Result<Made, String>> {
    let mode = modes().find(|m| m.arch == arch).unwrap();
    judged_as(&mode, suffix, text)
}

fn judged_as(mode: &Mode, suffix: &str, text: &str) -> Option<Result<Made, String>> {
    let clang = match Clang::find() {
        Ok(c) => c,
        Err(e) => {
            eprintln!("skipped: {e}");
            return None;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join(format!("kernels.{suffix}"));
    std::fs::write(&unit, text).unwrap();
    Some(clang.unit(mode, &unit, &[]).map_err(|e| match e {
        JudgeError::Refused(_, text) => text,
        e => panic!("{e}"),
    }))
}

#[test]
fn every_row_is_a_mode() {
    let rows = super::CHIPS.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()).count();
    assert_eq!(modes().count(), rows);
    let headers = |d: &str| super::FILES.iter().any(|(name, _)| name.starts_with(&format!("{d}/")));
    assert!(modes().all(|m| headers(&m.dialect) && ["cuda", "hip"].contains(&m.language.as_str())));
}

/// Of each: chip, suffix, a text, and a word of what is said where it is refused.
const TEXTS: &[(&str, &str, &str, Option<&str>)] = &[
    (
        "xcore1000",
        "maca",
        "#include <mcr/mc_runtime.h>\n__global__ void f(float *p) { p[0] = __shfl_xor_sync(0xffffffffffffffffull, p[1], 1, 64); }\n",
        None,
    ),
    (
        "xcore1000",
        "maca",
        "#include <mcr/mc_runtime.h>\n__global__ void f(float *p) { p[0] = __shfl_xor_sync(0xffffffffu, p[1], 1, 64); }\n",
        Some("deleted function"),
    ),
    (
        "br100",
        "su",
        "#include <supa.h>\nsuError_t f(void *a, void *b, suStream_t s) { return suMemcpyAsync(a, b, 4, s, suMemcpyHostToDevice); }\n",
        None,
    ),
    (
        "br100",
        "su",
        "#include <supa.h>\nsuError_t f(void *a, void *b, suStream_t s) { return suMemcpyAsync(a, b, 4, suMemcpyHostToDevice, s); }\n",
        Some("no matching function"),
    ),
    (
        "sm_80",
        "cu",
        "#include <cuda_runtime.h>\ncudaError_t f(void *a, void *b, cudaStream_t s) { return cudaMemcpyAsync(a, b, 4, s, cudaMemcpyHostToDevice); }\n",
        Some("no matching function"),
    ),
    ("gfx906", "hip", "#include <hip/hip_runtime.h>\n__global__ void f(float *p) { __syncwarp(); }\n", Some("__syncwarp")),
    (
        "gfx906",
        "hip",
        "#include <hip/hip_runtime.h>\n__global__ void f(judge_half4 *p, judge_float4 *c) { *c = __builtin_amdgcn_mmac_f32_16x16x16f16(*p, *p, *c); }\n",
        Some("mmac"),
    ),
];

#[test]
fn types_of_the_vendors_are_held() {
    for (arch, suffix, text, refused) in TEXTS {
        let Some(verdict) = judged(arch, suffix, text) else { return };
        match (verdict, refused) {
            (Ok(_), None) => {}
            (Err(said), Some(word)) if said.contains(word) => {}
            (verdict, _) => panic!("{arch}: {text}\n{verdict:?}"),
        }
    }
}

const GROUP: &str = "#include <hip/hip_runtime.h>\nextern \"C\" __global__ void __launch_bounds__(128) f(float *p) {\n  __shared__ float s[96];\n  \
    s[threadIdx.x % 96] = p[threadIdx.x];\n  __syncthreads();\n  p[threadIdx.x] = s[(threadIdx.x + 1) % 96];\n}\n";

#[test]
fn code_objects_say_what_kernels_take() {
    let Some(made) = judged("gfx906", "hip", GROUP) else { return };
    let Ok(Made::Object(bytes)) = made else { panic!("{made:?}") };
    let all = resources(&bytes).unwrap();
    let f = &all[0];
    assert_eq!((all.len(), f.name.as_str(), f.shared, f.lanes, f.group, f.spills), (1, "f", 384, 64, 128, 0));
    assert!(f.registers > 0 && f.scalars > 0);
    // Whatever is cut off or changed, there is an answer or none.
    for end in (0..bytes.len()).step_by(7) {
        let _ = resources(&bytes[..end]);
    }
    for at in 0..bytes.len().min(4096) {
        let mut other = bytes.clone();
        other[at] ^= 0xff;
        let _ = resources(&other);
    }
}

/// The vendor's own compiler takes and refuses what the headers that type its names do.
#[test]
fn the_vendors_compiler_agrees() {
    let folders: Vec<_> = std::env::var_os("PORTWRIGHT_TOOLS").map(std::path::PathBuf::from).into_iter().collect();
    let nvcc = match Nvcc::find(&folders) {
        Ok(n) => n,
        Err(e) => return eprintln!("skipped: {e}"),
    };
    let kernel = "#include <cuda_runtime.h>\nextern \"C\" __global__ void f(float *p) { p[0] = __shfl_xor_sync(0xffffffffu, p[1], 1); }\n";
    let texts = TEXTS.iter().filter(|t| t.1 == "cu").map(|t| (t.2, t.3.is_none())).chain([(kernel, true)]);
    for (text, taken) in texts {
        let folder = tempfile::tempdir().unwrap();
        let unit = folder.path().join("kernels.cu");
        std::fs::write(&unit, text).unwrap();
        match nvcc.unit("sm_80", &unit, &[]) {
            Ok(report) if taken => assert!(report.functions.iter().any(|f| f.name == "f" && f.registers > 0)),
            Err(JudgeError::Refused(..)) if !taken => {}
            verdict => panic!("{text}\n{verdict:?}"),
        }
    }
}

/// Where LLVM's own product stands for a vendor's, its instruction is there.
#[test]
fn products_stand_for_those_of_gfx90a() {
    const PRODUCT: &str = "__global__ void f(judge_half4 *p, judge_short4 *q, judge_float4 *c) {\n  *c = PRODUCT16(*p, *p, *c);\n  c[1] = PRODUCT_BF(*q, *q, *c);\n}\n";
    let names = [
        ("gfx936", "hip", "hip/hip_runtime.h", ["__builtin_amdgcn_mmac_f32_16x16x16f16", "__builtin_amdgcn_mmac_f32_16x16x16bf16"]),
        ("xcore1000", "maca", "mcr/mc_runtime.h", ["__builtin_mxc_mma_16x16x16f16", "__builtin_mxc_mma_16x16x16bf16"]),
    ];
    for (arch, suffix, header, [half, brain]) in names {
        let mode = modes().find(|m| m.arch == arch).map(|m| Mode { object: false, ..m }).unwrap();
        let body = PRODUCT.replace("PRODUCT16", half).replace("PRODUCT_BF", brain);
        let Some(made) = judged_as(&mode, suffix, &format!("#include <{header}>\n{body}")) else { return };
        let Ok(Made::Text(text)) = made else { panic!("{made:?}") };
        assert!(text.contains("v_mfma_f32_16x16x16_f16") || text.contains("v_mfma_f32_16x16x16f16"), "{text}");
        assert!(text.contains("v_mfma_f32_16x16x16bf16_1k") || text.contains("v_mfma_f32_16x16x16_bf16"), "{text}");
    }
}
