"""How the heads of the shipped network may be solved: recipes, and what solves them.

Recipes are compared by inner folds (`ffdetect.evaluation.protocol`). A fold's lines are solved
from products of all faces' statistics, which are standardised once over all faces, without labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ffdetect.evaluation.protocol import Sample
from ffdetect.evaluation.splits import Rows

from .ridge import Gram, Line, RidgeSettings, solve_line
from .statistics import MATCHED, Statistics, Store

# Swaps are compared with untouched pictures of their own collection.
PAIRS = {"dfdc_swap": ("dfdc",), "inswapper": ("ffhq256",)}
SWAPS = ("dfdc", *PAIRS)  # swaps, and frames of videos that are there to compare them with


@dataclass(frozen=True)
class Recipe:
    """Attributes:
    rgb, frequency: readers of each stream; a stream without any has no part in the score.
    degraded: how many degraded views of each face are learnt from, beside the matched one.
    ridge: of the lines.
    frequency_share: of the frequency stream in the fused score, 0 to 1.
    swaps: whether swaps, and the video frames beside some, are learnt from too; they are real
        but for a part, and blur the line for pictures that are generated whole.
    """

    rgb: tuple[str, ...] = ("clip_resized",)
    frequency: tuple[str, ...] = ("lite_residual",)
    degraded: int = 1
    ridge: RidgeSettings = field(default_factory=RidgeSettings)
    frequency_share: float = 0.25
    swaps: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Faces:
    """Labelled faces with their statistics in every view.

    Attributes:
        table: one row a face: key, target, generator, family, group.
        views: view -> statistics, in the order of `table`.
    """

    table: pd.DataFrame
    views: dict[str, Statistics]

    @classmethod
    def read(
        cls, stores: Sequence[Store], manifest: pd.DataFrame, views: Sequence[str], most: int = 150
    ) -> Faces:
        """Faces that every view of a store and the manifest know.

        Args:
            manifest: with the columns path, target, generator, family, source, group.
            most: faces of each generator or real source from one collection; swaps and the video
                frames beside them may be more by two thirds, since people differ.
        """
        parts = []
        for store in stores:
            read = {view: store.read(view) for view in views}
            shared = set.intersection(*(set(found.keys.tolist()) for found in read.values()))
            parts.append({v: _only(found, shared) for v, found in read.items()})
        joined = {view: _joined([part[view] for part in parts]) for view in views}
        keys = joined[views[0]].keys
        known = manifest.set_index("path")
        table = known.reindex([key.rpartition("#")[0] for key in keys]).reset_index(drop=True)
        table = table.assign(key=keys)
        rows = _at_most(table, most)
        table = table.iloc[rows].reset_index(drop=True)
        return cls(table, {view: found.take(rows) for view, found in joined.items()})

    @property
    def rows(self) -> Rows:
        """For folds: families, real sources, and groups that stay on one side."""
        pairs = {f: reals for f, reals in PAIRS.items() if (self.table["family"] == f).any()}
        return Rows.from_frame(self.table, "family", "generator", ("group",), pairs)


def _only(found: Statistics, keys: set[str]) -> Statistics:
    return found.take(np.flatnonzero(np.isin(found.keys, list(keys))))


def _joined(parts: Sequence[Statistics]) -> Statistics:
    values = {n: np.concatenate([p.values[n] for p in parts]) for n in parts[0].values}
    return Statistics(np.concatenate([part.keys for part in parts]), values)


def _at_most(table: pd.DataFrame, most: int) -> np.ndarray:
    """Rows drawn at random from each collection, those of video frames by their video."""
    rng, kept = np.random.default_rng(0), []
    labelled = table[table["target"].isin((0, 1))]
    for (generator, _), own in labelled.groupby(["generator", "source"], sort=True):
        limit = most * 5 // 3 if generator.startswith("dfdc") else most
        kept.append(rng.permutation(own.index.to_numpy())[:limit])
    return np.sort(np.concatenate(kept))


class Solver:
    """Fits and scores recipes on faces; what `NestedProtocol` calls.

    Products of statistics are kept for each set of readers, since folds share them.
    """

    def __init__(self, faces: Faces) -> None:
        self.faces = faces
        rows = faces.rows
        self.target, self.unit = rows.target, rows.unit
        self._grams: dict[tuple[tuple[str, ...], int], Gram] = {}

    def gram(self, readers: tuple[str, ...], degraded: int) -> Gram:
        """Products of every face in its matched view, then in each degraded one."""
        key = (readers, degraded)
        if key not in self._grams:
            views = [MATCHED, *(f"P{number}" for number in range(1, degraded + 1))]
            parts = [
                np.concatenate([self.faces.views[view].values[name] for name in readers], 1)
                for view in views
            ]
            self._grams[key] = Gram(np.concatenate(parts))
        return self._grams[key]

    def solve(self, recipe: Recipe, rows: np.ndarray) -> dict[str, Line]:
        """A line for every stream, from faces given by their rows."""
        if not recipe.swaps:
            rows = rows[~np.isin(self.unit[rows], SWAPS)]
        count = len(self.target)
        every = np.concatenate([rows + count * view for view in range(recipe.degraded + 1)])
        target = np.tile(self.target, recipe.degraded + 1)
        unit = np.tile(self.unit, recipe.degraded + 1)
        return {
            stream: solve_line(self.gram(names, recipe.degraded), every, target, unit, recipe.ridge)
            for stream, names in streams_of(recipe).items()
        }

    def scores(
        self, recipe: Recipe, lines: Mapping[str, Line], rows: np.ndarray, view: int = 0
    ) -> dict[str, np.ndarray]:
        """Scores of faces in a view, 0 the matched one, by every stream and fused."""
        seen = rows + len(self.target) * view
        found = {
            stream: self.gram(names, recipe.degraded).scores(lines[stream], seen)
            for stream, names in streams_of(recipe).items()
        }
        share = recipe.frequency_share if len(found) == 2 else float("frequency" in found)
        found["fused"] = sum(
            weight * found[stream]
            for stream, weight in (("rgb", 1 - share), ("frequency", share))
            if stream in found
        )
        return found

    def fit(self, recipe: Recipe, sample: Sample) -> tuple[Recipe, dict[str, Line]]:
        """For `NestedProtocol`, whose `read` gives row numbers."""
        return recipe, self.solve(recipe, sample.data())

    def score(self, model: tuple[Recipe, dict[str, Line]], sample: Sample) -> np.ndarray:
        """For `NestedProtocol`."""
        return self.scores(*model, sample.data())["fused"]


def streams_of(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """The streams that a recipe uses, and what they read."""
    streams = {"rgb": recipe.rgb, "frequency": recipe.frequency}
    return {name: readers for name, readers in streams.items() if readers}
