/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The program that `compile --static` puts around a model: reads inputs from an npz, runs the model once, writes outputs as an npz.
 *
 *   ELF: this program, the runtime, the model, a C library | zeros | the weight store | manifest.json | pw_program_tail
 *
 * It is compiled like the runtime, once a triple, without headers of the target; what it takes from the C library is below.
 */
#ifndef PW_PROGRAM_H
#define PW_PROGRAM_H

#include "../rt.h"

/* ---- the C library: what every one for 64-bit Linux has, with the same meaning of the arguments ---- */
void *malloc(size_t bytes);
void free(void *memory);
void *memmove(void *to, const void *from, size_t bytes);
int open(const char *path, int flags, ...);
long write(int fd, const void *from, size_t bytes);
int fsync(int fd);
int close(int fd);
int rename(const char *from, const char *to);
int unlink(const char *path);
int ftruncate(int fd, int64_t bytes);
int fcntl(int, int, ...);
char *realpath(const char *path, char *to);
int getpid(void);
unsigned long getauxval(unsigned long type);
int *__errno_location(void);
char *strerror(int number);

/* ---- exit codes, as those of `portwright` ---- */
enum {
  PW_EXIT_DONE = 0,
  PW_EXIT_USAGE = 2,
  PW_EXIT_INPUT = 3,   /* the archive cannot be read, or its arrays are not what the model takes */
  PW_EXIT_MEMORY = 4,
  PW_EXIT_MACHINE = 5, /* the processor lacks what the model was compiled for */
  PW_EXIT_RUN = 6,     /* the model failed while it ran */
  PW_EXIT_FILE = 7,
  PW_EXIT_OWN = 70
};

/* The last bytes of the file. Written by src/program.rs. */
#define PW_PROGRAM_MAGIC "PWPROG\r\n"
#define PW_PROGRAM_VERSION 1u
typedef struct {
  uint8_t magic[8];
  uint32_t version, zero;
  uint64_t store_at, store_bytes;       /* the store begins at a multiple of 64 KiB, the largest page; 0 bytes = none */
  uint64_t manifest_at, manifest_bytes;
  uint64_t file_bytes;                  /* of the whole file, this included */
  uint64_t check;                       /* exclusive or of the words before */
} pw_program_tail;

/* ---- text ---- */

/* Bytes of a file as text for people: what would steer a terminal becomes a question mark. */
void pw_put_bytes_of(pw_text *t, const uint8_t *from, uint64_t bytes);
/* A shape as `[2, 3]`, as `portwright run` prints it. */
void pw_put_shape(pw_text *t, const int64_t *dims, int32_t rank);
/* An error of the system. */
void pw_put_errno(pw_text *t, int number);

/* ---- inflate.c ---- */

/* Decompresses a deflate stream of `n` bytes to exactly `bytes` bytes; null = done, else what is wrong with the stream. */
const char *pw_inflate(const uint8_t *from, uint64_t n, uint8_t *to, uint64_t bytes);

/* ---- zip.c: reading archives ---- */

typedef struct {
  const uint8_t *name; /* without the ending .npy */
  uint32_t name_bytes, method, flags, crc;
  uint64_t packed, bytes, at; /* sizes in the archive and of the content; where its own header begins */
} pw_entry;

typedef struct {
  int fd;
  uint64_t size, directory_at;
  uint8_t *directory;
  pw_entry *entries;
  uint64_t count;
} pw_archive;

/* Both return an exit code, 0 = done, and say in `t` what is wrong. An archive that could not be opened needs no close. */
int pw_archive_open(pw_archive *a, const char *path, pw_text *t);
/* The content, in memory of `malloc` that begins at a multiple of 16. */
int pw_archive_read(const pw_archive *a, const pw_entry *e, uint8_t **content, pw_text *t);
void pw_archive_close(pw_archive *a);
/* The entry of that name, or null. */
const pw_entry *pw_archive_find(const pw_archive *a, const char *name);
uint32_t pw_crc(uint32_t crc, const uint8_t *from, uint64_t bytes);

/* ---- npy.c ---- */

typedef struct {
  uint8_t *memory;     /* to be freed */
  uint8_t *data;       /* dense row-major, aligned to its element, as the C ABI takes it */
  uint64_t bytes;
  int64_t dims[PW_MAX_RANK];
  int32_t rank;
} pw_array;

/* Reads the array that stands for a tensor of that ONNX dtype. Exit code; `t` says what was found and what is taken. */
int pw_array_read(const pw_archive *a, const pw_entry *e, int32_t dtype, pw_array *out, pw_text *t);
/* How numpy names the dtype that such tensors are stored in, as `<f4`; null = none. */
const char *pw_npy_descr(int32_t dtype);

typedef struct {
  const char *name;
  const void *data; /* as the C ABI gives it */
  const int64_t *dims;
  int32_t rank, dtype;
} pw_named;

/* Writes the archive beside `path` and renames it when it is whole; where a pipe or a device is, into that. */
int pw_archive_write(const char *path, const pw_named *arrays, uint64_t count, pw_text *t);

/* ---- show.c ---- */

/* Prints what `portwright run` prints of an output of a model without a view. */
void pw_show(const pw_named *array);
/* Writes to standard output or error; what cannot be written is lost. */
void pw_print(int fd, const char *text);

#endif
