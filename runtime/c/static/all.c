/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The static program as one translation unit. */
#include "program.h"

#include "inflate.c"
#include "zip.c"
#include "npy.c"
#include "show.c"
#include "main.c"
