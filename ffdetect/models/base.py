"""What a network is: crops in, streams that each say something, one logit a face out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn


class Settings(Protocol):
    """What is needed to build a network again; kept in its weights file."""

    @property
    def design(self) -> str: ...

    def to_dict(self) -> dict[str, Any]: ...


class Logits(NamedTuple):
    """float32 N each; positive means fake. A stream that the network lacks is None."""

    fused: torch.Tensor
    rgb: torch.Tensor | None
    frequency: torch.Tensor | None


class Scorer(nn.Module, ABC):
    """A network of any design, uint8 N x 3 x H x W RGB crops -> float32 N logits."""

    residual: str | None
    """Which residual it looks at, a name of `preprocess.faces.maps.RESIDUALS`, if any."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def forward(
        self,
        crops: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of whole faces.

        Args:
            crops: uint8 N x 3 x H x W.
            spectrum, residual: cached maps of these very crops; computed where not given.
        """
        return self.stream_logits(crops, spectrum, residual).fused

    def clip_logits(self, crops: torch.Tensor) -> torch.Tensor:
        """Logits of faces in frames of clips, among which other kinds of fakes are common."""
        return self(crops)

    @abstractmethod
    def stream_logits(
        self,
        crops: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> Logits:
        """The fused logit and those of each stream alone."""

    @abstractmethod
    def evidence(self, crops: torch.Tensor) -> list[torch.Tensor]:
        """What the places of a face add to the fused logit, on feature maps of every stream.

        Args:
            crops: uint8 1 x 3 x H x W.

        Returns:
            float32 1 x C x h x w each; channels may come last.
        """

    @abstractmethod
    def inputs(self) -> dict[str, Any]:
        """How a crop becomes what the network sees; weights must have been trained on the same."""

    def learnt(self) -> dict[str, torch.Tensor]:
        """The tensors that a weights file holds."""
        return self.state_dict()

    def load_learnt(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take the tensors of `learnt`; RuntimeError if they do not fit."""
        self.load_state_dict(tensors)


class Trainable(Scorer):
    """A network that learns by descent, as `ffdetect train` does it."""

    @abstractmethod
    def load_pretrained(self, file: str | Path) -> None:
        """Start from a safetensors file; ValueError if it does not fit."""

    @abstractmethod
    def freeze(self, stages: int) -> None:
        """Keep the first stages of what was pretrained; ValueError if there are not so many."""

    @abstractmethod
    def parameter_groups(
        self, rate: float, pretrained_rate: float, layer_decay: float = 1.0
    ) -> list[dict[str, Any]]:
        """What an optimiser is given.

        Args:
            rate: of new layers.
            pretrained_rate: of the last layer of what was pretrained.
            layer_decay: rate of each layer before it, as a share of the next one's.

        Raises:
            ValueError: a decay, but nothing that it could be of.
        """
