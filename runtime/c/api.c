/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The functions that a bundle exports. */
#include "rt.h"

/* The text of this thread's last failed call that has no session. */
static _Thread_local char last_error[1024];

static pw_status argument(const char *what) {
  pw_text t = pw_text_in(last_error, sizeof last_error);
  pw_put(&t, what);
  return PW_E_ARGUMENT;
}

static pw_status api_load(const char *dir, const pw_options *options, pw_model **model) {
  if (!model) return argument("load: the place for the model is null");
  *model = 0;
  pw_text t = pw_text_in(last_error, sizeof last_error);
  pw_status status = pw_load(dir, options, model, &t);
  if (status != PW_OK && options && options->size >= __builtin_offsetof(pw_options, profile) && options->log)
    options->log(options->user, PW_LOG_ERROR, last_error);
  return status;
}

static pw_status api_open(pw_model *model, pw_session **session) {
  if (!model || !session) return argument("open: the model or the place for the session is null");
  *session = 0;
  pw_text t = pw_text_in(last_error, sizeof last_error);
  return pw_session_new(model, session, &t);
}

static pw_status api_describe(const pw_model *model, int output, size_t i, pw_info *info) {
  if (!model || !info) return argument("describe: the model or the place for the answer is null");
  uint32_t size = info->size;
  if (size < 2 * sizeof(uint32_t)) return argument("describe: pw_info.size is not sizeof(pw_info)");
  if (i >= (output ? model->outputs : model->inputs)) return argument("describe: the model has no such input or output");
  const pw_port *p = output ? &model->out[i] : &model->in[i];
  pw_info full = {size, p->kind, p->name, p->dtype, p->rank, p->dims, p->symbols, p->lo, p->hi, p->max_bytes, p->alias_of,
                  p->append_axis, p->item_count, p->items};
  memcpy(info, &full, size < sizeof full ? size : sizeof full);
  return PW_OK;
}

static pw_status run(pw_session *s, const pw_value *in, size_t n, pw_value *out, size_t m, void *stream, int infer) {
  if (!s) return argument("run: the session is null");
  if (__c11_atomic_exchange(&s->busy, 1, __ATOMIC_ACQUIRE)) return PW_E_BUSY;
  __c11_atomic_store(&s->cancelled, 0, __ATOMIC_RELAXED);
  s->stream = stream;
  pw_status status = pw_run(s, in, n, out, m, infer);
  const pw_options *options = &s->model->options;
  if (status != PW_OK && options->log) options->log(options->user, PW_LOG_ERROR, s->message);
  __c11_atomic_store(&s->busy, 0, __ATOMIC_RELEASE);
  return status;
}

static pw_status api_infer(pw_session *s, const pw_value *in, size_t n, pw_value *out, size_t m) {
  return run(s, in, n, out, m, 0, 1);
}

static pw_status api_run(pw_session *s, const pw_value *in, size_t n, pw_value *out, size_t m, void *stream) {
  return run(s, in, n, out, m, stream, 0);
}

static const char *api_error(const pw_session *session, const pw_model *model) {
  (void)model;
  return session ? session->message : last_error;
}

static void api_close(pw_session *s) {
  if (s) pw_session_free(s);
}

static void api_unload(pw_model *m) {
  if (m) pw_model_release(m);
}

static void api_cancel(pw_session *s) {
  if (s) __c11_atomic_store(&s->cancelled, 1, __ATOMIC_RELAXED);
}

static const pw_api api = {PW_ABI_MAJOR << 16 | PW_ABI_MINOR, api_load,  api_open,   api_describe, api_infer, api_run,
                           api_error,                         api_close, api_unload, api_cancel};

const pw_api *pw_bundle_api(uint32_t wanted_major) { return wanted_major == PW_ABI_MAJOR ? &api : 0; }
