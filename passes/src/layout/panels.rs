// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Constant right operands of contractions, cut into panels that a block of columns reads from end to end.
//!
//! Before: `fusion{kind=contract}(%x, weight "w": [K, N])` with `contract{"mk,kn->mn"}(i0, i1)` in its region;
//! after: `fusion{kind=contract}(%x, weight "w.panels": [N/p, K/d, p*d])`, whose region first turns `i1` back into `[K, N]` by movement, and
//! in the pack program the same movement the other way. The movement in the region costs nothing: it only names where elements lie.
//!
//! `p` is the columns of a block of the schedule, `d` the products that one instruction adds to a result. The ends are filled with zeros.
//!
//! For a matrix unit of bf16 that is to multiply f32, each number is cut into three of bf16 that add up to it: `[N/p, 3, K/d, p*d]`, and the
//! region adds them before it turns them back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{
    BinaryOp, Dims, FusionKind, Graph, Literal, Node, NodeId, Op, Origin, PadMode, Patch, Scalar, TensorType, TypeFault, UnaryOp, ValueId,
    WeightId,
};
use portwright_ir::sym::{SymExpr, product};
use portwright_ir::weight::{Weight, WeightSource};

use crate::canonical::contract::labels;
use crate::rules::{RuleLog, Tap};
use crate::spec::{CpuSpec, Math, ProductForm};

/// Bytes of a right operand whose rows are found in the first-level cache however they lie.
const SMALL: i64 = 16 << 10;

/// Rows from which parts of f32 go to a matrix unit, and the least depth of its sums.
const SPLIT_ROWS: i64 = 32;
const SPLIT_DEPTH: i64 = 32;

/// How a right operand `[lead.., K, N]` is cut.
struct Cut {
    /// Which operand of the fusion it is.
    operand: usize,
    weight: WeightId,
    dtype: DType,
    lead: Vec<i64>,
    k: i64,
    n: i64,
    /// Columns of a panel.
    width: i64,
    /// Neighbors along K that lie next to each other.
    group: i64,
    /// K with what fills it up.
    depth: i64,
    /// Whether each number is three of bf16, in planes of a panel.
    split: bool,
}

impl Cut {
    fn panels(&self) -> i64 {
        (self.n + self.width - 1) / self.width
    }
    fn dims(&self, tail: &[i64]) -> Dims {
        self.lead.iter().chain(tail).map(|&d| d.into()).collect()
    }
    /// `perm` after the leading dims.
    fn perm(&self, perm: &[usize]) -> Vec<u32> {
        (0..self.lead.len()).chain(perm.iter().map(|p| p + self.lead.len())).map(|p| p as u32).collect()
    }
    fn packed(&self) -> Vec<i64> {
        let (panels, rest) = (self.panels(), [self.depth / self.group, self.width * self.group]);
        let planes: &[i64] = if self.split { &[3] } else { &[] };
        [self.lead.as_slice(), &[panels], planes, &rest].concat()
    }

    /// The cut of a fusion's right operand; `None` where it is not constant, small, or used in another way as well.
    fn of(main: &Graph, fusion: NodeId, spec: &CpuSpec, math: Math) -> Option<Cut> {
        let node = main.node(fusion);
        let (Op::Fusion { kind: FusionKind::Contract }, [region]) = (&node.op, node.regions.as_slice()) else { return None };
        let multiplies = |n: &&Node| matches!(n.op, Op::Contract { .. } | Op::ContractGroups { .. });
        let contract = region.node_ids().map(|n| region.node(n)).find(multiplies)?;
        let (text, acc, &[lhs, rhs]) = (match (&contract.op, contract.operands.as_slice()) {
            (Op::Contract { spec, acc, .. }, [operands @ ..]) => (&**spec, acc, operands),
            (Op::ContractGroups { acc, .. }, [operands @ .., _]) => ("mk,ekn->mn", acc, operands),
            _ => return None,
        }) else {
            return None;
        };
        let grouped = matches!(contract.op, Op::ContractGroups { .. });
        let operand = region.inputs().iter().position(|&v| v == rhs)?;
        if lhs == rhs || region.users(rhs).len() != 1 || region.is_output(rhs) {
            return None;
        }
        let weight = main.as_weight(*node.operands.get(operand)?)?;
        let [a, b, out] = labels(text)?;
        let (&last, &inner) = (b.last()?, b.get(b.len().checked_sub(2)?)?);
        let summed = |c: char| a.contains(&c) && !out.contains(&c);
        if out.last() != Some(&last) || a.contains(&last) || !summed(inner) || b[..b.len() - 2].iter().any(|&c| summed(c)) {
            return None;
        }
        let ty = region.ty(rhs);
        let dims = ty.static_dims()?;
        let (lead, &[k, n]) = dims.split_at_checked(dims.len() - 2)? else { return None };
        let width = i64::from(spec.block_columns(Some(n)));
        let bytes = k.checked_mul(n)?.checked_mul(i64::from(ty.dtype.bytes()?))?;
        let form = match spec.products(region.ty(lhs).dtype, ty.dtype, *acc) {
            // Rows of groups do not fill the tiles of a matrix unit.
            ProductForm::Tile(_) if grouped => {
                spec.dot(region.ty(lhs).dtype, ty.dtype, *acc).map_or(ProductForm::Multiply, ProductForm::Dot)
            }
            form => form,
        };
        if n <= width || k < 1 || ty.quant.is_some() || (form.group() == 1 && bytes < SMALL) {
            return None;
        }
        // A matrix unit of bf16 takes f32 in parts, where there are rows enough for its tiles; each result of one sum in its own order.
        let m_dims = a.iter().zip(&region.ty(lhs).dims).filter(|(c, _)| !b.contains(c)).map(|(_, d)| d);
        let rows = product(m_dims).as_const().is_none_or(|m| m >= SPLIT_ROWS);
        let unit = spec
            .split_tile()
            .filter(|_| !grouped && rows && math != Math::Exact && form == ProductForm::Multiply && lhs_is_f32(region, lhs, *acc));
        let split = unit.is_some() && ty.dtype == DType::F32 && k >= SPLIT_DEPTH;
        let form = unit.filter(|_| split).map_or(form, ProductForm::Tile);
        let (group, whole) = (i64::from(form.group()), i64::from(form.depth()));
        let depth = (k + whole - 1) / whole * whole;
        let dtype = if split { DType::BF16 } else { ty.dtype };
        Some(Cut { operand, weight, dtype, lead: lead.to_vec(), k, n, width, group, depth, split })
    }

    /// `[lead.., K, N]` to panels.
    fn pack(&self, g: &mut Graph, x: ValueId, origin: &Origin) -> Result<ValueId, TypeFault> {
        let mut add = |op: Op, operands: &[ValueId]| g.add(op, operands, origin.clone()).map(|n| g.result(n));
        let (columns, groups) = (self.panels() * self.width, self.depth / self.group);
        let mut x = x;
        if columns != self.n || self.depth != self.k {
            let zero = add(Op::Const { value: Literal::scalar(Scalar::zero(if self.split { DType::F32 } else { self.dtype })) }, &[])?;
            let none: Dims = vec![SymExpr::from(0); self.lead.len() + 2];
            let mut high = none.clone();
            high[self.lead.len()] = (self.depth - self.k).into();
            high[self.lead.len() + 1] = (columns - self.n).into();
            let interior = vec![0; none.len()];
            x = add(Op::Pad { mode: PadMode::Constant, low: none, high, interior }, &[x, zero])?;
        }
        x = add(Op::Reshape { dims: self.dims(&[groups, self.group, self.panels(), self.width]) }, &[x])?;
        x = add(Op::Transpose { perm: self.perm(&[2, 0, 3, 1]) }, &[x])?;
        if !self.split {
            return add(Op::Reshape { dims: self.packed().iter().map(|&d| d.into()).collect() }, &[x]);
        }
        x = add(Op::Reshape { dims: self.dims(&[self.panels(), 1, groups, self.width * self.group]) }, &[x])?;
        let parts = split(&mut add, x)?;
        add(Op::Concat { axis: self.lead.len() as u32 + 1 }, &parts)
    }

    /// Panels to `[lead.., K, N]`.
    fn unpack(&self, g: &mut Graph, x: ValueId, origin: &Origin) -> Result<ValueId, TypeFault> {
        if !self.split {
            return self.flat(g, x, origin);
        }
        let mut sum = None;
        for i in 0..3 {
            let (axis, mut dims) = (self.lead.len() + 1, self.packed());
            dims[axis] = 1;
            let mut starts: Dims = vec![0.into(); dims.len()];
            starts[axis] = i.into();
            let op = Op::Slice { starts, steps: vec![1; dims.len()], dims: dims.iter().map(|&d| d.into()).collect() };
            let plane = g.add(op, &[x], origin.clone())?;
            let flat = self.flat(g, g.result(plane), origin)?;
            let wide = g.add(Op::Cast { to: DType::F32, saturate: true }, &[flat], origin.clone())?;
            let wide = g.result(wide);
            sum = Some(match sum {
                None => wide,
                Some(sum) => {
                    let n = g.add(Op::Binary(BinaryOp::Add), &[sum, wide], origin.clone())?;
                    g.result(n)
                }
            });
        }
        Ok(sum.unwrap_or(x))
    }

    /// Panels, or one plane of them, to `[lead.., K, N]`.
    fn flat(&self, g: &mut Graph, x: ValueId, origin: &Origin) -> Result<ValueId, TypeFault> {
        let mut add = |op: Op, operands: &[ValueId]| g.add(op, operands, origin.clone()).map(|n| g.result(n));
        let (columns, groups) = (self.panels() * self.width, self.depth / self.group);
        let mut x = add(Op::Reshape { dims: self.dims(&[self.panels(), groups, self.width, self.group]) }, &[x])?;
        x = add(Op::Transpose { perm: self.perm(&[1, 3, 0, 2]) }, &[x])?;
        x = add(Op::Reshape { dims: self.dims(&[self.depth, columns]) }, &[x])?;
        if columns != self.n || self.depth != self.k {
            let dims = self.dims(&[self.k, self.n]);
            x = add(Op::Slice { starts: vec![0.into(); dims.len()], steps: vec![1; dims.len()], dims }, &[x])?;
        }
        Ok(x)
    }

    /// The region with panels as that operand.
    fn region(&self, old: &Graph, origin: &Origin) -> Result<Graph, TypeFault> {
        let mut new = Graph::new(old.name.clone());
        old.symbols().iter().for_each(|s| new.add_symbol(s.clone()));
        let mut map: HashMap<ValueId, ValueId> = HashMap::new();
        for (i, &v) in old.inputs().iter().enumerate() {
            let name = old.value(v).name.clone().unwrap_or_default();
            let ty = if i == self.operand { TensorType::fixed(self.dtype, &self.packed()) } else { old.ty(v).clone() };
            map.insert(v, new.add_input(name, ty));
        }
        for (i, &v) in old.inputs().iter().enumerate() {
            if i == self.operand {
                let flat = self.unpack(&mut new, map[&v], origin)?;
                map.insert(v, flat);
            }
        }
        for n in old.order() {
            let node = old.node(n);
            let operands: Vec<ValueId> = node.operands.iter().filter_map(|v| map.get(v).copied()).collect();
            let m = new.add_with_regions(node.op.clone(), &operands, node.regions.clone(), node.origin.clone())?;
            for (&from, &to) in node.results.iter().zip(&new.node(m).results.clone()) {
                map.insert(from, to);
            }
        }
        for o in old.outputs() {
            new.add_output(o.name.clone(), map[&o.value]);
        }
        Ok(new)
    }
}

fn lhs_is_f32(region: &Graph, lhs: ValueId, acc: DType) -> bool {
    region.ty(lhs).dtype == DType::F32 && acc == DType::F32
}

/// Three values of bf16 whose sum is `x`: each the nearest to what those before it leave. What is not finite is in the first alone.
fn split(add: &mut dyn FnMut(Op, &[ValueId]) -> Result<ValueId, TypeFault>, x: ValueId) -> Result<[ValueId; 3], TypeFault> {
    let number = |add: &mut dyn FnMut(Op, &[ValueId]) -> Result<ValueId, TypeFault>, v: f32| {
        add(Op::Const { value: Literal::scalar(Scalar::f32(v)) }, &[])
    };
    let cast = |to: DType| Op::Cast { to, saturate: true };
    let most = f32::from_bits(0x7f7f_0000);
    let (low, high, none) = (number(add, -most)?, number(add, most)?, number(add, 0.0)?);
    let infinite = add(Op::Unary(UnaryOp::IsInf), &[x])?;
    // The largest numbers of f32 round to infinity.
    let held = add(Op::Binary(BinaryOp::Max), &[x, low])?;
    let held = add(Op::Binary(BinaryOp::Min), &[held, high])?;
    let held = add(Op::Select {}, &[infinite, x, held])?;
    let first = add(cast(DType::BF16), &[held])?;
    let wide = add(cast(DType::F32), &[first])?;
    let left = add(Op::Binary(BinaryOp::Sub), &[x, wide])?;
    let left = add(Op::Select {}, &[infinite, none, left])?;
    let second = add(cast(DType::BF16), &[left])?;
    let wide = add(cast(DType::F32), &[second])?;
    let left = add(Op::Binary(BinaryOp::Sub), &[left, wide])?;
    let third = add(cast(DType::BF16), &[left])?;
    Ok([first, second, third])
}

/// Cuts the constant right operands of all contractions of a fused graph; `pack` is not fused yet.
pub fn cut_panels(main: &mut Graph, pack: &mut Graph, spec: &CpuSpec, math: Math, log: &mut RuleLog) {
    let cuts: Vec<(NodeId, Cut)> = main.order().into_iter().filter_map(|n| Cut::of(main, n, spec, math).map(|c| (n, c))).collect();
    let mut known = Known {
        panels: HashMap::new(),
        outputs: pack.outputs().iter().map(|o| (o.name.clone(), o.value)).collect(),
        weights: pack.weights().iter().map(|(id, w)| (w.name.clone(), id)).collect(),
        names: main.weights().values().map(|w| w.name.clone()).collect(),
    };
    for (n, cut) in cuts {
        if log.spent() {
            return;
        }
        match known.apply(main, pack, n, &cut) {
            Ok(()) => log.count("weight-panels"),
            Err(fault) => {
                log.refused.insert("weight-panels", fault.message);
            }
        }
    }
    main.remove_dead();
    // What the model no longer reads need not be packed.
    let read: HashSet<Arc<str>> = main
        .node_ids()
        .filter_map(|n| match main.node(n).op {
            Op::Weight { weight } => Some(main.weight(weight).name.clone()),
            _ => None,
        })
        .collect();
    pack.retain_outputs(|o| read.contains(&o.name));
    pack.remove_dead();
}

/// What is found by name, and what was cut before: a weight of several users is cut once.
struct Known {
    panels: HashMap<(WeightId, Vec<i64>), ValueId>,
    /// Outputs and weights of the pack program.
    outputs: HashMap<Arc<str>, ValueId>,
    weights: HashMap<Arc<str>, WeightId>,
    /// Names of the model's weights.
    names: HashSet<Arc<str>>,
}

impl Known {
    /// The weight as the pack program has it.
    fn source(&mut self, pack: &mut Graph, w: &Weight, origin: &Origin) -> Result<ValueId, TypeFault> {
        if let (WeightSource::Packed, Some(&v)) = (&w.source, self.outputs.get(&w.name)) {
            return Ok(v);
        }
        let weight = *self.weights.entry(w.name.clone()).or_insert_with(|| pack.add_weight(w.clone()));
        let m = pack.add(Op::Weight { weight }, &[], origin.clone())?;
        Ok(pack.result(m))
    }

    /// A name for what is made of a weight.
    fn name(&mut self, w: &Weight) -> Arc<str> {
        let base = format!("{}.panels", w.name);
        let mut name: Arc<str> = base.as_str().into();
        for i in 2.. {
            if self.names.insert(name.clone()) {
                break;
            }
            name = format!("{base}.{i}").into();
        }
        name
    }

    fn apply(&mut self, main: &mut Graph, pack: &mut Graph, n: NodeId, cut: &Cut) -> Result<(), TypeFault> {
        let origin = main.node(n).origin.clone();
        let key = (cut.weight, cut.packed());
        let mut patch = Patch::new(main, "weight-panels", &[n]);
        let region = cut.region(&main.node(n).regions[0], &origin)?;
        let before = self.panels.get(&key).copied();
        let panels: Tap = match before {
            Some(v) => v.into(),
            None => {
                let w = main.weight(cut.weight).clone();
                let source = self.source(pack, &w, &origin)?;
                let packed = cut.pack(pack, source, &origin)?;
                let name = self.name(&w);
                pack.add_output(name.clone(), packed);
                let weight = patch.add_weight(Weight::new(name, cut.dtype, cut.packed(), WeightSource::Packed));
                patch.add(main, Op::Weight { weight }, &[])?
            }
        };
        let mut operands: Vec<Tap> = main.node(n).operands.iter().map(|&v| v.into()).collect();
        operands[cut.operand] = panels;
        let fusion = patch.add_with_regions(main, main.node(n).op.clone(), &operands, vec![region])?;
        let Tap::New(at, _) = fusion else { return Ok(()) };
        for (i, &old) in main.node(n).results.iter().enumerate() {
            patch.replace(old, Tap::New(at, i));
        }
        let applied = main.apply(patch)?;
        if let (None, Some(&w)) = (before, applied.added.first()) {
            self.panels.insert(key, main.result(w));
        }
        Ok(())
    }
}
