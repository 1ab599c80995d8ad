/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The CUDA driver API, found in the process or on the machine when a model is loaded: no toolkit is needed, neither here nor there. */
#include "device.h"
#include "rt.h"

/* Of the C library, or of a library beside it; a process without them has no driver either. */
void *dlopen(const char *file, int mode) __attribute__((weak));
void *dlsym(void *library, const char *name) __attribute__((weak));

/* The calls, by their names in the library (cuda.h, CUDA driver API). */
#define CUDA_CALLS(X)                                                                                                     \
  X(init, "cuInit", (uint32_t flags))                                                                                    \
  X(version, "cuDriverGetVersion", (int32_t *version))                                                                   \
  X(count, "cuDeviceGetCount", (int32_t *count))                                                                         \
  X(get, "cuDeviceGet", (int32_t *device, int32_t ordinal))                                                              \
  X(name, "cuDeviceGetName", (char *name, int32_t room, int32_t device))                                                 \
  X(attribute, "cuDeviceGetAttribute", (int32_t *value, int32_t attribute, int32_t device))                              \
  X(retain, "cuDevicePrimaryCtxRetain", (void **context, int32_t device))                                                \
  X(release, "cuDevicePrimaryCtxRelease_v2", (int32_t device))                                                           \
  X(push, "cuCtxPushCurrent_v2", (void *context))                                                                        \
  X(pop, "cuCtxPopCurrent_v2", (void **context))                                                                         \
  X(info, "cuMemGetInfo_v2", (size_t *free, size_t *total))                                                              \
  X(alloc, "cuMemAlloc_v2", (uint64_t *address, size_t bytes))                                                           \
  X(free, "cuMemFree_v2", (uint64_t address))                                                                            \
  X(in, "cuMemcpyHtoDAsync_v2", (uint64_t to, const void *from, size_t bytes, void *stream))                             \
  X(out, "cuMemcpyDtoHAsync_v2", (void *to, uint64_t from, size_t bytes, void *stream))                                  \
  X(copy, "cuMemcpyDtoDAsync_v2", (uint64_t to, uint64_t from, size_t bytes, void *stream))                              \
  X(stream, "cuStreamCreate", (void **stream, uint32_t flags))                                                           \
  X(end_stream, "cuStreamDestroy_v2", (void *stream))                                                                    \
  X(sync, "cuStreamSynchronize", (void *stream))                                                                         \
  X(load, "cuModuleLoadDataEx", (void **module, const void *image, uint32_t n, int32_t *options, void **values))         \
  X(unload, "cuModuleUnload", (void *module))                                                                            \
  X(function, "cuModuleGetFunction", (void **function, void *module, const char *name))                                  \
  X(set, "cuFuncSetAttribute", (void *function, int32_t attribute, int32_t value))                                       \
  X(launch, "cuLaunchKernel",                                                                                            \
    (void *function, uint32_t x, uint32_t y, uint32_t z, uint32_t gx, uint32_t gy, uint32_t gz, uint32_t shared,         \
     void *stream, void **params, void **extra))                                                                         \
  X(text, "cuGetErrorName", (int32_t error, const char **text))

/* Of later versions than bundles need; without them launches are not recorded. */
#define CUDA_LATER(X)                                                                                                     \
  X(begin, "cuStreamBeginCapture_v2", (void *stream, uint32_t mode))                                                     \
  X(end, "cuStreamEndCapture", (void *stream, void **graph))                                                             \
  X(make, "cuGraphInstantiateWithFlags", (void **run, void *graph, uint64_t flags))                                      \
  X(replay, "cuGraphLaunch", (void *run, void *stream))                                                                  \
  X(drop_run, "cuGraphExecDestroy", (void *run))                                                                         \
  X(drop, "cuGraphDestroy", (void *graph))

typedef struct {
#define FIELD(field, symbol, args) int32_t(*field) args;
  CUDA_CALLS(FIELD)
  CUDA_LATER(FIELD)
#undef FIELD
} cuda_calls;

/* CUdevice_attribute, CUfunction_attribute, CUjit_option, CUresult. */
enum { MAJOR = 75, MINOR = 76, DYNAMIC_BYTES = 8, ERROR_LOG = 5, ERROR_LOG_BYTES = 6, OUT_OF_MEMORY = 2, NO_DEVICE = 100 };

typedef struct {
  cuda_calls call;
  int32_t device;
  void *context;
  char text[512];
} cuda;

static int32_t cuda_failed(cuda *d, const char *what, int32_t error) {
  const char *name = 0;
  pw_text t = pw_text_in(d->text, sizeof d->text);
  pw_put(&t, what), pw_put(&t, " failed: ");
  if (d->call.text(error, &name) == 0 && name) pw_put(&t, name), pw_put(&t, " (");
  else pw_put(&t, "CUDA error (");
  pw_put_int(&t, error), pw_put(&t, ")");
  return error == OUT_OF_MEMORY ? PW_E_MEMORY : PW_E_DEVICE;
}

static void put_capability(pw_text *t, int64_t c) { pw_put_int(t, c / 10), pw_put(t, "."), pw_put_int(t, c % 10); }
static void put_version(pw_text *t, int64_t v) { pw_put_int(t, v / 1000), pw_put(t, "."), pw_put_int(t, v % 1000 / 10); }

static int32_t cuda_open(void *user, const pw_device_header *code, int32_t ordinal, void **out, char *message, size_t room) {
  pw_text t = pw_text_in(message, room);
  cuda found, *d = &found;
  (void)user;
  memset(d, 0, sizeof *d);
  void *library = dlopen && dlsym ? dlopen("libcuda.so.1", 2 /* RTLD_NOW */) : 0;
  if (!library) {
    pw_put(&t, "no CUDA driver: libcuda.so.1 cannot be opened. Install the driver of the GPU, or run the bundle in an emulator");
    return PW_E_NO_DRIVER;
  }
  const char *absent = 0;
#define FIND(field, symbol, args) \
  *(void **)(void *)&d->call.field = dlsym(library, symbol); \
  if (!d->call.field) absent = symbol;
  CUDA_CALLS(FIND)
#undef FIND
#define FIND(field, symbol, args) *(void **)(void *)&d->call.field = dlsym(library, symbol);
  CUDA_LATER(FIND)
#undef FIND
  int32_t version = 0, count = 0, error;
  if (!absent) d->call.version(&version);
  if (absent || version < (int32_t)code->version) {
    pw_put(&t, "the CUDA driver is too old: it speaks CUDA "), put_version(&t, version);
    pw_put(&t, ", and the bundle needs "), put_version(&t, code->version);
    if (absent) pw_put(&t, " (it has no "), pw_put(&t, absent), pw_put(&t, ")");
    return PW_E_OLD_DRIVER;
  }
  error = d->call.init(0);
  if (!error) error = d->call.count(&count);
  if (error || ordinal < 0 || ordinal >= count) {
    pw_put(&t, "no CUDA device number "), pw_put_int(&t, ordinal), pw_put(&t, ": the driver has "), pw_put_int(&t, count);
    const char *name = 0;
    if (error && error != NO_DEVICE && d->call.text(error, &name) == 0 && name) pw_put(&t, ", and says "), pw_put(&t, name);
    return PW_E_NO_DEVICE;
  }
  int32_t major = 0, minor = 0;
  char name[128] = "";
  error = d->call.get(&d->device, ordinal);
  if (!error) error = d->call.attribute(&major, MAJOR, d->device);
  if (!error) error = d->call.attribute(&minor, MINOR, d->device);
  if (!error) d->call.name(name, sizeof name, d->device);
  int32_t has = 10 * major + minor, needs = (int32_t)code->capability;
  if (!error && (has < needs || (code->flags & PW_DEVICE_EXACT && has != needs))) {
    pw_put(&t, name), pw_put(&t, " has compute capability "), put_capability(&t, has);
    pw_put(&t, ", and the bundle's code needs "), put_capability(&t, needs);
    pw_put(&t, code->flags & PW_DEVICE_EXACT ? " exactly" : " or later");
    pw_put(&t, ". Compile the model for this device, with --target");
    return PW_E_CAPABILITY;
  }
  if (!error) error = d->call.retain(&d->context, d->device);
  if (error) {
    pw_put(&t, name), pw_put(&t, ": "), cuda_failed(d, "opening the device", error), pw_put(&t, d->text);
    return PW_E_NO_DEVICE;
  }
  cuda *kept = pw_os_map(sizeof *kept);
  if (!kept) {
    d->call.release(d->device);
    pw_put(&t, "no memory for the driver's table");
    return PW_E_MEMORY;
  }
  *kept = *d;
  *out = kept;
  return PW_OK;
}

static void cuda_close(void *device) {
  cuda *d = device;
  d->call.release(d->device);
  pw_os_unmap(d, sizeof *d);
}

#define CALL(what, call)                                     \
  do {                                                       \
    cuda *d = device;                                        \
    int32_t error = d->call;                                 \
    return error ? cuda_failed(d, what, error) : (int32_t)PW_OK;  \
  } while (0)

static int32_t cuda_enter(void *device) { CALL("entering the device", call.push(d->context)); }
static void cuda_leave(void *device) {
  void *before;
  ((cuda *)device)->call.pop(&before);
}
static const char *cuda_error(void *device) { return ((cuda *)device)->text; }
static int32_t cuda_memory(void *device, uint64_t *free, uint64_t *total) {
  size_t f = 0, t = 0;
  cuda *d = device;
  int32_t error = d->call.info(&f, &t);
  *free = f, *total = t;
  return error ? cuda_failed(d, "asking for the free memory", error) : (int32_t)PW_OK;
}
static int32_t cuda_alloc(void *device, uint64_t bytes, uint64_t *address) {
  CALL("taking memory", call.alloc(address, (size_t)bytes));
}
static void cuda_release(void *device, uint64_t address) { ((cuda *)device)->call.free(address); }
static int32_t cuda_stream(void *device, void **stream) { CALL("making a stream", call.stream(stream, 1 /* non-blocking */)); }
static void cuda_end_stream(void *device, void *stream) { ((cuda *)device)->call.end_stream(stream); }
static int32_t cuda_copy_in(void *device, void *stream, uint64_t to, const void *from, uint64_t bytes) {
  CALL("a copy to the device", call.in(to, from, (size_t)bytes, stream));
}
static int32_t cuda_sync(void *device, void *stream) { CALL("what ran on the device", call.sync(stream)); }
static int32_t cuda_copy_out(void *device, void *stream, void *to, uint64_t from, uint64_t bytes) {
  cuda *d = device;
  int32_t error = d->call.out(to, from, (size_t)bytes, stream);
  return error ? cuda_failed(d, "a copy from the device", error) : cuda_sync(device, stream);
}
static int32_t cuda_copy(void *device, void *stream, uint64_t to, uint64_t from, uint64_t bytes) {
  CALL("a copy on the device", call.copy(to, from, (size_t)bytes, stream));
}
static int32_t cuda_image(void *device, const char *text, uint64_t bytes, void **image) {
  cuda *d = device;
  char log[320] = "";
  int32_t options[] = {ERROR_LOG, ERROR_LOG_BYTES};
  void *values[] = {log, (void *)(uintptr_t)(sizeof log - 1)};
  (void)bytes;
  int32_t error = d->call.load(image, text, 2, options, values);
  if (!error) return PW_OK;
  int32_t status = cuda_failed(d, "the driver's assembler", error);
  size_t n = 0;
  while (d->text[n]) n++;
  pw_text t = pw_text_in(d->text + n, sizeof d->text - n);
  if (log[0]) pw_put(&t, ": "), pw_put(&t, log);
  return status;
}
static void cuda_drop_image(void *device, void *image) { ((cuda *)device)->call.unload(image); }
static int32_t cuda_kernel(void *device, void *image, const char *name, uint32_t dynamic, void **kernel) {
  cuda *d = device;
  int32_t error = d->call.function(kernel, image, name);
  if (error) return cuda_failed(d, "looking up a kernel", error);
  /* More than launches get without asking. */
  if (dynamic) error = d->call.set(*kernel, DYNAMIC_BYTES, (int32_t)dynamic);
  return error ? cuda_failed(d, "asking for the group's memory", error) : (int32_t)PW_OK;
}
static int32_t cuda_launch(void *device, void *stream, void *kernel, const pw_device_launch *l) {
  cuda *d = device;
  void *params[PW_DEVICE_PARAMS];
  if (l->params > PW_DEVICE_PARAMS) return cuda_failed(d, "a launch of too many parameters", 1);
  for (uint32_t i = 0; i < l->params; i++) params[i] = (void *)(uintptr_t)&l->param[i];
  int32_t error = d->call.launch(kernel, l->grid[0], l->grid[1], l->grid[2], l->group, 1, 1, l->dynamic, stream, params, 0);
  return error ? cuda_failed(d, "the launch", error) : (int32_t)PW_OK;
}

/* Launches as one graph. Only what this thread does is recorded: others may use the device meanwhile. */
static int32_t cuda_record(void *device, void *stream) {
  const cuda_calls *c = &((cuda *)device)->call;
  if (!c->begin || !c->end || !c->make || !c->replay || !c->drop_run || !c->drop) return PW_E_DEVICE;
  CALL("recording launches", call.begin(stream, 1 /* CU_STREAM_CAPTURE_MODE_THREAD_LOCAL */));
}
static int32_t cuda_recorded(void *device, void *stream, void **run) {
  cuda *d = device;
  void *graph = 0;
  int32_t error = d->call.end(stream, &graph);
  if (!error) error = d->call.make(run, graph, 0);
  if (graph) d->call.drop(graph);
  return error ? cuda_failed(d, "recording launches", error) : (int32_t)PW_OK;
}
static int32_t cuda_replay(void *device, void *stream, void *run) { CALL("the recorded launches", call.replay(run, stream)); }
static void cuda_drop_graph(void *device, void *run) { ((cuda *)device)->call.drop_run(run); }

static const pw_device_api cuda_api = {
    sizeof(pw_device_api), 0,          cuda_open,  cuda_close,      cuda_enter,  cuda_leave,   cuda_error,
    cuda_memory,           cuda_alloc, cuda_release, cuda_stream,   cuda_end_stream, cuda_copy_in, cuda_copy_out,
    cuda_copy,             cuda_image, cuda_drop_image, cuda_kernel, cuda_launch, cuda_sync,
    cuda_record,           cuda_recorded, cuda_replay, cuda_drop_graph,
};
