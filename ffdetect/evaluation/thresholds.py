"""Where to draw the line: scores that few reals reach, and that few fakes stay under."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

FPRS = (0.1, 0.01, 0.001)  # false-positive rates that thresholds are measured for
_SLACK = 1e-9  # shares are sums of floats; 29 of 100 are a share of .29


def threshold_at_fpr(
    reals: np.ndarray, fpr: float, weight: np.ndarray | None = None, unseen: bool = False
) -> float:
    """The smallest score such that at most a share of reals scores as high or higher.

    Args:
        reals: N scores of real faces, clips or voices, of any scale.
        fpr: the share, 0 to 1.
        weight: N, how much each counts; by default all alike. See `equal_weights`.
        unseen: hold for further reals of the same kind too: one more of mean weight is taken to
            score above all (conformal prediction, Vovk et al. 2005, "Algorithmic Learning in a
            Random World"). Too few reals to promise that (`supported`) give a threshold just
            above all of them.

    Returns:
        Just above some real's score, in the precision of `reals`; -inf if all may be flagged.
    """
    reals = np.asarray(reals)
    reals = reals if np.issubdtype(reals.dtype, np.floating) else reals.astype(np.float64)
    if not len(reals) or np.isnan(reals).any():
        raise ValueError(f"expected scores of reals but got {reals[:5]}")
    weight = np.ones(len(reals)) if weight is None else np.asarray(weight, np.float64)
    order = np.argsort(-reals, kind="stable")
    return _line(reals[order], weight[order], fpr, unseen)


def _line(reals: np.ndarray, weight: np.ndarray, fpr: float, unseen: bool) -> float:
    """`threshold_at_fpr` of reals that are sorted, highest first."""
    flagged = np.cumsum(weight)
    one_more = flagged[-1] / np.count_nonzero(weight) if unseen else 0.0
    over = flagged + one_more > (fpr + _SLACK) * (flagged[-1] + one_more)
    if not over.any():
        return -np.inf
    return float(np.nextafter(reals[over.argmax()], reals.dtype.type(np.inf)))


def supported(reals: int, fpr: float) -> bool:
    """Whether so many reals can hold a threshold for further ones at this false-positive rate."""
    return (reals + 1) * fpr >= 1 - _SLACK


def equal_weights(unit: np.ndarray) -> np.ndarray:
    """Weights under which every unit (a source, a family) counts alike: float64 N, of mean 1."""
    _, number, counts = np.unique(unit, return_inverse=True, return_counts=True)
    return len(number) / len(counts) / counts[number]


def threshold_over_units(
    reals: np.ndarray,
    source: np.ndarray,
    fpr: float,
    *,
    confidence: float = 0.95,
    rounds: int = 1000,
) -> float:
    """A threshold that shall hold on the mean of further sources, not only on these.

    Every source counts alike. Sources are drawn again with replacement; the threshold is the one
    that so large a share of these draws does not exceed, and is never below that of all sources.
    Of few sources the draws vary less than sources do, so it holds somewhat less often than
    `confidence` says. With a single source it is `threshold_at_fpr` of its reals.

    Args:
        reals: N scores by networks that did not see their source.
        source: str N.
        fpr: the share of reals of a mean source that may score as high or higher, 0 to 1.
        confidence: share of draws, 0 to 1.
    """
    order = np.argsort(-np.asarray(reals), kind="stable")
    reals, source = np.asarray(reals)[order], np.asarray(source)[order]
    names, number = np.unique(source, return_inverse=True)
    weight = equal_weights(source)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=rounds)
    thresholds = [_line(reals, weight * times[number], fpr, unseen=True) for times in drawn]
    bound = np.quantile(thresholds, confidence, method="higher")
    return float(max(threshold_at_fpr(reals, fpr, weight, unseen=True), bound))


def real_threshold(fakes: np.ndarray, family: np.ndarray, share: float = 0.1) -> float:
    """The largest score that at most a share of fakes scores as low or lower: "real" below it.

    As sure of further families as `threshold_over_units` is of further sources.
    """
    return -threshold_over_units(-np.asarray(fakes), family, share)


@dataclass(frozen=True)
class Thresholds:
    """Where scores are read as fake and as real.

    Attributes:
        fake: false-positive rate -> score that at most this share of a mean real source reaches.
        real: score that at most a tenth of a mean family of fakes stays under.
    """

    fake: dict[float, float]
    real: float


def thresholds(
    target: np.ndarray, unit: np.ndarray, score: np.ndarray, fprs: Iterable[float]
) -> Thresholds:
    """Thresholds that shall hold for further sources and families.

    Args:
        target: int N, 1 fake, 0 real.
        unit: str N, the family of a fake, the source of a real.
        score: N, by networks that saw neither the row nor its unit, in the precision that scores
            are compared in.
        fprs: false-positive rates.
    """
    reals, fakes = np.asarray(target) == 0, np.asarray(target) == 1
    fake = {fpr: threshold_over_units(score[reals], unit[reals], fpr) for fpr in fprs}
    return Thresholds(fake, real_threshold(score[fakes], unit[fakes]))


@dataclass(frozen=True)
class FalseAlarms:
    """Attributes:
    source: of reals.
    reals: how many were scored.
    rate: share of them that scores as high as the threshold or higher.
    """

    source: str
    reals: int
    rate: float


def false_alarms(reals: np.ndarray, source: np.ndarray, threshold: float) -> list[FalseAlarms]:
    """False alarms of every real source, worst first."""
    flagged = np.asarray(reals) >= threshold
    alarms = [
        FalseAlarms(name, int((source == name).sum()), float(flagged[source == name].mean()))
        for name in np.unique(source).tolist()
    ]
    return sorted(alarms, key=lambda alarm: (-alarm.rate, alarm.source))


def left_out_alarms(
    reals: np.ndarray, source: np.ndarray, fprs: Iterable[float]
) -> dict[float, list[FalseAlarms]]:
    """What thresholds of the other sources do on each source left out: rate -> worst first."""
    reals, source = np.asarray(reals), np.asarray(source)
    found: dict[float, list[FalseAlarms]] = {}
    for fpr in fprs:
        alarms = []
        for name in np.unique(source):
            own = source == name
            threshold = threshold_over_units(reals[~own], source[~own], fpr)
            alarms += false_alarms(reals[own], source[own], threshold)
        found[fpr] = sorted(alarms, key=lambda alarm: (-alarm.rate, alarm.source))
    return found
