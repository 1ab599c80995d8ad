// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Between a bundle's inputs and outputs and named arrays: order, dtypes, and inputs made up from a seed.

use crate::dtype;
use crate::load::{Info, LoadError, Status};
use crate::npz::Array;
use crate::tensor::{Bytes, Tensor, View};
use std::collections::BTreeMap;

fn error<T>(status: Status, message: String) -> Result<T, LoadError> {
    Err(LoadError { status, message })
}

/// The tensors for [`crate::load::Session::run`], from arrays by input name.
///
/// # Errors
/// [`Status::Name`] when a name is unknown, missing or there twice, [`Status::Dtype`] when an array cannot be read as the
/// input's dtype. Shapes are checked by the run.
pub fn inputs(infos: &[Info], arrays: Vec<(String, Array)>) -> Result<Vec<Tensor>, LoadError> {
    let mut by_name: BTreeMap<String, Array> = BTreeMap::new();
    for (name, array) in arrays {
        if !infos.iter().any(|i| i.name == name) {
            let known: Vec<&str> = infos.iter().map(|i| i.name.as_str()).collect();
            return error(Status::Name, format!("there is no input {name:?}; the model has {}", known.join(", ")));
        }
        if by_name.insert(name.clone(), array).is_some() {
            return error(Status::Name, format!("the input {name:?} is given twice"));
        }
    }
    let mut tensors = Vec::with_capacity(infos.len());
    for info in infos {
        let Some(array) = by_name.remove(&info.name) else {
            return error(Status::Name, format!("the input {:?} is missing", info.name));
        };
        match array.into_tensor(info.dtype) {
            Ok(t) => tensors.push(t),
            Err(e) => return error(Status::Dtype, format!("input {:?}: {e}", info.name)),
        }
    }
    Ok(tensors)
}

/// Outputs of a run as arrays by output name.
///
/// # Errors
/// [`Status::Dtype`] for what arrays cannot hold.
pub fn outputs(infos: &[Info], values: &[View<'_>]) -> Result<Vec<(String, Array)>, LoadError> {
    let mut arrays = Vec::with_capacity(infos.len());
    for (info, value) in infos.iter().zip(values) {
        match Array::from_tensor(&value.to_tensor()) {
            Ok(a) => arrays.push((info.name.clone(), a)),
            Err(e) => return error(Status::Dtype, format!("output {:?}: {e}", info.name)),
        }
    }
    Ok(arrays)
}

/// A generator that gives the same numbers everywhere (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of that seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A multiple of 2^-23 in [-1, 1).
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Inputs made up from a seed, the same on every machine. Floats lie in [-1, 1); integers and truth values are 0 or 1, which are
/// good as indices, masks and lengths. A symbolic dim has the size that `dims` gives its name, else its smallest, at least 1.
///
/// # Errors
/// [`Status::Dtype`] for inputs that are not tensors of numbers, [`Status::Shape`] for ones that do not fit memory.
pub fn random(infos: &[Info], dims: &BTreeMap<String, i64>, seed: u64) -> Result<Vec<Tensor>, LoadError> {
    let mut random = Random::new(seed);
    let mut tensors = Vec::with_capacity(infos.len());
    for info in infos {
        let shape: Vec<i64> =
            info.dims.iter().map(|d| d.symbol.as_ref().map_or(d.min, |s| dims.get(s).copied().unwrap_or(d.min.max(1)))).collect();
        let Some(d) = dtype::by_code(info.dtype).filter(|d| d.bits > 0 && info.kind == crate::blob::Kind::Tensor) else {
            return error(Status::Dtype, format!("the input {:?} is not a tensor of numbers", info.name));
        };
        let bytes = dtype::tensor_bytes(d.code, &shape).and_then(|n| usize::try_from(n).ok());
        let Some(mut data) = bytes.and_then(Bytes::try_zeroed) else {
            return error(Status::Shape, format!("the input {:?} of shape {shape:?} does not fit memory", info.name));
        };
        fill(&mut data, d, &mut random);
        if let (true, Some(last)) = (d.bits < 8, data.last_mut()) {
            // Bits behind the last element are zero.
            let used = dtype::elements(&shape).unwrap_or(0) * u64::from(d.bits) % 8;
            *last &= if used == 0 { 0xff } else { (1u8 << used) - 1 };
        }
        tensors.push(Tensor { dtype: d.code, dims: shape, data });
    }
    Ok(tensors)
}

fn fill(data: &mut [u8], d: &dtype::DtypeInfo, random: &mut Random) {
    let mut each = |size: usize, mut f: Box<dyn FnMut(&mut Random) -> u64>| {
        for slot in data.chunks_exact_mut(size) {
            slot.copy_from_slice(&f(random).to_le_bytes()[..size]);
        }
    };
    match d.name {
        "f32" | "c64" => each(4, Box::new(|r| u64::from(r.float().to_bits()))),
        "f64" | "c128" => each(8, Box::new(|r| f64::from(r.float()).to_bits())),
        "f16" => each(2, Box::new(|r| u64::from(half::f16::from_f32(r.float()).to_bits()))),
        "bf16" => each(2, Box::new(|r| u64::from(half::bf16::from_f32(r.float()).to_bits()))),
        // 2^-2 to 2^1.
        "f8e8m0" => each(1, Box::new(|r| 125 + (r.bits() & 3))),
        // Magnitudes up to 2, either sign, never the patterns of NaN.
        n if n.starts_with("f8") => each(1, Box::new(|r| r.bits() & 0xbf | 1)),
        // No pattern of these is special.
        "f4e2m1" => each(1, Box::new(Random::bits)),
        n if n.starts_with("f6") => each(1, Box::new(|r| r.bits() & 0x3f)),
        "u4" | "i4" => each(1, Box::new(|r| r.bits() & 0x11)),
        "u2" | "i2" => each(1, Box::new(|r| r.bits() & 0x55)),
        _ => each(d.bits as usize / 8, Box::new(|r| r.bits() >> 63)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::InfoDim;

    fn info(name: &str, dtype: i32, dims: &[InfoDim]) -> Info {
        Info { name: name.into(), kind: Default::default(), dtype, dims: dims.to_vec(), max_bytes: None, alias_of: None, items: Vec::new() }
    }

    #[test]
    fn arrays_by_name() {
        let infos = [info("a", 1, &[]), info("b", 16, &[])];
        let array = |code, bytes: &[u8]| Array::Numbers(Tensor::new(code, &[], bytes).unwrap());
        let given = |names: &[(&str, Array)]| names.iter().map(|(n, a)| (n.to_string(), a.clone())).collect::<Vec<_>>();
        let (a, b) = (array(1, &[0; 4]), array(4, &[1, 2]));
        let t = inputs(&infos, given(&[("b", b.clone()), ("a", a.clone())])).unwrap();
        assert_eq!((t[0].dtype, t[1].dtype), (1, 16));
        let out = outputs(&infos, &[t[0].view(), t[1].view()]).unwrap();
        assert_eq!(out, given(&[("a", a.clone()), ("b", b.clone())]));
        for (names, status, text) in [
            (given(&[("a", a.clone())]), Status::Name, "\"b\" is missing"),
            (given(&[("c", a.clone())]), Status::Name, "no input \"c\"; the model has a, b"),
            (given(&[("a", a.clone()), ("a", a.clone())]), Status::Name, "twice"),
            (given(&[("a", b.clone()), ("b", b)]), Status::Dtype, "input \"a\": u16 where f32"),
        ] {
            let e = inputs(&infos, names).unwrap_err();
            assert!(e.status == status && e.message.contains(text), "{e:?}");
        }
    }

    #[test]
    fn made_up_inputs_are_the_same_everywhere_and_harmless() {
        let n = InfoDim { symbol: Some("N".into()), min: 0, max: i64::MAX };
        let five = InfoDim { symbol: None, min: 5, max: 5 };
        let infos: Vec<Info> = dtype::ALL.iter().filter(|d| d.bits > 0).map(|d| info(d.name, d.code, &[n.clone(), five.clone()])).collect();
        let t = random(&infos, &BTreeMap::from([("N".into(), 3)]), 7).unwrap();
        assert_eq!(t, random(&infos, &BTreeMap::from([("N".into(), 3)]), 7).unwrap());
        assert!(t.iter().all(|t| t.dims == [3, 5]));
        let floats: Vec<f32> = t[0].data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert!(floats.iter().all(|f| (-1.0..1.0).contains(f)) && floats.iter().any(|f| *f < 0.0));
        // Pinned: the first value of the sequence.
        assert_eq!(floats[0].to_bits(), Random::new(7).float().to_bits());
        assert_eq!(Random::new(0).bits(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random(&infos, &BTreeMap::new(), 7).unwrap()[0].dims, [1, 5]);
        for t in &t {
            assert_eq!(Array::from_tensor(t).unwrap().into_tensor(t.dtype).unwrap(), *t);
        }
        let e = random(&infos, &BTreeMap::from([("N".into(), i64::MAX)]), 7).unwrap_err();
        assert_eq!(e.status, Status::Shape);
    }
}
