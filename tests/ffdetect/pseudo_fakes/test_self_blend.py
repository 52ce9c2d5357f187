"""Self-blended faces: changed inside of the face or outside of it, repeatable."""

from __future__ import annotations

import numpy as np
import pytest

from ffdetect import pseudo_fakes
from ffdetect.pseudo_fakes import face_mask, self_blend
from preprocess.faces import TEMPLATE, FaceDetector

SIZE = 200
LANDMARKS = TEMPLATE * 120 + 40  # a face of 120 px in the middle
MOUTH = (slice(122, 136), slice(92, 108))  # in every region that is ever replaced


@pytest.fixture(scope="module")
def portrait(astronaut):
    """A crop and its landmarks as MTCNN finds them."""
    pixels = astronaut[0:256, 100:356]
    return pixels, FaceDetector().detect(np.ascontiguousarray(pixels))[0].landmarks


def random_picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 190, (SIZE, SIZE, 3), np.uint8)


def difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.abs(after.astype(float) - before.astype(float)).mean(2)


def test_either_the_face_or_its_surroundings_change(portrait):
    crop, landmarks = portrait
    x, y = landmarks[3:].mean(0).round().astype(int)
    inner = outer = 0
    for seed in range(40):
        fake = self_blend(crop, landmarks, np.random.default_rng(seed))
        assert fake.shape == crop.shape and fake.dtype == np.uint8
        change = difference(crop, fake)
        border = np.concatenate([change[:4].ravel(), change[-4:].ravel(), change[:, :4].ravel()])
        assert change.max() > 0
        if border.max() == 0:
            inner += 1
            assert change[y - 6 : y + 6, x - 6 : x + 6].mean() > 1
        else:
            outer += 1
            assert border.mean() > 1
    assert inner >= 10 and outer >= 10


def test_a_fake_stays_close_to_its_real_face(portrait):
    crop, landmarks = portrait
    changes = [difference(crop, self_blend(crop, landmarks, np.random.default_rng(seed))).mean()
               for seed in range(10)]  # fmt: skip
    assert max(changes) < 30


@pytest.mark.parametrize("with_twin", [False, True])
def test_the_random_state_decides_everything(with_twin):
    crop = random_picture()
    twin = random_picture(1) if with_twin else None
    fakes = [self_blend(crop, LANDMARKS, np.random.default_rng(s), twin) for s in (5, 5, 6)]
    assert np.array_equal(fakes[0], fakes[1])
    assert not np.array_equal(fakes[0], fakes[2])


def test_the_arguments_are_left_alone():
    crop, twin, landmarks = random_picture(), random_picture(1), LANDMARKS.copy()
    for seed in range(5):
        self_blend(crop, landmarks, np.random.default_rng(seed), twin)
    assert np.array_equal(crop, random_picture()) and np.array_equal(twin, random_picture(1))
    assert np.array_equal(landmarks, LANDMARKS)


def test_a_read_only_crop_will_do():
    crop = random_picture()
    crop.flags.writeable = False
    self_blend(crop, LANDMARKS, np.random.default_rng(0))


def test_a_twin_gives_the_inner_face_and_only_that():
    crop = np.full((SIZE, SIZE, 3), 40, np.uint8)
    twin = np.full((SIZE, SIZE, 3), 200, np.uint8)
    taken = []
    for seed in range(30):
        fake = self_blend(crop, LANDMARKS, np.random.default_rng(seed), twin)
        assert (fake[:10] == crop[:10]).all() and (fake[-10:] == crop[-10:]).all()
        taken.append(fake[MOUTH].mean())
    assert min(taken) > 80  # at least half of the way from 40 to 200
    assert np.median(taken) > 150


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
    monkeypatch.setattr(masks, "_REGION_SHARES", (1, 0, 0, 0))
    for seed in range(20):
        mask = face_mask((SIZE, SIZE), LANDMARKS, np.random.default_rng(seed))
        x, y = LANDMARKS[2].round().astype(int)
        assert mask[y, x] > 0.95
        assert all(mask[int(y), int(x)] > 0.4 for x, y in LANDMARKS)


def test_a_mask_of_the_mouth_leaves_the_eyes(monkeypatch):
    monkeypatch.setattr(masks, "_REGION_SHARES", (0, 0, 0, 1))
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
