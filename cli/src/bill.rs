// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The memory bill: what a compiled model takes, and what one step of it has to do.

use std::collections::HashMap;
use std::fmt::Write as _;

use portwright_ir::graph::{FusionKind, Graph, Op};
use portwright_ir::plan::Stmt;
use portwright_ir::sym::{SymExpr, SymName};
use portwright_passes::pipeline::Compiled;
use portwright_passes::states::{self, States};
use portwright_passes::work;

/// Steps behind which a step is counted, where the model does not say how many its caches hold.
const CONTEXT: i64 = 4096;

/// What is known of a model before it is compiled.
pub struct Interface {
    states: States,
    /// Sizes of one step behind the context.
    step: HashMap<SymName, i64>,
    /// Sizes of the first one.
    first: HashMap<SymName, i64>,
    /// Bytes of all weights as exported, and how many they are.
    weight_bytes: u64,
    weights: usize,
    context: i64,
}

impl Interface {
    /// Reads a model as it was imported.
    pub fn of(g: &Graph) -> Self {
        let states = states::of(g);
        let step: HashMap<SymName, i64> = states::step(g, &states, CONTEXT - 1).into_iter().collect();
        let first = states::step(g, &states, 0).into_iter().collect();
        let lengths = states.all.iter().filter_map(|s| step.get(s.length.as_sym()?));
        Interface {
            context: lengths.max().map_or(1, |n| n + 1),
            step,
            first,
            weight_bytes: g.weights().values().filter_map(|w| w.bytes_len()).fold(0, u64::saturating_add),
            weights: g.weights().len(),
            states,
        }
    }
}

impl Interface {
    /// Sizes of what is counted: a step behind the context, or a run where dims of unknown size are 1.
    pub fn sizes(&self) -> &HashMap<SymName, i64> {
        &self.step
    }
}

/// A cache of keys and values, or another state that grows by the step.
#[derive(Clone, Debug)]
struct Cache {
    /// Bytes a step as the interface has it.
    exported: u64,
    /// Bytes a step of what its entries are computed from, where that is less.
    latent: Option<u64>,
    /// Bytes a step of what is computed from its entries, where they are latents.
    expanded: Option<u64>,
    tensors: usize,
}

/// The bill.
#[derive(Clone, Debug)]
pub struct Bill {
    weight_bytes: u64,
    weights: usize,
    stored_bytes: u64,
    context: i64,
    /// Whether there are dims that a model does not fix.
    open: bool,
    /// Arena of one step behind the context.
    arena: Option<u64>,
    cache: Option<Cache>,
    kernels: usize,
    launches: usize,
    /// How many attentions there are: layers.
    layers: usize,
    /// Floating-point operations of products in one step behind the context, and in the first one, which is what parameters take.
    flops: Option<(u128, u128)>,
}

impl Bill {
    /// The bill of a compiled model.
    pub fn of(i: &Interface, c: &Compiled) -> Self {
        let at = |s: &str| Some(i.step.get(s).copied().unwrap_or(1));
        let value = |e: &SymExpr| e.eval(&at).and_then(|n| u64::try_from(n).ok());
        let first = |s: &str| Some(i.first.get(s).copied().unwrap_or(1));
        let mut epochs: Vec<SymExpr> = Vec::new();
        let launches = walk(&c.main.plan.body, &mut epochs);
        let work = work::of(&c.prepared.main);
        let flops = |at: &dyn Fn(&str) -> Option<i64>| {
            let products = work.iter().map(|w| u128::try_from(w.products.eval(at)?).ok()).sum::<Option<u128>>()?;
            products.checked_mul(2)
        };
        Bill {
            weight_bytes: i.weight_bytes,
            weights: i.weights,
            stored_bytes: c.main.plan.store_bytes(),
            context: i.context,
            open: !i.step.is_empty(),
            arena: epochs.iter().map(value).sum(),
            cache: (!i.states.all.is_empty()).then(|| Cache {
                exported: i.states.exported(),
                latent: i.states.latent(),
                expanded: i.states.expanded(),
                tensors: i.states.all.len(),
            }),
            kernels: c.main.module.kernels.len(),
            launches,
            layers: attentions(&c.prepared.main),
            flops: flops(&at).zip(flops(&first)),
        }
    }

    /// Bytes that it takes: the store of weights and the arena of one step. `None` where data tells the size of the arena.
    pub fn memory(&self) -> Option<u64> {
        self.stored_bytes.checked_add(self.arena?)
    }
    /// Launches of one step.
    pub fn launches(&self) -> usize {
        self.launches
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "  weights  {} bytes in {} tensors as exported, {} as stored",
            grouped(self.weight_bytes.into()),
            self.weights,
            grouped(self.stored_bytes.into())
        );
        if let Some(a) = self.arena {
            let _ = writeln!(out, "  arena    {} bytes for one {}", grouped(a.into()), self.unit());
        }
        if let Some(c) = &self.cache {
            let steps = u128::from(self.context.unsigned_abs());
            let line = |n: u64| format!("{} bytes a token, {} for {}", grouped(n.into()), grouped(u128::from(n) * steps), self.context);
            let latent = match c.latent {
                Some(n) => format!("; as latent {}", line(n)),
                None => String::new(),
            };
            let has = match (c.latent, c.expanded) {
                (Some(_), _) => "; the interface has it as exported".to_owned(),
                (None, Some(n)) => format!("; keys and values would take {}; the interface has it as latent", line(n)),
                (None, None) => String::new(),
            };
            let _ = writeln!(out, "  cache    as exported {}{latent}{has}", line(c.exported));
        }
        let layer = match self.launches.checked_div(self.layers) {
            Some(n) => format!(" ({n} a layer of {})", self.layers),
            None => String::new(),
        };
        let flops = match self.flops {
            Some((all, first)) if self.context > 1 && all > first => {
                let (first, more) = (grouped(first), grouped(all - first));
                format!(", {first} flop for one step and {more} more behind {} others", self.context - 1)
            }
            Some((all, _)) => format!(", {} flop for one {}", grouped(all), self.unit()),
            None => String::new(),
        };
        let _ = writeln!(out, "  work     {} kernels, {} launches{layer}{flops}", self.kernels, self.launches);
        out
    }

    /// What is counted: a step of a model that keeps something from run to run, else a run.
    fn unit(&self) -> String {
        match (self.context > 1, &self.cache, self.open) {
            (true, ..) => format!("step behind {} others", self.context - 1),
            (_, Some(_), _) => "step".into(),
            (_, None, true) => "run where dims of unknown size are 1".into(),
            (_, None, false) => "run".into(),
        }
    }

    /// The same for scripts.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "weights": { "tensors": self.weights, "bytes": self.weight_bytes, "stored_bytes": self.stored_bytes },
            "arena_bytes": self.arena,
            "cache": self.cache.as_ref().map(|c| serde_json::json!({
                "tensors": c.tensors, "exported_bytes_per_token": c.exported, "latent_bytes_per_token": c.latent,
                "expanded_bytes_per_token": c.expanded, "interface": if c.expanded.is_some() && c.latent.is_none() { "latent" } else { "exported" },
            })),
            "context": self.context,
            "kernels": self.kernels,
            "launches": self.launches,
            "layers": self.layers,
            "flop_per_step": self.flops.and_then(|n| u64::try_from(n.0).ok()),
            "flop_of_first_step": self.flops.and_then(|n| u64::try_from(n.1).ok()),
        })
    }
}

/// Launches of statements, and the sizes of their arenas; of two ways the longer one, of a loop its body once.
fn walk(body: &[Stmt], epochs: &mut Vec<SymExpr>) -> usize {
    let mut launches = 0;
    for s in body {
        launches += match s {
            Stmt::Epoch { bytes, .. } => {
                epochs.push(bytes.clone());
                0
            }
            Stmt::Launch(_) | Stmt::Choose { .. } => 1,
            Stmt::If { then, els, .. } => walk(then, epochs).max(walk(els, epochs)),
            Stmt::Loop { body, .. } => walk(body, epochs),
            _ => 0,
        };
    }
    launches
}

/// Kernels of attention, those of bodies too.
fn attentions(g: &Graph) -> usize {
    let of = |n| {
        let node = g.node(n);
        match node.op {
            Op::Fusion { kind: FusionKind::Attention } => 1,
            Op::Fusion { .. } => 0,
            _ => node.regions.iter().map(attentions).sum(),
        }
    };
    g.node_ids().map(of).sum()
}

/// `1,342,073`
fn grouped(n: u128) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_stand_in_threes() {
        assert_eq!([0, 999, 1000, 1_234_567].map(super::grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
