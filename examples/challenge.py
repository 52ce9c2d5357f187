"""python examples/challenge.py FILE ...: the test API of a challenge, a path in, a score out."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from ffdetect import Detector
from ffdetect.scoring.predict import predict_items
from preprocess.io.sources import find_items

WEIGHTS = None  # or the file of your own weights


@cache
def detector() -> Detector:
    return Detector.load(WEIGHTS)


def score(path: str | Path) -> float:
    """Probability in 0..1 that a picture, clip or sound is fake; 0.5 where nothing can be judged.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no picture, clip or sound.
    """
    (prediction,) = predict_items(detector(), find_items(Path(path)).items)
    return prediction.score


if __name__ == "__main__":
    for file in sys.argv[1:]:
        print(f"{file},{score(file)}")
