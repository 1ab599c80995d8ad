// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Prepares a graph of a million nodes and says how long each stage takes: `cargo run --release --example million [NODES] [chain|blocks]`.

use std::time::Instant;

use portwright_ir::diag::Diags;
use portwright_ir::dtype::DType;
use portwright_ir::graph::{
    BinaryOp, Graph, Literal, Op, Origin, ReduceOp, Scalar, SymSource, Symbol, TensorType, TypeFault, UnaryOp, ValueId,
};
use portwright_ir::sym::SymExpr;
use portwright_ir::weight::{Weight, WeightSource};
use portwright_passes::prepare::{Options, prepare_with};
use portwright_passes::spec::{CpuSpec, MachineClass};

struct Build {
    graph: Graph,
    count: usize,
}

impl Build {
    fn put(&mut self, op: Op, operands: &[ValueId]) -> Result<ValueId, TypeFault> {
        self.count += 1;
        let n = self.graph.add(op, operands, Origin::path(format!("main/node_{}", self.count)))?;
        Ok(self.graph.result(n))
    }
    fn number(&mut self, v: f64) -> Result<ValueId, TypeFault> {
        self.put(Op::Const { value: Literal::scalar(Scalar::from_f64(DType::F32, v)) }, &[])
    }
    /// Layer norm, a matrix product, SiLU and a residual, spelled in primitives.
    fn block(&mut self, x: ValueId) -> Result<ValueId, TypeFault> {
        let name = format!("w{}", self.count);
        let weight = self.graph.add_weight(Weight::new(name, DType::F32, vec![64, 64], WeightSource::Seed(self.count as u64)));
        let w = self.put(Op::Weight { weight }, &[])?;
        let row = |op| Op::Reduce { op, axes: vec![1], keep: true };
        let mean = self.put(row(ReduceOp::Mean), &[x])?;
        let d = self.put(Op::Binary(BinaryOp::Sub), &[x, mean])?;
        let two = self.number(2.0)?;
        let square = self.put(Op::Binary(BinaryOp::Pow), &[d, two])?;
        let variance = self.put(row(ReduceOp::Mean), &[square])?;
        let eps = self.number(1e-5)?;
        let moved = self.put(Op::Binary(BinaryOp::Add), &[variance, eps])?;
        let root = self.put(Op::Unary(UnaryOp::Sqrt), &[moved])?;
        let y = self.put(Op::Binary(BinaryOp::Div), &[d, root])?;
        let h = self.put(Op::Contract { spec: "mk,kn->mn".into(), acc: DType::F32, out: DType::F32 }, &[y, w])?;
        let gate = self.put(Op::Unary(UnaryOp::Sigmoid), &[h])?;
        let h = self.put(Op::Binary(BinaryOp::Mul), &[h, gate])?;
        let one = self.number(1.0)?;
        let h = self.put(Op::Binary(BinaryOp::Mul), &[h, one])?;
        self.put(Op::Binary(BinaryOp::Add), &[x, h])
    }
}

fn main() -> Result<(), TypeFault> {
    let mut args = std::env::args().skip(1);
    let nodes = args.next().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let chain = args.next().is_some_and(|k| k == "chain");
    let start = Instant::now();
    let mut b = Build { graph: Graph::new("million"), count: 0 };
    b.graph.add_symbol(Symbol { name: "N".into(), lo: 1, hi: 64, div: 1, source: SymSource::Input });
    let mut x = b.graph.add_input("x", TensorType::new(DType::F32, vec![SymExpr::sym("N"), 64.into()]));
    while b.graph.len() < nodes {
        x = if chain {
            let op = [UnaryOp::Tanh, UnaryOp::Exp, UnaryOp::Neg, UnaryOp::Sigmoid][b.count % 4];
            b.put(Op::Unary(op), &[x])?
        } else {
            b.block(x)?
        };
    }
    b.graph.add_output("y", x);
    println!("{} nodes built in {:.2} s", b.graph.len(), start.elapsed().as_secs_f64());
    let machine = MachineClass::Cpu(CpuSpec {
        vec_bytes: 32,
        vec_regs: 16,
        masked_mem: true,
        fma: true,
        l1_bytes: 32 << 10,
        l2_bytes: 1 << 20,
        dots: &[],
        tiles: &[],
    });
    let start = Instant::now();
    let mut see = |stage: &str, g: &Graph, _: &Graph| println!("{stage}: {} nodes at {:.2} s", g.len(), start.elapsed().as_secs_f64());
    let mut diags = Diags::new();
    let options = Options { stages: Some(&mut see), ..Default::default() };
    match prepare_with(b.graph, &machine, options, &mut diags) {
        Ok(p) => println!("rules fired: {:?}", p.log.fired),
        Err(_) => println!("failed: {:?}", diags.all()),
    }
    Ok(())
}
