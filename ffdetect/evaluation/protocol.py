"""Nested cross-validation in which a choice cannot be made on what is reported.

Choices (layers, heads, augmentations, fusion, thresholds) are made inside the training rows of an
outer fold; its test rows are scored once, by what was chosen. Varma and Simon 2006, "Bias in error
estimation when using cross-validation for model selection".

Recipes see rows only through `Sample`, which has no label of a tested row, and no way to a row of
another fold. A ledger on disk keeps what was compared and run, so that a second look at the outer
folds with other recipes is refused, or recorded with its reason and reported.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.io.formats import DAMAGED
from preprocess.io.storage import write_json

from .kept import digest
from .metrics import generator_aucs
from .splits import Fold, Rows, check_fold, inner_folds, outer_folds

Fit = Callable[[Any, "Sample"], Any]
Score = Callable[[Any, "Sample"], np.ndarray]
Judge = Callable[[Rows, np.ndarray], float]


class LeakError(RuntimeError):
    """A recipe or a fold reached for what it is judged by."""


class Sample:
    """Rows that a recipe may see, numbered from 0.

    Raises:
        LeakError: where labels or units of tested rows are asked for.
    """

    def __init__(self, read: Callable[[np.ndarray], Any], rows: Rows, index: np.ndarray, tested):
        self._read, self._index, self.tested = read, index, tested
        self._rows = None if tested else rows.take(index)

    def __len__(self) -> int:
        return len(self._index)

    def data(self, positions: np.ndarray | slice = slice(None)) -> Any:
        """What `NestedProtocol.read` gives for these rows, all by default.

        Args:
            positions: int array of 0 to the length, or a slice.
        """
        if not isinstance(positions, slice):
            positions = np.asarray(positions)
            if len(positions) and (positions.min() < 0 or positions.max() >= len(self)):
                raise LeakError(f"expected positions of 0 to {len(self) - 1} but got {positions}")
        return self._read(self._index[positions])

    @property
    def rows(self) -> Rows:
        """Labels, units and ties, to train with."""
        if self._rows is None:
            raise LeakError("expected a recipe to score rows by their data but it asked for labels")
        return self._rows

    @property
    def target(self) -> np.ndarray:
        """int N, 1 fake, 0 real."""
        return self.rows.target

    @property
    def unit(self) -> np.ndarray:
        """str N, the family of a fake, the source of a real."""
        return self.rows.unit


@dataclass(frozen=True)
class Scores:
    """Scores of rows by networks that saw neither them nor their family, nor their source.

    Attributes:
        row: int N, numbered as the protocol's rows; a real may be there once for every fold.
        score: float N.
        fold: str N, the fold's name.
    """

    row: np.ndarray
    score: np.ndarray
    fold: np.ndarray


@dataclass(frozen=True)
class Choice:
    """What was compared inside one outer fold.

    Attributes:
        recipe: name of the best.
        figures: recipe -> the judge's figure over the inner folds.
        inner: scores of the best, for calibration and thresholds.
    """

    recipe: str
    figures: dict[str, float]
    inner: Scores


@dataclass(frozen=True)
class Outcome:
    """What may be reported.

    Attributes:
        folds: the outer folds.
        choices: fold -> what was chosen inside.
        outer: scores of the tested rows, each fold's by its own choice.
        recipes: how many were compared inside, in all runs that the ledger knows.
        looks: how often outer folds have been run, this time included.
        reasons: why they were run again with others.
    """

    folds: list[Fold]
    choices: dict[str, Choice]
    outer: Scores
    recipes: int
    looks: int
    reasons: list[str]

    @property
    def recipe(self) -> str:
        """What most outer folds chose: the one to train on all rows and to ship."""
        return Counter(choice.recipe for choice in self.choices.values()).most_common(1)[0][0]


@dataclass
class Ledger:
    """What was compared and run to answer one question; a JSON file that goes into the results.

    Attributes:
        path: of the file; None keeps it in memory.
        compared: digests of the settings of every recipe that was compared inside.
        looks: every run of the outer folds: date, digests of folds and recipes, names, reason.
    """

    path: Path | None = None
    compared: list[str] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path | None) -> Ledger:
        """Raises ValueError if the file is no ledger."""
        if path is None or not path.exists():
            return cls(path)
        try:
            kept = json.loads(path.read_text("utf-8"))
            return cls(path, list(kept["compared"]), list(kept["looks"]))
        except DAMAGED as error:
            raise ValueError(f"{path}: expected a ledger but got {error!r}") from error

    def add_compared(self, recipes: Mapping[str, Any]) -> None:
        """Record recipes that are about to be compared."""
        self.compared = sorted({*self.compared, *map(_digest, recipes.values())})
        self._write()

    def add_look(self, folds: str, recipes: Mapping[str, Any], reason: str) -> None:
        """Record a run of the outer folds.

        Raises:
            LeakError: others have been run, or with other recipes, and no reason is given.
        """
        look = {"folds": folds, "recipes": _digest(recipes), "names": sorted(recipes)}
        if not reason and any(before[key] != look[key] for before in self.looks for key in look):
            raise LeakError(
                f"expected the folds and recipes of the run before, {self.looks[-1]['names']}, but "
                f"got others, {look['names']}: after outer scores were seen, a choice by inner "
                f"ones is no longer blind; a reason lets it pass, and is reported"
            )
        date = datetime.date.today().isoformat()
        self.looks.append({"date": date, **look, "reason": reason})
        self._write()

    def _write(self) -> None:
        if self.path is not None:
            write_json(self.path, {"compared": self.compared, "looks": self.looks})


def mean_family_auc(rows: Rows, score: np.ndarray) -> float:
    """Mean over families of the AUC against reals of their kind."""
    found = generator_aucs(rows.unit, rows.target, score, rows.matches())
    return float(np.mean(list(found.values())))


class NestedProtocol:
    """Compare recipes inside, run the best outside.

    Args:
        rows: of which folds are made.
        read: int array of rows -> their data, in any form that recipes take.
        folds: outer folds; by default `outer_folds(rows)`.
        inner: (rows, outer fold) -> its inner folds; by default `inner_folds`.
        judge: (rows of an inner test, their scores) -> the figure whose mean over inner folds a
            recipe is chosen by, the higher the better.
        ledger: file that keeps what was run; without one a second look is seen in this object
            alone.

    Raises:
        LeakError: a fold has something on both sides.
    """

    def __init__(
        self,
        rows: Rows,
        read: Callable[[np.ndarray], Any],
        folds: Sequence[Fold] | None = None,
        inner: Callable[[Rows, Fold], list[Fold]] = inner_folds,
        judge: Judge = mean_family_auc,
        ledger: Path | None = None,
    ):
        self._rows, self._read, self._judge = rows, read, judge
        self._folds = outer_folds(rows) if folds is None else list(folds)
        self._inner = {fold.name: inner(rows, fold) for fold in self._folds}
        self._ledger = Ledger.open(ledger)
        self._chosen: dict[tuple[str, Fit, Score], dict[str, Choice]] = {}
        if len(self._inner) != len(self._folds):
            raise ValueError(f"expected folds of different names but got {sorted(self._inner)}")
        for fold in self._folds:
            _check(rows, fold)
            for inside in self._inner[fold.name]:
                _check(rows, inside)
                if not np.isin(np.concatenate([inside.train, inside.test]), fold.train).all():
                    raise LeakError(
                        f"{fold.name}: expected inner folds inside its training rows "
                        f"but {inside.name} has others"
                    )

    def choose(self, recipes: Mapping[str, Any], fit: Fit, score: Score) -> dict[str, Choice]:
        """The best recipe inside every outer fold; no row of its test is read.

        Args:
            recipes: name -> settings, of JSON's types or a dataclass of them.
            fit: (settings, rows to train on) -> a model.
            score: (the model, rows without labels) -> float N, higher for fakes.
        """
        if not recipes:
            raise ValueError("expected recipes to compare but got none")
        key = (_digest(recipes), fit, score)
        if key in self._chosen:
            return self._chosen[key]
        self._ledger.add_compared(recipes)
        choices = {}
        for fold in self._folds:
            inner = {
                name: [self._scored(fit, score, settings, f) for f in self._inner[fold.name]]
                for name, settings in recipes.items()
            }
            figures = {
                name: float(np.mean([self._judge(self._rows.take(s.row), s.score) for s in parts]))
                for name, parts in inner.items()
            }
            best = max(figures, key=lambda name: figures[name])
            choices[fold.name] = Choice(best, figures, _joined(inner[best]))
        self._chosen[key] = choices
        return choices

    def run(self, recipes: Mapping[str, Any], fit: Fit, score: Score, reason: str = "") -> Outcome:
        """Choose inside every outer fold, and score its test rows with what was chosen.

        Args:
            reason: why outer folds are run again with other recipes; goes into the outcome.

        Raises:
            LeakError: they have been run with others, and no reason is given; or a recipe asked
                for labels of rows that it is judged by.
        """
        choices = self.choose(recipes, fit, score)
        folds = _digest([[f.name, f.train.tolist(), f.test.tolist()] for f in self._folds])
        self._ledger.add_look(folds, recipes, reason)
        outer = [
            self._scored(fit, score, recipes[choices[fold.name].recipe], fold)
            for fold in self._folds
        ]
        looks = self._ledger.looks
        reasons = [look["reason"] for look in looks if look["reason"]]
        compared = len(self._ledger.compared)
        return Outcome(self._folds, choices, _joined(outer), compared, len(looks), reasons)

    def _scored(self, fit: Fit, score: Score, settings: Any, fold: Fold) -> Scores:
        model = fit(settings, Sample(self._read, self._rows, fold.train, tested=False))
        test = Sample(self._read, self._rows, fold.test, tested=True)
        found = np.asarray(score(model, test), np.float64)
        if found.shape != fold.test.shape or np.isnan(found).any():
            raise ValueError(
                f"{fold.name}: expected {len(fold.test)} scores but got shape {found.shape}, "
                f"{int(np.isnan(found).sum())} of them not a number"
            )
        return Scores(fold.test, found, np.full(len(found), fold.name))


def _joined(parts: list[Scores]) -> Scores:
    columns = ("row", "score", "fold")
    return Scores(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def _check(rows: Rows, fold: Fold) -> None:
    try:
        check_fold(rows, fold)
    except ValueError as error:
        raise LeakError(str(error)) from error


def _digest(value: Any) -> str:
    return digest(value)[:16]
