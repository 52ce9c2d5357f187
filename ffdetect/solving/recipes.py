"""How the heads of the shipped network may be solved: recipes, and what solves them.

Recipes are compared by inner folds (`ffdetect.evaluation.protocol`). A fold's lines are solved
from products of all faces' statistics, which are standardised once over all faces, without labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from ffdetect.evaluation.protocol import Sample
from ffdetect.evaluation.splits import Rows
from preprocess.io.formats import media_of_name

from .ridge import Gram, Line, RidgeSettings, solve_line
from .statistics import Known, Store

# Swaps are compared with untouched pictures of their own collection.
PAIRS = {"dfdc_swap": ("dfdc",), "inswapper": ("ffhq256",)}
SWAPS = ("dfdc", *PAIRS)  # swaps, and frames of videos that are there to compare them with


GAN = "gan"
EARLY = (GAN, "sd2")  # families whose traces are not those of generators of today
_PAIRED = [*PAIRS, *(source for sources in PAIRS.values() for source in sources)]

# Which faces the lines of a kind of fake learn from: bool N, by their targets, their units, and
# whether they are of clips.
LEARNT: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "all": lambda target, unit, clip: np.ones(len(unit), bool),
    "generated": lambda target, unit, clip: (
        ~np.isin(unit, [*SWAPS, *EARLY]) & ~(clip & (target == 1))
    ),
    "early": lambda target, unit, clip: (
        np.isin(unit, EARLY) | (target == 0) & ~np.isin(unit, SWAPS)
    ),
    "swaps": lambda target, unit, clip: np.isin(unit, _PAIRED),
    "clips": lambda target, unit, clip: clip | np.isin(unit, _PAIRED),
}

_VIDEO = ("dfdc", "dfdc_swap")  # pictures that are frames of videos
# How much a line that is solved for 0 in still pictures and 1 in frames of video must say before a
# picture counts as a frame in part, and wholly.
_STILL, _FRAME = 0.5, 0.9
_VIDEO_RIDGE = RidgeSettings(1e-3, 0.0)
_VIDEO_MOST = 150  # faces of a family or source, in all views, that such a line is solved from


@dataclass(frozen=True)
class Lines:
    """How one kind of fake is told: a line for every reader, and their weighted sum.

    Attributes:
        fakes: which faces are learnt from, a key of `LEARNT`.
        rgb, frequency: readers of each stream.
        frequency_share: of the frequency stream in the sum, 0 to 1, where both streams have
            readers.
        margin, frame_margin, clip_margin: see `ffdetect.models.dual_stream.Kind`.
    """

    fakes: str
    rgb: tuple[str, ...] = ()
    frequency: tuple[str, ...] = ()
    frequency_share: float = 0.4
    margin: float = 0.0
    frame_margin: float = 0.0
    clip_margin: float = 0.0

    def __post_init__(self) -> None:
        if self.fakes not in LEARNT:
            raise ValueError(f"expected fakes among {sorted(LEARNT)} but got {self.fakes!r}")

    def shares(self) -> dict[str, float]:
        """Every reader's weight in the sum; they add up to 1."""
        streams = ((self.rgb, 1 - self.frequency_share), (self.frequency, self.frequency_share))
        kept = [(names, share) for names, share in streams if names]
        total = sum(share for _, share in kept)
        return {name: share / total / len(names) for names, share in kept for name in names}


@dataclass(frozen=True)
class Recipe:
    """Attributes:
    kinds: of fakes, by name.
    frames: readers that tell frames of video from still pictures.
    degraded: how many degraded views of each face are learnt from, beside the matched one.
    ridge: of the lines.
    clips: how much a frame of a clip counts beside a picture. Clips come from so many collections,
        of a few coders, that they would outweigh pictures.
    slope: logits a unit of a line's score, which is 0 for reals and 1 for fakes.
    """

    kinds: Mapping[str, Lines]
    frames: tuple[str, ...] = ()
    degraded: int = 1
    ridge: RidgeSettings = field(default_factory=RidgeSettings)
    clips: float = 0.3
    slope: float = 9.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def plain(cls, rgb: Sequence[str] = (), frequency: Sequence[str] = (), **others: Any) -> Recipe:
        """One line for each reader, which learns from every fake alike."""
        return cls({"fake": Lines("all", tuple(rgb), tuple(frequency))}, **others)


_CLIP = ("clip_resized", "clip_inner")
BEST = Recipe(
    {
        "generated": Lines("generated", _CLIP, ("lite_residual",), 0.2, frame_margin=2.0),
        "early": Lines("early", _CLIP, margin=2.0, frame_margin=2.0, clip_margin=2.0),
        "swap": Lines("swaps", _CLIP, margin=3.0, frame_margin=2.0, clip_margin=3.0),
        "clip": Lines("clips", _CLIP, margin=3.0),
    },
    frames=("clip_inner",),
)
_LITE = (("lite_rgb",), ("lite_residual",), 0.3)
FAST = Recipe(
    {
        "generated": Lines("generated", *_LITE, frame_margin=2.0),
        "early": Lines("early", *_LITE, margin=3.0, frame_margin=2.0, clip_margin=3.0),
        "swap": Lines("swaps", *_LITE, margin=4.0, frame_margin=2.0, clip_margin=4.0),
        "clip": Lines("clips", *_LITE, margin=4.0),
    },
    frames=("lite_rgb",),
)


@dataclass(frozen=True)
class Faces:
    """Labelled faces with their statistics in every view; frames of clips among them.

    Attributes:
        table: one row a face: key, path, target, unit, family, generator, source, group, clip;
            pair: whether it is one of a pair, regenerated or the real one beside it; real: the unit
            that the real face is of, or would be.
        values: reader -> float16 S x features, of faces in views.
        face: int S, whose row of the table each is.
        view: int S, ascending; 0 is the matched view, which every face has, in the table's order.
    """

    table: pd.DataFrame
    values: dict[str, np.ndarray]
    face: np.ndarray
    view: np.ndarray

    @classmethod
    def read(
        cls, stores: Sequence[Store], manifest: pd.DataFrame, views: Sequence[str], most: int = 150
    ) -> Faces:
        """Faces that the stores and the manifest know.

        Args:
            manifest: with the columns path, target, generator, source, group and, for pictures,
                family.
            views: the matched one first; a face may lack the others.
            most: faces of each generator or real source from one collection; of swaps and the
                video frames beside them ten times as many, since there people differ.

        Raises:
            ValueError: two stores know a face of the same key, see too `Store.read`.
        """
        readers = [name for name in stores[0].readers if all(name in s.readers for s in stores)]
        seen = [[s.read(view) for s in stores if s.parts(view)] for view in views]
        for parts in seen:
            keys = np.concatenate([part.keys for part in parts])
            keys, count = np.unique(keys, return_counts=True)
            if (count > 1).any():
                folders = ", ".join(str(store.folder) for store in stores)
                raise ValueError(
                    f"{folders}: expected a face in one store but got {keys[count > 1][0]} in two"
                )
        table = _labelled(manifest, np.concatenate([found.keys for found in seen[0]]))
        kept = _kept(table, most)
        table = table.iloc[kept].reset_index(drop=True)
        row = {key: number for number, key in enumerate(table["key"])}
        values: dict[str, list[np.ndarray]] = {name: [] for name in readers}
        face, view = [], []
        for number, parts in enumerate(seen):
            known = np.array([row.get(key, -1) for part in parts for key in part.keys.tolist()])
            chosen = np.flatnonzero(known >= 0)
            chosen = chosen[np.argsort(known[chosen], kind="stable")]
            for name in readers:
                whole = np.concatenate([part.values[name] for part in parts])
                values[name].append(whole[chosen])
            face.append(known[chosen])
            view.append(np.full(len(chosen), number))
        joined = {name: np.concatenate(parts) for name, parts in values.items()}
        return cls(table, joined, np.concatenate(face), np.concatenate(view))

    @property
    def rows(self) -> Rows:
        """For folds: families, real sources, and groups that stay on one side."""
        pairs = {f: reals for f, reals in PAIRS.items() if (self.table["family"] == f).any()}
        return Rows.from_frame(self.table, "unit", "unit", ("group",), pairs)

    @property
    def clips(self) -> np.ndarray:
        """int, rows of the table that are frames of clips."""
        return np.flatnonzero(self.table["clip"])

    @property
    def pairs(self) -> np.ndarray:
        """int, rows of the table that are of pairs: learnt from, and never what is judged."""
        return np.flatnonzero(self.table["pair"])


def _labelled(manifest: pd.DataFrame, keys: np.ndarray) -> pd.DataFrame:
    """What the manifest knows of faces. Fakes are of a family, the generator where none is given;
    reals of the source that their generator's column names, or, as frames of clips, their own.
    Regenerated faces are of their regenerator; of pairs of others than real pictures none is."""
    known = [Known.of(key) for key in keys.tolist()]
    table = manifest.set_index("path").reindex([one.path for one in known]).reset_index()
    clip = np.array([media_of_name(one.path) == "clip" for one in known], bool)
    regenerator = pd.Series([one.regenerator for one in known], dtype=object)
    pair = (regenerator != "").to_numpy()
    text = table[["generator", "source", "group"]].fillna("").astype(str)
    family = table["family"].fillna("").astype(str) if "family" in table else text["source"] * 0
    family = family.where(family != "", text["generator"])
    real = text["source"].where(clip, text["generator"])
    target = table["target"].fillna(-1).astype(int).to_numpy()
    made = np.array([one.target for one in known], int)
    target = np.where(pair, np.where((target == 0) & ~clip, made, -1), target)
    regenerated = pair & (target == 1)
    family = family.mask(regenerated, regenerator)
    text["generator"] = text["generator"].mask(regenerated, regenerator)
    unit = family.where(target == 1, real)
    columns = {"key": keys, "clip": clip, "pair": pair, "family": family, "unit": unit}
    return table.assign(**columns, real=real, target=target, **text)


def _kept(table: pd.DataFrame, most: int) -> np.ndarray:
    """Rows drawn at random from each collection, those of video frames by their video."""
    rng, kept = np.random.default_rng(0), []
    labelled = table[table["target"].isin((0, 1))]
    for (generator, _, _), own in labelled.groupby(["generator", "source", "pair"], sort=True):
        limit = most * 10 if generator.startswith("dfdc") else most
        kept.append(rng.permutation(own.index.to_numpy())[:limit])
    return np.sort(np.concatenate(kept))


def _at_most(rows: np.ndarray, unit: np.ndarray, most: int) -> np.ndarray:
    """Rows drawn at random, so many of each unit; as they are where there are no more."""
    rng = np.random.default_rng(0)
    units = unit[rows]
    own = [rng.permutation(rows[units == name])[:most] for name in np.unique(units)]
    return np.sort(np.concatenate(own))


@dataclass(frozen=True)
class Solved:
    """Attributes:
    kinds: a line for every kind of fake and reader.
    frames: for every reader that tells frames of video from still pictures, one that is 0 for
        what is surely a still picture, and 1 for what surely is none.
    """

    kinds: dict[tuple[str, str], Line]
    frames: dict[str, Line]


class Solver:
    """Fits and scores recipes on faces; what `NestedProtocol` calls.

    Products of statistics are kept for each reader, since folds share them.
    """

    def __init__(self, faces: Faces) -> None:
        self.faces = faces
        rows = faces.rows
        self.target, self.unit = rows.target, rows.unit
        self._grams: dict[tuple[str, int], Gram] = {}

    def gram(self, reader: str, degraded: int) -> Gram:
        """Products of all faces in their views up to a degraded one."""
        key = (reader, degraded)
        if key not in self._grams:
            count = int((self.faces.view <= degraded).sum())
            self._grams[key] = Gram(self.faces.values[reader][:count])
        return self._grams[key]

    def solve(self, recipe: Recipe, rows: np.ndarray) -> Solved:
        """Lines for every kind of which faces, given by their rows, have fakes, and for frames."""
        face = self.faces.face[self.faces.view <= recipe.degraded]
        target, unit = self.target[face], self.unit[face]
        clip = self.faces.table["clip"].to_numpy()[face]
        given = np.isin(face, rows)
        emphasis = np.where(clip, recipe.clips, 1.0)
        kinds: dict[tuple[str, str], Line] = {}
        for name, kind in recipe.kinds.items():
            learnt = given & LEARNT[kind.fakes](target, unit, clip)
            if len(np.unique(target[learnt])) < 2:  # a fold has left out the kind itself
                continue
            for reader in kind.shares():
                gram = self.gram(reader, recipe.degraded)
                kinds[name, reader] = solve_line(
                    gram, np.flatnonzero(learnt), target, unit, recipe.ridge, emphasis
                )
        video = (clip | np.isin(unit, _VIDEO)).astype(int)
        frames: dict[str, Line] = {}
        learnt = _at_most(np.flatnonzero(given), unit, _VIDEO_MOST)
        if len(np.unique(video[learnt])) == 2:
            for reader in recipe.frames:
                gram = self.gram(reader, recipe.degraded)
                line = solve_line(gram, learnt, video, unit, _VIDEO_RIDGE)
                frames[reader] = line.stretched(_STILL, _FRAME)
        return Solved(kinds, frames)

    def scores(
        self, recipe: Recipe, solved: Solved, rows: np.ndarray, view: int = 0
    ) -> dict[str, np.ndarray]:
        """Logits of faces in a view by each stream, fused, and fused as frames of clips are.

        Args:
            view: 0 is the matched one; of another, nan where a face lacks it.
        """
        sample = np.full(len(self.target), -1)
        own = np.flatnonzero(self.faces.view == view)
        sample[self.faces.face[own]] = own
        seen = sample[rows]

        def told(line: Line, reader: str) -> np.ndarray:
            return self.gram(reader, recipe.degraded).scores(line, np.maximum(seen, 0))

        video = np.zeros(len(seen))
        if solved.frames:
            video = np.mean([told(line, reader) for reader, line in solved.frames.items()], 0)
        video = video.clip(0, 1)
        parts: dict[str, list[np.ndarray]] = {"rgb": [], "frequency": [], "fused": [], "clip": []}
        known = {name for name, _ in solved.kinds}
        for name, kind in ((n, k) for n, k in recipe.kinds.items() if n in known):
            score = {reader: told(solved.kinds[name, reader], reader) for reader in kind.shares()}
            margin = kind.margin + video * (kind.frame_margin - kind.margin)
            for stream, names in (("rgb", kind.rgb), ("frequency", kind.frequency)):
                if names:
                    mean = np.mean([score[reader] for reader in names], 0)
                    parts[stream].append(recipe.slope * mean - margin)
            shares = [w * score[reader] for reader, w in kind.shares().items()]
            whole = recipe.slope * np.sum(shares, 0)
            parts["fused"].append(whole - margin)
            parts["clip"].append(whole - kind.clip_margin)
        joined = {name: logsumexp(values, axis=0) for name, values in parts.items() if values}
        return {name: np.where(seen >= 0, logit, np.nan) for name, logit in joined.items()}

    def fit(self, recipe: Recipe, sample: Sample) -> tuple[Recipe, Solved]:
        """For `NestedProtocol`, whose `read` gives row numbers."""
        return recipe, self.solve(recipe, sample.data())

    def score(self, model: tuple[Recipe, Solved], sample: Sample) -> np.ndarray:
        """For `NestedProtocol`."""
        return self.scores(*model, sample.data())["fused"]
