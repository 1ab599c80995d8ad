// SPDX-License-Identifier: Apache-2.0 OR MIT
/* ---- the table that the runtime drives the device by: runtime/device.h ---- */

#include <stdio.h>

/* A kernel, and how it is launched. */
struct pw_kernel_entry {
  const char *name;
  pw_error (*launch)(const pw_device_launch *, pw_stream);
  const void *kernel;
  uint32_t params;
};
/* The kernels of the library, defined beside them. */
extern "C" const pw_kernel_entry *pw_kernel_table(uint32_t *count);

/* Reports of a device, and kernels by name. */
struct pw_source_device {
  int ordinal;
  char text[8192];
};

static int32_t pw_failed(pw_source_device *d, const char *what, pw_error error) {
  snprintf(d->text, sizeof d->text, "%s failed: %s", what, pw_error_text(error));
  return error == PW_NO_MEMORY ? PW_E_MEMORY : PW_E_DEVICE;
}
#define PW_CALL(device, what, call)                                                    \
  do {                                                                                 \
    const pw_error error = (call);                                                     \
    return error == PW_SUCCESS ? (int32_t)PW_OK : pw_failed((pw_source_device *)(device), what, error); \
  } while (0)

static int32_t pw_source_open(void *, const pw_device_header *, int32_t ordinal, void **device, char *message, size_t room) {
  int count = 0;
  const pw_error error = pw_count(&count);
  if (error != PW_SUCCESS || ordinal < 0 || ordinal >= count) {
    const char *text = error != PW_SUCCESS ? pw_error_text(error) : "no error";
    snprintf(message, room, "no device number %d: the runtime has %d, and says %s", (int)ordinal, count, text);
    return PW_E_NO_DEVICE;
  }
  pw_source_device *d = new pw_source_device();
  d->ordinal = ordinal;
  *device = d;
  return PW_OK;
}
static void pw_source_close(void *device) { delete (pw_source_device *)device; }
static int32_t pw_source_enter(void *device) { PW_CALL(device, "entering the device", pw_choose(((pw_source_device *)device)->ordinal)); }
static void pw_source_leave(void *) {}
static const char *pw_source_error(void *device) { return ((pw_source_device *)device)->text; }
static int32_t pw_source_memory(void *device, uint64_t *free, uint64_t *total) {
  size_t f = 0, t = 0;
  const pw_error error = pw_memory(&f, &t);
  *free = f, *total = t;
  return error == PW_SUCCESS ? (int32_t)PW_OK : pw_failed((pw_source_device *)device, "asking for the free memory", error);
}
static int32_t pw_source_alloc(void *device, uint64_t bytes, uint64_t *address) {
  void *p = nullptr;
  const pw_error error = pw_take(&p, (size_t)bytes);
  *address = (uint64_t)(uintptr_t)p;
  return error == PW_SUCCESS ? (int32_t)PW_OK : pw_failed((pw_source_device *)device, "taking memory", error);
}
static void pw_source_release(void *, uint64_t address) { (void)pw_give((void *)(uintptr_t)address); }
static int32_t pw_source_stream(void *device, void **stream) {
  pw_stream s{};
  const pw_error error = pw_open_stream(&s);
  *stream = (void *)s;
  return error == PW_SUCCESS ? (int32_t)PW_OK : pw_failed((pw_source_device *)device, "making a stream", error);
}
static void pw_source_end_stream(void *, void *stream) { (void)pw_close_stream((pw_stream)stream); }
static int32_t pw_source_copy_in(void *device, void *stream, uint64_t to, const void *from, uint64_t bytes) {
  PW_CALL(device, "a copy to the device", pw_copy_in((void *)(uintptr_t)to, from, (size_t)bytes, (pw_stream)stream));
}
static int32_t pw_source_sync(void *device, void *stream) { PW_CALL(device, "what ran on the device", pw_wait((pw_stream)stream)); }
static int32_t pw_source_copy_out(void *device, void *stream, void *to, uint64_t from, uint64_t bytes) {
  const pw_error error = pw_copy_out(to, (const void *)(uintptr_t)from, (size_t)bytes, (pw_stream)stream);
  if (error != PW_SUCCESS) return pw_failed((pw_source_device *)device, "a copy from the device", error);
  return pw_source_sync(device, stream);
}
static int32_t pw_source_copy(void *device, void *stream, uint64_t to, uint64_t from, uint64_t bytes) {
  PW_CALL(device, "a copy on the device", pw_copy_on((void *)(uintptr_t)to, (const void *)(uintptr_t)from, (size_t)bytes, (pw_stream)stream));
}
/* The kernels are code of this library: there is one image, and nothing to load. */
static int32_t pw_source_image(void *, const char *, uint64_t, void **image) {
  uint32_t count = 0;
  *image = (void *)pw_kernel_table(&count);
  return PW_OK;
}
static void pw_source_drop_image(void *, void *) {}
static int32_t pw_source_kernel(void *device, void *, const char *name, uint32_t dynamic, void **kernel) {
  pw_source_device *d = (pw_source_device *)device;
  uint32_t count = 0;
  const pw_kernel_entry *all = pw_kernel_table(&count);
  for (uint32_t i = 0; i < count; i++) {
    const pw_kernel_entry &k = all[i];
    if (strcmp(k.name, name) != 0) continue;
    *kernel = (void *)&k;
    const pw_error error = dynamic ? pw_ask(k.kernel, dynamic) : PW_SUCCESS;
    return error == PW_SUCCESS ? (int32_t)PW_OK : pw_failed(d, "asking for the group's memory", error);
  }
  snprintf(d->text, sizeof d->text, "the library has no kernel %s", name);
  return PW_E_BUNDLE;
}
static int32_t pw_source_launch(void *device, void *stream, void *kernel, const pw_device_launch *l) {
  const pw_kernel_entry *k = (const pw_kernel_entry *)kernel;
  if (l->params != k->params) return pw_failed((pw_source_device *)device, "a launch with other parameters than the kernel has", PW_SUCCESS);
  PW_CALL(device, "the launch", k->launch(l, (pw_stream)stream));
}

extern "C" pw_device_api pw_source_driver = {
    sizeof(pw_device_api), nullptr, pw_source_open, pw_source_close, pw_source_enter, pw_source_leave, pw_source_error, pw_source_memory,
    pw_source_alloc, pw_source_release, pw_source_stream, pw_source_end_stream, pw_source_copy_in, pw_source_copy_out, pw_source_copy,
    pw_source_image, pw_source_drop_image, pw_source_kernel, pw_source_launch, pw_source_sync,
    nullptr, nullptr, nullptr, nullptr,
};
