"""How far scores in half precision are from those in float32; `throughput` asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ffdetect.evaluation.tables import markdown
from ffdetect.models.device import has_fast_bf16
from ffdetect.scoring.detector import Detector
from preprocess.faces.crop import crop_face
from preprocess.io.decode import decode_image


def half_precisions(device: torch.device) -> tuple[str, ...]:
    """Number formats of half the size that a device computes in by itself."""
    if device.type == "cuda":
        return ("bf16", "fp16")
    return ("bf16",) if has_fast_bf16() else ()


@dataclass(frozen=True)
class Apart:
    """How far scores of the same faces in two number formats are apart.

    Attributes:
        faces: that were scored.
        largest, mean: absolute difference of scores, which are 0 to 1.
        verdicts: faces on the other side of one of the thresholds.
    """

    faces: int
    largest: float
    mean: float
    verdicts: int


def compare_precisions(files: Sequence[Path], device: torch.device) -> dict[str, Apart]:
    """The best weights in half precision, where the device has it, beside float32."""
    halves = half_precisions(device)
    if not halves:
        return {}
    exact = Detector.load("best", device)
    found = [(p, exact.face_detector.largest(p)) for p in (decode_image(f).pixels for f in files)]
    faces = [crop_face(pixels, own, exact.crop_settings) for pixels, own in found if own]
    if not faces:
        return {}
    crops = np.stack(faces)
    scores = exact.score_crops(crops)
    levels = np.array(sorted((exact.thresholds or {}).values()))
    results = {}
    for precision in halves:
        own = Detector.load("best", device, precision).score_crops(crops)
        gap = np.abs(own - scores)
        others = (np.searchsorted(levels, own) != np.searchsorted(levels, scores)).sum()
        results[precision] = Apart(len(crops), float(gap.max()), float(gap.mean()), int(others))
    return results


def precision_table(where: str, found: Mapping[str, Apart]) -> str:
    """Number format -> `Apart` as a Markdown table."""
    columns = [f"best in half precision, {where}", "faces", "scores apart at most", "in the mean"]
    rows = [
        [name, own.faces, f"{own.largest:.4f}", f"{own.mean:.4f}", own.verdicts]
        for name, own in found.items()
    ]
    return markdown([*columns, "on the other side of a threshold"], rows)
