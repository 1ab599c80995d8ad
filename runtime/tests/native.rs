// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The C runtime as bundles use it: a model object written by hand (`c/fake_model.c`) is linked with the runtime into
//! libraries, and a C program (`c/driver.c`) holds them to every sentence of the C ABI. What needs a tool that is not there
//! prints `skipped: reason`.

use portwright_runtime::blob::{Blob, Dim, Port, Symbol};
use portwright_runtime::embed;
use portwright_runtime::features::{self, Arch};
use portwright_runtime::header;
use portwright_runtime::load::{Model, Options, Status};
use portwright_runtime::npz;
use portwright_runtime::store::{Layout, StoreWriter};
use portwright_runtime::tensor::{Tensor, View};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first of the programs that runs.
fn tool(names: &[&str]) -> Option<String> {
    names.iter().find(|n| Command::new(n).arg("--version").output().is_ok_and(|o| o.status.success())).map(|n| n.to_string())
}

fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let out = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if out.status.success() { Ok(text) } else { Err(format!("{program} {args:?}: {}\n{text}", out.status)) }
}

struct Tools {
    clang: String,
    lld: String,
    cc: String,
}

/// Says why the test is skipped, once, and returns nothing.
fn tools() -> Option<Tools> {
    let found = (tool(&["clang-22", "clang"]), tool(&["ld.lld-22", "ld.lld"]), tool(&["cc", "gcc", "clang-22"]));
    match found {
        (Some(clang), Some(lld), Some(cc)) => Some(Tools { clang, lld, cc }),
        (clang, lld, cc) => {
            println!("skipped: missing tool (clang: {clang:?}, ld.lld: {lld:?}, cc: {cc:?})");
            None
        }
    }
}

fn weights() -> Layout {
    let mut layout = Layout::new();
    layout.push("unused", 2, &[3], 3, 64).unwrap();
    assert_eq!(layout.push("w", 1, &[4], 16, 64).unwrap(), 64);
    layout
}

fn fake(arch: Arch, data_shapes: bool) -> Blob {
    let symbol = |name: &str, hi| Symbol { name: name.into(), lo: 0, hi, div: 1 };
    let port = |name: &str, dtype, dims: &[Dim]| Port { name: name.into(), dtype, dims: dims.to_vec(), ..Port::default() };
    let feature: &[&str] = match arch {
        Arch::X86_64 => &["sse3"],
        Arch::Loongarch64 => &["d"],
        _ => &[],
    };
    Blob {
        name: "fake".into(),
        arch: Some(arch),
        cpu: "test-cpu".into(),
        features: feature.iter().filter_map(|f| features::bit(arch, f)).collect(),
        data_shapes,
        symbols: vec![symbol("N", i64::MAX), symbol("M", 1 << 40), symbol("P", 100_000), symbol("P + 1", 100_001)],
        inputs: vec![
            port("x", 1, &[Dim::Symbol(0), Dim::Fixed(4)]),
            port("index", 7, &[Dim::Symbol(1)]),
            port("cache", 1, &[Dim::Fixed(2), Dim::Symbol(2), Dim::Fixed(3)]),
            Port { read_by_plan: true, ..port("mode", 7, &[Dim::Fixed(1)]) },
        ],
        outputs: vec![
            Port { origin: Some(1), ..port("y", 1, &[Dim::Symbol(1), Dim::Fixed(4)]) },
            Port { alias_of: Some(2), append_axis: Some(1), ..port("cache_out", 1, &[Dim::Fixed(2), Dim::Symbol(3), Dim::Fixed(3)]) },
            port("twice", 7, &[Dim::Fixed(1)]),
        ],
        origins: vec!["enc/Mul".into(), "emb/Gather".into(), "body/Loop".into()],
        epochs: vec![Some(0)],
        texts: Vec::new(),
        store: weights().reference(),
    }
}

/// Writes a bundle's library and weights to `dir`; returns the library.
fn bundle(t: &Tools, dir: &Path, triple: &str, runtime: Option<&Path>, flags: &[&str]) -> Result<PathBuf, String> {
    let c = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |p: &Path| p.display().to_string();
    let arch = Arch::of_triple(triple).ok_or("triple")?;
    for d in ["lib", "weights", "build"] {
        std::fs::create_dir_all(dir.join(d)).map_err(|e| e.to_string())?;
    }
    let blob = fake(arch, flags.contains(&"-DDATA_SHAPES")).write().map_err(|e| e.to_string())?;
    let numbers: Vec<String> = blob.iter().map(u8::to_string).collect();
    let constness = if flags.contains(&"-DMUTABLE_BLOB") { "" } else { "const " };
    let source = format!(
        "#define HIDDEN __attribute__((visibility(\"hidden\")))\n\
         HIDDEN {constness}unsigned char pw_model_blob[] __attribute__((aligned(8))) = {{{}}};\n\
         HIDDEN const unsigned long pw_model_blob_size = sizeof pw_model_blob;\n",
        numbers.join(",")
    );
    let (blob_c, blob_o, model_o) = (dir.join("build/blob.c"), dir.join("build/blob.o"), dir.join("build/model.o"));
    std::fs::write(&blob_c, source).map_err(|e| e.to_string())?;
    let target = format!("--target={triple}");
    let include = format!("-I{}", text(&c.join("c")));
    let base = [target.as_str(), "-std=c11", "-O2", "-ffreestanding", "-nostdlibinc", "-fPIC", "-Wall", "-Wextra", "-Werror", "-c"];
    let compile = |from: &Path, to: &Path| {
        let (from, to) = (text(from), text(to));
        run(&t.clang, &[&base[..], flags, &[include.as_str(), &from, "-o", &to]].concat())
    };
    compile(&blob_c, &blob_o)?;
    compile(&c.join("tests/c/fake_model.c"), &model_o)?;
    let runtime_o = match runtime {
        Some(path) => path.to_path_buf(),
        None => {
            let path = dir.join("build/runtime.o");
            std::fs::write(&path, embed::object_for(triple).ok_or("no embedded runtime")?).map_err(|e| e.to_string())?;
            path
        }
    };
    let lib = dir.join("lib/libmodel.so");
    let (model_o, blob_o, runtime_o, out) = (text(&model_o), text(&blob_o), text(&runtime_o), text(&lib));
    let args = embed::link_arguments("fake", &[&model_o, &blob_o], &runtime_o, &out);
    run(&t.lld, &args.iter().map(String::as_str).collect::<Vec<_>>())?;
    let layout = weights();
    let store = StoreWriter::create(&dir.join("weights/store.bin"), &layout).map_err(|e| e.to_string())?;
    let w: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    store.put(1, 0, &w).and_then(|()| store.finish()).map_err(|e| e.to_string())?;
    Ok(lib)
}

fn driver(t: &Tools, dir: &Path, flags: &[&str]) -> Result<String, String> {
    let c = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (include, source) = (c.join("c").display().to_string(), c.join("tests/c/driver.c").display().to_string());
    let program = dir.join("driver").display().to_string();
    let fixed = ["-std=gnu11", "-O1", "-frounding-math", "-Wall", "-I", &include, &source, "-o", &program, "-ldl", "-lpthread", "-lm"];
    run(&t.cc, &[flags, &fixed[..]].concat())?;
    Ok(program)
}

/// The host's triple, if there is a runtime for it.
fn host() -> Option<String> {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    embed::object_for(&triple).map(|_| triple)
}

#[test]
fn every_sentence_of_the_abi() {
    let (Some(t), Some(triple)) = (tools(), host()) else { return println!("skipped: no embedded runtime for this machine") };
    let dir = tempfile::tempdir().unwrap();
    let d = |n: &str| dir.path().join(n);
    for (name, flags) in [("a", &[][..]), ("b", &[]), ("c", &[]), ("fuzz", &["-DMUTABLE_BLOB"])] {
        bundle(&t, &d(name), &triple, None, flags).unwrap();
    }
    let program = driver(&t, dir.path(), &[]).unwrap();
    let paths: Vec<String> = ["a", "b", "fuzz", "c"].iter().map(|n| d(n).display().to_string()).collect();
    let text = run(&program, &paths.iter().map(String::as_str).collect::<Vec<_>>());
    println!("{}", text.as_ref().unwrap_or_else(|e| e));
    assert!(text.is_ok_and(|t| t.contains(" 0 failures")));
}

/// Builds the runtime and the model with `flags`, the driver with `driver_flags`, and runs the driver.
fn with_flags(t: &Tools, triple: &str, flags: &[&str], driver_flags: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c/runtime.c").display().to_string();
    let object = dir.path().join("runtime.o");
    let target = format!("--target={triple}");
    let args = [target.as_str(), "-std=c11", "-O2", "-ffreestanding", "-nostdlibinc", "-fPIC", "-fvisibility=hidden"];
    run(&t.clang, &[&args[..], flags, &["-c", &source, "-o", &object.display().to_string()]].concat()).unwrap();
    let d = |n: &str| dir.path().join(n);
    for (name, more) in [("a", &[][..]), ("b", &[]), ("c", &[]), ("fuzz", &["-DMUTABLE_BLOB"])] {
        bundle(t, &d(name), triple, Some(&object), &[flags, more].concat()).unwrap();
    }
    let program = driver(t, dir.path(), driver_flags).unwrap();
    let mut paths: Vec<String> = ["a", "b", "fuzz", "c"].iter().map(|n| d(n).display().to_string()).collect();
    paths.push("quick".into());
    let text = run(&program, &paths.iter().map(String::as_str).collect::<Vec<_>>());
    println!("{}", text.as_ref().unwrap_or_else(|e| e));
    assert!(text.is_ok_and(|t| t.contains(" 0 failures")));
}

#[test]
fn decoders_of_images_go_with_the_runtime() {
    let Some(t) = tools() else { return };
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/with_images.c");
    let flags = ["-std=gnu11", "-fsyntax-only", "-ffreestanding", "-w", "-DPW_WITH_DEVICE", "-DPW_VERSION=\"x\""];
    run(&t.clang, &[&flags[..], &[from.to_str().unwrap()]].concat()).unwrap();
}

#[test]
fn many_threads_on_few_cpus() {
    let (Some(t), Some(triple)) = (tools(), host()) else { return println!("skipped: no embedded runtime for this machine") };
    with_flags(&t, &triple, &["-DPW_CPUS=8"], &[]);
}

/// The sanitized runs take a minute and gcc's library, so they are only made on request.
fn asked_for(library: &str) -> bool {
    let asked = std::env::var_os("PORTWRIGHT_SANITIZE").is_some();
    if !asked {
        println!("skipped: needs {library} and PORTWRIGHT_SANITIZE=1");
    }
    asked
}

#[test]
fn under_thread_sanitizer() {
    if !asked_for("libtsan") {
        return;
    }
    let (Some(t), Some(triple)) = (tools(), host()) else { return };
    let flags = ["-DPW_CPUS=8", "-fsanitize=thread", "-mllvm", "-tsan-instrument-memintrinsics=0"];
    with_flags(&t, &triple, &flags, &["-fsanitize=thread"]);
}

#[test]
fn under_address_sanitizer() {
    if !asked_for("libasan") {
        return;
    }
    let (Some(t), Some(triple)) = (tools(), host()) else { return };
    let flags = ["-DPW_CPUS=4", "-fsanitize=address,undefined", "-fno-sanitize=alignment,function", "-fno-sanitize-recover=undefined"];
    with_flags(&t, &triple, &flags, &["-fsanitize=address,undefined"]);
}

/// Every triple links into a library that exports two symbols and needs only what all C libraries have.
#[test]
fn every_triple_links() {
    let Some(t) = tools() else { return };
    let Some(nm) = tool(&["llvm-nm-22", "llvm-nm", "nm"]) else { return println!("skipped: no nm") };
    let dir = tempfile::tempdir().unwrap();
    for triple in embed::triples() {
        let lib = bundle(&t, &dir.path().join(triple), triple, None, &[]).unwrap().display().to_string();
        let again = bundle(&t, &dir.path().join(format!("{triple}-2")), triple, None, &[]).unwrap();
        assert_eq!(std::fs::read(&lib).unwrap(), std::fs::read(&again).unwrap(), "{triple}: the same input gives other bytes");
        let symbols = run(&nm, &["-D", &lib]).unwrap();
        let mut exported = Vec::new();
        for line in symbols.lines() {
            let mut words = line.split_whitespace().rev();
            let (name, kind) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let allowed = ["memcpy", "memset", "memcmp", "__tls_get_addr", "getauxval"];
            match kind {
                "U" | "w" => assert!(allowed.contains(&name) || (kind == "w" && name.starts_with("pthread_")), "{triple}: needs {name}"),
                _ => exported.push(name.to_string()),
            }
        }
        exported.sort();
        assert_eq!(exported, ["pw_bundle_api", "pw_fake_api", "pw_rt_pool_v2"], "{triple}");
    }
}

fn tensor<const N: usize>(dtype: i32, dims: &[i64], values: &[[u8; N]]) -> Tensor {
    Tensor::new(dtype, dims, values.as_flattened()).unwrap()
}

/// The loader that the command uses.
#[test]
fn rust_loads_and_runs() {
    let (Some(t), Some(triple)) = (tools(), host()) else { return println!("skipped: no embedded runtime for this machine") };
    let dir = tempfile::tempdir().unwrap();
    bundle(&t, dir.path(), &triple, None, &[]).unwrap();
    let model = Model::load(dir.path(), &Options { threads: 2, profile: true, ..Options::default() }).unwrap();
    let names: Vec<&str> = model.inputs().iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["x", "index", "cache", "mode"]);
    assert_eq!(model.outputs()[1].dims[1].symbol.as_deref(), Some("P + 1"));
    assert_eq!((model.outputs()[1].alias_of, model.inputs()[2].dims[1].max), (Some(2), 100_000));
    let f = |n: usize| -> Vec<[u8; 4]> { (0..n).map(|i| (i as f32).to_le_bytes()).collect() };
    let mut inputs = vec![
        tensor(1, &[3, 4], &f(12)),
        tensor(7, &[2], &[2i64.to_le_bytes(), 0i64.to_le_bytes()]),
        tensor(1, &[2, 1, 3], &f(6)),
        tensor(7, &[1], &[0i64.to_le_bytes()]),
    ];
    let mut session = model.open().unwrap();
    for _ in 0..3 {
        let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
        let out = session.run(&views).unwrap();
        let y: Vec<f32> = out[0].data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert_eq!((out[0].dims.as_slice(), y), (&[2, 4][..], vec![9.0, 19.0, 31.0, 45.0, 1.0, 3.0, 7.0, 13.0]));
        assert_eq!(out[1].dims, [2, 2, 3]);
        assert_eq!(out[2].data, 4i64.to_le_bytes());
        let profile = model.take_profile();
        assert_eq!(profile.iter().map(|l| l.node.as_str()).collect::<Vec<_>>(), ["enc/Mul", "emb/Gather", "emb/Gather"]);
        assert_eq!(session.infer(&views).unwrap(), [vec![2, 4], vec![2, 2, 3], vec![1]]);
        model.take_profile();
    }
    // Where shapes depend on computed values, infer runs the model; what the last run gave stays.
    let by_value = tempfile::tempdir().unwrap();
    bundle(&t, by_value.path(), &triple, None, &["-DDATA_SHAPES"]).unwrap();
    let other = Model::load(by_value.path(), &Options { profile: true, ..Options::default() }).unwrap();
    let mut infers = other.open().unwrap();
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    infers.execute(&views).unwrap();
    assert_eq!(other.take_profile().len(), 3);
    assert_eq!(infers.infer(&views).unwrap(), [vec![2, 4], vec![2, 2, 3], vec![1]]);
    assert_eq!(other.take_profile().len(), 3);
    assert_eq!(infers.results()[2].data, 4i64.to_le_bytes());
    // Bytes at an odd address are copied, not trusted.
    let odd = [vec![0u8; 1], inputs[0].data.to_vec()].concat();
    let mut views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    views[0].data = &odd[1..];
    assert_eq!(session.run(&views).unwrap()[0].data[..4], 9f32.to_le_bytes());
    views[0].data = &odd[..40];
    assert_eq!(session.run(&views).unwrap_err().status, Status::Argument);
    inputs[1] = tensor(7, &[1], &[(-4i64).to_le_bytes()]);
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let e = session.run(&views).unwrap_err();
    assert_eq!((e.status, e.to_string().as_str()), (Status::Index, "node emb/Gather: the index -4 at position 0 is out of range"));
    assert!(session.results().iter().all(|r| r.data.is_empty()));
    // From several threads, a session each; the model outlives its handle.
    std::thread::scope(|s| {
        for _ in 0..4 {
            let mut session = model.open().unwrap();
            let inputs = &inputs;
            s.spawn(move || {
                let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
                assert_eq!(session.run(&views).unwrap_err().status, Status::Index);
            });
        }
    });
    drop(model);
    assert_eq!(session.run::<View<'_>>(&[]).unwrap_err().status, Status::Argument);
    std::fs::remove_dir_all(dir.path().join("weights")).unwrap();
    assert_eq!(Model::load(dir.path(), &Options::default()).unwrap_err().status, Status::Bundle);
    assert_eq!(Model::load(&dir.path().join("none"), &Options::default()).unwrap_err().status, Status::Bundle);
}

/// The typed header compiles without a warning as C11 and C++17, alone and twice, and its functions run the model.
#[test]
fn typed_header() {
    let (Some(t), Some(triple)) = (tools(), host()) else { return println!("skipped: no embedded runtime for this machine") };
    let dir = tempfile::tempdir().unwrap();
    bundle(&t, dir.path(), &triple, None, &[]).unwrap();
    let path = |n: &str| dir.path().join(n).display().to_string();
    let mut blob = fake(Arch::X86_64, false);
    std::fs::write(path("fake.h"), header::write(&blob)).unwrap();
    let program = include_str!("c/use_header.c");
    std::fs::write(path("main.c"), program).unwrap();
    std::fs::write(path("main.cpp"), program).unwrap();
    let want = "y = 9 .. 13, 2; 4 of 3\nkept 13\n5: node emb/Gather: the index 9 at position 1 is out of range\n8: text\n";
    let mut compiled = 0;
    let warnings = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"];
    for (compiler, standard, source) in [
        (t.clang.as_str(), "-std=c11", "main.c"),
        (&t.clang, "-std=c++17", "main.cpp"),
        ("gcc", "-std=c11", "main.c"),
        ("g++", "-std=c++17", "main.cpp"),
    ] {
        if tool(&[compiler]).is_none() {
            println!("skipped: no {compiler}");
            continue;
        }
        let out = path("main");
        let static_too = ["-DPORTWRIGHT_STATIC", "-fsyntax-only"];
        run(compiler, &[&warnings[..], &static_too, &[standard, &path(source)]].concat()).unwrap();
        run(compiler, &[&warnings[..], &[standard, &path(source), "-o", &out, "-ldl"]].concat()).unwrap();
        assert_eq!(run(&out, &[&path("")]).unwrap(), want, "{compiler} {standard}");
        compiled += 1;
    }
    assert!(compiled > 0);
    // Names that are no identifiers, equal after cleaning, keywords or comment ends; no inputs and no outputs at all.
    blob.name = "9 */ model".into();
    for (i, name) in ["a.b", "a b", "int", "*/"].iter().enumerate() {
        blob.inputs[i].name = name.to_string();
    }
    blob.symbols[0].name = "class\\\n*/".into();
    for (file, blob) in [("odd.c", blob), ("empty.c", Blob { arch: Some(Arch::X86_64), ..Blob::default() })] {
        let use_all = format!("{}\nint main(void) {{ return 0; }}\n", header::write(&blob));
        std::fs::write(path(file), use_all).unwrap();
        for language in [&["-x", "c", "-std=c11"][..], &["-x", "c++", "-std=c++17"]] {
            run(&t.clang, &[&warnings[..], &["-Wno-unused-function", "-fsyntax-only"], language, &[&path(file)]].concat()).unwrap();
        }
    }
}

/// Files that numpy wrote are read, and numpy reads what is written.
#[test]
fn numpy_agrees() {
    let Some(python) = tool(&["python3"]).filter(|p| run(p, &["-c", "import numpy"]).is_ok()) else {
        return println!("skipped: no python3 with numpy");
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |n: &str| dir.path().join(n);
    let script = r#"
import numpy as np, sys
a = {k: np.arange(24).reshape(2, 3, 4).astype(k) for k in ['bool', 'u1', 'i1', '<u2', '>i2', '<i4', '>i8', 'u4', 'u8', 'f2', '>f4', 'f8', 'c8', '>c16']}
a['fortran'] = np.asfortranarray(np.arange(24, dtype='f4').reshape(2, 3, 4))
a['scalar'] = np.float32(7)
a['empty'] = np.zeros((3, 0, 2), 'i8')
a['text'] = np.array([['a', ''], ['h\u00e9', 'x y']])
a['text >'] = a['text'].astype('>U5')
if sys.argv[1] == 'write':
    np.savez(sys.argv[2], **a)
    np.savez_compressed(sys.argv[3], **a)
else:
    b = np.load(sys.argv[2])
    assert sorted(b.files) == sorted(a), b.files
    for k in a:
        assert b[k].shape == np.shape(a[k]) and np.array_equal(b[k], a[k]), k
        assert b[k].dtype.kind == np.asarray(a[k]).dtype.kind and b[k].flags.c_contiguous, k
"#;
    let text = |p: PathBuf| p.display().to_string();
    run(&python, &["-c", script, "write", &text(path("a.npz")), &text(path("b.npz"))]).unwrap();
    let a = npz::load_npz(&path("a.npz")).unwrap();
    assert_eq!(a, npz::load_npz(&path("b.npz")).unwrap());
    npz::save_npz(&path("c.npz"), &a).unwrap();
    run(&python, &["-c", script, "read", &text(path("c.npz"))]).unwrap();
}

/// The archive reader and writer of static programs for this machine, with the sanitizers where the compiler has them.
fn npz_reader(dir: &Path) -> Option<String> {
    let Some(cc) = tool(&["cc", "gcc", "clang-22"]) else {
        println!("skipped: no C compiler");
        return None;
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/npz_reader.c").display().to_string();
    let program = dir.join("npz_reader").display().to_string();
    let fixed = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", &source, "-o", &program];
    let sanitized = run(&cc, &[&["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"], &fixed[..]].concat());
    sanitized.or_else(|_| run(&cc, &fixed)).unwrap();
    Some(program)
}

/// Archives of every dtype, of elements that compress well, badly and not at all: stored and deflated, with their arrays.
fn archives(dir: &Path) -> (Vec<PathBuf>, Vec<(String, i32, Tensor)>) {
    use portwright_runtime::dtype;
    use std::io::Write;
    let mut all = Vec::new();
    for d in dtype::ALL.iter().filter(|d| d.bits > 0) {
        for (n, dims) in [&[][..], &[0], &[3], &[2, 7, 5], &[40, 64]].iter().enumerate() {
            let bytes = dtype::tensor_bytes(d.code, dims).unwrap();
            let used = dtype::elements(dims).unwrap() * u64::from(d.bits) % 8;
            let mut state = 7u64;
            let mut data: Vec<u8> = (0..bytes)
                .map(|i| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    match (d.code, n) {
                        (9, _) => (state >> 40) as u8 & 1,
                        (_, 4) if i % 3 > 0 => (i / 100) as u8,
                        _ => (state >> 33) as u8,
                    }
                })
                .collect();
            if let (Some(last), true) = (data.last_mut(), used > 0) {
                *last &= (1 << used) - 1;
            }
            all.push((format!("{} {n} é", d.name), d.code, Tensor::new(d.code, dims, &data).unwrap()));
        }
    }
    let (stored, deflated) = (dir.join("stored.npz"), dir.join("deflated.npz"));
    let arrays: Vec<_> = all.iter().map(|(n, _, t)| (n.clone(), npz::Array::from_tensor(t).unwrap())).collect();
    npz::save_npz(&stored, &arrays).unwrap();
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&deflated).unwrap());
    for (i, (name, a)) in arrays.iter().enumerate() {
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.start_file(format!("{name}.npy"), options.compression_level(Some(i as i64 % 9 + 1)).large_file(i % 2 == 0)).unwrap();
        let mut bytes = Vec::new();
        npz::write_npy(&mut bytes, a).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
    (vec![stored, deflated], all)
}

#[test]
fn static_programs_read_and_write_what_the_command_does() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = npz_reader(dir.path()) else { return };
    let (files, all) = archives(dir.path());
    let text = |p: &Path| p.display().to_string();
    let wanted: Vec<String> = all.iter().flat_map(|(n, code, _)| [n.clone(), code.to_string()]).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    for file in &files {
        let said = run(&program, &[&["read", &text(file)], &wanted[..]].concat()).unwrap();
        for (line, (name, _, t)) in said.lines().zip(&all) {
            let hash = t.data.iter().fold(0xcbf29ce484222325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100000001b3));
            let dims: String = t.dims.iter().map(|d| format!(" {d}")).collect();
            assert_eq!(line, format!("{name} {}{dims} {} {hash:016x}", t.dims.len(), t.data.len()), "{}", file.display());
        }
        assert_eq!(said.lines().count(), all.len());
        let to = dir.path().join("copy.npz");
        run(&program, &[&["copy", &text(file), &text(&to)], &wanted[..]].concat()).unwrap();
        assert!(std::fs::read(&to).unwrap() == std::fs::read(&files[0]).unwrap(), "the copy of {} has other bytes", file.display());
    }
}

/// An archive of one entry `x`.
fn archive(path: &Path, method: zip::CompressionMethod, bytes: &[u8]) {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    zip.start_file("x.npy", zip::write::SimpleFileOptions::default().compression_method(method)).unwrap();
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap();
}

/// An .npy file of that version.
fn npy(version: u8, head: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY".to_vec();
    file.extend([version, 0]);
    let length = (head.len() as u32).to_le_bytes();
    file.extend(if version == 1 { &length[..2] } else { &length[..] });
    file.extend(head.as_bytes());
    file.extend(data);
    file
}

#[test]
fn forms_that_static_programs_read_and_refuse() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = npz_reader(dir.path()) else { return };
    let path = dir.path().join("a.npz").display().to_string();
    let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }  \n";
    let data = [0, 0, 128, 63, 0, 0, 0, 64];
    let said = |bytes: &[u8]| {
        archive(Path::new(&path), zip::CompressionMethod::Stored, bytes);
        run(&program, &["read", &path, "x", "1"]).unwrap()
    };
    let want = said(&npy(1, good, &data));
    assert!(want.starts_with("x 2 2 1 8 "), "{want}");
    for head in [
        "{\"shape\":(2,1),\"fortran_order\":False,\"descr\":\"<f4\"}",
        "{'descr':'=f4','fortran_order':False,'shape':(2L,1L,),}",
        "{ 'fortran_order' : False , 'descr' : '|f4' , 'shape' : ( 2 , 1 ) }",
    ] {
        assert_eq!(said(&npy(1, head, &data)), want, "{head}");
    }
    assert_eq!((said(&npy(2, good, &data)), said(&npy(3, good, &data))), (want.clone(), want.clone()));
    // In one dimension both orders are the same.
    assert!(said(&npy(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2,)}", &data)).starts_with("x 1 2 8 "));
    for (head, words) in [
        ("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1)}", "Fortran order, expected C order"),
        ("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 1)}", "'>f4' (big-endian), expected '<f4'"),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", "'<f8', expected '<f4'"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "'|O', expected '<f4'"),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "struct"),
        ("{'descr': '', 'fortran_order': False, 'shape': (1,)}", "expected '<f4'"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "[3], which is not the 8 bytes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", "which is not the 8 bytes"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "shape"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}", "shape"),
        ("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,)}", "fortran_order"),
        ("{'descr': '<f4', 'fortran_order': False}", "header is damaged"),
        ("{'descr': '<f4\u{1b}[2J', 'fortran_order': False, 'shape': (2,)}", "'<f4?[2J'"),
        ("", "header is damaged"),
    ] {
        let got = said(&npy(1, head, &data));
        assert!(got.starts_with("x exit 3: ") && got.contains(words), "{head}: {got}");
    }
    for (bytes, words) in
        [(&b"GIF89a, and so on"[..], ".npy"), (b"", ".npy"), (&npy(9, good, &data), "version"), (&npy(1, good, &data)[..30], "header")]
    {
        let got = said(bytes);
        assert!(got.starts_with("x exit 3: ") && got.contains(words), "{words}: {got}");
    }
}

#[test]
fn static_programs_take_no_harm_from_damaged_archives() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = npz_reader(dir.path()) else { return };
    let (_, all) = archives(dir.path());
    let few: Vec<_> = all.iter().filter(|a| ["f32 3 é", "i4 2 é", "bool 3 é"].contains(&a.0.as_str())).map(|(n, _, t)| (n, t)).collect();
    let (stored, deflated) = (dir.path().join("s.npz"), dir.path().join("d.npz"));
    let arrays: Vec<_> = few.iter().map(|(n, t)| ((*n).clone(), npz::Array::from_tensor(t).unwrap())).collect();
    npz::save_npz(&stored, &arrays).unwrap();
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&deflated).unwrap());
    for (i, (name, a)) in arrays.iter().enumerate() {
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.start_file(format!("{name}.npy"), options.large_file(i == 0)).unwrap();
        npz::write_npy(&mut zip, a).unwrap();
    }
    zip.finish().unwrap();
    let rounds = std::env::var("PORTWRIGHT_FUZZ_ROUNDS").unwrap_or_else(|_| "1000".into());
    let said = run(&program, &["fuzz", &rounds, &stored.display().to_string(), &deflated.display().to_string()]).unwrap();
    println!("{said}");
    assert!(said.contains(" read, "), "{said}");
}

/// The whole driver as a loongarch64 program under qemu, where `./setup` has put both it and a C library.
#[test]
fn loongarch64_under_qemu() {
    let Some(t) = tools() else { return };
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/.cache");
    let root = tools.join("sysroot/loongarch64");
    let libc = root.join("usr/loongarch64-linux-gnu");
    let gcc =
        std::fs::read_dir(root.join("usr/lib/gcc-cross/loongarch64-linux-gnu")).ok().and_then(|mut d| d.next()?.ok()).map(|e| e.path());
    let text = |p: &Path| p.display().to_string();
    let qemu = tool(&[&text(&tools.join("qemu/usr/bin/qemu-loongarch64")), "qemu-loongarch64"]);
    let triple = "loongarch64-linux-gnu";
    let (Some(gcc), Some(qemu), Some(_)) = (gcc, qemu, embed::object_for(triple)) else {
        return println!("skipped: no qemu-loongarch64 or no loongarch64 C library (./setup installs both)");
    };
    let dir = tempfile::tempdir().unwrap();
    for (name, flags) in [("a", &[][..]), ("b", &[]), ("c", &[]), ("fuzz", &["-DMUTABLE_BLOB"])] {
        bundle(&t, &dir.path().join(name), triple, None, flags).unwrap();
    }
    let c = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (object, program) = (text(&dir.path().join("driver.o")), text(&dir.path().join("driver")));
    let (include, own, source) = (text(&libc.join("include")), text(&c.join("c")), text(&c.join("tests/c/driver.c")));
    let target = format!("--target={triple}");
    run(&t.clang, &[&target, "-std=gnu11", "-O1", "-isystem", &include, "-I", &own, "-c", &source, "-o", &object]).unwrap();
    let from = |d: &Path, n: &str| text(&d.join(n));
    let (sysroot, search, search2) =
        (format!("--sysroot={}", text(&root)), format!("-L{}", from(&libc, "lib")), format!("-L{}", text(&gcc)));
    let (first, second, third) = (from(&libc, "lib/crt1.o"), from(&libc, "lib/crti.o"), from(&gcc, "crtbegin.o"));
    let (last, end) = (from(&gcc, "crtend.o"), from(&libc, "lib/crtn.o"));
    let loader = "/lib64/ld-linux-loongarch-lp64d.so.1";
    let link =
        ["-dynamic-linker", loader, &sysroot, &search, &search2, &first, &second, &third, &object, "-lc", "-lm", "-lgcc", &last, &end];
    run(&t.lld, &[&link[..], &["-o", &program]].concat()).unwrap();
    let paths: Vec<String> = ["a", "b", "fuzz", "c"].iter().map(|n| text(&dir.path().join(n))).collect();
    let library = text(&libc);
    let mut args = vec!["-L", &library, &program];
    args.extend(paths.iter().map(String::as_str));
    args.push("quick");
    let text = run(&qemu, &args);
    println!("{}", text.as_ref().unwrap_or_else(|e| e));
    assert!(text.is_ok_and(|t| t.contains(" 0 failures")));
}
