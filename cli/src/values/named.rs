// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Values as arrays by name: a sequence is `NAME/0`, `NAME/1`, .., a map `NAME/keys` and `NAME/values`; an optional with a value is that
//! value, one without is not there.

use portwright_runtime::blob::{Item, Kind};
use portwright_runtime::npz::{Array, NpyError};
use portwright_runtime::value::{List, Texts, Value};

/// Takes the value of that name out of a list of arrays; `None` if it is not there.
///
/// # Errors
/// Arrays of another kind or dtype than the model's.
pub fn value(arrays: &mut Vec<(String, Array)>, name: &str, kind: Kind, dtype: i32, items: &[Item]) -> Result<Option<Value>, String> {
    let rest = items.get(1..).unwrap_or_default();
    let of = |arrays: &mut Vec<(String, Array)>, name: &str, i: usize| match items.get(i) {
        Some(item) => value(arrays, name, item.kind, item.dtype, rest),
        None => Err("the model does not say what it holds".into()),
    };
    match kind {
        Kind::Tensor | Kind::Strings => {
            let Some(i) = arrays.iter().position(|(n, _)| n == name) else { return Ok(None) };
            match (arrays.swap_remove(i).1, kind) {
                (Array::Strings { dims, values }, Kind::Strings) => Ok(Some(Value::Texts(Texts { dims, values }))),
                (Array::Numbers(_), Kind::Strings) => Err("numbers where texts are expected".into()),
                (array, _) => array.into_tensor(dtype).map(|t| Some(t.into())).map_err(|e| e.to_string()),
            }
        }
        Kind::Optional => {
            let there = |n: &str| n == name || n.strip_prefix(name).is_some_and(|r| r.starts_with('/'));
            let items = if arrays.iter().any(|(n, _)| there(n)) { of(arrays, name, 0)?.into_iter().collect() } else { Vec::new() };
            Ok(Some(Value::List(List { kind, items })))
        }
        Kind::Sequence => {
            let mut all = Vec::new();
            loop {
                let own = format!("{name}/{}", all.len());
                let there = |n: &str| n == own || n.strip_prefix(&own).is_some_and(|r| r.starts_with('/'));
                if !arrays.iter().any(|(n, _)| there(n)) {
                    return Ok(Some(Value::List(List { kind, items: all })));
                }
                all.extend(of(arrays, &own, 0)?);
            }
        }
        Kind::Map => {
            let (keys, values) = (of(arrays, &format!("{name}/keys"), 0)?, of(arrays, &format!("{name}/values"), 1)?);
            Ok(keys.zip(values).map(|(k, v)| Value::List(List { kind, items: vec![k, v] })))
        }
    }
}

/// Adds the arrays of a value.
///
/// # Errors
/// A dtype that arrays cannot hold.
pub fn arrays(name: &str, v: &Value, out: &mut Vec<(String, Array)>) -> Result<(), NpyError> {
    match v {
        Value::Tensor(t) => out.push((name.to_owned(), Array::from_tensor(t)?)),
        Value::Texts(t) => out.push((name.to_owned(), Array::Strings { dims: t.dims.clone(), values: t.values.clone() })),
        Value::List(l) => {
            for (i, item) in l.items.iter().enumerate() {
                let part = match (l.kind, i) {
                    (Kind::Map, 0) => format!("{name}/keys"),
                    (Kind::Map, _) => format!("{name}/values"),
                    (Kind::Optional, _) => name.to_owned(),
                    _ => format!("{name}/{i}"),
                };
                arrays(&part, item, out)?;
            }
        }
    }
    Ok(())
}
