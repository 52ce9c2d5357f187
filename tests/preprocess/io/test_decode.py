"""Every picture and clip must come out as the same upright RGB pixels, or as a DecodeError."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features

from preprocess.io.decode import DecodeError, decode_image, read_encoding

EXIF_ORIENTATION = 0x0112


def encode(pixels: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def assert_refused(source: object, *parts: str, **options) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_image(source, **options)
    message = str(caught.value)
    assert isinstance(caught.value, ValueError)
    for part in (" but ", *parts):
        assert part in message, message
    assert len(re.findall("(?:^|: )expected ", message)) == 1, message


@pytest.mark.parametrize(
    ("suffix", "kind", "options"),
    [
        ("png", "PNG", {}),
        ("bmp", "BMP", {}),
        ("tiff", "TIFF", {}),
        ("tif", "TIFF", {"compression": "tiff_lzw"}),
        ("webp", "WEBP", {"lossless": True}),
    ],
)
def test_lossless_formats_come_back_bit_for_bit(tmp_path, picture, suffix, kind, options):
    file = tmp_path / f"picture.{suffix}"
    file.write_bytes(encode(picture, kind, **options))
    decoded = decode_image(file)
    assert decoded.pixels.dtype == np.uint8 and decoded.pixels.flags.c_contiguous
    np.testing.assert_array_equal(decoded.pixels, picture)
    assert decoded.format == ("webp-lossless" if kind == "WEBP" else kind.lower())
    assert (decoded.width, decoded.height) == (160, 96)
    assert (decoded.name, decoded.frame, decoded.jpeg_quality) == (str(file), -1, -1)


@pytest.mark.parametrize(
    ("suffix", "kind", "options"),
    [
        ("jp2", "JPEG2000", {}),
        ("j2k", "JPEG2000", {"no_jp2": True}),
        ("ppm", "PPM", {}),
        ("qoi", "QOI", {}),
        ("tga", "TGA", {}),
        ("avif", "AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        ("heic", "HEIF", {"quality": -1, "chroma": 444}),
    ],
)
def test_formats_that_come_with_newer_decoders(tmp_path, picture, suffix, kind, options):
    if kind == "HEIF":
        heif = pytest.importorskip("pillow_heif", reason="heic needs the [heic] extra")
        heif.register_heif_opener()
    Image.init()
    if kind not in Image.SAVE or (kind == "AVIF" and not features.check("avif")):
        pytest.skip(f"this Pillow does not write {kind}")
    file = tmp_path / f"picture.{suffix}"
    file.write_bytes(encode(picture, kind, **options))
    close = 6 if suffix in ("avif", "heic") else 0
    for source in (file, Image.open(file)):
        decoded = decode_image(source)
        assert decoded.format == {"j2k": "jp2"}.get(suffix, suffix)
        assert np.abs(decoded.pixels.astype(int) - picture).max() <= close
    file.write_bytes(file.read_bytes()[:300])
    assert_refused(file, file.name)


def test_an_orientation_that_avif_keeps_in_its_own_way_is_applied_once(picture):
    if not features.check("avif"):
        pytest.skip("Pillow was built without AVIF")
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    pixels = decode_image(encode(picture, "AVIF", quality=95, exif=exif)).pixels
    assert np.abs(pixels.astype(int) - np.rot90(picture, -1)).mean() < 8


@pytest.mark.parametrize("container", ["plain", "extended", "with alpha", "animated"])
@pytest.mark.parametrize("lossless", [True, False])
def test_lossless_webp_is_told_from_lossy_webp(tmp_path, picture, container, lossless):
    image, options = Image.fromarray(picture), {"lossless": lossless}
    if container == "extended":
        options["exif"] = b"Exif\0\0" + bytes(20)
    elif container == "with alpha":
        image = image.convert("RGBA")
        image.putpixel((0, 0), (1, 2, 3, 4))
    elif container == "animated":
        options |= {"save_all": True, "append_images": [Image.fromarray(picture[::-1])]}
    file = tmp_path / "picture.webp"
    file.write_bytes(encode(image, "WEBP", **options))
    loaded = Image.open(file)
    loaded.load()
    expected = "webp-lossless" if lossless else "webp"
    in_memory = Image.open(io.BytesIO(file.read_bytes()))
    for source in (file, file.read_bytes(), Image.open(file), loaded, in_memory):
        assert decode_image(source).format == expected
    assert read_encoding(file).format == expected


def test_a_webp_file_without_a_picture_is_refused():
    assert_refused(b"RIFF\x04\0\0\0WEBP", "header is damaged")
    assert_refused(b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 60, "header is damaged")


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {})])
def test_lossy_formats_come_back_close(picture, kind, options):
    decoded = decode_image(encode(picture, kind, **options))
    assert decoded.format == kind.lower()
    assert np.abs(decoded.pixels.astype(int) - picture).mean() < 8


def test_gif_and_other_animations_give_their_first_frame():
    first, second = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encode(first, kind, save_all=True, append_images=[second], **options)
        decoded = decode_image(data)
        np.testing.assert_array_equal(decoded.pixels, np.asarray(first))
        assert decoded.animated == (kind != "TIFF")  # whose pages are no frames
        assert not decode_image(encode(first, kind)).animated


def test_a_png_that_has_a_picture_for_when_it_is_not_played_gives_its_first_frame():
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    still = Image.new("RGB", (40, 30), "green")
    data = encode(still, "PNG", save_all=True, append_images=frames, default_image=True)
    for source in (data, Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(decode_image(source).pixels, np.asarray(frames[0]))


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "I;16"])
def test_a_picture_without_pixels_is_refused(mode):
    with pytest.raises(DecodeError, match="expected a picture but got 0 x 5 pixels"):
        decode_image(Image.new(mode, (0, 5)))


def test_mpo_files_of_stereo_cameras_count_as_jpeg(picture):
    image = Image.fromarray(picture)
    data = encode(image, "MPO", save_all=True, append_images=[image], quality=90)
    decoded = decode_image(data)
    assert (decoded.format, decoded.jpeg_quality) == ("jpeg", 90)
    np.testing.assert_array_equal(decoded.pixels, np.asarray(Image.open(io.BytesIO(data))))


def test_format_is_read_from_the_content_not_from_the_name(tmp_path, picture):
    file = tmp_path / "picture.jpg"
    file.write_bytes(encode(picture, "PNG"))
    decoded = decode_image(file)
    assert (decoded.format, decoded.jpeg_quality) == ("png", -1)
    np.testing.assert_array_equal(decoded.pixels, picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(picture, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    for kind in ("JPEG", "PNG"):
        data = encode(picture, kind, exif=exif)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        decoded = decode_image(data)
        np.testing.assert_array_equal(decoded.pixels, np.asarray(upright))
        assert (decoded.width < decoded.height) == (orientation >= 5)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0" + bytes(20),
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12",
        b"x",
    ],
)
def test_damaged_camera_metadata_is_no_damage_to_the_picture(picture, kind, exif):
    plain = decode_image(encode(picture, kind)).pixels
    np.testing.assert_array_equal(decode_image(encode(picture, kind, exif=exif)).pixels, plain)


def test_grey_is_repeated_over_the_channels(picture):
    grey = picture[..., 1]
    pixels = decode_image(encode(grey, "PNG")).pixels
    np.testing.assert_array_equal(pixels, np.repeat(grey[..., None], 3, 2))


def test_sixteen_bit_grey_keeps_its_upper_byte(picture):
    grey = picture[..., 1].astype(np.uint16) << 8 | 0x55
    for kind in ("PNG", "TIFF"):
        pixels = decode_image(encode(Image.fromarray(grey), kind)).pixels
        np.testing.assert_array_equal(pixels, np.repeat(picture[..., 1:2], 3, 2))


def test_cmyk_is_turned_into_rgb(picture):
    cmyk = Image.fromarray(picture).convert("CMYK")
    np.testing.assert_array_equal(decode_image(encode(cmyk, "TIFF")).pixels, picture)
    decoded = decode_image(encode(cmyk, "JPEG", quality=95))
    assert np.abs(decoded.pixels.astype(int) - picture).mean() < 8


def test_palette_pictures_show_their_colours(picture):
    palette = Image.fromarray(picture).quantize(64)
    expected = np.asarray(palette.convert("RGB"))
    for kind in ("PNG", "GIF", "BMP"):
        np.testing.assert_array_equal(decode_image(encode(palette, kind)).pixels, expected)


@pytest.mark.parametrize("size", [(701, 1003), (400_000, 1), (1, 1)])
def test_pictures_larger_than_what_is_copied_at_once_are_whole(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    np.testing.assert_array_equal(decode_image(Image.fromarray(pixels)).pixels, pixels)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_pixels_are_shown_over_white(mode):
    image = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 128, 255)):
        image.putpixel((x, 0), (0, 0, 0, alpha))
    pixels = decode_image(image.convert(mode)).pixels
    expected = [255, 127, 0]
    assert np.abs(pixels[0, :, 0].astype(int) - expected).max() <= 1
    assert (pixels == pixels[..., :1]).all()


def test_transparent_palette_entries_are_shown_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        pixels = decode_image(encode(image, kind, transparency=0)).pixels
        np.testing.assert_array_equal(pixels, [[[255, 255, 255], [200, 100, 50]]])


def test_every_kind_of_input_gives_the_same_pixels(tmp_path, picture):
    file = tmp_path / "picture.jpg"
    file.write_bytes(encode(picture, "JPEG", quality=90))
    expected = np.asarray(Image.open(file))
    sources = {
        "path": file,
        "string": str(file),
        "bytes": file.read_bytes(),
        "bytearray": bytearray(file.read_bytes()),
        "memoryview": memoryview(file.read_bytes()),
        "PIL": Image.open(file),
        "array": expected,
        "view of an array": np.asfortranarray(expected),
        "tensor": torch.from_numpy(expected.copy()).permute(2, 0, 1),
    }
    for name, source in sources.items():
        decoded = decode_image(source)
        np.testing.assert_array_equal(decoded.pixels, expected, err_msg=name)
        in_memory = name in ("array", "view of an array", "tensor")
        assert decoded.format == ("array" if in_memory else "jpeg")


def test_decoded_pixels_may_be_changed_without_changing_the_source(tmp_path, picture):
    before = picture.copy()
    for source in (Image.fromarray(picture), encode(picture, "PNG")):
        decode_image(source).pixels[:] = 0
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("quality", [1, 5, *range(30, 99, 4), 98, 100])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_quality_is_read_from_the_tables(picture, quality, subsampling):
    data = encode(picture, "JPEG", quality=quality, subsampling=subsampling)
    assert decode_image(data).jpeg_quality == quality
