/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Runs bundles of the fake model through every sentence of the C ABI. Usage: driver BUNDLE_A BUNDLE_B FUZZ_BUNDLE TINY. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fenv.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "portwright.h"

static int failures, checks;
#define CHECK(condition, ...)                                  \
  do {                                                         \
    checks++;                                                  \
    if (!(condition)) {                                        \
      failures++;                                              \
      printf("FAIL line %d: %s: ", __LINE__, #condition);      \
      printf(__VA_ARGS__);                                     \
      printf("\n");                                            \
    }                                                          \
  } while (0)

static const pw_api *A, *B, *Z, *T;

static const pw_api *bundle(const char *dir) {
  char path[4096];
  snprintf(path, sizeof path, "%s/lib/libmodel.so", dir);
  void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!lib) printf("FAIL dlopen: %s\n", dlerror()), exit(1);
  const pw_api *(*get)(uint32_t);
  *(void **)&get = dlsym(lib, "pw_bundle_api");
  CHECK(get && !get(99) && get(PW_ABI_MAJOR), "pw_bundle_api");
  CHECK(dlsym(lib, "pw_fake_api") == dlsym(lib, "pw_bundle_api"), "the named entry is another function");
  CHECK(!dlsym(lib, "pw_rt_launch") && !dlsym(lib, "pw_plan_main"), "inner symbols are exported");
  return get(PW_ABI_MAJOR);
}

/* One call's values. */
typedef struct {
  int64_t n, m, p, mode;
  float *x, *cache;
  int64_t *index;
  int64_t dims[7][3];
  pw_value in[4], out[3];
} call;

static pw_value value(int32_t dtype, int32_t rank, int64_t *dims, void *data) {
  pw_value v;
  memset(&v, 0, sizeof v);
  v.size = sizeof v, v.dtype = dtype, v.rank = rank, v.dims = dims, v.data = data;
  return v;
}

static void setup(call *c, int64_t n, int64_t m, int64_t p) {
  memset(c, 0, sizeof *c);
  c->n = n, c->m = m, c->p = p;
  c->x = malloc((size_t)(n * 16 + 1)), c->index = malloc((size_t)(m * 8 + 1)), c->cache = malloc((size_t)(p * 24 + 1));
  for (int64_t i = 0; i < n * 4; i++) c->x[i] = (float)i * 0.37f - 3.0f;
  for (int64_t i = 0; i < m; i++) c->index[i] = n ? (i * 7919) % n : 0;
  for (int64_t i = 0; i < p * 6; i++) c->cache[i] = (float)i;
  int64_t dims[4][3] = {{n, 4}, {m}, {2, p, 3}, {1}};
  memcpy(c->dims, dims, sizeof dims);
  c->in[0] = value(PW_F32, 2, c->dims[0], c->x);
  c->in[1] = value(PW_I64, 1, c->dims[1], c->index);
  c->in[2] = value(PW_F32, 3, c->dims[2], c->cache);
  c->in[3] = value(PW_I64, 1, c->dims[3], &c->mode);
  for (int i = 0; i < 3; i++) c->out[i] = value(0, 0, c->dims[4 + i], NULL);
}

static void drop(call *c) { free(c->x), free(c->index), free(c->cache); }

static int right(const call *c) {
  static const float w[4] = {1, 2, 3, 4};
  const float *y = c->out[0].data, *next = c->out[1].data;
  if (c->out[0].rank != 2 || c->out[0].dims[0] != c->m || c->out[0].dims[1] != 4 || c->out[0].dtype != PW_F32) return 0;
  if (c->out[1].rank != 3 || c->out[1].dims[1] != c->p + 1) return 0;
  for (int64_t r = 0; r < c->m; r++)
    for (int i = 0; i < 4; i++) {
      float v = c->x[c->index[r] * 4 + i] * w[i];
      if (i == 3 && c->n >= 1000)
        for (int k = 0; k < 200; k++) v *= 1.0001f;
      if (y[r * 4 + i] != v + 1.0f) return 0;
    }
  for (int64_t b = 0; b < 2; b++)
    for (int64_t i = 0; i < (c->p + 1) * 3; i++)
      if (next[b * (c->p + 1) * 3 + i] != (i < c->p * 3 ? c->cache[b * c->p * 3 + i] : c->x[0])) return 0;
  return *(int64_t *)c->out[2].data == 2 * c->m;
}

static pw_status go(const pw_api *api, pw_session *s, call *c) { return api->run(s, c->in, 4, c->out, 3, NULL); }

/* In the sanitized runs memory comes from the C library, so that the sanitizer sees its life. */
static int quick;
static void *take(void *user, size_t bytes, size_t align) {
  void *memory = NULL;
  return user || bytes > (size_t)1 << 36 || posix_memalign(&memory, align, bytes) ? NULL : memory;
}
static void give(void *user, void *memory) {
  if (!user) free(memory);
}

static pw_model *load(const pw_api *api, const char *dir, int threads) {
  pw_options o;
  memset(&o, 0, sizeof o);
  o.size = sizeof o, o.threads = threads;
  if (quick) o.alloc = take, o.release = give;
  pw_model *m = NULL;
  pw_status status = api->load(dir, &o, &m);
  CHECK(status == PW_OK && m, "%d %s", status, api->error(NULL, NULL));
  if (!m) exit(1);
  return m;
}

static pw_session *open_session(const pw_api *api, pw_model *m) {
  pw_session *s = NULL;
  CHECK(api->open(m, &s) == PW_OK && s, "%s", api->error(NULL, NULL));
  return s;
}

static int threads_now(void) {
  DIR *d = opendir("/proc/self/task");
  int n = 0;
  while (d && readdir(d)) n++;
  if (d) closedir(d);
  return n - 2;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- what the tests check ---- */

static void describes(const char *dir) {
  pw_model *m = load(A, dir, 1);
  pw_info i;
  memset(&i, 0xff, sizeof i);
  i.size = sizeof i;
  CHECK(A->describe(m, 0, 2, &i) == PW_OK, "describe");
  CHECK(!strcmp(i.name, "cache") && i.dtype == PW_F32 && i.rank == 3 && i.dims[0] == 2 && i.dims[1] == -1 && i.dims[2] == 3, "%s", i.name);
  CHECK(!i.symbols[0] && !strcmp(i.symbols[1], "P") && i.max_dims[1] == 100000 && i.alias_of == -1, "symbols");
  CHECK(A->describe(m, 1, 1, &i) == PW_OK && i.alias_of == 2 && i.append_axis == 1 && !strcmp(i.symbols[1], "P + 1"), "alias");
  CHECK(A->describe(m, 1, 3, &i) == PW_E_ARGUMENT && A->describe(m, 0, 0, NULL) == PW_E_ARGUMENT, "out of range");
  i.size = 16, i.dtype = 77;
  CHECK(A->describe(m, 0, 0, &i) == PW_OK && !strcmp(i.name, "x") && i.dtype == 77, "an older caller's smaller struct is respected");
  A->unload(m);
}

static void thread_counts(const char *dir_a, const char *dir_b) {
  int64_t sizes[][3] = {{3, 2, 1}, {1, 1, 0}, {5000, 3001, 17}, {20000, 20011, 3}};
  for (size_t k = 0; k < 4; k++) {
    void *first = NULL;
    int counts[] = {1, 2, 3, 8, 0};
    for (int t = 0; t < 5; t++) {
      const pw_api *api = t % 2 ? B : A;
      pw_model *m = load(api, t % 2 ? dir_b : dir_a, counts[t]);
      pw_session *s = open_session(api, m);
      call c;
      setup(&c, sizes[k][0], sizes[k][1], sizes[k][2]);
      for (int again = 0; again < 3; again++) {
        pw_status status = go(api, s, &c);
        CHECK(status == PW_OK && right(&c), "%d threads, size %zu: %d %s", counts[t], k, status, api->error(s, m));
      }
      size_t bytes = (size_t)c.m * 16;
      if (!first) first = memcpy(malloc(bytes), c.out[0].data, bytes);
      CHECK(!memcmp(first, c.out[0].data, bytes), "outputs depend on the number of threads");
      drop(&c);
      api->unload(m); /* the session keeps the model */
      CHECK(api->run(s, NULL, 0, NULL, 0, NULL) == PW_E_ARGUMENT, "session after unload");
      api->close(s);
    }
    free(first);
  }
}

typedef struct {
  const pw_api *api;
  pw_model *m;
  int seed, bad;
} user;

static void *user_thread(void *argument) {
  user *u = argument;
  pw_session *s = NULL;
  u->api->open(u->m, &s);
  for (int i = 0; i < (quick ? 20 : 60); i++) {
    call c;
    setup(&c, 1000 + (u->seed * 37 + i * 61) % 3000, 200 + (u->seed * 13 + i * 7) % 800, i % 5);
    if (i % 4 == 3 && c.m > 5) c.index[c.m - 3] = -5, c.index[5] = c.n;
    pw_status status = go(u->api, s, &c);
    if (i % 4 == 3) {
      if (status != PW_E_INDEX || !strstr(u->api->error(s, NULL), "position 5 ")) u->bad++;
    } else if (status != PW_OK || !right(&c)) {
      u->bad++;
    }
    drop(&c);
  }
  u->api->close(s);
  return NULL;
}

static void many_users(const char *dir_a, const char *dir_b) {
  for (int threads = 1; threads <= 8; threads *= 2) {
    pw_model *a = load(A, dir_a, threads), *b = load(B, dir_b, threads);
    user u[6];
    pthread_t t[6];
    double begin = now();
    for (int i = 0; i < 6; i++) {
      u[i] = (user){i % 2 ? A : B, i % 2 ? a : b, i, 0};
      pthread_create(&t[i], NULL, user_thread, &u[i]);
    }
    for (int i = 0; i < 6; i++) {
      pthread_join(t[i], NULL);
      CHECK(!u[i].bad, "user %d of 6 at %d threads: %d wrong", i, threads, u[i].bad);
    }
    printf("  6 user threads, 2 bundles, threads = %d: %.0f ms\n", threads, (now() - begin) / 1e6);
    A->unload(a), B->unload(b);
  }
}

static void one_pool(const char *dir_a, const char *dir_b) {
  int before = threads_now();
  pw_model *a = load(A, dir_a, 8), *b = load(B, dir_b, 8);
  pw_session *s = open_session(A, a), *t = open_session(B, b);
  call c;
  setup(&c, 5000, 5000, 1);
  go(A, s, &c);
  int with_one = threads_now();
  go(B, t, &c);
  CHECK(threads_now() == with_one, "the second bundle made threads of its own: %d, %d, %d", before, with_one, threads_now());
  A->close(s), B->close(t), A->unload(a);
  B->unload(b);
  /* A joined thread may be seen for a moment. */
  for (int i = 0; i < 1000 && threads_now() > before; i++) usleep(1000);
  CHECK(threads_now() <= before, "threads stay after the last unload: %d, %d", before, threads_now());
  drop(&c);
}

/* A library may go while the pool lives on, although its runtime started the threads. */
static void closed_library(const char *dir_a, const char *dir_c) {
  char path[4096], line[8192];
  snprintf(path, sizeof path, "%s/lib/libmodel.so", dir_c);
  void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  const pw_api *(*get)(uint32_t);
  *(void **)&get = dlsym(lib, "pw_bundle_api");
  const pw_api *C = get(PW_ABI_MAJOR);
  pw_model *a = load(A, dir_a, 8), *m = load(C, dir_c, 8);
  pw_session *s = open_session(A, a), *t = open_session(C, m);
  call c;
  setup(&c, 5000, 5000, 1);
  CHECK(go(C, t, &c) == PW_OK && right(&c), "before");
  C->close(t), C->unload(m);
  for (int i = 0; i < 3; i++) c.out[i].data = NULL;
  dlclose(lib);
  int mapped = 0;
  FILE *f = fopen("/proc/self/maps", "r");
  while (f && fgets(line, sizeof line, f)) mapped |= strstr(line, path) != NULL;
  if (f) fclose(f);
  CHECK(!mapped, "the library stays mapped");
  usleep(2000);
  for (int i = 0; i < 20; i++) CHECK(go(A, s, &c) == PW_OK && right(&c), "after");
  drop(&c);
  A->close(s), A->unload(a);
}

static void expect(pw_session *s, call *c, pw_status wanted, const char *text) {
  pw_status status = go(A, s, c);
  const char *error = A->error(s, NULL);
  CHECK(status == wanted && strstr(error, text), "status %d, expected %d; '%s' does not say '%s'", status, wanted, error, text);
}

static void argument_errors(const char *dir) {
  pw_model *m = load(A, dir, 2);
  pw_session *s = open_session(A, m);
  call c;
#define FRESH() (drop(&c), setup(&c, 10, 6, 2))
  setup(&c, 10, 6, 2);
  CHECK(A->run(s, c.in, 3, c.out, 3, NULL) == PW_E_ARGUMENT && strstr(A->error(s, NULL), "4 inputs (x, index, cache, mode)"), "%s", A->error(s, NULL));
  CHECK(A->run(s, c.in, 4, c.out, 2, NULL) == PW_E_ARGUMENT && strstr(A->error(s, NULL), "3 outputs"), "%s", A->error(s, NULL));
  CHECK(A->run(s, NULL, 4, c.out, 3, NULL) == PW_E_ARGUMENT && A->run(s, c.in, 4, NULL, 3, NULL) == PW_E_ARGUMENT, "null");
  CHECK(A->run(NULL, c.in, 4, c.out, 3, NULL) == PW_E_ARGUMENT, "null session");
  c.in[0].size = 8, expect(s, &c, PW_E_ARGUMENT, "pw_value.size"), FRESH();
  c.in[1].kind = PW_MAP, expect(s, &c, PW_E_ARGUMENT, "takes a tensor"), FRESH();
  c.in[1].place = PW_DEVICE, expect(s, &c, PW_E_DEVICE, "host memory"), FRESH();
  c.in[0].dtype = PW_F64, expect(s, &c, PW_E_DTYPE, "input 0 'x': dtype is f64, the model has f32"), FRESH();
  c.out[1].dtype = PW_F16, expect(s, &c, PW_E_DTYPE, "output 1 'cache_out'"), FRESH();
  c.in[0].rank = 1, expect(s, &c, PW_E_SHAPE, "rank is 1, the model takes rank 2"), FRESH();
  c.dims[0][1] = 5, expect(s, &c, PW_E_SHAPE, "axis 1 must be 4"), FRESH();
  c.dims[0][0] = -1, expect(s, &c, PW_E_SHAPE, "axis 0 (N) must be at least 0"), FRESH();
  c.dims[2][1] = 200000, expect(s, &c, PW_E_SHAPE, "axis 1 (P) must be at most 100000"), FRESH();
  c.in[0].dims = NULL, expect(s, &c, PW_E_ARGUMENT, "dims is null"), FRESH();
  c.in[0].data = NULL, expect(s, &c, PW_E_ARGUMENT, "data is null"), FRESH();
  c.in[0].data = (char *)c.x + 2, expect(s, &c, PW_E_ARGUMENT, "not aligned"), FRESH();
  c.in[0].capacity_bytes = 159, expect(s, &c, PW_E_CAPACITY, "takes 160 bytes"), FRESH();
  c.dims[0][0] = INT64_MAX / 2, expect(s, &c, PW_E_SHAPE, "63 bits"), FRESH();
  c.index[4] = 70000, expect(s, &c, PW_E_INDEX, "node emb/Gather: the index 70000 at position 4 is out of range"), FRESH();
  c.mode = 1, expect(s, &c, PW_E_SHAPE, "node emb/Gather: the new shape has 50 elements, but the input has 40"), FRESH();
  c.mode = 2, expect(s, &c, PW_E_CAPACITY, "node body/Loop: the loop may make 1000 trips"), FRESH();
  c.mode = 3, expect(s, &c, PW_E_MEMORY, "node enc/Mul: "), FRESH();
  c.mode = 8, expect(s, &c, PW_E_MEMORY, "does not fit 63 bits"), FRESH();
  c.mode = 4, expect(s, &c, PW_E_SHAPE, "node emb/Gather: the size -3"), FRESH();
  c.mode = 6, expect(s, &c, PW_E_INTERNAL, "did not produce"), FRESH();
  c.mode = 0;
  CHECK(go(A, s, &c) == PW_OK && right(&c) && !A->error(s, NULL)[0], "a session works after errors: %s", A->error(s, NULL));

  /* Outputs in the caller's memory. */
  float y[24], small[4];
  c.out[0].data = y, c.out[0].capacity_bytes = sizeof y;
  CHECK(go(A, s, &c) == PW_OK && right(&c) && c.out[0].data == y, "own memory: %s", A->error(s, NULL));
  c.out[0].data = small, c.out[0].capacity_bytes = sizeof small, c.out[0].dims[0] = 0;
  expect(s, &c, PW_E_CAPACITY, "output 0 'y' of shape [6,4] takes 96 bytes, the memory given has 16");
  CHECK(c.out[0].dims[0] == 6, "the dims tell what is needed");
  c.out[0].data = NULL, expect(s, &c, PW_E_ARGUMENT, "capacity_bytes is not 0"), FRESH();

  /* The same values again and again, and the model's memory of the last run as input of the next. */
  go(A, s, &c);
  for (int i = 0; i < 5; i++) CHECK(go(A, s, &c) == PW_OK && right(&c), "again: %s", A->error(s, NULL));
  FRESH();
  for (int i = 0; i < 6; i++) {
    CHECK(go(A, s, &c) == PW_OK, "chain: %s", A->error(s, NULL));
    float *next = c.out[1].data;
    int64_t p = c.p + 1;
    CHECK(next[(p + p - 1) * 3] == c.x[0] && next[(p - 1) * 3] == c.x[0] && next[p * 3] == 6, "chain at %d", i);
    c.in[2].data = next, c.out[1].data = NULL, c.p = p, c.dims[2][1] = p;
  }

  /* Strides: a transposed view, a reversed one, a repeated row. */
  FRESH();
  float xt[40], want[24];
  go(A, s, &c), memcpy(want, c.out[0].data, sizeof want);
  for (int r = 0; r < 10; r++)
    for (int i = 0; i < 4; i++) xt[i * 10 + r] = c.x[r * 4 + i];
  int64_t transposed[2] = {1, 10}, backward[1] = {-1}, repeated[2] = {0, 1};
  c.in[0].data = xt, c.in[0].strides = transposed;
  CHECK(go(A, s, &c) == PW_OK && right(&c), "transposed: %s", A->error(s, NULL));
  int64_t reversed[6];
  for (int i = 0; i < 6; i++) reversed[i] = c.index[5 - i];
  c.in[1].data = reversed + 5, c.in[1].strides = backward;
  CHECK(go(A, s, &c) == PW_OK && right(&c), "reversed: %s", A->error(s, NULL));
  c.in[0].data = c.x, c.in[0].strides = repeated;
  CHECK(go(A, s, &c) == PW_OK && ((float *)c.out[0].data)[4] == c.x[0] + 1, "repeated: %s", A->error(s, NULL));
  int64_t far[2] = {INT64_MAX / 4, 1};
  c.in[0].strides = far, expect(s, &c, PW_E_ARGUMENT, "strides");
  FRESH();
  /* A strided output. */
  float wide[6 * 7];
  for (int i = 0; i < 42; i++) wide[i] = -1;
  int64_t pitch[2] = {7, 1};
  c.out[0].data = wide, c.out[0].capacity_bytes = sizeof wide, c.out[0].strides = pitch;
  CHECK(go(A, s, &c) == PW_OK && wide[7] == want[4] && wide[35 + 3] == want[23] && wide[4] == -1 && wide[41] == -1, "%s", A->error(s, NULL));
  c.out[0].capacity_bytes = 4 * 38, expect(s, &c, PW_E_CAPACITY, "by its strides"), FRESH();
  /* A cache that is appended in place: room for 8 rows a head. */
  float cache[2 * 8 * 3];
  int64_t room[3] = {24, 3, 1};
  for (int i = 0; i < 48; i++) cache[i] = (float)i;
  for (int64_t p = 2; p < 8; p++) {
    c.dims[2][1] = p, c.in[2].data = cache, c.in[2].strides = room;
    c.out[1].data = cache, c.out[1].capacity_bytes = sizeof cache, c.out[1].strides = room;
    CHECK(go(A, s, &c) == PW_OK, "in place: %s", A->error(s, NULL));
    CHECK(cache[p * 3] == c.x[0] && cache[24 + p * 3 + 2] == c.x[0] && cache[0] == 0 && cache[24] == 24, "in place at %d", (int)p);
    if (p < 7) CHECK(cache[(p + 1) * 3] == (float)((p + 1) * 3), "beyond the appended row at %d", (int)p);
  }
  /* An output over an input. */
  FRESH();
  for (int i = 0; i < 10; i++) c.index[i % 6] = 9 - i % 6;
  float over[40];
  memcpy(over, c.x, sizeof over);
  c.in[0].data = over, c.out[0].data = over + 1, c.out[0].capacity_bytes = 96;
  CHECK(go(A, s, &c) == PW_OK && right(&c), "overlap: %s", A->error(s, NULL));
  /* Larger structs of a later caller. */
  FRESH();
  struct { pw_value v; char more[24]; } later[4], later_out[3];
  memset(later, 0, sizeof later), memset(later_out, 0, sizeof later_out);
  for (int i = 0; i < 4; i++) later[i].v = c.in[i], later[i].v.size = sizeof later[0];
  for (int i = 0; i < 3; i++) later_out[i].v = c.out[i], later_out[i].v.size = sizeof later[0];
  CHECK(A->run(s, &later[0].v, 4, &later_out[0].v, 3, NULL) == PW_OK, "%s", A->error(s, NULL));
  for (int i = 0; i < 3; i++) c.out[i] = later_out[i].v;
  CHECK(right(&c), "larger structs");
  /* Empty tensors. */
  drop(&c), setup(&c, 4, 0, 0);
  c.in[1].data = NULL, c.in[2].data = NULL;
  CHECK(go(A, s, &c) == PW_OK && c.out[0].dims[0] == 0 && c.out[1].dims[1] == 1, "empty: %s", A->error(s, NULL));
  drop(&c);
  A->close(s), A->unload(m);
  A->close(NULL), A->unload(NULL);
}

static void infers(const char *dir) {
  pw_model *m = load(A, dir, 2);
  pw_session *s = open_session(A, m);
  call c;
  setup(&c, 300, 6, 2);
  CHECK(go(A, s, &c) == PW_OK && right(&c), "run");
  call d;
  setup(&d, 30, 7, 3);
  d.in[0].data = d.in[1].data = d.in[2].data = NULL;
  CHECK(A->infer(s, d.in, 4, d.out, 3) == PW_OK, "%s", A->error(s, NULL));
  CHECK(d.out[0].rank == 2 && d.out[0].dims[0] == 7 && d.out[1].dims[1] == 4 && d.out[0].dtype == PW_F32 && !d.out[0].data, "shapes");
  CHECK(right(&c), "infer leaves what the last run gave");
  d.in[3].data = NULL;
  CHECK(A->infer(s, d.in, 4, d.out, 3) == PW_E_ARGUMENT && strstr(A->error(s, NULL), "'mode'"), "%s", A->error(s, NULL));
  drop(&c), drop(&d);
  A->close(s), A->unload(m);
}

/* ---- memory ---- */

static long live, calls, fail_at, released;
static void *counted(void *user, size_t bytes, size_t align) {
  CHECK(user == &live && align == 64, "allocator's arguments");
  if (++calls == fail_at) return NULL;
  live++;
  void *memory = NULL;
  return posix_memalign(&memory, align, bytes ? bytes : 1) ? NULL : memory;
}
static void give_back(void *user, void *memory) {
  (void)user;
  live--, released++;
  free(memory);
}

static void memory(const char *dir) {
  pw_options o;
  memset(&o, 0, sizeof o);
  o.size = sizeof o, o.threads = 2, o.user = &live, o.alloc = counted, o.release = give_back;
  call c;
  setup(&c, 5000, 3000, 2);
  int64_t strides[2] = {4, 1};
  (void)strides;
  for (fail_at = 0; fail_at < 12; fail_at++) {
    calls = 0;
    pw_model *m = NULL;
    pw_session *s = NULL;
    pw_status status = A->load(dir, &o, &m);
    if (status == PW_OK) status = A->open(m, &s);
    if (status == PW_OK) status = go(A, s, &c);
    CHECK(fail_at && calls >= fail_at ? status == PW_E_MEMORY : status == PW_OK, "allocation %ld of %ld fails: %d", fail_at, calls, status);
    if (status == PW_E_MEMORY) CHECK(A->error(s, m)[0], "no text");
    for (int i = 0; i < 3; i++) c.out[i].data = NULL;
    if (s && status == PW_E_MEMORY) CHECK(go(A, s, &c) == PW_OK, "after memory came back");
    for (int i = 0; i < 3; i++) c.out[i].data = NULL;
    A->close(s), A->unload(m);
    CHECK(live == 0, "%ld blocks are left after failure %ld", live, fail_at);
  }
  o.alloc = NULL, o.release = NULL, o.max_memory_bytes = 100000;
  pw_model *m = NULL;
  CHECK(A->load(dir, &o, &m) == PW_OK, "limit");
  pw_session *s = open_session(A, m);
  CHECK(go(A, s, &c) == PW_E_MEMORY && strstr(A->error(s, NULL), "max_memory_bytes allows 100000"), "%s", A->error(s, NULL));
  CHECK(strstr(A->error(s, NULL), "node emb/Gather: an output takes 48000 bytes"), "%s", A->error(s, NULL));
  call d;
  setup(&d, 1000, 1000, 2);
  CHECK(go(A, s, &d) == PW_OK && right(&d), "within the limit: %s", A->error(s, NULL));
  A->close(s), A->unload(m);
  o.alloc = counted;
  CHECK(A->load(dir, &o, &m) == PW_E_ARGUMENT, "alloc without release");
  o.alloc = NULL, o.size = 3;
  CHECK(A->load(dir, &o, &m) == PW_E_ARGUMENT && !m, "size of the options");
  o.size = 12, o.threads = -1;
  CHECK(A->load(dir, &o, &m) == PW_E_ARGUMENT, "negative threads");
  drop(&c), drop(&d);

  /* No leak over many lives and errors: the address space stays as it is. */
  long first = 0, pages = 0;
  for (int i = 0; i < 200; i++) {
    m = load(A, dir, 2), s = open_session(A, m);
    setup(&c, 2000 + i, 500, 3);
    c.index[3] = i % 2 ? -1 : 0;
    go(A, s, &c);
    A->close(s), A->unload(m), drop(&c);
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld", &pages) == 1 && i == 20) first = pages;
    if (f) fclose(f);
  }
  CHECK(pages <= first + 512, "%ld pages grew to %ld", first, pages);
}

/* ---- busy, cancel, environment, fork ---- */

typedef struct {
  pw_session *s;
  call c;
  pw_status status;
} background;

static void *run_slow(void *argument) {
  background *b = argument;
  b->status = go(A, b->s, &b->c);
  return NULL;
}

static void busy_and_cancel(const char *dir) {
  pw_model *m = load(A, dir, 2);
  background b;
  b.s = open_session(A, m);
  setup(&b.c, 2000, 10, 1);
  b.c.mode = 5;
  pthread_t t;
  pthread_create(&t, NULL, run_slow, &b);
  usleep(100000);
  call c;
  setup(&c, 10, 5, 1);
  CHECK(go(A, b.s, &c) == PW_E_BUSY, "the session is busy");
  /* Another session works meanwhile. */
  pw_session *other = open_session(A, m);
  call d;
  setup(&d, 4000, 50, 1);
  CHECK(go(A, other, &d) == PW_OK && right(&d), "beside a slow run");
  A->cancel(b.s);
  double begin = now();
  pthread_join(t, NULL);
  CHECK(b.status == PW_E_CANCELLED, "status %d after %.0f ms", b.status, (now() - begin) / 1e6);
  CHECK(go(A, b.s, &c) == PW_OK && right(&c), "a session works after a cancel");
  drop(&b.c), drop(&c), drop(&d);
  A->close(other), A->close(b.s), A->unload(m);
}

static void environment(const char *dir) {
  pw_model *m = load(A, dir, 4);
  pw_session *s = open_session(A, m);
  call c;
  setup(&c, 3000, 200, 1);
  CHECK(go(A, s, &c) == PW_OK, "first");
  float *want = memcpy(malloc(3200), c.out[0].data, 3200);
  fesetround(FE_UPWARD);
  feclearexcept(FE_ALL_EXCEPT);
  CHECK(go(A, s, &c) == PW_OK, "second");
  CHECK(fegetround() == FE_UPWARD, "the caller's rounding is restored");
  CHECK(!fetestexcept(FE_INEXACT), "the caller's flags are restored");
  fesetround(FE_TONEAREST);
  CHECK(!memcmp(want, c.out[0].data, 3200), "the caller's rounding does not reach the model");
  free(want);
  /* A forked child has the model but none of the threads. */
  fflush(stdout);
  pid_t child = fork();
  if (!child) {
    int ok = go(A, s, &c) == PW_OK && right(&c);
    A->close(s), A->unload(m);
    _exit(ok ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0, "the child ended with %d", status);
  CHECK(go(A, s, &c) == PW_OK && right(&c), "the parent goes on");
  drop(&c);
  A->close(s), A->unload(m);
}

static int profiled;
static void profile(void *user, const char *node, uint64_t begin, uint64_t end, int64_t groups) {
  (void)user;
  if (begin <= end && groups > 0 && (!strcmp(node, "enc/Mul") || !strcmp(node, "emb/Gather"))) profiled++;
}

static void profiles(const char *dir) {
  pw_options o;
  memset(&o, 0, sizeof o);
  o.size = sizeof o, o.profile = profile;
  pw_model *m = NULL;
  CHECK(A->load(dir, &o, &m) == PW_OK, "load");
  pw_session *s = open_session(A, m);
  call c;
  setup(&c, 300, 20, 1);
  CHECK(go(A, s, &c) == PW_OK && profiled == 3, "%d launches", profiled);
  drop(&c);
  A->close(s), A->unload(m);
}

/* ---- damaged bundles ---- */

static void bad_store(const char *dir) {
  char path[4096], saved[4096];
  snprintf(path, sizeof path, "%s/weights/store.bin", dir);
  snprintf(saved, sizeof saved, "%s.saved", path);
  pw_model *m = NULL;
  CHECK(A->load(NULL, NULL, &m) == PW_E_ARGUMENT && A->load(dir, NULL, NULL) == PW_E_ARGUMENT, "nulls");
  CHECK(A->load("/nowhere", NULL, &m) == PW_E_BUNDLE && !m && strstr(A->error(NULL, NULL), "portwright pack"), "%s", A->error(NULL, NULL));
  char *deep = malloc(10000);
  memset(deep, 'a', 9999), deep[9999] = 0;
  CHECK(A->load(deep, NULL, &m) == PW_E_ARGUMENT, "a long path");
  free(deep);
  FILE *f = fopen(path, "rb");
  char *bytes = malloc(1 << 20);
  size_t n = fread(bytes, 1, 1 << 20, f);
  fclose(f);
  rename(path, saved);
  for (int k = 0; k < 6; k++) {
    static const char *text[] = {"too short", "not a weight store", "not a weight store", "another model", "not a weight store", "another model"};
    f = fopen(path, "wb");
    size_t keep = k == 0 ? n - 1 : k == 1 ? 20 : k == 4 ? 0 : n;
    char *copy = memcpy(malloc(n), bytes, n);
    if (k == 2) copy[0] ^= 1;
    if (k == 3) copy[24 + 7] ^= 1;
    if (k == 5) copy[16] ^= 1;
    fwrite(copy, 1, keep, f), fclose(f), free(copy);
    pw_status status = A->load(dir, NULL, &m);
    CHECK(status == PW_E_BUNDLE && strstr(A->error(NULL, NULL), text[k]), "%d: %d %s", k, status, A->error(NULL, NULL));
  }
  rename(saved, path);
  free(bytes);
  CHECK(A->load(dir, NULL, &m) == PW_OK, "restored");
  A->unload(m);
}

static uint64_t checksum(const uint8_t *p, uint64_t bytes) {
  uint64_t h = 0x9e3779b97f4a7c15u, word;
  for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
    memcpy(&word, p + i, 8);
    h = (h ^ word) * 0xff51afd7ed558ccdu;
    h ^= h >> 32;
  }
  return h;
}

static void fuzz(const char *dir, const char *lib_dir) {
  char path[4096];
  snprintf(path, sizeof path, "%s/lib/libmodel.so", lib_dir);
  uint8_t *(*get)(uint64_t *);
  *(void **)&get = dlsym(dlopen(path, RTLD_NOW), "pw_test_blob");
  uint64_t bytes = 0, state = 42;
  uint8_t *blob = get(&bytes);
  uint8_t *good = memcpy(malloc(bytes), blob, bytes);
  int loaded = 0, refused = 0;
  call c;
  setup(&c, 10, 5, 2);
  for (int round = 0; round < 20000; round++) {
    memcpy(blob, good, bytes);
    for (int k = 0; k <= round % 3; k++) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      uint64_t at = (state >> 33) % bytes;
      blob[at] = (uint8_t)(round % 2 ? state >> 20 : blob[at] ^ (1u << (state >> 29 & 7)));
    }
    if (round % 8) {
      uint64_t sum = checksum(blob + 32, bytes - 32);
      memcpy(blob + 24, &sum, 8);
    }
    pw_model *m = NULL;
    pw_status status = Z->load(dir, NULL, &m);
    if (status != PW_OK) {
      CHECK(status == PW_E_BUNDLE || status == PW_E_CPU || status == PW_E_MEMORY, "status %d", status);
      CHECK(Z->error(NULL, NULL)[0] && !m, "no text");
      refused++;
      continue;
    }
    loaded++;
    /* What loads is described without reading beyond it. The plan itself no longer fits the description, so it is not run. */
    pw_info i;
    i.size = sizeof i;
    for (int output = 0; output < 2; output++)
      for (size_t k = 0; Z->describe(m, output, k, &i) == PW_OK; k++) {
        CHECK(strlen(i.name) < bytes && i.rank >= 0 && i.rank <= 64, "description");
        for (int a = 0; a < i.rank; a++) CHECK(!i.symbols[a] || strlen(i.symbols[a]) < bytes, "symbol");
      }
    pw_session *s = NULL;
    if (Z->open(m, &s) == PW_OK) Z->close(s);
    Z->unload(m);
  }
  memcpy(blob, good, bytes);
  printf("  20000 damaged descriptions: %d refused, %d harmless\n", refused, loaded);
  /* A feature that no machine has. */
  blob[40 + 31] |= 0x80;
  uint64_t sum = checksum(blob + 32, bytes - 32);
  memcpy(blob + 24, &sum, 8);
  pw_model *m = NULL;
  CHECK(Z->load(dir, NULL, &m) == PW_E_CPU && strstr(Z->error(NULL, NULL), "compiled for test-cpu"), "%s", Z->error(NULL, NULL));
  memcpy(blob, good, bytes);
  drop(&c), free(good);
}

static void overhead(const char *dir) {
  pw_model *m = load(T, dir, 0);
  pw_session *s = open_session(T, m);
  call c;
  setup(&c, 4, 4, 1);
  double best = 1e18;
  for (int k = 0; k < 20; k++) {
    double begin = now();
    for (int i = 0; i < 2000; i++) go(T, s, &c);
    double each = (now() - begin) / 2000;
    if (each < best) best = each;
  }
  CHECK(right(&c), "tiny");
  printf("  call of a tiny model (4 inputs, 3 outputs, 2 kernels): %.0f ns\n", best);
  CHECK(best < 1000, "%.0f ns", best);
  drop(&c);
  /* A launch over the pool, as often as one after the other can be. */
  setup(&c, 128, 128, 1);
  best = 1e18;
  for (int k = 0; k < 10; k++) {
    double begin = now();
    for (int i = 0; i < 500; i++) go(T, s, &c);
    double each = (now() - begin) / 500;
    if (each < best) best = each;
  }
  printf("  the same with 2 launches over the pool: %.0f ns\n", best);
  drop(&c);
  T->close(s), T->unload(m);
}

int main(int argc, char **argv) {
  if (argc < 5) return 2;
  setvbuf(stdout, NULL, _IONBF, 0);
  A = bundle(argv[1]), B = bundle(argv[2]), Z = bundle(argv[3]);
  CHECK(A != B && A->abi >> 16 == PW_ABI_MAJOR, "two libraries");
  quick = argc > 5;
  closed_library(argv[1], argv[4]);
  T = bundle(argv[4]);
  describes(argv[1]);
  argument_errors(argv[1]);
  infers(argv[1]);
  thread_counts(argv[1], argv[2]);
  one_pool(argv[1], argv[2]);
  many_users(argv[1], argv[2]);
  memory(argv[1]);
  if (!quick) busy_and_cancel(argv[1]);
  if (!quick) environment(argv[1]);
  profiles(argv[1]);
  bad_store(argv[1]);
  if (!quick) fuzz(argv[1], argv[3]);
  if (!quick) overhead(argv[4]);
  printf("%d checks, %d failures\n", checks, failures);
  return failures != 0;
}
