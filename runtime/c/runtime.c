/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The runtime as one translation unit. */
#include "rt.h"

#include "text.c"
#include "copy.c"
#include "os_linux.c"
#include "cpu.c"
#include "pool.c"
#include "load.c"
#include "args.c"
#include "run.c"
#include "api.c"
