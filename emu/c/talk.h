/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Requests and replies of a program that runs a bundle for another process: stdin and stdout as runner.c says. Whoever includes this has
 * told how to reach the system: put_bytes, get_bytes (what they moved, 0 at the end, -1 to try again), map, unmap, now, leave.
 */
#ifndef PW_TALK_H
#define PW_TALK_H

#include "portwright.h"

#define MAGIC 0x3130554d45575050u /* PPWEMU01 */

static long put_bytes(int to, const void *from, uint64_t bytes);
static long get_bytes(void *to, uint64_t bytes);
static void *map(uint64_t bytes, long near);
static void unmap(void *at, uint64_t bytes);
static uint64_t now(void);
_Noreturn static void leave(int code);

static char out[1 << 16];
static size_t out_used;

static void flush(void) {
  for (size_t done = 0; done < out_used;) {
    long n = put_bytes(1, out + done, out_used - done);
    if (n < 0) continue;
    if (n == 0) leave(1);
    done += (size_t)n;
  }
  out_used = 0;
}

static void put(const void *from, uint64_t bytes) {
  const char *f = from;
  while (bytes) {
    uint64_t part = sizeof out - out_used < bytes ? sizeof out - out_used : bytes;
    memcpy(out + out_used, f, part);
    out_used += part, f += part, bytes -= part;
    if (out_used == sizeof out) flush();
  }
}

static void put_word(uint64_t w) { put(&w, sizeof w); }

static void put_text(const char *text) {
  uint64_t n = 0;
  while (text && text[n]) n++;
  put_word(n);
  put(text, n);
}

static void get(void *to, uint64_t bytes) {
  for (uint64_t done = 0; done < bytes;) {
    long n = get_bytes((char *)to + done, bytes - done);
    if (n < 0) continue;
    if (n == 0) leave(0);
    done += (uint64_t)n;
  }
}

static uint64_t get_word(void) {
  uint64_t w = 0;
  get(&w, sizeof w);
  return w;
}

_Noreturn static void refuse(pw_status status, const char *why) {
  put_word(MAGIC);
  put_word(status);
  put_text(why);
  flush();
  leave(0);
}

enum { MOST_RANK = 64 };

static size_t describe(const pw_api *api, const pw_model *model, int output, int write) {
  pw_info info = {.size = sizeof info};
  size_t n = 0;
  for (; api->describe(model, output, n, &info) == PW_OK; n++) {
    if (!write) continue;
    put_word((uint64_t)info.kind);
    put_word((uint64_t)info.dtype);
    put_text(info.name);
    put_word((uint64_t)info.rank);
    for (int32_t i = 0; i < info.rank; i++) {
      put_word(info.symbols[i] ? 1 : 0);
      put_text(info.symbols[i]);
      put_word((uint64_t)info.min_dims[i]);
      put_word((uint64_t)info.max_dims[i]);
    }
    put_word(info.max_bytes);
    put_word((uint64_t)(int64_t)info.alias_of);
    put_word((uint64_t)info.item_count);
    for (int32_t i = 0; i < info.item_count; i++) {
      put_word((uint64_t)info.items[i].kind);
      put_word((uint64_t)info.items[i].dtype);
      put_word((uint64_t)(int64_t)info.items[i].rank);
    }
  }
  return n;
}

/* Memory of one request, in blocks that are given back at its end. */
typedef struct block { struct block *next; uint64_t bytes, used; } block;
static block *blocks;

static void *take(uint64_t bytes) {
  bytes = (bytes + 63) & ~63ull;
  if (!blocks || blocks->bytes - blocks->used < bytes) {
    uint64_t room = bytes + 64 > 1 << 20 ? bytes + 64 : 1 << 20;
    block *fresh = map(room, 0);
    if (!fresh) leave(1);
    fresh->next = blocks, fresh->bytes = room, fresh->used = 64;
    blocks = fresh;
  }
  blocks->used += bytes;
  return (char *)blocks + blocks->used - bytes;
}

static void give_back(void) {
  for (block *next; blocks; blocks = next) {
    next = blocks->next;
    unmap(blocks, blocks->bytes);
  }
}

static void get_value(pw_value *v) {
  *v = (pw_value){.size = sizeof(pw_value), .kind = (int32_t)get_word()};
  if (v->kind > PW_STRINGS) {
    pw_list *l = take(sizeof *l);
    l->count = get_word();
    pw_value *items = take(l->count * sizeof *items);
    for (uint64_t i = 0; i < l->count; i++) get_value(&items[i]);
    l->items = items, v->data = l;
    return;
  }
  v->dtype = (int32_t)get_word();
  v->rank = (int32_t)get_word();
  if (v->rank > MOST_RANK) leave(1);
  v->dims = take((uint64_t)v->rank * sizeof *v->dims);
  for (int32_t d = 0; d < v->rank; d++) v->dims[d] = (int64_t)get_word();
  uint64_t n = get_word();
  if (v->kind == PW_STRINGS) {
    pw_string *texts = take(n * sizeof *texts);
    for (uint64_t i = 0; i < n; i++) {
      texts[i].bytes = get_word();
      char *text = take(texts[i].bytes);
      get(text, texts[i].bytes);
      texts[i].data = text;
    }
    v->data = texts;
    return;
  }
  v->data = take(n);
  v->capacity_bytes = n;
  get(v->data, n);
}

/* Bits of an element by ONNX's number of its dtype. */
static uint64_t bits_of(int32_t dtype) {
  static const uint8_t bits[] = {0, 32, 8, 8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64, 64, 128, 16, 8, 8, 8, 8, 4, 4, 4, 8, 2, 2, 8, 8};
  return dtype > 0 && (size_t)dtype < sizeof bits ? bits[dtype] : 0;
}

static void put_value(const pw_value *v) {
  put_word((uint64_t)v->kind);
  if (v->kind > PW_STRINGS) {
    const pw_list *l = v->data;
    put_word(l->count);
    for (size_t i = 0; i < l->count; i++) put_value(&l->items[i]);
    return;
  }
  uint64_t count = 1;
  put_word((uint64_t)v->dtype);
  put_word((uint64_t)v->rank);
  for (int32_t d = 0; d < v->rank; d++) {
    put_word((uint64_t)v->dims[d]);
    count *= (uint64_t)v->dims[d];
  }
  if (v->kind == PW_STRINGS) {
    put_word(count);
    for (uint64_t i = 0; i < count; i++) {
      const pw_string *text = (const pw_string *)v->data + i;
      put_word(text->bytes);
      put(text->data, text->bytes);
    }
    return;
  }
  uint64_t bits = bits_of(v->dtype), per_byte = bits && bits < 8 ? 8 / bits : 0;
  uint64_t bytes = per_byte ? (count + per_byte - 1) / per_byte : count * (bits / 8);
  put_word(bytes);
  put(v->data, bytes);
}

static void run(const pw_api *api, pw_session *session, uint64_t outputs, int counted) {
  uint64_t n = get_word();
  pw_value *values = take((n + outputs) * sizeof *values);
  for (uint64_t i = 0; i < n; i++) get_value(&values[i]);
  for (uint64_t i = 0; i < outputs; i++)
    values[n + i] = (pw_value){.size = sizeof(pw_value), .dims = take(MOST_RANK * sizeof(int64_t))};
  uint64_t begin = now();
  pw_status status = api->run(session, values, n, values + n, outputs, 0);
  uint64_t took = now() - begin;
  /* The log of instructions goes the same way: what comes after this line is of the next run. */
  static const char mark[] = "\nend of a run\n";
  if (counted) put_bytes(2, mark, sizeof mark - 1);
  put_word(status);
  put_text(status == PW_OK ? "" : api->error(session, 0));
  put_word(took);
  for (uint64_t i = 0; status == PW_OK && i < outputs; i++) put_value(&values[n + i]);
  flush();
  give_back();
}

/* Loads the bundle in `folder` and answers until stdin ends. `base` and `bytes` tell where its library lies. */
_Noreturn static void serve(const pw_api *api, const char *folder, const void *base, uint64_t bytes, int counted) {
  pw_options options = {.size = sizeof options, .threads = 1};
  pw_model *model = 0;
  pw_session *session = 0;
  pw_status status = api->load(folder, &options, &model);
  if (status != PW_OK) refuse(status, api->error(0, 0));
  status = api->open(model, &session);
  if (status != PW_OK) refuse(status, api->error(0, model));
  put_word(MAGIC);
  put_word(PW_OK);
  put_text("");
  put_word((uint64_t)(uintptr_t)base);
  put_word(bytes);
  size_t outputs = describe(api, model, 1, 0);
  put_word(describe(api, model, 0, 0));
  describe(api, model, 0, 1);
  put_word(outputs);
  describe(api, model, 1, 1);
  flush();
  while (get_word() == 1) run(api, session, outputs, counted);
  leave(0);
}

#endif
