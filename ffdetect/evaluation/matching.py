"""Which reals a generator's fakes are compared with: those of its kind.

Real sources differ in subject, sharpness and framing. A generator that altered or learnt from
some of them is matched with these alone, or sources are told apart instead of real and fake.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from preprocess.spread import evenly

# Face swaps in video frames are compared with frames of the same kind; every other generator
# draws whole portraits and is compared with portraits.
KINDS: dict[str, tuple[str, ...]] = {"dfdc_swap": ("dfdc",)}


def add_match(parser: argparse._ActionsContainer, use: str) -> None:
    """The option --match, whose arguments `parse_matches` reads; `use` is its help."""
    parser.add_argument(
        "--match", action="append", default=[], metavar="FAKE=REAL[,REAL]", help=use
    )


def parse_matches(pairs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Generator -> its real sources, from arguments of --match.

    Raises:
        ValueError: an argument of another form.
    """
    matches = {}
    for pair in pairs:
        fake, _, reals = pair.partition("=")
        if not fake or not reals:
            raise ValueError(f"expected --match FAKE=REAL[,REAL] but got {pair!r}")
        matches[fake] = tuple(reals.split(","))
    return matches


def matched_rows(
    generator: np.ndarray, target: np.ndarray, matches: Mapping[str, Sequence[str]]
) -> dict[str, np.ndarray]:
    """Rows to judge each generator by, which are its fakes and the reals of its kind.

    Args:
        generator: str N, the generator of a fake, the source of a real.
        target: int N, 1 fake, 0 real; others take no part.
        matches: generator -> its real sources. These are kept for it: other generators are
            compared with the remaining reals.

    Returns:
        generator -> int rows, ascending; generators sorted by name. There may be no real.
    """
    generator = np.asarray(generator).astype(str)
    kept = [source for sources in matches.values() for source in sources]
    rows = {}
    for name in np.unique(generator[target == 1]).tolist():
        fits = np.isin(generator, matches[name]) if name in matches else ~np.isin(generator, kept)
        rows[name] = np.flatnonzero((fits & (target == 0)) | ((generator == name) & (target == 1)))
    return rows


def comparisons(
    generator: np.ndarray, target: np.ndarray, matches: Mapping[str, Sequence[str]] = KINDS
) -> dict[str, np.ndarray]:
    """`matched_rows` of the generators that have reals of their kind."""
    rows = matched_rows(generator, target, matches)
    return {name: chosen for name, chosen in rows.items() if (target[chosen] == 0).any()}


def spread(faces: pd.DataFrame, rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows for each generator and real source, evenly spread, ascending."""
    names = faces["generator"].to_numpy()[rows]
    return np.sort(np.concatenate([evenly(rows[names == n], most) for n in np.unique(names)]))
