# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Writes the images beside this file, and NAME.rgb: their pixels as Pillow has them.

    python3 gen.py

Needs the wheels pillow and numpy.
"""
import os

import numpy as np
from PIL import Image

OUT = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(1)


def picture(w, h):
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([128 + 100 * np.sin(x / 5 + y / 9), 128 + 90 * np.cos(x / 11 - y / 4), (x * 7 + y * 3) % 256], -1)
    return Image.fromarray(np.clip(a + rng.normal(0, 12, a.shape), 0, 255).astype(np.uint8))


def write(name, image, **how):
    path = os.path.join(OUT, name)
    image.save(path, **how)
    pixels = np.asarray(Image.open(path).convert("RGB"))
    with open(f"{path}.rgb", "wb") as f:
        f.write(pixels.tobytes())


p = picture(19, 13)
gray = picture(19, 13).convert("L")
clear = picture(19, 13).convert("RGBA")
clear.putalpha(gray)
write("baseline_420.jpg", p, quality=80, subsampling=2)
write("baseline_422.jpg", p, quality=60, subsampling=1)
write("progressive_420.jpg", p, quality=70, subsampling=2, progressive=True)
write("narrow_420.jpg", p.crop((0, 0, 3, 5)), quality=90, subsampling=2)
write("gray.jpg", gray, quality=75)
write("inks.jpg", p.convert("CMYK"), quality=85)
write("palette.png", p.convert("P"))
write("two.png", p.convert("1"))
write("clear.png", clear)
write("palette.bmp", p.convert("P"))
write("lossy.webp", p, quality=50)
write("lossless.webp", p, lossless=True)
write("clear.webp", clear, quality=70, exact=True)
write("differences.tif", p, compression="tiff_lzw", tiffinfo={317: 2})
write("palette_lzw.tif", p.convert("P"), compression="tiff_lzw")
write("two_packbits.tif", p.convert("1"), compression="packbits")
write("deflate.tif", p, compression="tiff_adobe_deflate")
write("gray.pgm", gray)
