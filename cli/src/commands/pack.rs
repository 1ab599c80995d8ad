// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright pack`.

use portwright_ir::diag::Lowered;

use crate::args::PackArgs;
use crate::{Cx, weightless};

/// Completes a weightless bundle in place and prints its path.
///
/// # Errors
/// A weight that is missing or too short, and anything on the way.
pub fn run(a: PackArgs, cx: &mut Cx) -> Lowered<()> {
    let path = weightless::complete(&a.bundle, &a.weights, cx)?;
    println!("{}", path.display());
    Ok(())
}
