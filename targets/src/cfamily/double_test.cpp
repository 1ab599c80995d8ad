// SPDX-License-Identifier: Apache-2.0 OR MIT
// Numbers of double.h against those of the machine at hand: every operation, on numbers near the places where rounding has cases.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "double.h"

static uint64_t state = 88172645463325252u;
static uint64_t next() {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state * 2685821657736338717u;
}

static double of_bits(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
static uint64_t bits_of(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return value != value ? 0x7ff8000000000000u : bits;
}

/* With a mantissa of `mantissa` and an exponent from `low` on. */
static uint64_t number(uint64_t mantissa, int low, int count) {
  return (mantissa & 0x800fffffffffffffu) | (low + next() % count) << 52;
}
static uint64_t draw() {
  static const uint64_t special[] = {
      0, 1, 1ull << 63, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0x000fffffffffffff, 0x0010000000000000,
      0x7fefffffffffffff, 0x3ff0000000000000, 0x3fe0000000000000, 0x4330000000000000,
  };
  const uint64_t r = next();
  switch (next() % 9) {
  case 0: return r;
  case 1: return special[r % (sizeof special / sizeof *special)];
  case 2: return number(r, 1018, 10);
  case 3: return number((r & 1ull << 63) | (r & 0xff) << next() % 44, 1000, 60);
  case 4: return number(r, 0, 1);
  case 5: return number(r, 0, 120);
  case 6: return number(r & 0x80000000000000ffu, 1023, 3);
  case 7: return bits_of((double)((int64_t)(r % 2000) - 1000) / 2);
  default: return number(r, 963, 120);
  }
}

static int wrong = 0;
static void same(const char *what, uint64_t x, uint64_t y, uint64_t z, uint64_t got, uint64_t wanted) {
  if (got != wanted && ++wrong < 20)
    printf("%s of %016lx %016lx %016lx is %016lx, wanted %016lx\n", what, x, y, z, got, wanted);
}
static uint64_t plain(pw_double x) { return bits_of(of_bits(x.bits)); }

int main() {
  for (int i = 0; i < 300000; i++) {
    uint64_t x = draw(), y = draw(), z = draw();
    /* Sums that nearly cancel. */
    if (next() % 4 == 0) z = ((x + y - (1023ull << 52)) & 0x7ff0000000000000u) | (next() & 0x800fffffffffffffu);
    if (next() % 16 == 0) z = bits_of(-(of_bits(x) * of_bits(y)));
    const double a = of_bits(x), b = of_bits(y), c = of_bits(z);
    const pw_double p = pw_double::of(x), q = pw_double::of(y), r = pw_double::of(z);
    same("sum", x, y, 0, plain(p + q), bits_of(a + b));
    same("difference", x, y, 0, plain(p - q), bits_of(a - b));
    same("product", x, y, 0, plain(p * q), bits_of(a * b));
    same("quotient", x, y, 0, plain(p / q), bits_of(a / b));
    same("fma", x, y, z, plain(fma(p, q, r)), bits_of(fma(a, b, c)));
    same("sqrt", x, 0, 0, plain(sqrt(p)), bits_of(sqrt(a)));
    same("floor", x, 0, 0, plain(floor(p)), bits_of(floor(a)));
    same("ceil", x, 0, 0, plain(ceil(p)), bits_of(ceil(a)));
    same("rint", x, 0, 0, plain(rint(p)), bits_of(rint(a)));
    same("trunc", x, 0, 0, plain(trunc(p)), bits_of(trunc(a)));
    same("less", x, y, 0, p < q, a < b);
    same("less or equal", x, y, 0, p <= q, a <= b);
    same("equal", x, y, 0, p == q, a == b);
    same("narrowed", x, 0, 0, bits_of((float)p), bits_of((float)a));
    const uint32_t word = next() % 4 == 0 ? (uint32_t)next() & 0x807fffffu : (uint32_t)next();
    float narrow;
    memcpy(&narrow, &word, sizeof narrow);
    same("widened", word, 0, 0, plain(pw_double(narrow)), bits_of(narrow));
    const int64_t whole = (int64_t)next() >> next() % 64;
    same("of a signed number", (uint64_t)whole, 0, 0, plain(pw_double(whole)), bits_of((double)whole));
    same("of an unsigned number", (uint64_t)whole, 0, 0, plain(pw_double((uint64_t)whole)), bits_of((double)(uint64_t)whole));
    if (fabs(a) < 9e18) same("to a signed number", x, 0, 0, (uint64_t)(int64_t)p, (uint64_t)(int64_t)a);
    if (a >= 0 && a < 1.8e19) same("to an unsigned number", x, 0, 0, (uint64_t)p, (uint64_t)a);
  }
  return wrong != 0;
}
