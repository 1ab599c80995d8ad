/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Memory of texts and lists, and their tables. */
#include "host.h"

int pw_host_fail(pw_session *s, int32_t status, int32_t origin, const char *what) {
  pw_text t;
  if (pw_begin(s, status, origin, &t)) pw_put(&t, what);
  return 0;
}

enum { CHUNK = 1 << 16, ROUND = 16 };

pw_host *pw_host_of(pw_session *s) {
  if (s->host) return s->host;
  pw_memory m = {0, 0};
  if (pw_grow(s, &m, sizeof(pw_host), -1, "tables of texts and lists")) return 0;
  s->host = (pw_host *)(void *)m.data;
  memset(s->host, 0, sizeof *s->host);
  return s->host;
}

void pw_host_free(pw_session *s) {
  if (!s->host) return;
  for (int k = 0; k < 2; k++) {
    for (pw_chunk *c = s->host->heap[k].first, *next; c; c = next) next = c->next, pw_give(s->model, c);
  }
  pw_give(s->model, s->host);
  s->host = 0;
}

/* A run begins: what the last one but one made is forgotten. */
void pw_host_begin(pw_session *s) {
  pw_host *h = s->host;
  if (!h) return;
  h->turn = !h->turn;
  pw_heap *heap = &h->heap[h->turn];
  heap->at = heap->first;
  for (pw_chunk *c = heap->first; c; c = c->next) c->used = 0;
  memset(&h->texts, 0, sizeof h->texts);
  memset(&h->lists, 0, sizeof h->lists);
  h->index = 0, h->index_room = 0, h->results = 0;
}

void *pw_heap_take(pw_session *s, uint64_t bytes, int32_t origin) {
  pw_host *h = pw_host_of(s);
  if (!h) return 0;
  if (bytes > (uint64_t)INT64_MAX / 2) {
    pw_host_fail(s, PW_E_MEMORY, origin, "texts and lists of a size that does not fit 63 bits");
    return 0;
  }
  pw_heap *heap = &h->heap[h->turn];
  bytes = (bytes + ROUND - 1) / ROUND * ROUND;
  while (heap->at && heap->at->bytes - heap->at->used < bytes) {
    if (!heap->at->next) break;
    heap->at = heap->at->next;
  }
  pw_chunk *c = heap->at;
  if (!c || c->bytes - c->used < bytes) {
    uint64_t head = (sizeof(pw_chunk) + ROUND - 1) / ROUND * ROUND, room = bytes > CHUNK ? bytes : CHUNK;
    pw_memory m = {0, 0};
    if (pw_grow(s, &m, (int64_t)(room + head), origin, "texts and lists")) return 0;
    pw_chunk *fresh = (pw_chunk *)(void *)m.data;
    fresh->next = 0, fresh->bytes = m.bytes - head, fresh->used = 0;
    if (c) fresh->next = c->next, c->next = fresh;
    else heap->first = fresh;
    heap->at = c = fresh;
  }
  uint8_t *at = (uint8_t *)c + (sizeof(pw_chunk) + ROUND - 1) / ROUND * ROUND + c->used;
  c->used += bytes;
  return at;
}

void *pw_heap_array(pw_session *s, int64_t count, uint64_t size, int32_t origin) {
  uint64_t bytes;
  if (count < 0 || __builtin_mul_overflow((uint64_t)count, size, &bytes)) bytes = UINT64_MAX;
  return pw_heap_take(s, bytes, origin);
}

/* Room for one more entry. */
static void *table_entry(pw_session *s, pw_table *t, uint64_t size, int32_t origin) {
  if (t->count == t->room) {
    int64_t room = t->room ? 2 * t->room : 64;
    uint8_t *at = pw_heap_array(s, room, size, origin);
    if (!at) return 0;
    if (t->count) memcpy(at, t->at, (size_t)((uint64_t)t->count * size));
    t->at = at, t->room = room;
  }
  return t->at + (uint64_t)t->count++ * size;
}

/* ---- texts ---- */

uint64_t pw_text_hash(const char *text, uint64_t bytes) {
  uint64_t h = 0xcbf29ce484222325u;
  for (uint64_t i = 0; i < bytes; i++) h = (h ^ (uint8_t)text[i]) * 0x100000001b3u;
  return h ^ h >> 32;
}

static pw_string *own_texts(const pw_host *h) { return (pw_string *)(void *)h->texts.at; }

pw_string pw_text_of(const pw_session *s, int64_t number) {
  pw_string none = {"", 0};
  if (number < 0) return none;
  if ((uint64_t)number < s->model->text_count) return pw_model_text(s->model, (uint32_t)number);
  number -= s->model->text_count;
  return s->host && number < s->host->texts.count ? own_texts(s->host)[number] : none;
}

static int same_text(pw_string a, const char *text, uint64_t bytes) { return a.bytes == bytes && !memcmp(a.data, text, (size_t)bytes); }

static int widen_index(pw_session *s, pw_host *h, int32_t origin) {
  uint64_t room = h->index_room ? 2 * h->index_room : 256;
  uint32_t *index = pw_heap_array(s, (int64_t)room, sizeof *index, origin);
  if (!index) return 0;
  memset(index, 0, (size_t)(room * sizeof *index));
  for (int64_t i = 0; i < h->texts.count; i++) {
    uint64_t at = pw_text_hash(own_texts(h)[i].data, own_texts(h)[i].bytes) & (room - 1);
    while (index[at]) at = (at + 1) & (room - 1);
    index[at] = (uint32_t)i + 1;
  }
  h->index = index, h->index_room = room;
  return 1;
}

int64_t pw_intern(pw_session *s, const char *text, uint64_t bytes, int32_t origin) {
  const pw_model *m = s->model;
  pw_host *h = pw_host_of(s);
  if (!h) return -1;
  if (!bytes) text = "";
  uint64_t hash = pw_text_hash(text, bytes);
  for (uint64_t at = hash & (m->text_room - 1); m->text_room && m->text_index[at]; at = (at + 1) & (m->text_room - 1)) {
    uint32_t n = m->text_index[at] - 1;
    if (same_text(pw_model_text(m, n), text, bytes)) return n;
  }
  /* Without a table of the model's own the empty text is the first. */
  if (bytes && !m->text_count && !h->texts.count && pw_intern(s, "", 0, origin) < 0) return -1;
  if ((uint64_t)h->texts.count * 2 >= h->index_room && !widen_index(s, h, origin)) return -1;
  uint64_t at = hash & (h->index_room - 1);
  for (; h->index[at]; at = (at + 1) & (h->index_room - 1)) {
    uint32_t n = h->index[at] - 1;
    if (same_text(own_texts(h)[n], text, bytes)) return (int64_t)m->text_count + n;
  }
  if (h->texts.count >= INT32_MAX) {
    pw_host_fail(s, PW_E_MEMORY, origin, "more texts than a run's table can hold");
    return -1;
  }
  char *copy = pw_heap_take(s, bytes + 1, origin);
  pw_string *e = copy ? table_entry(s, &h->texts, sizeof *e, origin) : 0;
  if (!e) return -1;
  memcpy(copy, text, (size_t)bytes);
  copy[bytes] = 0;
  e->data = copy, e->bytes = (size_t)bytes;
  h->index[at] = (uint32_t)h->texts.count;
  return (int64_t)m->text_count + h->texts.count - 1;
}

int pw_is_utf8(const char *text, uint64_t bytes) {
  const uint8_t *p = (const uint8_t *)text;
  for (uint64_t i = 0; i < bytes;) {
    uint32_t c = p[i];
    uint64_t more = c < 0x80 ? 0 : c < 0xc2 ? 4 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf5 ? 3 : 4;
    if (more > 3 || bytes - i <= more) return 0;
    for (uint64_t k = 1; k <= more; k++)
      if ((p[i + k] & 0xc0) != 0x80) return 0;
    if ((c == 0xe0 && p[i + 1] < 0xa0) || (c == 0xed && p[i + 1] > 0x9f) || (c == 0xf0 && p[i + 1] < 0x90) ||
        (c == 0xf4 && p[i + 1] > 0x8f))
      return 0;
    i += more + 1;
  }
  return 1;
}

uint32_t pw_decode(const char *text, uint64_t *at) {
  const uint8_t *p = (const uint8_t *)text + *at;
  if (p[0] < 0x80) return *at += 1, p[0];
  if (p[0] < 0xe0) return *at += 2, (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
  if (p[0] < 0xf0) return *at += 3, (uint32_t)(p[0] & 0xf) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
  return *at += 4, (uint32_t)(p[0] & 7) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
}

uint32_t pw_encode(char *to, uint32_t c) {
  uint32_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  static const uint8_t lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
  for (uint32_t i = n; i-- > 1; c >>= 6) to[i] = (char)(0x80 | (c & 0x3f));
  to[0] = (char)(lead[n] | c);
  return n;
}

/* ---- lists ---- */

/* A list of what stands on shared elements. */
int64_t pw_list_on(pw_session *s, pw_elements *elements, int64_t count, int32_t origin) {
  pw_host *h = pw_host_of(s);
  pw_items *l = h ? table_entry(s, &h->lists, sizeof *l, origin) : 0;
  if (!l) return -1;
  l->elements = elements, l->count = count;
  return h->lists.count;
}

pw_elements *pw_elements_new(pw_session *s, int64_t room, int32_t origin) {
  int64_t bytes;
  if (room < 0 || __builtin_mul_overflow(room, (int64_t)sizeof(pw_element), &bytes) ||
      __builtin_add_overflow(bytes, (int64_t)sizeof(pw_elements), &bytes))
    bytes = INT64_MAX;
  pw_elements *e = pw_heap_take(s, (uint64_t)bytes, origin);
  if (e) e->used = 0, e->room = room;
  return e;
}

int64_t pw_list_new(pw_session *s, int64_t count, pw_element **elements, int32_t origin) {
  pw_elements *e = pw_elements_new(s, count, origin);
  if (!e) return -1;
  e->used = count;
  *elements = e->at;
  return pw_list_on(s, e, count, origin);
}

const pw_items *pw_list_at(pw_session *s, int64_t number, int32_t origin) {
  if (s->host && number > 0 && number <= s->host->lists.count) return (const pw_items *)(void *)s->host->lists.at + (number - 1);
  pw_host_fail(s, PW_E_INTERNAL, origin, "a fault of Portwright: a list that does not exist");
  return 0;
}
