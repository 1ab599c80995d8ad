// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Regular expressions of the syntax of RE2 as automata for the runtime (`runtime/c/host/regex.c` says what a program is).
//!
//! Rust's syntax is RE2's but for two things, which are turned here: `\w`, `\d`, `\s` and `\b` mean ASCII.

use regex_syntax::ast::{self, Ast};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Most states of an automaton: repetitions are written out.
const MAX_STATES: usize = 1 << 14;

const MATCH: i64 = 0;
const RANGE: i64 = 1;
const CLASS: i64 = 2;
const SPLIT: i64 = 3;
const JUMP: i64 = 4;
const ASSERT: i64 = 5;

/// The words of the automaton of a pattern.
///
/// # Errors
/// A sentence: what is wrong with the pattern, or not supported in it.
pub fn compile(pattern: &str) -> Result<Vec<i64>, String> {
    let mut ast = ast::parse::ParserBuilder::new().nest_limit(100).build().parse(pattern).map_err(|e| e.kind().to_string())?;
    ascii(&mut ast);
    let hir = regex_syntax::hir::translate::Translator::new().translate(pattern, &ast).map_err(|e| e.kind().to_string())?;
    let mut b = Build { states: Vec::new(), ranges: Vec::new() };
    b.add(&hir)?;
    b.push([MATCH, 0, 0])?;
    let mut words = vec![b.states.len() as i64];
    words.extend(b.states.into_iter().flatten());
    words.extend(b.ranges.into_iter().flat_map(|(a, z)| [a, z]));
    Ok(words)
}

/// Makes the classes of Perl mean ASCII.
fn ascii(ast: &mut Ast) {
    match ast {
        Ast::ClassPerl(p) => {
            let item = ascii_item(p);
            let bracketed = ast::ClassBracketed { span: p.span, negated: false, kind: ast::ClassSet::Item(item) };
            *ast = Ast::ClassBracketed(Box::new(bracketed));
        }
        Ast::ClassBracketed(b) => ascii_set(&mut b.kind),
        Ast::Repetition(r) => ascii(&mut r.ast),
        Ast::Group(g) => ascii(&mut g.ast),
        Ast::Alternation(a) => a.asts.iter_mut().for_each(ascii),
        Ast::Concat(c) => c.asts.iter_mut().for_each(ascii),
        Ast::Empty(_) | Ast::Flags(_) | Ast::Literal(_) | Ast::Dot(_) | Ast::Assertion(_) | Ast::ClassUnicode(_) => {}
    }
}

fn ascii_set(set: &mut ast::ClassSet) {
    match set {
        ast::ClassSet::Item(i) => ascii_class(i),
        ast::ClassSet::BinaryOp(o) => {
            ascii_set(&mut o.lhs);
            ascii_set(&mut o.rhs);
        }
    }
}

fn ascii_class(item: &mut ast::ClassSetItem) {
    match item {
        ast::ClassSetItem::Perl(p) => *item = ascii_item(p),
        ast::ClassSetItem::Bracketed(b) => ascii_set(&mut b.kind),
        ast::ClassSetItem::Union(u) => u.items.iter_mut().for_each(ascii_class),
        _ => {}
    }
}

fn ascii_item(p: &ast::ClassPerl) -> ast::ClassSetItem {
    let (span, negated) = (p.span, p.negated);
    let kind = match p.kind {
        ast::ClassPerlKind::Digit => ast::ClassAsciiKind::Digit,
        ast::ClassPerlKind::Word => ast::ClassAsciiKind::Word,
        ast::ClassPerlKind::Space => {
            // POSIX has the vertical tab, Perl has not.
            let literal = |c| ast::Literal { span, kind: ast::LiteralKind::Verbatim, c };
            let range = |a, z| ast::ClassSetItem::Range(ast::ClassSetRange { span, start: literal(a), end: literal(z) });
            let items = vec![range('\t', '\n'), range('\x0c', '\r'), ast::ClassSetItem::Literal(literal(' '))];
            let kind = ast::ClassSet::Item(ast::ClassSetItem::Union(ast::ClassSetUnion { span, items }));
            return ast::ClassSetItem::Bracketed(Box::new(ast::ClassBracketed { span, negated, kind }));
        }
    };
    ast::ClassSetItem::Ascii(ast::ClassAscii { span, kind, negated })
}

struct Build {
    states: Vec<[i64; 3]>,
    ranges: Vec<(i64, i64)>,
}

impl Build {
    fn push(&mut self, state: [i64; 3]) -> Result<usize, String> {
        if self.states.len() >= MAX_STATES {
            return Err(format!("it needs more than {MAX_STATES} states"));
        }
        self.states.push(state);
        Ok(self.states.len() - 1)
    }
    fn here(&self) -> i64 {
        self.states.len() as i64
    }
    /// Makes an earlier split go on here as well.
    fn land(&mut self, split: usize) {
        let here = self.here();
        if let Some(s) = self.states.get_mut(split) {
            if s[0] == JUMP { s[1] = here } else { s[2] = here }
        }
    }
    fn class(&mut self, ranges: Vec<(i64, i64)>) -> Result<(), String> {
        match ranges.as_slice() {
            &[(a, z)] => self.push([RANGE, a, z])?,
            _ => {
                let at = self.ranges.len() as i64;
                let count = ranges.len() as i64;
                self.ranges.extend(ranges);
                self.push([CLASS, at, count])?
            }
        };
        Ok(())
    }
    fn add(&mut self, h: &Hir) -> Result<(), String> {
        match h.kind() {
            HirKind::Empty => {}
            HirKind::Literal(l) => {
                let text = std::str::from_utf8(&l.0).map_err(|_| "it matches bytes that are no text")?;
                for c in text.chars() {
                    self.push([RANGE, i64::from(u32::from(c)), i64::from(u32::from(c))])?;
                }
            }
            HirKind::Class(Class::Unicode(c)) => {
                let ranges = c.iter().map(|r| (i64::from(u32::from(r.start())), i64::from(u32::from(r.end()))));
                self.class(ranges.collect())?;
            }
            HirKind::Class(Class::Bytes(c)) => {
                if c.iter().any(|r| r.end() > 0x7f) {
                    return Err("it matches bytes that are no text".into());
                }
                self.class(c.iter().map(|r| (r.start().into(), r.end().into())).collect())?;
            }
            HirKind::Look(look) => {
                let what = match look {
                    Look::Start => 0,
                    Look::End => 1,
                    Look::StartLF => 2,
                    Look::EndLF => 3,
                    Look::WordAscii | Look::WordUnicode => 4,
                    Look::WordAsciiNegate | Look::WordUnicodeNegate => 5,
                    other => return Err(format!("it asserts `{}`, which RE2 does not have", other.as_char())),
                };
                self.push([ASSERT, what, 0])?;
            }
            HirKind::Capture(c) => self.add(&c.sub)?,
            HirKind::Concat(list) => list.iter().try_for_each(|h| self.add(h))?,
            HirKind::Alternation(list) => {
                let mut ends = Vec::new();
                for (i, h) in list.iter().enumerate() {
                    if i + 1 == list.len() {
                        self.add(h)?;
                        break;
                    }
                    let next = self.here() + 1;
                    let split = self.push([SPLIT, next, 0])?;
                    self.add(h)?;
                    ends.push(self.push([JUMP, 0, 0])?);
                    self.land(split);
                }
                ends.into_iter().for_each(|e| self.land(e));
            }
            HirKind::Repetition(r) => {
                for _ in 0..r.min {
                    self.add(&r.sub)?;
                }
                match r.max {
                    None => {
                        let next = self.here() + 1;
                        let split = self.push([SPLIT, next, 0])?;
                        self.add(&r.sub)?;
                        self.push([JUMP, split as i64, 0])?;
                        self.land(split);
                    }
                    Some(max) => {
                        let mut splits = Vec::new();
                        for _ in r.min..max {
                            let next = self.here() + 1;
                            splits.push(self.push([SPLIT, next, 0])?);
                            self.add(&r.sub)?;
                        }
                        splits.into_iter().for_each(|s| self.land(s));
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::compile;

    #[test]
    fn patterns_become_automata_or_are_refused_by_name() {
        // Three states: one for `a`, one that ends, and the count before them.
        assert_eq!(compile("a"), Ok(vec![2, 1, 97, 97, 0, 0, 0]));
        assert_eq!(compile(r"\d*"), Ok(vec![4, 3, 1, 3, 1, 48, 57, 4, 0, 0, 0, 0, 0]));
        for (bad, why) in [("(", "unclosed group"), (r"(a)\1", "backreferences"), ("(?=a)", "look-around"), ("a{9999}{9999}", "states")] {
            let e = compile(bad).unwrap_err();
            assert!(e.contains(why), "{bad}: {e}");
        }
    }
}
