/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What bundles of sources that decode images compile: the runtime, what drives a device and the decoders as one translation unit. */
#include "../../c/runtime.c"

#include "../../c/image/host.c"
