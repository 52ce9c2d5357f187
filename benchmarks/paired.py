"""Means over generators with intervals, and the difference of two ways on the same faces."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ffdetect.evaluation.bootstrap import Interval
from ffdetect.evaluation.matching import comparisons
from ffdetect.evaluation.metrics import auc


def bootstrap_means(
    faces: pd.DataFrame, scores: dict[str, np.ndarray], *, rounds: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Mean over generators of the AUC of each way: float64 `1 + rounds`, first on all faces.

    All ways see the same faces in a round, so that their rounds can be subtracted. Fakes of a
    generator and reals of a source are resampled each among themselves, and a real face that
    several generators are compared with is drawn once for all of them.

    Args:
        faces: as `CacheReader.metadata`.
        scores: name -> float N.
    """
    strata = list(faces.groupby(["generator", "target"]).indices.values())
    rows = np.concatenate(strata)
    # Strata keep their size and place, so that a round changes neither names nor targets.
    names, target = (faces[n].to_numpy()[rows] for n in ("generator", "target"))
    compared = [(chosen, target[chosen]) for chosen in comparisons(names, target).values()]
    rng = np.random.default_rng(seed)
    means = []
    for number in range(1 + rounds):
        if number:
            rows = np.concatenate([rng.choice(stratum, len(stratum)) for stratum in strata])
        means.append(
            [np.mean([auc(t, score[rows[chosen]]) for chosen, t in compared])
             for score in scores.values()]
        )  # fmt: skip
    return dict(zip(scores, np.array(means).T, strict=True))


def interval(rounds: np.ndarray) -> Interval:
    """What `bootstrap_means` gives, or a difference of two of them, with its 95 % interval."""
    low, high = np.quantile(rounds[1:], [0.025, 0.975])
    return Interval(float(rounds[0]), float(low), float(high))
