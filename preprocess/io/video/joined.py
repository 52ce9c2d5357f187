"""Files put one after the other of which players, and FFmpeg, see the first alone."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from .boxes import Boxes

_FLV = re.compile(rb"FLV\x01[\x01\x04\x05]\0\0\0\x09\0\0\0\0")


def is_followed(path: Path, name: str) -> bool:
    """Whether another film begins after the end of the first.

    Args:
        name: of FFmpeg's format.
    """
    try:
        with path.open("rb") as file:
            if "mp4" in name:
                boxes = Boxes(file)
                kinds = [box.kind for box in boxes.mp4(boxes.whole)]
                return kinds.count(b"moov") > 1 and b"moof" not in kinds  # fragments are all seen
            if name == "flv":
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    return _FLV.search(data, 13) is not None
    except (OSError, ValueError):
        pass
    return False
