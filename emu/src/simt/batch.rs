// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many bundles in one program, so that a compiler reads what they have in common once.
//!
//! Kernels of each bundle lie in a namespace of their own, behind what all of them include; plans, which are C, have names of their own. The
//! program is told which bundle it is, and what the runtime then finds under the names that every bundle has is that one's.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::build::{Failure, add, files, name_of, read};
use super::rewrite::rewrite_in_namespace;

/// What the plan of a bundle defines, and that bundles have under one name: `pw_plan.h`, `device.h`.
const OF_PLAN: [&str; 4] = ["pw_plan_main", "pw_model_blob", "pw_model_blob_size", "pw_device_blob"];
/// What its kernels define: `pw_driver.h`.
const TABLE: &str = "pw_kernel_table";

/// A bundle whose kernels are source, as texts.
pub(super) struct Bundle {
    /// Its folder of sources.
    pub from: PathBuf,
    /// Headers of its kernels, by name.
    pub headers: Vec<(PathBuf, String)>,
    /// Hash of its runtime.
    pub runtime: String,
    kernels: (PathBuf, String),
    plan: String,
}

impl Bundle {
    /// Reads what is compiled of a bundle.
    pub fn read(bundle: &Path) -> Result<Bundle, Failure> {
        let from = bundle.join("src");
        let (mut headers, mut units) = (Vec::new(), Vec::new());
        for path in files(&from)? {
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            match path.extension().and_then(|e| e.to_str()) {
                Some("c") | None => {}
                Some("h" | "hpp" | "cuh" | "inc") => headers.push((name, read(&path)?)),
                Some(_) => units.push((name, read(&path)?)),
            }
        }
        let (Some(kernels), true) = (units.pop(), units.is_empty()) else {
            return Err(Failure::System(format!("{} has not one file of device code", from.display())));
        };
        let plan = read(&from.join("plan.c"))?;
        let mut all = Sha256::new();
        for folder in
            ["runtime", "runtime/host", "runtime/image", "runtime/image/vendor"].map(|f| from.join(f)).iter().filter(|f| f.is_dir())
        {
            for path in files(folder)? {
                all.update(read(&path)?);
                all.update([0]);
            }
        }
        Ok(Bundle { from, headers, runtime: name_of(&all.finalize()), kernels, plan })
    }

    /// The name of its program, where `basis` is what the chip's programs depend on.
    pub fn key(&self, basis: &Sha256) -> String {
        let mut hash = basis.clone();
        add(&mut hash, &self.headers);
        add(&mut hash, std::slice::from_ref(&self.kernels));
        hash.update(&self.plan);
        hash.update([0]);
        hash.update(&self.runtime);
        name_of(&hash.finalize())
    }

    /// What those have alike that can be compiled together.
    pub fn company(&self) -> String {
        let mut hash = Sha256::new();
        add(&mut hash, &self.headers);
        hash.update(&self.runtime);
        hash.update([0]);
        hash.update(prelude(&self.kernels.1).0);
        name_of(&hash.finalize())
    }
}

/// The lines with which a text includes headers and defines macros, before its first declaration; and what follows them.
fn prelude(text: &str) -> (String, &str) {
    let (mut head, mut at, mut end) = (String::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        let t = line.trim();
        at += line.len();
        if t.starts_with('#') || t == "extern \"C\" {" || t == "}" {
            head.push_str(t);
            head.push('\n');
            end = at;
        } else if !t.is_empty() && !t.starts_with("//") {
            break;
        }
    }
    (head, text.get(end..).unwrap_or(""))
}

/// The kernels of bundles of one company, in one text.
pub(super) fn kernels(all: &[(String, Bundle)]) -> String {
    let mut out = String::new();
    let mut cases = String::new();
    for (i, (_, b)) in all.iter().enumerate() {
        let (head, rest) = prelude(&b.kernels.1);
        if i == 0 {
            out.push_str(&head);
        }
        let before = b.kernels.1.len() - rest.len();
        let first = b.kernels.1.get(..before).unwrap_or("").matches('\n').count() + 1;
        let text = rewrite_in_namespace(&b.kernels.0.to_string_lossy(), rest, first);
        let _ = write!(out, "namespace bundle_{i} {{\n#define {TABLE} {TABLE}_{i}\n{text}\n#undef {TABLE}\n}}\n");
        let _ = writeln!(cases, "  case {i}: return bundle_{i}::{TABLE}_{i}(count);");
    }
    let _ = write!(
        out,
        "#line 1 \"the machine\"\nextern \"C\" unsigned simt_bundle;\nconst pw_kernel_entry *{TABLE}(uint32_t *count) {{\n  switch (simt_bundle) {{\n{cases}  \
         default: return nullptr;\n  }}\n}}\n"
    );
    out
}

/// Their plans, and what chooses one of them.
pub(super) fn plans(all: &[(String, Bundle)]) -> String {
    let mut out = String::from(
        "#include <stdint.h>\n#include <string.h>\n#include \"device.h\"\n#include \"portwright.h\"\n#include \"pw_plan.h\"\n",
    );
    let (mut rows, mut cases) = (String::new(), String::new());
    let [mut blobs, mut devices] = [String::new(), String::new()];
    for (i, (key, b)) in all.iter().enumerate() {
        let names = || OF_PLAN.into_iter().chain(own_functions(&b.plan));
        for name in names() {
            let _ = writeln!(out, "#define {name} {name}_{i}");
        }
        let _ = writeln!(out, "#line 1 \"plan.c\"\n{}", with_own_api(&b.plan, i));
        for name in names() {
            let _ = writeln!(out, "#undef {name}");
        }
        let _ = writeln!(
            rows,
            "    {{\"{key}\", pw_model_blob_{i}, sizeof pw_model_blob_{i}, pw_device_blob_{i}, sizeof pw_device_blob_{i}}},"
        );
        let _ = writeln!(cases, "  case {i}: return pw_plan_main_{i}(ctx);");
        let _ = write!(blobs, " char b{i}[sizeof pw_model_blob_{i}];");
        let _ = write!(devices, " char b{i}[sizeof pw_device_blob_{i}];");
    }
    let _ = write!(
        out,
        "unsigned simt_bundle;
/* Under the runtime's names: what the chosen bundle has. */
uint8_t chosen_blob[sizeof(union {{{blobs} }})] __asm__(\"pw_model_blob\") __attribute__((aligned(8)));
uint64_t chosen_bytes __asm__(\"pw_model_blob_size\");
uint8_t chosen_device[sizeof(union {{{devices} }})] __asm__(\"pw_device_blob\") __attribute__((aligned(8)));
int32_t pw_plan_main(pw_ctx *ctx) {{
  switch (simt_bundle) {{
{cases}  default: return PW_E_BUNDLE;
  }}
}}
int simt_choose(const char *key) {{
  static const struct {{ const char *key; const uint8_t *blob; uint64_t blob_bytes; const uint8_t *device; uint64_t device_bytes; }} all[] = {{
{rows}  }};
  for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {{
    if (strcmp(all[i].key, key) != 0) continue;
    simt_bundle = i;
    memcpy(chosen_blob, all[i].blob, all[i].blob_bytes);
    memcpy(chosen_device, all[i].device, all[i].device_bytes);
    chosen_bytes = all[i].blob_bytes;
    return 1;
  }}
  return 0;
}}
"
    );
    out
}

/// Functions that a plan has for itself.
fn own_functions(plan: &str) -> impl Iterator<Item = &str> {
    plan.lines()
        .filter(|l| l.starts_with("static "))
        .filter_map(|l| l.split_once('(')?.0.rsplit([' ', '*']).next())
        .filter(|n| !n.is_empty())
}

/// A plan whose function under the model's name (`pw_NAME_api`) has a name that no other plan has.
fn with_own_api(plan: &str, number: usize) -> String {
    let mark = "const pw_api *pw_";
    match plan.rfind(mark).and_then(|at| plan.get(at..)?.find('(').map(|n| at + n)) {
        Some(at) => format!("{}_{number}{}", plan.get(..at).unwrap_or(""), plan.get(at..).unwrap_or("")),
        None => plan.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prelude_ends_at_the_first_declaration() {
        let text = "// a comment\n#include <a.h>\nextern \"C\" {\n#include \"b.h\"\n}\n\n// kernel k\nint x;\n#define Y 1\n";
        let (head, rest) = prelude(text);
        assert_eq!(head, "#include <a.h>\nextern \"C\" {\n#include \"b.h\"\n}\n");
        assert_eq!(rest, "\n// kernel k\nint x;\n#define Y 1\n");
        assert_eq!(prelude("").0, "");
    }

    #[test]
    fn functions_of_a_plan_are_found() {
        let plan =
            "static inline int64_t pw_min(int64_t x, int64_t y) { return x; }\n  static int z;\nint f(void);\nstatic char *g(void);\n";
        assert_eq!(own_functions(plan).collect::<Vec<_>>(), ["pw_min", "g"]);
    }

    #[test]
    fn a_plan_keeps_all_but_the_name_of_its_function() {
        assert_eq!(
            with_own_api("int x;\nconst pw_api *pw_m_api(uint32_t w) { return 0; }\n", 3),
            "int x;\nconst pw_api *pw_m_api_3(uint32_t w) { return 0; }\n"
        );
        assert_eq!(with_own_api("const pw_api *pw_", 3), "const pw_api *pw_");
    }
}
