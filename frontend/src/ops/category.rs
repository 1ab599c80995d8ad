// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operators of `ai.onnx.ml` on categories: texts and numbers are exchanged for each other, maps are made and taken apart.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{BinaryOp, HostOp, Item, ItemRank, ListKind, ListType, Op, SymSource, UnaryOp, ValueId};

use super::grams::Sorted;
use super::ml::{floats, labels};
use super::{Entry, MANY, op};
use crate::cx::{Cx, HostCall, Res, one};
use crate::fault::Fault;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("CastMap", 1, 1, 1, cast_map),
    op("CategoryMapper", 1, 1, 1, category_mapper),
    op("DictVectorizer", 1, 1, 1, dict_vectorizer),
    op("FeatureVectorizer", 1, 1, MANY, feature_vectorizer),
    op("Imputer", 1, 1, 1, imputer),
    op("LabelEncoder", 1, 1, 1, label_encoder),
    op("OneHotEncoder", 1, 1, 1, one_hot_encoder),
    op("ZipMap", 1, 1, 1, zip_map),
];

/// Keys or values of a table.
enum Column {
    Texts(Vec<String>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    /// A tensor attribute of another dtype.
    Tensor(ValueId),
}

impl Column {
    fn len(&self, cx: &Cx<'_, '_>) -> usize {
        match self {
            Column::Texts(t) => t.len(),
            Column::Ints(v) => v.len(),
            Column::Floats(v) => v.len(),
            Column::Tensor(v) => cx.ty(*v).elems().as_const().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        }
    }
    /// All of them as a constant `[n]`.
    fn table(&self, cx: &mut Cx<'_, '_>) -> Res<ValueId> {
        let n = [self.len(cx) as i64];
        match self {
            Column::Texts(t) => cx.table_texts(&n, &t.iter().map(String::as_str).collect::<Vec<_>>()),
            Column::Ints(v) => cx.table_i64(&n, v),
            Column::Floats(v) => cx.table_f32(&n, v),
            Column::Tensor(v) => cx.reshape(*v, vec![n[0].into()]),
        }
        .and_then(|v| cx.reshape(v, vec![n[0].into()]))
    }
}

/// The attribute `{what}_strings`, `{what}_int64s`, `{what}_floats` or `{what}_tensor`, whichever is given.
fn column(cx: &mut Cx<'_, '_>, what: &str) -> Res<Option<Column>> {
    if let Some(t) = cx.texts(&format!("{what}_strings"))?.filter(|t| !t.is_empty()) {
        return Ok(Some(Column::Texts(t.into_iter().map(str::to_owned).collect())));
    }
    if let Some(v) = cx.ints(&format!("{what}_int64s"))?.filter(|v| !v.is_empty()) {
        return Ok(Some(Column::Ints(v)));
    }
    let v = floats(cx, &format!("{what}_floats"))?;
    if !v.is_empty() {
        return Ok(Some(Column::Floats(v)));
    }
    let name = format!("{what}_tensor");
    let Some(t) = cx.tensor(&name)? else { return Ok(None) };
    if let crate::model::TensorData::Strings(texts) = &t.data {
        let texts = texts.iter().map(|t| String::from_utf8(t.clone()).map_err(|_| Fault::attr(format!("a text of `{name}` is not UTF-8"))));
        return Ok(Some(Column::Texts(texts.collect::<Res<_>>()?)));
    }
    let origin = portwright_ir::graph::Origin::path(cx.path.clone());
    let v = cx.imp.constant(t, "", origin)?;
    match (cx.dtype(v), cx.const_numbers(v)) {
        (DType::I64, Some(numbers)) => Ok(Some(Column::Ints(numbers.iter().map(|n| *n as i64).collect()))),
        (DType::F32, Some(numbers)) => Ok(Some(Column::Floats(numbers.iter().map(|n| *n as f32).collect()))),
        _ => Ok(Some(Column::Tensor(v))),
    }
}

/// Bits of a float such that equal numbers have equal ones: zeros alike, and one NaN.
fn float_key(v: f32) -> i64 {
    let v = if v.is_nan() { f32::NAN } else { v + 0.0 };
    i64::from(v.to_bits() as i32)
}

/// Elements of `x` and of a column as i64 that are equal where those are.
fn as_keys(cx: &mut Cx<'_, '_>, x: ValueId, keys: &Column) -> Res<(ValueId, Vec<i64>)> {
    let wrong = |cx: &Cx<'_, '_>, what: &str| Fault::form(format!("the input is {}, and the keys are {what}", cx.ty(x)));
    match keys {
        Column::Texts(t) if cx.dtype(x) == DType::Str => {
            let keys = t.iter().map(|t| cx.text_number(t)).collect();
            Ok((cx.add(Op::Handle { to: DType::I64, list: None }, &[x])?, keys))
        }
        Column::Ints(v) if cx.dtype(x).is_int() => Ok((cx.cast(x, DType::I64)?, v.clone())),
        Column::Floats(v) if cx.dtype(x) == DType::F32 => {
            let (zero, nan) = (cx.bin_c(BinaryOp::Add, x, 0.0)?, cx.un(UnaryOp::IsNan, x)?);
            let one_nan = cx.scalar(DType::F32, f64::from(f32::NAN))?;
            let x = cx.select(nan, one_nan, zero)?;
            let bits = cx.add(Op::Bitcast { to: DType::I32 }, &[x])?;
            Ok((cx.cast(bits, DType::I64)?, v.iter().map(|v| float_key(*v)).collect()))
        }
        Column::Texts(_) => Err(wrong(cx, "texts")),
        Column::Ints(_) => Err(wrong(cx, "integers")),
        Column::Floats(_) => Err(wrong(cx, "f32")),
        Column::Tensor(v) => Err(Fault::form(format!("keys of {} are not looked up", cx.ty(*v)))),
    }
}

/// The value of each element's key, or `other` (a scalar) where it is none of the keys.
fn lookup(cx: &mut Cx<'_, '_>, x: ValueId, keys: &Column, values: &Column, other: ValueId) -> Res<ValueId> {
    let (n, m) = (keys.len(cx), values.len(cx));
    if n != m || n == 0 {
        return Err(Fault::attr(format!("{n} keys and {m} values")));
    }
    let (x, keys) = as_keys(cx, x, keys)?;
    // Of equal keys the last one counts.
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&i| (keys[i], std::cmp::Reverse(i)));
    order.dedup_by_key(|i| keys[*i]);
    let sorted: Vec<i64> = order.iter().map(|&i| keys[i]).collect();
    let table = Sorted::new(cx, &sorted)?;
    let (at, found) = table.find(cx, x)?;
    let mut places: Vec<i64> = order.iter().map(|&i| i as i64).collect();
    places.resize(table.filled() as usize, 0);
    let places = cx.table_i64(&[places.len() as i64], &places)?;
    let place = cx.gather(places, at, 0)?;
    let values = values.table(cx)?;
    let value = cx.gather(values, place, 0)?;
    cx.select(found, value, other)
}

/// The default for values of that kind.
fn default_value(cx: &mut Cx<'_, '_>, values: &Column) -> Res<ValueId> {
    match values {
        Column::Texts(_) => {
            let text = cx.text("default_string", "_Unused")?;
            cx.table_texts(&[], &[text])
        }
        Column::Ints(_) => {
            let given = match cx.tensor_numbers("default_tensor")? {
                Some(t) => t.first().map(|v| *v as i64),
                None => cx.int_opt("default_int64")?,
            };
            cx.scalar_bits(portwright_ir::graph::Scalar::i64(given.unwrap_or(-1)))
        }
        Column::Floats(_) => {
            let given = match cx.tensor_numbers("default_tensor")? {
                Some(t) => t.first().copied(),
                None => cx.float_opt("default_float")?,
            };
            cx.scalar(DType::F32, given.unwrap_or(-0.0))
        }
        Column::Tensor(v) => {
            let dtype = cx.dtype(*v);
            let given = cx.tensor_numbers("default_tensor")?.and_then(|t| t.first().copied());
            cx.scalar(dtype, given.unwrap_or(if dtype.is_float() { -0.0 } else { -1.0 }))
        }
    }
}

fn label_encoder(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    if cx.version < 2 {
        let classes = cx.texts("classes_strings")?.unwrap_or_default();
        let numbers = Column::Ints((0..classes.len() as i64).collect());
        let texts = Column::Texts(classes.into_iter().map(str::to_owned).collect());
        return exchange(cx, x, &texts, &numbers);
    }
    let (keys, values) = (column(cx, "keys")?, column(cx, "values")?);
    let (Some(keys), Some(values)) = (keys, values) else { return Err(Fault::attr("its keys or values are not given")) };
    if let Column::Texts(_) = values
        && let Some(t) = cx.tensor("default_tensor")?
        && let crate::model::TensorData::Strings(t) = &t.data
    {
        let text = t.first().and_then(|t| std::str::from_utf8(t).ok()).unwrap_or("");
        let other = cx.table_texts(&[], &[text])?;
        return one(lookup(cx, x, &keys, &values, other)?);
    }
    let other = default_value(cx, &values)?;
    one(lookup(cx, x, &keys, &values, other)?)
}

/// Texts for numbers or numbers for texts, as the input has it.
fn exchange(cx: &mut Cx<'_, '_>, x: ValueId, texts: &Column, numbers: &Column) -> Res<Vec<Slot>> {
    let (keys, values) = if cx.dtype(x) == DType::Str { (texts, numbers) } else { (numbers, texts) };
    let other = default_value(cx, values)?;
    one(lookup(cx, x, keys, values, other)?)
}

fn category_mapper(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let (numbers, texts) = (cx.ints("cats_int64s")?.unwrap_or_default(), cx.texts("cats_strings")?.unwrap_or_default());
    let texts = Column::Texts(texts.into_iter().map(str::to_owned).collect());
    exchange(cx, x, &texts, &Column::Ints(numbers))
}

/// `[d..] -> f32 [d.., categories]`: 1 at the category of each element.
fn one_hot_encoder(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let cats = column(cx, "cats")?.ok_or_else(|| Fault::attr("its categories are not given"))?;
    let x = if matches!(cats, Column::Ints(_)) && cx.dtype(x).is_float() { cx.cast(x, DType::I64)? } else { x };
    let (x, keys) = as_keys(cx, x, &cats)?;
    let n = keys.len() as i64;
    let rank = cx.rank(x);
    let x = cx.unsqueeze(x, &[rank])?;
    let table = cx.table_i64(&[n], &keys)?;
    let table = cx.reshape(table, vec![n.into()])?;
    let same = cx.bin(BinaryOp::Eq, x, table)?;
    let mut y = cx.cast(same, DType::F32)?;
    if !cx.flag("zeros", true)? {
        // What is no category is an index behind the table, which ends the run.
        let any = cx.reduce(portwright_ir::graph::ReduceOp::Any, same, &[rank as u32], true)?;
        let (inside, outside) = (cx.scalar(DType::I64, 0.0)?, cx.scalar(DType::I64, 2.0)?);
        let at = cx.select(any, inside, outside)?;
        let ones = cx.table_f32(&[2], &[1.0, 1.0])?;
        let guard = cx.gather(ones, at, 0)?;
        y = cx.bin(BinaryOp::Mul, y, guard)?;
    }
    one(y)
}

/// `f32 [N, classes]` to a sequence of maps from class to score.
fn zip_map(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let x = if cx.want_rank(x, 1..=2)? == 1 { cx.unsqueeze(x, &[0])? } else { x };
    let labels = labels(cx, "classlabels_int64s")?;
    let keys = labels.table(cx)?;
    let classes = [labels.len() as i64];
    let keys = cx.reshape(keys, vec![classes[0].into()])?;
    let path = cx.path.clone();
    let d = cx.dim(x, 1)?;
    cx.g_mut().assume_equal(&d, &classes[0].into(), &path);
    let item = |d| Item::Tensor(d, ItemRank::Is(1));
    let map = ListType { kind: ListKind::Map, items: vec![item(cx.dtype(keys)), item(cx.dtype(x))] };
    let list = Some(ListType::of(ListKind::Sequence, Item::List(Box::new(map))));
    one(cx.host1(HostCall { list, ..HostCall::new(HostOp::ZipMap, &[x, keys], DType::List, Vec::new()) })?)
}

/// The input's map, and the dtypes of its keys and values.
fn map(cx: &Cx<'_, '_>) -> Res<(ValueId, DType, DType)> {
    let v = cx.input(0)?;
    match cx.ty(v).list.as_deref().filter(|l| l.kind == ListKind::Map).map(|l| l.items.as_slice()) {
        Some(&[Item::Tensor(k, _), Item::Tensor(t, _)]) => Ok((v, k, t)),
        _ => Err(Fault::form(format!("the input is {}, expected a map", cx.ty(v)))),
    }
}

fn dict_vectorizer(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (m, key, value) = map(cx)?;
    let names = if key == DType::Str { "string_vocabulary" } else { "int64_vocabulary" };
    let keys = match key {
        DType::Str => Column::Texts(cx.texts(names)?.unwrap_or_default().into_iter().map(str::to_owned).collect()),
        _ => Column::Ints(cx.ints(names)?.unwrap_or_default()),
    };
    let n = keys.len(cx) as i64;
    if n == 0 {
        return Err(Fault::attr(format!("attribute `{names}` is missing")));
    }
    let keys = keys.table(cx)?;
    one(cx.host1(HostCall::new(HostOp::MapLookup, &[m, keys], value, vec![1.into(), n.into()]))?)
}

fn cast_map(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (m, key, value) = map(cx)?;
    let to = match cx.text("cast_to", "TO_FLOAT")? {
        "TO_FLOAT" => DType::F32,
        "TO_INT64" => DType::I64,
        "TO_STRING" => DType::Str,
        other => return Err(Fault::attr(format!("`cast_to` is {other:?}, expected TO_FLOAT, TO_INT64 or TO_STRING"))),
    };
    if key != DType::I64 || (to == DType::Str) != (value == DType::Str) {
        return Err(Fault::form(format!("a map of {key} to {value} cast to {to}; keys are i64, and texts stay texts")));
    }
    let y = match cx.text("map_form", "DENSE")? {
        "DENSE" => {
            let n = cx.fresh("values", SymSource::Result);
            let symbols = n.as_sym().cloned().into_iter().collect();
            cx.host1(HostCall { symbols, ..HostCall::new(HostOp::MapValues, &[m], value, vec![1.into(), n]) })?
        }
        "SPARSE" => {
            let n = cx.int("max_map", 1)?;
            if !(1..=1 << 20).contains(&n) {
                return Err(Fault::attr(format!("`max_map` is {n}, expected 1 to 2^20")));
            }
            let keys = cx.table_i64(&[n], &(0..n).collect::<Vec<_>>())?;
            let keys = cx.reshape(keys, vec![n.into()])?;
            cx.host1(HostCall::new(HostOp::MapLookup, &[m, keys], value, vec![1.into(), n.into()]))?
        }
        other => return Err(Fault::attr(format!("`map_form` is {other:?}, expected DENSE or SPARSE"))),
    };
    one(if to == DType::Str { y } else { cx.cast(y, to)? })
}

/// Inputs as f32, side by side; each is cut or filled up with zeros to its size.
fn feature_vectorizer(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let inputs = cx.all_inputs()?;
    let sizes = cx.ints("inputdimensions")?.unwrap_or_default();
    if sizes.len() != inputs.len() || sizes.iter().any(|s| *s < 1) {
        return Err(Fault::attr(format!("`inputdimensions` has {} entries for {} inputs", sizes.len(), inputs.len())));
    }
    let mut parts = Vec::new();
    for (&x, &n) in inputs.iter().zip(&sizes) {
        let x = cx.cast(x, DType::F32)?;
        let x = if cx.want_rank(x, 1..=2)? == 1 { cx.unsqueeze(x, &[0])? } else { x };
        let d = cx.dim(x, 1)?;
        let path = cx.path.clone();
        let Some(d) = d.as_const() else {
            cx.g_mut().assume_equal(&d, &n.into(), &path);
            parts.push(x);
            continue;
        };
        let x = if d > n { cx.slice_axis(x, 1, 0.into(), n.into(), 1)? } else { x };
        parts.push(cx.pad(x, vec![0.into(); 2], vec![0.into(), (n - d).max(0).into()], vec![0; 2], 0.0)?);
    }
    one(cx.concat(&parts, 1)?)
}

/// Replaces one number by another, for all columns or column by column.
fn imputer(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    let dtype = cx.dtype(x);
    let (values, replaced) = if dtype.is_float() {
        (floats(cx, "imputed_value_floats")?.into_iter().map(f64::from).collect(), cx.float("replaced_value_float", 0.0)?)
    } else {
        let ints = cx.ints("imputed_value_int64s")?.unwrap_or_default();
        (ints.into_iter().map(|v| v as f64).collect::<Vec<_>>(), cx.int("replaced_value_int64", 0)? as f64)
    };
    if values.is_empty() {
        return Err(Fault::attr("its imputed values are not given"));
    }
    let hit = if replaced.is_nan() { cx.un(UnaryOp::IsNan, x)? } else { cx.bin_c(BinaryOp::Eq, x, replaced)? };
    let value = if let [one] = values.as_slice() { cx.scalar(dtype, *one)? } else { cx.numbers(dtype, &[values.len() as i64], &values)? };
    one(cx.select(hit, value, x)?)
}
