// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MLIR text to object code, in this process: parse, convert, translate, optimize, emit.
//!
//! The only file with `unsafe`: LLVM's C interface. LLVM aborts on some faults of its own; [`crate::codegen`] therefore
//! runs this in a worker.

use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::Once;

use llvm_sys::core::*;
use llvm_sys::prelude::*;
use llvm_sys::target::*;
use llvm_sys::target_machine::*;
use llvm_sys::transforms::pass_builder::*;
use melior::dialect::DialectRegistry;
use melior::ir::Module;
use melior::{Context, pass};

use crate::codegen::{Failure, Form, Output, Request};

fn one(message: impl Into<String>) -> Failure {
    vec![message.into()]
}

/// Version of LLVM as `22.1.8`.
pub fn version() -> String {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: three places to write to.
    unsafe { LLVMGetVersion(&mut major, &mut minor, &mut patch) };
    format!("{major}.{minor}.{patch}")
}

/// Compiles MLIR text.
///
/// # Errors
/// Every message of the parser, a verifier or a conversion; or what LLVM says.
pub fn compile(request: &Request) -> Result<Output, Failure> {
    let registry = DialectRegistry::new();
    melior::utility::register_all_dialects(&registry);
    let context = Context::new_with_registry(&registry, false);
    for dialect in ["llvm", "arith", "scf", "cf", "vector", "math", "ub"] {
        context.get_or_load_dialect(dialect);
    }
    melior::utility::register_all_llvm_translations(&context);
    let messages = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let sink = messages.clone();
    context.attach_diagnostic_handler(move |d| {
        sink.borrow_mut().push(format!("{}: {d}", d.location()));
        true
    });
    let failed = |what: &str| {
        let mut all: Vec<String> = messages.borrow().clone();
        if all.is_empty() {
            all.push(format!("{what} without a message"));
        }
        all
    };
    let mut module = Module::parse(&context, &request.mlir).ok_or_else(|| failed("the parser stopped"))?;
    let passes = pass::PassManager::new(&context);
    passes.add_pass(pass::conversion::create_scf_to_control_flow());
    passes.add_pass(pass::conversion::create_vector_to_llvm());
    passes.add_pass(pass::conversion::create_math_to_llvm());
    passes.add_pass(pass::conversion::create_arith_to_llvm());
    passes.add_pass(pass::conversion::create_control_flow_to_llvm());
    passes.add_pass(pass::conversion::create_reconcile_unrealized_casts());
    passes.run(&mut module).map_err(|_| failed("a conversion stopped"))?;
    drop(passes);
    // SAFETY: the module outlives its translation, and every handle below is made and released here, by one thread.
    unsafe {
        let llcx = LLVMContextCreate();
        let raw = mlir_sys::mlirTranslateModuleToLLVMIR(module.as_operation().to_raw(), llcx.cast());
        let out = if raw.is_null() {
            Err(failed("the translation stopped"))
        } else {
            let raw: LLVMModuleRef = raw.cast();
            let out = emit(raw, request);
            LLVMDisposeModule(raw);
            out
        };
        LLVMContextDispose(llcx);
        out
    }
}

fn initialize() {
    static ONCE: Once = Once::new();
    // SAFETY: registration of the back ends, once.
    ONCE.call_once(|| unsafe {
        LLVM_InitializeAllTargetInfos();
        LLVM_InitializeAllTargets();
        LLVM_InitializeAllTargetMCs();
        LLVM_InitializeAllAsmPrinters();
    });
}

/// Takes a message of LLVM.
///
/// # Safety
/// `m` is null or a message that LLVM made.
unsafe fn message(m: *mut std::os::raw::c_char) -> String {
    if m.is_null() {
        return "no message".into();
    }
    // SAFETY: by contract.
    unsafe {
        let s = CStr::from_ptr(m).to_string_lossy().into_owned();
        LLVMDisposeMessage(m);
        s
    }
}

fn c_string(s: &str) -> Result<CString, Failure> {
    CString::new(s).map_err(|_| one(format!("{s:?} holds a zero byte")))
}

/// Optimizes the module and emits what was asked for.
///
/// # Safety
/// `module` is a module that nobody else uses.
unsafe fn emit(module: LLVMModuleRef, request: &Request) -> Result<Output, Failure> {
    initialize();
    let (triple, cpu, features) = (c_string(&request.triple)?, c_string(&request.cpu)?, c_string(&request.features)?);
    // SAFETY: every pointer is checked or made here.
    unsafe {
        let mut target = ptr::null_mut();
        let mut error = ptr::null_mut();
        if LLVMGetTargetFromTriple(triple.as_ptr(), &mut target, &mut error) != 0 {
            return Err(one(message(error)));
        }
        let level = match request.opt_level {
            0 => LLVMCodeGenOptLevel::LLVMCodeGenLevelNone,
            1 => LLVMCodeGenOptLevel::LLVMCodeGenLevelLess,
            2 => LLVMCodeGenOptLevel::LLVMCodeGenLevelDefault,
            _ => LLVMCodeGenOptLevel::LLVMCodeGenLevelAggressive,
        };
        let options = LLVMCreateTargetMachineOptions();
        LLVMTargetMachineOptionsSetCPU(options, cpu.as_ptr());
        LLVMTargetMachineOptionsSetFeatures(options, features.as_ptr());
        LLVMTargetMachineOptionsSetCodeGenOptLevel(options, level);
        LLVMTargetMachineOptionsSetRelocMode(options, LLVMRelocMode::LLVMRelocPIC);
        LLVMTargetMachineOptionsSetCodeModel(options, LLVMCodeModel::LLVMCodeModelDefault);
        let abi = c_string(&request.abi)?;
        if !request.abi.is_empty() {
            LLVMTargetMachineOptionsSetABI(options, abi.as_ptr());
        }
        let machine = LLVMCreateTargetMachineWithOptions(target, triple.as_ptr(), options);
        LLVMDisposeTargetMachineOptions(options);
        if machine.is_null() {
            return Err(one(format!("LLVM makes no code for {}", request.triple)));
        }
        let out = emit_with(module, machine, &triple, request);
        LLVMDisposeTargetMachine(machine);
        out
    }
}

/// # Safety
/// Both handles are live and used by nobody else.
unsafe fn emit_with(module: LLVMModuleRef, machine: LLVMTargetMachineRef, triple: &CStr, request: &Request) -> Result<Output, Failure> {
    // SAFETY: by contract; every handle made here is released here.
    unsafe {
        let layout = LLVMCreateTargetDataLayout(machine);
        LLVMSetModuleDataLayout(module, layout);
        LLVMDisposeTargetData(layout);
        LLVMSetTarget(module, triple.as_ptr());
        let options = LLVMCreatePassBuilderOptions();
        // Kernel IR says what is a vector; LLVM only keeps the rest tidy.
        LLVMPassBuilderOptionsSetLoopVectorization(options, 0);
        LLVMPassBuilderOptionsSetSLPVectorization(options, 0);
        LLVMPassBuilderOptionsSetLoopInterleaving(options, 0);
        let pipeline = c_string(&format!("default<O{}>", request.opt_level.min(3)))?;
        let error = LLVMRunPasses(module, pipeline.as_ptr(), machine, options);
        LLVMDisposePassBuilderOptions(options);
        if !error.is_null() {
            let m = llvm_sys::error::LLVMGetErrorMessage(error);
            let text = CStr::from_ptr(m).to_string_lossy().into_owned();
            llvm_sys::error::LLVMDisposeErrorMessage(m);
            return Err(one(text));
        }
        let mut out = Output::default();
        if request.form == Form::Llvm {
            out.text = message(LLVMPrintModuleToString(module));
            return Ok(out);
        }
        let kind = match request.form {
            Form::Assembly => LLVMCodeGenFileType::LLVMAssemblyFile,
            _ => LLVMCodeGenFileType::LLVMObjectFile,
        };
        let (mut error, mut buffer) = (ptr::null_mut(), ptr::null_mut());
        if LLVMTargetMachineEmitToMemoryBuffer(machine, module, kind, &mut error, &mut buffer) != 0 {
            return Err(one(message(error)));
        }
        let bytes = std::slice::from_raw_parts(LLVMGetBufferStart(buffer).cast::<u8>(), LLVMGetBufferSize(buffer)).to_vec();
        LLVMDisposeMemoryBuffer(buffer);
        match request.form {
            Form::Assembly => out.text = String::from_utf8_lossy(&bytes).into_owned(),
            _ => out.object = bytes,
        }
        Ok(out)
    }
}
