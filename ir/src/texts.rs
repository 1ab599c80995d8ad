// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables of texts in which equal texts have one number.

use std::collections::HashMap;
use std::sync::Arc;

/// A table of texts; the first is the empty one.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    list: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, i64>,
}

impl Texts {
    /// Number of a text, which is added unless it is there.
    pub fn intern(&mut self, text: &str) -> i64 {
        if self.list.is_empty() {
            self.list.push("".into());
            self.numbers.insert("".into(), 0);
        }
        if let Some(&n) = self.numbers.get(text) {
            return n;
        }
        let (n, text): (i64, Arc<str>) = (self.list.len() as i64, text.into());
        self.list.push(text.clone());
        self.numbers.insert(text, n);
        n
    }
    /// The text of that number.
    pub fn get(&self, number: i64) -> Option<&Arc<str>> {
        usize::try_from(number).ok().and_then(|n| self.list.get(n))
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }
    /// Whether there is none, not even the empty one.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
    /// All texts by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.list.iter()
    }
}

impl PartialEq for Texts {
    fn eq(&self, other: &Texts) -> bool {
        self.list == other.list
    }
}
impl Eq for Texts {}
