"""Augmentation that is the same for a real face and the fake beside it.

Every transform takes a stack of pictures, uint8 N x 3 x H x W, and does the same to all of them
with the same random numbers, so that format, quality, size and tone never tell the classes
apart. Built on torchvision.transforms.v2.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

_RESAMPLING = (v2.InterpolationMode.BILINEAR, v2.InterpolationMode.BICUBIC)
POLICIES = {
    "augmix": v2.AugMix,  # Hendrycks et al. 2020
    "autoaugment": v2.AutoAugment,  # Cubuk et al. 2019, as found on ImageNet
    "randaugment": v2.RandAugment,  # Cubuk et al. 2020
    "trivialaugment": v2.TrivialAugmentWide,  # Mueller & Hutter 2021
}
# With the strengths that their authors use on ImageNet.
MIXES = {
    "cutmix": v2.CutMix(alpha=1.0, num_classes=2),  # Yun et al. 2019
    "mixup": v2.MixUp(alpha=0.2, num_classes=2),  # Zhang et al. 2018
}


def training_transform(window: int, policy: str = "") -> nn.Module:
    """Window at about native scale, flip, tone, blur, noise, then one or two lossy codings.

    Args:
        window: side of the result in pixels.
        policy: a name from `POLICIES` to come before all that, or "".
    """
    codings = [Recode("JPEG", 40, 98), Recode("JPEG", 70, 98), Recode("WEBP", 40, 95)]
    return v2.Compose(
        [
            *([Policy(policy)] if policy else []),
            v2.RandomApply([Recode("JPEG", 60, 98)], 0.25),  # a picture's first life
            RandomWindow(window),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.2, 0.2, 0.2)], 0.4),
            v2.RandomGrayscale(0.03),
            v2.RandomApply([v2.GaussianBlur(7, (0.2, 1.6))], 0.12),
            v2.RandomApply([Noise(1, 8)], 0.12),
            v2.RandomApply([v2.RandomChoice(codings, [0.5, 0.35, 0.15])], 0.85),
        ]
    )


class Policy(nn.Module):
    """A general augmentation policy from `POLICIES`, the same for every picture of the stack."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.policy = POLICIES[name](interpolation=v2.InterpolationMode.BILINEAR)

    def forward(self, stack: torch.Tensor) -> torch.Tensor:
        # As the frames of one video: AugMix weighs the pictures of a batch each in another way.
        return self.policy(tv_tensors.Video(stack)).as_subclass(torch.Tensor)


class RandomWindow(v2.Transform):
    """Cut a square window at a random place and scale.

    Args:
        window: side of the result in pixels.
        scale: by how much a picture is enlarged or shrunk at most.
        native: share of windows at native scale.
    """

    def __init__(
        self, window: int, scale: tuple[float, float] = (0.625, 1.6), native: float = 0.5
    ) -> None:
        super().__init__()
        self.window = window
        self.scale = scale
        self.native = native

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = flat_inputs[0].shape[-2:]
        low, high = np.log(self.scale)
        scale = float(np.exp(low + (high - low) * torch.rand(()).item()))
        if torch.rand(()) < self.native:
            scale = 1.0
        side = min(round(self.window / scale), height, width)
        top = int(torch.randint(height - side + 1, ()))
        left = int(torch.randint(width - side + 1, ()))
        resampling = _RESAMPLING[int(torch.randint(2, ()))]
        antialias = bool(torch.rand(()) < 0.7)
        return {"box": (top, left, side), "resampling": resampling, "antialias": antialias}

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        top, left, side = params["box"]
        cut = inpt[..., top : top + side, left : left + side]
        if side == self.window:
            return cut
        size = [self.window, self.window]
        return v2.functional.resize(cut, size, params["resampling"], antialias=params["antialias"])


class Noise(v2.Transform):
    """Independent Gaussian noise of a random strength, in grey levels of 0..255.

    The noise itself differs from picture to picture of a stack; its strength does not.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"sigma": self.low + (self.high - self.low) * torch.rand(()).item()}

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        noisy = inpt.float() + params["sigma"] * torch.randn(inpt.shape)
        return noisy.round_().clamp_(0, 255).to(torch.uint8)


class Recode(v2.Transform):
    """Lossy coding of a random quality with Pillow: "JPEG" (4:2:0) or "WEBP"."""

    def __init__(self, format: str, low: int, high: int) -> None:
        super().__init__()
        self.format, self.low, self.high = format, low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"quality": int(torch.randint(self.low, self.high + 1, ()))}

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        # WebP's fastest method; JPEG has no such choice and ignores it
        return recode(inpt, self.format, quality=params["quality"], method=0)


def recode(pictures: torch.Tensor, format: str, **options: Any) -> torch.Tensor:
    """Code and decode each picture of a uint8 N x 3 x H x W stack with Pillow."""
    decoded = []
    for picture in pictures.permute(0, 2, 3, 1).numpy():
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, format, **options)
        decoded.append(np.array(Image.open(stream).convert("RGB")))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)


def mix_faces(
    faces: torch.Tensor, target: torch.Tensor, kind: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix every face of a batch with another one, drawn at random, of any class.

    Args:
        faces: uint8 N x V x 3 x H x W, V views of each; all views of a face are mixed alike.
        target: int64 N, 1 where a face is fake.
        kind: a name from `MIXES`.

    Returns:
        the mixed faces, as `faces`, in a random order, and float32 N: how much of each is fake.
    """
    order = torch.randperm(len(target)).to(target.device)  # v2 mixes neighbours
    # As videos, since v2 takes no other fifth dimension.
    mixed, soft = MIXES[kind](tv_tensors.Video(faces[order].float()), target[order])
    return mixed.as_subclass(torch.Tensor).round_().to(torch.uint8), soft[:, 1]
