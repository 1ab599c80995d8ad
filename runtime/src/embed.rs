// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The compiled runtime and the program of static executables, one relocatable object a triple each, and what it takes to link a model
//! with them.

#[cfg(feature = "embed")]
include!(concat!(env!("OUT_DIR"), "/objects.rs"));
#[cfg(not(feature = "embed"))]
pub(crate) const OBJECTS: &[(&str, &[u8])] = &[];
#[cfg(not(feature = "embed"))]
pub(crate) const DEVICES: &[(&str, &[u8])] = &[];
#[cfg(not(feature = "embed"))]
pub(crate) const PROGRAMS: &[(&str, &[u8])] = &[];
#[cfg(not(feature = "embed"))]
pub(crate) const IMAGES: &[(&str, &[u8])] = &[];

/// The runtime for that triple, an ELF relocatable object; `None` when there is none, as for every triple in a build without
/// the feature `embed`. The vendor part of a triple does not matter (`x86_64-unknown-linux-gnu`).
pub fn object_for(triple: &str) -> Option<&'static [u8]> {
    let short = short_triple(triple);
    OBJECTS.iter().find(|(t, _)| *t == short).map(|(_, o)| *o)
}

/// The runtime of bundles whose kernels run on a device that the host of that triple drives; as [`object_for`].
pub fn device_object_for(triple: &str) -> Option<&'static [u8]> {
    let short = short_triple(triple);
    DEVICES.iter().find(|(t, _)| *t == short).map(|(_, o)| *o)
}

/// What makes an executable of a model, for that triple: `main` and all around it but the runtime, the model and a C library; as
/// [`object_for`].
pub fn program_for(triple: &str) -> Option<&'static [u8]> {
    let short = short_triple(triple);
    PROGRAMS.iter().find(|(t, _)| *t == short).map(|(_, o)| *o)
}

/// What decodes images, for plans that call `pw_rt_image`; as [`object_for`].
pub fn image_object_for(triple: &str) -> Option<&'static [u8]> {
    let short = short_triple(triple);
    IMAGES.iter().find(|(t, _)| *t == short).map(|(_, o)| *o)
}

/// The triples that [`object_for`] knows in this build.
pub fn triples() -> impl Iterator<Item = &'static str> {
    OBJECTS.iter().map(|(t, _)| *t)
}

/// A triple without its vendor: `x86_64-unknown-linux-gnu` is `x86_64-linux-gnu`.
fn short_triple(triple: &str) -> String {
    let parts: Vec<&str> = triple.split('-').collect();
    match parts.as_slice() {
        [arch, _vendor, os, abi] => format!("{arch}-{os}-{abi}"),
        _ => triple.to_string(),
    }
}

/// Arguments for `ld.lld` that make `output` (lib/libmodel.so) from the model's objects and the runtime's. `name` is the
/// model's name as a C identifier ([`crate::header::identifier`]): `pw_NAME_api` becomes another name of `pw_bundle_api`.
pub fn link_arguments(name: &str, objects: &[&str], runtime: &str, output: &str) -> Vec<String> {
    let fixed = ["-shared", "--build-id=none", "--hash-style=gnu", "-z", "now", "-z", "noexecstack", "-z", "relro", "--gc-sections"];
    let mut args: Vec<String> = fixed.iter().map(|s| s.to_string()).collect();
    args.extend(["-soname".into(), "libmodel.so".into()]);
    args.push(format!("--defsym=pw_{name}_api=pw_bundle_api"));
    args.extend(["-o".into(), output.into()]);
    args.extend(objects.iter().map(|o| o.to_string()));
    args.push(runtime.into());
    args
}

/// Arguments for a linker or a compiler driver that link `objects` (the model's, the runtime's and the program's) to a static executable
/// that carries no more than it runs. `prefix` is put before what is the linker's own: `-Wl,` for a driver.
pub fn program_arguments(objects: &[&str], prefix: &str, output: &str) -> Vec<String> {
    let mut args = vec!["-static".to_string()];
    args.extend(["--gc-sections", "--build-id=none", "--strip-all"].iter().map(|s| format!("{prefix}{s}")));
    match prefix {
        "" => args.extend(["-z", "noexecstack", "-z", "relro"].map(String::from)),
        _ => args.extend(["-Wl,-z,noexecstack", "-Wl,-z,relro"].map(String::from)),
    }
    args.extend(["-o".into(), output.into()]);
    args.extend(objects.iter().map(|o| o.to_string()));
    args
}

/// The public C header, `portwright.h`.
pub const ABI_HEADER: &str = include_str!("../c/portwright.h");
/// The header that plans and kernels are compiled against, `pw_plan.h`.
pub const PLAN_HEADER: &str = include_str!("../c/pw_plan.h");

/// The sources of the runtime, by their names in its folder: bundles whose code a vendor's compiler makes carry them.
pub const SOURCES: &[(&str, &str)] = &[
    ("api.c", include_str!("../c/api.c")),
    ("args.c", include_str!("../c/args.c")),
    ("copy.c", include_str!("../c/copy.c")),
    ("cpu.c", include_str!("../c/cpu.c")),
    ("device.c", include_str!("../c/device.c")),
    ("device.h", include_str!("../c/device.h")),
    ("device_cuda.c", include_str!("../c/device_cuda.c")),
    ("features.def", include_str!("../c/features.def")),
    ("host/call.c", include_str!("../c/host/call.c")),
    ("host/case.c", include_str!("../c/host/case.c")),
    ("host/heap.c", include_str!("../c/host/heap.c")),
    ("host/host.h", include_str!("../c/host/host.h")),
    ("host/lists.c", include_str!("../c/host/lists.c")),
    ("host/number.c", include_str!("../c/host/number.c")),
    ("host/regex.c", include_str!("../c/host/regex.c")),
    ("host/strings.c", include_str!("../c/host/strings.c")),
    ("host/values.c", include_str!("../c/host/values.c")),
    ("load.c", include_str!("../c/load.c")),
    ("os.h", include_str!("../c/os.h")),
    ("os_linux.c", include_str!("../c/os_linux.c")),
    ("pool.c", include_str!("../c/pool.c")),
    ("portwright.h", include_str!("../c/portwright.h")),
    ("pw_blob.h", include_str!("../c/pw_blob.h")),
    ("pw_plan.h", include_str!("../c/pw_plan.h")),
    ("rt.h", include_str!("../c/rt.h")),
    ("run.c", include_str!("../c/run.c")),
    ("runtime.c", include_str!("../c/runtime.c")),
    ("text.c", include_str!("../c/text.c")),
];

/// What decodes images, beside [`SOURCES`] in bundles that do.
pub const IMAGE_SOURCES: &[(&str, &str)] = &[
    ("image/host.c", include_str!("../c/image/host.c")),
    ("image/image.c", include_str!("../c/image/image.c")),
    ("image/image.h", include_str!("../c/image/image.h")),
    ("image/jpeg.c", include_str!("../c/image/jpeg.c")),
    ("image/pnm.c", include_str!("../c/image/pnm.c")),
    ("image/tiff.c", include_str!("../c/image/tiff.c")),
    ("image/vendor/simplewebp.h", include_str!("../c/image/vendor/simplewebp.h")),
    ("image/vendor/stb_image.h", include_str!("../c/image/vendor/stb_image.h")),
    ("image/webp.c", include_str!("../c/image/webp.c")),
];

/// Under which terms others' code is in bundles that decode images, for a file beside that code.
pub fn image_licenses() -> String {
    let end = |text: &'static str, from: &str| text.rsplit_once(from).map_or("", |(_, rest)| rest.trim_end_matches(['*', '/', '\n', ' ']));
    let of = |name: &str| IMAGE_SOURCES.iter().find(|(n, _)| *n == name).map_or("", |(_, text)| *text);
    let webp =
        end(of("image/vendor/simplewebp.h"), "/**\n").lines().map(|l| l.trim_start().trim_start_matches('*').trim()).collect::<Vec<_>>();
    let stb = end(of("image/vendor/stb_image.h"), "/*\n");
    format!("The library decodes images with code of others.\n\nsimplewebp\n\n{}\n\nstb_image\n\n{stb}\n", webp.join("\n"))
}

/// What `runtime.c` ends with in bundles that decode images.
pub const WITH_IMAGES: &str = "\n#include \"image/host.c\"\n";

/// What `runtime.c` begins with in such a bundle: it drives a device and knows its version, and another compiler than clang has names of its
/// own for atomics.
pub const WITH_DEVICE: &str = concat!(
    "#define PW_WITH_DEVICE 1\n#ifndef PW_VERSION\n#define PW_VERSION \"",
    env!("CARGO_PKG_VERSION"),
    "\"\n#endif\n",
    "#if !defined(__clang__)\n",
    "#define __c11_atomic_load(p, order) __atomic_load_n(p, order)\n",
    "#define __c11_atomic_store(p, v, order) __atomic_store_n(p, v, order)\n",
    "#define __c11_atomic_fetch_add(p, v, order) __atomic_fetch_add(p, v, order)\n",
    "#define __c11_atomic_fetch_sub(p, v, order) __atomic_fetch_sub(p, v, order)\n",
    "#define __c11_atomic_fetch_and(p, v, order) __atomic_fetch_and(p, v, order)\n",
    "#define __c11_atomic_exchange(p, v, order) __atomic_exchange_n(p, v, order)\n",
    "#define __c11_atomic_compare_exchange_strong(p, e, v, yes, no) __atomic_compare_exchange_n(p, e, v, 0, yes, no)\n",
    "#define __c11_atomic_compare_exchange_weak(p, e, v, yes, no) __atomic_compare_exchange_n(p, e, v, 1, yes, no)\n",
    "#endif\n"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_elf_and_free_of_paths() {
        for (triple, object) in OBJECTS.iter().chain(DEVICES).chain(PROGRAMS).chain(IMAGES) {
            assert_eq!(&object[..4], b"\x7fELF", "{triple}");
            let text = String::from_utf8_lossy(object);
            for word in [env!("CARGO_MANIFEST_DIR"), "/usr/", "clang version"] {
                assert!(!text.contains(word), "the object for {triple} contains {word}");
            }
        }
        assert!(object_for("vax-dec-vms").is_none());
        #[cfg(feature = "embed")]
        assert!(object_for("x86_64-unknown-linux-gnu").is_some() && object_for("loongarch64-linux-gnu").is_some());
    }

    #[test]
    fn sources_are_all_files_of_the_runtime() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("c");
        let mut there: Vec<String> = Vec::new();
        for folder in ["", "host"] {
            for e in std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten().filter(|e| e.path().is_file()) {
                let name = e.file_name().to_string_lossy().into_owned();
                there.push(if folder.is_empty() { name } else { format!("{folder}/{name}") });
            }
        }
        // What is compiled without a C library, or beside the compiler, goes into no bundle.
        for folder in ["image", "image/vendor"] {
            let files = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten().filter(|e| e.path().is_file());
            there.extend(files.map(|e| format!("{folder}/{}", e.file_name().to_string_lossy())));
        }
        there.retain(|f| f != "image/alone.c" && f != "image/vendor/README.md");
        let mut listed: Vec<&str> = SOURCES.iter().chain(IMAGE_SOURCES).map(|s| s.0).collect();
        (there.sort(), listed.sort_unstable());
        assert_eq!(there, listed);
    }

    #[test]
    fn licenses_of_others_are_whole() {
        let text = image_licenses();
        for part in
            ["Copyright (c) 2010 Google Inc.", "Redistributions in binary form", "as of the date such litigation is filed.", "Sean Barrett"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("/*") && text.len() < 10_000);
    }
}
