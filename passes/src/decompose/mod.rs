// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Composites as core ops: what makes every model run on a machine that serves the core alone.
//!
//! One function a composite. Each is a rule that fires where [`RuleCx::native`] says no. f16 and bf16 are computed in f32 from end to end
//! and rounded once, as the composite itself is.

use portwright_ir::dtype::DType;
use portwright_ir::graph::{Graph, NodeId, Op, Patch};

use crate::rules::{Edit, Rule, RuleCx, Tap};
use crate::spec::Math;

mod activation;
mod attention;
mod norm;
mod quant;
mod recurrence;
mod reduction;
mod resize;

pub use recurrence::recurrences;
pub use reduction::reductions;

/// All decompositions.
pub fn rules() -> Vec<&'static Rule> {
    RULES.iter().collect()
}

const RULES: &[Rule] = &[
    Rule {
        name: "decompose-softmax",
        doc: "softmax(x) -> e = exp(x - max(x)); e * (1 / sum(e)), and e / sum(e) where sums are exact",
        roots: &["softmax"],
        apply: |g, n, cx| {
            let with: fn(&mut Edit<'_>, NodeId) -> Option<Tap> = if cx.math == Math::Exact { norm::exact_softmax } else { norm::softmax };
            run(g, n, cx, "decompose-softmax", with)
        },
    },
    Rule {
        name: "decompose-log-softmax",
        doc: "log_softmax(x) -> d = x - max(x); d - log(sum(exp(d)))",
        roots: &["log_softmax"],
        apply: |g, n, cx| run(g, n, cx, "decompose-log-softmax", norm::log_softmax),
    },
    Rule {
        name: "decompose-layer-norm",
        doc: "layer_norm(x, s, b) -> d = x - mean(x); d * (1 / sqrt(mean(d * d) + eps)) * s + b",
        roots: &["layer_norm"],
        apply: |g, n, cx| run(g, n, cx, "decompose-layer-norm", norm::layer_norm),
    },
    Rule {
        name: "decompose-rms-norm",
        doc: "rms_norm(x, s) -> x * (1 / sqrt(mean(x * x) + eps)) * s",
        roots: &["rms_norm"],
        apply: |g, n, cx| run(g, n, cx, "decompose-rms-norm", norm::rms_norm),
    },
    Rule {
        name: "decompose-gelu",
        doc: "gelu(x) -> x * 0.5 * (1 + erf(x * sqrt(1/2))), or with tanh x * 0.5 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3)))",
        roots: &["gelu"],
        apply: |g, n, cx| run(g, n, cx, "decompose-gelu", activation::gelu),
    },
    Rule {
        name: "decompose-silu",
        doc: "silu(x) -> x * sigmoid(x)",
        roots: &["silu"],
        apply: |g, n, cx| run(g, n, cx, "decompose-silu", activation::silu),
    },
    Rule {
        name: "decompose-hard-swish",
        doc: "hard_swish(x) -> x * min(max(x * 1/6 + 0.5, 0), 1)",
        roots: &["hard_swish"],
        apply: |g, n, cx| run(g, n, cx, "decompose-hard-swish", activation::hard_swish),
    },
    Rule {
        name: "decompose-attention",
        doc: "attention(q, k, v, mask) -> contract(softmax(contract(q, k) * scale + mask), v), key heads repeated by an extra label",
        roots: &["attention"],
        apply: |g, n, cx| run(g, n, cx, "decompose-attention", attention::attention),
    },
    Rule {
        name: "decompose-rotary",
        doc: "rotary(x, c, s) -> x1, x2 = halves of x; concat(x1 * c - x2 * s, x1 * s + x2 * c)",
        roots: &["rotary"],
        apply: |g, n, cx| run(g, n, cx, "decompose-rotary", attention::rotary),
    },
    Rule {
        name: "decompose-resize",
        doc: "resize(x) -> per dim: gathers at computed indices, weighted and added",
        roots: &["resize"],
        apply: |g, n, cx| run(g, n, cx, "decompose-resize", resize::resize),
    },
    Rule {
        name: "decompose-quantize",
        doc: "quantize(x, s, z) -> cast(min(max(round(x / s) + z, lowest), highest))",
        roots: &["quantize"],
        apply: |g, n, cx| run(g, n, cx, "decompose-quantize", quant::quantize),
    },
    Rule {
        name: "decompose-contract-scaled",
        doc: "contract_scaled(a, b, s, t) -> contract(a * s, b * t) in f32, with scales repeated along their blocks",
        roots: &["contract_scaled"],
        apply: |g, n, cx| run(g, n, cx, "decompose-contract-scaled", quant::contract_scaled),
    },
    Rule {
        name: "decompose-contract-blocks",
        doc: "contract_blocks(x, q, s, z) -> contract(x, (q - z) * s), with zero points and scales repeated along their blocks",
        roots: &["contract_blocks"],
        apply: |g, n, cx| run(g, n, cx, "decompose-contract-blocks", quant::contract_blocks),
    },
    Rule {
        name: "decompose-dequantize",
        doc: "dequantize(q, s, z) -> (cast(q) - cast(z)) * s",
        roots: &["dequantize"],
        apply: |g, n, cx| run(g, n, cx, "decompose-dequantize", quant::dequantize),
    },
];

fn run(g: &Graph, n: NodeId, cx: &RuleCx<'_>, name: &'static str, f: fn(&mut Edit<'_>, NodeId) -> Option<Tap>) -> Option<Patch> {
    if (cx.native)(g, g.node(n)) {
        return None;
    }
    let mut e = Edit::new(g, name, &[n]);
    let new = f(&mut e, n)?;
    e.finish(g.result(n), new)
}

/// The composite's first operand in the dtype that it is computed in: f64 stays, every other float is f32.
fn widened(e: &mut Edit<'_>, x: impl Into<Tap>) -> Option<Tap> {
    let x = x.into();
    let to = if e.ty(x).dtype == DType::F64 { DType::F64 } else { DType::F32 };
    e.cast(x, to)
}

/// The result rounded to the dtype of the composite.
fn narrowed(e: &mut Edit<'_>, n: NodeId, y: Tap) -> Option<Tap> {
    let to = e.graph.ty(e.graph.result(n)).dtype;
    e.cast(y, to)
}

/// The node's attributes and operands.
fn parts<'g>(e: &Edit<'g>, n: NodeId) -> (&'g Op, &'g [portwright_ir::graph::ValueId]) {
    let node = e.graph.node(n);
    (&node.op, &node.operands)
}
