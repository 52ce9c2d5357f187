"""What trains and what judges: a cache's own split, and folds over families and sources.

Folds ask what a detector meets outside: fakes of another family, reals of another source.

The unit of generalisation is the family of generators on the fake side and the source on the real
side. A fold leaves out some of both, and drops from training whatever is tied to what it tests: a
swap of a tested face, another recording of a tested speaker.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from preprocess.io.labels import clean_splits

_HELD_OUT = 0.1  # share of groups held out where a cache has no split of its own


def split_rows(
    metadata: pd.DataFrame,
    fit_all: bool = False,
    *,
    fit_fakes: bool = False,
    without: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers for training and for validation; faces without a label are left out.

    Rows of the splits dev and test validate. Without such labels a tenth of the groups does,
    chosen by a hash of the group's name.

    Args:
        metadata: as `CacheReader.metadata`.
        fit_all: train on every row.
        fit_fakes: train on held-out fakes too, so that a generator is unseen only if it is left
            out; held-out reals still stay out, and with them the fakes of every generator that
            works on such faces (it shares a group with them, as a face swap with its video).
        without: generators and real sources that neither train nor validate. The other rows
            keep their side.

    Raises:
        ValueError: splits that are not known; the message lists them.
    """
    target, generator, group = metadata["target"], metadata["generator"], metadata["group"]
    split = pd.Series(clean_splits(metadata["split"].tolist()), metadata.index, dtype=object)
    held_out = split.isin(["dev", "test"])
    if not (held_out & (target >= 0)).any():
        share = group.map(lambda group: zlib.crc32(str(group).encode()) / 2**32)
        held_out = share < _HELD_OUT
    wanted = (target >= 0) & ~generator.isin(list(without))
    train = ~held_out
    if fit_fakes:
        shown = group.isin(group[held_out & (target == 0) & (group != "")])
        altering = generator[shown & (target == 1)]
        train |= (target == 1) & ~generator.isin(altering)
    train |= fit_all
    return np.flatnonzero(wanted & train), np.flatnonzero(wanted & held_out)


@dataclass(frozen=True)
class Rows:
    """What a split knows of a table of faces, clips or voices.

    Attributes:
        unit: str N, the family of a fake, the source of a real. Where one name has both, as a
            source of voices has, the reals are those that its fakes are compared with.
        target: int N, 1 fake, 0 real; others take no part.
        ties: arrays of str N, such as group and speaker. Rows that share a value of one of them
            are never on both sides; an empty value ties nothing.
        pairs: family -> the real units its fakes were made of. Such fakes are tested with these
            reals, and not trained on without them.
    """

    unit: np.ndarray
    target: np.ndarray
    ties: tuple[np.ndarray, ...] = ()
    pairs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(array) for array in (self.unit, self.target, *self.ties)}
        if len(lengths) != 1:
            raise ValueError(f"expected as many values in every column but got {sorted(lengths)}")
        fakes, reals = self.families(), self.sources()
        for family, sources in self.pairs.items():
            if family in fakes and not set(sources) & set(reals):
                raise ValueError(f"expected reals of {list(sources)} for {family} but got none")

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        fake: str = "family",
        real: str = "source",
        ties: Sequence[str] = ("group",),
        pairs: Mapping[str, Sequence[str]] | None = None,
    ) -> Rows:
        """Rows of a manifest or of a cache's metadata; `fake`, `real` and `ties` name columns."""
        target = frame["target"].to_numpy()
        unit = np.where(target == 1, _text(frame[fake]), _text(frame[real]))
        if missing := int((np.isin(target, (0, 1)) & (unit == "")).sum()):
            raise ValueError(
                f"expected a {fake} of fakes and a {real} of reals in every row but "
                f"{missing} have none"
            )
        return cls(unit, target, tuple(_text(frame[name]) for name in ties), pairs or {})

    def __len__(self) -> int:
        return len(self.unit)

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows, renumbered from 0; pairs that lost their fakes or reals are gone."""
        unit, target = self.unit[rows], self.target[rows]
        fakes, reals = set(unit[target == 1].tolist()), set(unit[target == 0].tolist())
        pairs = {f: s for f, s in self.pairs.items() if f in fakes and reals & set(s)}
        return Rows(unit, target, tuple(tie[rows] for tie in self.ties), pairs)

    def families(self) -> list[str]:
        """Names of the fakes' units, sorted."""
        return np.unique(self.unit[self.target == 1]).tolist()

    def sources(self) -> list[str]:
        """Names of the reals' units, sorted."""
        return np.unique(self.unit[self.target == 0]).tolist()

    def reals_of(self, family: str) -> set[str]:
        """The real units that belong to a family: those it is paired with, or of the same name."""
        return set(self.pairs.get(family, (family,))) & set(self.sources())

    def matches(self) -> dict[str, tuple[str, ...]]:
        """family -> its own real units, for `ffdetect.evaluation.matching.matched_rows`."""
        own = {family: tuple(sorted(self.reals_of(family))) for family in self.families()}
        return {family: reals for family, reals in own.items() if reals}


@dataclass(frozen=True)
class Fold:
    """Attributes:
    name: what is left out, for people.
    train, test: int rows, ascending; no value that ties a tested row is in training.
    families: of which training has no fake.
    sources: of which training has no real.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    families: tuple[str, ...]
    sources: tuple[str, ...]


def outer_folds(
    rows: Rows, seed: int = 0, count: int | None = None, parts: int = 3, turns: int = 1
) -> list[Fold]:
    """Folds in which every family is tested, with real sources that training did not see.

    A fold tests its families' fakes with the reals they are paired with, and one part of the
    sources that are paired with none; parts take turns. Training gets the rest, without rows tied
    to tested ones and without families whose reals are all tested: these would teach the look of
    a collection as fake.

    Args:
        rows: of which folds are made; they are numbered as these are.
        seed: draws which source falls into which part, and which family meets which part.
        count: number of folds, each with about as many fakes; by default one a family.
        parts: into how many parts unpaired real sources fall, alike in number and size.
        turns: how many of the parts every family is tested with, one after the other: folds of
            one name.

    Raises:
        ValueError: too few families or real sources, or a fold that has not both classes on both
            sides.
    """
    rng = np.random.default_rng(seed)
    families = rows.families()
    count = len(families) if count is None else count
    if not 2 <= count <= len(families):
        raise ValueError(
            f"expected 2 folds or more, at most one a family of {len(families)}, but got {count}"
        )
    paired = set().union(*(rows.reals_of(family) for family in families))
    free = [source for source in rows.sources() if source not in paired]
    if free and len(free) < parts:
        raise ValueError(f"expected {parts} unpaired real sources or more but got {free}")
    tested = deal(free, [int(_of(rows, [s], 0).sum()) for s in free], parts, rng)
    dealt = deal(families, [int(_of(rows, [f], 1).sum()) for f in families], count, rng)
    folds = []
    for number, own in zip(rng.permutation(count), dealt, strict=True):
        paired_reals = set().union(*(rows.reals_of(family) for family in own))
        for turn in range(turns):
            reals = paired_reals.union(tested[(number + turn) % parts])
            folds.append(_fold(rows, ", ".join(own), own, sorted(reals)))
    return sorted(folds, key=lambda fold: fold.name)


def inner_folds(rows: Rows, fold: Fold, count: int | None = None, parts: int = 3) -> list[Fold]:
    """The same inside a fold's training rows, numbered as `rows` are: what choices are made by."""
    inside = outer_folds(rows.take(fold.train), count=count, parts=parts)
    return [
        Fold(f.name, fold.train[f.train], fold.train[f.test], f.families, f.sources) for f in inside
    ]


def group_folds(rows: Rows, families: Sequence[str], count: int = 3, seed: int = 0) -> list[Fold]:
    """Folds in which a family is known and its videos or people are not, as for face swaps.

    Each tests a part of the groups (values of the first of `rows.ties`; a row without one is a
    group) of some families and the reals they are paired with; training gets all other rows
    but those tied to tested ones.

    Raises:
        ValueError: too few groups, or a fold that has not both classes on both sides.
    """
    reals = sorted(set().union(*(rows.reals_of(family) for family in families)))
    chosen = np.flatnonzero(_of(rows, families, 1) | _of(rows, reals, 0))
    groups = rows.ties[0][chosen] if rows.ties else np.full(len(chosen), "")
    group = np.where(groups == "", np.char.add("row ", chosen.astype(str)), groups)
    names, sizes = np.unique(group, return_counts=True)
    if len(names) < count:
        raise ValueError(f"expected {count} groups or more of {families} but got {len(names)}")
    folds = []
    for number, own in enumerate(
        deal(names.tolist(), sizes.tolist(), count, np.random.default_rng(seed)), 1
    ):
        test = np.zeros(len(rows), bool)
        test[chosen[np.isin(group, own)]] = True
        name = f"{', '.join(families)}: groups {number} of {count}"
        folds.append(_checked(rows, name, _untied(rows, test), test, (), ()))
    return folds


def deal(
    names: Sequence[str], sizes: Sequence[int], parts: int, rng: np.random.Generator
) -> list[list[str]]:
    """Names dealt into parts, alike in number and size: each round of similar sizes one to each.

    (Of scikit-learn, which the base install lacks, `GroupKFold` makes parts alike in size alone.)
    """
    shuffled = rng.permutation(len(names))
    order = shuffled[np.argsort(-np.asarray(sizes, float)[shuffled], kind="stable")]
    dealt: list[list[str]] = [[] for _ in range(parts)]
    for start in range(0, len(order), parts):
        hand = order[start : start + parts]
        for name, part in zip(hand, rng.permutation(parts), strict=False):
            dealt[part].append(names[name])
    return [sorted(part) for part in dealt]


def check_fold(rows: Rows, fold: Fold) -> None:
    """Raises ValueError where anything that a fold tests is on both sides."""
    train, test = rows.take(fold.train), rows.take(fold.test)
    shared = {
        "rows": set(fold.train.tolist()) & set(fold.test.tolist()),
        "families": set(train.families()) & set(fold.families),
        "real sources": set(train.sources()) & set(fold.sources),
    }
    for number, (left, right) in enumerate(zip(train.ties, test.ties, strict=True)):
        shared[f"values of tie {number}"] = set(left.tolist()) & set(right.tolist()) - {""}
    for what, both in shared.items():
        if both:
            raise ValueError(
                f"{fold.name}: expected {what} on one side but got {sorted(both)[:5]} on both"
            )


def _fold(rows: Rows, name: str, families: Sequence[str], sources: Sequence[str]) -> Fold:
    test = _of(rows, families, 1) | _of(rows, sources, 0)
    orphans = [f for f in rows.families() if rows.reals_of(f) and rows.reals_of(f) <= set(sources)]
    train = _untied(rows, test) & ~_of(rows, orphans, 1)
    return _checked(rows, name, train, test, tuple(sorted({*families, *orphans})), tuple(sources))


def _untied(rows: Rows, test: np.ndarray) -> np.ndarray:
    """Labelled rows that are not tested and share nothing with tested ones: bool N."""
    train = ~test & np.isin(rows.target, (0, 1))
    for tie in rows.ties:
        train &= ~np.isin(tie, tie[test]) | (tie == "")
    return train


def _checked(
    rows: Rows,
    name: str,
    train: np.ndarray,
    test: np.ndarray,
    families: tuple[str, ...],
    sources: tuple[str, ...],
) -> Fold:
    for side, chosen in (("training", train), ("test", test)):
        counts = [int((rows.target[chosen] == value).sum()) for value in (0, 1)]
        if not all(counts):
            raise ValueError(
                f"{name}: expected reals and fakes in {side} but got {counts[0]} and {counts[1]}"
            )
    return Fold(name, np.flatnonzero(train), np.flatnonzero(test), families, sources)


def _of(rows: Rows, units: Iterable[str], target: int) -> np.ndarray:
    return np.isin(rows.unit, list(units)) & (rows.target == target)


def _text(column: pd.Series) -> np.ndarray:
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy().astype(str)
