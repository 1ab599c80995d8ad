// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A graph to programs: the model's own, and the pack program that fills its weight store.

use portwright_ir::diag::{Diags, Lowered};
use portwright_ir::graph::Graph;

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
    /// The graphs that they came from.
    pub prepared: Prepared,
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
    let options = prepare::Options { math, stages: watch, ..Default::default() };
    let prepared = prepare::prepare_with(graph, machine, options, diags)?;
    let main = plan::build(&prepared.main, machine, diags)?;
    let pack = plan::build(&prepared.pack, packer, diags)?;
    Ok(Compiled { main, pack, prepared })
}
