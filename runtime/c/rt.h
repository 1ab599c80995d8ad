/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* What the runtime's own files share. */
#ifndef PW_RT_H
#define PW_RT_H

#include "os.h"
#include "portwright.h"
#include "pw_blob.h"
#include "pw_plan.h"

#define PW_ALIGN 64u
#define PW_MAX_THREADS 256

/* ---- text.c: messages, built in fixed memory, always closed by a zero, cut where they do not fit ---- */
typedef struct {
  char *at, *end; /* next character, and the place of the last possible zero */
} pw_text;

pw_text pw_text_in(char *memory, size_t bytes);
void pw_put(pw_text *t, const char *s);
void pw_put_int(pw_text *t, int64_t n);
void pw_put_bytes(pw_text *t, uint64_t bytes);
void pw_put_dims(pw_text *t, const int64_t *dims, int32_t rank);
void pw_put_dtype(pw_text *t, int32_t dtype);
/* Bits of an element; 0 = no such dtype, or one without a fixed size. */
uint32_t pw_dtype_bits(int32_t dtype);
/* As pw_dtype_bits, of what memory holds: texts lie in it as numbers. */
uint32_t pw_stored_bits(int32_t dtype);
const char *pw_feature_name(uint32_t bit);

/* ---- pool.c ---- */
typedef struct {
  int64_t at, value;
  int32_t code;
} pw_guard_state;

typedef struct {
  pw_kernel *kernel;
  void *const *bufs;
  const int64_t *syms, *grid;
  uint8_t *scratch;         /* threads * stride bytes */
  int64_t stride, groups;   /* groups of one step */
  int64_t steps;            /* that follow each other, below 2^31; 1 for most launches */
  int32_t threads, slices;  /* slices of a step for each thread */
  const _Atomic uint32_t *cancelled;
} pw_job;

/* Merges b into a: the failure with the smallest position wins, then the smallest code and value. */
void pw_guard_merge(pw_guard_state *a, const pw_guard_state *b);
/* Models that keep the pool's threads alive. The pool itself is one for the process. */
void pw_pool_retain(void);
void pw_pool_release(void);
/* Runs begin and end: how many there are tells waiting threads how long to spin. */
void pw_pool_enter(void);
void pw_pool_leave(void);
/* Runs the job on up to min(threads, cpus) threads, the caller included. 0 when other runs have the pool: the caller does it
 * alone. */
int pw_pool_run(const pw_job *job, int32_t cpus, pw_guard_state *guard);

/* ---- load.c ---- */
typedef struct {
  const char *name;
  int32_t kind, dtype, rank, alias_of, append_axis, origin;
  uint32_t flags, bits;
  uint64_t max_bytes;
  const int64_t *dims, *lo, *hi, *div; /* dims: -1 = symbolic */
  const char **symbols;                /* null = fixed */
  const int32_t *symbol;               /* -1 = fixed */
  int32_t appended_by;                 /* inputs: the output that may be written behind it in its memory, or -1 */
  const pw_item *items;                /* lists: what they hold */
  int32_t item_count;
} pw_port;

typedef struct pw_host pw_host;

struct pw_model {
  pw_options options;
  _Atomic uint32_t references;
  int32_t threads, cpus;
  uint32_t flags;
  const char *name, *cpu;
  const uint8_t *text, *origins;  /* the blob's tables */
  const uint8_t *epochs;
  uint32_t inputs, outputs, symbols, origin_count, epoch_count, input_dims, output_dims;
  pw_port *in, *out;
  struct pw_dev_model *device; /* null in bundles of CPUs */
  void *store;
  const uint8_t *weights;
  uint64_t store_bytes, weight_bytes;
  const uint8_t *texts;   /* the blob's table */
  uint32_t text_count;
  uint32_t *text_index;   /* by hash: 1 + the text's number; 0 = free */
  uint64_t text_room;     /* a power of two, or 0 */
};

pw_status pw_load(const char *dir, const pw_options *options, pw_model **out, pw_text *message);
/* As pw_load, where the store begins at byte `at` of a file, a multiple of the page. */
pw_status pw_load_at(const char *file, uint64_t at, const pw_options *options, pw_model **out, pw_text *message);
void pw_model_release(pw_model *m);
/* Memory by the model's allocator: at least `bytes`, PW_ALIGN-aligned, content unspecified. */
void *pw_take(const pw_model *m, uint64_t bytes);
void pw_give(const pw_model *m, void *memory);
const char *pw_origin(const pw_model *m, int32_t origin); /* null = none */
pw_string pw_model_text(const pw_model *m, uint32_t number);
int32_t pw_epoch_origin(const pw_model *m, int32_t epoch);
/* A pw_text of a table, from its entry in the blob. */
int32_t pw_get_i32(const uint8_t *p);
uint32_t pw_get_u32(const uint8_t *p);
uint64_t pw_get_u64(const uint8_t *p);

/* ---- run.c ---- */
typedef struct {
  uint8_t *data;
  uint64_t bytes;
} pw_memory;

typedef struct {
  const uint8_t *data;  /* dense row-major, what the plan reads */
  const uint8_t *lo, *hi; /* the caller's bytes, for overlaps */
  int64_t *dims;
  const pw_value *value;
  pw_memory staged;
  int64_t room;         /* rows in the memory that it shares with the output that appends to it; 0 = it shares none */
  int32_t on_device; /* data is an address of the device */
} pw_in;

typedef struct {
  pw_value *value;
  int64_t *dims;
  uint8_t *target;    /* what the plan writes; null = not declared yet */
  uint64_t bytes;
  pw_memory own[2];   /* memory given to the caller; two, since a run may take the last one's output as input */
  pw_memory staged;   /* dense copy of what goes elsewhere at the end */
  int32_t given;      /* own[] given by the last run, or -1 */
  int32_t taken;      /* own[] that this run writes, or -1 */
  int32_t copied;     /* target is staged */
  int32_t in_place;   /* it lies behind the input to which it appends, with the caller's strides */
  const void *texts;  /* what the last run gave of texts */
  int32_t on_device; /* goes to the caller's memory on the device */
} pw_out;

struct pw_session {
  pw_model *model;
  struct pw_dev_session *device;
  void *stream; /* the caller's, of this run; null = the session's own */
  _Atomic uint32_t busy, cancelled;
  int32_t status;
  int32_t shapes_only, inferring; /* infer; and without running the kernels */
  uint64_t used; /* bytes that the session has allocated */
  pw_in *in;
  pw_out *out;
  int64_t *symbol; /* bound by the inputs, -1 = not yet */
  pw_memory *arena;
  pw_memory scratch;
  pw_host *host; /* texts and lists, once there are any */
  char message[1024];
};

pw_status pw_run(pw_session *s, const pw_value *in, size_t n, pw_value *out, size_t m, int infer);
pw_status pw_session_new(pw_model *m, pw_session **out, pw_text *message);
void pw_session_free(pw_session *s);
/* Makes `m` at least `bytes` large (old content is lost); 0 = done. What it is for: named in the message. */
int pw_grow(pw_session *s, pw_memory *m, int64_t bytes, int32_t origin, const char *what);
void pw_drop(pw_session *s, pw_memory *m);
/* Begins the message of an error unless there is one; false = there is one. */
int pw_begin(pw_session *s, int32_t status, int32_t origin, pw_text *t);

/* ---- args.c ---- */
pw_status pw_check_inputs(pw_session *s, const pw_value *in, size_t n, const pw_value *out, int infer);
pw_status pw_check_outputs(pw_session *s, pw_value *out, size_t m);
const pw_value *pw_value_at(const pw_value *first, size_t i);

/* ---- host/: texts and lists ---- */
void pw_host_begin(pw_session *s);
void pw_host_free(pw_session *s);
/* An input or output of another kind than PW_TENSOR between the caller and the tables; 0 = failed, the error is recorded. */
int pw_host_input(pw_session *s, size_t input, const pw_value *v);
int pw_host_output(pw_session *s, uint32_t output);
uint64_t pw_text_hash(const char *text, uint64_t bytes);

/* ---- copy.c ---- */
/* Whether the strides (null = yes) mean dense row-major. */
int pw_is_dense(const int64_t *dims, int32_t rank, const int64_t *strides);
/* Bytes of a dense tensor, or -1 when they do not fit 63 bits. Dims are not negative. */
int64_t pw_bytes_of(const int64_t *dims, int32_t rank, uint32_t bits);
/* Copies a tensor between two layouts (null strides = dense row-major). */
void pw_copy(uint8_t *to, const int64_t *to_strides, const uint8_t *from, const int64_t *from_strides, const int64_t *dims,
             int32_t rank, uint32_t bits);

/* ---- device.c: what changes where kernels run on a device; s->device is null where they do not ---- */
#ifdef PW_WITH_DEVICE
pw_status pw_dev_load(pw_model *m, pw_text *message);
void pw_dev_unload(pw_model *m);
pw_status pw_dev_open(pw_session *s, pw_text *message);
void pw_dev_close(pw_session *s);
int32_t pw_dev_begin(pw_session *s);
void pw_dev_end(pw_session *s);
const void *pw_dev_input(pw_session *s, int32_t input);
const void *pw_dev_weight(pw_session *s, uint64_t offset);
void *pw_dev_arena(pw_session *s, int32_t epoch, int64_t bytes);
void *pw_dev_output(pw_session *s, int32_t output);
/* As pw_dev_output, for one that the caller wants on the device. */
void *pw_dev_output_there(pw_session *s, int32_t output);
/* Copies from the device to the host, after all that was launched, and to the device; 0 = done, else the status, which is recorded. */
int32_t pw_dev_fetch(pw_session *s, void *to, const void *from, int64_t bytes, int32_t origin);
int32_t pw_dev_put(pw_session *s, void *to, const void *from, int64_t bytes);
#else
static inline pw_status pw_dev_load(pw_model *m, pw_text *t) { return (void)m, (void)t, PW_OK; }
static inline void pw_dev_unload(pw_model *m) { (void)m; }
static inline pw_status pw_dev_open(pw_session *s, pw_text *t) { return (void)s, (void)t, PW_OK; }
static inline void pw_dev_close(pw_session *s) { (void)s; }
static inline int32_t pw_dev_begin(pw_session *s) { return (void)s, PW_OK; }
static inline void pw_dev_end(pw_session *s) { (void)s; }
static inline const void *pw_dev_input(pw_session *s, int32_t i) { return (void)s, (void)i, (void *)0; }
static inline const void *pw_dev_weight(pw_session *s, uint64_t o) { return (void)s, (void)o, (void *)0; }
static inline void *pw_dev_arena(pw_session *s, int32_t e, int64_t n) { return (void)s, (void)e, (void)n, (void *)0; }
static inline void *pw_dev_output(pw_session *s, int32_t o) { return (void)s, (void)o, (void *)0; }
static inline void *pw_dev_output_there(pw_session *s, int32_t o) { return (void)s, (void)o, (void *)0; }
static inline int32_t pw_dev_fetch(pw_session *s, void *to, const void *from, int64_t n, int32_t o) {
  return (void)s, (void)to, (void)from, (void)n, (void)o, PW_OK;
}
static inline int32_t pw_dev_put(pw_session *s, void *to, const void *from, int64_t n) {
  return (void)s, (void)to, (void)from, (void)n, PW_OK;
}
#endif
#ifdef PW_WITH_DEVICE
#define pw_on_device(s) ((s)->device != 0)
#else
#define pw_on_device(s) 0
#endif

#endif
