// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright targets`.

use portwright_ir::diag::Lowered;
use portwright_passes::spec::MachineClass;
use portwright_targets::target;

use crate::Cx;
use crate::args::TargetsArgs;

/// Lists targets, or describes one.
///
/// # Errors
/// `E0001`, `E0002`.
pub fn run(a: TargetsArgs, cx: &mut Cx) -> Lowered<()> {
    let Some(id) = a.id else {
        if a.json {
            let list: Vec<_> = target::all()
                .iter()
                .map(|t| serde_json::json!({"id": t.spec().id, "vendor": t.spec().vendor, "about": t.spec().about, "cpus": t.spec().cpus}))
                .collect();
            println!("{}", serde_json::json!({"schema": 1, "targets": list}));
            return Ok(());
        }
        println!("{:<14}the machine at hand, with all that its CPU offers", "host");
        for t in target::all() {
            println!("{:<14}{}", t.spec().id, t.spec().about);
        }
        return Ok(());
    };
    let t = target::lookup(&id).map_err(|e| cx.diags.report(e.diagnostic(&id)))?;
    let m = target::machine(&id, a.cpu.as_deref(), &mut cx.diags)?;
    let s = t.spec();
    let MachineClass::Cpu(c) = &m.class;
    let dots = c.dots.iter().map(|d| format!("{} of {} x {} in {}", d.depth, d.a, d.b, d.acc));
    let tiles = c.tiles.iter().map(|t| format!("tiles of {} in {}", t.operand, t.acc));
    let products: Vec<String> = dots.chain(tiles).collect();
    if a.json {
        let v = serde_json::json!({
            "schema": 1, "id": s.id, "vendor": s.vendor, "about": s.about, "cpus": s.cpus, "cpu": m.cpu, "triple": m.triple,
            "features": m.features, "vector_bytes": c.vec_bytes, "vector_registers": c.vec_regs, "l1_bytes": c.l1_bytes, "l2_bytes": c.l2_bytes,
            "products": products,
            "sources": s.sources, "maintainer": s.maintainer,
        });
        println!("{v}");
        return Ok(());
    }
    println!("{}: {} ({})", id, s.about, s.vendor);
    println!("  cpu        {}", m.cpu);
    println!("  triple     {}", m.triple);
    println!("  features   {}", m.features.join(" "));
    println!("  vectors    {} registers of {} bytes", c.vec_regs, c.vec_bytes);
    if !products.is_empty() {
        println!("  products   {}", products.join(", "));
    }
    println!("  caches     {} KiB L1, {} KiB L2", c.l1_bytes / 1024, c.l2_bytes / 1024);
    println!("  --cpu      {}", s.cpus.join(", "));
    println!("  maintainer {}", s.maintainer);
    for source in s.sources {
        println!("  source     {source}");
    }
    Ok(())
}
