/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * Images in files as pixels: BMP, JPEG, PNG, PNM, TIFF and WebP. Untrusted bytes; a bundle has this only where its model decodes images.
 *
 * Pixels are those of Pillow, whose results ONNX's ImageDecoder is specified by: JPEG as libjpeg-turbo decodes it (accurate integer transform,
 * smoothed chroma), WebP as libwebp does, gray of colors by the weights of ITU-R 601-2.
 */
#ifndef PW_IMAGE_H
#define PW_IMAGE_H

#include <stddef.h>
#include <stdint.h>

/* Most pixels of an image, most of a side of it, and most bytes of one piece of scratch memory. */
#define PW_IMAGE_PIXELS (INT64_C(1) << 28)
#define PW_IMAGE_SIDE (1 << 16)
#define PW_IMAGE_PIECE (UINT64_C(1) << 30)

/* An image that was read: rows from the top, `channels` (1 or 3: red, green, blue) bytes a pixel, in scratch memory. */
typedef struct {
  int64_t height, width, channels;
  uint8_t *pixels;
  const char *fault; /* what is wrong, without an end; null = nothing */
} pw_image;

/* Layouts of results, by the numbers that plans have for them. */
enum pw_image_layout { PW_IMAGE_RGB, PW_IMAGE_BGR, PW_IMAGE_GRAY };

/* Reads a file; 0 = its fault says why not. What was read is to be given back in either case. */
int pw_image_read(const uint8_t *data, uint64_t bytes, pw_image *image);
/* Writes height x width pixels of 3 channels, or of 1 for gray. */
void pw_image_write(const pw_image *image, int32_t layout, uint8_t *to);
void pw_image_free(pw_image *image);

#endif
