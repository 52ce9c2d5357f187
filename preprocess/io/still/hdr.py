"""What AVIF, HEIC and PNG pictures say of their light, which Pillow passes over."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import IO

from preprocess.io.video.boxes import Box, Boxes
from preprocess.io.video.hdr import TRANSFERS

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST = 2**20  # bytes of associations; no picture has so many items


def hdr_transfer(stream: IO[bytes] | None) -> str | None:
    """How HDR is stored, "PQ" or "HLG"; None of pictures that are not. The stream stays where it
    was."""
    if stream is None:
        return None
    at = stream.tell()
    try:
        stream.seek(0)
        head = stream.read(8)
        if head[4:] == b"ftyp":
            return _of_primary_item(stream)
        return _of_png(stream) if head == _PNG else None
    finally:
        stream.seek(at)


def _of_png(stream: IO[bytes]) -> str | None:
    """By the chunk cICP, which comes before those of pixels (PNG, third edition, 11.3.2.6)."""
    with contextlib.suppress(struct.error, IndexError):
        while True:
            size, kind = struct.unpack(">I4s", stream.read(8))
            if kind == b"cICP" and size == 4:
                return TRANSFERS.get(stream.read(4)[1])
            if kind in (b"IDAT", b"IEND"):
                return None
            stream.seek(size + 4, io.SEEK_CUR)
    return None


def _of_primary_item(stream: IO[bytes]) -> str | None:
    """By the "colr" property of the primary item, which is the picture that is shown (ISO/IEC
    23008-12, 6.5.5)."""
    with contextlib.suppress(ValueError, IndexError, struct.error):
        boxes = Boxes(stream)
        meta = boxes.first(boxes.whole, b"meta")
        primary = _primary_item(boxes, boxes.first(meta, b"pitm", 4))
        properties = boxes.first(meta, b"iprp", 4)
        kept = list(boxes.mp4(boxes.first(properties, b"ipco")))
        for number in _associated(boxes, boxes.first(properties, b"ipma"), primary):
            box = kept[number - 1] if 0 < number <= len(kept) else None
            if box is None or box.kind != b"colr" or boxes.bytes(box.start, 4) != b"nclx":
                continue
            (transfer,) = struct.unpack(">H", boxes.bytes(box.start + 6, 2))
            return TRANSFERS.get(transfer)
    return None  # a colour profile alone, or nothing


def _primary_item(boxes: Boxes, pitm: Box) -> int:
    layout = ">H" if boxes.bytes(pitm.start, 1) == b"\0" else ">I"
    size = struct.calcsize(layout)
    return int(struct.unpack(layout, boxes.bytes(pitm.start + 4, size))[0])


def _associated(boxes: Boxes, ipma: Box, item: int) -> tuple[int, ...]:
    """Numbers, from 1, of an item's properties."""
    body = boxes.bytes(ipma.start, min(ipma.end - ipma.start, _MOST))
    items, numbers = ">I" if body[0] else ">H", "H" if body[3] & 1 else "B"
    at = 8
    for _ in range(struct.unpack_from(">I", body, 4)[0]):
        (found,) = struct.unpack_from(items, body, at)
        at += struct.calcsize(items)
        layout = f">{body[at]}{numbers}"
        properties = struct.unpack_from(layout, body, at + 1)
        at += 1 + struct.calcsize(layout)
        if found == item:
            return tuple(number & (0x7FFF if numbers == "H" else 0x7F) for number in properties)
    return ()
