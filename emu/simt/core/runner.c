/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Runs the bundle that this program is linked with, for another process (talk.h). Its kernels run in runtime.cpp. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "talk.h"

static int answers = 1;

static long put_bytes(int to, const void *from, uint64_t bytes) {
  long n = write(to == 1 ? answers : to, from, bytes);
  return n >= 0 ? n : errno == EINTR ? -1 : 0;
}
static long get_bytes(void *to, uint64_t bytes) {
  long n = read(0, to, bytes);
  return n >= 0 ? n : errno == EINTR ? -1 : 0;
}
static void *map(uint64_t bytes, long near) {
  (void)near;
  void *at = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return at == MAP_FAILED ? 0 : at;
}
static void unmap(void *at, uint64_t bytes) { munmap(at, bytes); }
static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
_Noreturn static void leave(int code) { _exit(code); }

/* Chooses the bundle of that name among those that were compiled together. */
int simt_choose(const char *key);

int main(int arguments, char **argument) {
  static const struct rlimit none = {0, 0};
  prctl(PR_SET_PDEATHSIG, 9);
  setrlimit(RLIMIT_CORE, &none);
  /* What kernels print does not get between the answers. */
  answers = dup(1);
  dup2(2, 1);
  if (arguments < 3) refuse(PW_E_ARGUMENT, "no bundle is named");
  if (!simt_choose(argument[2])) refuse(PW_E_BUNDLE, "this program was not compiled from that bundle");
  const pw_api *api = pw_bundle_api(PW_ABI_MAJOR);
  if (!api) refuse(PW_E_BUNDLE, "the bundle speaks another version of the ABI");
  serve(api, argument[1], 0, 0, 0);
}
