/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* Images as an operation of the host: an object of its own, for bundles that decode any. */
#include "../host/host.h"

#include "image.c"

/* (u8[n]) to u8[height, width, channels]; finds height and width. */
static int decode(pw_session *s, const pw_call *c) {
  pw_operand o;
  if (c->op != PW_HOST_IMAGE_DECODE || c->symbols != 2 || c->params != 1 || !pw_operand_at(c, 0, &o)) return 0;
  pw_image image;
  if (!pw_image_read(o.data, (uint64_t)o.count, &image)) {
    pw_image_free(&image);
    return pw_host_fail(s, PW_E_ARGUMENT, c->origin, image.fault);
  }
  int32_t layout = (int32_t)c->param[0];
  int64_t bytes = image.height * image.width * (layout == PW_IMAGE_GRAY ? 1 : 3);
  uint8_t *to = pw_heap_take(s, (uint64_t)bytes, c->origin);
  if (to) pw_image_write(&image, layout, to);
  c->found[0] = image.height, c->found[1] = image.width;
  pw_image_free(&image);
  return to && pw_hold(s, c, to, bytes);
}

int32_t pw_rt_image(pw_ctx *s, const int64_t *words, int64_t *found, int32_t symbols) { return pw_host_run(s, words, found, symbols, decode); }
