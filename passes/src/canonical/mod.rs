// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Canonical form: one spelling for what can be spelled in many ways, so that later passes match once.
//!
//! Every rule is exact to the bit for every input (signs of zero included, payloads of NaN excluded); the one exception is
//! `fold-scale-into-weights` and its kin in [`affine`], which [`affine::RULES`] states.

use crate::rules::Rule;

pub mod affine;
mod arith;
pub mod contract;
mod movement;
mod select;
pub mod views;

/// All rules of the canonical form.
pub fn rules() -> Vec<&'static Rule> {
    arith::RULES.iter().chain(select::RULES).chain(movement::RULES).chain(contract::RULES).collect()
}
