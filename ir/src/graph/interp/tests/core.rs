// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Core ops against numpy.

use super::*;

fn typed(dtype: DType, dims: &[usize], v: &[i64]) -> Tensor {
    Tensor::from_bits(dtype, dims.to_vec(), v.iter().map(|&v| numerics::int_to_bits(dtype, v.into())))
}
fn error(op: Op, x: &[Tensor]) -> RunError {
    all(op, x).expect_err("the run should fail")
}

#[test]
fn elementwise_broadcasts() {
    let x = [t(&[2, 1], &[1.0, 2.0]), t(&[3], &[10.0, 20.0, 30.0])];
    exact(&eval(Op::Binary(BinaryOp::Add), &x), &t(&[2, 3], &[11.0, 21.0, 31.0, 12.0, 22.0, 32.0]));
    let less = eval(Op::Binary(BinaryOp::Lt), &[x[0].clone(), t(&[], &[1.5])]);
    exact(&less, &typed(DType::Bool, &[2, 1], &[1, 0]));
    exact(&eval(Op::Select {}, &[less, x[1].clone(), t(&[1], &[0.0])]), &t(&[2, 3], &[10.0, 20.0, 30.0, 0.0, 0.0, 0.0]));
    let i4 = [typed(DType::I4, &[3], &[7, -8, 3]), typed(DType::I4, &[3], &[1, -1, 2])];
    exact(&eval(Op::Binary(BinaryOp::Add), &i4), &typed(DType::I4, &[3], &[-8, 7, 5]));
    exact(&eval(Op::Cast { to: DType::I8, saturate: false }, &[i4[0].clone()]), &typed(DType::I8, &[3], &[7, -8, 3]));
    exact(&eval(Op::Cast { to: DType::F32, saturate: false }, &[i4[0].clone()]), &t(&[3], &[7.0, -8.0, 3.0]));
    exact(&eval(Op::Unary(UnaryOp::Floor), &[t(&[2], &[-0.5, 1.5])]), &t(&[2], &[-1.0, 1.0]));
    let c128 = |v: &[f64]| Tensor::new(DType::C128, vec![v.len() / 2], v.iter().flat_map(|v| v.to_le_bytes()).collect()).unwrap();
    exact(&eval(Op::Binary(BinaryOp::Mul), &[c128(&[1.0, 2.0]), c128(&[3.0, -1.0])]), &c128(&[5.0, 5.0]));
    exact(&eval(Op::Bitcast { to: DType::I32 }, &[t(&[1], &[1.0])]), &typed(DType::I32, &[1], &[0x3f80_0000]));
}

#[test]
fn contract_as_einsum() {
    let op = |spec: &str, acc, out| Op::Contract { spec: spec.into(), acc, out };
    let r = eval(op("bhmk,bkn->nbhm", DType::F32, DType::F32), &[f(&[2, 2, 2, 3]), f(&[2, 3, 2])]);
    assert_eq!(r.dims, [2, 2, 2, 2]);
    let (a, b) = (f(&[2, 2, 2, 3]).to_f64(), f(&[2, 3, 2]).to_f64());
    let mut sums = Vec::new();
    for (n, b_, h, m) in (0..16).map(|i| (i / 8, i / 4 % 2, i / 2 % 2, i % 2)) {
        sums.push((0..3).map(|k| a[((b_ * 2 + h) * 2 + m) * 3 + k] * b[(b_ * 3 + k) * 2 + n]).sum::<f64>());
    }
    close(&r, &[2, 2, 2, 2], &sums);
    // A batch dim of 1 broadcasts; operands without summed labels make an outer product.
    let r = eval(op("bmk,bkn->bmn", DType::F32, DType::F32), &[t(&[2, 1, 1], &[2.0, 3.0]), t(&[1, 1, 2], &[5.0, 7.0])]);
    exact(&r, &t(&[2, 1, 2], &[10.0, 14.0, 15.0, 21.0]));
    exact(&eval(op("i,j->ji", DType::F32, DType::F32), &[t(&[2], &[1.0, 2.0]), t(&[2], &[3.0, 5.0])]), &t(&[2, 2], &[3.0, 6.0, 5.0, 10.0]));
    // 8-bit integers are summed in 32 bits, and wrap in the result if it is narrower.
    let bytes = [typed(DType::I8, &[1, 4], &[-128; 4]), typed(DType::I8, &[4, 1], &[-128; 4])];
    exact(&eval(op("mk,kn->mn", DType::I32, DType::I32), &bytes), &typed(DType::I32, &[1, 1], &[65536]));
    exact(&eval(op("mk,kn->mn", DType::I32, DType::I8), &bytes), &typed(DType::I8, &[1, 1], &[0]));
    // No label summed at all elements: an empty sum is 0.
    exact(&eval(op("mk,kn->mn", DType::F32, DType::F32), &[t(&[1, 0], &[]), t(&[0, 2], &[])]), &t(&[1, 2], &[0.0, 0.0]));
    // f16 is summed wider than f16: 2048 + 1 four times is 2052, not 2048.
    let h = |d: &[usize], v: &[f64]| Tensor::from_f64(DType::F16, d.to_vec(), v);
    let r = eval(op("mk,kn->mn", DType::F32, DType::F16), &[h(&[1, 5], &[2048.0, 1.0, 1.0, 1.0, 1.0]), h(&[5, 1], &[1.0; 5])]);
    exact(&r, &h(&[1, 1], &[2052.0]));
}

#[test]
fn movement() {
    let x = t(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
    exact(&eval(Op::Transpose { perm: vec![1, 0] }, &[x.clone()]), &t(&[3, 2], &[1., 4., 2., 5., 3., 6.]));
    exact(&eval(Op::Reshape { dims: dims(&[3, 2]) }, &[x.clone()]), &t(&[3, 2], &[1., 2., 3., 4., 5., 6.]));
    exact(&eval(Op::Broadcast { dims: dims(&[2, 2, 2]) }, &[t(&[2, 1], &[1., 2.])]), &t(&[2, 2, 2], &[1., 1., 2., 2., 1., 1., 2., 2.]));
    let slice = |starts: &[i64], steps: &[i64], d: &[i64]| Op::Slice { starts: dims(starts), steps: steps.to_vec(), dims: dims(d) };
    exact(&eval(slice(&[1, 2], &[-1, -2], &[2, 2]), &[x.clone()]), &t(&[2, 2], &[6., 4., 3., 1.]));
    let i4 = typed(DType::I4, &[3, 3], &[1, 2, 3, -4, -5, -6, 7, -8, 0]);
    exact(&eval(Op::Transpose { perm: vec![1, 0] }, &[i4.clone()]), &typed(DType::I4, &[3, 3], &[1, -4, 7, 2, -5, -8, 3, -6, 0]));
    exact(&eval(slice(&[0, 1], &[2, 1], &[2, 1]), &[i4]), &typed(DType::I4, &[2, 1], &[2, -8]));
    exact(&eval(Op::Concat { axis: 1 }, &[x.clone(), t(&[2, 1], &[7., 8.])]), &t(&[2, 4], &[1., 2., 3., 7., 4., 5., 6., 8.]));
    let pad =
        |mode, low: &[i64], high: &[i64], interior: &[i64]| Op::Pad { mode, low: dims(low), high: dims(high), interior: interior.to_vec() };
    let zero = t(&[], &[0.0]);
    let v = t(&[4], &[1., 2., 3., 4.]);
    let constant = |low, high, interior| eval(pad(PadMode::Constant, &[low], &[high], &[interior]), &[v.clone(), zero.clone()]);
    exact(&constant(2, 1, 0), &t(&[7], &[0., 0., 1., 2., 3., 4., 0.]));
    exact(&constant(1, 0, 1), &t(&[8], &[0., 1., 0., 2., 0., 3., 0., 4.]));
    exact(&constant(-1, -2, 0), &t(&[1], &[2.]));
    exact(&constant(-1, -1, 1), &t(&[5], &[0., 2., 0., 3., 0.]));
    exact(&constant(-5, 3, 0), &t(&[2], &[0., 0.]));
    let other = |mode, low, high| eval(pad(mode, &[low], &[high], &[0]), &[v.clone()]);
    exact(&other(PadMode::Reflect, 2, 1), &t(&[7], &[3., 2., 1., 2., 3., 4., 3.]));
    exact(&other(PadMode::Edge, 2, -1), &t(&[5], &[1., 1., 1., 2., 3.]));
    exact(&other(PadMode::Wrap, 1, 2), &t(&[7], &[4., 1., 2., 3., 4., 1., 2.]));
}

#[test]
fn gathers_and_scatters() {
    let x = t(&[3, 2], &[1., 2., 3., 4., 5., 6.]);
    exact(&eval(Op::Gather { axis: 0 }, &[x.clone(), ints(&[2, 1], &[-1, 0])]), &t(&[2, 1, 2], &[5., 6., 1., 2.]));
    exact(&eval(Op::Gather { axis: 1 }, &[x.clone(), ints(&[], &[1])]), &t(&[3], &[2., 4., 6.]));
    exact(&eval(Op::GatherElements { axis: 0 }, &[x.clone(), ints(&[2, 2], &[2, 0, -2, 1])]), &t(&[2, 2], &[5., 2., 3., 4.]));
    exact(&eval(Op::GatherNd { batch: 0 }, &[x.clone(), ints(&[2, 2], &[0, 1, -1, 0])]), &t(&[2], &[2., 5.]));
    exact(&eval(Op::GatherNd { batch: 1 }, &[x.clone(), ints(&[3, 1], &[1, 0, 1])]), &t(&[3], &[2., 3., 6.]));
    exact(&eval(Op::GatherNd { batch: 0 }, &[x.clone(), ints(&[1, 1], &[1])]), &t(&[1, 2], &[3., 4.]));
    let set = Op::ScatterElements { axis: 0, op: ScatterOp::Set };
    let r = eval(set, &[x.clone(), ints(&[2, 2], &[0, 2, 0, 2]), t(&[2, 2], &[7., 8., 9., 10.])]);
    exact(&r, &t(&[3, 2], &[9., 2., 3., 4., 5., 10.])); // of equal indices the last wins
    let add = Op::ScatterNd { op: ScatterOp::Add };
    let r = eval(add, &[x.clone(), ints(&[2, 1], &[1, 1]), t(&[2, 2], &[1., 1., 10., 10.])]);
    exact(&r, &t(&[3, 2], &[1., 2., 14., 15., 5., 6.]));
    let e = error(Op::Gather { axis: 0 }, &[x, ints(&[1], &[3])]);
    assert_eq!((e.code, e.path.as_str(), e.message.as_str()), (Code::RUN_FAILED, "main/node", "index 3 is outside a dim of 3"));
    let found = eval(Op::NonZero { count: "n".into() }, &[t(&[2, 2], &[0., 1., f32::NAN, -0.0])]);
    exact(&found, &ints(&[2, 2], &[0, 1, 1, 0]));
}

#[test]
fn reductions_and_order() {
    let reduce = |op, axes: &[u32], keep| Op::Reduce { op, axes: axes.to_vec(), keep };
    let x = t(&[2, 3], &[1., 2., 3., -4., 5., 0.5]);
    exact(&eval(reduce(ReduceOp::Sum, &[1], false), &[x.clone()]), &t(&[2], &[6., 1.5]));
    exact(&eval(reduce(ReduceOp::Mean, &[0], true), &[x.clone()]), &t(&[1, 3], &[-1.5, 3.5, 1.75]));
    exact(&eval(reduce(ReduceOp::Prod, &[0, 1], false), &[x.clone()]), &t(&[], &[-60.]));
    exact(&eval(reduce(ReduceOp::Max, &[1], false), &[t(&[2, 2], &[1., f32::NAN, 3., 2.])]).reshaped(vec![2]).unwrap(), &{
        let nan = numerics::encode_f64(DType::F32, f64::NAN, false) as u32;
        t(&[2], &[f32::from_bits(nan), 3.])
    });
    exact(&eval(reduce(ReduceOp::Min, &[0], false), &[t(&[0, 1], &[])]), &t(&[1], &[f32::INFINITY]));
    exact(&eval(reduce(ReduceOp::Sum, &[0], false), &[typed(DType::I8, &[2], &[127, 1])]), &typed(DType::I8, &[], &[-128]));
    exact(&eval(reduce(ReduceOp::Mean, &[0], false), &[typed(DType::I8, &[2], &[127, 126])]), &typed(DType::I8, &[], &[126]));
    exact(&eval(reduce(ReduceOp::Any, &[0], false), &[typed(DType::Bool, &[2], &[0, 1])]), &typed(DType::Bool, &[], &[1]));
    let arg = |op, last| Op::ArgReduce { op, axis: 0, keep: false, last };
    exact(&eval(arg(ArgOp::Max, false), &[t(&[4], &[1., 3., 3., 2.])]), &ints(&[], &[1]));
    exact(&eval(arg(ArgOp::Max, true), &[t(&[4], &[1., 3., 3., 2.])]), &ints(&[], &[2]));
    exact(&eval(arg(ArgOp::Min, false), &[t(&[4], &[1., f32::NAN, -3., f32::NAN])]), &ints(&[], &[1]));
    let scan = |op, exclusive, reverse| Op::Scan { op, axis: 0, exclusive, reverse };
    let v = t(&[3], &[1., 2., 3.]);
    exact(&eval(scan(ReduceOp::Sum, false, false), &[v.clone()]), &t(&[3], &[1., 3., 6.]));
    exact(&eval(scan(ReduceOp::Sum, true, true), &[v.clone()]), &t(&[3], &[5., 3., 0.]));
    exact(&eval(scan(ReduceOp::Prod, true, false), &[v]), &t(&[3], &[1., 1., 2.]));
    let x = t(&[5], &[2., f32::INFINITY, 2., -1., 7.]);
    let r = all(Op::TopK { axis: 0, k: 4.into(), largest: true }, &[x.clone()]).unwrap();
    exact(&r[0], &t(&[4], &[f32::INFINITY, 7., 2., 2.]));
    exact(&r[1], &ints(&[4], &[1, 4, 0, 2]));
    let r = all(Op::TopK { axis: 0, k: 2.into(), largest: false }, &[x]).unwrap();
    exact(&r[1], &ints(&[2], &[3, 0]));
}

#[test]
fn sources() {
    exact(&eval(Op::Fill { value: Scalar::from_f64(DType::U4, 9.0), dims: dims(&[3]) }, &[]), &typed(DType::U4, &[3], &[9, 9, 9]));
    exact(&eval(Op::Iota { dtype: DType::I64, axis: 1, dims: dims(&[2, 3]) }, &[]), &ints(&[2, 3], &[0, 1, 2, 0, 1, 2]));
    exact(&eval(Op::DimTensor { values: dims(&[4, -1]), dtype: DType::I32, scalar: false }, &[]), &typed(DType::I32, &[2], &[4, -1]));
    let r = Op::RandomUniform { dtype: DType::F32, low: scalar(-2.0), high: scalar(3.0), seed: 7, dims: dims(&[1000]) };
    let v = eval(r, &[]).to_f64();
    assert!(v.iter().all(|v| (-2.0..3.0).contains(v)) && (v.iter().sum::<f64>() / 1000.0 - 0.5).abs() < 0.2);
}

#[test]
fn quantization_as_onnx() {
    let quantize = |to, axis, block| Op::Quantize { to, axis, block, saturate: true };
    let x = t(&[2, 3], &[0.5, 1.5, 2.5, -300., 300., f32::NAN]);
    let r = eval(quantize(DType::U8, None, 1), &[x.clone(), t(&[], &[1.0]), typed(DType::U8, &[], &[128])]);
    exact(&r, &typed(DType::U8, &[2, 3], &[128, 130, 130, 0, 255, 128]));
    let r = eval(quantize(DType::I4, Some(1), 1), &[x.clone(), t(&[3], &[0.5, 1.0, 100.0])]);
    exact(&r, &typed(DType::I4, &[2, 3], &[1, 2, 0, -8, 7, 0]));
    // Blocks of two along axis 1; the last one is short.
    let r = eval(quantize(DType::I8, Some(1), 2), &[x, t(&[2, 2], &[0.5, 0.25, 10.0, 1.0])]);
    exact(&r, &typed(DType::I8, &[2, 3], &[1, 3, 10, -30, 30, 0]));
    let q = typed(DType::U8, &[2, 3], &[0, 1, 2, 253, 254, 255]);
    let dequantize = Op::Dequantize { to: DType::F32, axis: Some(0), block: 1 };
    let r = eval(dequantize, &[q, t(&[2], &[0.5, 2.0]), typed(DType::U8, &[2], &[1, 255])]);
    exact(&r, &t(&[2, 3], &[-0.5, 0.0, 0.5, -4.0, -2.0, 0.0]));
    let f8 = eval(quantize(DType::F8E4M3FN, None, 1), &[t(&[3], &[1000.0, -0.3, 17.0]), t(&[], &[2.0])]);
    assert_eq!(f8.to_f64(), [448.0, -0.15625, 8.0]);
}

#[test]
fn contraction_of_a_quantized_value() {
    let quant = Quant { expressed: DType::F32, scale: DType::F32, zero_point: false, axis: Some(0), block_elems: 2 };
    let mut g = Graph::new("main");
    let x = [f(&[1, 4]), typed(DType::I4, &[4, 2], &[1, 2, 3, 4, -5, -6, 7, -8]), t(&[2, 2], &[0.5, 1.0, 2.0, 4.0])];
    let v: Vec<ValueId> = x.iter().enumerate().map(|(i, t)| g.add_input(format!("x{i}"), type_of(t))).collect();
    let q = g.add(Op::Quantized { quant }, &v[1..], Origin::path("q")).unwrap();
    let op = Op::Contract { spec: "mk,kn->mn".into(), acc: DType::F32, out: DType::F32 };
    let c = g.add(op, &[v[0], g.result(q)], Origin::path("c")).unwrap();
    g.add_output("y", g.result(c));
    let w = [0.5, 2.0, 1.5, 4.0, -10.0, -24.0, 14.0, -32.0];
    let a = f(&[1, 4]).to_f64();
    let want: Vec<f64> = (0..2).map(|n| (0..4).map(|k| a[k] * w[k * 2 + n]).sum()).collect();
    close(&run(&g, &x, &Options::default()).unwrap()[0], &[1, 2], &want);
}
