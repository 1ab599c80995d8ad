// SPDX-License-Identifier: Apache-2.0 OR MIT
#pragma once
#include "cuda_runtime.h"
#include "../core/copies.h"
