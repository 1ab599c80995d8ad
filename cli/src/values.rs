// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Inputs from files, or drawn at random; outputs to files, or for people.

use std::fmt::Write as _;
use std::path::Path;

use portwright_frontend::TestValue;
use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::dtype::DType;
use portwright_ir::graph::ListKind;
use portwright_ir::numerics;
use portwright_runtime::blob::Kind;
use portwright_runtime::load::Info;
use portwright_runtime::npz::{self, Array};
use portwright_runtime::tensor::{Tensor, View};
use portwright_runtime::value::{List, Texts, Value};
use portwright_targets::compile::onnx_dtype;

use crate::Cx;
use crate::view::Views;

mod named;

/// The dtype of a number of the C ABI.
pub fn dtype_of(code: i32) -> Option<DType> {
    DType::from_name(portwright_runtime::dtype::by_code(code)?.name)
}

/// Elements that are printed in full.
const PRINTED: usize = 16;
/// Steps of a curve, from low to high.
const CURVE: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Reads inputs by name from an npz file or a folder of `input_N.pb`.
///
/// # Errors
/// `E0704` for a file that cannot be used, a name that the model lacks, or an input that is missing.
pub fn read(path: &Path, wanted: &[Info], cx: &mut Cx) -> Lowered<Vec<Value>> {
    if path.is_dir() {
        return read_folder(path, "input", wanted, cx);
    }
    let arrays = match npz::load_npz(path) {
        Ok(a) => a,
        Err(e) => return cx.fail(Diagnostic::error(Code::BAD_NPZ, format!("`{}`: {e}", path.display()))),
    };
    by_name(arrays, path, wanted, cx)
}

fn by_name(mut arrays: Vec<(String, Array)>, path: &Path, wanted: &[Info], cx: &mut Cx) -> Lowered<Vec<Value>> {
    let mut out = Vec::new();
    let names = || wanted.iter().map(|w| format!("`{}`", w.name)).collect::<Vec<_>>().join(", ");
    for w in wanted {
        match named::value(&mut arrays, &w.name, w.kind, w.dtype, &w.items) {
            Ok(Some(v)) => out.push(v),
            Ok(None) => {
                let d = Diagnostic::error(Code::BAD_NPZ, format!("`{}` has no array `{}`", path.display(), w.name));
                cx.diags.report(d.note(format!("the model takes {}", names())));
            }
            Err(e) => {
                cx.diags.report(Diagnostic::error(Code::BAD_NPZ, format!("`{}`, array `{}`: {e}", path.display(), w.name)));
            }
        }
    }
    for (n, _) in &arrays {
        cx.diags.report(Diagnostic::error(Code::BAD_NPZ, format!("the model has no input `{n}`")).note(format!("it takes {}", names())));
    }
    cx.diags.check()?;
    Ok(out)
}

/// Reads `NAME_0.pb`, `NAME_1.pb`, .. of an ONNX test data set.
///
/// # Errors
/// `E0704` for a file that is missing or of another kind.
pub fn read_folder(path: &Path, name: &str, wanted: &[Info], cx: &mut Cx) -> Lowered<Vec<Value>> {
    read_folder_without(path, name, wanted, &[], cx)
}

/// As [`read_folder`], but the files of those numbers belong to nobody.
///
/// # Errors
/// As [`read_folder`].
pub fn read_folder_without(path: &Path, name: &str, wanted: &[Info], without: &[usize], cx: &mut Cx) -> Lowered<Vec<Value>> {
    let mut out = Vec::new();
    for (i, w) in (0..).filter(|i| !without.contains(i)).zip(wanted) {
        let file = path.join(format!("{name}_{i}.pb"));
        let kind = match w.kind {
            Kind::Sequence => Some(ListKind::Sequence),
            Kind::Optional => Some(ListKind::Optional),
            Kind::Map => Some(ListKind::Map),
            Kind::Tensor | Kind::Strings => None,
        };
        let value = std::fs::read(&file).map_err(|e| e.to_string()).and_then(|b| portwright_frontend::value_from_pb(&b, kind, Some(path)));
        match value.and_then(of_test) {
            Ok(v) => out.push(v),
            Err(e) => {
                cx.diags.report(Diagnostic::error(Code::BAD_NPZ, format!("`{}` for `{}`: {e}", file.display(), w.name)));
            }
        }
    }
    cx.diags.check()?;
    Ok(out)
}

fn of_test(v: TestValue) -> Result<Value, String> {
    Ok(match v {
        TestValue::Tensor(t) => Value::Tensor(Tensor::new(onnx_dtype(t.dtype), &t.dims, &t.data)?),
        TestValue::Texts(dims, values) => Value::Texts(Texts { dims, values }),
        TestValue::List(kind, items) => {
            let kind = match kind {
                ListKind::Sequence => Kind::Sequence,
                ListKind::Optional => Kind::Optional,
                ListKind::Map => Kind::Map,
            };
            Value::List(List { kind, items: items.into_iter().map(of_test).collect::<Result<_, _>>()? })
        }
    })
}

/// Random inputs: floats of a realistic scale, integers that are 0 or 1; symbolic dims take their smallest value, at least 1.
///
/// # Errors
/// An input whose size leaves memory.
pub fn random(seed: u64, wanted: &[Info], cx: &mut Cx) -> Lowered<Vec<Value>> {
    let mut out = Vec::new();
    for (i, w) in wanted.iter().enumerate() {
        if w.kind != Kind::Tensor {
            let what = if w.kind == Kind::Strings { "texts" } else { "a list" };
            let d = Diagnostic::error(Code::BAD_OPTION, format!("`{}` is {what}, of which no random ones are made", w.name));
            cx.diags.report(d.help("give the inputs with --inputs"));
            continue;
        }
        let dims: Vec<i64> = w.dims.iter().map(|d| if d.symbol.is_some() { d.min.max(1).min(d.max) } else { d.min }).collect();
        let made = dtype_of(w.dtype).and_then(|d| {
            let bytes = numerics::seeded_bytes(seed.wrapping_add(i as u64), d, &dims)?;
            if d.is_int() {
                // Indices, masks and positions are what integers are for: small ones fit all of them.
                let n = dims.iter().product::<i64>() as usize;
                let mut small = vec![0u8; bytes.len()];
                (0..n).for_each(|e| numerics::set(&mut small, d, e, numerics::get(&bytes, d, e) & 1));
                return Tensor::new(w.dtype, &dims, &small).ok();
            }
            Tensor::new(w.dtype, &dims, &bytes).ok()
        });
        match made {
            Some(t) => out.push(t.into()),
            None => {
                cx.diags.report(Diagnostic::error(Code::OVER_MEMORY, format!("no random input of `{}`: {dims:?}", w.name)));
            }
        }
    }
    cx.diags.check()?;
    Ok(out)
}

/// Writes outputs by name.
///
/// # Errors
/// `E0702`.
pub fn write(path: &Path, names: &[&str], values: &[Value], cx: &mut Cx) -> Lowered<()> {
    let mut arrays = Vec::new();
    let made = names.iter().zip(values).try_for_each(|(n, v)| named::arrays(n, v, &mut arrays));
    made.and_then(|()| npz::save_npz(path, &arrays))
        .or_else(|e| cx.fail(Diagnostic::error(Code::FILE_WRITE, format!("`{}`: {e}", path.display()))))
}

/// Elements as f64, where the dtype is one of numbers.
pub fn elements(v: &View<'_>) -> Vec<f64> {
    let n = v.dims.iter().product::<i64>().max(0) as usize;
    let Some(d) = dtype_of(v.dtype) else { return Vec::new() };
    let one = |i| {
        let bits = numerics::get(v.data, d, i);
        if d.is_float() { numerics::decode_f64(d, bits) } else { numerics::int_from_bits(d, bits) as f64 }
    };
    (0..n).map(one).collect()
}

/// Describes an output of any kind for people.
pub fn describe_value(name: &str, v: &Value, views: Option<&Views>) -> String {
    match v {
        Value::Tensor(t) => describe(name, &t.view(), views),
        Value::Texts(t) => {
            let shown: Vec<String> = t.values.iter().take(PRINTED).map(|s| format!("{s:?}")).collect();
            let more = if t.values.len() > PRINTED { ", .." } else { "" };
            format!("{name}: {}\n  [{}{more}]\n", v.describe(), shown.join(", "))
        }
        Value::List(l) => {
            let mut s = format!("{name}: {}\n", v.describe());
            for (i, item) in l.items.iter().take(PRINTED).enumerate() {
                let part = match (l.kind, i) {
                    (Kind::Map, 0) => format!("{name}/keys"),
                    (Kind::Map, _) => format!("{name}/values"),
                    (Kind::Optional, _) => name.to_owned(),
                    _ => format!("{name}/{i}"),
                };
                s += &describe_value(&part, item, None);
            }
            s
        }
    }
}

/// A value as JSON: texts and numbers as lists, a sequence as a list of such, an optional as one of them or null, a map as keys and values.
pub fn json(v: &Value) -> serde_json::Value {
    match v {
        Value::Tensor(t) => {
            serde_json::json!({"dtype": portwright_runtime::dtype::name(t.dtype), "shape": t.dims, "values": elements(&t.view())})
        }
        Value::Texts(t) => serde_json::json!({"dtype": "str", "shape": t.dims, "values": t.values}),
        Value::List(List { kind: Kind::Optional, items }) => items.first().map_or(serde_json::Value::Null, json),
        Value::List(List { kind: Kind::Map, items }) => {
            serde_json::json!({"keys": items.first().map(json), "values": items.get(1).map(json)})
        }
        Value::List(l) => serde_json::json!({"items": l.items.iter().map(json).collect::<Vec<_>>()}),
    }
}

/// Describes an output for people: type, statistics, and what its view says. In a model without views the elements if they are few, a
/// curve if they are a line.
pub fn describe(name: &str, v: &View<'_>, views: Option<&Views>) -> String {
    let mut s = format!("{name}: {}{:?}", portwright_runtime::dtype::name(v.dtype), v.dims);
    let x = elements(v);
    let finite: Vec<f64> = x.iter().copied().filter(|x| x.is_finite()).collect();
    if x.len() > 1 && !finite.is_empty() {
        let (lo, hi) = finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        let _ = write!(s, "  min {} max {} mean {}", short(lo), short(hi), short(mean));
    }
    let nan = x.iter().filter(|x| x.is_nan()).count();
    let inf = x.iter().filter(|x| x.is_infinite()).count();
    if nan + inf > 0 {
        let _ = write!(s, "  ({nan} NaN, {inf} infinite)");
    }
    s.push('\n');
    if let Some(views) = views {
        return s + &views.outputs.get(name).map_or_else(String::new, |w| w.lines(&v.dims, &x));
    }
    if x.len() <= PRINTED {
        let list: Vec<String> = x.iter().map(|&x| short(x)).collect();
        let _ = writeln!(s, "  [{}]", list.join(", "));
    } else if v.dims.iter().filter(|&&d| d > 1).count() == 1 && nan + inf == 0 {
        let _ = writeln!(s, "  {}", curve(&x, 80, (None, None)));
    }
    let last = v.dims.last().copied().unwrap_or(0);
    let rows = x.len() as i64 / last.max(1);
    let float = dtype_of(v.dtype).is_some_and(|d| d.is_float());
    if float && last > 1 && rows == 1 && nan == 0 {
        let mut order: Vec<usize> = (0..x.len()).collect();
        order.sort_by(|&a, &b| x[b].total_cmp(&x[a]));
        let top: Vec<String> = order.iter().take(5).map(|&i| format!("{i} ({})", short(x[i]))).collect();
        let _ = writeln!(s, "  largest: {}", top.join(", "));
    }
    s
}

/// A line of at most `width` characters whose height follows the values, from the first of `range` to the second; by default from
/// the smallest value to the largest.
pub fn curve(x: &[f64], width: usize, range: (Option<f64>, Option<f64>)) -> String {
    let (lo, hi) = x.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
    let (lo, hi) = (range.0.unwrap_or(lo), range.1.unwrap_or(hi));
    let width = width.min(x.len()).max(1);
    (0..width)
        .map(|i| {
            let (a, b) = (i * x.len() / width, ((i + 1) * x.len() / width).max(i * x.len() / width + 1));
            let part = &x[a..b.min(x.len())];
            let mean = part.iter().sum::<f64>() / part.len() as f64;
            let level = if hi > lo { (mean - lo) / (hi - lo) * 7.0 } else { 0.0 };
            CURVE[(level.round().max(0.0) as usize).min(7)]
        })
        .collect()
}

/// A number in a few digits.
pub fn short(x: f64) -> String {
    if x == x.trunc() && x.abs() < 1e15 { format!("{x}") } else { format!("{x:.6}") }
}
