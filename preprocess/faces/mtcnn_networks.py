"""MTCNN's three networks, fused for speed; `mtcnn` is the cascade that asks them.

The weights are those in facenet-pytorch's wheel, read without importing it. All networks run
channels-last, and the first of them on strips that fit the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from .mtcnn_interface import STRIDE, THRESHOLDS, Proposals, strips

_BATCH, _BATCH_ON_CPU = 256, 32  # candidates that go through a network at once, to fit the cache
_LEAST = math.log(THRESHOLDS[0] / (1 - THRESHOLDS[0]))  # logit of a proposal


class Networks:
    """PNet, RNet and ONet on a device.

    All take pixels as float32 in 0..255, channels last.
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = torch.device(device)
        self._propose = _Proposals(_weights("pnet", self.device))
        self._refine = _Judge(_weights("rnet", self.device), pools=(3, 3))
        self._finish = _Judge(_weights("onet", self.device), pools=(3, 3, 2))

    @torch.inference_mode()
    def propose(self, level: np.ndarray) -> Proposals:
        """Where an H x W x 3 level may show a face."""
        return self._propose.on(level, self.device)

    def refine(self, views: np.ndarray) -> list[np.ndarray]:
        """float32 N probabilities and N x 4 shifts of the sides of N x 24 x 24 x 3."""
        return self._run(self._refine, views)

    def finish(self, views: np.ndarray) -> list[np.ndarray]:
        """float32 N, N x 4 and N x 10 landmarks of N x 48 x 48 x 3."""
        return self._run(self._finish, views)

    @torch.inference_mode()
    def _run(self, network: _Judge, views: np.ndarray) -> list[np.ndarray]:
        if not len(views):
            return network.nothing()
        size = _BATCH_ON_CPU if self.device.type == "cpu" else _BATCH
        batches = [
            network(batch.to(self.device).permute(0, 3, 1, 2))
            for batch in torch.from_numpy(views).split(size)
        ]
        return [torch.cat(parts).cpu().numpy() for parts in zip(*batches, strict=True)]


class _Proposals:
    """PNet on one level of the pyramid.

    Its first activation, max(x, 0) + slope * min(x, 0), does not commute with the pooling that
    follows where the slope is negative. But it is max(relu(x), slope * x), and a convolution
    of 16 channels takes no longer than one of 10: the other six compute slope * x, and all
    that is left to do before pooling is nothing.
    """

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        weight, bias = _on_bytes(weights)
        slope = weights["prelu1.weight"]
        order = torch.cat([torch.where(slope < 0)[0], torch.where(slope >= 0)[0]])
        self._falling = int((slope < 0).sum())
        twins = order[: self._falling]
        falling = weight[twins] * slope[twins, None, None, None]
        self._weight1 = _channels_last(torch.cat([weight[order], falling]))
        self._bias1 = torch.cat([bias[order], bias[twins] * slope[twins]])
        self._slope1 = slope[order].clamp(min=0)
        self._second = _convolution(
            {**weights, "conv2.weight": weights["conv2.weight"][:, order]}, 2
        )
        self._third = _convolution(weights, 3)
        weight, bias = weights["conv4_1.weight"], weights["conv4_1.bias"]
        self._score, self._score_bias = (weight[1] - weight[0]).flatten(), float(bias[1] - bias[0])
        self._shift = weights["conv4_2.weight"].flatten(1).T
        self._shift_bias = weights["conv4_2.bias"]

    def __call__(self, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features, N x H x W x 32, and the logit of a face, N x H x W, of float32 N x 3 x H x W
        levels in 0..255.
        """
        x = F.conv2d(levels, self._weight1, self._bias1)
        x = _greater_of_pairs(x, 2)
        x = _greater_of_pairs(x, 3)
        own = F.prelu(x[:, :10], self._slope1)
        torch.maximum(own[:, : self._falling], x[:, 10:], out=own[:, : self._falling])
        x = self._third(self._second(own))
        x = x.permute(0, 2, 3, 1)
        return x, x @ self._score + self._score_bias

    def on(self, level: np.ndarray, device: torch.device) -> Proposals:
        """Where a float32 H x W x 3 level in 0..255 may show a face."""
        parts = []
        for top, strip in strips(level):
            pixels = torch.from_numpy(strip).to(device)
            features, logits = self(pixels.permute(2, 0, 1)[None])
            parts.append(self._told(features[0], logits[0], top // STRIDE))
        places, scores, shifts = (
            torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True)
        )
        return places, scores, shifts

    def _told(self, features: torch.Tensor, logits: torch.Tensor, top: int) -> tuple:
        place = (logits >= _LEAST).nonzero()
        y, x = place.unbind(1)
        return (
            torch.stack([x, y + top], 1).float(),
            logits[y, x].sigmoid(),
            features[y, x] @ self._shift + self._shift_bias,
        )


def _greater_of_pairs(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Max pooling by two along an axis; a last row or column without a pair stays as it is."""
    odd = x.shape[axis] % 2
    pairs = x.narrow(axis, 0, x.shape[axis] - odd).unflatten(axis, (-1, 2))
    greater = torch.maximum(*pairs.unbind(axis + 1))
    return torch.cat([greater, x.narrow(axis, x.shape[axis] - 1, 1)], axis) if odd else greater


class _Judge:
    """RNet or ONet: what a candidate shows.

    Args:
        weights: of the network.
        pools: sides of the pooling windows after its convolutions; there is none after the last.
    """

    def __init__(self, weights: dict[str, torch.Tensor], pools: tuple[int, ...]) -> None:
        weights["conv1.weight"], weights["conv1.bias"] = _on_bytes(weights)
        self._pools = (*pools, 0)
        last = len(self._pools)
        self._convolutions = [_convolution(weights, number + 1) for number in range(last)]
        # It reads features by column, row and channel, here they lie by row, column and channel.
        hidden, channels = f"dense{last + 1}.weight", len(weights[f"conv{last}.bias"])
        side = round((weights[hidden].shape[1] / channels) ** 0.5)
        weight = weights[hidden].unflatten(1, (side, side, channels)).transpose(1, 2).flatten(1)
        self._hidden = weight, weights[f"dense{last + 1}.bias"]
        self._slope = weights[f"prelu{last + 1}.weight"]
        heads = [f"dense{last + 2}_{number}" for number in (1, 2, 3)]
        heads = [head for head in heads if f"{head}.weight" in weights]
        weight = [weights[f"{head}.weight"] for head in heads]
        bias = [weights[f"{head}.bias"] for head in heads]
        weight[0], bias[0] = weight[0][1:] - weight[0][:1], bias[0][1:] - bias[0][:1]
        self._heads = torch.cat(weight), torch.cat(bias)
        self._outputs = [len(values) for values in bias]

    def nothing(self) -> list[np.ndarray]:
        """What it says of no candidates."""
        score, *others = (np.zeros((0, count), np.float32) for count in self._outputs)
        return [score[:, 0], *others]

    def __call__(self, views: torch.Tensor) -> list[torch.Tensor]:
        """Probability of a face, N, shifts of the box's sides as shares of the box, N x 4, and
        from ONet the landmarks, N x 10, of float32 N x 3 x size x size candidates in 0..255."""
        for convolution, pool in zip(self._convolutions, self._pools, strict=True):
            views = convolution(views)
            if pool:
                views = F.max_pool2d(views, pool, 2, ceil_mode=True)
        hidden = F.prelu(F.linear(views.permute(0, 2, 3, 1).flatten(1), *self._hidden), self._slope)
        logit, *others = F.linear(hidden, *self._heads).split(self._outputs, 1)
        return [logit[:, 0].sigmoid(), *others]


def _weights(name: str, device: torch.device) -> dict[str, torch.Tensor]:
    """Of a network in facenet-pytorch's wheel, found without importing it, which takes seconds."""
    spec = find_spec("facenet_pytorch")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("expected facenet-pytorch, whose wheel brings MTCNN's weights")
    file = Path(spec.origin).with_name("data").joinpath(f"{name}.pt")
    return torch.load(file, map_location=device, weights_only=True)


def _convolution(
    weights: dict[str, torch.Tensor], number: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A network's convolution of that number, with its activation."""
    weight, bias = _channels_last(weights[f"conv{number}.weight"]), weights[f"conv{number}.bias"]
    slope = weights[f"prelu{number}.weight"]
    return lambda x: F.prelu(F.conv2d(x, weight, bias), slope)


def _channels_last(weight: torch.Tensor) -> torch.Tensor:
    return weight.contiguous(memory_format=torch.channels_last)


def _on_bytes(weights: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The first convolution, so that it takes pixels as they are and not (pixels - 127.5) / 128."""
    weight, bias = weights["conv1.weight"], weights["conv1.bias"]
    return weight / 128, bias - weight.sum((1, 2, 3)) * (127.5 / 128)
