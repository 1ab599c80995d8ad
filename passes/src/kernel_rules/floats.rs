// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `emulate-small-floats`: arithmetic of floats under 32 bits goes through f32 (fused multiply-add through f64), as the
//! interpreter has it, and their conversions become integer operations where the machine has no instruction for them.
//!
//! Before: `exp(x)` of bf16; after: `encode_bf16(exp(cast<f32>(x)))`.

use std::collections::BTreeSet;

use portwright_ir::dtype::{DType, FloatFormat, Kind, NanCode};
use portwright_ir::kernel::{Args, BinOp, Ex, Expr, ExprId, HOp, Module, Op, Ty, UnOp};

use super::KernelCaps;
use super::rewrite::{Arena, any, import, rebuild};

fn is_small(d: DType) -> bool {
    d.is_float() && d.bits() < 32
}

fn small(ty: &Ty) -> Option<DType> {
    ty.elem().filter(|d| is_small(*d))
}

/// Whether a node does something with a small float that only wider floats have.
fn concerns(arena: &Arena, e: &Expr, caps: &KernelCaps) -> bool {
    let operand = e.args.first().and_then(|a| small(&arena[*a].ty));
    match &e.op {
        Op::Cast if operand == Some(DType::BF16) => e.ty.elem() != Some(DType::F32),
        Op::Cast if operand == Some(DType::F16) && caps.f16_convert => e.ty.elem() != Some(DType::F32),
        Op::Cast | Op::CastSat if small(&e.ty) == Some(DType::F16) && caps.f16_convert => {
            e.args.first().is_none_or(|a| arena[*a].ty.elem() != Some(DType::F32))
        }
        Op::Cast | Op::CastSat => operand.is_some() || small(&e.ty).is_some(),
        // The sign is a bit of its own.
        Op::Un(UnOp::Neg | UnOp::Abs) => operand.and_then(DType::float_format).is_some_and(|f| !f.signed || f.nan == NanCode::NegativeZero),
        // Each level of a sum is rounded to the small format, which one conversion at the end does not do.
        Op::Hred(h) => operand.is_some() && matches!(h, HOp::Max | HOp::Min),
        Op::Un(_) | Op::Bin(_) | Op::Cmp(_) | Op::Clamp | Op::Fma => operand.is_some(),
        _ => false,
    }
}

/// The rule.
pub(super) fn run(module: &mut Module, caps: &KernelCaps) -> bool {
    if !any(module, &|a, e| concerns(a, e, caps)) {
        return false;
    }
    let library = library();
    // Importing what is not called costs nothing in code, but clutters the text: only formats that occur are taken.
    let mut formats = BTreeSet::new();
    for arena in module.fns.values().map(|d| &d.exprs).chain(module.kernels.values().map(|k| &k.exprs)) {
        formats.extend(arena.values().filter_map(|e| small(&e.ty)));
    }
    let names = formats.iter().flat_map(|d| [format!("decode_{d}"), format!("encode_{d}"), format!("encode_sat_{d}")]);
    let ids = import(module, &library, &names.chain(["narrow_f64".to_string()]).collect());
    let call = |a: &mut Arena, name: &str, x: ExprId, d: DType| {
        let ty = a[x].ty.with_elem(d);
        match ids.get(name) {
            Some(f) => a.push(Expr { op: Op::Call(*f), args: Args::from_slice(&[x]), ty }),
            None => x,
        }
    };
    let caps = *caps;
    let convert = move |a: &mut Arena, x: ExprId, to: DType, saturate: bool| -> ExprId {
        let plain = |a: &mut Arena, x: ExprId, to: DType| {
            let from = a[x].ty.elem();
            let ty = a[x].ty.with_elem(to);
            let op = if saturate { Op::CastSat } else { Op::Cast };
            if from == Some(to) { x } else { a.push(Expr { op, args: Args::from_slice(&[x]), ty }) }
        };
        let mut x = x;
        if let Some(from) = small(&a[x].ty) {
            let native = from == DType::BF16 || from == DType::F16 && caps.f16_convert;
            let ty = a[x].ty.with_elem(DType::F32);
            x = match native {
                true => a.push(Expr { op: Op::Cast, args: Args::from_slice(&[x]), ty }),
                false => call(a, &format!("decode_{from}"), x, DType::F32),
            };
        }
        if !is_small(to) {
            return plain(a, x, to);
        }
        let exact = |a: &mut Arena, x: ExprId, d: DType| {
            let ty = a[x].ty.with_elem(d);
            a.push(Expr { op: Op::Cast, args: Args::from_slice(&[x]), ty })
        };
        // To f32 without a second rounding that matters: exactly, or rounded to odd.
        x = match a[x].ty.elem() {
            Some(DType::F32) => x,
            Some(DType::F64) => call(a, "narrow_f64", x, DType::F32),
            Some(d) if d.kind() == Kind::Bool || d.bits() <= 16 => exact(a, x, DType::F32),
            _ => {
                let wide = exact(a, x, DType::F64);
                call(a, "narrow_f64", wide, DType::F32)
            }
        };
        if to == DType::F16 && caps.f16_convert {
            return plain(a, x, to);
        }
        call(a, &format!("encode_{}{to}", if saturate { "sat_" } else { "" }), x, to)
    };
    rebuild(module, &mut |a, mut e| {
        if !concerns(a, &e, &caps) {
            return a.push(e);
        }
        let through = |a: &mut Arena, mut e: Expr, d: DType| {
            let back = e.ty.elem();
            for x in &mut e.args {
                *x = convert(a, *x, d, false);
            }
            if matches!(e.op, Op::Cmp(_)) {
                return a.push(e);
            }
            e.ty = e.ty.with_elem(d);
            let y = a.push(e);
            back.map_or(y, |b| convert(a, y, b, false))
        };
        match &e.op {
            Op::Cast | Op::CastSat => {
                let to = e.ty.elem().unwrap_or(DType::F32);
                convert(a, e.args[0], to, e.op == Op::CastSat)
            }
            Op::Fma => {
                // A product of small floats is exact in f64.
                let ty = e.ty.with_elem(DType::F64);
                let back = e.ty.elem().unwrap_or(DType::F32);
                for x in &mut e.args {
                    *x = convert(a, *x, DType::F64, false);
                }
                let p = a.push(Expr { op: Op::Bin(BinOp::Mul), args: Args::from_slice(&e.args[..2]), ty: ty.clone() });
                let s = a.push(Expr { op: Op::Bin(BinOp::Add), args: Args::from_slice(&[p, e.args[2]]), ty });
                convert(a, s, back, false)
            }
            _ => through(a, e, DType::F32),
        }
    });
    true
}

fn bits(d: DType) -> DType {
    match d.bits() {
        16 => DType::U16,
        8 => DType::U8,
        _ => DType::U4,
    }
}
fn int(v: u64) -> Ex {
    Ex::lit(DType::U32, 0.0).add_w(Ex::int(i128::from(v)))
}

/// Conversions of every small format from and to f32, and f64 to f32 rounded to odd.
fn library() -> Module {
    let mut m = Module::new();
    m.define_fn("narrow_f64", &[("x", DType::F64)], DType::F32, |f, p| {
        let low = (1u64 << 29) - 1;
        let b = f.let_("b", p[0].bitcast(DType::U64));
        let lost = (&b & Ex::int(low.into())).differs(0);
        let kept = f.let_("kept", &b & Ex::int((!low).into()));
        // An odd last bit stands for all that was lost, so that the next rounding goes the right way.
        let odd = lost.select(&kept | Ex::int(i128::from(low) + 1), &kept);
        let r = f.let_("r", odd.bitcast(DType::F64).cast(DType::F32));
        // What is not zero stays above it: a scale of powers of two tells the two apart.
        let least = ((&b >> Ex::int(63)).cast(DType::U32) << int(31) | int(1)).bitcast(DType::F32);
        (r.equals(0.0) & p[0].differs(0.0)).select(least, &r)
    });
    for d in DType::ALL.iter().copied().filter(|d| is_small(*d)) {
        let Some(f) = d.float_format() else { continue };
        m.define_fn(&format!("decode_{d}"), &[("x", d)], DType::F32, |b, p| decode(b, d, f, &p[0]));
        for saturate in [false, true] {
            let name = format!("encode_{}{d}", if saturate { "sat_" } else { "" });
            m.define_fn(&name, &[("x", DType::F32)], d, |b, p| encode(b, d, f, saturate, &p[0]));
        }
    }
    m
}

type Fb<'m> = portwright_ir::kernel::Fb<'m>;

fn decode(b: &mut Fb<'_>, d: DType, f: FloatFormat, x: &Ex) -> Ex {
    let body_bits = f.exponent_bits + f.mantissa_bits;
    let all = (1u64 << body_bits) - 1;
    let u = b.let_("u", x.bitcast(bits(d)).cast(DType::U32) & int(all | u64::from(f.signed) << body_bits));
    if d == DType::F8E8M0 {
        let normal = u.equals(0).select(int(0x0040_0000), &u << int(23));
        return u.equals(255).select(int(0x7fc0_0000), normal).bitcast(DType::F32);
    }
    let body = b.let_("body", &u & int(all));
    let wide = b.let_("wide", &body << int((23 - f.mantissa_bits).into()));
    let normal = wide.add_w(int(((127 - f.bias) as u64) << 23));
    let unit = 2f64.powi(1 - f.bias - f.mantissa_bits as i32);
    let subnormal = (body.cast(DType::I32).cast(DType::F32) * unit).bitcast(DType::U32);
    let mut v = b.let_("v", body.lt(int(1 << f.mantissa_bits)).select(subnormal, normal));
    let nan = int(0x7fc0_0000);
    v = match f.nan {
        NanCode::Ieee => body.ge(int(all & !((1 << f.mantissa_bits) - 1))).select(&wide | int(0x7f80_0000), &v),
        NanCode::AllOnes => body.equals(int(all)).select(nan, &v),
        NanCode::NegativeZero => u.equals(int(all + 1)).select(nan, &v),
        NanCode::None => v,
    };
    let v = b.let_("w", v);
    let sign = if f.signed { (&u >> int(body_bits.into())) << int(31) } else { int(0) };
    (v | sign).bitcast(DType::F32)
}

fn encode(b: &mut Fb<'_>, d: DType, f: FloatFormat, saturate: bool, x: &Ex) -> Ex {
    let u = b.let_("u", x.bitcast(DType::U32));
    let a = b.let_("a", &u & int(0x7fff_ffff));
    let finish = |r: Ex| r.cast(bits(d)).bitcast(d);
    if d == DType::F8E8M0 {
        let near = a.ge(int(0x0060_0000)).select(int(1), int(0));
        let code = b.let_("code", a.lt(int(0x0080_0000)).select(near, a.add_w(int(0x0040_0000)) >> int(23)));
        let capped = code.gt(int(254)).select(int(if saturate { 254 } else { 255 }), &code);
        let positive = u.ge(int(0x8000_0000)) | a.equals(int(0));
        let v = positive.select(int(if saturate { 0 } else { 255 }), capped);
        return finish(a.gt(int(0x7f80_0000)).select(int(255), v));
    }
    let body_bits = f.exponent_bits + f.mantissa_bits;
    let all = (1u64 << body_bits) - 1;
    let top = match f.nan {
        NanCode::Ieee => all - (1 << f.mantissa_bits),
        NanCode::AllOnes => all - 1,
        NanCode::NegativeZero | NanCode::None => all,
    };
    let shift = u64::from(23 - f.mantissa_bits);
    // Half up, and down again where that would leave an even number odd.
    let odd = (&a >> int(shift)) & int(1);
    let rounded = a.add_w(int((1 << (shift - 1)) - 1)).add_w(odd) >> int(shift);
    let normal = rounded.sub_w(int(((127 - f.bias) as u64) << f.mantissa_bits));
    // Adding a power of two whose unit is the smallest subnormal lets the addition round.
    let magic = 2f64.powi(24 - f.bias - f.mantissa_bits as i32);
    let sum = (a.bitcast(DType::F32) + magic).bitcast(DType::U32);
    let subnormal = sum.sub_w(int(u64::from((magic as f32).to_bits())));
    let least = ((128 - f.bias) as u64) << 23;
    let code = b.let_("code", a.lt(int(least)).select(subnormal, normal));
    let signless = f.nan == NanCode::NegativeZero;
    let sign = if f.signed { b.let_("sign", (&u >> int(31)) << int(body_bits.into())) } else { int(0) };
    let clipped = saturate || !f.infinity && f.nan == NanCode::None;
    let over = if clipped { top } else { top + 1 };
    let capped = b.let_("capped", code.gt(int(top)).select(int(over), &code));
    let is_nan = a.gt(int(0x7f80_0000));
    if signless {
        // The code of negative zero is NaN, and what lies beyond the range without saturation is NaN too.
        let nan = all + 1;
        let bad = if saturate { is_nan } else { is_nan | code.gt(int(top)) };
        let v = capped.equals(int(0)).select(int(0), &capped | &sign);
        return finish(bad.select(int(nan), v));
    }
    let nan = match f.nan {
        NanCode::Ieee => all & !((1 << f.mantissa_bits) - 1) | 1 << (f.mantissa_bits - 1),
        NanCode::AllOnes => all,
        _ => all + 1,
    };
    finish(is_nan.select(int(nan), &capped) | sign)
}
