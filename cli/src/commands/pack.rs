// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright pack`.

use portwright_ir::diag::{Code, Diagnostic, Lowered};

use crate::Cx;
use crate::args::PackArgs;

/// Completes a weightless bundle in place.
///
/// # Errors
/// A weight that is missing or too short, and anything on the way.
pub fn run(a: PackArgs, cx: &mut Cx) -> Lowered<()> {
    cx.fail(Diagnostic::error(Code::NEEDS_WEIGHTS, format!("`{}` cannot be completed yet", a.bundle.display())))
}
