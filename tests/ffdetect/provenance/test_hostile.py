"""Hostile and damaged metadata: an error in the report, little memory, and the rest is read."""

from __future__ import annotations

import json
import struct
import zlib
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffdetect.provenance import Says, read_provenance
from tests.fuzz import damage, fuzz, little_memory

from .files import IPTC, WEB_UI, chunk, clip, created, exif, picture, png, signed, xmp

GOOD = chunk(b"tEXt", b"parameters\0" + WEB_UI.encode())
BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><x>&c;</x>"""
OUTSIDE = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>'


def errors_of(data: bytes) -> list[str]:
    with little_memory(120):
        found = read_provenance(data)
    json.dumps(found.to_dict())
    return [f"{one.source}: {one.message}" for one in found.errors]


@cache
def zeros(mebibytes: int) -> bytes:
    return zlib.compress(bytes(mebibytes * 2**20), 1)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_compressed_bomb(kind):
    between = {b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0"}[kind]
    bomb = chunk(kind, b"parameters" + between + zeros(200))
    (error,) = errors_of(png(bomb, GOOD))
    assert "expected at most 4 MiB unpacked but got more" in error
    assert read_provenance(png(bomb, GOOD)).says_generated  # what follows is read


def test_many_bombs_that_are_just_small_enough():
    one = chunk(b"zTXt", b"a\0\0" + zeros(3))
    errors = errors_of(png(*[one] * 50))
    assert errors and all("expected at most" in error for error in errors)


def test_text_that_is_larger_than_the_file():
    data = png(GOOD)
    at = data.index(b"tEXt") - 4
    huge = errors_of(data[:at] + b"\x7f\xff\xff\xff" + data[at + 4 :])
    assert any("tEXt: expected at most 4 MiB but got 2147483647" in error for error in huge)
    cut = errors_of(data[: at + 30])
    assert any(error.startswith("text: tEXt: expected") and "cut off" in error for error in cut)


@pytest.mark.parametrize("packet", [BOMB, OUTSIDE], ids=["bomb", "outside"])
def test_document_types_are_refused(packet):
    (error,) = errors_of(picture(xmp=packet))
    assert error == "xmp: expected XMP but got a document type or entities"


def test_huge_and_deep_xmp():
    large = xmp("<a>" + "x" * 5 * 2**20 + "</a>")
    data = picture("WEBP", xmp=large)
    assert errors_of(data) == ["xmp: expected at most 4 MiB but got 5.0 MiB"]
    deep = xmp("<a>" * 3000 + "</a>" * 3000)
    assert "nested more than 50 deep" in errors_of(picture(xmp=deep))[0]
    wide = xmp("<a/>" * 500_000)
    assert errors_of(picture("WEBP", xmp=wide)) == []


def test_broken_xmp_keeps_what_came_before():
    whole = xmp(attributes=f'Iptc4xmpExt:DigitalSourceType="{IPTC}trainedAlgorithmicMedia"')
    cut = whole[: whole.index(b"</rdf:Description")]
    found = read_provenance(picture(xmp=cut))
    assert found.claims[0].says is Says.GENERATED
    assert "expected XMP that is well-formed" in found.errors[0].message


@pytest.mark.parametrize("keyword", ["workflow", "prompt", "Comment", "AIGC", "sd-metadata"])
def test_deep_and_broken_json(keyword):
    for value in (b'{"a":' * 200_000, b'{"nodes": [1, 2', b'{"a": ' + b"9" * 5000 + b"}"):
        (error,) = errors_of(png(chunk(b"tEXt", keyword.encode() + b"\0" + value)))
        assert f"PNG text {keyword}: expected JSON but got" in error


@pytest.mark.parametrize(
    "value", [{"nodes": 1}, {"nodes": [1, None]}, {"1": {"class_type": 1, "inputs": 3}}, [[]], 0]
)
def test_json_of_another_shape(value):
    for keyword in ("workflow", "Comment", "invokeai_metadata", "AIGC"):
        body = keyword.encode() + b"\0" + json.dumps(value).encode()
        assert errors_of(png(chunk(b"tEXt", body))) == []


def test_exif_that_is_cut_off():
    whole = exif(Make="Canon", Model="EOS", Software="dcraw")
    (error,) = errors_of(picture(exif=whole[:20]))
    assert error == "exif: expected a whole directory of tags but it is cut off"
    assert "exif: expected EXIF but it is damaged" in errors_of(picture(exif=b"Exif\0\0nothing"))[0]


def test_text_cannot_steer_a_terminal_or_fill_it():
    tags = exif(Software="\x1b[2J\x1b]0;owned\x07" + "x" * 10_000 + "\u202e")
    found = read_provenance(picture(exif=tags))
    assert found.camera and len(found.camera.software) <= 500
    assert all(one.text.isprintable() for one in found.claims)


def test_endless_boxes(tmp_path):
    file = clip(tmp_path / "a.mp4")
    data = file.read_bytes()
    file.write_bytes(data + struct.pack(">I4s", 8, b"free") * 200_000)
    assert read_provenance(file).errors == ()
    nested = b"".join(struct.pack(">I4s", 8 * (5000 - n), b"moov") for n in range(5000))
    file.write_bytes(data + nested)
    assert read_provenance(file).container is not None


def test_a_file_that_takes_c2pa_forever(tmp_path, monkeypatch):
    pytest.importorskip("c2pa")
    file = clip(tmp_path / "a.mp4")
    jumb = struct.pack(">I4s", 8, b"jumb")
    file.write_bytes(file.read_bytes() + jumb + struct.pack(">I4s", 8, b"free") * 200_000)
    (error,) = read_provenance(file, c2pa_seconds=1).errors
    assert error.source == "c2pa" and "at most 1 s" in error.message
    monkeypatch.setattr("ffdetect.provenance.readers.c2pa_manifest.PATIENCE", 0.02)
    (error,) = read_provenance(file, c2pa_seconds=20).errors
    assert error.source == "c2pa" and "expected an answer within" in error.message


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> dict[str, bytes]:
    """Whole files with metadata of every kind."""
    pytest.importorskip("c2pa")
    packet = xmp(f"<Iptc4xmpExt:DigitalSourceType>{IPTC}x</Iptc4xmpExt:DigitalSourceType>")
    tags = exif(Make="Canon", Software="x", UserComment=b"ASCII\0\0\0" + WEB_UI.encode())
    folder = tmp_path_factory.mktemp("seeds")
    movie = clip(folder / "a.mp4", comment=WEB_UI).read_bytes()
    return {
        "a.jpg": picture(exif=tags, xmp=packet, comment=WEB_UI),
        "b.jpg": signed(picture(), created()),
        "a.png": png(GOOD, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)),
        "b.png": signed(png(GOOD, chunk(b"eXIf", tags[6:])), created(), "PNG"),
        "a.webp": picture("WEBP", exif=tags, xmp=packet),
        "a.tiff": picture("TIFF", exif=tags),
        "a.mp4": movie,
        "b.mp4": signed(movie, created(), "MP4"),
        "a.mkv": clip(folder / "a.mkv", comment=WEB_UI).read_bytes(),
    }


@fuzz(60)
@given(change=damage(), data=st.data())
def test_damaged_files(seeds, tmp_path, change, data):
    name = data.draw(st.sampled_from(sorted(seeds)))
    file = tmp_path / name
    file.write_bytes(change(seeds[name]))
    with little_memory(300):  # FFmpeg takes room for a frame as large as a damaged header says
        found = read_provenance(file)
    json.dumps(found.to_dict())
    assert found.summary
