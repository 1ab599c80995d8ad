// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The vendor's compiler, which builds bundles on the machine where they run: where it is, what it says, whether it compiles.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use super::dialect::fill;
use super::{Build, Chip};
use crate::target::Toolchain;

/// A compiler that was found, and the folder of its SDK.
struct Found {
    program: PathBuf,
    sdk: PathBuf,
}

impl Build {
    /// In the folder that a variable names, where the SDK usually is, or on the search path: the order of `build.sh`.
    fn find(&self) -> Option<Found> {
        let named = self.variables.iter().filter_map(env::var_os).map(PathBuf::from);
        let folders = named.chain([self.folder.into()]).filter(|f| !f.as_os_str().is_empty());
        let inside = folders.flat_map(|f| self.bins.iter().map(move |b| (f.join(b), f.clone())));
        let path = env::var_os("PATH").unwrap_or_default();
        let on_path = env::split_paths(&path).map(|f| (f.clone(), f.parent().map_or(f.clone(), Path::to_path_buf)));
        let all = inside.chain(on_path).map(|(folder, sdk)| Found { program: folder.join(self.compiler), sdk });
        all.into_iter().find(|f| f.program.is_file())
    }
}

impl Found {
    /// What it says of itself: the line with a version, else the first one.
    fn version(&self) -> String {
        let said = Command::new(&self.program).arg("--version").stdin(Stdio::null()).output();
        let text = said.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find(|l| major(l).is_some()).or_else(|| text.lines().find(|l| !l.trim().is_empty()));
        line.unwrap_or("nothing").trim().to_string()
    }
}

/// The number before the first point that stands between digits.
fn major(text: &str) -> Option<u32> {
    let bytes = text.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let point = (1..bytes.len()).find(|&i| bytes.get(i) == Some(&b'.') && digit(i - 1) && digit(i + 1))?;
    let from = (0..point).rev().take_while(|&i| digit(i)).last()?;
    text.get(from..point)?.parse().ok()
}

impl Toolchain for Chip {
    fn name(&self) -> &'static str {
        self.dialect.build.compiler
    }
    fn probe(&self) -> Option<String> {
        let found = self.dialect.build.find()?;
        Some(format!("{}: {}", found.program.display(), found.version()))
    }
    fn fault(&self) -> Option<String> {
        let build = &self.dialect.build;
        let found = build.find()?;
        let version = found.version();
        let what = match (build.least, major(&version)) {
            (Some(least), Some(has)) if has < least => format!("is too old: {least} is the lowest version"),
            _ => compiles(self, &found).err()?,
        };
        Some(format!("{} {what}; it says of itself: {version}; known to work: {}", found.program.display(), build.known))
    }
    fn remedy(&self) -> &'static str {
        self.dialect.build.remedy
    }
    fn only_builds(&self) -> bool {
        true
    }
}

/// Whether a text of nothing becomes an object. Some drivers print a banner, return 0 and write nothing.
fn compiles(chip: &Chip, found: &Found) -> Result<(), String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let room = env::temp_dir().join(format!("portwright-doctor-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let source = format!("empty.{}", chip.dialect.suffix);
    // What cannot be tried is no fault of the compiler.
    if fs::create_dir_all(&room).and_then(|()| fs::write(room.join(&source), "extern \"C\" void pw_nothing() {}\n")).is_err() {
        return Ok(());
    }
    let build = &chip.dialect.build;
    let words = [("compiler", "\"$0\""), ("arch", chip.arch()), ("sdk", "$1"), ("in", source.as_str()), ("out", "empty.o")];
    let line = fill(&fill(build.compile, &[("flags", build.flags)]), &words);
    let mut c = Command::new("sh");
    c.args(["-c", &line]).arg(&found.program).arg(&found.sdk).current_dir(&room).stdin(Stdio::null());
    let outcome = match c.output() {
        Err(_) => Ok(()),
        Ok(said) if !said.status.success() => {
            let text = String::from_utf8_lossy(&said.stderr).into_owned();
            let first = text.lines().find(|l| l.contains("error")).or_else(|| text.lines().next()).unwrap_or("nothing");
            Err(format!("does not compile a text of nothing ({}): {}", said.status, first.trim()))
        }
        Ok(_) if !room.join("empty.o").metadata().is_ok_and(|m| m.len() > 0) => Err("returned 0 and wrote no object".into()),
        Ok(_) => Ok(()),
    };
    let _ = fs::remove_dir_all(&room);
    outcome
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn versions_are_what_stands_around_a_point() {
        assert_eq!(major("Cuda compilation tools, release 12.8, V12.8.93"), Some(12));
        assert_eq!(major("Copyright (c) 2005-2024 NVIDIA Corporation"), None);
        assert_eq!(major("clang version 18.1.0 (x). 3"), Some(18));
        assert_eq!([major("."), major("1."), major(".1"), major("a.b 99999999999.1")], [None; 4]);
    }
}
