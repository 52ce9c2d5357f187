"""What a detector tells of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .quality import Quality

if TYPE_CHECKING:
    from ffdetect.provenance import Provenance


class Scores(np.ndarray):
    """Scores of several pictures, float32 N; nan where there is none.

    Attributes:
        errors: index -> why that picture has none. Parts and results of arithmetic have no errors.
    """

    errors: dict[int, ValueError]

    def __array_finalize__(self, origin: object) -> None:
        self.errors = {}

    @classmethod
    def of(cls, scores: Sequence[float], errors: dict[int, ValueError]) -> Scores:
        made = np.array(scores, np.float32).view(cls)
        made.errors = errors
        return made


@dataclass(frozen=True)
class ScoredFace:
    """One face of a picture.

    Attributes:
        box: float32[4], left, top, right, bottom in pixels of the upright picture.
        landmarks: float32[5, 2], eyes, nose, corners of the mouth.
        probability: how sure MTCNN is that this is a face, 0 to 1.
        score: probability that the face is fake, 0 to 1.
        crop: uint8 size x size x 3 RGB, what the network saw.
        verdict: "real", "fake" or "uncertain", see `ffdetect.scoring.verdict`; "" if it was not
            asked for.
        reasons: why it is uncertain; empty if it is not.
        quality: how large, sharp and compressed the face is.
    """

    box: np.ndarray
    landmarks: np.ndarray
    probability: float
    score: float
    crop: np.ndarray
    verdict: str
    reasons: tuple[str, ...]
    quality: Quality


@dataclass(frozen=True)
class Analysis:
    """All faces of a picture, largest first.

    Attributes:
        name: how messages call the picture.
        width, height: of the upright picture, in pixels.
        faces: empty if no face was found.
        left_out: smaller faces that were found and not scored, where that was limited.
        provenance: what the file says of itself, which no score depends on; None for pixels that
            came without a file.
    """

    name: str
    width: int
    height: int
    faces: tuple[ScoredFace, ...]
    left_out: int = 0
    provenance: Provenance | None = None
