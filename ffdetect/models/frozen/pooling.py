"""What the streams read of a trunk's layers: moments over places, by regions of the face; and what
each place adds to a line on them.

A line on moments divides among places: a mean by how far each place is from the line's centre, a
deviation by each place's share of the variance.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import nn

_EPSILON = 1e-6
_FLAT = 0.01  # deviation below which a channel counts as flat; its log would run away
_LESS_THAN_A_PART = 0.25  # of a pixel: added to its sum, no value lies halfway between two


def resized(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Shrunk by areas, enlarged bilinearly, or as it is.

    Args:
        pixels: uint8 N x C x S x S.

    Returns:
        float32 N x C x side x side in 0..255.
    """
    if pixels.shape[-1] < side:
        return nn.functional.interpolate(pixels.float(), (side, side), mode="bilinear")
    return area_resize(pixels, side) if pixels.shape[-1] > side else pixels.float()


def area_resize(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Shrink by averaging areas, as OpenCV's INTER_AREA does; exact for any ratio.

    Areas are counted in whole parts of a pixel. Sums of whole numbers are the same in whatever
    order they are added (areas below 2**16 parts: float32 holds them), and halves are rounded up.

    Args:
        pixels: uint8 N x C x H x W, at least `side` high and wide.

    Returns:
        float32 N x C x side x side, whole numbers in 0..255.
    """
    height, width = pixels.shape[-2:]
    rows = _area_parts(height, side, pixels.device)
    columns = _area_parts(width, side, pixels.device)
    area = height // math.gcd(height, side) * (width // math.gcd(width, side))
    with torch.autocast(pixels.device.type, enabled=False):  # half precision holds no such sums
        sums = rows @ pixels.float() @ columns.T
    return ((sums + _LESS_THAN_A_PART) / area).round()


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)  # kept for whoever needs gradients next
def _area_parts(length: int, side: int, device: torch.device) -> torch.Tensor:
    """float32 side x length: how many parts of each source pixel a target pixel covers.

    A source pixel has as many parts as make edges of both fall between them.
    """
    common = math.gcd(length, side)
    start = torch.arange(side)[:, None] * (length // common)
    pixel = torch.arange(length)[None] * (side // common)
    end = torch.minimum(start + length // common, pixel + side // common)
    return (end - torch.maximum(start, pixel)).clamp_min(0).float().to(device)


def middle(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """The middle N x C x side x side of larger pictures."""
    top, left = ((length - side) // 2 for length in pixels.shape[-2:])
    return pixels[..., top : top + side, left : left + side]


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


def token_shares(
    tokens: torch.Tensor, inside: torch.Tensor, slope: torch.Tensor, offset: torch.Tensor
) -> torch.Tensor:
    """What each place adds to a line on `token_moments`: N x h w. What the class token adds lies
    nowhere and is left out.

    Args:
        slope: N x 7 x D, of each moment.
        offset: N x 7 x D, slope times the moment at which the line counts it for nothing.
    """
    places = tokens[:, 1:].float()
    shares = places.new_zeros(places.shape[:2])
    for number, part in ((1, inside | ~inside), (3, inside), (5, ~inside)):
        own = places[:, part]
        equal = own.new_full((1, own.shape[1]), 1 / own.shape[1])
        two = slice(number, number + 2)
        shares[:, part] += _divided(own, equal, deviation(own, 1), slope[:, two], offset[:, two])
    return shares


def _divided(
    places: torch.Tensor,
    weights: torch.Tensor,
    spread: torch.Tensor,
    slope: torch.Tensor,
    offset: torch.Tensor,
) -> torch.Tensor:
    """What each of N x P x D places adds to a line on their mean and `spread`, N x D: N x P.

    Args:
        weights: 1 x P, of the places in the mean; they add up to 1.
        slope, offset: N x 2 x D, of the mean and of the spread.
    """
    weights = weights[..., None]
    mean = weights * (slope[:, :1] * places - offset[:, :1])
    variance = weights * (places - (weights * places).sum(1, keepdim=True)).square()
    variance = variance / variance.sum(1, keepdim=True).clamp_min(_EPSILON**2)
    return (mean + variance * (slope[:, 1] * spread - offset[:, 1])[:, None]).sum(2)


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
    mean, spread = _region_moments(_in_rows(x), _regions(*x.shape[-2:], x.device))
    return torch.cat([mean.flatten(1), spread.flatten(1)], 1)


def region_shares(x: torch.Tensor, slope: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """What each place adds to a line on `region_moments`: N x h x w.

    Args:
        slope, offset: N x 8 C, see `token_shares`.
    """
    flat, weights = _in_rows(x), _regions(*x.shape[-2:], x.device)
    spread = _region_moments(flat, weights)[1]
    slopes, offsets = (v.view(len(x), 2, len(weights), -1) for v in (slope, offset))
    parts = [
        _divided(flat, own[None], spread[:, n], slopes[:, :, n], offsets[:, :, n])
        for n, own in enumerate(weights)
    ]
    return torch.stack(parts).sum(0).unflatten(1, x.shape[-2:])


def _in_rows(x: torch.Tensor) -> torch.Tensor:
    """N x C x h x w -> float32 N x h w x C."""
    return x.permute(0, 2, 3, 1).flatten(1, 2).float()


def _region_moments(flat: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """N x h w x C -> mean and log deviation, N x regions x C each."""
    with torch.autocast(flat.device.type, enabled=False):
        mean = weights @ flat
        variance = (weights @ flat.square() - mean.square()).clamp_min(0)
    return mean, variance.add(_EPSILON).sqrt().clamp_min(_FLAT).log()


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
