"""The shipped network: an RGB stream, a frequency stream, and their learned fusion.

Each stream has readers, which take statistics of the layers of frozen trunks (`readers`). A linear
head maps those of each reader to a logit; a fusion, linear too, joins the logits. What a frozen
trunk that has seen much of the world tells of generators carries over to generators of which no
picture was in training, where a trunk tuned on a few thousand pictures learns these few (Ojha et
al. 2023, "Towards Universal Fake Image Detectors that Generalize Across Generative Models";
Koutlis & Papadopoulos 2024, "Leveraging Representations from Intermediate Encoder-blocks for
Synthetic Image Detection").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ffdetect.models.frozen.readers import READERS, RESIDUAL, create_readers
from ffdetect.models.frozen.trunks import trunk_digest

from .base import Logits, Scorer
from .heads import LinearHead


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
        if set(self.rgb) & set(self.frequency):
            raise ValueError(f"expected other readers in each stream but got {self.rgb} in both")

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of all readers, those of the RGB stream first."""
        return (*self.rgb, *self.frequency)

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
        self.residual = RESIDUAL
        self.readers = create_readers(settings.readers)
        self.heads = nn.ModuleDict({n: LinearHead(r.features) for n, r in self.readers.items()})
        self.fusion = nn.Linear(len(self.heads), 1)
        self.requires_grad_(False)

    def stream_logits(
        self,
        crops: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> Logits:
        """See `Scorer`; maps are computed anew, of the part that is looked at."""
        return self.judge(self.statistics(crops))

    def statistics(self, crops: torch.Tensor) -> dict[str, torch.Tensor]:
        """What every reader tells of crops, uint8 N x 3 x H x W: float32 N x features each."""
        return {name: reader(crops) for name, reader in self.readers.items()}

    def judge(self, statistics: Mapping[str, torch.Tensor]) -> Logits:
        """The logits of what `statistics` gave."""
        logits = torch.stack([head(statistics[name]) for name, head in self.heads.items()], 1)
        first = len(self.settings.rgb)
        rgb, frequency = (
            logits[:, own] @ (weight[own] / weight[own].sum())
            for weight in self.fusion.weight
            for own in (slice(first), slice(first, None))
        )
        return Logits(self.fusion(logits).flatten().float(), rgb, frequency)

    def evidence(self, crops: torch.Tensor) -> list[torch.Tensor]:
        watched: dict[str, list[torch.Tensor]] = {name: [] for name in self.readers}
        with torch.inference_mode(False), torch.enable_grad():
            own = crops.clone()
            seen = {name: reader(own, watched[name]) for name, reader in self.readers.items()}
            maps = [(self.readers[name].side, x) for name, xs in watched.items() for x in xs]
            gradients = torch.autograd.grad(self.judge(seen).fused.sum(), [x for _, x in maps])
        width = crops.shape[-1]
        return [
            _in_place((x * gradient).detach(), min(side or width, width) / width)
            for (side, x), gradient in zip(maps, gradients, strict=True)
        ]

    def inputs(self) -> dict[str, Any]:
        return {"trunks": {name: trunk_digest(name) for name in self.settings.trunks}}

    def learnt(self) -> dict[str, torch.Tensor]:
        return {n: t for n, t in self.state_dict().items() if not n.startswith("readers.")}

    def load_learnt(self, tensors: dict[str, torch.Tensor]) -> None:
        names = set(self.learnt())
        if names != set(tensors):
            raise ValueError(f"expected tensors {sorted(names)} but got {sorted(tensors)}")
        self.load_state_dict(tensors, strict=False)


def _in_place(x: torch.Tensor, share: float) -> torch.Tensor:
    """N x C x h x w, of the whole crop: nothing around a map of the middle of it.

    Args:
        x: N x C x h x w, or tokens, N x (1 + h w) x C.
        share: of the crop's side that the map covers.
    """
    if x.ndim == 3:
        side = round((x.shape[1] - 1) ** 0.5)
        x = x[:, 1:].unflatten(1, (side, side)).movedim(-1, 1)
    around = round(x.shape[-1] * (1 / share - 1) / 2)
    return nn.functional.pad(x, [around] * 4)
