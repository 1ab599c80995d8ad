// SPDX-License-Identifier: Apache-2.0 OR MIT
// Warp functions that name no lanes: those that run take part.
#pragma once

#define SIMT_SHUFFLE(name, Arg, mode)                                                                                      \
  template <class T> inline T name(T value, Arg by, int width = SIMT_WIDTH, SIMT_SITE) {                                    \
    return simt::shuffle(simt::Together, simt::all_lanes, value, simt::mode, (int)by, width, #name, file, line);            \
  }
SIMT_SHUFFLE(__shfl, int, Index)
SIMT_SHUFFLE(__shfl_up, unsigned, Up)
SIMT_SHUFFLE(__shfl_down, unsigned, Down)
SIMT_SHUFFLE(__shfl_xor, int, Xor)
inline SIMT_BALLOT __ballot(int predicate, SIMT_SITE) {
  return (SIMT_BALLOT)simt::ballot(simt::Together, simt::all_lanes, predicate, "__ballot", file, line);
}
inline int __any(int predicate, SIMT_SITE) {
  return simt::ballot(simt::Together, simt::all_lanes, predicate, "__any", file, line) != 0;
}
inline int __all(int predicate, SIMT_SITE) {
  return simt::everyone(simt::Together, simt::all_lanes, predicate, "__all", file, line);
}
