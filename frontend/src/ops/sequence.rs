// SPDX-License-Identifier: Apache-2.0 OR MIT
//! sequence

use super::Entry;

pub const TABLE: &[Entry] = &[];
