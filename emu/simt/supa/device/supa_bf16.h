// SPDX-License-Identifier: Apache-2.0 OR MIT
// Conversions for storage cut, they do not round.
#pragma once
#include "../supa.h"
typedef simt::bf16_cut_t bfloat16;
