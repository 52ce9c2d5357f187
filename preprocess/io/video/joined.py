"""Files put one after the other of which players, and FFmpeg, read the first alone."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from .boxes import Boxes

_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # GUID of the header
_FLV = re.compile(rb"FLV\x01[\x01\x04\x05]\0\0\0\x09\0\0\0\0")


def is_followed(path: Path, name: str) -> bool:
    """Whether another film or recording begins after the end of the first.

    Args:
        name: of FFmpeg's format.
    """
    try:
        with path.open("rb") as file:
            if "mp4" in name:
                boxes = Boxes(file)
                kinds = [box.kind for box in boxes.mp4(boxes.whole)]
                return kinds.count(b"moov") > 1 and b"moof" not in kinds  # fragments are all seen
            if name == "wav":
                start = file.read(12)
                file.seek(8 + int.from_bytes(start[4:8], "little"))
                return start[:4] == b"RIFF" and file.read(4) == b"RIFF"
            if name == "asf":
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    return data.find(_ASF, len(_ASF)) > 0
            if name == "flv":
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    return _FLV.search(data, 13) is not None
    except (OSError, ValueError):
        pass
    return False
