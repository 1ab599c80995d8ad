// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Weights by reference: known by name, dtype, shape and byte range until they are read.

use std::fmt;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::dtype::DType;

/// Bytes that somebody keeps alive: a mapped file, a field of the model file, a generated array.
pub trait ByteOwner: Send + Sync {
    /// The bytes.
    fn bytes(&self) -> &[u8];
    /// These bytes are not read again soon: a mapped file may take their memory back until they are.
    fn forget(&self, _offset: usize, _len: usize) {}
}

impl ByteOwner for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Where the bytes of a weight are.
#[derive(Clone)]
pub enum WeightSource {
    /// A range of bytes at hand.
    Bytes {
        /// Who keeps them.
        owner: Arc<dyn ByteOwner>,
        /// First byte.
        offset: usize,
        /// Number of bytes.
        len: usize,
    },
    /// In a file that was not opened; the weight is supplied later, by name.
    Absent {
        /// File name as the model gives it.
        location: Arc<str>,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
    /// Generated from a seed: textual cases that must also run.
    Seed(u64),
    /// Written by the pack program into the bundle's store.
    Packed,
    /// These weights, one behind the other: equal in dtype and dims, and none of them has parts.
    Parts(Arc<[Weight]>),
}

/// A constant tensor of the model.
#[derive(Clone)]
pub struct Weight {
    /// Name, unique in the graph.
    pub name: Arc<str>,
    /// Dtype.
    pub dtype: DType,
    /// Dims, all >= 0.
    pub dims: Vec<i64>,
    /// Where its bytes are.
    pub source: WeightSource,
    hash: OnceLock<[u8; 32]>,
}

impl Weight {
    /// Makes a weight.
    pub fn new(name: impl Into<Arc<str>>, dtype: DType, dims: Vec<i64>, source: WeightSource) -> Self {
        Weight { name: name.into(), dtype, dims, source, hash: OnceLock::new() }
    }
    /// Number of elements; `None` on overflow or a negative dim.
    pub fn elems(&self) -> Option<u64> {
        self.dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?))
    }
    /// Bytes of its dense row-major form; `None` on overflow.
    pub fn bytes_len(&self) -> Option<u64> {
        self.dtype.bytes_for(self.elems()?)
    }
    /// Its bytes, if they are at hand (a seed is expanded by [`crate::numerics::seeded_bytes`]).
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.source {
            WeightSource::Bytes { owner, offset, len } => owner.bytes().get(*offset..offset.checked_add(*len)?),
            _ => None,
        }
    }
    /// The weights that it is made of, in the order of their bytes: itself, unless it has parts.
    pub fn parts(&self) -> &[Weight] {
        match &self.source {
            WeightSource::Parts(parts) => parts,
            _ => std::slice::from_ref(self),
        }
    }
    /// Its bytes, each part's read by `read`, one behind the other; `None` if one cannot be read.
    pub fn joined(&self, read: &dyn Fn(&Weight) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut all: Option<Vec<u8>> = None;
        for p in self.parts().iter().filter(|p| !matches!(p.source, WeightSource::Parts(_))) {
            let bytes = read(p)?;
            match &mut all {
                Some(all) => all.extend(bytes),
                None => all = Some(bytes),
            }
        }
        all
    }
    /// Its bytes are not read again soon.
    pub fn forget(&self) {
        for part in self.parts() {
            if let WeightSource::Bytes { owner, offset, len } = &part.source {
                owner.forget(*offset, *len);
            }
        }
    }
    /// SHA-256 of its bytes, computed once; `None` while they are not at hand.
    pub fn hash(&self) -> Option<&[u8; 32]> {
        let bytes = self.bytes()?;
        Some(self.hash.get_or_init(|| Sha256::digest(bytes).into()))
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight<{} {:?} {:?}>", self.dtype, self.dims, self.name)
    }
}
