// SPDX-License-Identifier: Apache-2.0 OR MIT
//! ONNX model files to Graph IR.
//!
//! [`import`] reads a model, checks it and builds an `ir::graph::Graph`: every operator becomes core ops, or a composite. Everything that
//! is wrong with a model is reported in one run; what depends on a node that failed is passed over in silence.
//!
//! **Must never know:** passes, any chip.
#![deny(missing_docs)]

pub mod check;
mod cx;
mod external;
mod fault;
mod import;
mod lists;
pub mod model;
mod ops;
pub mod proto;
mod regex;
mod region;
pub mod schema;
mod scope;
mod tensor;
mod testdata;

pub use external::{DataFault, External};
pub use import::{DimOverride, ImportOptions, Imported, Progress, import, import_bytes};
pub use ops::{arity, operators};
pub use testdata::{TestTensor, TestValue, tensor_from_pb, value_from_pb};
