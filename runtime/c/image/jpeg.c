/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * JPEG: stb_image reads markers and coefficients; the inverse transform, chroma between its samples and colors are those of libjpeg, to the
 * bit (jidctint, jdsample, jdcolor). What libjpeg refuses (fractional sampling, 12 bits, arithmetic coding) is refused.
 */

/* Most scans of a file: time is at most theirs times that of all blocks. */
enum { SCANS = 200 };

static uint8_t clamped(int64_t v) { return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v); }

/* One pass of the inverse DCT over 8 values that are `step` apart: Loeffler, Ligtenberg and Moschytz with constants of 13 bits. */
static void idct_pass(const int64_t *from, int64_t *to, int step, int shift) {
  int64_t z2 = from[2 * step], z3 = from[6 * step], half = INT64_C(1) << (shift - 1);
  int64_t z1 = (z2 + z3) * 4433, t2 = z1 - z3 * 15137, t3 = z1 + z2 * 6270;
  int64_t t0 = (from[0] + from[4 * step]) * 8192, t1 = (from[0] - from[4 * step]) * 8192;
  int64_t even[4] = {t0 + t3, t1 + t2, t1 - t2, t0 - t3};
  t0 = from[7 * step], t1 = from[5 * step], t2 = from[3 * step], t3 = from[step];
  z1 = t0 + t3, z2 = t1 + t2, z3 = t0 + t2;
  int64_t z4 = t1 + t3, z5 = (z3 + z4) * 9633;
  t0 *= 2446, t1 *= 16819, t2 *= 25172, t3 *= 12299;
  z1 *= -7373, z2 *= -20995, z3 = z3 * -16069 + z5, z4 = z4 * -3196 + z5;
  int64_t odd[4] = {t3 + z1 + z4, t2 + z2 + z3, t1 + z2 + z4, t0 + z1 + z3};
  for (int i = 0; i < 4; i++) {
    to[i * step] = (even[i] + odd[i] + half) >> shift;
    to[(7 - i) * step] = (even[i] - odd[i] + half) >> shift;
  }
}

static void idct_islow(stbi_uc *out, int stride, short data[64]) {
  int64_t block[64];
  for (int i = 0; i < 64; i++) block[i] = data[i];
  for (int i = 0; i < 8; i++) idct_pass(block + i, block + i, 8, 13 - 2);
  for (int i = 0; i < 8; i++) {
    idct_pass(block + i * 8, block + i * 8, 1, 13 + 2 + 3);
    for (int k = 0; k < 8; k++) out[(int64_t)i * stride + k] = clamped(block[i * 8 + k] + 128);
  }
}

/* A component of the frame: its samples, and how many pixels each stands for. */
typedef struct {
  const uint8_t *at;
  int64_t stride, width, height;
  int across, down;
} plane;

static const uint8_t *row_of(const plane *p, int64_t y) {
  return p->at + (y < 0 ? 0 : y >= p->height ? p->height - 1 : y) * p->stride;
}

/* Row `y` of the image of one component: `width` samples, of which the last may lie beyond the image. */
static void upsampled(const plane *p, int64_t y, int64_t width, uint8_t *to) {
  const uint8_t *near = row_of(p, y / p->down);
  const uint8_t *far = row_of(p, y / p->down + (y % p->down ? 1 : -1));
  int64_t n = p->width;
  if (p->across == 2 && p->down <= 2 && n > 2) {
    /* Three parts of the nearer sample and one of the farther, in both directions; rounding leans left and right in turn. */
    int both = p->down == 2;
    for (int64_t x = 0; x < n; x++) {
#define SUM(i) (both ? near[i] * 3 + far[i] : near[i])
      int at = SUM(x), left = x ? SUM(x - 1) : at, right = x + 1 < n ? SUM(x + 1) : at;
#undef SUM
      int first = both ? (at * 3 + left + 8) >> 4 : (at * 3 + left + 1) >> 2;
      int second = both ? (at * 3 + right + 7) >> 4 : (at * 3 + right + 2) >> 2;
      if (2 * x < width) to[2 * x] = (uint8_t)first;
      if (2 * x + 1 < width) to[2 * x + 1] = (uint8_t)second;
    }
  } else if (p->across == 1 && p->down == 2) {
    for (int64_t x = 0; x < width; x++) to[x] = (uint8_t)((near[x] * 3 + far[x] + (y % 2 ? 2 : 1)) >> 2);
  } else {
    for (int64_t x = 0; x < width; x++) to[x] = near[x / p->across];
  }
}

static void rgb_of(int64_t y, int64_t cb, int64_t cr, uint8_t *to) {
  cb -= 128, cr -= 128;
  to[0] = clamped(y + ((91881 * cr + 32768) >> 16));
  to[1] = clamped(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
  to[2] = clamped(y + ((116130 * cb + 32768) >> 16));
}

/* Light that is left by an ink of black and one of a color, as parts of 255, rounded. */
static uint8_t without(int64_t light, int64_t black) {
  int64_t t = light * black + 128;
  return (uint8_t)((t + (t >> 8)) >> 8);
}

static int jpeg_pixels(const stbi__jpeg *j, pw_image *p) {
  const stbi__context *s = j->s;
  int n = s->img_n;
  plane planes[4];
  for (int k = 0; k < n; k++) {
    int h = j->img_comp[k].h, v = j->img_comp[k].v;
    if (j->img_h_max % h || j->img_v_max % v) return image_fault(p, "the image is a JPEG with fractional sampling, which is not decoded");
    planes[k] = (plane){j->img_comp[k].data, j->img_comp[k].w2, j->img_comp[k].x, j->img_comp[k].y, j->img_h_max / h, j->img_v_max / v};
  }
  int64_t width = s->img_x;
  if (!image_room(p, s->img_y, width, n == 1 ? 1 : 3)) return 0;
  uint8_t *lines = image_take((size_t)width * 4);
  if (!lines) return image_fault(p, "there is no memory for the pixels of the image");
  /* As libjpeg has it: JFIF is YCbCr; without it Adobe's marker says so, and without both the names of the components. */
  int adobe = j->app14_color_transform;
  int plain = n == 3 ? !j->jfif && (adobe == 0 || (adobe < 0 && j->rgb == 3)) : adobe != 2;
  for (int64_t y = 0; y < p->height; y++) {
    uint8_t *to = p->pixels + y * width * p->channels;
    for (int k = 0; k < n; k++) upsampled(&planes[k], y, width, n == 1 ? to : lines + k * width);
    for (int64_t x = 0; n > 1 && x < width; x++, to += 3) {
      int a = lines[x], b = lines[width + x], c = lines[2 * width + x];
      if (plain) to[0] = (uint8_t)a, to[1] = (uint8_t)b, to[2] = (uint8_t)c;
      else rgb_of(a, b, c, to);
      if (n < 4) continue;
      /* Inks; Adobe's files have what they leave of the light. */
      int black = lines[3 * width + x];
      for (int k = 0; k < 3; k++) {
        int ink = plain ? to[k] : 255 - to[k];
        to[k] = adobe >= 0 ? without(ink, black) : without(255 - ink, 255 - black);
      }
    }
  }
  image_give(lines);
  return 1;
}

static int read_jpeg(const uint8_t *data, int bytes, pw_image *p) {
  static const char *damaged = "the image is a JPEG that is damaged, or of a form that is not decoded";
  int width = 0, height = 0, channels = 0, scans = 0;
  if (!stbi_info_from_memory(data, bytes, &width, &height, &channels)) return image_fault(p, damaged);
  if ((int64_t)width * height > PW_IMAGE_PIXELS) return image_fault(p, "the image has more than 2^28 pixels, or a side of more than 65536");
  for (int i = 0; i + 1 < bytes; i++) scans += data[i] == 0xff && data[i + 1] == 0xda;
  if (scans > SCANS) return image_fault(p, "the image is a JPEG of more than 200 scans");
  stbi__context s;
  stbi__start_mem(&s, data, bytes);
  stbi__jpeg *j = image_take(sizeof *j);
  if (!j) return image_fault(p, "there is no memory for the image");
  j->s = &s;
  stbi__setup_jpeg(j);
  j->idct_block_kernel = idct_islow;
  s.img_n = 0;
  int done = stbi__decode_jpeg_image(j) && s.img_n > 0 ? s.img_n == 2 ? image_fault(p, damaged) : jpeg_pixels(j, p) : image_fault(p, damaged);
  stbi__cleanup_jpeg(j);
  image_give(j);
  return done;
}
