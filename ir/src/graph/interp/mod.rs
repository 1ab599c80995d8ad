// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meaning of Graph IR: runs a graph on numbers, plainly.
//!
//! Every op is one function that follows its definition in [`super::op`]; composites are computed by their definitions in f64. The rules
//! of arithmetic are those of [`crate::numerics`]. Results are the same on every machine. Each result's dims are compared with the type
//! that inference gave it, so that a run also tests inference.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::op::Op;
use super::{Graph, NodeId, TensorType, ValueId};
use crate::diag::Code;
use crate::dtype::DType;
use crate::entity::EntityId;
use crate::numerics;
use crate::sym::{SymExpr, SymName};
use crate::weight::{Weight, WeightSource};

mod blocks;
mod compose;
mod contract;
mod elementwise;
mod groups;
mod host;
mod index;
mod movement;
mod quant;
mod reduce;
mod symbols;
mod tensor;
#[cfg(test)]
mod tests;
mod walk;
mod winograd;

pub use host::{Host, ReadImage, Value};
pub use symbols::Bindings;
pub use tensor::{Scales, Tensor};

/// Gives the bytes of a weight that the graph does not hold.
pub type WeightReader = Arc<dyn Fn(&Weight) -> Option<Vec<u8>> + Send + Sync>;

/// Limits and givens of a run.
#[derive(Clone)]
pub struct Options {
    /// Values of symbols that no input dim gives.
    pub symbols: HashMap<SymName, i64>,
    /// Most bytes that live results may take together; a node that would exceed it is not run.
    pub max_bytes: u64,
    /// Most iterations of one loop.
    pub loop_limit: u64,
    /// Weights that are packed or absent.
    pub weights: Option<WeightReader>,
    /// Moves every floating-point result in its last places, one way or the other by this seed: how much a graph answers to rounding.
    pub rounding: Option<u64>,
    /// What reads images in files.
    pub images: Option<ReadImage>,
}

impl Default for Options {
    fn default() -> Self {
        Options { symbols: HashMap::new(), max_bytes: 8 << 30, loop_limit: 1 << 24, weights: None, rounding: None, images: None }
    }
}

/// Why a run ended: `code`, the path of the node, one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    /// Path of the node in the model; of an input its name.
    pub path: String,
    /// What was found.
    pub message: String,
    /// Code for the report.
    pub code: Code,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.code, self.path, self.message)
    }
}
impl std::error::Error for RunError {}

/// A failure without its place.
struct Fault {
    code: Code,
    message: String,
}

impl Fault {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Fault { code, message: message.into() }
    }
    fn at(self, path: impl Into<String>) -> RunError {
        RunError { path: path.into(), message: self.message, code: self.code }
    }
}

type Run = Result<Tensor, Fault>;

/// Runs a graph on its inputs and returns its outputs.
///
/// # Errors
/// Inputs that do not fit the graph's types, a constraint that does not hold, an index outside its dim, a limit of `opts` exceeded,
/// weights that are not at hand.
pub fn run(g: &Graph, inputs: &[Tensor], opts: &Options) -> Result<Vec<Tensor>, RunError> {
    run_with(g, inputs, opts, &mut |_, _| {})
}

/// As [`run`]; `see` is shown the results of each node of the graph itself (not of its regions) when it has run.
///
/// # Errors
/// As [`run`].
pub fn run_with(g: &Graph, inputs: &[Tensor], opts: &Options, see: &mut dyn FnMut(NodeId, &[Tensor])) -> Result<Vec<Tensor>, RunError> {
    let mut bound = Bindings::new(opts.symbols.clone());
    for name in opts.symbols.keys() {
        bound.check_range(g, name).map_err(|f| f.at(name.to_string()))?;
    }
    let mut m = Machine { opts, live: 0, plans: HashMap::new(), host: Host::new(g.texts.clone(), opts.images) };
    m.graph(g, inputs, &mut bound, see)
}

/// As [`run`], of a graph whose texts and lists are lowered to numbers, with inputs and outputs of any kind.
///
/// # Errors
/// As [`run`].
pub fn run_values(g: &Graph, inputs: &[Value], opts: &Options) -> Result<Vec<Value>, RunError> {
    let mut m = Machine { opts, live: 0, plans: HashMap::new(), host: Host::new(g.texts.clone(), opts.images) };
    let given: Vec<Tensor> = inputs.iter().map(|v| m.host.take(v)).collect();
    let out = m.graph(g, &given, &mut Bindings::new(opts.symbols.clone()), &mut |_, _| {})?;
    Ok(g.outputs().iter().zip(out).map(|(o, t)| m.host.give(&t, g.ty(o.value).list.as_deref())).collect())
}

/// Runs a part of a graph: `inputs` are the values of its inputs, symbols are given. For constant folding of one node's region.
///
/// # Errors
/// As [`run`].
pub fn run_region(g: &Graph, inputs: &[Tensor], symbols: &Bindings, opts: &Options) -> Result<Vec<Tensor>, RunError> {
    Machine { opts, live: 0, plans: HashMap::new(), host: Host::default() }.graph(g, inputs, &mut symbols.clone(), &mut |_, _| {})
}

/// Order of a graph's nodes and how often each value is needed, found once for a body that runs many times.
struct Plan {
    order: Vec<NodeId>,
    uses: Vec<u32>,
}

impl Plan {
    fn of(g: &Graph) -> Self {
        let order = g.order();
        let mut uses = vec![0; g.values().len()];
        let operands = order.iter().flat_map(|&n| &g.node(n).operands);
        for &v in operands.chain(g.outputs().iter().map(|o| &o.value)) {
            uses[v.index()] += 1;
        }
        Plan { order, uses }
    }
}

struct Machine<'a> {
    opts: &'a Options,
    /// Bytes of results that are still needed.
    live: u64,
    /// By address of the graph, which is borrowed for the whole run.
    plans: HashMap<usize, Arc<Plan>>,
    /// Texts and lists of the run.
    host: Host,
}

/// Size of the terms that an element of a composite is the sum of, where they may be larger than the element: rounding moves it by as much
/// of them. `x` has the operands, `y` the result.
fn terms(op: &Op, x: &[Tensor], y: &Tensor) -> Option<Vec<f64>> {
    let largest = |t: &Tensor| t.to_f64().into_iter().filter(|v| v.is_finite()).fold(0.0, |m, v| v.abs().max(m));
    match op {
        // A logarithm of a sum, which is 1 or more.
        Op::LogSoftmax { .. } => Some(vec![1.0; y.len()]),
        Op::Gelu { .. } | Op::Silu {} | Op::HardSwish {} => Some(x.first()?.to_f64().into_iter().map(f64::abs).collect()),
        op if op.is_composite() => Some(vec![largest(y); y.len()]),
        _ => None,
    }
}

/// Floating-point elements two steps of their dtype up or down, beside them two of their terms, and zeros to the smallest normal numbers.
fn moved(t: &Tensor, terms: Option<&[f64]>, seed: u64) -> Tensor {
    let (fraction, least) = match (t.dtype, t.dtype.is_float(), t.dtype.bits()) {
        (DType::BF16, ..) => (7, -126),
        (DType::F16, ..) => (10, -14),
        (_, true, 32) => (23, -126),
        (_, true, 64) => (52, -1022),
        _ => return t.clone(),
    };
    let bits = t.to_f64().into_iter().zip(t.all_bits()).enumerate().map(|(i, (x, bits))| {
        let mixed = (seed ^ i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let sign = if (mixed ^ (mixed >> 29)) >> 32 & 1 == 0 { 1.0 } else { -1.0 };
        let around = x.abs().max(terms.and_then(|t| t.get(i)).copied().filter(|t| t.is_finite()).unwrap_or(0.0));
        let to = x + sign * (around * 2f64.powi(1 - fraction) + 2f64.powi(least));
        if x.is_finite() { numerics::encode_f64(t.dtype, to, true) } else { bits }
    });
    Tensor::from_bits(t.dtype, t.dims.clone(), bits)
}

impl Machine<'_> {
    fn graph(
        &mut self,
        g: &Graph,
        inputs: &[Tensor],
        bound: &mut Bindings,
        see: &mut dyn FnMut(NodeId, &[Tensor]),
    ) -> Result<Vec<Tensor>, RunError> {
        let plan = self.plans.entry(std::ptr::from_ref(g) as usize).or_insert_with(|| Arc::new(Plan::of(g))).clone();
        if plan.order.len() != g.len() {
            return Err(Fault::new(Code::CYCLE, "the graph has a cycle").at(&g.name));
        }
        bound.forget_defined(g);
        bound.inputs(g, inputs)?;
        bound.constraints(g)?;
        let mut values: Vec<Option<Tensor>> = vec![None; plan.uses.len()];
        let mut uses = plan.uses.clone();
        for (&v, t) in g.inputs().iter().zip(inputs) {
            values[v.index()] = Some(t.clone());
        }
        let mut freed = vec![];
        for &n in &plan.order {
            let node = g.node(n);
            let path = || if node.origin.first().is_empty() { format!("{}/{n:?}", g.name) } else { node.origin.first().to_owned() };
            let operands: Option<Vec<Tensor>> = node.operands.iter().map(|&v| values[v.index()].clone()).collect();
            let mut operands = operands.ok_or_else(|| Fault::new(Code::INTERNAL, "an operand has no value").at(path()))?;
            self.reserve(g, &node.results, bound).map_err(|f| f.at(path()))?;
            let mut results = self.node(g, n, &operands, bound).map_err(|e| match e {
                Failure::Here(f) => f.at(path()),
                Failure::Inside(e) => e,
            })?;
            if self.opts.rounding.is_none() {
                operands.clear();
            }
            if results.len() != node.results.len() {
                return Err(Fault::new(Code::INTERNAL, format!("{} results, expected {}", results.len(), node.results.len())).at(path()));
            }
            for (&v, t) in node.results.iter().zip(&results) {
                bound.result(g, g.ty(v), t).map_err(|f| f.at(path()))?;
                self.live = self.live.saturating_add(t.bytes().len() as u64);
            }
            if defines(&node.op) {
                bound.constraints(g)?;
            }
            if let Some(seed) = self.opts.rounding {
                let of = |i: usize| seed ^ ((n.index() as u64) << 40) ^ ((i as u64) << 36);
                for (i, t) in results.iter_mut().enumerate() {
                    *t = moved(t, terms(&node.op, &operands, t).as_deref(), of(i));
                }
            }
            see(n, &results);
            for (&v, t) in node.results.iter().zip(results) {
                values[v.index()] = Some(t);
                if uses[v.index()] == 0 {
                    freed.push(v);
                }
            }
            for &v in &node.operands {
                uses[v.index()] -= 1;
                if uses[v.index()] == 0 {
                    freed.push(v);
                }
            }
            for v in freed.drain(..) {
                if let Some(t) = values[v.index()].take()
                    && g.producer_id(v).is_some()
                {
                    self.live = self.live.saturating_sub(t.bytes().len() as u64);
                }
            }
        }
        let out: Option<Vec<Tensor>> = g.outputs().iter().map(|o| values[o.value.index()].clone()).collect();
        // What leaves a region is counted again where it becomes a result.
        for (i, t) in values.iter().enumerate() {
            if let (Some(t), Some(_)) = (t, g.producer_id(ValueId::new(i))) {
                self.live = self.live.saturating_sub(t.bytes().len() as u64);
            }
        }
        out.ok_or_else(|| Fault::new(Code::INTERNAL, "an output has no value").at(&g.name))
    }

    /// Refuses results that would exceed the limit, as far as their dims are known before the node runs.
    fn reserve(&self, g: &Graph, results: &[ValueId], bound: &Bindings) -> Result<(), Fault> {
        let mut need = self.live;
        for &v in results {
            let ty = g.ty(v);
            if let Ok(dims) = bound.dims(&ty.dims) {
                let elems = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
                need = need.saturating_add(elems.and_then(|n| ty.dtype.bytes_for(n)).unwrap_or(u64::MAX));
            }
        }
        if need <= self.opts.max_bytes {
            return Ok(());
        }
        let m = format!("needs {need} bytes with what is live, allowed are {}", self.opts.max_bytes);
        Err(Fault::new(Code::OVER_MEMORY, m))
    }

    fn node(&mut self, g: &Graph, n: NodeId, x: &[Tensor], bound: &mut Bindings) -> Result<Vec<Tensor>, Failure> {
        let node = g.node(n);
        match &node.op {
            Op::Host { op, params, takes, gives, .. } => {
                let results = self.host.run(*op, params, takes, gives, x)?;
                if self.host.bytes() > self.opts.max_bytes {
                    let m = format!("texts and lists of more than the limit of {} bytes", self.opts.max_bytes);
                    return Err(Fault::new(Code::OVER_MEMORY, m).into());
                }
                // Texts and lists are numbers of their own dtype until they are lowered.
                let typed = |(t, &v): (Tensor, &ValueId)| match g.ty(v).dtype {
                    d if d.is_handle() && !t.dtype.is_handle() => t.as_handle(d),
                    _ => t,
                };
                Ok(results.into_iter().zip(&node.results).map(typed).collect())
            }
            Op::If {} => self.if_(&node.regions, x, bound),
            Op::Loop { carried, .. } => self.loop_(g, n, *carried as usize, x, bound),
            Op::Fusion { .. } => match node.regions.first() {
                Some(body) => {
                    // What its body finds, a fusion finds.
                    let mut inner = bound.clone();
                    let out = self.graph(body, x, &mut inner, &mut |_, _| {})?;
                    bound.take_defined(body, &inner);
                    Ok(out)
                }
                None => Err(Fault::new(Code::INTERNAL, "a fusion without a body").into()),
            },
            Op::Contract { .. } | Op::Conv { .. } | Op::ConvLast { .. } => {
                let x: Vec<Tensor> = x.iter().map(quant::expressed).collect::<Result<_, _>>()?;
                Ok(op(g, &node.op, &x.iter().collect::<Vec<_>>(), bound, self.opts)?)
            }
            o => Ok(op(g, o, &x.iter().collect::<Vec<_>>(), bound, self.opts)?),
        }
    }

    fn if_(&mut self, regions: &[Graph], x: &[Tensor], bound: &mut Bindings) -> Result<Vec<Tensor>, Failure> {
        let ([then, other], [cond, captures @ ..]) = (regions, x) else {
            return Err(Fault::new(Code::BAD_ARITY, "expected a condition and two regions").into());
        };
        let taken = if cond.bits(0) & 1 == 1 { then } else { other };
        Ok(self.graph(taken, captures, &mut bound.clone(), &mut |_, _| {})?)
    }

    fn loop_(&mut self, g: &Graph, n: NodeId, carried: usize, x: &[Tensor], bound: &mut Bindings) -> Result<Vec<Tensor>, Failure> {
        let node = g.node(n);
        let ([body], [trip, cond, rest @ ..]) = (&node.regions[..], x) else {
            return Err(Fault::new(Code::BAD_ARITY, "expected a trip count, a condition and one region").into());
        };
        if rest.len() < carried || node.results.len() < carried {
            return Err(Fault::new(Code::BAD_ARITY, format!("expected {carried} carried values")).into());
        }
        let (mut state, captures) = (rest[..carried].to_vec(), &rest[carried..]);
        let trips = numerics::int_from_bits(trip.dtype, trip.bits(0));
        let mut going = cond.bits(0) & 1 == 1;
        let mut scanned: Vec<Vec<Tensor>> = vec![Vec::new(); node.results.len() - carried];
        let mut i: i64 = 0;
        while going && i128::from(i) < trips {
            if i as u64 >= self.opts.loop_limit {
                return Err(Fault::new(Code::RUN_FAILED, format!("more than {} iterations", self.opts.loop_limit)).into());
            }
            let flag = Tensor::from_bits(DType::Bool, vec![], [u64::from(going)]);
            let mut inputs = vec![Tensor::from_i64(vec![], &[i]), flag];
            inputs.extend(state.drain(..).chain(captures.iter().cloned()));
            let mut out = self.graph(body, &inputs, &mut bound.clone(), &mut |_, _| {})?.into_iter();
            drop(inputs);
            going = out.next().is_some_and(|c| c.bits(0) & 1 == 1);
            state.extend(out.by_ref().take(carried));
            let mut bytes = 0u64;
            for (all, t) in scanned.iter_mut().zip(out) {
                bytes = bytes.saturating_add(t.bytes().len() as u64);
                all.push(t);
            }
            let total = bytes.saturating_mul(i as u64 + 1).saturating_add(self.live);
            if total > self.opts.max_bytes {
                return Err(Fault::new(Code::OVER_MEMORY, format!("needs {total} bytes, allowed are {}", self.opts.max_bytes)).into());
            }
            i += 1;
        }
        let mut results = state;
        for (all, &v) in scanned.into_iter().zip(&node.results[carried..]) {
            results.push(stack(&all, g.ty(v), bound)?);
        }
        Ok(results)
    }
}

/// Joins the values of a scanned result along a new first dim.
fn stack(parts: &[Tensor], ty: &TensorType, bound: &Bindings) -> Run {
    let Some(first) = parts.first() else {
        // Without an iteration only the type can tell the other dims; an unknown one is 0.
        let rest = ty.dims.iter().skip(1).map(|d| bound.eval(d).and_then(|d| usize::try_from(d).ok()).unwrap_or(0));
        let dims: Vec<usize> = std::iter::once(0).chain(rest).collect();
        return Ok(Tensor::from_bits(ty.dtype, dims, []));
    };
    let row = [&[1], &first.dims[..]].concat();
    let rows: Vec<Tensor> = parts.iter().map(|p| movement::reshape(p, [&[1], &p.dims[..]].concat())).collect::<Result<_, _>>()?;
    if rows.iter().any(|r| r.dims != row) {
        return Err(Fault::new(Code::SHAPE_MISMATCH, "a scanned value changes its dims between iterations"));
    }
    movement::concat(&rows.iter().collect::<Vec<_>>(), 0)
}

/// A failure of a node itself, or of a node in one of its regions.
enum Failure {
    Here(Fault),
    Inside(RunError),
}
impl From<Fault> for Failure {
    fn from(f: Fault) -> Self {
        Failure::Here(f)
    }
}
impl From<RunError> for Failure {
    fn from(e: RunError) -> Self {
        Failure::Inside(e)
    }
}

/// Whether an op may define symbols while it runs.
fn defines(op: &Op) -> bool {
    matches!(op, Op::Bind { .. } | Op::NonZero { .. } | Op::Host { .. } | Op::Loop { .. } | Op::Fusion { .. })
}

fn weight(w: &Weight, opts: &Options) -> Run {
    let read = |w: &Weight| match &w.source {
        WeightSource::Seed(seed) => {
            let fits = w.bytes_len().is_some_and(|b| b <= opts.max_bytes);
            if fits { numerics::seeded_bytes(*seed, w.dtype, &w.dims) } else { None }
        }
        _ => w.bytes().map(<[u8]>::to_vec).or_else(|| opts.weights.as_ref().and_then(|f| f(w))),
    };
    let bytes = w.joined(&read);
    let bytes = bytes.ok_or_else(|| Fault::new(Code::NEEDS_WEIGHTS, format!("the bytes of weight {:?} are not at hand", w.name)))?;
    let dims: Option<Vec<usize>> = w.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let found = bytes.len();
    dims.and_then(|d| Tensor::new(w.dtype, d, bytes))
        .ok_or_else(|| Fault::new(Code::BAD_TENSOR, format!("{found} bytes for weight {:?} of {}{:?}", w.name, w.dtype, w.dims)))
}

/// The expressions' values.
fn numbers(bound: &Bindings, e: &[SymExpr]) -> Result<Vec<i64>, Fault> {
    e.iter().map(|e| bound.number(e)).collect()
}

/// Runs an op without regions. Operands that are missing are a fault of the graph's maker, reported and not a panic.
fn op(g: &Graph, op: &Op, x: &[&Tensor], bound: &mut Bindings, opts: &Options) -> Result<Vec<Tensor>, Fault> {
    let arg = |i: usize| x.get(i).copied().ok_or_else(|| Fault::new(Code::BAD_ARITY, format!("operand {i} is missing")));
    let blocks = |axis: &Option<u32>, block: u32| quant::Blocks { axis: *axis, block };
    let one = match op {
        Op::Weight { weight: w } => weight(g.weight(*w), opts)?,
        Op::Const { value } => {
            Tensor::from_literal(value).ok_or_else(|| Fault::new(Code::BAD_TENSOR, "the constant's bytes do not fit"))?
        }
        Op::Fill { value, dims } => {
            let dims = bound.dims(dims)?;
            let n = tensor::count(&dims).unwrap_or(0);
            Tensor::from_bits(value.dtype, dims, std::iter::repeat_n(value.bits, n))
        }
        Op::Iota { dtype, axis, dims } => {
            let dims = bound.dims(dims)?;
            let (_, n, inner) = walk::split(&dims, *axis as usize)?;
            let at = |i: usize| numerics::cast((i / inner % n) as u64, crate::dtype::DType::I64, *dtype, false);
            let count = tensor::count(&dims).unwrap_or(0);
            Tensor::from_bits(*dtype, dims, (0..count).map(at))
        }
        Op::DimTensor { values, dtype, scalar } => {
            let v = numbers(bound, values)?;
            let dims = if *scalar { vec![] } else { vec![v.len()] };
            Tensor::from_bits(*dtype, dims, v.iter().map(|&v| numerics::int_to_bits(*dtype, v.into())))
        }
        Op::RandomUniform { dtype, low, high, seed, dims } => {
            let dims = bound.dims(dims)?;
            let n = tensor::count(&dims).unwrap_or(0) as u64;
            Tensor::from_bits(*dtype, dims, (0..n).map(|i| numerics::uniform(*dtype, low.bits, high.bits, *seed, i)))
        }
        Op::Bind { symbols } => {
            bound.bind(g, symbols, arg(0)?)?;
            return Ok(Vec::new());
        }

        Op::Unary(u) => elementwise::unary(*u, arg(0)?)?,
        Op::Binary(b) => elementwise::binary(*b, arg(0)?, arg(1)?)?,
        Op::Select {} => elementwise::select(arg(0)?, arg(1)?, arg(2)?)?,
        Op::Cast { to, saturate } => elementwise::cast(arg(0)?, *to, *saturate)?,
        Op::Bitcast { to } => arg(0)?.bitcast(*to).ok_or_else(|| Fault::new(Code::DTYPE_MISMATCH, "bitcast to another width"))?,

        Op::Reduce { op, axes, keep } => reduce::reduce(arg(0)?, *op, axes, *keep)?,
        Op::ArgReduce { op, axis, keep, last } => reduce::arg_reduce(arg(0)?, *op, *axis as usize, *keep, *last)?,
        Op::Scan { op, axis, exclusive, reverse } => reduce::scan(arg(0)?, *op, *axis as usize, *exclusive, *reverse)?,
        Op::TopK { axis, k, largest } => return reduce::top_k(arg(0)?, *axis as usize, bound.number(k)?, *largest),

        Op::Contract { spec, acc, out } => contract::contract(arg(0)?, arg(1)?, spec, *acc, *out)?,
        Op::ContractBlocks { block, zero, groups: grouped, .. } => {
            let block = usize::try_from(*block).unwrap_or(1);
            let one = |x: &[&Tensor]| match *x {
                [x, q, scale, ref rest @ ..] => blocks::plain(x, q, scale, rest.first().copied(), *zero, block),
                _ => Err(Fault::new(Code::BAD_ARITY, "operands are missing")),
            };
            if *grouped { groups::each(x, &one)? } else { one(x)? }
        }
        Op::ContractScaled { block, out, .. } => match *x {
            [a, b, sa, sb] => blocks::scaled([a, b], [sa, sb], usize::try_from(*block).unwrap_or(1), *out)?,
            _ => return Err(Fault::new(Code::BAD_ARITY, "operands are missing")),
        },
        Op::ContractPanels { columns, bits, block, zero, groups: grouped, .. } => {
            let sizes = [*columns, *bits, *block].map(|n| usize::try_from(n).unwrap_or(1));
            let one = |x: &[&Tensor]| match *x {
                [x, w, ref rest @ ..] => blocks::panels(x, w, [rest.first().copied(), rest.get(1).copied()], *zero, sizes),
                _ => Err(Fault::new(Code::BAD_ARITY, "operands are missing")),
            };
            if *grouped { groups::each(x, &one)? } else { one(x)? }
        }
        Op::ContractGroups { acc, out } => groups::each(x, &|x| match *x {
            [x, w] => contract::contract(x, w, "mk,kn->mn", *acc, *out),
            _ => Err(Fault::new(Code::BAD_ARITY, "operands are missing")),
        })?,
        Op::GroupRows { groups: count } => return groups::rows(arg(0)?, *count),
        Op::Conv { strides, dilations, pads, groups } => {
            contract::conv(arg(0)?, arg(1)?, strides, dilations, &numbers(bound, pads)?, *groups, arg(0)?.dtype)?
        }
        Op::ConvLast { channels, strides, dilations, pads, groups, planar, depth, out } => {
            let (x, w) = if *planar { (arg(0)?.clone(), arg(1)?) } else { (contract::channels_first(arg(0)?)?, arg(1)?) };
            let w = contract::apart(w, usize::try_from(*depth).unwrap_or(1), if *planar { 3 } else { 2 })?;
            let w = contract::filters_first(&w, *channels)?;
            let y = contract::conv(&x, &w, strides, dilations, &numbers(bound, pads)?, *groups, *out)?;
            contract::channels_last(&y)?
        }
        Op::WinogradInput { pads } => winograd::input_tiles(arg(0)?, &numbers(bound, pads)?)?,
        Op::WinogradOutput { dims } => winograd::output_tiles(arg(0)?, &bound.dims(dims)?)?,
        Op::Pool { op, kernel, strides, dilations, pads, count_pad, dims, channels_last } => {
            let (pads, dims) = (numbers(bound, pads)?, bound.dims(dims)?);
            let pool = contract::Pool { op: *op, kernel, strides, dilations, pads: &pads, count_pad: *count_pad, dims };
            if *channels_last {
                contract::channels_last(&contract::pool(&contract::channels_first(arg(0)?)?, pool)?)?
            } else {
                contract::pool(arg(0)?, pool)?
            }
        }

        Op::Gather { axis } => index::gather(arg(0)?, arg(1)?, *axis as usize)?,
        Op::GatherElements { axis } => index::gather_elements(arg(0)?, arg(1)?, *axis as usize)?,
        Op::GatherNd { batch } => index::gather_nd(arg(0)?, arg(1)?, *batch as usize)?,
        Op::ScatterElements { axis, op } => index::scatter_elements(arg(0)?, arg(1)?, arg(2)?, *axis as usize, *op)?,
        Op::ScatterNd { op } => index::scatter_nd(arg(0)?, arg(1)?, arg(2)?, *op)?,
        Op::NonZero { .. } => index::non_zero(arg(0)?)?,

        Op::Reshape { dims } => movement::reshape(arg(0)?, bound.dims(dims)?)?,
        Op::Transpose { perm } => movement::transpose(arg(0)?, perm)?,
        Op::Broadcast { dims } => movement::broadcast(arg(0)?, bound.dims(dims)?)?,
        Op::Slice { starts, steps, dims } => movement::slice(arg(0)?, &numbers(bound, starts)?, steps, bound.dims(dims)?)?,
        Op::Pad { mode, low, high, interior } => {
            movement::pad(arg(0)?, x.get(1).copied(), *mode, &numbers(bound, low)?, &numbers(bound, high)?, interior)?
        }
        Op::Concat { axis } => movement::concat(x, *axis as usize)?,

        Op::Quantize { to, axis, block, saturate } => {
            quant::quantize(arg(0)?, arg(1)?, x.get(2).copied(), *to, blocks(axis, *block), *saturate)?
        }
        Op::Dequantize { to, axis, block } => quant::dequantize(arg(0)?, arg(1)?, x.get(2).copied(), *to, blocks(axis, *block))?,
        Op::Quantized { quant } => quant::quantized(arg(0)?, arg(1)?, x.get(2).copied(), quant)?,

        Op::Softmax { axis } => compose::softmax(arg(0)?, *axis as usize, false)?,
        Op::LogSoftmax { axis } => compose::softmax(arg(0)?, *axis as usize, true)?,
        Op::LayerNorm { axis, eps } => compose::norm(arg(0)?, x.get(1).copied(), x.get(2).copied(), *axis as usize, eps.to_f64(), true)?,
        Op::RmsNorm { axis, eps } => compose::norm(arg(0)?, x.get(1).copied(), None, *axis as usize, eps.to_f64(), false)?,
        Op::Gelu { tanh } => elementwise::gelu(arg(0)?, *tanh),
        Op::Silu {} => elementwise::silu(arg(0)?),
        Op::HardSwish {} => elementwise::hard_swish(arg(0)?),
        Op::Attention { scale, causal, has_mask, has_offset, softcap } => {
            let offset = if *has_offset { numerics::int_from_bits(arg(x.len() - 1)?.dtype, arg(x.len() - 1)?.bits(0)) as i64 } else { 0 };
            let mask = if *has_mask { Some(arg(3)?) } else { None };
            let a = compose::Attention { scale: scale.to_f64(), causal: *causal, softcap: softcap.to_f64(), mask, offset };
            compose::attention(arg(0)?, arg(1)?, arg(2)?, &a)?
        }
        Op::AttentionParts { part, scale, causal, has_mask, has_offset, softcap } => {
            let offset = if *has_offset { numerics::int_from_bits(arg(x.len() - 1)?.dtype, arg(x.len() - 1)?.bits(0)) as i64 } else { 0 };
            let mask = if *has_mask { Some(arg(3)?) } else { None };
            let a = compose::Attention { scale: scale.to_f64(), causal: *causal, softcap: softcap.to_f64(), mask, offset };
            return compose::attention_parts(arg(0)?, arg(1)?, arg(2)?, &a, usize::try_from(*part).unwrap_or(1));
        }
        Op::MergeParts { to } => compose::merge_parts(arg(0)?, arg(1)?, *to)?,
        Op::Rotary { rotary_dims, interleaved } => compose::rotary(arg(0)?, arg(1)?, arg(2)?, bound.number(rotary_dims)?, *interleaved)?,
        Op::Lstm { direction } => return compose::lstm(x, *direction),
        Op::Gru { direction, linear_before_reset } => return compose::gru(x, *direction, *linear_before_reset),
        Op::LstmSteps { direction, depth } => return compose::lstm_steps(x, *direction, *depth),
        Op::LstmByteSteps { direction, group } => return compose::lstm_byte_steps(x, *direction, *group as usize),
        Op::GruSteps { direction, linear_before_reset, depth } => return compose::gru_steps(x, *direction, *linear_before_reset, *depth),
        Op::Resize { dims, mode, coords, nearest, scales, cubic_a, exclude_outside, antialias } => {
            let r = compose::Resize {
                dims: bound.dims(dims)?,
                mode,
                coords,
                nearest,
                scales: scales.iter().map(|s| s.to_f64()).collect(),
                cubic_a: cubic_a.to_f64(),
                exclude_outside: *exclude_outside,
                antialias: *antialias,
            };
            compose::resize(arg(0)?, &r)?
        }
        Op::Handle { to, .. } => arg(0)?.handle(*to).ok_or_else(|| Fault::new(Code::DTYPE_MISMATCH, "no handle"))?,
        Op::Host { .. } => return Err(Fault::new(Code::NOT_SUPPORTED, "a host operation in a folded region")),
        Op::If {} | Op::Loop { .. } | Op::Fusion { .. } => return Err(Fault::new(Code::INTERNAL, "an op with regions")),
    };
    Ok(vec![one])
}
