"""OnnxDetector: pictures in, probabilities out, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from scipy.special import expit

from ffdetect.scoring.analysis import PictureScorer, together
from ffdetect.scoring.tta import MOST_THREADS, TTA, check_count, check_tta, windows
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
        crop_settings: how faces are cut out, as the weights were trained.
        about: what the weights told of their training.
        calibration: temperature, bias and thresholds of the weights, None if they carried none.
        max_megapixels: larger pictures are refused before they are decoded.
        face_detector: finds the faces.
    """

    def __init__(self, folder: Path, settings: ExportSettings, threads: int) -> None:
        check_count("threads", threads, MOST_THREADS)
        self.threads = threads
        self.crop_settings = settings.crop
        self.about = settings.about
        self.calibration = settings.calibration
        self.max_megapixels = MAX_MEGAPIXELS
        self._tta = settings.tta
        self._network = open_session(folder / NETWORK, threads)
        if self._tta == "flip+crops":
            self._windows = open_session(folder / WINDOWS, threads)
        self.face_detector = FaceDetector(
            settings.crop, threads=threads, networks=open_networks(threads, folder)
        )

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

    def score_crops(
        self, crops: np.ndarray, *, batch_size: int = 32, tta: str = "none"
    ) -> np.ndarray:
        """float32 N in 0..1 of uint8 N x size x size x 3 crops, cut out with `crop_settings`."""
        logits = self.crop_logits(crops, batch_size=batch_size, tta=tta)
        return self._probabilities(logits.mean(0))

    def crop_logits(
        self, crops: np.ndarray, *, batch_size: int = 32, tta: str = "none"
    ) -> np.ndarray:
        """What the network says of every view of ready crops, before any calibration: float32
        V x N; the first of the V views is the crop itself."""
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

    @property
    def _widest_tta(self) -> str:
        return self._tta

    def check_tta(self, tta: str) -> None:
        """Raises ValueError for a kind of test-time augmentation that these weights cannot do."""
        check_tta(tta)
        if TTA[tta] > TTA[self._tta]:
            raise ValueError(
                f"expected tta to be 'none' or 'flip' with this network, which takes crops of "
                f"{self.crop_settings.size} px only, but got {tta!r}"
            )

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        if self.calibration is not None:
            logits = logits / self.calibration.temperature + self.calibration.bias
        return np.asarray(expit(logits), np.float32)
