/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* The command line of a static program: one run of one model, with weights from the program's own file. */
#include "program.h"

enum { LARGEST_PAGE = 1 << 16, SEVERAL = 65536 };

/* The runtime finds threads where the C library has them; in a static program that is where somebody asks for them. */
int pthread_create(uintptr_t *, const void *, void *(*)(void *), void *);
int pthread_join(uintptr_t, void **);
int pthread_attr_init(void *);
int pthread_attr_getstacksize(const void *, size_t *);
int pthread_attr_setstacksize(void *, size_t);
int pthread_attr_destroy(void *);
void *const pw_program_threads[] __attribute__((used)) = {
    (void *)pthread_create,             (void *)pthread_join,          (void *)pthread_attr_init,
    (void *)pthread_attr_getstacksize, (void *)pthread_attr_setstacksize, (void *)pthread_attr_destroy};

static char message[SEVERAL];

/* ---- errors: `error: ` and one sentence, notes, a line that says what mends it ---- */

static pw_text error(void) {
  pw_text t = pw_text_in(message, sizeof message);
  pw_put(&t, "error: ");
  return t;
}

static int report(pw_text *t, int exit) {
  pw_put(t, "\n");
  pw_print(2, message);
  return exit;
}

static int usage(const char *what, const char *argument) {
  pw_text t = error();
  pw_put(&t, what);
  if (argument) pw_put(&t, " '"), pw_put(&t, argument), pw_put(&t, "'");
  pw_put(&t, "\nhelp: `--help` shows the options");
  return report(&t, PW_EXIT_USAGE);
}

static int exit_of(pw_status status) {
  switch (status) {
    case PW_OK: return PW_EXIT_DONE;
    case PW_E_MEMORY: return PW_EXIT_MEMORY;
    case PW_E_CPU: return PW_EXIT_MACHINE;
    case PW_E_BUNDLE: return PW_EXIT_FILE;
    case PW_E_INTERNAL: return PW_EXIT_OWN;
    default: return PW_EXIT_RUN;
  }
}

/* ---- options ---- */

typedef struct {
  const char *inputs, *outputs, *threads;
  int help, version;
} options;

static int same(const char *a, const char *b) { return __builtin_strcmp(a, b) == 0; }

/* The value of an option, `--name value` or `--name=value`; null = it has none. */
static const char *value_of(const char *argument, const char *name, char **argv, int *i) {
  size_t n = __builtin_strlen(name);
  if (argument[n] == '=') return argument + n + 1;
  return argv[*i + 1] ? argv[++*i] : 0;
}

static int parse_options(options *o, char **argv) {
  static const char *const names[] = {"--inputs", "--outputs", "--threads"};
  for (int i = 1; argv[i]; i++) {
    const char *a = argv[i], **values[] = {&o->inputs, &o->outputs, &o->threads};
    int k = 0;
    if (same(a, "--help") || same(a, "-h")) {
      o->help = 1;
      continue;
    }
    if (same(a, "--version") || same(a, "-V")) {
      o->version = 1;
      continue;
    }
    for (; k < 3; k++) {
      size_t n = __builtin_strlen(names[k]);
      if (!__builtin_strncmp(a, names[k], n) && (!a[n] || a[n] == '=')) break;
    }
    if (k == 3) return usage("unexpected argument", a);
    if (*values[k]) return usage("given twice:", names[k]);
    *values[k] = value_of(a, names[k], argv, &i);
    if (!*values[k] || !**values[k]) return usage("a value is missing for", names[k]);
  }
  return 0;
}

/* ---- the model ---- */

typedef struct {
  const pw_api *api;
  pw_model *model;
  pw_session *session;
  pw_info *in, *out;
} program;

static int damaged(const char *file, const char *what) {
  pw_text t = error();
  pw_put(&t, file), pw_put(&t, ": "), pw_put(&t, what);
  pw_put(&t, "\nhelp: copy the whole file again; a program that strips symbols takes the weights away");
  return report(&t, PW_EXIT_FILE);
}

/* What the end of the program's own file says. */
static int read_tail(const char *file, int fd, pw_program_tail *tail) {
  int64_t size = pw_os_size(fd), n = (int64_t)sizeof *tail;
  if (size < n || pw_os_read(fd, tail, sizeof *tail, (uint64_t)(size - n)) != n || memcmp(tail->magic, PW_PROGRAM_MAGIC, 8))
    return damaged(file, "the end of this program is missing, and with it the weights");
  uint64_t words[sizeof *tail / 8], sum = 0;
  memcpy(words, tail, sizeof *tail);
  for (uint32_t i = 0; i + 1 < sizeof *tail / 8; i++) sum ^= words[i];
  if (tail->version != PW_PROGRAM_VERSION || sum != tail->check || tail->file_bytes != (uint64_t)size ||
      tail->store_at % LARGEST_PAGE || tail->store_at > (uint64_t)size || tail->store_bytes > (uint64_t)size - tail->store_at)
    return damaged(file, "this program was cut short or changed");
  return 0;
}

static int load(program *p, const pw_options *options) {
  const char *file = "/proc/self/exe";
  int fd = pw_os_open(file);
  if (fd < 0) {
    const char *started = (const char *)getauxval(31 /* the file that was executed */);
    file = started ? started : "";
    fd = pw_os_open(file);
  }
  if (fd < 0) return damaged(file, "the program's own file, which holds the weights, cannot be opened");
  pw_program_tail tail;
  int exit = read_tail(file, fd, &tail);
  pw_os_close(fd);
  if (exit) return exit;
  pw_text t = error();
  pw_status status = pw_load_at(file, tail.store_at, options, &p->model, &t);
  if (status == PW_OK) status = pw_session_new(p->model, &p->session, &t);
  if (status != PW_OK) return report(&t, exit_of(status));
  p->in = malloc((p->model->inputs + 1) * sizeof *p->in), p->out = malloc((p->model->outputs + 1) * sizeof *p->out);
  if (!p->in || !p->out) {
    pw_put(&t, "no memory");
    return report(&t, PW_EXIT_MEMORY);
  }
  for (uint32_t i = 0; i < p->model->inputs; i++) p->in[i].size = sizeof *p->in, p->api->describe(p->model, 0, i, &p->in[i]);
  for (uint32_t i = 0; i < p->model->outputs; i++) p->out[i].size = sizeof *p->out, p->api->describe(p->model, 1, i, &p->out[i]);
  return 0;
}

static void unload(program *p) {
  free(p->in), free(p->out);
  p->api->close(p->session);
  p->api->unload(p->model);
}

/* ---- what it is ---- */

static void put_type(pw_text *t, const pw_info *info) {
  pw_put_dtype(t, info->dtype), pw_put(t, "[");
  for (int32_t i = 0; i < info->rank; i++) {
    if (i) pw_put(t, ", ");
    if (info->symbols[i]) pw_put(t, info->symbols[i]);
    else pw_put_int(t, info->dims[i]);
  }
  pw_put(t, "]");
}

static void print_ports(const program *p) {
  for (int output = 0; output < 2; output++) {
    uint32_t n = output ? p->model->outputs : p->model->inputs;
    for (uint32_t i = 0; i < n; i++) {
      const pw_info *info = output ? &p->out[i] : &p->in[i];
      const char *descr = pw_npy_descr(info->dtype);
      pw_text t = pw_text_in(message, sizeof message);
      pw_put(&t, output ? "  output " : "  input  "), pw_put(&t, info->name), pw_put(&t, ": "), put_type(&t, info);
      pw_put(&t, ", numpy '"), pw_put(&t, descr ? descr : "?"), pw_put(&t, "'");
      for (int32_t a = 0; !output && a < info->rank; a++) {
        if (!info->symbols[a]) continue;
        pw_put(&t, ", "), pw_put(&t, info->symbols[a]), pw_put(&t, " from "), pw_put_int(&t, info->min_dims[a]);
        if (info->max_dims[a] < INT64_MAX) pw_put(&t, " to "), pw_put_int(&t, info->max_dims[a]);
      }
      pw_put(&t, "\n");
      pw_print(1, message);
    }
  }
}

static void print_help(const program *p, const char *name) {
  pw_text t = pw_text_in(message, sizeof message);
  pw_put(&t, "Runs the model "), pw_put(&t, p->model->name), pw_put(&t, " once; made by Portwright " PW_VERSION " for ");
  pw_put(&t, p->model->cpu), pw_put(&t, ".\n\nUsage: "), pw_put(&t, name);
  pw_put(&t, p->model->inputs ? " --inputs X.npz" : "");
  pw_put(&t, " [--outputs Y.npz] [--threads N]\n\n"
             "  --inputs X.npz   arrays by the names below, as numpy.savez or numpy.savez_compressed writes them\n"
             "  --outputs Y.npz  write the outputs there; without it they are printed\n"
             "  --threads N      threads [default: one a CPU]\n"
             "  --version, --help\n\n");
  pw_print(1, message);
  print_ports(p);
  pw_print(1, "\nExit codes: 0 done, 2 usage, 3 the arrays are not what the model takes, 4 memory, 5 another processor, 6 the run failed,\n"
              "  7 files, 70 a fault of Portwright\n");
}

/* ---- inputs ---- */

static pw_text about(const char *file, const char *name) {
  pw_text t = error();
  pw_put(&t, file), pw_put(&t, ", array '"), pw_put_bytes_of(&t, (const uint8_t *)name, __builtin_strlen(name)), pw_put(&t, "': ");
  return t;
}

/* Sizes that symbols got, in the order in which inputs have them. */
typedef struct {
  const char *symbol, *array;
  int64_t size;
} binding;

/* Whether the shape is one that the input takes; else the report. */
static int check_shape(const char *file, const pw_info *info, const pw_array *a, binding *bound, uint64_t *count) {
  uint64_t one = 1;
  for (int32_t i = 0; i < a->rank; i++) one &= a->dims[i] == 1;
  if (info->rank == 0 && one) return 0;
  int fits = a->rank == info->rank;
  for (int32_t i = 0; fits && i < a->rank; i++) fits = a->dims[i] >= info->min_dims[i] && a->dims[i] <= info->max_dims[i];
  if (!fits) {
    pw_text t = about(file, info->name);
    pw_put(&t, "its shape is "), pw_put_shape(&t, a->dims, a->rank), pw_put(&t, ", expected "), put_type(&t, info);
    for (int32_t i = 0; i < info->rank; i++) {
      if (!info->symbols[i]) continue;
      pw_put(&t, ", "), pw_put(&t, info->symbols[i]), pw_put(&t, " from "), pw_put_int(&t, info->min_dims[i]);
      if (info->max_dims[i] < INT64_MAX) pw_put(&t, " to "), pw_put_int(&t, info->max_dims[i]);
    }
    return report(&t, PW_EXIT_INPUT);
  }
  for (int32_t i = 0; i < a->rank; i++) {
    if (!info->symbols[i]) continue;
    uint64_t k = 0;
    while (k < *count && !same(bound[k].symbol, info->symbols[i])) k++;
    if (k == *count) bound[(*count)++] = (binding){info->symbols[i], info->name, a->dims[i]};
    if (bound[k].size == a->dims[i]) continue;
    pw_text t = about(file, info->name);
    pw_put(&t, "its shape is "), pw_put_shape(&t, a->dims, a->rank), pw_put(&t, ", expected "), put_type(&t, info);
    pw_put(&t, " where "), pw_put(&t, bound[k].symbol), pw_put(&t, " is "), pw_put_int(&t, bound[k].size);
    pw_put(&t, " as in '"), pw_put(&t, bound[k].array), pw_put(&t, "'");
    return report(&t, PW_EXIT_INPUT);
  }
  return 0;
}

/* The first exit code stays, all that is wrong is said. */
static void add(int *exit, int other) {
  if (!*exit) *exit = other;
}

static int check_names(const program *p, const pw_archive *a, const char *file) {
  int exit = 0;
  for (uint64_t i = 0; i < a->count; i++) {
    const pw_entry *e = &a->entries[i];
    int known = 0;
    for (uint32_t k = 0; k < p->model->inputs && !known; k++)
      known = __builtin_strlen(p->in[k].name) == e->name_bytes && !memcmp(p->in[k].name, e->name, e->name_bytes);
    for (uint64_t k = 0; k < i && known > 0; k++)
      if (a->entries[k].name_bytes == e->name_bytes && !memcmp(a->entries[k].name, e->name, e->name_bytes)) known = -1;
    if (known > 0) continue;
    pw_text t = error();
    pw_put(&t, file), pw_put(&t, known ? " has two arrays '" : ": the model has no input '");
    pw_put_bytes_of(&t, e->name, e->name_bytes), pw_put(&t, "'\nnote: the model takes ");
    for (uint32_t k = 0; k < p->model->inputs; k++) pw_put(&t, k ? ", '" : "'"), pw_put(&t, p->in[k].name), pw_put(&t, "'");
    add(&exit, report(&t, PW_EXIT_INPUT));
  }
  return exit;
}

static int read_inputs(const program *p, const char *file, pw_array *arrays, pw_value *values) {
  pw_archive a;
  pw_text t = error();
  pw_put(&t, file), pw_put(&t, ": ");
  int exit = pw_archive_open(&a, file, &t);
  if (exit) return report(&t, exit);
  uint64_t dims = 0, bound_count = 0;
  for (uint32_t i = 0; i < p->model->inputs; i++) dims += (uint64_t)p->in[i].rank;
  binding *bound = malloc((dims + 1) * sizeof *bound);
  if (!bound) {
    pw_archive_close(&a);
    pw_put(&t, "no memory");
    return report(&t, PW_EXIT_MEMORY);
  }
  exit = check_names(p, &a, file);
  for (uint32_t i = 0; i < p->model->inputs; i++) {
    const pw_info *info = &p->in[i];
    const pw_entry *e = pw_archive_find(&a, info->name);
    t = about(file, info->name);
    if (!e) {
      pw_put(&t, "it is missing, expected "), put_type(&t, info);
      add(&exit, report(&t, PW_EXIT_INPUT));
      continue;
    }
    int own = pw_array_read(&a, e, info->dtype, &arrays[i], &t);
    add(&exit, own ? report(&t, own) : check_shape(file, info, &arrays[i], bound, &bound_count));
    values[i] = (pw_value){sizeof(pw_value), PW_TENSOR, arrays[i].data, (size_t)arrays[i].bytes, info->dtype, arrays[i].rank, arrays[i].dims,
                           0, PW_HOST, 0, {0, 0}};
  }
  free(bound);
  pw_archive_close(&a);
  return exit;
}

/* ---- one run ---- */

static int give_outputs(const program *p, const pw_value *values, const char *file) {
  uint32_t n = p->model->outputs;
  pw_named *named = malloc((n + 1) * sizeof *named);
  pw_text t = error();
  if (!named) {
    pw_put(&t, "no memory");
    return report(&t, PW_EXIT_MEMORY);
  }
  for (uint32_t i = 0; i < n; i++) named[i] = (pw_named){p->out[i].name, values[i].data, values[i].dims, values[i].rank, values[i].dtype};
  int exit = 0;
  if (file) {
    pw_put(&t, file), pw_put(&t, ": ");
    exit = pw_archive_write(file, named, n, &t);
    if (exit) report(&t, exit);
  } else {
    for (uint32_t i = 0; i < n; i++) pw_show(&named[i]);
  }
  free(named);
  return exit;
}

static int run(const program *p, const options *o) {
  uint32_t n = p->model->inputs, m = p->model->outputs;
  if (n && !o->inputs) {
    pw_text t = error();
    pw_put(&t, "the model takes ");
    for (uint32_t i = 0; i < n; i++) pw_put(&t, i ? ", " : ""), pw_put(&t, p->in[i].name);
    pw_put(&t, ", and no inputs are given\nhelp: --inputs X.npz with arrays of these names; --help says what they are");
    return report(&t, PW_EXIT_USAGE);
  }
  pw_array *arrays = malloc((n + 1) * sizeof *arrays);
  pw_value *in = malloc((n + 1) * sizeof *in), *out = malloc((m + 1) * sizeof *out);
  int64_t *dims = malloc(((uint64_t)m + 1) * PW_MAX_RANK * sizeof *dims);
  int exit = 0;
  if (!arrays || !in || !out || !dims) {
    pw_text t = error();
    pw_put(&t, "no memory");
    exit = report(&t, PW_EXIT_MEMORY);
  }
  if (!exit) {
    memset(arrays, 0, (n + 1) * sizeof *arrays);
    if (o->inputs) exit = read_inputs(p, o->inputs, arrays, in);
    for (uint32_t i = 0; i < m; i++)
      out[i] = (pw_value){sizeof(pw_value), PW_TENSOR, 0, 0, 0, 0, dims + (uint64_t)i * PW_MAX_RANK, 0, PW_HOST, 0, {0, 0}};
  }
  if (!exit) {
    pw_status status = p->api->run(p->session, in, n, out, m, 0);
    if (status != PW_OK) {
      pw_text t = error();
      pw_put(&t, p->api->error(p->session, p->model));
      exit = report(&t, exit_of(status));
    }
  }
  if (!exit) exit = give_outputs(p, out, o->outputs);
  for (uint32_t i = 0; arrays && i < n; i++) free(arrays[i].memory);
  free(arrays), free(in), free(out), free(dims);
  return exit;
}

int main(int argc, char **argv) {
  options o = {0, 0, 0, 0, 0};
  pw_options how;
  memset(&how, 0, sizeof how);
  how.size = sizeof how;
  int exit = argc ? parse_options(&o, argv) : 0;
  if (exit) return exit;
  for (const char *d = o.threads; d && *d; d++) {
    if (*d < '0' || *d > '9' || how.threads > 100000) return usage("--threads takes a number, and this is none:", o.threads);
    how.threads = how.threads * 10 + (*d - '0');
  }
  program p = {pw_bundle_api(PW_ABI_MAJOR), 0, 0, 0, 0};
  exit = load(&p, &how);
  if (!exit && o.help) {
    print_help(&p, argc ? argv[0] : "program");
  } else if (!exit && o.version) {
    pw_text t = pw_text_in(message, sizeof message);
    pw_put(&t, p.model->name), pw_put(&t, ", made by Portwright " PW_VERSION " for "), pw_put(&t, p.model->cpu), pw_put(&t, "\n");
    pw_print(1, message);
  } else if (!exit) {
    exit = run(&p, &o);
  }
  unload(&p);
  return exit;
}
