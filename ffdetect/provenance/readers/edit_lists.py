"""Edit lists of MP4 and MOV files (ISO/IEC 14496-12, `elst`): which parts of a track are shown.

FFmpeg applies them and tells nobody.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from ffdetect.provenance.report import Edit
from preprocess.io.video.boxes import Box, Boxes

_MOST = 100  # edits of a file


def read_edits(path: Path) -> tuple[Edit, ...]:
    """All edits of a file; none for other containers.

    Raises:
        ValueError: boxes that are cut off.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        if stream.read(8)[4:] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return ()
        boxes = Boxes(stream)
        movie = _inside(boxes, [box for box in boxes.mp4(boxes.whole) if box.kind == b"moov"])
        scales = [_timescale(boxes, box) for box in movie if box.kind == b"mvhd"]
        edits: list[Edit] = []
        for track, box in enumerate((box for box in movie if box.kind == b"trak"), 1):
            held = [part for part in boxes.mp4(box) if part.kind in (b"edts", b"mdia")]
            parts = {part.kind: part for part in _inside(boxes, held)}
            if b"elst" in parts and b"mdhd" in parts:
                body = _body(boxes, parts[b"elst"])
                own = _timescale(boxes, parts[b"mdhd"])
                edits += _edits(body, track, scales[0] if scales else 1, own)
        return tuple(edits[:_MOST])


def _inside(boxes: Boxes, held: Iterable[Box]) -> list[Box]:
    return [inner for box in held for inner in boxes.mp4(box)]


def _body(boxes: Boxes, box: Box) -> bytes:
    return boxes.bytes(box.start, min(box.end - box.start, 8 + 20 * _MOST))


def _timescale(boxes: Boxes, box: Box) -> int:
    """Units a second, of a movie's or a track's header."""
    body = _body(boxes, box)
    at = 20 if body[:1] == b"\1" else 12
    if len(body) < at + 4:
        raise ValueError(f"expected a whole {box.kind!r} box but it is cut off")
    return struct.unpack_from(">I", body, at)[0] or 1


def _edits(body: bytes, track: int, movie_scale: int, track_scale: int) -> list[Edit]:
    if len(body) < 8:
        return []
    entry = struct.Struct(">QqI" if body[0] == 1 else ">IiI")
    count = min(struct.unpack_from(">I", body, 4)[0], _MOST)
    whole = min(count, (len(body) - 8) // entry.size)
    if whole < count:
        raise ValueError(f"expected {count} edits but 'elst' is cut off after {whole}")
    found = []
    for number in range(count):
        duration, start, rate = entry.unpack_from(body, 8 + number * entry.size)
        shown = start / track_scale if start >= 0 else -1.0
        found.append(Edit(track, shown, duration / movie_scale, rate / 65536))
    return found
