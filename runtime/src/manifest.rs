// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `manifest.json`: what a bundle is, for people and scripts. The same bundle gives the same bytes: lists keep their order, maps
//! are sorted, nothing in it depends on the machine, the folder or the time.

use crate::blob::{Blob, Dim, Kind, Port};
use crate::{dtype, features};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Version of the manifest's form.
pub const SCHEMA: u32 = 1;
/// The value of [`Manifest::kind`], by which a folder is known to be a bundle.
pub const KIND: &str = "portwright-bundle";

/// The whole manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`KIND`].
    pub kind: String,
    /// [`SCHEMA`]; a reader refuses a larger one.
    pub schema: u32,
    /// Name of the model; NAME of `include/NAME.h` and of `pw_NAME_api` is its C identifier.
    pub name: String,
    /// Versions of what made the bundle: `portwright`, `abi`, `plan`, `llvm`, ...
    pub versions: BTreeMap<String, String>,
    /// The model that was compiled.
    pub source: Source,
    /// The machine that the bundle is for.
    pub target: Target,
    /// Options that change numbers or results, such as `math = f32`, and symbols bound by `--dim`.
    pub options: BTreeMap<String, String>,
    /// Symbolic dims.
    pub symbols: Vec<Symbol>,
    /// Inputs, in the order of calls.
    pub inputs: Vec<Value>,
    /// Outputs, in the order of calls.
    pub outputs: Vec<Value>,
    /// Kernels, with the nodes that each one computes.
    pub kernels: Vec<Kernel>,
    /// What the nodes of each launch have to do at least, for profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<Work>,
    /// Nodes that the host computes, with the reason; empty for a CPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_nodes: Vec<HostNode>,
    /// The model's weights.
    pub weights: Vec<Weight>,
    /// The weight store; none when the model has no weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
    /// How much memory a session takes.
    pub memory: Memory,
    /// SHA-256 of every other file of the bundle but the store's, by path; filled in when the bundle is finished.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// The model that was compiled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// SHA-256 of the model's file, without external data.
    pub sha256: String,
    /// ONNX IR version.
    pub ir_version: i64,
    /// Operator sets by domain; the default domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// What the file says of its producer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub producer: String,
}

/// The machine that a bundle is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Portwright's name of the target, such as `x86-64`; `host` is written as what it stood for.
    pub id: String,
    /// Triple of the code.
    pub triple: String,
    /// `--cpu`, or the target's default.
    pub cpu: String,
    /// CPU features that must be there, by LLVM's names, sorted.
    pub features: Vec<String>,
    /// The driver of the device that the kernels run on; `None` where they run on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// One axis: a size, or the name of a symbol or expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Axis {
    /// Always this.
    Fixed(i64),
    /// A symbol's name or an expression's text.
    Symbol(String),
}

/// A symbolic dim that inputs bind, or an expression over such.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Symbol {
    /// Its name or text.
    pub name: String,
    /// Smallest value.
    pub min: i64,
    /// Largest value; absent = no bound known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    /// Every value is a multiple of it.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub multiple_of: i64,
}

fn one() -> i64 {
    1
}

fn is_one(n: &i64) -> bool {
    *n == 1
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// `tensor`, `strings`, `sequence`, `optional` or `map`.
    pub kind: String,
    /// Short name, as in `f32`.
    pub dtype: String,
    /// ONNX TensorProto.DataType.
    pub onnx_dtype: i32,
    /// Its dims.
    pub shape: Vec<Axis>,
    /// Largest size in bytes; absent = no bound known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Outputs: the input whose memory it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
    /// With `alias_of`: the axis on which it is that input with more appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_axis: Option<u32>,
}

/// A kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// Its name, as in profiles and in the object.
    pub name: String,
    /// Machine class: `cpu`, `simt`, `tile_core`.
    pub class: String,
    /// Node paths of each launch, in order.
    pub nodes: Vec<String>,
}

/// What all launches of the same nodes do, each counted once. Expressions are over the model's symbols.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Node paths, as profiles have them.
    pub nodes: String,
    /// Number of launches in the plan.
    pub launches: u64,
    /// Bytes read and written, each tensor once.
    pub bytes: String,
    /// Products that are added up.
    pub products: String,
}

/// A node that the host computes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostNode {
    /// Node path.
    pub node: String,
    /// Operator.
    pub op: String,
    /// Why.
    pub reason: String,
}

/// A weight of the model, as it lies in the model's files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// Its name.
    pub name: String,
    /// Short name of its dtype.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<i64>,
    /// External data file, relative to the model's folder; empty = inside the model's file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// First byte in that file.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// The weight store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// Its path in the bundle.
    pub file: String,
    /// Whether it is there; false in a bundle that `pack` must complete.
    pub packed: bool,
    /// Bytes of data.
    pub data_bytes: u64,
    /// Hash of the layout, by which library and store know each other.
    pub layout: String,
    /// SHA-256 of the data; empty until packed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
    /// The tensors in it.
    pub tensors: Vec<Weight>,
}

/// How much memory a session takes beside the weights, as text over the symbols.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes of weights in the store.
    pub weight_bytes: u64,
    /// Arena of each epoch, in bytes: expressions over the symbols.
    pub arena: Vec<String>,
    /// The arenas' sum at the largest values of all symbols; absent = no bound known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_arena_bytes: Option<u64>,
    /// Scratch memory of the kernel that needs most, for each thread.
    pub scratch_bytes_per_thread: String,
}

/// Why a manifest cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError(pub String);

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "manifest: {}", self.0)
    }
}

impl std::error::Error for ManifestError {}

/// Lowercase hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Manifest {
    /// The part of a manifest that the description says: names, symbols, inputs, outputs, features, the store's layout. The rest
    /// is empty.
    pub fn of_blob(blob: &Blob) -> Manifest {
        let version = |v: &str| v.to_string();
        let arch = blob.arch;
        let mut names: Vec<String> = blob.features.iter().filter_map(|b| features::name(arch?, *b)).map(str::to_string).collect();
        names.sort();
        Manifest {
            kind: KIND.into(),
            schema: SCHEMA,
            name: blob.name.clone(),
            versions: BTreeMap::from([
                (version("portwright"), version(env!("CARGO_PKG_VERSION"))),
                (version("abi"), version("1.1")),
                (version("plan"), crate::blob::PLAN_VERSION.to_string()),
            ]),
            source: Source::default(),
            target: Target { features: names, cpu: blob.cpu.clone(), ..Target::default() },
            options: BTreeMap::new(),
            symbols: blob
                .symbols
                .iter()
                .map(|s| Symbol { name: s.name.clone(), min: s.lo, max: (s.hi < i64::MAX).then_some(s.hi), multiple_of: s.div })
                .collect(),
            inputs: blob.inputs.iter().map(|p| value(blob, p)).collect(),
            outputs: blob.outputs.iter().map(|p| value(blob, p)).collect(),
            kernels: Vec::new(),
            work: Vec::new(),
            host_nodes: Vec::new(),
            weights: Vec::new(),
            store: blob.store.as_ref().map(|s| Store {
                file: "weights/store.bin".into(),
                packed: false,
                data_bytes: s.data_bytes,
                layout: hex(&s.layout),
                ..Store::default()
            }),
            memory: Memory { weight_bytes: blob.store.as_ref().map_or(0, |s| s.data_bytes), ..Memory::default() },
            files: BTreeMap::new(),
        }
    }

    /// The bytes of `manifest.json`.
    pub fn to_json(&self) -> String {
        // No map here has keys other than strings, so this cannot fail.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads `manifest.json`. Fields that it does not know are left out.
    ///
    /// # Errors
    /// Text that is not a manifest, or one of a later schema.
    pub fn from_json(text: &str) -> Result<Manifest, ManifestError> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            kind: String,
            #[serde(default)]
            schema: u32,
        }
        let head: Head = serde_json::from_str(text).map_err(|e| ManifestError(e.to_string()))?;
        if head.kind != KIND {
            return Err(ManifestError("this is not the manifest of a bundle".into()));
        }
        if head.schema == 0 || head.schema > SCHEMA {
            return Err(ManifestError(format!("its schema is {}, this Portwright reads up to {SCHEMA}", head.schema)));
        }
        serde_json::from_str(text).map_err(|e| ManifestError(e.to_string()))
    }
}

fn value(blob: &Blob, p: &Port) -> Value {
    let symbol = |s: u32| blob.symbols.get(s as usize).map_or_else(|| "?".to_string(), |s| s.name.clone());
    Value {
        name: p.name.clone(),
        kind: match p.kind {
            Kind::Tensor => "tensor",
            Kind::Strings => "strings",
            Kind::Sequence => "sequence",
            Kind::Optional => "optional",
            Kind::Map => "map",
        }
        .into(),
        dtype: dtype::name(p.dtype),
        onnx_dtype: p.dtype,
        shape: p
            .dims
            .iter()
            .map(|d| match *d {
                Dim::Fixed(n) => Axis::Fixed(n),
                Dim::Symbol(s) => Axis::Symbol(symbol(s)),
            })
            .collect(),
        max_bytes: (p.max_bytes > 0).then_some(p.max_bytes),
        alias_of: p.alias_of.and_then(|i| blob.inputs.get(i as usize)).map(|i| i.name.clone()),
        append_axis: p.append_axis,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Arch;

    #[test]
    fn round_trip_and_determinism() {
        let blob = Blob {
            name: "m".into(),
            arch: Some(Arch::X86_64),
            features: vec![16, 3],
            symbols: vec![crate::blob::Symbol { name: "N".into(), lo: 1, hi: i64::MAX, div: 1 }],
            inputs: vec![Port { name: "x".into(), dtype: 1, dims: vec![Dim::Symbol(0), Dim::Fixed(3)], ..Port::default() }],
            outputs: vec![Port { name: "y".into(), dtype: 16, dims: vec![], alias_of: Some(0), max_bytes: 8, ..Port::default() }],
            ..Blob::default()
        };
        let m = Manifest::of_blob(&blob);
        let text = m.to_json();
        assert_eq!(text, m.to_json());
        assert_eq!(Manifest::from_json(&text), Ok(m.clone()));
        assert_eq!(m.target.features, ["avx2", "fma"]);
        assert!(text.contains("\"N\",\n") && text.contains("\"alias_of\": \"x\"") && text.contains("\"bf16\""));
        assert!(Manifest::from_json("{}").unwrap_err().to_string().contains("not the manifest"));
        assert!(Manifest::from_json(&text.replace("\"schema\": 1", "\"schema\": 9")).unwrap_err().to_string().contains("schema is 9"));
        assert!(Manifest::from_json("[1").is_err());
        assert!(Manifest::from_json(&text.replace("\"name\": \"x\"", "\"name\": 7")).is_err());
    }
}
