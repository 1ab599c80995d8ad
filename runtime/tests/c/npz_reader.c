/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The archive reader of static programs, for the host: reads arrays of archives and says what came of them; or changes the archives in all
 * ways that a damaged disk or a wicked hand might, and wants an answer each time.
 *
 *   npz_reader read FILE NAME DTYPE...      prints `NAME rank dims.. bytes hash`, or the exit code and what is wrong
 *   npz_reader copy FILE TO NAME DTYPE...   writes the arrays to another archive
 *   npz_reader fuzz ROUNDS FILE...          prints how many changed archives were read and how many refused */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../c/static/program.h"

#include "../../c/copy.c"
#include "../../c/os_linux.c"
#include "../../c/static/inflate.c"
#include "../../c/static/npy.c"
#include "../../c/static/show.c"
#include "../../c/static/zip.c"
#include "../../c/text.c"

/* Of load.c, which needs the compiler of the runtime. */
uint32_t pw_get_u32(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }
uint64_t pw_get_u64(const uint8_t *p) { return (uint64_t)pw_get_u32(p) | (uint64_t)pw_get_u32(p + 4) << 32; }

static uint64_t state = 1;
static uint64_t random_bits(void) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

static uint64_t fnv(const uint8_t *p, uint64_t n) {
  uint64_t h = 0xcbf29ce484222325u;
  for (; n; n--) h = (h ^ *p++) * 0x100000001b3u;
  return h;
}

static int read_one(const char *file, const char *name, int32_t dtype) {
  char text[4096];
  pw_text t = pw_text_in(text, sizeof text);
  pw_archive a;
  pw_array array;
  int exit = pw_archive_open(&a, file, &t);
  if (!exit) {
    const pw_entry *e = pw_archive_find(&a, name);
    if (!e) printf("%s missing\n", name);
    else if (!(exit = pw_array_read(&a, e, dtype, &array, &t))) {
      printf("%s %d", name, array.rank);
      for (int32_t i = 0; i < array.rank; i++) printf(" %lld", (long long)array.dims[i]);
      printf(" %llu %016llx\n", (unsigned long long)array.bytes, (unsigned long long)fnv(array.data, array.bytes));
      free(array.memory);
    }
    pw_archive_close(&a);
  }
  if (exit) printf("%s exit %d: %s\n", name, exit, text);
  return 0;
}

static int copy(const char *file, const char *to, int count, char **argv) {
  char text[4096];
  pw_text t = pw_text_in(text, sizeof text);
  pw_archive a;
  int n = count / 2, exit = pw_archive_open(&a, file, &t);
  pw_array *arrays = calloc((size_t)n + 1, sizeof *arrays);
  pw_named *named = calloc((size_t)n + 1, sizeof *named);
  for (int i = 0; i < n && !exit; i++) {
    const pw_entry *e = pw_archive_find(&a, argv[2 * i]);
    int32_t dtype = atoi(argv[2 * i + 1]);
    exit = e ? pw_array_read(&a, e, dtype, &arrays[i], &t) : 1;
    named[i] = (pw_named){argv[2 * i], arrays[i].data, arrays[i].dims, arrays[i].rank, dtype};
  }
  if (!exit) exit = pw_archive_write(to, named, (uint64_t)n, &t);
  if (exit) printf("exit %d: %s\n", exit, text);
  for (int i = 0; i < n; i++) {
    if (!exit) pw_show(&named[i]);
    free(arrays[i].memory);
  }
  free(arrays), free(named);
  pw_archive_close(&a);
  return 0;
}

/* Reads every array as every dtype that matters; whether all of it could be read. */
static int read_all(const char *file) {
  static const int32_t dtypes[] = {PW_F32, PW_I64, PW_BOOL, PW_I4, PW_U4, PW_BF16, PW_F8E5M2};
  char text[256];
  pw_text t = pw_text_in(text, sizeof text);
  pw_archive a;
  int good = 0;
  if (pw_archive_open(&a, file, &t)) return 0;
  for (uint64_t i = 0; i < a.count; i++) {
    int any = 0;
    for (uint32_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++) {
      pw_array array;
      t = pw_text_in(text, sizeof text);
      if (pw_array_read(&a, &a.entries[i], dtypes[k], &array, &t)) continue;
      /* Every byte is there. */
      any = fnv(array.data, array.bytes) != 1;
      free(array.memory);
    }
    good += any;
  }
  int all = good == (int)a.count && good;
  pw_archive_close(&a);
  return all;
}

static int fuzz(long rounds, int files, char **names) {
  int fd = memfd_create("archive", 0);
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  long good = 0, bad = 0;
  for (int f = 0; f < files; f++) {
    FILE *in = fopen(names[f], "rb");
    if (!in) return 2;
    static uint8_t seed[1 << 16], changed[1 << 17];
    size_t n = fread(seed, 1, sizeof seed, in);
    fclose(in);
    for (long i = 0; i < rounds + (long)n; i++) {
      size_t m = n;
      memcpy(changed, seed, n);
      if (i < (long)n) {
        m = (size_t)i; /* every place to cut it at */
      } else {
        for (uint64_t k = random_bits() % 4 + 1; k; k--) {
          uint64_t at = random_bits() % m, kind = random_bits() % 8;
          /* The directory and the headers are where damage is interesting. */
          if (random_bits() % 2) at = m - 1 - at % (m < 200 ? m : 200);
          if (kind < 3) changed[at] ^= (uint8_t)(1u << random_bits() % 8);
          else if (kind < 5) changed[at] = (uint8_t)random_bits();
          else if (kind == 5) changed[at] = random_bits() % 2 ? 0xff : 0;
          else if (kind == 6) m = at ? at : 1;
          else for (uint64_t j = 0, w = random_bits() % 16; j < w && at + j < m; j++) changed[at + j] = (uint8_t)(random_bits() % 2 ? 0xff : 0x7f);
        }
      }
      if (ftruncate(fd, 0) || pwrite(fd, changed, m, 0) != (ssize_t)m) return 2;
      if (read_all(path)) good++;
      else bad++;
      /* The decompressor by itself: no checksum stands before it. */
      uint8_t out[512];
      if (m > 64) pw_inflate(changed + 40 + i % 24, m - 64, out, random_bits() % sizeof out);
    }
  }
  printf("%ld read, %ld refused\n", good, bad);
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 4 && !strcmp(argv[1], "read")) {
    for (int i = 3; i + 1 < argc; i += 2) read_one(argv[2], argv[i], atoi(argv[i + 1]));
    return 0;
  }
  if (argc > 5 && !strcmp(argv[1], "copy")) return copy(argv[2], argv[3], argc - 4, argv + 4);
  if (argc > 3 && !strcmp(argv[1], "fuzz")) return fuzz(atol(argv[2]), argc - 3, argv + 3);
  return 2;
}
