// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Types of nodes with regions, from the inputs and outputs of the regions.

use std::collections::BTreeSet;

use super::{Cx, Types};
use crate::diag::Code;
use crate::dtype::DType;
use crate::graph::{Graph, TensorType, TypeFault};
use crate::sym::{SymExpr, SymName};

/// Whether values of both types may stand in one place: of ranks of elements as much is known as is known of both.
fn lists_join(a: &TensorType, b: &TensorType) -> bool {
    match (&a.list, &b.list) {
        (Some(a), Some(b)) => a.join(b).is_some(),
        (None, None) => true,
        _ => false,
    }
}

/// The type that takes both, which [`lists_join`] holds for.
fn joined(a: &TensorType, b: &TensorType) -> TensorType {
    match (&a.list, &b.list) {
        (Some(x), Some(y)) => TensorType::list(x.join(y).unwrap_or_else(|| (**x).clone())),
        _ => a.clone(),
    }
}

impl<'a> Cx<'a> {
    fn region_count(&self, expected: usize) -> Result<(), TypeFault> {
        let found = self.regions.len();
        if found == expected {
            return Ok(());
        }
        Err(self.fail(Code::BAD_ARITY, format!("found {found} regions, expected {expected}")))
    }

    /// Types of a region's outputs, none of which may mention a symbol that only the region defines.
    fn output_types(&self, region: &'a Graph) -> Result<Vec<&'a TensorType>, TypeFault> {
        let types: Vec<&TensorType> = region.outputs().iter().map(|o| region.ty(o.value)).collect();
        for (i, t) in types.iter().enumerate() {
            let mut names = BTreeSet::new();
            t.dims.iter().for_each(|d| d.collect_symbols(&mut names));
            if let Some(s) = names.iter().find(|s| region.symbol_definer(s).is_some()) {
                let m = format!("output {i} of region `{}` is {t}, where `{s}` is defined inside the region", region.name);
                return Err(self.fail(Code::SHAPE_MISMATCH, m));
            }
        }
        Ok(types)
    }

    /// Checks that a type fits another of the same place; dims may be assumed equal.
    fn fits(&mut self, found: &TensorType, expected: &TensorType, what: &dyn Fn() -> String) -> Result<(), TypeFault> {
        if found == expected {
            return Ok(());
        }
        if found.dtype != expected.dtype || found.quant != expected.quant || !lists_join(found, expected) {
            return Err(self.fail(Code::DTYPE_MISMATCH, format!("{}: found {found}, expected {expected}", what())));
        }
        if found.rank() != expected.rank() {
            return Err(self.fail(Code::SHAPE_MISMATCH, format!("{}: found {found}, expected {expected}", what())));
        }
        for (i, (a, b)) in found.dims.iter().zip(&expected.dims).enumerate() {
            self.equal(a, b, || format!("{}, dim {i}", what()))?;
        }
        Ok(())
    }

    /// Checks that the inputs of a region take `expected`.
    fn region_inputs(&mut self, region: &Graph, expected: &[&TensorType]) -> Result<(), TypeFault> {
        if region.inputs().len() != expected.len() {
            let m = format!("region `{}` has {} inputs, expected {}", region.name, region.inputs().len(), expected.len());
            return Err(self.fail(Code::BAD_ARITY, m));
        }
        for (i, (&v, t)) in region.inputs().iter().zip(expected).enumerate() {
            self.fits(region.ty(v), t, &|| format!("input {i} of region `{}`", region.name))?;
        }
        Ok(())
    }

    pub(super) fn if_(&mut self) -> Types {
        self.arity(1, usize::MAX)?;
        self.want_scalar(0, DType::Bool)?;
        self.region_count(2)?;
        let regions = self.regions;
        for r in regions {
            self.region_inputs(r, &self.operands[1..])?;
        }
        let (a, b) = (self.output_types(&regions[0])?, self.output_types(&regions[1])?);
        if a.len() != b.len() {
            return Err(self.fail(Code::BAD_ARITY, format!("the regions have {} and {} outputs, expected as many", a.len(), b.len())));
        }
        for (i, (x, y)) in a.iter().zip(&b).enumerate() {
            self.fits(y, x, &|| format!("output {i} of both regions"))?;
        }
        Ok(a.iter().zip(&b).map(|(x, y)| joined(x, y)).collect())
    }

    pub(super) fn loop_(&mut self, carried: u32, trips: &SymName) -> Types {
        let carried = carried as usize;
        self.arity(carried.saturating_add(2), usize::MAX)?;
        self.want_scalar(0, DType::I64)?;
        self.want_scalar(1, DType::Bool)?;
        self.region_count(1)?;
        let body = &self.regions[0];
        self.region_inputs(body, self.operands)?;
        let out = self.output_types(body)?;
        if out.len() < carried + 1 {
            let m = format!("region `{}` has {} outputs, expected a condition and {carried} carried values at least", body.name, out.len());
            return Err(self.fail(Code::BAD_ARITY, m));
        }
        self.fits(out[0], &TensorType::fixed(DType::Bool, &[]), &|| "output 0 of the body, the condition".into())?;
        let mut types = Vec::with_capacity(out.len() - 1);
        for (i, t) in out[1..].iter().enumerate() {
            if i < carried {
                let before = self.operands[i + 2];
                self.fits(t, before, &|| format!("carried value {i} after and before the body"))?;
                types.push(joined(before, t));
            } else {
                let mut dims = vec![SymExpr::sym(trips.clone())];
                dims.extend_from_slice(&t.dims);
                types.push(TensorType::new(t.dtype, dims));
            }
        }
        Ok(types)
    }

    pub(super) fn fusion(&mut self) -> Types {
        self.region_count(1)?;
        let body = &self.regions[0];
        self.region_inputs(body, self.operands)?;
        Ok(body.outputs().iter().map(|o| body.ty(o.value).clone()).collect())
    }
}
