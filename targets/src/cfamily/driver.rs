// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's part of a bundle's sources: the vendor's runtime under the names that `driver.h` calls, launches, and the command lines.

use portwright_ir::dtype::DType;
use portwright_ir::kernel::Kernel;

use super::Dialect;
use super::dialect::fill;
use super::expr::stored;
use crate::mlir::simt::LaunchForm;

/// `src/pw_driver.h`: the runtime's calls, and the table that is made of them.
pub(super) fn header(d: &Dialect) -> String {
    let a = &d.api;
    let mut out = String::from(
        "/* SPDX-License-Identifier: Apache-2.0 OR MIT */\n/* The vendor's runtime, as the bundle calls it. */\n#ifndef PW_DRIVER_H\n#define PW_DRIVER_H\n",
    );
    out.push_str(&format!("typedef {} pw_error;\ntypedef {} pw_stream;\n", a.name(a.error), a.name(a.stream)));
    out.push_str(&format!("#define PW_SUCCESS {}\n#define PW_NO_MEMORY {}\n", a.name(a.success), a.name(a.no_memory)));
    let mut call = |signature: &str, template: &str, words: &[(&str, &str)]| {
        out.push_str(&format!("static inline {signature} {{ return {}; }}\n", a.call(template, words)));
    };
    call("const char *pw_error_text(pw_error error)", a.text, &[("error", "error")]);
    call("pw_error pw_count(int *to)", a.count, &[("to", "to")]);
    call("pw_error pw_choose(int device)", a.choose, &[("device", "device")]);
    call("pw_error pw_memory(size_t *free, size_t *total)", a.memory, &[("free", "free"), ("total", "total")]);
    call("pw_error pw_take(void **to, size_t bytes)", a.take, &[("to", "to"), ("bytes", "bytes")]);
    call("pw_error pw_give(void *address)", a.give, &[("address", "address")]);
    call("pw_error pw_open_stream(pw_stream *to)", a.open, &[("to", "to")]);
    call("pw_error pw_close_stream(pw_stream stream)", a.close, &[("stream", "stream")]);
    call("pw_error pw_wait(pw_stream stream)", a.wait, &[("stream", "stream")]);
    for (name, kind) in ["pw_copy_in", "pw_copy_out", "pw_copy_on"].iter().zip(a.kinds) {
        let kind = a.name(kind);
        let words = [("to", "to"), ("from", "from"), ("bytes", "bytes"), ("kind", kind.as_str()), ("stream", "stream")];
        call(&format!("pw_error {name}(void *to, const void *from, size_t bytes, pw_stream stream)"), a.copy, &words);
    }
    let ask = "pw_error pw_ask(const void *kernel, uint32_t bytes)";
    match a.dynamic {
        Some(t) => call(ask, t, &[("kernel", "kernel"), ("bytes", "(int)bytes")]),
        None => call(ask, "((void)kernel, (void)bytes, PW_SUCCESS)", &[]),
    }
    out.push('\n');
    out.push_str(include_str!("driver.h"));
    out.push_str("#endif\n");
    out
}

/// The function that launches a kernel, and its line in the table of kernels.
pub(super) fn launch(d: &Dialect, k: &Kernel, number: usize) -> [String; 2] {
    let (a, symbol) = (&d.api, super::symbol(&k.name));
    let bufs: Vec<DType> = k.abi_bufs().map(|b| k.bufs[b].dtype).collect();
    let writes: Vec<bool> = k.abi_bufs().map(|b| k.bufs[b].mode.writes()).collect();
    let numbers = k.syms.len() + k.abi_scalars().count();
    let mut args: Vec<String> = Vec::new();
    for (i, (dtype, w)) in bufs.iter().zip(&writes).enumerate() {
        args.push(format!("({}{} *)p[{i}]", if *w { "" } else { "const " }, stored(*dtype)));
    }
    let n = bufs.len();
    args.extend((n..n + numbers).map(|i| format!("(int64_t)p[{i}]")));
    let n = n + numbers;
    args.push(format!("(unsigned long long *)p[{n}]"));
    args.push(format!("(unsigned long long)p[{}]", n + 1));
    let call = fill(
        a.launch,
        &[
            ("kernel", &symbol),
            ("grid", "dim3(l->grid[0], l->grid[1], l->grid[2])"),
            ("group", "dim3(l->group)"),
            ("shared", "l->dynamic"),
            ("stream", "stream"),
            ("args", &args.join(", ")),
        ],
    );
    let (error, stream) = (a.name(a.error), a.name(a.stream));
    let function = format!(
        "static {error} pw_launch_{number}(const pw_device_launch *l, {stream} stream) {{\n  const uint64_t *p = l->param;\n  {};\n  return {};\n}}\n",
        a.name(&call),
        a.name(a.last)
    );
    [function, format!("    {{\"{symbol}\", pw_launch_{number}, (const void *)&{symbol}, {}}},\n", n + 2)]
}

/// Lanes and memory of a launch, for people.
pub(super) fn shape(f: &LaunchForm) -> String {
    format!("// groups of {} lanes, {} bytes of the group's memory\n", f.group, f.shared)
}

/// `build.sh`: the vendor's command line, which says what is missing.
pub(super) fn script(d: &Dialect, arch: &str, target: &str) -> String {
    let b = &d.build;
    let words = |input: &str, out: &str, template: &str| {
        fill(
            &fill(template, &[("flags", b.flags)]),
            &[("compiler", "\"$compiler\""), ("arch", arch), ("sdk", "$sdk"), ("in", input), ("out", out)],
        )
    };
    let variables: Vec<String> = b.variables.iter().map(|v| format!("\"${{{v}:-}}\"")).collect();
    let kernels = format!("src/kernels.{}", d.suffix);
    let lines = [
        ("COMPILER", b.compiler.to_string()),
        ("TARGET", target.to_string()),
        ("KNOWN", b.known.to_string()),
        ("FOLDERS", [variables, vec![b.folder.to_string()]].concat().join(" ")),
        ("BINS", b.bins.join(" ")),
        ("LEAST", b.least.unwrap_or(0).to_string()),
        ("VARIABLES", b.variables.join(", ")),
        ("COMPILE", words(&kernels, "build/kernels.o", b.compile)),
        ("LINK", words("build/kernels.o build/plan.o build/runtime.o", "lib/libmodel.so", b.link)),
    ];
    let words: Vec<(&str, &str)> = lines.iter().map(|(w, t)| (*w, t.as_str())).collect();
    let (help, object) = d.object.map_or_else(Default::default, |o| {
        let compile = fill(o.compile, &[("compiler", "\"$clang\""), ("arch", arch), ("in", &kernels), ("out", "build/kernels.hsaco")]);
        (OBJECT_HELP.to_string(), fill(OBJECT, &[("LEAST", &o.least.to_string()), ("COMPILE", &compile)]))
    });
    let text = include_str!("build.sh").replace("{OBJECT_HELP}", &help).replace("{OBJECT}", &object);
    fill(&text, &words)
}

const OBJECT_HELP: &str = "\n# Without the SDK, or with --code-object, clang makes a code object, which the library loads into the chip.";

/// The way to a library without the vendor's compiler.
const OBJECT: &str = r#"if [ -z "$compiler" ] || [ "${1:-}" = --code-object ]; then
  clang=
  for c in ${CLANG:-} clang++-22 clang++ clang++-21 clang++-20 clang++-19; do
    major=$("$c" --version 2>/dev/null | grep -o '[0-9][0-9]*[.][0-9]' | head -n 1 | cut -d . -f 1)
    if [ -z "$clang" ] && [ "${major:-0}" -ge {LEAST} ]; then clang=$c; fi
  done
  if [ -n "$clang" ]; then
    cc=${CC:-cc}
    command -v "$cc" >/dev/null 2>&1 || cc=$clang
    mkdir -p build lib || exit 1
    made build/kernels.hsaco {COMPILE}
    made build/plan.o "$cc" -x c -std=gnu11 -O2 -fPIC -fvisibility=hidden -c src/plan.c -o build/plan.o
    made build/runtime.o "$cc" -x c -std=gnu11 -O2 -ffreestanding -fPIC -fvisibility=hidden -c src/runtime/runtime.c -o build/runtime.o
    made build/module.o "$cc" -x c -std=gnu11 -O2 -fPIC -fvisibility=hidden -Isrc -c src/pw_module.c -o build/module.o
    made lib/libmodel.so "$cc" -shared -o lib/libmodel.so build/plan.o build/runtime.o build/module.o -ldl
    rm -rf build
    echo "built lib/libmodel.so with $clang, as a code object"
    exit 0
  fi
fi
"#;
