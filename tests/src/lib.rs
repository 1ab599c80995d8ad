// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the project tests from outside its rooms. The harness is `tests/cases`; cases lie in `cases`, reviewed stages in `stages`.
