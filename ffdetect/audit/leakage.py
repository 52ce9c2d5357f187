"""How well a few numbers tell fake from real: a cross-validated AUC with its interval.

The judge is a small gradient boosting, since relations need not be monotone: fakes may all have
the middle one of three sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ffdetect.evaluation.bootstrap import Interval, bootstrap
from ffdetect.evaluation.matching import matched_rows
from ffdetect.evaluation.metrics import RankedAuc

FOLDS = 5
LEAKS, WEAK = 0.7, 0.55  # for the lower end of an interval, see `Leak.verdict`
_ROUNDS = 300


@dataclass(frozen=True)
class Comparison:
    """Fakes and the reals they are compared with.

    Attributes:
        name: "all", or the fakes' generator.
        rows: int N, rows of the table.
        target: int N, 1 fake, 0 real.
        unit: int N, what stays on one side of a fold.
        by_file: sources with fewer groups than folds; their folds and intervals are by file,
            which flatters a cue where the files of one group are alike.
    """

    name: str
    rows: np.ndarray
    target: np.ndarray
    unit: np.ndarray
    by_file: tuple[str, ...]

    @property
    def fakes(self) -> int:
        return int(self.target.sum())

    @property
    def reals(self) -> int:
        return len(self.target) - self.fakes

    @property
    def too_few(self) -> str:
        """Why no AUC can be measured; empty if it can."""
        for name, value in (("reals", 0), ("fakes", 1)):
            files = len(np.unique(self.unit[self.target == value]))
            if files < 2 * FOLDS:
                return f"{files} {name}: too few for {FOLDS} folds"
        return ""


class Leak(Interval):
    """How well one cue tells the fakes of a comparison from its reals: the AUC over pairs within a
    fold, 0.5 for a cue that is the same everywhere; its interval is from resampled groups."""

    @property
    def verdict(self) -> str:
        """By the ends of the interval, so that few files cannot accuse or acquit."""
        if self.low >= LEAKS:
            return "leaks the label"
        if self.low > WEAK:
            return "weak"
        return "clean" if self.high < LEAKS else "unclear: too few files"


def comparisons(faces: pd.DataFrame, matches: Mapping[str, tuple[str, ...]]) -> list[Comparison]:
    """All fakes against all reals, then the fakes of each generator against the reals to match.

    Args:
        faces: columns path, target, generator, group. Rows without a label are left out.
        matches: see `ffdetect.evaluation.matching.matched_rows`.

    Raises:
        ValueError: a name in `matches` that is no generator or no real source here.
    """
    generator = faces["generator"].to_numpy().astype(str)
    target = faces["target"].to_numpy()
    _check_matches(matches, set(generator[target == 1]), set(generator[target == 0]))
    found = [_comparison("all", faces, np.flatnonzero(target >= 0))]
    rows = matched_rows(generator, target, matches)
    return found + [_comparison(name, faces, chosen) for name, chosen in rows.items() if name]


def _check_matches(matches: Mapping[str, tuple[str, ...]], fakes: set, reals: set) -> None:
    for name, sources in matches.items():
        if name not in fakes:
            raise ValueError(f"expected a generator among {sorted(fakes)} but got {name!r}")
        if unknown := set(sources) - reals:
            raise ValueError(
                f"expected real sources among {sorted(reals)} but got {sorted(unknown)}"
            )


def _comparison(name: str, faces: pd.DataFrame, rows: np.ndarray) -> Comparison:
    chosen = faces.iloc[rows]
    group = chosen["group"].where(chosen["group"] != "", chosen["path"])
    source = chosen["generator"].where(chosen["generator"] != "", "unnamed")
    kind = source + chosen["target"].map({0: " (real)", 1: " (fake)"})
    # A generator whose files are all one group would be one fold; its files are dealt out.
    few = group.groupby(kind).transform("nunique") < FOLDS
    few &= chosen["path"].groupby(kind).transform("nunique") >= FOLDS
    unit = pd.factorize(("file " + chosen["path"]).where(few, "group " + group))[0]
    target = chosen["target"].to_numpy()
    return Comparison(name, rows, target, unit, tuple(sorted(set(kind[few]))))


def folds(comparison: Comparison, seed: int = 0) -> np.ndarray:
    """int N: the fold of each row; a group is in one fold, real and fake spread evenly.

    Groups are dealt out in turn, those of one class and of one size after each other:
    scikit-learn's StratifiedGroupKFold does this too, but takes far longer with many groups.
    """
    size = np.bincount(comparison.unit)
    share = np.bincount(comparison.unit, comparison.target) / size  # of fakes
    chance = np.random.default_rng(seed).random(len(size))
    fold = np.empty(len(size), int)
    fold[np.lexsort((chance, -size, share))] = np.arange(len(size)) % FOLDS
    return fold[comparison.unit]


def measure_leak(
    features: np.ndarray, comparison: Comparison, fold: np.ndarray, seed: int = 0
) -> Leak:
    """Cross-validated AUC of float N x F features; nan is a value like any other."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    judge = HistGradientBoostingClassifier(
        max_iter=30,
        learning_rate=0.15,
        max_leaf_nodes=8,
        min_samples_leaf=10,
        class_weight="balanced",
        early_stopping=False,
        random_state=seed,
    )
    target, parts = comparison.target, PredefinedSplit(fold)
    # A judge cannot be trained on a column of nothing but nan: there nan is 0, and says as little.
    unknown = [np.isnan(features[fold != number]).all(0) for number in range(FOLDS)]
    known = np.where(np.any(unknown, axis=0), np.nan_to_num(features), features)
    score = cross_val_predict(judge, known, target, cv=parts, method="decision_function")
    auc, stratum = FoldAuc(target, score, fold), np.zeros(len(target))
    found = bootstrap(auc, stratum, comparison.unit.astype(str), rounds=_ROUNDS, seed=seed)
    return Leak(found.value, found.low, found.high)


class FoldAuc:
    """AUC over the pairs of a fake and a real in one fold: scores of two models do not compare.

    Args:
        target, score, fold: N.
    """

    def __init__(self, target: np.ndarray, score: np.ndarray, fold: np.ndarray) -> None:
        self._target = target
        own = [np.flatnonzero(fold == number) for number in np.unique(fold)]
        self._folds = [(rows, RankedAuc(target[rows], score[rows])) for rows in own]

    def __call__(self, rows: np.ndarray) -> float:
        """Of rows that were drawn, some of them several times; nan without any pair."""
        times = np.bincount(rows, minlength=len(self._target))
        above = pairs = 0.0
        for own, auc in self._folds:
            fakes, reals = (times[own[self._target[own] == value]].sum() for value in (1, 0))
            if count := fakes * reals:
                above += count * auc(times[own])
                pairs += count
        return float(above / pairs) if pairs else float("nan")
