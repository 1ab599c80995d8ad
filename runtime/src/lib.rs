// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes into a bundle and runs it.
//!
//! The runtime itself is the freestanding C11 of `c/`, compiled for every supported triple when Portwright is built and
//! embedded here ([`embed::object_for`]). Beside it this crate writes and reads what surrounds it: the description that a library carries
//! ([`blob`]), the weight store ([`store`]), the manifest ([`manifest`]), the typed C header ([`header`]), the folder
//! ([`bundle`]), devices ([`device`]), static executables ([`program`]), NumPy files ([`npz`]), images ([`image`]), and the loader that the command runs bundles with ([`load`]).
//!
//! It knows neither Graph IR nor Kernel IR, and no compiler.

pub mod blob;
pub mod bundle;
pub mod device;
pub mod dtype;
pub mod embed;
pub mod features;
pub mod feed;
pub mod header;
pub mod image;
pub mod load;
pub mod manifest;
pub mod npz;
pub mod program;
pub mod store;
pub mod tensor;
pub mod value;

pub use embed::object_for;
