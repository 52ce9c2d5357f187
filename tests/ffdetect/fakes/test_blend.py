"""Self-blended faces: changed inside of the face or outside of it, repeatable."""

from __future__ import annotations

import numpy as np
import pytest

from ffdetect.fakes.blend import self_blend

from .conftest import LANDMARKS, SIZE

MOUTH = (slice(122, 136), slice(92, 108))  # in every region that is ever replaced


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
    changes = [
        difference(crop, self_blend(crop, landmarks, np.random.default_rng(seed))).mean()
        for seed in range(10)
    ]
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
