"""Every picture and clip must come out as the same upright RGB pixels, or as a DecodeError."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features

from preprocess.io import decode
from preprocess.io.decode import DecodeError, decode_image, read_encoding
from preprocess.io.formats import TooLargeError, UnknownFormatError
from preprocess.io.media import open_media

EXIF_ORIENTATION = 0x0112
PILLOW_GUARD = Image.MAX_IMAGE_PIXELS


@pytest.fixture
def picture(astronaut: np.ndarray) -> np.ndarray:
    """A small photograph that is neither square nor symmetric: uint8 96 x 160 x 3."""
    return astronaut[60:156, 150:310].copy()


def encode(pixels: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


# Still pictures


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
        np.testing.assert_array_equal(decode_image(data).pixels, np.asarray(first))


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


# Still pictures that are refused


def assert_refused(source: object, *parts: str, **options) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_image(source, **options)
    message = str(caught.value)
    assert isinstance(caught.value, ValueError)
    for part in (" but ", *parts):
        assert part in message, message
    assert len(re.findall("(?:^|: )expected ", message)) == 1, message


def test_missing_file(tmp_path):
    assert_refused(tmp_path / "missing.jpg", "missing.jpg", "No such file")


def test_folder(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    assert_refused(tmp_path / "folder.jpg", "folder.jpg", "got a folder")


def test_empty_file_and_no_bytes(tmp_path):
    (tmp_path / "empty.jpg").touch()
    assert_refused(tmp_path / "empty.jpg", "empty.jpg", "got an empty file")
    assert_refused(b"", "got 0 bytes")


def test_text_renamed_to_jpg(tmp_path):
    (tmp_path / "notes.jpg").write_text("these are no pixels\n" * 50)
    assert_refused(tmp_path / "notes.jpg", "notes.jpg", "a jpg, png, webp", "the content is text")


@pytest.mark.parametrize(
    ("head", "what"), [(b"\0\0\0\x18ftypisom", "a clip"), (b"fLaC", "sound"), (b"\1\2\3", "none")]
)
def test_something_else_renamed_to_jpg(tmp_path, head, what):
    (tmp_path / "x.jpg").write_bytes(head + bytes(40))
    assert_refused(tmp_path / "x.jpg", f"the content is {what}")


def test_heic_without_its_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if not installed
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    assert_refused(data, "got heic, which pip install 'ffdetect[heic]' reads")


def test_formats_that_run_other_programs_are_not_opened(tmp_path):
    (tmp_path / "page.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    assert_refused(tmp_path / "page.png", "page.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_pictures(tmp_path, picture, kind, share):
    data = encode(picture, kind)
    file = tmp_path / f"half.{kind.lower()}"
    file.write_bytes(data[: int(len(data) * share)])
    assert_refused(file, file.name)


def test_file_that_may_not_be_read(tmp_path, picture, monkeypatch):
    file = tmp_path / "secret.png"
    file.write_bytes(encode(picture, "PNG"))
    file.chmod(0)
    if os.access(file, os.R_OK):  # the superuser reads everything

        def refuse(*_args, **_options):
            raise PermissionError(13, "Permission denied", str(file))

        monkeypatch.setattr(Path, "open", refuse)
    assert_refused(file, "secret.png", "Permission denied")


def test_names_that_no_file_system_takes():
    assert_refused("a\0b.jpg", "b.jpg")
    assert_refused("x" * 5000 + ".jpg", ".jpg")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_of_other_shapes_and_dtypes(array):
    assert_refused(array, "uint8 H x W x 3", str(array.dtype), str(array.shape))


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(3, 8, 8), torch.zeros(8, 8, 3).byte(), torch.zeros(1, 3, 8, 8).byte()],
    ids=lambda tensor: f"{tensor.dtype}-{tuple(tensor.shape)}",
)
def test_tensors_of_other_shapes_and_dtypes(tensor):
    assert_refused(tensor, "uint8 3 x H x W")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.linspace(0, 1, 192).reshape(8, 8, 3), "values from 0 to 1; times 255"),
        (np.linspace(0, 255, 192, dtype=np.float32).reshape(8, 8, 3), "from 0 to 255; rounded and"),
        (np.full((8, 8, 3), 65535, np.uint16), "to 65535; divided by 256"),
        (np.full((8, 8, 3), -1.5), "with values from -1.5 to -1.5"),
        (np.full((8, 8, 3), np.nan), "with values from nan to nan"),
    ],
)
def test_arrays_of_another_range_are_told_what_to_do(array, words):
    assert_refused(array, words)
    if array.dtype != np.uint16:
        assert_refused(torch.from_numpy(array).permute(2, 0, 1), words)


def test_other_types():
    assert_refused(3, "got int")
    assert_refused(None, "got NoneType")


def test_32_bit_pictures():
    assert_refused(encode(Image.new("I", (4, 4), 1 << 20), "TIFF"), "16 bits", "1048576")


# Sizes


def test_one_pixel_and_a_long_strip_are_pictures(tmp_path):
    for width, height in ((1, 1), (20000, 50), (50, 20000)):
        for kind in ("PNG", "JPEG"):
            pixels = decode_image(encode(Image.new("RGB", (width, height), "red"), kind)).pixels
            assert pixels.shape == (height, width, 3)


def bomb_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def bomb_gif() -> bytes:
    data = bytearray(encode(Image.new("P", (8, 8)), "GIF"))
    data[6:10] = struct.pack("<HH", 65000, 65000)
    return bytes(data)


@pytest.mark.parametrize("data", [bomb_png(60000, 60000), bomb_gif()], ids=["png", "gif"])
def test_a_bomb_is_refused_before_its_pixels_are_decoded(tmp_path, monkeypatch, data):
    file = tmp_path / "bomb.png"
    file.write_bytes(data)

    def decoded(*_args):
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    assert_refused(file, "bomb.png", "at most 100 megapixels", "max_megapixels")
    assert_refused(data, "at most 100 megapixels")
    assert Image.MAX_IMAGE_PIXELS == PILLOW_GUARD


def test_max_megapixels_is_the_only_limit(picture, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow itself refuses twice as much
    data = encode(picture, "PNG")
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    assert_refused(data, "expected at most 0.015 megapixels but got 160 x 96", max_megapixels=0.015)
    # Pillow before 13 guards strips too, which are small where a picture is large.
    monkeypatch.setattr(decode, "_STRIP", 1)
    np.testing.assert_array_equal(decode_image(data).pixels, picture)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"PK\3\4" + bytes(100), UnknownFormatError),
        (b"no pixels", UnknownFormatError),
        (b"RIFF\x24\0\0\0WAVEfmt ", UnknownFormatError),
        (b"\xff\xd8\xff\xe0" + bytes(50), DecodeError),
        (b"\x89PNG\r\n\x1a\n", DecodeError),
        (None, TooLargeError),
    ],
    ids=["zip", "text", "sound", "jpeg", "png", "large"],
)
def test_errors_tell_a_foreign_file_from_a_damaged_and_a_large_one(picture, data, kind):
    with pytest.raises(DecodeError) as caught:
        decode_image(data or encode(picture, "PNG"), max_megapixels=0.01)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"PK\3\4" + bytes(100), UnknownFormatError), (b"\0\0\0\x18ftypmp42", DecodeError)],
    ids=["zip", "clip"],
)
def test_errors_tell_a_foreign_file_from_a_damaged_clip(tmp_path, data, kind):
    (tmp_path / "clip.mp4").write_bytes(data)
    with pytest.raises(DecodeError) as caught:
        open_media(tmp_path / "clip.mp4", "a clip")
    assert type(caught.value) is kind


def test_max_megapixels_holds_for_pixels_in_memory(picture):
    sources = (picture, torch.from_numpy(picture).permute(2, 0, 1), Image.fromarray(picture))
    for source in sources:
        assert_refused(source, "160 x 96", max_megapixels=0.01)
        assert decode_image(source, max_megapixels=0.016).width == 160
    assert Image.MAX_IMAGE_PIXELS == PILLOW_GUARD


def test_pillows_own_guard_is_restored_after_an_error():
    with pytest.raises(DecodeError):
        decode_image(b"no picture at all")
    assert Image.MAX_IMAGE_PIXELS == PILLOW_GUARD
