// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Convolutions.

use portwright_ir::graph::infer::MAX_REACH;
use portwright_ir::graph::{BinaryOp, Dims, Op, ScatterOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::{Entry, op};
use crate::cx::{Cx, Res, exprs_of, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[op("Col2Im", 18, 3, 3, col2im), op("Conv", 1, 2, 3, conv), op("ConvTranspose", 1, 2, 3, conv_transpose)];

/// Attributes of a sliding window, a number a spatial dim.
pub struct Window {
    /// Size of the kernel.
    pub kernel: Vec<i64>,
    /// Steps.
    pub strides: Vec<i64>,
    /// Spread of the kernel.
    pub dilations: Vec<i64>,
    /// Padding before each dim, then after each; `None` when `auto_pad` decides.
    pub pads: Option<Vec<i64>>,
    /// `SAME_UPPER`, `SAME_LOWER`, `VALID` or `NOTSET`.
    pub auto_pad: &'static str,
}

impl Window {
    /// Reads the attributes for an input of `spatial` spatial dims; `kernel` stands in for a kernel that is not given.
    pub fn read(cx: &Cx<'_, '_>, spatial: usize, kernel: Option<Vec<i64>>) -> Res<Window> {
        let list = |name: &str, default: i64, count: usize| {
            let v = cx.ints(name)?.filter(|v| !v.is_empty()).unwrap_or_else(|| vec![default; count]);
            if v.len() == count { Ok(v) } else { Err(Fault::attr(format!("`{name}` has {} entries, expected {count}", v.len()))) }
        };
        let kernel = match cx.ints("kernel_shape")?.or(kernel) {
            Some(k) if k.len() == spatial && k.iter().all(|k| *k > 0) => k,
            Some(k) => return Err(Fault::attr(format!("the kernel is {k:?}, expected {spatial} positive numbers"))),
            None => return Err(Fault::attr("attribute `kernel_shape` is missing")),
        };
        let auto_pad = match cx.text("auto_pad", "NOTSET")? {
            "" | "NOTSET" => "NOTSET",
            "VALID" => "VALID",
            "SAME_UPPER" => "SAME_UPPER",
            "SAME_LOWER" => "SAME_LOWER",
            other => return Err(Fault::attr(format!("`auto_pad` is {other:?}"))),
        };
        let pads = match auto_pad {
            "NOTSET" => Some(list("pads", 0, 2 * spatial)?),
            "VALID" => Some(vec![0; 2 * spatial]),
            _ => None,
        };
        let (strides, dilations) = (list("strides", 1, spatial)?, list("dilations", 1, spatial)?);
        for (name, l) in [("strides", &strides), ("dilations", &dilations)] {
            if l.iter().any(|v| !(1..=MAX_REACH).contains(v)) {
                return Err(Fault::attr(format!("`{name}` is {l:?}, expected 1 to {MAX_REACH}")));
            }
        }
        if kernel.iter().zip(&dilations).any(|(k, d)| k.checked_mul(*d).is_none_or(|e| e > 1 << 40)) {
            return Err(Fault::attr(format!("a kernel of {kernel:?} spread by {dilations:?} is too large")));
        }
        Ok(Window { kernel, strides, dilations, pads, auto_pad })
    }
    /// Elements that the kernel spans in spatial dim `i`.
    pub fn extent(&self, i: usize) -> i64 {
        (self.kernel[i] - 1) * self.dilations[i] + 1
    }
    /// Padding before each spatial dim of `input`, then after each.
    pub fn padding(&self, cx: &Cx<'_, '_>, input: &[SymExpr]) -> Dims {
        if let Some(p) = &self.pads {
            return exprs_of(p);
        }
        // SAME: as many results as strides fit, the padding shared between both sides.
        let (mut begin, mut end) = (Dims::new(), Dims::new());
        for (i, d) in input.iter().enumerate() {
            let s = SymExpr::from(self.strides[i]);
            let needed = (d.ceil_div(&s) - 1) * self.strides[i] + self.extent(i) - d.clone();
            let total = cx.max(&needed, &0.into());
            let (small, large) = (total.div(&2.into()), total.ceil_div(&2.into()));
            let (b, e) = if self.auto_pad == "SAME_UPPER" { (small, large) } else { (large, small) };
            begin.push(b);
            end.push(e);
        }
        begin.extend(end);
        begin
    }
}

/// Makes padding non-negative by cropping the input where a file asks for less than none.
fn crop(cx: &mut Cx<'_, '_>, x: ValueId, pads: &mut [SymExpr]) -> Res<ValueId> {
    if pads.iter().all(|p| p.as_const().is_none_or(|p| p >= 0)) {
        return Ok(x);
    }
    let (spatial, rank) = (pads.len() / 2, cx.rank(x));
    let (mut low, mut high): (Dims, Dims) = (vec![0.into(); rank], vec![0.into(); rank]);
    for i in 0..spatial {
        for (side, p) in [(&mut low, i), (&mut high, i + spatial)] {
            if pads[p].as_const().is_some_and(|v| v < 0) {
                side[i + 2] = std::mem::replace(&mut pads[p], 0.into());
            }
        }
    }
    cx.pad(x, low, high, vec![0; rank], 0.0)
}

/// Kernel dims of a filter, which must be known.
pub fn filter_dims(cx: &Cx<'_, '_>, w: ValueId) -> Res<Vec<i64>> {
    let ty = cx.ty(w);
    let known = ty.dims.get(2..).and_then(|d| d.iter().map(SymExpr::as_const).collect());
    known.ok_or_else(|| Fault::form(format!("the filter is {ty}; its kernel must be known when the model is compiled")))
}

/// Convolution without bias.
pub fn conv_of(cx: &mut Cx<'_, '_>, x: ValueId, w: ValueId) -> Res<ValueId> {
    let spatial = cx.want_rank(x, 3..=usize::MAX)? - 2;
    cx.want_rank(w, spatial + 2..=spatial + 2)?;
    let dims = filter_dims(cx, w)?;
    let window = Window::read(cx, spatial, Some(dims.clone()))?;
    if window.kernel != dims {
        return Err(Fault::attr(format!("`kernel_shape` is {:?}, the filter is {}", window.kernel, cx.ty(w))));
    }
    let groups = cx.int("group", 1)?;
    let input = cx.dims(x);
    let mut pads = window.padding(cx, input.get(2..).unwrap_or_default());
    let x = crop(cx, x, &mut pads)?;
    cx.add(Op::Conv { strides: window.strides, dilations: window.dilations, pads, groups }, &[x, w])
}

/// Adds a bias to each channel of `[N,C,spatial..]`.
pub fn add_bias(cx: &mut Cx<'_, '_>, y: ValueId, bias: ValueId) -> Res<ValueId> {
    let mut dims = vec![cx.ty(bias).elems()];
    dims.extend((2..cx.rank(y)).map(|_| SymExpr::from(1)));
    let b = cx.reshape(bias, dims)?;
    cx.bin(BinaryOp::Add, y, b)
}

fn conv(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let mut y = conv_of(cx, x, w)?;
    if let Some(b) = cx.opt(2)? {
        y = add_bias(cx, y, b)?;
    }
    one(y)
}

/// The transposed convolution is a convolution of the input with gaps of `stride - 1` zeros, with the filter turned around.
fn conv_transpose(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let spatial = cx.want_rank(x, 3..=usize::MAX)? - 2;
    cx.want_rank(w, spatial + 2..=spatial + 2)?;
    let kernel = filter_dims(cx, w)?;
    let window = Window::read(cx, spatial, Some(kernel.clone()))?;
    let groups = cx.int("group", 1)?;
    let list = |name: &str| -> Res<Option<Vec<i64>>> {
        match cx.ints(name)?.filter(|l| !l.is_empty()) {
            // Some exporters give batch and channels too.
            Some(l) if l.len() == spatial + 2 => Ok(Some(l[2..].to_vec())),
            Some(l) if l.len() != spatial => Err(Fault::attr(format!("`{name}` has {} entries, expected {spatial}", l.len()))),
            l => Ok(l),
        }
    };
    let extra = list("output_padding")?.unwrap_or_else(|| vec![0; spatial]);
    let wanted = list("output_shape")?;
    let input = cx.dims(x);
    let (mut begin, mut end) = (Dims::new(), Dims::new());
    for i in 0..spatial {
        let (stride, d) = (window.strides[i], &input[i + 2]);
        let full = (d.clone() - 1) * stride + extra[i] + window.extent(i);
        let target = match (&wanted, window.auto_pad) {
            (Some(o), _) => Some(SymExpr::from(o[i])),
            (None, "SAME_UPPER" | "SAME_LOWER") => Some(d.clone() * stride),
            _ => None,
        };
        let (b, e) = match (target, &window.pads) {
            (Some(t), _) => {
                let total = full - t;
                let (small, large) = (total.div(&2.into()), total.ceil_div(&2.into()));
                if window.auto_pad == "SAME_UPPER" { (small, large) } else { (large, small) }
            }
            (None, Some(p)) => (p[i].into(), p[i + spatial].into()),
            (None, None) => (0.into(), 0.into()),
        };
        let reach = SymExpr::from(window.extent(i) - 1);
        begin.push(&reach - &b);
        end.push(&(&reach - &e) + &extra[i].into());
    }
    let none = || vec![SymExpr::from(0); 2];
    let (low, high) = ([none(), begin].concat(), [none(), end].concat());
    let interior: Vec<i64> = [0, 0].into_iter().chain(window.strides.iter().map(|s| s - 1)).collect();
    let x = cx.pad(x, low, high, interior, 0.0)?;
    // [C, O/g, k..] -> [g, C/g, O/g, k..] -> [g, O/g, C/g, k..] -> [O, C/g, k..]
    let dims = cx.dims(w);
    let (c, per) = (&dims[0], &dims[1]);
    let g = SymExpr::from(groups.max(1));
    let mut split = vec![g.clone(), c.div(&g), per.clone()];
    split.extend_from_slice(&dims[2..]);
    let w = cx.reshape(w, split)?;
    let perm: Vec<usize> = [0, 2, 1].into_iter().chain(3..spatial + 3).collect();
    let w = cx.transpose(w, &perm)?;
    let mut joined = vec![per * &g, c.div(&g)];
    joined.extend_from_slice(&dims[2..]);
    let w = cx.reshape(w, joined.clone())?;
    let starts: Dims = [0, 0].into_iter().chain(kernel.iter().map(|k| k - 1)).map(SymExpr::from).collect();
    let steps = [1, 1].into_iter().chain(kernel.iter().map(|_| -1)).collect();
    let w = cx.add(Op::Slice { starts, steps, dims: joined }, &[w])?;
    let op = Op::Conv { strides: vec![1; spatial], dilations: window.dilations, pads: vec![0.into(); 2 * spatial], groups };
    let mut y = cx.add(op, &[x, w])?;
    if let Some(b) = cx.opt(2)? {
        y = add_bias(cx, y, b)?;
    }
    one(y)
}

/// Adds the columns of a lowered convolution back into images: `[N, C*kernel, positions]` to `[N, C, image..]`. Where each element goes is
/// a table, since image and kernel are known.
fn col2im(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (x, image, kernel) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    cx.want_rank(x, 3..=3)?;
    let (image, kernel) = (cx.const_ints(image, "the image's shape")?, cx.const_ints(kernel, "the kernel's shape")?);
    let n = image.len();
    if kernel.len() != n || image.iter().chain(&kernel).any(|d| !(1..=1 << 24).contains(d)) {
        return Err(Fault::shape(format!("an image of {image:?} with a kernel of {kernel:?}")));
    }
    let list = |name: &str, default: i64, count: usize| -> Res<Vec<i64>> {
        let l = cx.ints(name)?.unwrap_or_else(|| vec![default; count]);
        let fits = l.len() == count && l.iter().all(|v| (0..=1 << 24).contains(v));
        if fits { Ok(l) } else { Err(Fault::attr(format!("`{name}` is {l:?}, expected {count} numbers"))) }
    };
    let (strides, dilations, pads) = (list("strides", 1, n)?, list("dilations", 1, n)?, list("pads", 0, 2 * n)?);
    let mut steps = Vec::new();
    for i in 0..n {
        let span = image[i] + pads[i] + pads[i + n] - ((kernel[i] - 1) * dilations[i] + 1);
        if strides[i] < 1 || span < 0 {
            return Err(Fault::shape(format!("a kernel of {kernel:?} does not fit an image of {image:?}")));
        }
        steps.push(span / strides[i] + 1);
    }
    let (cells, taps, places): (i64, i64, i64) = (image.iter().product(), kernel.iter().product(), steps.iter().product());
    let total = taps.checked_mul(places).filter(|t| *t <= 1 << 26 && cells < 1 << 40);
    let Some(total) = total else { return Err(Fault::shape("the image is too large")) };
    // What falls into the padding goes to a cell behind the image.
    let mut table = Vec::with_capacity(total as usize);
    for k in 0..taps {
        for p in 0..places {
            let (mut k, mut p, mut at, mut by) = (k, p, 0i64, 1i64);
            let mut inside = true;
            for i in (0..n).rev() {
                let c = (p % steps[i]) * strides[i] + (k % kernel[i]) * dilations[i] - pads[i];
                inside &= (0..image[i]).contains(&c);
                at += c * by;
                by *= image[i];
                (k, p) = (k / kernel[i], p / steps[i]);
            }
            table.push(if inside { at } else { cells });
        }
    }
    let d = cx.dims(x);
    let c = d[1].div(&taps.into());
    let flat = cx.reshape(x, vec![d[0].clone(), c.clone(), total.into()])?;
    let table = cx.table_i64(&[1, 1, total], &table)?;
    let index = cx.broadcast(table, vec![d[0].clone(), c.clone(), total.into()])?;
    let zeros = cx.fill(cx.dtype(x), 0.0, vec![d[0].clone(), c.clone(), (cells + 1).into()])?;
    let sums = cx.add(Op::ScatterElements { axis: 2, op: ScatterOp::Add }, &[zeros, index, flat])?;
    let sums = cx.slice_axis(sums, 2, 0.into(), cells.into(), 1)?;
    let mut dims = vec![d[0].clone(), c];
    dims.extend(exprs_of(&image));
    one(cx.reshape(sums, dims)?)
}
