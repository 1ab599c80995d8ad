// SPDX-License-Identifier: Apache-2.0 OR MIT
// Asynchronous copies to the block's memory. They are done when they are waited for, so that reading too early shows.
#pragma once

inline void __pipeline_memcpy_async(void *to, const void *from, size_t bytes, size_t zeros = 0) { simt::copy_later(to, from, bytes, zeros); }
inline void __pipeline_commit() { simt::copy_commit(); }
inline void __pipeline_wait_prior(size_t groups) { simt::copy_wait(groups); }
