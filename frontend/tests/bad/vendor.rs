// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Forms of `com.microsoft` that are not taken are refused by name, never guessed.

use super::build::*;
use onnx_protobuf::{AttributeProto, ModelProto, NodeProto};

const F32: i32 = 1;
const U8: i32 = 2;
const I32: i32 = 6;

/// A model of one node; inputs are `name, dtype, dims`.
fn one(op: &str, inputs: &[(&str, i32, &[i64])], attrs: &[AttributeProto]) -> ModelProto {
    let names: Vec<&str> = inputs.iter().map(|(name, ..)| *name).collect();
    let mut n: NodeProto = attrs.iter().fold(node(op, &names, &["y"]), |n, a| with(n, a.clone()));
    n.domain = "com.microsoft".into();
    let given = inputs.iter().filter(|(name, ..)| !name.is_empty());
    let inputs = given.map(|(name, ty, dims)| value(name, *ty, &dims.iter().map(|d| D::V(*d)).collect::<Vec<_>>()));
    let mut m = model(graph(vec![n], inputs.collect(), vec![value("y", 0, &[])]));
    m.opset_import.push(opset("com.microsoft", 1));
    m
}

/// Refused with this code and message at the only node.
#[track_caller]
fn refused(m: &ModelProto, want: &str) {
    let (_, found) = reports(&bytes(m), None, &Default::default());
    let line = found.lines().next().unwrap_or_default();
    let (code, rest) = line.split_once(' ').unwrap_or_default();
    let message = rest.split_once("): ").map_or(rest, |(_, m)| m);
    assert_eq!(format!("{code}: {message}"), want);
}

#[test]
fn searches() {
    for op in ["BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"] {
        expect(
            &one(op, &[("x", I32, &[1, 4])], &[]),
            &format!(
                "E0113 main/{op}_0 {op} (com.microsoft 1): {op} is a search around a decoder, which is not compiled
                 help: export the decoder by itself (and the encoder, if there is one) and call it for each token: its caches are inputs and outputs"
            ),
        );
    }
}

#[test]
fn integers_in_blocks() {
    let nbits = |bits: i64, block: i64, more: &[AttributeProto]| {
        let attrs = [&[int("K", 32), int("N", 4), int("bits", bits), int("block_size", block)], more].concat();
        one("MatMulNBits", &[("x", F32, &[2, 32]), ("w", U8, &[4, 2, 8]), ("s", F32, &[8])], &attrs)
    };
    imported(&nbits(4, 16, &[]));
    refused(&nbits(4, 24, &[]), "E0107: `block_size` is 24, expected a power of two from 16 on");
    refused(&nbits(4, 8, &[]), "E0107: `block_size` is 8, expected a power of two from 16 on");
    refused(&nbits(3, 16, &[]), "E0107: `bits` is 3, expected 2, 4 or 8");
    refused(&nbits(4, 16, &[int("accuracy_level", 5)]), "E0107: `accuracy_level` is 5, expected 0 to 4");
    refused(
        &nbits(4, 16, &[int("weight_prepacked", 1)]),
        "E0113: `weight_prepacked` is set: weights in the layout of a CUDA kernel are not taken",
    );
    let rows = |attrs: &[AttributeProto]| one("GatherBlockQuantized", &[("w", U8, &[4, 16]), ("i", I32, &[2]), ("s", F32, &[4, 2])], attrs);
    imported(&rows(&[int("block_size", 16)]));
    refused(&rows(&[int("block_size", 20)]), "E0107: `block_size` is 20, expected a power of two from 16 on");
    refused(&rows(&[int("block_size", 16), int("bits", 6)]), "E0107: `bits` is 6, expected 2, 4 or 8");
    refused(&rows(&[int("block_size", 16), int("quantize_axis", 2)]), "E0107: axis 2 is outside of rank 2");
}

#[test]
fn caches() {
    let gqa = |attrs: &[AttributeProto]| {
        let inputs: &[(&str, i32, &[i64])] = &[
            ("q", F32, &[1, 3, 32]),
            ("k", F32, &[1, 3, 16]),
            ("v", F32, &[1, 3, 16]),
            ("", 0, &[]),
            ("", 0, &[]),
            ("n", I32, &[1]),
            ("t", I32, &[]),
        ];
        one("GroupQueryAttention", inputs, &[&[int("num_heads", 4), int("kv_num_heads", 2)], attrs].concat())
    };
    imported(&gqa(&[]));
    refused(
        &gqa(&[text("k_quant_type", "PER_TENSOR")]),
        "E0113: `k_quant_type` is \"PER_TENSOR\": a quantized cache is not taken, NONE is",
    );
    refused(&gqa(&[int("sliding_window_cache", 1)]), "E0113: `sliding_window_cache` is 1: a cache that drops its oldest keys is not taken");
    refused(&gqa(&[int("local_window_size", 0)]), "E0107: `local_window_size` is 0, expected -1 or more than 0");
    refused(&gqa(&[int("causal", 2)]), "E0107: `causal` is 2, expected 0 or 1");
    let heads = one(
        "GroupQueryAttention",
        &[
            ("q", F32, &[1, 3, 32]),
            ("k", F32, &[1, 3, 24]),
            ("v", F32, &[1, 3, 24]),
            ("", 0, &[]),
            ("", 0, &[]),
            ("n", I32, &[1]),
            ("t", I32, &[]),
        ],
        &[int("num_heads", 4), int("kv_num_heads", 3)],
    );
    refused(&heads, "E0107: `num_heads` is 4 and `kv_num_heads` 3, expected a positive multiple of a positive number");
}

#[test]
fn experts() {
    let moe = |attrs: &[AttributeProto]| {
        let inputs: &[(&str, i32, &[i64])] =
            &[("x", F32, &[3, 8]), ("r", F32, &[3, 4]), ("w", F32, &[4, 16, 8]), ("", 0, &[]), ("v", F32, &[4, 8, 16])];
        one("MoE", inputs, attrs)
    };
    imported(&moe(&[int("k", 2)]));
    refused(&moe(&[int("k", 5)]), "E0107: `k` is 5, expected 1 to the 4 experts");
    refused(
        &moe(&[text("activation_type", "tanh")]),
        "E0107: `activation_type` is \"tanh\", expected relu, gelu, silu, swiglu or identity",
    );
    refused(&moe(&[text("activation_type", "swiglu")]), "E0107: `swiglu_fusion` is 0 without FC3; expected 0 with it, 1 or 2 without");
    refused(&moe(&[int("use_sparse_mixer", 1)]), "E0113: `use_sparse_mixer` is 1; routing by the largest probabilities is taken");
    let inputs: &[(&str, i32, &[i64])] = &[
        ("x", F32, &[3, 16]),
        ("r", F32, &[3, 4]),
        ("w", U8, &[4, 16, 8]),
        ("s", F32, &[4, 16]),
        ("", 0, &[]),
        ("v", U8, &[4, 16, 8]),
        ("t", F32, &[4, 16]),
    ];
    imported(&one("QMoE", inputs, &[]));
    refused(&one("QMoE", inputs, &[text("quant_type", "nvfp4")]), "E0113: `quant_type` is \"nvfp4\"; int and fp8 are taken");
    refused(&one("QMoE", inputs, &[int("expert_weight_bits", 5)]), "E0107: `expert_weight_bits` is 5, expected 2, 4 or 8");
    refused(&one("QMoE", inputs, &[int("block_size", 48)]), "E0107: `block_size` is 48, expected a power of two from 16 on");
}

#[test]
fn what_nothing_tells_apart() {
    let image: (&str, i32, &[i64]) = ("x", F32, &[1, 5, 5, 3]);
    let conv = |dims| one("NhwcConv", &[image, ("w", F32, dims)], &[ints_attr("kernel_shape", &[3, 3])]);
    refused(&conv(&[4, 3, 3, 3]), "E0113: filters of f32[4,3,3,3] may have their channels first or last, and nothing says which");
    refused(&conv(&[4, 2, 3, 3]), "E0202: filters of f32[4,2,3,3] for 3 channels a group");
    refused(
        &one("CDist", &[("a", F32, &[2, 3]), ("b", F32, &[4, 3])], &[text("metric", "cosine")]),
        "E0113: `metric` is \"cosine\"; euclidean and sqeuclidean are taken",
    );
    let angles: &[(&str, i32, &[i64])] = &[("x", F32, &[1, 2, 3, 8]), ("p", 7, &[1, 3]), ("c", F32, &[16, 4]), ("s", F32, &[16, 4])];
    refused(&one("RotaryEmbedding", angles, &[float("scale", 2.0)]), "E0113: `scale` is 2; 1 is taken");
}
