// SPDX-License-Identifier: Apache-2.0 OR MIT
//! random

use super::Entry;

pub const TABLE: &[Entry] = &[];
