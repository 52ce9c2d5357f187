"""Self-blending: a face pasted onto itself, so that a detector learns the blend and not a person.

Shiohara & Yamasaki 2022, "Detecting Deepfakes with Self-Blended Images". With a
regenerated copy as the inner face (see `regenerate`), the pair also teaches a pasted region
that a generator drew.
"""

from __future__ import annotations

import cv2
import numpy as np

from .masks import face_mask, paste


def self_blend(
    crop: np.ndarray,
    landmarks: np.ndarray,
    rng: np.random.Generator,
    regenerated: np.ndarray | None = None,
) -> np.ndarray:
    """Blend a face with a slightly altered copy of itself inside a face-shaped mask.

    Args:
        crop: uint8 H x W x 3 RGB.
        landmarks: float 5 x 2 in pixels of the crop, see `preprocess.faces.crop.crop_landmarks`.
        rng: decides everything; the same state gives the same fake.
        regenerated: an aligned regenerated version of the crop to take the inner face from.

    Returns:
        uint8 H x W x 3. Outside of the mask it is the crop, but for the alteration, which falls
        on the inner or the outer part at random.
    """
    inner = crop if regenerated is None else regenerated
    outer = crop
    # Without one the copy must be altered, or nothing would differ.
    if regenerated is None or rng.random() < 0.5:
        altered = _alter(inner, rng)
        if regenerated is None and rng.random() < 0.5:
            inner, outer = outer, altered
        else:
            inner = altered
    mask = face_mask(crop.shape[:2], landmarks, rng)
    inner, mask = _shift(inner, mask, rng)
    return paste(inner, outer, mask * rng.choice([0.5, 0.75, 1, 1, 1, 1]))


def _shift(
    inner: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Move and scale the inner face a little, as a landmark-driven warp would."""
    height, width = mask.shape
    scale = rng.uniform(0.97, 1.03)
    shift = rng.uniform(-0.02, 0.02, 2) * [width, height]
    centre = np.array([width / 2, height / 2])
    matrix = np.column_stack([np.eye(2) * scale, centre * (1 - scale) + shift])
    moved = [
        cv2.warpAffine(x, matrix, (width, height), flags=flag, borderMode=cv2.BORDER_REFLECT_101)
        for x, flag in ((inner, cv2.INTER_CUBIC), (mask, cv2.INTER_LINEAR))
    ]
    return moved[0], moved[1]


def _alter(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a swap changes: always colour and tone, mostly sharpness too."""
    x: np.ndarray = picture.astype(np.float32)
    x = x * rng.uniform(0.9, 1.1) + rng.uniform(-12, 12, 3).astype(np.float32)
    if rng.random() < 0.5:
        grey = x.mean(2, keepdims=True)
        x = grey + (x - grey) * rng.uniform(0.8, 1.25)
    choice = rng.random()
    if choice < 0.35:  # a swap network draws fewer pixels than the face has
        height, width = x.shape[:2]
        factor = rng.uniform(0.4, 0.9)
        small = (max(8, round(width * factor)), max(8, round(height * factor)))
        x = cv2.resize(x, small, interpolation=cv2.INTER_AREA)
        x = cv2.resize(x, (width, height), interpolation=rng.choice([1, 2, 4]).item())
    elif choice < 0.6:
        amount = rng.uniform(0.3, 1.2)
        x = x + amount * (x - cv2.GaussianBlur(x, (0, 0), rng.uniform(0.8, 2)))
    elif choice < 0.75:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.5))
    return np.round(x).clip(0, 255).astype(np.uint8)
