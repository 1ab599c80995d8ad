/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Everything that the runtime asks of the operating system and of the C library. A port writes another os_*.c. */
#ifndef PW_OS_H
#define PW_OS_H

#include <stddef.h>
#include <stdint.h>

/* The C library of the process: the few functions that all of them have, bound when the bundle is opened. */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

/* Zeroed private memory, page-aligned (2 MiB and huge pages where large); null when there is none. */
void *pw_os_map(uint64_t bytes);
void pw_os_unmap(void *memory, uint64_t bytes);
/* Makes the mapping read as zeros in a forked child, which has none of the threads. */
void pw_os_wipe_on_fork(void *memory, uint64_t bytes);

/* A file descriptor, or a negative error number. */
int pw_os_open(const char *path);
void pw_os_close(int fd);
int64_t pw_os_size(int fd);
/* Bytes read at that offset, fewer at the end of the file; negative on error. */
int64_t pw_os_read(int fd, void *to, uint64_t bytes, uint64_t offset);
/* The file's bytes from that offset, a multiple of the page; read-only; null on error. */
void *pw_os_map_file(int fd, uint64_t offset, uint64_t bytes);

/* Sleeps while *word == value (may return early); wakes up to so many sleepers. */
void pw_os_wait(_Atomic uint32_t *word, uint32_t value);
void pw_os_wake(_Atomic uint32_t *word, int count);
void pw_os_yield(void);

/* A thread that takes no asynchronous signals, with a stack of at least PW_STACK bytes; 0 = done. The process may have no threads library. */
#define PW_STACK (1u << 20)
int pw_os_thread(uintptr_t *handle, void *(*main)(void *), void *argument);
void pw_os_join(uintptr_t handle);

/* CPUs that this process may use: affinity mask and control-group quota; at least 1. */
int pw_os_cpus(void);
uint64_t pw_os_now_ns(void);

/* Whether the machine has the feature with that bit of features.def. */
int pw_os_cpu_has(uint32_t bit);
/* Asks for the matrix tile registers (x86); 0 = granted. */
int pw_os_tile_permission(void);

/* Floating-point environment of this thread: sets round-to-nearest, subnormals kept, no traps; returns the old one. */
uint32_t pw_os_fp_set(void);
void pw_os_fp_restore(uint32_t old);

/* A hint that this is a spin loop. */
static inline void pw_os_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#elif defined(__riscv)
  __asm__ volatile(".4byte 0x0100000f" ::: "memory"); /* pause, a hint on every hart */
#else
  __asm__ volatile("ibar 0" ::: "memory");
#endif
}

#endif
