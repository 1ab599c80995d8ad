/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Decodes with a language model twice: with caches that the model returns, and with caches that it appends to in place, in memory with
 * room for all steps. `decode BUNDLE STEPS` prints what it found; both ways must give the same bytes.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode.h"

enum { PORTS = 64, RANK = 8 };

static size_t width(int32_t dtype) { return dtype == PW_I64 || dtype == PW_F64 ? 8 : dtype == PW_F16 || dtype == PW_BF16 ? 2 : 4; }

typedef struct {
  const pw_api *api;
  pw_session *session;
  pw_info in[PORTS], out[PORTS];
  size_t inputs, outputs;
} model_t;

/* One step at `past`: caches in `cache`, whose rows have room for `room` positions; the caches that come out are in `next`, or in place. */
static int step(model_t *m, int64_t past, int64_t room, void **cache, void **next, void *first, size_t first_bytes) {
  static int64_t words[3][4096], dims[2][PORTS][RANK], strides[PORTS][RANK];
  pw_value in[PORTS] = {0}, out[PORTS] = {0};
  for (size_t i = 0; i < m->inputs; i++) {
    const pw_info *p = &m->in[i];
    int which = !strcmp(p->name, "input_ids") ? 0 : !strcmp(p->name, "attention_mask") ? 1 : 2;
    for (int32_t a = 0; a < p->rank; a++) dims[0][i][a] = p->dims[a] >= 0 ? p->dims[a] : 1;
    in[i] = (pw_value){.size = sizeof *in, .kind = PW_TENSOR, .dtype = p->dtype, .rank = p->rank, .dims = dims[0][i]};
    if (p->rank == 2) {
      if (which == 1) dims[0][i][1] = past + 1;
      for (int64_t k = 0; k <= past; k++) words[which][k] = which == 0 ? (past * 7 + 3) % 50 : which == 1 ? 1 : past;
      in[i].data = words[which];
    }
  }
  for (size_t i = 0; i < m->outputs; i++) {
    const pw_info *p = &m->out[i];
    out[i] = (pw_value){.size = sizeof *out, .kind = PW_TENSOR, .dtype = p->dtype, .rank = p->rank, .dims = dims[1][i]};
    if (p->alias_of < 0) {
      out[i].data = first, out[i].capacity_bytes = first_bytes;
      continue;
    }
    pw_value *from = &in[p->alias_of];
    int32_t axis = p->append_axis;
    int64_t all = 1;
    dims[0][p->alias_of][axis] = past;
    for (int32_t a = p->rank - 1; a >= 0; a--) {
      strides[i][a] = all;
      all *= a == axis ? room : dims[0][p->alias_of][a];
    }
    from->data = cache[i];
    if (next) {
      out[i].data = next[i], out[i].capacity_bytes = (size_t)all * width(p->dtype);
    } else {
      from->strides = out[i].strides = strides[i];
      out[i].data = cache[i], out[i].capacity_bytes = (size_t)all * width(p->dtype);
    }
  }
  if (m->api->run(m->session, in, m->inputs, out, m->outputs, NULL) == PW_OK) return 0;
  fprintf(stderr, "at %d: %s\n", (int)past, m->api->error(m->session, NULL));
  return 1;
}

int main(int argc, char **argv) {
  char path[4096];
  const pw_api *(*get)(uint32_t) = NULL;
  pw_model *loaded = NULL;
  model_t m = {0};
  int64_t steps = argc == 3 ? atoi(argv[2]) : 0;
  if (steps <= 0 || steps > 4000) return 2;
  snprintf(path, sizeof path, "%s/lib/libmodel.so", argv[1]);
  void *library = dlopen(path, RTLD_NOW);
  void *symbol = library ? dlsym(library, "pw_bundle_api") : NULL;
  memcpy(&get, &symbol, sizeof get);
  m.api = get ? get(1) : NULL;
  if (!m.api || m.api->load(argv[1], NULL, &loaded) != PW_OK || m.api->open(loaded, &m.session) != PW_OK) {
    fprintf(stderr, "%s\n", m.api ? m.api->error(NULL, loaded) : dlerror());
    return 1;
  }
  for (m.in[0].size = sizeof *m.in; m.inputs < PORTS && m.api->describe(loaded, 0, m.inputs, &m.in[m.inputs]) == PW_OK; m.inputs++)
    m.in[m.inputs + 1 < PORTS ? m.inputs + 1 : 0].size = sizeof *m.in;
  for (m.out[0].size = sizeof *m.out; m.outputs < PORTS && m.api->describe(loaded, 1, m.outputs, &m.out[m.outputs]) == PW_OK; m.outputs++)
    m.out[m.outputs + 1 < PORTS ? m.outputs + 1 : 0].size = sizeof *m.out;
  enum { FIRST = 1 << 22 };
  void *plain[2][PORTS] = {{0}}, *place[PORTS] = {0}, *one = calloc(1, FIRST), *two = calloc(1, FIRST);
  size_t bytes[PORTS] = {0}, caches = 0;
  for (size_t i = 0; i < m.outputs; i++) {
    if (m.out[i].alias_of < 0) continue;
    bytes[i] = width(m.out[i].dtype) * (size_t)steps;
    for (int32_t a = 0; a < m.out[i].rank; a++)
      if (a != m.out[i].append_axis) bytes[i] *= (size_t)(m.out[i].dims[a] >= 0 ? m.out[i].dims[a] : 1);
    for (int k = 0; k < 2; k++) plain[k][i] = calloc(1, bytes[i]);
    place[i] = calloc(1, bytes[i]);
    caches++;
  }
  for (int64_t past = 0; past < steps; past++) {
    if (step(&m, past, past + 1, plain[past % 2], plain[(past + 1) % 2], one, FIRST)) return 1;
    if (step(&m, past, steps, place, NULL, two, FIRST)) return 1;
    if (memcmp(one, two, FIRST)) return printf("step %d differs\n", (int)past), 1;
  }
  for (size_t i = 0; i < m.outputs; i++)
    if (bytes[i] && memcmp(plain[steps % 2][i], place[i], bytes[i])) return printf("cache %d differs\n", (int)i), 1;
  /* Where the memory is full, the model says so before it writes anything. */
  if (!step(&m, steps, steps, place, NULL, two, FIRST) || !strstr(m.api->error(m.session, NULL), "room for"))
    return printf("a step behind the end of the memory: %s\n", m.api->error(m.session, NULL)), 1;
  printf("%d steps, %d caches in place, the same bytes\n", (int)steps, (int)caches);
  m.api->close(m.session), m.api->unload(loaded);
  return caches ? 0 : 1;
}
