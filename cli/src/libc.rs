// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the C library of a static executable comes from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use portwright_ir::diag::Lowered;
use portwright_runtime::features::Arch;
use portwright_targets::libc::{Libc, Missing, Sysroot, Zig};

use crate::{Cx, compile, place};

/// The C library of an architecture: of the folder that the user names, else zig's musl.
///
/// # Errors
/// `E0501` with what was looked for.
pub fn find(sysroot: Option<&Path>, arch: Arch, cx: &mut Cx) -> Lowered<Libc> {
    let found = match sysroot {
        Some(folder) => Sysroot::open(folder, arch).map(Libc::Sysroot),
        None => zig().map(Libc::Zig),
    };
    found.or_else(|missing| cx.fail(missing.diagnostic()))
}

/// The zig that `PORTWRIGHT_ZIG` names, else the one of `./setup`, else that of the search path, else that of python3's packages. What
/// it builds is kept: beside the zig of `./setup`, or where the user's caches are; `ZIG_GLOBAL_CACHE_DIR` names another folder.
///
/// # Errors
/// None is there, or all are too old.
pub fn zig() -> Result<Zig, Missing> {
    let one = |program: PathBuf| vec![program.into_os_string()];
    if let Some(named) = std::env::var_os("PORTWRIGHT_ZIG") {
        return Zig::find(&[one(named.into())], cache(None));
    }
    // Those of `./setup` first: what they build is theirs.
    for tools in place::tool_folders() {
        let found = Zig::find(&installed(&tools).map(one).collect::<Vec<_>>(), cache(Some(&tools)));
        if found.is_ok() {
            return found;
        }
    }
    let python = ["python3", "-m", "ziglang"].map(OsString::from).to_vec();
    Zig::find(&[one("zig".into()), python], cache(None)).map_err(|missing| match missing {
        Missing::NoZig { mut tried } => {
            tried.insert(0, "`python/lib/python3*/site-packages/ziglang/zig` in tools/.cache".into());
            Missing::NoZig { tried }
        }
        old => old,
    })
}

/// Programs of the Python package `ziglang` that `./setup` has installed.
fn installed(tools: &Path) -> impl Iterator<Item = PathBuf> {
    let versions = std::fs::read_dir(tools.join("python/lib")).into_iter().flatten().flatten();
    versions.map(|v| v.path().join("site-packages/ziglang/zig")).filter(|z| z.is_file())
}

fn cache(tools: Option<&Path>) -> Option<PathBuf> {
    if std::env::var_os("ZIG_GLOBAL_CACHE_DIR").is_some() {
        return None;
    }
    // Another user's tools can be read, not written.
    let own = tools.map(|t| t.join("zig")).filter(|t| std::fs::create_dir_all(t).is_ok());
    own.or_else(|| Some(compile::cache_folder()?.join("zig")))
}
