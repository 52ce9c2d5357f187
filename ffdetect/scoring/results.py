"""What a detector tells of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from preprocess.faces.face import Face

from .quality import Quality
from .verdict import Reason

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
        face: where it is, in pixels of the upright picture; `box`, `landmarks` and `probability`
            are its own.
        crop: uint8 size x size x 3 RGB, what the network saw.
        quality: how large, sharp and compressed the face is.
        score: probability that the face is fake, 0 to 1.
        verdict: "real", "fake" or "uncertain", see `ffdetect.scoring.verdict`; "" if it was not
            asked for.
        reasons: why it is uncertain; empty if it is not.
    """

    face: Face
    crop: np.ndarray
    quality: Quality
    score: float
    verdict: str = ""
    reasons: tuple[Reason, ...] = ()

    @property
    def box(self) -> np.ndarray:
        return self.face.box

    @property
    def landmarks(self) -> np.ndarray:
        return self.face.landmarks

    @property
    def probability(self) -> float:
        return self.face.probability

    def to_dict(self) -> dict[str, Any]:
        """JSON's types, without the crop."""
        return {
            **self.face.to_dict(),
            "score": self.score,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "quality": asdict(self.quality),
        }


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

    def to_dict(self) -> dict[str, Any]:
        """JSON's types, without crops."""
        return {
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict() for face in self.faces],
            "left_out": self.left_out,
            "provenance": self.provenance.to_dict() if self.provenance else None,
        }
