/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Regular expressions as automata that the compiler made: all states that a text can be in are followed at once, so that the time is
 * at most proportional to the text's length times the number of states, whatever the expression.
 *
 * A program is words: how many states there are, three words a state (what it is and two numbers), then ranges of characters, two
 * words each. A state MATCH ends; RANGE takes a character from a to b and goes on to the next state; CLASS takes one that lies in any
 * of b ranges from range a on; SPLIT goes on to a and to b; JUMP to a; ASSERT goes on where a holds.
 */
#include "host.h"

enum { MATCH, RANGE, CLASS, SPLIT, JUMP, ASSERT };
enum { TEXT_BEGIN, TEXT_END, LINE_BEGIN, LINE_END, WORD_EDGE, WORD_INSIDE };
enum { MOST_STATES = 1 << 16 };

int pw_regex_new(pw_session *s, const int64_t *words, int64_t count, int32_t origin, pw_regex *r) {
  int64_t n = count > 0 ? words[0] : 0, ranges = n > 0 && n <= MOST_STATES ? count - 1 - 3 * n : -1;
  int good = ranges >= 0 && ranges % 2 == 0;
  for (int64_t i = 0; good && i < n; i++) {
    const int64_t *w = words + 1 + 3 * i;
    int64_t a = w[1], b = w[2];
    if (w[0] == RANGE || w[0] == ASSERT) good = i + 1 < n;
    else if (w[0] == CLASS) good = i + 1 < n && a >= 0 && b >= 0 && a <= ranges / 2 && b <= ranges / 2 - a;
    else if (w[0] == SPLIT) good = a >= 0 && a < n && b >= 0 && b < n;
    else if (w[0] == JUMP) good = a >= 0 && a < n;
    else good = w[0] == MATCH;
  }
  if (!good) return pw_host_fail(s, PW_E_INTERNAL, origin, "a fault of Portwright: a damaged automaton");
  memset(r, 0, sizeof *r);
  r->words = words, r->states = n;
  uint32_t *u = pw_heap_array(s, 5 * n, sizeof *u, origin);
  int64_t *b = u ? pw_heap_array(s, 2 * n, sizeof *b, origin) : 0;
  if (!b) return 0;
  /* A state may lie on the stack once for each state that leads to it: two at most, and once as the first. */
  r->stack = u, r->mark = u + 2 * n;
  r->now.state = u + 3 * n, r->next.state = u + 4 * n;
  r->now.begin = b, r->next.begin = b + n;
  memset(r->mark, 0, (size_t)n * sizeof *u);
  return 1;
}

static int is_word(uint32_t c) { return (c | 32) - 'a' < 26u || c - '0' < 10u || c == '_'; }

static int holds(int64_t what, const char *text, uint64_t bytes, uint64_t at) {
  int before = at > 0 && is_word((uint8_t)text[at - 1]), after = at < bytes && is_word((uint8_t)text[at]);
  switch (what) {
    case TEXT_BEGIN: return at == 0;
    case TEXT_END: return at == bytes;
    case LINE_BEGIN: return at == 0 || text[at - 1] == '\n';
    case LINE_END: return at == bytes || text[at] == '\n';
    case WORD_EDGE: return before != after;
    default: return before == after;
  }
}

/* Adds a state and all that it leads to without a character. Returns whether one of them is the end. */
static int add_state(pw_regex *r, uint32_t first, int64_t begin, const char *text, uint64_t bytes, uint64_t at) {
  uint32_t depth = 0;
  int matched = 0;
  r->stack[depth++] = first;
  while (depth) {
    uint32_t i = r->stack[--depth];
    if (r->mark[i] == r->round) continue;
    r->mark[i] = r->round;
    const int64_t *w = r->words + 1 + 3 * (int64_t)i;
    if (w[0] == JUMP) {
      r->stack[depth++] = (uint32_t)w[1];
    } else if (w[0] == SPLIT) {
      r->stack[depth++] = (uint32_t)w[2];
      r->stack[depth++] = (uint32_t)w[1];
    } else if (w[0] == ASSERT) {
      if (holds(w[1], text, bytes, at)) r->stack[depth++] = i + 1;
    } else {
      if (w[0] == MATCH) matched = 1;
      r->next.state[r->next.count] = i, r->next.begin[r->next.count++] = begin;
    }
  }
  return matched;
}

static int takes(const pw_regex *r, const int64_t *w, uint32_t c) {
  if (w[0] == RANGE) return (int64_t)c >= w[1] && (int64_t)c <= w[2];
  if (w[0] != CLASS) return 0;
  const int64_t *range = r->words + 1 + 3 * r->states + 2 * w[1];
  int64_t lo = 0, hi = w[2];
  while (lo < hi) {
    int64_t mid = (lo + hi) / 2;
    if ((int64_t)c > range[2 * mid + 1]) lo = mid + 1;
    else hi = mid;
  }
  return lo < w[2] && (int64_t)c >= range[2 * lo];
}

static void turn_states(pw_regex *r) {
  uint32_t *state = r->now.state;
  int64_t *begin = r->now.begin;
  r->now.state = r->next.state, r->now.begin = r->next.begin, r->now.count = r->next.count;
  r->next.state = state, r->next.begin = begin, r->next.count = 0;
  if (!++r->round) memset(r->mark, 0, (size_t)r->states * sizeof *r->mark), r->round = 1;
}

/* States are in order of where their matches began; the earliest one wins, and of that the longest. */
static int follow(pw_regex *r, const char *text, uint64_t bytes, uint64_t from, int anchored, uint64_t *begin, uint64_t *end) {
  int64_t best = -1;
  uint64_t at = from;
  r->next.count = 0;
  turn_states(r), r->now.count = 0;
  for (;;) {
    /* `next` holds what the last character led to; a match may begin here unless one has begun earlier. */
    if (best < 0 && (!anchored || at == from)) add_state(r, 0, (int64_t)at, text, bytes, at);
    for (uint32_t k = 0; k < r->next.count; k++) {
      if (r->words[1 + 3 * (int64_t)r->next.state[k]] != MATCH) continue;
      if (best < 0 || r->next.begin[k] <= best) best = r->next.begin[k], *end = at;
      break;
    }
    turn_states(r);
    if (at >= bytes || (!r->now.count && (best >= 0 || anchored))) break;
    uint64_t behind = at;
    uint32_t c = pw_decode(text, &behind);
    for (uint32_t k = 0; k < r->now.count; k++) {
      if (best >= 0 && r->now.begin[k] > best) break;
      const int64_t *w = r->words + 1 + 3 * (int64_t)r->now.state[k];
      if (takes(r, w, c)) add_state(r, r->now.state[k] + 1, r->now.begin[k], text, bytes, behind);
    }
    at = behind;
  }
  if (best < 0) return 0;
  *begin = (uint64_t)best;
  return 1;
}

int pw_regex_full(pw_regex *r, const char *text, uint64_t bytes) {
  uint64_t begin = 0, end = 0;
  return follow(r, text, bytes, 0, 1, &begin, &end) && end == bytes;
}

int pw_regex_find(pw_regex *r, const char *text, uint64_t bytes, uint64_t from, uint64_t *begin, uint64_t *end) {
  return follow(r, text, bytes, from, 0, begin, end);
}
