/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Operations on characters. */
#include "host.h"

typedef struct { const char *data; uint64_t bytes; } part;

static int64_t text_id(const pw_operand *o, int64_t i) { return ((const int64_t *)(const void *)o->data)[i]; }

/* The first parts of a text, in a table that grows. */
typedef struct {
  part *at;
  int64_t count, room;
} parts;

static int push_part(pw_session *s, parts *p, const char *data, uint64_t bytes, int32_t origin) {
  if (p->count == p->room) {
    int64_t room = p->room ? 2 * p->room : 32;
    part *at = pw_heap_array(s, room, sizeof *at, origin);
    if (!at) return 0;
    if (p->count) memcpy(at, p->at, (size_t)p->count * sizeof *at);
    p->at = at, p->room = room;
  }
  p->at[p->count].data = data, p->at[p->count++].bytes = bytes;
  return 1;
}

/* Numbers of the parts of all texts: row i has count[i] of them, one row behind the other. */
typedef struct {
  int64_t *number, *count;
  int64_t used, room, most;
} rows;

static int put_row(pw_session *s, rows *r, int64_t i, const parts *p, int32_t origin) {
  if (r->room - r->used < p->count) {
    int64_t room = 2 * r->room + p->count + 64;
    int64_t *at = pw_heap_array(s, room, sizeof *at, origin);
    if (!at) return 0;
    if (r->used) memcpy(at, r->number, (size_t)r->used * sizeof *at);
    r->number = at, r->room = room;
  }
  for (int64_t k = 0; k < p->count; k++) {
    int64_t n = pw_intern(s, p->at[k].data, p->at[k].bytes, origin);
    if (n < 0) return 0;
    r->number[r->used++] = n;
  }
  r->count[i] = p->count;
  if (p->count > r->most) r->most = p->count;
  return 1;
}

/* A matrix of the rows, filled up with `pad`. */
static int64_t *matrix(pw_session *s, const rows *r, int64_t n, int64_t pad, int32_t origin) {
  int64_t all;
  if (__builtin_mul_overflow(n, r->most, &all)) all = -1;
  int64_t *to = pw_heap_array(s, all, sizeof *to, origin), used = 0;
  for (int64_t i = 0; to && i < n; i++) {
    for (int64_t k = 0; k < r->most; k++) to[i * r->most + k] = k < r->count[i] ? r->number[used + k] : pad;
    used += r->count[i];
  }
  return to;
}

static int string_concat(pw_session *s, const pw_call *c, const pw_operand *a, const pw_operand *b) {
  if (a->count != b->count) return pw_host_fail(s, PW_E_INTERNAL, c->origin, "a fault of Portwright: texts of different shapes");
  int64_t *to = pw_heap_array(s, a->count, sizeof *to, c->origin);
  char *joined = 0;
  uint64_t room = 0;
  for (int64_t i = 0; to && i < a->count; i++) {
    pw_string x = pw_text_of(s, text_id(a, i)), y = pw_text_of(s, text_id(b, i));
    if (x.bytes + y.bytes > room) {
      room = 2 * (x.bytes + y.bytes);
      if (!(joined = pw_heap_take(s, room, c->origin))) return 0;
    }
    memcpy(joined, x.data, x.bytes);
    if (y.bytes) memcpy(joined + x.bytes, y.data, y.bytes);
    if ((to[i] = pw_intern(s, joined, x.bytes + y.bytes, c->origin)) < 0) return 0;
  }
  return to && pw_hold(s, c, to, a->count * (int64_t)sizeof *to);
}

/* White space as Unicode and Python have it. */
static int is_space(uint32_t ch) {
  return ch - 9 < 5 || ch - 28 < 5 || ch == 0x85 || ch == 0xa0 || ch == 0x1680 || ch - 0x2000 < 11 || ch == 0x2028 || ch == 0x2029 ||
         ch == 0x202f || ch == 0x205f || ch == 0x3000;
}

static int split_spaces(pw_session *s, parts *p, pw_string x, int64_t most, int32_t origin) {
  uint64_t at = 0;
  for (;;) {
    uint64_t begin, behind;
    for (behind = at; at < x.bytes && is_space(pw_decode(x.data, &behind)); at = behind) {}
    if (at >= x.bytes) return 1;
    begin = at;
    if (most >= 0 && p->count == most) return push_part(s, p, x.data + begin, x.bytes - begin, origin);
    for (behind = at; at < x.bytes && !is_space(pw_decode(x.data, &behind)); at = behind) {}
    if (!push_part(s, p, x.data + begin, at - begin, origin)) return 0;
  }
}

static int split_at(pw_session *s, parts *p, pw_string x, pw_string d, int64_t most, int32_t origin) {
  uint64_t begin = 0;
  for (uint64_t at = 0; x.bytes - begin >= d.bytes && at <= x.bytes - d.bytes && (most < 0 || p->count < most);) {
    if (memcmp(x.data + at, d.data, d.bytes)) {
      at++;
      continue;
    }
    if (!push_part(s, p, x.data + begin, at - begin, origin)) return 0;
    begin = at += d.bytes;
  }
  return push_part(s, p, x.data + begin, x.bytes - begin, origin);
}

static int string_split(pw_session *s, const pw_call *c, const pw_operand *x, const pw_operand *delimiter) {
  if (c->params < 1 || c->symbols != 1 || delimiter->count != 1) return 0;
  pw_string d = pw_text_of(s, text_id(delimiter, 0));
  parts p = {0, 0, 0};
  rows r = {0, pw_heap_array(s, x->count, sizeof(int64_t), c->origin), 0, 0, 0};
  if (!r.count) return 0;
  for (int64_t i = 0; i < x->count; i++) {
    pw_string t = pw_text_of(s, text_id(x, i));
    p.count = 0;
    if (!(d.bytes ? split_at(s, &p, t, d, c->param[0], c->origin) : split_spaces(s, &p, t, c->param[0], c->origin))) return 0;
    if (!put_row(s, &r, i, &p, c->origin)) return 0;
  }
  int64_t *to = matrix(s, &r, x->count, 0, c->origin);
  if (!to) return 0;
  c->found[0] = r.most;
  return pw_hold(s, c, to, x->count * r.most * (int64_t)sizeof *to) && pw_hold(s, c, r.count, x->count * (int64_t)sizeof *r.count);
}

/* The number of a text in another case: 1 lower, 2 upper. */
static int64_t cased(pw_session *s, int64_t number, int64_t action, int32_t origin) {
  pw_string x = pw_text_of(s, number);
  uint64_t n = 0;
  /* A character's other form takes at most one byte more, and has two bytes then. */
  char *to = action ? pw_heap_take(s, 2 * (uint64_t)x.bytes + 4, origin) : 0;
  if (!action || !to) return action ? -1 : number;
  for (uint64_t at = 0; at < x.bytes;) {
    uint32_t ch = pw_decode(x.data, &at);
    n += pw_encode(to + n, action == 1 ? pw_lower(ch) : pw_upper(ch));
  }
  return pw_intern(s, to, n, origin);
}

static int normalize(pw_session *s, const pw_call *c, const pw_operand *x, const pw_operand *stop) {
  if (c->params < 2 || c->symbols > 1) return 0;
  int64_t action = c->param[0], compared = c->param[1] ? 0 : 1, kept = 0;
  int64_t *words = pw_heap_array(s, stop->count, sizeof *words, c->origin);
  int64_t *to = pw_heap_array(s, x->count + 1, sizeof *to, c->origin);
  if (!words || !to) return 0;
  for (int64_t k = 0; k < stop->count; k++)
    if ((words[k] = cased(s, text_id(stop, k), compared, c->origin)) < 0) return 0;
  for (int64_t i = 0; i < x->count; i++) {
    int64_t n = stop->count ? cased(s, text_id(x, i), compared, c->origin) : 0, k = 0;
    if (n < 0) return 0;
    while (k < stop->count && words[k] != n) k++;
    if (k < stop->count) continue;
    if ((to[kept++] = cased(s, text_id(x, i), action, c->origin)) < 0) return 0;
  }
  if (c->symbols) {
    if (!kept) to[kept++] = 0;
    c->found[0] = kept;
  }
  return pw_hold(s, c, to, kept * (int64_t)sizeof *to);
}

static int regex_match(pw_session *s, const pw_call *c, const pw_operand *x, const pw_operand *program) {
  pw_regex r;
  uint8_t *to = pw_heap_array(s, x->count, 1, c->origin);
  if (!to || !pw_regex_new(s, (const int64_t *)(const void *)program->data, program->count, c->origin, &r)) return 0;
  for (int64_t i = 0; i < x->count; i++) {
    pw_string t = pw_text_of(s, text_id(x, i));
    to[i] = (uint8_t)pw_regex_full(&r, t.data, t.bytes);
  }
  return pw_hold(s, c, to, x->count);
}

static int64_t characters(const char *text, uint64_t bytes) {
  int64_t n = 0;
  for (uint64_t i = 0; i < bytes; i++) n += (text[i] & 0xc0) != 0x80;
  return n;
}

enum { MATCHES, BETWEEN, CHARACTERS };

/* Parts of `t` that match, or that lie between matches. */
static int cut_text(pw_session *s, const pw_call *c, pw_regex *r, part t, parts *p) {
  int64_t kind = c->param[0], fewest = c->param[2];
  uint64_t from = 0, begin, end;
  while (from <= t.bytes && pw_regex_find(r, t.data, t.bytes, from, &begin, &end)) {
    uint64_t first = kind == MATCHES ? begin : from, last = kind == MATCHES ? end : begin;
    if (characters(t.data + first, last - first) >= fewest && !push_part(s, p, t.data + first, last - first, c->origin)) return 0;
    from = end;
    if (end > begin) continue;
    if (from == t.bytes) return 1;
    pw_decode(t.data, &from);
  }
  if (kind == MATCHES || from > t.bytes) return 1;
  return characters(t.data + from, t.bytes - from) < fewest || push_part(s, p, t.data + from, t.bytes - from, c->origin);
}

static int tokenize(pw_session *s, const pw_call *c, const pw_operand *x, const pw_operand *pad, const pw_operand *programs) {
  if (c->params < 3 || c->symbols != 1 || pad->count != 1) return 0;
  const int64_t *words = (const int64_t *)(const void *)programs->data;
  int64_t count = programs->count > 0 ? words[0] : 0, at = 1, kind = c->param[0];
  if (count < 0 || count > programs->count) return 0;
  pw_regex *r = pw_heap_array(s, count, sizeof *r, c->origin);
  for (int64_t k = 0; r && k < count; k++) {
    int64_t n = at < programs->count ? words[at++] : -1;
    if (n < 0 || n > programs->count - at || !pw_regex_new(s, words + at, n, c->origin, &r[k])) return 0;
    at += n;
  }
  parts p = {0, 0, 0}, q = {0, 0, 0};
  rows all = {0, pw_heap_array(s, x->count, sizeof(int64_t), c->origin), 0, 0, 0};
  if (!r || !all.count) return 0;
  for (int64_t i = 0; i < x->count; i++) {
    pw_string t = pw_text_of(s, text_id(x, i));
    part whole = {t.data, t.bytes};
    p.count = q.count = 0;
    if (c->param[1] && !push_part(s, &q, "\2", 1, c->origin)) return 0;
    if (kind == CHARACTERS) {
      for (uint64_t at2 = 0, from = 0; at2 < t.bytes; from = at2) {
        pw_decode(t.data, &at2);
        if (!push_part(s, &q, t.data + from, at2 - from, c->origin)) return 0;
      }
    } else {
      if (!push_part(s, &p, whole.data, whole.bytes, c->origin)) return 0;
      /* Each expression cuts what the one before has left. */
      for (int64_t k = 0; k < count; k++) {
        int64_t cuts = p.count;
        for (int64_t m = 0; m < cuts; m++)
          if (!cut_text(s, c, &r[k], p.at[m], &p)) return 0;
        p.count -= cuts;
        for (int64_t m = 0; m < p.count; m++) p.at[m] = p.at[m + cuts];
      }
      for (int64_t m = 0; m < p.count; m++)
        if (!push_part(s, &q, p.at[m].data, p.at[m].bytes, c->origin)) return 0;
    }
    if (c->param[1] && !push_part(s, &q, "\3", 1, c->origin)) return 0;
    if (!put_row(s, &all, i, &q, c->origin)) return 0;
  }
  int64_t *to = matrix(s, &all, x->count, text_id(pad, 0), c->origin);
  if (!to) return 0;
  c->found[0] = all.most;
  return pw_hold(s, c, to, x->count * all.most * (int64_t)sizeof *to);
}

static int comes_before(const pw_session *s, int64_t a, int64_t b) {
  if (a == b) return 0;
  pw_string x = pw_text_of(s, a), y = pw_text_of(s, b);
  int order = memcmp(x.data, y.data, (size_t)(x.bytes < y.bytes ? x.bytes : y.bytes));
  return order ? order < 0 : x.bytes < y.bytes;
}

/* Lets the element at `at` sink in the heap of the first `count` places: none comes before one below it. */
static void sink(const pw_session *s, int64_t *place, int64_t at, int64_t count, const pw_operand *x) {
  for (int64_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && comes_before(s, text_id(x, place[child]), text_id(x, place[child + 1]))) child++;
    if (!comes_before(s, text_id(x, place[at]), text_id(x, place[child]))) return;
    int64_t held = place[at];
    place[at] = place[child], place[child] = held;
  }
}

static int string_rank(pw_session *s, const pw_call *c, const pw_operand *x) {
  int64_t *to = pw_heap_array(s, x->count, sizeof *to, c->origin), *place = pw_heap_array(s, x->count, sizeof *place, c->origin);
  if (!to || !place) return 0;
  for (int64_t i = 0; i < x->count; i++) place[i] = i;
  for (int64_t i = x->count / 2; i-- > 0;) sink(s, place, i, x->count, x);
  for (int64_t i = x->count; i-- > 1;) {
    int64_t last = place[i];
    place[i] = place[0], place[0] = last;
    sink(s, place, 0, i, x);
  }
  for (int64_t i = 0, rank = 0; i < x->count; i++) {
    if (i && text_id(x, place[i]) != text_id(x, place[i - 1])) rank++;
    to[place[i]] = rank;
  }
  return pw_hold(s, c, to, x->count * (int64_t)sizeof *to);
}

int pw_host_strings(pw_session *s, const pw_call *c) {
  pw_operand x, y, z;
  if (!pw_operand_at(c, 0, &x)) return 0;
  if (c->op == PW_HOST_STRING_RANK) return string_rank(s, c, &x);
  if (!pw_operand_at(c, 1, &y)) return 0;
  switch (c->op) {
    case PW_HOST_STRING_CONCAT: return string_concat(s, c, &x, &y);
    case PW_HOST_STRING_SPLIT: return string_split(s, c, &x, &y);
    case PW_HOST_STRING_NORMALIZE: return normalize(s, c, &x, &y);
    case PW_HOST_REGEX_FULL_MATCH: return regex_match(s, c, &x, &y);
    default: return pw_operand_at(c, 2, &z) && tokenize(s, c, &x, &y, &z);
  }
}
