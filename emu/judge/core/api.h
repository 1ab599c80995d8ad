// SPDX-License-Identifier: Apache-2.0 OR MIT
// The host's functions of a runtime, typed as vendors document them: names behind JUDGE_PREFIX. Enumerations and streams are types of their
// own, so that a swapped argument does not compile.
#pragma once
#define JUDGE_PASTE_(a, b) a##b
#define JUDGE_PASTE(a, b) JUDGE_PASTE_(a, b)
#define JUDGE_API(name) JUDGE_PASTE(JUDGE_PREFIX, name)

enum class JUDGE_API(Error_t) { success, memory, other };
#define JUDGE_ERROR(name, value) static constexpr JUDGE_API(Error_t) JUDGE_API(name) = JUDGE_API(Error_t)::value
JUDGE_ERROR(Success, success);
enum class JUDGE_API(MemcpyKind) { in, out, on };
static constexpr JUDGE_API(MemcpyKind) JUDGE_API(MemcpyHostToDevice) = JUDGE_API(MemcpyKind)::in;
static constexpr JUDGE_API(MemcpyKind) JUDGE_API(MemcpyDeviceToHost) = JUDGE_API(MemcpyKind)::out;
static constexpr JUDGE_API(MemcpyKind) JUDGE_API(MemcpyDeviceToDevice) = JUDGE_API(MemcpyKind)::on;
typedef struct judge_stream *JUDGE_API(Stream_t);

extern "C" {
JUDGE_API(Error_t) JUDGE_API(GetDeviceCount)(int *);
JUDGE_API(Error_t) JUDGE_API(SetDevice)(int);
JUDGE_API(Error_t) JUDGE_API(GetLastError)();
const char *JUDGE_API(GetErrorString)(JUDGE_API(Error_t));
JUDGE_API(Error_t) JUDGE_API(Free)(void *);
JUDGE_API(Error_t) JUDGE_API(MemGetInfo)(size_t *, size_t *);
JUDGE_API(Error_t) JUDGE_API(StreamCreate)(JUDGE_API(Stream_t) *);
JUDGE_API(Error_t) JUDGE_API(StreamDestroy)(JUDGE_API(Stream_t));
JUDGE_API(Error_t) JUDGE_API(StreamSynchronize)(JUDGE_API(Stream_t));
#ifndef JUDGE_OWN_COPIES
JUDGE_ERROR(JUDGE_NO_MEMORY, memory);
JUDGE_API(Error_t) JUDGE_API(Malloc)(void **, size_t);
JUDGE_API(Error_t) JUDGE_API(MemcpyAsync)(void *, const void *, size_t, JUDGE_API(MemcpyKind), JUDGE_API(Stream_t));
#endif
// What clang makes of a launch.
int cudaConfigureCall(dim3, dim3, size_t = 0, JUDGE_API(Stream_t) = nullptr);
unsigned __cudaPushCallConfiguration(dim3, dim3, size_t = 0, JUDGE_API(Stream_t) = nullptr);
unsigned __hipPushCallConfiguration(dim3, dim3, size_t = 0, JUDGE_API(Stream_t) = nullptr);
int __cudaPopCallConfiguration(dim3 *, dim3 *, size_t *, void *);
int __hipPopCallConfiguration(dim3 *, dim3 *, size_t *, void *);
int cudaLaunchKernel(const void *, dim3, dim3, void **, size_t, JUDGE_API(Stream_t));
int hipLaunchKernel(const void *, dim3, dim3, void **, size_t, JUDGE_API(Stream_t));
}
