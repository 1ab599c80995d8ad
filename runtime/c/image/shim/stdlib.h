/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What vendored code takes of this header, where a bundle's objects are compiled without a C library. */
#ifndef PW_SHIM_STDLIB_H
#define PW_SHIM_STDLIB_H
#include <stddef.h>
static inline int abs(int v) { return v < 0 ? -v : v; }
#endif
