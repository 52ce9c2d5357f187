"""python -m benchmarks.residuals CACHE MATCHED: which residual carries evidence that transfers?

A probe without a network: the averaged spectrum of each residual channel and the histogram of its
values, then logistic regression. It is fitted on the train split of CACHE (every crop recoded as
JPEG 85) and judged on the generators of MATCHED (`evaluation.framing` on the dev split), none of
which are in the train split except for the swaps.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ffdetect.evaluation.framing import JPEG_QUALITY
from ffdetect.evaluation.matching import comparisons, spread
from ffdetect.evaluation.splits import split_rows
from ffdetect.training.augment import recode
from preprocess.cache.reader import CacheReader
from preprocess.faces import maps

from .cross_generator import compare, evaluate

_BINS = torch.tensor([-127, -40, -20, -10, -6, -3, -1, 0, 1, 2, 4, 7, 11, 21, 41, 128]).float()


def features(crops: torch.Tensor, kind: str) -> np.ndarray:
    """float32 N x F: spectrum on a grid of 16 x 8 bands and histogram, for each channel.

    Args:
        crops: uint8 N x 3 x H x W.
        kind: a residual's name, or "none" for the pixels themselves.
    """
    pixels = crops if kind == "none" else maps.residual(crops, kind).int().add(128).byte()
    columns = []
    for channel in pixels.unbind(1):
        bands = maps.spectrum(channel[:, None].expand(-1, 3, -1, -1)).float()[None]
        columns.append(torch.nn.functional.adaptive_avg_pool2d(bands, (16, 8))[0].flatten(1))
        values = channel.flatten(1).float() - 128
        places = torch.bucketize(values, _BINS)
        histogram = torch.nn.functional.one_hot(places, len(_BINS) + 1).float().mean(1)
        columns.append((histogram + 1e-4).log())
    return torch.cat(columns, 1).numpy()


def _all_features(reader: CacheReader, rows: np.ndarray, kind: str, jpeg: int) -> np.ndarray:
    parts = []
    for part in tqdm(np.array_split(rows, max(1, len(rows) // 32)), desc=kind, leave=False):
        crops = reader.crops(part)
        crops = recode(crops, "JPEG", quality=jpeg) if jpeg else crops
        parts.append(features(crops, kind))
    return np.concatenate(parts)


def _fit_and_score(x: np.ndarray, reader: CacheReader, rows: np.ndarray, test: np.ndarray):
    """One probe for each kind of comparison: swaps with their reals, portraits with theirs."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = reader.metadata["generator"].to_numpy().astype(str)[rows]
    target = reader.metadata["target"].to_numpy()[rows]
    groups = comparisons(generator, target)
    swaps = groups.pop("dfdc_swap", np.zeros(0, int))
    portraits = np.unique(np.concatenate(list(groups.values())))
    probe = lambda: make_pipeline(  # noqa: E731
        StandardScaler(), LogisticRegression(C=0.02, class_weight="balanced", max_iter=300)
    )
    whole = probe().fit(x[portraits], target[portraits]).predict_proba(test)[:, 1]
    swapped = probe().fit(x[swaps], target[swaps]).predict_proba(test)[:, 1]
    return whole, swapped


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.residuals", description=__doc__)
    parser.add_argument("cache", type=Path, metavar="CACHE")
    parser.add_argument("matched", type=Path, metavar="MATCHED")
    parser.add_argument("--limit", type=int, default=200, help="faces a generator (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/residuals.json"))
    args = parser.parse_args(argv)
    reader, matched = CacheReader(args.cache), CacheReader(args.matched)
    rows = spread(reader.metadata, split_rows(reader.metadata)[0], args.limit)
    tested = spread(matched.metadata, np.arange(len(matched)), args.limit)
    results = {}
    for kind in ("none", *sorted(maps.RESIDUALS)):
        x = _all_features(reader, rows, kind, JPEG_QUALITY)
        test = _all_features(matched, tested, kind, 0)
        whole, swapped = _fit_and_score(x, reader, rows, test)
        faces = matched.metadata.iloc[tested]
        is_swap = faces["generator"].isin(["dfdc", "dfdc_swap"]).to_numpy()
        results[kind] = evaluate(faces, np.where(is_swap, swapped, whole))
    command = " ".join(["python -m benchmarks.residuals", *(argv or sys.argv[1:])])
    compare(results, command, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
