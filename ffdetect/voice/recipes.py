"""Which features make a head, how strongly it is held back, and what folds say of it.

A source of recordings, real and fake, is the unit that is left out; a speaker or a recording that
occurs in several sources is never on both sides. What is to be chosen is chosen by folds inside
the training rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ffdetect.evaluation.metrics import auc
from ffdetect.evaluation.splits import Fold, Rows, inner_folds, outer_folds

from .head import VoiceHead
from .network import LAYERS
from .statistics import STATISTICS

FOLDS = 5
_JUDGED = 3  # reals and fakes, from which a source has an AUC of its own


@dataclass(frozen=True)
class Recipe:
    """A head to be solved.

    Attributes:
        states: which hidden states it reads, 0 for what enters the first layer.
        change: whether it reads how they change in time, beside mean and deviation.
        statistics: whether it reads `voice_statistics`.
        ridge: see `VoiceHead.solve`.
        views: how many views of a recording it learns from, the first as stored.
    """

    states: tuple[int, ...] = ()
    change: bool = True
    statistics: bool = True
    ridge: float = 0.7
    views: int = 1

    def columns(self, features: int) -> list[np.ndarray]:
        """Which of so many `voice_features` it reads, in blocks that count alike."""
        size = (features - STATISTICS) // (1 + LAYERS)
        pooled = size if self.change else size * 2 // 3
        states = [np.arange(size * state, size * state + pooled) for state in self.states]
        blocks = [np.concatenate(states)] if states else []
        if self.statistics:
            blocks.append(np.arange(features - STATISTICS, features))
        return blocks


VIEWS = 2  # of each recording, the first as stored, others disturbed
SHIPPED = Recipe((0, 1, 2, 3, 4), views=2)


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

    def rows(self) -> Rows:
        return Rows.from_frame(self.table, fake="source", real="source", ties=("group", "speaker"))


def solve(voices: Voices, rows: np.ndarray, recipe: Recipe) -> VoiceHead:
    """A head on all features; what the recipe does not read weighs 0."""
    blocks = recipe.columns(voices.features.shape[-1])
    columns = np.concatenate(blocks)
    views, size = recipe.views, voices.features.shape[2]
    some = voices.features[np.ix_(rows, np.arange(views), columns)].astype(np.float32)
    head = VoiceHead.solve(
        some.reshape(-1, len(columns)),
        np.repeat(voices.target[rows], views),
        np.repeat(shares(voices.table.iloc[rows]), views),
        [len(block) for block in blocks],
        recipe.ridge,
    )
    centre, scale, weight = torch.zeros(size), torch.ones(size), torch.zeros(size)
    for whole, part in ((centre, head.centre), (scale, head.scale), (weight, head.weight)):
        whole[columns] = part
    return VoiceHead(centre, scale, weight, head.bias)


def shares(table: pd.DataFrame) -> np.ndarray:
    """How much each row counts, of mean 1: both classes alike, and inside a class a generator of a
    source with the root of its number."""
    kind = table["source"].astype(str) + "/" + table["generator"].astype(str)
    count = kind.groupby([table["target"], kind]).transform("size").to_numpy()
    share, target = 1 / np.sqrt(count), table["target"].to_numpy()
    for value in (0, 1):
        share[target == value] /= 2 * share[target == value].sum()
    return share * len(table)


def held_out_logits(voices: Voices, folds: Sequence[Fold], recipe: Recipe) -> np.ndarray:
    """Logits of every view by heads that knew nothing of a recording's source: float64 N x V, nan
    where no fold tests."""
    logit = np.full(voices.features.shape[:2], np.nan)
    for fold in folds:
        head = solve(voices, fold.train, recipe)
        seen = torch.from_numpy(voices.features[fold.test].astype(np.float32))
        logit[fold.test] = head(seen).numpy()
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
