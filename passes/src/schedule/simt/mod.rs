// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `simt` schedule: lanes in warps in groups, shared memory, matrix fragments, asynchronous copies.
//!
//! Every kernel has a grid in x alone. Lanes are cut by size, never by how many processors a chip has, and every reduction has one order, so
//! results are the same on each run. Edges are scalar conditions of loads and stores; vectors are used where memory is proven to hold whole
//! ones at multiples of their size. What a machine has (lanes of a warp, banks, fragments, queues) is data in [`SimtSpec`]; docs/SIMT.md says
//! which forms an emitter meets.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{FusionKind, Graph, Origin};
use portwright_ir::kernel::{Buf, Class, Ex, Id, Kb, Module, ShuffleKind};
use portwright_ir::sym::{SymExpr, product};

use super::begin::{Begun, Built, Spec, finish, kernel_name, name_coords};
use super::{KernelPool, Known, Narrow, Scheduled, Unschedulable};
use super::{collapse, elementwise, eval, grouped, problem};
use crate::spec::SimtSpec;

use eval::{Eval, Guard, Stop};

mod attention;
mod contract;
mod conv;
mod depthwise;
mod flash;
mod fragments;
mod gemm;
mod groups;
mod line;
mod map;
mod pointwise;
mod recurrent;
mod reduce;
mod runs;
mod scatter;
mod skinny;
mod transpose;
mod vector;
mod window;
mod winograd;

/// Elements up to which indices have 32 bits.
const SHORT: i64 = 1 << 30;

impl Spec for SimtSpec {
    const CLASS: Class = Class::Simt;
    fn align(&self) -> Option<u32> {
        Some(self.vec_bytes)
    }
    fn index(&self, most: i64) -> DType {
        // Positions beyond the last element, of lanes that have nothing to do, are indices too.
        if most <= SHORT { DType::I32 } else { DType::I64 }
    }
}

/// What all schedules of a region share.
type Cx<'a> = super::begin::Cx<'a, SimtSpec>;

/// Schedules one region.
///
/// # Errors
/// A form that has no schedule.
pub fn schedule(
    spec: &SimtSpec,
    kind: FusionKind,
    region: &Graph,
    known: &Known<'_>,
    origin: &Origin,
    pool: &mut KernelPool,
) -> Result<Scheduled, Unschedulable> {
    let name = kernel_name(kind, region);
    let rewritten = match kind {
        FusionKind::Map | FusionKind::Reduce => collapse::collapse(region),
        FusionKind::Conv if known.rooms.iter().all(Option::is_none) => pointwise::product_of(region),
        _ => None,
    };
    let kind = if kind == FusionKind::Conv && rewritten.is_some() { FusionKind::Contract } else { kind };
    let region = rewritten.as_ref().unwrap_or(region);
    let once = |known: &Known<'_>, pool: &mut KernelPool| {
        let cx = Cx { spec, region, known, origin, name: name.clone() };
        match build(&cx, kind, pool.module_mut()) {
            Ok(b) => Ok(b),
            Err(Stop::No(why)) => Err(why),
            Err(Stop::NeedScalar) => Err(Unschedulable::new("an index that is not linear in the innermost dim")),
        }
    };
    // Where sizes are not known, most tensors are small all the same.
    let sizes = |v: &portwright_ir::graph::Value| v.ty.elems();
    let bounds = |e: &SymExpr| e.bounds(&|s| Some((known.symbols)(s)).map(|s| (s.0, s.1))).1;
    let mut elems: Vec<SymExpr> = Vec::new();
    for e in region.values().values().map(sizes) {
        if bounds(&e) > SHORT && !elems.contains(&e) {
            elems.push(e);
        }
    }
    let unknown = !elems.is_empty() && elems.iter().all(|e| e.as_const().is_none());
    let narrow = match unknown {
        true => {
            let built = once(&Known { short: true, ..*known }, pool)?;
            Some(Narrow { kernel: pool.intern(built.kernel), elems, most: SHORT })
        }
        false => None,
    };
    let built = once(known, pool)?;
    let scratch_bytes = built.syms.to_region(&built.kernel.local_bytes());
    let Built { kernel, grid, scalars, cost_ns, .. } = built;
    let kernel = pool.intern(kernel);
    let narrow = narrow.filter(|n| n.kernel != kernel);
    Ok(Scheduled { kernel, grid, scalars, scratch_bytes, group_cost_ns: cost_ns, narrow })
}

fn build(cx: &Cx<'_>, kind: FusionKind, module: &mut Module) -> Result<Built, Stop> {
    match kind {
        FusionKind::Map => match transpose::build(cx, module)? {
            Some(built) => Ok(built),
            None => map::build(cx, module),
        },
        FusionKind::Reduce => reduce::build(cx, module),
        FusionKind::Contract if grouped::takes(cx.region) => groups::build(cx, module),
        FusionKind::Contract => contract::build(cx, module),
        FusionKind::Conv => conv::build(cx, module),
        FusionKind::Window => window::build(cx, module),
        FusionKind::Recurrent => recurrent::build(cx, module),
        FusionKind::Single if cx.region.node_ids().all(|n| cx.region.node(n).op.is_source()) => map::build(cx, module),
        FusionKind::Single => line::build(cx, module),
        FusionKind::Attention => attention::build(cx, module),
    }
}

/// Time of a group, for tables; no schedule depends on it.
const GROUP_NS: u32 = 2000;

/// Ends a kernel of so many groups in x.
fn done(b: Begun<'_, '_>, groups: SymExpr) -> Built {
    finish(b, [groups, 1.into(), 1.into()], GROUP_NS)
}

/// Gives each of `total` pieces of work to one lane, group by group. The body gets the piece's number.
fn each_lane<'a>(
    cx: &Cx<'a>,
    b: &mut Begun<'a, '_>,
    total: &SymExpr,
    body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &SymExpr) -> Result<(), Stop>,
) -> Result<SymExpr, Stop> {
    let Begun { k, eval, .. } = b;
    let group = cx.spec.group(total.as_const());
    k.group(group, cx.spec.lanes);
    if total.is(0) {
        return Ok(0.into());
    }
    let i = k.let_("i", k.gx() * i64::from(group) + k.lane());
    let mut stop = Ok(());
    let mut run = |k: &mut Kb<'_>| {
        eval.open();
        let at = eval.ix.bind("i", i.clone(), total.clone());
        stop = body(k, eval, &at);
        eval.close();
    };
    if total.divisible_by(i64::from(group), &|_| 1) {
        run(k);
    } else {
        let inside = i.lt(k.dim(total));
        k.if_(inside, run);
    }
    stop?;
    Ok(total.ceil_div(&i64::from(group).into()))
}

/// Loops over all elements of `dims`, filling in coordinates; the same for all lanes.
fn each<'a>(
    k: &mut Kb<'_>,
    eval: &mut Eval<'a>,
    dims: &[SymExpr],
    at: &mut Vec<SymExpr>,
    body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &[SymExpr]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let Some((d, rest)) = dims.split_first() else { return body(k, eval, at) };
    let mut stop = Ok(());
    let hi = k.dim(d);
    k.for_("e", 0, hi, 1, |k, e| {
        eval.open();
        let e = eval.ix.bind("e", e, d.clone());
        at.push(e);
        stop = each(k, eval, rest, at, body);
        at.pop();
        eval.close();
    });
    stop
}

/// Computes and stores outputs whose dims are those of the result at `coords`, or the same elements in other dims.
fn store_outputs(
    cx: &Cx<'_>,
    outputs: &[Buf],
    k: &mut Kb<'_>,
    eval: &mut Eval<'_>,
    dims: &[SymExpr],
    coords: &[SymExpr],
    guard: &Guard,
) -> Result<(), Stop> {
    for (o, buf) in cx.region.outputs().iter().zip(outputs) {
        let own = eval.dims(o.value);
        let at = if own == dims { coords.to_vec() } else { eval.reshape(coords, dims, &own) };
        let v = eval.value(k, o.value, &at, guard)?;
        eval.store(k, *buf, &at, guard, &v)?;
    }
    Ok(())
}

/// A value of another lane of the warp; narrow dtypes travel as 32 bits.
fn shuffle(k: &mut Kb<'_>, kind: ShuffleKind, v: &Ex, by: impl Into<Ex>, width: u32) -> Ex {
    let d = v.ty().and_then(portwright_ir::kernel::Ty::elem).unwrap_or(DType::F32);
    let width = width.min(u32::from(u16::MAX)) as u16;
    if d.bits() >= 32 {
        return k.shuffle("t", kind, v, by, width);
    }
    let wide = if d.is_float() { DType::F32 } else { DType::I32 };
    let v = k.let_("v", v.cast(wide));
    let t = k.shuffle("t", kind, &v, by, width);
    k.let_("t", if d == DType::Bool { t.differs(0) } else { t.cast(d) })
}

/// Number of the lane in its warp.
fn warp_lane(k: &Kb<'_>) -> Ex {
    k.id(Id::WarpLane)
}

/// Number of the warp in its group.
fn warp(k: &Kb<'_>) -> Ex {
    k.id(Id::Warp)
}

/// Number of the lane among those that a shuffle reaches.
fn near_lane(spec: &SimtSpec, k: &Kb<'_>) -> Ex {
    if spec.reach() == spec.lanes { warp_lane(k) } else { k.lane() % i64::from(spec.reach()) }
}

/// Number of those lanes in the group.
fn near(spec: &SimtSpec, k: &Kb<'_>) -> Ex {
    if spec.reach() == spec.lanes { warp(k) } else { k.lane() / i64::from(spec.reach()) }
}

/// Elements of dims.
fn elems(dims: &[SymExpr]) -> SymExpr {
    product(dims)
}

/// A vector of these elements.
fn vector_of(list: &[Ex]) -> Ex {
    let Some((first, rest)) = list.split_first() else { return Ex::float(0.0) };
    let mut v = if rest.is_empty() { first.clone() } else { first.splat(list.len() as u32) };
    for (i, x) in rest.iter().enumerate() {
        v = v.insert(i as i64 + 1, x.clone());
    }
    v
}
