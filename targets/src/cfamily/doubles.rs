// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Numbers of 64 bits for lanes that have none: `double.h` computes them by integers, as exactly, and texts name its type.

use portwright_ir::dtype::DType;
use portwright_ir::entity::PrimaryMap;
use portwright_ir::kernel::{BinOp, Expr, ExprId, HOp, Module, Op, UnOp};
use portwright_passes::kernel_rules::Emulation;
use portwright_passes::spec::MachineClass;

use crate::target::Machine;

/// Whether lanes of a machine have no f64.
pub(super) fn lacking(machine: &Machine) -> bool {
    matches!(&machine.class, MachineClass::Simt(s) if !s.floats.contains(&DType::F64))
}

/// What kernels of a module, before its rules, cost a machine that has no f64: in how many kernels how many operations on integers.
pub fn emulation(mut module: Module, machine: &Machine) -> Option<Emulation> {
    fn of(exprs: &PrimaryMap<ExprId, Expr>, module: &Module, depth: u32) -> usize {
        let one = |e: &Expr| match &e.op {
            // Functions call functions before them: the depth is that of a library.
            Op::Call(f) if depth < 8 => module.fns.get(*f).map_or(0, |d| of(&d.exprs, module, depth + 1)),
            op => {
                let from = e.args.first().and_then(|a| exprs.get(*a)?.ty.elem());
                let double = |d: Option<DType>| d == Some(DType::F64);
                if double(e.ty.elem()) || double(from) { operations(op, from) } else { 0 }
            }
        };
        exprs.values().map(one).sum()
    }
    if !lacking(machine) {
        return None;
    }
    crate::compile::legalize(&mut module, machine);
    let each: Vec<usize> = module.kernels.values().map(|k| of(&k.exprs, &module, 0)).collect();
    Emulation::of("emulate-double", &module, each)
}

/// Operations on integers that stand for one on f64, whose first operand is of the type `from`: instructions that clang 22 makes of `double.h`
/// for lanes of 64-bit integers (PTX), to the next ten; the loops of quotients and roots count once.
fn operations(op: &Op, from: Option<DType>) -> usize {
    match op {
        Op::Un(UnOp::Neg | UnOp::Abs) => 1,
        Op::Un(UnOp::Floor | UnOp::Ceil | UnOp::Rint | UnOp::Trunc) => 40,
        Op::Un(UnOp::Sqrt) => 110,
        Op::Bin(BinOp::Add | BinOp::Sub) | Op::Hred(HOp::Sum) => 240,
        Op::Bin(BinOp::Mul) | Op::Hred(HOp::Prod) => 150,
        Op::Bin(BinOp::Div) => 150,
        Op::Fma => 300,
        Op::Cmp(_) => 30,
        Op::Bin(BinOp::Min | BinOp::Max | BinOp::MinNum | BinOp::MaxNum) | Op::Hred(_) => 40,
        Op::Clamp => 80,
        Op::Cast | Op::CastSat if from == Some(DType::F64) => 50,
        Op::Cast | Op::CastSat => 80,
        // Others choose or move bits, or were expanded to these.
        _ => 0,
    }
}

/// A text whose f64 is the type of `double.h`, literals by their bits; nothing if it has no f64.
pub(super) fn by_integers(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut found = false;
    for line in text.split_inclusive('\n') {
        // Comments have names of the model.
        let (code, comment) = line.find("//").map_or((line, ""), |at| line.split_at(at));
        let mut rest = code;
        while let Some(c) = rest.chars().next() {
            let length = match c {
                '"' => rest.get(1..).and_then(|r| r.find('"')).map_or(rest.len(), |n| n + 2),
                c if c.is_ascii_digit() => number(rest),
                c if c.is_ascii_alphabetic() || c == '_' => word(rest),
                c => c.len_utf8(),
            };
            let (token, after) = rest.split_at(length);
            match token {
                "double" => out.push_str("pw_double"),
                t if c.is_ascii_digit() && is_double(t) => match t.parse::<f64>() {
                    Ok(v) => out.push_str(&format!("pw_double::of(0x{:016x}u)", v.to_bits())),
                    Err(_) => out.push_str(t),
                },
                t => out.push_str(t),
            }
            found |= token == "double";
            rest = after;
        }
        out.push_str(comment);
    }
    found.then_some(out)
}

fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Length of a literal, with the sign of its exponent.
fn number(text: &str) -> usize {
    let hex = text.starts_with("0x");
    let mut last = ' ';
    let end = |c: char| {
        let inside = c.is_ascii_alphanumeric() || c == '.' || (!hex && matches!(c, '+' | '-') && matches!(last, 'e' | 'E'));
        last = c;
        !inside
    };
    text.find(end).unwrap_or(text.len())
}

/// Whether a literal is one of C++'s `double`.
fn is_double(literal: &str) -> bool {
    !literal.starts_with("0x") && !literal.ends_with('f') && literal.contains(['.', 'e'])
}

#[cfg(test)]
mod tests {
    use portwright_emu::simt::{Chip, Compiler};

    use super::by_integers;

    /// `double_test.cpp`, where there is a compiler.
    #[test]
    fn numbers_by_integers_are_those_of_the_machine() {
        let Ok(compiler) = Compiler::find(None) else { return };
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cfamily");
        let chip = Chip::find("supa", "br100").expect("a row of chips.txt");
        let program = compiler.text(&chip, "double_test.cpp", include_str!("double_test.cpp"), &[folder]).expect("it compiles");
        let said = program.command().output().expect("it runs");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    }

    #[test]
    fn words_and_literals_are_those_of_the_type() {
        let text = "  const double x = (double)doubles[3] * -1.5 + 1e-3 + 2.5f + 0x1e5u; // double 1.5\n";
        let want = "  const pw_double x = (pw_double)doubles[3] * -pw_double::of(0x3ff8000000000000u) + pw_double::of(0x3f50624dd2f1a9fcu) + 2.5f + 0x1e5u; // double 1.5\n";
        assert_eq!(by_integers(text).as_deref(), Some(want));
        assert_eq!(by_integers("float x = 1.0f; // double\n\"double 1.5\"\n"), None);
    }
}
