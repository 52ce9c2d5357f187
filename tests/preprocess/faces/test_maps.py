"""Spectrum and residuals against implementations that share nothing with ours but the formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, signal

from preprocess.faces import crop_maps
from preprocess.faces.crop_maps import SPECTRUM_SHAPE
from preprocess.faces.maps import RESIDUALS, luminance, residual, spectrum

# float16 keeps 11 bits and values stay below 16, so storing moves a value by at most 1/256.
SPECTRUM_TOLERANCE = 1 / 256
FLOAT_NOISE = 1e-4  # what float32 sums in another order may add to a tolerance


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def crops(astronaut) -> torch.Tensor:
    """Two views of a photograph and one of noise: uint8 3 x 3 x 160 x 192."""
    views = [astronaut[60:220, 150:342], astronaut[300:460, 20:212], noise(160, 192, 3)]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).contiguous()


def wave(amplitude: float, period_x: float = 0, period_y: float = 0) -> torch.Tensor:
    """A grey crop with one sine wave around 128: uint8 1 x 3 x 256 x 256."""
    y, x = np.mgrid[:256, :256]
    cycles = (x / period_x if period_x else 0) + (y / period_y if period_y else 0)
    values = np.round(128 + amplitude * np.cos(2 * np.pi * cycles)).astype(np.uint8)
    return torch.from_numpy(values).expand(1, 3, 256, 256)


# Spectrum


def numpy_spectrum(crop: np.ndarray) -> np.ndarray:
    """float64 128 x 65 of a uint8 3 x H x W crop."""
    grey = np.tensordot([0.299, 0.587, 0.114], crop.astype(np.float64), 1)
    hann = signal.windows.hann(128, sym=False)
    powers = []
    for top in range(0, grey.shape[0] - 127, 32):
        for left in range(0, grey.shape[1] - 127, 32):
            tile = grey[top : top + 128, left : left + 128]
            tile = (tile - tile.mean()) * np.outer(hann, hann)
            powers.append(np.abs(np.fft.fftshift(np.fft.fft2(tile), axes=0)[:, :65]) ** 2)
    return np.log(1 + np.sqrt(np.mean(powers, axis=0)))


def test_spectrum_agrees_with_numpy(crops):
    computed = spectrum(crops)
    assert computed.dtype == torch.float16
    assert computed.shape == (3, *SPECTRUM_SHAPE) == (3, 128, 65)
    for crop, ours in zip(crops.numpy(), computed.numpy(), strict=True):
        difference = np.abs(ours.astype(np.float64) - numpy_spectrum(crop)).max()
        assert difference <= SPECTRUM_TOLERANCE + FLOAT_NOISE


@pytest.mark.parametrize("size", [(128, 128), (129, 160), (256, 256), (300, 513)])
def test_spectrum_has_one_shape_for_crops_of_any_size(size):
    crop = torch.from_numpy(noise(1, 3, *size))
    computed = spectrum(crop)
    assert computed.shape == (1, 128, 65)
    assert np.abs(computed[0].numpy() - numpy_spectrum(crop[0].numpy())).max() < 0.01


@pytest.mark.parametrize(
    ("periods", "row", "column"),
    [
        ({"period_x": 2}, 64, 64),
        ({"period_x": 4}, 64, 32),
        ({"period_y": 8}, 64 - 16, 0),
        ({"period_y": 2}, 0, 0),
        ({"period_x": 2, "period_y": 2}, 0, 64),  # a checkerboard, as up-sampling leaves it
        ({"period_x": 8, "period_y": 4}, 64 + 32, 16),
        ({"period_x": 8, "period_y": -4}, 64 - 32, 16),
    ],
)
def test_periodic_patterns_peak_at_their_frequency(periods, row, column):
    values = spectrum(wave(100, **periods))[0].float()
    peak = divmod(int(values.argmax()), 65)
    # A vertical wave alone stands in both halves of the first column.
    assert peak in {(row, column), ((128 - row) % 128, column) if column == 0 else None}
    assert values[row, column] == values.max()
    away = values.clone()
    for y in (row, (128 - row) % 128):
        away[max(y - 3, 0) : y + 4, max(column - 3, 0) : column + 4] = 0
    if row == 0:
        away[-3:] = 0
    # What rounding to whole pixels adds is below a hundredth of the magnitude.
    assert away.max() < values.max() - np.log(100)


def test_spectrum_measures_the_amplitude():
    """A wave of amplitude a has magnitude a / 2 times the window's sum, (128 / 2) squared."""
    peak = float(spectrum(wave(100, period_x=4)).max())
    assert peak == pytest.approx(np.log(1 + 50 * 64 * 64), abs=0.01)
    loudest = torch.from_numpy(np.indices((128, 128)).sum(0) % 2 * 255).byte()
    assert spectrum(loudest.expand(1, 3, 128, 128)).max() < 16


def test_spectrum_of_a_flat_crop_is_zero():
    assert not spectrum(torch.full((2, 3, 200, 200), 77, dtype=torch.uint8)).any()


def test_brightness_and_border_do_not_show_in_the_spectrum():
    ramp = torch.arange(256).byte().expand(1, 3, 256, 256)  # its two ends do not meet
    values = spectrum(ramp)[0].float()
    assert values[64, 0] < values[64, 1]
    assert values[64, 20:].max() < values.max() - 6


# Residuals


def numpy_median(crop: np.ndarray) -> np.ndarray:
    channels = [c - ndimage.median_filter(c, size=3, mode="nearest") for c in crop.astype(int)]
    return np.stack(channels)


def numpy_npr(crop: np.ndarray) -> np.ndarray:
    out = np.zeros(crop.shape, int)
    for channel in range(3):
        for y in range(crop.shape[1]):
            for x in range(crop.shape[2]):
                first = crop[channel, y - y % 2, x - x % 2]
                out[channel, y, x] = int(crop[channel, y, x]) - int(first)
    return out


def numpy_srm(crop: np.ndarray) -> np.ndarray:
    grey = np.tensordot([0.299, 0.587, 0.114], crop.astype(np.float64), 1)
    line = np.array([[1, -2, 1]]) / 2
    square3 = np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]]) / 4
    side, corner = [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]
    square5 = np.array([corner, side, [-2, 8, -12, 8, -2], side, corner]) / 12
    kernels = (line, square3, square5)
    return np.stack([ndimage.correlate(grey, kernel, mode="nearest") for kernel in kernels])


@pytest.mark.parametrize(("kind", "reference"), [("median", numpy_median), ("npr", numpy_npr)])
@pytest.mark.parametrize("size", [(128, 128), (131, 150)])
def test_whole_number_residuals_agree_exactly(astronaut, kind, reference, size):
    photograph = astronaut[60 : 60 + size[0], 150 : 150 + size[1]].transpose(2, 0, 1)
    for crop in (photograph, noise(3, *size)):
        expected = reference(crop).clip(-127, 127)
        computed = residual(torch.from_numpy(crop.copy())[None], kind)
        assert computed.dtype == torch.int8
        np.testing.assert_array_equal(computed[0].numpy(), expected)


def test_srm_residual_agrees_with_scipy(crops):
    for crop in crops:
        expected = numpy_srm(crop.numpy()).clip(-127, 127)
        computed = residual(crop[None], "srm")
        assert computed.dtype == torch.int8
        # Rounded to whole numbers, ties either way.
        assert np.abs(computed[0].numpy() - expected).max() <= 0.5 + FLOAT_NOISE


def test_detail_residual_agrees_with_scipy(crops):
    for crop in crops:
        pixels = crop.numpy().astype(np.float64)
        expected = pixels - ndimage.uniform_filter(pixels, (0, 5, 5), mode="mirror")
        computed = residual(crop[None], "detail")
        assert computed.dtype == torch.int8
        difference = computed[0].numpy() - expected.clip(-127, 127)
        assert np.abs(difference).max() <= 0.5 + FLOAT_NOISE


def test_the_names_are_those_tested_here():
    assert sorted(RESIDUALS) == sorted(crop_maps.RESIDUALS) == ["detail", "median", "npr", "srm"]


@pytest.mark.parametrize("kind", sorted(RESIDUALS))
def test_residual_of_a_flat_crop_is_zero(kind):
    flat = torch.full((1, 3, 130, 130), 201, dtype=torch.uint8)
    assert not residual(flat, kind).any()


@pytest.mark.parametrize("kind", ["median", "npr"])
def test_residuals_are_clipped_to_127(kind):
    crop = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    crop[..., 3, 3] = 255
    assert residual(crop, kind)[0, :, 3, 3].tolist() == [127] * 3
    assert residual(255 - crop, kind)[0, :, 3, 3].tolist() == [-127] * 3


# Batches


def assert_same_residuals(one: torch.Tensor, other: torch.Tensor, kind: str) -> None:
    """Equal; "srm" has values on the border between two grey levels, which float32 misses."""
    torch.testing.assert_close(one, other, rtol=0, atol=1 if kind == "srm" else 0)


@pytest.mark.parametrize("kind", sorted(RESIDUALS))
def test_a_batch_gives_what_its_crops_give_alone(crops, kind):
    alone = torch.cat([residual(crop[None], kind) for crop in crops])
    assert_same_residuals(residual(crops, kind), alone, kind)
    assert residual(crops[:0], kind).shape == crops[:0].shape


def test_a_batch_of_spectra_gives_what_its_crops_give_alone(crops):
    alone = torch.cat([spectrum(crop[None]) for crop in crops])
    # One step of float16, where a value lies on the border between two.
    torch.testing.assert_close(spectrum(crops), alone, rtol=0, atol=2 * SPECTRUM_TOLERANCE)


def test_memory_layout_does_not_matter_and_crops_stay_as_they_are(crops):
    before = crops.clone()
    channels_last = crops.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    torch.testing.assert_close(spectrum(channels_last), spectrum(crops), rtol=0, atol=0.01)
    for kind in RESIDUALS:
        assert_same_residuals(residual(channels_last, kind), residual(crops, kind), kind)
    assert torch.equal(crops, before)


def test_luminance_of_the_primaries():
    primaries = 255 * torch.eye(3, dtype=torch.uint8).view(3, 3, 1, 1)
    expected = torch.tensor([76.245, 149.685, 29.07]).view(3, 1, 1)
    torch.testing.assert_close(luminance(primaries), expected)


# Errors


@pytest.mark.parametrize(
    "crops",
    [
        torch.zeros(1, 3, 128, 128),
        torch.zeros(1, 3, 128, 128, dtype=torch.int8),
        torch.zeros(3, 128, 128, dtype=torch.uint8),
        torch.zeros(1, 1, 128, 128, dtype=torch.uint8),
        torch.zeros(1, 128, 128, 3, dtype=torch.uint8),
    ],
    ids=lambda crops: f"{crops.dtype}-{tuple(crops.shape)}",
)
def test_other_dtypes_and_shapes_are_refused(crops):
    for compute in (spectrum, lambda crops: residual(crops, "npr")):
        with pytest.raises(ValueError, match=r"expected uint8 crops N x 3 x H x W but got torch\."):
            compute(crops)


@pytest.mark.parametrize("size", [(127, 256), (256, 127)])
def test_spectrum_refuses_crops_smaller_than_a_tile(size):
    with pytest.raises(ValueError, match="expected crops of at least 128 px but got"):
        spectrum(torch.zeros(1, 3, *size, dtype=torch.uint8))


def test_unknown_residuals_are_refused():
    with pytest.raises(
        ValueError, match=r"expected a residual among \['detail', 'median', 'npr', 'srm'\]"
    ):
        residual(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "laplace")


# Of one crop, for the cache


@pytest.mark.parametrize("size", [(128, 128), (129, 160), (256, 256), (300, 513)])
def test_a_crop_has_the_spectrum_that_the_network_computes(size):
    crop = noise(*size, 3) // 2 + np.arange(size[1], dtype=np.uint8)[:, None] // 2
    computed = crop_maps.spectrum(crop)
    expected = spectrum(torch.from_numpy(crop).permute(2, 0, 1)[None])[0].numpy()
    assert computed.dtype == np.float16 and computed.shape == SPECTRUM_SHAPE
    difference = np.abs(computed.astype(np.float64) - expected).max()
    assert difference <= 2 * SPECTRUM_TOLERANCE + FLOAT_NOISE


@pytest.mark.parametrize("kind", RESIDUALS)
def test_a_crop_has_the_residuals_that_the_network_computes(crops, kind):
    views = crops[:, :, :159, :191]  # blocks without a pair at the end
    for crop, expected in zip(views, residual(views, kind), strict=True):
        computed = crop_maps.residual(crop.permute(1, 2, 0).contiguous().numpy(), kind)
        assert computed.dtype == np.int8 and computed.shape == tuple(expected.shape)
        difference = np.abs(computed.astype(int) - expected.numpy().astype(int))
        assert difference.max() <= (kind == "srm")  # values halfway between two
        assert (difference > 0).mean() < 0.05
