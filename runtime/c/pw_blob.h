/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * The description of a model, one constant byte array `pw_model_blob` in the model object, and the header of the weight store.
 * Written by src/blob.rs and src/store.rs, read by load.c. Everything is little-endian; offsets count bytes from the start of
 * the blob. The reader takes nothing for granted: every offset, count, index and value is checked at load.
 *
 *   pw_blob_header | symbols | ports (inputs, then outputs) | dims | origins | epochs | text | items | texts
 */
#ifndef PW_BLOB_H
#define PW_BLOB_H

#include <stdint.h>

#define PW_BLOB_MAGIC "PWBLOB\r\n"
#define PW_BLOB_VERSION 2u
#define PW_BLOB_NONE 0xffffffffu
#define PW_MAX_RANK 64
#define PW_MAX_PORTS 65536u
#define PW_FEATURE_WORDS 4

/* pw_blob_header.arch: which table of features.def the feature bits belong to. */
enum { PW_ARCH_X86_64 = 1, PW_ARCH_AARCH64 = 2, PW_ARCH_RISCV64 = 3, PW_ARCH_LOONGARCH64 = 4 };

/* pw_blob_header.flags */
enum {
  PW_BLOB_DATA_SHAPES = 1 /* shapes of outputs, or control flow, depend on values that kernels compute: infer must run the model */
};

/* pw_blob_port.flags */
enum {
  PW_PORT_READ_BY_PLAN = 1, /* inputs: the plan itself reads the data (shape arithmetic), so infer needs it */
  PW_PORT_IN_PLACE = 2      /* outputs with append_axis: the plan asks pw_rt_room, and writes only what is new where the input lies */
};

/* A table: `count` entries of its struct at `offset`. */
typedef struct { uint32_t offset, count; } pw_blob_table;

/* Text in the text table: `bytes` bytes at `offset` from its start, followed by a zero byte that is not counted. */
typedef struct { uint32_t offset, bytes; } pw_blob_text;

typedef struct {
  uint8_t magic[8];
  uint32_t version;                     /* PW_BLOB_VERSION */
  uint32_t plan_version;                /* PW_PLAN_VERSION */
  uint64_t total_bytes;                 /* = pw_model_blob_size, a multiple of 8 */
  uint64_t checksum;                    /* pw_blob_checksum over the bytes behind this field */
  uint32_t arch, flags;
  uint64_t features[PW_FEATURE_WORDS];  /* CPU features that the code uses: bit numbers of features.def */
  uint64_t store_bytes;                 /* data bytes in weights/store.bin; 0 = the model has no store */
  uint8_t store_layout[32];             /* hash of the store's layout; the store's header has the same */
  pw_blob_text name, cpu;               /* the model's name, and what it was compiled for (both for messages) */
  pw_blob_table symbols, inputs, outputs, dims, origins, epochs;
  pw_blob_table text;                   /* count = bytes */
  pw_blob_table items, texts;
} pw_blob_header;

/* A symbolic dim. Inputs bind it: wherever it occurs in inputs it has one value in [lo, hi] that is a multiple of div. An
 * output's dim that is an expression is a symbol of its own, named by the expression's text, which no input binds. */
typedef struct {
  pw_blob_text name;
  int64_t lo, hi, div; /* 0 <= lo <= hi, div >= 1 */
} pw_blob_symbol;

typedef struct {
  int64_t fixed;   /* size, or -1 */
  uint32_t symbol; /* with -1: entry of symbols */
  uint32_t zero;
} pw_blob_dim;

typedef struct {
  pw_blob_text name;
  int32_t kind, dtype;   /* PW_TENSOR, ...; ONNX TensorProto.DataType */
  int32_t rank;          /* 0..PW_MAX_RANK */
  uint32_t first_dim;    /* entry of dims */
  int32_t alias_of;      /* outputs: input number or -1 */
  int32_t append_axis;   /* with alias_of: axis on which the output is that input with more appended; -1 = same shape */
  int32_t origin;        /* outputs: entry of origins, the node that makes it; -1 */
  uint32_t flags;
  uint64_t max_bytes;    /* 0 = no bound known */
  uint32_t first_item, item_count; /* lists: entries of items */
} pw_blob_port;

/* What a list holds, as pw_item. */
typedef struct { int32_t kind, dtype, rank; } pw_blob_item;

/* texts: pw_blob_text each, the texts that constants are; the first is empty. Equal texts stand once. */

/* origins: pw_blob_text each, the path or paths of ONNX nodes that a launch came from.
 * epochs: one int32_t each padded to 8 bytes, entry of origins that an error about that epoch's memory names; -1 = none. */
typedef struct { int32_t origin; uint32_t zero; } pw_blob_epoch;

/* Head of weights/store.bin. The data begins at byte PW_STORE_DATA. */
#define PW_STORE_MAGIC "PWSTORE\n"
#define PW_STORE_VERSION 1u
#define PW_STORE_DATA 4096u
typedef struct {
  uint8_t magic[8];
  uint32_t version, zero;
  uint64_t data_bytes;
  uint8_t layout[32];  /* hash of names, dtypes, shapes and byte ranges: other weights of the same shapes keep it */
  uint8_t content[32]; /* sha-256 of the data, for `inspect` and caches; not checked at load */
} pw_store_header;

#endif
