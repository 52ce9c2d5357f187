"""Training pairs and validation faces over caches.

Training is by pairs: a real face and a fake one go through the same random augmentation side by
side, so both classes are equally frequent and share every codec, scale and window.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset, Sampler

from ffdetect.fakes.blend import self_blend
from ffdetect.fakes.donors import Donors, read_landmarks
from ffdetect.fakes.regions import replace_region
from ffdetect.fakes.swap import swap
from preprocess.cache.reader import CacheReader

from .augment import recode, training_transform

# A generator is drawn by its size to this power: by sqrt, small ones count, large ones count more.
BALANCES = {"size": 1.0, "sqrt": 0.5, "equal": 0.0}


@dataclass(frozen=True)
class Mix:
    """Where training pairs come from, as shares.

    Attributes:
        twins: a real face and its re-generated twin.
        blends: a real face and its self-blended version.
        matches: fake generator -> the real sources it may be paired with; these sources are
            kept for the generators that name them. Others are paired freely.
        swaps: share of face swaps, drawn from the generators in `swapped`.
        swapped: generators that change a part of a real picture; blends do so too.
        made_swaps: a real face and the same with another person's face pasted over it.
        regions: a real face and the same with a part of it from its re-generated twin.
        balance: how often a generator or real source is drawn, a name from `BALANCES`.
    """

    twins: float = 0.0
    blends: float = 0.0
    matches: dict[str, tuple[str, ...]] = field(default_factory=dict)
    swaps: float = 0.0
    swapped: tuple[str, ...] = ()
    made_swaps: float = 0.0
    regions: float = 0.0
    balance: str = "sqrt"

    def __post_init__(self) -> None:
        if self.balance not in BALANCES:
            raise ValueError(f"expected a balance among {[*BALANCES]} but got {self.balance!r}")
        names = ("twins", "blends", "swaps", "made_swaps", "regions")
        shares = {name: getattr(self, name) for name in names}
        if min(shares.values()) < 0 or sum(shares.values()) > 1:
            raise ValueError(
                "expected shares of at least 0 and at most 1 together but got "
                + ", ".join(f"{name} {share}" for name, share in shares.items())
            )
        if self.swaps and not self.swapped:
            raise ValueError("expected the names of the generators that swap faces")

    @property
    def made(self) -> float:
        """Share of the pairs whose fake is made from a real face."""
        return self.twins + self.blends + self.made_swaps + self.regions

    def drawn(self, generators: Collection[str]) -> set[str]:
        """Which of these collected generators' own fakes pairs are made of."""
        swaps = {name for name in generators if name in self.swapped}
        whole = set(generators) - swaps
        found = swaps if self.swaps else set()
        return found | (whole or swaps) if self.swaps + self.made < 1 else found


class Pair(NamedTuple):
    """A real face and a fake one.

    Attributes:
        crops: uint8 2V x 3 x H x W, real and fake by turns in V views.
        kind: the generator or regenerator of the fake, or "blend", "swap" or "region".
        swapped: the fake is a real picture of which a part was changed.
    """

    crops: torch.Tensor
    kind: str
    swapped: bool


class PairDataset(Dataset):
    """Item i is an augmented `Pair` of windows.

    Which pair it is and how it is augmented is decided by `seed` and i alone.

    Args:
        reader: collected faces, real and fake.
        rows: which of them may be used.
        twins: cache of re-generated pairs, or None.
        twin_rows: which of its rows may be used (both of a pair, or none).
        mix: shares of pseudo-fakes and which reals fit which fakes.
        window: side of the training windows in pixels.
        seed: any integer.
        mild: share of pairs that keep their scale and get one JPEG coding of usual quality.
        policy: a name from `augment.POLICIES`, or "" for none.
        views: how often each pair is augmented, each time in another way.
    """

    def __init__(
        self,
        reader: CacheReader,
        rows: np.ndarray,
        *,
        mix: Mix | None = None,
        twins: CacheReader | None = None,
        twin_rows: np.ndarray | None = None,
        window: int = 160,
        seed: int = 0,
        mild: float = 0.0,
        policy: str = "",
        views: int = 1,
    ) -> None:
        self.reader, self.seed = reader, seed
        self.twins = reader if twins is None else twins  # without pairs nothing asks for it
        self.mix = mix or Mix()
        self.transform = training_transform(window, mild, policy)
        self.views = views
        chosen = reader.metadata.iloc[rows]
        self._reals = _by_generator(chosen[chosen["target"] == 0], rows[chosen["target"] == 0])
        self._fakes = _by_generator(chosen[chosen["target"] == 1], rows[chosen["target"] == 1])
        self._check(self._reals, self._fakes)
        kept = {source for sources in self.mix.matches.values() for source in sources}
        self._free = [source for source in self._reals if source not in kept]
        self._swaps = {n: rows for n, rows in self._fakes.items() if n in self.mix.swapped}
        self._whole = {n: rows for n, rows in self._fakes.items() if n not in self.mix.swapped}
        if self.mix.swaps and not self._swaps:
            raise ValueError(f"expected fakes by {self.mix.swapped} but got {list(self._fakes)}")
        if not self._whole and self.mix.swaps + self.mix.made < 1:
            self._whole = self._fakes
        self._pairs = [] if twins is None else _twin_pairs(twins.metadata, twin_rows)
        for share in ("twins", "regions"):
            if getattr(self.mix, share) and not self._pairs:
                raise ValueError(f"expected a cache of re-generated pairs for a share of {share}")
        self._drawn = dict(self._pairs)  # the re-generated version of a real face
        if self.mix.made_swaps:
            self._donors = Donors(reader, rows[chosen["target"] == 0])
            self._twin_donors = Donors(twins, np.array(list(self._drawn), int)) if twins else None
            if not self._donors.rows:
                raise ValueError(
                    "expected real faces of two groups or more for a share of made_swaps"
                )

    def _check(self, reals: dict, fakes: dict) -> None:
        if not reals or (not fakes and self.mix.made < 1):
            raise ValueError(
                f"expected real and fake faces to train on but got sources {list(reals)} "
                f"and generators {list(fakes)}"
            )
        for generator, sources in self.mix.matches.items():
            if generator in fakes and not set(sources) & set(reals):
                raise ValueError(f"expected reals of {sources} for {generator} but found none")

    @property
    def counts(self) -> dict[str, int]:
        """Collected faces that may be drawn, by real source and generator."""
        return {name: len(rows) for name, rows in {**self._reals, **self._fakes}.items()}

    def __len__(self) -> int:
        return 2**62  # endless; the sampler counts

    def __getitem__(self, index: int) -> Pair:
        rng = np.random.default_rng([self.seed, index])
        kind, real, fake, swapped = self._pair(rng)
        pair = torch.from_numpy(np.stack([real, fake])).permute(0, 3, 1, 2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            views = [self.transform(pair) for _ in range(self.views)]
            return Pair(torch.cat(views).contiguous(), kind, swapped)

    def _pair(self, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray, bool]:
        draw, bound = rng.random(), 0.0
        for share, make, swapped in (
            (self.mix.twins, self._twin_pair, False),
            (self.mix.blends, self._blended_pair, True),
            (self.mix.swaps, partial(self._collected_pair, self._swaps), True),
            (self.mix.made_swaps, self._swapped_pair, True),
            (self.mix.regions, self._region_pair, True),
        ):
            bound += share
            if draw < bound:
                return *make(rng), swapped
        return *self._collected_pair(self._whole, rng), False

    def _collected_pair(
        self, fakes: dict[str, np.ndarray], rng: np.random.Generator
    ) -> tuple[str, np.ndarray, np.ndarray]:
        generator = self._draw(fakes, rng)
        sources = self.mix.matches.get(generator, ())
        reals = {
            name: self._reals[name]
            for name in sources or self._free or self._reals
            if name in self._reals
        }
        real = rng.choice(reals[self._draw(reals, rng)])
        fake = rng.choice(fakes[generator])
        return generator, self.reader.crop(int(real)), self.reader.crop(int(fake))

    def _blended_pair(self, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray]:
        if self._pairs and rng.random() < 0.3:
            real, fake = self._pairs[rng.integers(len(self._pairs))]
            crop, twin = self.twins.crop(real), self.twins.crop(fake)
            landmarks = read_landmarks(self.twins, real)
        else:
            row = int(rng.choice(self._reals[self._draw(self._reals, rng)]))
            crop, twin = self.reader.crop(row), None
            landmarks = read_landmarks(self.reader, row)
        return "blend", crop, self_blend(crop, landmarks, rng, twin)

    def _swapped_pair(self, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray]:
        donors, drawn = self._donors, {}
        # With pairs, some of the pasted faces are those that a generator drew.
        if self._twin_donors and self._twin_donors.rows and rng.random() < 0.3:
            donors, drawn = self._twin_donors, self._drawn
        reader = donors.reader
        row = int(rng.choice(donors.rows[self._draw(donors.rows, rng)]))
        donor = donors.pick(row, rng)
        crop, face = reader.crop(row), reader.crop(drawn.get(donor, donor))
        places = read_landmarks(reader, row), read_landmarks(reader, donor)
        return "swap", crop, swap(crop, places[0], face, places[1], rng)

    def _region_pair(self, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray]:
        real, fake = self._pairs[rng.integers(len(self._pairs))]
        crop, twin = self.twins.crop(real), self.twins.crop(fake)
        return "region", crop, replace_region(crop, twin, read_landmarks(self.twins, real), rng)

    def _twin_pair(self, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray]:
        real, fake = self._pairs[rng.integers(len(self._pairs))]
        kind = self.twins.metadata["generator"].iat[fake]
        return kind, self.twins.crop(real), self.twins.crop(fake)

    def _draw(self, groups: dict[str, np.ndarray], rng: np.random.Generator) -> str:
        weights = np.array([len(rows) for rows in groups.values()]) ** BALANCES[self.mix.balance]
        return list(groups)[rng.choice(len(groups), p=weights / weights.sum())]


def _by_generator(metadata: pd.DataFrame, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: rows[places] for name, places in metadata.groupby("generator").indices.items()}


def _twin_pairs(metadata: pd.DataFrame, rows: np.ndarray | None) -> list[tuple[int, int]]:
    chosen = metadata if rows is None else metadata.iloc[rows]
    numbers = np.arange(len(metadata)) if rows is None else rows
    reals, fakes = (
        {
            p: int(n)
            for p, n, t in zip(chosen["path"], numbers, chosen["target"], strict=True)
            if t == wanted
        }
        for wanted in (0, 1)
    )
    return [(real, fakes[path]) for path, real in reals.items() if path in fakes]


class EpochSampler(Sampler[int]):
    """Consecutive numbers, going on from epoch to epoch, so that no pair is drawn twice.

    Args:
        length: of an epoch of one rank.
        rank, count: ranks take turns, so together they draw what one alone would draw of
            `count` times the length.
    """

    def __init__(self, length: int, rank: int = 0, count: int = 1) -> None:
        self.length, self.rank, self.count, self.epoch = length, rank, count, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.length * self.count
        return iter(range(start + self.rank, start + self.length * self.count, self.count))


class FaceDataset(Dataset):
    """Item i is a dictionary: whole crop, its target and generator, and cached maps if usable.

    Args:
        rows: rows of the reader, in order.
        jpeg: re-compress every crop at this quality, so that both classes share it; 0 leaves
            the crops, and then the maps of the cache are used.
        residual: the kind the network wants; a cached residual of another kind is left out.
    """

    def __init__(
        self,
        reader: CacheReader,
        rows: Sequence[int] | np.ndarray,
        jpeg: int = 0,
        residual: str | None = "npr",
    ) -> None:
        self.reader, self.rows, self.jpeg = reader, rows, jpeg
        other = reader.settings.residual != residual
        self.maps = [m for m in reader.settings.maps if m == "spectrum" or not other]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        row = int(self.rows[index])
        crop = self.reader.crops([row])
        item = {"target": int(self.reader.metadata["target"].iat[row]), "row": row}
        if self.jpeg:
            crop = recode(crop, "JPEG", quality=self.jpeg)
        else:
            for name in self.maps:
                item[name] = torch.from_numpy(np.array(getattr(self.reader, name)(row)))
        return {"crop": crop[0], **item}
