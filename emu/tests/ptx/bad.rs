// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Programs with a mistake: each is diagnosed, and says where.

use portwright_emu::ptx::{Fault, FaultKind, Launch, Module, Options, Param, Swizzle, TensorMap};

use crate::device::{Device, Rng};
use crate::gemm::to_half;

fn text(file: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ptx").join(file)).unwrap()
}

fn line_of(text: &str, what: &str) -> u32 {
    text.lines().position(|l| l.contains(what)).unwrap() as u32 + 1
}

/// A kernel's arguments, a launch of it, and whether what it left is right.
type Trial = fn(&mut Device) -> Result<Vec<u32>, Box<Fault>>;

fn go(d: &mut Device, kernel: &str, grid: [u32; 3], block: [u32; 3], shared: u64, params: Vec<Param>) -> Result<(), Box<Fault>> {
    let mut params = params;
    while params.len() < d.loaded.module().kernels[kernel].params.len() {
        params.push(0u64.into());
    }
    let launch = Launch { shared, ..Launch::new(grid, block, params) };
    d.try_run(kernel, &launch).map(|_| ())
}

fn floats(d: &mut Device, n: usize) -> u64 {
    let v = Rng(50).list(n);
    d.put("floats", &v)
}

fn halves(d: &mut Device, n: usize) -> u64 {
    let v: Vec<u16> = crate::gemm::coarse(&mut Rng(51), n).iter().map(|v| to_half(*v)).collect();
    d.put("halves", &v)
}

fn reduce(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let (a, b) = (floats(d, 5000), d.zeros::<f32>("out", 4));
    go(d, "reduce", [4, 1, 1], [256, 1, 1], 0, vec![a.into(), b.into(), 5000i32.into()])?;
    Ok(d.get(b, 4))
}

fn softmax(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let (a, b) = (floats(d, 3000), d.zeros::<f32>("y", 3000));
    go(d, "softmax", [3, 1, 1], [128, 1, 1], 0, vec![a.into(), b.into(), 1000i32.into()])?;
    Ok(d.get(b, 3000))
}

fn tiled(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let (a, b, c) = (floats(d, 4096), floats(d, 4096), d.zeros::<f32>("c", 4096));
    go(d, "tiled", [4, 4, 1], [16, 16, 1], 0, vec![a.into(), b.into(), c.into(), 64i32.into()])?;
    Ok(d.get(c, 4096))
}

fn pipelined(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let (a, b, c) = (halves(d, 64 * 256), halves(d, 64 * 256), d.zeros::<f32>("c", 4096));
    go(d, "pipelined", [1, 1, 1], [128, 1, 1], 0, vec![a.into(), b.into(), c.into(), 64i32.into(), 256i32.into()])?;
    Ok(d.get(c, 4096))
}

fn transposed(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let (a, b) = (halves(d, 256), d.zeros::<u32>("y", 128));
    go(d, "transposed", [1, 1, 1], [32, 1, 1], 0, vec![a.into(), b.into()])?;
    Ok(d.get(b, 128))
}

fn histogram(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let x: Vec<u8> = (0..4000u32).map(|i| (i * i % 251) as u8).collect();
    let (a, h) = (d.put("x", &x), d.zeros::<u32>("h", 256));
    go(d, "histogram", [2, 1, 1], [128, 1, 1], 0, vec![a.into(), h.into(), 4000i32.into()])?;
    Ok(d.get(h, 256))
}

fn handover(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let x: Vec<i32> = (0..320).collect();
    let (a, b) = (d.put("x", &x), d.zeros::<i32>("y", 320));
    go(d, "handover", [1, 1, 1], [64, 1, 1], 0, vec![a.into(), b.into(), 10i32.into()])?;
    Ok(d.get(b, 320))
}

fn lastgroup(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let (a, p, o) = (floats(d, 5000), d.zeros::<f32>("part", 6), d.zeros::<f32>("out", 1));
    go(d, "lastgroup", [6, 1, 1], [128, 1, 1], 0, vec![a.into(), p.into(), o.into(), 5000i32.into()])?;
    Ok(d.get(o, 1))
}

fn tma(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let (a, b, c) = (halves(d, 64 * 320), halves(d, 64 * 320), d.zeros::<f32>("c", 4096));
    let map = |address| {
        let map = TensorMap {
            address,
            element: 2,
            rank: 2,
            dims: [320, 64, 1, 1, 1],
            strides: [640, 0, 0, 0],
            tile: [64, 64, 1, 1, 1],
            steps: [1; 5],
            swizzle: Swizzle::B128,
            nan: false,
        };
        Param(map.encode().to_vec())
    };
    go(d, "tma", [1, 1, 1], [160, 1, 1], 4 * 8192, vec![map(a), map(b), c.into(), 64i32.into(), 320i32.into()])?;
    Ok(d.get(c, 4096))
}

fn bulk(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let x: Vec<i32> = (0..256).collect();
    let (a, b, s) = (d.put("x", &x), d.zeros::<i32>("y", 256), d.zeros::<i32>("sum", 256));
    let map = TensorMap {
        address: s,
        element: 4,
        rank: 2,
        dims: [16, 16, 1, 1, 1],
        strides: [64, 0, 0, 0],
        tile: [16, 16, 1, 1, 1],
        steps: [1; 5],
        swizzle: Swizzle::None,
        nan: false,
    };
    go(d, "bulk", [1, 1, 1], [64, 1, 1], 0, vec![a.into(), b.into(), Param(map.encode().to_vec())])?;
    Ok([d.get::<u32>(b, 256), d.get(s, 256)].concat())
}

fn cluster(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let x: Vec<i32> = (0..256).collect();
    let (a, b) = (d.put("x", &x), d.zeros::<i32>("y", 8));
    go(d, "cluster", [8, 1, 1], [32, 1, 1], 0, vec![a.into(), b.into()])?;
    Ok(d.get(b, 8))
}

fn matmul(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let (a, b, c) = (halves(d, 64 * 256), halves(d, 64 * 256), d.zeros::<f32>("c", 4096));
    let params = vec![a.into(), b.into(), c.into(), 64i32.into(), 64i32.into(), 256i32.into()];
    go(d, "matmul", [1, 1, 1], [128, 1, 1], 49152, params)?;
    Ok(d.get(c, 4096))
}

fn attention(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let [q, k, v] = [0; 3].map(|_| halves(d, 192 * 64));
    let o = d.zeros::<f32>("o", 192 * 64);
    go(d, "attention", [3, 1, 1], [128, 1, 1], 40960, vec![q.into(), k.into(), v.into(), o.into(), 192i32.into(), 0.125f32.into()])?;
    Ok(d.get(o, 192 * 64))
}

fn layernorm(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let (x, y, w) = (floats(d, 1000), d.zeros::<f32>("y", 1000), floats(d, 500));
    go(d, "layernorm", [2, 1, 1], [128, 1, 1], 2048, vec![x.into(), y.into(), w.into(), 500i32.into(), 1e-5f32.into()])?;
    Ok(d.get(y, 1000))
}

fn sort(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let (a, b) = (floats(d, 256), d.zeros::<i32>("y", 256));
    go(d, "sort", [1, 1, 1], [128, 1, 1], 1024, vec![a.into(), b.into()])?;
    Ok(d.get(b, 256))
}

fn transpose(d: &mut Device) -> Result<Vec<u32>, Box<Fault>> {
    let (a, b) = (floats(d, 4096), d.zeros::<f32>("y", 4096));
    go(d, "transpose", [2, 2, 1], [128, 1, 1], 4096, vec![a.into(), b.into(), 64i32.into(), 64i32.into()])?;
    Ok(d.get(b, 4096))
}

/// What waits or signals; deleting one of them is a mistake.
const SYNC: [&str; 15] = [
    "mbarrier.try_wait",
    "mbarrier.arrive",
    "mbarrier.init",
    "bar.sync",
    "barrier.sync",
    "barrier.arrive",
    "bar.warp.sync",
    "barrier.cluster",
    "cp.async.wait_group",
    "cp.async.commit_group",
    "cp.async.bulk.wait_group",
    "wgmma.wait_group",
    "wgmma.fence",
    "membar",
    "fence.acq_rel",
];

/// Deletes every wait and signal of a kernel in turn. Gives how many there were, and the lines that nobody missed.
fn mutate(file: &str, kernel: &str, trial: Trial) -> (usize, Vec<u32>) {
    let whole = text(file);
    let options = Options { limit: 1 << 22, ..Options::default() };
    let right = trial(&mut Device::text(&whole, options.clone())).unwrap_or_else(|f| panic!("{file}: {f}"));
    let begin = whole.lines().position(|l| l.contains(&format!(".entry {kernel}("))).unwrap();
    let (mut n, mut missed) = (0, Vec::new());
    for (i, line) in whole.lines().enumerate().skip(begin) {
        if line.starts_with('}') && line.len() == 1 {
            break;
        }
        let Some(what) = SYNC.iter().find(|s| line.contains(**s)) else { continue };
        n += 1;
        // A test that is gone counts as passed; several instructions may stand in a line.
        let gone = if line.contains("try_wait") {
            let p = line
                .split_whitespace()
                .find(|w| w.starts_with('P') || w.starts_with("%p") || w.contains("complete"))
                .unwrap()
                .trim_end_matches(',');
            format!("setp.eq.u32 {p}, 0, 0;")
        } else {
            let at = line.find(what).unwrap();
            let end = line[at..].find(';').map_or(line.len(), |e| at + e + 1);
            // A guard goes with it.
            let at = line[..at].rfind('@').unwrap_or(at);
            format!("{}{}", &line[..at], &line[end..])
        };
        let mutant: String = whole.lines().enumerate().map(|(k, l)| format!("{}\n", if k == i { &gone } else { l })).collect();
        if let Err(e) = Module::parse(&mutant) {
            panic!("{file}: without {what} in line {}: {e}", i + 1);
        }
        match trial(&mut Device::text(&mutant, options.clone())) {
            Ok(v) if v == right => missed.push(i as u32 + 1),
            _ => {}
        }
    }
    (n, missed)
}

#[test]
fn every_wait_and_signal_is_missed() {
    let families: [(&str, &str, Trial); 18] = [
        ("nvcc/basic.ptx", "reduce", reduce),
        ("nvcc/warp.ptx", "softmax", softmax),
        ("nvcc/gemm.ptx", "tiled", tiled),
        ("nvcc/gemm.ptx", "pipelined", pipelined),
        ("nvcc/gemm.ptx", "transposed", transposed),
        ("nvcc/sync.ptx", "histogram", histogram),
        ("nvcc/sync.ptx", "handover", handover),
        ("nvcc/sync.ptx", "lastgroup", lastgroup),
        ("nvcc/hopper.ptx", "tma", tma),
        ("nvcc/hopper.ptx", "bulk", bulk),
        ("nvcc/hopper.ptx", "cluster", cluster),
        ("triton/matmul_sm80.ptx", "matmul", matmul),
        ("triton/matmul_sm90.ptx", "matmul", matmul),
        ("triton/attention_sm80.ptx", "attention", attention),
        ("triton/attention_sm90.ptx", "attention", attention),
        ("triton/layernorm_sm80.ptx", "layernorm", layernorm),
        ("triton/sort_sm80.ptx", "sort", sort),
        ("triton/transpose_sm80.ptx", "transpose", transpose),
    ];
    let (mut all, mut list) = (0, Vec::new());
    for (file, kernel, trial) in families {
        let (n, missed) = mutate(file, kernel, trial);
        all += n;
        let whole = text(file);
        list.extend(missed.into_iter().map(|l| format!("{file}:{l}: {}", whole.lines().nth(l as usize - 1).unwrap().trim())));
    }
    let survivors: Vec<&str> = list.iter().map(|l| l.split(": ").next().unwrap_or("")).collect();
    assert_eq!(survivors, REDUNDANT, "{all} were deleted");
    assert_eq!(all, 142);
}

/// What may be deleted, and why.
const REDUNDANT: [&str; 16] = [
    // The thread that stores the group's sum behind the last barrier has computed it itself; the fences order device memory, which is
    // not watched here.
    "nvcc/sync.ptx:430",
    "nvcc/sync.ptx:437",
    "nvcc/sync.ptx:445",
    // Triton commits the two operands of a stage in groups of their own, and waits for both at once, more than once a turn.
    "triton/matmul_sm80.ptx:71",
    "triton/matmul_sm80.ptx:233",
    "triton/matmul_sm80.ptx:234",
    "triton/matmul_sm80.ptx:293",
    "triton/matmul_sm80.ptx:294",
    "triton/matmul_sm90.ptx:86",
    "triton/attention_sm80.ptx:96",
    "triton/attention_sm80.ptx:643",
    "triton/attention_sm90.ptx:95",
    "triton/attention_sm90.ptx:565",
    // Every thread stores to the words that it alone has loaded.
    "triton/sort_sm80.ptx:254",
    "triton/sort_sm80.ptx:347",
    "triton/sort_sm80.ptx:370",
];

#[test]
fn out_of_bounds() {
    let mut d = Device::new("nvcc/basic.ptx");
    let (a, b, c) = (d.zeros::<f32>("a", 100), d.zeros::<f32>("b", 128), d.zeros::<f32>("c", 128));
    let f = go(&mut d, "vadd", [1, 1, 1], [128, 1, 1], 0, vec![a.into(), b.into(), c.into(), 128i32.into()]).unwrap_err();
    assert_eq!((f.kind, f.address), (FaultKind::OutOfBounds, Some(a + 400)));
    assert_eq!(f.at.as_ref().unwrap().thread, 100);
    assert!(f.to_string().contains("the nearest allocation is a "), "{f}");
}

#[test]
fn misaligned() {
    let mut d = Device::new("nvcc/basic.ptx");
    let (a, b, c) = (d.zeros::<f32>("a", 129), d.zeros::<f32>("b", 128), d.zeros::<f32>("c", 128));
    let f = go(&mut d, "vadd", [1, 1, 1], [128, 1, 1], 0, vec![(a + 2).into(), b.into(), c.into(), 128i32.into()]).unwrap_err();
    assert_eq!((f.kind, f.address), (FaultKind::Misaligned, Some(a + 2)));
    assert_eq!(f.at.unwrap().line, line_of(&text("nvcc/basic.ptx"), "ld.global.f32 \t%f2"));
}

#[test]
fn a_shuffle_whose_members_part() {
    let whole = text("nvcc/warp.ptx");
    let mut d = Device::text(&whole.replace(" 65535;", " -1;").replace(", 65535", ", -1"), Options::default());
    let (a, b) = (d.zeros::<i32>("x", 32), d.zeros::<i32>("y", 32));
    let f = go(&mut d, "halves", [1, 1, 1], [32, 1, 1], 0, vec![a.into(), b.into()]).unwrap_err();
    assert_eq!(f.kind, FaultKind::Divergent, "{f}");
}

#[test]
fn a_barrier_for_more_threads_than_come() {
    let whole = text("nvcc/basic.ptx").replace("bar.sync \t0;", "bar.sync \t0, 512;");
    let f = reduce(&mut Device::text(&whole, Options::default())).unwrap_err();
    assert_eq!(f.kind, FaultKind::Deadlock, "{f}");
    assert!(f.what.contains("256 of 512 threads"), "{f}");
}

#[test]
fn a_race_names_both_accesses() {
    let whole = text("nvcc/basic.ptx");
    let first = line_of(&whole, "bar.sync");
    let mutant: String = whole.lines().enumerate().map(|(i, l)| format!("{}\n", if i as u32 + 1 == first { "" } else { l })).collect();
    let f = reduce(&mut Device::text(&mutant, Options::default())).unwrap_err();
    assert_eq!(f.kind, FaultKind::Race, "{f}");
    let (at, other) = (f.at.unwrap(), f.other.unwrap());
    assert!((at.line > first) != (other.line > first), "{at} {other}");
    assert_ne!(at.thread, other.thread);
}

#[test]
fn a_copy_that_is_not_waited_for() {
    let whole = text("nvcc/gemm.ptx").replace("cp.async.wait_group 1;", "");
    let f = pipelined(&mut Device::text(&whole, Options::default())).unwrap_err();
    assert_eq!(f.kind, FaultKind::Premature, "{f}");
    assert!(whole.lines().nth(f.other.unwrap().line as usize - 1).unwrap().contains("cp.async"));
}

#[test]
fn a_program_without_end() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\nL: bra L;\n}\n";
    let mut d = Device::text(text, Options { limit: 100_000, ..Options::default() });
    assert_eq!(go(&mut d, "k", [1, 1, 1], [32, 1, 1], 0, vec![]).unwrap_err().kind, FaultKind::Limit);
}

#[test]
fn unwritten_shared_memory() {
    let whole = text("nvcc/basic.ptx").replace("st.shared.f32", "// st.shared.f32");
    let mut d = Device::text(&whole, Options { uninitialized: true, ..Options::default() });
    assert_eq!(reduce(&mut d).unwrap_err().kind, FaultKind::Uninitialized);
    assert!(reduce(&mut Device::with("nvcc/basic.ptx", Options { uninitialized: true, ..Options::default() })).is_ok());
}

/// Texts with bytes changed, lines dropped and doubled: an error with a line, or a module, and a launch that ends.
#[test]
fn mutated_texts_never_panic() {
    let mut r = Rng(60);
    let files =
        ["nvcc/basic.ptx", "nvcc/warp.ptx", "nvcc/control.ptx", "nvcc/hopper.ptx", "triton/matmul_sm80.ptx", "triton/matmul_sm90.ptx"];
    for file in files {
        let whole = text(file);
        for _ in 0..60 {
            let mut t = whole.clone().into_bytes();
            for _ in 0..1 + r.bits() % 4 {
                let at = r.bits() as usize % t.len();
                match r.bits() % 4 {
                    0 => t[at] = b" .,;{}[]()%+-<>0189@!:abrsu"[r.bits() as usize % 27],
                    1 => {
                        t.drain(at..(at + 1 + r.bits() as usize % 12).min(t.len()));
                    }
                    2 => {
                        let part: Vec<u8> = t[at..(at + 20).min(t.len())].to_vec();
                        t.splice(at..at, part);
                    }
                    _ => {
                        let to = r.bits() as usize % t.len();
                        t.swap(at, to);
                    }
                }
            }
            let Ok(module) = Module::parse(&String::from_utf8_lossy(&t)) else { continue };
            let mut machine = portwright_emu::ptx::Machine::new(Options { limit: 50_000, ..Options::default() });
            let loaded = machine.load(module);
            let a = machine.alloc(1 << 16, "a");
            for (name, k) in &loaded.module().kernels {
                let mut params: Vec<Param> = k.params.iter().map(|(_, n)| Param(vec![0; *n as usize])).collect();
                for p in &mut params {
                    match p.0.len() {
                        8 => *p = a.into(),
                        4 => *p = 64u32.into(),
                        _ => {}
                    }
                }
                let mut launch = Launch::new(k.cluster.unwrap_or([1; 3]), [64, 1, 1], params);
                launch.shared = 16384;
                let _ = machine.launch(&loaded, name, &launch);
            }
        }
    }
}

#[test]
fn a_load_that_was_widened_races_only_where_what_it_loads_is_looked_at() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n.reg .b32 %r<9>;\n.reg .pred %p<2>;\n.shared .align 16 .b8 s[128];\n\
        mov.u32 %r1, %tid.x;\nmov.u32 %r2, s;\nmad.lo.u32 %r3, %r1, 4, %r2;\nst.shared.b32 [%r3], %r1;\nbar.sync 0;\n\
        ld.shared.v4.b32 {%r4, %r5, %r6, %r7}, [s];\nadd.u32 %r8, %r4, %r6;\nsetp.eq.u32 %p1, %r1, 3;\n@%p1 st.shared.b32 [s+12], %r8;\nret;\n}\n";
    let run = |text: &str| go(&mut Device::text(text, Options::default()), "k", [1, 1, 1], [32, 1, 1], 0, vec![]);
    assert!(run(text).is_ok());
    for looked in ["add.u32 %r8, %r4, %r7;", "add.u32 %r8, %r4, %r6;\n@%p1 add.u32 %r8, %r7, 1;"] {
        let f = run(&text.replace("add.u32 %r8, %r4, %r6;", looked)).unwrap_err();
        assert_eq!(f.kind, FaultKind::Race, "{f}");
    }
    let f = run(&text.replace("s[128]", "s[124]").replace("[s];", "[s+112];").replace("[%r3]", "[s]")).unwrap_err();
    assert_eq!(f.kind, FaultKind::OutOfBounds, "{f}");
}

#[test]
fn groups_of_a_launch_that_write_where_others_are() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 x, .param .u64 y)\n{\n.reg .b32 %r<9>;\n.reg .b64 %rd<9>;\n\
        ld.param.u64 %rd1, [x];\nld.param.u64 %rd5, [y];\nmov.u32 %r1, %ctaid.x;\nmov.u32 %r2, %tid.x;\nmad.lo.u32 %r3, %r1, 32, %r2;\nmul.wide.u32 %rd2, %r3, 4;\n\
        add.u64 %rd3, %rd1, %rd2;\nadd.u64 %rd4, %rd5, %rd2;\nld.global.u32 %r4, [%rd4];\nst.global.u32 [%rd3], %r4;\nret;\n}\n";
    let run = |text: &str, threads: usize| {
        let mut d = Device::text(text, Options { threads, ..Options::default() });
        let (x, y) = (d.zeros::<u32>("x", 257), d.zeros::<u32>("y", 257));
        go(&mut d, "k", [8, 1, 1], [32, 1, 1], 0, vec![x.into(), y.into()])
    };
    assert!(run(text, 1).is_ok());
    // Bytes of one word that two groups have are no race, and what a group reads and writes is its own.
    let bytes = text.replace("32, %r2", "33, %r2").replace("%r3, 4", "%r3, 1").replace("global.u32", "global.u8");
    assert!(run(&bytes, 1).is_ok());
    assert!(run(&text.replace("ld.param.u64 %rd5, [y]", "mov.u64 %rd5, %rd1"), 1).is_ok());
    let mutants = [
        ("two stores", text.replace("32, %r2", "31, %r2"), "store of group"),
        ("a load behind a store", text.replace("ld.param.u64 %rd5, [y]", "add.u64 %rd5, %rd1, 4"), "of group"),
        ("bytes", bytes.replace("33, %r2", "31, %r2"), "store of group"),
        (
            "a load of what others write",
            text.replace("ld.global.u32 %r4, [%rd4]", "ld.global.u32 %r4, [%rd1]"),
            "race on device memory (x)",
        ),
    ];
    for (name, mutant, says) in mutants {
        for threads in [1, 2] {
            let f = run(&mutant, threads).unwrap_err();
            assert_eq!(f.kind, FaultKind::Race, "{name}: {f}");
            assert!(f.what.contains(says), "{name}: {f}");
        }
    }
    // Atomics order groups as they come.
    assert!(run(&text.replace("32, %r2", "0, %r2").replace("st.global.u32 [%rd3], %r4", "red.global.add.u32 [%rd3], %r4"), 1).is_ok());
}
