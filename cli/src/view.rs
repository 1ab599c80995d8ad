// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a model's outputs mean to people: `NAME.view.json` beside `NAME.onnx`, `view.json` in the bundle. docs/VIEWS.md has the form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use serde::Deserialize;

use crate::Cx;
use crate::values::{curve, short};

/// The file in a bundle.
pub const FILE: &str = "view.json";
/// Columns of a curve.
const WIDTH: usize = 80;
/// Intervals that are named before the rest is counted.
const NAMED: usize = 12;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Views {
    schema: u32,
    /// What the model does, in a few words.
    #[serde(default)]
    pub title: String,
    /// How outputs are shown, by name.
    pub outputs: BTreeMap<String, Shown>,
}

/// How one output is shown.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "view", rename_all = "lowercase", deny_unknown_fields)]
pub enum Shown {
    /// A line over one axis.
    Curve {
        /// The axis; the others have size 1.
        #[serde(default)]
        axis: i64,
        /// What a step of the axis is.
        #[serde(default = "one")]
        step: f64,
        /// Unit of `step`.
        #[serde(default)]
        unit: String,
        /// Value at the bottom.
        min: Option<f64>,
        /// Value at the top.
        max: Option<f64>,
        /// Where the value is at least this, `label` holds.
        threshold: Option<f64>,
        /// What holds there.
        #[serde(default)]
        label: String,
    },
    /// A score for each class along the last axis.
    Classes {
        /// Names of the classes, in order.
        labels: Vec<String>,
        /// How many are shown.
        #[serde(default = "five")]
        top: usize,
    },
}

fn one() -> f64 {
    1.0
}
fn five() -> usize {
    5
}

/// The file that belongs to a model's file.
pub fn beside(model: &Path) -> PathBuf {
    model.with_extension("view.json")
}

/// Reads a view; `None` where there is none.
///
/// # Errors
/// `E0004` for a file that is there and cannot be used.
pub fn read(path: &Path, cx: &mut Cx) -> Lowered<Option<Views>> {
    let text = match std::fs::read_to_string(path) {
        Ok(t) => t,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return cx.fail(Diagnostic::error(Code::FILE_READ, format!("`{}`: {e}", path.display()))),
    };
    let bad = |why: String| Diagnostic::error(Code::BAD_OPTION, format!("`{}`: {why}", path.display())).help("docs/VIEWS.md has the form");
    match serde_json::from_str::<Views>(&text) {
        Ok(v) if v.schema == 1 => Ok(Some(v)),
        Ok(v) => cx.fail(bad(format!("its schema is {}, this Portwright reads 1", v.schema))),
        Err(e) => cx.fail(bad(e.to_string())),
    }
}

impl Shown {
    /// The lines that show `x`, an output of these dims; empty where it has another form than the view says.
    pub fn lines(&self, dims: &[i64], x: &[f64]) -> String {
        match self {
            Shown::Curve { axis, step, unit, min, max, threshold, label } => {
                let rank = dims.len() as i64;
                let axis = usize::try_from(if *axis < 0 { axis + rank } else { *axis }).unwrap_or(usize::MAX);
                if dims.get(axis) != Some(&(x.len() as i64)) || x.is_empty() {
                    return String::new();
                }
                let at = |i: usize| format!("{} {unit}", short_number(i as f64 * step)).trim_end().to_owned();
                let (begin, end, width) = (at(0), at(x.len()), WIDTH.min(x.len()));
                let gap = width.saturating_sub(begin.chars().count() + end.chars().count()).max(1);
                let mut s = format!("  {}\n  {begin}{}{end}\n", curve(x, WIDTH, (*min, *max)), " ".repeat(gap));
                if let Some(t) = threshold {
                    let spans = spans(x, *t);
                    let list: Vec<String> =
                        spans.iter().take(NAMED).map(|&(a, b)| format!("{} to {}", short_number(a as f64 * step), at(b))).collect();
                    let more = if spans.len() > NAMED { format!(", {} more", spans.len() - NAMED) } else { String::new() };
                    let list = if list.is_empty() { "nowhere".into() } else { list.join(", ") };
                    let label = if label.is_empty() { format!("at least {}", short(*t)) } else { label.clone() };
                    let _ = writeln!(s, "  {label}: {list}{more}");
                }
                s
            }
            Shown::Classes { labels, top } => {
                let classes = dims.last().and_then(|d| usize::try_from(*d).ok()).filter(|d| *d > 0).unwrap_or(1);
                let mut s = String::new();
                for row in x.chunks(classes).take(NAMED) {
                    let mut order: Vec<usize> = (0..row.len()).collect();
                    order.sort_by(|&a, &b| row.get(b).partial_cmp(&row.get(a)).unwrap_or(std::cmp::Ordering::Equal));
                    let name = |i: usize| labels.get(i).cloned().unwrap_or_else(|| format!("class {i}"));
                    let list: Vec<String> =
                        order.iter().take(*top).filter_map(|&i| Some(format!("{} {}", name(i), short(*row.get(i)?)))).collect();
                    let _ = writeln!(s, "  {}", list.join(", "));
                }
                s
            }
        }
    }
}

/// Two digits after the point, without zeros at the end.
fn short_number(x: f64) -> String {
    let text = format!("{x:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Ranges of steps in which the value is at least `threshold`.
fn spans(x: &[f64], threshold: f64) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for (i, _) in x.iter().enumerate().filter(|(_, v)| **v >= threshold) {
        match out.last_mut() {
            Some(last) if last.1 == i => last.1 = i + 1,
            _ => out.push((i, i + 1)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(text: &str) -> Result<Views, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_curve_says_where_it_is_high() {
        let v = views(
            r#"{"schema":1,"outputs":{"p":{"view":"curve","step":0.5,"unit":"s","min":0,"max":1,"threshold":0.5,"label":"speech"}}}"#,
        );
        let shown = v.unwrap().outputs["p"].clone();
        let text = shown.lines(&[6], &[0.0, 1.0, 1.0, 0.0, 0.0, 0.9]);
        assert_eq!(text, "  ▁██▁▁▇\n  0 s 3 s\n  speech: 0.5 to 1.5 s, 2.5 to 3 s\n");
        assert!(shown.lines(&[6], &[0.0; 6]).ends_with("speech: nowhere\n"));
        assert_eq!(shown.lines(&[2, 3], &[0.0; 6]), "");
        assert_eq!(shown.lines(&[0], &[]), "");
    }

    #[test]
    fn classes_are_named_highest_first() {
        let v = views(r#"{"schema":1,"outputs":{"p":{"view":"classes","labels":["cat","dog"],"top":2}}}"#);
        let shown = v.unwrap().outputs["p"].clone();
        assert_eq!(shown.lines(&[2, 3], &[0.1, 0.7, 0.2, f64::NAN, 0.5, 0.25]).lines().next(), Some("  dog 0.700000, class 2 0.200000"));
        assert_eq!(shown.lines(&[], &[1.0]), "  cat 1\n");
    }

    #[test]
    fn a_file_of_another_form_is_refused() {
        assert!(views(r#"{"schema":1,"outputs":{"p":{"view":"pie"}}}"#).is_err());
        assert!(views(r#"{"schema":1,"outputs":{"p":{"view":"curve","steps":1}}}"#).is_err());
        assert!(views("{").is_err());
    }
}
