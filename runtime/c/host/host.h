/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Texts and lists of a session, and the operations on them. Plans and kernels know both as numbers (int64) of entries in tables:
 * equal texts have equal numbers, the empty one is 0; lists never change once they are made.
 *
 * All of it lies in two heaps that take turns: what a run makes is gone when the next run but one begins, so that what a run gave
 * its caller may be an input of the next. Models without texts and lists never allocate any of it.
 */
#ifndef PW_HOST_H
#define PW_HOST_H

#include "../rt.h"

/* An element of a list: a tensor, or with dtype 0 the number of a list. */
typedef struct {
  int32_t dtype, rank;
  const int64_t *dims;
  const uint8_t *data;
  int64_t list;
} pw_element;

/* Elements that lists share: one that is put at the end of the longest list on it takes no copy. */
typedef struct {
  int64_t used, room;
  pw_element at[];
} pw_elements;

typedef struct {
  pw_elements *elements;
  int64_t count;
} pw_items;

typedef struct pw_chunk {
  struct pw_chunk *next;
  uint64_t bytes, used; /* behind this head */
} pw_chunk;

typedef struct {
  pw_chunk *first, *at;
} pw_heap;

/* A table that grows: entries of one size. */
typedef struct {
  uint8_t *at;
  int64_t count, room;
} pw_table;

struct pw_host {
  pw_heap heap[2];
  int32_t turn;
  pw_table texts;      /* pw_string, from the model's last one on */
  uint32_t *index;     /* by hash: 1 + place in texts; 0 = free */
  uint64_t index_room; /* a power of two */
  pw_table lists;      /* pw_items; list n is entry n - 1 */
  struct { const void *data; int64_t bytes; } held[4];
  int64_t number;      /* a held list or number */
  int32_t results;
};

/* Memory of this run, 16-byte aligned, content unspecified; null = failed, the error is recorded. */
void *pw_heap_take(pw_session *s, uint64_t bytes, int32_t origin);
/* As pw_heap_take, of so many entries of a size. */
void *pw_heap_array(pw_session *s, int64_t count, uint64_t size, int32_t origin);
/* The session's tables; null = no memory, the error is recorded. */
pw_host *pw_host_of(pw_session *s);
/* Number of a text, or -1: failed, the error is recorded. */
int64_t pw_intern(pw_session *s, const char *text, uint64_t bytes, int32_t origin);
/* The text of a number; an empty one for what is none. */
pw_string pw_text_of(const pw_session *s, int64_t number);
/* Whether the bytes are UTF-8; decodes what is: the character at *at, which is moved behind it. */
int pw_is_utf8(const char *text, uint64_t bytes);
uint32_t pw_decode(const char *text, uint64_t *at);
uint32_t pw_encode(char *to, uint32_t c);
/* A new list with room for its elements, all of which the caller writes; its number or -1. */
int64_t pw_list_new(pw_session *s, int64_t count, pw_element **elements, int32_t origin);
/* A list of the first of shared elements; its number or -1. */
int64_t pw_list_on(pw_session *s, pw_elements *elements, int64_t count, int32_t origin);
pw_elements *pw_elements_new(pw_session *s, int64_t room, int32_t origin);
/* The list of a number; null = there is none, the error is recorded. */
const pw_items *pw_list_at(pw_session *s, int64_t number, int32_t origin);
/* Begins a message about a node. */
int pw_host_fail(pw_session *s, int32_t status, int32_t origin, const char *what);

/* What an operation is told. */
typedef struct {
  int32_t op, origin;
  int32_t operands, results, params;
  const int64_t *words; /* of the operands */
  const int64_t *gives, *param;
  int64_t *found;
  int32_t symbols;
} pw_call;

typedef struct {
  const uint8_t *data;
  int32_t dtype, rank;
  const int64_t *dims;
  int64_t count;
} pw_operand;

/* Runs an operation that a plan asks for; PW_OK, or the status, which is recorded. */
int32_t pw_host_run(pw_session *s, const int64_t *words, int64_t *found, int32_t symbols, int (*run)(pw_session *, const pw_call *));
/* Operand i; 0 = there is none. */
int pw_operand_at(const pw_call *c, int32_t i, pw_operand *o);
int pw_hold(pw_session *s, const pw_call *c, const void *data, int64_t bytes);
int pw_hold_number(pw_session *s, const pw_call *c, int64_t number);

/* Numbers as texts, texts as numbers. */
int pw_host_numbers(pw_session *s, const pw_call *c);
int pw_host_strings(pw_session *s, const pw_call *c);
int pw_host_lists(pw_session *s, const pw_call *c);

/* ---- regex.c ---- */
typedef struct {
  const int64_t *words;
  int64_t states;
  uint32_t *stack, *mark; /* of `states` each */
  struct { uint32_t *state; int64_t *begin; uint32_t count; } now, next;
  uint32_t round;
} pw_regex;
/* 0 = it is none, or no memory: the error is recorded. */
int pw_regex_new(pw_session *s, const int64_t *words, int64_t count, int32_t origin, pw_regex *r);
int pw_regex_full(pw_regex *r, const char *text, uint64_t bytes);
/* The leftmost, longest match from byte `from` on; 0 = none. */
int pw_regex_find(pw_regex *r, const char *text, uint64_t bytes, uint64_t from, uint64_t *begin, uint64_t *end);

/* ---- case.c ---- */
uint32_t pw_lower(uint32_t c);
uint32_t pw_upper(uint32_t c);

#endif
