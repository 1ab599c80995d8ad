// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the processor at hand can do at most, measured in a tenth of a second: bytes a second by how many are read again and again, and
//! f32 multiply-adds a second. A profile compares kernels with it.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes of the memory that is read, per thread: of a second-level cache, of the caches beyond, of memory.
const SIZES: [usize; 3] = [256 << 10, 4 << 20, 64 << 20];

/// How long each rate is measured.
const EACH: Duration = Duration::from_millis(25);

/// Rates of all threads together.
#[derive(Clone, Debug)]
pub struct Rates {
    threads: usize,
    /// Bytes a nanosecond, by [`SIZES`].
    bytes: [f64; 3],
    /// Products a nanosecond; none where no vector instructions are known.
    products: Option<f64>,
}

impl Rates {
    /// Nanoseconds that no kernel takes less than: for so many bytes a launch, and bytes and products in all.
    pub fn least_ns(&self, launch: u64, bytes: u64, products: u64) -> Option<f64> {
        let at = SIZES.iter().position(|&s| launch <= (s * self.threads) as u64).unwrap_or(SIZES.len() - 1);
        let reading = bytes as f64 / self.bytes.get(at).copied().filter(|r| *r > 0.0)?;
        let computing = match (products, self.products) {
            (0, _) => 0.0,
            (n, Some(rate)) => n as f64 / rate,
            (_, None) => return None,
        };
        Some(reading.max(computing))
    }
    /// For scripts: GB/s by bytes read again and again, GFLOP/s.
    pub fn json(&self) -> serde_json::Value {
        let bandwidth: Vec<_> = SIZES.iter().zip(self.bytes).map(|(s, r)| serde_json::json!({"bytes": s, "gb_per_s": r})).collect();
        serde_json::json!({"threads": self.threads, "bandwidth": bandwidth, "f32_gflops": self.products.map(|p| 2.0 * p)})
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [near, far, memory] = self.bytes;
        write!(f, "{near:.0} GB/s up to 256 kB a thread, {far:.0} up to 4 MB, {memory:.0} from memory")?;
        match self.products {
            Some(p) => write!(f, ", {:.0} GFLOP/s of f32", 2.0 * p),
            None => Ok(()),
        }
    }
}

/// Measures with that many threads at once.
pub fn measure(threads: usize) -> Rates {
    let threads = threads.max(1);
    let all = |work: &(dyn Fn() -> f64 + Sync)| -> f64 {
        std::thread::scope(|s| {
            let started: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
            started.into_iter().map(|t| t.join().unwrap_or(0.0)).sum()
        })
    };
    let bytes = SIZES.map(|size| all(&|| reading(size)));
    let products = all(&|| multiplying().unwrap_or(0.0));
    Rates { threads, bytes, products: (products > 0.0).then_some(products) }
}

/// Units a nanosecond of `once`, which does `units`.
fn rate(units: f64, mut once: impl FnMut()) -> f64 {
    once();
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < EACH {
        let start = Instant::now();
        once();
        best = best.min(start.elapsed().as_nanos().max(1) as f64);
    }
    units / best
}

/// Bytes a nanosecond of one thread that reads `size` bytes over and over.
fn reading(size: usize) -> f64 {
    let data = vec![1u64; size / 8];
    let passes = ((1 << 20) / size).max(1);
    rate((size * passes) as f64, || (0..passes).for_each(|_| read(black_box(&data))))
}

fn read(data: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn wide(data: &[u64]) {
            sum(data);
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions that the function is compiled for.
            return unsafe { wide(data) };
        }
    }
    sum(data);
}

#[inline(always)]
fn sum(data: &[u64]) {
    let mut sums = [0u64; 32];
    for chunk in data.chunks_exact(32) {
        for (s, v) in sums.iter_mut().zip(chunk) {
            *s = s.wrapping_add(*v);
        }
    }
    black_box(sums);
}

/// Independent sums that hide the time of one multiply-add.
const CHAINS: usize = 16;
const STEPS: usize = 4096;

#[cfg(target_arch = "x86_64")]
fn multiplying() -> Option<f64> {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};
    #[target_feature(enable = "avx512f")]
    fn wide() {
        let (a, mut sums) = (black_box(_mm512_set1_ps(0.5)), [_mm512_set1_ps(1.0); CHAINS]);
        for _ in 0..STEPS {
            for s in &mut sums {
                *s = _mm512_fmadd_ps(*s, a, a);
            }
        }
        black_box(sums);
    }
    #[target_feature(enable = "avx2,fma")]
    fn usual() {
        let (a, mut sums) = (black_box(_mm256_set1_ps(0.5)), [_mm256_set1_ps(1.0); CHAINS]);
        for _ in 0..STEPS {
            for s in &mut sums {
                *s = _mm256_fmadd_ps(*s, a, a);
            }
        }
        black_box(sums);
    }
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions that the function is compiled for.
        return Some(rate((16 * CHAINS * STEPS) as f64, || unsafe { wide() }));
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: as above.
        return Some(rate((8 * CHAINS * STEPS) as f64, || unsafe { usual() }));
    }
    None
}

#[cfg(target_arch = "aarch64")]
fn multiplying() -> Option<f64> {
    use std::arch::aarch64::{vdupq_n_f32, vfmaq_f32};
    let once = || {
        // SAFETY: these instructions are part of the architecture.
        unsafe {
            let (a, mut sums) = (black_box(vdupq_n_f32(0.5)), [vdupq_n_f32(1.0); CHAINS]);
            for _ in 0..STEPS {
                for s in &mut sums {
                    *s = vfmaq_f32(a, *s, a);
                }
            }
            black_box(sums);
        }
    };
    Some(rate((4 * CHAINS * STEPS) as f64, once))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn multiplying() -> Option<f64> {
    None
}
