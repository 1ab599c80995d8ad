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
        let width = target::all().iter().map(|t| t.spec().id.len()).max().unwrap_or(0) + 2;
        println!("{:<width$}the machine at hand, with all that its CPU offers", "host");
        for t in target::all() {
            println!("{:<width$}{}", t.spec().id, t.spec().about);
        }
        return Ok(());
    };
    let t = target::lookup(&id).map_err(|e| cx.diags.report(e.diagnostic(&id)))?;
    let m = target::machine(&id, a.cpu.as_deref(), &mut cx.diags)?;
    let s = t.spec();
    let (numbers, shown) = describe(&m.class);
    if a.json {
        let mut v = serde_json::json!({
            "schema": 1, "id": s.id, "vendor": s.vendor, "about": s.about, "cpus": s.cpus, "cpu": m.cpu, "triple": m.triple,
            "features": m.features, "sources": s.sources, "maintainer": s.maintainer,
        });
        if let (Some(all), serde_json::Value::Object(more)) = (v.as_object_mut(), numbers) {
            all.extend(more);
        }
        println!("{v}");
        return Ok(());
    }
    println!("{}: {} ({})", id, s.about, s.vendor);
    println!("  cpu        {}", m.cpu);
    println!("  triple     {}", m.triple);
    println!("  features   {}", m.features.join(" "));
    shown.iter().for_each(|(what, text)| println!("  {what:<10} {text}"));
    println!("  --cpu      {}", s.cpus.join(", "));
    println!("  maintainer {}", s.maintainer);
    for source in s.sources {
        println!("  source     {source}");
    }
    Ok(())
}

/// The numbers of a machine class: for programs, and as lines of a name and a text.
fn describe(class: &MachineClass) -> (serde_json::Value, Vec<(&'static str, String)>) {
    match class {
        MachineClass::Cpu(c) => {
            let dots = c.dots.iter().map(|d| format!("{} of {} x {} in {}", d.depth, d.a, d.b, d.acc));
            let tiles = c.tiles.iter().map(|t| format!("tiles of {} in {}", t.operand, t.acc));
            let products: Vec<String> = dots.chain(tiles).collect();
            let mut shown = vec![("vectors", format!("{} registers of {} bytes", c.vec_regs, c.vec_bytes))];
            if !products.is_empty() {
                shown.push(("products", products.join(", ")));
            }
            shown.push(("caches", format!("{} KiB L1, {} KiB L2", c.l1_bytes / 1024, c.l2_bytes / 1024)));
            let json = serde_json::json!({
                "vector_bytes": c.vec_bytes, "vector_registers": c.vec_regs, "l1_bytes": c.l1_bytes, "l2_bytes": c.l2_bytes,
                "products": products,
            });
            (json, shown)
        }
        MachineClass::Simt(c) => {
            let products: Vec<String> =
                c.fragments.iter().map(|f| format!("{:?} of {} x {} in {}", f.shape, f.dtypes[0], f.dtypes[1], f.dtypes[2])).collect();
            let mut shown = vec![
                ("lanes", format!("{} a warp, {} a group", c.lanes, c.max_group)),
                ("shared", format!("{} KiB in {} banks", c.shared_bytes / 1024, c.banks)),
                ("loads", format!("{} bytes a lane", c.vec_bytes)),
            ];
            if !products.is_empty() {
                shown.push(("products", products.join(", ")));
            }
            let json = serde_json::json!({
                "lanes": c.lanes, "group": c.max_group, "shared_bytes": c.shared_bytes, "banks": c.banks, "vector_bytes": c.vec_bytes,
                "products": products,
            });
            (json, shown)
        }
    }
}
