"""Damage to what a file says beside its pixels, which would keep decoders from reading these:
the same JPEG or PNG without it, or with the mark at a JPEG's end that alone is missing."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from PIL import Image
from PIL.PngImagePlugin import MAX_TEXT_CHUNK

_MOST = 2**28  # bytes; larger files are left as they are
_ICC = b"ICC_PROFILE\0"
_END = b"\xff\xd9"  # of a JPEG
_FILLER = b"\x55" * 64  # bits that look like none that decoders make up
_MOST_PIXELS = 10**8
_TRANSPARENT = {0: 2, 2: 6}  # bytes of tRNS by colour type; 3 has up to one for each of 256


def without_metadata(stream: IO[bytes]) -> bytes | None:
    """A JPEG or PNG file with nothing in it but pixels and what they are to be shown like (camera
    metadata, a colour profile, transparency), as far as these are whole; None of other files, and
    where there is nothing to mend."""
    stream.seek(0)
    data = stream.read(_MOST + 1)
    if len(data) > _MOST:
        return None
    if data.startswith(b"\xff\xd8\xff"):
        parts = _ended(b"".join(_jpeg_parts(data)))
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        parts = b"".join(_png_parts(data))
    else:
        return None
    return parts if len(parts) != len(data) else None


def _ended(jpeg: bytes) -> bytes:
    """With its end mark, where nothing but that was cut off: then bits in its place change no
    pixel, as they would in place of pixels."""
    if jpeg.endswith(_END):
        return jpeg
    rest = jpeg.removesuffix(_END[:1])
    try:
        pixels, filled = (_decoded(rest + end) for end in (_END, _FILLER + _END))
    except Exception:  # Pillow raises many kinds on what is damaged in other ways
        return jpeg
    return rest + _END if pixels == filled else jpeg


def _decoded(jpeg: bytes) -> bytes:
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError("too large to be mended")
        return image.tobytes()


def _jpeg_parts(data: bytes) -> Iterator[bytes]:
    yield data[:2]
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA or size < 2:  # what follows are pixels, or nobody knows what
            break
        body = data[at + 4 : at + 2 + size]
        if not 0xE0 <= marker <= 0xEF or _is_of_use(marker, body):
            yield data[at : at + 2 + size]
        at += 2 + size
    yield data[at:]


def _is_of_use(marker: int, body: bytes) -> bool:
    return (
        marker == 0xE1  # EXIF and XMP, which are read where they are asked for
        or (marker == 0xE2 and body.startswith(_ICC) and len(body) > len(_ICC) + 2)
        or (marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12)
    )


def _png_parts(data: bytes) -> Iterator[bytes]:
    yield data[:8]
    at, colours = 8, -1
    while at + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body, end = data[at + 8 : at + 8 + size], at + 12 + size
        if kind == b"IHDR" and len(body) == 13:
            colours = body[9]
        critical = not kind[0] & 0x20
        sound = data[end - 4 : end] == struct.pack(">I", zlib.crc32(kind + body))
        if critical or (sound and _is_whole(kind, body, colours)):
            yield data[at:end]
        at = end


def _is_whole(kind: bytes, body: bytes, colours: int) -> bool:
    """Whether a chunk is one that matters for how the picture looks, and can be read."""
    if kind == b"tRNS":
        return len(body) == _TRANSPARENT.get(colours, -1) or (colours == 3 and len(body) <= 256)
    if kind == b"iCCP":
        _, _, rest = body.partition(b"\0")
        try:
            whole = zlib.decompressobj().decompress(rest[1:], MAX_TEXT_CHUNK + 1)
        except zlib.error:
            return False
        return rest[:1] == b"\0" and len(whole) <= MAX_TEXT_CHUNK
    return kind == b"eXIf"
