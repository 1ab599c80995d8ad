// SPDX-License-Identifier: Apache-2.0 OR MIT
//! contrib

use super::Entry;

pub const TABLE: &[Entry] = &[];
