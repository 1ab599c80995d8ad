// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `run --on interpreter`: the meaning of the model, slow and plain.

use portwright_ir::diag::{Code, Diagnostic, Lowered};
use portwright_ir::graph::interp::{self, Tensor};
use portwright_ir::graph::{Graph, ListKind};
use portwright_runtime::blob::Kind;
use portwright_runtime::load::{Info, InfoDim};
use portwright_runtime::value::{List, Texts, Value};
use portwright_targets::compile::{items, kind_of, onnx_dtype};

use crate::args::{RunArgs, TargetArgs};
use crate::progress::Progress;
use crate::{Cx, model, values, view};

/// Runs a model in the interpreter of Graph IR.
///
/// # Errors
/// Anything on the way.
pub fn run(a: &RunArgs, cx: &mut Cx) -> Lowered<()> {
    if model::is_bundle(&a.model) {
        let d = Diagnostic::error(Code::OPTION_UNUSED, "the interpreter runs models, and this is a bundle");
        return cx.fail(d.help("give the model that it was compiled from"));
    }
    refuse_machine_options(&a.target, a.threads, a.max_fallback, cx)?;
    let mut progress = Progress::new(cx.quiet);
    let m = model::load(&a.model, &a.target.dims, false, cx)?;
    let views = view::read(&view::beside(&a.model), cx)?;
    progress.say("in the interpreter of Graph IR (rung 0)");
    let wanted = describe(&m.graph);
    let inputs = super::run::inputs(a.inputs.as_deref(), a.random, &wanted, cx)?;
    progress.stage("interpret");
    let results = interpret(&m.graph, &inputs, cx)?;
    progress.end();
    let names: Vec<&str> = m.graph.outputs().iter().map(|o| &*o.name).collect();
    super::run::show(&names, &results, views.as_ref(), (a.outputs.as_deref(), a.json), cx)
}

/// The interpreter knows no machine: options of one are refused.
///
/// # Errors
/// `E0003` for each of them.
pub fn refuse_machine_options(target: &TargetArgs, threads: u32, max_fallback: Option<usize>, cx: &mut Cx) -> Lowered<()> {
    let given = [
        ("--target", target.target.as_deref().is_some_and(|t| t != "host")),
        ("--cpu", target.cpu.is_some()),
        ("--math", target.math.is_some()),
        ("--threads", threads > 0),
        ("--max-fallback", max_fallback.is_some()),
    ];
    for (option, _) in given.iter().filter(|(_, given)| *given) {
        let d = Diagnostic::error(
            Code::OPTION_UNUSED,
            format!("{option} is of a machine, and the interpreter runs Graph IR, which knows none"),
        );
        cx.diags.report(d.help(format!("leave {option} out, or leave --on interpreter out")));
    }
    cx.diags.check()
}

/// Inputs of a graph as a bundle describes them.
pub fn describe(g: &portwright_ir::graph::Graph) -> Vec<Info> {
    g.inputs()
        .iter()
        .map(|&v| {
            let ty = g.ty(v);
            let dims = ty.dims.iter().map(|d| {
                let (lo, hi) = g.bounds(d);
                InfoDim { symbol: d.as_const().is_none().then(|| d.to_string()), min: lo.max(0), max: hi }
            });
            Info {
                name: g.value(v).name.as_deref().unwrap_or_default().to_owned(),
                kind: kind_of(ty),
                dtype: onnx_dtype(ty.dtype),
                dims: dims.collect(),
                max_bytes: None,
                alias_of: None,
                items: ty.list.as_deref().map_or_else(Vec::new, items),
            }
        })
        .collect()
}

/// Runs a graph on values of the runtime.
///
/// # Errors
/// `E0602` with the node's path.
pub fn interpret(g: &Graph, inputs: &[Value], cx: &mut Cx) -> Lowered<Vec<Value>> {
    let mut g = g.clone();
    portwright_passes::handles::lower(&mut g).map_err(|f| cx.diags.report(Diagnostic::error(f.code, f.message)))?;
    let given: Vec<interp::Value> = inputs.iter().filter_map(of_runtime).collect();
    let out = interp::run_values(&g, &given, &interp::Options { images: Some(portwright_runtime::image::read), ..Default::default() })
        .map_err(|e| cx.diags.report(Diagnostic::error(Code::RUN_FAILED, e.message.clone()).at(e.path.clone())))?;
    out.into_iter().map(to_runtime).collect::<Result<_, _>>().or_else(|e| cx.fail(Diagnostic::error(Code::INTERNAL, e)))
}

fn of_runtime(v: &Value) -> Option<interp::Value> {
    let sizes = |dims: &[i64]| dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>();
    Some(match v {
        Value::Tensor(t) => interp::Value::Tensor(Tensor::new(values::dtype_of(t.dtype)?, sizes(&t.dims)?, t.data.to_vec())?),
        Value::Texts(t) => interp::Value::Texts(sizes(&t.dims)?, t.values.clone()),
        Value::List(l) => {
            let kind = match l.kind {
                Kind::Optional => ListKind::Optional,
                Kind::Map => ListKind::Map,
                _ => ListKind::Sequence,
            };
            interp::Value::List(kind, l.items.iter().map(of_runtime).collect::<Option<_>>()?)
        }
    })
}

fn to_runtime(v: interp::Value) -> Result<Value, String> {
    let sizes = |dims: &[usize]| dims.iter().map(|&d| d as i64).collect::<Vec<i64>>();
    Ok(match v {
        interp::Value::Tensor(t) => portwright_runtime::tensor::Tensor::new(onnx_dtype(t.dtype), &sizes(&t.dims), t.bytes())?.into(),
        interp::Value::Texts(dims, values) => Value::Texts(Texts { dims: sizes(&dims), values }),
        interp::Value::List(kind, items) => {
            let kind = match kind {
                ListKind::Sequence => Kind::Sequence,
                ListKind::Optional => Kind::Optional,
                ListKind::Map => Kind::Map,
            };
            Value::List(List { kind, items: items.into_iter().map(to_runtime).collect::<Result<_, _>>()? })
        }
    })
}

/// Outputs of a graph as a bundle describes them.
pub fn describe_outputs(g: &portwright_ir::graph::Graph) -> Vec<Info> {
    g.outputs()
        .iter()
        .map(|o| Info {
            name: o.name.to_string(),
            kind: kind_of(g.ty(o.value)),
            dtype: onnx_dtype(g.ty(o.value).dtype),
            dims: Vec::new(),
            max_bytes: None,
            alias_of: None,
            items: g.ty(o.value).list.as_deref().map_or_else(Vec::new, items),
        })
        .collect()
}
