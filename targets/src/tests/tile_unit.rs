// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A matrix unit in software: the tile instructions of x86-64, executed where the processor refuses them.
//!
//! The code under test is the machine code of a bundle for a CPU with the unit. Its tile instructions raise an illegal-instruction signal
//! here, and the handler does what they do and steps over them.
//!
//! # Source
//! Intel 64 and IA-32 Architectures Software Developer's Manual: LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TILERELEASE, TDPBF16PS,
//! TDPBSSD, TDPBSUD, TDPBUSD, TDPBUUD.

use std::cell::UnsafeCell;
use std::sync::Once;

/// The unit of a thread: a configuration and eight tiles of up to 16 rows of 64 bytes.
struct Unit {
    rows: [u8; 16],
    row_bytes: [u16; 16],
    tiles: [[[u8; 64]; 16]; 8],
}

thread_local! {
    static UNIT: UnsafeCell<Unit> = const { UnsafeCell::new(Unit { rows: [0; 16], row_bytes: [0; 16], tiles: [[[0; 64]; 16]; 8] }) };
}

/// General registers by their number in an instruction.
const REGISTERS: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Executes tile instructions in software from now on, in this process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_illegal;
        // SAFETY: the action is initialized as a whole, and the handler touches the saved registers and the thread's own unit alone.
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut())
        };
        assert_eq!(done, 0, "no handler for illegal instructions");
    });
}

extern "C" fn on_illegal(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands over the context of the interrupted code.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = registers[libc::REG_RIP as usize] as *const u8;
    let length = UNIT.with(|u| {
        // SAFETY: the thread's own unit; the handler is not entered twice in a thread.
        let unit = unsafe { &mut *u.get() };
        // SAFETY: `at` is code, and an instruction that ends before 15 bytes is followed by mapped memory of the library.
        unsafe { unit.step(at, registers) }
    });
    match length {
        Some(n) => registers[libc::REG_RIP as usize] += n as i64,
        None => {
            // Not ours: the instruction is met again, and ends the process.
            // SAFETY: resets the action of one signal.
            unsafe { libc::signal(libc::SIGILL, libc::SIG_DFL) };
        }
    }
}

/// What an instruction's ModRM byte and what follows it name.
struct Operand {
    /// Field `reg`.
    reg: usize,
    /// Field `rm`, if it is a register.
    register: Option<usize>,
    /// First address and distance of rows, if it is memory.
    memory: (i64, i64),
    /// Bytes of the instruction.
    length: usize,
}

impl Unit {
    /// Executes the instruction at `at`; its length, or `None` if it is no tile instruction.
    unsafe fn step(&mut self, at: *const u8, registers: &[libc::greg_t]) -> Option<usize> {
        // SAFETY: as the caller says.
        let byte = |i: usize| unsafe { *at.add(i) };
        // VEX with three bytes, map 0F38, W0, 128 bits.
        if byte(0) != 0xC4 || byte(1) & 0x1F != 2 || byte(2) & 0x84 != 0 {
            return None;
        }
        let extend = |bit: u8| if byte(1) >> bit & 1 == 0 { 8 } else { 0 };
        let (second, prefix) = (usize::from(!(byte(2) >> 3) & 15), byte(2) & 3);
        let (opcode, modrm) = (byte(3), byte(4));
        let mode = modrm >> 6;
        let mut o = Operand { reg: usize::from(modrm >> 3 & 7), register: None, memory: (0, 0), length: 5 };
        let value = |n: usize| registers[REGISTERS[n] as usize];
        if mode == 3 {
            o.register = Some(usize::from(modrm & 7));
        } else {
            let (mut base, mut stride) = (usize::from(modrm & 7) + extend(5), 0);
            let mut no_base = mode == 0 && modrm & 7 == 5;
            if modrm & 7 == 4 {
                let sib = byte(5);
                o.length += 1;
                base = usize::from(sib & 7) + extend(5);
                no_base = mode == 0 && sib & 7 == 5;
                let index = usize::from(sib >> 3 & 7) + extend(6);
                if index != 4 {
                    stride = value(index) << (sib >> 6);
                }
            }
            let bytes = match mode {
                1 => 1,
                2 => 4,
                _ if no_base => 4,
                _ => 0,
            };
            let word = (0..bytes).fold(0u32, |w, i| w | u32::from(byte(o.length + i)) << (8 * i));
            o.length += bytes;
            let shift = if bytes == 1 { i64::from(word as u8 as i8) } else { i64::from(word as i32) };
            let rip = at as i64 + o.length as i64;
            let start = match (no_base, modrm & 7 == 4) {
                (true, false) => rip,
                (true, true) => 0,
                _ => value(base),
            };
            o.memory = (start + shift, stride);
        }
        // SAFETY: the addresses are those that the instruction would touch.
        unsafe { self.execute(opcode, prefix, second, &o) }.then_some(o.length)
    }

    unsafe fn execute(&mut self, opcode: u8, prefix: u8, second: usize, o: &Operand) -> bool {
        match (opcode, prefix, o.register) {
            (0x49, 0, None) => {
                for i in 0..16 {
                    // SAFETY: 64 bytes of configuration.
                    unsafe {
                        self.row_bytes[i] = ((o.memory.0 + 16 + 2 * i as i64) as *const u16).read_unaligned();
                        self.rows[i] = *((o.memory.0 + 48 + i as i64) as *const u8);
                    }
                }
                self.tiles = [[[0; 64]; 16]; 8];
            }
            (0x49, 0, Some(_)) => *self = Unit { rows: [0; 16], row_bytes: [0; 16], tiles: [[[0; 64]; 16]; 8] },
            (0x49, 3, Some(_)) => self.tiles[o.reg] = [[0; 64]; 16],
            (0x4B, 3 | 1, None) => {
                self.tiles[o.reg] = [[0; 64]; 16];
                for r in 0..usize::from(self.rows[o.reg]) {
                    let from = (o.memory.0 + o.memory.1 * r as i64) as *const u8;
                    let n = usize::from(self.row_bytes[o.reg]);
                    // SAFETY: as the caller says.
                    unsafe { std::ptr::copy_nonoverlapping(from, self.tiles[o.reg][r].as_mut_ptr(), n) };
                }
            }
            (0x4B, 2, None) => {
                for r in 0..usize::from(self.rows[o.reg]) {
                    let to = (o.memory.0 + o.memory.1 * r as i64) as *mut u8;
                    // SAFETY: as the caller says.
                    unsafe { std::ptr::copy_nonoverlapping(self.tiles[o.reg][r].as_ptr(), to, usize::from(self.row_bytes[o.reg])) };
                }
            }
            (0x5C, 2, Some(a)) => self.products(o.reg, a, second, |c, a, b| {
                let half = |x: &[u8], i: usize| {
                    let v = f32::from_bits(u32::from(u16::from_le_bytes([x[2 * i], x[2 * i + 1]])) << 16);
                    if v.is_subnormal() { 0.0 } else { v }
                };
                // Pairs are summed apart: the unit adds all even and all odd products of a row first.
                [c[0] + half(a, 0) * half(b, 0), c[1] + half(a, 1) * half(b, 1)]
            }),
            (0x5E, kind, Some(a)) => {
                let wide = |x: u8, signed: bool| if signed { i32::from(x as i8) } else { i32::from(x) };
                let (left, right) = (kind & 2 != 0, kind == 3 || kind == 1);
                self.dots(o.reg, a, second, |a, b| wide(a, left).wrapping_mul(wide(b, right)));
            }
            _ => return false,
        }
        true
    }

    fn extent(&self, to: usize, a: usize) -> (usize, usize, usize) {
        (usize::from(self.rows[to]), usize::from(self.row_bytes[to]) / 4, usize::from(self.row_bytes[a]) / 4)
    }

    fn products(&mut self, to: usize, a: usize, b: usize, f: impl Fn([f32; 2], &[u8], &[u8]) -> [f32; 2]) {
        let (rows, columns, depth) = self.extent(to, a);
        for m in 0..rows {
            for n in 0..columns {
                let pair = (0..depth).fold([0.0; 2], |c, k| f(c, &self.tiles[a][m][4 * k..4 * k + 4], &self.tiles[b][k][4 * n..4 * n + 4]));
                self.add(to, m, n, |c| (f32::from_bits(c) + (pair[0] + pair[1])).to_bits());
            }
        }
    }

    fn dots(&mut self, to: usize, a: usize, b: usize, f: impl Fn(u8, u8) -> i32) {
        let (rows, columns, depth) = self.extent(to, a);
        for m in 0..rows {
            for n in 0..columns {
                let at = |k: usize, i: usize| f(self.tiles[a][m][4 * k + i], self.tiles[b][k][4 * n + i]);
                let sum = (0..depth).flat_map(|k| (0..4).map(move |i| (k, i))).fold(0i32, |s, (k, i)| s.wrapping_add(at(k, i)));
                self.add(to, m, n, |c| (c as i32).wrapping_add(sum) as u32);
            }
        }
    }

    fn add(&mut self, to: usize, m: usize, n: usize, f: impl Fn(u32) -> u32) {
        let cell = &mut self.tiles[to][m][4 * n..4 * n + 4];
        let old = cell.iter().rev().fold(0u32, |v, b| v << 8 | u32::from(*b));
        cell.copy_from_slice(&f(old).to_le_bytes());
    }
}
