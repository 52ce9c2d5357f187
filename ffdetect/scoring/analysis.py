"""Pictures -> every face with its score, verdict and quality; several pictures in one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from preprocess.faces.crop import crop_face
from preprocess.io.decode import Picture

from .quality import measure
from .results import Analysis, ScoredFace
from .tta import TTA
from .verdict import judge

if TYPE_CHECKING:
    from .detector import Detector


def analyze_pictures(
    detector: Detector,
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
    widest = detector._widest_tta if verdicts and detector.calibration else tta
    logits = detector.crop_logits(np.stack(crops), tta=widest, batch_size=batch_size)
    scores = detector._probabilities(logits[: TTA[tta]].mean(0)).tolist()
    views = detector._probabilities(logits).numpy().T
    scored = iter(zip(scores, views, strict=True))
    return [
        replace(
            analysis,
            faces=tuple(_judge(detector, face, *next(scored), verdicts) for face in analysis.faces),
        )
        for analysis in found
    ]


def _find(detector: Detector, picture: Picture, most: int | None) -> Analysis:
    """Every face, with a score that is not known yet."""
    found = detector.face_detector.detect(picture.pixels)
    faces = []
    for face in found[:most]:
        crop = crop_face(picture.pixels, face, detector.crop_settings)
        quality = measure(picture, face, crop)
        faces.append(
            ScoredFace(face.box, face.landmarks, face.probability, np.nan, crop, "", (), quality)
        )
    left_out = len(found) - len(faces)
    return Analysis(picture.name, picture.width, picture.height, tuple(faces), left_out)


def _judge(
    detector: Detector, face: ScoredFace, score: float, views: Sequence[float], verdicts: bool
) -> ScoredFace:
    if not verdicts:
        return replace(face, score=score)
    verdict = judge(score, views, face.quality, detector.calibration)
    return replace(face, score=score, verdict=verdict.verdict, reasons=verdict.reasons)
