// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tokens of PTX text.

use super::PtxError;

/// One token; names borrow from the text.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Tok<'a> {
    /// A name: of an instruction, register (`%r1`), label (`$L1`) or variable.
    Name(&'a str),
    /// A word that begins with a dot, without it: `global`, `shared::cta`.
    Dot(&'a str),
    /// An integer.
    Int(u64),
    /// A single-precision number, by its bits.
    F32(u32),
    /// A double-precision number, by its bits.
    F64(u64),
    /// A string, without its quotes.
    Str(&'a str),
    /// Anything else.
    Punct(u8),
}

/// All tokens with their lines.
pub(crate) fn lex(text: &str) -> Result<Vec<(Tok<'_>, u32)>, PtxError> {
    let b = text.as_bytes();
    let (mut i, mut line) = (0, 1u32);
    let mut out = Vec::with_capacity(text.len() / 4);
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'$';
    let at = |i: usize| b.get(i).copied().unwrap_or(0);
    while let Some(&c) = b.get(i) {
        match c {
            b'\n' => {
                line += 1;
                i += 1;
            }
            c if c.is_ascii_whitespace() || c == 0 => i += 1,
            b'/' if at(i + 1) == b'/' => {
                while i < b.len() && b[i] != b'\n' {
                    i += 1;
                }
            }
            b'/' if at(i + 1) == b'*' => {
                let from = line;
                i += 2;
                loop {
                    match b.get(i) {
                        None => return Err(PtxError::new(from, "a comment that does not end")),
                        Some(b'*') if at(i + 1) == b'/' => break,
                        Some(b'\n') => line += 1,
                        _ => {}
                    }
                    i += 1;
                }
                i += 2;
            }
            b'"' => {
                let from = i + 1;
                i = from;
                while i < b.len() && b[i] != b'"' && b[i] != b'\n' {
                    i += 1;
                }
                if at(i) != b'"' {
                    return Err(PtxError::new(line, "a string that does not end"));
                }
                out.push((Tok::Str(text.get(from..i).unwrap_or("")), line));
                i += 1;
            }
            b'0'..=b'9' => {
                let (tok, n) = number(text, i).ok_or_else(|| PtxError::new(line, "a number that is none"))?;
                out.push((tok, line));
                i = n;
            }
            b'.' if word(at(i + 1)) => {
                let from = i + 1;
                i = from;
                while word(at(i)) || (at(i) == b':' && at(i + 1) == b':' && word(at(i + 2))) {
                    i += if at(i) == b':' { 2 } else { 1 };
                }
                out.push((Tok::Dot(&text[from..i]), line));
            }
            c if word(c) || (c == b'%' && word(at(i + 1))) => {
                let from = i;
                i += 1;
                while word(at(i)) {
                    i += 1;
                }
                out.push((Tok::Name(&text[from..i]), line));
            }
            c if c.is_ascii() => {
                out.push((Tok::Punct(c), line));
                i += 1;
            }
            _ => return Err(PtxError::new(line, "a character that is not ASCII")),
        }
    }
    Ok(out)
}

fn number(text: &str, from: usize) -> Option<(Tok<'_>, usize)> {
    let b = text.as_bytes();
    let at = |i: usize| b.get(i).copied().unwrap_or(0);
    let digits = |mut i: usize, hex: bool| {
        while if hex { at(i).is_ascii_hexdigit() } else { at(i).is_ascii_digit() } {
            i += 1;
        }
        i
    };
    let unsigned = |i: usize| if at(i) == b'U' { i + 1 } else { i };
    if at(from) == b'0' {
        let radix = match at(from + 1) {
            b'x' | b'X' => {
                let end = digits(from + 2, true);
                return Some((Tok::Int(u64::from_str_radix(text.get(from + 2..end)?, 16).ok()?), unsigned(end)));
            }
            b'f' | b'F' => {
                let end = digits(from + 2, true);
                return (end == from + 10)
                    .then(|| u32::from_str_radix(text.get(from + 2..end)?, 16).ok())
                    .flatten()
                    .map(|v| (Tok::F32(v), end));
            }
            b'd' | b'D' => {
                let end = digits(from + 2, true);
                return (end == from + 18)
                    .then(|| u64::from_str_radix(text.get(from + 2..end)?, 16).ok())
                    .flatten()
                    .map(|v| (Tok::F64(v), end));
            }
            b'b' | b'B' => 2,
            b'0'..=b'9' => 8,
            _ => 10,
        };
        if radix != 10 {
            let start = if radix == 2 { from + 2 } else { from + 1 };
            let end = digits(start, false);
            if at(end) != b'.' {
                return Some((Tok::Int(u64::from_str_radix(text.get(start..end)?, radix).ok()?), unsigned(end)));
            }
        }
    }
    let mut end = digits(from, false);
    let mut float = false;
    if at(end) == b'.' && at(end + 1).is_ascii_digit() {
        float = true;
        end = digits(end + 1, false);
    }
    if matches!(at(end), b'e' | b'E') {
        let sign = usize::from(matches!(at(end + 1), b'+' | b'-'));
        if at(end + 1 + sign).is_ascii_digit() {
            float = true;
            end = digits(end + 1 + sign, false);
        }
    }
    if float {
        return Some((Tok::F64(text.get(from..end)?.parse::<f64>().ok()?.to_bits()), end));
    }
    Some((Tok::Int(text.get(from..end)?.parse().ok()?), unsigned(end)))
}
