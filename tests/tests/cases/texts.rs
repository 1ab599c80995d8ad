// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Texts and sequences as native code: cases with the results of ONNX Runtime, and against Rust's standard library what there is too much
//! of to keep: the case of every character, and numbers by their bits.

use std::path::Path;

use libtest_mimic::Trial;
use onnx_protobuf::{NodeProto, TensorProto};
use portwright_cli::place::Place;
use portwright_fuzz::draw::Draw;
use portwright_ir::dtype::DType;
use portwright_ir::graph::interp::Tensor;
use portwright_ir::texts;

use crate::build::{D, bytes, graph, int, model, node, text, value, with};
use crate::command::{portwright, scratch};
use crate::native;
use crate::skip::always;

/// Lists the trials.
pub fn trials(out: &mut Vec<Trial>) {
    out.push(always("texts/cases_of_onnx_runtime", cases));
    out.push(always("texts/case_of_every_character", every_character));
    out.push(always("texts/numbers_by_their_bits", numbers));
}

fn cases() -> Result<(), String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/texts");
    let count = std::fs::read_dir(&own).map_err(|e| e.to_string())?.flatten().filter(|e| e.path().is_dir()).count();
    let e = portwright(&scratch("texts")?, &["--quiet", "suite", &own.display().to_string()])?;
    match e.stdout.lines().last() {
        Some(line) if line == format!("{count} passed, 0 failed, 0 unsupported") => Ok(()),
        _ => Err(format!("exit code {}\n{}{}", e.code, e.stdout, e.stderr)),
    }
}

/// A constant of texts.
fn table(name: &str, texts: &[String]) -> TensorProto {
    let string_data = texts.iter().map(|t| t.clone().into_bytes()).collect();
    TensorProto { name: name.into(), dims: vec![texts.len() as i64], data_type: 8, string_data, ..Default::default() }
}

/// Runs nodes over constants of texts and an input `x`; the first output.
fn run(name: &str, nodes: Vec<NodeProto>, tables: Vec<TensorProto>, x: &Tensor, out: i32) -> Result<Tensor, String> {
    let folder = scratch(name)?;
    let n = D::V(x.dims[0] as i64);
    let elem = portwright_targets::compile::onnx_dtype(x.dtype);
    let mut g = graph(nodes, vec![value("x", elem, &[n])], vec![value("y", out, &[D::P("n")])]);
    g.initializer = tables;
    std::fs::write(folder.join("model.onnx"), bytes(&model(g))).map_err(|e| e.to_string())?;
    let at = native::bundle(&folder.join("model.onnx"), "host", None, &folder.join("model.pw"))?;
    let got = native::run(&at, &Place::Here, 1, std::slice::from_ref(x))?;
    got.into_iter().next().ok_or_else(|| "no output".to_owned())
}

/// Characters whose other case is younger than the runtime's table (Unicode 14).
fn is_younger(c: char) -> bool {
    matches!(c, '\u{a7cb}'..='\u{a7dc}' | '\u{10d50}'..='\u{10d85}' | '\u{16ea0}'..='\u{16ed3}' | '\u{264}' | '\u{19b}' | '\u{1c89}'..='\u{1c8a}')
}

fn every_character() -> Result<(), String> {
    let all: Vec<char> = ('\u{1}'..=char::MAX).filter(|c| !is_younger(*c)).collect();
    let texts: Vec<String> = all.chunks(512).map(|part| part.iter().collect()).collect();
    fn one(mut cased: impl ExactSizeIterator<Item = char>, c: char) -> char {
        if cased.len() == 1 { cased.next().unwrap_or(c) } else { c }
    }
    let rows = Tensor::from_i64(vec![texts.len()], &(0..texts.len() as i64).collect::<Vec<_>>());
    for (action, of) in [("LOWER", (|c: char| one(c.to_lowercase(), c)) as fn(char) -> char), ("UPPER", |c| one(c.to_uppercase(), c))] {
        let want: Vec<String> = texts.iter().map(|t| t.chars().map(of).collect()).collect();
        let nodes = vec![
            node("Gather", &["texts", "x"], &["t"]),
            with(with(node("StringNormalizer", &["t"], &["c"]), text("case_change_action", action)), int("is_case_sensitive", 1)),
            node("Equal", &["c", "want"], &["y"]),
        ];
        let y = run(&format!("case-{action}"), nodes, vec![table("texts", &texts), table("want", &want)], &rows, 9)?;
        if let Some(i) = y.all_bits().position(|b| b != 1) {
            return Err(format!("{action}: in {:?} to {:?}", texts[i].chars().next(), texts[i].chars().last()));
        }
    }
    Ok(())
}

/// Texts of numbers are those of Rust's standard library, and read back as the same numbers.
fn numbers() -> Result<(), String> {
    let mut d = Draw::seed(1);
    for (dtype, elem, fraction, most) in [(DType::F32, 1, 23u32, 254u64), (DType::F64, 11, 52, 2046)] {
        // Every power of two and its neighbors, and bits at random.
        let powers = (0..=most).flat_map(|e| [(e << fraction).wrapping_sub(1), e << fraction, (e << fraction) + 1]);
        let width = dtype.bits();
        let random = (0..4000).map(|_| d.next() >> (64 - width));
        let decimals = (0..60).flat_map(|e| (1..10).map(move |k| f64::from(k) * 10f64.powi(e - 30)));
        let decimals = decimals.map(|v| if dtype == DType::F32 { u64::from((v as f32).to_bits()) } else { v.to_bits() });
        let finite = |b: &u64| (b >> fraction & ((1 << (width - 1 - fraction)) - 1)) <= most;
        let bits: Vec<u64> = powers.map(|b| b & (u64::MAX >> (64 - width))).chain(random).chain(decimals).filter(finite).collect();
        let want: Vec<String> = bits.iter().map(|b| texts::of_number(dtype, *b)).collect();
        let x = Tensor::from_bits(dtype, vec![bits.len()], bits.iter().copied());
        let cast = |from: &str, to: &str, dtype: i64| with(node("Cast", &[from], &[to]), int("to", dtype));
        let y = run("number-texts", vec![cast("x", "t", 8), node("Equal", &["t", "want"], &["y"])], vec![table("want", &want)], &x, 9)?;
        if let Some(i) = y.all_bits().position(|b| b != 1) {
            return Err(format!("the text of {dtype} {:#x} is not {}", bits[i], want[i]));
        }
        let y = run("number-back", vec![cast("x", "t", 8), cast("t", "y", elem)], Vec::new(), &x, elem as i32)?;
        if let Some((got, want)) = y.all_bits().zip(&bits).find(|(got, want)| got != *want) {
            return Err(format!("{dtype} {want:#x} is read back as {got:#x}"));
        }
    }
    Ok(())
}
