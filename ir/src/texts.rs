// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables of texts in which equal texts have one number.

use std::collections::HashMap;
use std::sync::Arc;

use crate::dtype::DType;

/// A table of texts; the first is the empty one.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    list: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, i64>,
    bytes: u64,
}

impl Texts {
    /// Number of a text, which is added unless it is there.
    pub fn intern(&mut self, text: &str) -> i64 {
        if self.list.is_empty() {
            self.list.push("".into());
            self.numbers.insert("".into(), 0);
        }
        if let Some(&n) = self.numbers.get(text) {
            return n;
        }
        let (n, text): (i64, Arc<str>) = (self.list.len() as i64, text.into());
        self.bytes += text.len() as u64;
        self.list.push(text.clone());
        self.numbers.insert(text, n);
        n
    }
    /// The text of that number.
    pub fn get(&self, number: i64) -> Option<&Arc<str>> {
        usize::try_from(number).ok().and_then(|n| self.list.get(n))
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }
    /// Bytes of all texts.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// Whether there is none, not even the empty one.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
    /// All texts by number.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.list.iter()
    }
}

impl PartialEq for Texts {
    fn eq(&self, other: &Texts) -> bool {
        self.list == other.list
    }
}
impl Eq for Texts {}

/// A number of that dtype (i64, u64, f32 or f64; others are read as u64) as a text, as [`crate::graph::HostOp::StringOf`] has it.
pub fn of_number(dtype: DType, bits: u64) -> String {
    match dtype {
        DType::F32 => of_float(format!("{:e}", f32::from_bits(bits as u32)), 8),
        DType::F64 => of_float(format!("{:e}", f64::from_bits(bits)), 16),
        DType::I64 => (bits as i64).to_string(),
        _ => bits.to_string(),
    }
}

/// The fewest digits, which `{:e}` has, without an exponent where it is at least -4 and below `wide`.
fn of_float(shortest: String, wide: i32) -> String {
    let (sign, size) = shortest.strip_prefix('-').map_or(("", shortest.as_str()), |s| ("-", s));
    let Some((digits, e)) = size.split_once('e').and_then(|(d, e)| Some((d.replace('.', ""), e.parse::<i32>().ok()?))) else {
        return if size == "NaN" { size.to_owned() } else { format!("{sign}INF") };
    };
    let count = digits.len() as i32;
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    if digits == "0" {
        format!("{sign}0")
    } else if e < -4 || e >= wide {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        format!("{sign}{first}{point}{rest}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
    } else if e < 0 {
        format!("{sign}0.{}{digits}", zeros(-e - 1))
    } else if e + 1 >= count {
        format!("{sign}{digits}{}", zeros(e + 1 - count))
    } else {
        let (whole, rest) = digits.split_at(e as usize + 1);
        format!("{sign}{whole}.{rest}")
    }
}

/// The number in a text, as [`crate::graph::HostOp::NumberOf`] has it; `None` where there is none of that dtype.
pub fn to_number(text: &str, dtype: DType) -> Option<u64> {
    let t = text.trim_matches(|c: char| c == ' ' || ('\t'..='\r').contains(&c));
    match dtype {
        DType::F32 => t.parse::<f32>().ok().map(|v| u64::from(v.to_bits())),
        DType::F64 => t.parse::<f64>().ok().map(f64::to_bits),
        DType::I64 => whole(t).and_then(|v| i64::try_from(v).ok()).map(|v| v as u64),
        _ => whole(t).and_then(|v| u64::try_from(v).ok()),
    }
}

/// What stands before the point of a decimal number, if that is at most twenty digits.
fn whole(t: &str) -> Option<i128> {
    let (negative, size) = match t.as_bytes().first()? {
        b'-' => (true, &t[1..]),
        b'+' => (false, &t[1..]),
        _ => (false, t),
    };
    let (mantissa, e) = match size.find(['e', 'E']) {
        Some(i) => (&size[..i], size[i + 1..].parse::<i64>().ok()?),
        None => (size, 0),
    };
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if before.len() + behind.len() == 0 || !before.bytes().chain(behind.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{before}{behind}");
    let significant = digits.trim_start_matches('0');
    let point = (before.len() as i64 - (digits.len() - significant.len()) as i64).saturating_add(e);
    if significant.is_empty() || point <= 0 {
        return Some(0);
    }
    let kept = usize::try_from(point).ok().filter(|p| *p <= 20)?;
    let text: String = significant.chars().chain(std::iter::repeat('0')).take(kept).collect();
    text.parse::<i128>().ok().map(|v| if negative { -v } else { v })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_the_fewest_digits() {
        let single = |v: f32| of_number(DType::F32, v.to_bits().into());
        let of =
            [0.1, -1.0, 100_000.0, 12_345_678.0, 123_456_789.0, 1e-4, 1e-5, f32::MIN_POSITIVE, f32::MAX, -0.0, f32::NEG_INFINITY, f32::NAN];
        let want =
            ["0.1", "-1", "100000", "12345678", "1.2345679e+08", "0.0001", "1e-05", "1.1754944e-38", "3.4028235e+38", "-0", "-INF", "NaN"];
        assert_eq!(of.map(single), want);
        assert_eq!(of_number(DType::F64, 1e16f64.to_bits()), "1e+16");
        assert_eq!(of_number(DType::F64, (-314.15926f64).to_bits()), "-314.15926");
        assert_eq!(of_number(DType::I64, u64::MAX), "-1");
    }

    #[test]
    fn numbers_are_read() {
        let integer = |t: &str| to_number(t, DType::I64).map(|v| v as i64);
        let texts =
            ["1000", " -7\n", "100.5", "1E3", "+.5", "-9223372036854775808", "9223372036854775808", "", ".", "1e", "0x10", "ten", "1e400"];
        let min = Some(i64::MIN);
        let want = [Some(1000), Some(-7), Some(100), Some(1000), Some(0), min, None, None, None, None, None, None, None];
        assert_eq!(texts.map(integer), want);
        let float = |t: &str| to_number(t, DType::F32).map(|v| f32::from_bits(v as u32));
        assert_eq!(
            ["3.25", "1e-5", "+INF", "-inf", "Infinity", "1e999", "abc"].map(float)[..6],
            [Some(3.25), Some(1e-5), Some(f32::INFINITY), Some(f32::NEG_INFINITY), Some(f32::INFINITY), Some(f32::INFINITY)]
        );
        assert!(float("NaN").is_some_and(f32::is_nan) && float("abc").is_none());
    }
}
