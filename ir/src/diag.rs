// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Diagnostics: what is reported to a person, collected as values and rendered only by the command.
//!
//! A stage that cannot go on returns [`Reported`], which can only be made by reporting, so "failed with no message"
//! cannot be written. Equal reasons on many nodes are grouped when they are rendered.

use std::fmt;

/// How bad it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The result is right, but costs speed, accuracy or a surprise.
    Warning,
    /// No result.
    Error,
}

/// Stable code of a diagnostic, as in `E0412`. The range fixes the exit code of the command.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u16);

macro_rules! codes {
    ($($name:ident = $num:literal, $title:literal;)*) => {
        impl Code {
            $(#[doc = $title] pub const $name: Code = Code($num);)*
            /// Every code with its title, in order.
            pub const ALL: &'static [(Code, &'static str)] = &[$((Code($num), $title)),*];
        }
    };
}

codes! {
    UNKNOWN_TARGET = 1, "unknown target";
    TARGET_NOT_BUILT = 2, "target not compiled in";
    OPTION_UNUSED = 3, "option does not apply";
    BAD_OPTION = 4, "option value not understood";
    UNKNOWN_CPU = 5, "unknown CPU or CPU feature";
    UNKNOWN_STAGE = 6, "unknown stage";
    UNKNOWN_NODE = 7, "no node of that path";
    NOT_ONNX = 101, "the file is not an ONNX model";
    IR_VERSION = 102, "ONNX IR version or opset outside the supported range";
    DUPLICATE_NAME = 103, "a name is defined twice";
    UNDEFINED_NAME = 104, "a name is used but defined nowhere";
    CYCLE = 105, "the graph has a cycle";
    UNKNOWN_OP = 106, "unknown operator";
    BAD_ATTRIBUTE = 107, "attribute missing, of the wrong kind or out of range";
    BAD_ARITY = 108, "wrong number of operands or results";
    BAD_TENSOR = 109, "tensor data does not fit its shape and dtype";
    EXTERNAL_DATA = 110, "external data is missing, too short or outside the model's folder";
    NESTING = 111, "subgraphs or functions nested too deeply, or recursive";
    MISSING_TYPE = 112, "a graph input has no usable type";
    UNSUPPORTED_FORM = 113, "a form of this operator that is not taken";
    BAD_DIM = 201, "a dim is out of range";
    SHAPE_MISMATCH = 202, "shapes do not fit together";
    DTYPE_MISMATCH = 203, "dtypes do not fit together";
    SIZE_OVERFLOW = 204, "a size leaves the range of 64-bit integers";
    UNKNOWN_SYMBOL = 205, "no symbol of that name";
    GRAPH_TEXT = 301, "textual Graph IR is malformed";
    KERNEL_TEXT = 302, "textual Kernel IR is malformed";
    PLAN_TEXT = 303, "a textual host plan is malformed";
    NOT_SUPPORTED = 401, "not supported on this target";
    OVER_FALLBACK = 402, "more host fallback than --max-fallback allows";
    OVER_MEMORY = 403, "does not fit into memory";
    NEEDS_WEIGHTS = 404, "the bundle has no weights yet";
    TOOL_MISSING = 501, "a tool is missing";
    TOOL_REJECTED = 502, "a tool rejected what was emitted";
    CODEGEN = 503, "code generation failed";
    NO_EXECUTOR = 504, "nothing here can run this target";
    BUNDLE_FOREIGN = 505, "the bundle was compiled for another machine";
    NUMBERS_DIFFER = 601, "numbers differ beyond the tolerance";
    RUN_FAILED = 602, "the model failed while it ran";
    FILE_READ = 701, "a file cannot be read";
    FILE_WRITE = 702, "a file cannot be written";
    OUTPUT_EXISTS = 703, "the output exists and is not a bundle";
    BAD_NPZ = 704, "an input archive cannot be used";
    BAD_BUNDLE = 705, "not a bundle, or a damaged one";
    INTERNAL = 901, "Portwright's own fault";
}

impl Code {
    /// What the code means, in a few words.
    pub fn title(self) -> &'static str {
        Code::ALL.iter().find(|(c, _)| *c == self).map_or("unknown code", |(_, t)| t)
    }
    /// Exit code of the command that ends with this error.
    pub fn exit_code(self) -> u8 {
        match self.0 / 100 {
            0 => 2,
            1..=3 => 3,
            4 => 4,
            5 => 5,
            6 => 6,
            7 => 7,
            _ => 70,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "E{:04}", self.0)
    }
}
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// Path of the node that it is about, as `main/If_12.then/Conv_3`.
    pub path: Option<String>,
    /// Operator with domain and version, as in the model file.
    pub op: Option<String>,
    /// Operands of the node, each with its type, where they are known.
    pub operands: Vec<String>,
    /// One sentence: what was found and what was expected.
    pub message: String,
    /// Further facts, a line each.
    pub notes: Vec<String>,
    /// A command or an edit that mends it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Makes an error.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Diagnostic {
            code,
            severity: Severity::Error,
            path: None,
            op: None,
            operands: Vec::new(),
            message: message.into(),
            notes: Vec::new(),
            help: None,
        }
    }
    /// Makes a warning.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::error(code, message) }
    }
    /// Names the node.
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }
    /// Names the operator.
    pub fn op(mut self, op: impl Into<String>) -> Self {
        self.op = Some(op.into());
        self
    }
    /// Says what the node is given.
    pub fn operands(mut self, operands: impl IntoIterator<Item = String>) -> Self {
        self.operands.extend(operands);
        self
    }
    /// Adds a fact.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
    /// Says how to mend it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Proof that an error was reported; only [`Diags::report`] makes one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Reported(());

/// Result of a stage that reports what goes wrong.
pub type Lowered<T> = Result<T, Reported>;

/// Collects reports.
#[derive(Debug, Default)]
pub struct Diags {
    list: Vec<Diagnostic>,
    errors: usize,
}

impl Diags {
    /// Makes an empty collection.
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds an error and returns the proof.
    pub fn report(&mut self, d: Diagnostic) -> Reported {
        debug_assert_eq!(d.severity, Severity::Error);
        self.errors += 1;
        self.list.push(d);
        Reported(())
    }
    /// Adds a warning.
    pub fn warn(&mut self, d: Diagnostic) {
        self.list.push(Diagnostic { severity: Severity::Warning, ..d });
    }
    /// All reports, in order.
    pub fn all(&self) -> &[Diagnostic] {
        &self.list
    }
    /// Whether an error was reported.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }
    /// `Err` if an error was reported so far, for stages that collect before they give up.
    pub fn check(&self) -> Lowered<()> {
        if self.has_errors() { Err(Reported(())) } else { Ok(()) }
    }
    /// Takes all reports out.
    pub fn take(&mut self) -> Vec<Diagnostic> {
        self.errors = 0;
        std::mem::take(&mut self.list)
    }
    /// Adds reports that were collected elsewhere.
    pub fn extend(&mut self, other: impl IntoIterator<Item = Diagnostic>) {
        for d in other {
            self.errors += usize::from(d.severity == Severity::Error);
            self.list.push(d);
        }
    }
}
