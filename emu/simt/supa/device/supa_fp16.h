// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "../supa.h"
typedef simt::half_t float16;
