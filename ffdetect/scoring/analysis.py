"""Pictures -> scores, or every face with its score, verdict and quality, in batches.

PyTorch is not imported: other libraries can run the networks (`ffdetect.scoring.onnx`).
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ffdetect.models.calibration import Calibration
from ffdetect.provenance import read_provenance
from preprocess.faces.crop import crop_face, crop_whole
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import CropSettings
from preprocess.io.decode import DecodeError, Picture, decode_image
from preprocess.io.formats import FileError
from preprocess.io.sources import is_clip

from .quality import measure, nothing_to_judge
from .results import Analysis, ScoredFace, Scores
from .tta import TTA, check_count, check_tta
from .verdict import judge

_NO_FACE = ("raise", "whole", "nan")
_ON_ERROR = ("raise", "nan")


def together(batch_size: int, threads: int) -> int:
    """How many crops of a batch a CPU computes at once. What a network keeps of more than two a
    thread leaves the processor's caches, so that each takes longer."""
    return min(batch_size, 2 * threads)


class NoFaceError(FileError):
    """A picture without a face, or one that shows nothing at all, was to be scored."""


class PictureScorer(ABC):
    """What detectors do with pictures, whatever runs their networks.

    Attributes:
        crop_settings: how faces are cut out, as the weights were trained.
        calibration: temperature, bias and thresholds of the weights, None if they carry none.
        max_megapixels: larger pictures are refused before they are decoded.
        face_detector: finds the faces.
    """

    crop_settings: CropSettings
    calibration: Calibration | None
    max_megapixels: float
    face_detector: FaceDetector

    @abstractmethod
    def crop_logits(self, crops: Any, *, batch_size: int = 32, tta: str = "none") -> Any:
        """What the network says of every view of ready crops, before any calibration: float32
        V x N, an array or a tensor on the CPU; the first of the V views is the crop itself."""

    @abstractmethod
    def probabilities(self, logits: Any) -> Any:
        """What `crop_logits` gives, of any shape, as calibrated probabilities of fake."""

    @property
    @abstractmethod
    def widest_tta(self) -> str:
        """The most views of a crop that the network takes: "flip" or "flip+crops"."""

    def check_tta(self, tta: str) -> None:
        """Raises ValueError for a kind of test-time augmentation that these weights cannot do."""
        check_tta(tta)
        if tta == "flip+crops" and self.widest_tta != tta:
            raise ValueError(
                f"expected tta to be 'none' or 'flip' with these weights, which take crops of "
                f"{self.crop_settings.size} px only, but got {tta!r}"
            )

    def score_crops(self, crops: Any, *, batch_size: int = 32, tta: str = "none") -> np.ndarray:
        """Score ready crops.

        Args:
            crops: uint8 N x size x size x 3 array, or for PyTorch also an N x 3 x size x size
                tensor, cut out with `crop_settings`.
            tta: see the class.

        Returns:
            float32 N in 0..1.
        """
        logits = self.crop_logits(crops, batch_size=batch_size, tta=tta)
        return np.asarray(self.probabilities(logits.mean(0)), np.float32)

    @property
    def thresholds(self) -> dict[float, float] | None:
        """False-positive rate (0.1, 0.01, 0.001) -> score; None without a calibration.

        A face is flagged at such a rate if its score is the threshold or more. The rate was
        measured on real faces like those of `calibration.sources`; with fewer than 999 of them
        (`calibration.reals`) that at 0.001 is just above all of their scores.
        """
        return dict(self.calibration.thresholds) if self.calibration else None

    def score(self, img: object, *, no_face: str = "raise", tta: str = "none") -> float:
        """Probability in 0..1 that the largest face of a picture is fake; see `score_batch`.

        Args:
            no_face: what to do without a face: "raise" `NoFaceError`, score the "whole" picture
                (one that is blank or tiny raises all the same), or give "nan".
        """
        return float(self.score_batch([img], no_face=no_face, tta=tta)[0])

    def score_batch(
        self,
        imgs: Iterable[object],
        *,
        batch_size: int = 32,
        no_face: str = "nan",
        on_error: str = "raise",
        tta: str = "none",
    ) -> Scores:
        """`score` for many pictures: float32 N, in the order of `imgs`, which may be lazy.

        The size of a batch changes speed and memory, and scores by less than 1e-4. Clips are
        scored one by one, by `score_video`.

        Args:
            no_face: see `score`.
            on_error: "raise" the error of the first picture that cannot be scored, or give it
                "nan" and go on; the errors, by index, are in `errors` of what is returned.
        """
        check_no_face(no_face)
        if on_error not in _ON_ERROR:
            raise ValueError(f"expected on_error to be one of {_ON_ERROR} but got {on_error!r}")
        self.check_tta(tta)
        check_count("batch_size", batch_size)
        _check_several(imgs)
        scores: list[float] = []
        errors: dict[int, ValueError] = {}

        def crop(index: int, img: object) -> np.ndarray | None:
            try:
                return self._crop_or(self._decode(img), no_face)
            except (DecodeError, NoFaceError) as error:
                if on_error == "raise":
                    raise
                errors[index] = error
                return None

        for batch in _chunks((crop(*numbered) for numbered in enumerate(imgs)), batch_size):
            found = [one for one in batch if one is not None]
            values = iter(self.score_crops(np.stack(found), tta=tta) if found else ())
            scores += [np.nan if one is None else next(values) for one in batch]
        return Scores.of(scores, errors)

    def analyze(self, img: object, *, tta: str = "none") -> Analysis:
        """Find, score and judge every face of a picture, and read what its file says of itself.

        With calibrated weights the verdict looks at every view of "flip+crops" ("flip" with a
        transformer), so a face costs six times what `score` takes; `tta` decides which of them
        make its score.
        """
        self.check_tta(tta)
        found = analyze_pictures(self, [self._decode(img)], tta=tta)[0]
        if not isinstance(img, str | Path | bytes):
            return found
        return replace(found, provenance=read_provenance(img))

    def crop_largest(self, picture: Picture) -> np.ndarray | None:
        """The largest face of a decoded picture as uint8 size x size x 3, None without a face."""
        face = self.face_detector.largest(picture.pixels)
        return crop_face(picture.pixels, face, self.crop_settings) if face else None

    def _decode(self, img: object) -> Picture:
        try:
            return decode_image(img, max_megapixels=self.max_megapixels)
        except DecodeError as error:
            if not isinstance(img, str | Path) or not is_clip(Path(img)):
                raise
            reason = "expected a picture but got a clip; score_video scores it"
            raise DecodeError(reason, img) from error

    def _crop_or(self, picture: Picture, no_face: str) -> np.ndarray | None:
        crop = self.crop_largest(picture)
        if crop is None and no_face == "raise":
            size = f"{picture.width} x {picture.height}"
            raise NoFaceError(
                f"expected a face but found none in {size} px; "
                'no_face="whole" scores the whole picture',
                picture.name,
            )
        if crop is None and no_face == "whole":
            if reason := nothing_to_judge(picture.pixels, self.crop_settings.size):
                raise NoFaceError(f"expected a picture to score but got {reason}", picture.name)
            return crop_whole(picture.pixels, self.crop_settings)
        return crop


def analyze_pictures(
    detector: PictureScorer,
    pictures: Iterable[Picture],
    *,
    tta: str = "none",
    verdicts: bool = True,
    most_faces: int | None = None,
    batch_size: int = 32,
) -> list[Analysis]:
    """Find, score and judge the faces of decoded pictures, in order.

    One picture is in memory at a time, if `pictures` is lazy. Their faces go through the network
    together; which ones go with it moves a face's score by less than 1e-4.

    Args:
        tta: see `Detector`.
        verdicts: whether to look at the views that a verdict takes; without, a face costs one
            view and its verdict is "".
        most_faces: of each picture, the largest; the others are counted in `Analysis.left_out`.
    """
    found = [_find(detector, picture, most_faces) for picture in pictures]
    crops = [face.crop for analysis in found for face in analysis.faces]
    if not crops:
        return found
    widest = detector.widest_tta if verdicts and detector.calibration else tta
    logits = detector.crop_logits(np.stack(crops), tta=widest, batch_size=batch_size)
    scores = detector.probabilities(logits[: TTA[tta]].mean(0)).tolist()
    views = np.asarray(detector.probabilities(logits)).T
    scored = iter(zip(scores, views, strict=True))
    return [
        replace(
            analysis,
            faces=tuple(_judge(detector, face, *next(scored), verdicts) for face in analysis.faces),
        )
        for analysis in found
    ]


def _find(detector: PictureScorer, picture: Picture, most: int | None) -> Analysis:
    """Every face, with a score that is not known yet."""
    found = detector.face_detector.detect(picture.pixels)
    faces = []
    for face in found[:most]:
        crop = crop_face(picture.pixels, face, detector.crop_settings)
        faces.append(ScoredFace(face, crop, measure(picture, face, crop), np.nan))
    left_out = len(found) - len(faces)
    return Analysis(picture.name, picture.width, picture.height, tuple(faces), left_out)


def _judge(
    detector: PictureScorer, face: ScoredFace, score: float, views: Sequence[float], verdicts: bool
) -> ScoredFace:
    if not verdicts:
        return replace(face, score=score)
    verdict = judge(score, views, face.quality, detector.calibration)
    return replace(face, score=score, verdict=verdict.verdict, reasons=verdict.reasons)


def check_no_face(no_face: str) -> None:
    if no_face not in _NO_FACE:
        raise ValueError(f"expected no_face to be one of {_NO_FACE} but got {no_face!r}")


def _check_several(imgs: object) -> None:
    one = isinstance(imgs, str | bytes | bytearray | memoryview | Path | Image.Image | io.IOBase)
    paths = getattr(getattr(imgs, "dtype", None), "kind", "") in ("O", "U")  # a column of a table
    one = one or (getattr(imgs, "ndim", 4) <= 3 and not paths)
    if one or not isinstance(imgs, Iterable):
        got = "one " if one else ""
        raise ValueError(f"expected several pictures but got {got}{type(imgs).__name__}")


def _chunks(values: Iterator, size: int) -> Iterator[Sequence]:
    while chunk := list(islice(values, size)):
        yield chunk
