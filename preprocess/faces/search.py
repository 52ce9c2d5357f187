"""The faces of a clip's frames, found with less work where frames are close in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .detect import FaceDetector
from .face import Face

_CLOSE = 0.2  # seconds from a frame to the next
_WHOLE_EVERY = 0.5  # seconds


class ClipSearch:
    """What `FaceDetector.detect` finds in the frames of a clip, one after the other.

    The whole frame is searched at the start of a shot, 0.2 s after the frame before, half a second
    after the last whole frame, after a frame without a face, and when fewer faces are found than in
    the frame before. Otherwise the search is around the faces seen since the last whole frame.
    There it finds what the search of the whole frame does; what it misses is who comes new into the
    picture, for half a second at most.

    Args:
        share: of the side of a frame's largest face, from which on faces are looked for in whole
            frames, which takes a fraction of the time; 0 for all faces.
    """

    def __init__(self, detector: FaceDetector, share: float = 0.0) -> None:
        self._detector, self._share = detector, share
        self._shot: int | None = None
        self._last = self._whole = 0.0  # times of the last frame, and of the last whole one
        self._count = 0  # faces of the last frame
        self._seen: list[Face] = []  # each where it was last

    def find(self, pixels: np.ndarray, time: float, shot: int) -> list[Face]:
        """Faces of the next frame, largest first.

        Args:
            pixels: uint8 H x W x 3 RGB.
            time: in seconds, later than that of the frame before.
            shot: number of the shot.
        """
        close = time - self._last < _CLOSE and time - self._whole < _WHOLE_EVERY
        if shot != self._shot or not close:
            self._seen, self._count = [], 0
        found = self._detector.detect(pixels, self._seen) if self._count else []
        if not found or len(found) < self._count:
            found = self._whole_frame(pixels)
            self._whole = time
        self._shot, self._last, self._count = shot, time, len(found)
        self._seen = found + [face for face in self._seen if _is_gone(face, found)]
        return found

    def _whole_frame(self, pixels: np.ndarray) -> list[Face]:
        if self._share:
            return self._detector.large(pixels, self._share)
        return self._detector.detect(pixels)


def _is_gone(face: Face, found: Sequence[Face]) -> bool:
    """Whether its centre is in none of the faces found."""
    centre = (face.box[:2] + face.box[2:]) / 2
    return not any((one.box[:2] <= centre).all() and (centre <= one.box[2:]).all() for one in found)
