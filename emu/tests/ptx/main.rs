// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The PTX machine on PTX that we did not emit: results against plain computations, and programs with a mistake against their diagnosis.
#![allow(missing_docs)]

mod bad;
mod basic;
mod control;
mod device;
mod gemm;
mod hopper;
mod judge;
mod math;
mod sync;
mod triton;
mod warp;
