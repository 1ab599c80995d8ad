// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel of class simt as one entry function of a device module: positions, memory of the group, barriers, exchanges between lanes.
//!
//! Buffers in global memory are pointers of address space 1, those of the group lie at fixed places of one block of address space 3, those
//! of a lane on its stack. Symbols and scalars are i64 slots, as on the CPU; behind them come the address of the status words and the number
//! of the launch, for guards. What lanes do together is spelled by LLVM's NVVM intrinsics; a machine says through [`Forms`] which it has.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::kernel::{
    BarId, BarRef, BufId, Class, Digit, ExprId, Fence, Id, Kernel, Level, Module, Param, Place2, Rhs, ShuffleKind, Space, Stmt, Ty, VarId,
    VoteKind,
};

use super::Spelling;
use super::code::Code;
use super::expr::{elem_type, reg_type};
use super::kernel::{Emit, Fault};

/// Where lanes hold an operand of a product: digits of the lane and of the register.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// Digits of the lane.
    pub lane: &'static [Digit],
    /// Digits of the register.
    pub reg: &'static [Digit],
}

impl Held {
    /// As Kernel IR writes it.
    pub fn place(&self) -> Place2 {
        Place2::PerLane { lane: self.lane.iter().copied().collect(), reg: self.reg.iter().copied().collect() }
    }
}

/// A matrix product of a warp whose operands lie in registers.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// Name in kernels.
    pub name: &'static str,
    /// Extents m, n, k.
    pub shape: [u16; 3],
    /// Dtypes of a, b, c.
    pub dtypes: [DType; 3],
    /// Where a, b, c are.
    pub held: [Held; 3],
    /// LLVM's intrinsic.
    pub intrinsic: &'static str,
    /// MLIR's type of one register of a and b, of 32 bits.
    pub operand: &'static str,
}

/// Which forms a machine with lanes has.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Forms {
    /// Lanes of a warp.
    pub warp: u32,
    /// Most lanes of a group.
    pub group: u32,
    /// Most groups in x, y and z.
    pub grid: [i64; 3],
    /// Bytes of the group's memory that a kernel has without asking, and at most.
    pub shared: [u32; 2],
    /// Matrix products.
    pub products: &'static [Product],
    /// Whether copies from global memory to that of the group pass no register.
    pub async_copies: bool,
    /// Whether matrices are loaded from the group's memory by whole warps.
    pub matrix_loads: bool,
    /// Whether there are phased signals in the group's memory.
    pub signals: bool,
}

/// How a kernel is launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchForm {
    /// Lanes of a group.
    pub group: u32,
    /// Bytes of the group's memory, all of them.
    pub shared: u32,
    /// Bytes of it that the launch has to ask for.
    pub dynamic: u32,
    /// Whether the groups are launched in one row, because a grid may be larger than its dims can be.
    pub row: bool,
}

/// What an emitter knows of lanes.
pub(super) struct Lanes {
    forms: &'static Forms,
    /// Lane, warp and lane in the warp, as i64.
    ids: [String; 3],
    shared: HashMap<BufId, u32>,
    bars: HashMap<BarId, u32>,
    /// Symbol of the group's memory.
    base: String,
    /// Number of the barrier of the role that is being emitted, and its lanes.
    role: Option<(u32, u32)>,
    roles: u32,
}

impl Lanes {
    pub(super) fn position(&self, i: Id) -> &str {
        let [lane, warp, wlane] = &self.ids;
        match i {
            Id::Warp => warp,
            Id::WarpLane => wlane,
            _ => lane,
        }
    }
    pub(super) fn forms(&self) -> &'static Forms {
        self.forms
    }
}

/// Places of the group's buffers and signals, and the bytes of all and their alignment.
struct Plot {
    buffers: HashMap<BufId, u32>,
    bars: HashMap<BarId, u32>,
    bytes: u32,
    align: u32,
}

fn plot(k: &Kernel) -> Result<Plot, Fault> {
    let mut p = Plot { buffers: HashMap::new(), bars: HashMap::new(), bytes: 0, align: 16 };
    let mut place = |bytes: u32, align: u32| -> Result<u32, Fault> {
        let at = p.bytes.checked_next_multiple_of(align.max(1)).ok_or("the group's memory leaves 32 bits")?;
        p.bytes = at.checked_add(bytes).ok_or("the group's memory leaves 32 bits")?;
        p.align = p.align.max(align);
        Ok(at)
    };
    for (id, b) in k.on_chip(Space::Shared).filter(|(_, b)| b.alias.is_none()) {
        let bytes = b.span_bytes().as_const().and_then(|n| u32::try_from(n).ok());
        let bytes = bytes.ok_or_else(|| format!("`{}` in the group's memory has no fixed size", b.name))?;
        // Vectors of 16 bytes and rows of matrices begin on whole units.
        let at = place(bytes, b.align.max(16))?;
        p.buffers.insert(id, at);
    }
    for (id, b) in k.bars.iter() {
        let n: u32 = b.dims.iter().product::<u32>().max(1);
        let at = place(n.checked_mul(8).ok_or("too many signals")?, 8)?;
        p.bars.insert(id, at);
    }
    let mut left: Vec<BufId> = k.on_chip(Space::Shared).filter(|(_, b)| b.alias.is_some()).map(|(id, _)| id).collect();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|id| {
            let Some((base, at)) = k.bufs[*id].alias else { return false };
            let Some(from) = p.buffers.get(&base).copied() else { return true };
            p.buffers.insert(*id, from + at);
            false
        });
        if left.len() == before {
            return Err("buffers of the group that lie in each other".into());
        }
    }
    for (id, at) in &p.buffers {
        let bytes = k.bufs[*id].span_bytes().as_const().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        p.bytes = p.bytes.max(at.saturating_add(bytes));
    }
    // LLVM widens loads to whole units of their alignment, so the last unit is there as a whole.
    p.bytes = p.bytes.checked_next_multiple_of(16).ok_or("the group's memory leaves 32 bits")?;
    Ok(p)
}

/// Where the group's buffers lie in one block of its memory, in bytes.
///
/// # Errors
/// A buffer without a fixed size.
pub(crate) fn places(k: &Kernel) -> Result<HashMap<BufId, u32>, Fault> {
    plot(k).map(|p| p.buffers)
}

/// How a kernel is launched on a machine.
///
/// # Errors
/// More of something than the machine has.
pub(crate) fn launch_form(k: &Kernel, forms: &Forms) -> Result<LaunchForm, Fault> {
    if k.class != Class::Simt {
        return Err(format!("it is written for class {}", k.class));
    }
    if k.launch.warp != forms.warp {
        return Err(format!("it is written for warps of {} lanes, and this machine's have {}", k.launch.warp, forms.warp));
    }
    if k.launch.group == 0 || k.launch.group > forms.group || !k.launch.group.is_multiple_of(forms.warp) {
        return Err(format!("a group of {} lanes: whole warps of {} up to {} are possible", k.launch.group, forms.warp, forms.group));
    }
    if k.launch.steps {
        return Err("steps of a launch are for CPUs".into());
    }
    let shared = plot(k)?.bytes;
    let [free, most] = forms.shared;
    if shared > most {
        return Err(format!("{shared} bytes of the group's memory, of which this machine has {most}"));
    }
    let range = |n: &str| k.sym(n).map(|s| (s.lo, s.hi));
    let row = (1..3).any(|i| k.launch.grid[i].bounds(&range).1 > forms.grid[i]);
    Ok(LaunchForm { group: k.launch.group, shared, dynamic: if shared > free { shared } else { 0 }, row })
}

/// Name of the memory that launches ask for.
const DYNAMIC: &str = "pw_shared";

/// What the modules of kernels share: the status of guards, and memory that launches ask for.
pub(super) fn common(guards: bool, dynamic: Option<u32>, out: &mut String) {
    if let Some(align) = dynamic {
        out.push_str(&format!(
            "llvm.mlir.global external @{DYNAMIC}() {{addr_space = 3 : i32, alignment = {align} : i64}} : !llvm.array<0 x i8>\n"
        ));
    }
    if guards {
        out.push_str(GUARD);
    }
}

/// The first launch that fails keeps the words; of its lanes, the one with the smallest position: its position stands in the upper 40 bits
/// of three words, whose lower 24 bits are parts of the value and the code, so that minima of words need no lock.
const GUARD: &str = "\
llvm.func internal @pw_guard(%status: !llvm.ptr<1>, %launch: i64, %code: i32, %at: i64, %value: i64) attributes {no_inline, passthrough = [\"cold\"]} {
  %old = llvm.atomicrmw umin %status, %launch syncscope(\"device\") monotonic : !llvm.ptr<1>, i64
  %later = llvm.icmp \"ult\" %old, %launch : i64
  llvm.cond_br %later, ^end, ^mine
^mine:
  %most = llvm.mlir.constant(1099511627775 : i64) : i64
  %part = llvm.mlir.constant(16777215 : i64) : i64
  %half = llvm.mlir.constant(65535 : i64) : i64
  %c16 = llvm.mlir.constant(16 : i64) : i64
  %c24 = llvm.mlir.constant(24 : i64) : i64
  %c48 = llvm.mlir.constant(48 : i64) : i64
  %near = llvm.icmp \"ult\" %at, %most : i64
  %place = llvm.select %near, %at, %most : i1, i64
  %key = llvm.shl %place, %c24 : i64
  %v0 = llvm.and %value, %part : i64
  %k0 = llvm.or %key, %v0 : i64
  %s1 = llvm.lshr %value, %c24 : i64
  %v1 = llvm.and %s1, %part : i64
  %k1 = llvm.or %key, %v1 : i64
  %s2 = llvm.lshr %value, %c48 : i64
  %v2 = llvm.and %s2, %half : i64
  %wide = llvm.zext %code : i32 to i64
  %c2 = llvm.shl %wide, %c16 : i64
  %w2 = llvm.or %v2, %c2 : i64
  %k2 = llvm.or %key, %w2 : i64
  %p0 = llvm.getelementptr %status[1] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i64
  %p1 = llvm.getelementptr %status[2] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i64
  %p2 = llvm.getelementptr %status[3] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i64
  %o0 = llvm.atomicrmw umin %p0, %k0 syncscope(\"device\") monotonic : !llvm.ptr<1>, i64
  %o1 = llvm.atomicrmw umin %p1, %k1 syncscope(\"device\") monotonic : !llvm.ptr<1>, i64
  %o2 = llvm.atomicrmw umin %p2, %k2 syncscope(\"device\") monotonic : !llvm.ptr<1>, i64
  llvm.br ^end
^end:
  llvm.return
}
";

/// Emits one kernel's function to `out` and returns the alignment of the memory that its launch asks for, if it does.
pub(super) fn emit(
    module: &Module,
    k: &Kernel,
    (spelling, forms): (&Spelling, &'static Forms),
    disjoint: bool,
    loc: &str,
    out: &mut String,
) -> Result<Option<u32>, Fault> {
    let form = launch_form(k, forms)?;
    let Plot { buffers, bars, bytes, align } = plot(k)?;
    let sym = super::kernel::symbol(&k.name);
    let abi_bufs: Vec<BufId> = k.abi_bufs().collect();
    let scalars: Vec<VarId> = k.abi_scalars().collect();
    if k.params.iter().any(|p| matches!(p, Param::TensorMap { .. })) {
        return Err("descriptors of boxes have no form on this machine".into());
    }
    let base = match (bytes, form.dynamic) {
        (0, _) => String::new(),
        (_, 0) => format!("{sym}.shared"),
        _ => DYNAMIC.into(),
    };
    let mut c = Code::new(loc);
    let read = |c: &mut Code, name: &str| {
        let v = c.at_top(|c| c.def(format_args!("llvm.call_intrinsic \"llvm.nvvm.read.ptx.sreg.{name}\"() : () -> i32")));
        c.at_top(|c| c.def(format_args!("arith.extui {v} : i32 to i64")))
    };
    let lane = read(&mut c, "tid.x");
    let group = if form.row {
        [read(&mut c, "ctaid.x"), String::new(), String::new()]
    } else {
        ["x", "y", "z"].map(|a| read(&mut c, &format!("ctaid.{a}")))
    };
    let shift = c.i64(forms.warp.trailing_zeros().into());
    let low = c.i64(i64::from(forms.warp) - 1);
    let warp = c.at_top(|c| c.def(format_args!("arith.shrui {lane}, {shift} : i64")));
    let wlane = c.at_top(|c| c.def(format_args!("arith.andi {lane}, {low} : i64")));
    let mut e = Emit {
        module,
        k,
        spelling,
        c,
        regs: HashMap::new(),
        unrolled: HashMap::new(),
        group,
        grid: Default::default(),
        lanes: Some(Box::new(Lanes { forms, ids: [lane, warp, wlane], shared: buffers, bars, base: base.clone(), role: None, roles: 0 })),
        bufs: abi_bufs.iter().enumerate().map(|(i, b)| (*b, format!("%a{i}"))).collect(),
        dims: HashMap::new(),
        syms: k.syms.iter().enumerate().map(|(i, s)| (s.name.clone(), format!("%s{i}"))).collect(),
    };
    for (i, v) in scalars.iter().enumerate() {
        let value = e.scalar(&format!("%s{}", k.syms.len() + i), *v)?;
        e.regs.insert(*v, vec![Some(value)]);
    }
    // The kernel knows its grid: it is an expression over its symbols.
    for (i, g) in k.launch.grid.iter().enumerate() {
        e.grid[i] = e.dim(g)?;
    }
    if form.row {
        let [x, y, _] = e.grid.clone();
        let flat = e.group[0].clone();
        let part = |c: &mut Code, op: &str, a: &str, b: &str| c.at_top(|c| c.def(format_args!("arith.{op} {a}, {b} : i64")));
        let rest = part(&mut e.c, "divui", &flat, &x);
        e.group = [part(&mut e.c, "remui", &flat, &x), part(&mut e.c, "remui", &rest, &y), part(&mut e.c, "divui", &rest, &y)];
    }
    let body = k.body.clone();
    e.block(&body)?;
    let mut params: Vec<String> = Vec::new();
    for (i, b) in abi_bufs.iter().enumerate() {
        let buf = &k.bufs[*b];
        let mut attrs = vec![format!("llvm.align = {} : i64", buf.align.max(1)), "llvm.nocapture".to_string()];
        attrs.extend(disjoint.then(|| "llvm.noalias".to_string()));
        attrs.extend((!buf.mode.writes()).then(|| "llvm.readonly".to_string()));
        params.push(format!("%a{i}: !llvm.ptr<1> {{{}}}", attrs.join(", ")));
    }
    params.extend((0..k.syms.len() + scalars.len()).map(|i| format!("%s{i}: i64")));
    params.extend(["%status: !llvm.ptr<1>".into(), "%launch: i64".into()]);
    if bytes > 0 && form.dynamic == 0 {
        out.push_str(&format!(
            "llvm.mlir.global internal @{base}() {{addr_space = 3 : i32, alignment = {align} : i64}} : !llvm.array<{bytes} x i8>\n"
        ));
    }
    let Emit { mut c, .. } = e;
    c.op("llvm.return");
    let header = format!(
        "llvm.func ptx_kernelcc @{sym}({}) attributes {{no_unwind, passthrough = [[\"nvvm.reqntid\", \"{}\"]]}}",
        params.join(", "),
        form.group
    );
    c.finish(header, out);
    Ok((form.dynamic > 0).then_some(align))
}

impl Emit<'_> {
    /// MLIR's type of a variable's register.
    pub(super) fn register_type(&self, ty: &Ty) -> String {
        match (ty, &self.lanes) {
            (Ty::Frag(..), Some(_)) => self.fragment_type(ty).unwrap_or_else(|_| "i8".into()),
            _ => reg_type(ty),
        }
    }
    /// Whether the smaller and larger of two floats of a type is one instruction with the zeros in order and NaN kept.
    pub(super) fn ordered_extremes(&self, ty: &Ty) -> bool {
        self.lanes.is_some() && ty.elem() == Some(DType::F32)
    }
    pub(super) fn forms(&self) -> Result<&'static Forms, Fault> {
        self.lanes.as_ref().map(|l| l.forms()).ok_or_else(|| "a machine without lanes".into())
    }

    /// Address of a buffer of the group or of a lane.
    pub(super) fn on_chip(&mut self, b: BufId) -> Result<String, Fault> {
        let buf = &self.k.bufs[b];
        let v = match buf.space {
            Space::Shared => {
                let at = self.lanes.as_ref().and_then(|l| l.shared.get(&b).copied()).ok_or("a buffer without a place")?;
                self.group_memory(at)
            }
            Space::Local => {
                if let Some((base, at)) = buf.alias {
                    let base = self.buffer(base)?;
                    self.c.at_top(|c| c.def(format_args!("llvm.getelementptr {base}[{at}] : (!llvm.ptr) -> !llvm.ptr, i8")))
                } else {
                    let bytes = buf.span_bytes().as_const().filter(|n| (0..1 << 16).contains(n));
                    let bytes = bytes.ok_or_else(|| format!("`{}` of a lane has no small fixed size", buf.name))?;
                    let (one, align) = (self.c.i64(1), buf.align.max(16));
                    self.c.at_top(|c| {
                        c.def(format_args!(
                            "llvm.alloca {one} x !llvm.array<{} x i8> {{alignment = {align} : i64}} : (i64) -> !llvm.ptr",
                            bytes.max(1)
                        ))
                    })
                }
            }
            _ => return Err(format!("`{}` lies in {} memory", buf.name, buf.space.name())),
        };
        self.bufs.insert(b, v.clone());
        Ok(v)
    }
    /// Address of a byte of the group's memory.
    fn group_memory(&mut self, at: u32) -> String {
        let base = self.lanes.as_ref().map(|l| l.base.clone()).unwrap_or_default();
        let p = self.c.shared(&format!("llvm.mlir.addressof @{base} : !llvm.ptr<3>"));
        if at == 0 {
            return p;
        }
        self.c.at_top(|c| c.def(format_args!("llvm.getelementptr {p}[{at}] : (!llvm.ptr<3>) -> !llvm.ptr<3>, i8")))
    }
    /// Calls an intrinsic without a result.
    pub(super) fn intrinsic(&mut self, name: &str, args: &[&str], types: &str) {
        self.c.op(format_args!("llvm.call_intrinsic \"llvm.nvvm.{name}\"({}) : ({types}) -> ()", args.join(", ")));
    }
    /// Calls an intrinsic.
    pub(super) fn computed(&mut self, name: &str, args: &[&str], types: &str, result: &str) -> String {
        self.c.def(format_args!("llvm.call_intrinsic \"llvm.nvvm.{name}\"({}) : ({types}) -> {result}", args.join(", ")))
    }
    /// An integer expression as i32.
    pub(super) fn as_i32(&mut self, e: ExprId) -> Result<String, Fault> {
        let ty = self.k.exprs[e].ty.clone();
        let v = self.expr(e)?;
        self.cast(&v, &ty, &Ty::Scalar(DType::I32), false)
    }

    /// A statement of lanes together.
    pub(super) fn collective(&mut self, s: &Stmt) -> Result<(), Fault> {
        match s {
            Stmt::Barrier(l) => self.barrier(*l),
            Stmt::Role { warps, body, .. } => self.role(*warps, body),
            Stmt::Each { frag, val, coords, body } => self.each(frag, *val, *coords, body),
            Stmt::FragStore { to, val, order, via } => self.fragment_store(to, val, *order, *via),
            Stmt::CopyAsync { dst, src, cond, other, .. } => self.copy_async(dst, src, cond, *other),
            Stmt::Commit(_) if self.forms()?.async_copies => {
                self.intrinsic("cp.async.commit.group", &[], "");
                Ok(())
            }
            Stmt::Wait(_, n) if self.forms()?.async_copies => {
                // Groups of all queues are counted together: with several, only an empty line is sure.
                let n = if self.k.queues.len() > 1 { 0 } else { i32::from(*n) };
                let n = self.c.i32(n);
                self.intrinsic("cp.async.wait.group", &[&n], "i32");
                Ok(())
            }
            Stmt::BarInit(b, n) => {
                let (p, n) = (self.signal(b)?, self.as_i32(*n)?);
                self.intrinsic("mbarrier.init.shared", &[&p, &n], "!llvm.ptr<3>, i32");
                Ok(())
            }
            Stmt::BarArrive(b) => {
                let p = self.signal(b)?;
                self.computed("mbarrier.arrive.shared", &[&p], "!llvm.ptr<3>", "i64");
                Ok(())
            }
            Stmt::BarWait(b, parity) => self.bar_wait(b, *parity),
            Stmt::Commit(_) | Stmt::Wait(..) | Stmt::Alloc(_) | Stmt::Assume(_) | Stmt::Fence(Fence::Init) => Ok(()),
            _ => Err("a statement that only machines with copy engines or matrix units of memory have".into()),
        }
    }

    fn barrier(&mut self, l: Level) -> Result<(), Fault> {
        let role = self.lanes.as_ref().and_then(|l| l.role);
        match (l, role) {
            (Level::Warp, _) => {
                let all = self.c.i32(-1);
                self.intrinsic("bar.warp.sync", &[&all], "i32");
            }
            (Level::Role, Some((id, lanes))) => {
                let (id, lanes) = (self.c.i32(id as i32), self.c.i32(lanes as i32));
                self.intrinsic("barrier.cta.sync.aligned.count", &[&id, &lanes], "i32, i32");
            }
            _ => {
                let zero = self.c.i32(0);
                self.intrinsic("barrier.cta.sync.aligned.all", &[&zero], "i32");
            }
        }
        Ok(())
    }

    fn role(&mut self, warps: Option<(u32, u32)>, body: &portwright_ir::kernel::Block) -> Result<(), Fault> {
        let (Some((first, end)), Some(l)) = (warps, self.lanes.as_mut()) else { return Err("a role without warps".into()) };
        l.roles += 1;
        // The machine has 16 barriers, the first of which is the group's.
        if l.roles > 15 {
            return Err("more roles than there are barriers".into());
        }
        let before = l.role.replace((l.roles, end.saturating_sub(first) * l.forms.warp));
        let warp = l.ids[1].clone();
        let (from, n) = (self.c.i64(first.into()), self.c.i64(end.saturating_sub(first).into()));
        let at = self.c.def(format_args!("arith.subi {warp}, {from} : i64"));
        let on = self.c.def(format_args!("arith.cmpi ult, {at}, {n} : i64"));
        self.branch_on(&on, body, &Vec::new())?;
        if let Some(l) = self.lanes.as_mut() {
            l.role = before;
        }
        Ok(())
    }

    /// Address of a signal.
    fn signal(&mut self, b: &BarRef) -> Result<String, Fault> {
        let Some(l) = self.lanes.as_ref().filter(|l| l.forms.signals) else {
            return Err("phased signals have no form on this machine".into());
        };
        let at = l.bars.get(&b.bar).copied().ok_or("a signal without a place")?;
        let dims = self.k.bars[b.bar].dims.clone();
        let mut sum: Option<String> = None;
        for (d, i) in b.idx.iter().enumerate() {
            let i = self.index(*i)?;
            let stride: u32 = dims.iter().skip(d + 1).product();
            let stride = self.c.i64(stride.into());
            let term = self.c.def(format_args!("arith.muli {i}, {stride} overflow<nsw> : i64"));
            sum = Some(match sum {
                Some(s) => self.c.def(format_args!("arith.addi {s}, {term} overflow<nsw> : i64")),
                None => term,
            });
        }
        let p = self.group_memory(at);
        Ok(match sum {
            Some(s) => self.c.def(format_args!("llvm.getelementptr {p}[{s}] : (!llvm.ptr<3>, i64) -> !llvm.ptr<3>, i64")),
            None => p,
        })
    }
    fn bar_wait(&mut self, b: &BarRef, parity: ExprId) -> Result<(), Fault> {
        let (p, parity) = (self.signal(b)?, self.as_i32(parity)?);
        self.c.open("scf.while : () -> () {");
        let done = self.computed("mbarrier.test.wait.parity.scope.cta.space.cta", &[&p, &parity], "!llvm.ptr<3>, i32", "i1");
        let yes = self.c.constant("i1", "true");
        let more = self.c.def(format_args!("arith.xori {done}, {yes} : i1"));
        self.c.op(format_args!("scf.condition({more})"));
        self.c.between("} do {");
        self.c.op("scf.yield");
        self.c.close();
        Ok(())
    }

    /// A right side of lanes together.
    pub(super) fn exchanged(&mut self, r: &Rhs, ty: &Ty) -> Result<String, Fault> {
        match r {
            Rhs::Shuffle { kind, v, by, width } => self.shuffled(*kind, *v, *by, *width),
            Rhs::Vote(kind, e) => self.vote(*kind, *e, ty),
            Rhs::FragLoad { from, order, via } => self.fragment_load(from, *order, *via, ty),
            Rhs::Mma { .. } => self.product(r),
            Rhs::Fill(e) => self.fragment_fill(*e, ty),
            Rhs::Move(p) => self.fragment_move(p, ty),
            _ => Err("a right side that only machines with tiles have".into()),
        }
    }

    fn vote(&mut self, kind: VoteKind, e: ExprId, ty: &Ty) -> Result<String, Fault> {
        let (all, v) = (self.c.i32(-1), self.expr(e)?);
        Ok(match kind {
            VoteKind::Any => self.computed("vote.any.sync", &[&all, &v], "i32, i1", "i1"),
            VoteKind::All => self.computed("vote.all.sync", &[&all, &v], "i32, i1", "i1"),
            VoteKind::Ballot => {
                let bits = self.computed("vote.ballot.sync", &[&all, &v], "i32, i1", "i32");
                self.cast(&bits, &Ty::Scalar(DType::U32), ty, false)?
            }
        })
    }

    /// A value of another lane, 32 bits at a time.
    fn shuffled(&mut self, kind: ShuffleKind, v: ExprId, by: ExprId, width: u16) -> Result<String, Fault> {
        let warp = self.forms()?.warp;
        if !width.is_power_of_two() || u32::from(width) > warp {
            return Err("a shuffle wider than the warp".into());
        }
        let ty = self.k.exprs[v].ty.clone();
        let (x, by) = (self.expr(v)?, self.as_i32(by)?);
        // Segment in the upper bits, and the lane of it at which a source ends.
        let (name, last) = match kind {
            ShuffleKind::Xor => ("bfly", 31),
            ShuffleKind::Up => ("up", 0),
            ShuffleKind::Down => ("down", 31),
            ShuffleKind::Idx => ("idx", 31),
        };
        let bound = self.c.i32(((warp as i32 - i32::from(width)) << 8) | last);
        let all = self.c.i32(-1);
        let word = |this: &mut Self, w: &str| {
            this.computed(&format!("shfl.sync.{name}.i32"), &[&all, w, &by, &bound], "i32, i32, i32, i32", "i32")
        };
        let d = ty.elem().ok_or("a shuffle of a fragment")?;
        let n = ty.lanes().unwrap_or(1);
        // Truth values and small elements travel alone in a word; whole words as they are.
        let (held, t) = if d == DType::Bool { (self.cast(&x, &ty, &ty.with_elem(DType::U8), false)?, DType::U8) } else { (x, d) };
        let held_ty = ty.with_elem(t);
        let bits = u32::from(n) * reg_bits_of(t);
        let out = if bits.is_multiple_of(32) {
            let words = bits / 32;
            let from = reg_type(&held_ty);
            let wt = if words == 1 { "i32".to_string() } else { format!("vector<{words}xi32>") };
            let mut w = if from == wt { held } else { self.c.def(format_args!("llvm.bitcast {held} : {from} to {wt}")) };
            if words == 1 {
                w = word(self, &w);
            } else {
                for i in 0..words {
                    let at = self.c.i64(i.into());
                    let part = self.c.def(format_args!("llvm.extractelement {w}[{at} : i64] : {wt}"));
                    let part = word(self, &part);
                    w = self.c.def(format_args!("llvm.insertelement {part}, {w}[{at} : i64] : {wt}"));
                }
            }
            if from == wt { w } else { self.c.def(format_args!("llvm.bitcast {w} : {wt} to {from}")) }
        } else if n == 1 {
            let e = elem_type(t);
            let w = self.c.def(format_args!("arith.extui {held} : {e} to i32"));
            let w = word(self, &w);
            self.c.def(format_args!("arith.trunci {w} : i32 to {e}"))
        } else {
            return Err(format!("a shuffle of {bits} bits"));
        };
        if d == DType::Bool { self.cast(&out, &held_ty, &ty, false) } else { Ok(out) }
    }
}

/// Bits of an element in a register.
fn reg_bits_of(d: DType) -> u32 {
    d.bits().max(8)
}
