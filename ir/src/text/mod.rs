// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the textual forms share: tokens with positions, quoting, and expressions over symbols.

pub mod expr;
pub mod lexer;

pub use expr::{is_plain_name, parse_expr, print_name};
pub use lexer::{Cursor, Kind, SyntaxError, Token, print_text};
