/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Texts and lists between a caller's values and the tables. */
#include "host.h"

enum { MOST_NESTED = 8 };

static pw_text about(pw_session *s, int32_t status, size_t input) {
  pw_text t;
  pw_begin(s, status, -1, &t);
  pw_put(&t, "input "), pw_put_int(&t, (int64_t)input), pw_put(&t, " '"), pw_put(&t, s->model->in[input].name), pw_put(&t, "': ");
  return t;
}

static int refuse(pw_session *s, int32_t status, size_t input, const char *what) {
  pw_text t = about(s, status, input);
  pw_put(&t, what);
  return 0;
}

/* Numbers of the texts of a dense or strided value. */
static const uint8_t *texts_in(pw_session *s, size_t input, const pw_value *v, const int64_t *dims, int32_t rank) {
  int64_t n = pw_bytes_of(dims, rank, 8), at[PW_MAX_RANK];
  int64_t *to = pw_heap_array(s, n, sizeof *to, -1);
  if (!to) return 0;
  if (n && !v->data) return refuse(s, PW_E_ARGUMENT, input, "data is null"), (const uint8_t *)0;
  for (int32_t a = 0; a < rank; a++) at[a] = 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t offset = i;
    if (v->strides) {
      offset = 0;
      for (int32_t a = 0; a < rank; a++) offset += at[a] * v->strides[a];
      for (int32_t a = rank; a-- > 0;) {
        if (++at[a] < dims[a]) break;
        at[a] = 0;
      }
    }
    pw_string x = ((const pw_string *)v->data)[offset];
    if ((!x.data && x.bytes) || !pw_is_utf8(x.data, x.bytes)) {
      pw_text t = about(s, PW_E_ARGUMENT, input);
      pw_put(&t, "text "), pw_put_int(&t, i), pw_put(&t, x.data || !x.bytes ? " is not UTF-8" : " has no data");
      return 0;
    }
    if ((to[i] = pw_intern(s, x.data, x.bytes, -1)) < 0) return 0;
  }
  return (const uint8_t *)to;
}

static const char *const kinds[] = {"a tensor", "texts", "a sequence", "an optional", "a map"};

static int element_in(pw_session *s, size_t input, const pw_value *v, const pw_item *type, const pw_item *end, pw_element *e, int depth);

/* The list that a value is; `type` is what it holds. */
static int64_t list_in(pw_session *s, size_t input, const pw_value *v, int32_t kind, const pw_item *type, const pw_item *end, int depth) {
  const pw_list *l = v->data;
  pw_element *e;
  if (depth > MOST_NESTED || type == end) return refuse(s, PW_E_ARGUMENT, input, "lists are nested too deeply"), -1;
  if (!l && kind != PW_OPTIONAL) return refuse(s, PW_E_ARGUMENT, input, "data is null"), -1;
  size_t count = l ? l->count : 0;
  if (count > INT32_MAX || (count && !l->items)) return refuse(s, PW_E_ARGUMENT, input, "a list has a count without items"), -1;
  if ((kind == PW_OPTIONAL && count > 1) || (kind == PW_MAP && count != 2))
    return refuse(s, PW_E_ARGUMENT, input, kind == PW_MAP ? "a map has keys and values" : "an optional has one value or none"), -1;
  int64_t to = pw_list_new(s, (int64_t)count, &e, -1);
  for (size_t i = 0; to > 0 && i < count; i++) {
    const pw_item *own = kind == PW_MAP ? type + i : type;
    if (!element_in(s, input, pw_value_at(l->items, i), own, end, &e[i], depth + 1)) return -1;
  }
  if (to > 0 && kind == PW_MAP && (e[0].rank != 1 || e[1].rank != 1 || e[0].dims[0] != e[1].dims[0]))
    return refuse(s, PW_E_SHAPE, input, "a map has as many keys as values, each in rank 1"), -1;
  return to;
}

static int element_in(pw_session *s, size_t input, const pw_value *v, const pw_item *type, const pw_item *end, pw_element *e, int depth) {
  memset(e, 0, sizeof *e);
  if (type >= end) return refuse(s, PW_E_ARGUMENT, input, "the model says nothing of its elements");
  if (v->size < sizeof(pw_value)) return refuse(s, PW_E_ARGUMENT, input, "pw_value.size of an element is not sizeof(pw_value)");
  if (v->kind != type->kind) {
    pw_text t = about(s, PW_E_ARGUMENT, input);
    pw_put(&t, "an element is "), pw_put(&t, v->kind >= 0 && v->kind <= PW_MAP ? kinds[v->kind] : "of no kind");
    pw_put(&t, ", the model takes "), pw_put(&t, kinds[type->kind]);
    return 0;
  }
  if (type->kind > PW_STRINGS) return (e->list = list_in(s, input, v, type->kind, type + 1, end, depth)) > 0;
  if (v->place != PW_HOST) return refuse(s, PW_E_DEVICE, input, "the bundle runs on the host and takes host memory");
  if (type->kind == PW_TENSOR && v->dtype != type->dtype) {
    pw_text t = about(s, PW_E_DTYPE, input);
    pw_put(&t, "dtype of an element is "), pw_put_dtype(&t, v->dtype);
    pw_put(&t, ", the model has "), pw_put_dtype(&t, type->dtype);
    return 0;
  }
  if (v->rank < 0 || v->rank > PW_MAX_RANK || (v->rank && !v->dims)) return refuse(s, PW_E_SHAPE, input, "an element's rank");
  int64_t *dims = pw_heap_array(s, v->rank, sizeof *dims, -1);
  if (!dims) return 0;
  for (int32_t a = 0; a < v->rank; a++) {
    if (v->dims[a] < 0) return refuse(s, PW_E_SHAPE, input, "an element has a negative dim");
    dims[a] = v->dims[a];
  }
  e->dtype = type->dtype, e->rank = v->rank, e->dims = dims;
  uint32_t bits = pw_stored_bits(type->dtype);
  int64_t bytes = pw_bytes_of(dims, v->rank, bits);
  if (bytes < 0) return refuse(s, PW_E_SHAPE, input, "an element's size does not fit 63 bits");
  if (type->kind == PW_STRINGS) return (e->data = texts_in(s, input, v, dims, v->rank)) != 0;
  uint8_t *data = pw_heap_take(s, (uint64_t)bytes, -1);
  if (!data) return 0;
  if (bytes && !v->data) return refuse(s, PW_E_ARGUMENT, input, "data of an element is null");
  if (bytes && v->capacity_bytes && !v->strides && v->capacity_bytes < (uint64_t)bytes)
    return refuse(s, PW_E_CAPACITY, input, "an element's memory is smaller than its shape");
  if (bytes) pw_copy(data, 0, v->data, v->strides, dims, v->rank, bits);
  e->data = data;
  return 1;
}

int pw_host_input(pw_session *s, size_t input, const pw_value *v) {
  const pw_port *p = &s->model->in[input];
  pw_in *own = &s->in[input];
  if (p->kind == PW_STRINGS) return (own->data = texts_in(s, input, v, own->dims, p->rank)) != 0;
  int64_t *to = pw_heap_take(s, sizeof *to, -1);
  if (!to || (*to = list_in(s, input, v, p->kind, p->items, p->items + p->item_count, 0)) < 0) return 0;
  own->data = (const uint8_t *)to;
  return 1;
}

/* ---- results ---- */

static pw_string *texts_out(pw_session *s, const int64_t *numbers, int64_t n) {
  pw_string *to = pw_heap_array(s, n, sizeof *to, -1);
  for (int64_t i = 0; to && i < n; i++) to[i] = pw_text_of(s, numbers[i]);
  return to;
}

static int list_out(pw_session *s, int64_t number, int32_t kind, const pw_item *type, const pw_item *end, pw_value *v, int depth) {
  const pw_items *l = pw_list_at(s, number, -1);
  if (!l || depth > MOST_NESTED || type >= end) return l ? pw_host_fail(s, PW_E_INTERNAL, -1, "a list that is nested too deeply") : 0;
  pw_items from = *l;
  pw_list *to = pw_heap_take(s, sizeof *to, -1);
  pw_value *items = to ? pw_heap_array(s, from.count, sizeof *items, -1) : 0;
  if (!items) return 0;
  for (int64_t i = 0; i < from.count; i++) {
    const pw_element *e = &from.elements->at[i];
    const pw_item *own = kind == PW_MAP ? type + (i > 0) : type;
    if (own >= end) return pw_host_fail(s, PW_E_INTERNAL, -1, "a list of what the model does not say");
    memset(&items[i], 0, sizeof items[i]);
    items[i].size = sizeof items[i];
    items[i].kind = own->kind;
    if (!e->dtype) {
      if (!list_out(s, e->list, own->kind, own + 1, end, &items[i], depth + 1)) return 0;
      continue;
    }
    items[i].dtype = e->dtype, items[i].rank = e->rank;
    items[i].dims = (int64_t *)(uintptr_t)e->dims;
    int64_t n = pw_bytes_of(e->dims, e->rank, 8);
    if (e->dtype == PW_STR) {
      items[i].data = texts_out(s, (const int64_t *)(const void *)e->data, n);
      if (!items[i].data) return 0;
    } else {
      items[i].data = (void *)(uintptr_t)e->data;
    }
  }
  to->count = (size_t)from.count, to->items = items;
  v->kind = kind, v->data = to;
  return 1;
}

int pw_host_output(pw_session *s, uint32_t output) {
  const pw_port *p = &s->model->out[output];
  pw_out *o = &s->out[output];
  pw_value *v = o->value;
  const int64_t *numbers = (const int64_t *)(const void *)o->target;
  if (p->kind != PW_STRINGS) return list_out(s, numbers[0], p->kind, p->items, p->items + p->item_count, v, 0);
  int64_t n = pw_bytes_of(o->dims, p->rank, 8);
  v->kind = PW_STRINGS;
  if (!v->data) {
    v->data = texts_out(s, numbers, n);
    o->texts = v->data;
    return v->data != 0;
  }
  for (int64_t i = 0; i < n; i++) ((pw_string *)v->data)[i] = pw_text_of(s, numbers[i]);
  return 1;
}
