// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a case is run with and must give: `.expect` files, which `cases/core/gen.py` writes and describes.

use std::collections::HashMap;

use portwright_ir::dtype::DType;
use portwright_ir::graph::Graph;
use portwright_ir::graph::interp::Tensor;
use portwright_ir::numerics;

/// Elements at which arithmetic has edges; the table of `gen.py`.
const SPECIAL: [f32; 16] = [
    0.0,
    -0.0,
    1e-40,
    -1e-40,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    65504.0,
    65520.0,
    6e-8,
    2.9e-8,
    1.000_488_3,
    1.001_464_8,
    -2.5,
];

/// How an input departs from its seed.
#[derive(Default)]
struct Rule {
    special: usize,
    modulo: Option<i64>,
    times: Option<f32>,
}

/// An output with its bound.
pub struct Output {
    /// Name.
    pub name: String,
    /// What it must be near.
    pub want: Tensor,
    /// Number of rounded operations on the longest way to an element; 0 asks for equal bits.
    pub length: f64,
    /// Bound of the sum of the absolute values of an element's terms.
    pub scale: f64,
}

/// A whole file.
pub struct Expect {
    rules: HashMap<String, Rule>,
    /// Outputs in order.
    pub outputs: Vec<Output>,
}

/// Reads a file.
pub fn parse(text: &str) -> Result<Expect, String> {
    let mut e = Expect { rules: HashMap::new(), outputs: Vec::new() };
    let mut elems: Vec<f64> = Vec::new();
    let mut open: Option<(String, DType, Vec<usize>, f64, f64)> = None;
    let close = |open: &mut Option<(String, DType, Vec<usize>, f64, f64)>, elems: &mut Vec<f64>, outputs: &mut Vec<Output>| {
        if let Some((name, dtype, dims, length, scale)) = open.take() {
            if dims.iter().product::<usize>() != elems.len() {
                return Err(format!("output {name}: {} elements for {dims:?}", elems.len()));
            }
            outputs.push(Output { name, want: Tensor::from_f64(dtype, dims, elems), length, scale });
            elems.clear();
        }
        Ok(())
    };
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["input", name, rest @ ..] => {
                let mut r = Rule::default();
                for pair in rest.chunks(2) {
                    match pair {
                        ["special", n] => r.special = number(n)?,
                        ["modulo", n] => r.modulo = Some(number(n)?),
                        ["times", n] => r.times = Some(number(n)?),
                        _ => return Err(format!("`{line}`")),
                    }
                }
                e.rules.insert((*name).to_owned(), r);
            }
            ["output", name, ty, "length", length, "scale", scale] => {
                close(&mut open, &mut elems, &mut e.outputs)?;
                let (dtype, dims) = ty.trim_end_matches(']').split_once('[').ok_or_else(|| format!("`{line}`"))?;
                let dtype = DType::from_name(dtype).ok_or_else(|| format!("`{line}`"))?;
                let dims = dims.split(',').filter(|d| !d.is_empty()).map(number).collect::<Result<_, _>>()?;
                open = Some(((*name).to_owned(), dtype, dims, number(length)?, number(scale)?));
            }
            words => {
                for w in words {
                    // A decimal of f32 is read as f32: through f64 it could round twice.
                    let f32s = open.as_ref().is_some_and(|o| o.1 == DType::F32);
                    elems.push(if f32s { f64::from(number::<f32>(w)?) } else { number(w)? });
                }
            }
        }
    }
    close(&mut open, &mut elems, &mut e.outputs)?;
    Ok(e)
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

impl Expect {
    /// The inputs of a graph whose dims are all numbers.
    pub fn inputs(&self, g: &Graph) -> Result<Vec<Tensor>, String> {
        let one = |(i, v): (usize, &portwright_ir::graph::ValueId)| {
            let ty = g.ty(*v);
            let name = g.value(*v).name.as_deref().unwrap_or_default().to_owned();
            let dims = ty.static_dims().ok_or_else(|| format!("input {name} is {ty}"))?;
            let bytes = numerics::seeded_bytes(1000 + i as u64, ty.dtype, &dims).ok_or("an input is too large")?;
            let sizes: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
            let seeded = Tensor::new(ty.dtype, sizes.clone(), bytes).ok_or("an input of no numbers")?;
            let Some(r) = self.rules.get(&name) else { return Ok(seeded) };
            let mut bits: Vec<u64> = seeded.all_bits().collect();
            for (k, b) in bits.iter_mut().enumerate() {
                if let Some(m) = r.modulo {
                    let v = numerics::int_from_bits(ty.dtype, *b).rem_euclid(i128::from(m));
                    *b = numerics::int_to_bits(ty.dtype, v);
                }
                if let Some(t) = r.times {
                    *b = u64::from((f32::from_bits(*b as u32) * t).to_bits());
                }
                if k < r.special {
                    *b = u64::from(SPECIAL[k].to_bits());
                }
            }
            Ok(Tensor::from_bits(ty.dtype, sizes, bits))
        };
        g.inputs().iter().enumerate().map(one).collect()
    }

    /// Compares outputs with what is expected from outside: zeros of both signs are equal there.
    pub fn check(&self, got: &[Tensor]) -> Result<(), String> {
        if got.len() != self.outputs.len() {
            return Err(format!("{} outputs, expected {}", got.len(), self.outputs.len()));
        }
        self.outputs.iter().zip(got).try_for_each(|(o, g)| near(o, &o.want, g, false))
    }

    /// Compares outputs of two of our own ways to run a case.
    pub fn agree(&self, want: &[Tensor], got: &[Tensor]) -> Result<(), String> {
        if got.len() != want.len() || want.len() != self.outputs.len() {
            return Err(format!("{} outputs, expected {}", got.len(), want.len()));
        }
        self.outputs.iter().zip(want.iter().zip(got)).try_for_each(|(o, (w, g))| near(o, w, g, true))
    }
}

fn near(o: &Output, want: &Tensor, got: &Tensor, signs: bool) -> Result<(), String> {
    if (want.dtype, &want.dims) != (got.dtype, &got.dims) {
        return Err(format!("output {} is {}{:?}, expected {}{:?}", o.name, got.dtype, got.dims, want.dtype, want.dims));
    }
    let eps = match want.dtype {
        DType::F64 => f64::EPSILON,
        d => d.float_format().map_or(0.0, |f| 2f64.powi(-(f.mantissa_bits as i32))),
    };
    let bound = o.length * eps * o.scale;
    let (a, b) = (want.to_f64(), got.to_f64());
    for (k, (x, y)) in a.iter().zip(&b).enumerate() {
        let equal = if signs { x.to_bits() == y.to_bits() } else { x == y };
        if !(equal || (x.is_nan() && y.is_nan()) || (bound > 0.0 && (x - y).abs() <= bound)) {
            return Err(format!("output {} element {k} of {:?} is {y:e}, expected {x:e} within {bound:e}", o.name, want.dims));
        }
    }
    Ok(())
}
