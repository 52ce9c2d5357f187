"""Means over generators with intervals, and the difference of two ways on the same faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from ffdetect.metrics import Interval, auc

from .protocol import comparisons


def mean_auc(faces: pd.DataFrame, scores: Sequence[np.ndarray]) -> np.ndarray:
    """float64, one for each way of scoring: the mean over generators of the AUC.

    Args:
        faces: as `CacheReader.metadata`.
        scores: float N of each way.
    """
    generator, target = faces["generator"].to_numpy().astype(str), faces["target"].to_numpy()
    rows = comparisons(generator, target).values()
    return np.array([np.mean([auc(target[r], score[r]) for r in rows]) for score in scores])


def bootstrap_means(
    faces: pd.DataFrame, scores: dict[str, np.ndarray], *, rounds: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
    """The mean AUC of each way in every round, float64 `rounds`; the first is on all faces.

    All ways see the same faces in a round, so that their rounds can be subtracted. Fakes of a
    generator and reals of a source are resampled each among themselves, and a real face that
    several generators are compared with is drawn once for all of them.
    """
    means = [mean_auc(faces, list(scores.values()))]
    for chosen in _resampled(faces["generator"].to_numpy().astype(str), rounds, seed):
        means.append(mean_auc(faces.iloc[chosen], [score[chosen] for score in scores.values()]))
    return dict(zip(scores, np.array(means).T, strict=True))


def _resampled(names: np.ndarray, rounds: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    strata = [np.flatnonzero(names == name) for name in np.unique(names)]
    for _ in range(rounds):
        yield np.concatenate([rng.choice(rows, len(rows)) for rows in strata])


def interval(rounds: np.ndarray) -> Interval:
    """What `bootstrap_means` gives, or a difference of two of them, with its 95 % interval."""
    low, high = np.quantile(rounds[1:], [0.025, 0.975])
    return Interval(float(rounds[0]), float(low), float(high))
