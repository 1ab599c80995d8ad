// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "musa_runtime.h"
typedef simt::e4m3_t __mt_fp8_e4m3;
typedef simt::e5m2_t __mt_fp8_e5m2;
