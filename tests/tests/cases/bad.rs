// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bad input through the command: a coded message that was reviewed, the documented exit code, and nothing half-written.

use std::path::Path;
#[cfg(feature = "mlir")]
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use onnx_protobuf::{GraphProto, ModelProto};
#[cfg(feature = "mlir")]
use portwright_runtime::npz::{self, Array};
use portwright_runtime::tensor::Tensor;

use crate::build::{D, bytes, external, graph, graph_attr, ints, model, named, node, opset, simple, tensor, value, with};
use crate::command::{Ended, contents, portwright, scratch};
use crate::skip::always;
#[cfg(feature = "mlir")]
use crate::skip::{Done, trial};
use crate::snap::{self, Kept};

/// What is written into the case's folder: by default `model.onnx`.
type Files = Vec<(&'static str, Vec<u8>)>;

/// A model that cannot be compiled: name, files, code.
type BadModel = (&'static str, fn() -> Files, &'static str);

/// A run that cannot be: name, model, inputs, code.
type BadRun = (&'static str, fn() -> ModelProto, fn() -> Vec<(&'static str, Tensor)>, &'static str);

const MODELS: &[BadModel] = &[
    ("empty", || one(Vec::new()), "E0101"),
    ("random", || one((0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()), "E0101"),
    ("truncated", || one(truncated()), "E0101"),
    ("lfs_pointer", || one(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec()), "E0101"),
    ("opset_too_new", || built(|m| m.opset_import = vec![opset("", 99)]), "E0102"),
    ("cycle", || plain(vec![node("Add", &["x", "b"], &["a"]), node("Relu", &["a"], &["b"]), node("Neg", &["b"], &["y"])]), "E0105"),
    ("missing_input", || plain(vec![node("Add", &["x", "nowhere"], &["y"])]), "E0104"),
    ("duplicate_name", || plain(vec![node("Relu", &["x"], &["y"]), named("again", node("Neg", &["x"], &["y"]))]), "E0103"),
    ("unknown_operators", unknown_operators, "E0106"),
    ("dim_2_62", || dims(&[D::V(1 << 62), D::V(4)]), "E0201"),
    ("dim_below_minus_one", || dims(&[D::V(-2), D::V(4)]), "E0201"),
    ("overflowing_bytes", || dims(&[D::V(1 << 40), D::V(1 << 40)]), "E0204"),
    ("overflow_inside", || with_shape("Expand", &[1 << 40, 1 << 40, 1, 4]), "E0204"),
    ("shapes_that_do_not_fit", || weight(tensor("w", 1, &[3], vec![0; 12])), "E0202"),
    ("tensor_too_short", || weight(tensor("w", 1, &[4], vec![0; 12])), "E0109"),
    ("nested_subgraphs", nested, "E0111"),
    ("external_missing", || weight(external("w", &[4], "w.bin", 0)), "E0110"),
    ("external_too_short", || [weight(external("w", &[4], "w.bin", 8)), vec![("w.bin", vec![0; 16])]].concat(), "E0110"),
    ("external_above", || [weight(external("w", &[4], "../w.bin", 0)), vec![("../w.bin", vec![0; 16])]].concat(), "E0110"),
    ("external_absolute", || weight(external("w", &[4], "/etc/passwd", 0)), "E0110"),
    (
        "external_link",
        || [weight(external("w", &[4], "link.bin", 0)), vec![("../w.bin", vec![0; 16]), ("link.bin", b"->../w.bin".to_vec())]].concat(),
        "E0110",
    ),
    (
        "graph_text",
        || vec![("model.graph", b"%0: f32[4] = input \"x\"\n%1: f32[4] = sofmax(%0) {axis=0}\noutput \"y\" %1\n".to_vec())],
        "E0301",
    ),
];

const RUNS: &[BadRun] = &[
    ("name", relu, || vec![("z", f32s(&[2, 4]))], "E0704"),
    ("missing", relu, Vec::new, "E0704"),
    ("dtype", relu, || vec![("x", i64s(&[1, 4], &[0, 1, 2, 3]))], "E0704"),
    ("rank", relu, || vec![("x", f32s(&[4]))], "E0602"),
    ("size", relu, || vec![("x", f32s(&[2, 5]))], "E0602"),
    ("token_beyond_the_table", table, || vec![("ids", i64s(&[3], &[0, 5, 1]))], "E0602"),
    ("token_below_the_table", table, || vec![("ids", i64s(&[3], &[0, -6, 1]))], "E0602"),
    ("negative_size", || shaped("ConstantOfShape"), || vec![("s", i64s(&[2], &[3, -4]))], "E0602"),
    ("size_too_large", || shaped("ConstantOfShape"), || vec![("s", i64s(&[2], &[1 << 40, 1 << 40]))], "E0602 E0403"),
    ("reshape_that_does_not_fit", || shaped("Reshape"), || vec![("x", f32s(&[2, 4])), ("s", i64s(&[2], &[3, 3]))], "E0602"),
    ("loop_over_its_limit", endless, || vec![("n", i64s(&[], &[1 << 62])), ("x", f32s(&[1, 4]))], "E0602"),
];

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>, kept: &mut Kept) {
    for &(name, files, code) in MODELS {
        kept.text("bad", name);
        out.push(always(format!("bad/{name}"), move || compile(name, &files(), code)));
    }
    out.push(always("bad/chain_of_60000_nodes_is_fine", chain));
    out.push(always("bad/minus_one_and_absent_dims_are_fine", symbols));
    for name in ["output_is_a_file", "output_is_no_bundle", "unknown_target", "no_such_model"] {
        kept.text("bad", name);
    }
    out.push(always("bad/unknown_target", || usage("unknown_target", &["compile", "model.onnx", "--target", "x86-46"], 2)));
    #[cfg(feature = "mlir")]
    {
        out.push(always("bad/output_is_a_file", || occupied("output_is_a_file")));
        out.push(always("bad/output_is_no_bundle", || occupied("output_is_no_bundle")));
        out.push(always("bad/no_such_model", || usage("no_such_model", &["compile", "absent.onnx", "-o", "out.pw"], 7)));
        out.push(trial("bad/read_only_output", || mounted("read_only_output", "ro,size=1m")));
        out.push(trial("bad/full_disk", || mounted("full_disk", "size=16k")));
        out.push(always("bad/one_element_is_a_scalar", one_element));
        for &(name, model, inputs, codes) in RUNS {
            kept.text("bad", &format!("run_{name}"));
            out.push(always(format!("bad/run_{name}"), move || run(name, &model(), &inputs(), codes)));
        }
    }
    #[cfg(not(feature = "mlir"))]
    {
        RUNS.iter().for_each(|r| kept.text("bad", &format!("run_{}", r.0)));
        crate::skip::not_listed(RUNS.len() + 6, "native code (this build has no `mlir`)");
    }
}

fn one(bytes: Vec<u8>) -> Files {
    vec![("model.onnx", bytes)]
}

fn plain(nodes: Vec<onnx_protobuf::NodeProto>) -> Files {
    one(bytes(&simple(nodes)))
}

fn relu() -> ModelProto {
    simple(vec![node("Relu", &["x"], &["y"])])
}

fn built(change: fn(&mut ModelProto)) -> Files {
    let mut m = relu();
    change(&mut m);
    one(bytes(&m))
}

fn truncated() -> Vec<u8> {
    let mut all = bytes(&relu());
    all.truncate(all.len() - 3);
    all
}

fn dims(dims: &[D]) -> Files {
    one(bytes(&model(graph(vec![node("Relu", &["x"], &["y"])], vec![value("x", 1, dims)], vec![value("y", 1, &[])]))))
}

fn initialized(mut m: ModelProto, t: onnx_protobuf::TensorProto) -> ModelProto {
    m.graph.mut_or_insert_default().initializer.push(t);
    m
}

fn weight(t: onnx_protobuf::TensorProto) -> Files {
    one(bytes(&initialized(simple(vec![node("Add", &["x", "w"], &["y"])]), t)))
}

fn with_shape(op: &str, shape: &[i64]) -> Files {
    one(bytes(&initialized(simple(vec![node(op, &["x", "s"], &["y"])]), ints("s", shape))))
}

fn unknown_operators() -> Files {
    let then = graph(vec![node("Foo", &["x"], &["t"])], vec![], vec![value("t", 1, &[])]);
    let other = graph(vec![named("deep", node("Bar", &["x"], &["e"]))], vec![], vec![value("e", 1, &[])]);
    let mut vendor = node("Magic", &["x"], &["m"]);
    vendor.domain = "com.example".into();
    let choice = with(with(node("If", &["c"], &["y"]), graph_attr("then_branch", then)), graph_attr("else_branch", other));
    let mut m = simple(vec![vendor, node("Baz", &["m"], &["c"]), choice]);
    m.opset_import.push(opset("com.example", 1));
    one(bytes(&m))
}

fn nested() -> Files {
    let branch = |op: &str| graph(vec![node(op, &["x"], &["o"])], vec![], vec![value("o", 1, &[])]);
    let nest = |g: GraphProto| {
        let choice = with(with(node("If", &["c"], &["o"]), graph_attr("then_branch", g)), graph_attr("else_branch", branch("Neg")));
        graph(vec![choice], vec![], vec![value("o", 1, &[])])
    };
    let inner = (0..200).fold(branch("Relu"), |g, _| nest(g));
    one(bytes(&model(graph(inner.node, vec![value("x", 1, &[D::V(4)]), value("c", 9, &[])], vec![value("o", 1, &[])]))))
}

fn table() -> ModelProto {
    let g =
        graph(vec![named("embed", node("Gather", &["t", "ids"], &["y"]))], vec![value("ids", 7, &[D::P("N")])], vec![value("y", 1, &[])]);
    initialized(model(g), tensor("t", 1, &[5, 4], (0..20).flat_map(|i| (i as f32).to_le_bytes()).collect()))
}

/// An operator whose result's shape is the input `s`.
fn shaped(op: &str) -> ModelProto {
    let (x, s) = (value("x", 1, &[D::P("N"), D::V(4)]), value("s", 7, &[D::V(2)]));
    let (inputs, given) = if op == "Reshape" { (&["x", "s"][..], vec![x, s]) } else { (&["s"][..], vec![s]) };
    model(graph(vec![named("shaped", node(op, inputs, &["y"]))], given, vec![value("y", 1, &[])]))
}

/// A loop whose trip count is the input `n`.
fn endless() -> ModelProto {
    let body = graph(
        vec![node("Identity", &["go"], &["on"]), node("Relu", &["a"], &["b"])],
        vec![value("i", 7, &[]), value("go", 9, &[]), value("a", 1, &[D::P("N"), D::V(4)])],
        vec![value("on", 9, &[]), value("b", 1, &[D::P("N"), D::V(4)])],
    );
    let g = graph(
        vec![named("endless", with(node("Loop", &["n", "", "x"], &["y"]), graph_attr("body", body)))],
        vec![value("n", 7, &[]), value("x", 1, &[D::P("N"), D::V(4)])],
        vec![value("y", 1, &[D::P("N"), D::V(4)])],
    );
    model(g)
}

fn f32s(dims: &[i64]) -> Tensor {
    let n = dims.iter().product::<i64>();
    let data: Vec<u8> = (0..n).flat_map(|i| (i as f32 - 2.5).to_le_bytes()).collect();
    Tensor::new(1, dims, &data).unwrap_or_else(|e| panic!("{e}"))
}

fn i64s(dims: &[i64], v: &[i64]) -> Tensor {
    let data: Vec<u8> = v.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor::new(7, dims, &data).unwrap_or_else(|e| panic!("{e}"))
}

/// A folder of its own with these files below `case`; what begins with `->` is a link.
fn write(name: &str, files: &[(&str, Vec<u8>)]) -> Result<std::path::PathBuf, String> {
    let folder = scratch(&format!("bad-{name}"))?.join("case");
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    for (file, bytes) in files {
        let at = folder.join(file);
        let done = match bytes.strip_prefix(b"->").and_then(|to| std::str::from_utf8(to).ok()) {
            Some(to) => std::os::unix::fs::symlink(to, at),
            None => std::fs::write(at, bytes),
        };
        done.map_err(|e| format!("{file}: {e}"))?;
    }
    Ok(folder)
}

/// Exit code of an error code, as the contract of the command has it.
fn exit_of(code: &str) -> i32 {
    match code.as_bytes().get(2) {
        Some(b'0') => 2,
        Some(b'1'..=b'3') => 3,
        Some(b'4') => 4,
        Some(b'5') => 5,
        Some(b'6') => 6,
        Some(b'7') => 7,
        _ => 70,
    }
}

/// The message is coded, reviewed and ends with its exit code.
fn judge(name: &str, line: &str, e: &Ended, codes: &str, folder: &Path) -> Result<(), String> {
    let whole = || format!("exit code {}\n{}{}", e.code, e.stdout, e.stderr);
    let code = codes.split(' ').find(|c| e.stderr.contains(&format!("error[{c}]: ")));
    let Some(code) = code else { return Err(format!("no `error[{codes}]: `: {}", whole())) };
    if e.code != exit_of(code) {
        return Err(format!("{code} must end with exit code {}: {}", exit_of(code), whole()));
    }
    let above = folder.parent().unwrap_or(folder).display().to_string();
    let text = e.stderr.replace(&format!("{}/", folder.display()), "").replace(&above, "ABOVE");
    snap::text("bad", name, &format!("$ portwright {line}"), &format!("{text}exit code {}", e.code))
}

fn compile(name: &str, files: &[(&str, Vec<u8>)], code: &str) -> Result<(), String> {
    let folder = write(name, files)?;
    let before = contents(&folder);
    let model = files.iter().map(|f| f.0).find(|f| f.starts_with("model.")).unwrap_or("model.onnx");
    // What is wrong with a model is found before code is made, so a build without LLVM finds it too.
    let line = format!("compile {model} -o out.pw");
    let args = if cfg!(feature = "mlir") { vec!["compile", model, "-o", "out.pw"] } else { vec!["lower", model, "--stage", "import"] };
    let e = portwright(&folder, &[&["--quiet"][..], &args].concat())?;
    if contents(&folder) != before {
        return Err("the folder has other files than before".into());
    }
    judge(name, &line, &e, code, &folder)
}

fn usage(name: &str, args: &[&str], exit: i32) -> Result<(), String> {
    let folder = write(name, &one(bytes(&relu())))?;
    let before = contents(&folder);
    let e = portwright(&folder, &[&["--quiet"][..], args].concat())?;
    if e.code != exit || contents(&folder) != before {
        return Err(format!("exit code {}, expected {exit} and nothing written\n{}", e.code, e.stderr));
    }
    snap::text("bad", name, &format!("$ portwright {}", args.join(" ")), &format!("{}exit code {}", e.stderr, e.code))
}

/// `-o` that is there and is no bundle is left as it is.
#[cfg(feature = "mlir")]
fn occupied(name: &str) -> Result<(), String> {
    let folder = write(name, &one(bytes(&relu())))?;
    if name == "output_is_a_file" {
        std::fs::write(folder.join("out.pw"), "mine").map_err(|e| e.to_string())?;
    } else {
        std::fs::create_dir(folder.join("out.pw")).map_err(|e| e.to_string())?;
        std::fs::write(folder.join("out.pw/letter.txt"), "mine").map_err(|e| e.to_string())?;
    }
    let before = contents(&folder);
    let e = portwright(&folder, &["--quiet", "compile", "model.onnx", "-o", "out.pw"])?;
    if contents(&folder) != before {
        return Err("what was there has changed".into());
    }
    judge(name, "compile model.onnx -o out.pw", &e, "E0703", &folder)
}

/// Compiles into a file system of its own, which `options` make read-only or small.
#[cfg(feature = "mlir")]
fn mounted(name: &str, options: &str) -> Result<Done, String> {
    let folder = write(name, &one(bytes(&table())))?;
    let at = folder.join("mnt");
    std::fs::create_dir_all(&at).map_err(|e| e.to_string())?;
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let script = "mount -t tmpfs -o \"$1\" tmpfs mnt || exit 99; shift; \"$@\"; code=$?; ls -A mnt; exit $code";
    let mut c = Command::new("unshare");
    c.args(["--map-root-user", "--mount", "sh", "-c", script, "sh", options]).arg(program).current_dir(&folder);
    c.args(["--quiet", "compile", "model.onnx", "-o", "mnt/out.pw"]).env("PORTWRIGHT_TESTS_RUN_THE_COMMAND", "1");
    let possible = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs tmpfs ."])
        .current_dir(&at)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !possible.is_ok_and(|s| s.success()) {
        return Ok(Done::Skipped("no file system can be mounted here (unshare --map-root-user --mount)".into()));
    }
    let e = crate::command::ended(c)?;
    if e.code != 7 || !e.stderr.contains("error[E0702]: ") || !e.stdout.is_empty() {
        return Err(format!("exit code {}, left behind: `{}`\n{}", e.code, e.stdout.trim(), e.stderr));
    }
    Ok(Done::Passed)
}

fn chain() -> Result<(), String> {
    let name = |i: usize| if i == 0 { "x".to_owned() } else { format!("v{i}") };
    let n = 60_000;
    let link = |i: usize| node("Neg", &[&name(i)], &[if i + 1 == n { "y".to_owned() } else { name(i + 1) }.as_str()]);
    let folder = write("chain", &one(bytes(&simple((0..n).map(link).collect()))))?;
    portwright(&folder, &["--quiet", "lower", "model.onnx", "--stage", "import"])?.well().map(|_| ())
}

fn symbols() -> Result<(), String> {
    let folder = write("symbols", &dims(&[D::V(-1), D::Unset, D::P("N")]))?;
    let e = portwright(&folder, &["--quiet", "lower", "model.onnx", "--stage", "import"])?.well()?;
    if e.stdout.contains("f32[unk_0,unk_1,N]") { Ok(()) } else { Err(e.stdout) }
}

#[cfg(feature = "mlir")]
fn run(name: &str, model: &ModelProto, inputs: &[(&str, Tensor)], codes: &str) -> Result<(), String> {
    let folder = write(&format!("run-{name}"), &one(bytes(model)))?;
    let arrays: Result<Vec<(String, Array)>, _> = inputs.iter().map(|(n, t)| Array::from_tensor(t).map(|a| ((*n).to_owned(), a))).collect();
    npz::save_npz(&folder.join("inputs.npz"), &arrays.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
    let before = contents(&folder);
    let e = portwright(&folder, &["--quiet", "run", "model.onnx", "--inputs", "inputs.npz", "--outputs", "outputs.npz"])?;
    if contents(&folder) != before {
        return Err("outputs were written".into());
    }
    let line = "run model.onnx --inputs inputs.npz --outputs outputs.npz";
    judge(&format!("run_{name}"), line, &e, codes, &folder)?;
    // A fault of data names the node that found it.
    let expected = node_path(name);
    if expected.is_some_and(|p| !e.stderr.contains(p)) { Err(format!("the message names no node: {}", e.stderr)) } else { Ok(()) }
}

/// What array libraries make of a number has a dim of 1 as often as none.
#[cfg(feature = "mlir")]
fn one_element() -> Result<(), String> {
    let scalar = graph(vec![node("Relu", &["x"], &["y"])], vec![value("x", 1, &[])], vec![value("y", 1, &[])]);
    let folder = write("one-element", &one(bytes(&model(scalar))))?;
    for dims in [&[][..], &[1], &[1, 1]] {
        let x = Array::from_tensor(&f32s(dims)).map_err(|e| e.to_string())?;
        npz::save_npz(&folder.join("inputs.npz"), &[("x".to_owned(), x)]).map_err(|e| e.to_string())?;
        portwright(&folder, &["--quiet", "run", "model.onnx", "--inputs", "inputs.npz", "--outputs", "outputs.npz"])?.well()?;
    }
    Ok(())
}

#[cfg(feature = "mlir")]
fn node_path(name: &str) -> Option<&'static str> {
    match name {
        n if n.starts_with("token") => Some("main/embed"),
        "negative_size" | "size_too_large" | "reshape_that_does_not_fit" => Some("main/shaped"),
        "loop_over_its_limit" => Some("main/endless"),
        _ => None,
    }
}
