// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A graph to programs: the model's own, and the pack program that fills its weight store.

use portwright_ir::diag::{Diagnostic, Diags, Lowered};
use portwright_ir::graph::Graph;

use crate::hoist::stream::{self, Run, Stream};
use crate::plan::{self, Program};
use crate::prepare::{self, Prepared};
use crate::spec::{MachineClass, Math};

/// Both programs of a model.
#[derive(Debug)]
pub struct Compiled {
    /// What runs.
    pub main: Program,
    /// What computes packed weights, once; its outputs are packed weights of `main` by name. Runs on the machine that packs.
    pub pack: Program,
    /// What computes packed weights one after the other, where they are too large to be computed at once; then `pack` is empty.
    pub streams: Vec<PackStream>,
    /// The graphs that they came from.
    pub prepared: Prepared,
}

/// A program that packs many weights, one unit at a time.
#[derive(Debug)]
pub struct PackStream {
    /// Inputs are weights as they come, outputs packed ones.
    pub program: Program,
    /// What each run reads and makes.
    pub runs: Vec<Run>,
}

/// Where the pipeline can be looked at.
pub type Watch<'a> = &'a mut dyn FnMut(&str, &Graph, &Graph);

/// Compiles a graph for a machine; the pack program is compiled for `packer`.
///
/// # Errors
/// Everything that will not work, at once.
pub fn compile(
    graph: Graph,
    machine: &MachineClass,
    packer: &MachineClass,
    math: Math,
    watch: Option<Watch<'_>>,
    diags: &mut Diags,
) -> Lowered<Compiled> {
    compile_with(graph, machine, packer, prepare::Options { math, stages: watch, ..Default::default() }, diags)
}

/// As [`compile`], with all options.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(
    graph: Graph,
    machine: &MachineClass,
    packer: &MachineClass,
    options: prepare::Options<'_>,
    diags: &mut Diags,
) -> Lowered<Compiled> {
    let prepared = prepare::prepare_with(graph, machine, options, diags)?;
    programs(prepared, machine, packer, diags)
}

/// Schedules and plans what was prepared for `machine`, and its pack program for `packer`.
///
/// # Errors
/// Every node that has no schedule.
pub fn programs(prepared: Prepared, machine: &MachineClass, packer: &MachineClass, diags: &mut Diags) -> Lowered<Compiled> {
    let main = plan::build(&prepared.main, machine, diags);
    let (mut pack, mut streams) = (&prepared.pack, Vec::new());
    let nothing = Graph::new(pack.name.clone());
    if stream::bytes(pack) > stream::AT_ONCE {
        let parts = stream::streams(pack).map_err(|f| diags.report(Diagnostic::error(f.code, f.message)))?;
        for Stream { graph, runs } in parts {
            streams.push(PackStream { program: plan::build(&graph, packer, diags)?, runs });
        }
        pack = &nothing;
    }
    let pack = plan::build(pack, packer, diags)?;
    Ok(Compiled { main: main?, pack, streams, prepared })
}
