// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The least time that a compiled model can take on a chip: what it has to do, over what the chip can do at most.

use std::collections::HashMap;

use portwright_ir::sym::{SymExpr, SymName};
use portwright_passes::spec::MachineClass;
use portwright_passes::work::Work;
use portwright_targets::target::Roof;
use serde::Serialize;

use portwright_ir::dtype::DType;

/// What one run has to do, and how long that takes at least.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Estimate {
    /// Bytes between the chip and its memory: of each kernel each tensor once.
    pub bytes: u64,
    /// Operations on numbers, two a multiply-add.
    pub operations: u64,
    /// Launches.
    pub launches: usize,
    /// Seconds: of each kernel the longer of bytes and operations, and its launch where somebody says what that takes. `None` where nobody
    /// says how fast the chip is.
    pub seconds: Option<f64>,
    /// By nodes, in order.
    pub kernels: Vec<Part>,
}

/// What the kernels of the same nodes have to do.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// The nodes.
    pub nodes: String,
    /// As of [`Estimate::bytes`].
    pub bytes: u64,
    /// As of [`Estimate::operations`].
    pub operations: u64,
}

impl Estimate {
    /// The estimate of work, where symbols have the values of `at`, by default 1; what there is less of than nothing then is nothing. `None`
    /// where a size has no value.
    pub fn of(work: &[Work], launches: usize, at: &HashMap<SymName, i64>, roof: &Roof, class: &MachineClass) -> Option<Estimate> {
        let value = |e: &SymExpr| e.eval(&|s: &str| Some(at.get(s).copied().unwrap_or(1))).and_then(|n| u64::try_from(n.max(0)).ok());
        let mut out = Estimate { launches, seconds: Some(0.0), ..Estimate::default() };
        for w in work {
            let bytes = value(&w.bytes)?;
            let mut operations = value(&w.operations)?;
            let mut busy = roof.peak(DType::F32, class).map(|peak| operations as f64 / peak);
            for (dtype, products) in &w.by_dtype {
                let two = value(products)?.checked_mul(2)?;
                operations = operations.checked_add(two)?;
                busy = busy.zip(roof.peak(*dtype, class)).map(|(t, peak)| t + two as f64 / peak);
            }
            let seconds = roof.bandwidth.zip(busy).map(|(bandwidth, busy)| (bytes as f64 / bandwidth).max(busy));
            out.seconds = out.seconds.zip(seconds).map(|(sum, t)| sum + t);
            out.bytes = out.bytes.checked_add(bytes)?;
            out.operations = out.operations.checked_add(operations)?;
            out.kernels.push(Part { nodes: w.origin.paths.join(" + "), bytes, operations });
        }
        out.seconds = out.seconds.map(|t| t + roof.launch.unwrap_or(0.0) * launches as f64);
        Some(out)
    }
}

/// `12.3 us`
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s if s >= 1e-6 => format!("{:.2} us", s * 1e6),
        s => format!("{:.1} ns", s * 1e9),
    }
}

/// `12.3 MB`
pub fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1_000_000_000 => format!("{:.2} GB", b as f64 / 1e9),
        b if b >= 1_000_000 => format!("{:.2} MB", b as f64 / 1e6),
        b if b >= 1000 => format!("{:.1} kB", b as f64 / 1e3),
        b => format!("{b} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portwright_ir::graph::Origin;
    use portwright_passes::spec::CpuSpec;

    #[test]
    fn the_longer_of_bytes_and_operations_is_the_time() {
        let cpu = CpuSpec { vec_bytes: 1, vec_regs: 16, masked_mem: false, fma: true, l1_bytes: 1, l2_bytes: 1, dots: &[], tiles: &[] };
        let class = MachineClass::Cpu(cpu);
        let roof = Roof { bandwidth: Some(100.0), peaks: &[(DType::F32, 10.0), (DType::BF16, 20.0)], launch: Some(0.5) };
        let work = |bytes: i64, products: i64, dtype| Work {
            origin: Origin::default(),
            fusions: 1,
            bytes: bytes.into(),
            products: products.into(),
            by_dtype: vec![(dtype, products.into())],
            operations: 10.into(),
        };
        let all = [work(1000, 5, DType::F32), work(100, 100, DType::BF16)];
        let at = HashMap::new();
        let e = Estimate::of(&all, 2, &at, &roof, &class).unwrap();
        // Ten seconds of bytes over two of operations; one of single operations and ten of products over one of bytes; two launches.
        assert_eq!((e.bytes, e.operations, e.seconds), (1100, 230, Some(10.0 + 11.0 + 1.0)));
        assert_eq!(Estimate::of(&all, 2, &at, &Roof { bandwidth: None, ..roof }, &class).unwrap().seconds, None);
        assert_eq!(Estimate::of(&all, 2, &at, &Roof { peaks: &[], ..roof }, &class).unwrap().seconds, None);
        assert_eq!([time(2.0), time(2.5e-6), size(999), size(1_500_000)], ["2.00 s", "2.50 us", "999 B", "1.50 MB"]);
    }
}
