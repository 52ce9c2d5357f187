"""Pseudo-fakes by name. Another one is a function and an entry here, and has its `--share-NAME`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .blend import self_blend
from .donors import read_landmarks
from .faces import RealFaces
from .regions import replace_region
from .swap import swap

_OF_PAIRS = 0.3  # with regenerated pairs, the share of blends and swaps whose face is regenerated

Made = tuple[np.ndarray, np.ndarray]
"""A real face and a fake made of it, uint8 H x W x 3 RGB each."""


@dataclass(frozen=True)
class Source:
    """A kind of pseudo-fake.

    Attributes:
        make: decided by the random numbers alone.
        about: what its pairs are, for the help of an option.
        missing: what these faces lack for it, for a message; "" if it can be made of them.
    """

    make: Callable[[RealFaces, np.random.Generator], Made]
    about: str
    missing: Callable[[RealFaces], str] = lambda faces: ""


def regenerated(faces: RealFaces, rng: np.random.Generator) -> Made:
    """A face as a generator's decoder draws it (`ffdetect.fakes.regenerate`)."""
    real, fake = faces.pair(rng)
    return faces.regenerated.crop(real), faces.regenerated.crop(fake)


def blended(faces: RealFaces, rng: np.random.Generator) -> Made:
    """A face blended with an altered or regenerated copy of itself."""
    reader, copy = faces.reader, None
    if faces.pairs and rng.random() < _OF_PAIRS:
        reader = faces.regenerated
        row, fake = faces.pair(rng)
        copy = reader.crop(fake)
    else:
        row = faces.row(rng)
    crop = reader.crop(row)
    return crop, self_blend(crop, read_landmarks(reader, row), rng, copy)


def swapped(faces: RealFaces, rng: np.random.Generator) -> Made:
    """The face of another person, real or regenerated, pasted in."""
    donors, fakes = faces.donors, {}
    if faces.pairs and faces.pair_donors.rows and rng.random() < _OF_PAIRS:
        donors, fakes = faces.pair_donors, dict(faces.pairs)
    reader = donors.reader
    row = int(rng.choice(donors.rows[faces.draw(donors.rows, rng)]))
    donor = donors.pick(row, rng)
    crop, face = reader.crop(row), reader.crop(fakes.get(donor, donor))
    return crop, swap(crop, read_landmarks(reader, row), face, read_landmarks(reader, donor), rng)


def region(faces: RealFaces, rng: np.random.Generator) -> Made:
    """A face of which a part was regenerated."""
    real, fake = faces.pair(rng)
    reader = faces.regenerated
    crop, copy = reader.crop(real), reader.crop(fake)
    return crop, replace_region(crop, copy, read_landmarks(reader, real), rng)


def _no_pairs(faces: RealFaces) -> str:
    return "" if faces.pairs else "a cache of regenerated pairs"


def _no_donors(faces: RealFaces) -> str:
    return "" if faces.donors.rows else "real faces of two groups or more"


SOURCES: dict[str, Source] = {
    "regenerated": Source(regenerated, "of --regenerated", _no_pairs),
    "blends": Source(blended, "of a face blended with itself"),
    "made_swaps": Source(swapped, "with another real face pasted in", _no_donors),
    "regions": Source(region, "with a part from --regenerated", _no_pairs),
}
