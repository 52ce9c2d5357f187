"""What pseudo-fakes are made of: real faces by source, and regenerated versions of some."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import pandas as pd

from preprocess.cache.reader import CacheReader

from .donors import Donors

# A generator is drawn by its size to this power: by sqrt, small ones count, large ones count more.
BALANCES = {"size": 1.0, "sqrt": 0.5, "equal": 0.0}


class RealFaces:
    """Real faces to draw from.

    Args:
        reader: collected faces.
        rows: the real ones of them that may be used.
        regenerated: cache of regenerated pairs, or None.
        regenerated_rows: which of its rows may be used (both of a pair, or none); by default all.
        balance: how often a source is drawn, a name from `BALANCES`.

    Attributes:
        by_source: real source -> its rows.
        regenerated: the cache of pairs; without one it is never asked.
        pairs: rows of that cache, a real face and its regenerated version.
    """

    def __init__(
        self,
        reader: CacheReader,
        rows: np.ndarray,
        *,
        regenerated: CacheReader | None = None,
        regenerated_rows: np.ndarray | None = None,
        balance: str = "sqrt",
    ) -> None:
        self.reader, self.rows, self.balance = reader, rows, balance
        self.by_source = by_generator(reader.metadata, rows)
        self.regenerated = reader if regenerated is None else regenerated
        self.pairs = [] if regenerated is None else _pairs(regenerated.metadata, regenerated_rows)

    def draw(self, groups: Mapping[str, np.ndarray], rng: np.random.Generator) -> str:
        """The name of one of some groups of rows, drawn by its size."""
        weights = np.array([len(rows) for rows in groups.values()]) ** BALANCES[self.balance]
        return list(groups)[rng.choice(len(groups), p=weights / weights.sum())]

    def row(self, rng: np.random.Generator) -> int:
        """A face of any source."""
        return int(rng.choice(self.by_source[self.draw(self.by_source, rng)]))

    def pair(self, rng: np.random.Generator) -> tuple[int, int]:
        """A real face and its regenerated version."""
        return self.pairs[rng.integers(len(self.pairs))]

    @cached_property
    def donors(self) -> Donors:
        """Whose face to swap in."""
        return Donors(self.reader, self.rows)

    @cached_property
    def pair_donors(self) -> Donors:
        """The same among the real faces of `pairs`."""
        return Donors(self.regenerated, np.array([real for real, _ in self.pairs], int))


def by_generator(metadata: pd.DataFrame, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Generator or real source -> which of these rows are its own."""
    groups = metadata.iloc[rows].groupby("generator").indices
    return {str(name): rows[places] for name, places in groups.items()}


def _pairs(metadata: pd.DataFrame, rows: np.ndarray | None) -> list[tuple[int, int]]:
    numbers = np.arange(len(metadata)) if rows is None else rows
    chosen = metadata.iloc[numbers]
    reals, fakes = (
        {
            path: int(number)
            for path, number, target in zip(chosen["path"], numbers, chosen["target"], strict=True)
            if target == wanted
        }
        for wanted in (0, 1)
    )
    return [(real, fakes[path]) for path, real in reals.items() if path in fakes]
