/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * TIFF as its specification calls baseline, beyond it LZW, Deflate, tiles and differences: gray, colors and palettes of up to 16 bits, the first image
 * of a file. Anything else is refused by name.
 */

typedef struct {
  const uint8_t *data;
  uint64_t bytes;
  int big; /* most significant byte first */
} tiff_file;

/* `count` bytes at a place as a number; 0 beyond the end. */
static uint64_t tiff_at(const tiff_file *f, uint64_t at, uint64_t count) {
  uint64_t v = 0;
  if (at > f->bytes || f->bytes - at < count) return 0;
  for (uint64_t i = 0; i < count; i++) v |= (uint64_t)f->data[at + i] << 8 * (f->big ? count - 1 - i : i);
  return v;
}

/* A field: dtype, how many values, and where they lie. */
typedef struct {
  uint64_t size, count, at;
} tiff_field;

static tiff_field tiff_find(const tiff_file *f, uint64_t directory, uint64_t tag) {
  static const uint8_t sizes[] = {0, 1, 1, 2, 4};
  uint64_t entries = tiff_at(f, directory, 2);
  for (uint64_t i = 0; i < entries; i++) {
    uint64_t e = directory + 2 + 12 * i, type = tiff_at(f, e + 2, 2);
    if (e + 12 > f->bytes || tiff_at(f, e, 2) != tag || type >= sizeof sizes || !sizes[type]) continue;
    tiff_field found = {sizes[type], tiff_at(f, e + 4, 4), e + 8};
    if (found.size * found.count > 4) found.at = tiff_at(f, e + 8, 4);
    if (found.at <= f->bytes && found.count <= (f->bytes - found.at) / found.size) return found;
  }
  return (tiff_field){1, 0, 0};
}

static uint64_t tiff_value(const tiff_file *f, tiff_field t, uint64_t i) { return i < t.count ? tiff_at(f, t.at + i * t.size, t.size) : 0; }

static uint64_t tiff_one(const tiff_file *f, uint64_t directory, uint64_t tag, uint64_t usual) {
  tiff_field t = tiff_find(f, directory, tag);
  return t.count ? tiff_value(f, t, 0) : usual;
}

/* Decompressors: to exactly `count` bytes; what is missing at the end stays zero. They give how many there were. */
static uint64_t tiff_packbits(const uint8_t *from, uint64_t bytes, uint8_t *to, uint64_t count) {
  uint64_t n = 0;
  for (uint64_t i = 0; i < bytes && n < count;) {
    int c = (int8_t)from[i++];
    if (c == -128) continue;
    uint64_t many = (uint64_t)(c < 0 ? 1 - c : 1 + c);
    if (many > count - n) many = count - n;
    if (c < 0) {
      if (i == bytes) break;
      memset(to + n, from[i++], (size_t)many);
    } else {
      if (many > bytes - i) many = bytes - i;
      memcpy(to + n, from + i, (size_t)many), i += many;
    }
    n += many;
  }
  return n;
}

typedef struct {
  uint16_t before[4096], length[4096];
  uint8_t last[4096];
} tiff_codes;

/* Codes of 9 to 12 bits, most significant bit first; the width grows one code early. */
static uint64_t tiff_lzw(tiff_codes *t, const uint8_t *from, uint64_t bytes, uint8_t *to, uint64_t count) {
  enum { CLEAR = 256, END = 257 };
  uint64_t n = 0, bit = 0;
  uint32_t width = 9, next = 258, old = CLEAR;
  for (uint32_t c = 0; c < 256; c++) t->before[c] = 0, t->length[c] = 1, t->last[c] = (uint8_t)c;
  while (n < count && bit + width <= bytes * 8) {
    uint32_t code = 0;
    for (uint32_t k = 0; k < width; k++, bit++) code = code << 1 | (from[bit / 8] >> (7 - bit % 8) & 1);
    if (code == END) break;
    if (code == CLEAR) {
      width = 9, next = 258, old = CLEAR;
      continue;
    }
    if (old == CLEAR ? code > 255 : code > next || (code == next && next == 4096)) break;
    /* A code that is being made: what the one before it says, and its first byte once more. */
    uint32_t said = code < next && code != CLEAR ? code : old;
    uint64_t length = t->length[said] + (uint64_t)(code >= next), at = n + t->length[said];
    uint8_t first = 0;
    for (uint32_t c = said, k = t->length[said]; k > 0; k--, c = t->before[c]) {
      first = t->last[c];
      if (--at < count) to[at] = first;
    }
    if (code >= next && n + length - 1 < count) to[n + length - 1] = first;
    n = n + length < count ? n + length : count;
    if (old != CLEAR && next < 4096 && t->length[old] < UINT16_MAX) {
      t->before[next] = (uint16_t)old, t->length[next] = (uint16_t)(t->length[old] + 1), t->last[next] = first;
      next++;
    }
    if (next + 1 >= 1u << width && width < 12) width++;
    old = code;
  }
  return n;
}

/* What the fields of an image say. */
typedef struct {
  uint64_t width, height, bits, samples, compression, photometric, predictor, across, down, planar;
  tiff_field offsets, counts, palette;
} tiff_image;

static const char *tiff_form(const tiff_file *f, tiff_image *t) {
  uint64_t d = tiff_at(f, 4, 4);
  tiff_field bits = tiff_find(f, d, 258);
  t->width = tiff_one(f, d, 256, 0), t->height = tiff_one(f, d, 257, 0);
  t->samples = tiff_one(f, d, 277, 1), t->bits = bits.count ? tiff_value(f, bits, 0) : 1;
  t->compression = tiff_one(f, d, 259, 1), t->photometric = tiff_one(f, d, 262, 1);
  t->predictor = tiff_one(f, d, 317, 1), t->planar = tiff_one(f, d, 284, 1);
  t->palette = tiff_find(f, d, 320);
  int tiles = tiff_find(f, d, 322).count > 0;
  t->across = tiles ? tiff_one(f, d, 322, 0) : t->width;
  t->down = tiles ? tiff_one(f, d, 323, 0) : tiff_one(f, d, 278, t->height);
  t->offsets = tiff_find(f, d, tiles ? 324 : 273), t->counts = tiff_find(f, d, tiles ? 325 : 279);
  if (!tiles && t->down > t->height) t->down = t->height;
  if (t->width < 1 || t->height < 1 || t->width > PW_IMAGE_SIDE || t->height > PW_IMAGE_SIDE) return "the image is a TIFF that is damaged";
  if (t->across < 1 || t->down < 1 || t->across > PW_IMAGE_SIDE || t->down > PW_IMAGE_SIDE) return "the image is a TIFF that is damaged";
  for (uint64_t i = 1; i < bits.count && i < t->samples; i++)
    if (tiff_value(f, bits, i) != t->bits) return "the image is a TIFF with samples of several sizes, which is not decoded";
  if (t->bits != 1 && t->bits != 2 && t->bits != 4 && t->bits != 8 && t->bits != 16) return "the image is a TIFF with samples of other than 1, 2, 4, 8 and 16 bits";
  if (tiff_one(f, d, 339, 1) != 1) return "the image is a TIFF with samples that are no unsigned integers";
  if (tiff_one(f, d, 266, 1) != 1) return "the image is a TIFF with bits in reverse order";
  if (t->photometric > 3) return "the image is a TIFF of colors that are not gray, RGB or of a palette";
  uint64_t needs = t->photometric == 2 ? 3 : 1;
  if (t->samples < needs || t->samples > 8) return "the image is a TIFF with an unusual number of samples a pixel";
  if (t->planar != 1 && t->samples > 1) return "the image is a TIFF with a plane for each color";
  if (t->photometric == 2 && t->bits < 8) return "the image is a TIFF with colors of less than 8 bits";
  if (t->photometric == 3 && (t->bits > 8 || t->palette.size != 2 || t->palette.count < UINT64_C(3) << t->bits)) return "the image is a TIFF with a palette that is damaged";
  if (t->predictor > 2 || (t->predictor == 2 && t->bits < 8)) return "the image is a TIFF with a predictor that is not decoded";
  switch (t->compression) {
  case 1: case 5: case 8: case 32773: case 32946: return 0;
  case 2: case 3: case 4: return "the image is a TIFF with a compression of facsimile";
  case 6: case 7: return "the image is a TIFF with JPEG in it";
  default: return "the image is a TIFF with a compression that is not decoded";
  }
}

/* Sample `i` of a row; of 16 bits the upper 8, as the order of the file's bytes has them; else as it is. */
static uint32_t tiff_sample(const tiff_file *f, const tiff_image *t, const uint8_t *row, uint64_t i) {
  if (t->bits == 16) return row[2 * i + !f->big];
  if (t->bits == 8) return row[i];
  return row[i * t->bits / 8] >> (8 - t->bits - i * t->bits % 8) & ((1u << t->bits) - 1);
}

/* Undoes differences along a row, of samples of 8 or 16 bits. */
static void tiff_sum(const tiff_file *f, const tiff_image *t, uint8_t *row) {
  for (uint64_t i = t->samples; i < t->across * t->samples; i++) {
    if (t->bits == 8) {
      row[i] = (uint8_t)(row[i] + row[i - t->samples]);
      continue;
    }
    uint8_t *now = row + 2 * i, *before = row + 2 * (i - t->samples);
    int high = !f->big;
    uint32_t v = (uint32_t)(now[high] + before[high]) * 256 + now[!high] + before[!high];
    now[high] = (uint8_t)(v >> 8), now[!high] = (uint8_t)v;
  }
}

static void tiff_row(const tiff_file *f, const tiff_image *t, const uint8_t *row, uint64_t count, uint8_t *to) {
  uint32_t most = t->bits == 16 ? 255 : (1u << t->bits) - 1;
  for (uint64_t x = 0; x < count; x++) {
    uint32_t v = tiff_sample(f, t, row, x * t->samples);
    switch (t->photometric) {
    case 2:
      for (uint64_t k = 0; k < 3; k++) *to++ = (uint8_t)tiff_sample(f, t, row, x * t->samples + k);
      break;
    case 3:
      for (uint64_t k = 0; k < 3; k++) *to++ = (uint8_t)(tiff_value(f, t->palette, (k << t->bits) + v) >> 8);
      break;
    default: *to++ = (uint8_t)((t->photometric ? v : most - v) * 255 / most);
    }
  }
}

static int read_tiff(const uint8_t *data, uint64_t bytes, pw_image *p) {
  tiff_file f = {data, bytes, data[0] == 'M'};
  tiff_image t;
  const char *fault = tiff_form(&f, &t);
  if (fault) return image_fault(p, fault);
  int64_t channels = t.photometric < 2 ? 1 : 3;
  uint64_t row = (t.across * t.samples * t.bits + 7) / 8, piece = row * t.down;
  uint64_t columns = (t.width + t.across - 1) / t.across, rows = (t.height + t.down - 1) / t.down;
  if (t.offsets.count < columns * rows || t.counts.count < columns * rows) return image_fault(p, "the image is a TIFF that is damaged");
  if (!image_room(p, (int64_t)t.height, (int64_t)t.width, channels)) return 0;
  /* One byte of Deflate stands for at most 1032, so that no piece is larger than its file can fill but by so much. */
  uint8_t *raw = image_take((size_t)piece);
  tiff_codes *codes = image_take(sizeof *codes);
  int done = raw && codes ? 1 : image_fault(p, "there is no memory for the pixels of the image");
  for (uint64_t i = 0; done && i < columns * rows; i++) {
    uint64_t at = tiff_value(&f, t.offsets, i), count = tiff_value(&f, t.counts, i);
    if (at > bytes || count > bytes - at || count > INT32_MAX) {
      done = image_fault(p, "the image is a TIFF that ends before its pixels do");
      break;
    }
    /* The last strip has fewer rows. */
    uint64_t top = i / columns * t.down, left = i % columns * t.across;
    uint64_t high = t.height - top < t.down ? t.height - top : t.down, wide = t.width - left < t.across ? t.width - left : t.across;
    const uint8_t *from = data + at;
    uint64_t have = 0;
    switch (t.compression) {
    case 1: memcpy(raw, from, (size_t)(have = count < piece ? count : piece)); break;
    case 5: have = tiff_lzw(codes, from, count, raw, piece); break;
    case 32773: have = tiff_packbits(from, count, raw, piece); break;
    default: {
      int n = piece <= INT32_MAX ? stbi_zlib_decode_buffer((char *)raw, (int)piece, (const char *)from, (int)count) : -1;
      have = n < 0 ? 0 : (uint64_t)n;
    }
    }
    if (have < row * high) {
      done = image_fault(p, "the image is a TIFF that ends before its pixels do");
      break;
    }
    for (uint64_t y = 0; y < high; y++) {
      if (t.predictor == 2) tiff_sum(&f, &t, raw + y * row);
      tiff_row(&f, &t, raw + y * row, wide, p->pixels + ((top + y) * t.width + left) * (uint64_t)channels);
    }
  }
  image_give(codes);
  image_give(raw);
  return done;
}
