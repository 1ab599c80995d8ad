/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The caller's values against the model's description. Nothing is written before all inputs are checked. */
#include "rt.h"

const pw_value *pw_value_at(const pw_value *first, size_t i) {
  return (const pw_value *)(const void *)((const uint8_t *)first + i * first->size);
}

static pw_text begin(pw_session *s, int32_t status, int output, size_t i) {
  pw_text t;
  pw_begin(s, status, -1, &t);
  pw_put(&t, output ? "output " : "input ");
  pw_put_int(&t, (int64_t)i);
  pw_put(&t, " '");
  pw_put(&t, output ? s->model->out[i].name : s->model->in[i].name);
  pw_put(&t, "': ");
  return t;
}

static pw_status simple(pw_session *s, int32_t status, int output, size_t i, const char *what) {
  pw_text t = begin(s, status, output, i);
  pw_put(&t, what);
  return (pw_status)status;
}

static pw_status count(pw_session *s, int output, size_t given) {
  const pw_model *m = s->model;
  const pw_port *ports = output ? m->out : m->in;
  uint32_t wanted = output ? m->outputs : m->inputs;
  pw_text t;
  pw_begin(s, PW_E_ARGUMENT, -1, &t);
  pw_put(&t, "the model has ");
  pw_put_int(&t, wanted);
  pw_put(&t, output ? " outputs (" : " inputs (");
  for (uint32_t i = 0; i < wanted; i++) pw_put(&t, i ? ", " : ""), pw_put(&t, ports[i].name);
  pw_put(&t, "), the call gives ");
  pw_put_int(&t, (int64_t)given);
  return PW_E_ARGUMENT;
}

/* What holds for inputs and outputs alike. */
static pw_status common(pw_session *s, int output, size_t i, const pw_value *v, uint32_t size, const pw_port *p) {
  if (v->size < sizeof(pw_value) || v->size != size)
    return simple(s, PW_E_ARGUMENT, output, i, "pw_value.size is not sizeof(pw_value)");
  /* Of an output the kind is written. */
  if (v->kind != p->kind && !(output && v->kind == PW_TENSOR)) {
    static const char *const takes[] = {"the model takes a tensor here", "the model takes a tensor of texts here",
                                        "the model takes a sequence here", "the model takes an optional here",
                                        "the model takes a map here"};
    return simple(s, PW_E_ARGUMENT, output, i, takes[p->kind]);
  }
  if (v->place != PW_HOST && !(v->place == PW_DEVICE && pw_on_device(s)))
    return simple(s, PW_E_DEVICE, output, i, "the bundle runs on the host and takes host memory");
  if (v->place == PW_DEVICE && v->device != s->model->options.device)
    return simple(s, PW_E_DEVICE, output, i, "it lies on another device than the one that the model was loaded for");
  if (v->dtype != p->dtype && !((output || p->kind != PW_TENSOR) && v->dtype == 0) && p->kind <= PW_STRINGS) {
    pw_text t = begin(s, PW_E_DTYPE, output, i);
    pw_put(&t, "dtype is "), pw_put_dtype(&t, v->dtype);
    pw_put(&t, ", the model has "), pw_put_dtype(&t, p->dtype);
    return PW_E_DTYPE;
  }
  uint32_t bytes = p->bits <= 8 ? 1 : p->bits >= 64 ? 8 : p->bits / 8;
  if ((uintptr_t)v->data & (bytes - 1)) return simple(s, PW_E_ARGUMENT, output, i, "data is not aligned to its element");
  return PW_OK;
}

static pw_status bad_dim(pw_session *s, size_t i, int32_t axis, const pw_value *v, const char *what, int64_t wanted) {
  const pw_port *p = &s->model->in[i];
  pw_text t = begin(s, PW_E_SHAPE, 0, i);
  pw_put(&t, "its shape is "), pw_put_dims(&t, v->dims, p->rank);
  pw_put(&t, ", but axis "), pw_put_int(&t, axis);
  if (p->symbols[axis]) pw_put(&t, " ("), pw_put(&t, p->symbols[axis]), pw_put(&t, ")");
  pw_put(&t, what), pw_put_int(&t, wanted);
  return PW_E_SHAPE;
}

/* One element of any rank is a scalar: what array libraries make of a number often has a dim of 1. */
static int is_one_element(const pw_value *v) {
  int one = v->dims != 0 && v->rank > 0 && v->rank <= PW_MAX_RANK;
  for (int32_t a = 0; one && a < v->rank; a++) one = v->dims[a] == 1;
  return one;
}

static pw_status dims(pw_session *s, size_t i, const pw_value *v, const pw_port *p) {
  if (v->rank != p->rank && !(p->rank == 0 && is_one_element(v))) {
    pw_text t = begin(s, PW_E_SHAPE, 0, i);
    pw_put(&t, "its rank is "), pw_put_int(&t, v->rank);
    pw_put(&t, ", the model takes rank "), pw_put_int(&t, p->rank);
    return PW_E_SHAPE;
  }
  if (p->rank && !v->dims) return simple(s, PW_E_ARGUMENT, 0, i, "dims is null");
  int64_t *own = s->in[i].dims;
  for (int32_t a = 0; a < p->rank; a++) {
    int64_t d = own[a] = v->dims[a];
    if (p->symbol[a] < 0) {
      if (d != p->dims[a]) return bad_dim(s, i, a, v, " must be ", p->dims[a]);
      continue;
    }
    if (d < p->lo[a]) return bad_dim(s, i, a, v, " must be at least ", p->lo[a]);
    if (d > p->hi[a]) return bad_dim(s, i, a, v, " must be at most ", p->hi[a]);
    if (p->div[a] > 1 && d % p->div[a]) return bad_dim(s, i, a, v, " must be a multiple of ", p->div[a]);
    int64_t *bound = &s->symbol[p->symbol[a]];
    if (*bound >= 0 && *bound != d) return bad_dim(s, i, a, v, " was given by an earlier axis or input as ", *bound);
    *bound = d;
  }
  return PW_OK;
}

/* Elements behind the first of an input, lowest and highest, by its strides; 0 when they reach beyond 63 bits. */
static int reach(const pw_value *v, const int64_t *dims, int32_t rank, int64_t *low, int64_t *high) {
  int64_t span;
  *low = *high = 0;
  for (int32_t a = 0; a < rank; a++) {
    int64_t *end = v->strides[a] < 0 ? low : high;
    if (__builtin_mul_overflow(v->strides[a], dims[a] - 1, &span) || __builtin_add_overflow(*end, span, end)) return 0;
  }
  return *low >= -(INT64_MAX >> 8) && *high <= INT64_MAX >> 8;
}

/* Rows in the memory that an input shares with the output that appends to it: dense below the axis, and above it as if the axis had
 * that many rows. INT64_MAX where nothing lies above the axis, 0 where they do not share memory so. */
static int64_t shared_room(const pw_port *p, const pw_port *q, const pw_value *in, const pw_value *out, const int64_t *dims) {
  int32_t axis = q->append_axis;
  int64_t dense = 1, room = INT64_MAX;
  if (!in->data || in->data != out->data || out->place != in->place || out->kind != in->kind) return 0;
  for (int32_t a = p->rank - 1; a > axis; a--) {
    if (dims[a] != 1 && ((in->strides && in->strides[a] != dense) || (out->strides && out->strides[a] != dense))) return 0;
    if (__builtin_mul_overflow(dense, dims[a], &dense)) return 0;
  }
  if ((in->strides && in->strides[axis] != dense) || (out->strides && out->strides[axis] != dense)) return 0;
  for (int32_t a = axis - 1; a >= 0; a--) {
    if (dims[a] == 1) continue;
    if (!in->strides || !out->strides || in->strides[a] != out->strides[a] || dense <= 0) return 0;
    if (room == INT64_MAX) {
      if (in->strides[a] <= 0 || in->strides[a] % dense) return 0;
      room = in->strides[a] / dense;
      dense = in->strides[a];
    } else if (in->strides[a] != dense) {
      return 0;
    }
    if (__builtin_mul_overflow(dense, dims[a], &dense)) return 0;
  }
  return room;
}

pw_status pw_check_inputs(pw_session *s, const pw_value *in, size_t n, const pw_value *out, int infer) {
  const pw_model *m = s->model;
  if (n != m->inputs) return count(s, 0, n);
  if (n && !in) return count(s, 0, 0);
  memset(s->symbol, 0xff, m->symbols * sizeof *s->symbol);
  for (size_t i = 0; i < n; i++) {
    const pw_value *v = pw_value_at(in, i);
    const pw_port *p = &m->in[i];
    pw_in *own = &s->in[i];
    pw_status status = common(s, 0, i, v, in->size, p);
    if (status == PW_OK && p->kind <= PW_STRINGS) status = dims(s, i, v, p);
    if (status != PW_OK) return status;
    if (p->kind != PW_TENSOR) {
      own->value = v;
      own->data = own->lo = own->hi = 0;
      int unread = infer && !(m->flags & PW_BLOB_DATA_SHAPES) && !v->data;
      if (p->kind == PW_STRINGS && pw_bytes_of(own->dims, p->rank, p->bits) < 0)
        return simple(s, PW_E_SHAPE, 0, i, "its size does not fit 63 bits");
      if (!unread && !pw_host_input(s, i, v)) return (pw_status)s->status;
      continue;
    }
    int64_t bytes = pw_bytes_of(own->dims, p->rank, p->bits);
    if (bytes < 0) return simple(s, PW_E_SHAPE, 0, i, "its size does not fit 63 bits");
    own->value = v;
    own->data = own->lo = own->hi = v->data;
    own->room = 0, own->on_device = 0;
    /* A device has memory of its own: there the output is whole, and rows go to where they belong at the end. */
    if (out && p->appended_by >= 0 && !pw_on_device(s)) {
      const pw_value *o = pw_value_at(out, (size_t)p->appended_by);
      if (out->size >= sizeof(pw_value) && o->size == out->size)
        own->room = shared_room(p, &m->out[p->appended_by], v, o, own->dims);
    }
    if (bytes == 0) continue;
    if (!v->data) {
      if (infer && !(p->flags & PW_PORT_READ_BY_PLAN) && !(m->flags & PW_BLOB_DATA_SHAPES)) continue;
      return simple(s, PW_E_ARGUMENT, 0, i, infer ? "data is null, and shapes depend on it" : "data is null");
    }
    if (v->place == PW_DEVICE) {
      if (!pw_is_dense(own->dims, p->rank, v->strides)) return simple(s, PW_E_ARGUMENT, 0, i, "on a device it must be dense row-major");
      own->on_device = 1, own->lo = own->hi = 0;
    }
    if (pw_is_dense(own->dims, p->rank, v->strides)) {
      if (!own->on_device) own->hi = own->lo + bytes;
      if (v->capacity_bytes && v->capacity_bytes < (uint64_t)bytes) {
        pw_text t = begin(s, PW_E_CAPACITY, 0, i);
        pw_put(&t, "its shape "), pw_put_dims(&t, own->dims, p->rank);
        pw_put(&t, " takes "), pw_put_bytes(&t, (uint64_t)bytes);
        pw_put(&t, ", the memory given has "), pw_put_int(&t, (int64_t)v->capacity_bytes);
        return PW_E_CAPACITY;
      }
      continue;
    }
    /* Elsewhere in memory than row-major: a dense copy is what the plan reads, unless it has its rows where the output wants them. */
    int64_t low, high;
    if (!reach(v, own->dims, p->rank, &low, &high))
      return simple(s, PW_E_ARGUMENT, 0, i, "its strides reach beyond 63 bits");
    own->lo += (low * (int64_t)p->bits - 7) / 8;
    own->hi += (high * (int64_t)p->bits + p->bits + 7) / 8;
    if (own->room) continue;
    if (pw_grow(s, &own->staged, bytes, -1, "a dense copy of a strided input")) return (pw_status)s->status;
    pw_copy(own->staged.data, 0, v->data, v->strides, own->dims, p->rank, p->bits);
    own->data = own->staged.data;
  }
  return PW_OK;
}

pw_status pw_check_outputs(pw_session *s, pw_value *out, size_t m) {
  if (m != s->model->outputs) return count(s, 1, m);
  if (m && !out) return count(s, 1, 0);
  for (size_t i = 0; i < m; i++) {
    pw_value *v = (pw_value *)(uintptr_t)pw_value_at(out, i);
    const pw_port *p = &s->model->out[i];
    pw_status status = common(s, 1, i, v, out->size, p);
    if (status != PW_OK) return status;
    if (p->kind > PW_STRINGS) v->data = 0;
    if (!v->data && v->capacity_bytes) return simple(s, PW_E_ARGUMENT, 1, i, "data is null, but capacity_bytes is not 0");
    s->out[i].value = v;
  }
  return PW_OK;
}
