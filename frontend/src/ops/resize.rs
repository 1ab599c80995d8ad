// SPDX-License-Identifier: Apache-2.0 OR MIT
//! resize

use super::Entry;

pub const TABLE: &[Entry] = &[];
