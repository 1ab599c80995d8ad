// SPDX-License-Identifier: Apache-2.0 OR MIT
// A HIP runtime without a device: memory is the host's, a code object is looked at, launches are written to the file FAKE_HIP_LOG.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WELL = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_BINARY = 209 };

const char *hipGetErrorString(int error) { return error == NO_BINARY ? "no kernel image for the device" : error ? "a fault" : "no error"; }
int hipGetDeviceCount(int *to) { return *to = 1, WELL; }
int hipSetDevice(int device) { return device == 0 ? WELL : INVALID; }
int hipMemGetInfo(size_t *free_bytes, size_t *total) { return *free_bytes = *total = 1u << 30, WELL; }
int hipMalloc(void **to, size_t bytes) { return (*to = calloc(bytes ? bytes : 1, 1)) ? WELL : OUT_OF_MEMORY; }
int hipFree(void *at) { return free(at), WELL; }
int hipStreamCreate(void **to) { return (*to = malloc(1)) ? WELL : OUT_OF_MEMORY; }
int hipStreamDestroy(void *stream) { return free(stream), WELL; }
int hipStreamSynchronize(void *stream) { return (void)stream, WELL; }
int hipMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) {
  (void)stream; // the null stream is one
  if (kind < 1 || kind > 3) return INVALID;
  return memcpy(to, from, bytes), WELL;
}
// A little-endian ELF of 64 bits for AMD's GPUs: machine 224, of which the processor's number 0x2f is gfx906.
int hipModuleLoadData(void **to, const void *image) {
  const unsigned char *e = image;
  if (memcmp(e, "\x7f" "ELF\2\1", 6) || e[18] != 224 || e[19] != 0 || e[48] != 0x2f) return NO_BINARY;
  return *to = (void *)image, WELL;
}
int hipModuleUnload(void *module) { return module ? WELL : INVALID; }
int hipModuleGetFunction(void **to, void *module, const char *name) { return module && (*to = strdup(name)) ? WELL : INVALID; }
int hipModuleLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned x, unsigned y, unsigned z, unsigned shared, void *stream,
                          void **params, void **extra) {
  const char *at = getenv("FAKE_HIP_LOG");
  FILE *log = at ? fopen(at, "a") : NULL;
  if (!log || !stream || !params || extra || y != 1 || z != 1) return INVALID;
  fprintf(log, "%s %u %u %u lanes %u shared %u\n", (const char *)f, gx, gy, gz, x, shared);
  return fclose(log), WELL;
}
