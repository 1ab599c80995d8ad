// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Windows and composites against the ONNX reference and onnxruntime.

use super::*;

#[test]
fn convolution_as_onnx() {
    let op = Op::Conv { strides: vec![2, 1], dilations: vec![1, 2], pads: dims(&[1, 0, 1, 2]), groups: 2 };
    let want = [
        1.3125, -0.375, 0.25, 1.1875, 1., 3.3125, 0.125, 1.375, -0.8125, 2.8125, -0.5, -0.6875, 4.1875, -1.1875, -0.5, -1.0625, 6.5,
        -1.1875, -0.75, 3.0625, 4.5625, -0.3125, 0., 3.125, 0., -0.125, -1.25, 3.5625, 0.9375, 1.125, -0.3125, -0.125, 1.5625, 1.25, 0.875,
        1.8125, 1.8125, 0.75, -0.125, 0.4375, 3.8125, -1.1875, 0.25, -1.8125, 4.5, -1.5625, -0.875, 1.3125,
    ];
    close(&eval(op, &[f(&[1, 4, 5, 4]), f(&[4, 2, 3, 2])]), &[1, 4, 3, 4], &want);
    let op = Op::Conv { strides: vec![2], dilations: vec![1], pads: dims(&[2, 1]), groups: 1 };
    let want = [-0.3125, 4.1875, -1.3125, -0.625, 0.1875, 3.1875, -1.8125, -1.625, 0.6875, -0.5625, -0.9375, 2.875];
    close(&eval(op, &[f(&[1, 2, 6]), f(&[3, 2, 3])]), &[1, 3, 4], &want);
}

/// The dims of a tensor in another order.
fn turned(t: &Tensor, perm: &[u32]) -> Tensor {
    eval(Op::Transpose { perm: perm.to_vec() }, std::slice::from_ref(t))
}

#[test]
fn channels_last_as_channels_first() {
    let (strides, dilations, pads) = (vec![2, 1], vec![1, 2], dims(&[1, 0, 1, 2]));
    let (x, w) = (f(&[2, 6, 5, 4]), f(&[10, 3, 3, 2]));
    let first = Op::Conv { strides: strides.clone(), dilations: dilations.clone(), pads: pads.clone(), groups: 2 };
    let want = eval(first, &[x.clone(), w.clone()]);
    // Ten filters in three panels of four; what fills the last panel must not matter.
    let zero = f(&[2, 3, 3, 2]);
    let filled = eval(Op::Concat { axis: 0 }, &[w, zero]);
    let split = eval(Op::Reshape { dims: dims(&[3, 4, 3, 3, 2]) }, &[filled]);
    let panels = turned(&split, &[0, 3, 4, 2, 1]);
    for planar in [false, true] {
        let op = |depth| Op::ConvLast {
            channels: 10,
            strides: strides.clone(),
            dilations: dilations.clone(),
            pads: pads.clone(),
            groups: 2,
            planar,
            depth,
            out: DType::F32,
        };
        let x = if planar { x.clone() } else { turned(&x, &[0, 2, 3, 1]) };
        assert_eq!(turned(&eval(op(1), &[x.clone(), panels.clone()]), &[0, 3, 1, 2]), want);
        // Three neighbors of the channels, or two of the kernel, side by side.
        let (depth, split, perm, dims3): (i64, _, _, _) = match planar {
            false => (3, [3, 3, 2, 1, 3, 4], [0, 1, 2, 3, 5, 4], [3, 3, 2, 1, 12]),
            true => (2, [3, 3, 1, 2, 3, 4], [0, 1, 2, 4, 5, 3], [3, 3, 1, 3, 8]),
        };
        let apart = eval(Op::Reshape { dims: dims(&split) }, std::slice::from_ref(&panels));
        let paired = eval(Op::Reshape { dims: dims(&dims3) }, &[turned(&apart, &perm)]);
        assert_eq!(turned(&eval(op(depth), &[x, paired]), &[0, 3, 1, 2]), want);
    }
    let pool = |channels_last| Op::Pool {
        op: ReduceOp::Mean,
        kernel: vec![3, 2],
        strides: vec![2, 2],
        dilations: vec![1, 1],
        pads: dims(&[1, 0, 1, 1]),
        count_pad: true,
        dims: dims(&[3, 2]),
        channels_last,
    };
    let want = eval(pool(false), &[x.clone()]);
    assert_eq!(turned(&eval(pool(true), &[turned(&x, &[0, 2, 3, 1])]), &[0, 3, 1, 2]), want);
}

#[test]
fn products_in_panels_as_in_blocks() {
    let integers: Vec<f64> = (0..48).map(|i| f64::from(i * 7 % 16)).collect();
    let (x, q) = (f(&[2, 16]), Tensor::from_f64(DType::U8, vec![3, 16], &integers));
    let (scale, zero) = (f(&[3, 2]), Tensor::from_f64(DType::U8, vec![3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let want = eval(Op::ContractBlocks { block: 8, narrow: false, zero: 0, groups: false }, &[x.clone(), q, scale.clone(), zero.clone()]);
    // Two panels of two columns: a word holds a column's integers of a block, by turns from its bytes' low and high halves.
    let mut bytes = vec![0.0; 2 * 2 * 8];
    for (at, v) in integers.iter().enumerate() {
        let (n, k) = (at / 16, at % 16);
        bytes[((n / 2 * 2 + k / 8) * 2 + n % 2) * 4 + k % 4] += v * if k % 8 < 4 { 1.0 } else { 16.0 };
    }
    let panels = |t: &Tensor| {
        let v = t.to_f64();
        let filled: Vec<f64> =
            (0..8).map(|i| (i / 4 * 2 + i % 2, i / 2 % 2)).map(|(n, b)| v.get(n * 2 + b).copied().unwrap_or(9.0)).collect();
        Tensor::from_f64(t.dtype, vec![2, 2, 2], &filled)
    };
    let w = Tensor::from_f64(DType::U8, vec![2, 2, 1, 8], &bytes);
    let op = Op::ContractPanels { columns: 3, bits: 4, block: 8, narrow: false, zero: 0, groups: false };
    assert_eq!(eval(op, &[x, w, panels(&scale), panels(&zero)]), want);
}

#[test]
fn pooling_as_onnx() {
    let pool = |op, kernel: [i64; 2], pads: [i64; 4], dilations: [i64; 2], count_pad, out: [i64; 2]| Op::Pool {
        op,
        kernel: kernel.to_vec(),
        strides: vec![2, 2],
        dilations: dilations.to_vec(),
        pads: dims(&pads),
        count_pad,
        dims: dims(&out),
        channels_last: false,
    };
    let x = [f(&[1, 1, 5, 5])];
    let max = pool(ReduceOp::Max, [2, 3], [0, 1, 1, 1], [2, 1], false, [2, 3]);
    close(&eval(max, &x), &[1, 1, 2, 3], &[1.5, 1.5, 1.25, 0.75, 1.5, 1.5]);
    let inside = [0.1875, 0.25, 0.125, 0.25, 0.541_666_7, -0.5, 0.3125, 0.375, 0.25];
    close(&eval(pool(ReduceOp::Mean, [3, 2], [1, 0, 1, 1], [1, 1], false, [3, 3]), &x), &[1, 1, 3, 3], &inside);
    let padded = [0.125, 0.166_666_7, 0.041_666_67, 0.25, 0.541_666_7, -0.25, 0.208_333_33, 0.25, 0.083_333_336];
    close(&eval(pool(ReduceOp::Mean, [3, 2], [1, 0, 1, 1], [1, 1], true, [3, 3]), &x), &[1, 1, 3, 3], &padded);
    // A window that begins inside and ends beyond the padded tensor divides by what is in it.
    let ceil = [0.305_555_55, 0.222_222_22, 0.083_333_336, 0.277_777_8, 0.138_888_9, 0.333_333_34, 0.333_333_34, 0.208_333_33, 0.3125];
    let op = pool(ReduceOp::Mean, [3, 3], [1, 1, 1, 1], [1, 1], true, [3, 3]);
    close(&eval(op, &[f(&[1, 1, 4, 4])]), &[1, 1, 3, 3], &ceil);
}

#[test]
fn normalizations_as_onnx() {
    let softmax = [0.131_601_65, 0.703_314, 0.278_600_7, 0.095_183_19, 0.589_797_7, 0.201_502_8];
    close(&eval(Op::Softmax { axis: 1 }, &[f(&[2, 3, 2])]), &[2, 3, 2], &[softmax, softmax].concat());
    let log = [-2.182_855_4, -0.432_855_52, -1.432_855_6];
    close(&eval(Op::LogSoftmax { axis: 1 }, &[f(&[2, 3])]), &[2, 3], &[log, log].concat());
    let layer = [
        0.196_380_32,
        5.438_649,
        0.552_515_3,
        0.707_852_6,
        3.744_478,
        0.118_711_68,
        0.196_380_29,
        5.438_649,
        0.552_515_3,
        0.707_852_5,
        3.744_478,
        0.118_711_68,
    ];
    let op = Op::LayerNorm { axis: 1, eps: scalar(0.1) };
    close(&eval(op, &[f(&[2, 2, 3]), fs(&[2, 3], 2.0), f(&[2, 3])]), &[2, 2, 3], &layer);
    let rms = [0.139_482_1, 5.021_355_6, 0.557_928_4, 0.557_928_4, -0.659_954_6, 0.791_945_6, -0.791_945_6, -1.055_927_4];
    close(&eval(Op::RmsNorm { axis: 1, eps: scalar(0.1) }, &[f(&[2, 4]), fs(&[4], 2.0)]), &[2, 4], &rms);
}

#[test]
fn activations_as_onnx() {
    let gelu = [-0.100_323_416, 1.399_789_3, 0.345_731_23, -0.154_268_77, 1.117_937_8, 0.149_676_58];
    close(&eval(Op::Gelu { tanh: false }, &[f(&[6])]), &[6], &gelu);
    let tanh = [-0.100_324_646, 1.399_571_5, 0.345_714, -0.154_286, 1.117_714_2, 0.149_675_35];
    close(&eval(Op::Gelu { tanh: true }, &[f(&[6])]), &[6], &tanh);
    close(&eval(Op::HardSwish {}, &[fs(&[4], 4.0)]), &[4], &[-0.333_333_3, 6.0, 1.666_666_7, -0.333_333_3]);
    close(&eval(Op::Silu {}, &[t(&[3], &[0.0, 1.0, -100.0])]), &[3], &[0.0, 0.731_058_58, -3.72e-42]);
}

#[test]
fn attention_as_onnx() {
    let attention = |scale, causal, has_mask, softcap| Op::Attention {
        scale: scalar(scale),
        causal,
        has_mask,
        has_offset: false,
        softcap: scalar(softcap),
    };
    let capped = [0.568_709_9, -0.084_552_51, 0.579_516_2, -0.089_437_6, 0.590_655_3, -0.094_105_035, 0.602_058_95, -0.098_436];
    let x = [f(&[1, 2, 2, 3]), fs(&[1, 1, 3, 3], 0.5), f(&[1, 1, 3, 2]), f(&[2, 3])];
    close(&eval(attention(0.5, false, true, 2.0), &x), &[1, 2, 2, 2], &capped);
    let causal = [
        -0.25,
        1.5,
        0.292_716_56,
        0.052_755_892,
        0.778_658_33,
        0.293_276_34,
        -0.75,
        1.,
        -0.148_362_09,
        -0.604_367_8,
        0.222_891_5,
        -0.306_148_3,
    ];
    let x = [f(&[1, 2, 3, 2]), f(&[1, 2, 3, 2]), f(&[1, 2, 3, 2])];
    close(&eval(attention(0.7, true, false, 0.0), &x), &[1, 2, 3, 2], &causal);
    // A row with nothing to see is 0.
    let hidden = Tensor::from_bits(DType::Bool, vec![1, 3], [0, 0, 0]);
    let [q, k, v] = x;
    close(&eval(attention(0.7, false, true, 0.0), &[q, k, v, hidden]), &[1, 2, 3, 2], &[0.0; 12]);
}

#[test]
fn rotary_as_onnx() {
    let halves =
        [0.125, 2.625, -0.09375, 0.375, 0.8125, 0.125, -0.0625, -0.5625, 0.09375, -1.3125, -0.1875, -1.125, 0.875, 0.0625, 0.125, -0.75];
    let op = Op::Rotary { rotary_dims: 4.into(), interleaved: false };
    close(&eval(op, &[f(&[1, 2, 2, 4]), f(&[1, 2, 2]), fs(&[1, 2, 2], 0.5)]), &[1, 2, 2, 4], &halves);
    let pairs = [0.25, -0.34375, 0.5, -0.5, 1.6875, 1.3125, -0.75, 1., -0.125, 0.25, 0.75, -0.25, 1.875, 1.875, -0.5, 1.25];
    let op = Op::Rotary { rotary_dims: 2.into(), interleaved: true };
    close(&eval(op, &[f(&[1, 2, 2, 4]), f(&[1, 2, 1]), fs(&[1, 2, 1], 0.5)]), &[1, 2, 2, 4], &pairs);
}

#[test]
fn recurrences_as_onnxruntime() {
    let op = Op::Lstm { direction: Direction::Bidirectional };
    let states = [f(&[2, 2, 2]), fs(&[2, 2, 2], 0.5)];
    let x = [vec![f(&[3, 2, 2]), fs(&[2, 8, 2], 0.5), fs(&[2, 8, 2], 0.25), fs(&[2, 16], 0.5)], states.to_vec()].concat();
    let r = all(op, &x).unwrap();
    let y = [
        -0.220276, 0.4553076, 0.0988667, 0.0300866, 0.192494, 0.0661052, -0.1583651, 0.136575, -0.0690844, 0.2772311, -0.2123384,
        0.2732281, -0.1973658, 0.179852, 0.2161675, 0.1383476, -0.1787908, 0.2299482, -0.2682537, 0.2157225, -0.1329929, 0.1175503,
        -0.1412346, 0.2283235,
    ];
    close(&r[0], &[3, 2, 2, 2], &y);
    close(&r[1], &[2, 2, 2], &[-0.1787908, 0.2299482, -0.2682537, 0.2157225, 0.192494, 0.0661052, -0.1583651, 0.136575]);
    close(&r[2], &[2, 2, 2], &[-0.2960526, 0.9460837, -0.3833839, 0.7558346, 0.2251416, 0.0832461, -0.245056, 0.3274457]);

    let after = [
        0.4532858, 0.6329297, 0.7957301, -0.2352733, 0.5806323, 1.0455352, 0.6225736, -0.3450474, 0.4994849, 1.1894883, 0.7323517,
        -0.3575366,
    ];
    let before = [
        0.3373874, 0.6541852, 0.756931, -0.2112122, 0.4789095, 1.0673423, 0.5511314, -0.3250688, 0.4511756, 1.2104286, 0.7187135,
        -0.3500317,
    ];
    for (linear_before_reset, y) in [(false, after), (true, before)] {
        let op = Op::Gru { direction: Direction::Reverse, linear_before_reset };
        let x = [f(&[3, 2, 2]), fs(&[1, 6, 2], 0.5), fs(&[1, 6, 2], 0.25), fs(&[1, 12], 0.5), f(&[1, 2, 2])];
        let r = all(op, &x).unwrap();
        close(&r[0], &[3, 1, 2, 2], &y);
        close(&r[1], &[1, 2, 2], &y[..4]);
    }
}

#[test]
fn resize_as_onnx() {
    let op = |out: &[i64], mode: &str, coords: &str, nearest: &str, scales: &[f32], exclude_outside, antialias| Op::Resize {
        dims: dims(out),
        mode: mode.into(),
        coords: coords.into(),
        nearest: nearest.into(),
        scales: scales.iter().map(|&s| scalar(s)).collect(),
        cubic_a: scalar(-0.75),
        exclude_outside,
        antialias,
    };
    let x = [f(&[1, 1, 3, 4])];
    let linear = [
        -0.25, 0.625, 1.3333334, 0.6666667, 0.0, -0.5, 0.125, 0.65625, 1.0208334, 0.3541667, 0.03125, -0.125, 0.875, 0.71875, 0.3958333,
        -0.2708333, 0.09375, 0.625, 0.9375, 0.4375, -0.1145833, -0.3229167, 0.15625, 0.6875, 0.3125, -0.1875, -0.5104167, 0.1979167,
        0.21875, 0.0625, 0.0, -0.5, -0.7083333, 0.4583333, 0.25, -0.25,
    ];
    let pf = "round_prefer_floor";
    close(&eval(op(&[1, 1, 6, 6], "linear", "half_pixel", pf, &[1., 1., 2., 1.5], false, false), &x), &[1, 1, 6, 6], &linear);
    let cubic =
        [-0.25, 0.9290001, 1.5159998, 0.8139999, 0.0040001, -0.5, 0.8826531, 0.0773235, -0.5237082, -0.3944548, 0.1082649, 0.6326532];
    close(&eval(op(&[1, 1, 2, 6], "cubic", "align_corners", pf, &[1., 1., 0.8, 1.5], false, false), &x), &[1, 1, 2, 6], &cubic);
    let outside = [
        -0.2419912, 0.6736056, 1.3836819, 0.5980512, -0.1072177, -0.4133112, 1.0347967, 0.3094529, -0.4920255, -0.3966207, 0.2364374,
        0.7493493,
    ];
    close(&eval(op(&[1, 1, 2, 6], "cubic", "half_pixel", pf, &[1., 1., 0.8, 1.5], true, false), &x), &[1, 1, 2, 6], &outside);
    let floor = [
        -0.25, -0.25, 1.5, 1.5, 0.5, 0.5, -0.5, -0.25, -0.25, 1.5, 1.5, 0.5, 0.5, -0.5, 1.25, 1.25, 0.25, 0.25, -0.75, -0.75, 1.0, 1.25,
        1.25, 0.25, 0.25, -0.75, -0.75, 1.0, 0.0, 0.0, -1.0, -1.0, 0.75, 0.75, -0.25,
    ];
    close(&eval(op(&[1, 1, 5, 7], "nearest", "asymmetric", "floor", &[], false, false), &x), &[1, 1, 5, 7], &floor);
    let ceil = [
        -0.25, -0.25, 1.5, 0.5, 0.5, -0.5, -0.5, -0.25, -0.25, 1.5, 0.5, 0.5, -0.5, -0.5, 1.25, 1.25, 0.25, -0.75, -0.75, 1.0, 1.0, 0.0,
        0.0, -1.0, 0.75, 0.75, -0.25, -0.25, 0.0, 0.0, -1.0, 0.75, 0.75, -0.25, -0.25,
    ];
    close(&eval(op(&[1, 1, 5, 7], "nearest", "half_pixel", "round_prefer_ceil", &[], false, false), &x), &[1, 1, 5, 7], &ceil);
    let x = [f(&[1, 1, 6, 5])];
    let linear = [0.203125, 0.5069445, 0.046875, 0.4101562, 0.375, 0.1250001, 0.0585937, 0.2430556, 0.5468749];
    close(&eval(op(&[1, 1, 3, 3], "linear", "half_pixel", pf, &[1., 1., 0.5, 0.6], false, true), &x), &[1, 1, 3, 3], &linear);
    let cubic = [0.1892921, 0.569696, -0.062166, 0.3833477, 0.4007044, 0.1472656, 0.0754196, 0.2631718, 0.5901777];
    close(&eval(op(&[1, 1, 3, 3], "cubic", "half_pixel_symmetric", pf, &[], false, true), &x), &[1, 1, 3, 3], &cubic);
    // Integers round to nearest and saturate where cubic weights overshoot.
    let bytes = Tensor::from_bits(DType::U8, vec![1, 1, 1, 4], [0, 255, 3, 9]);
    let r = eval(op(&[1, 1, 1, 7], "cubic", "half_pixel", pf, &[1., 1., 1., 1.75], false, false), &[bytes]);
    close(&r, &[1, 1, 1, 7], &[0., 102., 252., 152., 0., 0., 10.]);
}
