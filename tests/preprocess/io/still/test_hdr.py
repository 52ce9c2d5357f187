"""HDR in AVIF, HEIC and PNG: read as a clip of the same light is."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from preprocess.io.decode import decode_image
from preprocess.io.still.hdr import hdr_transfer
from tests.preprocess.io.test_colour import SPACES, rgb_profile
from tests.preprocess.io.video.light import TO_2020, to_hlg, to_light, to_pq
from tests.preprocess.media import small_photo

TRANSFERS = {"PQ": (16, to_pq), "HLG": (18, to_hlg)}


def encoded(pixels: np.ndarray, kind: str, transfer: int) -> bytes:
    """A file whose colours are those of BT.2020 in some transfer function."""
    stream = io.BytesIO()
    if kind == "AVIF":
        if not features.check("avif"):
            pytest.skip("Pillow was built without AVIF")
        Image.fromarray(pixels).save(stream, "AVIF", quality=100, subsampling="4:4:4")
        data = stream.getvalue()
        at = data.index(b"colrnclx") + 8
        return data[:at] + struct.pack(">HH", 9, transfer) + data[at + 4 :]
    if kind == "PNG":
        # For programs that know nothing of HDR.
        profile = rgb_profile(*SPACES["ProPhoto"]) if transfer != 13 else None
        Image.fromarray(pixels).save(stream, "PNG", icc_profile=profile)
        data = stream.getvalue()
        chunk = b"cICP" + bytes((9, transfer, 0, 1))
        chunk = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return data[:33] + chunk + data[33:]  # behind the header
    heif = pytest.importorskip("pillow_heif", reason="heic needs the [heic] extra")
    heif.register_heif_opener()
    colours = {"color_primaries": 9, "transfer_characteristics": transfer}
    Image.fromarray(pixels).save(stream, "HEIF", quality=100, chroma=444, **colours)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "PNG"])
@pytest.mark.parametrize("name", TRANSFERS)
def test_hdr_is_tone_mapped(tmp_path, astronaut, kind, name):
    darker = (small_photo(astronaut) * 0.7).astype(np.uint8)
    transfer, encode = TRANSFERS[name]
    signal = encode(203 * to_light(darker) @ TO_2020.T)
    data = encoded(np.round(255 * signal).astype(np.uint8), kind, transfer)
    file = tmp_path / "picture"
    file.write_bytes(data)
    for source in (data, file, Image.open(file)):
        picture = decode_image(source)
        assert picture.hdr == name
        assert np.abs(picture.pixels.astype(int) - darker).mean() < 5


@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "PNG"])
def test_pictures_of_less_range_are_left_alone(astronaut, kind):
    photo = small_photo(astronaut)
    picture = decode_image(encoded(photo, kind, 13))
    assert picture.hdr is None
    assert np.abs(picture.pixels.astype(int) - photo).mean() < 4


def test_the_primary_item_alone_says_what_is_shown(astronaut):
    """Another item, as a gain map's, may be HDR beside a picture that is not."""
    data = encoded(small_photo(astronaut), "AVIF", 16)
    at = data.index(b"pitm") + 8
    other = data[:at] + struct.pack(">H", 77) + data[at + 2 :]
    assert hdr_transfer(io.BytesIO(data)) == "PQ"
    assert hdr_transfer(io.BytesIO(other)) is None


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("wide", [0, 1])
def test_properties_are_those_that_the_item_names(version, wide):
    """Of two colours the second is the first item's, the first another's; by the layouts of ipma
    that the standard has, and as properties that must be understood."""
    colours = [box(b"colr", b"nclx", struct.pack(">HHHB", 9, t, 9, 128)) for t in (18, 16)]
    item, number = (">I" if version else ">H"), (">H" if wide else ">B")
    must = 0x8000 if wide else 0x80
    named = b"".join(
        struct.pack(item, own) + b"\1" + struct.pack(number, must | index)
        for own, index in ((7, 1), (1, 2))
    )
    ipma = box(b"ipma", struct.pack(">B2xBI", version, wide, 2), named)
    pitm = box(b"pitm", struct.pack(">B3x", version), struct.pack(item, 1))
    meta = box(b"meta", bytes(4), pitm, box(b"iprp", box(b"ipco", *colours), ipma))
    assert hdr_transfer(io.BytesIO(box(b"ftyp", b"avif") + meta)) == "PQ"


@pytest.mark.parametrize("kind", ["AVIF", "PNG"])
def test_damage_says_nothing(astronaut, kind):
    data = encoded(small_photo(astronaut), kind, 16)
    for cut in range(0, 400, 7):
        hdr_transfer(io.BytesIO(data[:cut]))
    for place in range(8, 400):
        hdr_transfer(io.BytesIO(data[:place] + b"\xff" + data[place + 1 :]))
    assert hdr_transfer(None) is None
    assert hdr_transfer(io.BytesIO(b"\x89PNG" + bytes(100))) is None


def test_the_stream_stays_where_it_was(astronaut):
    stream = io.BytesIO(encoded(small_photo(astronaut), "PNG", 18))
    stream.seek(5)
    assert hdr_transfer(stream) == "HLG" and stream.tell() == 5
