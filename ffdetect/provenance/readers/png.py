"""Chunks of PNG files: text (compressed or not), XMP and EXIF, wherever in the file they stand."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ffdetect.provenance.report import Findings, tidy

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 4 * 2**20  # bytes of one text, as it is stored and as it is unpacked
_ALL = 16 * 2**20  # bytes of all texts of a file
_MOST = 100_000  # chunks
_XMP = "XML:com.adobe.xmp"


@dataclass
class PngMetadata:
    """What the chunks hold; `texts` are keyword and value."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    xmp: list[bytes] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)


def read_png(stream: BinaryIO, found: Findings) -> PngMetadata:
    """The metadata of a PNG file, as far as it is whole; its pixels are not looked at."""
    held = PngMetadata()
    left = _ALL
    for kind, size in _chunks(stream, found):
        if kind not in _READERS:
            continue
        name = kind.decode("ascii")
        if size > min(LARGEST, left):
            limit = f"{min(LARGEST, left) / 2**20:.0f} MiB"
            found.fail("text", f"{name}: expected at most {limit} but got {size}")
            continue
        body = stream.read(size)
        if len(body) < size:
            found.fail("text", f"{name}: expected {size} bytes but it is cut off")
            return held
        try:
            left -= _READERS[kind](body, held, min(LARGEST, left))
        except (ValueError, zlib.error) as error:
            found.fail("text", f"{name}: {tidy(error)}")
    return held


def _chunks(stream: BinaryIO, found: Findings) -> Iterator[tuple[bytes, int]]:
    """Kind and size of each chunk, with the stream at its beginning."""
    place = len(SIGNATURE)
    for _ in range(_MOST):
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8:
            found.fail("text", "expected a last chunk (IEND) but the file is cut off")
            return
        size, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return
        yield kind, size
        place += size + 12
    found.fail("text", f"expected at most {_MOST} chunks but got more")


def _text(body: bytes, held: PngMetadata, limit: int) -> int:
    keyword, _, value = body.partition(b"\0")
    held.texts.append((keyword.decode("latin-1"), _decode(value)))
    return len(body)


def _compressed(body: bytes, held: PngMetadata, limit: int) -> int:
    keyword, _, value = body.partition(b"\0")
    unpacked = _unpack(value[1:], limit)
    held.texts.append((keyword.decode("latin-1"), _decode(unpacked)))
    return len(unpacked)


def _international(body: bytes, held: PngMetadata, limit: int) -> int:
    keyword, _, rest = body.partition(b"\0")
    flags, rest = rest[:2], rest[2:]
    value = rest.split(b"\0", 2)[-1]  # behind the language and the translated keyword
    if flags[:1] == b"\1":
        value = _unpack(value, limit)
    if keyword.decode("latin-1") == _XMP:
        held.xmp.append(value)
    else:
        held.texts.append((keyword.decode("latin-1"), value.decode("utf-8", "replace")))
    return len(value)


def _exif(body: bytes, held: PngMetadata, limit: int) -> int:
    held.exif.append(body)
    return len(body)


_READERS = {b"tEXt": _text, b"zTXt": _compressed, b"iTXt": _international, b"eXIf": _exif}


def _unpack(data: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, limit)
    if unpacker.unconsumed_tail:
        raise ValueError(f"expected at most {limit / 2**20:.0f} MiB unpacked but got more")
    return text


def _decode(value: bytes) -> str:
    """The standard says Latin-1; generators write UTF-8."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
