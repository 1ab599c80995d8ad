// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Automata of regular expressions: all states that a text can be in are followed at once, so that the time is at most proportional to
//! the text's length times the number of states.
//!
//! A program is words: how many states there are, three words a state, then ranges of characters, two words each. State `[0, _, _]` ends;
//! `[1, a, b]` takes a character from `a` to `b` and goes on to the next state; `[2, a, n]` takes one of the `n` ranges from range `a` on,
//! which are sorted; `[3, a, b]` goes on to both; `[4, a, _]` goes on to `a`; `[5, what, _]` goes on where an assertion holds: 0 begin of
//! the text, 1 its end, 2 begin of a line, 3 its end, 4 edge of an ASCII word, 5 no such edge.

/// An automaton.
#[derive(Debug)]
pub struct Regex<'w> {
    states: Vec<[i64; 3]>,
    ranges: &'w [i64],
}

/// States and where their matches began, in order of that.
type Active = Vec<(usize, usize)>;

impl<'w> Regex<'w> {
    /// Reads a program; `None` if it is none.
    pub fn new(words: &'w [i64]) -> Option<Self> {
        let (&n, rest) = words.split_first()?;
        let n = usize::try_from(n).ok().filter(|n| (1..=1 << 16).contains(n))?;
        let states: Vec<[i64; 3]> = rest.get(..3 * n)?.chunks_exact(3).filter_map(|c| c.try_into().ok()).collect();
        let ranges = rest.get(3 * n..)?;
        let inside = |i: i64| usize::try_from(i).is_ok_and(|i| i < n);
        let good = states.iter().enumerate().all(|(i, &[op, a, b])| match op {
            0 => true,
            1 | 5 => i + 1 < n,
            2 => i + 1 < n && a >= 0 && b >= 0 && a.checked_add(b).is_some_and(|end| end <= ranges.len() as i64 / 2),
            3 => inside(a) && inside(b),
            4 => inside(a),
            _ => false,
        });
        (good && ranges.len().is_multiple_of(2)).then_some(Regex { states, ranges })
    }
    /// Whether all of a text matches.
    pub fn is_full_match(&self, text: &str) -> bool {
        self.follow(text, 0, true).is_some_and(|(_, end)| end == text.len())
    }
    /// The leftmost, longest match from byte `from` on.
    pub fn find(&self, text: &str, from: usize) -> Option<(usize, usize)> {
        self.follow(text, from, false)
    }

    fn follow(&self, text: &str, from: usize, anchored: bool) -> Option<(usize, usize)> {
        let mut best: Option<(usize, usize)> = None;
        let (mut next, mut seen) = (Active::new(), vec![false; self.states.len()]);
        let mut at = from;
        loop {
            if best.is_none() && (!anchored || at == from) {
                self.add(0, at, (text, at), &mut next, &mut seen);
            }
            if let Some(&(_, begin)) = next.iter().find(|(s, _)| self.states[*s][0] == 0)
                && best.is_none_or(|b| begin <= b.0)
            {
                best = Some((begin, at));
            }
            let now = std::mem::take(&mut next);
            seen.fill(false);
            let Some(c) = text.get(at..).and_then(|t| t.chars().next()) else { break };
            if now.is_empty() && (best.is_some() || anchored) {
                break;
            }
            let behind = at + c.len_utf8();
            for (state, begin) in now {
                if best.is_some_and(|b| begin > b.0) {
                    break;
                }
                if self.takes(self.states[state], i64::from(u32::from(c))) {
                    self.add(state + 1, begin, (text, behind), &mut next, &mut seen);
                }
            }
            at = behind;
        }
        best
    }

    /// Adds a state and all that it leads to without a character.
    fn add(&self, first: usize, begin: usize, place: (&str, usize), out: &mut Active, seen: &mut [bool]) {
        let mut stack = vec![first];
        while let Some(i) = stack.pop() {
            if std::mem::replace(&mut seen[i], true) {
                continue;
            }
            match self.states[i] {
                [3, a, b] => stack.extend([b as usize, a as usize]),
                [4, a, _] => stack.push(a as usize),
                [5, what, _] => {
                    if holds(what, place) {
                        stack.push(i + 1);
                    }
                }
                _ => out.push((i, begin)),
            }
        }
    }

    fn takes(&self, [op, a, b]: [i64; 3], c: i64) -> bool {
        match op {
            1 => (a..=b).contains(&c),
            2 => {
                let own = self.ranges.get(2 * a as usize..2 * (a + b) as usize).unwrap_or_default();
                own.chunks_exact(2).any(|r| (r[0]..=r[1]).contains(&c))
            }
            _ => false,
        }
    }
}

fn holds(what: i64, (text, at): (&str, usize)) -> bool {
    let byte = |i: Option<usize>| i.and_then(|i| text.as_bytes().get(i)).copied();
    let (before, after) = (byte(at.checked_sub(1)), byte(Some(at)));
    let word = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match what {
        0 => before.is_none(),
        1 => after.is_none(),
        2 => before.is_none_or(|b| b == b'\n'),
        3 => after.is_none_or(|b| b == b'\n'),
        4 => word(before) != word(after),
        _ => word(before) == word(after),
    }
}

#[cfg(test)]
mod tests {
    use super::Regex;

    #[test]
    fn the_leftmost_and_longest_match_wins() {
        // a(b|bc)?
        let words = [8, 1, 97, 97, 3, 2, 7, 3, 3, 5, 1, 98, 98, 4, 7, 0, 1, 98, 98, 1, 99, 99, 0, 0, 0];
        let r = Regex::new(&words).unwrap();
        assert_eq!(r.find("xabcab", 0), Some((1, 4)));
        assert_eq!(r.find("xabcab", 4), Some((4, 6)));
        assert_eq!(r.find("xyz", 0), None);
        assert!(r.is_full_match("abc") && r.is_full_match("a") && !r.is_full_match("abcd"));
        assert!(Regex::new(&[1, 3, 0, 9]).is_none() && Regex::new(&[]).is_none() && Regex::new(&[2, 1, 0, 1]).is_none());
    }
}
