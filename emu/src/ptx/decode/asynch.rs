// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asynchronous copies.

use super::{Dec, R};
use crate::ptx::ast::Stmt;

impl<'a> Dec<'a, '_> {
    pub(super) fn asynch(&mut self, _s: &Stmt<'a>) -> R<bool> {
        Ok(false)
    }
}
