"""What training minimises: cross-entropy of soft targets, focal weights, agreement of two views."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .augment import MIXES


@dataclass(frozen=True)
class Objective:
    """How the loss departs from plain cross-entropy; by default not at all.

    Attributes:
        mix: how faces of a batch are mixed, a name from `augment.MIXES`, or "" for not at all.
        label_smoothing: share of every target that is spread over both classes alike, below 1.
        focal_gamma: exponent of the focal weight, see `target_loss`; 0 counts all faces the same.
        consistency: weight of `disagreement` between two views of a face.
    """

    mix: str = ""
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    consistency: float = 0.0

    def __post_init__(self) -> None:
        if self.mix and self.mix not in MIXES:
            raise ValueError(f"expected a mix among {sorted(MIXES)} but got {self.mix!r}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"expected label smoothing of at least 0 and below 1 but got {self.label_smoothing}"
            )
        if self.focal_gamma and not 1 <= self.focal_gamma < math.inf:
            raise ValueError(
                f"expected a focal exponent of 0 or at least 1 but got {self.focal_gamma}"
            )
        if not 0 <= self.consistency < math.inf:
            raise ValueError(
                f"expected a weight of consistency of at least 0 but got {self.consistency}"
            )


def target_loss(
    logit: torch.Tensor, target: torch.Tensor, smoothing: float = 0.0, gamma: float = 0.0
) -> torch.Tensor:
    """Mean cross-entropy of logits, float N, and how fake each face is, float N in 0..1.

    Hard examples count more by the factor |target - probability| ** `gamma`: the focal loss (Lin
    et al. 2017) in its form for soft targets (Li et al. 2020, "Generalized Focal Loss"), which
    stays lowest where probability and target agree. It is preferred to keeping only the hardest
    share of a batch, since the hardest blends are those that nobody can tell from a real face.

    Args:
        smoothing: share of every target that is spread over both classes alike.
        gamma: 0, or at least 1, where its gradient is finite.
    """
    target = target * (1 - smoothing) + smoothing / 2
    if not gamma:
        return F.binary_cross_entropy_with_logits(logit, target)
    weight = (target - logit.sigmoid()).abs() ** gamma
    return (weight * F.binary_cross_entropy_with_logits(logit, target, reduction="none")).mean()


def disagreement(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean symmetrised Kullback-Leibler divergence between what two logits, float N each, say.

    For two classes the mean of both directions is half the difference of the probabilities times
    that of the logits. Both views learn from it.
    """
    return ((first.sigmoid() - second.sigmoid()) * (first - second)).mean() / 2
