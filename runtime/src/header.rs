// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The typed C header of a model, `include/NAME.h`: the ABI's types, and inline functions that load the bundle, run it with
//! plain pointers and unload it. It needs no other header of ours and compiles without a warning as C11 and C++17.

use crate::blob::{Blob, Dim, Kind, Port};
use crate::dtype;
use std::collections::HashSet;
use std::fmt::Write;

/// A C identifier like `name`: other characters than letters, digits and `_` become `_`; never empty, never beginning with a
/// digit.
pub fn identifier(name: &str) -> String {
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.is_empty() {
        out.push_str("model");
    }
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, 'm');
    }
    out
}

/// Identifiers for the names, each unique, with a prefix that keeps them clear of keywords and macros.
fn unique<'a>(prefix: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut used = HashSet::new();
    names
        .map(|n| {
            let base = format!("{prefix}{}", n.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>());
            let mut id = base.clone();
            let mut k = 2;
            while !used.insert(id.clone()) {
                id = format!("{base}_{k}");
                k += 1;
            }
            id
        })
        .collect()
}

/// Text that may stand in a comment.
fn comment(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let clash = matches!((out.chars().last(), c), (Some('*'), '/') | (Some('/'), '*'));
        out.push(if !clash && (c.is_ascii_alphanumeric() || " _.,+-*/()=:[]<>%^".contains(c)) { c } else { '_' });
    }
    out
}

/// Writes the header. The model's name in it is [`identifier`] of the description's. Inputs and outputs that are not tensors
/// of numbers have no plain pointer: the typed `run` is left out for such a model.
pub fn write(blob: &Blob) -> String {
    let name = identifier(&blob.name);
    let guard = name.to_ascii_uppercase();
    let mut h = String::new();
    let w = &mut h;
    // Writing to a string does not fail.
    let _ = writeln!(w, "/* Made by Portwright for the model {}. */", comment(&blob.name));
    let _ = writeln!(w, "#ifndef PORTWRIGHT_MODEL_{guard}_H\n#define PORTWRIGHT_MODEL_{guard}_H\n");
    w.push_str(crate::embed::ABI_HEADER);
    let _ = writeln!(
        w,
        "\n#include <stdio.h>\n#include <string.h>\n#ifndef PORTWRIGHT_STATIC\n#include <dlfcn.h>\n#endif\n\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n"
    );
    let _ = writeln!(w, "/* The same function as pw_bundle_api, for programs that link the model's object (PORTWRIGHT_STATIC). */");
    let _ = writeln!(w, "const pw_api *pw_{name}_api(uint32_t wanted_major);\n");
    indices(w, &name, "in", &blob.inputs, blob);
    indices(w, &name, "out", &blob.outputs, blob);
    model_type(w, &name, blob);
    load(w, &name);
    if blob.inputs.iter().chain(&blob.outputs).all(|p| p.kind == Kind::Tensor && dtype::by_code(p.dtype).is_some_and(|d| d.bits > 0)) {
        run(w, &name, blob);
    }
    let _ = writeln!(w, "#ifdef __cplusplus\n}}\n#endif\n\n#endif");
    h
}

/// Dims of a port as a reader writes them: `[N, 4]`.
fn shape(p: &Port, blob: &Blob) -> String {
    let dims: Vec<String> = p
        .dims
        .iter()
        .map(|d| match d {
            Dim::Fixed(n) => n.to_string(),
            Dim::Symbol(s) => blob.symbols.get(*s as usize).map_or("?".into(), |s| comment(&s.name)),
        })
        .collect();
    format!("{}[{}]", dtype::name(p.dtype), dims.join(", "))
}

fn indices(w: &mut String, name: &str, what: &str, ports: &[Port], blob: &Blob) {
    let _ = writeln!(w, "/* {} */\nenum {{", if what == "in" { "Inputs." } else { "Outputs." });
    for (id, p) in unique(&format!("{name}_{what}_"), ports.iter().map(|p| p.name.as_str())).iter().zip(ports) {
        let _ = writeln!(w, "  {id}, /* {} {} */", comment(&p.name), shape(p, blob));
    }
    let _ = writeln!(w, "  {name}_{what}puts\n}};\n");
}

fn model_type(w: &mut String, name: &str, blob: &Blob) {
    let ranks = blob.outputs.iter().map(|p| p.dims.len()).max().unwrap_or(0).max(1);
    let outputs = blob.outputs.len().max(1);
    let _ = writeln!(
        w,
        "/* A loaded model with one session. Another thread takes another one. After run, out[] holds the outputs: data, dims,\n \
         * rank; it is valid until the next run. */\n\
         typedef struct {{\n  const pw_api *api;\n  pw_model *model;\n  pw_session *session;\n  void *library;\n  char text[256];\n  \
         pw_value out[{outputs}];\n  int64_t dims[{outputs}][{ranks}];\n}} {name}_model;\n"
    );
}

fn load(w: &mut String, name: &str) {
    let text = r#"/* Text of what went wrong last; never null. */
static inline const char *NAME_error(const NAME_model *self) {
  return self->text[0] || !self->api ? self->text : self->api->error(self->session, self->model);
}

/* Gives back everything; allowed after a failed load. */
static inline void NAME_unload(NAME_model *self) {
  if (self->api) {
    self->api->close(self->session);
    self->api->unload(self->model);
  }
#ifndef PORTWRIGHT_STATIC
  if (self->library) dlclose(self->library);
#endif
  memset(self, 0, sizeof *self);
}

/* Loads the bundle in that folder. options may be null. */
static inline pw_status NAME_load(NAME_model *self, const char *bundle_dir, const pw_options *options) {
  pw_status status;
  memset(self, 0, sizeof *self);
#ifdef PORTWRIGHT_STATIC
  self->api = pw_NAME_api(PW_ABI_MAJOR);
#else
  {
    char path[4096];
    const char *why;
    const pw_api *(*get)(uint32_t) = NULL;
    void *symbol;
    if (strlen(bundle_dir) > sizeof path - 32) {
      strcpy(self->text, "the bundle's path is too long");
      return PW_E_ARGUMENT;
    }
    strcat(strcpy(path, bundle_dir), "/lib/libmodel.so");
    self->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    symbol = self->library ? dlsym(self->library, "pw_bundle_api") : NULL;
    if (!symbol) {
      why = dlerror();
      snprintf(self->text, sizeof self->text, "%s", why ? why : "the library has no pw_bundle_api");
      return PW_E_BUNDLE;
    }
    memcpy(&get, &symbol, sizeof get);
    self->api = get(PW_ABI_MAJOR);
  }
#endif
  if (!self->api) {
    strcpy(self->text, "the bundle speaks another version of the ABI");
    return PW_E_BUNDLE;
  }
  status = self->api->load(bundle_dir, options, &self->model);
  return status == PW_OK ? self->api->open(self->model, &self->session) : status;
}
"#;
    w.push_str(&text.replace("NAME", name));
    w.push('\n');
}

/// The C expression of a dim that the caller of `run` gives.
fn dim(d: &Dim, symbols: &[Option<String>]) -> String {
    match d {
        Dim::Fixed(n) => n.to_string(),
        Dim::Symbol(s) => symbols.get(*s as usize).cloned().flatten().unwrap_or_else(|| "0".into()),
    }
}

fn run(w: &mut String, name: &str, blob: &Blob) {
    // Symbols that inputs bind become parameters, in the order of their first use.
    let mut order: Vec<u32> = Vec::new();
    for d in blob.inputs.iter().flat_map(|p| &p.dims) {
        if let Dim::Symbol(s) = d
            && !order.contains(s)
        {
            order.push(*s);
        }
    }
    let names = order.iter().map(|s| blob.symbols.get(*s as usize).map_or("", |s| s.name.as_str()));
    let ids = unique("dim_", names);
    let mut symbols: Vec<Option<String>> = vec![None; blob.symbols.len()];
    for (s, id) in order.iter().zip(&ids) {
        if let Some(slot) = symbols.get_mut(*s as usize) {
            *slot = Some(id.clone());
        }
    }
    let inputs = unique("in_", blob.inputs.iter().map(|p| p.name.as_str()));
    let outputs = unique("out_", blob.outputs.iter().map(|p| p.name.as_str()));
    let c_type = |p: &Port| dtype::by_code(p.dtype).map_or("void", |d| d.c_type);
    let mut params = vec![format!("{name}_model *self")];
    params.extend(ids.iter().map(|id| format!("int64_t {id}")));
    params.extend(inputs.iter().zip(&blob.inputs).map(|(id, p)| format!("const {} *{id} /* {} */", c_type(p), shape(p, blob))));
    // An output of fixed shape needs a pointer, any other also the room behind it.
    let fixed_bytes = |p: &Port| {
        let dims: Option<Vec<i64>> = p.dims.iter().map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None }).collect();
        dims.and_then(|d| dtype::tensor_bytes(p.dtype, &d))
    };
    for (id, p) in outputs.iter().zip(&blob.outputs) {
        params.push(format!("{} *{id} /* {} */", c_type(p), shape(p, blob)));
        if fixed_bytes(p).is_none() {
            params.push(format!("size_t {id}_bytes"));
        }
    }
    let _ = writeln!(
        w,
        "/* Runs the model. Data is dense row-major. An output whose pointer is null (and whose bytes are 0) stays in the model's\n \
         * memory: self->out[] has its data and dims, until the next run. */\n\
         static inline pw_status {name}_run({}) {{",
        params.join(",\n    ")
    );
    for (i, p) in blob.inputs.iter().enumerate() {
        let dims: Vec<String> = p.dims.iter().map(|d| dim(d, &symbols)).collect();
        let _ = writeln!(
            w,
            "  int64_t in_dims_{i}[{}] = {{{}}};",
            dims.len().max(1),
            if dims.is_empty() { "0".into() } else { dims.join(", ") }
        );
    }
    let _ = writeln!(w, "  pw_value in[{}];\n  size_t i;\n  self->text[0] = 0;\n  memset(in, 0, sizeof in);", blob.inputs.len().max(1));
    let _ = writeln!(
        w,
        "  memset(self->out, 0, sizeof self->out);\n  for (i = 0; i < sizeof in / sizeof in[0]; i++) in[i].size = sizeof in[0];"
    );
    let _ = writeln!(
        w,
        "  for (i = 0; i < sizeof self->out / sizeof self->out[0]; i++) {{\n    self->out[i].size = sizeof self->out[0];\n    self->out[i].dims = self->dims[i];\n  }}"
    );
    for (i, (id, p)) in inputs.iter().zip(&blob.inputs).enumerate() {
        let d = dtype::by_code(p.dtype).map_or("0", |d| d.c_name);
        let _ = writeln!(
            w,
            "  in[{i}].data = (void *)(uintptr_t){id};\n  in[{i}].dtype = {d};\n  in[{i}].rank = {};\n  in[{i}].dims = in_dims_{i};",
            p.dims.len()
        );
    }
    for (i, (id, p)) in outputs.iter().zip(&blob.outputs).enumerate() {
        let _ = match fixed_bytes(p) {
            Some(n) => writeln!(w, "  self->out[{i}].data = {id};\n  self->out[{i}].capacity_bytes = {id} ? (size_t){n}u : 0;"),
            None => writeln!(w, "  self->out[{i}].data = {id};\n  self->out[{i}].capacity_bytes = {id}_bytes;"),
        };
    }
    let _ =
        writeln!(w, "  return self->api->run(self->session, in, {}, self->out, {}, NULL);\n}}\n", blob.inputs.len(), blob.outputs.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_and_comments_are_safe() {
        assert_eq!(identifier("ppocr-cls.v2"), "ppocr_cls_v2");
        assert_eq!(identifier("7b"), "m7b");
        assert_eq!(identifier(""), "model");
        assert_eq!(unique("in_", ["a.b", "a_b", "int"].into_iter()), ["in_a_b", "in_a_b_2", "in_int"]);
        assert_eq!(comment("a*/b??/\n/*c\\"), "a*_b__/_/_c_");
    }
}
