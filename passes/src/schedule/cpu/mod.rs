// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The `cpu` schedule: tasks of a thread pool, SIMD, register tiles, cache blocking, packed panels in per-thread scratch.
//!
//! A group of the launch is one task. Tasks are cut by size, never by the number of threads, and every reduction has one order, so
//! results are the same for any number of threads. Ragged edges are masks; a machine without masked memory has a kernel rule that
//! rewrites them.

use portwright_ir::graph::{FusionKind, Graph, Origin};
use portwright_ir::kernel::{Ex, Kb, Module};
use portwright_ir::sym::SymExpr;

use super::begin::{Begun, Built, finish, kernel_name, name_coords};
use super::{KernelPool, Known, Scheduled, Unschedulable};
use super::{collapse, elementwise, eval, grouped, index, lifted};
use crate::spec::CpuSpec;

pub(crate) mod attention;
mod blocks;
mod boxes;
mod channels;
mod contract;
mod conv;
mod dots;
mod flatten;
mod gemm;
mod groups;
mod left;
mod map;
mod planes;
mod recurrent;
mod reduce;
mod single;
mod sliding;
mod steps;
mod tiles;
mod transpose;
mod window;
mod winograd;

use eval::{Eval, Guard, Stop};

/// Elements that one task should touch: enough to hide its start, few enough to balance threads.
const TASK_ELEMS: i64 = 16_384;

/// Tasks up to which there are as many as a power of two, so that 2, 4 or 8 threads have equal shares.
const FEW_TASKS: u64 = 32;

/// Heights of the blocks in which rows are taken, in turn, each as often as it fits: `mr`, and then what is left. How many rows there are is
/// `m` where every task but the last one takes whole blocks; elsewhere, as in groups of rows, heights of `middle` and 1 follow.
fn heights(m: Option<i64>, mr: i64, middle: i64) -> Vec<i64> {
    let rest = m.map_or(vec![middle, 1], |m| vec![m % mr]);
    let mut heights: Vec<i64> = [mr].into_iter().chain(rest.into_iter().filter(|&rows| 0 < rows && rows < mr)).collect();
    heights.dedup();
    heights
}

/// How many of `units` one task takes, at most `most`.
fn share(units: &SymExpr, most: i64) -> SymExpr {
    let Some(n) = units.as_const() else { return most.into() };
    let tasks = (n.max(1) as u64).div_ceil(most.max(1) as u64);
    let tasks = if tasks <= FEW_TASKS { tasks.next_power_of_two() } else { tasks };
    ((n.max(1) as u64).div_ceil(tasks) as i64).into()
}

/// What all schedules of a region share.
pub(crate) type Cx<'a> = super::begin::Cx<'a, CpuSpec>;

impl Cx<'_> {
    /// Lanes of an f32 vector.
    fn f32_lanes(&self) -> u32 {
        (self.spec.vec_bytes / 4).max(1)
    }
}

/// Schedules one region.
///
/// # Errors
/// A form that has no schedule.
pub fn schedule(
    spec: &CpuSpec,
    kind: FusionKind,
    region: &Graph,
    known: &Known<'_>,
    origin: &Origin,
    pool: &mut KernelPool,
) -> Result<Scheduled, Unschedulable> {
    // Dims of what lies with room cannot be joined.
    let dense = known.rooms.iter().all(Option::is_none);
    let collapsed = if dense && matches!(kind, FusionKind::Map | FusionKind::Reduce) { collapse::collapse(region) } else { None };
    let region = collapsed.as_ref().unwrap_or(region);
    let cx = Cx { spec, region, known, origin, name: kernel_name(kind, region) };
    let width = cx.f32_lanes();
    let mut result = build(&cx, kind, pool.module_mut(), width);
    if matches!(result, Err(Stop::NeedScalar)) && width > 1 {
        result = build(&cx, kind, pool.module_mut(), 1);
    }
    let built = match result {
        Ok(b) => b,
        Err(Stop::No(why)) => return Err(why),
        Err(Stop::NeedScalar) => return Err(Unschedulable::new("an index that is not linear in the innermost dim")),
    };
    let scratch_bytes = built.syms.to_region(&built.kernel.local_bytes());
    let Built { kernel, grid, scalars, cost_ns, .. } = built;
    Ok(Scheduled { kernel: pool.intern(kernel), grid, scalars, scratch_bytes, group_cost_ns: cost_ns, narrow: None })
}

fn build(cx: &Cx<'_>, kind: FusionKind, module: &mut Module, width: u32) -> Result<Built, Stop> {
    match kind {
        FusionKind::Map if cx.known.rooms.iter().any(Option::is_some) => map::build(cx, module, width),
        FusionKind::Map => match transpose::build(cx, module, width)? {
            Some(built) => Ok(built),
            None => map::build(cx, module, width),
        },
        FusionKind::Reduce => reduce::build(cx, module, width),
        FusionKind::Contract if blocks::takes(cx.region) => blocks::build(cx, module, width),
        FusionKind::Contract if grouped::takes(cx.region) => groups::build(cx, module, width),
        FusionKind::Contract => contract::build(cx, module, width),
        FusionKind::Conv | FusionKind::Window if sliding::takes(cx.region) => sliding::build(cx, module, width),
        FusionKind::Conv if winograd::node_of(cx.region).is_some() => winograd::build(cx, module, width),
        FusionKind::Conv if channels::node_of(cx.region).is_some() => channels::build(cx, module, width),
        FusionKind::Conv => conv::build(cx, module, width),
        FusionKind::Window => window::build(cx, module, width),
        FusionKind::Recurrent if steps::takes(cx.region) => steps::build(cx, module, width),
        FusionKind::Recurrent => recurrent::build(cx, module, width),
        FusionKind::Single if cx.region.node_ids().all(|n| cx.region.node(n).op.is_source()) => map::build(cx, module, width),
        FusionKind::Attention => attention::build(cx, module, width),
        FusionKind::Single => single::build(cx, module, width),
    }
}

/// The axis along which a region of whole rows joins an input and more.
pub(super) fn appends(region: &Graph) -> Option<usize> {
    let [only] = region.outputs() else { return None };
    let (axis, parts) = map::joined(region, &[only.value])?;
    let [first, rest @ ..] = parts.as_slice() else { return None };
    let alone = region.users(*first).len() == 1 && !rest.contains(first);
    (region.inputs().contains(first) && alone).then_some(axis)
}

/// Repeats `body` over `lo..hi` in vectors: whole ones, then one masked. The body gets the coordinate of the vector's elements (with the
/// lane in it) and the guard of the edge.
fn vector_loop<'a>(
    k: &mut Kb<'_>,
    eval: &mut Eval<'a>,
    name: &str,
    (lo, hi): (Ex, Ex),
    end: &SymExpr,
    body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &SymExpr, &Guard) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let w = i64::from(eval.width);
    let mut stop = Ok(());
    if w == 1 {
        k.for_(name, lo, hi, 1, |k, c| {
            eval.open();
            let at = eval.ix.bind("c", c, end.clone());
            stop = body(k, eval, &at, &Vec::new());
            eval.close();
        });
        return stop;
    }
    // A range that is known to be whole vectors has no edge.
    let whole = end.divisible_by(w, &|_| 1) && lo.ty().is_none();
    let main_end = match (whole, lo.ty()) {
        (true, _) => hi.clone(),
        (_, None) => k.let_("full", (&hi / w) * w),
        _ => k.let_("full", &lo + ((&hi - &lo) / w) * w),
    };
    k.for_(name, lo, &main_end, w, |k, c| {
        eval.open();
        // Each vector is whole: its first element is a multiple of the width below the end.
        let at = eval.ix.bind("c", c, end.clone() - (w - 1)) + index::lane();
        stop = body(k, eval, &at, &Vec::new());
        eval.close();
    });
    stop?;
    if whole {
        return Ok(());
    }
    let mut stop = Ok(());
    k.if_(main_end.lt(&hi), |k| {
        eval.open();
        let limit = eval.ix.bind("hi", hi.clone(), end.clone() + 1);
        let at = eval.ix.bind("c", main_end.clone(), end.clone()) + index::lane();
        let guard = vec![(at.clone(), limit)];
        stop = body(k, eval, &at, &guard);
        eval.close();
    });
    stop
}

/// As `vector_loop`, with `flight` vectors as one wide vector as far as that goes: the time of one operation is hidden by those beside it.
fn wide_loop<'a>(
    k: &mut Kb<'_>,
    eval: &mut Eval<'a>,
    flight: u32,
    (lo, hi): (Ex, Ex),
    end: &SymExpr,
    body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'a>, &SymExpr, &Guard) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let width = eval.width;
    if !flies(end, flight, width) {
        return vector_loop(k, eval, "c", (lo, hi), end, body);
    }
    let step = i64::from(width * flight);
    let from_zero = lo.ty().is_none();
    let main = match (from_zero, end.as_const()) {
        (true, Some(n)) => Ex::int(i128::from(n / step * step)),
        (true, None) => k.let_("main", (&hi / step) * step),
        (false, _) => k.let_("main", &lo + ((&hi - &lo) / step) * step),
    };
    let mut stop = Ok(());
    eval.set_width(width * flight);
    k.for_("c", lo, &main, step, |k, c| {
        eval.open();
        let at = eval.ix.bind("c", c, end.clone() - (step - 1)) + index::lane();
        stop = body(k, eval, &at, &Vec::new());
        eval.close();
    });
    eval.set_width(width);
    stop?;
    if from_zero && flies_whole(end, flight, width) {
        return Ok(());
    }
    vector_loop(k, eval, "c", (main, hi), end, body)
}

/// Whether a row is swept so many vectors at a time.
fn flies(end: &SymExpr, flight: u32, width: u32) -> bool {
    flight > 1 && width > 1 && end.as_const().is_none_or(|n| n >= i64::from(flight * width))
}

/// Whether nothing of a row is left beside those.
fn flies_whole(end: &SymExpr, flight: u32, width: u32) -> bool {
    flies(end, flight, width) && end.divisible_by(i64::from(flight * width), &|_| 1)
}
