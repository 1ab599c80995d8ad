/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A session and the calls that its plan makes. */
#include "rt.h"

static uint8_t nothing[PW_ALIGN] __attribute__((aligned(PW_ALIGN))); /* where a tensor without bytes lies */

/* ---- errors ---- */

static const struct {
  int32_t status;
  const char *before, *between, *after; /* around b and a, in this order */
} codes[PW_CODE_COUNT] = {
    [PW_CODE_NONE] = {PW_E_INTERNAL, "an error without a code (", ", ", ")"},
    [PW_CODE_INDEX] = {PW_E_INDEX, "the index ", " at position ", " is out of range"},
    [PW_CODE_SHAPE] = {PW_E_SHAPE, "a dim must be ", ", but is ", ""},
    [PW_CODE_CAPACITY] = {PW_E_CAPACITY, "there is room for ", " elements, but the result has ", ""},
    [PW_CODE_NEGATIVE_SIZE] = {PW_E_SHAPE, "the size ", " at position ", " is negative"},
    [PW_CODE_LOOP_LIMIT] = {PW_E_CAPACITY, "the loop may make ", " trips, but went on after trip ", ""},
    [PW_CODE_RESHAPE] = {PW_E_SHAPE, "the new shape has ", " elements, but the input has ", ""},
    [PW_CODE_OVERFLOW] = {PW_E_SHAPE, "a computed size does not fit 63 bits (", " and ", ")"},
    [PW_CODE_BROADCAST] = {PW_E_SHAPE, "the dims ", " and ", " do not broadcast"},
    [PW_CODE_RANGE] = {PW_E_SHAPE, "the value ", " at position ", " is outside what the operator allows"},
    [PW_CODE_AXIS] = {PW_E_SHAPE, "the axis ", " does not exist in a tensor of rank ", ""},
    [PW_CODE_STEP_ZERO] = {PW_E_SHAPE, "a step is ", " at position ", ""},
    [PW_CODE_MEMORY] = {PW_E_MEMORY, "the limit is ", " bytes, but the result takes ", ""},
    [PW_CODE_EMPTY] = {PW_E_SHAPE, "a reduction over ", " elements on axis ", ""},
    [PW_CODE_RANK] = {PW_E_SHAPE, "the rank must be ", ", but is ", ""},
    [PW_CODE_DUPLICATE] = {PW_E_INDEX, "the value ", " at position ", " occurs twice"},
    [PW_CODE_TOO_LARGE] = {PW_E_SHAPE, "the largest size is ", ", but this one is ", ""},
    [PW_CODE_TOO_SMALL] = {PW_E_SHAPE, "the size ", " is below the smallest, which is ", ""},
    [PW_CODE_INTERNAL] = {PW_E_INTERNAL, "a fault of Portwright in the compiled plan (", ", ", ")"},
};

int pw_begin(pw_session *s, int32_t status, int32_t origin, pw_text *t) {
  static char unread[1];
  if (s->status) {
    *t = pw_text_in(unread, 1);
    return 0;
  }
  s->status = status;
  *t = pw_text_in(s->message, sizeof s->message);
  const char *node = pw_origin(s->model, origin);
  if (node) pw_put(t, "node "), pw_put(t, node), pw_put(t, ": ");
  return 1;
}

int32_t pw_rt_fail(pw_ctx *s, int32_t code, int32_t origin, int64_t a, int64_t b) {
  pw_text t;
  if (code < 0 || code >= PW_CODE_COUNT) code = PW_CODE_NONE;
  if (pw_begin(s, codes[code].status, origin, &t)) {
    pw_put(&t, codes[code].before), pw_put_int(&t, b), pw_put(&t, codes[code].between);
    pw_put_int(&t, a), pw_put(&t, codes[code].after);
  }
  return s->status;
}

int32_t pw_rt_status(pw_ctx *s) { return s->status; }

int32_t pw_rt_cancelled(pw_ctx *s) {
  if (!__c11_atomic_load(&s->cancelled, __ATOMIC_RELAXED)) return 0;
  pw_text t;
  if (pw_begin(s, PW_E_CANCELLED, -1, &t)) pw_put(&t, "the run was cancelled");
  return 1;
}

int32_t pw_rt_loop(pw_ctx *s, int32_t origin, int64_t trip, int64_t limit) {
  if (s->status || pw_rt_cancelled(s)) return s->status;
  return trip < limit ? PW_OK : pw_rt_fail(s, PW_CODE_LOOP_LIMIT, origin, trip, limit);
}

int32_t pw_rt_inferring(pw_ctx *s) { return s->inferring; }

static int32_t internal(pw_session *s, const char *what) {
  pw_text t;
  if (pw_begin(s, PW_E_INTERNAL, -1, &t)) pw_put(&t, "a fault of Portwright: "), pw_put(&t, what);
  return s->status;
}

/* ---- memory ---- */

void pw_drop(pw_session *s, pw_memory *m) {
  if (!m->data) return;
  s->used -= m->bytes;
  pw_give(s->model, m->data);
  m->data = 0, m->bytes = 0;
}

int pw_grow(pw_session *s, pw_memory *m, int64_t bytes, int32_t origin, const char *what) {
  if (bytes >= 0 && m->data && (uint64_t)bytes <= m->bytes) return 0;
  if (bytes < 0) {
    pw_text t;
    if (pw_begin(s, PW_E_MEMORY, origin, &t)) pw_put(&t, "the size of "), pw_put(&t, what), pw_put(&t, " does not fit 63 bits");
    return 1;
  }
  uint64_t limit = s->model->options.max_memory_bytes, wanted = ((uint64_t)bytes + PW_ALIGN - 1) / PW_ALIGN * PW_ALIGN;
  uint64_t others = s->used - m->bytes;
  if (!wanted) wanted = PW_ALIGN;
  if (limit && (wanted > limit || others > limit - wanted)) {
    pw_text t;
    if (pw_begin(s, PW_E_MEMORY, origin, &t)) {
      pw_put(&t, what), pw_put(&t, " takes "), pw_put_bytes(&t, wanted);
      pw_put(&t, ", the session has "), pw_put_bytes(&t, others);
      pw_put(&t, ", and max_memory_bytes allows "), pw_put_int(&t, (int64_t)limit);
    }
    return 1;
  }
  /* What grew once is likely to grow again. */
  uint64_t generous = m->bytes && wanted < m->bytes + m->bytes / 2 ? (m->bytes + m->bytes / 2) / PW_ALIGN * PW_ALIGN : wanted;
  if (!limit || (generous <= limit && others <= limit - generous)) wanted = generous;
  pw_drop(s, m);
  m->data = pw_take(s->model, wanted);
  if (!m->data || (uintptr_t)m->data % PW_ALIGN) {
    pw_text t;
    if (pw_begin(s, PW_E_MEMORY, origin, &t)) {
      pw_put(&t, m->data ? "the allocator ignored the alignment for " : "no memory for "), pw_put(&t, what);
      pw_put(&t, ": "), pw_put_bytes(&t, wanted);
    }
    pw_give(s->model, m->data);
    m->data = 0;
    return 1;
  }
  m->bytes = wanted;
  s->used += wanted;
  return 0;
}

pw_status pw_session_new(pw_model *m, pw_session **out, pw_text *message) {
  uint64_t head = (sizeof(pw_session) + PW_ALIGN - 1) / PW_ALIGN * PW_ALIGN;
  uint64_t bytes = head + m->inputs * sizeof(pw_in) + m->outputs * sizeof(pw_out) + m->epoch_count * sizeof(pw_memory) +
                   ((uint64_t)m->input_dims + m->output_dims + m->symbols) * sizeof(int64_t);
  uint8_t *block = pw_take(m, bytes);
  if (!block) {
    pw_put(message, "no memory for a session: "), pw_put_bytes(message, bytes);
    return PW_E_MEMORY;
  }
  memset(block, 0, (size_t)bytes);
  pw_session *s = (pw_session *)(void *)block;
  s->in = (pw_in *)(void *)(block + head);
  s->out = (pw_out *)(void *)(s->in + m->inputs);
  s->arena = (pw_memory *)(void *)(s->out + m->outputs);
  int64_t *dims = (int64_t *)(void *)(s->arena + m->epoch_count);
  for (uint32_t i = 0; i < m->inputs; i++) s->in[i].dims = dims, dims += m->in[i].rank;
  for (uint32_t i = 0; i < m->outputs; i++) s->out[i].dims = dims, dims += m->out[i].rank, s->out[i].given = -1;
  s->symbol = dims;
  s->model = m;
  __c11_atomic_fetch_add(&m->references, 1, __ATOMIC_RELAXED);
  pw_status status = pw_dev_open(s, message);
  if (status != PW_OK) {
    pw_session_free(s);
    return status;
  }
  *out = s;
  return PW_OK;
}

void pw_session_free(pw_session *s) {
  pw_model *m = s->model;
  pw_dev_close(s);
  for (uint32_t i = 0; i < m->inputs; i++) pw_drop(s, &s->in[i].staged);
  for (uint32_t i = 0; i < m->outputs; i++) {
    pw_drop(s, &s->out[i].own[0]);
    pw_drop(s, &s->out[i].own[1]);
    pw_drop(s, &s->out[i].staged);
  }
  for (uint32_t i = 0; i < m->epoch_count; i++) pw_drop(s, &s->arena[i]);
  pw_host_free(s);
  pw_drop(s, &s->scratch);
  pw_give(m, s);
  pw_model_release(m);
}

/* ---- what plans call ---- */

int64_t pw_rt_dim(pw_ctx *s, int32_t input, int32_t axis) {
  const pw_model *m = s->model;
  if (input < 0 || (uint32_t)input >= m->inputs || axis < 0 || axis >= m->in[input].rank) {
    internal(s, "the plan asks for a dim that does not exist");
    return 0;
  }
  return s->in[input].dims[axis];
}

const void *pw_rt_input(pw_ctx *s, int32_t input) {
  if (input < 0 || (uint32_t)input >= s->model->inputs) {
    internal(s, "the plan asks for an input that does not exist");
    return 0;
  }
  if (pw_on_device(s)) return pw_dev_input(s, input);
  return s->in[input].data ? s->in[input].data : nothing;
}

const void *pw_rt_weight(pw_ctx *s, uint64_t offset) {
  /* A weight of no elements has no bytes: nothing is read there. */
  if (offset == s->model->weight_bytes) return pw_on_device(s) ? pw_dev_weight(s, 0) : nothing;
  if (offset > s->model->weight_bytes || !s->model->weights) {
    internal(s, "the plan asks for a weight outside the store");
    return 0;
  }
  if (pw_on_device(s)) return pw_dev_weight(s, offset);
  return s->model->weights + offset;
}

void *pw_rt_arena(pw_ctx *s, int32_t epoch, int64_t bytes) {
  if (s->status) return 0;
  if (epoch < 0 || (uint32_t)epoch >= s->model->epoch_count) {
    internal(s, "the plan asks for an epoch that does not exist");
    return 0;
  }
  if (pw_on_device(s)) return pw_dev_arena(s, epoch, bytes);
  return pw_grow(s, &s->arena[epoch], bytes, pw_epoch_origin(s->model, epoch), "intermediate memory") ? 0 : s->arena[epoch].data;
}

static int overlaps_input(const pw_session *s, const uint8_t *data, uint64_t bytes) {
  for (uint32_t i = 0; i < s->model->inputs; i++)
    if (data < s->in[i].hi && s->in[i].lo < data + bytes) return 1;
  return 0;
}

/* Memory of the session for the output: the first of its two that no input of this run lies in. */
static void *own_memory(pw_session *s, pw_out *o, int32_t origin) {
  int k = 0;
  while (k < 2 && o->own[k].data && overlaps_input(s, o->own[k].data, o->own[k].bytes)) k++;
  if (k == 2) {
    o->copied = 1, o->taken = 0;
    return pw_grow(s, &o->staged, (int64_t)o->bytes, origin, "an output") ? 0 : o->staged.data;
  }
  o->taken = k;
  return pw_grow(s, &o->own[k], (int64_t)o->bytes, origin, "an output") ? 0 : o->own[k].data;
}

/* Bytes of the caller's memory that a strided output reaches, or 0 when the strides cannot be those of an output. */
static uint64_t strided_bytes(const pw_out *o, const pw_port *p) {
  uint64_t last = 0, span;
  for (int32_t a = 0; a < p->rank; a++) {
    if (o->dims[a] <= 1) continue;
    if (o->value->strides[a] <= 0) return 0;
    if (__builtin_mul_overflow((uint64_t)o->dims[a] - 1, (uint64_t)o->value->strides[a], &span) || __builtin_add_overflow(last, span, &last))
      return 0;
  }
  return last > UINT64_MAX / 128 - 1 ? 0 : ((last + 1) * p->bits + 7) / 8;
}

static void *output_error(pw_session *s, int32_t i, int32_t status, uint64_t needed, const char *what) {
  pw_text t;
  const pw_port *p = &s->model->out[i];
  if (!pw_begin(s, status, p->origin, &t)) return 0;
  pw_put(&t, "output "), pw_put_int(&t, i), pw_put(&t, " '"), pw_put(&t, p->name), pw_put(&t, "' of shape ");
  pw_put_dims(&t, s->out[i].dims, p->rank), pw_put(&t, what);
  if (needed) pw_put_bytes(&t, needed), pw_put(&t, ", the memory given has "), pw_put_int(&t, (int64_t)s->out[i].value->capacity_bytes);
  return 0;
}

int64_t pw_rt_room(pw_ctx *s, int32_t i, int64_t needed) {
  if (s->status) return needed;
  if (i < 0 || (uint32_t)i >= s->model->outputs || !(s->model->out[i].flags & PW_PORT_IN_PLACE)) {
    internal(s, "the plan asks for the room of an output that is not in place");
    return needed;
  }
  const pw_port *p = &s->model->out[i];
  int64_t room = s->in[p->alias_of].room;
  s->out[i].in_place = room > 0;
  if (room == 0 || room == INT64_MAX) return needed;
  if (room < needed) {
    pw_text t;
    if (pw_begin(s, PW_E_CAPACITY, p->origin, &t)) {
      pw_put(&t, "output "), pw_put_int(&t, i), pw_put(&t, " '"), pw_put(&t, p->name), pw_put(&t, "' takes "), pw_put_int(&t, needed);
      pw_put(&t, " rows on axis "), pw_put_int(&t, p->append_axis), pw_put(&t, ", the memory that it shares with input '");
      pw_put(&t, s->model->in[p->alias_of].name), pw_put(&t, "' has room for "), pw_put_int(&t, room);
    }
  }
  return room;
}

int64_t pw_rt_front(pw_ctx *s, int32_t i, int64_t past) {
  return i >= 0 && (uint32_t)i < s->model->outputs && s->out[i].in_place ? 0 : past;
}

void *pw_rt_output(pw_ctx *s, int32_t i, const int64_t *dims, int32_t rank) {
  if (s->status) return 0;
  if (i < 0 || (uint32_t)i >= s->model->outputs || rank != s->model->out[i].rank) {
    internal(s, "the plan declares an output that does not exist, or of another rank");
    return 0;
  }
  const pw_port *p = &s->model->out[i];
  pw_out *o = &s->out[i];
  pw_value *v = o->value;
  for (int32_t a = 0; a < rank; a++) {
    if (dims[a] < 0) {
      pw_rt_fail(s, PW_CODE_NEGATIVE_SIZE, p->origin, a, dims[a]);
      return 0;
    }
    o->dims[a] = dims[a];
  }
  int64_t bytes = pw_bytes_of(dims, rank, p->bits);
  if (bytes < 0) return output_error(s, i, PW_E_SHAPE, 0, " does not fit 63 bits");
  v->rank = rank;
  v->dtype = p->dtype;
  if (v->dims) memcpy(v->dims, o->dims, (size_t)rank * sizeof *dims);
  o->bytes = (uint64_t)bytes;
  o->copied = 0, o->taken = -1;

  o->on_device = pw_on_device(s) && v->place == PW_DEVICE && !s->shapes_only;
  if (o->on_device) {
    if (!pw_is_dense(o->dims, rank, v->strides)) return output_error(s, i, PW_E_ARGUMENT, 0, " must be dense row-major on a device");
    if (v->data && v->capacity_bytes && v->capacity_bytes < o->bytes) return output_error(s, i, PW_E_CAPACITY, o->bytes, " takes ");
    o->target = nothing;
    return pw_dev_output_there(s, i);
  }
  int returned = v->data && o->given >= 0 && v->data == o->own[o->given].data && !v->capacity_bytes;
  if (s->shapes_only) {
    o->copied = 1;
  } else if (o->in_place) {
    uint64_t taken = v->strides ? strided_bytes(o, p) : o->bytes;
    if (v->capacity_bytes < taken) return output_error(s, i, PW_E_CAPACITY, taken, v->strides ? " takes, by its strides, " : " takes ");
    o->target = v->data;
  } else if (p->kind != PW_TENSOR) {
    /* Numbers of texts and lists, which deliver turns into what the caller takes. */
    o->copied = 1;
    if (v->data && v->data == o->texts && !v->capacity_bytes) v->data = 0;
    int64_t given = pw_bytes_of(dims, rank, 8 * (uint32_t)sizeof(pw_string));
    if (given < 0) return output_error(s, i, PW_E_SHAPE, 0, " does not fit 63 bits");
    if (v->data && !pw_is_dense(o->dims, rank, v->strides)) return output_error(s, i, PW_E_ARGUMENT, 0, " of texts has strides");
    if (v->data && v->capacity_bytes < (uint64_t)given) return output_error(s, i, PW_E_CAPACITY, (uint64_t)given, " takes ");
  } else if (!v->data || returned) {
    v->data = 0; /* from here on the last run's memory may be another output of this one */
    o->target = own_memory(s, o, p->origin);
  } else if (pw_is_dense(o->dims, rank, v->strides)) {
    if (v->capacity_bytes < o->bytes) return output_error(s, i, PW_E_CAPACITY, o->bytes, " takes ");
    o->copied = overlaps_input(s, v->data, o->bytes);
    o->target = v->data;
  } else {
    uint64_t reach = strided_bytes(o, p);
    if (!reach) return output_error(s, i, PW_E_ARGUMENT, 0, " has strides that are not positive, or reach beyond 63 bits");
    if (v->capacity_bytes < reach) return output_error(s, i, PW_E_CAPACITY, reach, " takes, by its strides, ");
    o->copied = 1;
  }
  if (o->copied && o->taken < 0) o->target = pw_grow(s, &o->staged, bytes, p->origin, "a copy of an output") ? 0 : o->staged.data;
  if (o->target && !bytes) o->target = nothing;
  if (o->target && pw_on_device(s)) return pw_dev_output(s, i);
  return o->target;
}

/* Brings an output to where the caller wants it. */
static void deliver(pw_session *s, uint32_t i) {
  pw_out *o = &s->out[i];
  const pw_port *p = &s->model->out[i];
  pw_value *v = o->value;
  if (p->kind != PW_TENSOR) {
    pw_host_output(s, i);
    return;
  }
  if (o->taken >= 0) {
    /* The input in it has been read: it may go. */
    if (o->copied && pw_grow(s, &o->own[0], (int64_t)o->bytes, p->origin, "an output")) return;
    if (o->copied) memcpy(o->own[0].data, o->target, o->bytes);
    o->given = o->taken;
    v->data = o->own[o->taken].data;
    return;
  }
  if (!o->copied || !o->bytes) return;
  int64_t dims[PW_MAX_RANK], skip = 0, offset = 0;
  for (int32_t a = 0; a < p->rank; a++) dims[a] = o->dims[a];
  /* An output that appends to the input in whose memory it lies: what was there stays there. */
  if (p->append_axis >= 0 && v->strides) {
    const pw_in *in = &s->in[p->alias_of];
    const pw_port *q = &s->model->in[p->alias_of];
    int same = v->data == in->value->data && q->rank == p->rank && q->dtype == p->dtype && in->value->strides && p->bits >= 8;
    for (int32_t a = 0; same && a < p->rank; a++) {
      if (a != p->append_axis && in->dims[a] != o->dims[a]) same = 0;
      if (in->dims[a] > 1 && in->value->strides[a] != v->strides[a]) same = 0;
    }
    if (same && in->dims[p->append_axis] <= dims[p->append_axis]) skip = in->dims[p->append_axis];
  }
  if (!skip) {
    pw_copy(v->data, v->strides, o->target, 0, dims, p->rank, p->bits);
    return;
  }
  int64_t dense[PW_MAX_RANK], step = 1;
  for (int32_t a = p->rank - 1; a >= 0; a--) dense[a] = step, step *= dims[a];
  offset = skip * dense[p->append_axis] * (p->bits / 8);
  dims[p->append_axis] -= skip;
  pw_copy((uint8_t *)v->data + skip * v->strides[p->append_axis] * (p->bits / 8), v->strides, o->target + offset, dense, dims,
          p->rank, p->bits);
}

int32_t pw_rt_launch(pw_ctx *s, void *kernel, void *const *bufs, const int64_t *syms, const int64_t *grid,
                     int64_t scratch_bytes, int32_t origin, int32_t cost) {
  const pw_model *m = s->model;
  int64_t groups, stride;
  if (s->status || pw_rt_cancelled(s)) return s->status;
  if (grid[0] < 0 || grid[1] < 0 || grid[2] < 0)
    return pw_rt_fail(s, PW_CODE_NEGATIVE_SIZE, origin, 0, grid[0] < 0 ? grid[0] : grid[1] < 0 ? grid[1] : grid[2]);
  if (!grid[0] || !grid[1] || !grid[2] || s->inferring) return PW_OK;
  if (__builtin_mul_overflow(grid[0], grid[1], &groups) || __builtin_mul_overflow(groups, grid[2], &groups))
    return pw_rt_fail(s, PW_CODE_OVERFLOW, origin, grid[0], grid[1]);

  int64_t steps = cost & PW_COST_STEPS ? grid[2] : 1, together = groups / steps;
  cost &= ~PW_COST_STEPS;
  int32_t threads = cost == PW_COST_TINY || steps > INT32_MAX ? 1 : m->threads;
  if (threads > together) threads = (int32_t)together;
  /* Two lines apart, so that neighbours do not write to one. */
  if (scratch_bytes < 0 || __builtin_add_overflow(scratch_bytes, 2 * PW_ALIGN - 1, &stride))
    return pw_rt_fail(s, PW_CODE_OVERFLOW, origin, scratch_bytes, threads);
  stride = scratch_bytes ? stride / PW_ALIGN * PW_ALIGN : 0;
  if (stride) {
    int64_t all;
    if (__builtin_mul_overflow(stride, (int64_t)threads, &all)) all = -1;
    if (pw_grow(s, &s->scratch, all, origin, "scratch memory of a kernel")) return s->status;
  }
  pw_guard_state guard = {0, 0, PW_CODE_NONE};
  uint64_t began = m->options.profile ? pw_os_now_ns() : 0;
  int done = 0;
  if (threads > 1) {
    /* A few slices a thread: one that is kept from its CPU holds up no more than a part. */
    int64_t each = steps > 1 ? 1 : groups / threads, most = cost == PW_COST_LARGE ? 8 : 4;
    pw_job job = {(pw_kernel *)kernel, bufs, syms, grid, stride ? s->scratch.data : nothing, stride, together, steps, threads,
                  each > most ? (int32_t)most : (int32_t)each, &s->cancelled};
    done = pw_pool_run(&job, m->cpus, &guard);
  }
  if (!done) ((pw_kernel *)kernel)(bufs, syms, grid, 0, groups, stride ? s->scratch.data : nothing, &guard);
  if (m->options.profile) {
    const char *node = pw_origin(m, origin);
    m->options.profile(m->options.user, node ? node : "", began, pw_os_now_ns(), groups);
  }
  if (guard.code) return pw_rt_fail(s, guard.code, origin, guard.at, guard.value);
  pw_rt_cancelled(s);
  return s->status;
}

/* ---- a run ---- */

pw_status pw_run(pw_session *s, const pw_value *in, size_t n, pw_value *out, size_t m, int infer) {
  const pw_model *model = s->model;
  s->status = PW_OK;
  s->message[0] = 0;
  s->shapes_only = infer;
  s->inferring = infer && !(model->flags & PW_BLOB_DATA_SHAPES);
  for (uint32_t i = 0; i < model->outputs; i++) s->out[i].target = 0, s->out[i].in_place = 0;
  pw_host_begin(s);
  /* Outputs that continue inputs tell how these are read, if they are as many as there should be. */
  pw_check_inputs(s, in, n, !infer && m == model->outputs ? out : 0, infer);
  if (!s->status) pw_check_outputs(s, out, m);
  if (s->status) return (pw_status)s->status;

  int shared = model->threads > 1;
  uint32_t environment = pw_os_fp_set();
  if (shared) pw_pool_enter();
  int32_t status = pw_dev_begin(s);
  if (!status) {
    status = pw_plan_main(s);
    pw_dev_end(s);
  }
  if (shared) pw_pool_leave();
  if (!s->status && status) internal(s, "the plan failed without saying why");
  for (uint32_t i = 0; i < model->outputs && !s->status; i++)
    if (!s->out[i].target) internal(s, "the plan did not produce an output");
  /* An infer leaves the caller's data and what the last run gave alone. */
  for (uint32_t i = 0; i < model->outputs && !infer && !s->status; i++) deliver(s, i);
  for (uint32_t i = 0; i < model->outputs && infer; i++) pw_drop(s, &s->out[i].staged);
  pw_os_fp_restore(environment);
  return (pw_status)s->status;
}
