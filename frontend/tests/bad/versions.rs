// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every operator of ONNX at every version since 7 is imported.

use std::collections::HashMap;

use portwright_frontend::{operators, schema};

/// Operators on texts, sequences and maps, which are host operations.
const HOST: &[&str] = &[
    "CastMap",
    "CategoryMapper",
    "DictVectorizer",
    "FeatureVectorizer",
    "Imputer",
    "LabelEncoder",
    "OneHotEncoder",
    "RegexFullMatch",
    "StringConcat",
    "StringNormalizer",
    "StringSplit",
    "ZipMap",
];

#[test]
fn every_operator_at_every_version() {
    let known: HashMap<_, _> = operators().into_iter().map(|(d, op, since)| ((d, op), since)).collect();
    let mut missing = Vec::new();
    for (domain, op, versions) in schema::operators() {
        // Removed before 7, or renamed.
        let Some(last) = versions.last() else { continue };
        let excepted = HOST.contains(&op);
        match known.get(&(domain, op)) {
            None if !excepted => missing.push(format!("{domain}.{op}, last changed in {last}")),
            Some(since) if !excepted && versions.iter().any(|v| v < since && domain != "ai.onnx") => {
                missing.push(format!("{domain}.{op} before {since}"));
            }
            // In the default domain a form of before 7 may be left out.
            Some(since) if !excepted && versions.iter().any(|v| *v >= 7 && v < since) => {
                missing.push(format!("{domain}.{op} before {since}, first in {versions:?}"));
            }
            _ => {}
        }
    }
    assert!(missing.is_empty(), "not imported:\n{}", missing.join("\n"));
}

/// Counts of inputs that a schema takes, each within those of the importer.
#[test]
fn every_count_of_inputs() {
    let mut wrong = Vec::new();
    for (domain, op, versions) in schema::operators() {
        let inner = if domain == "ai.onnx" { "" } else { domain };
        let Some((least, most)) = portwright_frontend::arity(inner, op) else { continue };
        for v in versions.into_iter().filter(|v| *v >= 7 || domain != "ai.onnx") {
            let Some(s) = schema::find(inner, op, v) else { continue };
            let (few, many) = s.count;
            if few < least || many > most {
                wrong.push(format!("{domain}.{op} {v} takes {few} to {many} inputs, its importer {least} to {most}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
