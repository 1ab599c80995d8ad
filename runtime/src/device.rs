// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bundles that drive a device: the description of their code (`c/device.h`), and a device that this process stands in for.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::{mem, ptr, slice};

/// Which driver a bundle speaks to: `enum pw_device_driver`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Driver {
    /// The CUDA driver API.
    Cuda,
    /// The runtime API of a vendor whose compiler built the bundle: its table is linked into the library.
    Source,
}

impl Driver {
    /// Its name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Cuda => "cuda",
            Driver::Source => "source",
        }
    }
    /// The driver of that name.
    pub fn from_name(name: &str) -> Option<Driver> {
        [Driver::Cuda, Driver::Source].into_iter().find(|d| d.name() == name)
    }
    /// Its library.
    fn library(self) -> Option<libloading::Library> {
        let name = match self {
            Driver::Cuda => "libcuda.so.1",
            // Only the bundle knows, once it is built.
            Driver::Source => return None,
        };
        // SAFETY: the driver's own initializers run, as they do when a bundle is loaded.
        unsafe { libloading::Library::new(name) }.ok()
    }
    /// Whether its library is on this machine. A device may still be missing, too old or busy: the bundle's load says so.
    pub fn is_here(self) -> bool {
        self.library().is_some()
    }
    /// What is here of it, for people: its version and the devices that it has. `None`: its library is not here.
    pub fn probe(self) -> Option<String> {
        let library = self.library()?;
        let ask = |symbol: &[u8]| {
            let mut number = 0;
            // SAFETY: both calls that are asked for have this signature (cuda.h) and write one number.
            let status = unsafe { library.get::<unsafe extern "C" fn(*mut i32) -> i32>(symbol).ok()?(&mut number) };
            (status == 0).then_some(number)
        };
        // SAFETY: as above, with flags that have to be 0. A driver without a device fails, and then has none.
        let _ = unsafe { library.get::<unsafe extern "C" fn(u32) -> i32>(b"cuInit\0").map(|init| init(0)) };
        let version = ask(b"cuDriverGetVersion\0").map_or("of no version".into(), |v| format!("{}.{}", v / 1000, v % 1000 / 10));
        Some(format!("CUDA {version}, devices: {}", ask(b"cuDeviceGetCount\0").unwrap_or(0)))
    }
}

/// Code for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// Who runs it.
    pub driver: Driver,
    /// Ten times the major and the minor version of the capability that it is for.
    pub capability: u32,
    /// Whether it runs on that capability and on no later one.
    pub exact: bool,
    /// Lowest version of the driver's interface, as the driver counts.
    pub version: u32,
    /// What it is for, in words.
    pub name: String,
    /// Texts that the driver loads.
    pub images: Vec<String>,
    /// Kernels, by the numbers that plans have for them.
    pub kernels: Vec<Kernel>,
}

/// A kernel of [`Code`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Its symbol.
    pub name: String,
    /// The image that holds it.
    pub image: u32,
    /// Lanes of a group.
    pub group: u32,
    /// Bytes of the group's memory that launches ask for.
    pub dynamic: u32,
    /// Whether groups are launched in one row.
    pub row: bool,
    /// Buffers that it takes.
    pub buffers: u32,
    /// Symbols and scalars that it takes.
    pub scalars: u32,
}

const MAGIC: &[u8; 8] = b"PWDEV\0\0\x01";
const HEADER: usize = 8 + 8 + 10 * 4;
const IMAGE: usize = 16;
const KERNEL: usize = 32;

impl Code {
    /// The description as the library carries it; `None` where it leaves 32 bits.
    pub fn write(&self) -> Option<Vec<u8>> {
        let image_at = HEADER.next_multiple_of(8);
        let kernel_at = image_at + IMAGE * self.images.len();
        let mut tables: Vec<u8> = Vec::new();
        let mut texts: Vec<u8> = Vec::new();
        let text_at = kernel_at + KERNEL * self.kernels.len();
        let mut text = |s: &str| {
            let at = text_at + texts.len();
            texts.extend(s.bytes().filter(|b| *b != 0).chain([0]));
            (at, text_at + texts.len() - at)
        };
        for i in &self.images {
            let (at, bytes) = text(i);
            tables.extend([at as u64, bytes as u64].iter().flat_map(|v| v.to_le_bytes()));
        }
        for k in &self.kernels {
            let (name, _) = text(&k.name);
            let entry = [u32::try_from(name).ok()?, k.image, k.group, k.dynamic, u32::from(k.row), k.buffers, k.scalars, 0];
            tables.extend(entry.iter().flat_map(|v| v.to_le_bytes()));
        }
        let (name, _) = text(&self.name);
        let total = (text_at + texts.len()).next_multiple_of(8);
        let driver = match self.driver {
            Driver::Cuda => 1,
            Driver::Source => 2,
        };
        let small = |n: usize| u32::try_from(n).ok();
        let numbers = [
            driver,
            self.capability,
            u32::from(self.exact),
            self.version,
            small(self.images.len())?,
            small(image_at)?,
            small(self.kernels.len())?,
            small(kernel_at)?,
            small(name)?,
            0,
        ];
        small(total)?;
        let mut out = MAGIC.to_vec();
        out.extend((total as u64).to_le_bytes());
        out.extend(numbers.iter().flat_map(|v| v.to_le_bytes()));
        out.extend(tables);
        out.extend(texts);
        out.resize(total, 0);
        Some(out)
    }

    /// Reads a description; `None` where it is none, or a damaged one.
    pub fn read(bytes: &[u8]) -> Option<Code> {
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let long = |at: usize| usize::try_from(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?)).ok();
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let bytes = bytes.get(..long(8)?)?;
        let text = |at: usize, most: usize| {
            let part = bytes.get(at..)?.get(..most).or(bytes.get(at..))?;
            let end = part.iter().position(|b| *b == 0)?;
            String::from_utf8(part[..end].to_vec()).ok()
        };
        let number = |i: usize| word(16 + 4 * i);
        let [images, image_at, kernels, kernel_at, name] = [4, 5, 6, 7, 8].map(|i| number(i).map(|n| n as usize));
        let entry = |at: usize, i: usize, each: usize| i.checked_mul(each)?.checked_add(at);
        let (image_at, kernel_at) = (image_at?, kernel_at?);
        let driver = match number(0)? {
            1 => Driver::Cuda,
            _ => return None,
        };
        let one_image = |i: usize| {
            let e = entry(image_at, i, IMAGE)?;
            text(long(e)?, long(e + 8)?)
        };
        let one_kernel = |i: usize| {
            let e = entry(kernel_at, i, KERNEL)?;
            let [name, image, group, dynamic, row, buffers, scalars] = [0, 1, 2, 3, 4, 5, 6].map(|i| word(e + 4 * i));
            let name = text(name? as usize, usize::MAX)?;
            Some(Kernel { name, image: image?, group: group?, dynamic: dynamic?, row: row? != 0, buffers: buffers?, scalars: scalars? })
        };
        // Each entry has bytes, so that no number of them is believed before they are there.
        Some(Code {
            driver,
            capability: number(1)?,
            exact: number(2)? & 1 != 0,
            version: number(3)?,
            name: text(name?, usize::MAX)?,
            images: (0..images?).map(one_image).collect::<Option<_>>()?,
            kernels: (0..kernels?).map(one_kernel).collect::<Option<_>>()?,
        })
    }

    /// The description that a bundle's library carries, by the library's bytes.
    pub fn in_library(library: &[u8]) -> Option<Code> {
        library.chunks(8).enumerate().filter(|(_, c)| c == MAGIC).find_map(|(i, _)| Code::read(library.get(8 * i..)?))
    }
}

/// One launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch<'a> {
    /// Symbol of the kernel.
    pub kernel: &'a str,
    /// Number of the image that holds it, as [`Device::image`] gave.
    pub image: usize,
    /// Groups in x, y, z.
    pub grid: [u32; 3],
    /// Lanes of a group.
    pub group: u32,
    /// Bytes of the group's memory beside what the image says.
    pub dynamic: u32,
    /// Parameters of 8 bytes each: addresses and numbers.
    pub params: &'a [u64],
}

/// A device that this process stands in for. Errors are texts for people.
pub trait Device: Send {
    /// Free and total bytes of memory.
    fn memory(&self) -> (u64, u64);
    /// Address of so many bytes.
    ///
    /// # Errors
    /// There is no room.
    fn alloc(&mut self, bytes: u64) -> Result<u64, String>;
    /// Gives memory back.
    fn release(&mut self, address: u64);
    /// Copies bytes to the device.
    ///
    /// # Errors
    /// They lie in no memory that was given.
    fn write(&mut self, to: u64, bytes: &[u8]) -> Result<(), String>;
    /// Copies bytes from the device.
    ///
    /// # Errors
    /// As [`Device::write`].
    fn read(&mut self, from: u64, bytes: &mut [u8]) -> Result<(), String>;
    /// Takes code and gives its number.
    ///
    /// # Errors
    /// What is wrong with it.
    fn image(&mut self, text: &str) -> Result<usize, String>;
    /// Whether an image has a kernel.
    fn has(&self, image: usize, kernel: &str) -> bool;
    /// Runs a kernel to its end.
    ///
    /// # Errors
    /// How it failed.
    fn launch(&mut self, launch: &Launch<'_>) -> Result<(), String>;
}

/// Numbers of `pw_status` that devices answer with.
const OK: i32 = 0;
const MEMORY: i32 = 7;
const DEVICE: i32 = 10;

#[repr(C)]
struct PwLaunch {
    grid: [u32; 3],
    group: u32,
    dynamic: u32,
    params: u32,
    param: *const u64,
}

/// `pw_device_api`.
#[repr(C)]
struct PwApi {
    size: u32,
    user: *mut c_void,
    open: unsafe extern "C" fn(*mut c_void, *const c_void, i32, *mut *mut c_void, *mut c_char, usize) -> i32,
    close: unsafe extern "C" fn(*mut c_void),
    enter: unsafe extern "C" fn(*mut c_void) -> i32,
    leave: unsafe extern "C" fn(*mut c_void),
    error: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    memory: unsafe extern "C" fn(*mut c_void, *mut u64, *mut u64) -> i32,
    alloc: unsafe extern "C" fn(*mut c_void, u64, *mut u64) -> i32,
    release: unsafe extern "C" fn(*mut c_void, u64),
    stream: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> i32,
    end_stream: unsafe extern "C" fn(*mut c_void, *mut c_void),
    copy_in: unsafe extern "C" fn(*mut c_void, *mut c_void, u64, *const c_void, u64) -> i32,
    copy_out: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void, u64, u64) -> i32,
    copy: unsafe extern "C" fn(*mut c_void, *mut c_void, u64, u64, u64) -> i32,
    image: unsafe extern "C" fn(*mut c_void, *const c_char, u64, *mut *mut c_void) -> i32,
    drop_image: unsafe extern "C" fn(*mut c_void, *mut c_void),
    kernel: unsafe extern "C" fn(*mut c_void, *mut c_void, *const c_char, u32, *mut *mut c_void) -> i32,
    launch: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void, *const PwLaunch) -> i32,
    sync: unsafe extern "C" fn(*mut c_void, *mut c_void) -> i32,
    record: unsafe extern "C" fn(*mut c_void, *mut c_void) -> i32,
    recorded: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut *mut c_void) -> i32,
    replay: unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void) -> i32,
    drop_graph: unsafe extern "C" fn(*mut c_void, *mut c_void),
}

/// What a recording does.
#[derive(Clone)]
enum Step {
    Launch { kernel: usize, grid: [u32; 3], group: u32, dynamic: u32, params: Vec<u64> },
    Copy { to: u64, from: u64, bytes: u64 },
}

struct State {
    device: Box<dyn Device>,
    /// Image and symbol of each kernel that was looked up.
    kernels: Vec<(usize, String)>,
    /// What is being recorded, and recordings by their handles.
    recording: Option<Vec<Step>>,
    graphs: BTreeMap<usize, Vec<Step>>,
    next: usize,
    /// How often recordings ran.
    replays: u64,
    /// Closed text of the last failure.
    error: Vec<u8>,
}

impl State {
    /// Does something, or notes it.
    fn step(&mut self, step: Step) -> Result<(), String> {
        if let Some(list) = &mut self.recording {
            list.push(step);
            return Ok(());
        }
        match step {
            Step::Launch { kernel, grid, group, dynamic, params } => {
                let (image, name) = self.kernels.get(kernel).cloned().ok_or("a launch of no kernel")?;
                self.device.launch(&Launch { kernel: &name, image, grid, group, dynamic, params: &params })
            }
            Step::Copy { to, from, bytes } => {
                let mut part = vec![0; usize::try_from(bytes).map_err(|e| e.to_string())?];
                self.device.read(from, &mut part)?;
                self.device.write(to, &part)
            }
        }
    }
}

/// A device as a bundle's library calls it. It must live as long as the models that were loaded with it.
pub struct Table {
    api: PwApi,
    state: Box<Mutex<State>>,
}

// SAFETY: the pointer in the table is to the locked state beside it.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

impl Table {
    /// Makes a table for a device.
    pub fn new(device: Box<dyn Device>) -> Table {
        let state = Box::new(Mutex::new(State {
            device,
            kernels: Vec::new(),
            recording: None,
            graphs: BTreeMap::new(),
            next: 0,
            replays: 0,
            error: vec![0],
        }));
        let user = ptr::from_ref(&*state).cast_mut().cast();
        let api = PwApi {
            size: mem::size_of::<PwApi>() as u32,
            user,
            open,
            close,
            enter,
            leave: close,
            error,
            memory,
            alloc,
            release,
            stream,
            end_stream,
            copy_in,
            copy_out,
            copy,
            image,
            drop_image: end_stream,
            kernel,
            launch,
            sync,
            record,
            recorded,
            replay,
            drop_graph,
        };
        Table { api, state }
    }
    /// Calls `f` with the device; the library's calls wait meanwhile.
    pub fn with<T>(&self, f: impl FnOnce(&mut dyn Device) -> T) -> T {
        f(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner).device)
    }
    /// How often recorded launches ran as one, and how many recordings there are.
    pub fn replays(&self) -> (u64, usize) {
        let s = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (s.replays, s.graphs.len())
    }
    /// What `pw_options.device_api` takes.
    pub(crate) fn api(&self) -> *const c_void {
        ptr::from_ref(&self.api).cast()
    }
}

/// Runs `f` on the state, and keeps the text of its failure. A panic stays on this side.
///
/// # Safety
/// `device` is the `user` of a table that lives.
unsafe fn call(device: *mut c_void, status: i32, f: impl FnOnce(&mut State) -> Result<(), String>) -> i32 {
    // SAFETY: by contract.
    let state = unsafe { &*device.cast::<Mutex<State>>() };
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let done = catch_unwind(AssertUnwindSafe(|| f(&mut state))).unwrap_or_else(|_| Err("the device's own code panicked".into()));
    match done {
        Ok(()) => OK,
        Err(text) => {
            state.error = text.bytes().filter(|b| *b != 0).chain([0]).collect();
            status
        }
    }
}

unsafe extern "C" fn open(user: *mut c_void, _: *const c_void, _: i32, device: *mut *mut c_void, _: *mut c_char, _: usize) -> i32 {
    // SAFETY: the runtime gives a place for the device.
    unsafe { *device = user };
    OK
}
unsafe extern "C" fn close(_: *mut c_void) {}
unsafe extern "C" fn enter(_: *mut c_void) -> i32 {
    OK
}
unsafe extern "C" fn error(device: *mut c_void) -> *const c_char {
    // SAFETY: as of `call`; the text stays until the next failure of this device.
    let state = unsafe { &*device.cast::<Mutex<State>>() };
    state.lock().unwrap_or_else(PoisonError::into_inner).error.as_ptr().cast()
}
unsafe extern "C" fn memory(device: *mut c_void, free: *mut u64, total: *mut u64) -> i32 {
    // SAFETY: as of `call`; two places to write to.
    unsafe {
        call(device, DEVICE, |s| {
            (*free, *total) = s.device.memory();
            Ok(())
        })
    }
}
unsafe extern "C" fn alloc(device: *mut c_void, bytes: u64, address: *mut u64) -> i32 {
    // SAFETY: as of `call`; a place to write to.
    unsafe {
        call(device, MEMORY, |s| {
            *address = s.device.alloc(bytes)?;
            Ok(())
        })
    }
}
unsafe extern "C" fn release(device: *mut c_void, address: u64) {
    // SAFETY: as of `call`.
    unsafe {
        call(device, DEVICE, |s| {
            s.device.release(address);
            Ok(())
        });
    }
}
unsafe extern "C" fn stream(_: *mut c_void, stream: *mut *mut c_void) -> i32 {
    // SAFETY: a place to write to. There is one stream, which is always done.
    unsafe { *stream = ptr::null_mut() };
    OK
}
unsafe extern "C" fn end_stream(_: *mut c_void, _: *mut c_void) {}
unsafe extern "C" fn copy_in(device: *mut c_void, _: *mut c_void, to: u64, from: *const c_void, bytes: u64) -> i32 {
    // SAFETY: as of `call`; the runtime gives so many bytes.
    unsafe { call(device, DEVICE, |s| s.device.write(to, slice::from_raw_parts(from.cast(), bytes as usize))) }
}
unsafe extern "C" fn copy_out(device: *mut c_void, _: *mut c_void, to: *mut c_void, from: u64, bytes: u64) -> i32 {
    // SAFETY: as of `call`; the runtime gives room for so many bytes.
    unsafe { call(device, DEVICE, |s| s.device.read(from, slice::from_raw_parts_mut(to.cast(), bytes as usize))) }
}
unsafe extern "C" fn copy(device: *mut c_void, _: *mut c_void, to: u64, from: u64, bytes: u64) -> i32 {
    // SAFETY: as of `call`.
    unsafe { call(device, DEVICE, |s| s.step(Step::Copy { to, from, bytes })) }
}
unsafe extern "C" fn image(device: *mut c_void, text: *const c_char, bytes: u64, image: *mut *mut c_void) -> i32 {
    // SAFETY: as of `call`; the text has so many bytes, the last of which is zero, and there is a place to write to.
    unsafe {
        call(device, DEVICE, |s| {
            let bytes = slice::from_raw_parts(text.cast::<u8>(), bytes.saturating_sub(1) as usize);
            let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
            *image = ptr::without_provenance_mut(s.device.image(text)?);
            Ok(())
        })
    }
}
unsafe extern "C" fn kernel(device: *mut c_void, image: *mut c_void, name: *const c_char, _: u32, kernel: *mut *mut c_void) -> i32 {
    // SAFETY: as of `call`; a closed text and a place to write to.
    unsafe {
        call(device, DEVICE, |s| {
            let name = CStr::from_ptr(name).to_string_lossy().into_owned();
            let image = image.addr();
            if !s.device.has(image, &name) {
                return Err(format!("the image has no kernel `{name}`"));
            }
            s.kernels.push((image, name));
            *kernel = ptr::without_provenance_mut(s.kernels.len() - 1);
            Ok(())
        })
    }
}
unsafe extern "C" fn launch(device: *mut c_void, _: *mut c_void, kernel: *mut c_void, launch: *const PwLaunch) -> i32 {
    // SAFETY: as of `call`; the launch and its parameters are the runtime's.
    unsafe {
        call(device, DEVICE, |s| {
            let l = &*launch;
            let params = slice::from_raw_parts(l.param, l.params as usize).to_vec();
            s.step(Step::Launch { kernel: kernel.addr(), grid: l.grid, group: l.group, dynamic: l.dynamic, params })
        })
    }
}
unsafe extern "C" fn sync(_: *mut c_void, _: *mut c_void) -> i32 {
    OK
}
unsafe extern "C" fn record(device: *mut c_void, _: *mut c_void) -> i32 {
    // SAFETY: as of `call`.
    unsafe {
        call(device, DEVICE, |s| match s.recording.replace(Vec::new()) {
            None => Ok(()),
            Some(_) => Err("a recording within another one".into()),
        })
    }
}
unsafe extern "C" fn recorded(device: *mut c_void, _: *mut c_void, graph: *mut *mut c_void) -> i32 {
    // SAFETY: as of `call`; a place to write to.
    unsafe {
        call(device, DEVICE, |s| {
            let list = s.recording.take().ok_or("the end of no recording")?;
            s.next += 1;
            s.graphs.insert(s.next, list);
            *graph = ptr::without_provenance_mut(s.next);
            Ok(())
        })
    }
}
unsafe extern "C" fn replay(device: *mut c_void, _: *mut c_void, graph: *mut c_void) -> i32 {
    // SAFETY: as of `call`.
    unsafe {
        call(device, DEVICE, |s| {
            let steps = s.graphs.get(&graph.addr()).cloned().ok_or("a run of no recording")?;
            s.replays += 1;
            steps.into_iter().try_for_each(|step| s.step(step))
        })
    }
}
unsafe extern "C" fn drop_graph(device: *mut c_void, graph: *mut c_void) {
    // SAFETY: as of `call`.
    unsafe {
        call(device, DEVICE, |s| s.graphs.remove(&graph.addr()).map(|_| ()).ok_or_else(|| "a recording that is not there".into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_found_in_a_library_and_no_damage_is_believed() {
        let kernel = |name: &str, image| Kernel { name: name.into(), image, group: 64, row: true, buffers: 2, scalars: 1, dynamic: 9 };
        let code = Code {
            driver: Driver::Cuda,
            capability: 90,
            exact: true,
            version: 12040,
            name: "sm_90a".into(),
            images: vec!["first".into(), String::new(), "third".into()],
            kernels: vec![kernel("a", 2), kernel("b", 0)],
        };
        let bytes = code.write().unwrap();
        let library = [b"ELF.....", &MAGIC[..], &[7; 24], &bytes, &[0; 5]].concat();
        assert_eq!((Code::in_library(&library), Code::in_library(&library[1..])), (Some(code.clone()), None));
        for i in 0..bytes.len() {
            assert_eq!(Code::read(&bytes[..i]), None);
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[i] ^= 1 << bit;
                // What is read is as large as its bytes say, whatever the numbers in it are.
                let read = Code::read(&damaged);
                assert!(read.is_none_or(|c| c.images.len() + c.kernels.len() <= bytes.len()));
            }
        }
    }

    #[test]
    fn the_description_is_as_its_header_says() {
        let code = Code {
            driver: Driver::Cuda,
            capability: 80,
            exact: false,
            version: 11000,
            name: "sm_80".into(),
            images: vec!["ab".into(), String::new()],
            kernels: vec![Kernel { name: "k".into(), image: 1, group: 256, dynamic: 5, row: true, buffers: 2, scalars: 3 }],
        };
        let bytes = code.write().unwrap();
        let n4 = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let n8 = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!((&bytes[..8], n8(8), bytes.len() % 8), (&MAGIC[..], bytes.len(), 0));
        assert_eq!([n4(16), n4(20), n4(24), n4(28), n4(32), n4(40)], [1, 80, 0, 11000, 2, 1]);
        let (image, kernel) = (n4(36), n4(44));
        assert_eq!(&bytes[n8(image)..n8(image) + n8(image + 8)], b"ab\0");
        assert_eq!(&bytes[n8(image + 16)..][..n8(image + 24)], b"\0");
        assert_eq!(&bytes[n4(kernel)..][..2], b"k\0");
        assert_eq!([n4(kernel + 4), n4(kernel + 8), n4(kernel + 12), n4(kernel + 16)], [1, 256, 5, 1]);
        assert_eq!(&bytes[n4(48)..][..6], b"sm_80\0");
    }
}
