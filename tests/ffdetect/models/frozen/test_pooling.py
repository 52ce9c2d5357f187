"""What streams read of layers, against OpenCV and plain numpy."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from ffdetect.models.frozen.pooling import (
    area_resize,
    face_ellipse,
    middle,
    region_moments,
    region_shares,
    token_moments,
)

CPU = torch.device("cpu")


def area_sums(pixels: np.ndarray, side: int) -> tuple[np.ndarray, int]:
    """Sums over the areas of H x W x 3, counted in parts of pixels, and the parts of an area."""
    sums, area = pixels.astype(np.int64), 1
    for axis in (0, 1):
        length = sums.shape[axis]
        common = math.gcd(length, side)
        parts, each = side // common, length // common
        before = np.concatenate([np.zeros_like(sums.take([0], axis)), sums.cumsum(axis)], axis)
        whole, rest = np.divmod(np.arange(side + 1) * each, parts)
        last = sums.take(np.minimum(whole, length - 1), axis)
        upto = before.take(whole, axis) * parts + last * np.expand_dims(rest, (1 - axis, 2))
        sums, area = np.diff(upto, axis=axis), area * each
    return sums, area


@pytest.mark.parametrize("side", [512, 320, 301, 224, 96])
def test_areas_are_averaged_as_by_opencv(astronaut, side):
    pixels = torch.from_numpy(astronaut.copy()).permute(2, 0, 1)[None]
    by_opencv = cv2.resize(astronaut, (side, side), interpolation=cv2.INTER_AREA)
    got = area_resize(pixels, side)
    assert got.shape == (1, 3, side, side) and got.dtype == torch.float32
    shrunk = got[0].permute(1, 2, 0).numpy()
    sums, area = area_sums(astronaut, side)
    halves = 2 * sums % (2 * area) == area
    if area < 2**16:  # sums fit float32
        np.testing.assert_array_equal(shrunk, (2 * sums + area) // (2 * area))
        assert side == 512 or halves.any()
    else:
        halves = np.abs(2 * sums % (2 * area) - area) < 2**5
    np.testing.assert_array_equal(shrunk[~halves], by_opencv[~halves])
    assert np.abs(shrunk - by_opencv).max() <= 1  # OpenCV rounds halves either way


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_areas_are_exact_where_other_parts_compute_in_half_precision(precision):
    pixels = torch.full((1, 1, 388, 388), 255, dtype=torch.uint8)
    with torch.autocast("cpu", precision):
        assert (area_resize(pixels, 224) == 255).all()


def test_areas_of_oblong_pictures(astronaut):
    cut = np.ascontiguousarray(astronaut[:300, :400])
    expected = cv2.resize(cut, (224, 224), interpolation=cv2.INTER_AREA).astype(float)
    got = area_resize(torch.from_numpy(cut).permute(2, 0, 1)[None], 224)[0].permute(1, 2, 0)
    assert np.abs(got.numpy() - expected).max() <= 1


def test_the_middle_is_not_resampled(astronaut):
    pixels = torch.from_numpy(astronaut.copy()).permute(2, 0, 1)[None]
    got = middle(pixels[..., :480], 224)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(got, astronaut[144:368, 128:352])


def test_moments_of_tokens_place_by_place():
    x = np.random.default_rng(1).normal(1, 3, (2, 1 + 49, 5)).astype(np.float32)
    inside = [
        ((c + 0.5) / 7 - 0.5) ** 2 / 0.3**2 + ((r + 0.5) / 7 - 0.5) ** 2 / 0.4**2 < 1
        for r in range(7)
        for c in range(7)
    ]
    assert 0 < sum(inside) < 49
    mask = face_ellipse(7, 0.3, 0.4, CPU)
    assert mask.tolist() == inside
    parts = [x[:, 1:], x[:, 1:][:, inside], x[:, 1:][:, np.invert(inside)]]
    moments = [f for part in parts for f in (part.mean(1), part.std(1, ddof=1))]
    expected = np.stack([x[:, 0], *moments], 1)
    got = token_moments(torch.from_numpy(x), mask)
    assert got.shape == (2, 7, 5)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def region_of(row: int, column: int, side: int) -> int:
    """0 upper half of the face, 1 lower, 2 its edge, 3 around it."""
    y, x = ((place + 0.5) / side - 0.5 for place in (row, column))
    distance = math.hypot(x / 0.28, y / 0.355)
    if distance < 0.8:
        return int(y >= 0)
    return 2 if distance < 1.2 else 3


@pytest.mark.parametrize("side", [20, 40])
def test_moments_of_regions_place_by_place(side):
    x = np.random.default_rng(2).normal(1, 3, (2, 4, side, side)).astype(np.float32)
    x[:, 3] = 5  # flat: its deviation counts as .01
    region = np.array(
        [[region_of(row, column, side) for column in range(side)] for row in range(side)]
    )
    parts = [x[:, :, region == number] for number in range(4)]
    means = np.stack([part.mean(2) for part in parts], 1)
    spread = np.stack([np.sqrt(part.var(2) + 1e-6).clip(0.01) for part in parts], 1)
    expected = np.concatenate([means.reshape(2, -1), np.log(spread).reshape(2, -1)], 1)
    got = region_moments(torch.from_numpy(x))
    assert got.shape == (2, 32)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-3)


def test_moments_of_regions_are_exact_where_other_parts_compute_in_half_precision():
    x = torch.from_numpy(np.random.default_rng(3).normal(50, 1, (1, 4, 20, 20)).astype(np.float32))
    with torch.autocast("cpu", torch.bfloat16):
        got = region_moments(x)
    torch.testing.assert_close(got, region_moments(x), rtol=0, atol=0)


@pytest.mark.parametrize("number", range(4))
def test_a_line_on_a_region_divides_among_its_places(number):
    rng, side = np.random.default_rng(3), 20
    x = torch.from_numpy(rng.normal(1, 3, (2, 5, side, side)).astype(np.float32))
    own = torch.tensor(
        [[region_of(r, c, side) == number for c in range(side)] for r in range(side)]
    )
    row, column = own.nonzero()[7]
    x[0, 2, row, column] += 60  # a place that stands out has made the deviation
    seen = region_moments(x)
    slope = torch.zeros(2, 2, 4, 5)
    slope[:, :, number] = torch.from_numpy(rng.normal(size=(2, 2, 5)).astype(np.float32))
    slope[0, 1, number, 2] = 20
    slope, centre = slope.flatten(1), seen - 0.5
    shares = region_shares(x, slope, slope * centre)
    expected = (slope * (seen - centre)).sum(1)
    torch.testing.assert_close(shares.sum((1, 2)), expected, rtol=1e-3, atol=1e-3)
    assert shares[:, ~own].abs().max() == 0
    assert shares[0, row, column] > 0.8 * expected[0]


def test_what_is_the_same_everywhere_has_no_infinite_slope():
    tokens = torch.ones(1, 50, 3, requires_grad=True)
    token_moments(tokens, face_ellipse(7, 0.3, 0.4, CPU)).sum().backward()
    assert tokens.grad is not None and tokens.grad.isfinite().all()


def test_an_ellipse_is_upright_and_in_the_middle():
    mask = face_ellipse(14, 0.30, 0.38, CPU).view(14, 14)
    assert torch.equal(mask, mask.flip(0)) and torch.equal(mask, mask.flip(1))
    assert mask.any(1).sum() > mask.any(0).sum()  # higher than wide
