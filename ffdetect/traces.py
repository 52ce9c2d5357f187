"""The shipped network: generator traces by frozen statistics, swaps by a fine-tuned face stream.

What was measured (`benchmarks/results/ablations.md`): a network fine-tuned on aligned fakes
learns the fingerprints of the decoders that made them and is lost on others, while plain
statistics of a frozen ImageNet network's early layers hold. So the layers that see traces stay
frozen:

- RGB stream: mean and deviation of each channel of MobileNetV2 at strides 4, 8 and 16;
- frequency stream: the same of the picture's high-frequency residual, at strides 4 and 8;
- face stream: the deeper layers, fine-tuned on whole faces of which only a part was changed
  (swaps, blends); a seam is no trace of a generator.

A face is fake if it shows traces or if it was changed: the logits of both are joined as
probabilities of independent events.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from preprocess import maps

from .network import Logits, NetworkSettings

BACKBONE = "mobilenetv2_100"
_RGB_TAPS = {1: 24, 2: 32, 3: 64}  # stage -> channels
_FREQUENCY_TAPS = {1: 24, 2: 32}
_FREQUENCY_SHARE = 0.25
_GAIN = 6.0  # residuals are a few grey levels; the trunk is used to pictures
_DEEP = 4  # the first stage of the face stream
_OUTLIER = 6.0  # deviations; statistics of odd pictures do not run away with the score
_INVERSE_PENALTY = 0.03


class TraceNet(nn.Module):
    """uint8 N x 3 x H x W RGB crops -> float32 N logits; see the module."""

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        stem, stages, head = _folded(timm.create_model(BACKBONE, num_classes=0))
        self.stem = stem.requires_grad_(False)
        self.stages = stages[:_DEEP].requires_grad_(False)
        self.rgb = TraceHead(2 * sum(_RGB_TAPS.values()))
        self.frequency = TraceHead(2 * sum(_FREQUENCY_TAPS.values()))
        self.deep = nn.Sequential(*stages[_DEEP:], head)
        self.face = nn.Sequential(nn.Dropout(0.3), nn.Linear(head[0].out_channels, 1))
        for name, values in (("_mean", self.mean), ("_std", self.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(
        self,
        crops: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of whole faces; `residual` as cached, computed where not given."""
        return self.stream_logits(crops, spectrum, residual).fused

    def stream_logits(
        self,
        crops: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> Logits:
        """The joined logit and those of the three streams."""
        if residual is None:
            residual = maps.residual(crops, self.settings.residual)
        seen, last = self._statistics(crops.float(), _RGB_TAPS)
        rgb = self.rgb(seen)
        frequency = self.frequency(self._statistics(128 + _GAIN * residual, _FREQUENCY_TAPS)[0])
        face = self._face(last)
        traces = (1 - _FREQUENCY_SHARE) * rgb + _FREQUENCY_SHARE * frequency
        return Logits(either(traces, face), rgb, frequency, face)

    def face_logits(self, crops: torch.Tensor) -> torch.Tensor:
        """The face stream alone, float32 N: what training descends on."""
        return self._face(self._statistics(crops.float(), _RGB_TAPS)[1])

    def _face(self, last: torch.Tensor) -> torch.Tensor:
        return self.face(self.deep(last).float().mean((2, 3))).flatten().float()

    def _statistics(
        self, pixels: torch.Tensor, taps: dict[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """N x 2 C means and deviations at the stages in `taps`, and the last stage's output."""
        x = (pixels.clamp(0, 255) / 255 - self._mean) / self._std
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        found = []
        for number, stage in enumerate(self.stages[: max(taps) + 1]):
            x = stage(x)
            if number in taps:
                y = x.flatten(2).float()
                found += [y.mean(2), y.var(2, unbiased=False).add(1e-6).sqrt()]
        return torch.cat(found, 1), x

    @property
    def pretrained(self) -> list[nn.Parameter]:
        """What training changes slowly, since it starts from ImageNet."""
        return list(self.deep.parameters())

    def load_pretrained(self, file: str | Path) -> None:
        """Start from a safetensors file of timm's mobilenetv2_100.

        Raises:
            ValueError: not a safetensors file, or weights of another network.
        """
        whole = timm.create_model(BACKBONE, num_classes=0)
        try:
            whole.load_state_dict({name: t.float() for name, t in load_file(file).items()})
        except (SafetensorError, OSError, RuntimeError) as error:
            raise ValueError(f"{file}: expected weights of {BACKBONE} but got: {error}") from error
        stem, stages, head = _folded(whole)
        self.stem.load_state_dict(stem.state_dict())
        self.stages.load_state_dict(stages[:_DEEP].state_dict())
        self.deep.load_state_dict(nn.Sequential(*stages[_DEEP:], head).state_dict())

    @torch.no_grad()
    def statistics(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the heads of the RGB and the frequency stream see: float32 N x features each."""
        residual = 128 + _GAIN * maps.residual(crops, self.settings.residual)
        rgb = self._statistics(crops.float(), _RGB_TAPS)[0]
        return rgb, self._statistics(residual, _FREQUENCY_TAPS)[0]

    def fit_traces(self, statistics: Sequence[torch.Tensor], target: np.ndarray) -> None:
        """Solve both heads by logistic regression on `statistics` of faces with targets 0 and 1.

        A few hundred coefficients are a convex problem: solving it beats descending to it.
        """
        for head, values in zip((self.rgb, self.frequency), statistics, strict=True):
            head.fit(values, target)


def either(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Logit of the event that at least one of two independent events, given by logits, holds."""
    return torch.logsumexp(torch.stack([first, second, first + second]), 0)


class TraceHead(nn.Module):
    """Standardised statistics -> logit, by logistic regression."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.linear = nn.Linear(features, 1).requires_grad_(False)

    def forward(self, statistics: torch.Tensor) -> torch.Tensor:
        x = (statistics.float() - self.centre) / self.scale
        return self.linear(x.clamp(-_OUTLIER, _OUTLIER)).flatten()

    def fit(self, statistics: torch.Tensor, target: np.ndarray) -> None:
        from sklearn.linear_model import LogisticRegression

        self.centre.copy_(statistics.mean(0))
        self.scale.copy_(statistics.std(0).clamp_min(1e-4))
        x = ((statistics - self.centre) / self.scale).clamp(-_OUTLIER, _OUTLIER)
        solved = LogisticRegression(C=_INVERSE_PENALTY, max_iter=1000).fit(x.numpy(), target)
        self.linear.weight.copy_(torch.from_numpy(solved.coef_))
        self.linear.bias.copy_(torch.from_numpy(solved.intercept_))


def _folded(network: nn.Module) -> tuple[nn.Sequential, nn.ModuleList, nn.Sequential]:
    """Stem, stages and last convolution of a timm MobileNetV2, batch norms in the convolutions."""
    _fold(network.eval())
    stem = nn.Sequential(network.conv_stem, network.bn1)
    head = nn.Sequential(network.conv_head, network.bn2)
    return stem, nn.ModuleList(network.blocks), head


def _fold(module: nn.Module) -> None:
    parts = list(module.named_children())
    for (name, part), (after, norm) in pairwise(parts):
        if isinstance(part, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(part, norm))
            setattr(module, after, norm.act)
    for _, part in parts:
        _fold(part)
