// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recurrences that the composites do not take (vanilla cells, other activations, clipping, peepholes, sequences of different lengths), as
//! loops over their steps.

use portwright_ir::dtype::DType;
use portwright_ir::graph::op::Direction;
use portwright_ir::graph::{BinaryOp, UnaryOp, ValueId};
use portwright_ir::sym::SymExpr;

use super::control::loop_of;
use crate::cx::{Cx, Res};
use crate::fault::Fault;

/// Which cell.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Kind {
    /// One gate.
    Rnn,
    /// Gates z, r, h.
    Gru { linear_before_reset: bool },
    /// Gates i, o, f, c.
    Lstm { input_forget: bool },
}

impl Kind {
    /// Gates of the cell.
    pub fn gates(self) -> i64 {
        match self {
            Kind::Rnn => 1,
            Kind::Gru { .. } => 3,
            Kind::Lstm { .. } => 4,
        }
    }
    /// Activations of one direction where none are named.
    pub fn activations(self) -> &'static [&'static str] {
        match self {
            Kind::Rnn => &["Tanh"],
            Kind::Gru { .. } => &["Sigmoid", "Tanh"],
            Kind::Lstm { .. } => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// An activation with its parameters.
#[derive(Clone)]
struct Activation {
    name: String,
    alpha: f64,
    beta: f64,
}

/// Operands in the layout of the composites.
pub struct Cell {
    /// Which cell.
    pub kind: Kind,
    /// `[S,B,I]`
    pub x: ValueId,
    /// `[D,G*H,I]`
    pub w: ValueId,
    /// `[D,G*H,H]`
    pub r: ValueId,
    /// `[D,2*G*H]`
    pub bias: ValueId,
    /// `[D,B,H]`
    pub h: ValueId,
    /// `[D,B,H]`, LSTM only.
    pub c: Option<ValueId>,
    /// `[D,3*H]`, LSTM only.
    pub peephole: Option<ValueId>,
    /// `[B]`
    pub lens: Option<ValueId>,
    /// Directions.
    pub direction: Direction,
}

/// Activations of all directions, with the parameters that the attributes give in order.
fn activations(cx: &Cx<'_, '_>, kind: Kind, directions: usize) -> Res<Vec<Activation>> {
    let names: Vec<String> = match cx.texts("activations")? {
        Some(n) => n.into_iter().map(str::to_string).collect(),
        None => (0..directions).flat_map(|_| kind.activations().iter().map(|s| s.to_string())).collect(),
    };
    if names.len() != directions * kind.activations().len() {
        return Err(Fault::attr(format!("{} activations for {directions} directions", names.len())));
    }
    let (mut alphas, mut betas) =
        (cx.floats("activation_alpha")?.unwrap_or_default().into_iter(), cx.floats("activation_beta")?.unwrap_or_default().into_iter());
    let each = |name: String| {
        let (a, b) = defaults(&name);
        let alpha = a.map_or(0.0, |d| alphas.next().unwrap_or(d));
        let beta = b.map_or(0.0, |d| betas.next().unwrap_or(d));
        Activation { name, alpha, beta }
    };
    Ok(names.into_iter().map(each).collect())
}

/// Parameters of an activation where none are given, as far as it has them.
fn defaults(name: &str) -> (Option<f64>, Option<f64>) {
    match name.to_ascii_lowercase().as_str() {
        "leakyrelu" => (Some(0.01), None),
        "thresholdedrelu" | "elu" => (Some(1.0), None),
        "hardsigmoid" => (Some(0.2), Some(0.5)),
        "affine" => (Some(1.0), Some(0.0)),
        "scaledtanh" => (Some(1.0), Some(1.0)),
        _ => (None, None),
    }
}

/// The activation of that name with the parameters that are given.
pub fn activation_of(cx: &mut Cx<'_, '_>, name: &str, alpha: Option<f64>, beta: Option<f64>, x: ValueId) -> Res<ValueId> {
    let (a, b) = defaults(name);
    let known = Activation { name: name.to_string(), alpha: alpha.or(a).unwrap_or(0.0), beta: beta.or(b).unwrap_or(0.0) };
    activate(cx, &known, x)
}

fn activate(cx: &mut Cx<'_, '_>, a: &Activation, x: ValueId) -> Res<ValueId> {
    use BinaryOp::*;
    match a.name.to_ascii_lowercase().as_str() {
        "sigmoid" => cx.un(UnaryOp::Sigmoid, x),
        "tanh" => cx.un(UnaryOp::Tanh, x),
        "relu" => cx.bin_c(Max, x, 0.0),
        "softplus" => cx.un(UnaryOp::Softplus, x),
        "affine" => {
            let y = cx.bin_c(Mul, x, a.alpha)?;
            cx.bin_c(Add, y, a.beta)
        }
        "leakyrelu" => {
            let (y, below) = (cx.bin_c(Mul, x, a.alpha)?, cx.bin_c(Lt, x, 0.0)?);
            cx.select(below, y, x)
        }
        "thresholdedrelu" => {
            let above = cx.bin_c(Ge, x, a.alpha)?;
            let zero = cx.scalar(cx.dtype(x), 0.0)?;
            cx.select(above, x, zero)
        }
        "scaledtanh" => {
            let y = cx.bin_c(Mul, x, a.beta)?;
            let y = cx.un(UnaryOp::Tanh, y)?;
            cx.bin_c(Mul, y, a.alpha)
        }
        "hardsigmoid" => {
            let y = cx.bin_c(Mul, x, a.alpha)?;
            let y = cx.bin_c(Add, y, a.beta)?;
            let y = cx.bin_c(Max, y, 0.0)?;
            cx.bin_c(Min, y, 1.0)
        }
        "elu" => {
            let y = cx.un(UnaryOp::Exp, x)?;
            let y = cx.bin_c(Sub, y, 1.0)?;
            let y = cx.bin_c(Mul, y, a.alpha)?;
            let below = cx.bin_c(Lt, x, 0.0)?;
            cx.select(below, y, x)
        }
        "softsign" => {
            let d = cx.un(UnaryOp::Abs, x)?;
            let d = cx.bin_c(Add, d, 1.0)?;
            cx.bin(Div, x, d)
        }
        _ => Err(Fault::attr(format!("`{}` is no activation that is known", a.name))),
    }
}

/// Runs the cell; gives `y: [S,D,B,H]` and the last states `[D,B,H]`.
pub fn run(cx: &mut Cx<'_, '_>, cell: &Cell) -> Res<Vec<ValueId>> {
    let backward: &[bool] = match cell.direction {
        Direction::Forward => &[false],
        Direction::Reverse => &[true],
        Direction::Bidirectional => &[false, true],
    };
    let all = activations(cx, cell.kind, backward.len())?;
    let per = cell.kind.activations().len();
    let (mut ys, mut hs, mut cs) = (Vec::new(), Vec::new(), Vec::new());
    for (d, (&back, acts)) in backward.iter().zip(all.chunks(per)).enumerate() {
        let out = one_direction(cx, cell, d as i64, back, acts)?;
        ys.push(cx.unsqueeze(out[0], &[1])?);
        hs.push(cx.unsqueeze(out[1], &[0])?);
        if let Some(&c) = out.get(2) {
            cs.push(cx.unsqueeze(c, &[0])?);
        }
    }
    let mut out = vec![cx.concat(&ys, 1)?, cx.concat(&hs, 0)?];
    if !cs.is_empty() {
        out.push(cx.concat(&cs, 0)?);
    }
    Ok(out)
}

/// `y: [S,B,H]`, last states `[B,H]`.
fn one_direction(cx: &mut Cx<'_, '_>, cell: &Cell, d: i64, back: bool, acts: &[Activation]) -> Res<Vec<ValueId>> {
    let pick = |cx: &mut Cx<'_, '_>, v: ValueId| -> Res<ValueId> {
        let v = cx.slice_axis(v, 0, d.into(), 1.into(), 1)?;
        let dims = cx.dims(v)[1..].to_vec();
        cx.reshape(v, dims)
    };
    let kind = cell.kind;
    let gates = kind.gates();
    let (w, r, bias) = (pick(cx, cell.w)?, pick(cx, cell.r)?, pick(cx, cell.bias)?);
    let hidden = cx.dim(r, 1)?;
    let wide = hidden.clone() * gates;
    let parts = cx.split(bias, 0, &[wide.clone(), wide])?;
    let (wb, rb) = (parts[0], parts[1]);
    let mut states = vec![pick(cx, cell.h)?];
    if let Some(c) = cell.c {
        states.push(pick(cx, c)?);
    }
    // What the inputs give to the gates of all steps, at once.
    let xs = cx.contract("sbi,gi->sbg", cell.x, w)?;
    let xs = cx.bin(BinaryOp::Add, xs, wb)?;
    let steps = cx.dim(cell.x, 0)?;
    let mut outside = vec![xs, r, rb];
    let peephole = match cell.peephole {
        Some(p) => Some(pick(cx, p)?),
        None => None,
    };
    let lens = match cell.lens {
        Some(l) => {
            let l = cx.cast(l, DType::I64)?;
            let b = cx.ty(l).elems();
            Some(cx.reshape(l, vec![b, 1.into()])?)
        }
        None => None,
    };
    outside.extend(peephole);
    outside.extend(lens);
    let clip = cx.float_opt("clip")?.filter(|c| *c > 0.0);
    let results = loop_of(cx, &steps, &states, &outside, |cx, i, s, o| {
        let mut at = i;
        if back {
            let last = cx.number_of(steps.clone() - 1, DType::I64)?;
            at = cx.bin(BinaryOp::Sub, last, i)?;
        }
        let lens = if lens.is_some() { o.last().copied() } else { None };
        // Going back, each sequence begins at its own last step.
        let x = cx.gather(o[0], at, 0)?;
        let step = Step { kind, acts, clip, hidden: hidden.clone(), r: o[1], rb: o[2], peephole: peephole.and(o.get(3).copied()) };
        let mut new = step.run(cx, x, s)?;
        let mut y = new[0];
        if let Some(l) = lens {
            let inside = cx.bin(BinaryOp::Lt, at, l)?;
            for (n, &old) in new.iter_mut().zip(s) {
                *n = cx.select(inside, *n, old)?;
            }
            let zero = cx.scalar(cx.dtype(y), 0.0)?;
            y = cx.select(inside, y, zero)?;
        }
        Ok((new, vec![y]))
    })?;
    let mut results = results;
    let mut y = results.pop().ok_or_else(|| Fault::form("a loop without results"))?;
    if back {
        y = cx.slice_axis(y, 0, steps.clone() - 1, steps, -1)?;
    }
    results.insert(0, y);
    Ok(results)
}

/// One step of a cell.
struct Step<'a> {
    kind: Kind,
    acts: &'a [Activation],
    clip: Option<f64>,
    hidden: SymExpr,
    r: ValueId,
    rb: ValueId,
    peephole: Option<ValueId>,
}

impl Step<'_> {
    fn act(&self, cx: &mut Cx<'_, '_>, which: usize, x: ValueId) -> Res<ValueId> {
        let x = match self.clip {
            Some(c) => {
                let x = cx.bin_c(BinaryOp::Max, x, -c)?;
                cx.bin_c(BinaryOp::Min, x, c)?
            }
            None => x,
        };
        match self.acts.get(which) {
            Some(a) => activate(cx, a, x),
            None => Err(Fault::attr("an activation is missing")),
        }
    }
    fn parts(&self, cx: &mut Cx<'_, '_>, v: ValueId, n: usize) -> Res<Vec<ValueId>> {
        let axis = cx.rank(v) - 1;
        cx.split(v, axis, &vec![self.hidden.clone(); n])
    }
    /// New states from the input's share of the gates `[B,G*H]` and the old states.
    fn run(&self, cx: &mut Cx<'_, '_>, x: ValueId, s: &[ValueId]) -> Res<Vec<ValueId>> {
        use BinaryOp::*;
        let h = s[0];
        match self.kind {
            Kind::Rnn => {
                let y = cx.contract("bh,gh->bg", h, self.r)?;
                let y = cx.bin(Add, y, self.rb)?;
                let y = cx.bin(Add, y, x)?;
                Ok(vec![self.act(cx, 0, y)?])
            }
            Kind::Gru { linear_before_reset } => {
                let gates = self.hidden.clone() * 2;
                let (rows, bias) = (
                    cx.split(self.r, 0, &[gates.clone(), self.hidden.clone()])?,
                    cx.split(self.rb, 0, &[gates.clone(), self.hidden.clone()])?,
                );
                let xs = cx.split(x, 1, &[gates, self.hidden.clone()])?;
                let zr = cx.contract("bh,gh->bg", h, rows[0])?;
                let zr = cx.bin(Add, zr, bias[0])?;
                let zr = cx.bin(Add, zr, xs[0])?;
                let zr = self.act(cx, 0, zr)?;
                let zr = self.parts(cx, zr, 2)?;
                let (z, r) = (zr[0], zr[1]);
                let n = if linear_before_reset {
                    let n = cx.contract("bh,gh->bg", h, rows[1])?;
                    let n = cx.bin(Add, n, bias[1])?;
                    cx.bin(Mul, r, n)?
                } else {
                    let rh = cx.bin(Mul, r, h)?;
                    let n = cx.contract("bh,gh->bg", rh, rows[1])?;
                    cx.bin(Add, n, bias[1])?
                };
                let n = cx.bin(Add, n, xs[1])?;
                let n = self.act(cx, 1, n)?;
                // (1 - z) * n + z * h
                let unit = cx.scalar(cx.dtype(h), 1.0)?;
                let rest = cx.bin(Sub, unit, z)?;
                let (new, old) = (cx.bin(Mul, rest, n)?, cx.bin(Mul, z, h)?);
                Ok(vec![cx.bin(Add, new, old)?])
            }
            Kind::Lstm { input_forget } => {
                let c = *s.get(1).ok_or_else(|| Fault::form("an LSTM without cell state"))?;
                let g = cx.contract("bh,gh->bg", h, self.r)?;
                let g = cx.bin(Add, g, self.rb)?;
                let g = cx.bin(Add, g, x)?;
                let g = self.parts(cx, g, 4)?;
                let (mut i, mut o, mut f) = (g[0], g[1], g[2]);
                let p = match self.peephole {
                    Some(p) => Some(self.parts(cx, p, 3)?),
                    None => None,
                };
                let peep = |cx: &mut Cx<'_, '_>, gate: ValueId, k: usize, c: ValueId| -> Res<ValueId> {
                    let Some(&w) = p.as_ref().and_then(|p| p.get(k)) else { return Ok(gate) };
                    let v = cx.bin(Mul, w, c)?;
                    cx.bin(Add, gate, v)
                };
                i = peep(cx, i, 0, c)?;
                f = peep(cx, f, 2, c)?;
                let i = self.act(cx, 0, i)?;
                let f = if input_forget {
                    let unit = cx.scalar(cx.dtype(h), 1.0)?;
                    cx.bin(Sub, unit, i)?
                } else {
                    self.act(cx, 0, f)?
                };
                let n = self.act(cx, 1, g[3])?;
                let (kept, new) = (cx.bin(Mul, f, c)?, cx.bin(Mul, i, n)?);
                let c = cx.bin(Add, kept, new)?;
                o = peep(cx, o, 1, c)?;
                let o = self.act(cx, 0, o)?;
                let t = self.act(cx, 2, c)?;
                Ok(vec![cx.bin(Mul, o, t)?, c])
            }
        }
    }
}
