"""The boxes that MP4 and Matroska files are made of, each with others inside."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

Kind = bytes | int
_MOST = 20_000  # boxes looked at; more are no clip's


@dataclass(frozen=True)
class Box:
    """One box, or the file as a whole; Matroska numbers the kinds."""

    kind: Kind
    start: int  # of what it holds
    end: int


class Boxes:
    """Reads boxes of a file, and not more than a clip can have."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._left = file, _MOST
        self.whole = Box(b"", 0, file.seek(0, 2))

    def bytes(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError("the file ends within a box")
        return data

    def mp4(self, inside: Box, skip: int = 0) -> Iterator[Box]:
        """The boxes of a box (ISO/IEC 14496-12, 4.2)."""
        at = inside.start + skip
        while at + 8 <= inside.end and self._may():
            size, kind = struct.unpack(">I4s", self.bytes(at, 8))
            head = 8
            if size == 1:
                size, head = struct.unpack(">Q", self.bytes(at + 8, 8))[0], 16
            end = at + size if size else inside.end
            if end < at + head:
                return
            yield Box(kind, at + head, min(end, inside.end))
            at = end

    def first(self, inside: Box, kind: Kind, skip: int = 0) -> Box:
        """The first box of a kind; ValueError without one."""
        for box in self.mp4(inside, skip):
            if box.kind == kind:
                return box
        raise ValueError(f"no {kind!r} box")

    def ebml(self, inside: Box) -> Iterator[Box]:
        """The elements of an element (RFC 8794); one of unknown size reaches to the end."""
        at = inside.start
        while at < inside.end and self._may():
            kind, after = self._number(at, keep=True)
            size, after = self._number(after, keep=False)
            end = inside.end if size is None else min(after + size, inside.end)
            yield Box(kind or 0, after, end)
            at = end

    def _number(self, at: int, keep: bool) -> tuple[int | None, int]:
        """A number of 1 to 8 bytes, with or without the bit that tells how many; what follows."""
        first = self.bytes(at, 1)[0]
        if not first:
            raise ValueError("a number longer than 8 bytes")
        length = 9 - first.bit_length()
        value = int.from_bytes(self.bytes(at, length), "big")
        if keep:
            return value, at + length
        most = (1 << 7 * length) - 1
        return (None if value & most == most else value & most), at + length

    def _may(self) -> bool:
        self._left -= 1
        return self._left > 0
