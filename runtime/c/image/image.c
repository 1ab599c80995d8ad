/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Images as one translation unit: memory, what a file is, pixels. */
#include "image.h"

#ifdef PW_IMAGE_ALONE
/* Beside the compiler: memory of the C library. */
#include <stdlib.h>
#include <string.h>
static void *image_map(uint64_t bytes) { return calloc(1, bytes); }
static void image_unmap(void *memory, uint64_t bytes) { (void)bytes, free(memory); }
#else
#include "../os.h"
static void *image_map(uint64_t bytes) { return pw_os_map(bytes); }
static void image_unmap(void *memory, uint64_t bytes) { pw_os_unmap(memory, bytes); }
#endif

/* Scratch memory, zeroed; each piece knows its size. Decoders ask for few, so each is one of the operating system's. */
enum { PW_IMAGE_HEAD = 64 };

static void *image_take(size_t bytes) {
  if (bytes > PW_IMAGE_PIECE) return 0;
  uint8_t *at = image_map((uint64_t)bytes + PW_IMAGE_HEAD);
  if (!at) return 0;
  *(uint64_t *)(void *)at = (uint64_t)bytes + PW_IMAGE_HEAD;
  return at + PW_IMAGE_HEAD;
}

static void image_give(void *memory) {
  if (!memory) return;
  uint8_t *at = (uint8_t *)memory - PW_IMAGE_HEAD;
  image_unmap(at, *(uint64_t *)(void *)at);
}

static void *image_again(void *memory, size_t old, size_t bytes) {
  void *to = image_take(bytes);
  if (to && memory) memcpy(to, memory, old < bytes ? old : bytes), image_give(memory);
  return to;
}

static int image_fault(pw_image *p, const char *fault) {
  p->fault = fault;
  return 0;
}

/* Room for the pixels of an image of those dims. */
static int image_room(pw_image *p, int64_t height, int64_t width, int64_t channels) {
  if (height < 1 || width < 1) return image_fault(p, "the image has no pixels");
  if (height > PW_IMAGE_SIDE || width > PW_IMAGE_SIDE || height * width > PW_IMAGE_PIXELS)
    return image_fault(p, "the image has more than 2^28 pixels, or a side of more than 65536");
  p->height = height, p->width = width, p->channels = channels;
  p->pixels = image_take((size_t)(height * width * channels));
  return p->pixels ? 1 : image_fault(p, "there is no memory for the pixels of the image");
}

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_NO_SIMD
#define STBI_NO_THREAD_LOCALS
#define STBI_NO_FAILURE_STRINGS
#define STBI_MAX_DIMENSIONS PW_IMAGE_SIDE
#define STBI_ASSERT(x) ((void)0)
#define STBI_MALLOC(bytes) image_take(bytes)
#define STBI_FREE(memory) image_give(memory)
#define STBI_REALLOC_SIZED(memory, old, bytes) image_again(memory, old, bytes)
#define STBI_REALLOC(memory, bytes) image_again(memory, bytes, bytes)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#include "vendor/stb_image.h"
#pragma GCC diagnostic pop

#include "jpeg.c"
#include "pnm.c"
#include "tiff.c"
#include "webp.c"

/* PNG and BMP: three channels, or one where the file has no colors. */
static int read_other(const uint8_t *data, int bytes, pw_image *p, const char *fault) {
  int width = 0, height = 0, channels = 0;
  if (!stbi_info_from_memory(data, bytes, &width, &height, &channels)) return image_fault(p, fault);
  if (!width || !height) return image_fault(p, "the image has no pixels");
  if ((int64_t)width * height > PW_IMAGE_PIXELS) return image_fault(p, "the image has more than 2^28 pixels, or a side of more than 65536");
  int wanted = channels < 3 ? 1 : 3;
  p->pixels = stbi_load_from_memory(data, bytes, &width, &height, &channels, wanted);
  if (!p->pixels) return image_fault(p, fault);
  p->height = height, p->width = width, p->channels = wanted;
  return 1;
}

static int image_begins(const uint8_t *data, uint64_t bytes, const char *with, uint64_t count) {
  return bytes >= count && !memcmp(data, with, (size_t)count);
}

#define PW_IMAGE_KNOWN "; BMP, JPEG, PNG, PNM, TIFF and WebP are decoded"

int pw_image_read(const uint8_t *data, uint64_t bytes, pw_image *p) {
  memset(p, 0, sizeof *p);
  if (bytes > INT32_MAX) return image_fault(p, "the image takes 2 GiB or more");
#define IS(with) image_begins(data, bytes, with, sizeof(with) - 1)
  if (IS("\xff\xd8\xff")) return read_jpeg(data, (int)bytes, p);
  if (IS("\x89PNG\r\n\x1a\n")) return read_other(data, (int)bytes, p, "the image is a PNG that is damaged, or of a form that is not decoded");
  if (IS("BM")) return read_other(data, (int)bytes, p, "the image is a BMP that is damaged, or of a form that is not decoded");
  if (bytes > 2 && data[0] == 'P' && data[1] >= '2' && data[1] <= '6' && data[1] != '4') return read_pnm(data, bytes, p);
  if (IS("II*\0") || IS("MM\0*")) return read_tiff(data, bytes, p);
  if (IS("RIFF") && bytes > 12 && !memcmp(data + 8, "WEBP", 4)) return read_webp(data, bytes, p);
  if (IS("\0\0\0\x0cjP  ") || IS("\xff\x4f\xff\x51")) return image_fault(p, "the image is JPEG 2000" PW_IMAGE_KNOWN);
  if (IS("GIF8")) return image_fault(p, "the image is GIF" PW_IMAGE_KNOWN);
  if (bytes > 12 && !memcmp(data + 4, "ftyp", 4)) return image_fault(p, "the image is HEIF or AVIF" PW_IMAGE_KNOWN);
  if (IS("P1") || IS("P4") || IS("P7")) return image_fault(p, "the image is a PBM or PAM" PW_IMAGE_KNOWN);
  if (IS("II+\0") || IS("MM\0+")) return image_fault(p, "the image is BigTIFF" PW_IMAGE_KNOWN);
  return image_fault(p, "the image is of a format that is not known" PW_IMAGE_KNOWN);
}

void pw_image_write(const pw_image *p, int32_t layout, uint8_t *to) {
  const uint8_t *from = p->pixels;
  for (int64_t i = 0, n = p->height * p->width; i < n; i++, from += p->channels) {
    uint32_t r = from[0], g = p->channels == 3 ? from[1] : r, b = p->channels == 3 ? from[2] : r;
    if (layout == PW_IMAGE_GRAY) *to++ = p->channels == 1 ? (uint8_t)r : (uint8_t)((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16);
    else if (layout == PW_IMAGE_BGR) to[0] = (uint8_t)b, to[1] = (uint8_t)g, to[2] = (uint8_t)r, to += 3;
    else to[0] = (uint8_t)r, to[1] = (uint8_t)g, to[2] = (uint8_t)b, to += 3;
  }
}

void pw_image_free(pw_image *p) {
  image_give(p->pixels);
  p->pixels = 0;
}
