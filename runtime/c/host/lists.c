/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Operations on the structure of lists: sequences, optionals and maps. */
#include "host.h"

static int64_t scalar_of(const pw_operand *o) { return ((const int64_t *)(const void *)o->data)[0]; }

static int64_t bytes_of(const pw_element *e) { return pw_bytes_of(e->dims, e->rank, pw_stored_bits(e->dtype)); }

static int broken_call(pw_session *s, const pw_call *c) {
  return pw_host_fail(s, PW_E_INTERNAL, c->origin, "a fault of Portwright: a host operation without what it needs");
}

/* The operand as an element of a list: tensors are copied. */
static int list_element(pw_session *s, const pw_call *c, int32_t i, pw_element *e) {
  pw_operand o;
  if (!pw_operand_at(c, i, &o)) return broken_call(s, c);
  memset(e, 0, sizeof *e);
  if (!o.dtype) return e->list = scalar_of(&o), pw_list_at(s, e->list, c->origin) != 0;
  int64_t *dims = pw_heap_array(s, o.rank, sizeof *dims, c->origin);
  if (!dims) return 0;
  for (int32_t a = 0; a < o.rank; a++) dims[a] = o.dims[a];
  e->dtype = o.dtype, e->rank = o.rank, e->dims = dims;
  int64_t bytes = bytes_of(e);
  uint8_t *data = bytes < 0 ? 0 : pw_heap_take(s, (uint64_t)bytes, c->origin);
  if (!data) return 0;
  memcpy(data, o.data, (size_t)bytes);
  e->data = data;
  return 1;
}

static const pw_items *list_operand(pw_session *s, const pw_call *c, pw_operand *o) {
  if (!pw_operand_at(c, 0, o) || o->dtype) return broken_call(s, c), (const pw_items *)0;
  return pw_list_at(s, scalar_of(o), c->origin);
}

/* Gives a tensor: its dims are the symbols. */
static int give_element(pw_session *s, const pw_call *c, const pw_element *e, int32_t dtype) {
  if (e->dtype != dtype) {
    pw_text t;
    if (pw_begin(s, PW_E_DTYPE, c->origin, &t)) {
      pw_put(&t, "an element of the list is ");
      if (e->dtype) pw_put_dtype(&t, e->dtype);
      else pw_put(&t, "a list");
      pw_put(&t, ", expected "), dtype ? pw_put_dtype(&t, dtype) : pw_put(&t, "a list");
    }
    return 0;
  }
  if (!dtype) return pw_hold_number(s, c, e->list);
  if (e->rank != c->symbols) {
    pw_rt_fail(s, PW_CODE_RANK, c->origin, e->rank, c->symbols);
    return 0;
  }
  for (int32_t a = 0; a < e->rank; a++) c->found[a] = e->dims[a];
  return pw_hold(s, c, e->data, bytes_of(e));
}

/* A position that may count from the end, in a list of `count`; `end` allows the place behind the last. */
static int position(pw_session *s, const pw_call *c, int32_t operand, int64_t count, int end, int64_t *at) {
  pw_operand o;
  if (!pw_operand_at(c, operand, &o) || o.count != 1 || (o.dtype != PW_I64 && o.dtype != PW_I32)) return broken_call(s, c);
  int64_t p = o.dtype == PW_I64 ? scalar_of(&o) : *(const int32_t *)(const void *)o.data;
  *at = p < 0 ? p + count : p;
  if (*at >= 0 && *at < count + end) return 1;
  pw_text t;
  if (pw_begin(s, PW_E_INDEX, c->origin, &t))
    pw_put(&t, "position "), pw_put_int(&t, p), pw_put(&t, " in a list of "), pw_put_int(&t, count), pw_put(&t, " elements");
  return 0;
}

static int insert(pw_session *s, const pw_call *c, const pw_items *l) {
  int64_t at = l->count, to;
  pw_element e;
  if (c->operands > 2 && !position(s, c, 2, l->count, 1, &at)) return 0;
  pw_elements *shared = l->elements;
  pw_items from = *l; /* its table may move */
  if (!list_element(s, c, 1, &e)) return 0;
  if (at < from.count || shared->used != from.count || shared->used == shared->room) {
    pw_elements *fresh = pw_elements_new(s, at < from.count ? from.count + 1 : 2 * from.count + 4, c->origin);
    if (!fresh) return 0;
    for (int64_t i = 0; i < from.count; i++) fresh->at[i + (i >= at)] = shared->at[i];
    shared = fresh;
  }
  shared->at[at] = e;
  shared->used = from.count + 1;
  return (to = pw_list_on(s, shared, from.count + 1, c->origin)) > 0 && pw_hold_number(s, c, to);
}

static int erase(pw_session *s, const pw_call *c, const pw_items *l) {
  pw_items from = *l;
  int64_t at = from.count - 1, to;
  if (c->operands > 1 && !position(s, c, 1, from.count, 0, &at)) return 0;
  if (at < 0) return pw_host_fail(s, PW_E_INDEX, c->origin, "the list is empty");
  pw_element *e;
  if (at == from.count - 1) {
    to = pw_list_on(s, from.elements, at, c->origin);
  } else if ((to = pw_list_new(s, from.count - 1, &e, c->origin)) > 0) {
    for (int64_t i = 0; i + 1 < from.count; i++) e[i] = from.elements->at[i + (i >= at)];
  }
  return to > 0 && pw_hold_number(s, c, to);
}

/* Copies `n` of the elements along an axis from `from` on. */
static int tensor_slice(pw_session *s, const pw_call *c, const pw_operand *x, int32_t axis, int64_t from, int64_t n, int keep, pw_element *e) {
  uint32_t bits = pw_stored_bits(x->dtype);
  int64_t *dims = pw_heap_array(s, x->rank, sizeof *dims, c->origin), strides[PW_MAX_RANK], part[PW_MAX_RANK], step = 1;
  if (!dims) return 0;
  int32_t rank = 0;
  for (int32_t a = x->rank; a-- > 0; step *= x->dims[a]) strides[a] = step, part[a] = a == axis ? n : x->dims[a];
  for (int32_t a = 0; a < x->rank; a++)
    if (keep || a != axis) dims[rank++] = part[a];
  int64_t bytes = pw_bytes_of(dims, rank, bits);
  uint8_t *data = bytes < 0 ? 0 : pw_heap_take(s, (uint64_t)bytes, c->origin);
  if (!data) return 0;
  memset(e, 0, sizeof *e);
  e->dtype = x->dtype, e->rank = rank, e->dims = dims, e->data = data;
  if (bits < 8) {
    /* Elements under a byte begin anywhere in one. */
    memset(data, 0, (size_t)bytes);
    int64_t inner = strides[axis], outer = 1, each = 8 / bits, mask = (1 << bits) - 1, to = 0;
    for (int32_t a = 0; a < axis; a++) outer *= x->dims[a];
    for (int64_t o = 0; o < outer; o++) {
      for (int64_t i = 0; i < n * inner; i++, to++) {
        int64_t at = (o * x->dims[axis] + from) * inner + i;
        data[to / each] |= (uint8_t)((x->data[at / each] >> at % each * bits & mask) << to % each * bits);
      }
    }
    return 1;
  }
  if (bytes) pw_copy(data, 0, x->data + from * strides[axis] * (bits / 8), strides, part, x->rank, bits);
  return 1;
}

static int cut_tensor(pw_session *s, const pw_call *c) {
  pw_operand x, sizes = {0, 0, 0, 0, 0};
  if (c->params < 2 || !pw_operand_at(c, 0, &x) || (c->operands > 1 && !pw_operand_at(c, 1, &sizes))) return broken_call(s, c);
  int32_t axis = (int32_t)c->param[0];
  int64_t mode = c->param[1], count, each = 1, from = 0, sum = 0;
  if (axis < 0 || axis >= x.rank || (mode > 1 && !sizes.data)) return broken_call(s, c);
  int64_t d = x.dims[axis];
  int wide = sizes.dtype == PW_I64;
#define SIZE(i) (wide ? ((const int64_t *)(const void *)sizes.data)[i] : ((const int32_t *)(const void *)sizes.data)[i])
  if (mode < 3) {
    if (mode == 2) each = sizes.count == 1 ? SIZE(0) : 0;
    if (each < 1) return pw_rt_fail(s, PW_CODE_TOO_SMALL, c->origin, 1, each), 0;
    count = d / each + (d % each != 0);
  } else {
    count = sizes.count;
    for (int64_t i = 0; i < count; i++) {
      if (SIZE(i) < 0) return pw_rt_fail(s, PW_CODE_NEGATIVE_SIZE, c->origin, i, SIZE(i)), 0;
      if (__builtin_add_overflow(sum, SIZE(i), &sum)) sum = -1;
      if (sum < 0 || sum > d) break;
    }
    if (sum != d) return pw_rt_fail(s, PW_CODE_SHAPE, c->origin, sum, d), 0;
  }
  pw_element *e;
  int64_t to = pw_list_new(s, count, &e, c->origin);
  for (int64_t i = 0; to > 0 && i < count; i++) {
    int64_t n = mode == 3 ? SIZE(i) : d - from < each ? d - from : each;
    if (!tensor_slice(s, c, &x, axis, from, n, mode != 0, &e[i])) return 0;
    from += n;
  }
#undef SIZE
  return to > 0 && pw_hold_number(s, c, to);
}

static int join_list(pw_session *s, const pw_call *c, const pw_items *l) {
  if (c->params < 2) return broken_call(s, c);
  if (!l->count) return pw_host_fail(s, PW_E_SHAPE, c->origin, "the list is empty, so what it joins to has no shape");
  const pw_element *all = l->elements->at, *first = &all[0];
  int64_t count = l->count, fresh = c->param[1];
  int32_t axis = (int32_t)c->param[0], rank = first->rank + (fresh ? 1 : 0);
  uint32_t bits = pw_stored_bits(first->dtype);
  if (first->dtype != c->gives[0]) return give_element(s, c, first, (int32_t)c->gives[0]);
  if (rank != c->symbols || axis < 0 || axis >= rank) return pw_rt_fail(s, PW_CODE_RANK, c->origin, rank, c->symbols), 0;
  if (bits < 8) return pw_host_fail(s, PW_E_DTYPE, c->origin, "elements under a byte are not joined");
  int64_t along = 0, outer = 1, inner = bits / 8;
  for (int64_t i = 0; i < count; i++) {
    const pw_element *e = &all[i];
    if (e->dtype != first->dtype) return give_element(s, c, e, first->dtype);
    if (e->rank != first->rank) return pw_rt_fail(s, PW_CODE_RANK, c->origin, e->rank, first->rank), 0;
    for (int32_t a = 0; a < e->rank; a++)
      if ((fresh || a != axis) && e->dims[a] != first->dims[a])
        return pw_rt_fail(s, PW_CODE_SHAPE, c->origin, e->dims[a], first->dims[a]), 0;
    if (__builtin_add_overflow(along, fresh ? 1 : e->dims[axis], &along)) return pw_rt_fail(s, PW_CODE_OVERFLOW, c->origin, along, 1), 0;
  }
  for (int32_t a = 0, b = 0; a < rank; a++) c->found[a] = a == axis ? along : first->dims[b], b += !fresh || a != axis;
  int64_t bytes = pw_bytes_of(c->found, rank, bits), at = 0;
  uint8_t *data = pw_heap_take(s, bytes < 0 ? UINT64_MAX : (uint64_t)bytes, c->origin);
  if (!data) return 0;
  for (int32_t a = 0; a < axis; a++) outer *= c->found[a];
  for (int32_t a = axis + 1; a < rank; a++) inner *= c->found[a];
  for (int64_t i = 0; bytes && i < count; i++) {
    int64_t run = inner * (fresh ? 1 : all[i].dims[axis]);
    for (int64_t o = 0; o < outer; o++) memcpy(data + o * along * inner + at, all[i].data + o * run, (size_t)run);
    at += run;
  }
  return pw_hold(s, c, data, bytes);
}

/* Each row of a matrix with the keys of its columns. */
static int zip(pw_session *s, const pw_call *c) {
  pw_operand x;
  pw_element keys, *rows, *pair;
  if (!pw_operand_at(c, 0, &x) || x.rank != 2 || !list_element(s, c, 1, &keys)) return broken_call(s, c);
  if (keys.rank != 1 || keys.dims[0] != x.dims[1]) return pw_rt_fail(s, PW_CODE_SHAPE, c->origin, x.dims[1], keys.dims[0]), 0;
  int64_t n = x.dims[0], to = pw_list_new(s, n, &rows, c->origin);
  for (int64_t i = 0; to > 0 && i < n; i++) {
    int64_t map = pw_list_new(s, 2, &pair, c->origin);
    if (map < 0 || !tensor_slice(s, c, &x, 0, i, 1, 0, &pair[1])) return 0;
    pair[0] = keys;
    memset(&rows[i], 0, sizeof rows[i]);
    rows[i].list = map;
  }
  return to > 0 && pw_hold_number(s, c, to);
}

/* Keys and values of a map, or 0. */
static int map(pw_session *s, const pw_call *c, const pw_items *l, const pw_element **keys, const pw_element **values) {
  *keys = &l->elements->at[0], *values = &l->elements->at[1];
  if (l->count == 2 && (*keys)->rank == 1 && (*values)->rank == 1 && (*keys)->dims[0] == (*values)->dims[0] &&
      pw_stored_bits((*keys)->dtype) == 64)
    return 1;
  return pw_host_fail(s, PW_E_ARGUMENT, c->origin, "a map has as many keys (texts or i64) as values, each in rank 1");
}

static int map_lookup(pw_session *s, const pw_call *c, const pw_items *l) {
  const pw_element *keys, *values;
  pw_operand wanted;
  if (!map(s, c, l, &keys, &values)) return 0;
  if (!pw_operand_at(c, 1, &wanted)) return broken_call(s, c);
  if (values->dtype != c->gives[0] || keys->dtype != wanted.dtype)
    return pw_host_fail(s, PW_E_DTYPE, c->origin, "the map's keys or values are of another dtype than the model's");
  int64_t width = pw_stored_bits(values->dtype) / 8, n = wanted.count;
  const int64_t *have = (const int64_t *)(const void *)keys->data, *want = (const int64_t *)(const void *)wanted.data;
  uint8_t *to = pw_heap_array(s, n, (uint64_t)width, c->origin);
  if (!to) return 0;
  memset(to, 0, (size_t)(n * width));
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < keys->dims[0]; k++)
      if (have[k] == want[i]) memcpy(to + i * width, values->data + k * width, (size_t)width);
  return pw_hold(s, c, to, n * width);
}

/* Values in the order of their keys, which are i64: a merge sort of places. */
static int values_of(pw_session *s, const pw_call *c, const pw_items *l) {
  const pw_element *keys, *values;
  if (!map(s, c, l, &keys, &values)) return 0;
  if (values->dtype != c->gives[0] || keys->dtype != PW_I64 || c->symbols != 1)
    return pw_host_fail(s, PW_E_DTYPE, c->origin, "the map's keys or values are of another dtype than the model's");
  int64_t n = keys->dims[0], width = pw_stored_bits(values->dtype) / 8;
  const int64_t *key = (const int64_t *)(const void *)keys->data;
  int64_t *a = pw_heap_array(s, 2 * n, sizeof *a, c->origin), *b = a ? a + n : 0;
  uint8_t *to = a ? pw_heap_array(s, n, (uint64_t)width, c->origin) : 0;
  if (!to) return 0;
  for (int64_t i = 0; i < n; i++) a[i] = i;
  for (int64_t half = 1; half < n; half *= 2) {
    for (int64_t from = 0; from < n; from += 2 * half) {
      int64_t mid = from + half < n ? from + half : n, end = from + 2 * half < n ? from + 2 * half : n, i = from, k = mid;
      for (int64_t o = from; o < end; o++) b[o] = i < mid && (k >= end || key[a[i]] <= key[a[k]]) ? a[i++] : a[k++];
    }
    int64_t *t = a;
    a = b, b = t;
  }
  for (int64_t i = 0; i < n; i++) memcpy(to + i * width, values->data + a[i] * width, (size_t)width);
  c->found[0] = n;
  return pw_hold(s, c, to, n * width);
}

int pw_host_lists(pw_session *s, const pw_call *c) {
  pw_operand o;
  const pw_items *l = 0;
  pw_element *e;
  int64_t at;
  if (c->op != PW_HOST_LIST_OF && c->op != PW_HOST_LIST_SPLIT && c->op != PW_HOST_ZIP_MAP && !(l = list_operand(s, c, &o))) return 0;
  switch (c->op) {
    case PW_HOST_LIST_OF:
      at = pw_list_new(s, c->operands, &e, c->origin);
      for (int32_t i = 0; at > 0 && i < c->operands; i++)
        if (!list_element(s, c, i, &e[i])) return 0;
      return at > 0 && pw_hold_number(s, c, at);
    case PW_HOST_LIST_LENGTH: return pw_hold_number(s, c, l->count);
    case PW_HOST_LIST_AT: {
      pw_items from = *l;
      return position(s, c, 1, from.count, 0, &at) && give_element(s, c, &from.elements->at[at], (int32_t)c->gives[0]);
    }
    case PW_HOST_OPTIONAL_GET:
      if (!l->count) return pw_host_fail(s, PW_E_ARGUMENT, c->origin, "the optional has no value");
      return give_element(s, c, &l->elements->at[0], (int32_t)c->gives[0]);
    case PW_HOST_LIST_INSERT: return insert(s, c, l);
    case PW_HOST_LIST_ERASE: return erase(s, c, l);
    case PW_HOST_LIST_SPLIT: return cut_tensor(s, c);
    case PW_HOST_LIST_CONCAT: return join_list(s, c, l);
    case PW_HOST_ZIP_MAP: return zip(s, c);
    case PW_HOST_MAP_LOOKUP: return map_lookup(s, c, l);
    default: return values_of(s, c, l);
  }
}
