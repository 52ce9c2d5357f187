"""Statistics of a frozen trunk -> logit."""

from __future__ import annotations

import torch
from torch import nn

OUTLIER = 6.0  # deviations; statistics of odd pictures do not run away with the score


class LinearHead(nn.Module):
    """Standardise, keep outliers in bounds, weigh, add up. Solved by `solving.ridge`."""

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.linear = nn.Linear(features, 1)

    def standardise(self, statistics: torch.Tensor) -> torch.Tensor:
        """float32 N x features, of any range -> in -6..6."""
        x = (statistics.float() - self.centre) / self.scale
        return x.clamp(-OUTLIER, OUTLIER)

    def forward(self, statistics: torch.Tensor) -> torch.Tensor:
        """float32 N x features -> float32 N."""
        return self.linear(self.standardise(statistics)).flatten().float()

    def slopes(self, statistics: torch.Tensor) -> torch.Tensor:
        """What each statistic adds over its distance from the centre: float32 N x features, the
        less of one out of bounds."""
        distance = (statistics.float() - self.centre) / self.scale
        bounded = (OUTLIER / distance.abs().clamp_min(OUTLIER)) * self.linear.weight
        return bounded / self.scale
