/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* From a library's description and its folder to a model: checks, CPU features, weights. */
#include "rt.h"

/* ---- memory ---- */

void *pw_take(const pw_model *m, uint64_t bytes) {
  if (bytes > UINT64_MAX / 4) return 0;
  if (m->options.alloc) return m->options.alloc(m->options.user, (size_t)bytes, PW_ALIGN);
  /* The size stands before what is given. */
  uint8_t *block = pw_os_map(bytes + PW_ALIGN);
  if (!block) return 0;
  *(uint64_t *)(void *)block = bytes + PW_ALIGN;
  return block + PW_ALIGN;
}

void pw_give(const pw_model *m, void *memory) {
  if (!memory) return;
  if (m->options.alloc) {
    if (m->options.release) m->options.release(m->options.user, memory);
    return;
  }
  uint8_t *block = (uint8_t *)memory - PW_ALIGN;
  pw_os_unmap(block, *(uint64_t *)(void *)block);
}

/* ---- the description; everything in it is checked before it is used ---- */

uint32_t pw_get_u32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
int32_t pw_get_i32(const uint8_t *p) { return (int32_t)pw_get_u32(p); }
uint64_t pw_get_u64(const uint8_t *p) { return (uint64_t)pw_get_u32(p) | (uint64_t)pw_get_u32(p + 4) << 32; }

#define AT(type, field) ((uint32_t)__builtin_offsetof(type, field))

typedef struct {
  const uint8_t *at;
  uint64_t bytes;
  const uint8_t *text;
  uint32_t text_bytes;
  int bad; /* a text lies outside its table */
} blob;

/* The table in that field of the header, or null when it does not lie within the blob. */
static const uint8_t *table(const blob *b, uint32_t field, uint32_t entry, uint32_t *count) {
  uint64_t offset = pw_get_u32(b->at + field);
  *count = pw_get_u32(b->at + field + 4);
  uint64_t bytes = (uint64_t)*count * entry;
  return offset <= b->bytes && bytes <= b->bytes - offset ? b->at + offset : 0;
}

static const char *text(blob *b, const uint8_t *entry) {
  uint64_t offset = pw_get_u32(entry), bytes = pw_get_u32(entry + 4);
  if (offset + bytes >= b->text_bytes || b->text[offset + bytes]) {
    b->bad = 1;
    return "";
  }
  return (const char *)b->text + offset;
}

static uint64_t checksum(const uint8_t *p, uint64_t bytes) {
  uint64_t h = 0x9e3779b97f4a7c15u;
  for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
    uint64_t word;
    __builtin_memcpy(&word, p + i, 8);
    h = (h ^ word) * 0xff51afd7ed558ccdu;
    h ^= h >> 32;
  }
  return h;
}

#if defined(__x86_64__)
enum { ARCH = PW_ARCH_X86_64 };
#elif defined(__aarch64__)
enum { ARCH = PW_ARCH_AARCH64 };
#elif defined(__riscv)
enum { ARCH = PW_ARCH_RISCV64 };
#else
enum { ARCH = PW_ARCH_LOONGARCH64 };
#endif

static int damaged(pw_text *t, const char *what) {
  pw_put(t, "the library's model description is damaged: ");
  pw_put(t, what);
  return 0;
}

/* Where a port's arrays come from: one block for the whole model, cut up in order. */
typedef struct {
  int64_t *numbers;
  const char **symbols;
  int32_t *symbol;
  pw_item *items; /* all of the blob's */
  uint32_t item_count;
} pieces;

static const char *read_port(blob *b, const pw_model *m, const uint8_t *p, const uint8_t *dims, uint32_t dim_count,
                             const uint8_t *symbols, int output, pw_port *port, pieces *from) {
  port->name = text(b, p + AT(pw_blob_port, name));
  port->kind = pw_get_i32(p + AT(pw_blob_port, kind));
  port->dtype = pw_get_i32(p + AT(pw_blob_port, dtype));
  port->rank = pw_get_i32(p + AT(pw_blob_port, rank));
  port->alias_of = pw_get_i32(p + AT(pw_blob_port, alias_of));
  port->append_axis = pw_get_i32(p + AT(pw_blob_port, append_axis));
  port->origin = pw_get_i32(p + AT(pw_blob_port, origin));
  port->flags = pw_get_u32(p + AT(pw_blob_port, flags));
  port->max_bytes = pw_get_u64(p + AT(pw_blob_port, max_bytes));
  port->bits = port->kind == PW_TENSOR ? pw_dtype_bits(port->dtype) : 64;
  uint32_t first = pw_get_u32(p + AT(pw_blob_port, first_dim));
  if (port->kind < PW_TENSOR || port->kind > PW_MAP || !port->bits) return "an input or output is of no kind";
  uint32_t item = pw_get_u32(p + AT(pw_blob_port, first_item)), item_count = pw_get_u32(p + AT(pw_blob_port, item_count));
  if (item > from->item_count || item_count > from->item_count - item || (port->kind > PW_STRINGS) != (item_count > 0) ||
      (port->kind > PW_STRINGS && port->rank))
    return "a list holds what does not exist";
  port->items = from->items + item, port->item_count = (int32_t)item_count;
  if (port->rank < 0 || port->rank > PW_MAX_RANK || first > dim_count || (uint32_t)port->rank > dim_count - first)
    return "an input or output has dims that do not exist";
  if (port->origin < -1 || port->origin >= (int64_t)m->origin_count) return "an output's node does not exist";
  if (port->alias_of < -1 || port->alias_of >= (output ? (int64_t)m->inputs : 0)) return "an output's alias does not exist";
  if (port->append_axis < -1 || port->append_axis >= port->rank || (port->append_axis >= 0 && port->alias_of < 0))
    return "an output appends on an axis that does not exist";
  int64_t *d = from->numbers, *lo = d + port->rank, *hi = lo + port->rank, *div = hi + port->rank;
  for (int32_t i = 0; i < port->rank; i++) {
    const uint8_t *dim = dims + (uint64_t)(first + (uint32_t)i) * sizeof(pw_blob_dim);
    int64_t fixed = (int64_t)pw_get_u64(dim);
    uint32_t s = pw_get_u32(dim + AT(pw_blob_dim, symbol));
    d[i] = lo[i] = hi[i] = fixed, div[i] = 1;
    from->symbols[i] = 0, from->symbol[i] = -1;
    if (fixed >= 0) continue;
    if (fixed != -1 || s >= m->symbols) return "a dim is neither a size nor a symbol";
    const uint8_t *entry = symbols + (uint64_t)s * sizeof(pw_blob_symbol);
    lo[i] = (int64_t)pw_get_u64(entry + AT(pw_blob_symbol, lo));
    hi[i] = (int64_t)pw_get_u64(entry + AT(pw_blob_symbol, hi));
    div[i] = (int64_t)pw_get_u64(entry + AT(pw_blob_symbol, div));
    if (lo[i] < 0 || hi[i] < lo[i] || div[i] < 1) return "a symbol's range is empty";
    from->symbols[i] = text(b, entry), from->symbol[i] = (int32_t)s;
  }
  port->dims = d, port->lo = lo, port->hi = hi, port->div = div;
  port->symbols = from->symbols, port->symbol = from->symbol;
  from->numbers += 4 * port->rank, from->symbols += port->rank, from->symbol += port->rank;
  return 0;
}

/* Sum of the ranks of a table's ports, or -1. */
static int64_t ranks(const uint8_t *ports, uint32_t count) {
  int64_t sum = 0;
  for (uint32_t i = 0; i < count; i++) {
    int32_t rank = pw_get_i32(ports + (uint64_t)i * sizeof(pw_blob_port) + AT(pw_blob_port, rank));
    if (rank < 0 || rank > PW_MAX_RANK) return -1;
    sum += rank;
  }
  return sum;
}

static pw_status read_blob(pw_model *seed, pw_model **out, pw_text *t) {
  blob b = {pw_model_blob, pw_model_blob_size, 0, 0, 0};
  uint32_t count;
  if (b.bytes < sizeof(pw_blob_header) || b.bytes % 8 || memcmp(b.at, PW_BLOB_MAGIC, 8)) {
    damaged(t, "it does not begin as one");
    return PW_E_BUNDLE;
  }
  if (pw_get_u32(b.at + 8) != PW_BLOB_VERSION || pw_get_u32(b.at + 12) != PW_PLAN_VERSION) {
    pw_put(t, "the library's model description has another version than its runtime: compile the model again");
    return PW_E_BUNDLE;
  }
  const uint32_t checked = AT(pw_blob_header, checksum) + 8;
  if (pw_get_u64(b.at + 16) != b.bytes || pw_get_u64(b.at + 24) != checksum(b.at + checked, b.bytes - checked)) {
    damaged(t, "its size or checksum is wrong");
    return PW_E_BUNDLE;
  }
  if (pw_get_u32(b.at + AT(pw_blob_header, arch)) != ARCH) {
    damaged(t, "it is for another architecture");
    return PW_E_BUNDLE;
  }
  b.text = table(&b, AT(pw_blob_header, text), 1, &b.text_bytes);
  const uint8_t *symbols = table(&b, AT(pw_blob_header, symbols), sizeof(pw_blob_symbol), &seed->symbols);
  const uint8_t *inputs = table(&b, AT(pw_blob_header, inputs), sizeof(pw_blob_port), &seed->inputs);
  const uint8_t *outputs = table(&b, AT(pw_blob_header, outputs), sizeof(pw_blob_port), &seed->outputs);
  const uint8_t *dims = table(&b, AT(pw_blob_header, dims), sizeof(pw_blob_dim), &count);
  seed->origins = table(&b, AT(pw_blob_header, origins), sizeof(pw_blob_text), &seed->origin_count);
  seed->epochs = table(&b, AT(pw_blob_header, epochs), sizeof(pw_blob_epoch), &seed->epoch_count);
  uint32_t item_count;
  const uint8_t *items = table(&b, AT(pw_blob_header, items), sizeof(pw_blob_item), &item_count);
  seed->texts = table(&b, AT(pw_blob_header, texts), sizeof(pw_blob_text), &seed->text_count);
  seed->text = b.text;
  if (!b.text || !symbols || !inputs || !outputs || !dims || !seed->origins || !seed->epochs || !items || !seed->texts || seed->text_count > INT32_MAX || seed->inputs > PW_MAX_PORTS ||
      seed->outputs > PW_MAX_PORTS || seed->symbols > INT32_MAX) {
    damaged(t, "a table lies outside it");
    return PW_E_BUNDLE;
  }
  for (uint32_t i = 0; i < seed->origin_count; i++) text(&b, seed->origins + (uint64_t)i * sizeof(pw_blob_text));
  for (uint32_t i = 0; i < seed->text_count; i++) {
    text(&b, seed->texts + (uint64_t)i * sizeof(pw_blob_text));
    if (!i && pw_get_u32(seed->texts + 4)) b.bad = 1;
  }
  for (uint32_t i = 0; i < seed->epoch_count; i++) {
    int32_t origin = pw_get_i32(seed->epochs + (uint64_t)i * sizeof(pw_blob_epoch));
    if (origin < -1 || origin >= (int64_t)seed->origin_count) b.bad = 1;
  }
  int64_t in_dims = ranks(inputs, seed->inputs), out_dims = ranks(outputs, seed->outputs);
  if (b.bad || in_dims < 0 || out_dims < 0) {
    damaged(t, "a number in it refers to nothing");
    return PW_E_BUNDLE;
  }
  seed->input_dims = (uint32_t)in_dims, seed->output_dims = (uint32_t)out_dims;
  seed->flags = pw_get_u32(b.at + AT(pw_blob_header, flags));
  seed->name = text(&b, b.at + AT(pw_blob_header, name));
  seed->cpu = text(&b, b.at + AT(pw_blob_header, cpu));
  seed->weight_bytes = pw_get_u64(b.at + AT(pw_blob_header, store_bytes));

  uint64_t ports = (uint64_t)seed->inputs + seed->outputs, all_dims = (uint64_t)(in_dims + out_dims);
  uint64_t head = (sizeof(pw_model) + PW_ALIGN - 1) / PW_ALIGN * PW_ALIGN;
  uint64_t bytes = head + ports * sizeof(pw_port) + all_dims * (4 * sizeof(int64_t) + sizeof(char *) + sizeof(int32_t)) +
                   item_count * sizeof(pw_item);
  uint64_t index = bytes = (bytes + 7) / 8 * 8;
  if (seed->text_count) {
    for (seed->text_room = 16; seed->text_room < 2 * (uint64_t)seed->text_count;) seed->text_room *= 2;
    bytes += seed->text_room * sizeof(uint32_t);
  }
  uint8_t *block = pw_take(seed, bytes);
  if (!block) {
    pw_put(t, "no memory for the model's description: ");
    pw_put_bytes(t, bytes);
    return PW_E_MEMORY;
  }
  pw_model *m = (pw_model *)(void *)block;
  memset(block, 0, (size_t)bytes);
  *m = *seed;
  m->in = (pw_port *)(void *)(block + head);
  m->out = m->in + m->inputs;
  pieces from;
  from.numbers = (int64_t *)(void *)(m->in + ports);
  from.symbols = (const char **)(void *)(from.numbers + 4 * all_dims);
  from.symbol = (int32_t *)(void *)(from.symbols + all_dims);
  from.items = (pw_item *)(void *)(from.symbol + all_dims), from.item_count = item_count;
  const char *fault = 0;
  for (uint32_t i = 0; i < item_count; i++) {
    const uint8_t *at = items + (uint64_t)i * sizeof(pw_blob_item);
    pw_item item = {pw_get_i32(at), pw_get_i32(at + 4), pw_get_i32(at + 8)};
    if (item.kind < PW_TENSOR || item.kind > PW_MAP || (item.kind == PW_TENSOR && !pw_dtype_bits(item.dtype)))
      fault = "an element of a list is of no kind";
    if (item.kind == PW_STRINGS) item.dtype = PW_STR;
    from.items[i] = item;
  }
  m->text_index = (uint32_t *)(void *)(block + index);
  for (uint32_t i = 0; i < m->text_count && !fault; i++) {
    pw_string text = pw_model_text(m, i);
    uint64_t at = pw_text_hash(text.data, text.bytes) & (m->text_room - 1);
    while (m->text_index[at]) at = (at + 1) & (m->text_room - 1);
    m->text_index[at] = i + 1;
  }
  for (uint32_t i = 0; i < m->inputs && !fault; i++) {
    fault = read_port(&b, m, inputs + (uint64_t)i * sizeof(pw_blob_port), dims, count, symbols, 0, &m->in[i], &from);
    m->in[i].appended_by = -1;
  }
  for (uint32_t i = 0; i < m->outputs && !fault; i++)
    fault = read_port(&b, m, outputs + (uint64_t)i * sizeof(pw_blob_port), dims, count, symbols, 1, &m->out[i], &from);
  for (uint32_t i = 0; i < m->outputs && !fault; i++) {
    const pw_port *p = &m->out[i];
    if (!(p->flags & PW_PORT_IN_PLACE)) continue;
    pw_port *q = p->alias_of >= 0 && p->append_axis >= 0 ? &m->in[p->alias_of] : 0;
    if (!q || q->rank != p->rank || q->dtype != p->dtype || p->bits < 8 || q->appended_by >= 0)
      fault = "an output in place appends to no input";
    else q->appended_by = (int32_t)i;
  }
  if (!fault && b.bad) fault = "a text lies outside it";
  if (fault) {
    damaged(t, fault);
    pw_give(m, m);
    return PW_E_BUNDLE;
  }
  *out = m;
  return PW_OK;
}

const char *pw_origin(const pw_model *m, int32_t origin) {
  if (origin < 0 || (uint32_t)origin >= m->origin_count) return 0;
  return (const char *)m->text + pw_get_u32(m->origins + (uint64_t)(uint32_t)origin * sizeof(pw_blob_text));
}

pw_string pw_model_text(const pw_model *m, uint32_t number) {
  const uint8_t *entry = m->texts + (uint64_t)number * sizeof(pw_blob_text);
  pw_string text = {(const char *)m->text + pw_get_u32(entry), pw_get_u32(entry + 4)};
  return text;
}

int32_t pw_epoch_origin(const pw_model *m, int32_t epoch) {
  return pw_get_i32(m->epochs + (uint64_t)(uint32_t)epoch * sizeof(pw_blob_epoch));
}

/* ---- the processor ---- */

static pw_status check_cpu(const pw_model *m, pw_text *t) {
  int missing = 0, tiles = 0;
  for (uint32_t bit = 0; bit < 64 * PW_FEATURE_WORDS; bit++) {
    uint64_t word = pw_get_u64(pw_model_blob + AT(pw_blob_header, features) + bit / 64 * 8);
    if (!(word >> bit % 64 & 1)) continue;
#if defined(__x86_64__)
    if (!memcmp(pw_feature_name(bit), "amx", 3)) tiles = 1;
#endif
    if (pw_os_cpu_has(bit)) continue;
    pw_put(t, missing++ ? ", " : "this machine's processor lacks ");
    pw_put(t, pw_feature_name(bit));
  }
  if (missing) {
    pw_put(t, "; the bundle was compiled for ");
    pw_put(t, m->cpu);
    pw_put(t, ". Compile it on this machine with --target host, or with a --cpu that this machine satisfies");
    return PW_E_CPU;
  }
  if (tiles && pw_os_tile_permission() != 0) {
    pw_put(t, "the system refuses the processor's matrix tiles (amx) to this process; the bundle was compiled for ");
    pw_put(t, m->cpu);
    pw_put(t, ". Compile it with a --cpu without amx, such as x86-64-v4");
    return PW_E_CPU;
  }
  return PW_OK;
}

/* ---- weights ---- */

/* Maps the store that begins at byte `at` of the file. */
static pw_status map_store(pw_model *m, const char *path, uint64_t at, pw_text *t) {
  if (!m->weight_bytes) return PW_OK;
  if (!path || !*path) {
    pw_put(t, path ? "the bundle's path is longer than the system allows" : "the bundle's folder is not given");
    return PW_E_ARGUMENT;
  }
  int fd = pw_os_open(path);
  if (fd < 0) {
    pw_put(t, path);
    if (fd == -2) pw_put(t, " is missing; a bundle compiled with --weightless is completed by `portwright pack BUNDLE --weights DIR`");
    else pw_put(t, " cannot be opened (error "), pw_put_int(t, -fd), pw_put(t, ")");
    return PW_E_BUNDLE;
  }
  pw_store_header head;
  int64_t size = pw_os_size(fd);
  uint64_t needed = m->weight_bytes <= UINT64_MAX / 4 ? m->weight_bytes + PW_STORE_DATA : UINT64_MAX;
  uint64_t there = size > 0 && (uint64_t)size >= at ? (uint64_t)size - at : 0;
  const uint8_t *layout = pw_model_blob + AT(pw_blob_header, store_layout);
  pw_status status = PW_E_BUNDLE;
  memset(&head, 0, sizeof head);
  if (there < sizeof head || pw_os_read(fd, &head, sizeof head, at) != (int64_t)sizeof head ||
      memcmp(head.magic, PW_STORE_MAGIC, 8) || head.version != PW_STORE_VERSION) {
    pw_put(t, path), pw_put(t, " is not a weight store of this version");
  } else if (memcmp(head.layout, layout, sizeof head.layout) || head.data_bytes != m->weight_bytes) {
    pw_put(t, path), pw_put(t, " holds the weights of another model or another compilation of it");
  } else if (there < needed) {
    pw_put(t, path), pw_put(t, " is too short: "), pw_put_bytes(t, there);
    pw_put(t, ", expected "), pw_put_bytes(t, needed);
  } else if (!(m->store = pw_os_map_file(fd, at, needed))) {
    pw_put(t, path), pw_put(t, " cannot be mapped: no address space for "), pw_put_bytes(t, needed);
    status = PW_E_MEMORY;
  } else {
    m->store_bytes = needed;
    m->weights = (const uint8_t *)m->store + PW_STORE_DATA;
    status = PW_OK;
  }
  pw_os_close(fd);
  return status;
}

/* ---- */

pw_status pw_load_at(const char *file, uint64_t at, const pw_options *options, pw_model **out, pw_text *t) {
  pw_model seed;
  memset(&seed, 0, sizeof seed);
  if (options) {
    if (options->size < AT(pw_options, max_memory_bytes)) {
      pw_put(t, "pw_options.size is not sizeof(pw_options)");
      return PW_E_ARGUMENT;
    }
    memcpy(&seed.options, options, options->size < sizeof seed.options ? options->size : sizeof seed.options);
    if (seed.options.threads < 0 || (seed.options.alloc && !seed.options.release)) {
      pw_put(t, seed.options.threads < 0 ? "pw_options.threads is negative" : "pw_options.alloc comes without release");
      return PW_E_ARGUMENT;
    }
  }
  pw_model *m = 0;
  pw_status status = read_blob(&seed, &m, t);
  if (status != PW_OK) return status;
  status = check_cpu(m, t);
  if (status == PW_OK) status = map_store(m, file, at, t);
  if (status == PW_OK) status = pw_dev_load(m, t);
  if (status != PW_OK) {
    pw_give(m, m);
    return status;
  }
  m->cpus = pw_os_cpus();
  m->threads = m->options.threads ? m->options.threads : m->cpus;
  if (m->threads > PW_MAX_THREADS) m->threads = PW_MAX_THREADS;
  m->references = 1;
  pw_pool_retain();
  *out = m;
  return PW_OK;
}

pw_status pw_load(const char *dir, const pw_options *options, pw_model **out, pw_text *t) {
  static const char file[] = "/weights/store.bin";
  char path[4096];
  uint64_t n = 0;
  while (dir && dir[n] && n < sizeof path) n++;
  if (!dir) return pw_load_at(0, 0, options, out, t);
  if (n + sizeof file > sizeof path) return pw_load_at("", 0, options, out, t);
  memcpy(path, dir, n);
  memcpy(path + n, file, sizeof file);
  return pw_load_at(path, 0, options, out, t);
}

void pw_model_release(pw_model *m) {
  if (__c11_atomic_fetch_sub(&m->references, 1, __ATOMIC_ACQ_REL) != 1) return;
  pw_dev_unload(m);
  pw_pool_release();
  pw_os_unmap(m->store, m->store_bytes);
  pw_give(m, m);
}
