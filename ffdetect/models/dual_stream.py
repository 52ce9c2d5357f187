"""The shipped network: an RGB stream, a frequency stream, and their learned fusion.

Each stream reads statistics of the layers of frozen trunks (`readers`) and maps them to a logit
by a linear head; a fusion, linear too, joins the logits. What a frozen trunk that has seen much of
the world tells of generators carries over to generators of which no picture was in training, where
a trunk tuned on a few thousand pictures learns these few (Ojha et al. 2023, "Towards Universal
Fake Image Detectors that Generalize Across Generative Models"; Koutlis & Papadopoulos 2024,
"Leveraging Representations from Intermediate Encoder-blocks for Synthetic Image Detection").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from .base import Logits, Scorer
from .heads import LinearHead
from .readers import READERS, RESIDUAL, create_readers
from .trunks import trunk_digest


@dataclass(frozen=True)
class DualStreamSettings:
    """What is needed to build the network again.

    Attributes:
        rgb, frequency: names of what each stream reads, see `readers.READERS`.
        design: how the registry finds this network.
    """

    rgb: tuple[str, ...] = ("clip_resized",)
    frequency: tuple[str, ...] = ("lite_residual",)
    design: str = "dual_stream"

    def __post_init__(self) -> None:
        for name in self.readers:
            if name not in READERS:
                raise ValueError(f"expected a reader among {sorted(READERS)} but got {name!r}")
        if not self.rgb or not self.frequency:
            raise ValueError("expected a reader for each of both streams but got none for one")

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of all readers, each once."""
        return tuple(dict.fromkeys((*self.rgb, *self.frequency)))

    @property
    def trunks(self) -> tuple[str, ...]:
        """Names of all trunks, each once."""
        return tuple(dict.fromkeys(READERS[name].trunk for name in self.readers))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DualStreamSettings:
        lists = {name: tuple(values[name]) for name in ("rgb", "frequency")}
        return cls(**{**values, **lists})


class DualStream(Scorer):
    """See the module. Trunks are loaded with the network; `learnt` leaves them out."""

    def __init__(self, settings: DualStreamSettings) -> None:
        super().__init__(settings)
        self.streams = {"rgb": settings.rgb, "frequency": settings.frequency}
        self.residual = RESIDUAL
        self.readers = create_readers(settings.readers)
        self.heads = nn.ModuleDict()
        for stream, names in self.streams.items():
            widths = [self.readers[name].features for name in names]
            self.heads[stream] = LinearHead(sum(widths))
        self.fusion = nn.Linear(2, 1)
        self.requires_grad_(False)

    def stream_logits(
        self,
        crops: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> Logits:
        """See `Scorer`; maps are computed anew, of the part that is looked at."""
        return self.judge(self.statistics(crops))

    def statistics(
        self, crops: torch.Tensor, watched: list[torch.Tensor] | None = None
    ) -> dict[str, torch.Tensor]:
        """What every reader tells of crops, uint8 N x 3 x H x W: float32 N x features each.

        Args:
            watched: takes a feature map of each reader, so that gradients by them can be had.
        """
        return {name: reader(crops, watched) for name, reader in self.readers.items()}

    def judge(self, statistics: Mapping[str, torch.Tensor]) -> Logits:
        """The logits of what `statistics` gave."""
        rgb, frequency = (
            self.heads[stream](torch.cat([statistics[name] for name in names], 1))
            for stream, names in self.streams.items()
        )
        fused = self.fusion(torch.stack([rgb, frequency], 1)).flatten().float()
        return Logits(fused, rgb, frequency)

    def evidence(self, crops: torch.Tensor) -> list[torch.Tensor]:
        watched: list[torch.Tensor] = []
        with torch.inference_mode(False), torch.enable_grad():
            logit = self.judge(self.statistics(crops.clone(), watched)).fused.sum()
            gradients = torch.autograd.grad(logit, watched)
        return [_as_map((x * g).detach()) for x, g in zip(watched, gradients, strict=True)]

    def inputs(self) -> dict[str, Any]:
        return {"trunks": {name: trunk_digest(name) for name in self.settings.trunks}}

    def learnt(self) -> dict[str, torch.Tensor]:
        return {n: t for n, t in self.state_dict().items() if not n.startswith("readers.")}

    def load_learnt(self, tensors: dict[str, torch.Tensor]) -> None:
        names = set(self.learnt())
        if names != set(tensors):
            raise ValueError(f"expected tensors {sorted(names)} but got {sorted(tensors)}")
        self.load_state_dict(tensors, strict=False)


def _as_map(x: torch.Tensor) -> torch.Tensor:
    """Tokens, N x (1 + h w) x D, as N x h x w x D without the class token; maps as they are."""
    if x.ndim == 4:
        return x
    side = round((x.shape[1] - 1) ** 0.5)
    return x[:, 1:].unflatten(1, (side, side))
