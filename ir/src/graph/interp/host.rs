// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meaning of host operations: texts and lists of a run, and what is done with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Fault, Tensor, movement};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::HostOp;
use crate::graph::types::ListKind;
use crate::plan::HostCall;
use crate::regex::Regex;
use crate::texts::{self, Texts};

/// What goes into and comes out of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Numbers.
    Tensor(Tensor),
    /// Texts: dims, and elements in row-major order.
    Texts(Vec<usize>, Vec<String>),
    /// A list.
    List(ListKind, Vec<Value>),
}

/// An element of a list.
#[derive(Clone, Debug)]
enum Item {
    /// A tensor; of dtype `str` where its elements are numbers of texts.
    Tensor(Tensor),
    /// Number of a list.
    List(i64),
}

/// Reads an image in a file as `image_decode` does: bytes and layout to dims (height, width, channels) and pixels, or what is wrong.
pub type ReadImage = fn(&[u8], i64) -> Result<([usize; 3], Vec<u8>), String>;

/// Tables of texts and lists of a run.
#[derive(Clone, Debug, Default)]
pub struct Host {
    texts: Texts,
    images: Option<ReadImage>,
    lists: Vec<Arc<Vec<Item>>>,
    /// Elements of all lists, one by one.
    items: u64,
}

type Done<T> = Result<T, Fault>;

fn wrong(message: impl Into<String>) -> Fault {
    Fault::new(Code::RUN_FAILED, message)
}
fn broken() -> Fault {
    Fault::new(Code::INTERNAL, "a host operation without what it needs")
}
fn number(v: i64) -> Tensor {
    Tensor::from_i64(Vec::new(), &[v])
}

impl Host {
    /// Tables that begin with these texts, and what reads images.
    pub fn new(texts: Texts, images: Option<ReadImage>) -> Self {
        Host { texts, images, lists: Vec::new(), items: 0 }
    }
    /// Bytes that the tables take, beside those of tensors in lists.
    pub(crate) fn bytes(&self) -> u64 {
        self.texts.bytes() + self.items * size_of::<Item>() as u64
    }
    fn list_new(&mut self, items: Vec<Item>) -> i64 {
        self.items += items.len() as u64;
        self.lists.push(Arc::new(items));
        self.lists.len() as i64
    }
    fn list(&self, n: i64) -> Done<Arc<Vec<Item>>> {
        usize::try_from(n - 1).ok().and_then(|i| self.lists.get(i)).cloned().ok_or_else(broken)
    }
    fn text(&self, n: i64) -> Arc<str> {
        self.texts.get(n).cloned().unwrap_or_else(|| "".into())
    }
    fn texts_of(&self, t: &Tensor) -> Vec<Arc<str>> {
        t.to_ids().into_iter().map(|n| self.text(n)).collect()
    }
    fn numbers<'t>(&mut self, dims: Vec<usize>, texts: impl IntoIterator<Item = &'t str>) -> Tensor {
        let ids: Vec<i64> = texts.into_iter().map(|t| self.texts.intern(t)).collect();
        Tensor::from_i64(dims, &ids)
    }

    /// The tensor that stands for an input in a graph.
    pub fn take(&mut self, v: &Value) -> Tensor {
        match v {
            Value::Tensor(t) => t.clone(),
            Value::Texts(dims, texts) => self.numbers(dims.clone(), texts.iter().map(String::as_str)).as_handle(DType::Str),
            Value::List(..) => match self.item(v) {
                Item::List(n) => number(n).as_handle(DType::List),
                Item::Tensor(t) => t,
            },
        }
    }
    fn item(&mut self, v: &Value) -> Item {
        match v {
            Value::List(_, items) => {
                let items = items.iter().map(|v| self.item(v)).collect();
                Item::List(self.list_new(items))
            }
            v => Item::Tensor(self.take(v)),
        }
    }
    /// The value that a tensor of a graph stands for; `list` is what lists in it are, outermost first.
    pub fn give(&self, t: &Tensor, list: Option<&crate::graph::ListType>) -> Value {
        match (t.dtype, list) {
            (DType::Str, _) => Value::Texts(t.dims.clone(), self.texts_of(t).iter().map(|t| t.to_string()).collect()),
            (DType::List, Some(l)) => self.give_list(t.to_ids().first().copied().unwrap_or(0), l),
            _ => Value::Tensor(t.clone()),
        }
    }
    fn give_list(&self, n: i64, l: &crate::graph::ListType) -> Value {
        let items = self.list(n).unwrap_or_default();
        let inner = match l.item() {
            Some(crate::graph::Item::List(l)) => Some(&**l),
            _ => None,
        };
        let one = |i: &Item| match (i, inner) {
            (Item::List(n), Some(l)) => self.give_list(*n, l),
            (Item::List(_), None) => Value::List(ListKind::Sequence, Vec::new()),
            (Item::Tensor(t), _) => self.give(t, None),
        };
        Value::List(l.kind, items.iter().map(one).collect())
    }

    /// Runs an operation of a plan, where texts and lists are i64 in all operands and results.
    pub(crate) fn call(&mut self, h: &HostCall, x: &[Tensor]) -> Result<Vec<Tensor>, (Code, String)> {
        let handles = |(t, &takes): (&Tensor, &DType)| if takes.is_handle() { t.as_handle(takes) } else { t.clone() };
        let x: Vec<Tensor> = x.iter().zip(&h.takes).map(handles).collect();
        let results = self.run(h.op, &h.params, &h.takes, &h.gives, &x).map_err(|f| (f.code, f.message))?;
        Ok(results.iter().map(Tensor::as_number).collect())
    }
    /// Runs an operation. Texts and lists among `x` are numbers; `takes` says which they are.
    pub(super) fn run(&mut self, op: HostOp, params: &[i64], takes: &[DType], gives: &[DType], x: &[Tensor]) -> Done<Vec<Tensor>> {
        let arg = |i: usize| x.get(i).ok_or_else(broken);
        let param = |i: usize| params.get(i).copied().ok_or_else(broken);
        let listed = |h: &Host| h.list(*arg(0)?.to_ids().first().ok_or_else(broken)?);
        let one = match op {
            HostOp::StringConcat => {
                let (a, b) = (self.texts_of(arg(0)?), self.texts_of(arg(1)?));
                let joined: Vec<String> = a.iter().zip(&b).map(|(a, b)| format!("{a}{b}")).collect();
                self.numbers(arg(0)?.dims.clone(), joined.iter().map(String::as_str))
            }
            HostOp::StringSplit => {
                let delimiter = self.texts_of(arg(1)?).first().cloned().ok_or_else(broken)?;
                let texts = self.texts_of(arg(0)?);
                let rows: Vec<Vec<&str>> = texts.iter().map(|t| split(t, &delimiter, param(0).unwrap_or(-1))).collect();
                let counts: Vec<i64> = rows.iter().map(|r| r.len() as i64).collect();
                let counts = Tensor::from_i64(arg(0)?.dims.clone(), &counts);
                return Ok(vec![self.matrix(&arg(0)?.dims, &rows, ""), counts]);
            }
            HostOp::StringNormalize => {
                let (action, compared) = (param(0)?, if param(1)? == 0 { 1 } else { 0 });
                let stop: Vec<String> = self.texts_of(arg(1)?).iter().map(|t| cased(t, compared)).collect();
                let kept: Vec<String> =
                    self.texts_of(arg(0)?).iter().filter(|t| !stop.contains(&cased(t, compared))).map(|t| cased(t, action)).collect();
                let kept = if kept.is_empty() && !stop.is_empty() { vec![String::new()] } else { kept };
                self.numbers(vec![kept.len()], kept.iter().map(String::as_str))
            }
            HostOp::RegexFullMatch => {
                let words = arg(1)?.to_i64();
                let r = Regex::new(&words).ok_or_else(broken)?;
                let bits = self.texts_of(arg(0)?).into_iter().map(|t| u64::from(r.is_full_match(&t))).collect::<Vec<_>>();
                Tensor::from_bits(DType::Bool, arg(0)?.dims.clone(), bits)
            }
            HostOp::Tokenize => {
                let pad = self.texts_of(arg(1)?).first().cloned().ok_or_else(broken)?;
                let words = arg(2)?.to_i64();
                let texts = self.texts_of(arg(0)?);
                let rows = texts.iter().map(|t| tokens(t, params, &words)).collect::<Option<Vec<_>>>().ok_or_else(broken)?;
                self.matrix(&arg(0)?.dims, &rows, &pad)
            }
            HostOp::StringRank => {
                let texts = self.texts_of(arg(0)?);
                let ranks: BTreeSet<&Arc<str>> = texts.iter().collect();
                let ranks: BTreeMap<&Arc<str>, i64> = ranks.into_iter().zip(0..).collect();
                let of: Vec<i64> = texts.iter().filter_map(|t| ranks.get(t).copied()).collect();
                Tensor::from_i64(arg(0)?.dims.clone(), &of)
            }
            HostOp::StringOf => {
                let t = arg(0)?;
                let texts: Vec<String> = t.all_bits().map(|b| texts::of_number(t.dtype, b)).collect();
                self.numbers(t.dims.clone(), texts.iter().map(String::as_str))
            }
            HostOp::NumberOf => {
                let to = *gives.first().ok_or_else(broken)?;
                let one = |t: &Arc<str>| texts::to_number(t, to).ok_or_else(|| wrong(format!("the text `{t}` is no {to}")));
                let bits = self.texts_of(arg(0)?).iter().map(one).collect::<Done<Vec<u64>>>()?;
                Tensor::from_bits(to, arg(0)?.dims.clone(), bits)
            }
            HostOp::ListOf => {
                let items = (x.iter().zip(takes)).map(|(t, d)| self.element(t, *d)).collect::<Done<Vec<_>>>()?;
                number(self.list_new(items))
            }
            HostOp::ListLength => number(listed(self)?.len() as i64),
            HostOp::ListAt | HostOp::OptionalGet => {
                let l = listed(self)?;
                let at = if op == HostOp::ListAt { place(arg(1)?, l.len(), 0)? } else { 0 };
                let item = l.get(at).ok_or_else(|| wrong("the optional has no value"))?;
                match item {
                    Item::List(n) => number(*n),
                    Item::Tensor(t) if gives.first() != Some(&t.dtype) => {
                        return Err(wrong(format!("an element of the list is {}", t.dtype)));
                    }
                    Item::Tensor(t) if t.dtype == DType::Str => t.as_handle(DType::I64),
                    Item::Tensor(t) => t.clone(),
                }
            }
            HostOp::ListInsert => {
                let mut l = listed(self)?.to_vec();
                let at = match x.get(2) {
                    Some(p) => place(p, l.len(), 1)?,
                    None => l.len(),
                };
                let item = self.element(arg(1)?, takes.get(1).copied().ok_or_else(broken)?)?;
                l.insert(at, item);
                number(self.list_new(l))
            }
            HostOp::ListErase => {
                let mut l = listed(self)?.to_vec();
                if l.is_empty() {
                    return Err(wrong("the list is empty"));
                }
                let at = match x.get(1) {
                    Some(p) => place(p, l.len(), 0)?,
                    None => l.len() - 1,
                };
                l.remove(at);
                number(self.list_new(l))
            }
            HostOp::ListSplit => {
                let t = arg(0)?.as_handle(takes.first().copied().ok_or_else(broken)?);
                let parts = parts(&t, param(0)?, param(1)?, x.get(1))?;
                number(self.list_new(parts.into_iter().map(Item::Tensor).collect()))
            }
            HostOp::ListConcat => {
                let axis = usize::try_from(param(0)?).map_err(|_| broken())?;
                let fresh = param(1)? != 0;
                let mut all = Vec::new();
                for i in listed(self)?.iter() {
                    let Item::Tensor(t) = i else { return Err(broken()) };
                    let mut dims = t.dims.clone();
                    if fresh {
                        dims.insert(axis.min(dims.len()), 1);
                    }
                    all.push(movement::reshape(&t.as_number(), dims)?);
                }
                if all.is_empty() {
                    return Err(wrong("the list is empty, so what it joins to has no shape"));
                }
                let same = |t: &Tensor| t.dims.iter().enumerate().all(|(a, d)| a == axis || all[0].dims.get(a) == Some(d));
                if axis >= all[0].rank() || !all.iter().all(|t| t.rank() == all[0].rank() && same(t)) {
                    return Err(wrong("the elements of the list have dims that do not join"));
                }
                movement::concat(&all.iter().collect::<Vec<_>>(), axis)?
            }
            HostOp::ZipMap => {
                let keys = self.element(arg(1)?, takes.get(1).copied().ok_or_else(broken)?)?;
                let rows = parts(arg(0)?, 0, 0, None)?;
                let maps: Vec<Item> = rows.into_iter().map(|r| Item::List(self.list_new(vec![keys.clone(), Item::Tensor(r)]))).collect();
                number(self.list_new(maps))
            }
            HostOp::MapLookup | HostOp::MapValues => {
                let l = listed(self)?;
                let [Item::Tensor(keys), Item::Tensor(values)] = l.as_slice() else { return Err(broken()) };
                let have = keys.to_ids();
                let wanted = if op == HostOp::MapLookup {
                    arg(1)?.to_ids()
                } else {
                    let mut sorted = have.clone();
                    sorted.sort_unstable();
                    sorted
                };
                let bits = wanted.iter().map(|k| have.iter().rposition(|h| h == k).map_or(0, |i| values.bits(i)));
                let dtype = if values.dtype == DType::Str { DType::I64 } else { values.dtype };
                Tensor::from_bits(dtype, vec![1, wanted.len()], bits.collect::<Vec<_>>())
            }
            HostOp::ImageDecode => {
                let unread = || Fault::new(Code::NOT_SUPPORTED, "this interpreter was given nothing that reads images");
                let read = self.images.ok_or_else(unread)?;
                let (dims, pixels) = read(arg(0)?.bytes(), param(0)?).map_err(wrong)?;
                Tensor::new(DType::U8, dims.to_vec(), pixels).ok_or_else(broken)?
            }
        };
        Ok(vec![one])
    }

    fn element(&self, t: &Tensor, d: DType) -> Done<Item> {
        match d {
            DType::List => t.to_ids().first().copied().map(Item::List).ok_or_else(broken),
            DType::Str => Ok(Item::Tensor(t.as_handle(DType::Str))),
            _ => Ok(Item::Tensor(t.clone())),
        }
    }
    fn matrix(&mut self, dims: &[usize], rows: &[Vec<&str>], pad: &str) -> Tensor {
        let most = rows.iter().map(Vec::len).max().unwrap_or(0);
        let filled = rows.iter().flat_map(|r| r.iter().copied().chain(std::iter::repeat_n(pad, most - r.len())));
        self.numbers([dims, &[most]].concat(), filled.collect::<Vec<_>>())
    }
}

/// A position that may count from the end.
fn place(p: &Tensor, len: usize, end: usize) -> Done<usize> {
    let p = *p.to_ids().first().ok_or_else(broken)?;
    let at = if p < 0 { p.saturating_add(len as i64) } else { p };
    let at = usize::try_from(at).ok().filter(|a| *a < len + end);
    at.ok_or_else(|| Fault::new(Code::RUN_FAILED, format!("position {p} in a list of {len} elements")))
}

fn parts(t: &Tensor, axis: i64, mode: i64, sizes: Option<&Tensor>) -> Done<Vec<Tensor>> {
    let axis = usize::try_from(axis).ok().filter(|a| *a < t.rank()).ok_or_else(broken)?;
    let d = t.dims[axis];
    let sizes: Vec<usize> = match (mode, sizes.map(Tensor::to_ids)) {
        (0 | 1, _) => vec![1; d],
        (2, Some(s)) => {
            let each = s.first().and_then(|s| usize::try_from(*s).ok()).filter(|s| *s > 0);
            let each = each.ok_or_else(|| wrong(format!("parts of {s:?}")))?;
            (0..d.div_ceil(each)).map(|i| each.min(d - i * each)).collect()
        }
        (_, Some(s)) => {
            let all: Option<Vec<usize>> = s.iter().map(|s| usize::try_from(*s).ok()).collect();
            all.filter(|a| a.iter().sum::<usize>() == d).ok_or_else(|| wrong(format!("parts of {s:?} of a dim of {d}")))?
        }
        _ => return Err(broken()),
    };
    let mut out = Vec::new();
    let mut from = 0;
    for n in sizes {
        let (mut starts, mut dims) = (vec![0i64; t.rank()], t.dims.clone());
        starts[axis] = from as i64;
        dims[axis] = n;
        let part = movement::slice(&t.as_number(), &starts, &vec![1; t.rank()], dims.clone())?;
        if mode == 0 {
            dims.remove(axis);
        }
        out.push(movement::reshape(&part, dims)?.as_handle(t.dtype));
        from += n;
    }
    Ok(out)
}

fn cased(t: &str, action: i64) -> String {
    // One character for one, as simple case mapping has it.
    let single = |c: char, mut mapped: Box<dyn Iterator<Item = char>>| match (mapped.next(), mapped.next()) {
        (Some(m), None) => m,
        _ => c,
    };
    match action {
        1 => t.chars().map(|c| single(c, Box::new(c.to_lowercase()))).collect(),
        2 => t.chars().map(|c| single(c, Box::new(c.to_uppercase()))).collect(),
        _ => t.to_owned(),
    }
}

fn split<'t>(t: &'t str, delimiter: &str, most: i64) -> Vec<&'t str> {
    let most = usize::try_from(most).unwrap_or(usize::MAX - 1);
    if !delimiter.is_empty() {
        return t.splitn(most + 1, delimiter).collect();
    }
    let space = |c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c);
    let mut out = Vec::new();
    let mut rest = t.trim_start_matches(space);
    while !rest.is_empty() {
        if out.len() == most {
            out.push(rest);
            break;
        }
        let end = rest.find(space).unwrap_or(rest.len());
        out.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(space);
    }
    out
}

fn tokens<'t>(t: &'t str, params: &[i64], words: &[i64]) -> Option<Vec<&'t str>> {
    let &[kind, mark, fewest] = params else { return None };
    let (mut count, mut rest) = words.split_first().map(|(n, r)| (*n, r))?;
    let mut parts = vec![t];
    while count > 0 {
        let (&n, program) = rest.split_first()?;
        let n = usize::try_from(n).ok()?;
        let r = Regex::new(program.get(..n)?)?;
        rest = program.get(n..)?;
        count -= 1;
        parts = parts.into_iter().flat_map(|p| cut(p, &r, kind, fewest)).collect();
    }
    if kind == 2 {
        parts = t.char_indices().map(|(i, c)| &t[i..i + c.len_utf8()]).collect();
    }
    let (begin, end) = if mark != 0 { (Some("\x02"), Some("\x03")) } else { (None, None) };
    Some(begin.into_iter().chain(parts).chain(end).collect())
}

fn cut<'t>(t: &'t str, r: &Regex<'_>, kind: i64, fewest: i64) -> Vec<&'t str> {
    let mut out = Vec::new();
    let mut from = 0;
    let mut keep = |part: &'t str| {
        if part.chars().count() as i64 >= fewest {
            out.push(part);
        }
    };
    while let Some((begin, end)) = r.find(t, from) {
        keep(if kind == 0 { &t[begin..end] } else { &t[from..begin] });
        from = end;
        if end == begin {
            match t[from..].chars().next() {
                Some(c) => from += c.len_utf8(),
                None => return out,
            }
        }
    }
    if kind == 1 {
        keep(&t[from..]);
    }
    out
}
