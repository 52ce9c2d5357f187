"""How long files of sound say they are, where FFmpeg tells what is there."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

SIZED = ("wav", "w64", "caf")  # formats that say how many bytes they have
_TELLING = ("mov", "matroska", "flv", "flac", "aiff", "au")  # those of which FFmpeg tells it
_UNKNOWN = 0x7FFF0000  # bytes; headers of WAV say so, or more, where nobody knew
_FAR = 2**62  # bytes; so do those of Wave64
_FIRST = 256  # bytes of an MP3 in which its first frame says how many follow


def said_bytes(path: Path, name: str) -> int:
    """How long a file says it is; 0 where it is written without going back to its header.

    Args:
        name: one of `SIZED`.
    """
    with path.open("rb") as file:
        head = file.read(24)
        if name == "w64":
            said = int.from_bytes(head[16:], "little")
            return said if said < _FAR else 0
        if name == "wav":
            said = int.from_bytes(head[4:8], "little")
            return said + 8 if said < _UNKNOWN else 0
        at = 8
        while len(chunk := _read(file, at, 12)) == 12:
            size = int.from_bytes(chunk[4:], "big", signed=True)
            if chunk[:4] == b"data" or size < 0:
                return at + 12 + size if size > 0 else 0
            at += 12 + size
    return 0


def tells_length(path: Path, name: str) -> bool:
    """Whether the length that FFmpeg tells is the header's, and no guess by the size.

    Args:
        name: of FFmpeg's format.
    """
    if name != "mp3":
        return name in _TELLING
    with path.open("rb") as file:
        head = _read(file, 0, 10)
        tag = sum(byte << 7 * i for i, byte in enumerate(reversed(head[6:]))) + 10  # of ID3
        first = _read(file, tag if head[:3] == b"ID3" else 0, _FIRST)
    return b"Xing" in first or b"Info" in first


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)
