"""The maps of a single crop without PyTorch, which takes longer to start than a crop to make.

`maps` says what they are, and computes them on batches and GPUs; what a cache holds is made here.
Both give the same (docs/reproducibility.md).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from preprocess.io.formats import RESIDUAL_NAMES, SPECTRUM_HOP, SPECTRUM_TILE

_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SPECTRUM_TILE) / SPECTRUM_TILE)).astype(
    np.float32
)
_WINDOW = _HANN[:, None] * _HANN


def spectrum(crop: np.ndarray) -> np.ndarray:
    """Log-magnitude spectrum of a uint8 H x W x 3 crop: float16, 128 x 65; see `maps.spectrum`.

    Two tiles share a transform, one as its real and one as its imaginary part: the power of both at
    a frequency is half of the transform's there and at the opposite frequency.
    """
    luma = cv2.transform(crop.astype(np.float32), _LUMA)
    starts = [range(0, side - SPECTRUM_TILE + 1, SPECTRUM_HOP) for side in luma.shape]
    tiles = [
        luma[y : y + SPECTRUM_TILE, x : x + SPECTRUM_TILE] for y in starts[0] for x in starts[1]
    ]
    power = np.zeros((SPECTRUM_TILE, SPECTRUM_TILE, 2), np.float32)
    pair = np.empty_like(power)
    for first in range(0, len(tiles), 2):
        pair[..., 1] = 0  # where the last has no other
        for part, tile in enumerate(tiles[first : first + 2]):
            np.multiply(tile - cv2.mean(tile)[0], _WINDOW, out=pair[..., part])
        both = cv2.dft(pair)
        power += np.square(both, out=both)
    total = power.sum(2)
    opposite = np.roll(total[::-1, ::-1], 1, (0, 1))
    half = (total + opposite)[:, : SPECTRUM_TILE // 2 + 1] / (2 * len(tiles))
    return np.fft.fftshift(np.log1p(np.sqrt(half)), 0).astype(np.float16)


def residual(crop: np.ndarray, kind: str) -> np.ndarray:
    """High-frequency residual of a uint8 H x W x 3 crop: int8, 3 x H x W; see `maps.residual`."""
    values = np.clip(RESIDUALS[kind](crop), -127, 127).astype(np.int8)
    return np.stack(cv2.split(values))


def _npr(crop: np.ndarray) -> np.ndarray:
    height, width = crop.shape[:2]
    first = crop[::2, ::2].repeat(2, 0).repeat(2, 1)[:height, :width]
    return cv2.subtract(crop, first, dtype=cv2.CV_16S)


def _median(crop: np.ndarray) -> np.ndarray:
    return cv2.subtract(crop, cv2.medianBlur(crop, 3), dtype=cv2.CV_16S)


def _detail(crop: np.ndarray) -> np.ndarray:
    sums = cv2.boxFilter(
        crop, cv2.CV_32F, (5, 5), normalize=False, borderType=cv2.BORDER_REFLECT_101
    )
    return np.rint(crop - sums / 25)


_SRM = [
    (kernel.astype(np.float32) / scale)
    for kernel, scale in (
        (np.outer([0, 0, 1, 0, 0], [0, 1, -2, 1, 0]), 2),
        (np.pad(np.outer([-1, 2, -1], [1, -2, 1]), 1), 4),
        (
            np.array([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2]])[[0, 1, 2, 1, 0]],
            12,
        ),
    )
]


def _srm(crop: np.ndarray) -> np.ndarray:
    luma = cv2.transform(crop.astype(np.float32), _LUMA)
    views = [cv2.filter2D(luma, cv2.CV_32F, k, borderType=cv2.BORDER_REPLICATE) for k in _SRM]
    return np.rint(np.stack(views, -1))


RESIDUALS: dict[str, Callable[[np.ndarray], np.ndarray]] = dict(
    zip(RESIDUAL_NAMES, (_detail, _median, _npr, _srm), strict=True)
)
