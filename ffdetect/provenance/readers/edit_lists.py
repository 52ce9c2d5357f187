"""Edit lists of MP4 and MOV files (ISO/IEC 14496-12, `elst`): which parts of a track are shown.

FFmpeg applies them and tells nobody.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ffdetect.provenance.report import Edit

_MOST = 100  # edits of a file
_BOXES = 10_000  # boxes that are looked at
_MOVIE = b"mvhd"
_INSIDE = {b"moov", b"trak", b"edts", b"mdia"}


class _Box(NamedTuple):
    kind: bytes
    start: int
    end: int


def read_edits(path: Path) -> tuple[Edit, ...]:
    """All edits of a file; none for other containers.

    Raises:
        ValueError: boxes that do not fit into each other, or are cut off.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        if stream.read(8)[4:] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return ()
        size = stream.seek(0, 2)
        movie_scale, track = 1, 0
        track_scale, pending = 1, b""
        edits: list[Edit] = []
        for box in _boxes(stream, size):
            if box.kind == _MOVIE:
                movie_scale = _timescale(stream, box)
            elif box.kind == b"trak":
                track, pending = track + 1, b""
            elif box.kind == b"elst":
                pending = _body(stream, box)
            elif box.kind == b"mdhd":
                track_scale = _timescale(stream, box)
                edits += _edits(pending, track, movie_scale, track_scale)
                pending = b""
        return tuple(edits[:_MOST])


def _boxes(stream: BinaryIO, size: int) -> Iterator[_Box]:
    """Boxes in the order of the file, those that hold others before what they hold."""
    open_ends = [size]
    place = 0
    for _ in range(_BOXES):
        while open_ends and place >= open_ends[-1]:
            place = open_ends.pop()
        if not open_ends:
            return
        stream.seek(place)
        head = stream.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack_from(">I4s", head)
        start = place + 8
        if length == 1 and len(head) == 16:
            length, start = struct.unpack_from(">Q", head, 8)[0], place + 16
        elif length == 0:
            length = open_ends[-1] - place
        end = place + length
        if end < start or end > open_ends[-1]:
            name = kind.decode("latin-1")
            raise ValueError(f"expected a box within its parent but {name!r} ends at {end}")
        yield _Box(kind, start, end)
        if kind in _INSIDE:
            open_ends.append(end)
            place = start
        else:
            place = end


def _body(stream: BinaryIO, box: _Box) -> bytes:
    stream.seek(box.start)
    return stream.read(min(box.end - box.start, 8 + 20 * _MOST))


def _timescale(stream: BinaryIO, box: _Box) -> int:
    """Units a second, of a movie's or a track's header."""
    body = _body(stream, box)
    at = 20 if body[:1] == b"\1" else 12
    if len(body) < at + 4:
        raise ValueError(f"expected a whole {box.kind.decode('latin-1')!r} box but it is cut off")
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
