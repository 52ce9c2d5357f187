"""OnnxDetector: pictures in, probabilities out, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from scipy.special import expit

from ffdetect.scoring.analysis import PictureScorer, together
from ffdetect.scoring.tta import MOST_THREADS, TTA, check_count, windows
from preprocess.faces.detect import FaceDetector
from preprocess.faces.mtcnn_onnx import open_networks
from preprocess.faces.onnx_session import open_session
from preprocess.io.decode import MAX_MEGAPIXELS
from preprocess.work.cores import cores

from .settings import NETWORK, WINDOWS, ExportSettings


class OnnxDetector(PictureScorer):
    """Scores faces of pictures as `Detector` does, without PyTorch; `Detector.load` makes it.

    Clips, voices and heat maps need PyTorch.

    Attributes:
        about: what the weights told of their training.
        threads: to compute with.
    """

    def __init__(self, folder: Path, settings: ExportSettings, threads: int) -> None:
        check_count("threads", threads, MOST_THREADS)
        self.threads = threads
        self.crop_settings = settings.crop
        self.about = settings.about
        self._tta = settings.tta
        self.calibration = settings.calibration
        self.max_megapixels = MAX_MEGAPIXELS
        self._network = open_session(folder / NETWORK, threads)
        if settings.tta == "flip+crops":
            self._windows = open_session(folder / WINDOWS, threads)
        self.face_detector = FaceDetector(
            settings.crop, threads=threads, networks=open_networks(threads, folder)
        )

    @property
    def widest_tta(self) -> str:
        return self._tta

    @classmethod
    def load(cls, folder: str | Path, *, threads: int | None = 1) -> OnnxDetector:
        """Load what `ffdetect export` wrote.

        Args:
            threads: to compute with; None takes as many as there are cores.

        Raises:
            ValueError: another folder, or damaged files.
        """
        if not isinstance(folder, str | Path):
            raise ValueError(f"expected a folder written by ffdetect export but got {folder!r}")
        settings = ExportSettings.read(Path(folder))
        return cls(Path(folder), settings, cores() if threads is None else threads)

    def score_video(self, clip: str | Path, **_: object) -> NoReturn:
        """Raises ValueError: clips and voices need PyTorch."""
        raise ValueError(f"{clip}: expected a picture, as clips need runtime='torch'")

    def crop_logits(
        self, crops: np.ndarray, *, batch_size: int = 32, tta: str = "none"
    ) -> np.ndarray:
        """Of uint8 N x size x size x 3 crops: float32 V x N, see `PictureScorer`."""
        self.check_tta(tta)
        check_count("batch_size", batch_size)
        size, crops = self.crop_settings.size, np.asarray(crops)
        if crops.dtype != np.uint8 or crops.shape[1:] != (size, size, 3):
            raise ValueError(
                f"expected uint8 crops of {size} x {size} px but got {crops.dtype} {crops.shape}"
            )
        seen = [np.zeros((TTA[tta], 0), np.float32)]
        step = together(batch_size, self.threads)
        for start in range(0, len(crops), step):
            batch = crops[start : start + step].transpose(0, 3, 1, 2)
            seen.append(np.stack([*islice(self._views(batch), TTA[tta])]))
        return np.concatenate(seen, 1)

    def _views(self, crops: np.ndarray) -> Iterator[np.ndarray]:
        """The logits of each view of N x 3 x size x size, in the order of `tta.views`."""
        yield self._network.run(None, {"crops": crops})[0]
        yield self._network.run(None, {"crops": crops[..., ::-1]})[0]
        for window in windows(crops):
            yield self._windows.run(None, {"crops": window})[0]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        if self.calibration is not None:
            logits = logits / self.calibration.temperature + self.calibration.bias
        return np.asarray(expit(logits), np.float32)
