"""Soft, irregular masks placed by five landmarks: where a pseudo-fake is changed."""

from __future__ import annotations

import cv2
import numpy as np

from preprocess.faces.crop import TEMPLATE, fit_similarity

# The outline of a face in the unit square of `TEMPLATE`, clockwise from the left temple.
_OUTLINE = np.array(
    [[0.12, 0.40], [0.17, 0.22], [0.33, 0.12], [0.5, 0.09], [0.67, 0.12], [0.83, 0.22]]
    + [[0.88, 0.40], [0.86, 0.62], [0.76, 0.83], [0.60, 0.95], [0.5, 0.97], [0.40, 0.95]]
    + [[0.24, 0.83], [0.14, 0.62]]
)
# Swaps replace different parts: all, all below the brows, the inner face, the mouth.
_REGIONS = ((0.0, 1.0), (0.27, 1.0), (0.24, 0.84), (0.55, 0.95))
REGION_SHARES = (0.35, 0.35, 0.2, 0.1)

# Centre and half axes of the parts of a face, in the unit square of `TEMPLATE`.
_PARTS = {
    "mouth": ((0.5, 0.76, 0.27, 0.15),),
    "eyes": ((0.33, 0.39, 0.19, 0.13), (0.67, 0.39, 0.19, 0.13)),
    "face": ((0.5, 0.54, 0.40, 0.43),),
}
REGIONS = {"mouth": 0.2, "eyes": 0.2, "face": 0.2, "background": 0.15, "blob": 0.25}
"""What `region_mask` covers, and how often."""


def face_mask(
    shape: tuple[int, int], landmarks: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A soft, irregular mask over the face or a part of it: float64 H x W in 0..1.

    Raises:
        ValueError: not five finite landmarks, or all in one point.
    """
    top, bottom = _REGIONS[rng.choice(len(_REGIONS), p=REGION_SHARES)]
    outline = _OUTLINE.copy()
    outline[:, 1] = outline[:, 1].clip(top, bottom)
    outline = (outline - 0.5) * rng.uniform(0.85, 1.08) + 0.5
    outline += rng.normal(0, 0.018, outline.shape)
    matrix = face_matrix(landmarks)
    mask: np.ndarray = np.zeros(shape, np.float32)
    _fill(mask, outline, matrix)
    face = float(np.hypot(*matrix[:, 0]))  # side of the face box in pixels
    mask = _wobble(mask, face, rng)
    sigma = face * rng.uniform(0.008, 0.06)
    mask = cv2.GaussianBlur(mask, (0, 0), sigma)
    if rng.random() < 0.5:  # pull the soft edge inwards, as swap tools erode their masks
        mask = cv2.GaussianBlur(np.where(mask > 0.9, mask, 0), (0, 0), sigma)
    return mask.clip(0, 1).astype(np.float64)


def region_mask(
    shape: tuple[int, int], landmarks: np.ndarray, rng: np.random.Generator, region: str
) -> np.ndarray:
    """A soft, irregular mask over one of `REGIONS`: float64 H x W in 0..1.

    "eyes" covers both or one of them, "background" all but the face, "blob" a random patch of
    the face or beside it.

    Raises:
        ValueError: no such region, not five finite landmarks, or all in one point.
    """
    if region not in REGIONS:
        raise ValueError(f"expected a region among {list(REGIONS)} but got {region!r}")
    matrix = face_matrix(landmarks)
    ellipses: tuple[tuple[float, ...], ...]
    if region == "blob":
        ellipses = ((*rng.uniform(0, 1, 2), *rng.uniform(0.12, 0.4, 2)),)
    else:
        ellipses = _PARTS["face" if region == "background" else region]
    if region == "eyes" and rng.random() < 0.3:
        ellipses = (ellipses[rng.integers(2)],)
    mask: np.ndarray = np.zeros(shape, np.float32)
    for x, y, wide, high in ellipses:
        wide, high = np.array([wide, high]) * rng.uniform(0.85, 1.15)
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        ellipse = np.column_stack([x + wide * np.cos(angles), y + high * np.sin(angles)])
        _fill(mask, ellipse, matrix)
    face = float(np.hypot(*matrix[:, 0]))
    mask = _wobble(mask, face, rng, 0.05 if region == "blob" else 0.02)
    mask = cv2.GaussianBlur(mask, (0, 0), face * rng.uniform(0.008, 0.05)).clip(0, 1)
    return (1 - mask if region == "background" else mask).astype(np.float64)


def paste(inner: np.ndarray, outer: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One picture where a mask is 1, the other where it is 0: uint8 H x W x 3.

    Args:
        inner, outer: uint8 H x W x 3.
        mask: float H x W in 0..1.
    """
    mask = mask[..., None]
    return np.round(inner * mask + outer * (1 - mask)).clip(0, 255).astype(np.uint8)


def face_matrix(landmarks: np.ndarray) -> np.ndarray:
    """The 2 x 3 similarity from the unit square of `TEMPLATE` to the picture of a face.

    Raises:
        ValueError: not five finite points, or all in one.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all() or not np.ptp(points, 0).any():
        raise ValueError(f"expected five distinct landmarks, 5 x 2, but got {points.tolist()}")
    return fit_similarity(TEMPLATE, points)


def _fill(mask: np.ndarray, outline: np.ndarray, matrix: np.ndarray) -> None:
    """Draw an outline given in the unit square of `TEMPLATE` as ones."""
    points = outline @ matrix[:, :2].T + matrix[:, 2]
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1, cv2.LINE_AA, 4)


def _wobble(
    mask: np.ndarray, face: float, rng: np.random.Generator, amount: float = 0.02
) -> np.ndarray:
    """Elastic deformation with a smooth random field; `amount` is a share of the face's side."""
    height, width = mask.shape
    field = rng.normal(0, amount * face, (2, 5, 5)).astype(np.float32)
    dx, dy = (cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC) for f in field)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(mask, x + dx, y + dy, cv2.INTER_LINEAR)
