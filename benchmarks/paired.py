"""Means over generators with intervals, and the difference of two ways on the same faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ffdetect.evaluation.bootstrap import Interval, bootstrap_all
from ffdetect.evaluation.matching import comparisons
from ffdetect.evaluation.metrics import RankedAuc

Pair = tuple[str, str]


def mean_aucs(
    faces: pd.DataFrame,
    scores: Mapping[str, np.ndarray],
    pairs: Sequence[Pair] = (),
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> tuple[dict[str, Interval], dict[Pair, Interval]]:
    """Mean over generators of the AUC of each way, and differences: the first less the second.

    All ways see the same draws, so that what they have in common cancels out. Faces are drawn
    within their generator or source, once for all generators that a source is compared with.

    Args:
        faces: as `CacheReader.metadata`.
        scores: name of a way -> float N.
        pairs: names of two ways.
    """
    names, target = (faces[column].to_numpy() for column in ("generator", "target"))
    compared = list(comparisons(names, target).values())
    ranked = {
        name: [(own, RankedAuc(target[own], score[own])) for own in compared]
        for name, score in scores.items()
    }

    def figures(rows: np.ndarray) -> dict[str, float]:
        times = np.bincount(rows, minlength=len(target)).astype(float)
        means = {
            name: float(np.mean([auc(times[own]) for own, auc in aucs]))
            for name, aucs in ranked.items()
        }
        return {**means, **{f"{a} - {b}": means[a] - means[b] for a, b in pairs}}

    stratum = np.char.add(names.astype(str), target.astype(str))
    found = bootstrap_all(figures, stratum, rounds=rounds, seed=seed)
    return {name: found[name] for name in scores}, {(a, b): found[f"{a} - {b}"] for a, b in pairs}
