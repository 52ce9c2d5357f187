"""What a face is, and what decides how it is found and cut out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Integral

import numpy as np

ALIGNMENTS = ("box", "similarity")


@dataclass(frozen=True)
class CropSettings:
    """What decides the pixels of a crop; kept in every cache and in every weights file.

    Attributes:
        size: side of the crop in pixels.
        margin: width added on each side, as a share of the face box's longer side.
        align: "box" (upright square, no rotation) or "similarity" (five landmarks on a template).
        native: with "box", a face whose scale is within this factor of 1 is not resampled at
            all: the crop is a plain copy of the picture around the face, so that what a
            generator left in single pixels stays. 1 turns this off.
        detail: a face that would be shrunk to the crop is shrunk to so many pixels across it, and
            enlarged again, so that large faces have no more detail than a network has learnt
            from. 0 turns this off.
        min_face: faces of this side in source pixels are looked for; in pictures of more than 2
            megapixels those of 1.25 times this side: 40 and no longer 32.
        min_probability: faces that MTCNN is less sure of are left out.
    """

    size: int = 256
    margin: float = 0.15
    align: str = "box"
    native: float = 1.3
    detail: int = 0
    min_face: int = 32
    min_probability: float = 0.9

    def __post_init__(self) -> None:
        if not isinstance(self.size, Integral) or not 128 <= self.size <= 2048:
            raise ValueError(f"expected a crop size of 128 to 2048 px but got {self.size}")
        if not 0 <= self.margin <= 2:
            raise ValueError(f"expected a margin of 0 to 2 but got {self.margin}")
        if self.align not in ALIGNMENTS:
            raise ValueError(f"expected align to be one of {ALIGNMENTS} but got {self.align!r}")
        if not 1 <= self.native <= 2:
            raise ValueError(f"expected native to be a factor of 1 to 2 but got {self.native}")
        if not isinstance(self.detail, Integral) or not (
            self.detail == 0 or 64 <= self.detail <= self.size
        ):
            raise ValueError(
                f"expected detail of 0 or 64 px to the crop's {self.size} but got {self.detail}"
            )
        if not isinstance(self.min_face, Integral) or self.min_face < 12:
            raise ValueError(f"expected min_face of at least 12 px but got {self.min_face}")
        if not 0 <= self.min_probability <= 1:
            raise ValueError(f"expected min_probability in 0..1 but got {self.min_probability}")

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the picture, x right and y down.

    Attributes:
        box: float32[4], left, top, right, bottom; may reach past the picture.
        landmarks: float32[5, 2], left eye, right eye, nose, left and right corner of the mouth.
        probability: MTCNN's own, 0 to 1.
    """

    box: np.ndarray
    landmarks: np.ndarray
    probability: float

    def to_dict(self) -> dict:
        """JSON's types."""
        return {
            "box": self.box.tolist(),
            "landmarks": self.landmarks.tolist(),
            "probability": float(self.probability),
        }

    @property
    def side(self) -> float:
        """The longer one, in pixels."""
        return float((self.box[2:] - self.box[:2]).max())

    @property
    def area(self) -> float:
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))
