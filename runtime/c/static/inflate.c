/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* RFC 1951 from memory to memory. Nothing is read or written outside of what is given, whatever the bytes are. */
#include "program.h"

#define MOST_BITS 15
#define FAST_BITS 9

/* A canonical code: symbols in the order of their codes, and how many there are of each length. Codes of up to FAST_BITS are looked
 * up at once: length in the low 4 bits, symbol above; 0 = longer or none. */
typedef struct {
  uint16_t count[MOST_BITS + 1], symbol[288], fast[1 << FAST_BITS];
} huffman;

typedef struct {
  const uint8_t *from, *end;
  uint8_t *to, *begin, *limit;
  uint64_t bits;
  uint32_t held; /* bits held */
  uint32_t over; /* bits that were asked for behind the end */
} stream;

/* At least 32 bits, zeros behind the end. */
static void fill(stream *s) {
  while (s->held <= 56) {
    if (s->from < s->end) s->bits |= (uint64_t)*s->from++ << s->held;
    else s->over += 8;
    s->held += 8;
  }
}

/* Takes up to 16 bits; `fill` was called less than 32 bits ago. */
static uint32_t take(stream *s, uint32_t n) {
  uint32_t v = (uint32_t)(s->bits & ((1u << n) - 1));
  s->bits >>= n, s->held -= n;
  return v;
}

/* Whether bits were taken that the stream does not have. */
static int ended(const stream *s) { return s->over > s->held; }

/* The code with these lengths; 0 = more codes than there is room for. Fewer are allowed: what they lack is an error where it occurs. */
static int build(huffman *h, const uint8_t *lengths, uint32_t n) {
  uint16_t at[MOST_BITS + 2];
  uint32_t next[MOST_BITS + 2], left = 1;
  memset(h, 0, sizeof *h);
  for (uint32_t i = 0; i < n; i++) h->count[lengths[i]]++;
  h->count[0] = 0;
  at[1] = 0, next[1] = 0;
  for (uint32_t b = 1; b <= MOST_BITS; b++) {
    left <<= 1;
    if (h->count[b] > left) return 0;
    left -= h->count[b];
    at[b + 1] = (uint16_t)(at[b] + h->count[b]);
    next[b + 1] = (next[b] + h->count[b]) << 1;
  }
  for (uint32_t i = 0; i < n; i++) {
    uint32_t b = lengths[i];
    if (!b) continue;
    h->symbol[at[b]++] = (uint16_t)i;
    uint32_t code = next[b]++, turned = 0;
    if (b > FAST_BITS) continue;
    for (uint32_t k = 0; k < b; k++) turned |= (code >> k & 1) << (b - 1 - k);
    for (; turned < 1u << FAST_BITS; turned += 1u << b) h->fast[turned] = (uint16_t)(i << 4 | b);
  }
  return 1;
}

/* The next symbol, or -1 for a code that nothing has. */
static int32_t decode(stream *s, const huffman *h) {
  uint32_t fast = h->fast[s->bits & ((1u << FAST_BITS) - 1)];
  if (fast) {
    take(s, fast & 15);
    return (int32_t)(fast >> 4);
  }
  int32_t code = 0, first = 0, index = 0;
  for (uint32_t b = 1; b <= MOST_BITS; b++) {
    code |= (int32_t)take(s, 1);
    int32_t count = h->count[b];
    if (code - first < count) return h->symbol[index + code - first];
    index += count;
    first = (first + count) << 1;
    code <<= 1;
  }
  return -1;
}

static const char *stored(stream *s) {
  take(s, s->held & 7);
  fill(s);
  uint32_t n = take(s, 16), complement = take(s, 16);
  if (ended(s)) return "the compressed data ends too early";
  if (n != (complement ^ 0xffff)) return "a block's length is damaged";
  /* What is held goes back: whole bytes, but for those that never were. */
  s->from -= (s->held - s->over) / 8;
  s->bits = 0, s->held = 0, s->over = 0;
  if (n > (uint64_t)(s->end - s->from)) return "the compressed data ends too early";
  if (n > (uint64_t)(s->limit - s->to)) return "the data is longer than the archive says";
  memcpy(s->to, s->from, n);
  s->to += n, s->from += n;
  return 0;
}

static const char *coded(stream *s, const huffman *literals, const huffman *distances) {
  static const uint16_t length_base[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                           31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
  static const uint8_t length_bits[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
  static const uint16_t distance_base[30] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                             193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
  static const uint8_t distance_bits[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                            6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
  for (;;) {
    fill(s);
    int32_t symbol = decode(s, literals);
    if (ended(s)) return "the compressed data ends too early";
    if (symbol < 0) return "the compressed data has a code that means nothing";
    if (symbol == 256) return 0;
    if (symbol < 256) {
      if (s->to == s->limit) return "the data is longer than the archive says";
      *s->to++ = (uint8_t)symbol;
      continue;
    }
    if (symbol > 285) return "the compressed data has a code that means nothing";
    uint32_t length = length_base[symbol - 257] + take(s, length_bits[symbol - 257]);
    fill(s);
    symbol = decode(s, distances);
    if (symbol < 0 || symbol > 29) return "the compressed data has a code that means nothing";
    uint32_t distance = distance_base[symbol] + take(s, distance_bits[symbol]);
    if (ended(s)) return "the compressed data ends too early";
    if (distance > (uint64_t)(s->to - s->begin)) return "the compressed data refers to what is before its begin";
    if (length > (uint64_t)(s->limit - s->to)) return "the data is longer than the archive says";
    if (distance >= length) {
      memcpy(s->to, s->to - distance, length);
      s->to += length;
    } else {
      for (; length; length--, s->to++) *s->to = *(s->to - distance);
    }
  }
}

static const char *dynamic(stream *s, huffman *literals, huffman *distances) {
  static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
  uint8_t lengths[320] = {0};
  fill(s);
  uint32_t n = take(s, 5) + 257, m = take(s, 5) + 1, codes = take(s, 4) + 4, i = 0;
  if (n > 286 || m > 30) return "a block's codes are damaged";
  for (; i < codes; i++) {
    fill(s);
    lengths[order[i]] = (uint8_t)take(s, 3);
  }
  if (!build(literals, lengths, 19)) return "a block's codes are damaged";
  memset(lengths, 0, sizeof lengths);
  for (i = 0; i < n + m;) {
    fill(s);
    int32_t symbol = decode(s, literals);
    if (ended(s)) return "the compressed data ends too early";
    if (symbol < 0) return "a block's codes are damaged";
    if (symbol < 16) {
      lengths[i++] = (uint8_t)symbol;
      continue;
    }
    if (symbol == 16 && i == 0) return "a block's codes are damaged";
    uint8_t value = symbol == 16 ? lengths[i - 1] : 0;
    uint32_t times = symbol == 16 ? 3 + take(s, 2) : symbol == 17 ? 3 + take(s, 3) : 11 + take(s, 7);
    if (times > n + m - i) return "a block's codes are damaged";
    for (; times; times--) lengths[i++] = value;
  }
  if (ended(s)) return "the compressed data ends too early";
  if (!build(literals, lengths, n) || !build(distances, lengths + n, m)) return "a block's codes are damaged";
  return coded(s, literals, distances);
}

static const char *fixed(stream *s, huffman *literals, huffman *distances) {
  uint8_t lengths[288];
  memset(lengths, 8, 144), memset(lengths + 144, 9, 112), memset(lengths + 256, 7, 24), memset(lengths + 280, 8, 8);
  build(literals, lengths, 288);
  memset(lengths, 5, 30);
  build(distances, lengths, 30);
  return coded(s, literals, distances);
}

const char *pw_inflate(const uint8_t *from, uint64_t n, uint8_t *to, uint64_t bytes) {
  stream s = {from, from + n, to, to, to + bytes, 0, 0, 0};
  huffman literals, distances;
  uint32_t last;
  do {
    fill(&s);
    last = take(&s, 1);
    uint32_t kind = take(&s, 2);
    if (ended(&s)) return "the compressed data ends too early";
    const char *fault = kind == 0   ? stored(&s)
                        : kind == 1 ? fixed(&s, &literals, &distances)
                        : kind == 2 ? dynamic(&s, &literals, &distances)
                                    : "a block is of a kind that does not exist";
    if (fault) return fault;
  } while (!last);
  return s.to == s.limit ? 0 : "the data is shorter than the archive says";
}
