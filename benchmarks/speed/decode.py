"""python -m benchmarks.speed.decode FILE...: decode pictures and all frames of clips, no more.

The floor that preprocess.crop cannot get below: the same decoders, and RGB pixels that are dropped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import av  # noqa: F401 (otherwise loaded with the first clip: here it counts as start)

from preprocess.io.clips import decode_video
from preprocess.io.decode import Picture, decode_image

ALL = 1_000_000  # frames: more than a clip has


def pictures(file: Path) -> Iterator[Picture]:
    """The picture, or all frames of a clip."""
    if file.suffix == ".mp4":
        yield from decode_video(file, frames=ALL)
    else:
        yield decode_image(file)


def main(files: list[Path]) -> int:
    """How many pictures there are."""
    return sum(1 for file in files for _ in pictures(file))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
