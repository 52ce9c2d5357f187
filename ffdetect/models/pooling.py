"""What the streams read of a trunk's layers: moments over places, by regions of the face."""

from __future__ import annotations

import functools

import torch

_EPSILON = 1e-6


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
