// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Matrix fragments.

use super::{Dec, R};
use crate::ptx::ast::Stmt;

impl<'a> Dec<'a, '_> {
    pub(super) fn matrix(&mut self, _s: &Stmt<'a>) -> R<bool> {
        Ok(false)
    }
}
