// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `portwright explain`.

use portwright_ir::diag::{self, Diagnostic, Lowered};

use crate::Cx;
use crate::args::ExplainArgs;

/// A page a code.
const PAGES: &str = include_str!("../../../docs/ERRORS.md");

/// Prints the page of a code.
///
/// # Errors
/// `E0004` for a code that does not exist.
pub fn run(a: ExplainArgs, cx: &mut Cx) -> Lowered<()> {
    let wanted = a.code.trim().to_ascii_uppercase();
    let known = diag::Code::ALL.iter().find(|(c, _)| c.to_string() == wanted);
    match (known, page(&wanted)) {
        (Some(_), Some(text)) => {
            println!("{text}");
            Ok(())
        }
        _ => {
            let d = Diagnostic::error(diag::Code::BAD_OPTION, format!("`{}` is no error code", a.code));
            cx.fail(d.help("codes look like E0110; docs/ERRORS.md lists all"))
        }
    }
}

/// The page of a code: from its heading to the next.
pub fn page(code: &str) -> Option<&'static str> {
    let start = PAGES.find(&format!("## {code} "))?;
    let rest = PAGES.get(start + 3..)?;
    let end = rest.find("\n## ").unwrap_or(rest.len());
    rest.get(..end).map(str::trim_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page() {
        for (c, title) in diag::Code::ALL {
            let p = page(&c.to_string()).unwrap_or_else(|| panic!("no page for {c}"));
            assert!(p.starts_with(&format!("{c} {title}")), "{p}");
            assert!(p.lines().count() > 2, "{c} says nothing");
        }
    }
}
