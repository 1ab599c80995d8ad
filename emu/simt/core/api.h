// SPDX-License-Identifier: Apache-2.0 OR MIT
// The host's side of a dialect: memory, copies, streams, events, errors. The dialect's header defines
//   SIMT_PREFIX            cuda, hip, ...: what all names begin with
//   SIMT_MALLOC            the name of the call that takes memory of the device
//   SIMT_ERROR_MEMORY      the name of the error that says there is none
//   SIMT_STREAM_BEFORE_KIND  where an asynchronous copy takes the stream before the kind, which may be left out
// Everything is done in order and at once. Streams and kinds are types of their own: an argument in another's place does not compile.
#pragma once

#define SIMT_JOIN2(a, b) a##b
#define SIMT_JOIN(a, b) SIMT_JOIN2(a, b)
#define SIMT_P(name) SIMT_JOIN(SIMT_PREFIX, name)
#define SIMT_TEXT2(name) #name
#define SIMT_TEXT(name) SIMT_TEXT2(name)

enum SIMT_P(Error_t) {
  SIMT_P(Success) = 0,
  SIMT_P(ErrorInvalidValue) = 1,
  SIMT_ERROR_MEMORY = 2,
  SIMT_P(ErrorInvalidConfiguration) = 9,
  SIMT_P(ErrorInvalidDevice) = 101,
  SIMT_P(ErrorInvalidResourceHandle) = 400,
  SIMT_P(ErrorLaunchFailure) = 719,
};
enum SIMT_P(MemcpyKind) {
  SIMT_P(MemcpyHostToHost) = 0,
  SIMT_P(MemcpyHostToDevice) = 1,
  SIMT_P(MemcpyDeviceToHost) = 2,
  SIMT_P(MemcpyDeviceToDevice) = 3,
  SIMT_P(MemcpyDefault) = 4,
};
enum SIMT_P(FuncAttribute) { SIMT_P(FuncAttributeMaxDynamicSharedMemorySize) = 8, SIMT_P(FuncAttributePreferredSharedMemoryCarveout) = 9 };
typedef struct SIMT_P(Stream_st) { int live; } *SIMT_P(Stream_t);
typedef struct SIMT_P(Event_st) { int recorded; } *SIMT_P(Event_t);
enum { SIMT_P(StreamDefault) = 0, SIMT_P(StreamNonBlocking) = 1, SIMT_P(EventDefault) = 0, SIMT_P(EventDisableTiming) = 2 };

struct SIMT_P(DeviceProp) {
  char name[256];
  size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin;
  int warpSize, maxThreadsPerBlock, multiProcessorCount, major, minor, maxGridSize[3], maxThreadsDim[3];
};

namespace simt {
typedef SIMT_P(Error_t) Error;
inline Error last_error = SIMT_P(Success); // of the last call that failed, until it is asked for
inline Error broken = SIMT_P(Success);     // of a kernel that failed: the device does nothing after it
inline size_t allowed = 0;

inline bool device_failed() { return broken != SIMT_P(Success); }
inline size_t dynamic_allowed(const char *) { return allowed; }
inline Error failed(Error e, const char *what) {
  complain(what);
  return last_error = e;
}
inline int launched(int status) {
  if (status) last_error = status == 1 ? broken = SIMT_P(ErrorLaunchFailure) : SIMT_P(ErrorInvalidConfiguration);
  return status;
}

inline Error copy(void *to, const void *from, size_t bytes, SIMT_P(MemcpyKind) kind) {
  if (broken) return broken;
  if (!bytes) return SIMT_P(Success);
  Side t = side(to, bytes), f = side(from, bytes);
  char what[160];
  const char *wrong = nullptr;
  if (t == Outside) wrong = "its destination leaves an allocation of the device";
  else if (f == Outside) wrong = "its source leaves an allocation of the device";
  else if (kind == SIMT_P(MemcpyHostToDevice) && (t != Device || f != Host)) wrong = "it is said to go from the host to the device";
  else if (kind == SIMT_P(MemcpyDeviceToHost) && (t != Host || f != Device)) wrong = "it is said to go from the device to the host";
  else if (kind == SIMT_P(MemcpyDeviceToDevice) && (t != Device || f != Device)) wrong = "it is said to stay on the device";
  else if (kind == SIMT_P(MemcpyHostToHost) && (t != Host || f != Host)) wrong = "it is said to stay on the host";
  if (wrong) {
    snprintf(what, sizeof what, "a copy of %zu bytes: %s", bytes, wrong);
    return failed(SIMT_P(ErrorInvalidValue), what);
  }
  memmove(to, from, bytes);
  return SIMT_P(Success);
}
}

SIMT_OWN inline SIMT_P(Error_t) SIMT_MALLOC(void **at, size_t bytes) {
  if (simt::broken) return simt::broken;
  *at = simt::take(bytes ? bytes : 1);
  return *at ? SIMT_P(Success) : simt::failed(SIMT_ERROR_MEMORY, "no memory of the device is left");
}
template <class T> SIMT_OWN inline SIMT_P(Error_t) SIMT_MALLOC(T **at, size_t bytes) { return SIMT_MALLOC((void **)at, bytes); }
inline SIMT_P(Error_t) SIMT_P(Free)(void *at) {
  if (!at || simt::give(at)) return SIMT_P(Success);
  return simt::failed(SIMT_P(ErrorInvalidValue), "what is freed is not the start of an allocation");
}
template <class T> SIMT_OWN inline SIMT_P(Error_t) SIMT_P(MallocHost)(T **at, size_t bytes, unsigned = 0) {
  *at = (T *)malloc(bytes ? bytes : 1);
  return *at ? SIMT_P(Success) : simt::failed(SIMT_ERROR_MEMORY, "no memory of the host is left");
}
inline SIMT_P(Error_t) SIMT_P(FreeHost)(void *at) {
  free(at);
  return SIMT_P(Success);
}
inline SIMT_P(Error_t) SIMT_P(MemGetInfo)(size_t *free, size_t *total) {
  simt::memory(free, total);
  return SIMT_P(Success);
}

#if defined(SIMT_STREAM_BEFORE_KIND)
inline SIMT_P(Error_t) SIMT_P(Memcpy)(void *to, const void *from, size_t bytes, SIMT_P(MemcpyKind) kind = SIMT_P(MemcpyDefault)) {
  return simt::copy(to, from, bytes, kind);
}
inline SIMT_P(Error_t) SIMT_P(MemcpyAsync)(void *to, const void *from, size_t bytes, SIMT_P(Stream_t),
                                           SIMT_P(MemcpyKind) kind = SIMT_P(MemcpyDefault)) {
  return simt::copy(to, from, bytes, kind);
}
#else
inline SIMT_P(Error_t) SIMT_P(Memcpy)(void *to, const void *from, size_t bytes, SIMT_P(MemcpyKind) kind) {
  return simt::copy(to, from, bytes, kind);
}
inline SIMT_P(Error_t) SIMT_P(MemcpyAsync)(void *to, const void *from, size_t bytes, SIMT_P(MemcpyKind) kind, SIMT_P(Stream_t) = nullptr) {
  return simt::copy(to, from, bytes, kind);
}
#endif
inline SIMT_P(Error_t) SIMT_P(Memset)(void *at, int byte, size_t bytes) {
  if (simt::broken) return simt::broken;
  if (bytes && simt::side(at, bytes) != simt::Device)
    return simt::failed(SIMT_P(ErrorInvalidValue), "what is filled does not lie in an allocation of the device");
  memset(at, byte, bytes);
  return SIMT_P(Success);
}
inline SIMT_P(Error_t) SIMT_P(MemsetAsync)(void *at, int byte, size_t bytes, SIMT_P(Stream_t) = nullptr) {
  return SIMT_P(Memset)(at, byte, bytes);
}
// Variables of the device lie in this process's own.
template <class T>
SIMT_OWN inline SIMT_P(Error_t) SIMT_P(MemcpyToSymbol)(const T &symbol, const void *from, size_t bytes, size_t offset = 0,
                                                       SIMT_P(MemcpyKind) = SIMT_P(MemcpyHostToDevice)) {
  if (offset > sizeof symbol || bytes > sizeof symbol - offset)
    return simt::failed(SIMT_P(ErrorInvalidValue), "a copy leaves the variable that it goes to");
  memcpy((char *)&symbol + offset, from, bytes);
  return SIMT_P(Success);
}
template <class T>
SIMT_OWN inline SIMT_P(Error_t) SIMT_P(MemcpyFromSymbol)(void *to, const T &symbol, size_t bytes, size_t offset = 0,
                                                         SIMT_P(MemcpyKind) = SIMT_P(MemcpyDeviceToHost)) {
  if (offset > sizeof symbol || bytes > sizeof symbol - offset)
    return simt::failed(SIMT_P(ErrorInvalidValue), "a copy leaves the variable that it comes from");
  memcpy(to, (const char *)&symbol + offset, bytes);
  return SIMT_P(Success);
}

inline SIMT_P(Error_t) SIMT_P(StreamCreate)(SIMT_P(Stream_t) *stream) {
  *stream = new SIMT_P(Stream_st){1};
  return SIMT_P(Success);
}
inline SIMT_P(Error_t) SIMT_P(StreamCreateWithFlags)(SIMT_P(Stream_t) *stream, unsigned) { return SIMT_P(StreamCreate)(stream); }
inline SIMT_P(Error_t) SIMT_P(StreamDestroy)(SIMT_P(Stream_t) stream) {
  if (!stream) return simt::failed(SIMT_P(ErrorInvalidResourceHandle), "no stream is destroyed");
  delete stream;
  return SIMT_P(Success);
}
inline SIMT_P(Error_t) SIMT_P(StreamSynchronize)(SIMT_P(Stream_t)) { return simt::broken; }
inline SIMT_P(Error_t) SIMT_P(StreamWaitEvent)(SIMT_P(Stream_t), SIMT_P(Event_t), unsigned = 0) { return simt::broken; }
inline SIMT_P(Error_t) SIMT_P(DeviceSynchronize)() { return simt::broken; }
inline SIMT_P(Error_t) SIMT_P(DeviceReset)() { return SIMT_P(Success); }

inline SIMT_P(Error_t) SIMT_P(EventCreate)(SIMT_P(Event_t) *event) {
  *event = new SIMT_P(Event_st){0};
  return SIMT_P(Success);
}
inline SIMT_P(Error_t) SIMT_P(EventCreateWithFlags)(SIMT_P(Event_t) *event, unsigned) { return SIMT_P(EventCreate)(event); }
inline SIMT_P(Error_t) SIMT_P(EventDestroy)(SIMT_P(Event_t) event) {
  delete event;
  return SIMT_P(Success);
}
inline SIMT_P(Error_t) SIMT_P(EventRecord)(SIMT_P(Event_t) event, SIMT_P(Stream_t) = nullptr) {
  if (!event) return simt::failed(SIMT_P(ErrorInvalidResourceHandle), "no event is recorded");
  event->recorded = 1;
  return simt::broken;
}
inline SIMT_P(Error_t) SIMT_P(EventSynchronize)(SIMT_P(Event_t)) { return simt::broken; }
inline SIMT_P(Error_t) SIMT_P(EventElapsedTime)(float *ms, SIMT_P(Event_t) begin, SIMT_P(Event_t) end) {
  if (!begin || !end || !begin->recorded || !end->recorded)
    return simt::failed(SIMT_P(ErrorInvalidResourceHandle), "an event was not recorded");
  *ms = 0; // there is no time here
  return simt::broken;
}

inline SIMT_P(Error_t) SIMT_P(GetDeviceCount)(int *count) { return *count = 1, SIMT_P(Success); }
inline SIMT_P(Error_t) SIMT_P(GetDevice)(int *device) { return *device = 0, SIMT_P(Success); }
inline SIMT_P(Error_t) SIMT_P(SetDevice)(int device) {
  return device == 0 ? SIMT_P(Success) : simt::failed(SIMT_P(ErrorInvalidDevice), "there is one device, number 0");
}
inline SIMT_P(Error_t) SIMT_P(GetDeviceProperties)(SIMT_P(DeviceProp) *p, int device) {
  size_t free, total;
  if (device) return SIMT_P(SetDevice)(device);
  simt::memory(&free, &total);
  *p = {};
  snprintf(p->name, sizeof p->name, "%s, emulated", SIMT_CHIP);
  p->totalGlobalMem = total, p->sharedMemPerBlock = SIMT_SHARED_FREE, p->sharedMemPerBlockOptin = SIMT_SHARED;
  p->warpSize = SIMT_LANES, p->maxThreadsPerBlock = SIMT_THREADS, p->multiProcessorCount = 1;
  p->maxGridSize[0] = 0x7fffffff, p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = SIMT_THREADS, p->maxThreadsDim[2] = 64;
  return SIMT_P(Success);
}

inline SIMT_P(Error_t) SIMT_P(PeekAtLastError)() { return simt::broken ? simt::broken : simt::last_error; }
inline SIMT_P(Error_t) SIMT_P(GetLastError)() {
  SIMT_P(Error_t) e = SIMT_P(PeekAtLastError)();
  simt::last_error = SIMT_P(Success);
  return e;
}
inline const char *SIMT_P(GetErrorName)(SIMT_P(Error_t) e) {
  switch (e) {
  case SIMT_P(Success): return SIMT_TEXT(SIMT_P(Success));
  case SIMT_P(ErrorInvalidValue): return SIMT_TEXT(SIMT_P(ErrorInvalidValue));
  case SIMT_ERROR_MEMORY: return SIMT_TEXT(SIMT_ERROR_MEMORY);
  case SIMT_P(ErrorInvalidConfiguration): return SIMT_TEXT(SIMT_P(ErrorInvalidConfiguration));
  case SIMT_P(ErrorInvalidDevice): return SIMT_TEXT(SIMT_P(ErrorInvalidDevice));
  case SIMT_P(ErrorInvalidResourceHandle): return SIMT_TEXT(SIMT_P(ErrorInvalidResourceHandle));
  default: return SIMT_TEXT(SIMT_P(ErrorLaunchFailure));
  }
}
// The report of what happened, where there is one.
inline const char *SIMT_P(GetErrorString)(SIMT_P(Error_t) e) {
  if (e == SIMT_P(Success)) return "no error";
  return simt::report()[0] ? simt::report() : SIMT_P(GetErrorName)(e);
}

template <class F> SIMT_OWN inline SIMT_P(Error_t) SIMT_P(FuncSetAttribute)(F *, SIMT_P(FuncAttribute) attribute, int value) {
  if (attribute != SIMT_P(FuncAttributeMaxDynamicSharedMemorySize)) return SIMT_P(Success);
  if (value < 0 || (size_t)value > SIMT_SHARED)
    return simt::failed(SIMT_P(ErrorInvalidValue), "more shared memory is asked for than the chip has");
  if ((size_t)value > simt::allowed) simt::allowed = (size_t)value;
  return SIMT_P(Success);
}
