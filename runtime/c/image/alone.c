/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The decoders for programs that are no bundle: the interpreters. */
#define PW_IMAGE_ALONE
#include "image.c"
