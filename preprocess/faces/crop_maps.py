"""The maps of a single crop without PyTorch, which takes longer to start than a crop to make.

`maps` says what they are, and computes them on batches and GPUs; what a cache holds is made here.
Both give the same (docs/reproducibility.md).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

SPECTRUM_TILE = 128  # side of the tiles whose spectra are averaged
SPECTRUM_HOP = 32  # from tile to tile
SPECTRUM_SHAPE = (SPECTRUM_TILE, SPECTRUM_TILE // 2 + 1)
_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SPECTRUM_TILE) / SPECTRUM_TILE)).astype(
    np.float32
)
_WINDOW_OF_ONE = np.stack([np.outer(_HANN, _HANN), np.zeros((SPECTRUM_TILE,) * 2, np.float32)], 2)
_WINDOW = _WINDOW_OF_ONE[..., :1].repeat(2, 2)


def spectrum(crop: np.ndarray) -> np.ndarray:
    """Log-magnitude spectrum of a uint8 H x W x 3 crop: float16, 128 x 65; see `maps.spectrum`.

    Two tiles share a transform, one as its real and one as its imaginary part: the power of both at
    a frequency is half of the transform's there and at the opposite frequency.
    """
    luma = cv2.transform(crop.astype(np.float32), _LUMA)
    height, width = luma.shape
    pairs = np.zeros((height, width, 2), np.float32)  # each pixel, and the one a step to the right
    pairs[..., 0], pairs[:, :-SPECTRUM_HOP, 1] = luma, luma[:, SPECTRUM_HOP:]
    power = np.zeros((SPECTRUM_TILE, SPECTRUM_TILE, 2), np.float32)
    tile, tiles = np.empty_like(power), 0
    for y in range(0, height - SPECTRUM_TILE + 1, SPECTRUM_HOP):
        for x in range(0, width - SPECTRUM_TILE + 1, 2 * SPECTRUM_HOP):
            both = x + SPECTRUM_HOP <= width - SPECTRUM_TILE
            own = pairs[y : y + SPECTRUM_TILE, x : x + SPECTRUM_TILE]
            cv2.subtract(own, cv2.mean(own), dst=tile)  # type: ignore[call-overload]  # numbers too
            cv2.multiply(tile, _WINDOW if both else _WINDOW_OF_ONE, dst=tile)
            cv2.accumulateSquare(cv2.dft(tile, dst=tile), power)
            tiles += 1 + both
    total = power[..., 0] + power[..., 1]
    opposite = np.roll(total[::-1, ::-1], 1, (0, 1))
    half = (total + opposite)[:, : SPECTRUM_TILE // 2 + 1] / (2 * tiles)
    return np.fft.fftshift(np.log1p(np.sqrt(half)), 0).astype(np.float16)


def residual(crop: np.ndarray, kind: str) -> np.ndarray:
    """High-frequency residual of a uint8 H x W x 3 crop: int8, 3 x H x W; see `maps.residual`."""
    values = RESIDUALS[kind](crop)
    values = np.clip(values, -127, 127, out=values).astype(np.int8)
    planes = np.empty((3, *crop.shape[:2]), np.int8)
    for channel, plane in enumerate(planes):
        cv2.extractChannel(values, channel, dst=plane)
    return planes


def _npr(crop: np.ndarray) -> np.ndarray:
    height, width = crop.shape[:2]
    even = cv2.copyMakeBorder(crop, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    first = cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST)
    first = cv2.resize(first, even.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return np.subtract(crop, first[:height, :width], dtype=np.int16)


def _median(crop: np.ndarray) -> np.ndarray:
    return np.subtract(crop, cv2.medianBlur(crop, 3), dtype=np.int16)


def _detail(crop: np.ndarray) -> np.ndarray:
    sums = cv2.boxFilter(
        crop, cv2.CV_32F, (5, 5), normalize=False, borderType=cv2.BORDER_REFLECT_101
    )
    means = np.divide(sums, 25, out=sums)
    return np.rint(np.subtract(crop, means, out=means), out=means)


# Second-order edge, 3 x 3 and 5 x 5 square predictors of the spatial rich model.
SRM = np.stack(
    [
        np.outer([0, 0, 1, 0, 0], [0, 1, -2, 1, 0]) / 2,
        np.pad(np.outer([-1, 2, -1], [1, -2, 1]), 1) / 4,
        np.array([[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2]])[[0, 1, 2, 1, 0]]
        / 12,
    ]
).astype(np.float32)


def _srm(crop: np.ndarray) -> np.ndarray:
    luma = cv2.transform(crop.astype(np.float32), _LUMA)
    views = [cv2.filter2D(luma, cv2.CV_32F, k, borderType=cv2.BORDER_REPLICATE) for k in SRM]
    return np.rint(np.stack(views, -1))


RESIDUALS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "detail": _detail,
    "median": _median,
    "npr": _npr,
    "srm": _srm,
}
