"""Files and values that are no picture are refused, and named."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from preprocess.io import decode
from preprocess.io.decode import DecodeError, decode_image
from preprocess.io.formats import HEAD, TooLargeError, UnknownFormatError, media_of_content
from preprocess.io.media import open_media
from preprocess.io.storage import read_head

from .test_decode import assert_refused, encode

PILLOW_GUARD = Image.MAX_IMAGE_PIXELS


def test_missing_file(tmp_path):
    assert_refused(tmp_path / "missing.jpg", "missing.jpg", "No such file")


def test_folder(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    assert_refused(tmp_path / "folder.jpg", "folder.jpg", "got a folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("name", ["pipe", "pipe.jpg", "pipe.mp4"])
def test_pipes_are_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert media_of_content(read_head(tmp_path / name, HEAD)) == ""
    assert_refused(tmp_path / name, name, "got a pipe or device")
    with pytest.raises(DecodeError, match="expected a clip but got a pipe or device"):
        open_media(tmp_path / name, "a clip")


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
    monkeypatch.setattr(decode, "STRIP", 1)
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
