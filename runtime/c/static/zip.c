/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Zip archives as numpy writes them: entries stored or deflated, with 64-bit sizes where they are large. */
#include "program.h"

#define END_BYTES 22u
#define END64_BYTES 56u
#define LOCATOR_BYTES 20u
#define CENTRAL_BYTES 46u
#define LOCAL_BYTES 30u
/* Deflate makes at most so many bytes of one: a size beyond it is a lie, and costs no memory. */
#define MOST_INFLATED 1032u

static uint32_t u16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

uint32_t pw_crc(uint32_t crc, const uint8_t *from, uint64_t bytes) {
  static uint32_t table[4][256];
  if (!table[0][1]) {
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t c = i;
      for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
      table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
      for (int k = 1; k < 4; k++) table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
  }
  crc = ~crc;
  for (; bytes >= 4; bytes -= 4, from += 4) {
    crc ^= pw_get_u32(from);
    crc = table[3][crc & 255] ^ table[2][crc >> 8 & 255] ^ table[1][crc >> 16 & 255] ^ table[0][crc >> 24];
  }
  for (; bytes; bytes--) crc = crc >> 8 ^ table[0][(crc ^ *from++) & 255];
  return ~crc;
}

static int bad(pw_text *t, const char *what) {
  pw_put(t, "not an npz archive that can be read: ");
  pw_put(t, what);
  return PW_EXIT_INPUT;
}

static int no_memory(pw_text *t, uint64_t bytes) {
  pw_put(t, "no memory for ");
  pw_put_bytes(t, bytes);
  return PW_EXIT_MEMORY;
}

/* Exactly these bytes of the file. */
static int read_at(const pw_archive *a, void *to, uint64_t bytes, uint64_t at, pw_text *t) {
  int64_t n = pw_os_read(a->fd, to, bytes, at);
  if (n < 0) {
    pw_put_errno(t, (int)-n);
    return PW_EXIT_FILE;
  }
  return (uint64_t)n == bytes ? 0 : bad(t, "the file ends too early");
}

/* Where the directory is: at, bytes, entries. */
static int find_directory(pw_archive *a, uint64_t found[3], pw_text *t) {
  uint64_t n = a->size < 65535 + END_BYTES ? a->size : 65535 + END_BYTES, from = a->size - n;
  if (n < END_BYTES) return bad(t, "it is too short");
  uint8_t *tail = malloc(n), record[END64_BYTES];
  if (!tail) return no_memory(t, n);
  int exit = read_at(a, tail, n, from, t);
  uint64_t i = n - END_BYTES + 1;
  while (!exit && i--) {
    const uint8_t *end = tail + i;
    if (memcmp(end, "PK\5\6", 4) || u16(end + 20) > n - i - END_BYTES) continue;
    if (u16(end + 4) || u16(end + 6) || u16(end + 8) != u16(end + 10)) {
      exit = bad(t, "it is one of several volumes");
      break;
    }
    found[0] = pw_get_u32(end + 16), found[1] = pw_get_u32(end + 12), found[2] = u16(end + 10);
    if (i >= LOCATOR_BYTES && !memcmp(end - LOCATOR_BYTES, "PK\6\7", 4)) {
      uint64_t at = pw_get_u64(end - LOCATOR_BYTES + 8);
      if (at > a->size || a->size - at < END64_BYTES) exit = bad(t, "its directory lies outside it");
      else exit = read_at(a, record, sizeof record, at, t);
      if (!exit && memcmp(record, "PK\6\6", 4)) exit = bad(t, "its directory is damaged");
      if (!exit) found[0] = pw_get_u64(record + 48), found[1] = pw_get_u64(record + 40), found[2] = pw_get_u64(record + 32);
    }
    free(tail);
    if (!exit && (found[0] > from + i || found[1] > from + i - found[0])) exit = bad(t, "its directory lies outside it");
    return exit;
  }
  free(tail);
  return exit ? exit : bad(t, "it has no directory of its content");
}

/* Sizes and place of an entry that are too large for their fields stand behind the name. */
static int wide(pw_entry *e, const uint8_t *extra, uint32_t n) {
  uint64_t *fields[3] = {&e->bytes, &e->packed, &e->at};
  int missing = 0;
  for (int k = 0; k < 3; k++) missing += *fields[k] == 0xffffffffu;
  while (missing && n >= 4) {
    uint32_t kind = u16(extra), size = u16(extra + 2);
    if (size > n - 4) return 0;
    if (kind == 1) {
      const uint8_t *p = extra + 4;
      for (int k = 0; k < 3; k++) {
        if (*fields[k] != 0xffffffffu) continue;
        if (size < 8) return 0;
        *fields[k] = pw_get_u64(p);
        p += 8, size -= 8;
      }
      return 1;
    }
    extra += 4 + size, n -= 4 + size;
  }
  return !missing;
}

static int read_directory(pw_archive *a, uint64_t bytes, uint64_t count, pw_text *t) {
  const uint8_t *p = a->directory, *end = p + bytes;
  for (uint64_t i = 0; i < count; i++) {
    if (end - p < (int64_t)CENTRAL_BYTES || memcmp(p, "PK\1\2", 4)) return bad(t, "its directory is damaged");
    uint32_t name = u16(p + 28), extra = u16(p + 30), comment = u16(p + 32);
    if ((uint64_t)(end - p) - CENTRAL_BYTES < (uint64_t)name + extra + comment) return bad(t, "its directory is damaged");
    pw_entry e = {p + CENTRAL_BYTES,      name, u16(p + 10), u16(p + 8), pw_get_u32(p + 16), pw_get_u32(p + 20), pw_get_u32(p + 24),
                  pw_get_u32(p + 42)};
    if (!wide(&e, e.name + name, extra)) return bad(t, "its directory is damaged");
    p += CENTRAL_BYTES + name + extra + comment;
    if (name && e.name[name - 1] == '/') continue;
    if (name >= 4 && !memcmp(e.name + name - 4, ".npy", 4)) e.name_bytes -= 4;
    a->entries[a->count++] = e;
  }
  return 0;
}

int pw_archive_open(pw_archive *a, const char *path, pw_text *t) {
  memset(a, 0, sizeof *a);
  a->fd = pw_os_open(path);
  int64_t size = a->fd < 0 ? a->fd : pw_os_size(a->fd);
  if (size < 0) {
    pw_put_errno(t, (int)-size);
    if (a->fd >= 0) pw_os_close(a->fd);
    return PW_EXIT_FILE;
  }
  a->size = (uint64_t)size;
  uint64_t found[3] = {0, 0, 0};
  int exit = find_directory(a, found, t);
  /* An entry takes CENTRAL_BYTES at least, so the numbers here are bounded by bytes that are there. */
  if (!exit && found[2] > found[1] / CENTRAL_BYTES) exit = bad(t, "its directory is damaged");
  if (!exit) {
    a->directory_at = found[0];
    a->directory = malloc((size_t)found[1] + 1);
    a->entries = malloc((size_t)found[2] * sizeof *a->entries + 1);
    if (!a->directory || !a->entries) exit = no_memory(t, found[1] + found[2] * sizeof *a->entries);
  }
  if (!exit) exit = read_at(a, a->directory, found[1], found[0], t);
  if (!exit) exit = read_directory(a, found[1], found[2], t);
  if (exit) pw_archive_close(a);
  return exit;
}

void pw_archive_close(pw_archive *a) {
  free(a->directory), free(a->entries);
  if (a->fd >= 0) pw_os_close(a->fd);
  memset(a, 0, sizeof *a);
  a->fd = -1;
}

const pw_entry *pw_archive_find(const pw_archive *a, const char *name) {
  uint64_t n = 0;
  while (name[n]) n++;
  for (uint64_t i = 0; i < a->count; i++)
    if (a->entries[i].name_bytes == n && !memcmp(a->entries[i].name, name, n)) return &a->entries[i];
  return 0;
}

int pw_archive_read(const pw_archive *a, const pw_entry *e, uint8_t **content, pw_text *t) {
  uint8_t head[LOCAL_BYTES];
  *content = 0;
  if (e->flags & 1) return bad(t, "it is encrypted");
  if (e->method != 0 && e->method != 8) {
    bad(t, "it is compressed by method ");
    pw_put_int(t, e->method);
    pw_put(t, "; stored and deflated arrays are read, as numpy.savez and numpy.savez_compressed write them");
    return PW_EXIT_INPUT;
  }
  if (e->at > a->directory_at || a->directory_at - e->at < LOCAL_BYTES) return bad(t, "its data lies outside the archive");
  int exit = read_at(a, head, sizeof head, e->at, t);
  if (exit) return exit;
  uint64_t behind = a->directory_at - e->at - LOCAL_BYTES, names = (uint64_t)u16(head + 26) + u16(head + 28);
  if (memcmp(head, "PK\3\4", 4) || names > behind || e->packed > behind - names) return bad(t, "its data lies outside the archive");
  int deflated = e->method == 8;
  if (deflated ? e->bytes / MOST_INFLATED > e->packed : e->bytes != e->packed) return bad(t, "its size is damaged");
  uint8_t *data = malloc((size_t)e->bytes + 1), *packed = deflated ? malloc((size_t)e->packed + 1) : data;
  if (!data || !packed) {
    exit = no_memory(t, e->bytes + (deflated ? e->packed : 0));
  } else {
    exit = read_at(a, packed, e->packed, e->at + LOCAL_BYTES + names, t);
  }
  if (!exit && deflated) {
    const char *fault = pw_inflate(packed, e->packed, data, e->bytes);
    if (fault) exit = bad(t, fault);
  }
  if (packed != data) free(packed);
  if (!exit && pw_crc(0, data, e->bytes) != e->crc) exit = bad(t, "its checksum is wrong");
  if (exit) free(data);
  else *content = data;
  return exit;
}
