"""Detector: pictures in, probabilities out.

PyTorch is imported where it runs the networks: `Detector.load(runtime="onnx")` does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
from tqdm import tqdm

from ffdetect.models.calibration import Calibration, probabilities
from ffdetect.weights import SHIPPED
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import CropSettings
from preprocess.io.decode import MAX_MEGAPIXELS
from preprocess.io.sources import is_clip
from preprocess.work.cores import computing, cores

from .analysis import NoFaceError, PictureScorer, check_no_face, together
from .tta import MOST_THREADS, SHIFT, TTA, check_count, views

if TYPE_CHECKING:
    import torch

    from ffdetect.models.weights import Checkpoint
    from preprocess.cache.reader import CacheReader

    from .clip import VideoScore
    from .onnx.detector import OnnxDetector

_RUNTIMES = ("torch", "onnx")


class Detector(PictureScorer):
    """Scores faces with one set of weights; make one with `Detector.load`.

    A picture is given as a path, encoded `bytes`, a PIL image, a uint8 H x W x 3 RGB array or a
    uint8 3 x H x W RGB tensor. Every method raises `ValueError` for anything else, for damaged
    files and for pictures of more than `max_megapixels`.

    Where the weights carry a calibration (`ffdetect calibrate`), all scores are
    calibrated. Every method that scores takes `tta`, test-time augmentation: "none", "flip" (the
    mean logit of the crop and its mirror image) or "flip+crops" (also of four windows in its
    corners, six times the work; not for transformers, which take crops of one size only). The
    calibration was measured without.

    Attributes:
        crop_settings: how faces are cut out, as the weights were trained.
        about: what the weights file tells about its training.
        network: gives logits of crops.
        calibration: temperature, bias and thresholds of the weights, None if they carry none.
        device: where the network and MTCNN run.
        precision: "fp32", "bf16" or "fp16".
        threads: that the network and MTCNN compute with on a CPU.
        max_megapixels: larger pictures are refused before they are decoded.
        shipped: "best" or "fast" if the weights are of this package, else "".
        face_detector: finds the faces.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        precision: str = "fp32",
        threads: int | None = 1,
    ) -> None:
        import torch

        from ffdetect.models.device import PRECISIONS

        if precision not in [*PRECISIONS]:  # not hashed, so that a list is told too
            raise ValueError(f"expected precision in {list(PRECISIONS)} but got {precision!r}")
        if precision == "fp16" and device.type == "cpu":
            raise ValueError("expected fp32 or bf16 on a CPU but got 'fp16'")
        self.crop_settings: CropSettings = checkpoint.crop
        self.about: dict = checkpoint.about
        self.calibration: Calibration | None = checkpoint.calibration
        self.device = device
        self.precision = precision
        if threads is None:
            threads = min(torch.get_num_threads(), cores())
        check_count("threads", threads, MOST_THREADS)
        self.threads = threads
        self.max_megapixels = MAX_MEGAPIXELS
        self.shipped = ""
        self.network = checkpoint.network.to(device)
        self.face_detector = FaceDetector(checkpoint.crop, device, threads)

    @overload
    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        device: str | torch.device = "auto",
        precision: str = "fp32",
        threads: int | None = 1,
        runtime: Literal["torch"] = "torch",
    ) -> Detector: ...

    @overload
    @classmethod
    def load(
        cls,
        weights: str | Path,
        device: str = "auto",
        precision: str = "fp32",
        threads: int | None = 1,
        *,
        runtime: Literal["onnx"],
    ) -> OnnxDetector: ...

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        device: str | torch.device = "auto",
        precision: str = "fp32",
        threads: int | None = 1,
        runtime: str = "torch",
    ) -> Detector | OnnxDetector:
        """Load weights and build the detector; nothing is fetched from anywhere.

        Args:
            weights: a file; or of this package, "best" (as None) or "fast". For ONNX Runtime the
                folder that `ffdetect export` wrote.
            device: "auto" (CUDA if there is one), "cpu", "cuda", "cuda:1" ...
            precision: "fp32"; "bf16" or "fp16" (CUDA only) where asked for. Thresholds hold for
                fp32 alone. On a CPU, bf16 is meant for those with AMX or avx512_bf16: the shipped
                weights round inputs and sums of CLIP's products alone, and scores differ little
                (benchmarks/results/throughput_amx.md); networks of other designs are
                many times slower on other CPUs.
            threads: to compute with on a CPU. One is right where several processes or threads
                score, or others compute; more are faster where this has the machine to itself.
                None takes as many as there are cores (see docs/service.md).
            runtime: "torch", or "onnx", which scores pictures on a CPU in fp32 without PyTorch
                (see docs/onnx.md).

        Raises:
            WeightsError: a missing, damaged or foreign weights file.
            ValueError: an unknown device, precision or runtime; a folder that is no export.
            ImportError: ONNX Runtime is asked for, and is not installed.
        """
        if runtime not in _RUNTIMES:
            raise ValueError(f"expected a runtime in {list(_RUNTIMES)} but got {runtime!r}")
        if runtime == "onnx":
            from .onnx.detector import OnnxDetector

            if (str(device), precision) not in (("auto", "fp32"), ("cpu", "fp32")):
                got = f"{precision} on {device}"
                raise ValueError(f"expected fp32 on cpu with runtime='onnx' but got {got}")
            return OnnxDetector.load(weights or "best", threads=threads)
        import torch

        from ffdetect.models.device import pick_device
        from ffdetect.models.weights import load_checkpoint

        chosen = pick_device(device)
        name = "best" if weights is None else str(weights)
        with torch.device("cpu"):  # whatever the default is
            if weights is not None and name not in SHIPPED:
                return cls(load_checkpoint(weights), chosen, precision, threads)
            with resources.as_file(resources.files("ffdetect.weights") / SHIPPED[name]) as file:
                detector = cls(load_checkpoint(file), chosen, precision, threads)
        detector.shipped = name
        return detector

    def score(self, img: object, *, no_face: str = "raise", tta: str = "none") -> float:
        """Probability in 0..1 that the largest face of a picture is fake.

        Args:
            img: a picture, see the class, or the path of a clip, which scores as `score_video`
                says, by its faces and its voice.
            no_face: what to do without a face: "raise" `NoFaceError`, score the "whole" picture
                (one that is blank or tiny raises all the same), or give "nan". A clip without a
                face scores its voice, if it has one.
            tta: see the class.
        """
        if isinstance(img, str | Path) and is_clip(Path(img)):
            check_no_face(no_face)
            whole = "whole" if no_face == "whole" else "nan"
            seen = self.score_video(img, no_face=whole, tta=tta)
            if no_face != "nan" and np.isnan(seen.score):
                raise NoFaceError("expected a face or a voice but found none", img)
            return seen.score
        return super().score(img, no_face=no_face, tta=tta)

    def score_video(
        self,
        clip: str | Path,
        *,
        frames: int = 8,
        voice: bool = True,
        no_face: str = "nan",
        tta: str = "none",
    ) -> VideoScore:
        """Score a clip over time, by its faces and its voice; see `clip.score_video`."""
        from .clip import score_video

        return score_video(self, clip, frames=frames, voice=voice, no_face=no_face, tta=tta)

    def crop_logits(
        self,
        crops: np.ndarray | torch.Tensor,
        *,
        batch_size: int = 32,
        tta: str = "none",
        clip: bool = False,
    ) -> torch.Tensor:
        """What the network says of every view of ready crops, before any calibration.

        Args:
            crops, tta: as for `score_crops`.
            clip: whether they are of frames of clips.

        Returns:
            float32 V x N on the CPU; the first of the V views is the crop itself.
        """
        import torch

        from ffdetect.models.device import PRECISIONS

        self.check_tta(tta)
        check_count("batch_size", batch_size)
        if isinstance(crops, np.ndarray) and crops.dtype == np.uint8 and crops.ndim == 4:
            crops = torch.from_numpy(np.require(crops, requirements=["C", "W"])).movedim(-1, 1)
        size = self.crop_settings.size
        if not isinstance(crops, np.ndarray | torch.Tensor):
            raise ValueError(f"expected an array or tensor of crops but got {type(crops).__name__}")
        if (
            isinstance(crops, np.ndarray)
            or crops.dtype != torch.uint8
            or crops.shape[1:] != (3, size, size)
        ):
            raise ValueError(
                f"expected uint8 crops of {size} x {size} px but got {crops.dtype} "
                f"{tuple(crops.shape)}"
            )
        if not len(crops):  # Fourier transforms of nothing are an error in some builds of PyTorch
            return torch.zeros(TTA[tta], 0, device="cpu")
        size = together(batch_size, self.threads) if self.device.type == "cpu" else batch_size
        dtype = PRECISIONS[self.precision]
        judge = self.network.clip_logits if clip else self.network
        batches = []
        autocast = torch.autocast(self.device.type, dtype, enabled=dtype is not None)
        with computing(self.threads), self.device, torch.inference_mode(), autocast:
            for batch in crops.split(size):
                seen = [judge(view) for view in views(batch.to(self.device), tta)]
                batches.append(torch.stack(seen).float())
            logits = torch.cat(batches, 1).cpu()
        if not logits.isfinite().all():
            raise ValueError(
                "expected finite scores but these weights give nan or infinity with precision "
                f"{self.precision!r}"
            )
        return logits

    def score_cache(
        self,
        reader: CacheReader,
        rows: Sequence[int] | np.ndarray | None = None,
        *,
        batch_size: int = 32,
    ) -> np.ndarray:
        """Score faces of a cache, frames of clips as such: float32 N in 0..1; shows progress.

        Args:
            rows: which of them, in this order; by default all.

        Raises:
            WeightsError: its crops are not those that these weights read.
        """
        logits = self.cache_logits(reader, rows, batch_size=batch_size)
        return self.probabilities(logits).numpy()

    def cache_logits(
        self,
        reader: CacheReader,
        rows: Sequence[int] | np.ndarray | None = None,
        *,
        batch_size: int = 32,
    ) -> torch.Tensor:
        """float32 N on the CPU, before any calibration; otherwise as `score_cache`."""
        import torch

        self.check_cache(reader)
        rows = np.arange(len(reader)) if rows is None else np.asarray(rows)
        clips = reader.metadata["frame"].to_numpy()[rows] >= 0
        parts = [
            (clip, own[start : start + batch_size])
            for clip, own in ((False, np.flatnonzero(~clips)), (True, np.flatnonzero(clips)))
            for start in range(0, len(own), batch_size)
        ]
        logits = torch.zeros(len(rows), device="cpu")
        for clip, part in tqdm(parts, unit="batch"):
            crops = reader.crops(rows[part])
            logits[part] = self.crop_logits(crops, batch_size=batch_size, clip=clip)[0]
        return logits

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        if self.calibration is None:
            return logits.sigmoid()
        return probabilities(logits, self.calibration.temperature, self.calibration.bias)

    @cached_property
    def widest_tta(self) -> str:
        """Transformers lay out their tokens for one size; most convolutions take any."""
        import torch

        side = self.crop_settings.size - SHIFT
        try:
            self.network(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=self.device))
        except (AssertionError, RuntimeError, ValueError):
            return "flip"
        return "flip+crops"

    def check_cache(self, reader: CacheReader) -> None:
        """Refuse a cache whose faces were cut out in another way than these weights expect.

        Raises:
            WeightsError: the settings differ; the message names both.
        """
        from ffdetect.models.tensor_file import WeightsError
        from preprocess.cache.kinds import settings_difference

        wanted, got = self.crop_settings.to_dict(), reader.settings.crop.to_dict()
        difference = settings_difference(wanted, got)
        if difference:
            raise WeightsError(
                f"{reader.paths[0]}: expected crops as these weights were trained with "
                f"but the cache has others ({'; '.join(difference)})"
            )
