// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asynchronous copies and mbarriers, decoded.

/// An operation on an mbarrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MbarOp {}

/// A bulk copy.
#[derive(Clone, Debug)]
pub struct Bulk {}
