// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory of a run: arguments, on-chip buffers, which units were written, and who may race.

use super::code::{BufShape, Program};
use super::order::{GroupShadow, Other, Shadow, Who};
use super::{Args, FaultKind, Memory, Run, Stop};
use crate::entity::EntityId;
use crate::kernel::{Class, Kernel, Param, Space, Stmt};
use crate::numerics;

/// Where the bytes of a buffer are.
#[derive(Copy, Clone, Debug)]
enum Loc {
    Global { piece: usize, at: usize },
    Chip { store: usize, at: usize, per_lane: usize },
}

#[derive(Copy, Clone, Debug)]
pub(super) struct Buf {
    loc: Loc,
    /// Bytes of an element; 0 for packed dtypes.
    size: usize,
    bits: u32,
    is_bool: bool,
    dtype: crate::dtype::DType,
    shadow: Option<usize>,
}

/// On-chip memory.
struct Store {
    bytes: Vec<u8>,
    /// Whether a byte was written.
    init: Vec<bool>,
    /// Of bytes that matrix units may read: who wrote them plainly and has not fenced since, plus one.
    plain: Vec<u32>,
}

enum Watch {
    Group(GroupShadow),
    Full(Shadow),
}

pub(super) struct Mem<'r, 'm> {
    pieces: &'r mut [Memory<'m>],
    pub bufs: Vec<Buf>,
    stores: Vec<Store>,
    watches: Vec<Watch>,
    /// Watches of on-chip memory, which begin anew with each group.
    chip_watches: Vec<usize>,
    pub loaded: u64,
    /// Bytes of global memory loaded, and stored.
    pub global: [u64; 2],
    pub stored: u64,
    /// Number of lanes of all streams; agents above are engines.
    agents: u32,
    names: Vec<String>,
}

fn argument<T>(message: impl Into<String>) -> Run<T> {
    Err(Stop::new(FaultKind::Arguments, message))
}

impl<'r, 'm> Mem<'r, 'm> {
    pub(super) fn new(k: &Kernel, p: &Program, pieces: &'r mut [Memory<'m>], args: &Args, races: bool) -> Run<Self> {
        let agents = p.lanes as usize * (1 + p.roles.len());
        let asynchronous = k.stmts.values().any(|s| matches!(s, Stmt::CopyAsync { .. } | Stmt::CopyBulk { .. } | Stmt::MmaAsync { .. }));
        let units = k.stmts.values().any(|s| matches!(s, Stmt::MmaAsync { .. }));
        let single = agents == 1 && !asynchronous;
        let mut watches = Vec::new();
        let mut chip_watches = Vec::new();
        let mut stores: Vec<Store> = Vec::new();
        let mut bufs: Vec<Buf> = Vec::new();
        let mut given = args.bufs.iter();
        let mut seen: Vec<(usize, usize, usize, usize, Option<usize>, bool)> = Vec::new();
        let params: Vec<_> = k.abi_bufs().collect();
        if params.len() != args.bufs.len() {
            return argument(format!("{} buffers for {} parameters", args.bufs.len(), params.len()));
        }
        let scalars = k.params.iter().filter(|p| matches!(p, Param::Scalar(_))).count();
        if scalars != args.scalars.len() {
            return argument(format!("{} scalars for {scalars} parameters", args.scalars.len()));
        }
        for ((id, b), shape) in k.bufs.iter().zip(&p.bufs) {
            let size = b.dtype.bytes().unwrap_or(0) as usize;
            let bytes = shape.bytes as usize;
            let mut buf = Buf {
                loc: Loc::Global { piece: 0, at: 0 },
                size,
                bits: b.dtype.bits(),
                is_bool: b.dtype == crate::dtype::DType::Bool,
                dtype: b.dtype,
                shadow: None,
            };
            if b.space == Space::Global {
                let at = params.iter().position(|x| *x == id);
                let Some((piece, at)) = at.and_then(|i| args.bufs.get(i)).copied() else {
                    return argument(format!("buffer `{}` is no parameter", b.name));
                };
                given.next();
                let Some(m) = pieces.get(piece) else { return argument(format!("`{}` lies in no piece of memory", b.name)) };
                if at.checked_add(bytes).is_none_or(|end| end > m.bytes().len()) {
                    return argument(format!("`{}` needs {bytes} bytes from byte {at}, there are {}", b.name, m.bytes().len()));
                }
                if b.mode.writes() && matches!(m, Memory::Ro(_)) && k.params.contains(&Param::Buf(id)) {
                    return argument(format!("`{}` is written, its memory is only read", b.name));
                }
                buf.loc = Loc::Global { piece, at };
                let writes = b.mode.writes();
                let unit = size.max(1);
                // Parameters in one place share a watch; others must not meet where one is written.
                let twin = seen.iter().find(|s| s.0 == piece && s.1 == at && s.3 == unit && s.2 == bytes).copied();
                let clash = seen.iter().any(|s| {
                    s.0 == piece && s.1 < at + bytes && at < s.1 + s.2 && (writes || s.5) && !(s.1 == at && s.3 == unit && s.2 == bytes)
                });
                if clash {
                    return argument(format!("`{}` overlaps another parameter", b.name));
                }
                let written = writes || (seen.iter().any(|s| s.0 == piece && s.1 == at && s.5));
                if races && written {
                    buf.shadow = twin.and_then(|t| t.4).or_else(|| {
                        let units = bytes.div_ceil(unit);
                        watches.push(if single { Watch::Group(GroupShadow::new(units)) } else { Watch::Full(Shadow::new(units)) });
                        Some(watches.len() - 1)
                    });
                    // A reader that came before the writer of the same place is watched as well.
                    for (other, s) in bufs.iter_mut().zip(k.bufs.iter()) {
                        if matches!(other.loc, Loc::Global { piece: p2, at: a2 } if p2 == piece && a2 == at) && s.1.space == Space::Global {
                            other.shadow = buf.shadow;
                        }
                    }
                }
                seen.push((piece, at, bytes, unit, buf.shadow, writes));
            } else {
                let lanes = if matches!(b.space, Space::Local) || (b.space == Space::Acc && k.class == Class::TileCore) {
                    p.lanes as usize
                } else {
                    1
                };
                let per_lane = if lanes > 1 { bytes } else { 0 };
                if let Some((base, off)) = b.alias {
                    let Some(Buf { loc: Loc::Chip { store, at, per_lane }, .. }) = bufs.get(base.index()).copied() else {
                        return argument(format!("`{}` shares the bytes of no on-chip buffer", b.name));
                    };
                    let at = at + off as usize;
                    let room = if per_lane > 0 { per_lane } else { stores[store].bytes.len() };
                    if at + bytes > room {
                        return argument(format!("`{}` reaches beyond the buffer whose bytes it shares", b.name));
                    }
                    buf.loc = Loc::Chip { store, at, per_lane };
                    buf.shadow = bufs[base.index()].shadow;
                } else {
                    let plain = if units && b.space == Space::Shared { vec![0; bytes] } else { Vec::new() };
                    stores.push(Store { bytes: vec![0; bytes * lanes], init: vec![false; bytes * lanes], plain });
                    buf.loc = Loc::Chip { store: stores.len() - 1, at: 0, per_lane };
                    // Only one agent sees `local` memory, unless roles or engines do.
                    if races && (b.space == Space::Shared || !p.roles.is_empty() || asynchronous) && !single {
                        watches.push(Watch::Full(Shadow::new(bytes * lanes)));
                        chip_watches.push(watches.len() - 1);
                        buf.shadow = Some(watches.len() - 1);
                    }
                }
            }
            bufs.push(buf);
        }
        Ok(Mem {
            pieces,
            bufs,
            stores,
            watches,
            chip_watches,
            loaded: 0,
            global: [0; 2],
            stored: 0,
            agents: agents as u32,
            names: k.bufs.values().map(|b| b.name.clone()).collect(),
        })
    }

    /// On-chip memory as a new group finds it.
    pub(super) fn new_group(&mut self) {
        for s in &mut self.stores {
            s.init.fill(false);
            s.plain.fill(0);
        }
        for w in &self.chip_watches {
            if let Watch::Full(s) = &mut self.watches[*w] {
                s.clear();
            }
        }
    }
    /// All groups so far have ended before any that comes.
    pub(super) fn new_step(&mut self) {
        for w in &mut self.watches {
            match w {
                Watch::Group(s) => s.clear(),
                Watch::Full(s) => s.clear(),
            }
        }
    }
    /// The bytes of a buffer are poison again.
    pub(super) fn alloc(&mut self, buf: usize, shape: &BufShape) {
        if let Loc::Chip { store, at, per_lane } = self.bufs[buf].loc {
            let n = shape.bytes as usize;
            let init = &mut self.stores[store].init;
            let lanes = init.len().checked_div(per_lane).unwrap_or(1);
            for l in 0..lanes {
                init[l * per_lane + at..l * per_lane + at + n].fill(false);
            }
        }
    }

    /// What an agent wrote plainly becomes visible to matrix units.
    pub(super) fn fence(&mut self, agent: u32) {
        for p in self.stores.iter_mut().flat_map(|s| &mut s.plain) {
            if *p == agent + 1 {
                *p = 0;
            }
        }
    }
    /// A matrix unit reads an element: whoever wrote it plainly has fenced.
    pub(super) fn unit_reads(&self, buf: usize, e: usize) -> Run<()> {
        let b = self.bufs[buf];
        let Loc::Chip { store, at, .. } = b.loc else { return Ok(()) };
        let (off, len) = Self::byte_range(&b, e, 1);
        let plain = self.stores[store].plain.get(at + off..at + off + len);
        if plain.is_some_and(|p| p.iter().any(|x| *x != 0)) {
            let name = self.names.get(buf).map_or("?", |n| n.as_str());
            let m = format!("a matrix unit reads element {e} of `{name}`, which was stored without a `fence proxy` behind it");
            return Err(Stop::new(FaultKind::InFlight, m));
        }
        Ok(())
    }

    fn byte_range(b: &Buf, e: usize, n: usize) -> (usize, usize) {
        if b.size > 0 { (e * b.size, n * b.size) } else { (e * b.bits as usize / 8, (n * b.bits as usize).div_ceil(8).max(1)) }
    }
    fn units(&self, b: &Buf, lane: u32, e: usize, n: usize) -> std::ops::Range<usize> {
        let (off, len) = Self::byte_range(b, e, n);
        match b.loc {
            // The shadow of an argument has a unit an element, that of on-chip memory a unit a byte.
            Loc::Global { .. } => off / b.size.max(1)..off / b.size.max(1) + len.div_ceil(b.size.max(1)),
            Loc::Chip { at, per_lane, .. } => {
                let start = lane as usize * per_lane + at + off;
                start..start + len
            }
        }
    }

    fn race(&self, buf: usize, e: usize, write: bool, o: Other) -> Stop {
        let name = self.names.get(buf).map_or("?", |n| n.as_str());
        let what = if write { "writes" } else { "reads" };
        let engine = matches!(o, Other::Write { agent, .. } | Other::Read { agent, .. } if agent >= self.agents);
        if engine {
            let doing = if matches!(o, Other::Write { .. }) { "is being written" } else { "is being read" };
            let m = format!("{what} element {e} of `{name}`, which {doing} by an operation that has not landed for this lane");
            return Stop::new(FaultKind::InFlight, m);
        }
        let other = match o {
            Other::Write { agent, group } => format!("agent {agent} of group {} wrote", group.wrapping_sub(1)),
            Other::Read { agent, group } => format!("agent {agent} of group {} read", group.wrapping_sub(1)),
            Other::Reads => "another group read".into(),
        };
        Stop::new(FaultKind::Race, format!("{what} element {e} of `{name}`, which {other} without an order between the two"))
    }
    /// Notes a read or write of `n` elements from `e` on.
    pub(super) fn touch(&mut self, buf: usize, lane: u32, e: usize, n: usize, write: bool, who: &Who) -> Run<()> {
        let b = self.bufs[buf];
        if let (true, Loc::Chip { store, at, .. }) = (write, b.loc)
            && !self.stores[store].plain.is_empty()
        {
            let (off, len) = Self::byte_range(&b, e, n);
            self.stores[store].plain[at + off..at + off + len].fill(if who.plain { who.issuer.0 + 1 } else { 0 });
        }
        let Some(s) = b.shadow else { return Ok(()) };
        let units = self.units(&b, lane, e, n);
        let result = match &mut self.watches[s] {
            Watch::Group(g) => {
                let r = if write { g.write(units, who.group, who.atomic) } else { g.read(units, who.group) };
                r.map_err(|(_, group)| if group == 0 { Other::Reads } else { Other::Write { group, agent: 0 } })
            }
            Watch::Full(f) => {
                let mut r = Ok(());
                for u in units {
                    r = if write { f.write(u, who) } else { f.read(u, who) };
                    if r.is_err() {
                        break;
                    }
                }
                r
            }
        };
        result.map_err(|o| self.race(buf, e, write, o))
    }

    fn bytes(&self, b: &Buf, lane: u32) -> &[u8] {
        match b.loc {
            Loc::Global { piece, at } => &self.pieces[piece].bytes()[at..],
            Loc::Chip { store, at, per_lane } => &self.stores[store].bytes[lane as usize * per_lane + at..],
        }
    }
    fn bytes_mut(&mut self, b: &Buf, lane: u32) -> &mut [u8] {
        match b.loc {
            Loc::Global { piece, at } => match &mut self.pieces[piece] {
                Memory::Rw(m) => &mut m[at..],
                Memory::Ro(_) => &mut [],
            },
            Loc::Chip { store, at, per_lane } => &mut self.stores[store].bytes[lane as usize * per_lane + at..],
        }
    }

    /// Bits of `n` neighbors from element `e` on, `stride` apart in `out`.
    pub(super) fn get(&mut self, buf: usize, lane: u32, e: usize, out: &mut [u64], stride: usize, n: usize) -> Run<()> {
        let b = self.bufs[buf];
        self.loaded += n as u64;
        if matches!(b.loc, Loc::Global { .. }) {
            self.global[0] += (n * b.size) as u64;
        }
        if let Loc::Chip { store, at, per_lane } = b.loc {
            let (off, len) = Self::byte_range(&b, e, n);
            let start = lane as usize * per_lane + at + off;
            if let Some(i) = self.stores[store].init[start..start + len].iter().position(|i| !i) {
                let e = e + i.checked_div(b.size).unwrap_or(0);
                let name = self.names.get(buf).map_or("?", |n| n.as_str());
                return Err(Stop::new(FaultKind::Uninitialized, format!("reads element {e} of `{name}`, which nobody wrote")));
            }
        }
        let src = self.bytes(&b, lane);
        let outs = out.iter_mut().step_by(stride).take(n);
        match b.size {
            4 => {
                for (o, c) in outs.zip(src[e * 4..].chunks_exact(4)) {
                    *o = u64::from(u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
                }
            }
            1 if b.is_bool => outs.zip(&src[e..]).for_each(|(o, c)| *o = u64::from(*c != 0)),
            1 => outs.zip(&src[e..]).for_each(|(o, c)| *o = u64::from(*c)),
            2 => outs.zip(src[e * 2..].chunks_exact(2)).for_each(|(o, c)| *o = u64::from(u16::from_le_bytes([c[0], c[1]]))),
            8 => {
                for (o, c) in outs.zip(src[e * 8..].chunks_exact(8)) {
                    let mut w = [0; 8];
                    w.copy_from_slice(c);
                    *o = u64::from_le_bytes(w);
                }
            }
            _ => outs.enumerate().for_each(|(i, o)| *o = numerics::get(src, b.dtype, e + i)),
        }
        Ok(())
    }
    pub(super) fn put(&mut self, buf: usize, lane: u32, e: usize, src: &[u64], stride: usize, n: usize) {
        let b = self.bufs[buf];
        self.stored += n as u64;
        if matches!(b.loc, Loc::Global { .. }) {
            self.global[1] += (n * b.size) as u64;
        }
        if let Loc::Chip { store, at, per_lane } = b.loc {
            let (off, len) = Self::byte_range(&b, e, n);
            let start = lane as usize * per_lane + at + off;
            self.stores[store].init[start..start + len].fill(true);
        }
        let dst = self.bytes_mut(&b, lane);
        let src = src.iter().step_by(stride).take(n);
        match b.size {
            4 => src.zip(dst[e * 4..].chunks_exact_mut(4)).for_each(|(v, c)| c.copy_from_slice(&(*v as u32).to_le_bytes())),
            1 => src.zip(&mut dst[e..]).for_each(|(v, c)| *c = *v as u8),
            2 => src.zip(dst[e * 2..].chunks_exact_mut(2)).for_each(|(v, c)| c.copy_from_slice(&(*v as u16).to_le_bytes())),
            8 => src.zip(dst[e * 8..].chunks_exact_mut(8)).for_each(|(v, c)| c.copy_from_slice(&v.to_le_bytes())),
            _ => src.enumerate().for_each(|(i, v)| numerics::set(dst, b.dtype, e + i, *v)),
        }
    }
}
