"""Features of a voice -> logit: a line, solved by weighted ridge regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

_OUTLIER = 6.0  # deviations


@dataclass(frozen=True)
class VoiceHead:
    """A line on standardised features.

    Attributes:
        centre, scale, weight: float32 F.
        bias: float32, no dimension.
    """

    centre: torch.Tensor
    scale: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """float32 N x F -> logits of fake, float32 N."""
        z = ((features.float() - self.centre) / self.scale).clamp(-_OUTLIER, _OUTLIER)
        return z @ self.weight + self.bias

    def calibrated(self, temperature: float, bias: float) -> VoiceHead:
        """With logits that are divided by `temperature`, and `bias` added."""
        return VoiceHead(
            self.centre, self.scale, self.weight / temperature, self.bias / temperature + bias
        )

    @classmethod
    def solve(
        cls,
        features: np.ndarray,
        target: np.ndarray,
        share: np.ndarray,
        blocks: Sequence[int],
        ridge: float,
    ) -> VoiceHead:
        """Ridge regression of the classes (Hoerl and Kennard 1970), in its dual form.

        Args:
            features: float N x F.
            target: N, 1 fake, 0 real.
            share: N, above 0, how much each row counts, of mean 1.
            blocks: how many features belong together, in all F. Every block has the same weight in
                the penalty, however many features it has.
            ridge: the penalty.

        Raises:
            ValueError: one of the classes is absent, or blocks and features do not match.
        """
        target = np.asarray(target)
        if set(np.unique(target)) != {0, 1}:
            raise ValueError(f"expected targets 0 and 1, both, but got {np.unique(target)}")
        if sum(blocks) != features.shape[1]:
            raise ValueError(f"expected {sum(blocks)} features but got {features.shape[1]}")
        part = (share / share.sum()).astype(np.float32)
        centre = part @ features
        scale = np.sqrt(np.maximum(part @ np.square(features - centre), 1e-12))
        z = np.clip((features - centre) / scale, -_OUTLIER, _OUTLIER).astype(np.float32)
        reach = np.repeat(1 / np.asarray(blocks, np.float32) / len(blocks), blocks)
        middle = part @ z
        inner = ((z - middle) * reach) @ (z - middle).T
        wanted = np.where(target == 1, 1.0, -1.0)
        wanted = wanted - part @ wanted
        inner = inner.astype(np.float64) + ridge * np.diag(1 / share)
        weight = reach * ((z - middle).T @ np.linalg.solve(inner, wanted))
        tensors = (centre, scale, weight, -(weight @ middle))
        return cls(*(torch.tensor(np.asarray(t), dtype=torch.float32) for t in tensors))
