/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/* PGM and PPM, as text and as bytes. */

typedef struct {
  const uint8_t *at, *end;
} pnm_text;

static int pnm_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* The next number, at most `most`; -1 = there is none. */
static int64_t pnm_number(pnm_text *t, int64_t most) {
  for (; t->at < t->end && (pnm_space(*t->at) || *t->at == '#'); t->at++)
    if (*t->at == '#') while (t->at < t->end && *t->at != '\n' && *t->at != '\r') t->at++;
  int64_t v = -1;
  for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++) {
    v = (v < 0 ? 0 : v) * 10 + (*t->at - '0');
    if (v > most) return -1;
  }
  return v;
}

static int read_pnm(const uint8_t *data, uint64_t bytes, pw_image *p) {
  static const char *damaged = "the image is a PNM that is damaged";
  pnm_text t = {data + 2, data + bytes};
  int text = data[1] < '4', colors = data[1] == '3' || data[1] == '6';
  int64_t width = pnm_number(&t, PW_IMAGE_SIDE), height = pnm_number(&t, PW_IMAGE_SIDE), most = pnm_number(&t, 65535);
  if (width < 1 || height < 1 || most < 1 || t.at == t.end || !pnm_space(*t.at)) return image_fault(p, damaged);
  t.at++;
  int64_t count = width * height * (colors ? 3 : 1), size = most > 255 ? 2 : 1;
  /* Every element takes a byte at least, so that no more is allocated than the file's size tells. */
  if (count > (t.end - t.at) / (text ? 1 : size)) return image_fault(p, damaged);
  if (!image_room(p, height, width, colors ? 3 : 1)) return 0;
  for (int64_t i = 0; i < count; i++) {
    int64_t v = text ? pnm_number(&t, 65535) : size == 2 ? t.at[2 * i] * 256 + t.at[2 * i + 1] : t.at[i];
    if (v < 0) return image_fault(p, damaged);
    p->pixels[i] = (uint8_t)(v >= most ? 255 : (v * 510 + most) / (2 * most));
  }
  return 1;
}
