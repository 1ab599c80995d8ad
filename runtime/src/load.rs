// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loads a bundle's library into this process and runs it through its C ABI. The structs are those of `c/portwright.h`.

use crate::blob::{Item, Kind};
use crate::bundle;
use crate::device::Table;
use crate::features::Arch;
use crate::tensor::{Bytes, Tensor, View};
use crate::value::{Arg, Input, List, Texts, Value};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, mem, ptr, slice};

/// What a call came to: `pw_status`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Status {
    Ok,
    Argument,
    Name,
    Dtype,
    Shape,
    Index,
    Capacity,
    Memory,
    Bundle,
    Cpu,
    Device,
    Busy,
    Cancelled,
    Internal,
    NoDriver,
    OldDriver,
    NoDevice,
    Capability,
    DeviceMemory,
    DeviceSize,
}

impl Status {
    /// The status of a `pw_status`; what no version of the ABI has is [`Status::Internal`].
    pub fn from_code(code: c_int) -> Status {
        use Status::*;
        let host = [Ok, Argument, Name, Dtype, Shape, Index, Capacity, Memory, Bundle, Cpu, Device, Busy, Cancelled, Internal];
        let all = [&host[..], &[NoDriver, OldDriver, NoDevice, Capability, DeviceMemory, DeviceSize]].concat();
        usize::try_from(code).ok().and_then(|c| all.get(c)).copied().unwrap_or(Internal)
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// What kind of failure.
    pub status: Status,
    /// Its text, with the node's path where there is one.
    pub message: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LoadError {}

fn error(status: Status, message: impl Into<String>) -> LoadError {
    LoadError { status, message: message.into() }
}

#[repr(C)]
#[derive(Copy, Clone)]
struct PwValue {
    size: u32,
    kind: i32,
    data: *mut c_void,
    capacity_bytes: usize,
    dtype: i32,
    rank: i32,
    dims: *mut i64,
    strides: *const i64,
    place: i32,
    device: i32,
    reserved: [*mut c_void; 2],
}

#[repr(C)]
struct PwOptions {
    size: u32,
    threads: i32,
    device: i32,
    max_memory_bytes: u64,
    alloc: Option<unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void>,
    release: Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>,
    log: Option<unsafe extern "C" fn(*mut c_void, c_int, *const c_char)>,
    user: *mut c_void,
    profile: Option<unsafe extern "C" fn(*mut c_void, *const c_char, u64, u64, i64)>,
    device_api: *const c_void,
}

#[repr(C)]
struct PwInfo {
    size: u32,
    kind: i32,
    name: *const c_char,
    dtype: i32,
    rank: i32,
    dims: *const i64,
    symbols: *const *const c_char,
    min_dims: *const i64,
    max_dims: *const i64,
    max_bytes: u64,
    alias_of: i32,
    append_axis: i32,
    item_count: i32,
    items: *const PwItem,
}

#[repr(C)]
struct PwItem {
    kind: i32,
    dtype: i32,
    rank: i32,
}

#[repr(C)]
struct PwString {
    data: *const c_char,
    bytes: usize,
}

#[repr(C)]
struct PwList {
    count: usize,
    items: *const PwValue,
}

type PwRun = unsafe extern "C" fn(*mut c_void, *const PwValue, usize, *mut PwValue, usize, *mut c_void) -> c_int;
type PwInfer = unsafe extern "C" fn(*mut c_void, *const PwValue, usize, *mut PwValue, usize) -> c_int;

#[repr(C)]
struct PwApi {
    abi: u32,
    load: unsafe extern "C" fn(*const c_char, *const PwOptions, *mut *mut c_void) -> c_int,
    open: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> c_int,
    describe: unsafe extern "C" fn(*const c_void, c_int, usize, *mut PwInfo) -> c_int,
    infer: PwInfer,
    run: PwRun,
    error: unsafe extern "C" fn(*const c_void, *const c_void) -> *const c_char,
    close: unsafe extern "C" fn(*mut c_void),
    unload: unsafe extern "C" fn(*mut c_void),
    cancel: unsafe extern "C" fn(*mut c_void),
}

const ABI_MAJOR: u32 = 1;

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// 0 = as many as CPUs are available.
    pub threads: u32,
    /// Limit for what one session allocates; 0 = none.
    pub max_memory_bytes: u64,
    /// Keep a record of every launch ([`Model::take_profile`]).
    pub profile: bool,
    /// What stands in for the device of a bundle that drives one; `None` for the device itself.
    pub device: Option<Arc<Table>>,
}

/// One launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Node path or paths that it computes.
    pub node: String,
    /// Nanoseconds that it took.
    pub ns: u64,
    /// Groups in its grid.
    pub groups: i64,
}

/// An input or output as the bundle describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// ONNX TensorProto.DataType.
    pub dtype: i32,
    /// Its dims.
    pub dims: Vec<InfoDim>,
    /// Largest size of its data; `None` = no bound known.
    pub max_bytes: Option<u64>,
    /// Outputs: the input whose memory it may take.
    pub alias_of: Option<usize>,
    /// What a list holds.
    pub items: Vec<Item>,
}

/// One axis of an [`Info`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoDim {
    /// The symbol's name, if it is not of fixed size.
    pub symbol: Option<String>,
    /// Smallest size; the size, if it is fixed.
    pub min: i64,
    /// Largest size; `i64::MAX` = no bound known.
    pub max: i64,
}

struct Inner {
    api: *const PwApi,
    model: *mut c_void,
    inputs: Vec<Info>,
    outputs: Vec<Info>,
    profile: Option<Box<Mutex<Vec<Launch>>>>,
    // Unmapped last, after the model is gone.
    _library: libloading::Library,
    // What the model calls until it is gone.
    _device: Option<Arc<Table>>,
}

// SAFETY: a pw_model may be used by any number of threads at a time; everything else is not changed after loading, or locked.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Inner {
    fn api(&self) -> &PwApi {
        // SAFETY: `api` points to a constant of the library, which lives as long as `self`.
        unsafe { &*self.api }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: the model came from `load` and is unloaded once; sessions hold an `Arc` of `self`.
        unsafe { (self.api().unload)(self.model) }
    }
}

/// A loaded bundle; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("inputs", &self.0.inputs).field("outputs", &self.0.outputs).finish_non_exhaustive()
    }
}

unsafe extern "C" fn record(user: *mut c_void, node: *const c_char, begin: u64, end: u64, groups: i64) {
    // SAFETY: `user` is the boxed list that the model's options were made with, `node` a closed text.
    let (list, node) = unsafe { (&*user.cast::<Mutex<Vec<Launch>>>(), CStr::from_ptr(node)) };
    let launch = Launch { node: node.to_string_lossy().into_owned(), ns: end.saturating_sub(begin), groups };
    list.lock().unwrap_or_else(PoisonError::into_inner).push(launch);
}

/// Refuses the bundle in that folder if its code is of another architecture than that of the machine that is to run it.
///
/// # Errors
/// [`Status::Cpu`], naming both; what cannot be read is for whoever loads it to say.
pub fn same_arch(path: &Path, machine: &str) -> Result<(), LoadError> {
    let mut head = Vec::new();
    let read = std::fs::File::open(path.join(bundle::LIBRARY)).and_then(|f| f.take(64).read_to_end(&mut head));
    match read.ok().and_then(|_| Arch::of_elf(&head)) {
        Some(code) if code.name() != machine => {
            let what = format!("{} is code for {}, and this machine is {machine}", bundle::LIBRARY, code.name());
            Err(error(Status::Cpu, format!("{what}: compile the model for it, with --target")))
        }
        _ => Ok(()),
    }
}

impl Model {
    /// Loads the bundle in that folder. The code of the bundle runs in this process from here on: load what you trust.
    ///
    /// # Errors
    /// The library cannot be opened or speaks another ABI ([`Status::Bundle`]), is code for another machine ([`Status::Cpu`]), or what
    /// its `load` says.
    pub fn load(path: &Path, options: &Options) -> Result<Model, LoadError> {
        same_arch(path, std::env::consts::ARCH)?;
        let file = path.join(bundle::LIBRARY);
        // An absolute path, so that the system's search rules play no part.
        let file = std::fs::canonicalize(&file).map_err(|e| error(Status::Bundle, format!("{}: {e}", file.display())))?;
        let dir = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| error(Status::Argument, "the bundle's path contains a zero byte"))?;
        // SAFETY: the library's initializers run; a bundle's has none.
        let library = unsafe { libloading::Library::new(&file) }.map_err(|e| error(Status::Bundle, format!("{}: {e}", file.display())))?;
        // SAFETY: the type is that of the one exported function of every bundle.
        let api = unsafe {
            let get = library
                .get::<unsafe extern "C" fn(u32) -> *const PwApi>(b"pw_bundle_api\0")
                .map_err(|e| error(Status::Bundle, format!("{}: {e}", file.display())))?;
            get(ABI_MAJOR)
        };
        if api.is_null() {
            return Err(error(Status::Bundle, format!("{}: the bundle speaks another version of the ABI", file.display())));
        }
        let profile = options.profile.then(|| Box::new(Mutex::new(Vec::new())));
        let raw = PwOptions {
            size: mem::size_of::<PwOptions>() as u32,
            threads: i32::try_from(options.threads).unwrap_or(i32::MAX),
            device: 0,
            max_memory_bytes: options.max_memory_bytes,
            alloc: None,
            release: None,
            log: None,
            user: profile.as_deref().map_or(ptr::null_mut(), |p| ptr::from_ref(p).cast_mut().cast()),
            profile: profile.is_some().then_some(record as _),
            device_api: options.device.as_ref().map_or(ptr::null(), |d| d.api()),
        };
        let mut model = ptr::null_mut();
        // SAFETY: all arguments live through the call; `raw.user` lives in the model's `Inner`.
        let (status, message) = unsafe {
            let status = Status::from_code(((*api).load)(dir.as_ptr(), &raw, &mut model));
            (status, text(((*api).error)(ptr::null(), ptr::null())))
        };
        if status != Status::Ok {
            return Err(error(status, message));
        }
        let device = options.device.clone();
        let mut inner = Inner { api, model, inputs: Vec::new(), outputs: Vec::new(), profile, _library: library, _device: device };
        inner.inputs = describe(&inner, 0);
        inner.outputs = describe(&inner, 1);
        Ok(Model(Arc::new(inner)))
    }

    /// The inputs, in the order of [`Session::run`].
    pub fn inputs(&self) -> &[Info] {
        &self.0.inputs
    }

    /// The outputs, in the order of [`Session::run`].
    pub fn outputs(&self) -> &[Info] {
        &self.0.outputs
    }

    /// Opens a session: memory and state of one run at a time.
    ///
    /// # Errors
    /// No memory.
    pub fn open(&self) -> Result<Session, LoadError> {
        let mut session = ptr::null_mut();
        // SAFETY: the model is alive.
        let (status, message) = unsafe {
            let status = Status::from_code((self.0.api().open)(self.0.model, &mut session));
            (status, text((self.0.api().error)(ptr::null(), self.0.model)))
        };
        if status != Status::Ok {
            return Err(error(status, message));
        }
        let value = PwValue { size: mem::size_of::<PwValue>() as u32, ..EMPTY };
        let dims: Vec<Vec<i64>> = self.0.outputs.iter().map(|o| vec![0; o.dims.len().max(1)]).collect();
        Ok(Session { model: self.clone(), session, outputs: vec![value; dims.len()], dims })
    }

    /// The launches since the last call, if the model was loaded with [`Options::profile`].
    pub fn take_profile(&self) -> Vec<Launch> {
        self.0.profile.as_ref().map_or_else(Vec::new, |p| mem::take(&mut *p.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The text at a pointer that the library gave.
///
/// # Safety
/// `at` is null or points to a closed text that stays while this runs.
unsafe fn text(at: *const c_char) -> String {
    if at.is_null() { String::new() } else { unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned() }
}

fn describe(inner: &Inner, output: c_int) -> Vec<Info> {
    let mut all = Vec::new();
    loop {
        // SAFETY: a struct of integers and pointers may be zero.
        let mut info: PwInfo = unsafe { mem::zeroed() };
        info.size = mem::size_of::<PwInfo>() as u32;
        // SAFETY: the model is alive and `info` is as large as it says.
        if unsafe { (inner.api().describe)(inner.model, output, all.len(), &mut info) } != 0 {
            return all;
        }
        let rank = usize::try_from(info.rank).unwrap_or(0);
        let dims = (0..rank).map(|i| {
            // SAFETY: the four arrays have `rank` entries and live as long as the model.
            unsafe {
                let symbol = *info.symbols.add(i);
                InfoDim { symbol: (!symbol.is_null()).then(|| text(symbol)), min: *info.min_dims.add(i), max: *info.max_dims.add(i) }
            }
        });
        let items = (0..usize::try_from(info.item_count).unwrap_or(0)).map(|i| {
            // SAFETY: the array has `item_count` entries and lives as long as the model.
            let item = unsafe { &*info.items.add(i) };
            Item { kind: Kind::from_code(item.kind).unwrap_or_default(), dtype: item.dtype, rank: u32::try_from(item.rank).ok() }
        });
        all.push(Info {
            // SAFETY: a closed text that lives as long as the model.
            name: unsafe { text(info.name) },
            kind: Kind::from_code(info.kind).unwrap_or_default(),
            dtype: info.dtype,
            dims: dims.collect(),
            max_bytes: (info.max_bytes > 0).then_some(info.max_bytes),
            alias_of: usize::try_from(info.alias_of).ok(),
            items: items.collect(),
        });
    }
}

const EMPTY: PwValue = PwValue {
    size: 0,
    kind: 0,
    data: ptr::null_mut(),
    capacity_bytes: 0,
    dtype: 0,
    rank: 0,
    dims: ptr::null_mut(),
    strides: ptr::null(),
    place: 0,
    device: 0,
    reserved: [ptr::null_mut(); 2],
};

/// A session of a model. Outputs live in it until its next run.
pub struct Session {
    model: Model,
    session: *mut c_void,
    outputs: Vec<PwValue>,
    dims: Vec<Vec<i64>>,
}

// SAFETY: a pw_session may be used by any thread, by one at a time, which `&mut self` grants.
unsafe impl Send for Session {}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("model", &self.model).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the session came from `open` and is closed once.
        unsafe { (self.model.0.api().close)(self.session) }
    }
}

impl Session {
    /// The model that it runs.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Runs the model and returns its outputs, which lie in the session's memory.
    ///
    /// # Errors
    /// What the bundle says: wrong inputs, or what is wrong with the data, naming the node.
    pub fn run<I: Input>(&mut self, inputs: &[I]) -> Result<Vec<View<'_>>, LoadError> {
        self.execute(inputs)?;
        Ok(self.results())
    }

    /// The shapes that the outputs have for these inputs. Data is read only where shapes depend on it.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn infer<I: Input>(&mut self, inputs: &[I]) -> Result<Vec<Vec<i64>>, LoadError> {
        let mut dims = self.dims.clone();
        let mut outputs: Vec<PwValue> = dims.iter_mut().map(|d| output_value(d)).collect();
        self.call(inputs, |api, session, values| {
            // SAFETY: arrays of the sizes given; every pointer in them lives through the call.
            unsafe { (api.infer)(session, values.as_ptr(), values.len(), outputs.as_mut_ptr(), outputs.len()) }
        })?;
        Ok(outputs.iter().zip(&dims).map(|(o, d)| d.iter().take(usize::try_from(o.rank).unwrap_or(0)).copied().collect()).collect())
    }

    /// Runs the model; [`Session::results`] has the outputs. This is what a benchmark times.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn execute<I: Input>(&mut self, inputs: &[I]) -> Result<(), LoadError> {
        let mut outputs = mem::take(&mut self.outputs);
        for (o, d) in outputs.iter_mut().zip(&mut self.dims) {
            // What the last run gave belongs to the session again.
            *o = output_value(d);
        }
        let result = self.call(inputs, |api, session, values| {
            // SAFETY: arrays of the sizes given; every pointer in them lives through the call.
            unsafe { (api.run)(session, values.as_ptr(), values.len(), outputs.as_mut_ptr(), outputs.len(), ptr::null_mut()) }
        });
        if result.is_err() {
            outputs.iter_mut().for_each(|o| o.data = ptr::null_mut());
        }
        self.outputs = outputs;
        result
    }

    /// The outputs of the last run; empty tensors of rank 0 where it failed.
    pub fn results(&self) -> Vec<View<'_>> {
        let views = self.outputs.iter().zip(&self.dims).zip(&self.model.0.outputs).map(|((o, dims), info)| {
            let dims: Vec<i64> = dims.iter().take(usize::try_from(o.rank).unwrap_or(0)).copied().collect();
            let bytes = crate::dtype::tensor_bytes(info.dtype, &dims).and_then(|n| usize::try_from(n).ok());
            match bytes {
                // SAFETY: the run gave so many bytes there, and they live until the session's next run, which needs `&mut`.
                Some(n) if !o.data.is_null() => View { dtype: info.dtype, dims, data: unsafe { slice::from_raw_parts(o.data.cast(), n) } },
                _ => View { dtype: info.dtype, dims: Vec::new(), data: &[] },
            }
        });
        views.collect()
    }

    /// The outputs of the last run, of any kind; empty tensors of rank 0 where it failed.
    pub fn values(&self) -> Vec<Value> {
        let tensors = self.results();
        let all = self.outputs.iter().zip(&self.dims).zip(&self.model.0.outputs).zip(tensors);
        all.map(|(((o, dims), info), view)| match info.kind {
            Kind::Tensor => Value::Tensor(view.to_tensor()),
            _ if o.data.is_null() => Value::Tensor(view.to_tensor()),
            kind => {
                let own = PwValue { kind: kind as i32, dims: dims.as_ptr().cast_mut(), ..*o };
                // SAFETY: the run gave it, and it lives until the session's next run, which needs `&mut`.
                unsafe { read(&own) }
            }
        })
        .collect()
    }

    fn call(&self, inputs: &[impl Input], f: impl FnOnce(&PwApi, *mut c_void, &[PwValue]) -> c_int) -> Result<(), LoadError> {
        let mut held = Held::default();
        let mut values = Vec::with_capacity(inputs.len());
        for (i, v) in inputs.iter().enumerate() {
            let name = self.model.0.inputs.get(i).map_or("?", |p| p.name.as_str());
            let made = held.value(&v.arg()).map_err(|what| error(Status::Argument, format!("input {i} '{name}': {what}")))?;
            values.push(made);
        }
        let api = self.model.0.api();
        match Status::from_code(f(api, self.session, &values)) {
            Status::Ok => Ok(()),
            // SAFETY: the session is alive; the text stays until its next call.
            status => Err(error(status, unsafe { text((api.error)(self.session, ptr::null())) })),
        }
    }
}

/// What the values of a call point to.
#[derive(Default)]
struct Held {
    copies: Vec<Bytes>,
    texts: Vec<Vec<PwString>>,
    values: Vec<Vec<PwValue>>,
    lists: Vec<Box<PwList>>,
    dims: Vec<Vec<i64>>,
}

impl Held {
    fn value(&mut self, v: &Arg<'_>) -> Result<PwValue, String> {
        let base = PwValue { size: mem::size_of::<PwValue>() as u32, ..EMPTY };
        match v {
            Arg::Tensor(v) => {
                // The library trusts sizes and alignment of what it is given; a view is only slices.
                if crate::dtype::tensor_bytes(v.dtype, &v.dims) != Some(v.data.len() as u64) {
                    return Err(format!("{} bytes are no {}{:?}", v.data.len(), crate::dtype::name(v.dtype), v.dims));
                }
                let data = if v.data.as_ptr().align_offset(8) == 0 {
                    v.data.as_ptr()
                } else {
                    self.copies.push(v.data.into());
                    self.copies.last().map_or(ptr::null(), |b| b.as_ptr())
                };
                let (dims, rank) = self.dims(&v.dims);
                Ok(PwValue { data: data.cast_mut().cast(), capacity_bytes: v.data.len(), dtype: v.dtype, rank, dims, ..base })
            }
            Arg::Texts(t) => {
                if crate::dtype::elements(&t.dims) != Some(t.values.len() as u64) {
                    return Err(format!("{} texts are no str{:?}", t.values.len(), t.dims));
                }
                self.texts.push(t.values.iter().map(|s| PwString { data: s.as_ptr().cast(), bytes: s.len() }).collect());
                let data = self.texts.last().map_or(ptr::null(), |t| t.as_ptr());
                let (dims, rank) = self.dims(&t.dims);
                Ok(PwValue { kind: Kind::Strings as i32, data: data.cast_mut().cast(), dtype: STRING, rank, dims, ..base })
            }
            Arg::List(l) => {
                let items = l.items.iter().map(|v| self.value(&v.arg())).collect::<Result<Vec<_>, _>>()?;
                self.lists.push(Box::new(PwList { count: items.len(), items: items.as_ptr() }));
                self.values.push(items);
                let data = self.lists.last().map_or(ptr::null(), |l| ptr::from_ref(&**l));
                Ok(PwValue { kind: l.kind as i32, data: data.cast_mut().cast(), ..base })
            }
        }
    }
    fn dims(&mut self, dims: &[i64]) -> (*mut i64, i32) {
        self.dims.push(dims.to_vec());
        (self.dims.last_mut().map_or(ptr::null_mut(), |d| d.as_mut_ptr()), i32::try_from(dims.len()).unwrap_or(i32::MAX))
    }
}

/// ONNX's number of texts.
const STRING: i32 = 8;

/// Copies a value that a library gave.
///
/// # Safety
/// It is as the library gave it, and what it points to is still there.
unsafe fn read(v: &PwValue) -> Value {
    let rank = usize::try_from(v.rank).unwrap_or(0);
    // SAFETY: dims has `rank` entries where it is not null.
    let dims = if v.dims.is_null() || rank == 0 { Vec::new() } else { unsafe { slice::from_raw_parts(v.dims, rank) }.to_vec() };
    match Kind::from_code(v.kind).unwrap_or_default() {
        Kind::Tensor => {
            let bytes = crate::dtype::tensor_bytes(v.dtype, &dims).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
            let data = match bytes {
                // SAFETY: the library gave so many bytes.
                Some(n) if !v.data.is_null() => unsafe { slice::from_raw_parts(v.data.cast(), n) },
                _ => &[],
            };
            Value::Tensor(Tensor { dtype: v.dtype, dims, data: data.into() })
        }
        Kind::Strings => {
            let n = crate::dtype::elements(&dims).and_then(|n| usize::try_from(n).ok()).filter(|_| !v.data.is_null()).unwrap_or(0);
            // SAFETY: the library gave as many texts as the dims say, each with its bytes.
            let one = |i| unsafe {
                let s = &*v.data.cast::<PwString>().add(i);
                let bytes = if s.bytes == 0 { &[][..] } else { slice::from_raw_parts(s.data.cast::<u8>(), s.bytes) };
                String::from_utf8_lossy(bytes).into_owned()
            };
            Value::Texts(Texts { dims, values: (0..n).map(one).collect() })
        }
        kind => {
            // SAFETY: a list is given as one.
            let list = unsafe { v.data.cast::<PwList>().as_ref() };
            // SAFETY: it has as many items as it says.
            let items = list.map_or_else(Vec::new, |l| (0..l.count).map(|i| unsafe { read(&*l.items.add(i)) }).collect());
            Value::List(List { kind, items })
        }
    }
}

fn output_value(dims: &mut [i64]) -> PwValue {
    PwValue { size: mem::size_of::<PwValue>() as u32, dims: dims.as_mut_ptr(), ..EMPTY }
}
