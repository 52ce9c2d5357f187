"""python -m ffdetect.demo FOLDER: write a few real pictures and fakes of them to try things on.

The face is `skimage.data.astronaut()` (Eileen Collins, a NASA picture in the public domain) from
scikit-image's wheel; the fakes are self-blended from it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ffdetect.fakes.blend import self_blend
from preprocess.faces.detect import FaceDetector


def write_pictures(folder: Path) -> list[Path]:
    """Three real pictures under real/ and three self-blended ones under fake/."""
    from skimage.data import astronaut

    portrait = astronaut()
    landmarks = FaceDetector().detect(portrait)[0].landmarks
    files = []
    for target in ("real", "fake"):
        (folder / target).mkdir(parents=True, exist_ok=True)
        for number, (side, suffix) in enumerate([(512, "png"), (400, "jpg"), (320, "webp")]):
            pixels = portrait
            if target == "fake":
                pixels = self_blend(portrait, landmarks, np.random.default_rng(number))
            picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
            files.append(folder / target / f"astronaut_{side}.{suffix}")
            picture.save(files[-1], quality=92)
    return files


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ffdetect.demo", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    args = parser.parse_args(argv)
    try:
        files = write_pictures(args.folder)
    except ImportError:
        parser.error("the demo needs the [demo] extra: pip install 'ffdetect[demo]'")
    print("\n".join(str(file) for file in files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
