// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sums of products with integers that have a scale a block, in panels.
//!
//! A task rounds its rows of the left operand to 8 bits once, one scale a row and block, where the product allows that and the machine adds
//! products of bytes; else it copies them as f32. Then it reads its panels from end to end: each word of packed integers is loaded once for a few
//! rows, cut into its parts by shifts and masks, and multiplied. What a block sums up to meets its scale once. Zero points are not taken off
//! each integer: they multiply the block's sum of the left operand, and that sum, negated, is what a block's sum begins with.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, Op, ValueId};
use portwright_ir::kernel::{Buf, BufDecl, Ex, Kb, Mem, Module, Reg, Ty};
use portwright_ir::sym::{SymExpr, product};

use super::super::grouped;
use super::super::problem::{At, Feed, Problem};
use super::eval::{Eval, Guard, Stop};
use super::gemm::Gemm;
use super::index::lane;
use super::{Begun, Built, Cx, finish, heights, name_coords};

/// Products that one task should form: some ten microseconds of a core.
const TASK_PRODUCTS: i64 = 1 << 22;

/// Rows of a task at most.
const MOST_ROWS: i64 = 48;

/// Steps of a loop that are written out.
const UNROLLED: i64 = 8;

/// What is added to a number below 2^22 so that its last bits are the nearest integer: 1.5 * 2^23.
const ROUND: f64 = 12_582_912.0;

/// The left operand's rows in scratch.
struct Left {
    /// Rounded to 8 bits, or as they are: `[rows, K]`.
    values: Buf,
    /// One scale a row and block, if rounded.
    scales: Option<Buf>,
    /// What a block's sum begins with, or with zero points in memory the sum of the left operand: `[rows, blocks]`.
    sums: Buf,
}

/// What all loops share.
struct Blocks<'g, 'c, 'a, 'p> {
    g: &'g Gemm<'c, 'a, 'p>,
    w: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    /// Zero point where there are none in memory.
    middle: i64,
    bits: i64,
    /// Summed coordinates of a block, and how many blocks there are.
    block: i64,
    blocks: i64,
    /// Columns of a panel.
    width: i64,
    /// Dtype in which the packed integers meet bytes of the left operand.
    byte: Option<DType>,
    left: Left,
    /// Coordinate of the group, where right operands have a dim of them.
    group: Option<SymExpr>,
}

/// Repeats `body` for `0..n`, written out where that is short.
fn each<'e>(
    k: &mut Kb<'_>,
    eval: &mut Eval<'e>,
    name: &str,
    n: i64,
    body: &mut dyn FnMut(&mut Kb<'_>, &mut Eval<'e>, &SymExpr) -> Result<(), Stop>,
) -> Result<(), Stop> {
    if n <= UNROLLED {
        return (0..n).try_for_each(|i| body(k, eval, &i.into()));
    }
    let mut stop = Ok(());
    k.for_(name, 0, n, 1, |k, i| {
        eval.open();
        let i = eval.ix.bind(name, i, n.into());
        stop = body(k, eval, &i);
        eval.close();
    });
    stop
}

/// Whether a region's product is one in panels.
pub(crate) fn takes(region: &Graph) -> bool {
    region.node_ids().any(|n| matches!(region.node(n).op, Op::ContractPanels { .. }))
}

/// Builds the kernel.
pub(crate) fn build(cx: &Cx<'_>, module: &mut Module, width: u32) -> Result<Built, Stop> {
    let node = cx.root(|op| matches!(op, Op::ContractPanels { .. }))?;
    let (&Op::ContractPanels { columns, bits, block, narrow, zero: middle, groups: in_groups }, &[x, w, scale, ref rest @ ..]) =
        (&node.op, node.operands.as_slice())
    else {
        return Stop::no("no product in panels");
    };
    let mut b = cx.begin(module, width);
    let Begun { k, eval, outputs } = &mut b;
    let root = node.results[0];
    let (x_dims, root_dims) = (eval.dims(x), eval.dims(root));
    let (rest, starts) = match rest.split_last() {
        Some((&starts, rest)) if in_groups => (rest, Some(starts)),
        _ => (rest, None),
    };
    let sizes: Vec<i64> = eval.dims(w).iter().filter_map(SymExpr::as_const).collect();
    let parts = sizes.split_at_checked(usize::from(in_groups));
    let (Some((group_dims, &[panels, blocks, _, row])), Some((depth, lead))) = (parts, x_dims.split_last()) else {
        return Stop::no("panels of unknown size");
    };
    let lanes = i64::from(width);
    if columns == 1 && width > 1 {
        return Err(Stop::NeedScalar);
    }
    if row / 4 % lanes != 0 || block % lanes != 0 {
        return Err(if width > 1 { Stop::NeedScalar } else { Stop::No(super::Unschedulable::new("panels of other than whole vectors")) });
    }
    // Integers below 128 are the same bytes with and without a sign.
    let takes = |d: DType| cx.spec.dot(DType::I8, d, DType::I32).or_else(|| cx.spec.dot(d, DType::I8, DType::I32)).is_some();
    let byte = [DType::U8, DType::I8].into_iter().find(|&d| (d == DType::U8 || bits < 8) && takes(d)).filter(|_| narrow && width > 1);

    let panel = row / 4;
    let nv = panel / lanes;
    let m_total = product(lead);
    let known = blocks * block;
    let most = ((i64::from(cx.spec.vec_regs) - 6) / (2 * nv)).clamp(1, 8);
    let mr = m_total.as_const().map_or(most, |m| {
        let cuts = ((m + most - 1) / most).max(1);
        ((m + cuts - 1) / cuts).max(1)
    });
    let row_bytes = known * if byte.is_some() { 1 } else { 4 };
    let rows = (i64::from(cx.spec.l2_bytes) / 2 / row_bytes).min(MOST_ROWS) / mr * mr;
    let rows = m_total.as_const().map_or(rows, |m| rows.min((m + mr - 1) / mr * mr)).max(mr);
    let products = rows.max(8).saturating_mul(known).saturating_mul(panel);
    let run = (TASK_PRODUCTS / products.max(1)).clamp(1, 16).min((panels + 3) / 4).max(1);
    let count = group_dims.first().copied().unwrap_or(1);
    // The rows of a group are one task for each few panels.
    let row_tasks = if in_groups { 1.into() } else { m_total.ceil_div(&rows.into()) };
    let grid = [row_tasks, ((panels + run - 1) / run).into(), count.into()];

    let scratch = |k: &mut Kb<'_>, name: &str, d: DType, n: i64| k.local(name, BufDecl::rw(d, [rows.into(), n.into()]).align(64));
    let left = Left {
        values: scratch(k, "a", if byte.is_some() { DType::I8 } else { DType::F32 }, known),
        scales: byte.map(|_| scratch(k, "as", DType::F32, blocks)),
        sums: scratch(k, "at", if byte.is_some() && rest.is_empty() { DType::I32 } else { DType::F32 }, blocks),
    };
    let labels: Vec<char> = ('A'..='Z').take(lead.len()).collect();
    let out_labels: Vec<char> = labels.iter().copied().chain(['n']).collect();
    let problem = Problem {
        batch: Vec::new(),
        m: labels.into_iter().zip(lead.iter().cloned()).collect(),
        n: vec![('n', columns.into())],
        k: vec![('k', depth.clone())],
        lhs: x,
        rhs: w,
        root,
        lhs_at: Box::new(|_, _| (Vec::new(), Guard::new())),
        rhs_at: Box::new(|_, _| (Vec::new(), Guard::new())),
        root_at: Box::new(move |_, at| at.of(&out_labels, &root_dims)),
        acc: DType::F32,
        out: eval.dtype(root),
        feed: Feed::Direct,
        interior: None,
        starts,
    };
    if problem.m.len() != lead.len() {
        return Stop::no("a left operand of too many dims");
    }
    let g = Gemm::for_tiles(cx, problem, outputs.clone());
    let zero = rest.first().copied();
    let mut s = Blocks { g: &g, w, scale, zero, middle, bits, block, blocks, width: panel, byte, left, group: None };
    let p0 = k.let_("p0", k.gy() * run);
    let p1 = k.let_("p1", (&p0 + run).min(panels));
    let panel_of = |k: &mut Kb<'_>, eval: &mut Eval<'_>, s: &Blocks<'_, '_, '_, '_>, m0: &Ex, end: &Ex| -> Result<(), Stop> {
        let here = k.let_("rows", (end - m0).min(rows));
        let mut stop = Ok(());
        k.for_("r", 0, &here, 1, |k, r| {
            eval.open();
            let row = eval.ix.bind("row", m0 + &r, m_total.clone());
            stop = s.pack(k, eval, lead, depth, &row, &r);
            eval.close();
        });
        stop?;
        let mut stop = Ok(());
        k.for_("p", &p0, &p1, 1, |k, p| {
            eval.open();
            let p = eval.ix.bind("p", p, panels.into());
            stop = s.panel(k, eval, &p, (m0, &here), &m_total, mr);
            eval.close();
        });
        stop
    };
    match starts {
        None => {
            let m0 = k.let_("m0", k.gx() * rows);
            let end = k.dim(&m_total);
            panel_of(k, eval, &s, &m0, &end)?;
        }
        Some(starts) => {
            let e = k.gz();
            let e = eval.ix.bind("e", e, count.into());
            let (from, to) = grouped::rows(k, eval, starts, &e, count, &m_total)?;
            s.group = Some(e);
            let mut stop = Ok(());
            k.for_("m0", from, &to, rows, |k, m0| {
                eval.open();
                stop = panel_of(k, eval, &s, &m0, &to);
                eval.close();
            });
            stop?;
        }
    }
    // Some forty bytes of weights, or a hundred products, a nanosecond.
    let bytes = run.saturating_mul(panel).saturating_mul(known) * bits / 8;
    let products = rows.saturating_mul(run * panel).saturating_mul(known);
    let cost = (bytes / 40).max(products / 100).clamp(1, i64::from(u32::MAX)) as u32;
    Ok(finish(b, grid, cost))
}

impl Blocks<'_, '_, '_, '_> {
    /// Brings row `row` of the left operand into row `r` of scratch; what lies behind its end is zero.
    fn pack(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, lead: &[SymExpr], depth: &SymExpr, row: &SymExpr, r: &Ex) -> Result<(), Stop> {
        let w = eval.width;
        let coords = if lead.len() > 1 { name_coords(k, eval, row, lead) } else { lead.iter().map(|_| row.clone()).collect() };
        let zero = |d: DType| if d.is_float() { Ex::float(0.0) } else { Ex::int(0) }.typed(&Ty::Scalar(d)).splat(w);
        let vectors = self.block / i64::from(w);
        let mut stop = Ok(());
        k.for_("b", 0, self.blocks, 1, |k, b| {
            eval.open();
            let at = eval.ix.bind("b", b.clone(), self.blocks.into()) * self.block;
            let load = |k: &mut Kb<'_>, eval: &mut Eval<'_>, v: &SymExpr| -> Result<(Ex, Ex), Stop> {
                let first = &at + &(v.clone() * i64::from(w));
                let c = if w == 1 { first.clone() } else { first.clone() + lane() };
                let guard = eval.guarded(&Guard::new(), &c, depth);
                let x = eval.value(k, self.g.p.lhs, &coords.iter().cloned().chain([c]).collect::<Vec<_>>(), &guard)?;
                Ok((eval.ix.emit(k, &first), eval.widen(&x).cast(DType::F32)))
            };
            stop = (|| {
                let cell = |buf: Buf| Mem::new(buf, vec![(r.clone(), 1), (b.clone(), 1)]);
                let Some(scales) = self.left.scales else {
                    let sum = k.var("sum", zero(DType::F32));
                    each(k, eval, "v", vectors, &mut |k, eval, v| {
                        let (first, x) = load(k, eval, v)?;
                        let x = k.let_("x", x);
                        k.set(&sum, sum.get() + &x);
                        k.store(Mem::new(self.left.values, vec![(r.clone(), 1), (first, w)]), x);
                        Ok(())
                    })?;
                    let sum = sum.get().hsum();
                    let sum = if self.zero.is_some() { sum } else { sum * -(self.middle as f64) };
                    k.store(cell(self.left.sums), sum);
                    return Ok(());
                };
                let most = k.var("most", zero(DType::F32));
                each(k, eval, "v", vectors, &mut |k, eval, v| {
                    let (_, x) = load(k, eval, v)?;
                    k.set(&most, most.get().max(x.abs()));
                    Ok(())
                })?;
                let most = k.let_("most", most.get().hmax());
                k.store(cell(scales), &most * (1.0 / 127.0));
                let none = Ex::float(0.0).typed(&Ty::Scalar(DType::F32));
                let by = k.let_("by", most.gt(0.0).select(Ex::float(127.0).typed(&Ty::Scalar(DType::F32)) / &most, none).splat(w));
                let round = k.let_("round", Ex::float(ROUND).typed(&Ty::Scalar(DType::F32)).splat(w));
                let sum = k.var("sum", zero(DType::I32));
                each(k, eval, "v", vectors, &mut |k, eval, v| {
                    let (first, x) = load(k, eval, v)?;
                    let q = k.let_("q", x.fma(&by, &round).bitcast(DType::I32).sub_w(round.bitcast(DType::I32)));
                    k.set(&sum, sum.get().add_w(&q));
                    k.store(Mem::new(self.left.values, vec![(r.clone(), 1), (first, w)]), q.cast(DType::I8));
                    Ok(())
                })?;
                // Lanes hold sums of few bytes, which no addition wraps.
                let sum = sum.get().hsum();
                let sum = if self.zero.is_some() { sum.cast(DType::F32) } else { sum.mul_w(Ex::int((-self.middle).into())) };
                k.store(cell(self.left.sums), sum);
                Ok(())
            })();
            eval.close();
        });
        stop
    }

    /// All rows of the task against panel `p`.
    fn panel(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        p: &SymExpr,
        (m0, here): (&Ex, &Ex),
        m_total: &SymExpr,
        mr: i64,
    ) -> Result<(), Stop> {
        let sizes = heights(m_total.as_const().filter(|_| self.group.is_none()), mr, mr / 2);
        let mut from = Ex::from(0);
        for (i, &rows) in sizes.iter().enumerate() {
            let last = i + 1 == sizes.len();
            let to = if last { here.clone() } else { k.let_("full", &from + ((here - &from) / rows) * rows) };
            let mut stop = Ok(());
            k.for_("m", &from, &to, rows, |k, r| {
                eval.open();
                stop = self.block(k, eval, p, m0, &r, m_total, rows);
                eval.close();
            });
            stop?;
            from = to;
        }
        Ok(())
    }

    /// `rows` rows of scratch from `r` against panel `p`, and what follows.
    #[allow(clippy::too_many_arguments)]
    fn block(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, p: &SymExpr, m0: &Ex, r: &Ex, m_total: &SymExpr, rows: i64) -> Result<(), Stop> {
        let w = eval.width;
        let nv = self.width / i64::from(w);
        let float = |v: f64| Ex::float(v).typed(&Ty::Scalar(DType::F32)).splat(w);
        let sums = k.var_array("s", &[rows as u32, nv as u32], float(0.0));
        let mut stop = Ok(());
        k.for_("b", 0, self.blocks, 1, |k, b| {
            eval.open();
            stop = self.step(k, eval, p, r, rows, &sums, &b);
            eval.close();
        });
        stop?;
        let m_dims: Vec<SymExpr> = self.g.p.m.iter().map(|x| x.1.clone()).collect();
        let n_total = self.g.p.n[0].1.clone();
        for i in 0..rows {
            eval.open();
            let row = k.let_("row", m0 + r + i);
            let row = eval.ix.bind("row", row, m_total.clone());
            let row = if m_dims.len() > 1 { name_coords(k, eval, &row, &m_dims) } else { m_dims.iter().map(|_| row.clone()).collect() };
            let at = At::default().with(&self.g.p.m, &row);
            let done = (0..nv).try_for_each(|v| {
                let start = p.clone() * self.width + v * i64::from(w);
                let column = if w == 1 { start } else { start + lane() };
                let guard = eval.guarded(&Guard::new(), &column, &n_total);
                self.g.epilogue(k, eval, &at.with(&self.g.p.n, &[column]), &guard, sums.at([Ex::from(i), Ex::from(v)]).get())
            });
            eval.close();
            done?;
        }
        Ok(())
    }

    /// Adds one block of summed coordinates.
    #[allow(clippy::too_many_arguments)]
    fn step(&self, k: &mut Kb<'_>, eval: &mut Eval<'_>, p: &SymExpr, r: &Ex, rows: i64, sums: &Reg, b: &Ex) -> Result<(), Stop> {
        let w = eval.width;
        let nv = self.width / i64::from(w);
        let at = eval.ix.bind("b", b.clone(), self.blocks.into());
        let cell = |buf: Buf, i: i64| Mem::new(buf, vec![(r + i, 1), (b.clone(), 1)]);
        let acc = if self.byte.is_some() { DType::I32 } else { DType::F32 };
        let zero = if acc.is_float() { Ex::float(0.0) } else { Ex::int(0) }.typed(&Ty::Scalar(acc));
        let c = k.var_array("c", &[rows as u32, nv as u32], zero.splat(w));
        let mut begin = Vec::with_capacity(rows as usize);
        for i in 0..rows {
            let sum = k.load("t", cell(self.left.sums, i));
            let sum = k.let_("t", sum.splat(w));
            if self.zero.is_none() && self.middle != 0 {
                (0..nv).for_each(|v| k.set(&c.at([Ex::from(i), Ex::from(v)]), sum.clone()));
            }
            begin.push(sum);
        }
        let words = self.block * self.bits / 32;
        each(k, eval, "g", words, &mut |k, eval, g| self.word(k, eval, (p, &at, g), r, rows, &c))?;
        let mut stop = Ok(());
        for v in 0..nv {
            let start = SymExpr::from(v * i64::from(w));
            let column = if w == 1 { start } else { start + lane() };
            let place: Vec<SymExpr> = self.group.iter().cloned().chain([p.clone(), at.clone(), column]).collect();
            let mut number = |k: &mut Kb<'_>, value: ValueId| -> Result<Ex, Stop> {
                let x = eval.value(k, value, &place, &Guard::new())?;
                Ok(k.let_("f", eval.widen(&x).cast(DType::F32)))
            };
            let scale = number(k, self.scale)?;
            let zero = match self.zero {
                Some(z) => Some(number(k, z)?),
                None => None,
            };
            for i in 0..rows {
                let to = [Ex::from(i), Ex::from(v)];
                let mut x = c.at(to.clone()).get().cast(DType::F32);
                if let Some(z) = &zero {
                    x = (-z.clone()).fma(&begin[i as usize], x);
                }
                let by = match self.left.scales {
                    Some(scales) => {
                        let s = k.load("as", cell(scales, i));
                        s.splat(w) * &scale
                    }
                    None => scale.clone(),
                };
                let sum = sums.at(to);
                let new = x.fma(by, sum.get());
                k.set(&sum, new);
            }
            stop = Ok(());
        }
        stop
    }

    /// Adds the products of word `g` of block `b`: `32 / bits` summed coordinates of each column.
    fn word(
        &self,
        k: &mut Kb<'_>,
        eval: &mut Eval<'_>,
        (p, b, g): (&SymExpr, &SymExpr, &SymExpr),
        r: &Ex,
        rows: i64,
        c: &Reg,
    ) -> Result<(), Stop> {
        let w = eval.width;
        let nv = self.width / i64::from(w);
        let (per, parts) = (32 / self.bits, 8 / self.bits);
        let mut words = Vec::with_capacity(nv as usize);
        eval.set_width(4 * w);
        for v in 0..nv {
            let column = SymExpr::from(4 * v * i64::from(w)) + lane();
            let at: Vec<SymExpr> = self.group.iter().cloned().chain([p.clone(), b.clone(), g.clone(), column]).collect();
            let x = eval.value(k, self.w, &at, &Guard::new());
            words.push(x.map(|x| k.let_("w", x.bitcast(DType::U32))));
        }
        eval.set_width(w);
        let words = words.into_iter().collect::<Result<Vec<_>, _>>()?;
        let first = b.clone() * self.block + g.clone() * per;
        let number = |v: i64| Ex::int(v.into()).typed(&Ty::Scalar(DType::U32)).splat(w);
        let low = |x: &Ex, shift: i64, mask: i64| {
            let x = if shift == 0 { x.clone() } else { x.clone() >> number(shift) };
            if self.bits == 8 && mask > 255 { x } else { x & number(mask) }
        };
        let each_byte = ((1i64 << self.bits) - 1) * 0x0101_0101;
        for j in 0..parts {
            if let Some(byte) = self.byte {
                let b: Vec<Ex> = words.iter().map(|x| k.let_("b", low(x, self.bits * j, each_byte).bitcast(byte))).collect();
                let at = eval.ix.emit(k, &(first.clone() + 4 * j));
                for i in 0..rows {
                    let a = k.load("a", Mem::new(self.left.values, vec![(r + i, 1), (at.clone(), 4)]));
                    let a = k.let_("a", a.bitcast(DType::I32).splat(w));
                    let a = k.let_("a", a.bitcast(DType::I8));
                    for (v, b) in b.iter().enumerate() {
                        let to = c.at([Ex::from(i), Ex::from(v)]);
                        let new = to.get().dot4(&a, b);
                        k.set(&to, new);
                    }
                }
                continue;
            }
            for l in 0..4 {
                let real = |x: &Ex| low(x, 8 * l + self.bits * j, (1 << self.bits) - 1).bitcast(DType::I32).cast(DType::F32);
                let b: Vec<Ex> = words.iter().map(|x| k.let_("b", real(x))).collect();
                let at = eval.ix.emit(k, &(first.clone() + 4 * j + l));
                for i in 0..rows {
                    let a = k.load("a", Mem::new(self.left.values, vec![(r + i, 1), (at.clone(), 1)]));
                    let a = k.let_("a", a.splat(w));
                    for (v, b) in b.iter().enumerate() {
                        let to = c.at([Ex::from(i), Ex::from(v)]);
                        let new = a.fma(b, to.get());
                        k.set(&to, new);
                    }
                }
            }
        }
        Ok(())
    }
}
