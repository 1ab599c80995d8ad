// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sequences, optionals and maps that only a run knows: their declared types, and known ones as such values.

use portwright_ir::diag::Code;
use portwright_ir::dtype::DType;
use portwright_ir::graph::{HostOp, Item, ItemRank, ListKind, ListType, Op, Origin, TensorType, ValueId};

use crate::fault::Fault;
use crate::import::Importer;
use crate::model::{TypeDef, dtype_of};
use crate::scope::Slot;

/// Most lists that lie in each other.
const MAX_NESTED: usize = 4;

/// The type of a declared sequence, optional or map.
///
/// # Errors
/// Something in it has no type, or it is nested too deeply.
pub(crate) fn declared(ty: &TypeDef) -> Result<ListType, Fault> {
    match item(ty, 0)? {
        Item::List(l) => Ok(*l),
        Item::Tensor(..) => Err(Fault::form("it is a tensor, expected a sequence, an optional or a map")),
    }
}

fn item(ty: &TypeDef, depth: usize) -> Result<Item, Fault> {
    if depth > MAX_NESTED {
        return Err(Fault::new(Code::NESTING, format!("more than {MAX_NESTED} sequences, optionals and maps lie in each other")));
    }
    let of = |kind, inner: &TypeDef| Ok(Item::List(Box::new(ListType::of(kind, item(inner, depth + 1)?))));
    match ty {
        TypeDef::Tensor { elem, dims } => {
            let dtype = dtype_of(*elem).ok_or_else(|| Fault::new(Code::MISSING_TYPE, "the dtype of its elements is not declared"))?;
            let rank = dims.as_ref().map_or(ItemRank::Unknown, |d| ItemRank::Is(d.len() as u32));
            Ok(Item::Tensor(dtype, rank))
        }
        TypeDef::Sequence(inner) => of(ListKind::Sequence, inner),
        TypeDef::Optional(inner) => of(ListKind::Optional, inner),
        TypeDef::Map(key, value) => {
            let key = dtype_of(*key).filter(|d| matches!(d, DType::Str | DType::I64));
            let key = key.ok_or_else(|| Fault::form("the keys of a map are texts or i64"))?;
            let value = match item(value, depth + 1)? {
                // A map has one number a key: together they are a list.
                Item::Tensor(d, _) => Item::Tensor(d, ItemRank::Is(1)),
                Item::List(_) => return Err(Fault::form("the values of a map are tensors")),
            };
            Ok(Item::List(Box::new(ListType { kind: ListKind::Map, items: vec![Item::Tensor(key, ItemRank::Is(1)), value] })))
        }
        TypeDef::Other(kind) => Err(Fault::form(format!("its type is {kind}; elements are tensors, sequences, optionals and maps"))),
        TypeDef::Missing => Err(Fault::new(Code::MISSING_TYPE, "its elements have no type")),
    }
}

/// What a value is in a list.
pub(crate) fn item_of(ty: &TensorType) -> Item {
    match &ty.list {
        Some(l) => Item::List(l.clone()),
        None => Item::Tensor(ty.dtype, ItemRank::Is(ty.rank() as u32)),
    }
}

impl Importer<'_> {
    /// A list of values, which a run makes.
    pub(crate) fn list_of(&mut self, list: ListType, values: &[ValueId], origin: &Origin) -> Result<ValueId, Fault> {
        let top = self.frames.len() - 1;
        let g = &mut self.frames[top].graph;
        let op = Op::Host {
            op: HostOp::ListOf,
            params: Vec::new(),
            takes: values.iter().map(|&v| g.ty(v).dtype).collect(),
            gives: vec![DType::List],
            dims: vec![Vec::new()],
            symbols: Vec::new(),
            list: Some(list),
            lowered: false,
        };
        let n = g.add(op, values, origin.clone())?;
        Ok(g.result(n))
    }

    /// What stands for a slot where a value of the declared type is wanted: sequences of known length and optionals become lists of the
    /// run.
    ///
    /// # Errors
    /// An optional without a value whose type is not declared.
    pub(crate) fn coerce(&mut self, slot: Slot, ty: &TypeDef, origin: &Origin) -> Result<ValueId, Fault> {
        let wrapped = matches!(ty, TypeDef::Optional(_));
        let v = match slot {
            Slot::Value(v) => v,
            Slot::Poison => return Err(Fault::follows()),
            Slot::List(values, dtype) => {
                let top = self.frames.len() - 1;
                let first = Item::Tensor(dtype, ItemRank::Unknown);
                let joined = values.iter().try_fold(first, |item, &v| item.join(&item_of(self.frames[top].graph.ty(v))));
                let item = joined.ok_or_else(|| Fault::form("the elements of a sequence are of different dtypes"))?;
                self.list_of(ListType::of(ListKind::Sequence, item), &values, origin)?
            }
            Slot::Absent if wrapped => return self.list_of(declared(ty)?, &[], origin),
            Slot::Absent => return Err(Fault::form("it is an optional without a value, and its type is not declared")),
        };
        let top = self.frames.len() - 1;
        let own = self.frames[top].graph.ty(v);
        let optional = own.list.as_ref().is_some_and(|l| l.kind == ListKind::Optional);
        if !wrapped || optional {
            return Ok(v);
        }
        let list = ListType::of(ListKind::Optional, item_of(own));
        self.list_of(list, &[v], origin)
    }
}
