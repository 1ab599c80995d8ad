// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Elements of small integer tensors as expressions over symbols.
