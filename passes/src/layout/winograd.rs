// SPDX-License-Identifier: Apache-2.0 OR MIT
//! 3x3 convolutions by Winograd's F(4x4, 3x3), where its four times fewer products outweigh the transforms.
//!
//! `conv(%x, %w)` becomes `winograd_output(contract{"tmk,tkn->tmn"}(winograd_input(%x), %u))`. The filters `%u` at the 36 points depend on
//! weights alone: the pack program forms them, in f64.

use portwright_ir::dtype::DType;
use portwright_ir::graph::winograd::{KERNEL, SPAN, TILE, filter};
use portwright_ir::graph::{Graph, Literal, Node, Op};
use portwright_ir::sym::SymExpr;

use super::channels::{PRODUCT, size};
use crate::rules::{Edit, Tap};
use crate::spec::CpuSpec;

/// Femtoseconds of one core: to write an element at a point and read it again; to read a filter's that does not stay in the cache.
const POINT: u64 = 70_000;
const FILTER: u64 = 130_000;

/// Size that a symbol is taken to have, where its range allows: that of pictures. Images of a batch count as one.
const NOMINAL: i64 = 256;

/// Fewer channels leave too few products to save.
const LEAST_CHANNELS: i64 = 16;

/// Whether a convolution is estimated to be faster so; an element of its input takes `turned` femtoseconds to get its channels last.
pub(super) fn pays(g: &Graph, node: &Node, spec: &CpuSpec, turned: u64) -> bool {
    let (Op::Conv { strides, dilations, groups: 1, .. }, &[x, w], &[y]) = (&node.op, node.operands.as_slice(), node.results.as_slice())
    else {
        return false;
    };
    let Some(&[filters, channels, 3, 3]) = g.ty(w).static_dims().as_deref() else { return false };
    let ones = |list: &[i64]| list.iter().all(|&s| s == 1);
    if g.ty(x).dtype != DType::F32 || !ones(strides) || !ones(dilations) || filters.min(channels) < LEAST_CHANNELS {
        return false;
    }
    let nominal = |s: &str| g.symbol(s).map(|s| NOMINAL.clamp(s.lo.max(1), s.hi.max(1)));
    let [n, _, h, w] = g.ty(y).dims.as_slice() else { return false };
    let images = n.as_const().unwrap_or(1).max(1) as u64;
    let len = |d: &SymExpr| size(std::slice::from_ref(d), &nominal);
    let positions = |h: u64, w: u64| images.saturating_mul(h).saturating_mul(w);
    let tiles = positions(len(h).div_ceil(TILE as u64), len(w).div_ceil(TILE as u64));
    let (c, k, points) = (channels as u64, filters as u64, (SPAN * SPAN) as u64);
    // Filters that the second-level cache holds besides what is computed cost nothing more.
    let read = |elements: u64| if elements.saturating_mul(8) <= u64::from(spec.l2_bytes) { 0 } else { elements.saturating_mul(FILTER) };
    let taps = (KERNEL * KERNEL) as u64;
    let filter = c.saturating_mul(k);
    let products = |count: u64| count.saturating_mul(filter).saturating_mul(PRODUCT);
    let all = positions(len(h), len(w));
    let direct = products(all.saturating_mul(taps)).saturating_add(read(filter.saturating_mul(taps)) / 2);
    let moved = tiles.saturating_mul(points).saturating_mul(c.saturating_add(k)).saturating_mul(POINT);
    let tiled = products(tiles.saturating_mul(points))
        .saturating_add(moved)
        .saturating_add(read(filter.saturating_mul(points)))
        .saturating_add(all.saturating_mul(c).saturating_mul(turned));
    tiled.saturating_mul(10) < direct.saturating_mul(9)
}

/// The convolution of `input`, which is `[N,H,W,C]`, as `[N,H',W',O]`.
pub(super) fn conv(e: &mut Edit<'_>, node: &Node, input: Tap) -> Option<Tap> {
    let (Op::Conv { pads, .. }, &[_, w], &[y]) = (&node.op, node.operands.as_slice(), node.results.as_slice()) else { return None };
    let filters = e.ty(w).dims.clone();
    let (dtype, taps) = (e.ty(w).dtype, (KERNEL * KERNEL) as i64);
    // Both products with G at once.
    let g = filter();
    let mut bytes = Vec::with_capacity(SPAN * SPAN * KERNEL * KERNEL * 8);
    for (i, j) in (0..SPAN).flat_map(|i| (0..SPAN).map(move |j| (i, j))) {
        for (a, b) in (0..KERNEL).flat_map(|a| (0..KERNEL).map(move |b| (a, b))) {
            bytes.extend((g[i][a] * g[j][b]).to_le_bytes());
        }
    }
    let value = Literal { dtype: DType::F64, dims: vec![(SPAN * SPAN) as i64, taps], bytes: bytes.into() };
    let matrix = e.add(Op::Const { value }, &[])?;
    let wide = e.cast(w, DType::F64)?;
    let wide = e.reshape(wide, vec![filters.first()?.clone(), filters.get(1)?.clone(), taps.into()])?;
    let at_points = e.contract("ts,ncs->tcn", matrix, wide, DType::F64, DType::F64)?;
    let at_points = e.cast(at_points, dtype)?;
    let tiles = e.add(Op::WinogradInput { pads: pads.clone() }, &[input])?;
    let products = e.contract("tmk,tkn->tmn", tiles, at_points, dtype, dtype)?;
    let [n, _, h, w] = e.ty(y).dims.clone().try_into().ok()?;
    e.add(Op::WinogradOutput { dims: vec![n, h, w] }, &[products])
}
