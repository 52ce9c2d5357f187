"""How alike features are to those of known voices: what a head weighs.

A line on features says the more, the further they lie in its direction, be it far from all that it
was solved from. A Gaussian kernel says less, the less alike something is to anything known. Its
values for some known examples, the prototypes, stand for it (Williams & Seeger 2001, "Using the
Nystroem Method to Speed Up Kernel Machines"). Features are first brought to their principal axes,
those of neighbouring ones and then those of all, so that examples need little room.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ffdetect.models.heads import OUTLIER
from ffdetect.models.tensor_file import to_int8


@dataclass(frozen=True)
class PrototypeSettings:
    """Attributes:
    block: how many neighbouring features have axes of their own; it divides their number.
    block_axes: principal axes of each block.
    axes: principal axes of all blocks' together.
    count: of prototypes.
    """

    block: int
    block_axes: int
    axes: int
    count: int


class Prototypes(nn.Module):
    """Features, float N x features -> likeness to every prototype, float32 N x count, 0 to 1.

    Axes and prototypes are kept as int8, each column with its own step.
    """

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, features: int, settings: PrototypeSettings) -> None:
        super().__init__()
        blocks = features // settings.block
        inner = blocks * settings.block_axes
        if (
            features % settings.block
            or not 0 < settings.block_axes <= settings.block
            or not 0 < settings.axes <= inner
        ):
            raise ValueError(
                f"expected blocks that divide {features} features, and no more axes than there "
                f"are values, but got {settings}"
            )
        self.settings = settings
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.block_axes = Columns(blocks, settings.block, settings.block_axes)
        self.axes = Columns(1, inner, settings.axes)
        self.known = Columns(1, settings.count, settings.axes)

    @classmethod
    def fit(
        cls,
        features: torch.Tensor,
        chosen: torch.Tensor,
        settings: PrototypeSettings,
        reach: float,
    ) -> Prototypes:
        """Axes of the principal components of all rows, and prototypes from some.

        Args:
            features: float N x features.
            chosen: int, rows that become prototypes, as many as the settings say.
            reach: the kernel is exp(-reach x d), d the squared distance in units of the rows' mean
                squared distance from their centre.
        """
        self = cls(features.shape[1], settings)
        self.centre.copy_(features.float().mean(0))
        self.scale.copy_(features.float().std(0).clamp_min(1e-4))
        x = self._standardised(features)
        self.block_axes.take(_principal(x, settings.block_axes))
        x = torch.einsum("nbi,bia->nba", x, self.block_axes()).flatten(1)[:, None]
        axes = _principal(x, settings.axes)
        spread = (x[:, 0] @ axes[0]).square().sum(1).mean()
        self.axes.take(axes * (reach / spread).sqrt())
        self.known.take(self.reduced(features[chosen])[None])
        return self

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x, known = self.reduced(features), self.known()[0]
        distance = x.square().sum(1, keepdim=True) + known.square().sum(1) - 2 * x @ known.T
        return torch.exp(-distance.clamp_min(0))

    def reduced(self, features: torch.Tensor) -> torch.Tensor:
        """On the axes: float32 N x axes."""
        blocks = torch.einsum("nbi,bia->nba", self._standardised(features), self.block_axes())
        return blocks.flatten(1) @ self.axes()[0]

    def _standardised(self, features: torch.Tensor) -> torch.Tensor:
        """float32 N x blocks x block, outliers in bounds."""
        x = ((features.float() - self.centre) / self.scale).clamp(-OUTLIER, OUTLIER)
        return x.unflatten(1, (-1, self.settings.block))


class Columns(nn.Module):
    """float32 blocks x rows x columns, kept as int8 with a step for each column."""

    values: torch.Tensor
    step: torch.Tensor

    def __init__(self, blocks: int, rows: int, columns: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(blocks, rows, columns, dtype=torch.int8))
        self.register_buffer("step", torch.ones(blocks, 1, columns))

    def take(self, whole: torch.Tensor) -> None:
        """Keep what comes nearest."""
        self.values[:], self.step[:] = to_int8(whole, 1)

    def forward(self) -> torch.Tensor:
        return self.values * self.step


def _principal(x: torch.Tensor, axes: int) -> torch.Tensor:
    """The principal axes of N x blocks x block: blocks x block x axes."""
    covariance = torch.einsum("nbi,nbj->bij", x, x) / len(x)
    return torch.linalg.eigh(covariance).eigenvectors[..., -axes:]
