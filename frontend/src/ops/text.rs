// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Operators on characters, and on files of images: all of them run on the host.

use portwright_ir::dtype::DType;
use portwright_ir::graph::infer::broadcast_dims;
use portwright_ir::graph::{HostOp, SymSource, ValueId};
use portwright_ir::sym::product;

use super::{Entry, op};
use crate::cx::{Cx, HostCall, Res, many, one};
use crate::fault::Fault;
use crate::regex;
use crate::scope::Slot;

pub const TABLE: &[Entry] = &[
    op("ImageDecoder", 20, 1, 1, image_decoder),
    op("RegexFullMatch", 20, 1, 1, regex_full_match),
    op("StringConcat", 20, 2, 2, string_concat),
    op("StringNormalizer", 10, 1, 1, string_normalizer),
    op("StringSplit", 20, 1, 1, string_split),
];

/// Operators of `com.microsoft`.
pub const VENDOR: &[Entry] = &[op("Tokenizer", 1, 1, 1, tokenizer)];

/// Input 0, which must be texts.
fn texts(cx: &Cx<'_, '_>, i: usize) -> Res<ValueId> {
    let x = cx.input(i)?;
    if cx.dtype(x) == DType::Str { Ok(x) } else { Err(Fault::shape(format!("input {i} is {}, expected texts", cx.ty(x)))) }
}

fn string_concat(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let (a, b) = (texts(cx, 0)?, texts(cx, 1)?);
    let (dims, assumed) = broadcast_dims(cx.g(), &[&cx.dims(a), &cx.dims(b)])?;
    let path = cx.path.clone();
    for (left, right) in assumed {
        cx.g_mut().assume_equal(&left, &right, &path);
    }
    let (a, b) = (cx.broadcast(a, dims.clone())?, cx.broadcast(b, dims.clone())?);
    one(cx.host1(HostCall::new(HostOp::StringConcat, &[a, b], DType::Str, dims))?)
}

/// Parts of each text and how many there are; without a delimiter white space separates.
fn string_split(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = texts(cx, 0)?;
    let delimiter = cx.text("delimiter", "")?;
    let most = cx.int_opt("maxsplit")?;
    if most.is_some_and(|m| m < -1) {
        return Err(Fault::attr(format!("`maxsplit` is {}, expected -1 or more", most.unwrap_or(0))));
    }
    let delimiter = cx.table_texts(&[], &[delimiter])?;
    let parts = cx.fresh("parts", SymSource::Result);
    let (dims, symbols) = (cx.dims(x), parts.as_sym().cloned().into_iter().collect());
    let wide = dims.iter().cloned().chain([parts]).collect();
    let call =
        HostCall { params: vec![most.unwrap_or(-1)], symbols, ..HostCall::new(HostOp::StringSplit, &[x, delimiter], DType::Str, wide) };
    many(cx.host(HostCall { gives: call.gives.iter().cloned().chain([(DType::I64, dims)]).collect(), ..call })?)
}

fn string_normalizer(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = texts(cx, 0)?;
    let action = match cx.text("case_change_action", "NONE")? {
        "NONE" => 0,
        "LOWER" => 1,
        "UPPER" => 2,
        other => return Err(Fault::attr(format!("`case_change_action` is {other:?}, expected NONE, LOWER or UPPER"))),
    };
    let locale = cx.text("locale", "")?;
    let language = locale.split(['_', '-', '.']).next().unwrap_or("");
    // Upper and lower case differ from Unicode's own in these languages alone.
    if matches!(language, "tr" | "az" | "lt") {
        return Err(Fault::form(format!("`locale` is {locale:?}; case is changed as Unicode has it for all languages")));
    }
    let rank = cx.want_rank(x, 1..=2)?;
    let stop = cx.texts("stopwords")?.unwrap_or_default();
    let dims = cx.dims(x);
    if rank == 2 && !dims[0].is(1) && !stop.is_empty() {
        return Err(Fault::shape(format!("the input is {}, expected [C] or [1,C]", cx.ty(x))));
    }
    let count = product(&dims);
    let flat = cx.reshape(x, vec![count.clone()])?;
    let words = cx.table_texts(&[stop.len() as i64], &stop)?;
    let params = vec![action, i64::from(cx.flag("is_case_sensitive", false)?)];
    if stop.is_empty() {
        let y = cx.host1(HostCall { params, ..HostCall::new(HostOp::StringNormalize, &[flat, words], DType::Str, vec![count]) })?;
        return one(cx.reshape(y, dims)?);
    }
    let kept = cx.fresh("kept", SymSource::Result);
    let symbols = kept.as_sym().cloned().into_iter().collect();
    let y =
        cx.host1(HostCall { params, symbols, ..HostCall::new(HostOp::StringNormalize, &[flat, words], DType::Str, vec![kept.clone()]) })?;
    one(if rank == 2 { cx.reshape(y, vec![1.into(), kept])? } else { y })
}

fn program(pattern: &str) -> Res<Vec<i64>> {
    regex::compile(pattern).map_err(|why| Fault::form(format!("the regular expression {pattern:?}: {why}")))
}

fn regex_full_match(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = texts(cx, 0)?;
    let words = program(cx.text("pattern", "")?)?;
    let words = cx.table_i64(&[words.len() as i64], &words)?;
    let dims = cx.dims(x);
    one(cx.host1(HostCall::new(HostOp::RegexFullMatch, &[x, words], DType::Bool, dims))?)
}

/// `[C]` or `[N,C]` to tokens `[.., D]`: what an expression matches, what lies between separators, or single characters.
fn tokenizer(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = texts(cx, 0)?;
    cx.want_rank(x, 1..=2)?;
    let (separators, token) = (cx.texts("separators")?.unwrap_or_default(), cx.text_opt("tokenexp")?);
    let fewest = cx.int("mincharnum", 1)?;
    if fewest < 1 {
        return Err(Fault::attr(format!("`mincharnum` is {fewest}, expected 1 or more")));
    }
    let (kind, patterns) = match (token, separators.as_slice()) {
        (Some(t), []) if !t.is_empty() => (0, vec![t]),
        (None | Some(""), [""]) => (2, Vec::new()),
        (None | Some(""), [_, ..]) => (1, separators),
        (Some(_), [_, ..]) => return Err(Fault::attr("`tokenexp` and `separators` are both given")),
        _ => return Err(Fault::attr("neither `tokenexp` nor `separators` is given")),
    };
    let mut words = vec![patterns.len() as i64];
    for p in patterns {
        let program = program(p)?;
        words.push(program.len() as i64);
        words.extend(program);
    }
    let words = cx.table_i64(&[words.len() as i64], &words)?;
    let pad = cx.text("pad_value", "#")?;
    let pad = cx.table_texts(&[], &[pad])?;
    let dims = cx.dims(x);
    let count = product(&dims);
    let flat = cx.reshape(x, vec![count.clone()])?;
    let tokens = cx.fresh("tokens", SymSource::Result);
    let symbols = tokens.as_sym().cloned().into_iter().collect();
    let params = vec![kind, i64::from(cx.flag("mark", false)?), fewest];
    let call = HostCall::new(HostOp::Tokenize, &[flat, pad, words], DType::Str, vec![count, tokens.clone()]);
    let y = cx.host1(HostCall { params, symbols, ..call })?;
    one(cx.reshape(y, dims.into_iter().chain([tokens]).collect())?)
}

/// Bytes of a file to `[height, width, channels]`.
fn image_decoder(cx: &mut Cx<'_, '_>) -> Res<Vec<Slot>> {
    let x = cx.input(0)?;
    cx.want_rank(x, 1..=1)?;
    let (layout, channels) = match cx.text("pixel_format", "RGB")? {
        "RGB" => (0, 3),
        "BGR" => (1, 3),
        "Grayscale" => (2, 1),
        other => return Err(Fault::attr(format!("`pixel_format` is {other:?}, expected RGB, BGR or Grayscale"))),
    };
    let (height, width) = (cx.fresh("height", SymSource::Result), cx.fresh("width", SymSource::Result));
    let symbols = [&height, &width].into_iter().filter_map(|s| s.as_sym().cloned()).collect();
    let call = HostCall::new(HostOp::ImageDecode, &[x], DType::U8, vec![height, width, channels.into()]);
    one(cx.host1(HostCall { params: vec![layout], symbols, ..call })?)
}
