// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What ONNX says of each operator at each version: checked before a node is imported, so that importers see attributes of the right kind and
//! inputs of the right dtype.
//!
//! The table is written by `tools/schemas.py`, which says what its lines mean.

use std::collections::HashMap;
use std::sync::OnceLock;

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;

use crate::fault::Fault;
use crate::model::{AttrValue, NodeDef, dtype_of};

/// How often an input may come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Times {
    /// Once.
    One,
    /// Once or not at all.
    Optional,
    /// Any number of times, always with the same dtype.
    Same,
    /// Any number of times.
    Any,
}

/// An input.
#[derive(Debug)]
pub struct Input {
    /// Its name in the specification.
    pub name: &'static str,
    /// Which of the operator's types it has.
    pub ty: char,
    /// How often it comes.
    pub times: Times,
}

/// An operator at the version that introduced it in this form.
#[derive(Debug)]
pub struct Schema {
    /// Version of the operator set.
    pub since: i64,
    /// Fewest and most inputs.
    pub count: (usize, usize),
    /// Inputs in order.
    pub inputs: Vec<Input>,
    /// Names, kinds (letters of the table) and whether they must be given.
    pub attrs: Vec<(&'static str, char, bool)>,
    /// Dtypes of each type: bit `n` is dtype `n` of ONNX.
    pub types: Vec<(char, u64)>,
}

/// Forms of each operator, oldest first; they live as long as the table, which is never dropped.
type Table = HashMap<(&'static str, &'static str), Vec<&'static Schema>>;

/// Bit of a type that is no tensor.
const NO_TENSOR: u64 = 1 << 63;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Table::new();
        for (domain, op, schema) in include_str!("schemas.txt").lines().filter_map(read) {
            table.entry((domain, op)).or_default().push(Box::leak(Box::new(schema)));
        }
        table
    })
}

/// Reads a line of the table; `None` for a comment.
fn read(line: &'static str) -> Option<(&'static str, &'static str, Schema)> {
    let mut parts = line.split('|').map(str::split_whitespace);
    let (mut head, inputs, attrs, types) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (domain, op, since) = (head.next()?, head.next()?, head.next()?.parse().ok()?);
    let least = head.next()?.parse().ok()?;
    let most = head.next()?.parse().unwrap_or(usize::MAX);
    let input = |text: &'static str| {
        let (name, rest) = text.rsplit_once(':')?;
        let mut rest = rest.chars();
        let ty = rest.next()?;
        let times = match rest.next() {
            Some('?') => Times::Optional,
            Some('*') => Times::Same,
            Some('~') => Times::Any,
            _ => Times::One,
        };
        Some(Input { name, ty, times })
    };
    let attr = |text: &'static str| {
        let (name, rest) = text.rsplit_once(':')?;
        Some((name, rest.chars().next()?, rest.ends_with('!')))
    };
    let ty = |text: &'static str| {
        let (letter, mask) = text.split_once('=')?;
        Some((letter.chars().next()?, u64::from_str_radix(mask, 16).ok()?))
    };
    let schema = Schema {
        since,
        count: (least, most),
        inputs: inputs.filter_map(input).collect(),
        attrs: attrs.filter_map(attr).collect(),
        types: types.filter_map(ty).collect(),
    };
    Some((if domain == "ai.onnx" { "" } else { domain }, op, schema))
}

/// The form of an operator that a version of its operator set has; the default domain is the empty text.
pub fn find(domain: &str, op: &str, version: i64) -> Option<&'static Schema> {
    table().get(&(domain, op))?.iter().rev().copied().find(|s| s.since <= version)
}

/// Every operator as domain (`ai.onnx` is the default one), name and the versions that changed it, sorted.
pub fn operators() -> Vec<(&'static str, &'static str, Vec<i64>)> {
    let name = |d: &'static str| if d.is_empty() { "ai.onnx" } else { d };
    let mut all: Vec<_> = table().iter().map(|((d, op), s)| (name(d), *op, s.iter().map(|s| s.since).collect())).collect();
    all.sort_unstable();
    all
}

/// Checks the attributes of a node and the dtypes of its inputs; `dtypes` has that of each input which is a tensor.
///
/// # Errors
/// `E0107` for an attribute that is unknown, missing or of another kind, `E0203` for a dtype that the specification does not list.
pub fn check(n: &NodeDef, version: i64, dtypes: &[Option<DType>]) -> Result<(), Fault> {
    let Some(schema) = find(&n.domain, &n.op, version) else { return Ok(()) };
    attributes(schema, n)?;
    inputs(schema, dtypes)
}

fn attributes(schema: &Schema, n: &NodeDef) -> Result<(), Fault> {
    for a in &n.attrs {
        let Some((name, kind, _)) = schema.attrs.iter().find(|(name, ..)| *name == a.name) else {
            let known: Vec<&str> = schema.attrs.iter().map(|(name, ..)| *name).collect();
            let known = if known.is_empty() { "it has none".to_string() } else { format!("it has {}", known.join(", ")) };
            return Err(Fault::attr(format!("attribute `{}` is unknown to {} of version {}; {known}", a.name, n.op, schema.since)));
        };
        let expected = match (kind, &a.value) {
            (_, AttrValue::Ref(_) | AttrValue::Other(_)) => continue,
            ('f', AttrValue::Float(_) | AttrValue::Int(_)) | ('i', AttrValue::Int(_)) | ('s', AttrValue::Str(_)) => continue,
            ('t', AttrValue::Tensor(_)) | ('g', AttrValue::Graph(_)) | ('F', AttrValue::Floats(_)) => continue,
            ('I', AttrValue::Ints(_) | AttrValue::Int(_)) | ('S', AttrValue::Strs(_)) | ('p', AttrValue::Type(_)) | ('x', _) => continue,
            // An empty list has no kind in old files.
            ('I' | 'S', AttrValue::Floats(v)) if v.is_empty() => continue,
            ('F' | 'S', AttrValue::Ints(v)) if v.is_empty() => continue,
            ('F' | 'I', AttrValue::Strs(v)) if v.is_empty() => continue,
            ('f', _) => "a number",
            ('i', _) => "an integer",
            ('s', _) => "text",
            ('t', _) => "a tensor",
            ('g', _) => "a graph",
            ('F', _) => "a list of numbers",
            ('I', _) => "a list of integers",
            ('S', _) => "a list of texts",
            _ => "a type",
        };
        return Err(Fault::attr(format!("attribute `{name}` is {}, expected {expected}", a.value.kind())));
    }
    match schema.attrs.iter().find(|(name, _, needed)| *needed && !n.attrs.iter().any(|a| a.name == *name)) {
        Some((name, ..)) => Err(Fault::attr(format!("attribute `{name}` is missing"))),
        None => Ok(()),
    }
}

fn inputs(schema: &Schema, dtypes: &[Option<DType>]) -> Result<(), Fault> {
    // First input of each type.
    let mut seen: Vec<(char, usize, DType)> = Vec::new();
    for (i, dtype) in dtypes.iter().enumerate() {
        let Some(dtype) = *dtype else { continue };
        // What stands for a sequence or an optional has a dtype that is none of ONNX.
        if !(1..63).any(|n| dtype_of(n) == Some(dtype)) {
            continue;
        }
        let Some(input) = schema.inputs.get(i).or(schema.inputs.last()) else { continue };
        let Some((ty, mask)) = schema.types.iter().find(|(ty, _)| *ty == input.ty) else { continue };
        let named = |i: usize| {
            let name = schema.inputs.get(i).or(schema.inputs.last()).map_or("", |p| p.name);
            format!("input {i} (`{name}`)")
        };
        // No operator lists floats of six bits, which the file format has: they go where those of four bits go.
        let listed = if matches!(dtype, DType::F6E2M3 | DType::F6E3M2) { DType::F4E2M1 } else { dtype };
        if !(1..63).any(|n| mask >> n & 1 == 1 && dtype_of(n) == Some(listed)) {
            let allowed: Vec<&str> = (1..63).filter(|n| mask >> n & 1 == 1).filter_map(dtype_of).map(DType::name).collect();
            let or = if mask & NO_TENSOR == 0 { "" } else { ", or what is no tensor" };
            let m = format!("{} is {dtype}; version {} takes {}{or}", named(i), schema.since, allowed.join(", "));
            return Err(Fault::new(Code::DTYPE_MISMATCH, m));
        }
        if input.times == Times::Any {
            continue;
        }
        match seen.iter().find(|(t, ..)| t == ty) {
            Some((_, first, d)) if *d != dtype => {
                let m = format!("{} is {dtype} and {} is {d}; they have one dtype", named(i), named(*first));
                return Err(Fault::new(Code::DTYPE_MISMATCH, m));
            }
            Some(_) => {}
            None => seen.push((*ty, i, dtype)),
        }
    }
    Ok(())
}
