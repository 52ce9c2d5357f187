"""What MTCNN's cascade asks of its networks, whatever runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

THRESHOLDS = (0.6, 0.7, 0.7)  # of a face's probability, network by network
CELL, STRIDE = 12, 2  # what one output of the proposal network sees, in pixels of its level
ONNX_FILES = ("pnet.onnx", "rnet.onnx", "onet.onnx")  # as `ffdetect export` writes them
_STRIP = 2**16  # pixels of a level that the proposal network sees at once

Proposals = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one level: float32 N x 2 column and row of the network's output, float32 N probabilities,
float32 N x 4 shifts of the box's sides as shares of the box."""


class Networks(Protocol):
    """PNet, RNet and ONet. All take pixels as float32 in 0..255, channels last."""

    def propose(self, level: np.ndarray) -> Proposals:
        """Where an H x W x 3 level may show a face."""

    def refine(self, views: np.ndarray) -> list[np.ndarray]:
        """float32 N probabilities and N x 4 shifts of the sides of N x 24 x 24 x 3."""

    def finish(self, views: np.ndarray) -> list[np.ndarray]:
        """float32 N, N x 4 and N x 10 landmarks of N x 48 x 48 x 3."""


def strips(level: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """What of an H x W x 3 level the proposal network sees at once: its first row, and its pixels.

    Strips fit the processor's cache, and have in common what one output of the network sees.
    """
    rows = max(_STRIP // level.shape[1] // 2 * 2 - (CELL - STRIDE), STRIDE)
    for top in range(0, len(level) - (CELL - STRIDE), rows):
        yield top, level[top : top + rows + CELL - STRIDE]
