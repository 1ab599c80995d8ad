// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `check`: everything that will not work in one run, grouped, and the same as data.

use libtest_mimic::Trial;
use onnx_protobuf::{ModelProto, NodeProto, ValueInfoProto};

use crate::build::{D, bytes, graph, model, named, node, opset, simple, value};
use crate::command::{portwright, scratch};
use crate::skip::{always, never};
use crate::snap::{self, Kept};

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>, kept: &mut Kept) {
    kept.text("bad", "check_three_kinds");
    for (name, run) in [
        ("check::five_nodes_of_three_kinds", five_nodes_of_three_kinds as fn() -> Result<(), String>),
        ("check::models_by_targets", models_by_targets),
        ("check::a_model_that_is_wrong", wrong),
    ] {
        // `host` is a target of builds with code generation alone.
        out.push(if cfg!(feature = "mlir") { always(name, run) } else { never(name, "targets (this build has no `mlir`)") });
    }
}

fn f32_info(name: &str) -> ValueInfoProto {
    value(name, 1, &[D::P("N"), D::V(4)])
}

/// Two of one operator that nobody knows, two of another, a form that is not taken, and between them nodes that are fine.
fn three_kinds() -> ModelProto {
    let vendor = |name: &str, x: &str, y: &str| {
        let mut n = named(name, node("Magic", &[x], &[y]));
        n.domain = "com.example".into();
        n
    };
    let nodes: Vec<NodeProto> = vec![
        vendor("first", "x", "a"),
        named("fine", node("Relu", &["a"], &["b"])),
        vendor("second", "b", "c"),
        named("third", node("Frobnicate", &["c", "x"], &["d"])),
        named("fourth", node("Frobnicate", &["x", "x"], &["e"])),
        named("sum", node("Add", &["d", "e"], &["f"])),
        named("fifth", node("ReduceSum", &["f", "axes"], &["y"])),
    ];
    let g = graph(nodes, vec![f32_info("x"), value("axes", 7, &[D::V(1)])], vec![value("y", 1, &[])]);
    let mut m = model(g);
    m.opset_import.push(opset("com.example", 1));
    // As exporters write them: what stands in for a node that nobody knows.
    m.graph.mut_or_insert_default().value_info = ["a", "c", "d", "e"].map(f32_info).into();
    m
}

fn five_nodes_of_three_kinds() -> Result<(), String> {
    let folder = scratch("check-kinds")?;
    std::fs::write(folder.join("model.onnx"), bytes(&three_kinds())).map_err(|e| e.to_string())?;
    let e = portwright(&folder, &["--quiet", "check", "model.onnx"])?;
    if e.code != 4 {
        return Err(format!("exit code {}\n{}{}", e.code, e.stdout, e.stderr));
    }
    snap::text("bad", "check_three_kinds", "$ portwright check model.onnx", &format!("{}{}exit code {}", e.stdout, e.stderr, e.code))?;
    let e = portwright(&folder, &["--quiet", "check", "model.onnx", "--json"])?;
    let v: serde_json::Value = serde_json::from_str(&e.stdout).map_err(|e| e.to_string())?;
    let sizes: Vec<usize> = v[0]["groups"].as_array().into_iter().flatten().map(|g| g["nodes"].as_array().map_or(0, Vec::len)).collect();
    if sizes != [2, 2, 1] || v[0]["ok"] != false || v[0]["counts"]["rejected"] != 5 || v[0]["counts"]["native"] != 2 || e.code != 4 {
        return Err(format!("{v:#}"));
    }
    Ok(())
}

fn models_by_targets() -> Result<(), String> {
    let folder = scratch("check-table")?;
    std::fs::write(folder.join("good.onnx"), bytes(&simple(vec![node("Softmax", &["x"], &["y"])]))).map_err(|e| e.to_string())?;
    std::fs::write(folder.join("bad.onnx"), bytes(&three_kinds())).map_err(|e| e.to_string())?;
    let e = portwright(&folder, &["--quiet", "check", "good.onnx"])?.well()?;
    if !e.stdout.starts_with("good.onnx runs on host: ") {
        return Err(e.stdout);
    }
    let e = portwright(&folder, &["--quiet", "check", "good.onnx", "bad.onnx", "--all"])?;
    let rows: Vec<&str> = e.stdout.lines().filter(|l| l.starts_with("good.onnx  ") || l.starts_with("bad.onnx   ")).collect();
    let targets = portwright_targets::target::all().len();
    let groups = e.stdout.matches("error[").count();
    // What fails everywhere is said once.
    if e.code != 4 || rows.len() != 2 * targets || groups != 3 {
        return Err(format!("exit code {}, {} rows, {groups} groups\n{}{}", e.code, rows.len(), e.stdout, e.stderr));
    }
    Ok(())
}

/// What is wrong in itself is no question of support; a file that is none has its own code.
fn wrong() -> Result<(), String> {
    let folder = scratch("check-wrong")?;
    let nodes = vec![node("Relu", &["nowhere"], &["a"]), node("Frobnicate", &["x"], &["y"])];
    std::fs::write(folder.join("model.onnx"), bytes(&simple(nodes))).map_err(|e| e.to_string())?;
    let e = portwright(&folder, &["--quiet", "check", "model.onnx"])?;
    if e.code != 3 || !e.stdout.contains("error[E0104]: ") || !e.stdout.contains("error[E0106]: ") {
        return Err(format!("exit code {}\n{}{}", e.code, e.stdout, e.stderr));
    }
    let e = portwright(&folder, &["--quiet", "check", "absent.onnx"])?;
    if e.code != 7 {
        return Err(format!("exit code {}\n{}{}", e.code, e.stdout, e.stderr));
    }
    Ok(())
}
