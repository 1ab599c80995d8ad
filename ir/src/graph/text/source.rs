// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Constants and weights as text.

use std::sync::Arc;

use super::values;
use crate::dtype::DType;
use crate::graph::{Literal, TensorType};
use crate::numerics;
use crate::text::{Cursor, Kind, SyntaxError, print_text};
use crate::weight::{Weight, WeightSource};

/// Most elements that are written as numbers.
const MAX_INLINE: usize = 16;

/// Dims as `4x3x3`.
pub(super) fn dims(dims: &[i64]) -> String {
    dims.iter().map(i64::to_string).collect::<Vec<_>>().join("x")
}

/// `[1, 2]`, or `None` if there are many or no text can be their numbers.
fn inline(l: &Literal) -> Option<String> {
    let elems: Vec<String> = l.elems().map(numerics::print_scalar).collect();
    let fits = l.len() <= MAX_INLINE && elems.len() == l.len() && l.dtype != DType::Str;
    fits.then(|| format!("[{}]", elems.join(", ")))
}

/// A constant; its type is that of the result.
pub(super) fn constant(l: &Literal) -> String {
    match inline(l) {
        Some(list) if l.dims.is_empty() => format!("const {}", list.trim_matches(['[', ']'])),
        Some(list) => format!("const {list}"),
        None => format!("const hex\"{}\"", hex(&l.bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// A weight by reference; a few numbers are written out.
pub(super) fn weight(w: &Weight) -> String {
    let mut out = format!("weight<{}", w.dtype);
    if !w.dims.is_empty() {
        out.push(' ');
        out.push_str(&dims(&w.dims));
    }
    out.push(' ');
    out.push_str(&print_text(&w.name));
    let few = w.elems().is_some_and(|n| n <= MAX_INLINE as u64);
    let literal = || Literal::new(w.dtype, &w.dims, w.bytes()?.to_vec()).and_then(|l| inline(&l));
    let source = match &w.source {
        WeightSource::Bytes { .. } => match (if few { literal() } else { None }, w.hash()) {
            (Some(list), _) => list,
            (None, Some(h)) => format!("sha:{}", hex(&h[..4])),
            (None, None) => String::new(),
        },
        WeightSource::Absent { location, .. } if location.starts_with("sha:") => location.to_string(),
        WeightSource::Absent { location, .. } if location.is_empty() => String::new(),
        WeightSource::Absent { location, offset, len } => format!("file:{} {offset}+{len}", print_text(location)),
        WeightSource::Seed(s) => format!("seed:{s}"),
        WeightSource::Packed => "packed".to_owned(),
        WeightSource::Parts(parts) => format!("parts [{}]", parts.iter().map(weight).collect::<Vec<_>>().join(", ")),
    };
    if !source.is_empty() {
        out.push(' ');
        out.push_str(&source);
    }
    out.push('>');
    out
}

/// Reads what follows `const`, of this type.
pub(super) fn parse_constant(c: &mut Cursor<'_>, ty: &TensorType) -> Result<Literal, SyntaxError> {
    let start = c.peek();
    let Some(dims) = ty.static_dims().filter(|_| ty.quant.is_none()) else {
        return Err(c.error_at(start, format!("a constant cannot be {ty}: expected static dims")));
    };
    let elems = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?));
    let bytes = if c.at("hex") && c.peek_at(1).kind == Kind::Text {
        c.bump();
        let at = c.peek();
        let text = c.quoted_text("hexadecimal digits in quotes")?;
        unhex(&text).ok_or_else(|| c.error_at(at, "expected an even number of hexadecimal digits"))?
    } else {
        let scalars = if c.eat("[") { c.list("]", |c| values::scalar(c, ty.dtype))? } else { vec![values::scalar(c, ty.dtype)?] };
        if elems != Some(scalars.len() as u64) {
            return Err(c.error_at(start, format!("found {} elements, expected those of {ty}", scalars.len())));
        }
        let l = Literal::from_bits(ty.dtype, &dims, scalars.iter().map(|s| s.bits));
        return l.ok_or_else(|| c.error_at(start, format!("elements of {} cannot be written as numbers", ty.dtype)));
    };
    let found = bytes.len();
    match elems.and_then(|n| ty.dtype.bytes_for(n)) {
        Some(expected) if expected == found as u64 => Ok(Literal { dtype: ty.dtype, dims, bytes: bytes.into() }),
        _ => Err(c.error_at(start, format!("found {found} bytes, expected those of {ty}"))),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[a, b]| a << 4 | b).collect())
}

/// Reads what follows `weight`; the name is empty where the text gives none.
pub(super) fn parse_weight(c: &mut Cursor<'_>) -> Result<Weight, SyntaxError> {
    weight_of(c, true)
}

fn weight_of(c: &mut Cursor<'_>, parts: bool) -> Result<Weight, SyntaxError> {
    c.expect("<")?;
    let dtype = values::dtype(c)?;
    let mut dims = Vec::new();
    let t = c.peek();
    if t.kind == Kind::Number {
        c.bump();
        let read = c.text(t).split('x').map(|d| d.parse::<i64>().ok().filter(|d| *d >= 0)).collect::<Option<Vec<_>>>();
        dims = read.ok_or_else(|| c.error_at(t, format!("expected dims as `4x3`, found `{}`", c.text(t))))?;
    }
    let name = if c.peek().kind == Kind::Text { c.quoted_text("a name")? } else { String::new() };
    let nothing = Weight::new(name.as_str(), dtype, dims.clone(), WeightSource::Packed);
    let Some(len) = nothing.bytes_len() else {
        return Err(c.error_at(t, "the size of the weight leaves the range of 64-bit integers"));
    };
    let absent = |location: &str, offset, len| WeightSource::Absent { location: location.into(), offset, len };
    let source = if c.at("[") {
        let l = parse_constant(c, &TensorType::fixed(dtype, &dims))?;
        WeightSource::Bytes { len: l.bytes.len(), owner: Arc::new(l.bytes.to_vec()), offset: 0 }
    } else if c.eat("packed") {
        WeightSource::Packed
    } else if c.eat("seed") {
        c.expect(":")?;
        WeightSource::Seed(c.int("a seed")?)
    } else if c.eat("sha") {
        c.expect(":")?;
        let t = c.bump();
        let digits = c.text(t);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(c.error_at(t, format!("expected hexadecimal digits of a hash, found `{digits}`")));
        }
        absent(&format!("sha:{digits}"), 0, len)
    } else if c.eat("file") {
        c.expect(":")?;
        let location = c.quoted_text("a file name")?;
        let offset = c.int("an offset")?;
        c.expect("+")?;
        absent(&location, offset, c.int("a length")?)
    } else if parts && c.eat("parts") {
        c.expect("[")?;
        let list = c.list("]", |c| {
            c.expect("weight")?;
            weight_of(c, false)
        })?;
        WeightSource::Parts(list.into())
    } else if c.at(">") {
        absent("", 0, len)
    } else {
        return Err(c.expected("a name, `seed:`, `sha:`, `file:`, `packed`, `parts`, `[` or `>`"));
    };
    c.expect(">")?;
    Ok(Weight::new(name.as_str(), dtype, dims, source))
}

/// Whether two weights of one name are the same.
pub(super) fn same_weight(a: &Weight, b: &Weight) -> bool {
    let source = match (&a.source, &b.source) {
        (WeightSource::Bytes { .. }, WeightSource::Bytes { .. }) => a.bytes() == b.bytes(),
        (WeightSource::Absent { location: l, offset: o, len: n }, WeightSource::Absent { location, offset, len }) => {
            l == location && o == offset && n == len
        }
        (WeightSource::Seed(a), WeightSource::Seed(b)) => a == b,
        (WeightSource::Packed, WeightSource::Packed) => true,
        (WeightSource::Parts(a), WeightSource::Parts(b)) => a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| same_weight(a, b)),
        _ => false,
    };
    source && a.name == b.name && a.dtype == b.dtype && a.dims == b.dims
}
