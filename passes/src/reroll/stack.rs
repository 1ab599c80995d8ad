// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Weights of siblings as one weight with a leading dim: a reference to theirs, one behind the other.

use std::collections::HashSet;
use std::sync::Arc;

use portwright_ir::graph::{Graph, Op, ValueId};
use portwright_ir::weight::{Weight, WeightSource};

use crate::rules::{Edit, Tap};

/// Names that weights have.
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    pub(super) fn of(g: &Graph) -> Self {
        Names(g.weights().values().map(|w| w.name.clone()).collect())
    }

    /// A new name that says which names it stands for: what they have in common, with a star where they differ.
    fn common(&mut self, names: &[&str]) -> Arc<str> {
        let (first, last) = (names.first().copied().unwrap_or(""), names.last().copied().unwrap_or(""));
        let head = first.chars().zip(last.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum::<usize>();
        let (a, b) = (first.get(head..).unwrap_or(""), last.get(head..).unwrap_or(""));
        let tail = a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum::<usize>();
        let base = format!("{}*{}", first.get(..head).unwrap_or(""), a.get(a.len() - tail..).unwrap_or(""));
        let mut name: Arc<str> = base.as_str().into();
        for i in 2.. {
            if self.0.insert(name.clone()) {
                break;
            }
            name = format!("{base}.{i}").into();
        }
        name
    }
}

/// Weights or constants of one type, stacked along a new first dim. `None` where they do not lie in whole bytes.
pub(super) fn stack(e: &mut Edit<'_>, values: &[ValueId], names: &mut Names) -> Option<Tap> {
    let g = e.graph;
    let parts = values.iter().map(|&v| as_weight(g, v)).collect::<Option<Vec<Weight>>>()?;
    let first = parts.first()?;
    if first.elems()?.checked_mul(u64::from(first.dtype.bits()))? % 8 != 0 {
        return None;
    }
    let dims = std::iter::once(i64::try_from(parts.len()).ok()?).chain(first.dims.iter().copied()).collect();
    let name = names.common(&parts.iter().map(|p| &*p.name).collect::<Vec<_>>());
    // What is itself made of parts, or packed, has no bytes of its own to refer to.
    if parts.iter().any(|p| matches!(p.source, WeightSource::Parts(_) | WeightSource::Packed)) {
        return None;
    }
    let dtype = first.dtype;
    e.weight(Weight::new(name, dtype, dims, WeightSource::Parts(parts.into())))
}

/// A weight, or a constant as one.
fn as_weight(g: &Graph, v: ValueId) -> Option<Weight> {
    let node = g.producer(v)?;
    match &node.op {
        Op::Weight { weight } => Some(g.weight(*weight).clone()),
        Op::Const { value } => {
            let name = g.value(v).name.clone().unwrap_or_else(|| node.origin.first().into());
            let source = WeightSource::Bytes { owner: Arc::new(value.bytes.to_vec()), offset: 0, len: value.bytes.len() };
            Some(Weight::new(name, value.dtype, value.dims.clone(), source))
        }
        _ => None,
    }
}
