/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What compiled plans and kernels call, and what they must provide.
 *
 * A model object defines three hidden symbols: pw_plan_main, pw_model_blob (layout: pw_blob.h) and pw_model_blob_size.
 * It is linked with the runtime object of its triple into lib/libmodel.so:
 *
 *   ld.lld -shared --build-id=none --hash-style=gnu -z now -z noexecstack --gc-sections -soname libmodel.so
 *          --defsym=pw_NAME_api=pw_bundle_api -o libmodel.so model.o runtime.o
 *
 * The calls below are made only by the thread that runs the plan, except pw_rt_guard, which kernels call. Once a call has
 * failed, every later one fails at once with the same status, so a plan may test only where it needs a result.
 */
#ifndef PW_PLAN_H
#define PW_PLAN_H

#include <stdint.h>

/* Version of everything in this header. A blob carries the version that its plan was compiled against. */
#define PW_PLAN_VERSION 2u

/* All of this stays inside the library. */
#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/* The run that a plan carries out. */
typedef struct pw_session pw_ctx;

/*
 * A kernel runs the groups with linear id in [begin, end): gx = id % grid[0], gy = id / grid[0] % grid[1],
 * gz = id / (grid[0] * grid[1]).
 *   bufs     one address for each buffer parameter, in order
 *   syms     symbols and scalar parameters in order, each as i64 (floats as their bits)
 *   scratch  this thread's memory for local buffers, 64-byte aligned; unspecified content
 *   status   what pw_rt_guard takes
 */
typedef void pw_kernel(void *const *bufs, const int64_t *syms, const int64_t *grid, int64_t begin, int64_t end,
                       void *scratch, void *status);

/* What went wrong with data: codes of pw_rt_guard (a = at, b = value) and pw_rt_fail. */
enum pw_code {
  PW_CODE_NONE = 0,
  PW_CODE_INDEX = 1,         /* a = linear position of the index, b = the index          -> PW_E_INDEX */
  PW_CODE_SHAPE = 2,         /* a = dim as computed, b = dim that is required             -> PW_E_SHAPE */
  PW_CODE_CAPACITY = 3,      /* a = elements needed, b = elements there are               -> PW_E_CAPACITY */
  PW_CODE_NEGATIVE_SIZE = 4, /* a = axis or position, b = the size                        -> PW_E_SHAPE */
  PW_CODE_LOOP_LIMIT = 5,    /* a = trips made, b = limit                                 -> PW_E_CAPACITY */
  PW_CODE_RESHAPE = 6,       /* a = elements of the input, b = elements of the new shape  -> PW_E_SHAPE */
  PW_CODE_OVERFLOW = 7,      /* a, b = factors or terms whose result leaves 63 bits       -> PW_E_SHAPE */
  PW_CODE_BROADCAST = 8,     /* a, b = the two dims                                       -> PW_E_SHAPE */
  PW_CODE_RANGE = 9,         /* a = position, b = a value outside what the operator allows -> PW_E_SHAPE */
  PW_CODE_AXIS = 10,         /* a = rank, b = the axis                                    -> PW_E_SHAPE */
  PW_CODE_STEP_ZERO = 11,    /* a = position, b = 0: a step or stride that must not be 0  -> PW_E_SHAPE */
  PW_CODE_MEMORY = 12,       /* a = bytes needed, b = bytes allowed                       -> PW_E_MEMORY */
  PW_CODE_EMPTY = 13,        /* a = axis, b = 0: a reduction over nothing                 -> PW_E_SHAPE */
  PW_CODE_RANK = 14,         /* a = rank as computed, b = rank that is required           -> PW_E_SHAPE */
  PW_CODE_DUPLICATE = 15,    /* a = position, b = a value that may occur only once        -> PW_E_INDEX */
  PW_CODE_INTERNAL = 16,     /* a, b = what the plan says; a fault of Portwright          -> PW_E_INTERNAL */
  PW_CODE_TOO_LARGE = 17,    /* a = the size, b = the largest that is allowed             -> PW_E_SHAPE */
  PW_CODE_TOO_SMALL = 18,    /* a = the smallest that is allowed, b = the size            -> PW_E_SHAPE */
  PW_CODE_COUNT
};

/* Classes of a launch's cost, as the compiler knows it. Results never depend on them. */
enum pw_cost {
  PW_COST_TINY = 0,  /* under some 20 microseconds: runs in the calling thread */
  PW_COST_EVEN = 1,  /* shared by the threads: a few contiguous slices each, first its own, then what others have not begun */
  PW_COST_LARGE = 2, /* long: more slices a thread */
  /* Added to a class: the last dim of the grid counts steps. Groups of one step run when all of the step before have ended. */
  PW_COST_STEPS = 4
};

/* Operations of the host, by the numbers that plans have for them. */
enum pw_host_op {
  PW_HOST_STRING_CONCAT,
  PW_HOST_STRING_SPLIT,
  PW_HOST_STRING_NORMALIZE,
  PW_HOST_REGEX_FULL_MATCH,
  PW_HOST_TOKENIZE,
  PW_HOST_STRING_RANK,
  PW_HOST_STRING_OF,
  PW_HOST_NUMBER_OF,
  PW_HOST_LIST_OF,
  PW_HOST_LIST_LENGTH,
  PW_HOST_LIST_AT,
  PW_HOST_OPTIONAL_GET,
  PW_HOST_LIST_INSERT,
  PW_HOST_LIST_ERASE,
  PW_HOST_LIST_SPLIT,
  PW_HOST_LIST_CONCAT,
  PW_HOST_ZIP_MAP,
  PW_HOST_MAP_LOOKUP,
  PW_HOST_MAP_VALUES,
  PW_HOST_IMAGE_DECODE,
  PW_HOST_COUNT
};

/* What the model object defines (hidden visibility). */
int32_t pw_plan_main(pw_ctx *ctx); /* PW_OK or the status of the call that failed */
extern const uint8_t pw_model_blob[];
extern const uint64_t pw_model_blob_size; /* bytes */

/* Size of that axis of that input (number as in the blob). Both are checked. */
int64_t pw_rt_dim(pw_ctx *ctx, int32_t input, int32_t axis);

/* First element of that input, dense row-major. Null only after an error. In api->infer the data of an input without
 * PW_PORT_READ_BY_PLAN may be missing: then nothing may be read there (kernels are not run either). */
const void *pw_rt_input(pw_ctx *ctx, int32_t input);

/* Address of that byte of the weight store's data (the first weight is at 0; the data is page-aligned). */
const void *pw_rt_weight(pw_ctx *ctx, uint64_t byte_offset);

/* The arena of that epoch (0-based, below the blob's epoch count) with room for so many bytes, 64-byte aligned, content
 * unspecified. Arenas of other epochs stay as they are; asking again for the same epoch may move it. Negative bytes are an
 * overflow. Null = failed, the error is recorded. */
void *pw_rt_arena(pw_ctx *ctx, int32_t epoch, int64_t bytes);

/* Declares the shape of that output and gives the memory to write it to (dense row-major, aligned to its element; its old
 * content is unspecified). The dims are checked: not negative, bytes within 63 bits, the rank that the blob says.
 * Null = failed (capacity, memory, shape), the error is recorded. */
void *pw_rt_output(pw_ctx *ctx, int32_t output, const int64_t *dims, int32_t rank);

/* Before an output with PW_PORT_IN_PLACE is declared: rows from one index of the dims before its append_axis to the next, given
 * the rows that it has. That is `needed` and the output dense, or, where the caller put input and output into one memory with room
 * for more rows, the rows of that memory: then the output lies there, and the input's rows are not to be copied. */
int64_t pw_rt_room(pw_ctx *ctx, int32_t output, int64_t needed);

/* After pw_rt_room: how many of the input's `past` rows are to be copied, all or none. */
int64_t pw_rt_front(pw_ctx *ctx, int32_t output, int64_t past);

/* Runs a kernel over grid[0] * grid[1] * grid[2] groups and waits for it. A grid with a 0 runs nothing.
 *   scratch_bytes  bytes of `scratch` that the kernel needs
 *   origin         entry of the blob's origins that names the nodes behind it; -1 = none
 *   cost_class     enum pw_cost
 * 0 = done, else the status, which is recorded (a guard that failed, no memory, cancelled). */
int32_t pw_rt_launch(pw_ctx *ctx, void *kernel, void *const *bufs, const int64_t *syms, const int64_t *grid,
                     int64_t scratch_bytes, int32_t origin, int32_t cost_class);

/* Kernels: the value at linear position `at` broke the rule `code`. Of all failures in a launch the one with the smallest
 * `at` is reported, whatever the number of threads. The kernel goes on with a clamped value. */
void pw_rt_guard(void *status, int32_t code, int64_t at, int64_t value);

/* Runs an operation of the host and holds its results until the next one.
 *   words  op, origin, how many operands, results and params there are; of each operand its address, ONNX dtype (0 = a list) and rank
 *          and its dims; of each result its ONNX dtype; params
 *   found  what the operation finds, as many as `symbols`
 * Texts and lists in memory are the int64 that they are in the session's tables. 0 = done, else the status, which is recorded. */
int32_t pw_rt_host(pw_ctx *ctx, const int64_t *words, int64_t *found, int32_t symbols);

/* The same for operations on images, which only bundles with one carry. */
int32_t pw_rt_image(pw_ctx *ctx, const int64_t *words, int64_t *found, int32_t symbols);

/* Copies a result that is held, which has so many bytes. 0 = done. */
int32_t pw_rt_held(pw_ctx *ctx, int32_t result, void *to, int64_t bytes);

/* Plans: records the error (the first one stays) and returns its status. */
int32_t pw_rt_fail(pw_ctx *ctx, int32_t code, int32_t origin, int64_t a, int64_t b);

/* Status so far: PW_OK or the first error's. */
int32_t pw_rt_status(pw_ctx *ctx);

/* 1 when the caller has asked to cancel; the plan then returns pw_rt_status(), which is PW_E_CANCELLED. */
int32_t pw_rt_cancelled(pw_ctx *ctx);

/* For the head of a loop whose trip count is known only at run time: 0 = go on with trip `trip` (0-based). Not 0 when it is
 * `limit` or beyond (PW_CODE_LOOP_LIMIT, naming the node), when an earlier call failed or when the run is cancelled. */
int32_t pw_rt_loop(pw_ctx *ctx, int32_t origin, int64_t trip, int64_t limit);

/* 1 in api->infer of a model without PW_BLOB_DATA_SHAPES: launches are not carried out, arenas and outputs are real memory
 * with unspecified content. A plan may skip work by it; it need not. */
int32_t pw_rt_inferring(pw_ctx *ctx);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
