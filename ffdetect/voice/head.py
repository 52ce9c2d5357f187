"""Features of a voice -> logit: how alike it is to known voices, each of which has a weight.

Two Gaussian kernels, one of what Whisper hears and one of hand-made statistics, count alike. The
weights are a kernel ridge regression's, on some known voices for all (`prototypes`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.linalg import solve as solve_linear
from torch import nn

from .prototypes import Prototypes, PrototypeSettings

_JITTER = 1e-6  # recordings that are alike make the kernel singular


class VoiceHead(nn.Module):
    """Features, float N x F -> logits of fake, float32 N.

    Attributes:
        states, statistics: the same known voices, as the first features and as the rest have them.
        weight: float32, one a known voice.
        bias: float32, no dimension.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self, states: Prototypes, statistics: Prototypes, weight: torch.Tensor, bias: torch.Tensor
    ) -> None:
        super().__init__()
        self.states, self.statistics = states, statistics
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.likeness(features) @ self.weight + self.bias

    def likeness(self, features: torch.Tensor) -> torch.Tensor:
        """To every known voice, by both kernels: float32 N x voices, 0 to 1."""
        states, statistics = features.tensor_split([len(self.states.centre)], 1)
        return (self.states(states) + self.statistics(statistics)) / 2

    def calibrated(self, temperature: float, bias: float) -> VoiceHead:
        """With logits that are divided by `temperature`, and `bias` added."""
        weight, old = self.weight / temperature, self.bias / temperature
        return VoiceHead(self.states, self.statistics, weight, old + bias)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> VoiceHead:
        """Of what `state_dict` gives.

        Raises:
            KeyError, ValueError, RuntimeError: some are missing, or do not fit together.
        """
        states, statistics = (_empty(tensors, name) for name in ("states", "statistics"))
        head = cls(states, statistics, torch.zeros_like(tensors["weight"]), torch.zeros(()))
        head.load_state_dict(dict(tensors))
        return head

    @classmethod
    def solve(
        cls,
        features: np.ndarray,
        target: np.ndarray,
        share: np.ndarray,
        states: PrototypeSettings,
        statistics: PrototypeSettings,
        reach: float,
        ridge: float,
    ) -> VoiceHead:
        """Kernel ridge regression of the classes, by the Nystroem method.

        Args:
            features: float N x F.
            target: N, 1 fake, 0 real.
            share: N, above 0, how much each row counts, of mean 1.
            states, statistics: of the first features, and of the last as many as its block has.
                Rows become prototypes by chance, more likely where they count more.
            reach: of both kernels, see `Prototypes.fit`.
            ridge: the penalty.

        Raises:
            ValueError: one of the classes is absent, or settings and features do not match.
        """
        target = np.asarray(target)
        if set(np.unique(target)) != {0, 1}:
            raise ValueError(f"expected targets 0 and 1, both, but got {np.unique(target)}")
        odds = np.sqrt(share)
        drawn = np.random.default_rng(0).choice(
            len(features), states.count, replace=False, p=odds / odds.sum()
        )
        x, chosen = torch.from_numpy(features), torch.from_numpy(np.sort(drawn))
        first, last = x.tensor_split([x.shape[1] - statistics.block], 1)
        head = cls(
            Prototypes.fit(first, chosen, states, reach),
            Prototypes.fit(last, chosen, statistics, reach),
            torch.zeros(states.count),
            torch.zeros(()),
        )
        likeness = head.likeness(x).double().numpy()
        wanted = np.where(target == 1, 1.0, -1.0)
        bias = np.average(wanted, weights=share)
        among = likeness[chosen]
        penalty = ridge * (among + among.T) / 2 + _JITTER * np.eye(len(chosen))
        shared = likeness.T * share
        weight = solve_linear(shared @ likeness + penalty, shared @ (wanted - bias), assume_a="pos")
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.fill_(bias)
        return head


def _empty(tensors: Mapping[str, torch.Tensor], name: str) -> Prototypes:
    """Prototypes of the shape that a file's tensors have."""
    _, block, block_axes = tensors[f"{name}.block_axes.values"].shape
    _, count, axes = tensors[f"{name}.known.values"].shape
    settings = PrototypeSettings(block, block_axes, axes, count)
    return Prototypes(len(tensors[f"{name}.centre"]), settings)
