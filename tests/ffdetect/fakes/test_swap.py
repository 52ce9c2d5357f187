"""Pasted faces: where they land, what colours they get, what stays of the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ffdetect.fakes.swap import match_colours, match_histograms, swap, warp_face
from preprocess.faces.detect import FaceDetector

from .conftest import LANDMARKS, SIZE


@pytest.fixture(scope="module")
def donor(astronaut):
    """The same person as in `portrait`, but mirrored, wider, blue, and of another size."""
    pixels = cv2.resize(np.ascontiguousarray(astronaut[0:256, 356:100:-1]), (300, 280))
    pixels = (pixels * [0.6, 0.7, 1.0]).astype(np.uint8)
    return pixels, FaceDetector().detect(pixels)[0].landmarks


def pasted(portrait, donor, seed: int) -> np.ndarray:
    return swap(*portrait, *donor, np.random.default_rng(seed))


def test_the_face_changes_and_its_surroundings_do_not(portrait, donor):
    crop, landmarks = portrait
    x, y = landmarks[3:].mean(0).astype(int)
    for seed in range(25):  # soft and Poisson blending, all regions
        fake = pasted(portrait, donor, seed)
        assert fake.shape == crop.shape and fake.dtype == np.uint8
        change = np.abs(fake.astype(int) - crop).max(2)
        assert change[y - 6 : y + 6, x - 6 : x + 6].mean() > 2
        side = 3.2 * np.ptp(landmarks[:, 0])  # wider than a face with its blurred edge
        rows, columns = np.indices(change.shape)
        middle = landmarks.mean(0)
        outside = np.hypot(columns - middle[0], rows - middle[1]) > 0.6 * side
        assert outside.mean() > 0.2 and change[outside].max() == 0


def test_outside_of_the_mask_nothing_changes(portrait, donor, monkeypatch):
    mask = np.zeros(portrait[0].shape[:2])
    x, y = portrait[1].mean(0).astype(int)
    mask[y - 20 : y + 20, x - 20 : x + 20] = 1
    monkeypatch.setattr("ffdetect.fakes.swap.face_mask", lambda *_: mask.copy())
    for seed in range(12):
        fake = pasted(portrait, donor, seed)
        assert (fake[mask == 0] == portrait[0][mask == 0]).all()
        assert (fake[mask == 1] != portrait[0][mask == 1]).mean() > 0.5


def test_the_random_state_decides_everything(portrait, donor):
    before = [portrait[0].copy(), donor[0].copy(), donor[1].copy()]
    fakes = [pasted(portrait, donor, seed) for seed in (5, 5, 6)]
    assert np.array_equal(fakes[0], fakes[1]) and not np.array_equal(fakes[0], fakes[2])
    after = [portrait[0], donor[0], donor[1]]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_landmarks_of_a_pasted_face_land_on_those_of_the_target(portrait, donor):
    """A bright dot on every landmark of the donor is found at the target's."""
    target = portrait[1].astype(float)
    for point, goal in zip(donor[1], target, strict=True):
        dots = np.zeros_like(donor[0])
        y, x = np.indices(dots.shape[:2]) + 0.5
        dots[np.hypot(x - point[0], y - point[1]) < 4] = 255
        warped = warp_face(dots, donor[1], target, (256, 256))[..., 0].astype(float)
        y, x = np.indices(warped.shape) + 0.5
        found = np.array([(x * warped).sum(), (y * warped).sum()]) / warped.sum()
        assert np.linalg.norm(found - goal) < 0.7


def test_mtcnn_finds_a_pasted_face_where_the_target_was(portrait, donor):
    found = [FaceDetector().detect(pasted(portrait, donor, seed)) for seed in range(3)]
    for faces in found:
        assert len(faces) == 1
        assert np.abs(faces[0].landmarks - portrait[1]).max() < 8


def test_a_warp_onto_itself_changes_nothing(portrait):
    crop, landmarks = portrait
    warped = warp_face(crop, landmarks, landmarks, crop.shape[:2])
    assert np.abs(warped.astype(int) - crop).mean() < 0.5


def test_far_from_the_landmarks_a_warp_is_the_similarity_that_fits(portrait):
    """Where all landmarks move alike, the whole picture does."""
    crop, landmarks = portrait
    warped = warp_face(crop, landmarks, landmarks + [10, -6], crop.shape[:2])
    moved = np.abs(warped[20:200, 40:240].astype(int) - crop[26:206, 30:230])
    assert np.median(moved) <= 1


def test_colours_are_those_of_the_target_inside_of_the_mask(portrait, donor):
    """Checked in Lab as scikit-image computes it."""
    color = pytest.importorskip("skimage.color", reason="scikit-image checks the colours")
    mask = np.zeros((256, 256))
    mask[60:180, 80:180] = 1
    face = warp_face(*donor, portrait[1], (256, 256))
    matched = match_colours(face, portrait[0], mask)
    before, after, goal = (color.rgb2lab(x)[mask > 0] for x in (face, matched, portrait[0]))
    assert np.abs(after.mean(0) - goal.mean(0)).max() < 1.5 < np.abs((before - goal).mean(0)).max()
    assert after.std(0)[0] == pytest.approx(goal.std(0)[0], rel=0.1)
    half = color.rgb2lab(match_colours(face, portrait[0], mask, 0.5))[mask > 0].mean(0)
    assert half == pytest.approx((before.mean(0) + goal.mean(0)) / 2, abs=2)


def test_histograms_are_about_those_of_the_target_inside_of_the_mask(portrait, donor):
    mask = np.zeros((256, 256))
    mask[60:180, 80:180] = 1
    face = warp_face(*donor, portrait[1], (256, 256))
    matched = match_histograms(face, portrait[0], mask)
    levels = [0.2, 0.4, 0.6, 0.8]
    before, after, goal = (
        np.quantile(x[mask > 0], levels, axis=0) for x in (face, matched, portrait[0])
    )
    assert np.abs(after - goal).max() < 6 < np.abs(before - goal).max()


def test_a_pasted_face_has_no_more_detail_than_a_swap_network_draws(portrait):
    """A sharp checkerboard over a face of some 400 px does not survive."""
    landmarks = LANDMARKS * 3
    crop = np.full((3 * SIZE, 3 * SIZE, 3), 120, np.uint8)
    donor = crop.copy()
    donor[np.indices(crop.shape[:2]).sum(0) % 2 == 0] = 160
    for seed in range(5):
        fake = swap(crop, landmarks, donor, landmarks, np.random.default_rng(seed))
        x, y = landmarks[2].astype(int)
        assert fake[y - 20 : y + 20, x - 20 : x + 20].std() < 6


def test_the_mask_draws_in_where_background_would_meet_skin():
    """A donor whose left half is white: the seam beside the features stays the target's."""
    noise = np.random.default_rng(0).integers(-4, 5, (SIZE, SIZE, 3))
    crop = (np.array([150, 110, 90]) + noise).astype(np.uint8)
    donor = crop.copy()
    donor[:, :58] = 255  # beside the left eye, inside of the outline of a face
    left = []
    for seed in range(30):
        fake = swap(crop, LANDMARKS, donor, LANDMARKS, np.random.default_rng(seed))
        left.append(fake[80:120, 52:56].mean() - crop[80:120, 52:56].mean())
    assert np.max(left) < 25


@pytest.mark.parametrize("bad", [LANDMARKS[:4], LANDMARKS * np.nan, LANDMARKS * 0 + 50])
@pytest.mark.parametrize("whose", ["target", "donor"])
def test_landmarks_that_are_none_are_refused(bad, whose):
    picture, rng = np.zeros((SIZE, SIZE, 3), np.uint8), np.random.default_rng(0)
    places = (bad, LANDMARKS) if whose == "target" else (LANDMARKS, bad)
    with pytest.raises(ValueError, match="expected five distinct landmarks, 5 x 2, but got"):
        swap(picture, places[0], picture, places[1], rng)


@pytest.mark.parametrize("bad", [np.zeros((50, 50), np.uint8), np.zeros((50, 50, 3))])
def test_what_is_no_picture_is_refused(bad):
    good = np.zeros((SIZE, SIZE, 3), np.uint8)
    for crop, donor in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="expected uint8 H x W x 3 RGB but got"):
            swap(crop, LANDMARKS, donor, LANDMARKS, np.random.default_rng(0))


def test_faces_half_out_of_the_picture_and_profiles_will_do():
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    picture.flags.writeable = False
    profile = LANDMARKS.copy()
    profile[1] = profile[0] + [1, 0]
    profile[2] = profile[0]  # two landmarks in one place
    for seed, places in enumerate([LANDMARKS - 90, LANDMARKS + 95, LANDMARKS - 400, profile] * 6):
        fake = swap(picture, places, picture, LANDMARKS, np.random.default_rng(seed))
        assert fake.shape == picture.shape
