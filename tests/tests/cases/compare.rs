// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `compare`: a right model passes, a seeded fault is named by its node.

use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use portwright_cli::args::{CompareArgs, TargetArgs};
use portwright_cli::commands::compare::{first_wrong, rows};
use portwright_cli::compare::{Row, Verdict};
use portwright_ir::kernel::{parse_module, print_module};
use portwright_passes::pipeline::Compiled;
use portwright_runtime::npz::{self, Array};
use portwright_runtime::tensor::Tensor;

use crate::command::{portwright, scratch};
use crate::core::show;
use crate::native;
use crate::skip::always;

/// Two layers of other sizes, and convolutions of which the passes turn what is between them.
const LAYERS: &str = r#"graph "layers" symbols N in 1..64
%0: f32[N,24] = input "x"
%1: f32[24,10] = weight<f32 24x10 "w" seed:1>
%2: f32[10] = weight<f32 10 "b" seed:2>
%3: f32[N,10] = contract(%0, %1) {spec="mk,kn->mn", acc=f32, out=f32}  // main/MatMul_0
%4: f32[N,10] = add(%3, %2)  // main/Add_1
%5: f32[N,10] = softmax(%4) {axis=1}  // main/Softmax_2
%6: f32[10,7] = weight<f32 10x7 "w2" seed:3>
%7: f32[7] = weight<f32 7 "b2" seed:4>
%8: f32[N,7] = contract(%5, %6) {spec="mk,kn->mn", acc=f32, out=f32}  // main/MatMul_3
%9: f32[N,7] = add(%8, %7)  // main/Add_4
%10: f32[N,7] = softmax(%9) {axis=1}  // main/Softmax_5
output "y" %10
"#;
const PICTURE: &str = r#"graph "picture"
%0: f32[1,8,12,12] = input "x"
%1: f32[32,8,3,3] = weight<f32 32x8x3x3 "w" seed:1>
%2: f32[1,32,12,12] = conv(%0, %1) {strides=[1,1], dilations=[1,1], pads=[1,1,1,1], groups=1}  // main/Conv_0
%3: f32[] = const 0.0
%4: f32[1,32,12,12] = max(%2, %3)  // main/Relu_1
%5: f32[32,32,3,3] = weight<f32 32x32x3x3 "v" seed:2>
%6: f32[1,32,12,12] = conv(%4, %5) {strides=[1,1], dilations=[1,1], pads=[1,1,1,1], groups=1}  // main/Conv_2
%7: f32[1,32,12,12] = max(%6, %3)  // main/Relu_3
output "y" %7
"#;

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    out.push(always("compare::right", right));
    out.push(always("compare::names_the_node_of_a_seeded_fault", seeded));
    out.push(always("compare::channels_last", channels_last));
    out.push(always("compare::given_values", given));
}

fn args(model: &Path, inputs: &[PathBuf]) -> CompareArgs {
    CompareArgs {
        model: model.to_path_buf(),
        inputs: inputs.to_vec(),
        random: None,
        expect: Vec::new(),
        rtol: None,
        atol: None,
        every: false,
        threads: 1,
        on: None,
        json: false,
        target: TargetArgs { target: None, cpu: None, dims: Vec::new(), math: None },
    }
}

fn write(name: &str, text: &str) -> Result<(PathBuf, PathBuf), String> {
    let folder = scratch(&format!("compare-{name}"))?;
    let model = folder.join("model.graph");
    std::fs::write(&model, text).map_err(|e| e.to_string())?;
    Ok((folder, model))
}

/// Numbers of no pattern between -2 and 2.
fn numbers(dims: &[i64], seed: u32) -> Result<Tensor, String> {
    let n = dims.iter().product::<i64>() as u32;
    let one = |i: u32| ((i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 22) as f32) - 2.0;
    Tensor::new(1, dims, &(0..n).flat_map(|i| one(i).to_le_bytes()).collect::<Vec<_>>())
}

fn save(path: &Path, name: &str, t: &Tensor) -> Result<PathBuf, String> {
    let a = Array::from_tensor(t).map_err(|e| e.to_string())?;
    npz::save_npz(path, &[(name.to_owned(), a)]).map_err(|e| e.to_string())?;
    Ok(path.to_path_buf())
}

fn compared(a: &CompareArgs, change: Option<&mut dyn FnMut(&mut Compiled)>) -> Result<Vec<Row>, String> {
    let mut cx = native::cx();
    let options = native::options("host", None)?;
    rows(a, &options, change, &mut |_, _| {}, &mut cx).map_err(|_| show(cx.diags.all()))
}

fn right() -> Result<(), String> {
    let (folder, model) = write("right", LAYERS)?;
    let inputs = [(1, 5), (2, 33)].map(|(seed, n)| save(&folder.join(format!("{seed}.npz")), "x", &numbers(&[n, 24], seed)?));
    let inputs = inputs.into_iter().collect::<Result<Vec<_>, _>>()?;
    for every in [false, true] {
        let rows = compared(&CompareArgs { every, ..args(&model, &inputs) }, None)?;
        let nodes: Vec<&str> = rows.iter().filter(|r| r.sample == 1).map(|r| r.node.as_str()).collect();
        let expected = match every {
            false => vec!["main/Add_1", "main/Softmax_2", "main/Add_4", "main/Softmax_5"],
            true => vec!["main/MatMul_0", "main/Add_1", "main/Softmax_2", "main/MatMul_3", "main/Add_4", "main/Softmax_5"],
        };
        if nodes != expected || rows.len() != 2 * nodes.len() || rows.iter().any(|r| r.verdict != Verdict::Ok || r.isolated.is_none()) {
            return Err(format!("{rows:#?}"));
        }
    }
    let inputs = inputs[0].display().to_string();
    let e = portwright(&folder, &["--quiet", "compare", "model.graph", "--inputs", &inputs])?.well()?;
    if e.stdout.lines().last() != Some("4 values: 0 wrong, 0 drifted; --every shows what is inside of kernels") {
        return Err(e.stdout);
    }
    Ok(())
}

/// Sums of the kernels of a node begin with a number instead of 0.
fn seeded() -> Result<(), String> {
    let (folder, model) = write("seeded", LAYERS)?;
    let inputs = [save(&folder.join("x.npz"), "x", &numbers(&[9, 24], 7)?)?];
    for (every, first) in [(false, "main/Add_4"), (true, "main/MatMul_3")] {
        let mut changed = 0;
        let mut fault = |c: &mut Compiled| {
            let text = print_module(&c.main.module);
            let mut inside = false;
            let mut lines = Vec::new();
            for line in text.lines() {
                inside = if line.starts_with("kernel ") { false } else { inside || line.trim() == "origin \"main/MatMul_3\"" };
                let sum = inside && line.trim().starts_with("var ") && line.contains("0.0");
                changed += usize::from(sum);
                lines.push(if sum { line.replace("0.0", "0.25") } else { line.to_owned() });
            }
            if let Ok(m) = parse_module(&(lines.join("\n") + "\n")) {
                c.main.module = m;
            }
        };
        let rows = compared(&CompareArgs { every, ..args(&model, &inputs) }, Some(&mut fault))?;
        let found = first_wrong(&rows).map(|r| r.node.as_str());
        let verdict = |node: &str| rows.iter().find(|r| r.node == node).map(|r| r.verdict);
        // A shift of all elements is none to a softmax: it is right in both columns.
        let others = [verdict("main/Add_1"), verdict("main/Softmax_2"), verdict("main/Softmax_5")];
        if changed == 0 || found != Some(first) || others != [Some(Verdict::Ok); 3] {
            return Err(format!("{changed} places changed, the first is {found:?}, expected {first}: {rows:#?}"));
        }
    }
    Ok(())
}

fn channels_last() -> Result<(), String> {
    let (folder, model) = write("picture", PICTURE)?;
    let inputs = [save(&folder.join("x.npz"), "x", &numbers(&[1, 8, 12, 12], 3)?)?];
    let rows = compared(&args(&model, &inputs), None)?;
    let nodes: Vec<&str> = rows.iter().map(|r| r.node.as_str()).collect();
    // The second one as it is computed, and as the output that it becomes.
    if nodes != ["main/Relu_1", "main/Relu_3", "main/Relu_3"] || rows.iter().any(|r| r.verdict != Verdict::Ok || r.shape != [1, 32, 12, 12])
    {
        return Err(format!("{rows:#?}"));
    }
    Ok(())
}

/// Given values: right ones, wrong ones with exit code 6, and names that are none.
fn given() -> Result<(), String> {
    let (folder, _) = write("given", LAYERS)?;
    save(&folder.join("x.npz"), "x", &numbers(&[3, 24], 7)?)?;
    portwright(&folder, &["--quiet", "run", "model.graph", "--inputs", "x.npz", "--outputs", "y.npz"])?.well()?;
    let compare = |y: &str| portwright(&folder, &["--quiet", "compare", "model.graph", "--inputs", "x.npz", "--expect", y, "--json"]);
    let e = compare("y.npz")?.well()?;
    let v: serde_json::Value = serde_json::from_str(&e.stdout).map_err(|e| e.to_string())?;
    if v["rows"].as_array().map(Vec::len) != Some(1) || v["wrong"] != 0 {
        return Err(e.stdout);
    }
    save(&folder.join("z.npz"), "y", &numbers(&[3, 7], 7)?)?;
    let e = compare("z.npz")?;
    if e.code != 6 || !e.stderr.contains("error[E0601]: the first wrong value is") || !e.stderr.contains("--> main/Softmax_5") {
        return Err(format!("exit code {}\n{}", e.code, e.stderr));
    }
    save(&folder.join("n.npz"), "nothing", &numbers(&[3, 7], 7)?)?;
    let e = compare("n.npz")?;
    if e.code != 7 || !e.stderr.contains("error[E0704]: ") {
        return Err(format!("exit code {}\n{}", e.code, e.stderr));
    }
    Ok(())
}
