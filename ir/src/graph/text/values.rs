// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types, numbers and attribute values as text.

use crate::dtype::DType;
use crate::graph::attr::Attr;
use crate::graph::types::{Item, ItemRank, ListKind, ListType, Quant, Scalar};
use crate::graph::{Dims, TensorType};
use crate::numerics;
use crate::text::{Cursor, Kind, SyntaxError, parse_expr};

pub(crate) fn dtype(c: &mut Cursor<'_>) -> Result<DType, SyntaxError> {
    let t = c.peek();
    match DType::from_name(c.text(t)) {
        Some(d) if t.kind == Kind::Ident => {
            c.bump();
            Ok(d)
        }
        _ => Err(c.expected("a dtype")),
    }
}

/// `f32[N,8]`, and `<..>` behind it for a quantized value.
pub(crate) fn tensor_type(c: &mut Cursor<'_>) -> Result<TensorType, SyntaxError> {
    if list_kind(c).is_some() {
        return list_type(c).map(TensorType::list);
    }
    let dtype = dtype(c)?;
    c.expect("[")?;
    let dims: Dims = c.list("]", parse_expr)?;
    let quant = if c.at("<") { Some(Box::new(quant(c)?)) } else { None };
    Ok(TensorType { dtype, dims, quant, list: None })
}

fn list_kind(c: &Cursor<'_>) -> Option<ListKind> {
    let t = c.peek();
    ListKind::ALL.iter().copied().find(|k| t.kind == Kind::Ident && c.text(t) == k.name() && c.at_nth(1, "("))
}

/// `seq(f32 rank 2)`, `optional(seq(i64))`, `map(str rank 1, f32 mixed)`.
fn list_type(c: &mut Cursor<'_>) -> Result<ListType, SyntaxError> {
    let start = c.peek();
    let Some(kind) = list_kind(c) else { return Err(c.expected("`seq(`, `optional(` or `map(`")) };
    c.bump();
    c.bump();
    let items = c.nested(|c| c.list(")", item))?;
    if items.len() != if kind == ListKind::Map { 2 } else { 1 } {
        return Err(c.error_at(start, format!("`{}` of {} types of elements", kind.name(), items.len())));
    }
    Ok(ListType { kind, items })
}

fn item(c: &mut Cursor<'_>) -> Result<Item, SyntaxError> {
    if list_kind(c).is_some() {
        return list_type(c).map(|l| Item::List(Box::new(l)));
    }
    let dtype = dtype(c)?;
    let rank = if c.eat("mixed") {
        ItemRank::Mixed
    } else if c.eat("rank") {
        ItemRank::Is(c.int("a rank")?)
    } else {
        ItemRank::Unknown
    };
    Ok(Item::Tensor(dtype, rank))
}

fn quant(c: &mut Cursor<'_>) -> Result<Quant, SyntaxError> {
    c.expect("<")?;
    let expressed = dtype(c)?;
    c.expect("scale")?;
    let scale = dtype(c)?;
    let zero_point = c.eat("zp");
    let (mut axis, mut block_elems) = (None, 1);
    if c.eat("axis") {
        axis = Some(c.int("an axis")?);
        c.expect("block")?;
        block_elems = c.int("a number of elements")?;
    }
    c.expect(">")?;
    Ok(Quant { expressed, scale, zero_point, axis, block_elems })
}

/// A number of that dtype.
pub(super) fn scalar(c: &mut Cursor<'_>, dtype: DType) -> Result<Scalar, SyntaxError> {
    let start = c.peek();
    let mut text = String::new();
    part(c, &mut text)?;
    if dtype == DType::C64 && c.eat(":") {
        text.push(':');
        part(c, &mut text)?;
    }
    numerics::parse_scalar(dtype, &text).ok_or_else(|| c.error_at(start, format!("`{text}` is no number of {dtype}")))
}

fn part(c: &mut Cursor<'_>, text: &mut String) -> Result<(), SyntaxError> {
    if c.eat("-") {
        text.push('-');
    }
    let t = c.peek();
    let is_word = t.kind == Kind::Ident && matches!(c.text(t), "inf" | "nan" | "true" | "false");
    if t.kind != Kind::Number && !is_word {
        return Err(c.expected("a number"));
    }
    c.bump();
    text.push_str(c.text(t));
    if c.text(t) == "nan" && c.eat("(") {
        let bits = c.bump();
        text.push('(');
        text.push_str(c.text(bits));
        text.push(')');
        c.expect(")")?;
    }
    Ok(())
}

/// Whether the token `n` ahead begins a number that is no integer.
fn is_float_at(c: &Cursor<'_>, n: usize) -> bool {
    let t = c.peek_at(n);
    let text = c.text(t);
    match t.kind {
        Kind::Number => !text.bytes().all(|b| b.is_ascii_digit()),
        Kind::Ident => matches!(text, "inf" | "nan"),
        _ => false,
    }
}

/// Whether an expression goes on at the token `n` ahead.
fn operator_at(c: &Cursor<'_>, n: usize) -> bool {
    ["+", "-", "*", "("].iter().any(|o| c.at_nth(n, o))
}

/// Any attribute value; numbers that are no integers are of `usual` dtype unless a dtype precedes them.
pub(super) fn attr(c: &mut Cursor<'_>, usual: DType) -> Result<Attr, SyntaxError> {
    let t = c.peek();
    let text = c.text(t);
    match t.kind {
        Kind::Text => return c.quoted_text("text").map(|s| Attr::Text(s.into())),
        Kind::Number | Kind::Ident if is_float_at(c, 0) => return scalar(c, usual).map(Attr::Scalar),
        Kind::Number if !operator_at(c, 1) => return c.int::<i128>("an integer").map(Attr::Int),
        Kind::Ident if list_kind(c).is_some() => return list_type(c).map(Attr::ListType),
        Kind::Ident => {
            if let Some(d) = DType::from_name(text) {
                // In `f32 -1.0` the sign belongs to the number, in `f32 - 1` it joins two.
                let sign = c.peek_at(1);
                let signed = c.at_nth(1, "-") && sign.start > t.end && c.peek_at(2).start == sign.end;
                let number = c.peek_at(1 + usize::from(signed));
                let word = matches!(c.text(number), "inf" | "nan" | "true" | "false") && number.kind == Kind::Ident;
                if number.kind == Kind::Number || word {
                    c.bump();
                    return scalar(c, d).map(Attr::Scalar);
                }
            }
            let word = match text {
                "true" => Some(Attr::Bool(true)),
                "false" => Some(Attr::Bool(false)),
                "none" => Some(Attr::Absent),
                _ if !operator_at(c, 1) => Some(Attr::Name(text.into())),
                _ => None,
            };
            if let Some(a) = word {
                c.bump();
                return Ok(a);
            }
        }
        Kind::Punct if text == "[" => {
            return c.nested(|c| {
                c.bump();
                c.list("]", |c| attr(c, usual)).map(Attr::List)
            });
        }
        Kind::Punct if text == "<" => return quant(c).map(Attr::Quant),
        Kind::Punct if text == "-" && is_float_at(c, 1) => return scalar(c, usual).map(Attr::Scalar),
        Kind::Punct if text == "-" && c.peek_at(1).kind == Kind::Number && !operator_at(c, 2) => {
            return c.int::<i128>("an integer").map(Attr::Int);
        }
        Kind::Number | Kind::Quoted | Kind::Punct => {}
        _ => return Err(c.expected("a value")),
    }
    if !(t.kind != Kind::Punct || text == "-" || text == "(") {
        return Err(c.expected("a value"));
    }
    parse_expr(c).map(Attr::Expr)
}

/// An attribute that was read as an integer or a truth value, as numbers of `dtype`.
pub(super) fn as_scalars(a: &Attr, dtype: DType) -> Option<Attr> {
    match a {
        Attr::Int(v) => numerics::parse_scalar(dtype, &v.to_string()).map(Attr::Scalar),
        Attr::Bool(v) => numerics::parse_scalar(dtype, &v.to_string()).map(Attr::Scalar),
        Attr::Scalar(s) => Some(Attr::Scalar(*s)),
        Attr::List(l) => l.iter().map(|a| as_scalars(a, dtype)).collect::<Option<Vec<_>>>().map(Attr::List),
        _ => None,
    }
}
