"""How a WebP file is coded, which Pillow does not tell."""

from __future__ import annotations

import io
from typing import IO


def is_lossless(stream: IO[bytes]) -> bool:
    """Whether the (first) picture of a WebP file is coded by VP8L, in any of its containers."""
    stream.seek(0)
    start = stream.read(12)
    if (start[:4], start[8:]) != (b"RIFF", b"WEBP"):
        return False
    while len(header := stream.read(8)) == 8:
        kind, size = header[:4], int.from_bytes(header[4:], "little")
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        # The chunks of an animation's frame follow its own 16 bytes.
        stream.seek(16 if kind == b"ANMF" else size + size % 2, io.SEEK_CUR)
    return False
