// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes into and comes out of models: tensors of numbers, tensors of texts, and lists of such.

use crate::blob::Kind;
use crate::dtype;
use crate::tensor::{Tensor, View};

/// Texts in row-major order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// Its shape.
    pub dims: Vec<i64>,
    /// As many texts as the shape says.
    pub values: Vec<String>,
}

/// A sequence, an optional (of one value or none) or a map (of keys and values).
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// Which of them.
    pub kind: Kind,
    /// Its elements.
    pub items: Vec<Value>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Numbers.
    Tensor(Tensor),
    /// Texts.
    Texts(Texts),
    /// A list.
    List(List),
}

/// A borrowed [`Value`].
#[derive(Clone, Debug, PartialEq)]
pub enum Arg<'a> {
    /// Numbers.
    Tensor(View<'a>),
    /// Texts.
    Texts(&'a Texts),
    /// A list.
    List(&'a List),
}

/// What can be given to a run.
pub trait Input {
    /// The value, borrowed.
    fn arg(&self) -> Arg<'_>;
}

impl Input for Value {
    fn arg(&self) -> Arg<'_> {
        match self {
            Value::Tensor(t) => Arg::Tensor(t.view()),
            Value::Texts(t) => Arg::Texts(t),
            Value::List(l) => Arg::List(l),
        }
    }
}
impl Input for View<'_> {
    fn arg(&self) -> Arg<'_> {
        Arg::Tensor(View { dtype: self.dtype, dims: self.dims.clone(), data: self.data })
    }
}
impl Input for Arg<'_> {
    fn arg(&self) -> Arg<'_> {
        self.clone()
    }
}

impl Texts {
    /// Texts of that shape; `None` if there are not as many.
    pub fn new(dims: Vec<i64>, values: Vec<String>) -> Option<Texts> {
        (dtype::elements(&dims) == Some(values.len() as u64)).then_some(Texts { dims, values })
    }
}

impl Value {
    /// The tensor of numbers that it is.
    pub fn tensor(&self) -> Option<&Tensor> {
        match self {
            Value::Tensor(t) => Some(t),
            _ => None,
        }
    }
    /// What it is, for people: `f32[2, 3]`, `str[4]`, `a sequence of 3`.
    pub fn describe(&self) -> String {
        match self {
            Value::Tensor(t) => format!("{}{:?}", dtype::name(t.dtype), t.dims),
            Value::Texts(t) => format!("str{:?}", t.dims),
            Value::List(List { kind: Kind::Optional, items }) => match items.first() {
                Some(v) => format!("an optional with {}", v.describe()),
                None => "an optional without a value".into(),
            },
            Value::List(List { kind: Kind::Map, items }) => match items.first() {
                Some(v) => format!("a map with the keys {}", v.describe()),
                None => "a map".into(),
            },
            Value::List(l) => format!("a sequence of {}", l.items.len()),
        }
    }
}

impl From<Tensor> for Value {
    fn from(t: Tensor) -> Value {
        Value::Tensor(t)
    }
}
