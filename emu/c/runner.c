/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Runs a bundle on a machine of its own architecture for a program on another one: a static program without a C library that
 * an emulator executes. It maps the bundle's library as it lies in the bundle, calls it through its C ABI, and answers requests
 * on stdin with replies on stdout. Words are 64 bits, little-endian; a text is its length and its bytes.
 *
 *   hello    MAGIC, status, text; when the status is PW_OK: first address of the library, its bytes, inputs, outputs
 *   inputs   count, then of each: kind, dtype, name, rank, of each dim (is it symbolic, text, smallest, largest), largest size in
 *            bytes, alias, items (as pw_info has them: count, then of each kind, dtype and rank)
 *   value    kind; of a tensor dtype, rank, dims, bytes, data; of texts dtype, rank, dims, count, texts; of a list count, values
 *   request  1, count of inputs, then a value each
 *   reply    status, text, nanoseconds; when the status is PW_OK, a value for each output
 *
 * It ends with stdin, or with the process that started it.
 */
#include "portwright.h"

/* ---- the system: calls by number, as the library's own os_linux.c makes them ------------------------------------------- */

#if defined(__x86_64__)
enum { SYS_read = 0, SYS_write = 1, SYS_close = 3, SYS_lseek = 8, SYS_mmap = 9, SYS_mprotect = 10, SYS_munmap = 11, SYS_pread = 17,
       SYS_prctl = 157, SYS_clock = 228, SYS_exit = 231, SYS_openat = 257, SYS_limit = 302 };
static long sys(long n, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
__asm__(".globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");
enum { MACHINE = 62, R_WORD = 1, R_GOT = 6, R_CALL = 7, R_RELATIVE = 8, R_MODULE = 16, R_OFFSET = 17, R_DESC = -1 };
#else
enum { SYS_openat = 56, SYS_close = 57, SYS_lseek = 62, SYS_read = 63, SYS_write = 64, SYS_pread = 67, SYS_exit = 94, SYS_clock = 113,
       SYS_prctl = 167, SYS_munmap = 215, SYS_mmap = 222, SYS_mprotect = 226, SYS_limit = 261 };
#if defined(__aarch64__)
#define REG(n) "x" #n
#define NUMBER "x8"
#define TRAP "svc 0"
#define CLOBBER "memory"
__asm__(".globl _start\n_start:\n mov x29, xzr\n mov x30, xzr\n mov x0, sp\n b begin\n");
/* The resolver of a descriptor gives the variable's distance from the thread pointer and keeps every other register. */
__asm__(".globl described\ndescribed:\n ldr x0, [x0, #8]\n ret\n");
enum { MACHINE = 183, R_WORD = 257, R_GOT = 1025, R_CALL = 1026, R_RELATIVE = 1027, R_MODULE = 1028, R_OFFSET = 1029, R_DESC = 1031 };
#elif defined(__riscv)
#define REG(n) "a" #n
#define NUMBER "a7"
#define TRAP "ecall"
#define CLOBBER "memory"
__asm__(".globl _start\n_start:\n mv a0, sp\n tail begin\n");
enum { MACHINE = 243, R_WORD = 2, R_GOT = -1, R_CALL = 5, R_RELATIVE = 3, R_MODULE = 7, R_OFFSET = 9, R_DESC = -2 };
#elif defined(__loongarch__)
#define REG(n) "$a" #n
#define NUMBER "$a7"
#define TRAP "syscall 0"
#define CLOBBER "memory", "$t0", "$t1", "$t2", "$t3", "$t4", "$t5", "$t6", "$t7", "$t8"
__asm__(".globl _start\n_start:\n move $a0, $sp\n b begin\n");
enum { MACHINE = 258, R_WORD = 2, R_GOT = -1, R_CALL = 5, R_RELATIVE = 3, R_MODULE = 7, R_OFFSET = 9, R_DESC = -2 };
#endif
static long sys(long n, long a, long b, long c, long d, long e, long f) {
  register long number __asm__(NUMBER) = n;
  register long r0 __asm__(REG(0)) = a;
  register long r1 __asm__(REG(1)) = b;
  register long r2 __asm__(REG(2)) = c;
  register long r3 __asm__(REG(3)) = d;
  register long r4 __asm__(REG(4)) = e;
  register long r5 __asm__(REG(5)) = f;
  __asm__ volatile(TRAP : "+r"(r0) : "r"(number), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : CLOBBER);
  return r0;
}
#endif

static int failed(long result) { return result < 0 && result > -4096; }

static void *map(uint64_t bytes, long near) {
  long at = sys(SYS_mmap, near, (long)bytes, 3 /* read, write */, 0x22 /* private, anonymous */, -1, 0);
  return failed(at) ? 0 : (void *)at;
}

_Noreturn static void leave(int code) {
  for (;;) sys(SYS_exit, code, 0, 0, 0, 0, 0);
}

static uint64_t now(void) {
  int64_t time[2] = {0, 0};
  sys(SYS_clock, 1 /* monotonic */, (long)time, 0, 0, 0, 0);
  return (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
}

/* ---- what a library finds in its process's C library ----------------------------------------------------------------- */

typedef uint64_t __attribute__((may_alias, aligned(1))) word;

void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
  char *t = to;
  const char *f = from;
  for (; bytes >= 8; bytes -= 8, t += 8, f += 8) *(word *)t = *(const word *)f;
  for (; bytes; bytes--) *t++ = *f++;
  return to;
}

void *memmove(void *to, const void *from, size_t bytes) {
  char *t = to;
  const char *f = from;
  if ((uintptr_t)t - (uintptr_t)f >= bytes) return memcpy(to, from, bytes);
  while (bytes--) t[bytes] = f[bytes];
  return to;
}

void *memset(void *to, int byte, size_t bytes) {
  char *t = to;
  uint64_t eight = (uint64_t)(unsigned char)byte * 0x0101010101010101u;
  for (; bytes >= 8; bytes -= 8, t += 8) *(word *)t = eight;
  for (; bytes; bytes--) *t++ = (char)byte;
  return to;
}

int memcmp(const void *a, const void *b, size_t bytes) {
  const unsigned char *x = a, *y = b;
  for (; bytes; bytes--, x++, y++) {
    if (*x != *y) return *x - *y;
  }
  return 0;
}

static const uint64_t *auxiliary;

static unsigned long aux_value(unsigned long type) {
  for (const uint64_t *a = auxiliary; a && *a; a += 2) {
    if (*a == type) return a[1];
  }
  return 0;
}

/* One thread, one library: its thread-local variables lie here. */
static _Alignas(64) char thread_local_data[16384];
typedef struct { uint64_t module, offset; } tls_index;

static void *tls_address(const tls_index *index) {
#if defined(__riscv)
  return thread_local_data + (int64_t)(index->offset + 0x800);
#else
  return thread_local_data + (int64_t)index->offset;
#endif
}

static const struct { const char *name; void *at; } OFFERED[] = {
  {"memcpy", (void *)memcpy},         {"memmove", (void *)memmove},         {"memset", (void *)memset},
  {"memcmp", (void *)memcmp},         {"getauxval", (void *)aux_value},     {"__tls_get_addr", (void *)tls_address},
};

static int same(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

/* ---- the loader: just what a bundle's library needs -------------------------------------------------------------------- */

typedef struct {
  unsigned char ident[16];
  uint16_t type, machine;
  uint32_t version;
  uint64_t entry, programs, sections;
  uint32_t flags;
  uint16_t header_bytes, program_bytes, program_count, section_bytes, section_count, names;
} file_header;
typedef struct { uint32_t type, flags; uint64_t offset, address, physical, file_bytes, bytes, align; } segment;
typedef struct { int64_t tag; uint64_t value; } dynamic;
typedef struct { uint32_t name; unsigned char info, other; uint16_t section; uint64_t value, bytes; } symbol;
typedef struct { uint64_t offset, info; int64_t addend; } relocation;

/* Where the library is put, so that whoever follows the execution knows its addresses before it begins. */
#define PLACE 0x2000000000l
#define MOST_SEGMENTS 32

static struct { char *base; uint64_t bytes; const symbol *symbols; const char *names; uint64_t symbol_count; } lib;

static int read_at(int fd, void *to, uint64_t bytes, uint64_t offset) {
  uint64_t done = 0;
  while (done < bytes) {
    long n = sys(SYS_pread, fd, (long)((char *)to + done), (long)(bytes - done), (long)(offset + done), 0, 0);
    if (n <= 0) return -1;
    done += (uint64_t)n;
  }
  return 0;
}

static const char *resolve(uint32_t index, int64_t *value) {
  const symbol *s = &lib.symbols[index];
  const char *name = lib.names + s->name;
  *value = 0;
  if (s->section) {
    *value = (s->info & 15) == 6 /* thread-local */ ? (int64_t)s->value : (int64_t)(lib.base + s->value);
    return 0;
  }
  for (size_t i = 0; i < sizeof OFFERED / sizeof *OFFERED; i++) {
    if (same(name, OFFERED[i].name)) {
      *value = (int64_t)OFFERED[i].at;
      return 0;
    }
  }
  return s->info >> 4 == 2 /* weak */ ? 0 : name;
}

#if defined(__aarch64__)
extern char described[];
#endif

static const char *relocate(const relocation *r, uint64_t bytes) {
  for (; bytes >= sizeof *r; bytes -= sizeof *r, r++) {
    int kind = (int)(uint32_t)r->info;
    int64_t value = 0, *at = (int64_t *)(lib.base + r->offset);
    const char *missing = r->info >> 32 ? resolve((uint32_t)(r->info >> 32), &value) : 0;
    if (missing) return missing;
    if (kind == R_RELATIVE) *at = (int64_t)lib.base + r->addend;
    else if (kind == R_WORD || kind == R_GOT || kind == R_CALL) *at = value + r->addend;
    else if (kind == R_MODULE) *at = 1;
#if defined(__riscv)
    else if (kind == R_OFFSET) *at = value + r->addend - 0x800;
#else
    else if (kind == R_OFFSET) *at = value + r->addend;
#endif
#if defined(__aarch64__)
    else if (kind == R_DESC) {
      uint64_t pointer;
      __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
      at[0] = (int64_t)described;
      at[1] = (int64_t)thread_local_data - (int64_t)pointer + value + r->addend;
    }
#endif
    else return "a relocation of a kind that this loader does not know";
  }
  return 0;
}

/* Maps the library at `path`; null, or what is wrong. */
static const char *load_library(const char *path) {
  static segment segments[MOST_SEGMENTS];
  file_header h;
  int fd = (int)sys(SYS_openat, -100 /* the working directory */, (long)path, 02000000 /* read-only, close on exec */, 0, 0, 0);
  if (fd < 0) return "lib/libmodel.so cannot be opened";
  if (read_at(fd, &h, sizeof h, 0) || memcmp(h.ident, "\177ELF\2\1", 6) || h.type != 3 /* shared */) {
    return "lib/libmodel.so is no 64-bit little-endian shared library";
  }
  if (h.machine != MACHINE) return "lib/libmodel.so was compiled for another machine";
  if (h.program_count > MOST_SEGMENTS || read_at(fd, segments, h.program_count * sizeof *segments, h.programs)) {
    return "lib/libmodel.so has a damaged list of segments";
  }
  const dynamic *d = 0;
  const segment *s, *end = segments + h.program_count;
  for (s = segments; s < end; s++) {
    if (s->type == 1 && s->address + s->bytes > lib.bytes) lib.bytes = s->address + s->bytes;
  }
  lib.bytes = (lib.bytes + 0xffff) & ~0xffffull;
  lib.base = map(lib.bytes, PLACE);
  if (!lib.base) return "no memory for lib/libmodel.so";
  for (s = segments; s < end; s++) {
    if (s->type == 1 && (s->file_bytes > s->bytes || read_at(fd, lib.base + s->address, s->file_bytes, s->offset))) {
      return "lib/libmodel.so is shorter than its segments";
    }
    if (s->type == 2) d = (const dynamic *)(lib.base + s->address);
    if (s->type == 7 && s->bytes > sizeof thread_local_data) return "lib/libmodel.so has too many thread-local variables";
  }
  for (s = segments; s < end; s++) {
    if (s->type == 7) memcpy(thread_local_data, lib.base + s->address, s->file_bytes);
  }
  sys(SYS_close, fd, 0, 0, 0, 0, 0);
  const relocation *tables[2] = {0, 0};
  uint64_t sizes[2] = {0, 0};
  for (; d && d->tag; d++) {
    if (d->tag == 5) lib.names = lib.base + d->value;
    if (d->tag == 6) lib.symbols = (const symbol *)(lib.base + d->value);
    if (d->tag == 7) tables[0] = (const relocation *)(lib.base + d->value);
    if (d->tag == 8) sizes[0] = d->value;
    if (d->tag == 23) tables[1] = (const relocation *)(lib.base + d->value);
    if (d->tag == 2) sizes[1] = d->value;
    if (d->tag == 35 || d->tag == 12 || d->tag == 25) return "lib/libmodel.so needs more than this loader does";
  }
  if (!lib.symbols || !lib.names) return "lib/libmodel.so has no symbols";
  for (int i = 0; i < 2; i++) {
    const char *wrong = relocate(tables[i], sizes[i]);
    if (wrong) return wrong;
  }
  for (s = segments; s < end; s++) {
    uint64_t from = s->address & ~0xfffull, to = (s->address + s->bytes + 0xfff) & ~0xfffull;
    int rights = (s->flags & 4 ? 1 : 0) | (s->flags & 2 ? 2 : 0) | (s->flags & 1 ? 4 : 0);
    if (s->type == 1 && failed(sys(SYS_mprotect, (long)(lib.base + from), (long)(to - from), rights, 0, 0, 0))) {
      return "lib/libmodel.so cannot be made executable";
    }
  }
  /* Nothing was ever executed at these addresses, so an emulator has no instructions of them to forget. */
  return 0;
}

/* The address of an exported symbol: the symbol table ends where the names begin. */
static void *exported(const char *name) {
  for (const symbol *s = lib.symbols + 1; (const char *)(s + 1) <= lib.names; s++) {
    if (s->section && s->info >> 4 && same(lib.names + s->name, name)) return lib.base + s->value;
  }
  return 0;
}

/* ---- requests and replies ------------------------------------------------------------------------------------------- */

#include "talk.h"

static long put_bytes(int to, const void *from, uint64_t bytes) {
  long n = sys(SYS_write, to, (long)from, (long)bytes, 0, 0, 0);
  return n == -4 /* interrupted */ ? -1 : n < 0 ? 0 : n;
}

static long get_bytes(void *to, uint64_t bytes) {
  long n = sys(SYS_read, 0, (long)to, (long)bytes, 0, 0, 0);
  return n == -4 /* interrupted */ ? -1 : n < 0 ? 0 : n;
}

static void unmap(void *at, uint64_t bytes) { sys(SYS_munmap, (long)at, (long)bytes, 0, 0, 0, 0); }

_Noreturn __attribute__((used)) void begin(const uint64_t *stack) {
  uint64_t arguments = stack[0];
  const char *const *argument = (const char *const *)(stack + 1);
  const uint64_t *environment = stack + 2 + arguments;
  while (*environment) environment++;
  auxiliary = environment + 1;
  static const uint64_t none[2] = {0, 0};
  sys(SYS_prctl, 1 /* death signal */, 9, 0, 0, 0, 0);
  sys(SYS_limit, 0, 4 /* core files */, (long)none, 0, 0, 0);

  static char path[4096];
  static const char file[] = "/lib/libmodel.so";
  uint64_t n = 0;
  if (arguments < 2) refuse(PW_E_ARGUMENT, "no bundle is named");
  while (argument[1][n] && n < sizeof path - sizeof file) path[n] = argument[1][n], n++;
  if (argument[1][n]) refuse(PW_E_ARGUMENT, "the bundle's path is too long");
  memcpy(path + n, file, sizeof file);
  const char *wrong = load_library(path);
  if (wrong) refuse(PW_E_BUNDLE, wrong);
  union { void *at; const pw_api *(*call)(uint32_t); } entry = {exported("pw_bundle_api")};
  const pw_api *api = entry.at ? entry.call(PW_ABI_MAJOR) : 0;
  if (!api) refuse(PW_E_BUNDLE, "the bundle speaks another version of the ABI");
  serve(api, argument[1], lib.base, lib.bytes, arguments > 2);
}
