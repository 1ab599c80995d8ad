// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mutation gate: without any one barrier, wait, signal, commit or fence, the verifier or the interpreter reports a
//! fault. `cargo test -p portwright-ir mutation -- --nocapture` prints who catches what.

use super::run::{Job, attention, cumsum, gemm, launch, options, softmax_job};
use super::*;

fn orders(s: &Stmt) -> bool {
    matches!(
        s,
        Stmt::Commit(_)
            | Stmt::Wait(..)
            | Stmt::BarInit(..)
            | Stmt::BarExpect(..)
            | Stmt::BarArrive(_)
            | Stmt::BarWait(..)
            | Stmt::Barrier(_)
            | Stmt::Fence(_)
            | Stmt::MmaFence
            | Stmt::MmaCommit
            | Stmt::MmaWait(_)
    )
}

fn remove(k: &mut Kernel, s: StmtId) {
    let blocks = k.stmts.values_mut().flat_map(|x| match x {
        Stmt::For { body, .. } | Stmt::Role { body, .. } | Stmt::Each { body, .. } => vec![body],
        Stmt::If { then, els, .. } => vec![then, els],
        _ => vec![],
    });
    for b in blocks.chain(std::iter::once(&mut k.body)) {
        b.retain(|x| *x != s);
    }
}

/// Who reports a kernel, if anybody does.
fn caught(m: &Module, job: &Job) -> Option<String> {
    let id = m.kernel_named(job.kernel)?;
    let verifier = verify(m, id, &Limits::default()).err().map(|f| format!("verifier: {}", f[0].message));
    let interpreter = options().iter().find_map(|o| {
        let f = launch(m, job, o).err()?;
        Some(format!("interpreter ({:?}, seed {}): {:?}: {}", o.copies, o.seed, f.kind, f.message))
    });
    let both: Vec<String> = verifier.into_iter().chain(interpreter).collect();
    (!both.is_empty()).then(|| both.join(" | "))
}

#[test]
fn every_missing_order_is_reported() {
    let mut jobs = vec![
        gemm("gemm_simt", "gemm_mma", 130, 72, 136),
        gemm("gemm_simt", "gemm_mmac", 130, 72, 72),
        gemm("gemm_simt", "gemm_wgmma", 70, 75, 328),
        gemm("gemm_simt", "gemm_wgmma_staged", 70, 75, 136),
        gemm("gemm_tile", "gemm_agents", 70, 75, 270),
        attention(1, 40, &[35]),
        cumsum(1, 700),
    ];
    jobs.extend(["softmax_w32", "softmax_w64", "softmax_w128"].map(|k| softmax_job(k, 2, 300)));
    let mut missed = Vec::new();
    for job in &jobs {
        let m = case(job.case);
        assert_eq!(caught(&m, job), None, "{} as written", job.kernel);
        let id = m.kernel_named(job.kernel).unwrap();
        let text = print_kernel(&m, &m.kernels[id]);
        for (s, _) in m.kernels[id].stmts.iter().filter(|(_, s)| orders(s)) {
            let mut bad = m.clone();
            remove(&mut bad.kernels[id], s);
            let by = caught(&bad, job);
            println!("{} | line {} without `{}` | {}", job.kernel, text.line_of(s), text.line(s), by.as_deref().unwrap_or("MISSED"));
            if by.is_none() {
                missed.push(format!("{}: {}", job.kernel, text.line(s)));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}
