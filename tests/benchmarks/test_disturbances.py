"""Each disturbance does what its name says, measured in another way than it is done."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.ndimage import center_of_mass, gaussian_filter

from benchmarks.disturbances import DISTURBANCES, UNDISTURBED

from ..ffdetect.helpers import random_crops

KINDS = {kind.name: kind for kind in DISTURBANCES}
SIZE = 256
STRENGTHS = [(k.name, s) for k in DISTURBANCES for s in k.strengths if s is not None]


@pytest.fixture(scope="module")
def crop() -> np.ndarray:
    """uint8 256 x 256 x 3, read-only as a cache's crops are."""
    pixels = random_crops(1, SIZE)[0].permute(1, 2, 0).numpy().copy()
    pixels.flags.writeable = False
    return pixels


def spectrum(pixels: np.ndarray) -> np.ndarray:
    """Magnitude by radius in cycles per pixel, 0 to 1/2, in 32 steps."""
    grey = pixels.mean(2) - pixels.mean()
    magnitude = np.abs(np.fft.fft2(grey * np.outer(np.hanning(SIZE), np.hanning(SIZE))))
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE)))
    bins = (radius * 64).astype(int)
    return np.array([magnitude[bins == i].mean() for i in range(32)])


def blob(x: float, y: float) -> np.ndarray:
    """A bright round spot on black."""
    columns, rows = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    spot = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 5**2))
    return np.repeat(spot.astype(np.uint8)[..., None], 3, 2)


def centre(pixels: np.ndarray) -> np.ndarray:
    return np.array(center_of_mass(pixels[..., 0].astype(float)))[::-1]


@pytest.mark.parametrize(("name", "strength"), STRENGTHS)
def test_every_strength_changes_the_crop_and_can_be_repeated(crop, name, strength):
    before = crop.copy()
    disturbed = KINDS[name].apply(crop, strength, 3)
    assert disturbed.shape == crop.shape and disturbed.dtype == np.uint8
    assert not np.array_equal(disturbed, crop) and np.array_equal(crop, before)
    assert np.array_equal(disturbed, KINDS[name].apply(crop, strength, 3))


@pytest.mark.parametrize("kind", DISTURBANCES, ids=lambda kind: kind.name)
def test_a_strength_farther_from_none_changes_more(crop, kind):
    place = kind.strengths.index(None)
    for side in (kind.strengths[:place][::-1], kind.strengths[place + 1 :]):
        moved = [np.abs(kind.apply(crop, s, 3).astype(int) - crop).mean() for s in side]
        assert moved == sorted(moved)


def test_labels_are_unique_and_name_the_strength():
    labels = [KINDS[name].label(strength) for name, strength in STRENGTHS]
    assert len(set(labels)) == len(labels)
    assert KINDS["blur"].label(1.5) == "blur 1.5" and KINDS["blur"].label(None) == UNDISTURBED


@pytest.mark.parametrize(
    ("name", "suffix", "flag"),
    [
        ("JPEG", ".jpg", cv2.IMWRITE_JPEG_QUALITY),
        ("WebP", ".webp", cv2.IMWRITE_WEBP_QUALITY),
    ],
)
def test_compression_has_the_quality_that_another_encoder_gives(crop, name, suffix, flag):
    def coded(quality: int) -> np.ndarray:
        data = cv2.imencode(suffix, crop[..., ::-1], [flag, quality])[1]
        return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(int)

    qualities = [s for s in KINDS[name].strengths if s is not None]
    others = {quality: coded(quality) for quality in qualities}
    for quality in qualities:
        ours = KINDS[name].apply(crop, quality, 0)
        gaps = {q: np.abs(ours - other).mean() for q, other in others.items()}
        assert min(gaps, key=gaps.get) == quality
        assert gaps[quality] < 0.5


def test_blur_is_gaussian(crop):
    for sigma in (0.5, 1, 1.5, 2.5):
        expected = gaussian_filter(crop.astype(float), (sigma, sigma, 0), mode="mirror")
        gap = np.abs(KINDS["blur"].apply(crop, sigma, 0) - expected)
        assert gap.mean() < 0.6 and gap.max() < 4


@pytest.mark.parametrize(
    ("name", "strength", "kept"),
    [
        ("resized and back", 0.5, 0.25),
        ("resized and back", 0.75, 0.375),
        ("small face", 128, 0.25),
        ("small face", 96, 0.1875),
        ("small face", 64, 0.125),
    ],
)
def test_shrinking_loses_what_is_finer_than_the_smaller_picture(crop, name, strength, kept):
    share = spectrum(KINDS[name].apply(crop, strength, 0)) / spectrum(crop)
    edge = int(kept * 64)
    assert share[1 : edge // 2].min() > 0.6
    assert share[edge + 4 :].max() < 0.5


@pytest.mark.parametrize("factor", [1.5, 2])
def test_enlarging_and_back_keeps_all_but_the_finest(crop, factor):
    share = spectrum(KINDS["resized and back"].apply(crop, factor, 0)) / spectrum(crop)
    assert share[1:16].min() > 0.85 and share[16:].min() > 0.3


@pytest.mark.parametrize("name", ["resized and back", "small face", "blur"])
def test_changes_of_size_and_sharpness_move_nothing(name):
    for strength in KINDS[name].strengths:
        if strength is not None:
            moved = KINDS[name].apply(blob(50, 70), strength, 0)
            assert centre(moved) == pytest.approx([50, 70], abs=0.1)


def test_noise_has_its_deviation_and_is_another_for_each_row():
    grey = np.full((SIZE, SIZE, 3), 128, np.uint8)
    draws = {s: KINDS["noise"].apply(grey, s, 0) - 128.0 for s in (2, 5, 10, 20)}
    for sigma, noise in draws.items():
        assert noise.std() == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.02)
        assert noise.mean() == pytest.approx(0, abs=sigma / 50)
    other = KINDS["noise"].apply(grey, 20, 1) - 128.0
    correlation = lambda a, b: np.corrcoef(a.ravel(), b.ravel())[0, 1]  # noqa: E731
    assert abs(correlation(draws[20], other)) < 0.02
    assert correlation(draws[20], draws[10]) > 0.98
    dark = KINDS["noise"].apply(grey - 128, 20, 0)
    assert dark.min() == 0 and dark.max() < 128  # no value wraps around


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.25, 1.5])
def test_brightness_scales_and_contrast_stretches_around_the_mean(crop, factor):
    brighter = (crop * factor).clip(0, 255)
    np.testing.assert_allclose(KINDS["brightness"].apply(crop, factor, 0), brighter, atol=1)
    grey = crop @ [0.299, 0.587, 0.114]
    stretched = (grey.mean() + factor * (crop - grey.mean())).clip(0, 255)
    np.testing.assert_allclose(KINDS["contrast"].apply(crop, factor, 0), stretched, atol=1.5)


def test_a_shift_moves_the_content_by_its_share_and_resamples_nothing(crop):
    directions = []
    for row in range(6):
        for percent in (5, 10):
            moved = KINDS["crop shifted"].apply(crop, percent, row)
            x, y = np.round(centre(KINDS["crop shifted"].apply(blob(128, 128), percent, row)) - 128)
            assert np.hypot(x, y) == pytest.approx(percent / 100 * SIZE, abs=0.8)
            x, y = int(x), int(y)
            inside = np.s_[max(y, 0) : SIZE + min(y, 0), max(x, 0) : SIZE + min(x, 0)]
            back = np.s_[max(-y, 0) : SIZE + min(-y, 0), max(-x, 0) : SIZE + min(-x, 0)]
            assert np.array_equal(moved[inside], crop[back])
            directions.append(np.arctan2(y, x))
    assert np.ptp(directions) > 3  # all around
    np.testing.assert_allclose(directions[::2], directions[1::2], atol=0.25)


@pytest.mark.parametrize("percent", [-20, -10, 10, 20])
def test_a_larger_square_makes_the_face_smaller_around_its_centre(percent):
    moved = centre(KINDS["crop scaled"].apply(blob(44, 74), percent, 0))
    grown = 2 * round(SIZE * percent / 200) / SIZE + 1
    assert moved - 127.5 == pytest.approx((np.array([44, 74]) - 127.5) / grown, abs=0.25)


@pytest.mark.parametrize(("name", "strength"), [("crop shifted", 10), ("crop scaled", 20)])
def test_what_lies_outside_continues_the_edge(name, strength):
    bright = np.full((SIZE, SIZE, 3), 200, np.uint8)
    assert np.ptp(KINDS[name].apply(bright, strength, 0).astype(int)) <= 1
