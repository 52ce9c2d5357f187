"""How sure a figure is: the percentile bootstrap, by group and within strata.

Efron and Tibshirani 1993, "An Introduction to the Bootstrap"; groups are drawn whole, as frames of
one video or recordings of one speaker are no independent evidence (Field and Welsh 2007,
"Bootstrapping clustered data").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .metrics import auc

FEWEST_GROUPS = 8  # of fewer, whole groups say little about others; their rows are drawn instead
_ENDS = (0.025, 0.975)
Key = TypeVar("Key")


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def rounded(self) -> list[float]:
        """Value and ends, as result files have them."""
        return [round(x, 4) for x in (self.value, self.low, self.high)]

    def signed(self) -> str:
        """As a difference is written."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def bootstrap(
    figure: Callable[[np.ndarray], float],
    stratum: np.ndarray,
    group: np.ndarray | None = None,
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> Interval:
    """A figure with its interval: an AUC, a difference of two, a mean over families.

    Args:
        figure: int array of rows, some of them several times -> the figure on these.
        stratum, group, rounds, seed: see `resampled`.
    """
    return bootstrap_all(lambda rows: {"": figure(rows)}, stratum, group, rounds=rounds, seed=seed)[
        ""
    ]


def bootstrap_all(
    figures: Callable[[np.ndarray], Mapping[Key, float]],
    stratum: np.ndarray,
    group: np.ndarray | None = None,
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> dict[Key, Interval]:
    """`bootstrap` of several figures on the same draws."""
    values = dict(figures(np.arange(len(stratum))))
    drawn = [figures(rows) for rows in resampled(stratum, group, rounds, seed)]
    found = {}
    for name, value in values.items():
        low, high = np.quantile([draw[name] for draw in drawn], _ENDS)
        found[name] = Interval(float(value), float(low), float(high))
    return found


def resampled(
    stratum: np.ndarray, group: np.ndarray | None = None, rounds: int = 1000, seed: int = 0
) -> Iterator[np.ndarray]:
    """int rows, drawn with replacement within each stratum, `rounds` times.

    Args:
        stratum: N, what keeps its share of the rows, such as the source of a real and the family
            of a fake.
        group: str N, what is drawn whole; an empty one, and those of a stratum with less than
            `FEWEST_GROUPS`, by row. By default all are drawn by row.
        seed: figures of the same seed and rows are of the same draws.
    """
    rng = np.random.default_rng(seed)
    stratum = np.asarray(stratum)
    strata = [np.flatnonzero(stratum == name) for name in np.unique(stratum)]
    pools = [_groups(rows, None if group is None else np.asarray(group)[rows]) for rows in strata]
    for _ in range(rounds):
        drawn = []
        for rows, groups in zip(strata, pools, strict=True):
            if groups:
                drawn += [groups[i] for i in rng.integers(0, len(groups), len(groups))]
            else:
                drawn.append(rng.choice(rows, len(rows)))
        yield np.concatenate(drawn)


def _groups(rows: np.ndarray, group: np.ndarray | None) -> list[np.ndarray]:
    """Rows of each group; none if they shall be drawn by row."""
    if group is None:
        return []
    alike = [rows[group == name] for name in np.unique(group[group != ""])]
    groups = [*alike, *rows[group == ""][:, None]]
    return groups if FEWEST_GROUPS <= len(groups) < len(rows) else []


def auc_interval(
    target: np.ndarray,
    score: np.ndarray,
    stratum: np.ndarray | None = None,
    group: np.ndarray | None = None,
    *,
    rounds: int = 1000,
) -> Interval:
    """AUC with its interval; by default real and fake are the strata.

    Raises:
        ValueError: as `ffdetect.evaluation.metrics.auc`.
    """
    target, score = np.asarray(target), np.asarray(score)
    auc(target, score)  # refuses what is wrong before anything is drawn
    return bootstrap(
        lambda rows: auc(target[rows], score[rows]),
        target if stratum is None else stratum,
        group,
        rounds=rounds,
    )
