// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Convolutions as sums of products: channels and kernel taps are summed, output channels are rows, positions are columns.
//!
//! Pointwise convolutions, and ones whose rows of positions are too short for vectors, run over all positions as one dim. Taps outside
//! the tensor are conditions of the panel's packing, so the inner loop has none.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Node, Op, TensorType, ValueId};
use portwright_ir::kernel::Module;
use portwright_ir::sym::{SymExpr, product};

use super::super::problem::{Feed, Problem};
use super::eval::{Guard, Stop};
use super::gemm;
use super::{Begun, Built, Cx};

/// Labels of spatial dims and of kernel taps.
const SPATIAL: [char; 3] = ['x', 'y', 'z'];
const TAPS: [char; 3] = ['p', 'q', 'r'];

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    match flatten(cx, width) {
        Some((region, root)) => {
            let cx = Cx { spec: cx.spec, region: &region, known: cx.known, origin: cx.origin, name: cx.name.clone() };
            // The regions of the rewritten graph live as long as the kernel is being built.
            build_region(&cx, module, width, Some(root))
        }
        None => build_region(cx, module, width, None),
    }
}

struct ConvOf<'a> {
    node: &'a Node,
    strides: &'a [i64],
    dilations: &'a [i64],
    pads: &'a [SymExpr],
    groups: i64,
}

fn conv_of(region: &Graph) -> Option<ConvOf<'_>> {
    region.order().into_iter().map(|n| region.node(n)).find_map(|node| match &node.op {
        Op::Conv { strides, dilations, pads, groups } => Some(ConvOf { node, strides, dilations, pads, groups: *groups }),
        _ => None,
    })
}

/// The region with all positions as one dim after the convolution, and the value that stands for its result; `None` where rows of
/// positions fill vectors well, or the epilogue treats spatial dims apart.
fn flatten(cx: &Cx<'_>, width: u32) -> Option<(Graph, ValueId)> {
    let conv = conv_of(cx.region)?;
    let result = cx.region.ty(conv.node.results[0]);
    let spatial = result.dims[2..].to_vec();
    if spatial.len() < 2 {
        return None;
    }
    let row = spatial.last()?.as_const();
    let w = i64::from(width);
    let wasteful = row.is_some_and(|n| n > 0 && ((n + w - 1) / w) * w * 2 > n * 3);
    let dense = is_pointwise(cx.region, &conv);
    // Packing position by position pays where many rows share the panel.
    let wasteful = wasteful && !few_rows(cx.region, &conv);
    if !(wasteful || dense) || width == 1 {
        return None;
    }
    let s = spatial.len();
    let flat = product(&spatial);
    let shrink = |dims: &[SymExpr]| -> Option<Vec<SymExpr>> {
        if dims.len() < s {
            return dims.iter().all(|d| d.is(1)).then(|| dims.iter().take(1).cloned().collect());
        }
        let (lead, tail) = dims.split_at(dims.len() - s);
        let mut out = lead.to_vec();
        if tail == spatial.as_slice() {
            out.push(flat.clone());
        } else if tail.iter().all(|d| d.is(1)) {
            out.push(1.into());
        } else {
            return None;
        }
        Some(out)
    };
    let mut out = Graph::new(cx.region.name.clone());
    for sym in cx.region.symbols() {
        out.add_symbol(sym.clone());
    }
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    let (x, weights) = (conv.node.operands[0], conv.node.operands[1]);
    let only_conv =
        |v: ValueId| cx.region.users(v).iter().all(|&n| matches!(cx.region.node(n).op, Op::Conv { .. })) && !cx.region.is_output(v);
    if !only_conv(weights) || (!dense && !only_conv(x)) || cx.region.producer(x).is_some() || cx.region.producer(weights).is_some() {
        return None;
    }
    for &v in cx.region.inputs() {
        let ty = cx.region.ty(v);
        let dims = if v == weights && dense {
            [&ty.dims[..2], &[1.into()]].concat()
        } else if v == weights || (v == x && !dense) {
            ty.dims.clone()
        } else {
            shrink(&ty.dims)?
        };
        let name = cx.region.value(v).name.clone().unwrap_or_else(|| "x".into());
        map.insert(v, out.add_input(name, TensorType::new(ty.dtype, dims)));
    }
    let mut root = None;
    for n in cx.region.order() {
        let node = cx.region.node(n);
        let operands: Vec<ValueId> = node.operands.iter().map(|o| map.get(o).copied()).collect::<Option<_>>()?;
        let value = if std::ptr::eq(node, conv.node) {
            let op = if dense {
                Op::Conv { strides: vec![1], dilations: vec![1], pads: vec![0.into(), 0.into()], groups: conv.groups }
            } else {
                node.op.clone()
            };
            let made = out.add(op, &operands, node.origin.clone()).ok()?;
            let mut v = out.result(made);
            if !dense {
                let dims = shrink(&result.dims)?;
                let r = out.add(Op::Reshape { dims }, &[v], node.origin.clone()).ok()?;
                v = out.result(r);
            }
            root = Some(v);
            v
        } else if node.op.is_elementwise() || (node.op.is_source() && cx.region.ty(*node.results.first()?).dims.is_empty()) {
            let made = out.add(node.op.clone(), &operands, node.origin.clone()).ok()?;
            out.result(made)
        } else {
            return None;
        };
        map.insert(*node.results.first()?, value);
    }
    for o in cx.region.outputs() {
        out.add_output(o.name.clone(), *map.get(&o.value)?);
    }
    Some((out, root?))
}

/// Whether too few output channels share an input for packing to pay: depthwise convolutions above all.
fn few_rows(region: &Graph, conv: &ConvOf<'_>) -> bool {
    region.ty(conv.node.results[0]).dims.get(1).and_then(SymExpr::as_const).is_some_and(|o| o / conv.groups.max(1) < 8)
}

fn is_pointwise(region: &Graph, conv: &ConvOf<'_>) -> bool {
    region.ty(conv.node.operands[1]).dims[2..].iter().all(|d| d.is(1))
        && conv.strides.iter().all(|&s| s == 1)
        && conv.pads.iter().all(|p| p.is(0))
}

fn build_region(cx: &Cx<'_>, module: &mut Module, width: u32, root: Option<ValueId>) -> Result<Built, Stop> {
    let Some(conv) = conv_of(cx.region) else { return Stop::no("no convolution") };
    let mut b = cx.begin(module, width);
    let Begun { eval, .. } = &mut b;
    let node = conv.node;
    let (x, weights) = (node.operands[0], node.operands[1]);
    let (x_dims, w_dims, out_dims) = (eval.dims(x), eval.dims(weights), eval.dims(node.results[0]));
    let s = x_dims.len() - 2;
    if s == 0 || s > 3 {
        return Stop::no(format!("a convolution over {s} spatial dims"));
    }
    let flat = root.is_some_and(|r| r != node.results[0]);
    let root = root.unwrap_or(node.results[0]);
    let out_spatial: Vec<SymExpr> = out_dims[2..].to_vec();
    if width > 1 && !flat && out_spatial[s - 1].is(1) {
        return Err(Stop::NeedScalar);
    }
    let per_group = out_dims[1].div(&conv.groups.into());
    let channels = w_dims[1].clone();
    let mut k = vec![('c', channels.clone())];
    k.extend((0..s).map(|i| (TAPS[i], w_dims[2 + i].clone())));
    let n: Vec<(char, SymExpr)> =
        if flat { vec![('x', product(&out_spatial))] } else { (0..s).map(|i| (SPATIAL[i], out_spatial[i].clone())).collect() };
    let strides = conv.strides.to_vec();
    let dilations = conv.dilations.to_vec();
    let pads: Vec<SymExpr> = conv.pads[..s].iter().map(|p| eval.syms.to_kernel(p)).collect();
    let pointwise = is_pointwise(cx.region, &conv);
    let feed = match (flat, pointwise, few_rows(cx.region, &conv)) {
        (true, false, _) => Feed::PackScalar,
        (_, true, _) | (_, _, true) => Feed::Direct,
        _ => Feed::Pack,
    };
    let acc = match eval.dtype(x) {
        DType::F64 => DType::F64,
        d if d.is_float() => DType::F32,
        d => d,
    };
    // Where every tap of a row of positions lies inside.
    let interior = (|| {
        let (w, taps, pad) = (x_dims[s + 1].as_const()?, w_dims[s + 1].as_const()?, pads[s - 1].as_const()?);
        let (stride, reach) = (strides[s - 1], (taps - 1) * dilations[s - 1]);
        Some(((pad + stride - 1).div_euclid(stride), (w - 1 + pad - reach).div_euclid(stride)))
    })();
    let per = per_group.clone();
    let problem = Problem {
        batch: vec![('n', out_dims[0].clone()), ('g', conv.groups.into())],
        m: vec![('o', per_group)],
        n,
        k,
        lhs: weights,
        rhs: x,
        root,
        lhs_at: Box::new(move |_, at| {
            let mut c = vec![at.get('g') * per.clone() + at.get('o'), at.get('c')];
            c.extend((0..s).map(|i| at.get(TAPS[i])));
            (c, Guard::new())
        }),
        rhs_at: {
            let (x_dims, out_spatial) = (x_dims.clone(), out_spatial.clone());
            Box::new(move |eval, at| {
                let position: Vec<SymExpr> =
                    if flat { eval.ix.delinearize(&at.get('x'), &out_spatial) } else { (0..s).map(|i| at.get(SPATIAL[i])).collect() };
                let mut c = vec![at.get('n'), at.get('g') * channels.clone() + at.get('c')];
                let mut guard = Guard::new();
                for i in 0..s {
                    let p = position[i].clone() * strides[i] + at.get(TAPS[i]) * dilations[i] - pads[i].clone();
                    guard = eval.guarded(&guard, &p, &x_dims[2 + i]);
                    c.push(p);
                }
                (c, guard)
            })
        },
        root_at: {
            let groups_of = out_dims[1].div(&conv.groups.into());
            Box::new(move |_, at| {
                let mut c = vec![at.get('n'), at.get('g') * groups_of.clone() + at.get('o')];
                c.extend((0..if flat { 1 } else { s }).map(|i| at.get(SPATIAL[i])));
                c
            })
        },
        acc,
        out: eval.dtype(node.results[0]),
        feed,
        interior: if flat { None } else { interior },
        starts: None,
    };
    gemm::build(cx, b, problem)
}
