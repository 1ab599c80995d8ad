/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The calls of a plan. */
#include "host.h"

int pw_operand_at(const pw_call *c, int32_t i, pw_operand *o) {
  const int64_t *w = c->words;
  if (i < 0 || i >= c->operands) return 0;
  for (int32_t k = 0; k < i; k++) w += 3 + w[2];
  o->data = (const uint8_t *)(uintptr_t)w[0];
  o->dtype = (int32_t)w[1], o->rank = (int32_t)w[2], o->dims = w + 3, o->count = 1;
  for (int32_t a = 0; a < o->rank; a++) o->count *= o->dims[a];
  return 1;
}

int pw_hold(pw_session *s, const pw_call *c, const void *data, int64_t bytes) {
  pw_host *h = s->host;
  if (bytes < 0 || h->results >= c->results || h->results >= (int32_t)(sizeof h->held / sizeof *h->held))
    return pw_host_fail(s, PW_E_INTERNAL, c->origin, "a fault of Portwright: a host operation of other results");
  h->held[h->results].data = data, h->held[h->results++].bytes = bytes;
  return 1;
}

int pw_hold_number(pw_session *s, const pw_call *c, int64_t number) {
  s->host->number = number;
  return pw_hold(s, c, &s->host->number, sizeof number);
}

/* The call with its operands in the host's memory; 0 = failed, the error is recorded. */
static int bring(pw_session *s, pw_call *c, int64_t total) {
  int64_t *words = pw_heap_array(s, total, sizeof *words, c->origin);
  if (!words) return 0;
  memcpy(words, c->words, (size_t)total * sizeof *words);
  c->words = words;
  for (int32_t i = 0; i < c->operands; i++) {
    /* What is no tensor and no text is the number of a list. */
    int32_t dtype = (int32_t)words[1], rank = (int32_t)words[2];
    int64_t bytes = pw_bytes_of(words + 3, rank, dtype ? pw_stored_bits(dtype) : 64);
    void *data = pw_heap_take(s, bytes < 0 ? UINT64_MAX : (uint64_t)bytes, c->origin);
    if (!data || pw_dev_fetch(s, data, (const void *)(uintptr_t)words[0], bytes, c->origin)) return 0;
    words[0] = (int64_t)(uintptr_t)data;
    words += 3 + rank;
  }
  return 1;
}

int32_t pw_host_run(pw_session *s, const int64_t *words, int64_t *found, int32_t symbols, int (*run)(pw_session *, const pw_call *)) {
  if (s->status || pw_rt_cancelled(s)) return s->status;
  pw_host *h = pw_host_of(s);
  if (!h) return s->status;
  pw_call c;
  c.op = (int32_t)words[0], c.origin = (int32_t)words[1];
  c.operands = (int32_t)words[2], c.results = (int32_t)words[3], c.params = (int32_t)words[4];
  c.words = words + 5, c.found = found, c.symbols = symbols;
  const int64_t *w = c.words;
  for (int32_t i = 0; i < c.operands; i++) w += 3 + w[2];
  if (pw_on_device(s)) {
    const int64_t *all = c.words;
    if (!bring(s, &c, (w - all) + c.results + c.params)) return s->status;
    w = c.words + (w - all);
  }
  c.gives = w, c.param = w + c.results;
  h->results = 0;
  uint64_t began = s->model->options.profile ? pw_os_now_ns() : 0;
  int done = run(s, &c);
  if (s->model->options.profile) {
    const char *node = pw_origin(s->model, c.origin);
    s->model->options.profile(s->model->options.user, node ? node : "", began, pw_os_now_ns(), 1);
  }
  if (!done && !s->status) pw_host_fail(s, PW_E_INTERNAL, c.origin, "a fault of Portwright: a host operation without a reason");
  return s->status;
}

static int of_texts(pw_session *s, const pw_call *c) {
  return c->op < PW_HOST_STRING_OF ? pw_host_strings(s, c) : c->op < PW_HOST_LIST_OF ? pw_host_numbers(s, c) : pw_host_lists(s, c);
}

int32_t pw_rt_host(pw_ctx *s, const int64_t *words, int64_t *found, int32_t symbols) { return pw_host_run(s, words, found, symbols, of_texts); }

int32_t pw_rt_held(pw_ctx *s, int32_t result, void *to, int64_t bytes) {
  const pw_host *h = s->host;
  if (s->status) return s->status;
  if (!h || result < 0 || result >= h->results || h->held[result].bytes != bytes) {
    pw_host_fail(s, PW_E_INTERNAL, -1, "a fault of Portwright: a result that is not held");
    return s->status;
  }
  if (bytes && pw_on_device(s)) return pw_dev_put(s, to, h->held[result].data, bytes);
  if (bytes) memcpy(to, h->held[result].data, (size_t)bytes);
  return PW_OK;
}
