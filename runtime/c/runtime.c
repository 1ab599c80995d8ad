/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The runtime as one translation unit. */
#include "rt.h"

#include "text.c"
#include "copy.c"
#include "os_linux.c"
#include "cpu.c"
#include "pool.c"
#include "load.c"
#include "host/heap.c"
#include "host/regex.c"
#include "host/case.c"
#include "host/strings.c"
#include "host/number.c"
#include "host/lists.c"
#include "host/values.c"
#include "host/call.c"
#include "args.c"
#include "run.c"
#ifdef PW_WITH_DEVICE
#include "device_cuda.c"
#include "device.c"
#endif
#include "api.c"
