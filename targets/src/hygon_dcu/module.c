/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The table that the runtime drives the device by (runtime/device.h), of a code object that the HIP runtime loads: `build.sh --code-object`.
   The runtime is looked for when a model is loaded, under the name that the vendor's SDK has for it, then under AMD's. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/device.h"
#include "runtime/portwright.h"

__asm__(".section .rodata\n.balign 4096\npw_code_object:\n.incbin \"build/kernels.hsaco\"\n.previous\n");
extern const char pw_code_object[] __attribute__((visibility("hidden")));

/* hipErrorOutOfMemory, and directions of copies. */
enum { OUT_OF_MEMORY = 2, TO_DEVICE = 1, FROM_DEVICE = 2, ON_DEVICE = 3 };
typedef int error_t_;

#define FUNCTIONS(F)                                                                                              \
  F(GetDeviceCount, (int *))                                                                                      \
  F(SetDevice, (int))                                                                                             \
  F(MemGetInfo, (size_t *, size_t *))                                                                             \
  F(Malloc, (void **, size_t))                                                                                    \
  F(Free, (void *))                                                                                               \
  F(StreamCreate, (void **))                                                                                      \
  F(StreamDestroy, (void *))                                                                                      \
  F(StreamSynchronize, (void *))                                                                                  \
  F(MemcpyAsync, (void *, const void *, size_t, int, void *))                                                     \
  F(ModuleLoadData, (void **, const void *))                                                                      \
  F(ModuleUnload, (void *))                                                                                       \
  F(ModuleGetFunction, (void **, void *, const char *))                                                           \
  F(ModuleLaunchKernel, (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **))

static struct {
  const char *(*GetErrorString)(error_t_);
#define FIELD(name, signature) error_t_(*name) signature;
  FUNCTIONS(FIELD)
} hip;

struct device {
  int ordinal;
  char text[512];
};
enum { PARAMS = 256 };

static int32_t said(void *device, const char *what, error_t_ error) {
  if (error == 0) return PW_OK;
  snprintf(((struct device *)device)->text, sizeof ((struct device *)device)->text, "%s failed: %s", what, hip.GetErrorString(error));
  return error == OUT_OF_MEMORY ? PW_E_MEMORY : PW_E_DEVICE;
}

static const char *load(void) {
  void *library = dlopen("libgalaxyhip.so", RTLD_NOW);
  if (!library) library = dlopen("libamdhip64.so", RTLD_NOW);
  if (!library) return "neither libgalaxyhip.so nor libamdhip64.so can be loaded";
#define RESOLVE(name, signature) \
  if (!(*(void **)&hip.name = dlsym(library, "hip" #name))) return "the HIP runtime has no hip" #name;
  RESOLVE(GetErrorString, )
  FUNCTIONS(RESOLVE)
  return NULL;
}

static int32_t open_device(void *own, const pw_device_header *header, int32_t ordinal, void **device, char *message, size_t room) {
  (void)own, (void)header;
  const char *fault = load();
  if (fault) return snprintf(message, room, "%s", fault), PW_E_NO_DRIVER;
  int count = 0;
  const error_t_ error = hip.GetDeviceCount(&count);
  if (error || ordinal < 0 || ordinal >= count) {
    snprintf(message, room, "no device number %d: the runtime has %d, and says %s", (int)ordinal, count, error ? hip.GetErrorString(error) : "no error");
    return PW_E_NO_DEVICE;
  }
  struct device *d = calloc(1, sizeof *d);
  if (!d) return PW_E_MEMORY;
  d->ordinal = ordinal;
  *device = d;
  return PW_OK;
}
static void close_device(void *d) { free(d); }
static int32_t enter(void *d) { return said(d, "entering the device", hip.SetDevice(((struct device *)d)->ordinal)); }
static void leave(void *d) { (void)d; }
static const char *text(void *d) { return ((struct device *)d)->text; }
static int32_t memory(void *d, uint64_t *free_bytes, uint64_t *total) {
  size_t f = 0, t = 0;
  const int32_t status = said(d, "asking for the free memory", hip.MemGetInfo(&f, &t));
  *free_bytes = f, *total = t;
  return status;
}
static int32_t take(void *d, uint64_t bytes, uint64_t *address) {
  void *p = NULL;
  const int32_t status = said(d, "taking memory", hip.Malloc(&p, (size_t)bytes));
  *address = (uint64_t)(uintptr_t)p;
  return status;
}
static void give(void *d, uint64_t address) { (void)d, (void)hip.Free((void *)(uintptr_t)address); }
static int32_t open_stream(void *d, void **stream) { return said(d, "making a stream", hip.StreamCreate(stream)); }
static void close_stream(void *d, void *stream) { (void)d, (void)hip.StreamDestroy(stream); }
static int32_t sync(void *d, void *stream) { return said(d, "what ran on the device", hip.StreamSynchronize(stream)); }
static int32_t copy_in(void *d, void *stream, uint64_t to, const void *from, uint64_t bytes) {
  return said(d, "a copy to the device", hip.MemcpyAsync((void *)(uintptr_t)to, from, (size_t)bytes, TO_DEVICE, stream));
}
static int32_t copy_out(void *d, void *stream, void *to, uint64_t from, uint64_t bytes) {
  const error_t_ error = hip.MemcpyAsync(to, (const void *)(uintptr_t)from, (size_t)bytes, FROM_DEVICE, stream);
  return error ? said(d, "a copy from the device", error) : sync(d, stream);
}
static int32_t copy_on(void *d, void *stream, uint64_t to, uint64_t from, uint64_t bytes) {
  return said(d, "a copy on the device", hip.MemcpyAsync((void *)(uintptr_t)to, (const void *)(uintptr_t)from, (size_t)bytes, ON_DEVICE, stream));
}
/* The image is the code object of this library, whatever the description names. */
static int32_t image(void *d, const char *name, uint64_t bytes, void **out) {
  (void)name, (void)bytes;
  return said(d, "loading the code object", hip.ModuleLoadData(out, pw_code_object));
}
static void drop_image(void *d, void *module) { (void)d, (void)hip.ModuleUnload(module); }
static int32_t kernel(void *d, void *module, const char *name, uint32_t dynamic, void **out) {
  (void)dynamic;
  return said(d, name, hip.ModuleGetFunction(out, module, name));
}
static int32_t launch(void *d, void *stream, void *function, const pw_device_launch *l) {
  void *params[PARAMS];
  if (l->params > PARAMS) return said(d, "a launch of more parameters than there is room for", 1);
  for (uint32_t i = 0; i < l->params; i++) params[i] = (void *)(uintptr_t)&l->param[i];
  const uint32_t *g = l->grid;
  return said(d, "the launch", hip.ModuleLaunchKernel(function, g[0], g[1], g[2], l->group, 1, 1, l->dynamic, stream, params, NULL));
}

pw_device_api pw_source_driver = {
    sizeof(pw_device_api), NULL, open_device, close_device, enter, leave, text, memory, take, give, open_stream, close_stream,
    copy_in, copy_out, copy_on, image, drop_image, kernel, launch, sync, NULL, NULL, NULL, NULL,
};
