"""Faces with a part from their re-generated twin."""

from __future__ import annotations

import numpy as np
import pytest

from ffdetect.fakes.masks import REGIONS, region_mask
from ffdetect.fakes.regions import replace_region

from .conftest import LANDMARKS, SIZE

REAL = np.full((SIZE, SIZE, 3), 40, np.uint8)
TWIN = np.full((SIZE, SIZE, 3), 200, np.uint8)


def test_a_part_comes_from_the_twin_and_the_rest_stays(portrait):
    crop, landmarks = portrait
    twin = 255 - crop
    for seed in range(20):
        fake = replace_region(crop, twin, landmarks, np.random.default_rng(seed))
        assert fake.dtype == np.uint8 and fake.shape == crop.shape
        kept = (fake == crop).all(2).mean()
        assert 0.02 < kept < 0.995
        low, high = np.minimum(crop, twin), np.maximum(crop, twin)
        assert (low <= fake).all() and (fake <= high).all()
        assert np.abs(fake.astype(int) - twin).max(2).min() <= 8  # somewhere it is the twin


def test_every_region_is_drawn_as_often_as_said(monkeypatch):
    drawn = []

    def spy(shape, landmarks, rng, region):
        drawn.append(region)
        return region_mask(shape, landmarks, rng, region)

    monkeypatch.setattr("ffdetect.fakes.regions.region_mask", spy)
    for seed in range(150):
        replace_region(REAL, TWIN, LANDMARKS, np.random.default_rng(seed))
    shares = {region: drawn.count(region) / 150 for region in REGIONS}
    assert shares == pytest.approx(REGIONS, abs=0.1)


def test_the_random_state_decides_everything():
    fakes = [replace_region(REAL, TWIN, LANDMARKS, np.random.default_rng(s)) for s in (3, 3, 4)]
    assert np.array_equal(fakes[0], fakes[1]) and not np.array_equal(fakes[0], fakes[2])
    assert (REAL == 40).all() and (TWIN == 200).all()


def test_a_twin_of_another_shape_is_refused():
    with pytest.raises(
        ValueError, match=r"expected a regenerated version of shape \(200.* but got \(100"
    ):
        replace_region(REAL, TWIN[:100], LANDMARKS, np.random.default_rng(0))
