/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The C ABI of a Portwright bundle. It is the same on every target.
 *
 * A bundle is a folder: manifest.json, lib/libmodel.so, weights/, include/NAME.h. Its library exports one function,
 * pw_bundle_api (and pw_NAME_api, the same function under the model's name, for static linking).
 *
 * Rules that hold for everything below:
 *  - Every struct but pw_api begins with its size in bytes, which the caller fills in with sizeof, and grows only at its
 *    end. The elements of an array of pw_value lie as far apart as the size in the first one says.
 *  - A pw_model may be used by any number of threads at a time, a pw_session by one (else PW_E_BUSY).
 *  - A call that fails changes nothing that the caller can see except the dims of outputs, keeps no memory, and leaves a
 *    text that api->error() returns.
 *  - run sets the floating-point environment that the model's numbers are defined in and restores the caller's. Nothing
 *    here installs a signal handler or forks. Worker threads take no signals.
 */
#ifndef PORTWRIGHT_H
#define PORTWRIGHT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PW_ABI_MAJOR 1u
#define PW_ABI_MINOR 1u

/* What a call came to. The text of an error comes from api->error(). */
typedef enum {
  PW_OK,          /* done */
  PW_E_ARGUMENT,  /* a null pointer, a wrong count, a wrong size field, an unaligned pointer */
  PW_E_NAME,      /* no input or output has that name */
  PW_E_DTYPE,     /* a value's dtype is not the model's */
  PW_E_SHAPE,     /* a rank or dim does not fit the model, another input, or a computed size is negative */
  PW_E_INDEX,     /* an index in the data is out of range */
  PW_E_CAPACITY,  /* an output does not fit the memory given for it */
  PW_E_MEMORY,    /* no memory, or more than max_memory_bytes is needed */
  PW_E_BUNDLE,    /* a file of the bundle is missing, short, damaged or of another version */
  PW_E_CPU,       /* the machine lacks a CPU feature that the bundle was compiled for */
  PW_E_DEVICE,    /* the device is not there, or a value lies on one that the bundle does not drive */
  PW_E_BUSY,      /* the session runs in another thread */
  PW_E_CANCELLED, /* api->cancel() was called */
  PW_E_INTERNAL,  /* a fault of Portwright: please report it */
  /* Of bundles that drive a device, at load or run: */
  PW_E_NO_DRIVER,     /* the device's driver is not there */
  PW_E_OLD_DRIVER,    /* it is older than the bundle's code needs */
  PW_E_NO_DEVICE,     /* it has no device of that number */
  PW_E_CAPABILITY,    /* the device cannot run the bundle's code */
  PW_E_DEVICE_MEMORY, /* the device has too little free memory */
  PW_E_DEVICE_SIZE    /* the model is larger than the whole device */
} pw_status;

/* pw_value.kind and pw_info.kind. */
enum { PW_TENSOR, PW_STRINGS, PW_SEQUENCE, PW_OPTIONAL, PW_MAP };

/* pw_value.place. */
enum { PW_HOST, PW_DEVICE };

/* Levels of pw_options.log. */
enum { PW_LOG_ERROR, PW_LOG_WARNING, PW_LOG_INFO };

/* pw_value.dtype and pw_info.dtype: ONNX TensorProto.DataType. Types under a byte are packed, low bits first. */
enum {
  PW_F32 = 1, PW_U8 = 2, PW_I8 = 3, PW_U16 = 4, PW_I16 = 5, PW_I32 = 6, PW_I64 = 7, PW_STR = 8, PW_BOOL = 9,
  PW_F16 = 10, PW_F64 = 11, PW_U32 = 12, PW_U64 = 13, PW_C64 = 14, PW_C128 = 15, PW_BF16 = 16, PW_F8E4M3FN = 17,
  PW_F8E4M3FNUZ = 18, PW_F8E5M2 = 19, PW_F8E5M2FNUZ = 20, PW_U4 = 21, PW_I4 = 22, PW_F4E2M1 = 23, PW_F8E8M0 = 24,
  PW_U2 = 25, PW_I2 = 26, PW_F6E2M3 = 27, PW_F6E3M2 = 28
};

/*
 * One input or output of a run, in the order of describe().
 *
 * Inputs: dims, rank, dtype and data are read. strides (in elements, may be zero or negative) place the element (i, j, ...)
 * at data[i*strides[0] + j*strides[1] + ...]; null means dense row-major. capacity_bytes is 0, or the number of bytes that
 * may be read at data, which is then checked for dense inputs. One element of any rank is taken for a scalar.
 *
 * Outputs: data and capacity_bytes say where to write; data null and capacity 0 asks the model for memory, which lives
 * until the session's next run (it may be handed to that run as an input; the same pw_value may be passed again as it is).
 * dims is null or has room for the rank in describe(). rank, dims and data are written. dtype is 0 or must be the model's.
 * strides describes the caller's memory; it is read for the rank that the output has.
 *
 * Data is aligned to its element; 64 bytes makes it faster, never righter. An output may overlap an input.
 */
typedef struct {
  uint32_t size;            /* sizeof(pw_value) */
  int32_t kind;             /* PW_TENSOR, ... */
  void *data;               /* first element */
  size_t capacity_bytes;    /* outputs: bytes that may be written */
  int32_t dtype, rank;
  int64_t *dims;
  const int64_t *strides;   /* in elements; null = dense row-major */
  int32_t place, device;    /* PW_HOST, or PW_DEVICE and its number */
  void *reserved[2];        /* null */
} pw_value;

/*
 * What the data of other kinds than PW_TENSOR points to. Everything that a run gives of them lives in the model's memory until the
 * session's next run, and may be handed to that run as an input.
 *  - PW_STRINGS: pw_string, one an element; for outputs the caller may give an array for them (capacity_bytes is its size), dense.
 *  - PW_SEQUENCE: one pw_list of values, which the model gives. dtype, rank, dims and strides are not looked at.
 *  - PW_OPTIONAL: as a sequence of one value or none; null data of an input is none.
 *  - PW_MAP: as a sequence of two values of rank 1: keys (strings or int64) and values.
 */
typedef struct {
  const char *data; /* UTF-8, without a closing zero; may be null where bytes is 0 */
  size_t bytes;
} pw_string;

typedef struct {
  size_t count;
  const pw_value *items; /* as far apart as the size in the first one says */
} pw_list;

/* What a list holds, as the model declares it. A list in a list is followed by what it holds; a map by its keys, then its values. */
typedef struct {
  int32_t kind, dtype, rank; /* rank -1 = not known */
} pw_item;

/* Options of load; null stands for all zero. */
struct pw_device_api;

typedef struct {
  uint32_t size;              /* sizeof(pw_options) */
  int32_t threads;            /* 0 = as many as CPUs are available; results do not depend on it */
  int32_t device;             /* for bundles that drive a device */
  uint64_t max_memory_bytes;  /* limit for what one session allocates; 0 = none */
  void *(*alloc)(void *user, size_t bytes, size_t align);  /* null = the system's; a null result is PW_E_MEMORY */
  void (*release)(void *user, void *memory);
  void (*log)(void *user, int level, const char *text);
  void *user;
  /* Called after every launch of a kernel by the thread that runs the session; times are CLOCK_MONOTONIC. */
  void (*profile)(void *user, const char *node, uint64_t begin_ns, uint64_t end_ns, int64_t groups);
  /* What drives the device of a bundle that has one; null = its own driver, found on this machine. */
  const struct pw_device_api *device_api;
} pw_options;

/* One input or output as the model declares it. What it points to lives as long as the model. */
typedef struct {
  uint32_t size;              /* sizeof(pw_info) */
  int32_t kind;
  const char *name;
  int32_t dtype, rank;
  const int64_t *dims;        /* -1 where the dim is symbolic */
  const char *const *symbols; /* name of each symbolic dim, null where the dim is fixed */
  const int64_t *min_dims;    /* smallest value of each dim */
  const int64_t *max_dims;    /* largest value of each dim; INT64_MAX = no bound known */
  uint64_t max_bytes;         /* largest size of the data; 0 = no bound known */
  int32_t alias_of;           /* outputs: the input whose memory it may take; -1 = none */
  int32_t append_axis;        /* with alias_of: the output is that input with more appended on this axis; -1 = same shape */
  int32_t item_count;         /* lists: what they hold */
  const pw_item *items;
} pw_info;

typedef struct pw_model pw_model;
typedef struct pw_session pw_session;

typedef struct {
  uint32_t abi; /* major << 16 | minor */
  /* Loads the bundle in that folder. The model is immutable; its weights are mapped once. On failure *model is null. */
  pw_status (*load)(const char *bundle_dir, const pw_options *options, pw_model **model);
  /* Opens a session: arena and state. It keeps the model alive. */
  pw_status (*open)(pw_model *model, pw_session **session);
  /* Describes input (output == 0) or output (output == 1) number i; PW_E_ARGUMENT when there are not that many. */
  pw_status (*describe)(const pw_model *model, int output, size_t i, pw_info *info);
  /* Writes rank, dims and dtype of the outputs for these inputs, without running the kernels. Data of an input is read only
   * where shapes depend on it. Where shapes depend on computed values, the model is run. Data of outputs is not touched. */
  pw_status (*infer)(pw_session *session, const pw_value *in, size_t n, pw_value *out, size_t m);
  /* Runs the model. stream is for bundles that drive a device (a CUstream, for one): what runs there is ordered behind what the caller
   * put there, and has ended when run returns. Null is a stream of the session's own. Other bundles ignore it. */
  pw_status (*run)(pw_session *session, const pw_value *in, size_t n, pw_value *out, size_t m, void *stream);
  /* With a session: the text of its last run or infer, empty when that went well (PW_E_BUSY leaves it alone). Without: the
   * text of this thread's last load, open or describe that failed. Never null; it stays until the next such call. */
  const char *(*error)(const pw_session *session, const pw_model *model);
  void (*close)(pw_session *session); /* null is allowed; not while it runs */
  void (*unload)(pw_model *model);    /* null is allowed; memory goes when the last session is closed */
  /* Makes the run of the session that is under way end with PW_E_CANCELLED soon; from any thread. */
  void (*cancel)(pw_session *session);
} pw_api;

/* The bundle's functions, or null when the bundle does not speak that major version of the ABI. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const pw_api *pw_bundle_api(uint32_t wanted_major);

#ifdef __cplusplus
}
#endif

#endif
