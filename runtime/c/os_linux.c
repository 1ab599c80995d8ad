/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Linux: system calls made directly, so that errno, its layout and the library's structs do not matter. */
#include "os.h"

int pthread_create(uintptr_t *, const void *, void *(*)(void *), void *) __attribute__((weak));
int pthread_join(uintptr_t, void **) __attribute__((weak));
int pthread_attr_init(void *) __attribute__((weak));
int pthread_attr_getstacksize(const void *, size_t *) __attribute__((weak));
int pthread_attr_setstacksize(void *, size_t) __attribute__((weak));
int pthread_attr_destroy(void *) __attribute__((weak));

#if defined(__x86_64__)
enum { SYS_close = 3, SYS_lseek = 8, SYS_mmap = 9, SYS_munmap = 11, SYS_sigmask = 14, SYS_pread = 17, SYS_yield = 24,
       SYS_madvise = 28, SYS_futex = 202, SYS_getaffinity = 204, SYS_clock = 228, SYS_openat = 257 };
static long sys(long n, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#else
enum { SYS_openat = 56, SYS_close = 57, SYS_lseek = 62, SYS_pread = 67, SYS_futex = 98, SYS_clock = 113,
       SYS_getaffinity = 123, SYS_yield = 124, SYS_sigmask = 135, SYS_munmap = 215, SYS_mmap = 222, SYS_madvise = 233 };
#if defined(__aarch64__)
#define PW_REG(n) "x" #n
#define PW_NUMBER "x8"
#define PW_TRAP "svc 0"
#define PW_CLOBBER "memory"
#elif defined(__riscv)
#define PW_REG(n) "a" #n
#define PW_NUMBER "a7"
#define PW_TRAP "ecall"
#define PW_CLOBBER "memory"
#elif defined(__loongarch__)
#define PW_REG(n) "$a" #n
#define PW_NUMBER "$a7"
#define PW_TRAP "syscall 0"
#define PW_CLOBBER "memory", "$t0", "$t1", "$t2", "$t3", "$t4", "$t5", "$t6", "$t7", "$t8"
#endif
static long sys(long n, long a, long b, long c, long d, long e, long f) {
  register long number __asm__(PW_NUMBER) = n;
  register long r0 __asm__(PW_REG(0)) = a;
  register long r1 __asm__(PW_REG(1)) = b;
  register long r2 __asm__(PW_REG(2)) = c;
  register long r3 __asm__(PW_REG(3)) = d;
  register long r4 __asm__(PW_REG(4)) = e;
  register long r5 __asm__(PW_REG(5)) = f;
  __asm__ volatile(PW_TRAP : "+r"(r0) : "r"(number), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : PW_CLOBBER);
  return r0;
}
#endif

static int failed(long result) { return result < 0 && result > -4096; }

void *pw_os_map(uint64_t bytes) {
  const uint64_t huge = 2u << 20;
  uint64_t slack = bytes >= 2 * huge ? huge : 0;
  if (bytes > UINT64_MAX / 2) return 0;
  long at = sys(SYS_mmap, 0, (long)(bytes + slack), 3 /* read, write */, 0x22 /* private, anonymous */, -1, 0);
  if (failed(at)) return 0;
  if (slack) {
    uint64_t from = (uint64_t)at, to = (from + huge - 1) / huge * huge, end = (to + bytes + 4095) / 4096 * 4096;
    uint64_t whole = (from + bytes + slack + 4095) / 4096 * 4096;
    if (to > from) sys(SYS_munmap, at, (long)(to - from), 0, 0, 0, 0);
    if (whole > end) sys(SYS_munmap, (long)end, (long)(whole - end), 0, 0, 0, 0);
    sys(SYS_madvise, (long)to, (long)bytes, 14 /* hugepage */, 0, 0, 0);
    at = (long)to;
  }
  return (void *)at;
}

void pw_os_unmap(void *memory, uint64_t bytes) {
  if (memory) sys(SYS_munmap, (long)memory, (long)bytes, 0, 0, 0, 0);
}

void pw_os_wipe_on_fork(void *memory, uint64_t bytes) {
  sys(SYS_madvise, (long)memory, (long)bytes, 18 /* wipe on fork */, 0, 0, 0);
}

int pw_os_open(const char *path) {
  return (int)sys(SYS_openat, -100 /* the working directory */, (long)path, 02000000 /* read-only, close on exec */, 0, 0, 0);
}

void pw_os_close(int fd) { sys(SYS_close, fd, 0, 0, 0, 0, 0); }

int64_t pw_os_size(int fd) { return sys(SYS_lseek, fd, 0, 2 /* from the end */, 0, 0, 0); }

int64_t pw_os_read(int fd, void *to, uint64_t bytes, uint64_t offset) {
  uint64_t done = 0;
  while (done < bytes) {
    long n = sys(SYS_pread, fd, (long)((char *)to + done), (long)(bytes - done), (long)(offset + done), 0, 0);
    if (n == -4 /* interrupted */) continue;
    if (n < 0) return n;
    if (n == 0) break;
    done += (uint64_t)n;
  }
  return (int64_t)done;
}

void *pw_os_map_file(int fd, uint64_t offset, uint64_t bytes) {
  long at = sys(SYS_mmap, 0, (long)bytes, 1 /* read */, 1 /* shared */, fd, (long)offset);
  if (failed(at)) return 0;
  sys(SYS_madvise, at, (long)bytes, 3 /* will need */, 0, 0, 0);
  return (void *)at;
}

void pw_os_wait(_Atomic uint32_t *word, uint32_t value) {
  sys(SYS_futex, (long)word, 128 /* wait, private */, (long)value, 0, 0, 0);
}

void pw_os_wake(_Atomic uint32_t *word, int count) {
  sys(SYS_futex, (long)word, 129 /* wake, private */, count, 0, 0, 0);
}

void pw_os_yield(void) { sys(SYS_yield, 0, 0, 0, 0, 0, 0); }

int pw_os_thread(uintptr_t *handle, void *(*main)(void *), void *argument) {
  if (!pthread_create || !pthread_join) return -1;
  /* Faults of the thread itself (ill 4, trap 5, abort 6, bus 7, fpe 8, segv 11, sys 31) and the C library's own signals
   * (32 to 34) stay open, everything else is left to the program's threads. */
  uint64_t old = 0, closed = ~(1ull << 3 | 1ull << 4 | 1ull << 5 | 1ull << 6 | 1ull << 7 | 1ull << 10 | 1ull << 30 | 7ull << 31);
  sys(SYS_sigmask, 2 /* set */, (long)&closed, (long)&old, 8, 0, 0);
  /* Some libraries give a thread 128 KiB. The attributes of all of them fit here. */
  _Alignas(16) unsigned char attributes[256];
  void *given = 0;
  size_t stack = 0;
  if (pthread_attr_init && pthread_attr_getstacksize && pthread_attr_setstacksize && pthread_attr_destroy && !pthread_attr_init(attributes))
    given = attributes;
  if (given && !pthread_attr_getstacksize(given, &stack) && stack < PW_STACK) pthread_attr_setstacksize(given, PW_STACK);
  int result = pthread_create(handle, given, main, argument);
  if (given) pthread_attr_destroy(given);
  sys(SYS_sigmask, 2, (long)&old, 0, 8, 0, 0);
  return result;
}

void pw_os_join(uintptr_t handle) { pthread_join(handle, 0); }

static int quota(void) {
  char text[64];
  int fd = pw_os_open("/sys/fs/cgroup/cpu.max"); /* "max 100000" or "200000 100000" */
  if (fd < 0) return 0;
  int64_t n = pw_os_read(fd, text, sizeof text - 1, 0);
  pw_os_close(fd);
  uint64_t number[2] = {0, 0};
  for (int64_t i = 0, k = 0; i < n && k < 2; i++) {
    if (text[i] >= '0' && text[i] <= '9') number[k] = number[k] * 10 + (uint64_t)(text[i] - '0');
    else k++;
  }
  return number[0] && number[1] ? (int)((number[0] + number[1] - 1) / number[1]) : 0;
}

int pw_os_cpus(void) {
#ifdef PW_CPUS /* a test of many threads on a machine of few CPUs */
  return PW_CPUS;
#endif
  uint64_t mask[128];
  long bytes = sys(SYS_getaffinity, 0, sizeof mask, (long)mask, 0, 0, 0);
  int cpus = 0, limit = quota();
  for (long i = 0; i < bytes / 8; i++) cpus += __builtin_popcountll(mask[i]);
  if (limit && limit < cpus) cpus = limit;
  return cpus > 0 ? cpus : 1;
}

uint64_t pw_os_now_ns(void) {
  int64_t time[2] = {0, 0};
  sys(SYS_clock, 1 /* monotonic */, (long)time, 0, 0, 0, 0);
  return (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
}

#if defined(__x86_64__)
int pw_os_tile_permission(void) { return (int)sys(158 /* arch_prctl */, 0x1023 /* request */, 18 /* tile data */, 0, 0, 0, 0); }
#else
int pw_os_tile_permission(void) { return -1; }
#endif

#if defined(__riscv)
/* riscv_hwprobe: -1 when the kernel does not have it. */
int64_t pw_os_hwprobe(int64_t key);
int64_t pw_os_hwprobe(int64_t key) {
  struct { int64_t key; uint64_t value; } pair = {key, 0};
  long result = sys(258, (long)&pair, 1, 0, 0, 0, 0);
  return result || pair.key < 0 ? -1 : (int64_t)pair.value;
}
#endif
