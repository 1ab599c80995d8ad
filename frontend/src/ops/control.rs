// SPDX-License-Identifier: Apache-2.0 OR MIT
//! control

use super::Entry;

pub const TABLE: &[Entry] = &[];
