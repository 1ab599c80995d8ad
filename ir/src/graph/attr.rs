// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Attributes as data, so that printing and parsing need no code per op.

use std::sync::Arc;

use crate::dtype::DType;
use crate::entity::EntityId;
use crate::sym::{SymExpr, SymName};

use super::op::WeightId;
use super::types::{ListType, Literal, Quant, Scalar};

/// Attributes of an op by name.
pub type Attrs = Vec<(&'static str, Attr)>;

/// One attribute value, as it stands in text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attr {
    /// An integer.
    Int(i128),
    /// A truth value.
    Bool(bool),
    /// A bare name: an alternative of an enum, a dtype, a symbol.
    Name(Arc<str>),
    /// Quoted text.
    Text(Arc<str>),
    /// An expression over symbols.
    Expr(SymExpr),
    /// A number with its dtype, as `f32 1e-5`.
    Scalar(Scalar),
    /// A list.
    List(Vec<Attr>),
    /// A small constant with its elements.
    Literal(Literal),
    /// A weight of the graph.
    Weight(WeightId),
    /// A quantization.
    Quant(Quant),
    /// Type of a list.
    ListType(ListType),
    /// Nothing: an absent optional.
    Absent,
}

/// What can be an attribute.
pub trait AttrValue: Sized {
    /// The value as data.
    fn to_attr(&self) -> Attr;
    /// The value back; `None` if the data is of another kind or out of range.
    fn from_attr(a: &Attr) -> Option<Self>;
    /// Reads an attribute that may be missing.
    fn read(a: Option<Attr>) -> Option<Self> {
        Self::from_attr(&a?)
    }
}

macro_rules! ints {
    ($($t:ty),*) => {$(
        impl AttrValue for $t {
            fn to_attr(&self) -> Attr { Attr::Int(i128::from(*self)) }
            fn from_attr(a: &Attr) -> Option<Self> {
                match a {
                    Attr::Int(v) => <$t>::try_from(*v).ok(),
                    Attr::Expr(e) => e.as_const().and_then(|v| <$t>::try_from(v).ok()),
                    _ => None,
                }
            }
        }
    )*};
}
ints!(u32, i64, u64);

impl AttrValue for bool {
    fn to_attr(&self) -> Attr {
        Attr::Bool(*self)
    }
    fn from_attr(a: &Attr) -> Option<Self> {
        match a {
            Attr::Bool(v) => Some(*v),
            _ => None,
        }
    }
}

impl AttrValue for SymExpr {
    fn to_attr(&self) -> Attr {
        Attr::Expr(self.clone())
    }
    fn from_attr(a: &Attr) -> Option<Self> {
        match a {
            Attr::Expr(e) => Some(e.clone()),
            Attr::Int(v) => i64::try_from(*v).ok().map(SymExpr::from),
            Attr::Name(n) => Some(SymExpr::sym(n.clone())),
            _ => None,
        }
    }
}

/// Text and symbol names share a type; both are written in quotes.
impl AttrValue for SymName {
    fn to_attr(&self) -> Attr {
        Attr::Text(self.clone())
    }
    fn from_attr(a: &Attr) -> Option<Self> {
        match a {
            Attr::Text(t) => Some(t.clone()),
            _ => None,
        }
    }
}

impl AttrValue for DType {
    fn to_attr(&self) -> Attr {
        Attr::Name(self.name().into())
    }
    fn from_attr(a: &Attr) -> Option<Self> {
        match a {
            Attr::Name(n) => DType::from_name(n),
            _ => None,
        }
    }
}

macro_rules! plain {
    ($($t:ty => $v:ident),*) => {$(
        impl AttrValue for $t {
            fn to_attr(&self) -> Attr { Attr::$v(self.clone()) }
            fn from_attr(a: &Attr) -> Option<Self> { match a { Attr::$v(x) => Some(x.clone()), _ => None } }
        }
    )*};
}
plain!(Scalar => Scalar, Literal => Literal, Quant => Quant, ListType => ListType);

impl AttrValue for WeightId {
    fn to_attr(&self) -> Attr {
        Attr::Weight(*self)
    }
    fn from_attr(a: &Attr) -> Option<Self> {
        match a {
            Attr::Weight(w) => Some(*w),
            Attr::Int(v) => usize::try_from(*v).ok().filter(|v| *v < u32::MAX as usize).map(WeightId::new),
            _ => None,
        }
    }
}

impl<T: AttrValue> AttrValue for Vec<T> {
    fn to_attr(&self) -> Attr {
        Attr::List(self.iter().map(T::to_attr).collect())
    }
    fn from_attr(a: &Attr) -> Option<Self> {
        match a {
            Attr::List(l) => l.iter().map(T::from_attr).collect(),
            _ => None,
        }
    }
}

impl<T: AttrValue> AttrValue for Option<T> {
    fn to_attr(&self) -> Attr {
        self.as_ref().map_or(Attr::Absent, T::to_attr)
    }
    fn from_attr(a: &Attr) -> Option<Self> {
        match a {
            Attr::Absent => Some(None),
            other => T::from_attr(other).map(Some),
        }
    }
    fn read(a: Option<Attr>) -> Option<Self> {
        a.map_or(Some(None), |a| Self::from_attr(&a))
    }
}
