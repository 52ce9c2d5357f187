"""The shipped network: linear and small heads on statistics of frozen layers.

In a trial, MobileNetV2 fine-tuned on the aligned fakes of two decoders told unseen portraits with
an AUC of .74 after 150 batches and .66 after 600: it learnt those decoders' fingerprints. A line on
statistics of the frozen early layers holds (`benchmarks/results/ablations.md`). So the whole trunk,
MobileNetV2 up to stride 16, stays frozen, and three heads read it:

- RGB stream: mean and deviation of every channel at strides 4, 8 and 16, linear;
- frequency stream: the same of the picture's high-frequency residual at strides 4 and 8, and how
  its channels correlate, linear;
- face stream: the same by regions of the crop (upper and lower face, its edge, what surrounds it)
  through a hidden layer, for faces of which only a part was changed (swaps, blends): what differs
  there differs from place to place.

The linear heads are strongly shrunk discriminants in which every decoder counts alike, however
easily it is told: what one decoder leaves is learnt quickly, what several leave is worth more.

A face is fake if it shows traces or if it was changed: the logits of both are joined as
probabilities of independent events.
"""

from __future__ import annotations

import functools
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from preprocess.faces import maps

from .discriminant import SHRINKAGE, solve_line
from .network import Logits, NetworkSettings, Scorer

BACKBONE = "mobilenetv2_100"
FACE_EPOCHS = 40
_STAGES = 5
_RGB_TAPS = (1, 2, 3)  # stages, at strides 4, 8 and 16
_RGB_HIDDEN = (2, 3)  # stages whose last hidden layer it sees too
_FREQUENCY_TAPS = (1, 2)
_FREQUENCY_CORRELATED = (1,)
_FACE_TAPS = (1, 2, 3, 4)
_FACE_HIDDEN = (2,)
_FACE_FREQUENCY_TAPS = (1,)
_WATCHED = 1  # the stage whose output a heat map is drawn from
_SWAP_ODDS = 1.0  # the face stream learns at even odds but speaks for faces of every kind
_SURENESS = 0.5  # of the face stream: on videos it has not seen its logits are twice too large
_GAIN = 6.0  # residuals are a few grey levels; the trunk is used to pictures
_FLAT = 0.01  # deviation below which a channel counts as flat; differences of sums are not exact
_OUTLIER = 6.0  # deviations; statistics of odd pictures do not run away with the score


class Statistics(NamedTuple):
    """float32 N x features for each head."""

    rgb: torch.Tensor
    frequency: torch.Tensor
    face: torch.Tensor


class PairStatistics(NamedTuple):
    """What a network is solved from.

    Attributes:
        faces: of N pairs, real and fake by turns.
        kinds: str N, what made the fake of each pair.
        swapped: bool N, the fake is a real picture of which a part was changed.
    """

    faces: Statistics
    kinds: np.ndarray
    swapped: np.ndarray


class TraceNet(Scorer):
    """Three heads on a frozen trunk; see the module."""

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        self.stem, self.stages = _trunk(timm.create_model(BACKBONE, num_classes=0))
        for name, values in (("_mean", self.mean), ("_std", self.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        with torch.no_grad():
            sizes = [part.shape[1] for part in self.statistics(torch.zeros(1, 3, 64, 64).byte())]
        self.rgb, self.frequency = LinearHead(sizes[0]), LinearHead(sizes[1])
        self.face = HiddenHead(sizes[2], settings.width)
        self.requires_grad_(False)

    def stream_logits(
        self,
        crops: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
        watched: list[torch.Tensor] | None = None,
    ) -> Logits:
        """The joined logit and those of the three streams.

        Args:
            crops, residual: see `forward`; no stream looks at the spectrum.
            watched: takes the feature maps that everything passes through, one of the picture and
                one of its residual, so that gradients by them can be had.
        """
        return self.judge(self.statistics(crops, residual, watched))

    def judge(self, seen: Statistics) -> Logits:
        """The joined logit and those of the three streams, of statistics."""
        rgb, frequency = self.rgb(seen.rgb), self.frequency(seen.frequency)
        face = self.face(seen.face)
        return Logits(either((rgb + frequency) / 2, face), rgb, frequency, face)

    def statistics(
        self,
        crops: torch.Tensor,
        residual: torch.Tensor | None = None,
        watched: list[torch.Tensor] | None = None,
    ) -> Statistics:
        """What the heads see of crops, uint8 N x 3 x H x W; see `stream_logits`."""
        if residual is None:
            residual = maps.residual(crops, self.settings.residual)
        outputs, hidden = self._run(crops.float(), _STAGES, watched)
        filtered, _ = self._run(128 + _GAIN * residual, max(_FREQUENCY_TAPS) + 1, watched)
        rgb = [_moments(outputs[i]) for i in _RGB_TAPS] + [_moments(hidden[i]) for i in _RGB_HIDDEN]
        frequency = [_moments(filtered[i]) for i in _FREQUENCY_TAPS]
        frequency += [_correlations(filtered[i]) for i in _FREQUENCY_CORRELATED]
        face = [_regional_moments(outputs[i]) for i in _FACE_TAPS]
        face += [_regional_moments(hidden[i]) for i in _FACE_HIDDEN]
        face += [_regional_moments(filtered[i]) for i in _FACE_FREQUENCY_TAPS]
        return Statistics(*(torch.cat(parts, 1) for parts in (rgb, frequency, face)))

    def _run(
        self, pixels: torch.Tensor, stages: int, watched: list[torch.Tensor] | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Output of each stage, and of the hidden layer in each stage's last block."""
        x = (pixels.clamp(0, 255) / 255 - self._mean) / self._std
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        outputs, hidden = [], []
        for stage in self.stages[:stages]:
            *blocks, last = stage
            for block in blocks:
                x = block(x)
            if not hasattr(last, "conv_pwl"):  # the first stage has no hidden layer
                x = inside = last(x)
            else:
                inside = last.bn2(last.conv_dw(last.bn1(last.conv_pw(x))))
                shortcut, x = x, last.bn3(last.conv_pwl(inside))
                x = x + shortcut if last.has_skip else x
            if watched is not None and len(outputs) == _WATCHED:
                x = x.detach().requires_grad_()
                watched.append(x)
            outputs.append(x)
            hidden.append(inside)
        return outputs, hidden

    @property
    def pretrained(self) -> list[nn.Parameter]:
        """Nothing of this network is trained by descent."""
        return []

    def load_pretrained(self, file: str | Path) -> None:
        """Take the trunk from a safetensors file of timm's mobilenetv2_100.

        Raises:
            ValueError: not a safetensors file, or weights of another network.
        """
        whole = timm.create_model(BACKBONE, num_classes=0)
        try:
            whole.load_state_dict({name: t.float() for name, t in load_file(file).items()})
        except (SafetensorError, OSError, RuntimeError) as error:
            raise ValueError(f"{file}: expected weights of {BACKBONE} but got: {error}") from error
        stem, stages = _trunk(whole)
        self.stem.load_state_dict(stem.state_dict())
        self.stages.load_state_dict(stages.state_dict())

    def solve(
        self,
        pairs: PairStatistics,
        seed: int = 0,
        *,
        own_reals: bool = False,
        face_epochs: int = FACE_EPOCHS,
        sureness: float = 1.0,
    ) -> None:
        """Fit the heads.

        Pairs with a changed real teach the face stream, the others the two trace streams, which
        learn from changed reals too where there is nothing else.

        Args:
            own_reals: the face stream learns from the reals of changed pairs alone. The reals of
                all pairs keep it silent on faces unlike those it knows swaps of.
            face_epochs: passes of the face stream over its pairs.
            sureness: what the logits of the trace streams are multiplied by.
        """
        faces, kinds, swapped = pairs
        whole = swapped if swapped.all() else ~swapped
        rows = torch.from_numpy(np.repeat(whole, 2))
        self.rgb.solve(faces.rgb[rows], kinds[whole])
        self.frequency.solve(faces.frequency[rows], kinds[whole])
        self.rgb.temper(sureness)
        self.frequency.temper(sureness)
        if not swapped.any():
            return self.face.silence()
        target = np.tile([0, 1], len(kinds))
        known = np.repeat(swapped, 2) | ((target == 0) & (not own_reals))
        self.face.solve(faces.face[torch.from_numpy(known)], target[known], seed, face_epochs)


def either(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Logit of the event that at least one of two independent events, given by logits, holds."""
    return torch.logsumexp(torch.stack([first, second, first + second]), 0)


def _moments(x: torch.Tensor) -> torch.Tensor:
    """N x C x H x W -> N x 2 C, mean and deviation of each channel."""
    x = x.float()
    mean = x.mean((2, 3))
    variance = x.square().mean((2, 3)) - mean.square()  # torch.var is eight times slower here
    return torch.cat([mean, variance.clamp_min(0).add(1e-6).sqrt()], 1)


def _correlations(x: torch.Tensor) -> torch.Tensor:
    """N x C x H x W -> N x C (C - 1) / 2, correlation of every two channels over the picture."""
    y = x.flatten(2).float()
    y = y - y.mean(2, keepdim=True)
    y = y / y.square().mean(2, keepdim=True).add(1e-6).sqrt()
    first, second = torch.triu_indices(y.shape[1], y.shape[1], 1, device=y.device)
    return (y @ y.transpose(1, 2) / y.shape[2])[:, first, second]


def _regional_moments(x: torch.Tensor) -> torch.Tensor:
    """N x C x H x W -> N x 8 C, mean and log deviation of each channel in every region."""
    flat = x.permute(0, 2, 3, 1).flatten(1, 2).float()  # a view, channels come last
    weights = _regions(*x.shape[-2:], x.device)
    mean = weights @ flat
    variance = (weights @ flat.square() - mean.square()).clamp_min(0)
    deviation = variance.add(1e-6).sqrt().clamp_min(_FLAT)
    return torch.cat([mean.flatten(1), deviation.log().flatten(1)], 1)


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)  # kept for whoever needs gradients next
def _regions(height: int, width: int, device: torch.device) -> torch.Tensor:
    """float32 4 x H W, rows sum to 1: upper face, lower face, the face's edge, surroundings.

    The face is an ellipse of the size that it has in a crop by `preprocess.faces`.
    """
    y, x = ((torch.arange(side, device=device) + 0.5) / side - 0.5 for side in (height, width))
    y, x = y[:, None], x[None]
    distance = ((x / 0.30).square() + (y / 0.38).square()).sqrt()
    inside, outside = distance < 0.8, distance >= 1.2
    regions = torch.stack([inside & (y < 0), inside & (y >= 0), ~inside & ~outside, outside])
    regions = regions.flatten(1).float()
    return regions / regions.sum(1, keepdim=True).clamp_min(1)


class _Head(nn.Module):
    """Standardises statistics and keeps outliers in bounds."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def standardise(self, statistics: torch.Tensor) -> torch.Tensor:
        x = (statistics.float() - self.centre) / self.scale
        return x.clamp(-_OUTLIER, _OUTLIER)

    def _fit_scale(self, statistics: torch.Tensor) -> torch.Tensor:
        self.centre.copy_(statistics.mean(0))
        self.scale.copy_(statistics.std(0).clamp_min(1e-3))
        return self.standardise(statistics)


class LinearHead(_Head):
    """Statistics -> logit by a line (`solve_line`); each kind of fake is held against the reals
    beside it."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.linear = nn.Linear(features, 1)

    def forward(self, statistics: torch.Tensor) -> torch.Tensor:
        return self.linear(self.standardise(statistics)).flatten().float()

    def temper(self, sureness: float) -> None:
        """Multiply all logits to come."""
        self.linear.weight.mul_(sureness)
        self.linear.bias.mul_(sureness)

    @torch.no_grad()
    def solve(self, statistics: torch.Tensor, kinds: np.ndarray) -> None:
        """Fit to 2 N x features of real and fake faces by turns; kinds: str N, what made them."""
        x = self._fit_scale(statistics).double().numpy()
        real, fake = x[0::2], x[1::2]
        names, number, count = np.unique(kinds, return_inverse=True, return_counts=True)
        away = np.stack([(fake - real)[number == i].mean(0) for i in range(len(names))], 1)
        share = np.repeat(1 / count[number], 2) * len(kinds) / len(names)
        target, covariance = np.tile([0, 1], len(kinds)), np.atleast_2d(np.cov(real.T))
        weight, bias = solve_line(x, target, away, covariance, share, SHRINKAGE)
        self.linear.weight.copy_(torch.from_numpy(weight)[None])
        self.linear.bias.fill_(bias)


class HiddenHead(_Head):
    """Statistics -> logit through one hidden layer."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__(features)
        self.layers = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(features, width), nn.GELU(), nn.Dropout(0.4),
            nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, statistics: torch.Tensor) -> torch.Tensor:
        return self.layers(self.standardise(statistics)).flatten().float()

    def silence(self) -> None:
        """Call nothing fake: there was nothing to learn from."""
        self.layers[-1].weight.zero_()
        self.layers[-1].bias.fill_(-20)

    def solve(
        self, statistics: torch.Tensor, target: np.ndarray, seed: int, epochs: int = FACE_EPOCHS
    ) -> None:
        """AdamW on batches with as many real faces as fake ones."""
        x, wanted = self._fit_scale(statistics), torch.from_numpy(target).float()
        chance = torch.where(wanted > 0.5, 1 / wanted.sum(), 1 / (1 - wanted).sum())
        steps = max(epochs * len(x) // 256, 2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._descend(x, wanted, chance, steps)
        self.layers.requires_grad_(False).eval()
        with torch.no_grad():
            self.layers[-1].bias.sub_(_SWAP_ODDS).mul_(_SURENESS)
            self.layers[-1].weight.mul_(_SURENESS)

    def _descend(
        self, x: torch.Tensor, wanted: torch.Tensor, chance: torch.Tensor, steps: int
    ) -> None:
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        self.layers.requires_grad_(True).train()
        optimizer = torch.optim.AdamW(self.layers.parameters(), 1e-3, weight_decay=0.5)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps)
        for _ in range(steps):
            rows = torch.multinomial(chance, 256, replacement=True)
            logit = self.layers(x[rows]).flatten()
            loss = nn.functional.binary_cross_entropy_with_logits(logit, wanted[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()


def _trunk(network: nn.Module) -> tuple[nn.Sequential, nn.ModuleList]:
    """Stem and first stages of a timm MobileNetV2, its batch norms folded into convolutions."""
    _fold(network.eval())
    return nn.Sequential(network.conv_stem, network.bn1), nn.ModuleList(network.blocks[:_STAGES])


def _fold(module: nn.Module) -> None:
    parts = list(module.named_children())
    for (name, part), (after, norm) in pairwise(parts):
        if isinstance(part, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(part, norm))
            setattr(module, after, norm.act)
    for _, part in parts:
        _fold(part)
