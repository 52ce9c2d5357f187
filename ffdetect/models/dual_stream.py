"""The shipped network: an RGB stream, a frequency stream, and their learned fusion.

Each stream has readers, which take statistics of the layers of frozen trunks (`readers`). What a
frozen trunk that has seen much of the world tells of generators carries over to generators of which
no picture was in training, where a trunk tuned on a few thousand pictures learns these few (Ojha et
al. 2023, "Towards Universal Fake Image Detectors that Generalize Across Generative Models";
Koutlis & Papadopoulos 2024, "Leveraging Representations from Intermediate Encoder-blocks for
Synthetic Image Detection").

Fakes are of several kinds: pictures that were generated whole, photographs of which a part was
changed, frames of clips that were driven or dubbed. What gives one away says little of another, so
each kind has linear heads of its own on the same statistics. A face is fake if it is of any kind:
the fused logit is the log of the kinds' summed odds, each less a margin. Which kinds are likely
depends on where a face is from: pictures are generated, in frames of video faces are swapped or
driven. So a picture's margins lie between those of stills and those of frames, by how much it looks
like a frame of video, which has a line of its own; frames of clips have margins of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from ffdetect.models.frozen.readers import READERS, RESIDUAL, create_readers
from ffdetect.models.frozen.trunks import trunk_digest

from .base import Logits, Scorer
from .heads import LinearHead


@dataclass(frozen=True)
class Kind:
    """What one kind of fake is told by.

    Attributes:
        rgb, frequency: names of what each stream reads, see `readers.READERS`.
        margin: what is taken off this kind's logit in still pictures before kinds are joined; the
            rarer a kind is among them, the greater.
        frame_margin: the same in pictures that look like frames of video.
        clip_margin: the same in frames of clips.
    """

    rgb: tuple[str, ...] = ()
    frequency: tuple[str, ...] = ()
    margin: float = 0.0
    frame_margin: float = 0.0
    clip_margin: float = 0.0

    def __post_init__(self) -> None:
        for name in ("margin", "frame_margin", "clip_margin"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value):
                raise ValueError(f"expected a finite {name} but got {value!r}")

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of all readers, those of the RGB stream first."""
        return (*self.rgb, *self.frequency)


@dataclass(frozen=True)
class DualStreamSettings:
    """What is needed to build the network again.

    Attributes:
        kinds: of fakes, by name.
        frames: names of readers, of any kind, that tell frames of video from still pictures; if
            none, every picture is a still one unless it is known to be of a clip.
        design: how the registry finds this network.
    """

    kinds: Mapping[str, Kind]
    frames: tuple[str, ...] = ()
    design: str = "dual_stream"

    def __post_init__(self) -> None:
        streams = {
            stream: {name for kind in self.kinds.values() for name in getattr(kind, stream)}
            for stream in ("rgb", "frequency")
        }
        for name in self.readers:
            if name not in READERS:
                raise ValueError(f"expected a reader among {sorted(READERS)} but got {name!r}")
        if not self.kinds or not all(kind.readers for kind in self.kinds.values()):
            raise ValueError(f"expected kinds with a reader each but got {dict(self.kinds)}")
        if both := streams["rgb"] & streams["frequency"]:
            raise ValueError(f"expected other readers in each stream but got {both} in both")
        if unread := set(self.frames) - set(self.readers):
            raise ValueError(f"expected frames to be told by readers of kinds but got {unread}")

    @property
    def readers(self) -> tuple[str, ...]:
        """Names of all readers, each once."""
        return tuple(dict.fromkeys(n for kind in self.kinds.values() for n in kind.readers))

    @property
    def trunks(self) -> tuple[str, ...]:
        """Names of all trunks, each once."""
        return tuple(dict.fromkeys(READERS[name].trunk for name in self.readers))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DualStreamSettings:
        """Raises ValueError for the settings of weights that had one kind alone."""
        if "kinds" not in values:
            raise ValueError(
                "expected heads for every kind of fake but got one set of heads: solve the "
                "weights anew by ffdetect.solving.solve, or take those of the package"
            )
        kinds = {
            name: Kind(**{**kind, "rgb": tuple(kind["rgb"]), "frequency": tuple(kind["frequency"])})
            for name, kind in values["kinds"].items()
        }
        return cls(**{**values, "kinds": kinds, "frames": tuple(values.get("frames", ()))})


class DualStream(Scorer):
    """See the module. Trunks are loaded with the network; `learnt` leaves them out."""

    settings: DualStreamSettings

    def __init__(self, settings: DualStreamSettings) -> None:
        super().__init__(settings)
        self.residual = RESIDUAL
        self.readers = create_readers(settings.readers)
        self.heads = nn.ModuleDict(
            {
                name: nn.ModuleDict({n: LinearHead(self.readers[n].features) for n in kind.readers})
                for name, kind in settings.kinds.items()
            }
        )
        self.fusions = nn.ModuleDict(
            {name: nn.Linear(len(kind.readers), 1) for name, kind in settings.kinds.items()}
        )
        self.frames = nn.ModuleDict(
            {name: LinearHead(self.readers[name].features) for name in settings.frames}
        )
        self.requires_grad_(False)

    def stream_logits(
        self,
        crops: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> Logits:
        """See `Scorer`; maps are computed anew, of the part that is looked at."""
        return self.judge(self.statistics(crops))

    def clip_logits(self, crops: torch.Tensor) -> torch.Tensor:
        return self.judge(self.statistics(crops), clip=True).fused

    def statistics(self, crops: torch.Tensor) -> dict[str, torch.Tensor]:
        """What every reader tells of crops, uint8 N x 3 x H x W: float32 N x features each."""
        return {name: reader(crops).float() for name, reader in self.readers.items()}

    def judge(self, statistics: Mapping[str, torch.Tensor], clip: bool = False) -> Logits:
        """The logits of what `statistics` gave.

        Args:
            clip: whether the crops are known to be of frames of clips.
        """
        device = next(iter(statistics.values())).device.type
        with torch.autocast(device, enabled=False):  # half precision holds no small differences
            return self._judge(statistics, clip)

    def _judge(self, statistics: Mapping[str, torch.Tensor], clip: bool) -> Logits:
        fused: list[torch.Tensor] = []
        rgb: list[torch.Tensor] = []
        frequency: list[torch.Tensor] = []
        for name, logits, start in self._kinds(statistics, clip):
            weight, first = self.fusions[name].weight[0], len(self.settings.kinds[name].rgb)
            fused.append(logits @ weight + start)
            for found, own in ((rgb, slice(first)), (frequency, slice(first, None))):
                if logits[:, own].shape[1]:
                    share = weight[own] * (weight.sum() / weight[own].sum())
                    found.append(logits[:, own] @ share + start)
        joined = [torch.stack(x, 1).logsumexp(1) if x else None for x in (rgb, frequency)]
        return Logits(torch.stack(fused, 1).logsumexp(1), *joined)

    def _kinds(
        self, statistics: Mapping[str, torch.Tensor], clip: bool
    ) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        """Of each kind its name, what its readers say, N x readers, and what is added to that."""
        video = 0.0 if clip else self.video_likeness(statistics)
        for name, kind in self.settings.kinds.items():
            heads = self.heads[name]
            logits = torch.stack([heads[n](statistics[n]) for n in kind.readers], 1)
            margin = kind.margin + video * (kind.frame_margin - kind.margin)
            yield name, logits, self.fusions[name].bias - (kind.clip_margin if clip else margin)

    def video_likeness(self, statistics: Mapping[str, torch.Tensor]) -> torch.Tensor | float:
        """float32 N in 0..1: how much crops look like frames of video, by their statistics."""
        if not self.frames:
            return 0.0
        told = torch.stack([head(statistics[name]) for name, head in self.frames.items()])
        return told.mean(0).clamp(0, 1)

    @torch.no_grad()
    def evidence(self, crops: torch.Tensor) -> list[torch.Tensor]:
        """See `Scorer`: how the lines of all kinds divide among places, each kind by its share of
        the odds. Nothing lies anywhere in what the class token says, nor in margins."""
        seen = self.statistics(crops)
        kinds = list(self._kinds(seen, clip=False))
        logits = [own @ self.fusions[name].weight[0] + start for name, own, start in kinds]
        odds = torch.stack(logits, 1).softmax(1)
        maps = []
        for reader, read in self.readers.items():
            slope = offset = torch.zeros_like(seen[reader])
            for (name, kind), share in zip(self.settings.kinds.items(), odds.T, strict=True):
                if reader in kind.readers:
                    head, weight = self.heads[name][reader], self.fusions[name].weight[0]
                    own = head.slopes(seen[reader]) * weight[kind.readers.index(reader)]
                    slope = slope + share[:, None] * own
                    offset = offset + share[:, None] * own * head.centre
            maps += read.shares(crops, slope, offset)
        return maps

    def inputs(self) -> dict[str, Any]:
        return {"trunks": {name: trunk_digest(name) for name in self.settings.trunks}}

    def learnt(self) -> dict[str, torch.Tensor]:
        return {n: t for n, t in self.state_dict().items() if not n.startswith("readers.")}

    def load_learnt(self, tensors: dict[str, torch.Tensor]) -> None:
        names = set(self.learnt())
        if names != set(tensors):
            raise ValueError(f"expected tensors {sorted(names)} but got {sorted(tensors)}")
        self.load_state_dict(tensors, strict=False)
