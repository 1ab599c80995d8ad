/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Numbers as texts and texts as numbers, both exact: a decimal number holds all digits of a binary one, so that what is rounded is rounded
 * once. Texts of floating-point numbers have the fewest digits that read back as the same number, the nearest of them.
 */
#include "host.h"

/* More digits than any double and any half way between two of them has; what a text has beyond them matters as "more than that" alone. */
enum { DIGITS = 2048, READ = 800 };

/* 0.d[0]d[1].. times 10^point; neither the first nor the last digit is 0. */
typedef struct {
  int32_t count, point;
  uint8_t d[DIGITS];
} decimal;

/* Bits of the fraction, and the exponent of the largest power of two. */
typedef struct { int32_t fraction, most; } float_format;
static const float_format single = {23, 127}, twice = {52, 1023};

static void decimal_trim(decimal *n) {
  while (n->count && !n->d[n->count - 1]) n->count--;
  int32_t zeros = 0;
  while (zeros < n->count && !n->d[zeros]) zeros++;
  if (zeros) {
    n->count -= zeros;
    for (int32_t i = 0; i < n->count; i++) n->d[i] = n->d[i + zeros];
  }
  n->point = n->count ? n->point - zeros : 0;
}

static void decimal_of(decimal *n, uint64_t v) {
  uint8_t reversed[20];
  int32_t k = 0;
  for (; v; v /= 10) reversed[k++] = (uint8_t)(v % 10);
  for (n->count = n->point = k, k = 0; k < n->count; k++) n->d[k] = reversed[n->count - 1 - k];
  decimal_trim(n);
}

/* Times 2^by. */
static void decimal_scale(decimal *n, int32_t by) {
  enum { STEP = 27, CARRY = 9 };
  while (by > 0 && n->count) {
    int32_t k = by < STEP ? by : STEP;
    uint64_t carry = 0;
    for (int32_t i = n->count + CARRY; i-- > 0; carry /= 10) {
      if (i >= CARRY) carry += (uint64_t)n->d[i - CARRY] << k;
      n->d[i] = (uint8_t)(carry % 10);
    }
    n->count += CARRY, n->point += CARRY, by -= k;
    decimal_trim(n);
  }
  while (by < 0 && n->count) {
    int32_t k = -by < STEP ? -by : STEP, in = 0, out = 0;
    uint64_t rest = 0, mask = ((uint64_t)1 << k) - 1;
    for (; in < n->count || rest; in++, rest &= mask) {
      rest = rest * 10 + (in < n->count ? n->d[in] : 0);
      if (out < DIGITS - CARRY) n->d[out++] = (uint8_t)(rest >> k);
      else if (rest >> k) n->d[out - 1] |= 1; /* far behind what any rounding looks at */
    }
    n->count = out, by += k;
    decimal_trim(n);
  }
}

/* The nearest integer, of two the even one; what is too large for 64 bits does not come here. */
static uint64_t decimal_rounded(const decimal *n) {
  if (n->point < 0) return 0;
  uint64_t v = 0;
  for (int32_t i = 0; i < n->point; i++) v = v * 10 + (i < n->count ? n->d[i] : 0);
  if (n->point >= n->count) return v;
  int half = n->d[n->point] == 5 && n->count == n->point + 1;
  return v + (half ? v & 1 : n->d[n->point] >= 5);
}

/* Bits of the nearest floating-point number; n is used up. */
static uint64_t decimal_bits(decimal *n, float_format f) {
  /* The most bits by which a number of so many digits before the point may be halved, or one of so many zeros behind it doubled. */
  static const uint8_t bits[] = {1, 3, 6, 9, 13, 16, 19, 23, 26};
  enum { KNOWN = sizeof bits, MORE = 27 };
  const uint64_t one = (uint64_t)1 << f.fraction, infinite = ((uint64_t)2 * (uint64_t)f.most + 1) << f.fraction;
  int32_t e = 0;
  if (!n->count || n->point < -400) return 0;
  if (n->point > 400) return infinite;
  while (n->point > 0) {
    int32_t k = n->point < KNOWN ? bits[n->point] : MORE;
    decimal_scale(n, -k), e += k;
  }
  while (n->point < 0 || n->d[0] < 5) {
    int32_t k = -n->point < KNOWN ? bits[-n->point] : MORE;
    decimal_scale(n, k), e -= k;
  }
  e--; /* 1/2 to 1 times 2^(e + 1) */
  int32_t least = 1 - f.most, shift = f.fraction + 1;
  if (e < least) shift -= least - e, e = least;
  decimal_scale(n, shift);
  uint64_t m = decimal_rounded(n);
  if (m == 2 * one) m /= 2, e++;
  if (e > f.most) return infinite;
  return m < one ? m : ((uint64_t)(e + f.most) << f.fraction) + (m - one);
}

static int decimal_compare(const decimal *a, const decimal *b) {
  if (!a->count || !b->count) return (a->count > 0) - (b->count > 0);
  if (a->point != b->point) return a->point < b->point ? -1 : 1;
  int32_t both = a->count < b->count ? a->count : b->count;
  int order = memcmp(a->d, b->d, (size_t)both);
  return order ? order : (a->count > both) - (b->count > both);
}

/* The first digits of n, or the next number above it of so many digits. */
static void decimal_cut(decimal *to, const decimal *n, int32_t digits, int above) {
  to->point = n->point, to->count = n->count < digits ? n->count : digits;
  memcpy(to->d, n->d, (size_t)to->count);
  if (above) {
    memset(to->d + to->count, 0, (size_t)(digits - to->count));
    to->count = digits;
    int32_t i = digits - 1;
    while (i >= 0 && to->d[i] == 9) to->d[i--] = 0;
    if (i >= 0) to->d[i]++;
    else to->d[0] = 1, to->count = 1, to->point++;
  }
  decimal_trim(to);
}

/* The fewest digits that lie nearer to the positive number of these bits than to any other. */
static void decimal_shortest(decimal *out, uint64_t bits, float_format f) {
  decimal exact, low, high;
  const uint64_t one = (uint64_t)1 << f.fraction;
  uint64_t m = bits & (one - 1);
  int32_t e = (int32_t)(bits >> f.fraction), least = 1 - f.most - f.fraction;
  if (e) m += one, e += least - 1;
  else e = least;
  decimal_of(&exact, m), decimal_scale(&exact, e);
  decimal_of(&high, 2 * m + 1), decimal_scale(&high, e - 1);
  /* Below a power of two the numbers lie twice as close. */
  int close = m == one && e > least;
  decimal_of(&low, close ? 4 * m - 1 : 2 * m - 1), decimal_scale(&low, close ? e - 2 : e - 1);
  int ends = !(m & 1); /* half ways round to even numbers */
  for (int32_t digits = 1; digits < exact.count; digits++) {
    int down, up;
    decimal_cut(out, &exact, digits, 0), down = decimal_compare(out, &low) > -ends;
    decimal other;
    decimal_cut(&other, &exact, digits, 1), up = decimal_compare(&other, &high) < ends;
    if (!down && !up) continue;
    /* Of two the nearer one, by the digit behind; half way the larger. */
    if (up && (!down || exact.d[digits] >= 5)) *out = other;
    return;
  }
  *out = exact;
}

enum { TEXT = 48 };

static char *write_unsigned(char *to, uint64_t v) {
  char reversed[20];
  int k = 0;
  do reversed[k++] = (char)('0' + v % 10);
  while (v /= 10);
  while (k) *to++ = reversed[--k];
  return to;
}

/* Without an exponent where its power of ten is at least 10^-4 and below 10^wide. */
static char *write_float(char *to, uint64_t bits, float_format f, int32_t wide) {
  const uint64_t sign = (uint64_t)(2 * f.most + 2) << f.fraction, infinite = ((uint64_t)2 * (uint64_t)f.most + 1) << f.fraction;
  int negative = (bits & sign) != 0;
  bits &= sign - 1;
  if (bits > infinite) return memcpy(to, "NaN", 3), to + 3;
  if (negative) *to++ = '-';
  if (bits == infinite) return memcpy(to, "INF", 3), to + 3;
  if (!bits) return *to++ = '0', to;
  decimal n;
  decimal_shortest(&n, bits, f);
  int32_t e = n.point - 1;
  if (e < -4 || e >= wide) {
    *to++ = (char)('0' + n.d[0]);
    if (n.count > 1) *to++ = '.';
    for (int32_t i = 1; i < n.count; i++) *to++ = (char)('0' + n.d[i]);
    *to++ = 'e', *to++ = e < 0 ? '-' : '+';
    uint64_t size = (uint64_t)(e < 0 ? -e : e);
    if (size < 10) *to++ = '0';
    return write_unsigned(to, size);
  }
  if (n.point <= 0) {
    *to++ = '0', *to++ = '.';
    for (int32_t i = n.point; i < 0; i++) *to++ = '0';
  }
  for (int32_t i = 0; i < n.count || i < n.point; i++) {
    if (i && i == n.point) *to++ = '.';
    *to++ = (char)('0' + (i < n.count ? n.d[i] : 0));
  }
  return to;
}

static int is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static int same_word(const char *text, uint64_t bytes, const char *word) {
  uint64_t i = 0;
  for (; i < bytes && word[i]; i++)
    if ((text[i] | 32) != word[i]) return 0;
  return i == bytes && !word[i];
}

/* Digits, a point, an exponent; 0 = it is none. */
static int read_decimal(decimal *n, const char *at, const char *end) {
  int64_t point = 0, exponent = 0;
  int any = 0, behind = 0, more = 0;
  n->count = 0;
  for (; at < end && (*at == '.' || (*at >= '0' && *at <= '9')); at++) {
    if (*at == '.') {
      if (behind++) return 0;
      continue;
    }
    any = 1, point += !behind;
    if (!n->count && *at == '0') point -= 1;
    else if (n->count < READ) n->d[n->count++] = (uint8_t)(*at - '0');
    else more |= *at != '0';
  }
  if (!any) return 0;
  if (at < end && (*at | 32) == 'e') {
    at++;
    int negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+')) at++;
    if (at == end) return 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++)
      if (exponent < 1 << 20) exponent = exponent * 10 + (*at - '0');
    if (negative) exponent = -exponent;
  }
  if (more) n->d[n->count++] = 1;
  point += exponent;
  n->point = (int32_t)(point < -100000 ? -100000 : point > 100000 ? 100000 : point);
  decimal_trim(n);
  return at == end;
}

/* Bits of a floating-point number in a text; 0 = there is none. */
static int read_float(pw_string t, float_format f, uint64_t *bits) {
  const char *at = t.data, *end = t.data + t.bytes;
  while (at < end && is_blank(*at)) at++;
  while (end > at && is_blank(end[-1])) end--;
  uint64_t sign = 0;
  if (at < end && (*at == '-' || *at == '+')) sign = *at++ == '-' ? (uint64_t)(2 * f.most + 2) << f.fraction : 0;
  uint64_t size = (uint64_t)(end - at), infinite = ((uint64_t)2 * (uint64_t)f.most + 1) << f.fraction;
  decimal n;
  if (same_word(at, size, "inf") || same_word(at, size, "infinity")) *bits = infinite | sign;
  else if (same_word(at, size, "nan")) *bits = infinite | (infinite >> 1) | sign;
  else if (read_decimal(&n, at, end)) *bits = decimal_bits(&n, f) | sign;
  else return 0;
  return 1;
}

/* An integer in a text; what stands behind its point is left out. 0 = there is none, or it is beyond the dtype. */
static int read_integer(pw_string t, int32_t dtype, uint64_t *out) {
  const char *at = t.data, *end = t.data + t.bytes;
  while (at < end && is_blank(*at)) at++;
  while (end > at && is_blank(end[-1])) end--;
  int negative = at < end && *at == '-';
  if (at < end && (*at == '-' || *at == '+')) at++;
  decimal n;
  if (!read_decimal(&n, at, end) || n.point > 20) return 0;
  uint64_t v = 0, most = dtype == PW_U64 ? (negative ? 0 : UINT64_MAX) : (uint64_t)INT64_MAX + (uint64_t)negative;
  for (int32_t i = 0; i < n.point; i++)
    if (__builtin_mul_overflow(v, (uint64_t)10, &v) || __builtin_add_overflow(v, (uint64_t)(i < n.count ? n.d[i] : 0), &v)) return 0;
  if (v > most) return 0;
  *out = negative ? 0 - v : v;
  return 1;
}

static int string_of(pw_session *s, const pw_call *c, const pw_operand *x) {
  int64_t *to = pw_heap_array(s, x->count, sizeof *to, c->origin);
  for (int64_t i = 0; to && i < x->count; i++) {
    char text[TEXT], *end = text;
    uint64_t bits = 0;
    int64_t bytes = x->dtype == PW_F32 ? 4 : 8;
    memcpy(&bits, x->data + i * bytes, (size_t)bytes);
    switch (x->dtype) {
      case PW_F32: end = write_float(text, bits, single, 8); break;
      case PW_F64: end = write_float(text, bits, twice, 16); break;
      case PW_I64:
        if (bits >> 63) *end++ = '-', bits = 0 - bits;
        end = write_unsigned(end, bits);
        break;
      default: end = write_unsigned(end, bits);
    }
    if ((to[i] = pw_intern(s, text, (uint64_t)(end - text), c->origin)) < 0) return 0;
  }
  return to && pw_hold(s, c, to, x->count * (int64_t)sizeof *to);
}

static int number_of(pw_session *s, const pw_call *c, const pw_operand *x) {
  int32_t dtype = (int32_t)c->gives[0];
  int64_t bytes = dtype == PW_F32 ? 4 : 8;
  uint8_t *to = pw_heap_array(s, x->count, (uint64_t)bytes, c->origin);
  for (int64_t i = 0; to && i < x->count; i++) {
    pw_string t = pw_text_of(s, ((const int64_t *)(const void *)x->data)[i]);
    uint64_t bits;
    int is = dtype == PW_F32 ? read_float(t, single, &bits) : dtype == PW_F64 ? read_float(t, twice, &bits) : read_integer(t, dtype, &bits);
    if (!is) {
      pw_text m;
      if (pw_begin(s, PW_E_ARGUMENT, c->origin, &m)) {
        char shown[41] = {0};
        memcpy(shown, t.data, (size_t)(t.bytes < sizeof shown ? t.bytes : sizeof shown - 1));
        pw_put(&m, "the text `"), pw_put(&m, shown);
        pw_put(&m, dtype == PW_F32 || dtype == PW_F64 ? "` is no number" : "` is no integer of 64 bits");
      }
      return 0;
    }
    memcpy(to + i * bytes, &bits, (size_t)bytes);
  }
  return to && pw_hold(s, c, to, x->count * bytes);
}

int pw_host_numbers(pw_session *s, const pw_call *c) {
  pw_operand x;
  if (!pw_operand_at(c, 0, &x)) return 0;
  return c->op == PW_HOST_STRING_OF ? string_of(s, c, &x) : number_of(s, c, &x);
}
