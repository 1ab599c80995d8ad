// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Words, numbers, names in backticks, strings and punctuation. `#` begins a comment; `;` and line ends separate nothing.

use super::{Parsed, Pos};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tok {
    Word(String),
    Num(String),
    Quoted(String),
    Str(String),
    Punct(&'static str),
}

impl Tok {
    pub(super) fn show(&self) -> String {
        match self {
            Tok::Word(w) | Tok::Num(w) => format!("`{w}`"),
            Tok::Quoted(w) => format!("name `{w}`"),
            Tok::Str(_) => "a string".into(),
            Tok::Punct(p) => format!("`{p}`"),
        }
    }
}

pub(super) struct Token {
    pub tok: Tok,
    pub pos: Pos,
}

/// Longest first.
const PUNCT: &[&str] = &[
    "..", "->", "<-", "<<", ">>", "<=", ">=", "==", "!=", "+=", "+%", "-%", "*%", "(", ")", "[", "]", "{", "}", "<", ">", "=", "+", "-",
    "*", "/", "%", "&", "|", "^", "!", ",", ":", ".", "@",
];

pub(super) fn lex(text: &str) -> Parsed<Vec<Token>> {
    let mut out = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let pos = |c: usize| Pos(u32::try_from(n + 1).unwrap_or(u32::MAX), u32::try_from(c + 1).unwrap_or(u32::MAX));
        let mut at = 0;
        while let Some(c) = line[at..].chars().next() {
            let rest = &line[at..];
            let column = line[..at].chars().count();
            if c == '#' {
                break;
            }
            if c.is_whitespace() || c == ';' {
                at += c.len_utf8();
                continue;
            }
            let len = |f: &dyn Fn(char) -> bool| rest.find(|c: char| !f(c)).unwrap_or(rest.len());
            let (tok, used) = if c.is_ascii_alphabetic() || c == '_' {
                let l = len(&|c| c.is_ascii_alphanumeric() || c == '_');
                (Tok::Word(rest[..l].into()), l)
            } else if c.is_ascii_digit() {
                let l = number(rest);
                (Tok::Num(rest[..l].into()), l)
            } else if c == '"' || c == '`' {
                let Some((s, l)) = quoted(rest, c) else { return pos(column).err("a quote that is not closed on its line") };
                (if c == '"' { Tok::Str(s) } else { Tok::Quoted(s) }, l)
            } else if let Some(p) = PUNCT.iter().find(|p| rest.starts_with(**p)) {
                (Tok::Punct(p), p.len())
            } else {
                return pos(column).err(format!("`{}` is no part of Kernel IR", c.escape_default()));
            };
            out.push(Token { tok, pos: pos(column) });
            at += used;
        }
    }
    Ok(out)
}

/// Length of a number: digits, a fraction unless it is a range, an exponent.
fn number(s: &str) -> usize {
    let b = s.as_bytes();
    let digits = |mut i: usize| {
        while b.get(i).is_some_and(u8::is_ascii_digit) {
            i += 1;
        }
        i
    };
    let mut i = digits(0);
    if b.get(i) == Some(&b'.') && b.get(i + 1).is_some_and(u8::is_ascii_digit) {
        i = digits(i + 1);
    }
    if matches!(b.get(i), Some(b'e' | b'E')) {
        let j = i + 1 + usize::from(matches!(b.get(i + 1), Some(b'+' | b'-')));
        if b.get(j).is_some_and(u8::is_ascii_digit) {
            i = digits(j);
        }
    }
    i
}

fn quoted(s: &str, q: char) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut it = s.char_indices().skip(1);
    while let Some((i, c)) = it.next() {
        match c {
            '\\' => match it.next()?.1 {
                'n' => out.push('\n'),
                c => out.push(c),
            },
            c if c == q => return Some((out, i + c.len_utf8())),
            c => out.push(c),
        }
    }
    None
}
