/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Arrays of numpy as tensors and back. Dtypes that numpy lacks are stored as their bits: bf16 in uint16, 8-bit floats in uint8, types
 * under a byte one element a byte, signed ones sign-extended in int8. */
#include "program.h"

#define MOST_HEADER (1u << 20)

enum { AS_U8 = PW_U8, AS_I8 = PW_I8, AS_U16 = PW_U16 };

static const struct {
  int32_t dtype;
  const char *descr, *other; /* other: how numpy stores what it does not know */
} kinds[] = {
    {PW_F32, "<f4", 0},     {PW_U8, "|u1", "|V1"}, {PW_I8, "|i1", 0},  {PW_U16, "<u2", "|V2"}, {PW_I16, "<i2", 0},
    {PW_I32, "<i4", 0},     {PW_I64, "<i8", 0},    {PW_BOOL, "|b1", 0}, {PW_F16, "<f2", 0},     {PW_F64, "<f8", 0},
    {PW_U32, "<u4", 0},     {PW_U64, "<u8", 0},    {PW_C64, "<c8", 0},  {PW_C128, "<c16", 0},
};

/* The dtype of the numbers that stand for such a tensor. */
static int32_t stored_as(int32_t dtype) {
  if (dtype == PW_BF16) return AS_U16;
  if (dtype == PW_I4 || dtype == PW_I2) return AS_I8;
  return dtype > PW_BF16 ? AS_U8 : dtype;
}

static int32_t kind_of(int32_t dtype) {
  for (uint32_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (kinds[i].dtype == stored_as(dtype)) return (int32_t)i;
  return -1;
}

const char *pw_npy_descr(int32_t dtype) {
  int32_t k = kind_of(dtype);
  return k < 0 ? 0 : kinds[k].descr;
}

/* ---- the header: a Python literal of one dict ---- */

typedef struct {
  const uint8_t *at, *end;
  const uint8_t *descr;
  uint32_t descr_bytes;
  int fortran, rank;
  int64_t dims[PW_MAX_RANK];
} header;

static int peek(header *h) {
  while (h->at < h->end && (*h->at == ' ' || *h->at == '\n' || *h->at == '\t' || *h->at == '\r')) h->at++;
  return h->at < h->end ? *h->at : -1;
}

static int accept(header *h, int c) {
  if (peek(h) != c) return 0;
  h->at++;
  return 1;
}

static int quoted(header *h, const uint8_t **text, uint32_t *bytes) {
  int quote = peek(h);
  if (quote != '\'' && quote != '"') return 0;
  const uint8_t *begin = ++h->at;
  while (h->at < h->end && *h->at != quote && *h->at != '\\') h->at++;
  if (h->at == h->end || *h->at != quote) return 0;
  *text = begin, *bytes = (uint32_t)(h->at++ - begin);
  return 1;
}

static int word(header *h, const char *text) {
  const uint8_t *p = h->at;
  for (; *text; text++, p++)
    if (p >= h->end || *p != (uint8_t)*text) return 0;
  h->at = p;
  return 1;
}

static int shape(header *h) {
  if (!accept(h, '(')) return 0;
  for (h->rank = 0; !accept(h, ')');) {
    int64_t n = 0;
    int c = peek(h);
    if (c < '0' || c > '9' || h->rank == PW_MAX_RANK) return 0;
    for (; h->at < h->end && *h->at >= '0' && *h->at <= '9'; h->at++)
      if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *h->at - '0', &n)) return 0;
    accept(h, 'L'); /* Python 2 wrote long integers so */
    h->dims[h->rank++] = n;
    if (!accept(h, ',') && peek(h) != ')') return 0;
  }
  return 1;
}

/* What is wrong with it, or null. */
static const char *parse_header(header *h) {
  int seen = 0;
  if (!accept(h, '{')) return "its header is damaged";
  while (!accept(h, '}')) {
    const uint8_t *key;
    uint32_t n;
    if (!quoted(h, &key, &n) || !accept(h, ':')) return "its header is damaged";
    peek(h);
    if (n == 5 && !memcmp(key, "descr", 5)) {
      if (!quoted(h, &h->descr, &h->descr_bytes)) return "its dtype is a struct; arrays of numbers are read";
      seen |= 1;
    } else if (n == 13 && !memcmp(key, "fortran_order", 13)) {
      h->fortran = word(h, "True");
      if (!h->fortran && !word(h, "False")) return "its header has no good fortran_order";
      seen |= 2;
    } else if (n == 5 && !memcmp(key, "shape", 5)) {
      if (!shape(h)) return "its header has no good shape";
      seen |= 4;
    } else {
      return "its header is damaged";
    }
    if (!accept(h, ',') && peek(h) != '}') return "its header is damaged";
  }
  return seen == 7 ? 0 : "its header is damaged";
}

/* ---- reading ---- */

static int wrong(pw_text *t, const char *what) {
  pw_put(t, what);
  return PW_EXIT_INPUT;
}

/* Whether the array's dtype is that one, the order of bytes aside. */
static int is_kind(const header *h, const char *kind) {
  uint32_t n = 1;
  if (!kind || !h->descr_bytes) return 0;
  while (kind[n]) n++;
  return h->descr_bytes == n && !memcmp(h->descr + 1, kind + 1, n - 1);
}

static int check_dtype(const header *h, int32_t dtype, pw_text *t) {
  int32_t k = kind_of(dtype);
  int match = k >= 0 && (is_kind(h, kinds[k].descr) || is_kind(h, kinds[k].other));
  int order = h->descr_bytes ? h->descr[0] : 0;
  if (match && (order == '<' || order == '|' || order == '=' || h->descr[1] == 'V' || kinds[k].descr[0] == '|')) return 0;
  pw_put(t, "its dtype is '");
  pw_put_bytes_of(t, h->descr, h->descr_bytes);
  pw_put(t, match ? "' (big-endian), expected '" : "', expected '");
  pw_put(t, k < 0 ? "?" : kinds[k].descr);
  pw_put(t, "'");
  if (stored_as(dtype) != dtype) pw_put(t, " with the bits of "), pw_put_dtype(t, dtype);
  return PW_EXIT_INPUT;
}

/* From one element a byte to elements packed as the C ABI has them, in place: low bits first. */
static int pack(uint8_t *data, uint64_t count, int32_t dtype, pw_text *t) {
  uint32_t bits = pw_dtype_bits(dtype), each = 8 / bits, mask = (1u << bits) - 1;
  int is_signed = stored_as(dtype) == AS_I8;
  for (uint64_t i = 0; i < count; i++) {
    int32_t v = is_signed ? (int8_t)data[i] : data[i], low = is_signed ? -(1 << (bits - 1)) : 0;
    if (v < low || v > low + (int32_t)mask) {
      pw_put(t, "the value "), pw_put_int(t, v), pw_put(t, " does not fit "), pw_put_dtype(t, dtype);
      return PW_EXIT_INPUT;
    }
    /* Byte i / each was read before: element i lies at or behind it. */
    uint8_t slot = i % each ? data[i / each] : 0;
    data[i / each] = (uint8_t)(slot | ((uint32_t)v & mask) << (bits * (uint32_t)(i % each)));
  }
  return 0;
}

int pw_array_read(const pw_archive *a, const pw_entry *e, int32_t dtype, pw_array *out, pw_text *t) {
  memset(out, 0, sizeof *out);
  uint8_t *file;
  int exit = pw_archive_read(a, e, &file, t);
  if (exit) return exit;
  header h;
  memset(&h, 0, sizeof h);
  uint64_t head = 0, length = 0;
  const char *fault = 0;
  if (e->bytes < 12 || memcmp(file, "\x93NUMPY", 6)) fault = "it is not an .npy file";
  else if (file[6] < 1 || file[6] > 3) fault = "it is of a version of the .npy format that does not exist yet";
  if (!fault) {
    head = file[6] == 1 ? 10 : 12;
    length = file[6] == 1 ? (uint64_t)file[8] | (uint64_t)file[9] << 8 : pw_get_u32(file + 8);
    if (length > MOST_HEADER || length > e->bytes - head) fault = "its header is damaged";
  }
  if (!fault) {
    h.at = file + head, h.end = h.at + length;
    fault = parse_header(&h);
  }
  if (fault) exit = wrong(t, fault);
  else exit = check_dtype(&h, dtype, t);
  if (!exit && h.fortran && h.rank > 1) exit = wrong(t, "its elements are in Fortran order, expected C order (numpy.ascontiguousarray)");
  uint32_t bits = pw_dtype_bits(stored_as(dtype));
  int64_t bytes = exit ? 0 : pw_bytes_of(h.dims, h.rank, bits);
  if (!exit && (bytes < 0 || (uint64_t)bytes != e->bytes - head - length)) {
    pw_put(t, "its shape is "), pw_put_shape(t, h.dims, h.rank), pw_put(t, ", which is not the ");
    pw_put_bytes(t, e->bytes - head - length), pw_put(t, " that it has");
    exit = PW_EXIT_INPUT;
  }
  if (!exit) {
    uint8_t *data = file + head + length;
    uint64_t word_bytes = bits >= 64 ? 8 : bits / 8;
    if ((uintptr_t)data & (word_bytes - 1)) data = memmove(file, data, (size_t)bytes);
    if (dtype == PW_BOOL)
      for (int64_t i = 0; i < bytes; i++) data[i] = data[i] != 0;
    if (pw_dtype_bits(dtype) < 8) exit = pack(data, (uint64_t)bytes, dtype, t);
    out->memory = file, out->data = data, out->rank = h.rank;
    out->bytes = (uint64_t)pw_bytes_of(h.dims, h.rank, pw_dtype_bits(dtype));
    memcpy(out->dims, h.dims, sizeof h.dims);
  }
  if (exit) {
    free(file);
    out->memory = 0;
  }
  return exit;
}

/* ---- writing ---- */

/* A file that is gathered in a buffer; the first error stays. */
typedef struct {
  int fd, error;
  uint64_t at, held;
  uint32_t crc;
  uint8_t buffer[1 << 16];
} sink;

static void flush(sink *s) {
  for (uint64_t done = 0; done < s->held && !s->error;) {
    long n = write(s->fd, s->buffer + done, (size_t)(s->held - done));
    if (n >= 0) done += (uint64_t)n;
    else if (*__errno_location() != 4 /* interrupted */) s->error = *__errno_location();
  }
  s->held = 0;
}

static void put(sink *s, const void *from, uint64_t bytes) {
  const uint8_t *p = from;
  s->at += bytes;
  while (bytes) {
    uint64_t n = sizeof s->buffer - s->held < bytes ? sizeof s->buffer - s->held : bytes;
    memcpy(s->buffer + s->held, p, (size_t)n);
    s->held += n, p += n, bytes -= n;
    if (s->held == sizeof s->buffer) flush(s);
  }
}

static void number(sink *s, uint64_t v, uint32_t bytes) {
  uint8_t little[8];
  for (uint32_t i = 0; i < bytes; i++) little[i] = (uint8_t)(v >> 8 * i);
  put(s, little, bytes);
}

/* Gives the elements as they are stored to `take`: for types under a byte one a byte. */
static void elements(const pw_named *a, void (*take)(sink *, const uint8_t *, uint64_t), sink *s) {
  uint32_t bits = pw_dtype_bits(a->dtype);
  const uint8_t *data = a->data;
  if (bits >= 8) {
    take(s, data, (uint64_t)pw_bytes_of(a->dims, a->rank, bits));
    return;
  }
  uint8_t part[4096];
  uint64_t count = (uint64_t)pw_bytes_of(a->dims, a->rank, 8), each = 8 / bits, mask = (1u << bits) - 1;
  int is_signed = stored_as(a->dtype) == AS_I8;
  for (uint64_t i = 0, n = 0; i < count; i++) {
    uint32_t v = data[i / each] >> bits * (i % each) & mask;
    if (is_signed && v >> (bits - 1)) v |= ~(uint32_t)mask;
    part[n++] = (uint8_t)v;
    if (n == sizeof part || i + 1 == count) take(s, part, n), n = 0;
  }
}

static void sum(sink *s, const uint8_t *from, uint64_t bytes) { s->crc = pw_crc(s->crc, from, bytes); }
static void keep(sink *s, const uint8_t *from, uint64_t bytes) { put(s, from, bytes); }

/* The head of an .npy file of version 1, closed so that the data begins at a multiple of 64. */
static uint64_t npy_head(const pw_named *a, char *out, uint64_t room) {
  pw_text t = pw_text_in(out + 10, room - 80);
  pw_put(&t, "{'descr': '"), pw_put(&t, pw_npy_descr(a->dtype)), pw_put(&t, "', 'fortran_order': False, 'shape': (");
  for (int32_t i = 0; i < a->rank; i++) pw_put(&t, i ? ", " : ""), pw_put_int(&t, a->dims[i]);
  pw_put(&t, a->rank == 1 ? ",), }" : "), }");
  uint64_t n = (uint64_t)(t.at - out);
  while ((n + 1) % 64) out[n++] = ' ';
  out[n++] = '\n';
  memcpy(out, "\x93NUMPY\1\0", 8);
  out[8] = (char)(n - 10), out[9] = (char)((n - 10) >> 8);
  return n;
}

/* A header of the archive, its own or that in the directory. Sizes beyond 31 bits are said in 64 bits behind the name. */
static void zip_head(sink *s, const pw_named *a, uint64_t at, uint64_t bytes, uint32_t crc, int large, int central) {
  uint64_t name = 0, ascii = 1;
  for (; a->name[name]; name++) ascii &= (uint8_t)a->name[name] < 128;
  uint32_t version = large ? 45 : 10, extra = !large ? 0 : central ? 28 : 20;
  put(s, central ? "PK\1\2" : "PK\3\4", 4);
  if (central) number(s, 3u << 8 | version, 2); /* made on Unix */
  number(s, version, 2), number(s, ascii ? 0 : 1u << 11, 2), number(s, 0, 2);
  number(s, 0, 2), number(s, 0x21, 2); /* midnight of 1980-01-01 */
  number(s, crc, 4);
  for (int i = 0; i < 2; i++) number(s, large ? 0xffffffffu : bytes, 4);
  number(s, name + 4, 2), number(s, extra, 2);
  if (central) number(s, 0, 2), number(s, 0, 2), number(s, 0, 2), number(s, 0100644u << 16, 4), number(s, large ? 0xffffffffu : at, 4);
  put(s, a->name, name), put(s, ".npy", 4);
  if (!large) return;
  number(s, 1, 2), number(s, extra - 4, 2), number(s, bytes, 8), number(s, bytes, 8);
  if (central) number(s, at, 8);
}

/* Room for the head of an array: 20 digits and two characters a dim. */
enum { HEAD_ROOM = 256 + PW_MAX_RANK * 24 };

static void write_all(sink *s, const pw_named *arrays, uint64_t count, uint64_t *at, uint32_t *crc) {
  char head[HEAD_ROOM];
  int large = 0;
  for (uint64_t i = 0; i < count; i++) large |= pw_bytes_of(arrays[i].dims, arrays[i].rank, pw_dtype_bits(arrays[i].dtype)) > 1ll << 31;
  for (uint64_t i = 0; i < count; i++) {
    const pw_named *a = &arrays[i];
    uint64_t n = npy_head(a, head, sizeof head), stored = (uint64_t)pw_bytes_of(a->dims, a->rank, pw_dtype_bits(stored_as(a->dtype)));
    s->crc = pw_crc(0, (const uint8_t *)head, n);
    elements(a, sum, s);
    at[i] = s->at, crc[i] = s->crc;
    zip_head(s, a, 0, n + stored, s->crc, large || s->at >= 0xffffffffu, 0);
    put(s, head, n);
    elements(a, keep, s);
  }
  uint64_t directory = s->at;
  for (uint64_t i = 0; i < count; i++) {
    const pw_named *a = &arrays[i];
    uint64_t n = npy_head(a, head, sizeof head), stored = (uint64_t)pw_bytes_of(a->dims, a->rank, pw_dtype_bits(stored_as(a->dtype)));
    zip_head(s, a, at[i], n + stored, crc[i], large || at[i] >= 0xffffffffu, 1);
  }
  uint64_t bytes = s->at - directory, end = s->at;
  int wide = directory >= 0xffffffffu || bytes >= 0xffffffffu || count >= 0xffff;
  if (wide) {
    put(s, "PK\6\6", 4), number(s, 44, 8), number(s, 45, 2), number(s, 45, 2), number(s, 0, 4), number(s, 0, 4);
    number(s, count, 8), number(s, count, 8), number(s, bytes, 8), number(s, directory, 8);
    put(s, "PK\6\7", 4), number(s, 0, 4), number(s, end, 8), number(s, 1, 4);
  }
  put(s, "PK\5\6", 4), number(s, 0, 4);
  for (int i = 0; i < 2; i++) number(s, wide ? 0xffff : count, 2);
  number(s, wide ? 0xffffffffu : bytes, 4), number(s, wide ? 0xffffffffu : directory, 4), number(s, 0, 2);
  flush(s);
}

enum { WRITE = 01, CREATE = 0100, MUST_BE_NEW = 0200, NO_WAIT = 04000, CLOSE_ON_EXEC = 02000000, SET_FLAGS = 4 };
enum { NO_READER = 6, INVALID = 22 };

/* Opens what is there and must not be replaced: a pipe or a device, for only files can be given a size. It is opened once, since the reader
 * of a pipe takes it for ended when its writer closes. 0 where nothing such is there; else what to write to, negative on error, is in *fd. */
static int open_pipe_or_device(const char *path, int *fd) {
  *fd = open(path, WRITE | NO_WAIT | CLOSE_ON_EXEC);
  if (*fd < 0 && *__errno_location() == NO_READER) {
    *fd = open(path, WRITE | CLOSE_ON_EXEC); /* waits for one */
    return 1;
  }
  if (*fd < 0) return 0;
  int64_t size = pw_os_size(*fd);
  if (ftruncate(*fd, size < 0 ? 0 : size) && *__errno_location() == INVALID) {
    fcntl(*fd, SET_FLAGS, WRITE);
    return 1;
  }
  close(*fd);
  return 0;
}

int pw_archive_write(const char *path, const pw_named *arrays, uint64_t count, pw_text *t) {
  /* A link is followed: what it leads to is replaced. */
  char *real = realpath(path, 0);
  const char *target = real ? real : path;
  uint64_t n = __builtin_strlen(target);
  sink *s = malloc(sizeof *s);
  uint64_t *at = malloc((size_t)(count + 1) * sizeof *at);
  uint32_t *crc = malloc((size_t)(count + 1) * sizeof *crc);
  char *beside = malloc((size_t)n + 40);
  int exit = 0;
  if (!s || !at || !crc || !beside) {
    pw_put(t, "no memory");
    exit = PW_EXIT_MEMORY;
  } else {
    pw_text name = pw_text_in(beside, n + 40);
    pw_put(&name, target), pw_put(&name, ".new-"), pw_put_int(&name, getpid());
    int direct = open_pipe_or_device(target, &s->fd);
    if (!direct) s->fd = open(beside, WRITE | CREATE | MUST_BE_NEW | CLOSE_ON_EXEC, 0666);
    s->error = s->fd < 0 ? *__errno_location() : 0, s->at = s->held = 0;
    int opened = s->fd >= 0, made = opened && !direct;
    if (!s->error) write_all(s, arrays, count, at, crc);
    if (!s->error && made && fsync(s->fd) && *__errno_location() != INVALID) s->error = *__errno_location();
    if (opened && close(s->fd) && !s->error) s->error = *__errno_location();
    if (!s->error && made && rename(beside, target)) s->error = *__errno_location();
    if (s->error) {
      if (made) unlink(beside);
      pw_put_errno(t, s->error);
      exit = PW_EXIT_FILE;
    }
  }
  free(real), free(s), free(at), free(crc), free(beside);
  return exit;
}
