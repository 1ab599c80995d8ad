/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* As stdlib.h here: what the runtime declares is all that is taken. */
#include "../../os.h"
