/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* A model whose kernels run on a device: its code, weights and memory there, and what its plan asks for. */
#include "device.h"
#include "rt.h"

typedef struct {
  uint64_t address, bytes;
} dev_memory;

typedef struct {
  void *handle;
  const pw_device_kernel *form;
  const char *name;
} dev_kernel;

struct pw_dev_model {
  pw_device_api api;
  void *device;
  uint64_t weights; /* address of the store's data */
  uint32_t images, kernels;
  void **image;
  dev_kernel *kernel;
};

static void *at(uint64_t address) { return (void *)(uintptr_t)address; }

/* What guards write: the first launch that fails keeps it; see pw_guard of the emitter. */
typedef struct {
  uint64_t launch, low, middle, high;
} dev_status;

/* Words of 8 bytes that grow. */
typedef struct {
  uint64_t *word, used, room;
} dev_words;

/*
 * What a run gave the device to do, in order: kernels with all their parameters, and copies. A run that does the same as the one before it
 * does it from a recording. As long as it agrees with that one it only notes what is to do (what is noted and not begun is `pending`), and
 * begins it where the plan waits for the device: there a part ends. The first run that repeats a part records it, later ones replay it.
 */
typedef struct {
  dev_words kept, now;           /* of the run before, and of this one */
  dev_words kept_ends, now_ends; /* pairs: where a part ends, and its recording or 0 */
  uint64_t pending;              /* first word that is not begun */
  uint64_t operations;           /* of the part so far */
  int following;                 /* this run has done as the one before it */
  int off;                       /* nothing is recorded any more: the device does not */
} dev_trace;

struct pw_dev_session {
  void *own, *stream; /* the session's, and the one of this run */
  dev_trace trace;
  uint64_t status;
  uint64_t launches; /* of this run */
  int clean;         /* the status words are as they begin */
  uint64_t used;
  dev_memory *in, *out, *arena;
  uint8_t *filled; /* inputs that are there in this run */
  uint8_t *direct; /* outputs that kernels write where the caller wants them */
};

static int32_t device_error(pw_session *s, int32_t status, int32_t origin, const char *what) {
  const struct pw_dev_model *d = s->model->device;
  pw_text t;
  if (pw_begin(s, status, origin, &t)) {
    if (what) pw_put(&t, what), pw_put(&t, ": ");
    pw_put(&t, d->api.error(d->device));
  }
  return s->status;
}

static int dev_flush(pw_session *s);

/* ---- the model ---- */

static const void *entries(const pw_device_header *h, uint32_t at, uint32_t n, size_t each) {
  return at % 8 == 0 && (uint64_t)at + (uint64_t)n * each <= h->bytes ? (const uint8_t *)h + at : 0;
}
static const char *closed_text(const pw_device_header *h, uint32_t at) {
  const char *base = (const char *)(const void *)h;
  for (uint64_t i = at; i < h->bytes; i++)
    if (!base[i]) return base + at;
  return 0;
}

static pw_status damaged_code(pw_text *t) {
  pw_put(t, "the library's description of device code is damaged");
  return PW_E_BUNDLE;
}

pw_status pw_dev_load(pw_model *m, pw_text *t) {
  const pw_device_header *h = (const pw_device_header *)(const void *)pw_device_blob;
  if (memcmp(h->magic, PW_DEVICE_MAGIC, 8)) return damaged_code(t);
  const pw_device_image *images = entries(h, h->image_at, h->images, sizeof *images);
  const pw_device_kernel *kernels = entries(h, h->kernel_at, h->kernels, sizeof *kernels);
  if (!images || !kernels || !closed_text(h, h->name_at)) return damaged_code(t);
  const pw_device_api *api = m->options.size >= sizeof m->options ? m->options.device_api : 0;
  if (!api && h->driver == PW_DRIVER_CUDA) api = &cuda_api;
  if (!api && h->driver == PW_DRIVER_SOURCE) api = &pw_source_driver;
  if (!api || api->size < sizeof *api) {
    pw_put(t, api ? "pw_device_api.size is not sizeof(pw_device_api)" : "this runtime has no driver for the bundle's device");
    return PW_E_BUNDLE;
  }
  uint64_t head = (sizeof(struct pw_dev_model) + 15) / 16 * 16;
  uint64_t bytes = head + h->images * sizeof(void *) + h->kernels * sizeof(dev_kernel);
  struct pw_dev_model *d = pw_take(m, bytes);
  if (!d) {
    pw_put(t, "no memory for the table of kernels: "), pw_put_bytes(t, bytes);
    return PW_E_MEMORY;
  }
  memset(d, 0, (size_t)bytes);
  d->api = *api;
  d->kernel = (dev_kernel *)(void *)((uint8_t *)d + head);
  d->image = (void **)(void *)(d->kernel + h->kernels);
  char message[512] = "";
  int32_t status = api->open(api->user, h, m->options.device, &d->device, message, sizeof message);
  if (status) {
    pw_put(t, message);
    pw_give(m, d);
    return (pw_status)status;
  }
  m->device = d;
  if ((status = api->enter(d->device))) pw_put(t, api->error(d->device));
  int entered = !status;
  uint64_t free = 0, total = 0;
  if (!status && m->weight_bytes && !(status = api->memory(d->device, &free, &total)) && m->weight_bytes > free) {
    pw_put(t, "the model's weights take "), pw_put_bytes(t, m->weight_bytes);
    pw_put(t, m->weight_bytes > total ? ", and the whole device has " : ", and the device has free ");
    pw_put_bytes(t, m->weight_bytes > total ? total : free);
    status = m->weight_bytes > total ? PW_E_DEVICE_SIZE : PW_E_DEVICE_MEMORY;
  }
  for (; !status && d->images < h->images; d->images++) {
    const pw_device_image *i = &images[d->images];
    if (i->at > h->bytes || i->bytes > h->bytes - i->at || !i->bytes || ((const char *)h)[i->at + i->bytes - 1]) {
      status = damaged_code(t);
    } else if ((status = api->image(d->device, (const char *)h + i->at, i->bytes, &d->image[d->images]))) {
      pw_put(t, "code of the bundle: "), pw_put(t, api->error(d->device));
    }
    if (status) break;
  }
  for (; !status && d->kernels < h->kernels; d->kernels++) {
    dev_kernel *k = &d->kernel[d->kernels];
    k->form = &kernels[d->kernels];
    k->name = closed_text(h, k->form->name_at);
    if (!k->name || k->form->image >= h->images || (uint64_t)k->form->buffers + k->form->scalars + 2 > PW_DEVICE_PARAMS) {
      status = damaged_code(t);
    } else if ((status = api->kernel(d->device, d->image[k->form->image], k->name, k->form->dynamic, &k->handle))) {
      pw_put(t, "kernel "), pw_put(t, k->name), pw_put(t, ": "), pw_put(t, api->error(d->device));
    }
    if (status) break;
  }
  if (!status && m->weight_bytes) {
    status = api->alloc(d->device, m->weight_bytes, &d->weights);
    if (!status) status = api->copy_in(d->device, 0, d->weights, m->weights, m->weight_bytes);
    if (!status) status = api->sync(d->device, 0);
    if (status) {
      pw_put(t, "the model's weights, "), pw_put_bytes(t, m->weight_bytes), pw_put(t, ": "), pw_put(t, api->error(d->device));
      if (status == PW_E_MEMORY) status = PW_E_DEVICE_MEMORY;
    }
  }
  if (entered) api->leave(d->device);
  if (status) pw_dev_unload(m);
  return (pw_status)status;
}

void pw_dev_unload(pw_model *m) {
  struct pw_dev_model *d = m->device;
  if (!d) return;
  if (!d->api.enter(d->device)) {
    if (d->weights) d->api.release(d->device, d->weights);
    for (uint32_t i = 0; i < d->images; i++) d->api.drop_image(d->device, d->image[i]);
    d->api.leave(d->device);
  }
  d->api.close(d->device);
  m->device = 0;
  pw_give(m, d);
}

/* ---- the session ---- */

pw_status pw_dev_open(pw_session *s, pw_text *t) {
  pw_model *m = s->model;
  const struct pw_dev_model *d = m->device;
  uint64_t blocks = (uint64_t)m->inputs + m->outputs + m->epoch_count;
  uint64_t bytes = sizeof(struct pw_dev_session) + blocks * sizeof(dev_memory) + m->inputs + m->outputs;
  struct pw_dev_session *v = pw_take(m, bytes);
  if (!v) {
    pw_put(t, "no memory for a session: "), pw_put_bytes(t, bytes);
    return PW_E_MEMORY;
  }
  memset(v, 0, (size_t)bytes);
  v->in = (dev_memory *)(void *)(v + 1);
  v->out = v->in + m->inputs;
  v->arena = v->out + m->outputs;
  v->filled = (uint8_t *)(void *)(v->arena + m->epoch_count);
  v->direct = v->filled + m->inputs;
  s->device = v;
  int32_t status = d->api.enter(d->device);
  if (!status) {
    status = d->api.stream(d->device, &v->own);
    if (!status) status = d->api.alloc(d->device, sizeof(dev_status), &v->status);
    if (status) pw_put(t, "a session on the device: "), pw_put(t, d->api.error(d->device));
    d->api.leave(d->device);
  } else {
    pw_put(t, d->api.error(d->device));
  }
  return (pw_status)status;
}

/* Forgets the recordings of parts. */
static void drop_ends(pw_session *s, dev_words *ends) {
  const struct pw_dev_model *d = s->model->device;
  for (uint64_t i = 0; i + 1 < ends->used; i += 2)
    if (ends->word[i + 1]) d->api.drop_graph(d->device, at(ends->word[i + 1]));
  ends->used = 0;
}

static void dev_drop(pw_session *s, dev_memory *m) {
  const struct pw_dev_model *d = s->model->device;
  if (!m->bytes) return;
  d->api.release(d->device, m->address);
  s->device->used -= m->bytes;
  m->address = m->bytes = 0;
}

void pw_dev_close(pw_session *s) {
  struct pw_dev_session *v = s->device;
  const pw_model *m = s->model;
  const struct pw_dev_model *d = m->device;
  if (!v) return;
  if (!d->api.enter(d->device)) {
    uint64_t blocks = (uint64_t)m->inputs + m->outputs + m->epoch_count;
    for (uint64_t i = 0; i < blocks; i++) dev_drop(s, &v->in[i]);
    drop_ends(s, &v->trace.kept_ends), drop_ends(s, &v->trace.now_ends);
    if (v->status) d->api.release(d->device, v->status);
    if (v->own) d->api.end_stream(d->device, v->own);
    d->api.leave(d->device);
  }
  pw_give(m, v->trace.kept.word), pw_give(m, v->trace.now.word);
  pw_give(m, v->trace.kept_ends.word), pw_give(m, v->trace.now_ends.word);
  s->device = 0;
  pw_give(m, v);
}

/* Makes the memory at least so large; its content is lost. 0 = done. */
static int dev_grow(pw_session *s, dev_memory *m, int64_t bytes, int32_t origin, const char *what) {
  const struct pw_dev_model *d = s->model->device;
  struct pw_dev_session *v = s->device;
  pw_text t;
  if (bytes >= 0 && m->bytes && (uint64_t)bytes <= m->bytes) return 0;
  uint64_t limit = s->model->options.max_memory_bytes, wanted = ((uint64_t)bytes + 255) / 256 * 256;
  uint64_t others = s->used + v->used - m->bytes;
  if (bytes < 0 || (limit && (wanted > limit || others > limit - wanted))) {
    if (pw_begin(s, PW_E_MEMORY, origin, &t)) {
      pw_put(&t, bytes < 0 ? "the size of " : ""), pw_put(&t, what);
      if (bytes < 0) pw_put(&t, " does not fit 63 bits");
      else pw_put(&t, " takes "), pw_put_bytes(&t, wanted), pw_put(&t, ", and max_memory_bytes allows "), pw_put_int(&t, (int64_t)limit);
    }
    return 1;
  }
  if (!wanted) wanted = 256;
  /* What still runs may read it. */
  if (m->bytes && dev_flush(s)) return 1;
  if (m->bytes && d->api.sync(d->device, v->stream)) return device_error(s, PW_E_DEVICE, origin, 0);
  dev_drop(s, m);
  int32_t status = d->api.alloc(d->device, wanted, &m->address);
  if (status) {
    uint64_t free = 0, total = 0;
    char reason[160];
    pw_text r = pw_text_in(reason, sizeof reason);
    pw_put(&r, d->api.error(d->device));
    if (pw_begin(s, status == PW_E_MEMORY ? PW_E_DEVICE_MEMORY : status, origin, &t)) {
      pw_put(&t, "no device memory for "), pw_put(&t, what), pw_put(&t, ": "), pw_put_bytes(&t, wanted);
      if (!d->api.memory(d->device, &free, &total)) {
        pw_put(&t, " needed, "), pw_put_bytes(&t, free), pw_put(&t, " free of "), pw_put_bytes(&t, total);
      }
      pw_put(&t, " ("), pw_put(&t, reason), pw_put(&t, ")");
    }
    return 1;
  }
  m->bytes = wanted;
  v->used += wanted;
  return 0;
}

static void trace_begin(pw_session *s);
static void trace_end(pw_session *s);

int32_t pw_dev_begin(pw_session *s) {
  const struct pw_dev_model *d = s->model->device;
  struct pw_dev_session *v = s->device;
  int32_t status = d->api.enter(d->device);
  if (status) return device_error(s, status, -1, 0);
  v->stream = s->stream ? s->stream : v->own;
  memset(v->filled, 0, s->model->inputs);
  v->launches = 0;
  trace_begin(s);
  if (!v->clean) {
    dev_status none;
    memset(&none, 0xff, sizeof none);
    status = d->api.copy_in(d->device, v->stream, v->status, &none, sizeof none);
    if (!status) status = d->api.sync(d->device, v->stream);
    if (status) {
      device_error(s, status, -1, 0);
      d->api.leave(d->device);
      return s->status;
    }
    v->clean = 1;
  }
  return PW_OK;
}

/* What guards have found so far. */
static int32_t read_status(pw_session *s) {
  const struct pw_dev_model *d = s->model->device;
  struct pw_dev_session *v = s->device;
  dev_status w;
  if (!v->launches) return s->status;
  /* Another error came first; what guards wrote beside it is of no later run. */
  if (s->status) return v->clean = 0, s->status;
  int32_t status = d->api.copy_out(d->device, v->stream, &w, v->status, sizeof w);
  if (status) return v->clean = 0, device_error(s, status, -1, 0);
  if (w.launch == UINT64_MAX) return PW_OK;
  v->clean = 0;
  uint64_t value = (w.low & 0xffffff) | (w.middle & 0xffffff) << 24 | (w.high & 0xffff) << 48;
  return pw_rt_fail(s, (int32_t)(w.high >> 16 & 0xff), (int32_t)(uint32_t)w.launch - 1, (int64_t)(w.low >> 24), (int64_t)value);
}

/* Brings outputs to the host, where they go on from. */
void pw_dev_end(pw_session *s) {
  const pw_model *m = s->model;
  const struct pw_dev_model *d = m->device;
  struct pw_dev_session *v = s->device;
  dev_flush(s);
  trace_end(s);
  read_status(s);
  for (uint32_t i = 0; i < m->outputs && !s->status && !s->shapes_only; i++) {
    pw_out *o = &s->out[i];
    if (!o->target) continue;
    uint64_t own = v->out[i].address, to = (uint64_t)(uintptr_t)o->value->data;
    if (o->on_device && (!to || !o->value->capacity_bytes)) o->value->data = at(own), to = own;
    if (!o->bytes || (o->on_device && (to == own || v->direct[i]))) continue;
    int32_t status = o->on_device ? d->api.copy(d->device, v->stream, to, own, o->bytes)
                                  : d->api.copy_out(d->device, v->stream, o->target, own, o->bytes);
    if (status) device_error(s, status, m->out[i].origin, 0);
  }
  /* Nothing that was begun outlives the run. */
  if (d->api.sync(d->device, v->stream)) v->clean = 0, device_error(s, PW_E_DEVICE, -1, 0);
  d->api.leave(d->device);
}

/* ---- addresses ---- */

const void *pw_dev_input(pw_session *s, int32_t i) {
  const struct pw_dev_model *d = s->model->device;
  struct pw_dev_session *v = s->device;
  const pw_port *p = &s->model->in[i];
  if (s->status) return 0;
  int64_t bytes = pw_bytes_of(s->in[i].dims, p->rank, p->bits);
  /* What lies there as kernels want it stays where it is. */
  if (s->in[i].on_device && (uintptr_t)s->in[i].data % PW_ALIGN == 0) return s->in[i].data;
  if (dev_grow(s, &v->in[i], bytes, p->origin, "an input")) return 0;
  if (!v->filled[i] && bytes > 0 && s->in[i].data) {
    if (dev_flush(s)) return 0;
    uint64_t to = v->in[i].address;
    int32_t status = s->in[i].on_device ? d->api.copy(d->device, v->stream, to, (uint64_t)(uintptr_t)s->in[i].data, (uint64_t)bytes)
                                        : d->api.copy_in(d->device, v->stream, to, s->in[i].data, (uint64_t)bytes);
    if (status) return device_error(s, status, -1, 0), (void *)0;
  }
  v->filled[i] = 1;
  return at(v->in[i].address);
}

const void *pw_dev_weight(pw_session *s, uint64_t offset) {
  const struct pw_dev_model *d = s->model->device;
  return at(d->weights ? d->weights + offset : s->device->status);
}

void *pw_dev_arena(pw_session *s, int32_t epoch, int64_t bytes) {
  dev_memory *m = &s->device->arena[epoch];
  return dev_grow(s, m, bytes, pw_epoch_origin(s->model, epoch), "intermediate memory") ? 0 : at(m->address);
}

void *pw_dev_output(pw_session *s, int32_t i) {
  dev_memory *m = &s->device->out[i];
  return dev_grow(s, m, (int64_t)s->out[i].bytes, s->model->out[i].origin, "an output") ? 0 : at(m->address);
}

void *pw_dev_output_there(pw_session *s, int32_t i) {
  const pw_out *o = &s->out[i];
  uint64_t to = (uint64_t)(uintptr_t)o->value->data;
  int direct = to && o->value->capacity_bytes && to % PW_ALIGN == 0;
  /* Kernels read inputs while they write outputs. */
  for (uint32_t k = 0; k < s->model->inputs; k++) {
    uint64_t from = (uint64_t)(uintptr_t)s->in[k].data;
    int64_t bytes = s->in[k].on_device ? pw_bytes_of(s->in[k].dims, s->model->in[k].rank, s->model->in[k].bits) : 0;
    if (bytes > 0 && to < from + (uint64_t)bytes && from < to + o->bytes) direct = 0;
  }
  s->device->direct[i] = (uint8_t)direct;
  return direct ? at(to) : pw_dev_output(s, i);
}

/* ---- what a run does again ---- */

static int32_t begin_launch(pw_session *s, const uint64_t *note);

/* Appends words; 0 = done, 1 = no memory. */
static int push_words(pw_session *s, dev_words *w, const uint64_t *from, uint64_t n) {
  if (w->room - w->used < n) {
    uint64_t room = (w->room + n) * 2 + 64;
    uint64_t *more = pw_take(s->model, room * sizeof *more);
    if (!more) return 1;
    if (w->used) memcpy(more, w->word, (size_t)(w->used * sizeof *more));
    pw_give(s->model, w->word);
    w->word = more, w->room = room;
  }
  memcpy(w->word + w->used, from, (size_t)(n * sizeof *from));
  w->used += n;
  return 0;
}

enum { TRACE_COPY = UINT32_MAX }; /* in the place of a kernel's number */

static int32_t begin_copy(pw_session *s, const uint64_t *note) {
  const struct pw_dev_model *d = s->model->device;
  int32_t status = d->api.copy(d->device, s->device->stream, note[3], note[4], note[5]);
  return status ? device_error(s, status, -1, 0) : PW_OK;
}

static void trace_begin(pw_session *s) {
  dev_trace *t = &s->device->trace;
  const struct pw_dev_model *d = s->model->device;
  t->now.used = t->pending = t->operations = 0;
  drop_ends(s, &t->now_ends);
  t->following = !t->off && t->kept.used && !s->inferring && !s->model->options.profile && d->api.record;
}

/* What this run did is what the next one is held against. */
static void trace_end(pw_session *s) {
  dev_trace *t = &s->device->trace;
  if (t->following && t->now.used == t->kept.used) return; /* the same, with its recordings */
  dev_words w = t->kept;
  drop_ends(s, &t->kept_ends);
  t->kept = t->now, t->now = w;
  w = t->kept_ends;
  t->kept_ends = t->now_ends, t->now_ends = w;
  if (s->status) t->kept.used = 0;
}

/* Begins what is pending, one by one. */
static int32_t begin_pending(pw_session *s) {
  dev_trace *t = &s->device->trace;
  while (t->pending < t->now.used && !s->status) {
    const uint64_t *note = t->now.word + t->pending;
    t->pending += 3 + (note[2] >> 32);
    (uint32_t)note[0] == TRACE_COPY ? begin_copy(s, note) : begin_launch(s, note);
  }
  t->pending = t->now.used;
  return s->status;
}

/* This run is another one from here on. */
static int32_t diverge(pw_session *s) {
  s->device->trace.following = 0;
  return begin_pending(s);
}

/* Notes what is to do; 1 = it is pending or failed, 0 = it is to be begun at once. */
static int trace_note(pw_session *s, const uint64_t *note, uint64_t n) {
  dev_trace *t = &s->device->trace;
  const struct pw_dev_model *d = s->model->device;
  if (t->off || !d->api.record || s->model->options.profile) return 0;
  if (t->following && (t->kept.used - t->now.used < n || memcmp(t->kept.word + t->now.used, note, (size_t)(n * sizeof *note))))
    if (diverge(s)) return 1;
  if (push_words(s, &t->now, note, n)) {
    /* Without memory for notes nothing is recorded, which is no error. */
    t->following = 0, t->off = 1;
    return begin_pending(s) ? 1 : 0;
  }
  t->operations++;
  if (!t->following) t->pending = t->now.used;
  return t->following;
}

/* Ends a part: what is pending begins. 0 = done. */
static int dev_flush(pw_session *s) {
  struct pw_dev_session *v = s->device;
  dev_trace *t = &v->trace;
  const struct pw_dev_model *d = s->model->device;
  if (!t->operations) return s->status;
  uint64_t operations = t->operations, end[2] = {t->now.used, 0}, i = t->now_ends.used;
  t->operations = 0;
  if (push_words(s, &t->now_ends, end, 2)) t->off = 1;
  if (!t->following) return s->status;
  if (t->off || i + 1 >= t->kept_ends.used || t->kept_ends.word[i] != t->now.used) return diverge(s);
  if (s->status || operations < 2) return begin_pending(s);
  uint64_t *graph = &t->kept_ends.word[i + 1];
  if (!*graph) {
    if (d->api.record(d->device, v->stream)) return t->off = 1, begin_pending(s);
    begin_pending(s);
    void *made = 0;
    int32_t status = d->api.recorded(d->device, v->stream, &made);
    if (s->status) {
      if (!status) d->api.drop_graph(d->device, made);
      return s->status;
    }
    if (status) return device_error(s, status, -1, 0);
    *graph = (uint64_t)(uintptr_t)made;
  }
  t->pending = t->now.used;
  int32_t status = d->api.replay(d->device, v->stream, at(*graph));
  return status ? device_error(s, status, -1, 0) : PW_OK;
}

/* ---- what plans call ---- */

int32_t pw_rt_device_launch(pw_ctx *s, int32_t kernel, void *const *bufs, const int64_t *syms, const int64_t *grid, int32_t origin) {
  const pw_model *m = s->model;
  const struct pw_dev_model *d = m->device;
  struct pw_dev_session *v = s->device;
  if (s->status || pw_rt_cancelled(s)) return s->status;
  if (kernel < 0 || (uint32_t)kernel >= d->kernels) return pw_rt_fail(s, PW_CODE_INTERNAL, origin, kernel, d->kernels);
  if (grid[0] < 0 || grid[1] < 0 || grid[2] < 0)
    return pw_rt_fail(s, PW_CODE_NEGATIVE_SIZE, origin, 0, grid[0] < 0 ? grid[0] : grid[1] < 0 ? grid[1] : grid[2]);
  if (!grid[0] || !grid[1] || !grid[2] || s->inferring) return PW_OK;
  const dev_kernel *k = &d->kernel[kernel];
  int64_t groups;
  if (__builtin_mul_overflow(grid[0], grid[1], &groups) || __builtin_mul_overflow(groups, grid[2], &groups))
    return pw_rt_fail(s, PW_CODE_OVERFLOW, origin, grid[0], grid[1]);
  int row = (k->form->flags & PW_KERNEL_ROW) != 0;
  int64_t x = row ? groups : grid[0];
  if (x > INT32_MAX) return pw_rt_fail(s, PW_CODE_TOO_LARGE, origin, x, INT32_MAX);
  pw_device_launch l = {{(uint32_t)x, row ? 1 : (uint32_t)grid[1], row ? 1 : (uint32_t)grid[2]}, k->form->group, k->form->dynamic, 0, 0};
  uint64_t params[PW_DEVICE_PARAMS];
  for (uint32_t i = 0; i < k->form->buffers; i++) params[l.params++] = (uint64_t)(uintptr_t)bufs[i];
  for (uint32_t i = 0; i < k->form->scalars; i++) params[l.params++] = (uint64_t)syms[i];
  params[l.params++] = v->status;
  params[l.params++] = v->launches++ << 32 | (uint32_t)(origin + 1);
  l.param = params;
  uint64_t note[3 + PW_DEVICE_PARAMS] = {(uint64_t)(uint32_t)origin << 32 | (uint32_t)kernel, (uint64_t)l.grid[1] << 32 | l.grid[0],
                                         (uint64_t)l.params << 32 | l.grid[2]};
  memcpy(note + 3, params, l.params * sizeof *params);
  return trace_note(s, note, 3 + l.params) ? s->status : begin_launch(s, note);
}

/* Begins one launch that was noted. */
static int32_t begin_launch(pw_session *s, const uint64_t *note) {
  const pw_model *m = s->model;
  const struct pw_dev_model *d = m->device;
  struct pw_dev_session *v = s->device;
  const dev_kernel *k = &d->kernel[(uint32_t)note[0]];
  int32_t origin = (int32_t)(note[0] >> 32);
  pw_device_launch l = {{(uint32_t)note[1], (uint32_t)(note[1] >> 32), (uint32_t)note[2]}, k->form->group, k->form->dynamic,
                        (uint32_t)(note[2] >> 32), note + 3};
  int64_t groups = (int64_t)l.grid[0] * l.grid[1] * l.grid[2];
  uint64_t began = m->options.profile ? pw_os_now_ns() : 0;
  int32_t status = d->api.launch(d->device, v->stream, k->handle, &l);
  if (!status && m->options.profile) {
    const char *node = pw_origin(m, origin);
    status = d->api.sync(d->device, v->stream);
    m->options.profile(m->options.user, node ? node : "", began, pw_os_now_ns(), groups);
  }
  if (status) {
    char what[256];
    pw_text t = pw_text_in(what, sizeof what);
    pw_put(&t, "kernel "), pw_put(&t, k->name);
    v->clean = 0;
    return device_error(s, status, origin, what);
  }
  return PW_OK;
}

int32_t pw_dev_fetch(pw_session *s, void *to, const void *from, int64_t bytes, int32_t origin) {
  const struct pw_dev_model *d = s->model->device;
  if (s->status || s->inferring || bytes <= 0 || dev_flush(s)) return s->status;
  int32_t status = d->api.copy_out(d->device, s->device->stream, to, (uint64_t)(uintptr_t)from, (uint64_t)bytes);
  if (status) return device_error(s, status, origin, 0);
  return read_status(s);
}

int32_t pw_dev_put(pw_session *s, void *to, const void *from, int64_t bytes) {
  const struct pw_dev_model *d = s->model->device;
  if (s->status || bytes <= 0 || dev_flush(s)) return s->status;
  int32_t status = d->api.copy_in(d->device, s->device->stream, (uint64_t)(uintptr_t)to, from, (uint64_t)bytes);
  return status ? device_error(s, status, -1, 0) : (int32_t)PW_OK;
}

int64_t pw_rt_device_get(pw_ctx *s, const void *from, int32_t bytes) {
  const struct pw_dev_model *d = s->model->device;
  struct pw_dev_session *v = s->device;
  uint64_t address = (uint64_t)(uintptr_t)from, value = 0;
  if (s->status || s->inferring || bytes < 1 || bytes > 8) return 0;
  /* What the caller gave is here as well. */
  for (uint32_t i = 0; i < s->model->inputs; i++) {
    uint64_t offset = address - v->in[i].address;
    if (!v->filled[i] || s->in[i].on_device || address < v->in[i].address || offset >= v->in[i].bytes || !s->in[i].data) continue;
    memcpy(&value, s->in[i].data + offset, (size_t)bytes);
    return (int64_t)value;
  }
  if (dev_flush(s)) return 0;
  int32_t status = d->api.copy_out(d->device, v->stream, &value, address, (uint64_t)bytes);
  if (status) return device_error(s, status, -1, 0), 0;
  return read_status(s) ? 0 : (int64_t)value;
}

void pw_rt_device_put(pw_ctx *s, void *to, int64_t value, int32_t bytes) {
  const struct pw_dev_model *d = s->model->device;
  if (s->status || bytes < 1 || bytes > 8 || dev_flush(s)) return;
  int32_t status = d->api.copy_in(d->device, s->device->stream, (uint64_t)(uintptr_t)to, &value, (uint64_t)bytes);
  if (status) device_error(s, status, -1, 0);
}

void pw_rt_device_copy(pw_ctx *s, void *to, const void *from, int64_t bytes) {
  if (s->status || bytes <= 0 || to == from) return;
  const uint64_t note[] = {TRACE_COPY, 0, (uint64_t)3 << 32, (uint64_t)(uintptr_t)to, (uint64_t)(uintptr_t)from, (uint64_t)bytes};
  if (!trace_note(s, note, sizeof note / sizeof *note)) begin_copy(s, note);
}
