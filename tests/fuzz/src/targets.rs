// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is fed, and what must hold of every input: no panic, no hang, bounded memory, and what each target says.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};

use portwright_frontend::{ImportOptions, import_bytes, tensor_from_pb};
use portwright_ir::diag::{Diagnostic, Diags};
use portwright_ir::graph::{Graph, Op, text, verify};
use portwright_ir::{kernel, plan};
use portwright_runtime::blob::Blob;
use portwright_runtime::features::Arch;
use portwright_runtime::manifest::Manifest;
use portwright_runtime::npz::{self, Array};
use portwright_runtime::tensor::Tensor;

use crate::draw::Draw;
use crate::{change, graphs, models, program, wire};

/// Most nodes of a graph that is compiled, and most elements of a value of one that is run.
const NODES: usize = 64;
const ELEMS: i64 = 1 << 14;

/// Inputs that were read to the end and found right in form, so that what comes behind the parser ran.
pub static ACCEPTED: AtomicU64 = AtomicU64::new(0);

fn accepted() {
    ACCEPTED.fetch_add(1, Ordering::Relaxed);
}

/// One kind of input.
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Runs an input; `Err` for what is wrong beside panics. The numbers tell behaviors apart.
    pub run: fn(&[u8]) -> Result<Vec<u64>, String>,
    /// Another input, from one that is known.
    pub mutate: fn(&[u8], &mut Draw<'_>) -> Vec<u8>,
    /// A new input.
    pub fresh: fn(&mut Draw<'_>) -> Vec<u8>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "onnx", run: onnx, mutate: change::model, fresh: models::model },
    Target { name: "graph", run: random_graph, mutate: wire::bytes, fresh: some_bytes },
    Target { name: "inputs", run: run_time_inputs, mutate: wire::bytes, fresh: some_bytes },
    Target { name: "text", run: graph_text, mutate: mutate_graph_text, fresh: printed_graph },
    Target { name: "kernel", run: kernel_text, mutate: mutate_kernel_text, fresh: printed_kernels },
    Target { name: "manifest", run: manifest, mutate: mutate_json, fresh: some_manifest },
    Target { name: "blob", run: blob, mutate: wire::bytes, fresh: some_blob },
    Target { name: "npz", run: read_npz, mutate: wire::bytes, fresh: some_npz },
    Target { name: "images", run: images, mutate: wire::bytes, fresh: some_image },
    Target { name: "pb", run: read_pb, mutate: wire::protobuf, fresh: some_pb },
];

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}

fn hash(of: impl Hash) -> u64 {
    let mut h = DefaultHasher::new();
    of.hash(&mut h);
    h.finish()
}

/// Reports without their numbers and names: each kind is a behavior.
fn kinds(list: &[Diagnostic]) -> Vec<u64> {
    let plain = |d: &Diagnostic| {
        let mut inside = false;
        let keep = |c: &char| {
            inside ^= *c == '`';
            !inside && !c.is_ascii_digit()
        };
        let message: String = d.message.chars().filter(keep).take(80).collect();
        hash((d.code.0, d.op.as_deref().and_then(|o| o.split(' ').next()).unwrap_or(""), message))
    };
    list.iter().map(plain).collect()
}

/// Which ops meet.
fn pairs(g: &Graph, out: &mut Vec<u64>) {
    for n in g.node_ids() {
        let node = g.node(n);
        for &v in &node.operands {
            let from = g.producer(v).map_or("input", |p| p.op.mnemonic());
            out.push(hash((from, node.op.mnemonic(), g.ty(v).dtype.name())));
        }
        node.regions.iter().for_each(|r| pairs(r, out));
    }
}

/// Whether the interpreters can run a graph in little time: sizes are small whatever its symbols are.
fn small(g: &Graph) -> bool {
    let ok = |g: &Graph| {
        let values = g.values().values().map(|v| v.ty.elems().eval(&|_| Some(8)).unwrap_or(i64::MAX));
        values.fold(0, i64::max) <= ELEMS
    };
    fn all(g: &Graph, ok: &dyn Fn(&Graph) -> bool) -> bool {
        ok(g) && g.node_ids().all(|n| !matches!(g.node(n).op, Op::Loop { .. }) && g.node(n).regions.iter().all(|r| all(r, ok)))
    }
    all(g, &ok) && g.symbols().iter().all(|s| s.lo <= 1 && s.hi >= 8 && s.div == 1)
}

/// A model is imported; a small one is compiled, and run where all of it is small.
fn onnx(data: &[u8]) -> Result<Vec<u64>, String> {
    let mut out = Vec::new();
    for partial in [true, false] {
        let mut diags = Diags::new();
        let options = ImportOptions { partial, ..Default::default() };
        let imported = import_bytes(data, None, &options, &mut diags);
        if !partial && imported.is_err() != diags.has_errors() {
            return Err("an import fails just when it reports an error".into());
        }
        out.extend(kinds(diags.all()));
        let Ok(m) = imported else { continue };
        pairs(&m.graph, &mut out);
        // What is left of a model that is wrong may have names twice.
        if let Some(d) = verify::verify(&m.graph).first().filter(|_| !diags.has_errors()) {
            return Err(format!("the importer made a graph that is none: {d:?}"));
        }
        if !partial {
            accepted();
            out.extend(compiled(m.graph, data)?);
        }
    }
    Ok(out)
}

fn compiled(g: Graph, data: &[u8]) -> Result<Vec<u64>, String> {
    if g.len() > NODES {
        return Ok(Vec::new());
    }
    let mut d = Draw::bytes(data);
    let original = g.clone();
    match program::compile(g, d.one_in(2)) {
        Err(list) => match list.iter().find(|d| d.code.exit_code() == 70) {
            Some(bug) => Err(format!("{}: {}", bug.code, bug.message)),
            None => Ok(kinds(&list)),
        },
        Ok(c) => {
            // Texts and lists are numbers of tables that no input of random bits has.
            let numbers = original.inputs().iter().all(|&v| !original.ty(v).dtype.is_handle());
            if numbers && small(&original) {
                let inputs = graphs::inputs(&original, &mut d);
                program::agrees(&original, &c, &inputs)?;
            }
            Ok(c.main.module.kernels.values().map(|k| hash((k.class.name(), k.stmts.len() / 8))).collect())
        }
    }
}

/// A random legal graph is compiled, and computes what it means; its text is that of the same graph.
fn random_graph(data: &[u8]) -> Result<Vec<u64>, String> {
    let mut d = Draw::bytes(data);
    let g = graphs::graph(&mut d, 8);
    if let Some(d) = verify::verify(&g).first() {
        return Err(format!("not legal: {d:?}"));
    }
    let printed = text::print(&g);
    let again = text::parse(&printed).map_err(|e| format!("its text is refused: {e:?}\n{printed}"))?;
    if text::print(&again) != printed {
        return Err(format!("its text is that of another graph:\n{printed}"));
    }
    let wide = d.one_in(2);
    let inputs = graphs::inputs(&g, &mut d);
    let mut out = Vec::new();
    pairs(&g, &mut out);
    match program::compile(g.clone(), wide) {
        Ok(c) => {
            accepted();
            program::agrees(&g, &c, &inputs).map_err(|e| format!("{e}\n{printed}"))?;
        }
        Err(list) if list.iter().all(|d| d.code.exit_code() == 4) => out.extend(kinds(&list)),
        Err(list) => return Err(format!("{:?}\n{printed}", list.first())),
    }
    Ok(out)
}

/// A program refuses the inputs that its graph refuses, and no others.
fn run_time_inputs(data: &[u8]) -> Result<Vec<u64>, String> {
    let mut d = Draw::bytes(data);
    let g = graphs::graph_of_data(&mut d, 5);
    let wide = d.one_in(2);
    let Ok(c) = program::compile(g.clone(), wide) else { return Ok(Vec::new()) };
    accepted();
    let mut out = Vec::new();
    // A program is compiled once and run often.
    for _ in 0..4 {
        let inputs = graphs::wrong_inputs(&g, &mut d);
        let ran = program::both(&g, &c, &inputs).map_err(|e| format!("{e}\n{}", text::print(&g)))?;
        if let Some((want, got)) = &ran
            && (want.len() != got.len() || want.iter().zip(got).any(|(w, t)| w.dtype != t.dtype || w.dims != t.dims))
        {
            return Err(format!("results of other types\n{}", text::print(&g)));
        }
        out.push(u64::from(ran.is_some()));
    }
    pairs(&g, &mut out);
    Ok(out)
}

fn graph_text(data: &[u8]) -> Result<Vec<u64>, String> {
    let Ok(source) = std::str::from_utf8(data) else { return Ok(Vec::new()) };
    match text::parse(source) {
        Err(list) if list.is_empty() => Err("refused for no reason".into()),
        Err(list) => Ok(kinds(&list)),
        Ok(g) => {
            let printed = text::print(&g);
            let again = text::parse(&printed).map_err(|e| format!("what was printed is refused: {e:?}\n{printed}"))?;
            if text::print(&again) != printed {
                return Err(format!("printed, read and printed again it is another graph:\n{printed}"));
            }
            let mut out = kinds(&verify::verify(&g));
            pairs(&g, &mut out);
            if out.is_empty() || verify::verify(&g).is_empty() {
                accepted();
                out.extend(compiled(g, data)?);
            }
            Ok(out)
        }
    }
}

/// Kernels and plans, of which only the verifiers are told.
fn kernel_text(data: &[u8]) -> Result<Vec<u64>, String> {
    let Ok(source) = std::str::from_utf8(data) else { return Ok(Vec::new()) };
    let (kernels, plan_text) = source.split_once("\n====\n").unwrap_or((source, ""));
    let module = match kernel::parse_module(kernels) {
        Ok(m) => m,
        Err(e) => return Ok(vec![hash(e.to_string().chars().filter(|c| !c.is_ascii_digit()).take(60).collect::<String>())]),
    };
    accepted();
    let printed = kernel::print_module(&module);
    let again = kernel::parse_module(&printed).map_err(|e| format!("what was printed is refused: {e}\n{printed}"))?;
    if kernel::print_module(&again) != printed {
        return Err("printed, read and printed again it is another module".into());
    }
    let mut out = Vec::new();
    for (id, _) in module.kernels.iter() {
        let faults = kernel::verify(&module, id, &kernel::Limits::default()).err().unwrap_or_default();
        out.extend(faults.iter().map(|f| hash(f.message.chars().filter(|c| !c.is_ascii_digit()).take(40).collect::<String>())));
    }
    match plan::parse(plan_text, &|n| module.kernel_named(n).map(portwright_ir::entity::EntityId::index)) {
        Err(list) => out.extend(kinds(&list)),
        Ok(p) => out.push(plan::verify(&p, &module).len() as u64),
    }
    Ok(out)
}

fn manifest(data: &[u8]) -> Result<Vec<u64>, String> {
    let Ok(source) = std::str::from_utf8(data) else { return Ok(Vec::new()) };
    match Manifest::from_json(source) {
        Err(e) => Ok(vec![hash(e.to_string().chars().filter(|c| !c.is_ascii_digit()).take(60).collect::<String>())]),
        Ok(m) => {
            accepted();
            match Manifest::from_json(&m.to_json()) {
                Ok(again) if again == m => Ok(vec![1]),
                other => Err(format!("written and read it is another manifest: {other:?}")),
            }
        }
    }
}

fn blob(data: &[u8]) -> Result<Vec<u64>, String> {
    // With a right sum what it guards is reached too.
    let mut whole = data.to_vec();
    for fixed in [false, true] {
        if fixed {
            reseal(&mut whole);
        }
        if let Ok(b) = Blob::read(&whole) {
            accepted();
            let again = b.write().map_err(|e| format!("what was read cannot be written: {e}"))?;
            if Blob::read(&again).ok().as_ref() != Some(&b) {
                return Err("written and read it is another description".into());
            }
            return Ok(vec![b.inputs.len() as u64, b.symbols.len() as u64]);
        }
    }
    Ok(vec![0])
}

/// Puts the right size and checksum into a blob's head, in front of what the checksum is of.
fn reseal(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let n = bytes.len() as u64;
    if let Some((head, checked)) = bytes.split_at_mut_checked(32)
        && let Some(sizes) = head.get_mut(16..)
    {
        let sum = portwright_runtime::blob::checksum(checked);
        sizes.copy_from_slice(&[n.to_le_bytes(), sum.to_le_bytes()].concat());
    }
}

fn read_npz(data: &[u8]) -> Result<Vec<u64>, String> {
    let mut out = vec![];
    match npz::read_npy(&mut &*data) {
        Ok(a) => {
            accepted();
            out.push(hash(a.dims().len()));
        }
        Err(e) => out.push(hash(e.to_string().chars().filter(|c| !c.is_ascii_digit()).take(40).collect::<String>())),
    }
    match npz::read_npz(Cursor::new(data)) {
        Ok(list) => {
            accepted();
            for (_, a) in list {
                for code in [1, 7, 16, 22] {
                    out.push(hash(a.clone().into_tensor(code).is_ok()));
                }
            }
        }
        Err(e) => out.push(hash(e.to_string().chars().filter(|c| !c.is_ascii_digit()).take(40).collect::<String>())),
    }
    Ok(out)
}

/// Files of images, as bundles and interpreters decode them.
fn images(data: &[u8]) -> Result<Vec<u64>, String> {
    let layout = (data.len() % 3) as i64;
    Ok(match portwright_runtime::image::read(data, layout) {
        Ok((dims, pixels)) => {
            accepted();
            if dims.iter().product::<usize>() != pixels.len() {
                return Err(format!("{dims:?} in {} bytes", pixels.len()));
            }
            vec![hash((dims[2], data.first(), dims[0].max(1).ilog2(), dims[1].max(1).ilog2()))]
        }
        Err(why) => vec![hash((why, data.first()))],
    })
}

fn read_pb(data: &[u8]) -> Result<Vec<u64>, String> {
    Ok(match tensor_from_pb(data, None) {
        Ok(t) => {
            accepted();
            vec![hash((t.dtype.name(), t.dims.len()))]
        }
        Err(e) => vec![hash(e.chars().filter(|c| !c.is_ascii_digit()).take(60).collect::<String>())],
    })
}

// ---- inputs ----

fn some_bytes(d: &mut Draw<'_>) -> Vec<u8> {
    (0..16 + d.below(200)).map(|_| d.next() as u8).collect()
}

fn printed_graph(d: &mut Draw<'_>) -> Vec<u8> {
    text::print(&graphs::graph(d, 8)).into_bytes()
}

fn mutate_graph_text(data: &[u8], d: &mut Draw<'_>) -> Vec<u8> {
    let mut words: Vec<&str> = Op::mnemonics().collect();
    words.extend(["f32", "i64", "bool", "f16", "u4", "symbols", "region", "end", "output", "input", "assume", "alias", "N", "inf", "nan"]);
    wire::text(data, &words, d)
}

fn printed_kernels(d: &mut Draw<'_>) -> Vec<u8> {
    let g = graphs::graph(d, 6);
    let Ok(c) = program::compile(g, d.one_in(2)) else { return Vec::new() };
    let names: Vec<String> = c.main.module.kernels.values().map(|k| k.name.clone()).collect();
    let plan = plan::print(&c.main.plan, &|i| names.get(i).cloned().unwrap_or_default());
    format!("{}\n====\n{plan}", kernel::print_module(&c.main.module)).into_bytes()
}

fn mutate_kernel_text(data: &[u8], d: &mut Draw<'_>) -> Vec<u8> {
    const WORDS: &[&str] = &[
        "kernel", "let", "var", "for", "in", "step", "if", "load", "store", "mask", "splat", "f32", "f32x16", "i64", "unroll", "min",
        "max", "fma", "param", "sym", "launch", "grid", "barrier", "epoch", "check", "bind", "read", "output", "loop", "view", "arena",
    ];
    wire::text(data, WORDS, d)
}

fn some_manifest(d: &mut Draw<'_>) -> Vec<u8> {
    let mut b = Blob { name: "m".into(), ..Default::default() };
    b.data_shapes = d.one_in(2);
    let mut m = Manifest::of_blob(&b);
    m.options.insert("math".into(), "f32".into());
    m.files.insert("lib/libmodel.so".into(), "00".into());
    m.to_json().into_bytes()
}

fn mutate_json(data: &[u8], d: &mut Draw<'_>) -> Vec<u8> {
    const WORDS: &[&str] =
        &["null", "true", "{}", "[]", "\"\"", "1e400", "-1", "\"../x\"", "schema", "inputs", "outputs", "store", "\\u0000"];
    wire::text(data, WORDS, d)
}

fn some_blob(d: &mut Draw<'_>) -> Vec<u8> {
    use portwright_runtime::blob::{Dim, Port, Symbol};
    let arch = d.pick(&Arch::ALL).copied();
    let mut b = Blob { name: "m".into(), arch, cpu: "some".into(), ..Default::default() };
    b.texts = vec![String::new(), "a".into()];
    b.origins = vec!["main/a".into()];
    b.epochs = vec![Some(0), None];
    b.symbols.push(Symbol { name: "N".into(), lo: 1, hi: 64, div: 1 });
    for i in 0..d.below(3) {
        let dims = vec![Dim::Symbol(0), Dim::Fixed(d.below(9) as i64)];
        b.inputs.push(Port { name: format!("x{i}"), dtype: 1, dims: dims.clone(), ..Default::default() });
        b.outputs.push(Port { name: format!("y{i}"), dtype: 1, dims, ..Default::default() });
    }
    b.write().unwrap_or_default()
}

fn some_npz(d: &mut Draw<'_>) -> Vec<u8> {
    let one = |name: &str, code: i32, bytes: usize, dims: &[i64]| {
        let t = Tensor::new(code, dims, &vec![1; bytes]).ok()?;
        Some((name.to_owned(), Array::from_tensor(&t).ok()?))
    };
    let list: Vec<_> =
        [one("x", 1, 24, &[2, 3]), one("i", 7, 16, &[2]), one("b", 9, 1, &[])].into_iter().flatten().take(1 + d.below(3)).collect();
    let mut out = Cursor::new(Vec::new());
    if d.one_in(3) {
        let mut npy = Vec::new();
        let _ = list.first().map(|(_, a)| npz::write_npy(&mut npy, a));
        return npy;
    }
    let _ = npz::write_npz(&mut out, &list);
    out.into_inner()
}

/// A few pixels as PNM, BMP or TIFF.
fn some_image(d: &mut Draw<'_>) -> Vec<u8> {
    let (w, h) = (1 + d.below(9), 1 + d.below(9));
    let pixels: Vec<u8> = (0..w * h * 3).map(|_| d.below(256) as u8).collect();
    match d.below(4) {
        0 => [format!("P6 {w} {h} 255\n").as_bytes(), &pixels].concat(),
        1 => [format!("P2 {w} {h} 99\n").as_bytes(), pixels.iter().map(|p| format!("{} ", p % 99)).collect::<String>().as_bytes()].concat(),
        2 => {
            let row = (w * 3).next_multiple_of(4);
            let word = |v: usize| (v as u32).to_le_bytes();
            let head =
                [word(54 + row * h), word(0), word(54), word(40), word(w), word(h), word(24 << 16 | 1), word(0), word(row * h)].concat();
            let rows = pixels.chunks(w * 3).flat_map(|r| r.iter().copied().chain(std::iter::repeat_n(0, row - w * 3)));
            b"BM".iter().copied().chain(head).chain([0; 16]).chain(rows).collect()
        }
        _ => {
            let compression = [1, 5, 8, 32773][d.below(4)];
            let fields = [
                (256, w),
                (257, h),
                (258, 8),
                (259, compression),
                (262, 2),
                (273, 8),
                (277, 3),
                (279, pixels.len()),
                (317, 1 + d.below(2)),
            ];
            let field =
                |(tag, v): &(usize, usize)| [&(*tag as u16).to_le_bytes()[..], &[4, 0, 1, 0, 0, 0], &(*v as u32).to_le_bytes()].concat();
            let (at, entries) = (8 + pixels.len() as u32, fields.iter().flat_map(field).collect::<Vec<u8>>());
            [b"II*\0", &at.to_le_bytes()[..], &pixels, &(fields.len() as u16).to_le_bytes(), &entries, &[0; 4]].concat()
        }
    }
}

fn some_pb(d: &mut Draw<'_>) -> Vec<u8> {
    use protobuf::Message as _;
    let mut t = onnx_protobuf::TensorProto { name: "x".into(), dims: vec![2, 3], ..Default::default() };
    t.data_type = 1 + d.below(24) as i32;
    if d.one_in(2) {
        t.raw_data = vec![1; 1 + d.below(64)];
    } else {
        t.int32_data = vec![1; d.below(9)];
        t.float_data = vec![1.0; d.below(9)];
    }
    t.write_to_bytes().unwrap_or_default()
}
