"""The benchmarks use the tiny network and the pictures of the detector's tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from benchmarks import baselines

from ..ffdetect.conftest import (
    faces_cache,
    faces_folder,
    generated,
    matched,
    tiny,
    tiny_weights,
)

__all__ = ["faces_cache", "faces_folder", "generated", "matched", "tiny", "tiny_weights"]


@pytest.fixture(scope="module")
def few_rounds() -> Iterator[None]:
    """Intervals from few samples, for tests of something else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "mean_aucs", partial(baselines.mean_aucs, rounds=25))
        patch.setattr(baselines, "ROUNDS", 25)
        yield
