// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A device with one module, and numbers to put on it.

use std::path::Path;

use portwright_emu::ptx::{Counts, Fault, Launch, Loaded, Machine, Module, Options, Param};

/// Numbers that can lie in device memory.
pub trait Plain: Copy + Default {
    const BYTES: usize;
    fn put(self, out: &mut Vec<u8>);
    fn get(b: &[u8]) -> Self;
}

macro_rules! plain {
    ($($t:ty),*) => {$(
        impl Plain for $t {
            const BYTES: usize = size_of::<$t>();
            fn put(self, out: &mut Vec<u8>) { out.extend(self.to_le_bytes()) }
            fn get(b: &[u8]) -> $t { <$t>::from_le_bytes(b.try_into().unwrap()) }
        }
    )*};
}
plain!(u8, u16, u32, u64, i8, i32, i64, f32, f64);

pub struct Device {
    pub machine: Machine,
    pub loaded: Loaded,
}

impl Device {
    /// The module of a file beside the tests.
    pub fn new(file: &str) -> Device {
        Device::with(file, Options::default())
    }

    pub fn with(file: &str, options: Options) -> Device {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ptx").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Device::text(&text, options)
    }

    pub fn text(text: &str, options: Options) -> Device {
        let module = Module::parse(text).unwrap_or_else(|e| panic!("{e}"));
        let mut machine = Machine::new(options);
        let loaded = machine.load(module);
        Device { machine, loaded }
    }

    pub fn put<T: Plain>(&mut self, name: &str, v: &[T]) -> u64 {
        let mut bytes = Vec::new();
        v.iter().for_each(|x| x.put(&mut bytes));
        let a = self.machine.alloc(bytes.len() as u64, name);
        assert!(self.machine.write(a, &bytes));
        a
    }

    pub fn zeros<T: Plain>(&mut self, name: &str, n: usize) -> u64 {
        self.put(name, &vec![T::default(); n])
    }

    pub fn get<T: Plain>(&self, address: u64, n: usize) -> Vec<T> {
        let mut bytes = vec![0; n * T::BYTES];
        assert!(self.machine.read(address, &mut bytes));
        bytes.chunks(T::BYTES).map(T::get).collect()
    }

    pub fn try_run(&mut self, kernel: &str, launch: &Launch) -> Result<Counts, Box<Fault>> {
        self.machine.launch(&self.loaded, kernel, launch)
    }

    pub fn run(&mut self, kernel: &str, grid: u32, block: u32, params: Vec<Param>) -> Counts {
        let launch = Launch::new([grid, 1, 1], [block, 1, 1], params);
        self.try_run(kernel, &launch).unwrap_or_else(|f| panic!("{f}"))
    }
}

/// Numbers in [-1, 1) that are the same every time.
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn f(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn list(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.f()).collect()
    }
}

/// Fails where numbers differ by more than `abs + rel * |expected|`.
pub fn close(got: &[f32], want: &[f64], abs: f64, rel: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let d = (f64::from(*g) - w).abs();
        assert!(d <= abs + rel * w.abs(), "element {i}: {g} where {w} is right");
    }
}
