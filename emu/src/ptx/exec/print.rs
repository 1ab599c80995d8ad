// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vprintf`.

use super::{At, Exec, R};
use crate::ptx::instr::{LANES, SINK};

/// A text or list of arguments that is longer than this is cut.
const LONGEST: u64 = 4096;

impl Exec<'_, '_> {
    /// Prints as C does: the frame's last parameters are the addresses of the format and of the arguments. What is no format prints as it
    /// stands.
    pub(super) fn print(&mut self, at: At<'_>) -> R<()> {
        let slots: Vec<u32> = (0..2).filter_map(|i| at.code.pool.get(at.i.a as usize + i).copied()).collect();
        let [format, args] = slots[..] else { return Ok(()) };
        for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
            let f = &self.w.frame(at.frame).params;
            let len = f.len() / LANES;
            let word = |o: u32| {
                f.get(l * len + o as usize..l * len + o as usize + 8)
                    .map_or(0, |b| b.iter().rev().fold(0u64, |s, x| s << 8 | u64::from(*x)))
            };
            let (format, args) = (word(format), word(args));
            let text = self.text(l, format);
            let out = self.format(l, &text, args);
            self.cl.counts.printed.push_str(&out);
        }
        if at.i.d != SINK {
            let f = &mut self.w.frame(at.frame).params;
            let len = f.len() / LANES;
            for l in (0..LANES).filter(|l| at.m >> l & 1 != 0) {
                if let Some(b) = f.get_mut(l * len + at.i.d as usize..l * len + at.i.d as usize + 4) {
                    b.fill(0);
                }
            }
        }
        Ok(())
    }

    /// Bytes at a generic address of a lane; what is not there is zero.
    fn bytes(&self, lane: usize, address: u64, n: usize) -> Vec<u8> {
        let mut out = vec![0; n];
        match crate::ptx::ty::window(address) {
            (crate::ptx::ty::Space::Local, a) => {
                let len = self.w.local_len as usize;
                let local = self.w.local.get(lane * len..(lane + 1) * len).unwrap_or(&[]);
                for (i, b) in out.iter_mut().enumerate() {
                    *b = usize::try_from(a).ok().and_then(|a| local.get(a.checked_add(i)?)).copied().unwrap_or(0);
                }
            }
            _ => {
                self.run.memory.read(address, &mut out);
            }
        }
        out
    }

    fn text(&self, lane: usize, address: u64) -> String {
        let mut s = String::new();
        for i in 0..LONGEST {
            match self.bytes(lane, address.wrapping_add(i), 1)[0] {
                0 => break,
                b => s.push(b as char),
            }
        }
        s
    }

    fn format(&self, lane: usize, text: &str, mut args: u64) -> String {
        let mut out = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let (mut spec, mut longs) = (String::new(), 0);
            while let Some(c) = chars.next_if(|c| "-+ #0123456789.lhzj".contains(*c)) {
                if "lzj".contains(c) { longs += 1 } else { spec.push(c) }
            }
            let Some(kind) = chars.next() else { break };
            if kind == '%' {
                out.push('%');
                continue;
            }
            let wide = longs > 0 || "fFeEgGsp".contains(kind);
            let size: u64 = if wide { 8 } else { 4 };
            args = args.next_multiple_of(size);
            let raw = self.bytes(lane, args, size as usize).iter().rev().fold(0u64, |s, b| s << 8 | u64::from(*b));
            args += size;
            let precision: usize = spec.split('.').nth(1).and_then(|p| p.parse().ok()).unwrap_or(6).min(64);
            let body = match kind {
                'd' | 'i' if wide => (raw as i64).to_string(),
                'd' | 'i' => (raw as u32 as i32).to_string(),
                'u' => raw.to_string(),
                'x' => format!("{raw:x}"),
                'X' => format!("{raw:X}"),
                'p' => format!("{raw:#x}"),
                'c' => char::from(raw as u8).to_string(),
                's' => self.text(lane, raw),
                'e' | 'E' | 'g' | 'G' => format!("{}", f64::from_bits(raw)),
                'f' | 'F' => format!("{:.precision$}", f64::from_bits(raw)),
                other => format!("%{spec}{other}"),
            };
            let head = spec.split('.').next().unwrap_or("");
            let width: usize = head.trim_start_matches(['-', '+', ' ', '#', '0']).parse().unwrap_or(0).min(256);
            out.push_str(&if head.contains('-') { format!("{body:<width$}") } else { format!("{body:>width$}") });
        }
        out
    }
}
