"""Training pairs and validation faces over caches.

Training is by pairs: a real face and a fake one go through the same random augmentation side by
side, so both classes are equally frequent and share every codec, scale and window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ffdetect.fakes.faces import BALANCES, RealFaces, by_generator
from ffdetect.fakes.sources import SOURCES, Made
from preprocess.cache.reader import CacheReader

from .augment import recode, training_transform


@dataclass(frozen=True)
class Mix:
    """Where training pairs come from, as shares; what is left are fakes that were collected.

    Attributes:
        made: name of a pseudo-fake (`ffdetect.fakes.sources.SOURCES`) -> share of pairs made so.
        matches: fake generator -> the real sources it may be paired with; these sources are
            kept for the generators that name them. Others are paired freely.
        balance: how often a generator or real source is drawn, a name from `BALANCES`.
    """

    made: Mapping[str, float] = field(default_factory=dict)
    matches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    balance: str = "sqrt"

    def __post_init__(self) -> None:
        if self.balance not in BALANCES:
            raise ValueError(f"expected a balance among {[*BALANCES]} but got {self.balance!r}")
        if unknown := set(self.made) - set(SOURCES):
            raise ValueError(f"expected pseudo-fakes among {[*SOURCES]} but got {sorted(unknown)}")
        if min(self.made.values(), default=0) < 0 or self.share_made > 1:
            raise ValueError(
                "expected shares of at least 0 and at most 1 together but got "
                + ", ".join(f"{name} {share}" for name, share in self.made.items())
            )

    @property
    def share_made(self) -> float:
        """Share of the pairs whose fake is made from a real face."""
        return sum(self.made.values())


class PairDataset(Dataset):
    """Item i is an augmented pair: uint8 2V x 3 x H x W, a real face and a fake by turns, V views.

    Which pair it is and how it is augmented is decided by `seed` and i alone.

    Args:
        reader: collected faces, real and fake.
        rows: which of them may be used.
        regenerated, regenerated_rows: see `ffdetect.fakes.faces.RealFaces`.
        mix: shares of pseudo-fakes and which reals fit which fakes.
        window: side of the training windows in pixels.
        seed: any integer.
        policy: a name from `augment.POLICIES`, or "" for none.
        views: how often each pair is augmented, each time in another way.
    """

    def __init__(
        self,
        reader: CacheReader,
        rows: np.ndarray,
        *,
        mix: Mix | None = None,
        regenerated: CacheReader | None = None,
        regenerated_rows: np.ndarray | None = None,
        window: int = 160,
        seed: int = 0,
        policy: str = "",
        views: int = 1,
    ) -> None:
        self.reader, self.seed, self.views = reader, seed, views
        self.mix = mix or Mix()
        self.transform = training_transform(window, policy)
        target = reader.metadata["target"].to_numpy()[rows]
        self.reals = RealFaces(
            reader,
            rows[target == 0],
            regenerated=regenerated,
            regenerated_rows=regenerated_rows,
            balance=self.mix.balance,
        )
        self._fakes = by_generator(reader.metadata, rows[target == 1])
        self._check()
        kept = {source for sources in self.mix.matches.values() for source in sources}
        self._free = [source for source in self.reals.by_source if source not in kept]

    def _check(self) -> None:
        reals, fakes = self.reals.by_source, self._fakes
        if not reals or (not fakes and self.mix.share_made < 1):
            raise ValueError(
                f"expected real and fake faces to train on but got sources {list(reals)} "
                f"and generators {list(fakes)}"
            )
        for generator, sources in self.mix.matches.items():
            if generator in fakes and not set(sources) & set(reals):
                raise ValueError(f"expected reals of {sources} for {generator} but found none")
        for name, share in self.mix.made.items():
            if share and (missing := SOURCES[name].missing(self.reals)):
                raise ValueError(f"expected {missing} for a share of {name}")

    @property
    def counts(self) -> dict[str, int]:
        """Collected faces that may be drawn, by real source and generator."""
        return {name: len(rows) for name, rows in {**self.reals.by_source, **self._fakes}.items()}

    def __len__(self) -> int:
        return 2**62  # endless; the sampler counts

    def __getitem__(self, index: int) -> torch.Tensor:
        rng = np.random.default_rng([self.seed, index])
        pair = torch.from_numpy(np.stack(self._pair(rng))).permute(0, 3, 1, 2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            return torch.cat([self.transform(pair) for _ in range(self.views)]).contiguous()

    def _pair(self, rng: np.random.Generator) -> Made:
        draw, bound = rng.random(), 0.0
        for name, share in self.mix.made.items():
            bound += share
            if draw < bound:
                return SOURCES[name].make(self.reals, rng)
        generator = self.reals.draw(self._fakes, rng)
        reals = {
            name: self.reals.by_source[name]
            for name in self.mix.matches.get(generator, ()) or self._free or self.reals.by_source
            if name in self.reals.by_source
        }
        real = rng.choice(reals[self.reals.draw(reals, rng)])
        fake = rng.choice(self._fakes[generator])
        return self.reader.crop(int(real)), self.reader.crop(int(fake))


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
        item = {"target": int(self.reader.metadata["target"].to_numpy()[row]), "row": row}
        if self.jpeg:
            crop = recode(crop, "JPEG", quality=self.jpeg)
        else:
            for name in self.maps:
                item[name] = torch.from_numpy(np.array(getattr(self.reader, name)(row)))
        return {"crop": crop[0], **item}
