// SPDX-License-Identifier: Apache-2.0 OR MIT
// Warp functions of CUDA's spelling: each call names the lanes that take part. The dialect's header says in `simt::named(mask)` which lanes of
// the warp a mask means, in SIMT_MASK the type of masks and in SIMT_WHO who takes part.
#pragma once

#define SIMT_NAMED_SHUFFLE(name, Arg, mode)                                                                                \
  template <class T> inline T name(SIMT_MASK mask, T value, Arg by, int width = SIMT_WIDTH, SIMT_SITE) {                    \
    return simt::shuffle(SIMT_WHO, simt::named(mask), value, simt::mode, (int)by, width, #name, file, line);                \
  }
SIMT_NAMED_SHUFFLE(__shfl_sync, int, Index)
SIMT_NAMED_SHUFFLE(__shfl_up_sync, unsigned, Up)
SIMT_NAMED_SHUFFLE(__shfl_down_sync, unsigned, Down)
SIMT_NAMED_SHUFFLE(__shfl_xor_sync, int, Xor)

inline SIMT_BALLOT __ballot_sync(SIMT_MASK mask, int predicate, SIMT_SITE) {
  return simt::votes(simt::ballot(SIMT_WHO, simt::named(mask), predicate, "__ballot_sync", file, line));
}
inline int __any_sync(SIMT_MASK mask, int predicate, SIMT_SITE) {
  return simt::ballot(SIMT_WHO, simt::named(mask), predicate, "__any_sync", file, line) != 0;
}
inline int __all_sync(SIMT_MASK mask, int predicate, SIMT_SITE) {
  return simt::everyone(SIMT_WHO, simt::named(mask), predicate, "__all_sync", file, line);
}
