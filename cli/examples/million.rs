// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Takes a generated ONNX model of a million nodes from its bytes to fused kernels and says what each stage costs:
//! `cargo run --release -p portwright-cli --no-default-features --example million [NODES|FILE] [blocks|chain|fan]`.
//!
//! `blocks` are transformer layers as exporters write them: norms and activations in primitives, shapes computed from `Shape`, constants
//! as nodes, six weights a layer in a file that is never opened. `chain` is one long chain, `fan` one value with a third of a million users
//! that meet in one `Concat`. A file is taken as it is, its external data left alone. Seconds are of the processor, user and system, since the start of the process.

use std::sync::Arc;

use portwright_frontend::{ImportOptions, import_bytes};
use portwright_ir::diag::Diags;
use portwright_ir::graph::Graph;
use portwright_passes::prepare::{Options, prepare_with};
use portwright_passes::spec::{CpuSpec, MachineClass};

/// A protobuf message under construction.
#[derive(Default)]
struct Msg(Vec<u8>);

impl Msg {
    fn varint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.0.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.0.push(v as u8);
    }
    fn int(mut self, field: u64, v: i64) -> Self {
        self.varint(field << 3);
        self.varint(v as u64);
        self
    }
    fn put(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
    fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        self.put(field, bytes.as_ref());
        self
    }
    fn msg(self, field: u64, m: Msg) -> Self {
        self.bytes(field, m.0)
    }
}

const FLOAT: i64 = 1;
const INT64: i64 = 7;

fn tensor(elem: i64, dims: &[i64], raw: &[u8]) -> Msg {
    let t = dims.iter().fold(Msg::default(), |t, &d| t.int(1, d)).int(2, elem);
    t.bytes(9, raw)
}
/// Integers as attribute.
fn ints(name: &str, values: &[i64]) -> Msg {
    values.iter().fold(Msg::default().bytes(1, name), |a, &v| a.int(8, v)).int(20, 7)
}
fn int(name: &str, value: i64) -> Msg {
    Msg::default().bytes(1, name).int(3, value).int(20, 2)
}
fn value_info(name: &str) -> Msg {
    let dims = Msg::default().msg(1, Msg::default().bytes(2, "N")).msg(1, Msg::default().int(1, 64));
    Msg::default().bytes(1, name).msg(2, Msg::default().msg(1, Msg::default().int(1, FLOAT).msg(2, dims)))
}

/// A model under construction.
#[derive(Default)]
struct Model {
    graph: Msg,
    nodes: usize,
    weights: usize,
}

impl Model {
    fn node(&mut self, op: &str, inputs: &[&str], attrs: Vec<Msg>) -> String {
        self.nodes += 1;
        let out = format!("/layers/{op}_{}_output_0", self.nodes);
        let mut n = inputs.iter().fold(Msg::default(), |n, i| n.bytes(1, i)).bytes(2, &out);
        n = n.bytes(3, format!("/layers/{op}_{}", self.nodes)).bytes(4, op);
        let n = attrs.into_iter().fold(n, |n, a| n.msg(5, a));
        self.graph.put(1, &n.0);
        out
    }
    fn constant(&mut self, t: Msg) -> String {
        let value = Msg::default().bytes(1, "value").msg(5, t).int(20, 4);
        self.node("Constant", &[], vec![value])
    }
    fn number(&mut self, v: f32) -> String {
        self.constant(tensor(FLOAT, &[], &v.to_le_bytes()))
    }
    fn list(&mut self, values: &[i64]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(tensor(INT64, &[values.len() as i64], &raw))
    }
    fn index(&mut self, v: i64) -> String {
        self.constant(tensor(INT64, &[], &v.to_le_bytes()))
    }
    /// A weight in a file that is not there.
    fn weight(&mut self, dims: &[i64]) -> String {
        self.weights += 1;
        let name = format!("layers.weight_{}", self.weights);
        let entry = |k: &str, v: String| Msg::default().bytes(1, k).bytes(2, v);
        let t = dims.iter().fold(Msg::default(), |t, &d| t.int(1, d)).int(2, FLOAT).bytes(8, &name);
        let t = t.msg(13, entry("location", "model.onnx.data".into()));
        let t = t.msg(13, entry("offset", ((self.weights as u64) << 14).to_string())).int(14, 1);
        self.graph.put(5, &t.0);
        name
    }
    fn norm(&mut self, x: &str) -> String {
        let last = || vec![ints("axes", &[-1])];
        let mean = self.node("ReduceMean", &[x], last());
        let d = self.node("Sub", &[x, &mean], vec![]);
        let two = self.number(2.0);
        let square = self.node("Pow", &[&d, &two], vec![]);
        let variance = self.node("ReduceMean", &[&square], last());
        let eps = self.number(1e-5);
        let moved = self.node("Add", &[&variance, &eps], vec![]);
        let root = self.node("Sqrt", &[&moved], vec![]);
        let y = self.node("Div", &[&d, &root], vec![]);
        let scale = self.weight(&[64]);
        self.node("Mul", &[&y, &scale], vec![])
    }
    /// Rows times a square weight, split into heads: the dims are computed, as exporters do.
    fn heads(&mut self, x: &str) -> String {
        let w = self.weight(&[64, 64]);
        let y = self.node("MatMul", &[x, &w], vec![]);
        let shape = self.node("Shape", &[x], vec![]);
        let zero = self.index(0);
        let rows = self.node("Gather", &[&shape, &zero], vec![int("axis", 0)]);
        let axes = self.list(&[0]);
        let rows = self.node("Unsqueeze", &[&rows, &axes], vec![]);
        let rest = self.list(&[4, 16]);
        let dims = self.node("Concat", &[&rows, &rest], vec![int("axis", 0)]);
        let y = self.node("Reshape", &[&y, &dims], vec![]);
        self.node("Transpose", &[&y], vec![ints("perm", &[1, 0, 2])])
    }
    /// Attention and a gated layer, each with norm and residual.
    fn block(&mut self, x: &str) -> String {
        let h = self.norm(x);
        let (q, k, v) = (self.heads(&h), self.heads(&h), self.heads(&h));
        let k = self.node("Transpose", &[&k], vec![ints("perm", &[0, 2, 1])]);
        let scores = self.node("MatMul", &[&q, &k], vec![]);
        let scale = self.number(0.25);
        let scores = self.node("Mul", &[&scores, &scale], vec![]);
        let p = self.node("Softmax", &[&scores], vec![int("axis", -1)]);
        let y = self.node("MatMul", &[&p, &v], vec![]);
        let y = self.node("Transpose", &[&y], vec![ints("perm", &[1, 0, 2])]);
        let flat = self.list(&[-1, 64]);
        let y = self.node("Reshape", &[&y, &flat], vec![]);
        let x = self.node("Add", &[x, &y], vec![]);
        let h = self.norm(&x);
        let w = self.weight(&[64, 64]);
        let h = self.node("MatMul", &[&h, &w], vec![]);
        let gate = self.node("Sigmoid", &[&h], vec![]);
        let h = self.node("Mul", &[&h, &gate], vec![]);
        let one = self.number(1.0);
        let h = self.node("Mul", &[&h, &one], vec![]);
        self.node("Add", &[&x, &h], vec![])
    }
    fn finish(self, last: &str) -> Vec<u8> {
        let output = Msg::default().bytes(1, last).msg(2, Msg::default().msg(1, Msg::default().int(1, FLOAT)));
        let graph = self.graph.bytes(2, "million").msg(11, value_info("x")).msg(12, output);
        Msg::default().int(1, 8).msg(8, Msg::default().bytes(1, "").int(2, 17)).msg(7, graph).0
    }
}

fn generate(nodes: usize, kind: &str) -> Vec<u8> {
    let mut m = Model::default();
    let mut x = "x".to_string();
    match kind {
        "chain" => {
            while m.nodes < nodes {
                x = m.node(["Tanh", "Exp", "Neg", "Sigmoid"][m.nodes % 4], &[&x], vec![]);
            }
        }
        "fan" => {
            let hub = m.node("Tanh", &["x"], vec![]);
            let mut legs = Vec::new();
            while m.nodes + 1 < nodes {
                let c = m.number(m.nodes as f32);
                let leg = m.node("Mul", &[&hub, &c], vec![]);
                legs.push(m.node("Exp", &[&leg], vec![]));
            }
            let legs: Vec<&str> = legs.iter().map(String::as_str).collect();
            x = m.node("Concat", &legs, vec![int("axis", 0)]);
        }
        _ => {
            while m.nodes < nodes {
                x = m.block(&x);
            }
        }
    }
    m.finish(&x)
}

/// Processor seconds of this process and the most memory that it had, in MiB, where the system tells.
fn cost() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15 of the whole, in hundredths of a second; the second field is a name in parentheses.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: f64 = fields.filter_map(|f| f.parse::<f64>().ok()).sum();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    (ticks / 100.0, peak.unwrap_or(0) >> 10)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let first = args.next().unwrap_or_else(|| "1000000".into());
    let (kind, bytes) = match first.parse() {
        Ok(nodes) => {
            let kind = args.next().unwrap_or_else(|| "blocks".into());
            let bytes = generate(nodes, &kind);
            (kind, bytes)
        }
        Err(_) => {
            let bytes = std::fs::read(&first);
            (first, bytes.unwrap_or_default())
        }
    };
    let start = cost().0;
    let say = move |stage: &str, nodes: usize| {
        let (seconds, peak) = cost();
        println!("{stage:>8}: {nodes:>8} nodes at {:6.2} s, peak {peak} MiB", seconds - start);
    };
    println!("{kind}: {} bytes of ONNX, {:.2} s to have them", bytes.len(), start);
    let progress: portwright_frontend::Progress = Arc::new(|_, _| {});
    let options = ImportOptions { weightless: true, progress: Some(progress), ..Default::default() };
    let mut diags = Diags::new();
    let imported = import_bytes(&bytes, None, &options, &mut diags);
    drop(bytes);
    let Ok(imported) = imported else {
        println!("not imported: {:?}", diags.all().first());
        return;
    };
    say("import", imported.graph.len());
    let machine = MachineClass::Cpu(CpuSpec {
        vec_bytes: 32,
        vec_regs: 16,
        masked_mem: true,
        fma: true,
        l1_bytes: 32 << 10,
        l2_bytes: 1 << 20,
        dots: &[],
        tiles: &[],
    });
    let mut see = |stage: &str, g: &Graph, _: &Graph| say(stage, g.len());
    let options = Options { stages: Some(&mut see), ..Default::default() };
    match prepare_with(imported.graph, &machine, options, &mut diags) {
        Ok(p) => println!("rules fired: {:?}", p.log.fired),
        Err(_) => println!("not prepared: {:?}", diags.all().first()),
    }
}
