"""MTCNN's networks as the cascade asks them, whatever runs them.

On a CPU ONNX Runtime does (`mtcnn_onnx`), which starts sooner than PyTorch; on a GPU PyTorch
does (`mtcnn_networks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

THRESHOLDS = (0.6, 0.7, 0.7)  # of a face's probability, network by network
CELL, STRIDE = 12, 2  # what one output of the proposal network sees, in pixels of its level
_STRIP = 2**16  # pixels of a level that the proposal network sees at once

Network = Callable[[np.ndarray], Sequence[np.ndarray]]

Proposals = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one level: float32 N x 2 column and row of the network's output, float32 N probabilities,
float32 N x 4 shifts of the box's sides as shares of the box."""


class Networks:
    """PNet, RNet and ONet. All take pixels as float32 in 0..255, channels last.

    Args:
        pnet: H x W x 3 -> probabilities h x w, shifts h x w x 4.
        rnet: N x 24 x 24 x 3 -> probabilities N, shifts N x 4.
        onet: N x 48 x 48 x 3 -> probabilities N, shifts N x 4, landmarks N x 10.
        batch: candidates that go through a network at once.
    """

    def __init__(self, pnet: Network, rnet: Network, onet: Network, batch: int) -> None:
        self._pnet, self._rnet, self._onet, self._batch = pnet, rnet, onet, batch

    def propose(self, level: np.ndarray) -> Proposals:
        """Where an H x W x 3 level may show a face."""
        parts = []
        for top, strip in strips(level):
            scores, shifts = self._pnet(strip)
            y, x = np.nonzero(scores >= THRESHOLDS[0])
            place = np.stack([x, y + top // STRIDE], 1).astype(np.float32)
            parts.append((place, scores[y, x], shifts[y, x]))
        places, probabilities, sides = (np.concatenate(part) for part in zip(*parts, strict=True))
        return places, probabilities, sides

    def refine(self, views: np.ndarray) -> list[np.ndarray]:
        """float32 N probabilities and N x 4 shifts of the sides of N x 24 x 24 x 3."""
        return self._judge(self._rnet, views)

    def finish(self, views: np.ndarray) -> list[np.ndarray]:
        """float32 N, N x 4 and N x 10 landmarks of N x 48 x 48 x 3."""
        return self._judge(self._onet, views)

    def _judge(self, network: Network, views: np.ndarray) -> list[np.ndarray]:
        starts = range(0, max(len(views), 1), self._batch)
        outputs = [network(views[start : start + self._batch]) for start in starts]
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def strips(level: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """What of an H x W x 3 level the proposal network sees at once: its first row, and its pixels.

    Strips fit the processor's cache, and have in common what one output of the network sees.
    """
    rows = max(_STRIP // level.shape[1] // 2 * 2 - (CELL - STRIDE), STRIDE)
    for top in range(0, len(level) - (CELL - STRIDE), rows):
        yield top, level[top : top + rows + CELL - STRIDE]
