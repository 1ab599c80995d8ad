// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The worker that runs LLVM.

use portwright_ir::diag::{Code, Diagnostic, Lowered};

use crate::Cx;

/// Answers requests on stdin until it ends.
///
/// # Errors
/// A request that is none.
pub fn run(cx: &mut Cx) -> Lowered<()> {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    // Only tests set it: the text of a request at which this process dies as LLVM would.
    let seeded = std::env::var("PORTWRIGHT_SEEDED_ABORT").ok().filter(|s| !s.is_empty());
    let before = |mlir: &str| {
        if seeded.as_ref().is_some_and(|s| mlir.contains(s.as_str())) {
            eprintln!("LLVM ERROR: seeded fault");
            std::process::abort();
        }
    };
    portwright_targets::codegen::serve(&mut input, &mut output, &before)
        .or_else(|e| cx.fail(Diagnostic::error(Code::INTERNAL, format!("the code generation worker: {e}"))))
}
