// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NVIDIA's own compiler as a judge of CUDA C++: its front end, its optimizer and its assembler, without driver or device.
//!
//! `./setup` installs it from PyPI: `nvidia-cuda-nvcc` has the driver and the front end, `nvidia-nvvm` the optimizer, `nvidia-cuda-crt`,
//! `nvidia-cuda-runtime` and `nvidia-cuda-cccl` the headers. It wants a C++ compiler of the host, which reads the text first.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{JudgeError, Room, device_code};
use crate::ptx::ptxas::{Report, packaged, version};

/// What lies beside the driver where the packages are whole.
const PARTS: [&str; 5] = ["nvvm/bin/cicc", "bin/cudafe++", "include/cuda_runtime.h", "include/crt/host_config.h", "include/cccl/nv/target"];

/// The compiler.
#[derive(Clone, Debug)]
pub struct Nvcc {
    program: PathBuf,
    version: String,
}

impl Nvcc {
    /// The compiler in the Python packages of one of these folders, in the toolkit that `CUDA_HOME` names, or in the search path.
    ///
    /// # Errors
    /// [`JudgeError::NotFound`], which says what is missing.
    pub fn find(folders: &[PathBuf]) -> Result<Nvcc, JudgeError> {
        let named = std::env::var_os("CUDA_HOME").filter(|f| !f.is_empty()).map(|f| PathBuf::from(f).join("bin/nvcc"));
        let mut lacks = None;
        for program in folders.iter().flat_map(|f| packaged(f, "nvcc")).chain(named).chain(["nvcc".into()]) {
            let Some(version) = version(&program) else { continue };
            // One of the search path knows where its parts are.
            let sdk = program.parent().and_then(Path::parent);
            match sdk.and_then(|sdk| PARTS.iter().find(|part| !sdk.join(part).is_file())) {
                Some(part) => lacks = Some(format!("nvcc {version} lacks {part}")),
                None => return Ok(Nvcc { program, version }),
            }
        }
        Err(JudgeError::NotFound(lacks.unwrap_or_else(|| "nvcc is not here".into())))
    }

    /// Its name and version.
    pub fn name(&self) -> String {
        format!("nvcc {}", self.version)
    }

    /// Compiles the device code of a bundle for a chip (`sm_80`), and says what its kernels take.
    ///
    /// # Errors
    /// It is refused, or is not there.
    pub fn bundle(&self, arch: &str, bundle: &Path) -> Result<Report, JudgeError> {
        let unit = device_code(bundle)?;
        let from = bundle.join("src");
        self.unit(arch, &unit, &[&from, &from.join("runtime")])
    }

    /// As [`Nvcc::bundle`], of one text whose own headers lie in `folders`.
    ///
    /// # Errors
    /// It is refused, or is not there.
    pub fn unit(&self, arch: &str, unit: &Path, folders: &[&Path]) -> Result<Report, JudgeError> {
        let room = Room::new()?;
        let made = room.0.join("made.cubin");
        let mut c = Command::new(&self.program);
        c.arg(format!("-arch={arch}")).args(["-std=c++17", "-O3", "-fmad=false", "-cubin", "-Xptxas=-v"]);
        for folder in folders {
            c.arg("-I").arg(folder);
        }
        c.arg(unit).arg("-o").arg(&made).env("LC_ALL", "C").stdin(Stdio::null());
        let said = c.output().map_err(|e| JudgeError::Io(self.program.clone(), e))?;
        let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        match said.status.success() && made.metadata().is_ok_and(|m| m.len() > 0) {
            true => Ok(Report::parse(&text)),
            false => Err(JudgeError::refused(&self.name(), &text)),
        }
    }
}
