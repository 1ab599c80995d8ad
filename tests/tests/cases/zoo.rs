// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Real models through the command: one `compile`, then `run BUNDLE` for every case.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libtest_mimic::Trial;
use portwright_runtime::load;
use portwright_runtime::npz::{self, Array};
use portwright_runtime::tensor::{Tensor, View};

use crate::command::{contents, portwright, repository, scratch};
#[cfg(feature = "emu")]
use crate::core::{DEVICES, EMULATED, SOURCES};
use crate::skip::{Done, trial};

/// Models of the folder that `PORTWRIGHT_ZOO` names.
const ZOO: [&str; 4] = ["ppocr-cls", "pplcnet-orient", "pt-vit", "arch-llama"];

/// Devices whose vendor's assembler judges the code of small models.
#[cfg(feature = "emu")]
const ASSEMBLED: [&str; 3] = ["nvidia-sm80", "nvidia-sm90a", "nvidia-sm100a"];

/// One device of each dialect of C++, which run models where `PORTWRIGHT_ZOO_EMULATED` is set.
#[cfg(feature = "emu")]
const DIALECTS: [&str; 6] = ["hygon-gfx936", "moore-mp22", "metax-xcore1000", "iluvatar-ivcore11", "biren-br100", "nvidia-cuda"];

/// What they run besides [`OWN`].
#[cfg(feature = "emu")]
const ON_DIALECTS: [&str; 3] = ["deepseek-v3-tiny", "ppocr-cls", "magika"];

/// The model of this repository.
pub const OWN: &str = "silero-vad";

/// A model that trials may run.
#[derive(Clone)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Largest relative L2 distance from what ONNX Runtime gives.
    tolerance: f64,
}

/// A model, or why it is not here.
pub fn model(name: &str) -> Result<Model, String> {
    if name == OWN {
        return Ok(Model { name: name.into(), folder: repository().join("models").join(name), tolerance: 1e-5 });
    }
    let zoo = std::env::var_os("PORTWRIGHT_ZOO").map(PathBuf::from).ok_or("PORTWRIGHT_ZOO names no folder of models")?;
    let folder = zoo.join(name);
    if !folder.join("model.onnx").is_file() {
        return Err(format!("no {name} in PORTWRIGHT_ZOO"));
    }
    // How far ONNX Runtime is from itself, as the table of the folder says, is the floor of any tolerance.
    let table = std::fs::read_to_string(zoo.join("models.tsv")).unwrap_or_default();
    let mut rows = table.lines().map(|l| l.split('\t').collect::<Vec<_>>());
    let column = rows.next().and_then(|head| head.iter().position(|c| *c == "rel_diff_ort_opt_off")).unwrap_or(usize::MAX);
    let own = rows.find(|r| r.first() == Some(&name)).and_then(|r| r.get(column)?.parse::<f64>().ok()).unwrap_or(0.0);
    Ok(Model { name: name.into(), folder, tolerance: (4.0 * own).max(1e-5) })
}

impl Model {
    /// Pairs of inputs and expected outputs, in order.
    pub fn cases(&self) -> Vec<(PathBuf, PathBuf)> {
        if self.name == OWN {
            return vec![(self.folder.join("speech.npz"), self.folder.join("expected.npz"))];
        }
        let mut out: Vec<(PathBuf, PathBuf)> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| Some(e.path().to_str()?.strip_suffix(".inputs.npz")?.to_owned()))
            .map(|stem| (PathBuf::from(format!("{stem}.inputs.npz")), PathBuf::from(format!("{stem}.outputs.npz"))))
            .collect();
        out.sort();
        out
    }
}

/// Every model of the folder that `PORTWRIGHT_ZOO` names, of up to so many MB, where `PORTWRIGHT_ZOO_EMULATED` is set: they take minutes.
#[cfg(feature = "emu")]
fn small_models(megabytes: u64) -> Vec<String> {
    let most = megabytes << 20;
    let folder = std::env::var_os("PORTWRIGHT_ZOO_EMULATED").and(std::env::var_os("PORTWRIGHT_ZOO"));
    let entries = folder.and_then(|f| std::fs::read_dir(f).ok());
    let bytes =
        |at: &Path| std::fs::read_dir(at).into_iter().flatten().flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum::<u64>();
    let small = entries.into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.join("model.onnx").is_file() && bytes(p) <= most);
    let mut out: Vec<String> = small.filter_map(|p| Some(p.file_name()?.to_str()?.to_owned())).filter(|n| n != OWN).collect();
    out.sort();
    out
}

type Shared = Arc<OnceLock<Result<PathBuf, String>>>;

/// The bundle of a model for a target, compiled once in this process.
pub fn bundle(m: &Model, target: &str) -> Result<PathBuf, String> {
    static MADE: Mutex<Option<HashMap<String, Shared>>> = Mutex::new(None);
    let key = format!("{}-{target}", m.name);
    let slot = {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.get_or_insert_default().entry(key.clone()).or_default().clone()
    };
    slot.get_or_init(|| {
        let folder = scratch(&format!("zoo-{key}"))?;
        compile(&m.folder.join("model.onnx"), target, &folder.join("model.pw"))
    })
    .clone()
}

fn compile(model: &Path, target: &str, out: &Path) -> Result<PathBuf, String> {
    let (folder, text) = (out.parent().unwrap_or(out), |p: &Path| p.display().to_string());
    portwright(folder, &["--quiet", "compile", &text(model), "--target", target, "-o", &text(out)])?.well()?;
    Ok(out.to_path_buf())
}

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    for name in ZOO.into_iter().chain([OWN]) {
        let with = |f: fn(&Model) -> Result<(), String>| {
            move || match model(name) {
                Ok(m) => f(&m).map(|()| Done::Passed),
                Err(reason) => Ok(Done::Skipped(reason)),
            }
        };
        out.push(trial(format!("zoo/{name}::host::numbers"), with(numbers)));
        out.push(trial(format!("zoo/{name}::host::threads"), with(threads)));
        out.push(trial(format!("zoo/{name}::host::same_bytes"), with(same_bytes)));
    }
    #[cfg(feature = "emu")]
    for target in EMULATED.into_iter().chain(DEVICES) {
        out.push(trial(format!("zoo/{OWN}::{target}::emulator"), move || emulated(OWN, target)));
        for name in small_models(10) {
            out.push(trial(format!("zoo/{name}::{target}::emulator"), move || emulated(&name, target)));
        }
    }
    #[cfg(feature = "emu")]
    for target in ASSEMBLED {
        for name in small_models(10).into_iter().chain([OWN.to_owned()]) {
            out.push(trial(format!("zoo/{name}::{target}::assembler"), move || assembled(&name, target)));
        }
    }
    #[cfg(feature = "emu")]
    for target in SOURCES {
        let small = small_models(5);
        let own = (!small.is_empty()).then(|| OWN.to_owned());
        for name in small.into_iter().chain(own) {
            out.push(trial(format!("zoo/{name}::{target}::compiles"), move || compiles(&name, target)));
        }
    }
    #[cfg(feature = "emu")]
    for target in DIALECTS.iter().filter(|_| std::env::var_os("PORTWRIGHT_ZOO_EMULATED").is_some()) {
        for name in ON_DIALECTS.into_iter().chain([OWN]) {
            out.push(trial(format!("zoo/{name}::{target}::emulator"), move || match model(name) {
                Ok(_) => emulated(name, target),
                Err(reason) => Ok(Done::Skipped(reason)),
            }));
        }
    }
    out.push(trial("zoo::host::two_bundles_in_one_process", two_bundles));
}

/// Numbers by name, with dims.
pub fn read(path: &Path) -> Result<Vec<(String, Tensor)>, String> {
    let one = |(n, a)| match a {
        Array::Numbers(t) => Ok((n, t)),
        Array::Strings { .. } => Err(format!("{n} holds strings")),
    };
    arrays(path)?.into_iter().map(one).collect()
}

fn arrays(path: &Path) -> Result<Vec<(String, Array)>, String> {
    npz::load_npz(path).map_err(|e| format!("{}: {e}", path.file_name().unwrap_or_default().display()))
}

/// Relative L2 distance; infinite where one is NaN and the other is not.
pub fn distance(want: &Tensor, got: &Tensor) -> f64 {
    let (a, b) = (portwright_cli::values::elements(&want.view()), portwright_cli::values::elements(&got.view()));
    let (mut error, mut size) = (0.0, 0.0);
    for (x, y) in a.iter().zip(&b) {
        if x == y || (x.is_nan() && y.is_nan()) {
            size += if x.is_finite() { x * x } else { 0.0 };
            continue;
        }
        let d = x - y;
        error += if d.is_nan() { f64::INFINITY } else { d * d };
        size += x * x;
    }
    if error == 0.0 { 0.0 } else { (error / size.max(f64::MIN_POSITIVE)).sqrt() }
}

/// The largest distance of an output from what is wanted.
#[cfg(feature = "emu")]
fn farthest(want: &Path, got: &Path) -> Result<f64, String> {
    let (want, got) = (read(want)?, read(got)?);
    let of = |(name, w): &(String, Tensor)| got.iter().find(|(n, _)| n == name).map_or(f64::INFINITY, |(_, g)| distance(w, g));
    Ok(want.iter().map(of).fold(0.0, f64::max))
}

/// Compares archives of outputs: numbers by their distance, texts to the byte.
pub fn near(want: &Path, got: &Path, tolerance: f64) -> Result<(), String> {
    let (want, got) = (arrays(want)?, arrays(got)?);
    for (name, w) in &want {
        let (_, g) = got.iter().find(|(n, _)| n == name).ok_or_else(|| format!("no output {name}"))?;
        let (Array::Numbers(w), Array::Numbers(g)) = (w, g) else {
            if w != g {
                return Err(format!("output {name} is {g:?}, expected {w:?}"));
            }
            continue;
        };
        if (g.dtype, &g.dims) != (w.dtype, &w.dims) {
            return Err(format!("output {name} is {}{:?}, expected {}{:?}", g.dtype, g.dims, w.dtype, w.dims));
        }
        let d = distance(w, g);
        if d > tolerance {
            return Err(format!("output {name}: relative L2 {d:e}, expected at most {tolerance:e}"));
        }
    }
    Ok(())
}

fn run(b: &Path, inputs: &Path, outputs: &Path, threads: u32) -> Result<(), String> {
    let text = |p: &Path| p.display().to_string();
    let folder = b.parent().unwrap_or(b);
    portwright(
        folder,
        &["--quiet", "run", &text(b), "--inputs", &text(inputs), "--outputs", &text(outputs), "--threads", &threads.to_string()],
    )?
    .well()
    .map(|_| ())
}

fn numbers(m: &Model) -> Result<(), String> {
    let b = bundle(m, "host")?;
    let out = scratch(&format!("numbers-{}", m.name))?;
    let cases = m.cases();
    if cases.is_empty() {
        return Err("the model has no cases".into());
    }
    for (inputs, expected) in cases {
        let name = inputs.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let got = out.join(&name);
        run(&b, &inputs, &got, 2).and_then(|()| near(&expected, &got, m.tolerance)).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

/// The bundle of a model, or why it is skipped: what no target compiles ends in a diagnostic, on this one as on the machine at hand.
#[cfg(feature = "emu")]
fn compiled(m: &Model, target: &str) -> Result<Result<PathBuf, Done>, String> {
    match bundle(m, target) {
        Ok(b) => Ok(Ok(b)),
        Err(said) if m.name != OWN && bundle(m, "host").is_err() => {
            Ok(Err(Done::Skipped(format!("{}: {}", m.name, said.lines().find(|l| l.contains("error[")).unwrap_or("not compiled")))))
        }
        Err(said) => Err(said),
    }
}

/// A model compiles; one whose weights are not there compiles without them.
#[cfg(feature = "emu")]
fn compiles(name: &str, target: &str) -> Result<Done, String> {
    let m = model(name)?;
    let Err(skipped) = compiled(&m, target)? else { return Ok(Done::Passed) };
    let out = scratch(&format!("zoo-{name}-{target}-weightless"))?;
    let text = |p: &Path| p.display().to_string();
    let e = portwright(
        &out,
        &["--quiet", "compile", &text(&m.folder.join("model.onnx")), "--weightless", "--target", target, "-o", "model.pw"],
    )?;
    Ok(if e.code == 0 { Done::Passed } else { skipped })
}

/// All code of a model for a device is taken by the assembler of its vendor, and nothing spills.
#[cfg(feature = "emu")]
fn assembled(name: &str, target: &str) -> Result<Done, String> {
    let b = match compiled(&model(name)?, target)? {
        Ok(b) => b,
        Err(skipped) => return Ok(skipped),
    };
    let e = portwright(b.parent().unwrap_or(&b), &["inspect", &b.display().to_string(), "--code"])?;
    if e.stderr.contains("error[E0501]") {
        return Ok(Done::Skipped(format!("no assembler of {target}")));
    }
    e.well().map(|_| Done::Passed)
}

/// One whole model as a program of another machine: `compile --target`, then `run BUNDLE` in its emulator.
#[cfg(feature = "emu")]
fn emulated(name: &str, target: &str) -> Result<Done, String> {
    let m = model(name)?;
    let b = match compiled(&m, target)? {
        Ok(b) => b,
        Err(skipped) => return Ok(skipped),
    };
    let runs = match target {
        t if DEVICES.contains(&t) => "on the PTX machine",
        t if SOURCES.contains(&t) => "headers of this program",
        _ => "on qemu-",
    };
    let out = scratch(&format!("emulated-{name}-{target}"))?;
    for (inputs, expected) in m.cases() {
        let got = out.join("got.npz");
        let text = |p: &Path| p.display().to_string();
        // Where the machine of the target is at hand, it is another trial that runs there.
        let e = portwright(&out, &["run", &text(&b), "--on", "emulator", "--inputs", &text(&inputs), "--outputs", &text(&got)])?;
        if e.stderr.contains("error[E0504]") {
            return Ok(Done::Skipped(format!("no emulator of {target}")));
        }
        if !e.well()?.stderr.contains(runs) {
            return Err("the command does not say that an emulator ran the bundle".into());
        }
        near(&expected, &got, m.tolerance).or_else(|far| {
            // Two right ways through a model that rounds below f32 inside differ by that rounding, which the host shows too.
            let here = out.join("here.npz");
            run(&bundle(&m, "host")?, &inputs, &here, 1)?;
            near(&expected, &got, 2.0 * farthest(&expected, &here)?).map_err(|_| far)
        })?;
    }
    Ok(Done::Passed)
}

fn threads(m: &Model) -> Result<(), String> {
    let b = bundle(m, "host")?;
    let out = scratch(&format!("threads-{}", m.name))?;
    for (inputs, _) in m.cases() {
        let mut first: Option<Vec<(String, Tensor)>> = None;
        for threads in [1, 2, 3, 8] {
            let at = out.join(format!("{threads}.npz"));
            run(&b, &inputs, &at, threads)?;
            let got = read(&at)?;
            match &first {
                Some(f) if *f != got => return Err(format!("at {threads} threads outputs differ from those at 1")),
                Some(_) => {}
                None => first = Some(got),
            }
        }
    }
    Ok(())
}

fn same_bytes(m: &Model) -> Result<(), String> {
    let first = contents(&bundle(m, "host")?);
    // The folder's name gives the model its name; only what is above it differs.
    let other = scratch(&format!("elsewhere-{}", m.name))?.join("a/b").join(&m.name);
    std::fs::create_dir_all(&other).map_err(|e| e.to_string())?;
    for file in ["model.onnx", "model.view.json"].iter().filter(|f| m.folder.join(f).is_file()) {
        std::fs::copy(m.folder.join(file), other.join(file)).map_err(|e| e.to_string())?;
    }
    let second = contents(&compile(&other.join("model.onnx"), "host", &other.join("again.pw"))?);
    let names = |c: &[(PathBuf, Vec<u8>)]| c.iter().map(|(p, _)| p.display().to_string()).collect::<Vec<_>>();
    if names(&first) != names(&second) {
        return Err(format!("other files: {:?} and {:?}", names(&first), names(&second)));
    }
    match first.iter().zip(&second).find(|(a, b)| a.1 != b.1) {
        Some((a, _)) => Err(format!("{} differs", a.0.display())),
        None => Ok(()),
    }
}

/// Two bundles of different models run in turns in this process, sharing its pool of threads.
fn two_bundles() -> Result<Done, String> {
    let mut loaded = Vec::new();
    for name in [OWN, ZOO[0]] {
        let m = match model(name) {
            Ok(m) => m,
            Err(reason) => return Ok(Done::Skipped(reason)),
        };
        let l = load::Model::load(&bundle(&m, "host")?, &load::Options { threads: 2, ..Default::default() }).map_err(|e| e.to_string())?;
        loaded.push((m, l));
    }
    let run = |m: &Model, l: &load::Model| -> Result<(), String> {
        let (inputs, expected) = m.cases().swap_remove(0);
        let (inputs, expected) = (read(&inputs)?, read(&expected)?);
        let mut session = l.open().map_err(|e| e.to_string())?;
        for _ in 0..3 {
            let given: Option<Vec<View<'_>>> =
                l.inputs().iter().map(|i| inputs.iter().find(|(n, _)| *n == i.name).map(|(_, t)| t.view())).collect();
            let results = session.run(&given.ok_or("an input is missing")?).map_err(|e| e.to_string())?;
            for (info, r) in l.outputs().iter().zip(results) {
                let (_, want) = expected.iter().find(|(n, _)| *n == info.name).ok_or("an output is missing")?;
                if distance(want, &r.to_tensor()) > m.tolerance {
                    return Err(format!("{}: output {} is wrong", m.name, info.name));
                }
            }
        }
        Ok(())
    };
    let run = &run;
    std::thread::scope(|s| {
        let handles: Vec<_> = loaded.iter().map(|(m, l)| s.spawn(move || run(m, l))).collect();
        handles.into_iter().try_for_each(|h| h.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    Ok(Done::Passed)
}
