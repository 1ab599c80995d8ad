// SPDX-License-Identifier: Apache-2.0 OR MIT
//! quant

use super::Entry;

pub const TABLE: &[Entry] = &[];
