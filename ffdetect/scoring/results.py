"""What `Detector.analyze` tells of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoredFace:
    """One face of a picture.

    Attributes:
        box: float32[4], left, top, right, bottom in pixels of the upright picture.
        landmarks: float32[5, 2], eyes, nose, corners of the mouth.
        probability: how sure MTCNN is that this is a face, 0 to 1.
        score: probability that the face is fake, 0 to 1.
        crop: uint8 size x size x 3 RGB, what the network saw.
        verdict: "real", "fake" or "uncertain", see `ffdetect.scoring.verdict`.
        reasons: why it is uncertain; empty if it is not.
    """

    box: np.ndarray
    landmarks: np.ndarray
    probability: float
    score: float
    crop: np.ndarray
    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Analysis:
    """All faces of a picture, largest first.

    Attributes:
        name: how messages call the picture.
        width, height: of the upright picture, in pixels.
        faces: empty if no face was found.
    """

    name: str
    width: int
    height: int
    faces: tuple[ScoredFace, ...]
