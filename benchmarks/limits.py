"""python -m benchmarks.limits MATCHED: how small, blurred or compressed may a face be?

Faces of a matched cache (`evaluation.framing`) are damaged step by step. Two things are read
off: the AUC that is left, and how many reals pass the score that a tenth of the undamaged reals
passes, since damage must not turn real faces into fakes. The limits in `ffdetect.scoring.verdict`
come from here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ffdetect.evaluation.matching import comparisons
from ffdetect.evaluation.metrics import auc
from ffdetect.models.calibration import threshold_at
from ffdetect.scoring.detector import Detector
from ffdetect.scoring.quality import block_effect, blur_effect
from preprocess.cache.reader import CacheReader
from preprocess.faces.face import CropSettings

Damage = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Result:
    """What one damage does.

    Attributes:
        auc: mean over generators, each against reals of its own kind.
        flagged: share of reals above the score that a tenth of the undamaged reals passes.
        caught: the same for fakes.
        blur, blocks: median of `ffdetect.scoring.quality`'s measures.
    """

    damage: str
    auc: float
    flagged: float
    caught: float
    blur: float
    blocks: float


def damages(settings: CropSettings) -> dict[str, Damage]:
    """Name -> function of a uint8 crop and the side of its face in pixels."""
    ways: dict[str, Damage] = {"none": lambda crop, side: crop}
    for pixels in (128, 96, 64, 48, 32):
        ways[f"face of {pixels} px"] = lambda crop, side, pixels=pixels: shrink(
            crop, side, pixels, settings.margin
        )
    for sigma in (0.7, 1.0, 1.4, 2.0, 3.0):
        ways[f"blur {sigma}"] = lambda crop, side, sigma=sigma: cv2.GaussianBlur(
            crop, (0, 0), sigma
        )
    for quality in (60, 40, 30, 20, 10):
        ways[f"JPEG {quality}"] = lambda crop, side, quality=quality: jpeg(crop, quality)
    return ways


def shrink(crop: np.ndarray, side: float, pixels: int, margin: float) -> np.ndarray:
    """The crop that the face path makes if the face has so many pixels in the picture."""
    size = len(crop)
    framed = min(round(side * (1 + 2 * margin)), size)
    start = (size - framed) // 2
    inner = crop[start : start + framed, start : start + framed]
    few = min(round(pixels * (1 + 2 * margin)), framed)
    small = cv2.resize(inner, (few, few), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)


def jpeg(crop: np.ndarray, quality: int) -> np.ndarray:
    """The crop after a JPEG file."""
    data = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def evaluate(detector: Detector, reader: CacheReader, rows: np.ndarray) -> list[Result]:
    """One result for each of `damages`, over some rows of a matched cache."""
    faces = reader.metadata.iloc[rows]
    target = faces["target"].to_numpy()
    boxes = np.stack(faces["box"])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1)
    pairs = comparisons(faces["generator"].to_numpy().astype(str), target)
    results, threshold = [], None
    for name, damage in tqdm(damages(detector.crop_settings).items(), unit="damage"):
        crops = np.stack([damage(reader.crop(int(r)), s) for r, s in zip(rows, sides, strict=True)])
        score = detector.score_crops(crops)
        threshold = threshold or threshold_at(score[target == 0], 0.1)
        grey = [cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32) for crop in crops]
        edge = len(grey[0]) // 4
        results.append(
            Result(
                damage=name,
                auc=float(np.mean([auc(target[p], score[p]) for p in pairs.values()])),
                flagged=float((score[target == 0] >= threshold).mean()),
                caught=float((score[target == 1] >= threshold).mean()),
                blur=float(np.median([blur_effect(g[edge:-edge, edge:-edge]) for g in grey])),
                blocks=float(np.median([block_effect(g) for g in grey])),
            )
        )
    return results


def choose(reader: CacheReader, most: int, leave_out: Sequence[str]) -> np.ndarray:
    """Rows of at most so many faces of each generator, evenly spread."""
    names = reader.metadata["generator"].to_numpy().astype(str)
    kept = [np.flatnonzero(names == name) for name in np.unique(names) if name not in leave_out]
    kept = [r[np.linspace(0, len(r) - 1, min(most, len(r))).round().astype(int)] for r in kept]
    return np.sort(np.concatenate(kept))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("matched", type=Path, metavar="MATCHED")
    parser.add_argument("--weights", type=Path, help="(default: the weights of the package)")
    parser.add_argument("--most", type=int, default=30, help="faces a generator (%(default)s)")
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="GENERATOR")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/limits.json"))
    args = parser.parse_args(argv)
    try:
        reader, detector = CacheReader(args.matched), Detector.load(args.weights)
        detector.check_cache(reader)
        rows = choose(reader, args.most, args.leave_out)
        results = evaluate(detector, reader, rows)
    except ValueError as error:
        parser.error(str(error))
    print(
        "| damage | AUC | reals flagged | fakes caught | blur | blocks |\n|---|---|---|---|---|---|"
    )
    for r in results:
        print(f"| {r.damage} | {r.auc:.3f} | {r.flagged:.3f} | {r.caught:.3f} "
              f"| {r.blur:.3f} | {r.blocks:.3f} |")  # fmt: skip
    command = " ".join(["python -m benchmarks.limits", *(argv or sys.argv[1:])])
    values = {"command": command, "weights": detector.about, "faces": len(rows)}
    values["results"] = [asdict(result) for result in results]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
