// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a node cannot be imported.

use portwright_ir::diag::Code;
use portwright_ir::graph::TypeFault;

/// What stops the import of one node; the rest of the graph is still looked at.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Code for the report; `None` when what it needs has failed before and was reported there.
    pub code: Option<Code>,
    /// What was found and what was expected.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
    /// What differs from tensor to tensor where one sentence is said of many.
    pub note: Option<String>,
    /// Where dims that cannot match come from.
    pub why: Vec<String>,
}

impl Fault {
    /// Makes a fault.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Fault { code: Some(code), message: message.into(), help: None, note: None, why: Vec::new() }
    }
    /// A form of the operator that is not taken.
    pub fn form(message: impl Into<String>) -> Self {
        Fault::new(Code::UNSUPPORTED_FORM, message)
    }
    /// An attribute that is missing or wrong.
    pub fn attr(message: impl Into<String>) -> Self {
        Fault::new(Code::BAD_ATTRIBUTE, message)
    }
    /// Shapes that do not fit.
    pub fn shape(message: impl Into<String>) -> Self {
        Fault::new(Code::SHAPE_MISMATCH, message)
    }
    /// Follows from a fault that was reported elsewhere.
    pub fn follows() -> Self {
        Fault { code: None, message: String::new(), help: None, note: None, why: Vec::new() }
    }
    /// Says how to mend it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<TypeFault> for Fault {
    fn from(f: TypeFault) -> Self {
        Fault { why: f.notes, ..Fault::new(f.code, f.message) }
    }
}
