// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The builder makes the kernels that stand in the texts.

use super::*;
use crate::at;
use crate::dtype::DType::{BF16, F32, I32};

fn gemm_mma(m: &mut Module) -> KernelId {
    let (p, epilogue) = (m.atom_named("P").unwrap(), m.fn_named("bias_silu").unwrap());
    let mut k = Kb::new(m, "gemm_mma", Class::Simt);
    let (mm, n, kk) = (k.sym("M", 1, 1 << 20, 1), k.sym("N", 8, 1 << 20, 8), k.sym("K", 8, 1 << 20, 8));
    let a = k.param("A", BufDecl::ro(BF16, [mm.clone(), kk.clone()]).align(16));
    let b = k.param("B", BufDecl::ro(BF16, [kk.clone(), n.clone()]).align(16));
    let bias = k.param("bias", BufDecl::ro(F32, [n.clone()]).align(8));
    let c = k.param("C", BufDecl::wo(BF16, [mm.clone(), n.clone()]).align(16));
    k.launch([n.ceil_div(&128.into()), mm.ceil_div(&128.into()), 1.into()]);
    k.group(128, 32);
    let xor = |shift, mask| Layout::Xor { unit: 8, shift, mask };
    let a_s = k.shared("As", BufDecl::rw(BF16, [3.into(), 128.into(), 32.into()]).align(128).layout(xor(1, 3)));
    let b_s = k.shared("Bs", BufDecl::rw(BF16, [3.into(), 32.into(), 128.into()]).align(128).layout(xor(0, 7)));
    let q = k.queue("q");
    let m0 = k.let_("m0", k.gy() * 128);
    let n0 = k.let_("n0", k.gx() * 128);
    let wm = k.let_("wm", k.id(Id::Warp) / 2 * 64);
    let wn = k.let_("wn", k.id(Id::Warp) % 2 * 64);
    let nk = k.let_("nk", k.dim(&kk.ceil_div(&32.into())));
    let acc = k.frags("c", p, Operand::C, &[4, 8], 0.0);
    k.for_("it", 0, &nk + 2, 1, |k, it| {
        k.if_(it.ge(2), |k| {
            k.wait(q, 1);
            k.barrier(Level::Group);
        });
        k.if_(it.lt(&nk), |k| {
            k.unroll("u", 0, 4, |k, u| {
                let e = k.let_("e", u * 128 + k.lane());
                let ar = k.let_("ar", &e / 4);
                let ak = k.let_("ak", &it * 32 + &e % 4 * 8);
                let br = k.let_("br", &e / 16);
                let bc = k.let_("bc", &e % 16 * 8);
                let av = k.let_("av", (&m0 + &ar).lt(k.dim(&mm)).select((k.dim(&kk) - &ak).clamp(0, 8), 0));
                let bv = k.let_("bv", (&it * 32 + &br).lt(k.dim(&kk)).select((k.dim(&n) - &n0 - &bc).clamp(0, 8), 0));
                let src = at!(a; &m0 + &ar, &ak => 8).valid([av]).or(0.0);
                k.copy_async(q, &at!(a_s; &it % 3, &ar, &e % 4 * 8 => 8), &src);
                let src = at!(b; &it * 32 + &br, &n0 + &bc => 8).valid([bv]).or(0.0);
                k.copy_async(q, &at!(b_s; &it % 3, &br, &bc => 8), &src);
            });
        });
        k.commit(q);
        k.if_(it.ge(2), |k| {
            let s = k.let_("s", (&it - 2) % 3);
            k.unroll("kk", 0, 2, |k, kk| {
                let fa = k.var_uninit("a", &[4], Ty::Frag(p, Operand::A));
                let fb = k.var_uninit("b", &[8], Ty::Frag(p, Operand::B));
                k.unroll("i", 0, 4, |k, i| {
                    let from = at!(a_s; &s, &wm + &i * 16 => 16, &kk * 16 => 16);
                    let v = k.v_frag(&from, p, Operand::A, BlockOrder::AsIs, Via::Ldmatrix);
                    k.set_value(&fa.at([i]), v);
                });
                k.unroll("j", 0, 8, |k, j| {
                    let from = at!(b_s; &s, &kk * 16 => 16, &wn + &j * 8 => 8);
                    let v = k.v_frag(&from, p, Operand::B, BlockOrder::AsIs, Via::LdmatrixTrans);
                    k.set_value(&fb.at([j]), v);
                });
                k.unroll("i", 0, 4, |k, i| {
                    k.unroll("j", 0, 8, |k, j| k.mma(p, &fa.at([i.clone()]), &fb.at([j.clone()]), &acc.at([i, j])));
                });
            });
        });
    });
    k.unroll("i", 0, 4, |k, i| {
        k.unroll("j", 0, 8, |k, j| {
            k.each(&acc.at([i.clone(), j.clone()]), 2, |k, v, [dm, dn]| {
                let m = k.let_("m", &m0 + &wm + &i * 16 + dm);
                let nn = k.let_("n", &n0 + &wn + &j * 8 + dn);
                k.if_(m.lt(k.dim(&mm)) & nn.lt(k.dim(&n)), |k| {
                    let bb = k.load("bb", at!(bias; &nn => 2));
                    let w = k.let_("w", k.call(epilogue, &[v, bb]));
                    k.store(at!(c; &m, &nn => 2), w.cast(BF16));
                });
            });
        });
    });
    k.finish_verified(&Limits::default()).unwrap_or_else(|f| panic!("{f:?}"))
}

#[test]
fn a_built_kernel_is_the_written_one() {
    let written = case("gemm_simt");
    let mut m = Module { kernels: Default::default(), ..written.clone() };
    let id = gemm_mma(&mut m);
    let old = written.kernel_named("gemm_mma").unwrap();
    assert_eq!(print_kernel(&m, &m.kernels[id]).text, print_kernel(&written, &written.kernels[old]).text);
    assert_eq!(m.kernels[id].structural_hash(&m), written.kernels[old].structural_hash(&written));
}

#[test]
fn faults_are_returned_and_the_module_is_unchanged() {
    let mut m = Module::new();
    let mut k = Kb::new(&mut m, "wrong", Class::Simt);
    k.group(64, 32);
    let n = k.sym("N", 1, 100, 1);
    let y = k.param("y", BufDecl::wo(F32, [n]));
    k.if_(k.lane().lt(3), |k| k.barrier(Level::Group));
    let v = k.let_("v", Ex::lit(F32, 1.0) + Ex::lit(I32, 1.0));
    k.store(at!(y; 200), v);
    let faults = k.finish_verified(&Limits::default()).unwrap_err();
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(m.kernels.is_empty());
}

#[test]
fn names_are_legal_and_unique() {
    let mut m = Module::new();
    let mut k = Kb::new(&mut m, "a/b-c", Class::Cpu);
    let n = k.sym("batch size", 1, 100, 1);
    let y = k.param("min", BufDecl::rw(F32, [n.clone()]));
    let a = k.load("f32x4", at!(y; 0));
    let b = k.let_("f32x4", a + 1.0);
    k.for_("for", 0, k.dim(&n), 1, |k, i| k.store(at!(y; i), &b));
    let id = k.finish_verified(&Limits::default()).unwrap_or_else(|f| panic!("{f:?}"));
    let text = print_kernel(&m, &m.kernels[id]).text;
    let again = parse_module(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(print_module(&again), text);
}
