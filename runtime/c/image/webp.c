/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* WebP, lossy and lossless; of what is transparent the colors that the file has. */

#include <stdlib.h>

static void *webp_take(void *user, size_t bytes) { return (void)user, image_take(bytes); }
static void webp_give(void *user, void *memory) { (void)user, image_give(memory); }

#define SIMPLEWEBP_IMPLEMENTATION
#define SIMPLEWEBP_DISABLE_STDIO
/* The allocator that it has where none is given. */
#define malloc image_take
#define free image_give
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#include "vendor/simplewebp.h"
#pragma GCC diagnostic pop
#undef malloc
#undef free

static int read_webp(const uint8_t *data, uint64_t bytes, pw_image *p) {
  static const char *damaged = "the image is a WebP that is damaged, or animated, which is not decoded";
  simplewebp_allocator memory = {webp_take, webp_give, 0};
  simplewebp *w = 0;
  if (simplewebp_load_from_memory((void *)(uintptr_t)data, (size_t)bytes, &memory, &w) != SIMPLEWEBP_NO_ERROR) return image_fault(p, damaged);
  size_t width = 0, height = 0;
  simplewebp_get_dimensions(w, &width, &height);
  int done = width <= PW_IMAGE_SIDE && height <= PW_IMAGE_SIDE ? image_room(p, (int64_t)height, (int64_t)width, 3) : image_fault(p, damaged);
  uint8_t *all = done ? image_take(width * height * 4) : 0;
  if (done && !all) done = image_fault(p, "there is no memory for the pixels of the image");
  if (done && simplewebp_decode(w, all, 0) != SIMPLEWEBP_NO_ERROR) done = image_fault(p, damaged);
  for (size_t i = 0; done && i < width * height; i++) memcpy(p->pixels + 3 * i, all + 4 * i, 3);
  image_give(all);
  simplewebp_unload(w);
  return done;
}
