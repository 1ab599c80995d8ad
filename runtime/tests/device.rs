// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The runtime of bundles that drive a device: a plan written by hand (`c/device_model.c`), on a device that this program is, and on a driver
//! without one (`c/fake_cuda.c`) that has what a test wants and fails where it wants. What needs a tool that is not there prints
//! `skipped: reason`.

use portwright_runtime::blob::{Blob, Dim, Port, Symbol};
use portwright_runtime::device::{Code, Device, Driver, Kernel, Launch, Table};
use portwright_runtime::embed;
use portwright_runtime::features::Arch;
use portwright_runtime::load::{LoadError, Model, Options, Status};
use portwright_runtime::store::{Layout, StoreWriter};
use portwright_runtime::tensor::View;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

fn tool(names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|n| Command::new(n).arg("--version").output().is_ok_and(|o| o.status.success()))
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn code() -> Code {
    let kernel = Kernel { name: "pwk_k".into(), image: 0, group: 32, dynamic: 50_000, row: false, buffers: 3, scalars: 1 };
    let images = vec![".version 7.1".into()];
    Code { driver: Driver::Cuda, capability: 80, exact: false, version: 11010, name: "sm_80".into(), images, kernels: vec![kernel] }
}

fn weights() -> Layout {
    let mut layout = Layout::new();
    layout.push("unused", 2, &[3], 3, 64).unwrap();
    layout.push("w", 1, &[4], 16, 64).unwrap();
    layout
}

/// Writes a bundle's library and weights, or says what is missing.
fn bundle(dir: &Path) -> Result<(), String> {
    let (clang, lld) = (tool(&["clang-22", "clang"]).ok_or("no clang")?, tool(&["ld.lld-22", "ld.lld"]).ok_or("no ld.lld")?);
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let runtime = embed::device_object_for(&triple).ok_or("no embedded runtime for this machine")?;
    for d in ["lib", "weights", "build"] {
        std::fs::create_dir_all(dir.join(d)).unwrap();
    }
    let port = |name: &str, dtype, dim| Port { name: name.into(), dtype, dims: vec![dim], ..Port::default() };
    let blob = Blob {
        name: "device".into(),
        arch: Arch::of_triple(&triple),
        cpu: "test-cpu".into(),
        symbols: vec![Symbol { name: "N".into(), lo: 0, hi: 1 << 40, div: 1 }],
        inputs: vec![port("x", 1, Dim::Symbol(0)), Port { read_by_plan: true, ..port("mode", 7, Dim::Fixed(1)) }],
        outputs: vec![Port { origin: Some(1), ..port("y", 1, Dim::Symbol(0)) }, port("read", 7, Dim::Fixed(1))],
        origins: vec!["enc/Add".into(), "enc/Mul".into()],
        epochs: vec![Some(0)],
        store: weights().reference(),
        ..Blob::default()
    };
    let array = |name: &str, bytes: &[u8]| {
        let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
        format!("HIDDEN const unsigned char {name}[] __attribute__((aligned(8))) = {{{}}};\n", numbers.join(","))
    };
    let blob = blob.write().map_err(|e| e.to_string())?;
    let source = format!(
        "#define HIDDEN __attribute__((visibility(\"hidden\")))\n{}{}HIDDEN const unsigned long pw_model_blob_size = sizeof pw_model_blob;\n",
        array("pw_model_blob", &blob),
        array("pw_device_blob", &code().write().unwrap())
    );
    let text = |name: &str| dir.join(name).display().to_string();
    std::fs::write(text("build/blob.c"), source).unwrap();
    std::fs::write(text("build/runtime.o"), runtime).unwrap();
    let c = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (include, model) = (format!("-I{}", c.join("c").display()), c.join("tests/c/device_model.c").display().to_string());
    let base = ["-std=c11", "-O2", "-ffreestanding", "-nostdlibinc", "-fPIC", "-Wall", "-Wextra", "-Werror", "-c"];
    for (from, to) in [(text("build/blob.c"), text("build/blob.o")), (model, text("build/model.o"))] {
        run(clang, &[&base[..], &[&include, &from, "-o", &to]].concat());
    }
    let objects = [text("build/model.o"), text("build/blob.o")];
    let args = embed::link_arguments("device", &[&objects[0], &objects[1]], &text("build/runtime.o"), &text("lib/libmodel.so"));
    run(lld, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let layout = weights();
    let store = StoreWriter::create(&dir.join("weights/store.bin"), &layout).unwrap();
    let w: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    store.put(1, 0, &w).and_then(|()| store.finish()).unwrap();
    Ok(())
}

/// A device whose kernel computes y[i] = x[i] * w[i % 4], and reports through the status words where x[i] is negative.
#[derive(Default)]
struct Double {
    memory: BTreeMap<u64, Vec<u8>>,
    next: u64,
    fails: Arc<Mutex<Option<&'static str>>>,
}

impl Double {
    fn at(&mut self, address: u64, bytes: usize) -> Result<&mut [u8], String> {
        let (base, block) = self.memory.range_mut(..=address).next_back().ok_or("no memory there")?;
        let from = (address - base) as usize;
        block.get_mut(from..from + bytes).ok_or_else(|| format!("{bytes} bytes at {address:#x} of a block of another size"))
    }
}

impl Device for Double {
    fn memory(&self) -> (u64, u64) {
        (1 << 30, 1 << 30)
    }
    fn alloc(&mut self, bytes: u64) -> Result<u64, String> {
        if bytes > 1 << 30 {
            return Err("full".into());
        }
        self.next += 1 << 32;
        self.memory.insert(self.next, vec![0xcc; bytes as usize]);
        Ok(self.next)
    }
    fn release(&mut self, address: u64) {
        assert!(self.memory.remove(&address).is_some());
    }
    fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), String> {
        self.at(to, bytes.len()).map(|b| b.copy_from_slice(bytes))
    }
    fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), String> {
        self.at(from, bytes.len()).map(|b| bytes.copy_from_slice(b))
    }
    fn image(&mut self, text: &str) -> Result<usize, String> {
        assert_eq!(text, ".version 7.1");
        Ok(7)
    }
    fn has(&self, image: usize, kernel: &str) -> bool {
        (image, kernel) == (7, "pwk_k")
    }
    fn launch(&mut self, l: &Launch<'_>) -> Result<(), String> {
        if let Some(how) = *self.fails.lock().unwrap() {
            return Err(how.into());
        }
        let &[x, w, y, n, status, launch] = l.params else { return Err(format!("{} parameters", l.params.len())) };
        assert_eq!((l.group, l.dynamic, u64::from(l.grid[0])), (32, 50_000, n.div_ceil(32)));
        let number = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap());
        for i in 0..n {
            let v = number(self.at(x + 4 * i, 4)?);
            let product = v * number(self.at(w + i % 4 * 4, 4)?);
            self.at(y + 4 * i, 4)?.copy_from_slice(&product.to_le_bytes());
            if v < 0.0 {
                let (value, code) = (v as i64 as u64, 1u64);
                let words = [launch, i << 24 | value & 0xff_ffff, i << 24 | value >> 24 & 0xff_ffff, i << 24 | code << 16 | value >> 48];
                let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
                self.write(status, &bytes)?;
            }
        }
        Ok(())
    }
}

type Outcome = Result<(Vec<f32>, i64), LoadError>;

fn outcome(session: &mut portwright_runtime::load::Session, x: &[f32], mode: i64) -> Outcome {
    let (bytes, mode): (Vec<u8>, _) = (x.iter().flat_map(|v| v.to_le_bytes()).collect(), mode.to_le_bytes());
    let inputs = [View { dtype: 1, dims: vec![x.len() as i64], data: &bytes }, View { dtype: 7, dims: vec![1], data: &mode }];
    let out = session.run(&inputs)?;
    let y = out[0].data.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
    Ok((y, i64::from_le_bytes(out[1].data.try_into().unwrap())))
}

#[test]
fn a_plan_drives_a_device_of_this_program() {
    let dir = tempfile::tempdir().unwrap();
    if let Err(missing) = bundle(dir.path()) {
        return println!("skipped: {missing}");
    }
    let fails = Arc::new(Mutex::new(None));
    let table = Arc::new(Table::new(Box::new(Double { fails: fails.clone(), ..Double::default() })));
    let load = || Model::load(dir.path(), &Options { device: Some(table.clone()), ..Options::default() }).unwrap();
    let model = load();
    let mut s = model.open().unwrap();
    assert_eq!(outcome(&mut s, &[1.0, 2.0, 3.0, 4.0, 5.0], 41), Ok((vec![1.0, 4.0, 9.0, 16.0, 5.0], 42)));
    assert_eq!(outcome(&mut s, &[], 1), Ok((vec![], 2)));
    // What a guard found is the run's error, with its node; the run after it begins anew.
    let e = outcome(&mut s, &[1.0, -300.0, 3.0], 0).unwrap_err();
    assert_eq!((e.status, e.message.as_str()), (Status::Index, "node enc/Mul: the index -300 at position 1 is out of range"));
    assert_eq!(outcome(&mut s, &vec![2.0; 1000], -1).map(|o| (o.0.len(), o.0[999], o.1)), Ok((1000, 8.0, 0)));
    *fails.lock().unwrap() = Some("out of bounds at line 7");
    let e = outcome(&mut s, &[1.0], 0).unwrap_err();
    assert_eq!((e.status, e.message.as_str()), (Status::Device, "node enc/Mul: kernel pwk_k: out of bounds at line 7"));
    *fails.lock().unwrap() = None;
    assert_eq!(outcome(&mut s, &[3.0], 0), Ok((vec![3.0], 1)));
    // The same run again is recorded, and once more replayed with what its input is then; another one is not.
    let (before, none) = table.replays();
    assert_eq!(none, 0, "what failed or changed was recorded");
    for (x, mode, replays, graphs) in [(3.0, 4, 1, 1), (5.0, 5, 2, 1), (6.0, 6, 3, 1)] {
        assert_eq!(outcome(&mut s, &[x], mode), Ok((vec![x], mode + 1)));
        assert_eq!(table.replays(), (before + replays, graphs));
    }
    assert_eq!(outcome(&mut s, &[1.0, 2.0], 7), Ok((vec![1.0, 4.0], 8)));
    assert_eq!(table.replays(), (before + 3, 0));
    // A guard reports from a recording as well, and a launch that fails in one ends the run.
    assert_eq!(outcome(&mut s, &[1.0, 3.0], 7), Ok((vec![1.0, 6.0], 8)));
    let e = outcome(&mut s, &[1.0, -7.0], 0).unwrap_err();
    assert_eq!(e.message.as_str(), "node enc/Mul: the index -7 at position 1 is out of range");
    *fails.lock().unwrap() = Some("out of bounds at line 9");
    let e = outcome(&mut s, &[1.0, 3.0], 0).unwrap_err();
    assert_eq!((e.status, e.message.contains("out of bounds at line 9")), (Status::Device, true));
    *fails.lock().unwrap() = None;
    assert_eq!(outcome(&mut s, &[3.0], 0), Ok((vec![3.0], 1)));
    // Sessions beside each other have memory of their own.
    let mut t = model.open().unwrap();
    assert_eq!((outcome(&mut t, &[5.0], 7), outcome(&mut s, &[6.0], 8)), (Ok((vec![5.0], 8)), Ok((vec![6.0], 9))));
    let shapes = s.infer(&[View { dtype: 1, dims: vec![9], data: &[0; 36] }, View { dtype: 7, dims: vec![1], data: &[0; 8] }]);
    assert_eq!(shapes, Ok(vec![vec![9], vec![1]]));
    let small = Model::load(dir.path(), &Options { device: Some(table.clone()), max_memory_bytes: 4096, ..Options::default() }).unwrap();
    let e = outcome(&mut small.open().unwrap(), &vec![0.0; 5000], 0).unwrap_err();
    assert_eq!(e.status, Status::Memory);
    drop((s, t, model, small));
    table.with(|d| assert!(d.read(1 << 32, &mut [0]).is_err(), "memory was not given back"));
}

#[repr(C)]
#[derive(Copy, Clone)]
struct Value {
    size: u32,
    kind: i32,
    data: u64,
    capacity: usize,
    dtype: i32,
    rank: i32,
    dims: *mut i64,
    strides: *const i64,
    place: i32,
    device: i32,
    reserved: [u64; 2],
}

#[repr(C)]
struct Api {
    abi: u32,
    load: unsafe extern "C" fn(*const std::ffi::c_char, *const u8, *mut u64) -> i32,
    open: unsafe extern "C" fn(u64, *mut u64) -> i32,
    describe: u64,
    infer: u64,
    run: unsafe extern "C" fn(u64, *const Value, usize, *mut Value, usize, u64) -> i32,
    error: unsafe extern "C" fn(u64, u64) -> *const std::ffi::c_char,
    close: unsafe extern "C" fn(u64),
    unload: unsafe extern "C" fn(u64),
}

/// Values on the device, through the C ABI as a program uses it, on the driver without a device, whose memory is this program's. Its kernels
/// compute nothing: what comes out is what lay in the arena.
fn values_stay_on_the_device(dir: &Path, fake: &Fake) {
    fake.set(12080, 1, 80, (1 << 30, 1 << 30), 0);
    // SAFETY: the structs are those of portwright.h, every pointer lives through its call.
    unsafe {
        let library = libloading::Library::new(dir.join("lib/libmodel.so")).unwrap();
        let api = &*library.get::<unsafe extern "C" fn(u32) -> *const Api>(b"pw_bundle_api\0").unwrap()(1);
        let folder = std::ffi::CString::new(dir.as_os_str().as_encoded_bytes()).unwrap();
        let (mut model, mut session) = (0, 0);
        assert_eq!((api.load)(folder.as_ptr(), std::ptr::null(), &mut model), 0);
        assert_eq!((api.open)(model, &mut session), 0);
        #[repr(align(64))]
        struct Block([u8; 128]);
        let (x, mode, mut y, mut read) = (Block([1; 128]), Block([0; 128]), Block([7; 128]), Block([7; 128]));
        let (mut n, mut one) = (30i64, 1i64);
        let value = |data: *const u8, capacity, dtype, dims: *mut i64, place| Value {
            size: size_of::<Value>() as u32,
            kind: 0,
            data: data as u64,
            capacity,
            dtype,
            rank: 1,
            dims,
            strides: std::ptr::null(),
            place,
            device: 0,
            reserved: [0; 2],
        };
        let inputs = [value(x.0.as_ptr(), 120, 1, &mut n, 1), value(mode.0.as_ptr(), 8, 7, &mut one, 1)];
        let (mut rows, mut ones) = (0i64, 0i64);
        // Where kernels want it, elsewhere, and where the session wants it.
        for (shift, given, room) in [(0, true, 128), (4, true, 120), (0, false, 0)] {
            let at = if given { y.0.as_mut_ptr().add(shift) } else { std::ptr::null_mut() };
            let mut outputs = [value(at, room, 1, &mut rows, 1), value(read.0.as_mut_ptr(), 8, 7, &mut ones, 1)];
            let status = (api.run)(session, inputs.as_ptr(), 2, outputs.as_mut_ptr(), 2, 0);
            assert_eq!(status, 0, "{:?}", std::ffi::CStr::from_ptr((api.error)(session, 0)));
            assert_eq!((rows, ones, i64::from_le_bytes(read.0[..8].try_into().unwrap())), (30, 1, 1));
            assert!(outputs[0].data != 0 && (outputs[0].data == at as u64) == given);
            read.0[..8].fill(7);
        }
        let mut outputs = [value(y.0.as_ptr(), 64, 1, &mut rows, 1), value(read.0.as_ptr(), 8, 7, &mut ones, 1)];
        assert_eq!((api.run)(session, inputs.as_ptr(), 2, outputs.as_mut_ptr(), 2, 0), Status::Capacity as i32);
        let other = [Value { device: 3, ..inputs[0] }, inputs[1]];
        assert_eq!((api.run)(session, other.as_ptr(), 2, outputs.as_mut_ptr(), 2, 0), Status::Device as i32);
        let stride = 2i64;
        let apart = [Value { strides: &stride, ..inputs[0] }, inputs[1]];
        assert_eq!((api.run)(session, apart.as_ptr(), 2, outputs.as_mut_ptr(), 2, 0), Status::Argument as i32);
        (api.close)(session);
        (api.unload)(model);
    }
    assert_eq!(fake.number(b"fake_left\0"), 0);
}

/// The driver without a device, in this process.
struct Fake {
    library: libloading::Library,
}

impl Fake {
    fn set(&self, version: i32, count: i32, capability: i32, (free, total): (u64, u64), failing: i32) {
        // SAFETY: the signature is that of the C file.
        unsafe {
            self.library.get::<unsafe extern "C" fn(i32, i32, i32, u64, u64, i32)>(b"fake_set\0").unwrap()(
                version, count, capability, free, total, failing,
            )
        }
    }
    fn number(&self, name: &[u8]) -> u64 {
        // SAFETY: as above.
        unsafe { self.library.get::<unsafe extern "C" fn() -> u64>(name).unwrap()() }
    }
}

#[test]
fn every_fault_of_a_driver_is_told_and_gives_back_what_was_taken() {
    let dir = tempfile::tempdir().unwrap();
    if let Err(missing) = bundle(dir.path()) {
        return println!("skipped: {missing}");
    }
    let load = || Model::load(dir.path(), &Options::default());
    if !Driver::Cuda.is_here() {
        let e = load().map(|_| ()).unwrap_err();
        assert!(e.status == Status::NoDriver && e.message.contains("libcuda.so.1"), "{e}");
    }
    let path: PathBuf = dir.path().join("libcuda.so.1");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/fake_cuda.c").display().to_string();
    let out = path.display().to_string();
    let clang = tool(&["clang-22", "clang"]).unwrap();
    run(clang, &["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-Wl,-soname,libcuda.so.1", &source, "-o", &out]);
    // SAFETY: it has no initializers. A later request for that name gets the library that is here.
    let fake = Fake { library: unsafe { libloading::Library::new(&path) }.unwrap() };
    const GIB: u64 = 1 << 30;
    let refused: [(&str, [i32; 4], (u64, u64), Status, &[&str]); 8] = [
        ("too old", [11000, 1, 80, 0], (GIB, GIB), Status::OldDriver, &["CUDA 11.0", "needs 11.1"]),
        ("no device", [12080, 0, 80, 0], (GIB, GIB), Status::NoDevice, &["number 0", "has 0"]),
        ("no init", [12080, 1, 80, 1], (GIB, GIB), Status::NoDevice, &["CUDA_ERROR_UNKNOWN"]),
        (
            "too small a capability",
            [12080, 1, 75, 0],
            (GIB, GIB),
            Status::Capability,
            &["Fake has compute capability 7.5", "needs 8.0 or later"],
        ),
        ("bad code", [12080, 1, 80, 2], (GIB, GIB), Status::Device, &["CUDA_ERROR_INVALID_PTX", "line 7: no such instruction"]),
        ("too full", [12080, 1, 80, 0], (64, GIB), Status::DeviceMemory, &["take 128 bytes", "free 64 bytes"]),
        ("too large", [12080, 1, 80, 0], (64, 72), Status::DeviceSize, &["take 128 bytes", "whole device has 72 bytes"]),
        ("no memory for a session", [12080, 1, 80, 0], (130, GIB), Status::Memory, &["CUDA_ERROR_OUT_OF_MEMORY"]),
    ];
    for (name, [version, count, capability, failing], memory, status, parts) in refused {
        fake.set(version, count, capability, memory, failing);
        let e = load().and_then(|m| m.open().map(|_| ())).unwrap_err();
        assert!(e.status == status && parts.iter().all(|p| e.message.contains(p)), "{name}: {:?} {e}", e.status);
        assert_eq!(fake.number(b"fake_left\0"), 0, "{name}: something was not given back");
    }
    fake.set(12080, 1, 90, (GIB, GIB), 0);
    let model = load().unwrap();
    let mut s = model.open().unwrap();
    assert_eq!(outcome(&mut s, &[1.0; 100], 4).map(|o| (o.0.len(), o.1)), Ok((100, 5)));
    let before = fake.number(b"fake_launches\0");
    for (failing, part) in [(3, "kernel pwk_k: the launch failed: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"), (4, "CUDA_ERROR_ILLEGAL_ADDRESS")] {
        fake.set(12080, 1, 90, (GIB, GIB), failing);
        let e = outcome(&mut s, &[1.0; 100], 4).unwrap_err();
        assert!(e.status == Status::Device && e.message.contains(part), "{e}");
        assert!(failing == 4 || e.message.starts_with("node enc/Mul: "), "{e}");
    }
    // The device has room for so many numbers and no more; then fewer go on.
    fake.set(12080, 1, 90, (GIB, GIB), 0);
    let e = outcome(&mut s, &vec![0.0; 300 << 20], 4).unwrap_err();
    assert!(e.status == Status::DeviceMemory && e.message.contains("no device memory for"), "{e}");
    assert!(outcome(&mut s, &[1.0; 100], 4).is_ok() && fake.number(b"fake_launches\0") > before);
    // Runs that repeat go through one graph.
    let replays = fake.number(b"fake_replays\0");
    (0..3).for_each(|_| assert!(outcome(&mut s, &[1.0; 100], 4).is_ok()));
    assert!(fake.number(b"fake_replays\0") >= replays + 2);
    drop((s, model));
    assert_eq!(fake.number(b"fake_left\0"), 0);
    values_stay_on_the_device(dir.path(), &fake);
}
