// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NumPy's files: `.npy` (versions 1 to 3) and `.npz` (stored or deflated), read and written. A malformed file is an error, and
//! takes no more memory than the file itself asks for with bytes that are there.
//!
//! Dtypes that numpy lacks are kept as their bits: bf16 in uint16, 8-bit floats in uint8, types under a byte one element a
//! byte, signed ones sign-extended in int8.

use crate::dtype;
use crate::tensor::{Bytes, Tensor};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use zip::result::ZipError;

/// Highest rank that is read (numpy's own limit).
const MAX_RANK: usize = 64;
/// Longest header that is read, in bytes.
const MAX_HEADER: usize = 1 << 20;

/// An array of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Numbers: a tensor of one of the dtypes that numpy has (f16, f32, f64, u8..u64, i8..i64, bool, c64, c128).
    Numbers(Tensor),
    /// Strings, in row-major order.
    Strings {
        /// Its shape.
        dims: Vec<i64>,
        /// As many strings as the shape says.
        values: Vec<String>,
    },
}

impl Array {
    /// Its shape.
    pub fn dims(&self) -> &[i64] {
        match self {
            Array::Numbers(t) => &t.dims,
            Array::Strings { dims, .. } => dims,
        }
    }

    /// The tensor of dtype `code` (ONNX) that these numbers stand for, by the rules above.
    ///
    /// # Errors
    /// The array's dtype is not the one that such tensors are stored in, or a value does not fit the type under a byte.
    pub fn into_tensor(self, code: i32) -> Result<Tensor, NpyError> {
        let t = match self {
            Array::Numbers(t) => t,
            Array::Strings { .. } => return err(format!("strings where {} is expected", dtype::name(code))),
        };
        let (storage, bits) = (storage(code), dtype::by_code(code).map_or(0, |d| d.bits));
        if t.dtype == code {
            return Ok(t);
        }
        if storage != Some(t.dtype) {
            return err(format!("{} where {} is expected", dtype::name(t.dtype), dtype::name(code)));
        }
        if bits >= 8 {
            return Ok(Tensor { dtype: code, ..t });
        }
        let bytes = dtype::tensor_bytes(code, &t.dims).and_then(|n| usize::try_from(n).ok());
        let Some(bytes) = bytes else { return err("the shape does not fit memory") };
        let each = 8 / bits as usize;
        let mut data = Bytes::zeroed(bytes);
        let mask = (1u8 << bits) - 1;
        for (i, v) in t.data.iter().enumerate() {
            let sign = if t.dtype == 3 { (*v as i8) >> (bits - 1) } else { (*v >> bits) as i8 };
            if sign != 0 && !(t.dtype == 3 && sign == -1) {
                return err(format!("the value {} does not fit {}", *v as i8, dtype::name(code)));
            }
            if let Some(slot) = data.get_mut(i / each) {
                *slot |= (v & mask) << (bits as usize * (i % each));
            }
        }
        Ok(Tensor { dtype: code, dims: t.dims, data })
    }

    /// How a tensor is stored, by the rules above.
    ///
    /// # Errors
    /// A dtype that is not one of numbers.
    pub fn from_tensor(t: &Tensor) -> Result<Array, NpyError> {
        let bits = dtype::by_code(t.dtype).map_or(0, |d| d.bits);
        let Some(storage) = storage(t.dtype) else { return err(format!("{} is not stored in arrays", dtype::name(t.dtype))) };
        if bits >= 8 {
            return Ok(Array::Numbers(Tensor { dtype: storage, ..t.clone() }));
        }
        let count = dtype::elements(&t.dims).and_then(|n| usize::try_from(n).ok());
        let Some(count) = count else { return err("the shape does not fit memory") };
        let each = 8 / bits as usize;
        let mut data = Bytes::zeroed(count);
        for (i, slot) in data.iter_mut().enumerate() {
            let byte = t.data.get(i / each).copied().unwrap_or(0);
            let raw = byte >> (bits as usize * (i % each)) & ((1 << bits) - 1);
            // Shifted up and down again as i8, the sign spreads.
            *slot = if storage == 3 { ((raw << (8 - bits)) as i8 >> (8 - bits)) as u8 } else { raw };
        }
        Ok(Array::Numbers(Tensor { dtype: storage, dims: t.dims.clone(), data }))
    }
}

/// The dtype that numpy stores such a tensor in.
fn storage(code: i32) -> Option<i32> {
    let d = dtype::by_code(code)?;
    match d.name {
        "str" => None,
        "bf16" => Some(4),
        "i4" | "i2" => Some(3),
        "u4" | "u2" => Some(2),
        // All floats of at most a byte; numpy has those that are wider.
        n if n.starts_with('f') && d.bits <= 8 => Some(2),
        _ => Some(code),
    }
}

/// Why a file cannot be read or written.
#[derive(Debug)]
pub enum NpyError {
    /// What is wrong with the file.
    Format(String),
    /// The file system.
    Io(io::Error),
}

impl fmt::Display for NpyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NpyError::Format(why) => f.write_str(why),
            NpyError::Io(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for NpyError {}

impl From<io::Error> for NpyError {
    fn from(e: io::Error) -> NpyError {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => NpyError::Format("the file ends too early".into()),
            // What the decompressor says of damaged data.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => NpyError::Format(e.to_string()),
            _ => NpyError::Io(e),
        }
    }
}

impl From<ZipError> for NpyError {
    fn from(e: ZipError) -> NpyError {
        match e {
            ZipError::Io(e) => e.into(),
            e => NpyError::Format(format!("not a zip archive that can be read: {e}")),
        }
    }
}

fn err<T>(text: impl Into<String>) -> Result<T, NpyError> {
    Err(NpyError::Format(text.into()))
}

/// What the header of an `.npy` says.
struct Head {
    descr: String,
    fortran: bool,
    dims: Vec<i64>,
}

/// Reads an `.npy` file.
///
/// # Errors
/// A malformed file, a dtype that bundles have no use for (dates, structs, Python objects), or the file system.
pub fn read_npy(from: &mut impl Read) -> Result<Array, NpyError> {
    let mut magic = [0u8; 8];
    from.read_exact(&mut magic)?;
    if &magic[..6] != b"\x93NUMPY" {
        return err("this is not an .npy file");
    }
    let mut len = [0u8; 4];
    let wide = match magic[6] {
        1 => 2,
        2 | 3 => 4,
        v => return err(format!("version {v} of the .npy format")),
    };
    from.read_exact(&mut len[..wide])?;
    let len = u32::from_le_bytes(len) as usize;
    if len > MAX_HEADER {
        return err(format!("a header of {len} bytes"));
    }
    let text = read_up_to(from, len)?;
    let text = std::str::from_utf8(&text).map_err(|_| NpyError::Format("the header is not text".into()))?;
    let head = parse_header(text)?;
    let (order, kind) = head.descr.split_at_checked(1).unwrap_or(("", ""));
    let big = match order {
        "<" | "|" | "=" => false,
        ">" => true,
        _ => return err(format!("dtype {:?} is not supported", head.descr)),
    };
    let Some(count) = dtype::elements(&head.dims) else { return err(format!("the shape {:?} does not fit memory", head.dims)) };
    if let Some(chars) = kind.strip_prefix('U') {
        return read_strings(from, &head, chars, count, big);
    }
    // V1 and V2 are how numpy stores dtypes that it does not know, such as bf16.
    let code = match kind {
        "b1" => 9,
        "u1" | "V1" => 2,
        "i1" => 3,
        "u2" | "V2" => 4,
        "i2" => 5,
        "i4" => 6,
        "i8" => 7,
        "f2" => 10,
        "f4" => 1,
        "f8" => 11,
        "u4" => 12,
        "u8" => 13,
        "c8" => 14,
        "c16" => 15,
        _ => return err(format!("dtype {:?} is not supported", head.descr)),
    };
    let bytes = dtype::tensor_bytes(code, &head.dims).and_then(|n| usize::try_from(n).ok());
    let Some(bytes) = bytes else { return err(format!("the shape {:?} does not fit memory", head.dims)) };
    let mut raw = read_up_to(from, bytes)?;
    let (size, word) = match code {
        14 => (8, 4),
        15 => (16, 8),
        c => dtype::by_code(c).map_or((1, 1), |d| (d.bits as usize / 8, d.bits as usize / 8)),
    };
    if big && word > 1 {
        raw.chunks_exact_mut(word).for_each(<[u8]>::reverse);
    }
    if head.fortran {
        raw = to_row_major(&raw, size, &head.dims);
    }
    if code == 9 {
        raw.iter_mut().for_each(|b| *b = u8::from(*b != 0));
    }
    Ok(Array::Numbers(Tensor { dtype: code, dims: head.dims, data: raw[..].into() }))
}

/// Exactly so many bytes; the memory grows with the bytes that come.
fn read_up_to(from: &mut impl Read, bytes: usize) -> Result<Vec<u8>, NpyError> {
    let mut out = Vec::with_capacity(bytes.min(1 << 20));
    from.take(bytes as u64).read_to_end(&mut out)?;
    if out.len() < bytes {
        return err(format!("the file ends too early: {} of {bytes} bytes", out.len()));
    }
    Ok(out)
}

fn read_strings(from: &mut impl Read, head: &Head, chars: &str, count: u64, big: bool) -> Result<Array, NpyError> {
    let width: u64 = chars.parse().map_err(|_| NpyError::Format(format!("dtype {:?} is not supported", head.descr)))?;
    let bytes = width.checked_mul(4).and_then(|b| b.checked_mul(count)).and_then(|b| usize::try_from(b).ok());
    let (Some(bytes), Ok(count)) = (bytes, usize::try_from(count)) else { return err("the array does not fit memory") };
    if width == 0 && count > 1 << 24 {
        return err("too many empty strings");
    }
    let mut raw = read_up_to(from, bytes)?;
    if head.fortran {
        raw = to_row_major(&raw, 4 * width as usize, &head.dims);
    }
    let mut values = Vec::with_capacity(count);
    for i in 0..count {
        let each = raw.get(i * 4 * width as usize..(i + 1) * 4 * width as usize).unwrap_or_default();
        let mut text = String::new();
        for c in each.chunks_exact(4) {
            let c = <[u8; 4]>::try_from(c).unwrap_or_default();
            let code = if big { u32::from_be_bytes(c) } else { u32::from_le_bytes(c) };
            match char::from_u32(code) {
                Some(c) => text.push(c),
                None => return err(format!("{code:#x} is not a character")),
            }
        }
        values.push(text.trim_end_matches('\0').to_string());
    }
    Ok(Array::Strings { dims: head.dims.clone(), values })
}

/// Elements of `size` bytes from column-major to row-major order.
fn to_row_major(raw: &[u8], size: usize, dims: &[i64]) -> Vec<u8> {
    let dims: Vec<usize> = dims.iter().map(|d| *d as usize).collect();
    let mut strides = Vec::with_capacity(dims.len());
    let mut step = size;
    for d in &dims {
        strides.push(step);
        step = step.saturating_mul(*d);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut at = vec![0usize; dims.len()];
    let mut offset = 0;
    while out.len() < raw.len() && size > 0 {
        out.extend_from_slice(raw.get(offset..offset + size).unwrap_or_default());
        for axis in (0..dims.len()).rev() {
            at[axis] += 1;
            offset += strides[axis];
            if at[axis] < dims[axis] {
                break;
            }
            offset -= strides[axis] * dims[axis];
            at[axis] = 0;
        }
    }
    out
}

/// A Python dict literal with the three keys that numpy writes.
fn parse_header(text: &str) -> Result<Head, NpyError> {
    let bad = |what: &str| NpyError::Format(format!("the header {:?} has no good {what}", text.trim_end()));
    let value = |key: &str| -> Option<&str> {
        let at = ['\'', '"'].iter().find_map(|q| text.find(&format!("{q}{key}{q}")))?;
        text.get(at + key.len() + 2..)?.trim_start().strip_prefix(':').map(str::trim_start)
    };
    let quoted = |s: &str| -> Option<String> {
        let quote = s.chars().next().filter(|c| *c == '\'' || *c == '"')?;
        s.get(1..)?.split(quote).next().map(str::to_string)
    };
    let descr = value("descr").and_then(quoted).ok_or_else(|| bad("descr"))?;
    let fortran = match value("fortran_order") {
        Some(v) if v.starts_with("True") => true,
        Some(v) if v.starts_with("False") => false,
        _ => return Err(bad("fortran_order")),
    };
    let shape = value("shape").and_then(|v| v.strip_prefix('(')).and_then(|v| v.split_once(')')).ok_or_else(|| bad("shape"))?.0;
    let mut dims = Vec::new();
    for part in shape.split(',').map(str::trim) {
        if part.is_empty() {
            continue;
        }
        // Python 2 wrote long integers with an L.
        let n: i64 = part.trim_end_matches('L').parse().map_err(|_| bad("shape"))?;
        if n < 0 || dims.len() == MAX_RANK {
            return Err(bad("shape"));
        }
        dims.push(n);
    }
    Ok(Head { descr, fortran, dims })
}

/// Writes an `.npy` file, version 1, row-major, little-endian.
///
/// # Errors
/// A dtype that numpy lacks ([`Array::from_tensor`] converts it), or the file system.
pub fn write_npy(to: &mut impl Write, array: &Array) -> Result<(), NpyError> {
    let mut strings = Vec::new();
    let (descr, dims, data): (String, _, &[u8]) = match array {
        Array::Numbers(t) => {
            let descr = match t.dtype {
                1 => "<f4",
                2 => "|u1",
                3 => "|i1",
                4 => "<u2",
                5 => "<i2",
                6 => "<i4",
                7 => "<i8",
                9 => "|b1",
                10 => "<f2",
                11 => "<f8",
                12 => "<u4",
                13 => "<u8",
                14 => "<c8",
                15 => "<c16",
                c => return err(format!("numpy has no dtype {}", dtype::name(c))),
            };
            (descr.into(), &t.dims, &t.data)
        }
        Array::Strings { dims, values } => {
            let width = values.iter().map(|v| v.chars().count()).max().unwrap_or(0).max(1);
            for v in values {
                let chars = v.chars().map(u32::from).chain(std::iter::repeat(0)).take(width);
                chars.for_each(|c| strings.extend_from_slice(&c.to_le_bytes()));
            }
            (format!("<U{width}"), dims, &strings)
        }
    };
    let shape: Vec<String> = dims.iter().map(i64::to_string).collect();
    let comma = if dims.len() == 1 { "," } else { "" };
    let mut head = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", shape.join(", "));
    // The data begins at a multiple of 64.
    while (10 + head.len() + 1) % 64 != 0 {
        head.push(' ');
    }
    head.push('\n');
    let len = u16::try_from(head.len()).map_err(|_| NpyError::Format("the shape is too long".into()))?;
    to.write_all(b"\x93NUMPY\x01\x00")?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(head.as_bytes())?;
    to.write_all(data)?;
    Ok(())
}

/// Reads all arrays of an `.npz`, in the order of the archive, by their names without `.npy`.
///
/// # Errors
/// As [`read_npy`], naming the array; not an archive; two arrays of one name.
pub fn read_npz(from: impl Read + Seek) -> Result<Vec<(String, Array)>, NpyError> {
    let mut archive = zip::ZipArchive::new(from)?;
    let mut all: Vec<(String, Array)> = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i)?;
        if entry.is_dir() {
            continue;
        }
        let name = entry.name().strip_suffix(".npy").unwrap_or(entry.name()).to_string();
        let array = read_npy(&mut entry).map_err(|e| match e {
            NpyError::Format(why) => NpyError::Format(format!("array {name:?}: {why}")),
            e => e,
        })?;
        if all.iter().any(|(n, _)| *n == name) {
            return err(format!("the array {name:?} is there twice"));
        }
        all.push((name, array));
    }
    Ok(all)
}

/// Writes an `.npz`, uncompressed. The same arrays give the same bytes.
///
/// # Errors
/// As [`write_npy`].
pub fn write_npz(to: impl Write + Seek, arrays: &[(String, Array)]) -> Result<(), NpyError> {
    let mut archive = zip::ZipWriter::new(to);
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o644)
        .large_file(arrays.iter().any(|(_, a)| matches!(a, Array::Numbers(t) if t.data.len() > 1 << 31)));
    for (name, array) in arrays {
        archive.start_file(format!("{name}.npy"), options)?;
        write_npy(&mut archive, array)?;
    }
    archive.finish()?;
    Ok(())
}

/// [`read_npz`] of a file.
///
/// # Errors
/// As there.
pub fn load_npz(path: &Path) -> Result<Vec<(String, Array)>, NpyError> {
    read_npz(io::BufReader::new(File::open(path).map_err(NpyError::Io)?))
}

/// [`write_npz`] to a file, which is removed again when that fails.
///
/// # Errors
/// As there.
pub fn save_npz(path: &Path, arrays: &[(String, Array)]) -> Result<(), NpyError> {
    let file = File::create(path).map_err(NpyError::Io)?;
    let result = write_npz(io::BufWriter::new(file), arrays);
    if result.is_err() {
        let _ = std::fs::remove_file(path);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn numbers(code: i32, dims: &[i64]) -> Array {
        let n = dtype::tensor_bytes(code, dims).unwrap();
        let data: Vec<u8> = (0..n).map(|i| if code == 9 { (i % 2) as u8 } else { (i * 37) as u8 }).collect();
        Array::Numbers(Tensor::new(code, dims, &data).unwrap())
    }

    fn npy(head: &str, data: &[u8]) -> Result<Array, NpyError> {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend_from_slice(&(head.len() as u16).to_le_bytes());
        file.extend_from_slice(head.as_bytes());
        file.extend_from_slice(data);
        read_npy(&mut &file[..])
    }

    #[test]
    fn arrays_round_trip() {
        let mut all: Vec<(String, Array)> = Vec::new();
        for d in dtype::ALL.iter().filter(|d| storage(d.code) == Some(d.code)) {
            for dims in [&[][..], &[0], &[5], &[2, 3, 4]] {
                all.push((format!("{}/{}", d.name, dims.len() + dims.first().map_or(9, |d| *d as usize)), numbers(d.code, dims)));
            }
        }
        let text = |v: &[&str]| v.iter().map(|s| s.to_string()).collect();
        all.push(("s".into(), Array::Strings { dims: vec![2, 2], values: text(&["", "héllo", "日本", "a b"]) }));
        let mut file = Cursor::new(Vec::new());
        write_npz(&mut file, &all).unwrap();
        let mut again = Cursor::new(Vec::new());
        write_npz(&mut again, &all).unwrap();
        assert_eq!(file.get_ref(), again.get_ref());
        assert_eq!(read_npz(&mut file).unwrap(), all);
    }

    #[test]
    fn dtypes_that_numpy_lacks_keep_their_bits() {
        for d in dtype::ALL.iter().filter(|d| d.bits > 0) {
            for dims in [&[7][..], &[3, 5], &[0]] {
                let n = dtype::tensor_bytes(d.code, dims).unwrap() as usize;
                let mut data: Vec<u8> = (0..n).map(|i| (i * 151 + 89) as u8).collect();
                let used = dtype::elements(dims).unwrap() as usize * d.bits as usize % 8;
                if let (Some(last), true) = (data.last_mut(), used > 0) {
                    *last &= (1 << used) - 1;
                }
                let t = Tensor::new(d.code, dims, &data).unwrap();
                let a = Array::from_tensor(&t).unwrap();
                assert_eq!(a.into_tensor(d.code).unwrap(), t, "{}", d.name);
            }
        }
        for (code, d) in [(1, 1), (11, 11), (16, 4), (17, 2), (23, 2), (27, 2), (28, 2)] {
            assert_eq!(storage(code), Some(d), "{}", dtype::name(code));
        }
        let i4 = Tensor::new(22, &[2], &[0x7f]).unwrap();
        let Array::Numbers(a) = Array::from_tensor(&i4).unwrap() else { panic!("strings") };
        assert_eq!((a.dtype, &a.data[..]), (3, &[0xff, 7][..]));
        assert!(Array::Numbers(Tensor::new(3, &[1], &[8]).unwrap()).into_tensor(22).is_err());
        assert!(Array::Numbers(Tensor::new(2, &[1], &[16]).unwrap()).into_tensor(21).is_err());
        assert!(Array::Numbers(Tensor::new(2, &[1], &[16]).unwrap()).into_tensor(1).is_err());
    }

    #[test]
    fn forms_that_numpy_writes() {
        let want = Tensor::new(5, &[2, 3], &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]).unwrap();
        let c = npy("{'descr': '>i2', 'fortran_order': False, 'shape': (2, 3), }\n", &[0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6]);
        let f = npy("{'descr':'<i2','fortran_order':True,'shape':(2L, 3L)}", &[1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6, 0]);
        assert_eq!(c.unwrap(), Array::Numbers(want.clone()));
        assert_eq!(f.unwrap(), Array::Numbers(want));
        let v = npy("{\"descr\": \"<V2\", \"fortran_order\": False, \"shape\": (1,)}", &[7, 8]).unwrap();
        assert_eq!(v, Array::Numbers(Tensor::new(4, &[1], &[7, 8]).unwrap()));
    }

    #[test]
    fn malformed_files_are_errors() {
        for head in [
            "",
            "{'descr': '<f4'}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}",
            "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,)}",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<U4611686018427387904', 'fortran_order': False, 'shape': (9,)}",
            "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}",
            "{'descr': 'é', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '', 'fortran_order': False, 'shape': (1,)}",
        ] {
            assert!(npy(head, &[0; 3]).is_err(), "{head}");
        }
        assert!(npy("{'descr': '<U1', 'fortran_order': False, 'shape': ()}", &[0, 0, 0x11, 0]).is_err());
        let all = vec![("a".to_string(), numbers(1, &[3, 4])), ("b".into(), numbers(9, &[5]))];
        let mut file = Cursor::new(Vec::new());
        write_npz(&mut file, &all).unwrap();
        let good = file.into_inner();
        for cut in 0..good.len() {
            assert!(read_npz(Cursor::new(&good[..cut])).is_err());
        }
        let mut state = 7u64;
        for _ in 0..20_000 {
            let mut bad = good.clone();
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (state >> 33) as usize % bad.len();
            bad[at] = (state >> 20) as u8;
            let _ = read_npz(Cursor::new(bad));
        }
    }
}
