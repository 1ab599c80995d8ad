// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What leaves the model, and how it runs piece by piece.

use std::collections::HashMap;

use portwright_ir::graph::Graph;
use portwright_ir::graph::interp::{self, Options, Tensor};
use portwright_ir::numerics::seeded_bytes;
use portwright_ir::weight::{Weight, WeightSource};

use super::{lift, split_pack, stream};
use crate::fuse;
use crate::rules::RuleLog;
use crate::testing::{assert_equal, count, parse};

const BODIES: &str = "graph \"bodies\" symbols N in 1..8, T in 0.. result
%0: bool[] = input \"c\"
%1: f32[N,3] = input \"x\"
%2: f32[3,3] = weight<f32 3x3 \"w\" seed:1>
%3: f32[3,1] = weight<f32 3x1 \"s\" seed:2>
%4: f32[N,3] = if(%0, %1, %2, %3)
  region \"then\"
    %0: f32[N,3] = input \"x\"
    %1: f32[3,3] = input \"w\"
    %2: f32[3,1] = input \"s\"
    %3: f32[3,3] = mul(%1, %2)
    %4: f32[3,3] = transpose(%3) {perm=[1,0]}
    %5: f32[N,3] = contract(%0, %4) {spec=\"mk,kn->mn\"}
    output \"y\" %5
  end
  region \"else\"
    %0: f32[N,3] = input \"x\"
    %1: f32[3,3] = input \"w\"
    %2: f32[3,1] = input \"s\"
    %3: f32[N,3] = contract(%0, %1) {spec=\"mk,kn->mn\"}
    output \"y\" %3
  end
%5: i64[] = const 3
%6: bool[] = const true
%7: f32[N,3] = loop(%5, %6, %4, %2, %3) {carried=1, trips=\"T\"}
  region \"body\"
    %0: i64[] = input \"i\"
    %1: bool[] = input \"cond\"
    %2: f32[N,3] = input \"x\"
    %3: f32[3,3] = input \"w\"
    %4: f32[3,1] = input \"s\"
    %5: f32[N,3] = if(%1, %2, %3, %4)
      region \"then\"
        %0: f32[N,3] = input \"x\"
        %1: f32[3,3] = input \"w\"
        %2: f32[3,1] = input \"s\"
        %3: f32[3,3] = sub(%1, %2)
        %4: f32[N,3] = contract(%0, %3) {spec=\"mk,kn->mn\"}
        output \"y\" %4
      end
      region \"else\"
        %0: f32[N,3] = input \"x\"
        %1: f32[3,3] = input \"w\"
        %2: f32[3,1] = input \"s\"
        output \"y\" %0
      end
    output \"cond\" %1
    output \"x\" %5
  end
output \"y\" %7
";

#[test]
fn weights_of_bodies_are_packed() {
    let g = parse(BODIES, "bodies");
    let (mut lifted, mut log) = (g.clone(), RuleLog::default());
    assert_eq!(lift(&mut lifted, &mut log), 3, "from a branch, from a branch to the loop's body, and from there");
    assert!(log.faults().is_empty(), "{:?}", log.faults());
    assert_eq!(portwright_ir::graph::verify::verify(&lifted), []);
    assert_equal("lift", &g, &lifted, None, 0.0);
    let inside = |name| count(&lifted, name) - lifted.node_ids().filter(|&n| lifted.node(n).op.mnemonic() == name).count();
    assert_eq!((inside("mul"), inside("transpose"), inside("sub"), inside("contract")), (0, 0, 0, 3));
    let (main, pack) = split_pack(lifted, &mut log);
    assert_eq!((count(&main, "mul"), count(&main, "sub"), count(&pack, "mul"), count(&pack, "sub")), (0, 0, 1, 1));
    assert_equal("pack", &g, &main, Some(&pack), 0.0);
    // The loop takes neither of the weights any more.
    let last = main.order().into_iter().map(|n| main.node(n)).find(|n| n.op.mnemonic() == "loop");
    assert_eq!(last.map(|n| (n.operands.len(), n.regions[0].inputs().len())), Some((4, 4)));
}

/// Two equal layers, a third of another size, and two results that share a product.
const LAYERS: &str = "graph \"layers\" symbols N in 1..8
%0: f32[N,4] = input \"x\"
%1: f32[4,4] = weight<f32 4x4 \"w1\" seed:1>
%2: f32[4,1] = weight<f32 4x1 \"s1\" seed:2>
%3: f32[4,4] = mul(%1, %2)
%4: f32[N,4] = contract(%0, %3) {spec=\"mk,kn->mn\"}
%5: f32[4,4] = weight<f32 4x4 \"w2\" seed:3>
%6: f32[4,1] = weight<f32 4x1 \"s2\" seed:4>
%7: f32[4,4] = mul(%5, %6)
%8: f32[N,4] = contract(%4, %7) {spec=\"mk,kn->mn\"}
%9: f32[4,6] = weight<f32 4x6 \"w3\" seed:5>
%10: f32[4,6] = exp(%9)
%11: f32[N,6] = contract(%8, %10) {spec=\"mk,kn->mn\"}
%12: f32[4,6] = tanh(%9)
%13: f32[6,4] = transpose(%12) {perm=[1,0]}
%14: f32[4,6] = neg(%12)
%15: f32[N,4] = contract(%11, %13) {spec=\"mk,kn->mn\"}
%16: f32[N,6] = contract(%15, %14) {spec=\"mk,kn->mn\"}
output \"y\" %16
";

fn tensor(w: &Weight) -> Tensor {
    let WeightSource::Seed(seed) = w.source else { panic!("{w:?} has no seed") };
    let dims = w.dims.iter().map(|&d| d as usize).collect();
    seeded_bytes(seed, w.dtype, &w.dims).and_then(|b| Tensor::new(w.dtype, dims, b)).expect("a small weight")
}

fn run(g: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    interp::run(g, inputs, &Options::default()).expect("the pack program runs")
}

#[test]
fn a_pack_program_runs_one_unit_at_a_time() {
    let (_, mut pack) = split_pack(parse(LAYERS, "layers"), &mut RuleLog::default());
    assert_eq!(pack.outputs().len(), 5);
    let whole: HashMap<String, Vec<u8>> = {
        let made = run(&pack, &[]);
        pack.outputs().iter().zip(made).map(|(o, t)| (o.name.to_string(), t.bytes().to_vec())).collect()
    };
    let all = stream::bytes(&pack);
    for fused in [false, true] {
        if fused {
            fuse::fuse(&mut pack, &mut RuleLog::default()).expect("it fuses");
        }
        let streams = stream::streams(&pack).expect("it can be cut");
        let shape: Vec<(usize, Vec<usize>)> =
            streams.iter().map(|s| (s.runs.len(), s.runs.iter().map(|r| r.outputs.len()).collect())).collect();
        assert_eq!(shape, [(2, vec![1, 1]), (1, vec![1]), (1, vec![2])], "equal layers are one stream, what shares a product is one unit");
        let (mut found, mut peak) = (HashMap::new(), 0);
        for s in &streams {
            assert!(s.graph.weights().is_empty());
            for r in &s.runs {
                let inputs: Vec<Tensor> = r.inputs.iter().map(tensor).collect();
                let made = run(&s.graph, &inputs);
                peak = peak.max(inputs.iter().chain(&made).map(|t| t.bytes().len() as u64).sum());
                found.extend(r.outputs.iter().zip(&made).map(|(n, t)| (n.to_string(), t.bytes().to_vec())));
            }
        }
        assert_eq!(found, whole);
        assert!(peak < all / 2, "{peak} bytes at once of {all}");
    }
}

/// One weight of three parts, moved, computed and filled up.
const STACKED: &str = "\
graph \"g\" symbols N in 1..4
%0: f32[N,3,8,5] = input \"x\"
%1: f32[3,6,4] = weight<f32 3x6x4 \"w\" parts [weight<f32 6x4 \"a\" seed:1>, weight<f32 6x4 \"b\" seed:2>, weight<f32 6x4 \"c\" seed:3>]>
%2: f32[3,4,6] = transpose(%1) {perm=[0,2,1]}
%3: f32[3,2,2,6] = reshape(%2)
%4: f32[2,3,2,6] = transpose(%3) {perm=[1,0,2,3]}
%5: f32[1,3,2,6] = slice(%4)
%6: f32[1,3,2,6] = slice(%4) {starts=[1,0,0,0]}
%7: f32[1,3,2,6] = mul(%5, %6)
%8: f32[3,4,3] = reshape(%7)
%9: f32[3,8,5] = pad(%8, f32 0.5) {high=[0,4,2]}
%10: f32[N,3,8,5] = add(%0, %9)
output \"y\" %10
";

#[test]
fn stacked_weights_are_packed_part_by_part() {
    let (_, mut pack) = split_pack(parse(STACKED, "stacked"), &mut RuleLog::default());
    let whole = run(&pack, &[]);
    let [whole] = whole.as_slice() else { panic!("{} results", whole.len()) };
    for fused in [false, true] {
        if fused {
            fuse::fuse(&mut pack, &mut RuleLog::default()).expect("it fuses");
        }
        let streams = stream::streams(&pack).expect("it can be cut");
        let [s] = streams.as_slice() else { panic!("{} streams", streams.len()) };
        assert_eq!(s.runs.iter().map(|r| r.part).collect::<Vec<_>>(), [0, 1, 2]);
        let made: Vec<u8> = s.runs.iter().flat_map(|r| run(&s.graph, &[tensor(&r.inputs[0])])[0].bytes().to_vec()).collect();
        assert_eq!(made, whole.bytes());
    }
}
