// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Folding of shape-like constants, common subexpressions, and symbols that are given a value.
//!
//! A small tensor whose elements are all expressions over symbols becomes a `dims` node, one whose elements are all numbers a constant.
//! Weights are never looked at.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::entity::SecondaryMap;
use portwright_ir::graph::attr::{Attr, AttrValue};
use portwright_ir::graph::symbolic::{self, Symbolic};
use portwright_ir::graph::{Dims, Graph, Literal, NodeId, Op, Scalar, Symbol, TensorType, TypeFault, ValueId};
use portwright_ir::sym::SymExpr;

use crate::rules::consts::splat;
use crate::rules::{Edit, RuleLog, nodes_with_regions, topological};

/// Replaces small values that are known by constants and `dims` nodes; returns the nodes of the graph itself that are new or changed.
///
/// Before: `%1: i64[2] = concat(%dim, const<i64 [3]>)`; after: `%1: i64[2] = dims{values=[N, 3]}`.
pub fn fold(graph: &mut Graph, log: &mut RuleLog) -> Vec<NodeId> {
    let mut changed = Vec::new();
    for n in nodes_with_regions(graph) {
        let mut regions = std::mem::take(graph.regions_mut(n));
        for r in &mut regions {
            fold(r, log);
        }
        *graph.regions_mut(n) = regions;
    }
    // What a `bind` node reads is known as the symbol that it binds, and must stay.
    let mut read: SecondaryMap<ValueId, bool> = SecondaryMap::default();
    for n in graph.node_ids().filter(|&n| matches!(graph.node(n).op, Op::Bind { .. })) {
        graph.node(n).operands.iter().for_each(|&v| read[v] = true);
    }
    let mut known = Symbolic::new();
    for n in topological(graph) {
        if log.spent() {
            break;
        }
        if !graph.contains(n) {
            continue;
        }
        let node = graph.node(n);
        let &[v] = node.results.as_slice() else { continue };
        if node.op.is_source() || !node.regions.is_empty() || read[v] {
            continue;
        }
        if let Some(patch) = folded(graph, n, v, &mut known) {
            match graph.apply(patch) {
                Ok(applied) => {
                    log.count("fold");
                    changed.extend(applied.added);
                    changed.extend(applied.changed);
                }
                Err(fault) => {
                    log.refused.insert("fold", fault.message);
                }
            }
        }
    }
    changed
}

fn folded(graph: &Graph, n: NodeId, v: ValueId, known: &mut Symbolic) -> Option<portwright_ir::graph::Patch> {
    const NAME: &str = "fold";
    let ty = graph.ty(v);
    let elems = ty.dims.iter().try_fold(1i64, |n, d| n.checked_mul(d.as_const()?));
    let elems = elems.filter(|e| (0..=symbolic::MAX_ELEMS as i64).contains(e))?;
    if ty.quant.is_some() {
        return None;
    }
    let mut e = Edit::new(graph, NAME, &[n]);
    let new = if ty.dtype.is_float() {
        if elems == 0
            || !graph.node(n).operands.iter().all(|&o| {
                graph
                    .producer(o)
                    .is_some_and(|p| matches!(p.op, Op::Const { .. } | Op::Fill { .. } | Op::DimTensor { .. } | Op::Iota { .. }))
            })
        {
            return None;
        }
        let bits = known.constants(graph, v)?.into_iter().map(|x| Scalar::from_f64(ty.dtype, x).bits);
        e.add(Op::Const { value: Literal::from_bits(ty.dtype, &ty.static_dims()?, bits)? }, &[])?
    } else if ty.dtype.is_int() || ty.dtype == DType::Bool {
        let exprs = known.get(graph, v)?;
        match exprs.iter().map(|x| x.as_const()).collect::<Option<Vec<i64>>>() {
            Some(numbers) => {
                let bits = numbers.into_iter().map(|x| Scalar::from_i64(ty.dtype, x).bits);
                e.add(Op::Const { value: Literal::from_bits(ty.dtype, &ty.static_dims()?, bits)? }, &[])?
            }
            None => {
                let flat = e.dims_tensor(exprs.to_vec(), ty.dtype, ty.rank() == 0)?;
                e.reshape(flat, ty.dims.clone())?
            }
        }
    } else {
        return None;
    };
    // A reshape of a `dims` node is folded already.
    if ty.rank() > 1
        && matches!(graph.node(n).op, Op::Reshape { .. })
        && graph.node(n).operands.iter().all(|&o| graph.producer(o).is_some_and(|p| matches!(p.op, Op::DimTensor { .. })))
    {
        return None;
    }
    e.finish(v, new)
}

/// Mixes words by multiplication: equality is tested whenever hashes agree, and every node is hashed in every round.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word) ^ (part.len() as u64) << 56);
        }
    }
    fn write_u8(&mut self, v: u8) {
        self.write_u64(v.into());
    }
    fn write_u32(&mut self, v: u32) {
        self.write_u64(v.into());
    }
    fn write_u64(&mut self, v: u64) {
        let wide = u128::from(self.0 ^ v ^ 0x9e37_79b9_7f4a_7c15) * u128::from(0xd6e8_feb8_6659_fd93_u64);
        self.0 = (wide ^ (wide >> 64)) as u64;
    }
    fn write_usize(&mut self, v: usize) {
        self.write_u64(v as u64);
    }
}

/// Nodes of equal op and operands become one; returns the nodes that take others now, and those of whose results fewer are used.
///
/// Before: `%2 = exp(%0); %3 = exp(%0)`; after: `%2 = exp(%0)`, used for both.
pub fn share(graph: &mut Graph, log: &mut RuleLog) -> Vec<NodeId> {
    let mut stands_for: SecondaryMap<ValueId, Option<ValueId>> = SecondaryMap::default();
    let mut changed = Vec::new();
    // The last node of each hash, and for each node the one of its hash before it.
    let mut seen: HashMap<u64, NodeId, BuildHasherDefault<Mix>> = HashMap::with_capacity_and_hasher(graph.len(), Default::default());
    let mut before: SecondaryMap<NodeId, Option<NodeId>> = SecondaryMap::default();
    let mut gone = Vec::new();
    for n in topological(graph) {
        for i in 0..graph.node(n).operands.len() {
            if let Some(v) = stands_for[graph.node(n).operands[i]] {
                graph.set_operand(n, i, v);
                changed.push(n);
            }
        }
        let node = graph.node(n);
        if !node.regions.is_empty() || node.results.is_empty() || matches!(node.op, Op::NonZero { .. } | Op::Host { .. }) || log.spent() {
            continue;
        }
        let mut h = Mix::default();
        node.op.hash(&mut h);
        node.operands.hash(&mut h);
        let slot = seen.entry(h.finish());
        let last = match &slot {
            Entry::Occupied(e) => Some(*e.get()),
            Entry::Vacant(_) => None,
        };
        let equal = |m: &NodeId| graph.node(*m).op == node.op && graph.node(*m).operands == node.operands;
        match std::iter::successors(last, |&m| before[m]).find(equal) {
            Some(m) => {
                for (&old, &new) in node.results.iter().zip(&graph.node(m).results) {
                    stands_for[old] = Some(new);
                }
                changed.extend(node.operands.iter().filter_map(|&v| graph.producer_id(v)).filter(|&p| !graph.node(p).op.is_source()));
                gone.push(n);
                log.count("share");
            }
            None => {
                before[n] = last;
                slot.insert_entry(n);
            }
        }
    }
    for i in 0..graph.outputs().len() {
        if let Some(v) = stands_for[graph.outputs()[i].value] {
            graph.set_output(i, v);
        }
    }
    for &n in gone.iter().rev() {
        graph.remove(n);
    }
    changed
}

/// Gives symbols a range, or a value where both ends are equal; every type is inferred anew.
///
/// # Errors
/// `E0205` for a symbol that the graph lacks, `E0201` for a range outside its own, and what inference finds with the new dims.
pub fn bind_symbols(graph: &Graph, ranges: &[(&str, i64, i64)]) -> Result<Graph, TypeFault> {
    let mut fixed: HashMap<&str, i64> = HashMap::new();
    for &(name, lo, hi) in ranges {
        let Some(s) = graph.symbol(name) else {
            let names: Vec<&str> = graph.symbols().iter().map(|s| &*s.name).collect();
            return Err(TypeFault::new(Code::UNKNOWN_SYMBOL, format!("no symbol {name}; the model has {}", names.join(", "))));
        };
        if lo > hi || lo < s.lo || hi > s.hi || (lo == hi && s.div > 1 && lo % s.div != 0) {
            let m = format!("symbol {name} cannot be in {lo}..{hi}: the model allows {}..{}", s.lo, s.hi);
            return Err(TypeFault::new(Code::BAD_DIM, m));
        }
        if lo == hi {
            fixed.insert(name, lo);
        }
    }
    let mut out = rebuild(graph, &fixed)?;
    for &(name, lo, hi) in ranges.iter().filter(|(_, lo, hi)| lo < hi) {
        if let Some(s) = out.symbol(name).cloned() {
            out.add_symbol(Symbol { lo, hi, ..s });
        }
    }
    Ok(out)
}

fn rebuild(graph: &Graph, fixed: &HashMap<&str, i64>) -> Result<Graph, TypeFault> {
    let value = |s: &str| fixed.get(s).map(|&v| SymExpr::from(v));
    let subst = |dims: &Dims| -> Dims { dims.iter().map(|d| d.substitute(&value)).collect() };
    let mut out = Graph::new(graph.name.clone());
    out.texts.clone_from(&graph.texts);
    for s in graph.symbols().iter().filter(|s| !fixed.contains_key(&*s.name)) {
        out.add_symbol(s.clone());
    }
    for w in graph.weights().values() {
        out.add_weight(w.clone());
    }
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    for &v in graph.inputs() {
        let old = graph.value(v);
        let ty = TensorType { dims: subst(&old.ty.dims), ..old.ty.clone() };
        map.insert(v, out.add_input(old.name.clone().unwrap_or_default(), ty));
    }
    for n in topological(graph) {
        let node = graph.node(n);
        let operands = node.operands.iter().filter_map(|v| map.get(v).copied()).collect::<Vec<_>>();
        let regions = node.regions.iter().map(|r| rebuild(r, fixed)).collect::<Result<Vec<_>, _>>()?;
        let m = out.insert(substituted(&node.op, &value), &operands, regions, node.origin.clone(), node.seq)?;
        for (&old, &new) in node.results.iter().zip(&out.node(m).results.clone()) {
            map.insert(old, new);
            if let Some(name) = &graph.value(old).name {
                out.set_name(new, name.clone());
            }
        }
    }
    for (i, o) in graph.outputs().iter().enumerate() {
        if let Some(&v) = map.get(&o.value) {
            out.add_output(o.name.clone(), v);
            out.set_alias(i, o.alias_of);
        }
    }
    for c in &graph.constraints {
        let (left, right) = (c.left.substitute(&value), c.right.substitute(&value));
        if let (Some(a), Some(b)) = (left.as_const(), right.as_const())
            && a != b
        {
            return Err(TypeFault::new(
                Code::SHAPE_MISMATCH,
                format!("node {} needs {} = {}, which is {a} = {b} here", c.path, c.left, c.right),
            ));
        }
        out.assume_equal(&left, &right, &c.path);
    }
    Ok(out)
}

/// An op with values in the place of symbols.
pub(crate) fn substituted(op: &Op, value: &dyn Fn(&str) -> Option<SymExpr>) -> Op {
    fn walk(a: Attr, value: &dyn Fn(&str) -> Option<SymExpr>) -> Attr {
        match a {
            Attr::Expr(e) => e.substitute(value).to_attr(),
            Attr::List(l) => Attr::List(l.into_iter().map(|a| walk(a, value)).collect()),
            other => other,
        }
    }
    let mut symbols = std::collections::BTreeSet::new();
    portwright_ir::graph::collect_attr_symbols(op, &mut symbols);
    if !symbols.iter().any(|s| value(s).is_some()) {
        return op.clone();
    }
    let attrs = op.attrs();
    let lookup = |name: &str| attrs.iter().find(|(n, _)| *n == name).map(|(_, a)| walk(a.clone(), value));
    match Op::from_attrs(op.mnemonic(), &lookup) {
        Ok(Some(new)) => new,
        _ => op.clone(),
    }
}

/// Whether a value is one number everywhere, so that cloning it costs nothing.
pub fn is_splat(graph: &Graph, v: ValueId) -> bool {
    splat(graph, v).is_some()
}
