"""Damage to what a file says beside its pixels is no damage to the picture."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from preprocess.io.decode import DecodeError, decode_image, read_encoding
from tests.preprocess.io.test_decode import assert_refused, encode

BOMB = zlib.compress(bytes(5_000_000))  # Pillow unpacks no more than a megabyte


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(png: bytes, whole: bytes, *, at_the_end: bool = False) -> bytes:
    place = png.rindex(b"IEND") - 4 if at_the_end else 33
    return png[:place] + whole + png[place:]


PNG_CHUNKS = {
    "text that does not add up": chunk(b"tEXt", b"Comment\0hello")[:-1] + b"?",
    "text that is large": chunk(b"zTXt", b"workflow\0\0" + BOMB),
    "international text that is large": chunk(b"iTXt", b"workflow\0\1\0\0\0" + BOMB),
    "a profile that is large": chunk(b"iCCP", b"x\0\0" + BOMB),
    "a profile packed in another way": chunk(b"iCCP", b"x\0\5abc"),
    "an animation of no frames": chunk(b"acTL", bytes(8)),
    "an animation cut off": chunk(b"acTL", b""),
    "a gamma cut off": chunk(b"gAMA", b"1"),
    "a resolution cut off": chunk(b"pHYs", b""),
    "transparency cut off": chunk(b"tRNS", b"1"),
}


@pytest.mark.parametrize("at_the_end", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", PNG_CHUNKS)
def test_chunks_of_a_png(picture, name, at_the_end):
    png = with_chunk(encode(picture, "PNG"), PNG_CHUNKS[name], at_the_end=at_the_end)
    assert np.array_equal(decode_image(png).pixels, picture)


def test_a_png_keeps_what_is_whole(picture):
    """Transparency, orientation and profile count although a text is damaged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    shown = np.dstack([picture, np.full(picture.shape[:2], 128, np.uint8)])
    for pixels in (picture, shown, Image.fromarray(picture).quantize(16)):
        png = encode(pixels, "PNG", icc_profile=profile, exif=exif.tobytes())
        damaged = with_chunk(png, PNG_CHUNKS["text that does not add up"])
        assert np.array_equal(decode_image(damaged).pixels, decode_image(png).pixels)


JPEG_SEGMENTS = {
    "a header cut off": (0, b"JFIF"),
    "a profile cut off": (2, b"ICC_PROFILE\0"),
    "a note of Adobe's cut off": (14, b"Adobe"),
    "pictures that are not there": (2, b"MPF\0MM\0*\0\0\0\x08"),
    "no camera at all": (1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("name", JPEG_SEGMENTS)
def test_segments_of_a_jpeg(picture, name):
    number, body = JPEG_SEGMENTS[name]
    jpeg = encode(picture, "JPEG", quality=90)
    segment = struct.pack(">BBH", 0xFF, 0xE0 + number, len(body) + 2) + body
    damaged = decode_image(jpeg[:2] + segment + jpeg[2:])
    assert np.array_equal(damaged.pixels, decode_image(jpeg).pixels)
    assert damaged.jpeg_quality == 90


def test_a_jpeg_keeps_its_orientation(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg = encode(picture, "JPEG", exif=exif.tobytes())
    damaged = jpeg[:2] + b"\xff\xe2\0\x0eICC_PROFILE\0" + jpeg[2:]
    assert np.array_equal(decode_image(damaged).pixels, decode_image(jpeg).pixels)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_without_its_end_mark_is_whole(picture, options):
    jpeg = encode(picture, "JPEG", quality=95, **options)
    whole = decode_image(jpeg).pixels
    for cut in (1, 2):
        assert np.array_equal(decode_image(jpeg[:-cut]).pixels, whole)
    for cut in (10, len(jpeg) // 3):
        with pytest.raises(DecodeError, match="a whole jpeg picture but it is damaged"):
            decode_image(jpeg[:-cut])


def test_the_header_alone_can_be_read(tmp_path, picture):
    file = tmp_path / "a.png"
    file.write_bytes(with_chunk(encode(picture, "PNG"), PNG_CHUNKS["text that is large"]))
    assert read_encoding(file).format == "png"


def test_damage_to_pixels_stays_damage(picture):
    png = encode(picture, "PNG")
    place = png.index(b"IDAT") + 300
    damaged = png[:place] + bytes(50) + png[place + 50 :]
    assert_refused(with_chunk(damaged, PNG_CHUNKS["text that does not add up"]), "png")
    assert_refused(encode(picture, "JPEG")[:-100], "whole jpeg")


def test_no_warnings_of_libraries(picture, tmp_path):
    number, body = JPEG_SEGMENTS["pictures that are not there"]
    jpeg = encode(picture, "JPEG")
    segment = struct.pack(">BBH", 0xFF, 0xE0 + number, len(body) + 2) + body
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    code = "import sys; from preprocess.io.decode import decode_image; decode_image(sys.argv[1])"
    command = [sys.executable, "-W", "always", "-c", code, str(tmp_path / "a.jpg")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "PIL" not in run.stderr


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_that_ends_anywhere_in_its_header_is_no_picture(kind):
    data = encode(Image.new("RGB", (40, 40), "red"), kind)
    for length in range(1, 60):
        with pytest.raises(DecodeError):
            decode_image(data[:length])
