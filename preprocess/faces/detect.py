"""Find the faces of a picture with MTCNN, as `mtcnn.py` computes it.

PyTorch is imported only where it runs the networks: on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from preprocess.work.cores import computing

from .face import CropSettings, Face
from .mtcnn import Cascade, Found
from .mtcnn_interface import Networks

if TYPE_CHECKING:
    import torch

_SNAP = 8  # boxes and landmarks are kept in 1/8 px, see docs/reproducibility.md


class FaceDetector:
    """MTCNN on single pictures of any size.

    Args:
        settings: `min_face` and `min_probability` are used here.
        device: "cpu", "cuda" or a `torch.device`.
        threads: that it computes with on a CPU.
        networks: MTCNN's, where others than the shipped ones are meant.
    """

    def __init__(
        self,
        settings: CropSettings | None = None,
        device: str | torch.device = "cpu",
        threads: int = 1,
        networks: Networks | None = None,
    ) -> None:
        self.settings = settings or CropSettings()
        self.threads = threads
        networks = networks or _open_networks(str(device), threads)
        self._cascade = Cascade(self.settings.min_face, networks)

    def detect(self, pixels: np.ndarray, near: Sequence[Face] | None = None) -> list[Face]:
        """Faces in a uint8 H x W x 3 RGB picture, largest first; an empty list if there is none.

        Args:
            near: with these, only faces of about the place and size of one of them are looked
                for, which takes a fraction of the time.
        """
        boxes = None if near is None else np.array([face.box for face in near]).reshape(-1, 4)
        with computing(self.threads):
            return self._faces(self._cascade.find(pixels, boxes))

    def largest(self, pixels: np.ndarray) -> Face | None:
        """The largest face of a uint8 H x W x 3 RGB picture, None if there is none.

        It is the first of `detect`, but for rare pictures (benchmarks/results/largest_face.md), and
        takes a fraction of the time.
        """
        found = self._largest(pixels, 1.0)
        return found[0] if found else None

    def large(self, pixels: np.ndarray, share: float) -> list[Face]:
        """The largest face and all whose longer side is at least that share of its longer side,
        largest first; see `largest`."""
        found = self._largest(pixels, share)
        least = share * max((face.side for face in found), default=0.0)
        return [face for face in found if face.side >= least]

    def _largest(self, pixels: np.ndarray, share: float) -> list[Face]:
        sure = self.settings.min_probability
        with computing(self.threads):
            return self._faces(self._cascade.find_largest(pixels, sure, share))

    def _faces(self, found: Found) -> list[Face]:
        """Those that are likely enough, largest first."""
        faces = [
            Face(_snap(box), _snap(points), float(probability))
            for box, points, probability in zip(
                found.boxes, found.landmarks, found.probabilities, strict=True
            )
            if probability >= self.settings.min_probability
        ]
        return sorted(faces, key=lambda face: face.area, reverse=True)


def _open_networks(device: str, threads: int) -> Networks:
    if device.startswith("cpu"):
        from .mtcnn_onnx import open_networks as open_onnx

        return open_onnx(threads)
    from .mtcnn_networks import open_networks

    return open_networks(device)


def _snap(values: np.ndarray) -> np.ndarray:
    return (np.round(np.asarray(values, np.float64) * _SNAP) / _SNAP).astype(np.float32)
