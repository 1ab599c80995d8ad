/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A driver without a device: the calls that the runtime makes, in the host's memory; kernels compute nothing. What it has and where it
 * fails is set by fake_set, or for a process that knows nothing of it by FAKE_CUDA, the same numbers in decimal with a comma behind each;
 * fake_left says what was taken and not given back. */
#include <stddef.h>
#include <stdint.h>

void *malloc(size_t n);
void free(void *p);
void *memcpy(void *to, const void *from, size_t n);
char *getenv(const char *name);

static int version, count, capability, entered, failing, context, module;
static uint64_t room, total, taken, blocks, launches, things, recorded, replays;
static int recording;

/* failing: 1 = init, 2 = module, 3 = launch, 4 = sync */
void fake_set(int v, int n, int c, uint64_t has, uint64_t all, int fails) {
  version = v, count = n, capability = c, room = has, total = all, failing = fails;
}
__attribute__((constructor)) static void from_environment(void) {
  uint64_t numbers[6] = {0}, i = 0;
  for (const char *c = getenv("FAKE_CUDA"); c && *c && i < 6; c++) {
    if (*c == ',') i++;
    else numbers[i] = 10 * numbers[i] + (uint64_t)(*c - '0');
  }
  if (i == 6) fake_set((int)numbers[0], (int)numbers[1], (int)numbers[2], numbers[3], numbers[4], (int)numbers[5]);
}
uint64_t fake_left(void) { return blocks + things + (uint64_t)entered; }
uint64_t fake_launches(void) { return launches; }
uint64_t fake_replays(void) { return replays; }

int cuInit(unsigned f) { return failing == 1 ? 999 : (int)f; }
int cuDriverGetVersion(int *v) { return *v = version, 0; }
int cuDeviceGetCount(int *n) { return *n = count, count ? 0 : 100; }
int cuDeviceGet(int *d, int i) { return *d = i, 0; }
int cuDeviceGetName(char *s, int n, int d) { return (void)d, n < 5 ? 1 : (memcpy(s, "Fake", 5), 0); }
int cuDeviceGetAttribute(int *v, int a, int d) { return (void)d, *v = a == 75 ? capability / 10 : capability % 10, 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { return (void)d, things++, *c = &context, 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { return (void)d, things--, 0; }
int cuCtxPushCurrent_v2(void *c) { return entered++, c != &context; }
int cuCtxPopCurrent_v2(void **c) { return entered--, *c = &context, 0; }
int cuMemGetInfo_v2(size_t *f, size_t *t) { return *f = room - taken, *t = total, 0; }
int cuMemAlloc_v2(uint64_t *a, size_t n) {
  if (taken + n > room) return 2;
  uint64_t *p = malloc(n + 16);
  if (!p) return 2;
  *p = n, taken += n, blocks++, *a = (uint64_t)(uintptr_t)(p + 2);
  return 0;
}
int cuMemFree_v2(uint64_t a) {
  uint64_t *p = (uint64_t *)(uintptr_t)a - 2;
  taken -= *p, blocks--;
  free(p);
  return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, void *s) { return (void)s, memcpy((void *)(uintptr_t)to, from, n), 0; }
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, void *s) { return (void)s, memcpy(to, (void *)(uintptr_t)from, n), 0; }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, void *s) {
  return (void)s, memcpy((void *)(uintptr_t)to, (void *)(uintptr_t)from, n), 0;
}
int cuStreamCreate(void **s, unsigned f) { return (void)f, things++, *s = &things, 0; }
int cuStreamDestroy_v2(void *s) { return (void)s, things--, 0; }
int cuStreamSynchronize(void *s) { return (void)s, failing == 4 ? 700 : 0; }
int cuModuleLoadDataEx(void **m, const void *image, unsigned n, int *o, void **v) {
  (void)image;
  if (failing == 2) {
    for (unsigned i = 0; i < n; i++)
      if (o[i] == 5) memcpy(v[i], "line 7: no such instruction", 28);
    return 218;
  }
  return things++, *m = &module, 0;
}
int cuModuleUnload(void *m) { return (void)m, things--, 0; }
int cuModuleGetFunction(void **f, void *m, const char *name) { return *f = m, !name[0]; }
int cuFuncSetAttribute(void *f, int a, int v) { return (void)f, (void)a, (void)v, 0; }
int cuLaunchKernel(void *f, unsigned x, unsigned y, unsigned z, unsigned gx, unsigned gy, unsigned gz, unsigned n, void *s, void **p, void **e) {
  (void)f, (void)n, (void)s, (void)e;
  if (failing == 3) return 701;
  recording ? recorded++ : launches++;
  return !(x && y && z && gx && gy == 1 && gz == 1 && p[0]);
}
int cuStreamBeginCapture_v2(void *s, unsigned mode) { return (void)s, recording++ || mode != 1; }
int cuStreamEndCapture(void *s, void **g) { return (void)s, things++, *g = &recorded, recording-- != 1; }
int cuGraphInstantiateWithFlags(void **e, void *g, uint64_t flags) { return things++, *e = g, flags != 0; }
int cuGraphLaunch(void *e, void *s) { return (void)s, replays++, launches++, failing == 3 ? 701 : e != &recorded; }
int cuGraphExecDestroy(void *e) { return things--, e != &recorded; }
int cuGraphDestroy(void *g) { return things--, g != &recorded; }
int cuGetErrorName(int error, const char **text) {
  *text = error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : error == 701 ? "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES" : error == 218 ? "CUDA_ERROR_INVALID_PTX"
        : error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
  return 0;
}
