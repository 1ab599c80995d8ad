// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mutations that keep the form: of protobufs as trees of fields, of texts as tokens, of bytes.

use crate::draw::Draw;

/// Most bytes of a mutated input.
const BYTES: usize = 1 << 16;
/// Numbers at which sizes, axes and counts go wrong.
const NUMBERS: &[i64] = &[
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    64,
    127,
    255,
    256,
    -1,
    -2,
    -8,
    1 << 16,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MIN,
];

/// A field of a message.
#[derive(Clone, Debug)]
struct Field {
    number: u64,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut out = 0u64;
    for shift in (0..64).step_by(7) {
        let (&b, rest) = bytes.split_first()?;
        *bytes = rest;
        out |= u64::from(b & 0x7f) << shift;
        if b & 0x80 == 0 {
            return Some(out);
        }
    }
    None
}

fn parse(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut bytes)?),
            1 => Value::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
            5 => Value::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
            2 => {
                let n = usize::try_from(varint(&mut bytes)?).ok()?;
                let inner = take(&mut bytes, n)?;
                // Text that happens to be a message stays text where it is printable.
                let text = !inner.is_empty() && inner.iter().all(|b| (0x20..0x7f).contains(b));
                match parse(inner, depth + 1).filter(|m| !m.is_empty() && !text && depth < 12) {
                    Some(m) => Value::Message(m),
                    None => Value::Bytes(inner.to_vec()),
                }
            }
            _ => return None,
        };
        if key >> 3 == 0 {
            return None;
        }
        out.push(Field { number: key >> 3, value });
    }
    Some(out)
}

fn take<'b>(bytes: &mut &'b [u8], n: usize) -> Option<&'b [u8]> {
    let (head, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(head)
}

fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn write(fields: &[Field], out: &mut Vec<u8>) {
    for f in fields {
        let kind = match f.value {
            Value::Varint(_) => 0,
            Value::Fixed64(_) => 1,
            Value::Fixed32(_) => 5,
            Value::Bytes(_) | Value::Message(_) => 2,
        };
        put_varint(out, f.number << 3 | kind);
        match &f.value {
            Value::Varint(v) => put_varint(out, *v),
            Value::Fixed64(b) => out.extend(b),
            Value::Fixed32(b) => out.extend(b),
            Value::Bytes(b) => {
                put_varint(out, b.len() as u64);
                out.extend(b);
            }
            Value::Message(m) => {
                let mut inner = Vec::new();
                write(m, &mut inner);
                put_varint(out, inner.len() as u64);
                out.extend(inner);
            }
        }
    }
}

fn count(fields: &[Field]) -> usize {
    fields.iter().map(|f| 1 + if let Value::Message(m) = &f.value { count(m) } else { 0 }).sum()
}

/// Calls `f` with the list that holds field `n`, counted in depth first order, and its place there.
fn with<R>(fields: &mut Vec<Field>, n: &mut usize, f: &mut dyn FnMut(&mut Vec<Field>, usize) -> R) -> Option<R> {
    for i in 0..fields.len() {
        if *n == 0 {
            return Some(f(fields, i));
        }
        *n -= 1;
        if let Value::Message(m) = &mut fields[i].value
            && let Some(r) = with(m, n, f)
        {
            return Some(r);
        }
    }
    None
}

/// Changes a few fields of a protobuf; bytes that are none are changed as bytes.
pub fn protobuf(data: &[u8], d: &mut Draw<'_>) -> Vec<u8> {
    let Some(mut fields) = parse(data, 0).filter(|_| !d.one_in(12)) else { return bytes(data, d) };
    for _ in 0..1 + d.below(4) {
        let n = count(&fields);
        if n == 0 {
            break;
        }
        let (mut at, mut other) = (d.below(n), d.below(n));
        let donor = with(&mut fields, &mut other, &mut |list, i| list[i].clone());
        let what = d.below(10);
        let number = *d.pick(NUMBERS).unwrap_or(&0);
        let (by, cut) = (d.next(), d.below(64));
        with(&mut fields, &mut at, &mut |list, i| match (what, &mut list[i].value) {
            (0, _) => {
                list.remove(i);
            }
            (1, _) => {
                let copy = list[i].clone();
                list.insert(i, copy);
            }
            (2, _) if i > 0 => list.swap(i, i - 1),
            (3 | 4, Value::Bytes(b)) => match &donor {
                // Names that are there elsewhere make other graphs of the same nodes.
                Some(Field { value: Value::Bytes(o), .. }) => *b = o.clone(),
                _ => b.truncate(cut),
            },
            (3..=7, Value::Varint(v)) => *v = if what == 7 { v.wrapping_add(by % 5).wrapping_sub(2) } else { number as u64 },
            (3..=5, Value::Message(m)) => {
                if let Some(Field { value: Value::Message(o), .. }) = &donor {
                    m.extend(o.iter().take(4).cloned());
                }
            }
            (_, Value::Bytes(b)) if !b.is_empty() => {
                let at = cut % b.len();
                b[at] = by as u8;
            }
            (_, Value::Fixed32(b)) => *b = [by as u8, (by >> 8) as u8, (by >> 16) as u8, (by >> 24) as u8],
            (_, Value::Fixed64(b)) => *b = number.to_le_bytes(),
            _ => {
                if let Some(donor) = &donor {
                    let number = list[i].number;
                    list[i] = Field { number, value: donor.value.clone() };
                }
            }
        });
    }
    let mut out = Vec::new();
    write(&fields, &mut out);
    out.truncate(BYTES);
    out
}

/// Changes a few bytes, or moves and repeats some.
pub fn bytes(data: &[u8], d: &mut Draw<'_>) -> Vec<u8> {
    let mut out = data.to_vec();
    for _ in 0..1 + d.below(4) {
        let n = out.len();
        let at = d.below(n);
        match d.below(6) {
            0 if n > 0 => out[at] ^= 1 << d.below(8),
            1 if n > 0 => out[at] = d.next() as u8,
            2 if n > 0 => {
                let end = (at + 1 + d.below(16)).min(n);
                out.drain(at..end);
            }
            3 if n > 0 => {
                let end = (at + 1 + d.below(16)).min(n);
                let copy = out[at..end].to_vec();
                let to = d.below(n);
                out.splice(to..to, copy);
            }
            4 => {
                let number = d.pick(NUMBERS).unwrap_or(&0).to_le_bytes();
                let end = (at + 8).min(n);
                out.splice(at.min(n)..end, number);
            }
            _ => {
                let b = d.next() as u8;
                out.insert(at.min(n), b);
            }
        }
    }
    out.truncate(BYTES);
    out
}

/// Changes a few tokens or lines of a text. `words` may come in.
pub fn text(data: &[u8], words: &[&str], d: &mut Draw<'_>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(data) else { return bytes(data, d) };
    let mut tokens: Vec<String> = Vec::new();
    let word = |c: char| c.is_alphanumeric() || c == '_';
    for c in text.chars() {
        match tokens.last_mut() {
            Some(t) if word(c) && t.chars().next_back().is_some_and(word) => t.push(c),
            _ => tokens.push(c.to_string()),
        }
    }
    for _ in 0..1 + d.below(4) {
        let n = tokens.len();
        if n == 0 {
            break;
        }
        let (at, other) = (d.below(n), d.below(n));
        match d.below(9) {
            0 => {
                tokens.remove(at);
            }
            1 => {
                let copy = tokens[other].clone();
                tokens.insert(at, copy);
            }
            2 => tokens.swap(at, other),
            3 => tokens[at] = tokens[other].clone(),
            4 | 5 => {
                // A number in the place of a number.
                let numbers: Vec<usize> = (0..n).filter(|&i| tokens[i].chars().all(|c| c.is_ascii_digit())).collect();
                if let Some(&i) = d.pick(&numbers) {
                    tokens[i] = d.pick(NUMBERS).unwrap_or(&0).to_string();
                }
            }
            6 => {
                if let Some(w) = d.pick(words) {
                    tokens[at] = (*w).to_owned();
                }
            }
            _ => {
                // A line twice, or not at all.
                let begin = tokens[..at].iter().rposition(|t| t == "\n").map_or(0, |i| i + 1);
                let end = tokens[at..].iter().position(|t| t == "\n").map_or(n, |i| at + i + 1);
                if d.one_in(2) {
                    tokens.drain(begin..end);
                } else {
                    let line = tokens[begin..end].to_vec();
                    tokens.splice(begin..begin, line);
                }
            }
        }
    }
    let mut out = tokens.concat().into_bytes();
    out.truncate(BYTES);
    out
}
