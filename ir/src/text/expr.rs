// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Expressions over symbols as text: the inverse of their `Display`.

use super::lexer::{Cursor, Kind, SyntaxError, escape_into};
use crate::sym::SymExpr;

/// Words that mean something in expressions and attributes.
const RESERVED: &[&str] = &["floor", "ceil", "mod", "min", "max", "overflow", "true", "false", "none", "inf", "nan"];

/// Whether a symbol's name stands in text as it is; other names stand in backquotes.
pub fn is_plain_name(s: &str) -> bool {
    let mut bytes = s.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !RESERVED.contains(&s)
}

/// A symbol's name as it stands in text.
pub fn print_name(s: &str) -> String {
    if is_plain_name(s) {
        return s.to_owned();
    }
    let mut out = String::from("`");
    escape_into(s, '`', &mut out);
    out.push('`');
    out
}

/// Reads an expression: `+ - *`, `floor(a, b)`, `ceil(a, b)`, `mod(a, b)`, `min(a, b)`, `max(a, b)`, parentheses, integers and names.
///
/// # Errors
/// Something else is there, the nesting is too deep, or the expression leaves the range of 64-bit integers.
pub fn parse_expr(c: &mut Cursor<'_>) -> Result<SymExpr, SyntaxError> {
    let start = c.peek();
    let e = c.nested(sum)?;
    if e.is_overflowed() {
        return Err(c.error_at(start, "the expression leaves the range of 64-bit integers or is too large"));
    }
    Ok(e)
}

fn sum(c: &mut Cursor<'_>) -> Result<SymExpr, SyntaxError> {
    // A sign before a number belongs to it: the smallest integer has no magnitude.
    let signed_number = |c: &Cursor<'_>| c.at("-") && c.peek_at(1).kind == Kind::Number;
    let mut total = if !signed_number(c) && c.eat("-") { SymExpr::from(0) - product(c)? } else { product(c)? };
    loop {
        if signed_number(c) || c.eat("+") {
            total = total + product(c)?;
        } else if c.eat("-") {
            total = total - product(c)?;
        } else {
            return Ok(total);
        }
    }
}

fn product(c: &mut Cursor<'_>) -> Result<SymExpr, SyntaxError> {
    let mut total = factor(c)?;
    loop {
        if !c.eat("*") {
            return Ok(total);
        }
        total = total * factor(c)?;
    }
}

fn factor(c: &mut Cursor<'_>) -> Result<SymExpr, SyntaxError> {
    let t = c.peek();
    match t.kind {
        Kind::Number => c.int::<i64>("an integer").map(SymExpr::from),
        Kind::Quoted => Ok(SymExpr::sym(c.name("a name")?)),
        Kind::Ident => {
            let word = c.text(t);
            let f: fn(&SymExpr, &SymExpr) -> SymExpr = match word {
                "floor" => SymExpr::div,
                "ceil" => SymExpr::ceil_div,
                "mod" => SymExpr::modulo,
                "min" => SymExpr::minimum,
                "max" => SymExpr::maximum,
                _ if is_plain_name(word) => {
                    c.bump();
                    return Ok(SymExpr::sym(word));
                }
                _ => return Err(c.expected("an expression")),
            };
            c.bump();
            c.expect("(")?;
            let a = parse_expr(c)?;
            c.expect(",")?;
            let at = c.peek();
            let b = parse_expr(c)?;
            c.expect(")")?;
            if matches!(word, "floor" | "ceil" | "mod") && b.as_const().is_some_and(|b| b < 1) {
                return Err(c.error_at(at, format!("the divisor is {b}, expected 1 or more")));
            }
            Ok(f(&a, &b))
        }
        _ if c.at("(") => {
            c.bump();
            let e = parse_expr(c)?;
            c.expect(")")?;
            Ok(e)
        }
        _ if c.at("-") && c.peek_at(1).kind == Kind::Number => c.int::<i64>("an integer").map(SymExpr::from),
        _ => Err(c.expected("an expression")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Result<SymExpr, String> {
        let mut c = Cursor::new(s);
        let e = parse_expr(&mut c).map_err(|e| e.to_string())?;
        if c.is_at_end() { Ok(e) } else { Err(c.expected("the end").to_string()) }
    }

    #[test]
    fn reads_what_is_printed() {
        let texts = [
            "0",
            "-7",
            "N",
            "N - 1",
            "-2*N + 3",
            "ceil(N, 32)",
            "4*N*floor(M + 1, 2) + N*N - 12",
            "min(N, M)",
            "max(mod(N, 8), 3)",
            "`batch size` + `min`",
            "9223372036854775807",
            "-9223372036854775808",
        ];
        for t in texts {
            let e = parse(t).unwrap();
            assert_eq!(parse(&e.to_string()), Ok(e.clone()), "{t}");
        }
        assert_eq!(parse("(N + 1)*(N - 1) + 1").unwrap().to_string(), "N*N");
    }

    #[test]
    fn says_what_is_wrong() {
        let cases = [
            ("", "1:1: expected an expression, found the end"),
            ("N +", "1:4: expected an expression, found the end"),
            ("floor(N, 0)", "1:10: the divisor is 0, expected 1 or more"),
            ("floor(N)", "1:8: expected `,`, found `)`"),
            ("99999999999999999999", "1:1: `99999999999999999999` is out of range"),
            ("9223372036854775807 + 1", "1:1: the expression leaves the range of 64-bit integers or is too large"),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text), Err(message.to_owned()));
        }
        assert_eq!(parse(&"(".repeat(1000)), Err("1:65: nested deeper than 64 levels".to_owned()));
        let sums: String = (0..20).map(|i| format!("{}(a{i} + b{i})", if i > 0 { "*" } else { "" })).collect();
        assert!(parse(&sums).unwrap_err().contains("is too large"));
    }
}
