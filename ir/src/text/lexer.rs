// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tokens of the textual forms, and a cursor over them.

use std::fmt;

/// Deepest nesting of brackets and regions that a parser follows.
pub const MAX_DEPTH: usize = 64;

/// What a token is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A letter or `_`, then letters, digits and `_`.
    Ident,
    /// A name in backquotes, for names that are no identifiers.
    Quoted,
    /// `%` and letters, digits and `_`.
    Value,
    /// A digit, then letters, digits, `_`, points before digits and signs of exponents: `12`, `1.5e-3`, `0xff`, `3x4`.
    Number,
    /// Text in double quotes.
    Text,
    /// One of `->`, `==`, `..`, or any other single character.
    Punct,
    /// `// ...` up to the end of the line.
    Comment,
    /// Text or name without its closing quote.
    Unclosed,
    /// Behind the last token.
    End,
}

/// A token with its place.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Splits a text into tokens, the last of which is [`Kind::End`]. Lines whose first character is `#` are skipped.
pub fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(text.len() / 4 + 1);
    let (mut i, mut line, mut line_start) = (0usize, 1u32, 0usize);
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    // Columns count characters; a token's column is taken from the text of its line before it.
    let (mut counted_to, mut column) = (0usize, 1u32);
    while i < bytes.len() {
        let b = bytes[i];
        if b == b'\n' {
            i += 1;
            line += 1;
            line_start = i;
            (counted_to, column) = (i, 1);
            continue;
        }
        if b == b' ' || b == b'\t' || b == b'\r' {
            i += 1;
            continue;
        }
        if b == b'#' && text[line_start..i].trim().is_empty() {
            i += bytes[i..].iter().position(|&b| b == b'\n').unwrap_or(bytes.len() - i);
            continue;
        }
        let start = i;
        let run = |from: usize| bytes[from..].iter().position(|&b| !word(b)).map_or(bytes.len(), |n| from + n);
        let kind = match b {
            b'/' if bytes.get(i + 1) == Some(&b'/') => {
                i += bytes[i..].iter().position(|&b| b == b'\n').unwrap_or(bytes.len() - i);
                Kind::Comment
            }
            b'"' | b'`' => {
                i += 1;
                loop {
                    match bytes.get(i) {
                        None | Some(b'\n') => break Kind::Unclosed,
                        Some(b'\\') => i += if bytes.get(i + 1).is_none_or(|&b| b == b'\n') { 1 } else { 2 },
                        Some(&q) if q == b => {
                            i += 1;
                            break if b == b'"' { Kind::Text } else { Kind::Quoted };
                        }
                        Some(_) => i += 1,
                    }
                }
            }
            b'%' => {
                i = run(i + 1);
                Kind::Value
            }
            b'0'..=b'9' => {
                i = number_end(bytes, i);
                Kind::Number
            }
            b if word(b) => {
                i = run(i);
                Kind::Ident
            }
            _ => {
                let two = bytes.get(i..i + 2);
                i += match two {
                    Some(b"->" | b"==" | b"..") => 2,
                    _ => text[i..].chars().next().map_or(1, char::len_utf8),
                };
                Kind::Punct
            }
        };
        // An escape may have stepped into the middle of a character.
        while i < bytes.len() && !text.is_char_boundary(i) {
            i += 1;
        }
        column += text[counted_to..start].chars().count() as u32;
        counted_to = start;
        out.push(Token { kind, start, end: i, line, column });
    }
    column += text.get(counted_to..).map_or(0, |t| t.chars().count() as u32);
    out.push(Token { kind: Kind::End, start: text.len(), end: text.len(), line, column });
    out
}

fn number_end(bytes: &[u8], start: usize) -> usize {
    let hex = bytes.get(start + 1).is_some_and(|&b| b == b'x');
    let mut i = start;
    while let Some(&b) = bytes.get(i) {
        let next_is_digit = bytes.get(i + 1).is_some_and(u8::is_ascii_digit);
        let after_exponent = i > start && matches!(bytes[i - 1], b'e' | b'E') && !hex;
        match b {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' => {}
            b'.' if next_is_digit => {}
            b'+' | b'-' if next_is_digit && after_exponent => {}
            _ => break,
        }
        i += 1;
    }
    i
}

/// A text in double quotes, with escapes.
pub fn print_text(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    escape_into(s, '"', &mut out);
    out.push('"');
    out
}

pub(super) fn escape_into(s: &str, quote: char, out: &mut String) {
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
}

/// The text between quotes with its escapes resolved; `None` if an escape is unknown.
fn unescape(s: &str) -> Option<String> {
    let mut out = String::with_capacity(s.len());
    let mut chars = s.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next()? {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'u' => {
                let rest = chars.as_str().strip_prefix('{')?;
                let (code, after) = rest.split_once('}')?;
                out.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
                chars = after.chars();
            }
            c @ ('\\' | '"' | '`') => out.push(c),
            _ => return None,
        }
    }
    Some(out)
}

/// Walks over the tokens of a text.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// First token of the statement, in forms whose statements end with their line.
    statement: Option<usize>,
}

impl<'a> Cursor<'a> {
    /// Starts at the first token.
    pub fn new(text: &'a str) -> Self {
        Cursor { text, tokens: tokens(text), at: 0, depth: 0, statement: None }
    }
    /// The next token.
    pub fn peek(&self) -> Token {
        self.peek_at(0)
    }
    /// The token `n` behind the next.
    pub fn peek_at(&self, n: usize) -> Token {
        let last = self.tokens.len() - 1;
        self.tokens[self.at.saturating_add(n).min(last)]
    }
    /// The token before the next.
    pub fn previous(&self) -> Token {
        self.tokens[self.at.saturating_sub(1)]
    }
    /// How a token is written.
    pub fn text(&self, t: Token) -> &'a str {
        self.text.get(t.start..t.end).unwrap_or("")
    }
    /// Says that a statement begins here which ends with its line, so that errors behind it are placed at the end of that line.
    pub fn begin_statement(&mut self) {
        self.statement = Some(self.at);
    }
    /// Steps over the next token and returns it; stays at the end.
    pub fn bump(&mut self) -> Token {
        let t = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        t
    }
    /// Whether all tokens are behind.
    pub fn is_at_end(&self) -> bool {
        self.peek().kind == Kind::End
    }
    /// Whether the next token is this punctuation or identifier.
    pub fn at(&self, word: &str) -> bool {
        self.at_nth(0, word)
    }
    /// Whether the token `n` behind the next is this punctuation or identifier.
    pub fn at_nth(&self, n: usize, word: &str) -> bool {
        let t = self.peek_at(n);
        matches!(t.kind, Kind::Punct | Kind::Ident) && self.text(t) == word
    }
    /// Steps over the next token if it is this punctuation or identifier.
    pub fn eat(&mut self, word: &str) -> bool {
        let yes = self.at(word);
        if yes {
            self.bump();
        }
        yes
    }
    /// Steps over this punctuation or identifier.
    ///
    /// # Errors
    /// Something else is there.
    pub fn expect(&mut self, word: &str) -> Result<Token, SyntaxError> {
        if self.at(word) { Ok(self.bump()) } else { Err(self.expected(&format!("`{word}`"))) }
    }
    /// The error that something else was expected here.
    pub fn expected(&self, what: &str) -> SyntaxError {
        let (t, before) = (self.peek(), self.previous());
        if self.statement.is_some_and(|s| self.at > s) && t.line > before.line {
            let column = before.column + self.text(before).chars().count() as u32;
            return SyntaxError { line: before.line, column, message: format!("expected {what}, found the end of the line") };
        }
        let found = match t.kind {
            Kind::End => "the end".to_owned(),
            Kind::Unclosed => "text without its closing quote".to_owned(),
            Kind::Comment => "the end of the line".to_owned(),
            _ => format!("`{}`", self.text(t)),
        };
        self.error_at(t, format!("expected {what}, found {found}"))
    }
    /// An error at a token.
    pub fn error_at(&self, t: Token, message: impl Into<String>) -> SyntaxError {
        SyntaxError { line: t.line, column: t.column, message: message.into() }
    }
    /// Steps over an identifier.
    ///
    /// # Errors
    /// Something else is there.
    pub fn ident(&mut self, what: &str) -> Result<&'a str, SyntaxError> {
        let t = self.peek();
        if t.kind != Kind::Ident {
            return Err(self.expected(what));
        }
        self.bump();
        Ok(self.text(t))
    }
    /// Steps over an identifier or a quoted name.
    ///
    /// # Errors
    /// Something else is there, or an escape is unknown.
    pub fn name(&mut self, what: &str) -> Result<String, SyntaxError> {
        let t = self.peek();
        match t.kind {
            Kind::Ident => {
                self.bump();
                Ok(self.text(t).to_owned())
            }
            Kind::Quoted => self.unquoted(),
            _ => Err(self.expected(what)),
        }
    }
    /// Steps over a text in double quotes.
    ///
    /// # Errors
    /// Something else is there, or an escape is unknown.
    pub fn quoted_text(&mut self, what: &str) -> Result<String, SyntaxError> {
        if self.peek().kind == Kind::Text { self.unquoted() } else { Err(self.expected(what)) }
    }
    fn unquoted(&mut self) -> Result<String, SyntaxError> {
        let t = self.bump();
        let inner = self.text.get(t.start + 1..t.end.saturating_sub(1)).unwrap_or("");
        unescape(inner).ok_or_else(|| self.error_at(t, "unknown escape: expected one of \\n \\t \\\\ \\\" \\` \\u{..}"))
    }
    /// Steps over an integer, with its sign.
    ///
    /// # Errors
    /// Something else is there, or the integer is out of range.
    pub fn int<T: TryFrom<i128>>(&mut self, what: &str) -> Result<T, SyntaxError> {
        let minus = self.at("-");
        let t = self.peek_at(usize::from(minus));
        let digits = self.text(t);
        if t.kind != Kind::Number || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.expected(what));
        }
        let v = digits.parse::<i128>().ok().map(|v| if minus { -v } else { v });
        let Some(v) = v.and_then(|v| T::try_from(v).ok()) else {
            return Err(self.error_at(t, format!("`{digits}` is out of range")));
        };
        if minus {
            self.bump();
        }
        self.bump();
        Ok(v)
    }
    /// Goes one level deeper while `f` runs.
    ///
    /// # Errors
    /// What `f` says, or the nesting is deeper than [`MAX_DEPTH`].
    pub fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, SyntaxError>) -> Result<T, SyntaxError> {
        if !self.enter() {
            return Err(self.error_at(self.peek(), format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let r = f(self);
        self.leave();
        r
    }
    /// Goes one level deeper until [`leave`](Self::leave); `false` if that is deeper than [`MAX_DEPTH`].
    pub fn enter(&mut self) -> bool {
        let fits = self.depth < MAX_DEPTH;
        self.depth += usize::from(fits);
        fits
    }
    /// Comes back from [`enter`](Self::enter).
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
    /// All tokens from the byte `start` on.
    pub fn tokens_from(&self, start: usize) -> &[Token] {
        &self.tokens[self.tokens.partition_point(|t| t.start < start)..]
    }
    /// Steps to the first token behind `line`.
    pub fn skip_line(&mut self, line: u32) {
        while !self.is_at_end() && self.peek().line <= line {
            self.bump();
        }
    }
    /// Parses `f` as often as there are items between commas, up to `close`, which is stepped over.
    ///
    /// # Errors
    /// What `f` says, or something else than a comma or `close` behind an item.
    pub fn list<T>(&mut self, close: &str, mut f: impl FnMut(&mut Self) -> Result<T, SyntaxError>) -> Result<Vec<T>, SyntaxError> {
        let mut out = Vec::new();
        loop {
            if self.eat(close) {
                return Ok(out);
            }
            if !out.is_empty() {
                if !self.eat(",") {
                    return Err(self.expected(&format!("`,` or `{close}`")));
                }
                if self.eat(close) {
                    return Ok(out);
                }
            }
            out.push(f(self)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_the_forms_need() {
        let c = Cursor::new("%0: f32[N,1..64] = x(-2*a) `b c` 4x3 1e-5 2-1 \"q\\\"\" // note\n# gone\n->é");
        let words: Vec<&str> = tokens(c.text).iter().map(|t| c.text(*t)).collect();
        let expected = [
            "%0",
            ":",
            "f32",
            "[",
            "N",
            ",",
            "1",
            "..",
            "64",
            "]",
            "=",
            "x",
            "(",
            "-",
            "2",
            "*",
            "a",
            ")",
            "`b c`",
            "4x3",
            "1e-5",
            "2",
            "-",
            "1",
            "\"q\\\"\"",
            "// note",
            "->",
            "é",
            "",
        ];
        assert_eq!(words, expected);
        let last = tokens(c.text)[27];
        assert_eq!((last.line, last.column), (3, 3));
    }

    #[test]
    fn quoting_round_trips() {
        for s in ["", "a b", "q\"`\\", "line\nnext\ttab", "\u{1}é"] {
            let t = print_text(s);
            assert_eq!(Cursor::new(&t).quoted_text("text"), Ok(s.to_owned()));
        }
        assert!(Cursor::new("\"open").quoted_text("text").is_err());
        assert!(Cursor::new("\"\\").quoted_text("text").is_err());
        assert!(Cursor::new("\"\\é\"").quoted_text("text").is_err());
    }
}
