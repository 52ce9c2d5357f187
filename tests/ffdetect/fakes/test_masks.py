"""Masks over faces and their parts: soft, irregular, where the landmarks say."""

from __future__ import annotations

import numpy as np
import pytest

from ffdetect.fakes import masks
from ffdetect.fakes.masks import face_mask, region_mask

from .conftest import LANDMARKS, SIZE

MOUTH = (slice(122, 136), slice(92, 108))  # in every region that is ever replaced


def test_a_mask_lies_between_none_and_all_and_off_the_corners():
    covered = []
    for seed in range(40):
        mask = face_mask((SIZE, SIZE), LANDMARKS, np.random.default_rng(seed))
        assert mask.shape == (SIZE, SIZE) and mask.dtype == np.float64
        assert mask.min() == 0 and 0.3 < mask.max() <= 1
        for corner in (mask[:20, :20], mask[:20, -20:], mask[-20:, :20], mask[-20:, -20:]):
            assert (corner == 0).all()
        assert 0.01 < mask.mean() < 0.5
        covered.append(mask[MOUTH].mean())
    assert np.median(covered) > 0.9


def test_a_mask_of_the_full_face_covers_eyes_nose_and_mouth(monkeypatch):
    monkeypatch.setattr(masks, "REGION_SHARES", (1, 0, 0, 0))
    for seed in range(20):
        mask = face_mask((SIZE, SIZE), LANDMARKS, np.random.default_rng(seed))
        x, y = LANDMARKS[2].round().astype(int)
        assert mask[y, x] > 0.95
        assert all(mask[int(y), int(x)] > 0.4 for x, y in LANDMARKS)


def test_a_mask_of_the_mouth_leaves_the_eyes(monkeypatch):
    monkeypatch.setattr(masks, "REGION_SHARES", (0, 0, 0, 1))
    for seed in range(20):
        mask = face_mask((SIZE, SIZE), LANDMARKS, np.random.default_rng(seed))
        assert mask[MOUTH].mean() > 0.4
        assert all(mask[int(y), int(x)] < 0.05 for x, y in LANDMARKS[:2])


def test_the_mask_follows_the_landmarks():
    """A face turned by a quarter gets a mask turned by a quarter."""
    centred = LANDMARKS - SIZE / 2
    turned = np.stack([-centred[:, 1], centred[:, 0]], 1) + SIZE / 2
    upright, lying = (
        np.mean([face_mask((SIZE, SIZE), points, np.random.default_rng(s)) for s in range(30)], 0)
        for points in (LANDMARKS, turned)
    )
    expected = np.rot90(upright, -1)
    assert np.abs(lying - expected).mean() < 0.03 < np.abs(lying - upright).mean()


def regions(region: str, landmarks: np.ndarray = LANDMARKS) -> np.ndarray:
    """20 masks of a region."""
    return np.stack(
        [region_mask((SIZE, SIZE), landmarks, np.random.default_rng(s), region) for s in range(20)]
    )


@pytest.mark.parametrize("region", masks.REGIONS)
def test_a_region_is_soft_and_neither_none_nor_all(region):
    drawn = regions(region)
    assert drawn.shape == (20, SIZE, SIZE) and drawn.dtype == np.float64
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert (drawn.max((1, 2)) > 0.3).all() and (drawn.min((1, 2)) < 0.001).all()
    assert ((drawn > 0.05) & (drawn < 0.95)).any((1, 2)).all()
    assert len(np.unique(drawn.mean((1, 2)))) == 20


def test_regions_cover_what_their_names_say():
    eyes, nose, mouth = LANDMARKS[:2], LANDMARKS[2], LANDMARKS[3:].mean(0)

    def at(drawn: np.ndarray, point: np.ndarray) -> np.ndarray:
        x, y = point.astype(int)
        return drawn[:, y, x]

    assert at(regions("mouth"), mouth).min() > 0.9 and at(regions("mouth"), eyes[0]).max() < 0.01
    drawn = regions("eyes")
    left, right = (at(drawn, eye) for eye in eyes)
    assert (np.maximum(left, right) > 0.9).all() and at(drawn, mouth).max() < 0.01
    assert (np.minimum(left, right) < 0.1).any() and (np.minimum(left, right) > 0.9).any()
    assert all(at(regions("face"), point).min() > 0.7 for point in (*eyes, nose, mouth))
    background = regions("background")
    assert all(at(background, point).max() < 0.3 for point in (*eyes, nose, mouth))
    assert min(background[:, :10].min(), background[:, -10:].min()) > 0.99
    places = [np.argwhere(blob > 0.5).mean(0) for blob in regions("blob")]
    assert np.std(places, axis=0).min() > 15


def test_an_unknown_region_is_refused():
    with pytest.raises(ValueError, match=r"expected a region among .*mouth.* but got 'ear'"):
        region_mask((SIZE, SIZE), LANDMARKS, np.random.default_rng(0), "ear")


@pytest.mark.parametrize("bad", [LANDMARKS[:4], LANDMARKS * np.nan, LANDMARKS * 0 + 50])
def test_landmarks_that_are_none_are_refused(bad):
    for make in (face_mask, lambda *given: region_mask(*given, "mouth")):
        with pytest.raises(ValueError, match="expected five distinct landmarks"):
            make((SIZE, SIZE), bad, np.random.default_rng(0))
