// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Images in files as pixels, by the same C that bundles have ([`crate::embed::image_object_for`]): for the interpreters.

/// Reads BMP, JPEG, PNG, PNM, TIFF or WebP as the host operation `image_decode` does. `layout` is 0 for red, green, blue, 1 for blue,
/// green, red, 2 for gray. Returns height, width and channels (3, of gray 1), and the pixels in row-major order.
///
/// # Errors
/// A sentence: what the file is and what is wrong with it; every file in a build without the feature `embed`.
pub fn read(file: &[u8], layout: i64) -> Result<([usize; 3], Vec<u8>), String> {
    native::read(file, layout)
}

#[cfg(not(feature = "embed"))]
mod native {
    pub fn read(_: &[u8], _: i64) -> Result<([usize; 3], Vec<u8>), String> {
        Err("this build has nothing that reads images".into())
    }
}

#[cfg(feature = "embed")]
mod native {
    use std::ffi::{CStr, c_char};

    /// `pw_image` of image.h.
    #[repr(C)]
    struct Image {
        height: i64,
        width: i64,
        channels: i64,
        pixels: *mut u8,
        fault: *const c_char,
    }

    unsafe extern "C" {
        fn pw_image_read(data: *const u8, bytes: u64, image: *mut Image) -> i32;
        fn pw_image_write(image: *const Image, layout: i32, to: *mut u8);
        fn pw_image_free(image: *mut Image);
    }

    pub fn read(file: &[u8], layout: i64) -> Result<([usize; 3], Vec<u8>), String> {
        let layout = i32::try_from(layout).ok().filter(|l| (0..3).contains(l)).ok_or("a layout that there is none of")?;
        let mut image = Image { height: 0, width: 0, channels: 0, pixels: std::ptr::null_mut(), fault: std::ptr::null() };
        // SAFETY: the file is as long as is said; the image is written, and given back below whatever came of it.
        let done = unsafe { pw_image_read(file.as_ptr(), file.len() as u64, &mut image) };
        let result = if done == 0 || image.pixels.is_null() {
            // SAFETY: a fault is a static text or null.
            let said = (!image.fault.is_null()).then(|| unsafe { CStr::from_ptr(image.fault) }.to_string_lossy().into_owned());
            Err(said.unwrap_or_else(|| "the image cannot be read".into()))
        } else {
            let dims = [image.height, image.width, if layout == 2 { 1 } else { 3 }].map(|d| usize::try_from(d).unwrap_or(0));
            let mut pixels = vec![0; dims.iter().product()];
            // SAFETY: there is room for height x width pixels of the layout.
            unsafe { pw_image_write(&image, layout, pixels.as_mut_ptr()) };
            Ok((dims, pixels))
        };
        // SAFETY: of pw_image_read.
        unsafe { pw_image_free(&mut image) };
        result
    }
}

#[cfg(all(test, feature = "embed"))]
mod tests {
    use super::read;

    /// Two pixels, red and gray, in the forms that are short enough to be written by hand.
    #[test]
    fn small_files() {
        let ppm = b"P6 2 1 255\n\xff\x00\x00\x80\x80\x80".to_vec();
        let text = b"P3\n# two\n2 1\n15\n15 0 0 8 8 8\n".to_vec();
        let field = |tag: u16, kind: u16, count: u32, value: u32| {
            [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value.to_le_bytes()].concat()
        };
        let tiff = |compression: u32, strip: &[u8]| {
            // Pixels at byte 8, directory behind them.
            let directory = 8 + strip.len() as u32;
            let fields = [
                (256, 3, 1, 2),
                (257, 3, 1, 1),
                (258, 3, 1, 8),
                (259, 3, 1, compression),
                (262, 3, 1, 2),
                (273, 4, 1, 8),
                (277, 3, 1, 3),
                (279, 4, 1, strip.len() as u32),
            ];
            let entries = fields.map(|(t, k, c, v)| field(t, k, c, v)).concat();
            [b"II*\0", &directory.to_le_bytes()[..], strip, &(fields.len() as u16).to_le_bytes(), &entries, &[0; 4]].concat()
        };
        let plain = tiff(1, b"\xff\x00\x00\x80\x80\x80");
        let packed = tiff(32773, b"\x00\xff\xff\x00\xfe\x80");
        // Nine bits a code; 261 is the one that it makes itself.
        let lzw = |codes: &[u64]| {
            let bits = codes.iter().fold(0u128, |b, c| b << 9 | u128::from(*c));
            tiff(5, &(bits << (128 - 9 * codes.len())).to_be_bytes()[..(9 * codes.len()).div_ceil(8)])
        };
        let (single, own) = (lzw(&[256, 255, 0, 0, 128, 128, 128, 257]), lzw(&[256, 255, 0, 0, 128, 261, 257]));
        for file in [ppm, text, plain, packed, single, own] {
            let name = String::from_utf8_lossy(&file).into_owned();
            let want = if name.starts_with("P3") { 136 } else { 128 };
            assert_eq!(read(&file, 0), Ok(([1, 2, 3], vec![255, 0, 0, want, want, want])), "{name:?}");
            assert_eq!(read(&file, 1).map(|r| r.1), Ok(vec![0, 0, 255, want, want, want]));
            assert_eq!(read(&file, 2), Ok(([1, 2, 1], vec![76, want])));
        }
    }

    /// Pixels are those of Pillow, whatever the format (`tests/images/gen.py`).
    #[test]
    fn as_pillow_has_them() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images");
        let mut seen = 0;
        for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if path.extension().is_some_and(|e| e == "rgb" || e == "py") {
                continue;
            }
            let want = std::fs::read(format!("{}.rgb", path.display())).unwrap();
            let (dims, pixels) = read(&std::fs::read(&path).unwrap(), 0).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(dims.iter().product::<usize>(), want.len(), "{}", path.display());
            assert!(pixels == want, "{} has other pixels", path.display());
            seen += 1;
        }
        assert!(seen > 10, "{seen} images");
    }

    #[test]
    fn what_is_no_image_is_named() {
        for (file, says) in [
            (&b""[..], "not known"),
            (b"GIF89a", "GIF"),
            (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
            (b"\x89PNG\r\n\x1a\n", "PNG that is damaged"),
            (b"\xff\xd8\xff\xe0", "JPEG that is damaged"),
            (
                b"BMZ\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x7f\0\0\0\0\0\0\0\x01\0\x18\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                "no pixels",
            ),
            (b"P6 9 9 255\n", "PNM that is damaged"),
            (b"P6 99999999 9 255\n", "PNM that is damaged"),
            (b"II*\0\xff\xff\xff\xff", "TIFF that is damaged"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "WebP that is damaged"),
        ] {
            let fault = read(file, 0).unwrap_err();
            assert!(fault.contains(says), "{fault}");
        }
        assert!(read(b"P5 1 1 255\n\x07", 3).is_err());
    }
}
