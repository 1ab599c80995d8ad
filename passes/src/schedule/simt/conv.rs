// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Convolutions as sums of products: channels and taps are summed, and taps outside the tensor are conditions of loads.
//!
//! With channels first, output channels are rows and positions of all images are columns; with channels last it is the other way round, so
//! that neighbors in memory are always columns.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Node, Op};
use portwright_ir::kernel::Module;
use portwright_ir::sym::SymExpr;

use super::problem::{At, Feed, Problem};
use super::{Built, Cx, Eval, Guard, Stop, depthwise, gemm, winograd};

/// Labels of spatial dims and of kernel taps.
const SPATIAL: [char; 3] = ['x', 'y', 'z'];
const TAPS: [char; 3] = ['p', 'q', 'r'];

/// What both layouts have in common.
struct Window {
    strides: Vec<i64>,
    dilations: Vec<i64>,
    low: Vec<SymExpr>,
    /// Spatial dims of the input.
    from: Vec<SymExpr>,
}

impl Window {
    /// The element that a tap meets at a position, and the condition under which it exists.
    fn at(&self, eval: &Eval<'_>, at: &At) -> (Vec<SymExpr>, Guard) {
        let mut guard = Guard::new();
        let place = |i: usize| at.get(SPATIAL[i]) * self.strides[i] + at.get(TAPS[i]) * self.dilations[i] - self.low[i].clone();
        let coords: Vec<SymExpr> = (0..self.from.len()).map(place).collect();
        for (c, d) in coords.iter().zip(&self.from) {
            guard = eval.guarded(&guard, c, d);
        }
        (coords, guard)
    }
}

/// Builds the kernel.
pub(super) fn build(cx: &Cx<'_>, module: &mut Module) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::Conv { .. } | Op::ConvLast { .. } | Op::WinogradInput { .. } | Op::WinogradOutput { .. }))?;
    if matches!(node.op, Op::WinogradInput { .. } | Op::WinogradOutput { .. }) {
        return winograd::build(cx, module, node);
    }
    let mut b = cx.begin(module, 1);
    if let Some(form) = depthwise::form(cx, &mut b.eval, node) {
        return depthwise::build(cx, b, node, &form);
    }
    let problem = match &node.op {
        Op::Conv { .. } => first(&b.eval, node)?,
        _ => last(&b.eval, node)?,
    };
    gemm::build(cx, b, &problem, None)
}

/// Dtype of sums.
fn acc(d: DType) -> DType {
    match d {
        DType::F64 => DType::F64,
        d if d.is_float() => DType::F32,
        d => d,
    }
}

fn labeled(labels: &[char], dims: &[SymExpr]) -> Vec<(char, SymExpr)> {
    labels.iter().copied().zip(dims.iter().cloned()).collect()
}

/// With channels first.
fn first<'p>(eval: &Eval<'_>, node: &Node) -> Result<Problem<'p>, Stop> {
    let Op::Conv { strides, dilations, pads, groups } = &node.op else { return Stop::no("no convolution") };
    let (x, weights, root) = (node.operands[0], node.operands[1], node.results[0]);
    let (x_dims, w_dims, out) = (eval.dims(x), eval.dims(weights), eval.dims(root));
    let s = strides.len();
    if s == 0 || s > SPATIAL.len() || x_dims.len() != s + 2 || out.len() != s + 2 || w_dims.len() != s + 2 {
        return Stop::no(format!("a convolution over {s} spatial dims"));
    }
    let (per, channels) = (out[1].div(&(*groups).into()), w_dims[1].clone());
    let low = pads[..s].iter().map(|p| eval.syms.to_kernel(p)).collect();
    let window = Window { strides: strides.clone(), dilations: dilations.clone(), low, from: x_dims[2..].to_vec() };
    let mut n = vec![('n', out[0].clone())];
    n.extend(labeled(&SPATIAL, &out[2..]));
    let mut k = vec![('c', channels.clone())];
    k.extend(labeled(&TAPS, &w_dims[2..]));
    let filter = {
        let per = per.clone();
        move |at: &At| at.get('g') * per.clone() + at.get('o')
    };
    Ok(Problem {
        batch: vec![('g', (*groups).into())],
        m: vec![('o', per)],
        n,
        k,
        lhs: weights,
        rhs: x,
        root,
        lhs_at: {
            let filter = filter.clone();
            Box::new(move |_, at| {
                let mut c = vec![filter(at), at.get('c')];
                c.extend((0..s).map(|i| at.get(TAPS[i])));
                (c, Guard::new())
            })
        },
        rhs_at: Box::new(move |eval, at| {
            let (places, guard) = window.at(eval, at);
            let mut c = vec![at.get('n'), at.get('g') * channels.clone() + at.get('c')];
            c.extend(places);
            (c, guard)
        }),
        root_at: Box::new(move |_, at| {
            let mut c = vec![at.get('n'), filter(at)];
            c.extend((0..s).map(|i| at.get(SPATIAL[i])));
            c
        }),
        acc: acc(eval.dtype(x)),
        out: eval.dtype(root),
        feed: Feed::Direct,
        interior: None,
        starts: None,
    })
}

/// With channels last, and filters in panels.
fn last<'p>(eval: &Eval<'_>, node: &Node) -> Result<Problem<'p>, Stop> {
    let Op::ConvLast { channels, strides, dilations, pads, groups, planar, depth, out } = &node.op else {
        return Stop::no("no convolution");
    };
    let (x, weights, root) = (node.operands[0], node.operands[1], node.results[0]);
    let (x_dims, w_dims, dims) = (eval.dims(x), eval.dims(weights), eval.dims(root));
    let s = strides.len();
    if s == 0 || s > SPATIAL.len() || x_dims.len() != s + 2 || dims.len() != s + 2 || w_dims.len() != s + 3 {
        return Stop::no(format!("a convolution over {s} spatial dims"));
    }
    let (planar, depth, groups) = (*planar, (*depth).max(1), (*groups).max(1));
    let columns = w_dims[s + 2].div(&depth.into());
    let mut taps = w_dims[1..=s].to_vec();
    let mut per_channels = w_dims[s + 1].clone();
    if planar {
        taps[s - 1] = taps[s - 1].clone() * depth;
    } else {
        per_channels = per_channels * depth;
    }
    let per = SymExpr::from(channels / groups);
    let from = if planar { x_dims[2..].to_vec() } else { x_dims[1..=s].to_vec() };
    let low = pads[..s].iter().map(|p| eval.syms.to_kernel(p)).collect();
    let window = Window { strides: strides.clone(), dilations: dilations.clone(), low, from };
    let mut m = vec![('n', dims[0].clone())];
    m.extend(labeled(&SPATIAL, &dims[1..=s]));
    let mut k = labeled(&TAPS[..s], &taps);
    k.push(('c', per_channels.clone()));
    let filter = {
        let per = per.clone();
        move |at: &At| at.get('g') * per.clone() + at.get('o')
    };
    Ok(Problem {
        batch: vec![('g', groups.into())],
        m,
        n: vec![('o', per)],
        k,
        lhs: x,
        rhs: weights,
        root,
        lhs_at: Box::new(move |eval, at| {
            let (places, guard) = window.at(eval, at);
            let channel = at.get('g') * per_channels.clone() + at.get('c');
            let mut c = vec![at.get('n')];
            if planar {
                c.push(channel);
                c.extend(places);
            } else {
                c.extend(places);
                c.push(channel);
            }
            (c, guard)
        }),
        rhs_at: {
            let filter = filter.clone();
            Box::new(move |eval, at| {
                let (panel, column) = eval.ix.div_mod(&filter(at), &columns);
                let unit = SymExpr::from(depth);
                let mut taps: Vec<SymExpr> = (0..s).map(|i| at.get(TAPS[i])).collect();
                let mut channel = at.get('c');
                let beside = if planar { &mut taps[s - 1] } else { &mut channel };
                let (outer, within) = eval.ix.div_mod(beside, &unit);
                *beside = outer;
                let mut c = vec![panel];
                c.extend(taps);
                c.push(channel);
                c.push(column * depth + within);
                (c, Guard::new())
            })
        },
        root_at: Box::new(move |_, at| {
            let mut c = vec![at.get('n')];
            c.extend((0..s).map(|i| at.get(SPATIAL[i])));
            c.push(filter(at));
            c
        }),
        acc: acc(eval.dtype(x)),
        out: *out,
        feed: Feed::Direct,
        interior: None,
        starts: None,
    })
}
