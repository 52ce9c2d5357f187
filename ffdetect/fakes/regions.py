"""A part of a real face drawn by a generator: locally edited, all else untouched.

With only a part regenerated (see `regenerate`) a detector has to find the traces where
they are. Local edits of this kind are what in-painting and mouth re-animation leave.
"""

from __future__ import annotations

import numpy as np

from .masks import REGIONS, paste, region_mask


def replace_region(
    real: np.ndarray, regenerated: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Take mouth, eyes, face, background or a random blob from the regenerated version.

    Args:
        real: uint8 H x W x 3 RGB.
        regenerated: its aligned regenerated version, of the same shape.
        landmarks: float 5 x 2 in pixels of the crop, see `preprocess.faces.crop.crop_landmarks`.
        rng: decides the region and its outline; the same state gives the same fake.

    Returns:
        uint8 H x W x 3; outside of the mask it is `real`, bit for bit.

    Raises:
        ValueError: it is of another shape, or landmarks are no five distinct points.
    """
    if real.shape != regenerated.shape:
        raise ValueError(
            f"expected a regenerated version of shape {real.shape} but got {regenerated.shape}"
        )
    region = rng.choice(list(REGIONS), p=list(REGIONS.values()))
    return paste(regenerated, real, region_mask(real.shape[:2], landmarks, rng, str(region)))
