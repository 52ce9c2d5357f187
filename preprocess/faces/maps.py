"""High-frequency residuals and the log-magnitude spectrum, as pure functions on batches of crops.

All take uint8 N x 3 x H x W RGB crops. The network calls them on augmented crops and on pictures
that it scores; the cache stores the same, which `crop_maps` computes for one crop without PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .crop_maps import SPECTRUM_HOP, SPECTRUM_TILE, SRM

# Weights files name the spectrum they were trained on; another one needs another name.
SPECTRUM_NAME = f"welch-hann{SPECTRUM_TILE}-hop{SPECTRUM_HOP}-log1p"


def spectrum(crops: torch.Tensor) -> torch.Tensor:
    """Log-magnitude spectrum of the luminance: float16, N x 128 x 65.

    Rows are vertical frequencies from -1/2 to 1/2 cycles per pixel (zero in row 64), columns
    horizontal ones from 0 to 1/2. The power spectra of half-overlapping and denser 128 px tiles
    under a Hann window are averaged (Welch 1967), which quietens the noise of a single FFT,
    keeps the crop's border out, and gives one shape for crops and windows of any size. A value
    is ln(1 + magnitude) with luminance in 0..255, so it lies between 0 and 16.
    """
    _check(crops)
    if min(crops.shape[-2:]) < SPECTRUM_TILE:
        size = tuple(crops.shape[-2:])
        raise ValueError(f"expected crops of at least {SPECTRUM_TILE} px but got {size}")
    tiles = luminance(crops).unfold(1, SPECTRUM_TILE, SPECTRUM_HOP)
    tiles = tiles.unfold(2, SPECTRUM_TILE, SPECTRUM_HOP).flatten(1, 2)
    window = torch.hann_window(SPECTRUM_TILE, dtype=torch.float32, device=crops.device)
    tiles = (tiles - tiles.mean((-2, -1), keepdim=True)) * (window[:, None] * window)
    power = torch.view_as_real(torch.fft.rfft2(tiles)).square().mean(1).sum(-1)
    return torch.fft.fftshift(power.sqrt().log1p(), dim=-2).half()


def residual(crops: torch.Tensor, kind: str) -> torch.Tensor:
    """High-frequency residual: int8, N x 3 x H x W, clipped to -127..127.

    Args:
        kind: a name from `RESIDUALS`. All are whole numbers before clipping but "srm" and
            "detail", which are rounded: the cached residual equals the computed one exactly, but
            for "srm", where float32 may fall on either side of a half.
    """
    _check(crops)
    if kind not in RESIDUALS:
        raise ValueError(f"expected a residual among {sorted(RESIDUALS)} but got {kind!r}")
    return RESIDUALS[kind](crops.float()).round_().clamp_(-127, 127).to(torch.int8)


def luminance(crops: torch.Tensor) -> torch.Tensor:
    """ITU-R BT.601 luma, float32 N x H x W in 0..255."""
    red, green, blue = crops.float().unbind(1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _npr(pixels: torch.Tensor) -> torch.Tensor:
    """Each pixel minus its 2 x 2 block's first one (Tan et al. 2024, "Rethinking the Up-Sampling
    Operations in CNN-based Generative Network for Generalizable Deepfake Detection")."""
    height, width = pixels.shape[-2:]
    down = pixels[..., ::2, ::2]
    return pixels - down.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., :height, :width]


def _median(pixels: torch.Tensor) -> torch.Tensor:
    """Each pixel minus the median of its 3 x 3 neighbourhood, per channel."""
    padded = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
    height, width = pixels.shape[-2:]
    shifted = [padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return pixels - torch.stack(shifted).median(0).values


def _detail(pixels: torch.Tensor) -> torch.Tensor:
    """Each pixel minus the mean of its 5 x 5 neighbourhood, per channel."""
    height, width = pixels.shape[-2:]
    padded = F.pad(pixels, (2, 2, 2, 2), mode="reflect")
    nothing = torch.zeros(())
    rows = sum((padded[..., y : y + height, :] for y in range(5)), nothing)
    means = sum((rows[..., x : x + width] for x in range(5)), nothing) / 25  # avg_pool2d is slower
    return pixels - means


def _srm(pixels: torch.Tensor) -> torch.Tensor:
    """Three predictors of the spatial rich model on the luminance (Fridrich & Kodovsky 2012, as
    chosen by Zhou et al. 2018, "Learning Rich Features for Image Manipulation Detection")."""
    padded = F.pad(luminance(pixels)[:, None], (2, 2, 2, 2), mode="replicate")
    return F.conv2d(padded, torch.from_numpy(SRM)[:, None].to(pixels.device))


RESIDUALS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "detail": _detail,
    "median": _median,
    "npr": _npr,
    "srm": _srm,
}


def _check(crops: torch.Tensor) -> None:
    if crops.dtype != torch.uint8 or crops.ndim != 4 or crops.shape[1] != 3:
        raise ValueError(
            f"expected uint8 crops N x 3 x H x W but got {crops.dtype} {tuple(crops.shape)}"
        )
