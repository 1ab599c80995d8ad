// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which node goes into which group.

use std::collections::BTreeSet;

use portwright_ir::entity::SecondaryMap;
use portwright_ir::graph::{Def, Dims, FusionKind, Graph, NodeId, Op, ValueId, collect_attr_symbols};

use super::classify::{Class, cheap, class, computes_operands, inlined, looks_up, needs_kernel, unit_stripped};
use super::{MAX_OPS, MAX_PORTS};

/// Most nodes of a copy of what is not stored.
const MAX_COPY: u32 = 6;
/// Longest concat that takes its operands' groups in: each element tests which operand it belongs to.
const MAX_CONCAT: usize = 8;

/// What becomes of a group.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One node that stays as it is.
    Stays,
    /// A fusion.
    Fused(FusionKind),
}

/// Nodes that run together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) kind: Kind,
    /// Members by import order, copies of shared slices and broadcasts included.
    pub(super) nodes: Vec<NodeId>,
    /// When it runs.
    pub(super) at: u64,
    /// Dims of its stored values; for rows, of a full row.
    dims: Dims,
    /// For reductions of trailing dims: how many.
    inner: usize,
    /// Values that it reads from elsewhere.
    inputs: Vec<ValueId>,
    /// Uses of its values by nodes outside, and by outputs of the graph.
    open: usize,
    /// Elementwise and broadcasts only.
    pure: bool,
    /// As `pure`, but for what is read from memory, which may be renamed or looked up.
    plain: bool,
    /// Whether all of it is cheap to compute twice.
    cheap: bool,
    /// When the latest of what it reads is ready.
    needs: u64,
    /// When the latest symbol of its members is bound.
    bound: u64,
}

/// The groups of a graph.
pub(super) struct Grouping {
    pub(super) groups: Vec<Group>,
    /// Position of each node in the order of the graph.
    pub(super) position: SecondaryMap<NodeId, u32>,
    /// Group that computes a node; for shared slices the one that stores it, if any.
    pub(super) of: SecondaryMap<NodeId, Option<u32>>,
}

struct Build<'g> {
    g: &'g Graph,
    groups: Vec<Group>,
    of: SecondaryMap<NodeId, Option<u32>>,
    uses: SecondaryMap<ValueId, u32>,
    /// Nodes that each user copies, with the number of nodes that a copy takes; 0 for others.
    loose: SecondaryMap<NodeId, u32>,
    clock: u64,
    symbols: bool,
}

impl Grouping {
    pub(super) fn of(g: &Graph) -> Grouping {
        let order = crate::rules::topological(g);
        let mut uses: SecondaryMap<ValueId, u32> = SecondaryMap::default();
        for &n in &order {
            for &v in &g.node(n).operands {
                uses[v] += 1;
            }
        }
        for o in g.outputs() {
            uses[o.value] += 1;
        }
        let symbols =
            order.iter().any(|&n| matches!(g.node(n).op, Op::Bind { .. } | Op::NonZero { .. } | Op::Host { .. } | Op::Loop { .. }));
        let mut b = Build { g, groups: Vec::new(), of: SecondaryMap::default(), uses, loose: SecondaryMap::default(), clock: 0, symbols };
        for &n in &order {
            b.visit(n);
        }
        for o in g.outputs() {
            b.store(o.value);
        }
        let mut position: SecondaryMap<NodeId, u32> = SecondaryMap::default();
        for (i, &n) in order.iter().enumerate() {
            position[n] = i as u32;
        }
        Grouping { groups: b.groups, position, of: b.of }
    }
}

impl<'g> Build<'g> {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn group_of(&self, v: ValueId) -> Option<u32> {
        match self.g.value(v).def {
            Def::Result(n, _) => self.of[n],
            Def::Input(_) => None,
        }
    }

    fn dims(&self, n: NodeId) -> &'g Dims {
        static NONE: Dims = Vec::new();
        self.g.node(n).results.first().map_or(&NONE, |&v| &self.g.ty(v).dims)
    }

    /// When the symbols in the types and attributes of a node and of the nodes that it copies are bound.
    fn symbols_ready(&self, n: NodeId, copies: &[NodeId]) -> u64 {
        if !self.symbols {
            return 0;
        }
        let mut names = BTreeSet::new();
        for node in copies.iter().chain([&n]).map(|&m| self.g.node(m)) {
            let inline = node.operands.iter().filter_map(|&v| self.g.producer(v)).filter(|p| inlined(&p.op));
            for part in inline.chain([node]) {
                collect_attr_symbols(&part.op, &mut names);
                let values = part.results.iter().chain(&part.operands);
                values.for_each(|&v| self.g.ty(v).dims.iter().for_each(|d| d.collect_symbols(&mut names)));
            }
            node.regions.iter().for_each(|r| r.collect_free_symbols(&mut names));
        }
        let definers = names.iter().filter_map(|s| self.g.symbol_definer(s)).filter(|&d| d != n);
        definers.filter_map(|d| self.of[d]).map(|i| self.groups[i as usize].at).max().unwrap_or(0)
    }

    /// What no group holds, because each user copies it.
    fn is_loose(&self, v: ValueId) -> bool {
        self.g.producer_id(v).is_some_and(|p| self.of[p].is_none() && self.loose[p] > 0)
    }

    /// Nodes of a copy of `n`, if it is worth copying: all that it reads is stored or copied as well.
    fn copy_size(&self, n: NodeId) -> u32 {
        let producers = self.g.node(n).operands.iter().filter_map(|&v| self.g.producer_id(v));
        1 + producers.filter(|&p| self.of[p].is_none()).map(|p| self.loose[p]).sum::<u32>()
    }

    /// Whether a node computes by cheap arithmetic from no data: a mask from indices.
    fn is_generated(&self, n: NodeId) -> bool {
        let node = self.g.node(n);
        cheap(self.g, node)
            && self.copy_size(n) <= MAX_COPY
            && node.operands.iter().all(|&v| {
                let p = self.g.producer_id(v);
                p.is_some_and(|p| inlined(&self.g.node(p).op) || (self.is_loose(v) && self.is_generated(p)))
            })
    }

    /// Whether only reductions use a node: it belongs to them, unless its group can take them in.
    fn feeds_reductions(&self, n: NodeId) -> bool {
        let g = self.g;
        let node = g.node(n);
        cheap(g, node)
            && node.results.iter().all(|&v| {
                let users = g.users(v);
                let reduces = |u: &NodeId| matches!(class(g, g.node(*u)), Class::RowReduce | Class::OtherReduce);
                !users.is_empty() && !g.is_output(v) && users.iter().all(reduces)
            })
    }

    /// Values that a group reads when it takes `n` in, and the loose nodes that it copies to do so.
    fn reads(&self, n: NodeId) -> (Vec<ValueId>, Vec<NodeId>) {
        let (mut reads, mut copies) = (Vec::new(), Vec::new());
        let mut work: Vec<ValueId> = self.g.node(n).operands.iter().rev().copied().collect();
        while let Some(v) = work.pop() {
            match self.g.producer_id(v) {
                Some(p) if self.is_loose(v) => {
                    copies.push(p);
                    work.extend(self.g.node(p).operands.iter().rev());
                }
                Some(p) if inlined(&self.g.node(p).op) => {}
                _ => reads.push(v),
            }
        }
        copies.reverse();
        (reads, copies)
    }

    /// When a value that is read from outside is ready.
    fn ready(&self, v: ValueId) -> u64 {
        self.group_of(v).map_or(0, |i| self.groups[i as usize].at)
    }

    /// Gives a loose value, or a source that only a kernel can store, a group of its own, so that it lies in memory.
    fn store(&mut self, v: ValueId) {
        if let Some(p) = self.g.producer_id(v)
            && self.of[p].is_none()
            && (self.is_loose(v) || needs_kernel(self.g, v))
        {
            self.open_group(p, Kind::Fused(FusionKind::Map));
        }
    }

    fn open_group(&mut self, n: NodeId, kind: Kind) -> u32 {
        let node = self.g.node(n);
        let map_like = matches!(kind, Kind::Fused(kind) if computes_operands(kind));
        if !map_like {
            for &v in &node.operands {
                self.store(v);
            }
        }
        let (reads, copies) = if map_like { self.reads(n) } else { (node.operands.clone(), Vec::new()) };
        let bound = self.symbols_ready(n, &copies);
        let at = self.tick();
        let mut group = Group {
            kind,
            nodes: Vec::new(),
            at,
            dims: self.dims(n).clone(),
            inner: 0,
            inputs: Vec::new(),
            open: 0,
            pure: true,
            plain: true,
            cheap: true,
            needs: 0,
            bound,
        };
        let id = self.groups.len() as u32;
        for m in copies {
            group.pure &= keeps_place(self.g, m);
            group.nodes.push(m);
        }
        group.nodes.push(n);
        let c = class(self.g, node);
        let in_place = matches!(c, Class::Elementwise | Class::UnitReshape) || matches!(node.op, Op::Broadcast { .. });
        group.pure &= in_place;
        group.plain &= in_place || looks_up(self.g, node);
        group.cheap &= cheap(self.g, node);
        let mut seen = BTreeSet::new();
        for v in reads {
            group.needs = group.needs.max(self.ready(v));
            if seen.insert(v) {
                group.inputs.push(v);
            }
        }
        group.open = node.results.iter().map(|&v| self.uses[v] as usize).sum();
        self.groups.push(group);
        self.of[n] = Some(id);
        id
    }

    fn visit(&mut self, n: NodeId) {
        let node = self.g.node(n);
        match class(self.g, node) {
            Class::Source => {}
            Class::Stays => {
                self.open_group(n, Kind::Stays);
            }
            Class::UnitReshape => {
                let of_loose = node.operands.first().is_some_and(|&v| self.is_loose(v)) && self.copy_size(n) <= MAX_COPY;
                if of_loose {
                    self.loose[n] = self.copy_size(n);
                } else if !self.join(n) {
                    self.open_group(n, Kind::Stays);
                }
            }
            Class::Rename => {
                // What is computed just for it moves in; else each user copies it, and its operand is stored anyway.
                let closed = node.operands.first().and_then(|&v| self.group_of(v)).is_some_and(|i| {
                    let group = &self.groups[i as usize];
                    matches!(group.kind, Kind::Fused(FusionKind::Map | FusionKind::Attention)) && group.open == 1
                });
                if !(closed && self.join(n)) {
                    let size = self.copy_size(n);
                    if size <= MAX_COPY {
                        self.loose[n] = size;
                    } else {
                        self.open_group(n, Kind::Fused(FusionKind::Map));
                    }
                }
            }
            Class::Elementwise if self.is_generated(n) => self.loose[n] = self.copy_size(n),
            Class::Elementwise if self.feeds_reductions(n) => {
                if !self.join_if(n, true) {
                    self.open_group(n, Kind::Fused(FusionKind::Map));
                }
            }
            Class::Elementwise | Class::Movement => {
                if !self.join(n) {
                    self.open_group(n, Kind::Fused(FusionKind::Map));
                }
            }
            Class::RowReduce => self.reduce(n, true),
            Class::OtherReduce => self.reduce(n, false),
            Class::Core(kind) | Class::Alone(kind) => {
                self.open_group(n, Kind::Fused(kind));
            }
        }
    }

    /// Whether the symbols of `group` and everything that it reads but for values of `target` are ready before `at`.
    fn reads_before(&self, group: u32, target: u32, at: u64) -> bool {
        let g = &self.groups[group as usize];
        if g.bound >= at {
            return false;
        }
        if g.needs < at {
            return true;
        }
        g.inputs.iter().all(|&v| self.group_of(v) == Some(target) || self.group_of(v) == Some(group) || self.ready(v) < at)
    }

    /// Puts a node that works element by element, or moves elements, into a group of one of its operands.
    fn join(&mut self, n: NodeId) -> bool {
        self.join_if(n, false)
    }

    /// As [`join`](Self::join), of groups that can take reductions in alone when `for_reductions`.
    fn join_if(&mut self, n: NodeId, for_reductions: bool) -> bool {
        let g = self.g;
        let node = g.node(n);
        // No group takes a long concat in: asking all its operands would cost their square.
        if matches!(node.op, Op::Concat { .. }) && node.operands.len() > MAX_CONCAT {
            return false;
        }
        let c = class(g, node);
        let dims = self.dims(n);
        let (reads, copies) = self.reads(n);
        // Groups of operands, with the number of uses that this node makes of each.
        let mut own: Vec<(u32, usize)> = Vec::new();
        for &v in &reads {
            if let Some(i) = self.group_of(v) {
                match own.iter_mut().find(|(j, _)| *j == i) {
                    Some((_, k)) => *k += 1,
                    None => own.push((i, 1)),
                }
            }
        }
        let moves = c == Class::Movement || (c == Class::Rename && !matches!(node.op, Op::Broadcast { .. }));
        let copied_move = !copies.iter().all(|&m| keeps_place(g, m));
        // Copies of a loose node use its operand once more than the graph says; they count as uses from outside until stored, so only
        // direct operands close a group.
        let direct_uses = |i: u32| node.operands.iter().filter(|&&v| self.group_of(v) == Some(i)).count();
        let closed = |i: u32| self.groups[i as usize].open == direct_uses(i);
        let mut candidates: Vec<u32> = own
            .iter()
            .map(|(i, _)| *i)
            .filter(|&i| direct_uses(i) > 0 && self.takes(i, n, c, dims, moves || copied_move, closed(i)))
            .collect();
        if for_reductions {
            candidates.retain(|&i| match self.groups[i as usize].kind {
                Kind::Fused(FusionKind::Reduce) => true,
                Kind::Fused(FusionKind::Map) => self.groups[i as usize].plain,
                _ => false,
            });
        }
        // A kernel with an epilogue, or a row, is worth most; of several the one that runs last.
        candidates.sort_by_key(|&i| {
            let group = &self.groups[i as usize];
            (group.kind == Kind::Fused(FusionKind::Map), std::cmp::Reverse(group.at))
        });
        let symbols_ready = self.symbols_ready(n, &copies);
        for target in candidates {
            // A closed group may run as late as now.
            let target_closed = closed(target);
            let at = if target_closed { self.clock + 1 } else { self.groups[target as usize].at };
            if symbols_ready >= at {
                continue;
            }
            // Other groups that nothing else needs come along.
            let target_kind = self.groups[target as usize].kind;
            let merged: Vec<u32> = own
                .iter()
                .map(|(i, _)| *i)
                .filter(|&i| i != target && direct_uses(i) > 0 && closed(i) && self.groups[i as usize].kind == Kind::Fused(FusionKind::Map))
                .filter(|&i| self.comes_along(i, target_kind, n, dims, moves))
                .filter(|&i| self.reads_before(i, target, at))
                .collect();
            let outside = reads.iter().filter(|&&v| {
                let i = self.group_of(v);
                i != Some(target) && !i.is_some_and(|i| merged.contains(&i))
            });
            let legal = outside.clone().all(|&v| self.ready(v) < at);
            let ops = self.groups[target as usize].nodes.len()
                + copies.len()
                + 1
                + merged.iter().map(|&i| self.groups[i as usize].nodes.len()).sum::<usize>();
            let ports = self.groups[target as usize].inputs.len()
                + outside.count()
                + merged.iter().map(|&i| self.groups[i as usize].inputs.len()).sum::<usize>();
            if !legal || ops > MAX_OPS || ports > MAX_PORTS {
                continue;
            }
            if target_closed {
                let now = self.tick();
                self.groups[target as usize].at = now;
            }
            for i in merged {
                self.merge(i, target);
            }
            self.put(n, target, &reads, &copies, c, dims);
            self.bind(target, symbols_ready);
            return true;
        }
        false
    }

    /// Whether group `i` can take node `n` in.
    fn takes(&self, i: u32, n: NodeId, c: Class, dims: &Dims, moves: bool, closed: bool) -> bool {
        let group = &self.groups[i as usize];
        match group.kind {
            Kind::Stays => false,
            Kind::Fused(FusionKind::Map) => {
                let broader = dims != &group.dims;
                match c {
                    Class::UnitReshape => closed,
                    _ if !broader && !moves => true,
                    Class::Movement | Class::Rename => closed && self.movement_takes(n, i),
                    Class::Elementwise => closed && !broader || closed && self.repeats(i, dims),
                    _ => false,
                }
            }
            Kind::Fused(FusionKind::Reduce) => {
                let fits = !moves && matches!(c, Class::Elementwise | Class::UnitReshape) && self.row_like(group, dims);
                fits && (c == Class::UnitReshape || self.rows_align(i, n, dims))
            }
            // Heads may change places with queries on the way out.
            Kind::Fused(FusionKind::Attention) if c == Class::Rename => closed && matches!(self.g.node(n).op, Op::Transpose { .. }),
            Kind::Fused(FusionKind::Contract | FusionKind::Conv | FusionKind::Window | FusionKind::Attention) => {
                !moves && c == Class::Elementwise && *dims == group.dims
            }
            Kind::Fused(_) => false,
        }
    }

    /// Whether the values of a closed group may be computed again for every element of `dims` that they meet.
    fn repeats(&self, i: u32, dims: &Dims) -> bool {
        let group = &self.groups[i as usize];
        let same = unit_stripped(&group.dims) == unit_stripped(dims);
        same || (group.cheap && group.nodes.len() <= 8 && group.inputs.len() <= 4)
    }

    /// Whether a movement may compute its operand's group where it reads.
    fn movement_takes(&self, n: NodeId, i: u32) -> bool {
        let node = self.g.node(n);
        match &node.op {
            Op::Broadcast { dims } => self.repeats(i, dims),
            // What is gathered stays in memory; the indices may be computed.
            Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. } => {
                node.operands.first().is_some_and(|&x| self.group_of(x) != Some(i)) && self.groups[i as usize].cheap
            }
            Op::Concat { .. } => node.operands.len() <= MAX_CONCAT,
            _ => true,
        }
    }

    /// Whether a closed map group can merge into another group through `n`.
    fn comes_along(&self, i: u32, target: Kind, n: NodeId, dims: &Dims, moves: bool) -> bool {
        let group = &self.groups[i as usize];
        if moves {
            return self.movement_takes(n, i);
        }
        let fits = group.dims == *dims || self.repeats(i, dims);
        match target {
            Kind::Fused(FusionKind::Map) => fits,
            _ => fits && group.pure || target == Kind::Fused(FusionKind::Contract) && self.one_a_row(group, dims),
        }
    }

    /// Whether a group has one element for each row of `dims`, which may be looked up where the row is written.
    fn one_a_row(&self, group: &Group, dims: &Dims) -> bool {
        let light = |m: &NodeId| {
            let node = self.g.node(*m);
            cheap(self.g, node) || matches!(node.op, Op::Gather { .. } | Op::GatherElements { .. } | Op::GatherNd { .. })
        };
        let one = dims.last().is_some_and(|d| !d.is(1)) && group.dims.last().is_some_and(|d| d.is(1));
        one && group.nodes.len() <= 8 && group.inputs.len() <= 4 && group.nodes.iter().all(light)
    }

    /// Whether `dims` are those of a full row group, of its rows, or of the result of its only reduction.
    fn row_like(&self, group: &Group, dims: &Dims) -> bool {
        if group.inner == 0 {
            return *dims == group.dims;
        }
        if *dims == group.dims {
            return true;
        }
        let lead = group.dims.len() - group.inner;
        let outer = &group.dims[..lead];
        dims.as_slice() == outer || (dims.len() == group.dims.len() && dims[..lead] == *outer && dims[lead..].iter().all(|d| d.is(1)))
    }

    /// Whether a node meets the row results of a group row by row: one without the dims that were reduced would line up with the last dims
    /// of a full row instead.
    fn rows_align(&self, i: u32, n: NodeId, dims: &Dims) -> bool {
        let mut own = self.g.node(n).operands.iter().filter(|&&v| self.group_of(v) == Some(i)).map(|&v| &self.g.ty(v).dims);
        own.all(|d| d.len() == dims.len() || d.iter().all(|x| x.is(1)))
    }

    fn merge(&mut self, from: u32, into: u32) {
        let old = std::mem::replace(
            &mut self.groups[from as usize],
            Group {
                kind: Kind::Stays,
                nodes: Vec::new(),
                at: 0,
                dims: Dims::new(),
                inner: 0,
                inputs: Vec::new(),
                open: 0,
                pure: true,
                plain: true,
                cheap: true,
                needs: 0,
                bound: 0,
            },
        );
        for &m in &old.nodes {
            if self.of[m] == Some(from) {
                self.of[m] = Some(into);
            }
        }
        let mut inside = 0;
        for v in old.inputs {
            if self.group_of(v) == Some(into) {
                // Uses of the target by what moves in are no longer from outside.
                let members = old.nodes.iter().filter(|&&m| self.of[m] == Some(into));
                inside += members.map(|&m| self.g.node(m).operands.iter().filter(|&&o| o == v).count()).sum::<usize>();
            } else if !self.groups[into as usize].inputs.contains(&v) {
                self.groups[into as usize].inputs.push(v);
            }
        }
        let target = &mut self.groups[into as usize];
        target.open = (target.open + old.open).saturating_sub(inside);
        target.needs = target.needs.max(old.needs);
        target.bound = target.bound.max(old.bound);
        target.pure &= old.pure;
        target.plain &= old.plain;
        target.cheap &= old.cheap;
        for m in old.nodes {
            // Only copies can be in both.
            if self.of[m] == Some(into) || !target.nodes.contains(&m) {
                target.nodes.push(m);
            }
        }
        let inputs = std::mem::take(&mut target.inputs);
        let inputs = inputs.into_iter().filter(|&v| self.group_of(v) != Some(into)).collect();
        self.groups[into as usize].inputs = inputs;
    }

    fn put(&mut self, n: NodeId, target: u32, reads: &[ValueId], copies: &[NodeId], c: Class, dims: &Dims) {
        let node = self.g.node(n);
        let inside = node.operands.iter().filter(|&&v| self.group_of(v) == Some(target)).count();
        let gained: usize = node.results.iter().map(|&v| self.uses[v] as usize).sum();
        let mut needs = self.groups[target as usize].needs;
        for &v in reads {
            if self.group_of(v) != Some(target) {
                needs = needs.max(self.ready(v));
                let inputs = &mut self.groups[target as usize].inputs;
                if !inputs.contains(&v) {
                    inputs.push(v);
                }
            }
        }
        let in_place = copies.iter().all(|&m| keeps_place(self.g, m));
        let group = &mut self.groups[target as usize];
        group.needs = needs;
        group.open = group.open.saturating_sub(inside) + gained;
        for &m in copies {
            if !group.nodes.contains(&m) {
                group.nodes.push(m);
            }
        }
        group.nodes.push(n);
        group.cheap &= cheap(self.g, node);
        let stays = matches!(c, Class::Elementwise | Class::UnitReshape) || matches!(node.op, Op::Broadcast { .. });
        group.pure &= in_place && stays;
        // What it looks up is stored; its indices may have been computed here.
        group.plain &= stays || looks_up(self.g, node);
        if matches!(group.kind, Kind::Fused(FusionKind::Map | FusionKind::Attention)) {
            group.dims.clone_from(dims);
        }
        self.of[n] = Some(target);
    }

    /// A group has members whose symbols are bound then.
    fn bind(&mut self, group: u32, at: u64) {
        let bound = &mut self.groups[group as usize].bound;
        *bound = (*bound).max(at);
    }

    fn reduce(&mut self, n: NodeId, rows: bool) {
        let g = self.g;
        let node = g.node(n);
        let Some(&x) = node.operands.first() else { return };
        let full = g.ty(x).dims.clone();
        let inner = match &node.op {
            Op::Reduce { axes, .. } if rows => axes.len(),
            _ => 0,
        };
        let symbols_ready = self.symbols_ready(n, &[]);
        if let Some(i) = self.group_of(x) {
            let group = &self.groups[i as usize];
            let room = group.nodes.len() < MAX_OPS;
            let closed = group.open == 1;
            let fits = match group.kind {
                Kind::Fused(FusionKind::Map) => group.plain && group.dims == full && (rows || closed),
                Kind::Fused(FusionKind::Reduce) => rows && group.inner == inner && group.dims == full,
                _ => false,
            };
            if fits && room && symbols_ready < group.at {
                let c = class(g, node);
                self.put(n, i, &[x], &[], c, &full);
                self.bind(i, symbols_ready);
                let dims = if rows { full } else { self.dims(n).clone() };
                let group = &mut self.groups[i as usize];
                group.kind = Kind::Fused(FusionKind::Reduce);
                group.inner = inner;
                group.dims = dims;
                return;
            }
        }
        let i = self.open_group(n, Kind::Fused(FusionKind::Reduce));
        let dims = if rows { full } else { self.dims(n).clone() };
        let group = &mut self.groups[i as usize];
        group.inner = inner;
        group.dims = dims;
    }
}

/// Whether elements stay at their coordinates, or are repeated.
fn keeps_place(g: &Graph, n: NodeId) -> bool {
    let op = &g.node(n).op;
    matches!(op, Op::Broadcast { .. }) || op.is_elementwise()
}
