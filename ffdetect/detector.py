"""Detector: pictures in, probabilities out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from preprocess.cache import CacheReader
from preprocess.decode import MAX_MEGAPIXELS, DecodeError, Picture, decode_image
from preprocess.faces import CropSettings, Face, FaceDetector, crop_face, crop_whole
from preprocess.schema import settings_difference

from .checkpoint import Checkpoint, WeightsError, load_checkpoint
from .device import PRECISIONS, pick_device

SHIPPED_WEIGHTS = "dualstream.safetensors"
_NO_FACE = ("raise", "whole", "nan")


class NoFaceError(ValueError):
    """A picture without a face was to be scored; the message names it."""


@dataclass(frozen=True)
class ScoredFace:
    """One face of a picture.

    Attributes:
        box: float32[4], left, top, right, bottom in pixels of the upright picture.
        landmarks: float32[5, 2], eyes, nose, corners of the mouth.
        probability: how sure MTCNN is that this is a face, 0 to 1.
        score: probability that the face is fake, 0 to 1.
        crop: uint8 size x size x 3 RGB, what the network saw.
    """

    box: np.ndarray
    landmarks: np.ndarray
    probability: float
    score: float
    crop: np.ndarray


@dataclass(frozen=True)
class Analysis:
    """All faces of a picture, largest first.

    Attributes:
        name: how messages call the picture.
        width, height: of the upright picture, in pixels.
        faces: empty if no face was found.
    """

    name: str
    width: int
    height: int
    faces: tuple[ScoredFace, ...]


class Detector:
    """Scores faces with one set of weights; make one with `Detector.load`.

    A picture is given as a path, encoded `bytes`, a PIL image, a uint8 H x W x 3 RGB array or a
    uint8 3 x H x W RGB tensor. Every method raises `ValueError` for anything else, for damaged
    files and for pictures of more than `max_megapixels`.

    Attributes:
        crop_settings: how faces are cut out, as the weights were trained.
        about: what the weights file tells about its training.
        device: where the network and MTCNN run.
        precision: "fp32", "bf16" or "fp16".
        max_megapixels: larger pictures are refused before they are decoded.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, precision: str = "fp32"
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"expected precision in {list(PRECISIONS)} but got {precision!r}")
        if precision == "fp16" and device.type == "cpu":
            raise ValueError("expected fp32 or bf16 on a CPU but got 'fp16'")
        self.crop_settings: CropSettings = checkpoint.crop
        self.about: dict = checkpoint.about
        self.device = device
        self.precision = precision
        self.max_megapixels = MAX_MEGAPIXELS
        self._network = checkpoint.network.to(device)
        self._faces = FaceDetector(checkpoint.crop, device)

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        device: str | torch.device = "auto",
        precision: str = "fp32",
    ) -> Detector:
        """Load weights and build the detector; nothing is fetched from anywhere.

        Args:
            weights: a file written by `ffdetect.train`; None for the weights in this package.
            device: "auto" (CUDA if there is one), "cpu", "cuda", "cuda:1" ...
            precision: "fp32"; "bf16" or "fp16" (CUDA only) where asked for. The shipped weights'
                scores in bf16 stay within 0.02 of float32 (0.013 at most over 300 faces on a
                CPU). On a CPU without avx512_bf16 or AMX, bf16 is many times slower.

        Raises:
            WeightsError: a missing, damaged or foreign weights file.
            ValueError: an unknown device or precision.
        """
        chosen = pick_device(device)
        if weights is not None:
            return cls(load_checkpoint(weights), chosen, precision)
        shipped = resources.files("ffdetect.weights") / SHIPPED_WEIGHTS
        with resources.as_file(shipped) as file:
            return cls(load_checkpoint(file), chosen, precision)

    def score(self, img: object, *, no_face: str = "raise") -> float:
        """Probability in 0..1 that the largest face of a picture is fake.

        Args:
            img: a picture, see the class.
            no_face: what to do without a face: "raise" `NoFaceError`, score the "whole" picture,
                or give "nan".
        """
        return float(self.score_batch([img], no_face=no_face)[0])

    def score_batch(
        self, imgs: Iterable[object], *, batch_size: int = 32, no_face: str = "nan"
    ) -> np.ndarray:
        """`score` for many pictures: float32 N, in the order of `imgs`, which may be lazy.

        The size of a batch changes speed and memory, and scores by less than 1e-5.
        """
        if no_face not in _NO_FACE:
            raise ValueError(f"expected no_face to be one of {_NO_FACE} but got {no_face!r}")
        if batch_size < 1:
            raise ValueError(f"expected a batch_size of at least 1 but got {batch_size}")
        if isinstance(imgs, str | bytes | Path):
            raise ValueError(f"expected several pictures but got one {type(imgs).__name__}")
        scores = []
        crops = (self._crop_or(picture, no_face) for picture in map(self._decode, imgs))
        for batch in _chunks(crops, batch_size):
            found = [crop for crop in batch if crop is not None]
            values = iter(self.score_crops(np.stack(found)) if found else ())
            scores += [np.nan if crop is None else next(values) for crop in batch]
        return np.array(scores, np.float32)

    def analyze(self, img: object) -> Analysis:
        """Find and score every face of a picture."""
        picture = self._decode(img)
        faces = self._faces.detect(picture.pixels)
        crops = [crop_face(picture.pixels, face, self.crop_settings) for face in faces]
        scores = self.score_crops(np.stack(crops)) if faces else ()
        scored = (
            ScoredFace(face.box, face.landmarks, face.probability, float(score), crop)
            for face, crop, score in zip(faces, crops, scores, strict=True)
        )
        return Analysis(picture.name, picture.width, picture.height, tuple(scored))

    def crop_largest(self, picture: Picture) -> np.ndarray | None:
        """The largest face of a decoded picture as uint8 size x size x 3, None without a face."""
        faces: list[Face] = self._faces.detect(picture.pixels)
        return crop_face(picture.pixels, faces[0], self.crop_settings) if faces else None

    @torch.inference_mode()
    def score_crops(self, crops: np.ndarray | torch.Tensor, *, batch_size: int = 32) -> np.ndarray:
        """Score ready crops.

        Args:
            crops: uint8 N x size x size x 3 array or N x 3 x size x size tensor, cut out with
                `crop_settings`.

        Returns:
            float32 N in 0..1.
        """
        if isinstance(crops, np.ndarray):
            crops = torch.from_numpy(np.ascontiguousarray(crops)).movedim(-1, 1)
        size = self.crop_settings.size
        if crops.dtype != torch.uint8 or crops.shape[1:] != (3, size, size):
            raise ValueError(
                f"expected uint8 crops of {size} x {size} px but got {crops.dtype} "
                f"{tuple(crops.shape)}"
            )
        dtype = PRECISIONS[self.precision]
        scores = []
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            for batch in crops.split(batch_size):
                logits = self._network(batch.to(self.device))
                scores.append(torch.sigmoid(logits.float()).cpu())
        return torch.cat(scores).numpy() if scores else np.zeros(0, np.float32)

    def check_cache(self, reader: CacheReader) -> None:
        """Refuse a cache whose faces were cut out in another way than these weights expect.

        Raises:
            WeightsError: the settings differ; the message names both.
        """
        wanted, got = self.crop_settings.to_dict(), reader.settings.crop.to_dict()
        difference = settings_difference(wanted, got)
        if difference:
            raise WeightsError(
                f"{reader.paths[0]}: expected crops as these weights were trained with "
                f"but the cache has others ({'; '.join(difference)})"
            )

    def _decode(self, img: object) -> Picture:
        return decode_image(img, max_megapixels=self.max_megapixels)

    def _crop_or(self, picture: Picture, no_face: str) -> np.ndarray | None:
        crop = self.crop_largest(picture)
        if crop is None and no_face == "raise":
            size = f"{picture.width} x {picture.height}"
            raise NoFaceError(
                f"{picture.name}: expected a face but found none in {size} px; "
                'no_face="whole" scores the whole picture'
            )
        if crop is None and no_face == "whole":
            return crop_whole(picture.pixels, self.crop_settings)
        return crop


def _chunks(values: Iterator, size: int) -> Iterator[Sequence]:
    while chunk := list(islice(values, size)):
        yield chunk


__all__ = [
    "Analysis",
    "DecodeError",
    "Detector",
    "NoFaceError",
    "ScoredFace",
    "WeightsError",
]
