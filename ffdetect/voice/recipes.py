"""How a head is solved, and what folds say of it.

A source of recordings, real and fake, is the unit that is left out; a speaker or a recording that
occurs in several sources is never on both sides. What is to be chosen is chosen by folds inside
the training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from ffdetect.evaluation.metrics import auc, balanced_weights
from ffdetect.evaluation.splits import Fold, Rows, inner_folds, outer_folds

from .head import VoiceHead
from .network import LAYERS
from .prototypes import PrototypeSettings
from .statistics import STATISTICS

FOLDS = 5
_JUDGED = 3  # reals and fakes, from which a source has an AUC of its own
_KNOWN = 2500  # voices, which with axes of both kernels keep the file small
_STATES = partial(PrototypeSettings, block_axes=64, axes=384)
_STATISTICS = partial(PrototypeSettings, block=STATISTICS, block_axes=384, axes=384)

Head = Callable[[torch.Tensor], torch.Tensor]  # features, float32 N x F -> logits, float N


class Recipe(Protocol):
    """A head to be solved."""

    @property
    def views(self) -> int:
        """How many views of a recording it learns from, the first as stored."""

    def solve(self, features: np.ndarray, target: np.ndarray, share: np.ndarray) -> Head:
        """Args are those of `VoiceHead.solve`."""


@dataclass(frozen=True)
class KernelRidge:
    """A recipe of what is shipped.

    Attributes:
        reach, ridge: see `VoiceHead.solve`.
        views: see `Recipe`.
    """

    reach: float = 0.5
    ridge: float = 0.2
    views: int = 3

    def solve(self, features: np.ndarray, target: np.ndarray, share: np.ndarray) -> VoiceHead:
        """See `VoiceHead.solve`; all rows are prototypes where they are few."""
        rows, size = features.shape
        block = (size - STATISTICS) // (3 * (1 + LAYERS))  # one of the three of a hidden state
        count = min(_KNOWN, rows)
        states, statistics = _STATES(block=block, count=count), _STATISTICS(count=count)
        return VoiceHead.solve(features, target, share, states, statistics, self.reach, self.ridge)


VIEWS = 3  # of each recording, the first as stored, others disturbed
SHIPPED = KernelRidge()


@dataclass(frozen=True)
class Voices:
    """Recordings to learn from and to be judged on.

    Attributes:
        features: float16 N x V x F, the first view as stored, the others disturbed.
        table: N rows with columns target, generator, source, group and speaker.
    """

    features: np.ndarray
    table: pd.DataFrame

    @property
    def target(self) -> np.ndarray:
        return self.table["target"].to_numpy()

    @property
    def source(self) -> np.ndarray:
        return self.table["source"].to_numpy(str)

    def learnt(self, rows: np.ndarray, views: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What recipes solve from: features, targets and shares of recordings in so many views."""
        features = self.features[rows, :views].astype(np.float32)
        target, share = self.target[rows], shares(self.table.iloc[rows])
        return (
            features.reshape(-1, features.shape[2]),
            np.repeat(target, views),
            np.repeat(share, views),
        )

    def rows(self) -> Rows:
        return Rows.from_frame(self.table, fake="source", real="source", ties=("group", "speaker"))


def shares(table: pd.DataFrame) -> np.ndarray:
    """How much each row counts, of mean 1: both classes alike, and inside a class a generator of a
    source with the root of its number."""
    kind = table["source"].astype(str) + "/" + table["generator"].astype(str)
    return balanced_weights(table["target"].to_numpy(), kind.to_numpy(str), 0.5)


def held_out_logits(voices: Voices, folds: Sequence[Fold], recipe: Recipe) -> np.ndarray:
    """Logits of every view by heads that knew nothing of a recording's source: float64 N x V, nan
    where no fold tests."""
    logit = np.full(voices.features.shape[:2], np.nan)
    for fold in folds:
        head = recipe.solve(*voices.learnt(fold.train, recipe.views))
        seen = torch.from_numpy(voices.features[fold.test].astype(np.float32))
        logit[fold.test] = head(seen.flatten(0, 1)).view(seen.shape[:2]).numpy()
    return logit


def choose(voices: Voices, fold: Fold, recipes: Mapping[str, Recipe]) -> tuple[str, dict]:
    """The recipe that is best inside a fold's training rows, as stored and disturbed, and what each
    reached there."""
    inside = inner_folds(voices.rows(), fold, count=3)
    reached = {}
    for name, recipe in recipes.items():
        logit = held_out_logits(voices, inside, recipe)
        judged = np.isfinite(logit[:, 0])
        target, source = voices.target[judged], voices.source[judged]
        reached[name] = float(np.mean([merit(target, view, source) for view in logit[judged].T]))
    return max(reached, key=reached.__getitem__), reached


def merit(target: np.ndarray, logit: np.ndarray, source: np.ndarray) -> float:
    """What recipes are chosen by: the mean of AUC within sources and over all together."""
    within = list(within_sources(target, logit, source).values())
    return (float(np.mean(within)) + auc(target, logit)) / 2


def within_sources(target: np.ndarray, logit: np.ndarray, source: np.ndarray) -> dict[str, float]:
    """AUC of each source that has a few recordings of either class."""
    found = {}
    for name in np.unique(source):
        own = source == name
        if min(np.bincount(target[own], minlength=2)) >= _JUDGED:
            found[str(name)] = auc(target[own], logit[own])
    return found


def folds_of(voices: Voices) -> list[Fold]:
    """The outer folds."""
    return outer_folds(voices.rows(), count=FOLDS)
