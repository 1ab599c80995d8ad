// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Result types of every op, from its attributes and operand types.

use super::{Graph, Op, TensorType, TypeFault};

/// Infers the result types of `op`, one a result.
///
/// `graph` gives the types of weights and the ranges of symbols. Dims that cannot be proven equal but may be are taken as equal (the
/// caller records a constraint, see [`super::symbolic`]); dims that cannot be equal are a fault.
///
/// # Errors
/// Wrong number of operands, dtypes or dims that do not fit, attributes out of range.
pub fn infer(graph: &Graph, op: &Op, operands: &[&TensorType], regions: &[Graph]) -> Result<Vec<TensorType>, TypeFault> {
    let _ = (graph, op, operands, regions);
    Err(TypeFault::new(crate::diag::Code::INTERNAL, "inference is not there yet"))
}
