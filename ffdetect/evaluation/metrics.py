"""How well scores tell fake (1) from real (0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .matching import comparisons
from .thresholds import threshold_at_fpr


def auc(target: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Area under the ROC curve: how often a fake scores above a real; ties count half.

    `weight` counts some rows more than others, N of at least 0, for instance
    `balanced_weights`; by default all count alike.
    """
    return RankedAuc(target, score)(weight)


class RankedAuc:
    """AUC of the same scores under many weights, as a bootstrap asks for: ranked once.

    Args:
        target, score: as for `auc`.
    """

    def __init__(self, target: np.ndarray, score: np.ndarray) -> None:
        self._fake, score = _check(target, score)
        values, rank = np.unique(score, return_inverse=True)
        self._values = len(values)
        self._fakes, self._reals = rank[self._fake], rank[~self._fake]

    def __call__(self, weight: np.ndarray | None = None) -> float:
        """The AUC where each row counts as often as its weight says, float N."""
        weight = np.ones(len(self._fake)) if weight is None else np.asarray(weight, np.float64)
        fakes, reals = weight[self._fake], weight[~self._fake]
        mass = np.bincount(self._reals, reals, minlength=self._values)
        below = np.cumsum(mass) - mass / 2
        return float(fakes @ below[self._fakes] / fakes.sum() / mass.sum())


def balanced_weights(
    target: np.ndarray,
    unit: np.ndarray,
    power: float = 0.0,
    emphasis: np.ndarray | None = None,
) -> np.ndarray:
    """Weights under which both classes count alike: float64 N, of mean 1.

    Args:
        target: int N, 1 fake, 0 real.
        unit: str N, such as the family of a fake and the source of a real.
        power: of its size that a unit of a class counts by: 0 for all units alike, 0.5 for the
            root of their sizes.
        emphasis: float N, what a row's weight is multiplied with within its class; 1 if None.

    Raises:
        ValueError: a class is missing.
    """
    target, unit, weight = np.asarray(target), np.asarray(unit), np.zeros(len(target))
    for value in (0, 1):
        rows = np.flatnonzero(target == value)
        if not len(rows):
            raise ValueError(f"expected both classes but got none of target {value}")
        _, number, count = np.unique(unit[rows], return_inverse=True, return_counts=True)
        own = count[number] ** (power - 1) * (1 if emphasis is None else emphasis[rows])
        weight[rows] = own / own.sum()
    return weight * len(target) / 2


def generator_aucs(
    generator: np.ndarray,
    target: np.ndarray,
    score: np.ndarray,
    matches: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """AUC of each generator against reals of its kind; one without such reals is left out.

    Args:
        generator, target, matches: see `ffdetect.evaluation.matching.matched_rows`.
        score: float N, of any scale.
    """
    compared = comparisons(generator, target, matches)
    return {name: auc(target[rows], score[rows]) for name, rows in compared.items()}


def tpr_at_fpr(
    target: np.ndarray, score: np.ndarray, fpr: float, weight: np.ndarray | None = None
) -> float:
    """Share of fakes that score as high as `threshold_at_fpr` of the reals, or higher."""
    target, score = _check(target, score)
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, np.float64)
    caught = score[target] >= threshold_at_fpr(score[~target], fpr, weight[~target])
    return float(weight[target] @ caught / weight[target].sum())


def eer(target: np.ndarray, score: np.ndarray) -> float:
    """Equal error rate: where the share of flagged reals meets the share of missed fakes."""
    target, score = _check(target, score)
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # ties move as one
    missed = 1 - np.append(0, np.cumsum(target[order])[ends]) / target.sum()
    flagged = np.append(0, np.cumsum(~target[order])[ends]) / (~target).sum()
    after = int(np.argmax(flagged >= missed))
    if after == 0:
        return float(flagged[0])
    gap = missed - flagged
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(flagged[after - 1] + share * (flagged[after] - flagged[after - 1]))


def calibration_error(
    target: np.ndarray, score: np.ndarray, bins: int = 15, weight: np.ndarray | None = None
) -> float:
    """Expected calibration error of probabilities over equally wide bins (Guo et al. 2017).

    `weight` counts some faces more than others, N of at least 0; by default all count the same.
    """
    target, score = _check(target, score)
    if score.min() < 0 or score.max() > 1:
        raise ValueError(f"expected probabilities but got {score.min()} to {score.max()}")
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, np.float64)
    index = np.minimum((score * bins).astype(int), bins - 1)
    gaps = np.bincount(index, weight * (target - score))  # share of fakes less mean score
    return float(np.abs(gaps).sum() / weight.sum())


def calibration_curve(
    target: np.ndarray, score: np.ndarray, weight: np.ndarray, bins: int = 10
) -> list[tuple[float, float, int]]:
    """What was said and what was so: mean score, share of fakes and rows of each bin with any.

    Args:
        target, score, weight: as for `calibration_error`.
        bins: equally wide, over 0 to 1.
    """
    target, score = _check(target, score)
    number = np.minimum((score * bins).astype(int), bins - 1)
    curve = []
    for own in (number == i for i in np.unique(number)):
        said, so = (float(np.average(x[own], weights=weight[own])) for x in (score, target))
        curve.append((said, so, int(own.sum())))
    return curve


def _check(target: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    target, score = np.asarray(target), np.asarray(score, np.float64)
    if target.shape != score.shape or target.ndim != 1:
        raise ValueError(
            f"expected one score a target but got shapes {target.shape} and {score.shape}"
        )
    fake = target == 1
    if not (fake | (target == 0)).all() or not 0 < fake.sum() < len(fake):
        raise ValueError(f"expected targets 0 and 1, both, but got {np.unique(target)[:5]}")
    if np.isnan(score).any():
        raise ValueError(f"expected scores but {int(np.isnan(score).sum())} are not a number")
    return fake, score
