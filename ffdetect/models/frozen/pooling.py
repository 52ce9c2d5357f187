"""What the streams read of a trunk's layers: moments over places, by regions of the face."""

from __future__ import annotations

import functools

import torch

_EPSILON = 1e-6
_FLAT = 0.01  # deviation below which a channel counts as flat; its log would run away


def area_resize(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Shrink by averaging areas, as OpenCV's INTER_AREA does; exact for any ratio.

    Args:
        pixels: uint8 N x C x H x W, at least `side` high and wide.

    Returns:
        float32 N x C x side x side, whole numbers in 0..255.
    """
    height, width = pixels.shape[-2:]
    rows = _area_weights(height, side, pixels.device)
    columns = _area_weights(width, side, pixels.device)
    return (rows @ pixels.float() @ columns.T).round()


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)  # kept for whoever needs gradients next
def _area_weights(length: int, side: int, device: torch.device) -> torch.Tensor:
    """float32 side x length: how much of each source pixel a target pixel covers, rows sum to 1."""
    edges = torch.arange(side + 1, dtype=torch.float64) * (length / side)
    start, end = edges[:-1, None], edges[1:, None]
    pixel = torch.arange(length, dtype=torch.float64)[None]
    covered = (torch.minimum(end, pixel + 1) - torch.maximum(start, pixel)).clamp_min(0)
    return (covered / covered.sum(1, keepdim=True)).float().to(device)


def middle(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """The middle N x C x side x side of larger pictures."""
    top, left = ((length - side) // 2 for length in pixels.shape[-2:])
    return pixels[..., top : top + side, left : left + side]


def channel_moments(x: torch.Tensor) -> torch.Tensor:
    """N x C x h x w -> N x 2 C, mean and deviation of each channel over places."""
    flat = x.flatten(2).float()
    return torch.cat([flat.mean(2), deviation(flat, 2)], 1)


def token_moments(tokens: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """N x (1 + h w) x D -> N x 7 x D: the class token; mean and deviation of all places, of those
    inside of the face, and of those around it.

    Args:
        inside: bool h w.
    """
    places = tokens[:, 1:].float()
    parts = [tokens[:, 0].float()]
    for part in (places, places[:, inside], places[:, ~inside]):
        parts += [part.mean(1), deviation(part, 1)]
    return torch.stack(parts, 1)


def deviation(x: torch.Tensor, dim: int) -> torch.Tensor:
    return x.var(dim).clamp_min(_EPSILON**2).sqrt()


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)
def face_ellipse(side: int, across: float, along: float, device: torch.device) -> torch.Tensor:
    """bool side * side: the places inside of an ellipse in the middle, in rows.

    Args:
        across, along: half its width and height, as shares of the picture's side.
    """
    y = (torch.arange(side, device=device).float() + 0.5) / side - 0.5
    distance = (y[None] / across).square() + (y[:, None] / along).square()
    return (distance < 1).flatten()


def region_moments(x: torch.Tensor) -> torch.Tensor:
    """N x C x h x w -> N x 8 C, mean and log deviation of each channel in every region.

    The regions are the upper and the lower half of the face, its edge, and what lies around it.
    """
    flat = x.permute(0, 2, 3, 1).flatten(1, 2).float()
    weights = _regions(*x.shape[-2:], x.device)
    mean = weights @ flat
    variance = (weights @ flat.square() - mean.square()).clamp_min(0)
    spread = variance.add(_EPSILON).sqrt().clamp_min(_FLAT)
    return torch.cat([mean.flatten(1), spread.log().flatten(1)], 1)


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)
def _regions(height: int, width: int, device: torch.device) -> torch.Tensor:
    """float32 4 x h w, rows sum to 1; the face is an ellipse in the middle of the crop."""
    y = ((torch.arange(height, device=device) + 0.5) / height - 0.5)[:, None]
    x = ((torch.arange(width, device=device) + 0.5) / width - 0.5)[None]
    distance = ((x / 0.28).square() + (y / 0.355).square()).sqrt()
    inside, outside = distance < 0.8, distance >= 1.2
    regions = torch.stack([inside & (y < 0), inside & (y >= 0), ~inside & ~outside, outside])
    weights = regions.flatten(1).float()
    return weights / weights.sum(1, keepdim=True).clamp_min(1)
