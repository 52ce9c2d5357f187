"""The network that learns by descent: any timm backbone beside a frequency stream, gated.

RGB stream: a backbone (see `backbones`) on the crop. Frequency stream: a small convolutional
network on the high-frequency residual and another on the averaged log spectrum, both from
`preprocess.faces.maps`. Fusion: a gated multimodal unit (Arevalo et al. 2017, "Gated Multimodal
Units for Information Fusion"), which weighs the streams anew for every face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from preprocess.faces import maps

from .backbones import (
    create_backbone,
    freeze_norms,
    freeze_stages,
    layer_rates,
    load_backbone,
)
from .base import Logits, Trainable

STREAMS = ("both", "rgb", "frequency")
# Settings that say nothing of a network with one stream alone.
_ABSENT = {"rgb": ("residual",), "frequency": ("backbone", "frozen_norms")}


@dataclass(frozen=True)
class GatedSettings:
    """What is needed to build a network again.

    Attributes:
        backbone: a name that `backbones.create_backbone` knows.
        size: side of the crops it is made for.
        residual: a name from `preprocess.faces.maps.RESIDUALS`.
        streams: "both", or one of them alone for comparisons.
        width: channels of each stream before the fusion.
        frozen_norms: the backbone's batch norms are folded and stay fixed.
        design: how the registry finds this network.
    """

    backbone: str = "tf_efficientnet_lite0"
    size: int = 256
    residual: str = "npr"
    streams: str = "both"
    width: int = 256
    frozen_norms: bool = False
    design: str = "gated"

    def __post_init__(self) -> None:
        if self.streams not in STREAMS:
            raise ValueError(f"expected streams to be one of {STREAMS} but got {self.streams!r}")
        # A file's settings are not trusted: they must not fill the memory before its tensors are
        # compared with them.
        for name, most in (("width", 4096), ("size", 2048)):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"expected {name} of 1 to {most} but got {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """Without what a missing stream would have; files of versions before name that too."""
        absent = _ABSENT.get(self.streams, ())
        return {name: value for name, value in asdict(self).items() if name not in absent}


class GatedNetwork(Trainable):
    """Two streams over any backbone, and their fusion; see the module."""

    settings: GatedSettings

    def __init__(self, settings: GatedSettings) -> None:
        super().__init__(settings)
        self.residual = None if settings.streams == "rgb" else settings.residual
        self.rgb: RGBStream | None = None
        self.frequency: FrequencyStream | None = None
        if settings.streams != "frequency":
            self.rgb = RGBStream(settings)
        if settings.streams != "rgb":
            self.frequency = FrequencyStream(settings)
        if settings.streams == "both":
            self.fusion = GatedFusion(settings.width)

    @property
    def backbone(self) -> nn.Module:
        """Of the RGB stream.

        Raises:
            ValueError: there is none.
        """
        if self.rgb is None:
            raise ValueError(f"expected a backbone but got streams {self.settings.streams!r}")
        return self.rgb.backbone

    def load_pretrained(self, file: str | Path) -> None:
        """Start the backbone from a file, see `backbones.load_backbone`."""
        load_backbone(self.backbone, file)
        if getattr(self.backbone, "frozen_norms", False):
            self.settings = replace(self.settings, frozen_norms=True)

    def freeze(self, stages: int) -> None:
        """Keep the backbone's first stages as they are, see `backbones.freeze_stages`."""
        freeze_stages(self.backbone, stages)

    def parameter_groups(
        self, rate: float, pretrained_rate: float, layer_decay: float = 1.0
    ) -> list[dict[str, Any]]:
        pretrained = [] if self.rgb is None else list(self.rgb.backbone.parameters())
        known = {id(parameter) for parameter in pretrained}
        groups = [{"params": [p for p in self.parameters() if id(p) not in known], "lr": rate}]
        if layer_decay < 1:
            groups += layer_rates(self.backbone, pretrained_rate, layer_decay)
        elif learning := [p for p in pretrained if p.requires_grad]:
            groups.append({"params": learning, "lr": pretrained_rate})
        return groups

    def stream_logits(
        self,
        crops: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> Logits:
        """See `Scorer`; training supervises the logits of the streams too."""
        outputs = []
        if self.rgb is not None:
            outputs.append(self.rgb(crops))
        if self.frequency is not None:
            outputs.append(self.frequency(crops, spectrum, residual))
        if self.settings.streams == "rgb":
            return Logits(outputs[0].logit, outputs[0].logit, None)
        if self.settings.streams == "frequency":
            return Logits(outputs[0].logit, None, outputs[0].logit)
        fused = self.fusion(*[output.features for output in outputs])
        return Logits(fused, outputs[0].logit, outputs[1].logit)

    def evidence(self, crops: torch.Tensor) -> list[torch.Tensor]:
        """See `Scorer`: activation times gradient, on the last feature map of each stream.

        Raises:
            ImportError: captum is missing.
            ValueError: a backbone without any square feature map.
        """
        try:
            from captum.attr import LayerGradientXActivation
        except ImportError as error:
            raise ImportError("heat maps need captum: pip install 'ffdetect[explain]'") from error
        layers: list[nn.Module] = []
        if self.rgb is not None:
            layers.append(_last_map(self.rgb, crops))
        if self.frequency is not None:
            layers.append(self.frequency.on_residual)
        # Captum wants float inputs; the network is given bytes, as when it scores.
        method = LayerGradientXActivation(lambda x: self(x.to(torch.uint8)), layers)
        with torch.inference_mode(False), torch.enable_grad():
            shares: Sequence[torch.Tensor] = method.attribute(crops.clone().float())
        return [share.detach() for share in shares]

    def inputs(self) -> dict[str, Any]:
        normal = None if self.rgb is None else self.rgb.backbone
        return {
            "maps": {
                "residual": self.residual,
                "spectrum": None if self.frequency is None else maps.SPECTRUM_NAME,
            },
            "normalisation": {
                "mean": None if normal is None else list(normal.mean),
                "std": None if normal is None else list(normal.std),
            },
        }


class StreamOutput(NamedTuple):
    """`features` float32 N x width for the fusion, `logit` float32 N of the stream alone."""

    features: torch.Tensor
    logit: torch.Tensor


class _Head(nn.Module):
    """Pooled features -> what the fusion takes, and the stream's own logit."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.LayerNorm(features), nn.Dropout(0.2), nn.Linear(features, width)
        )
        self.logit = nn.Linear(width, 1)

    def forward(self, pooled: torch.Tensor) -> StreamOutput:
        features = self.project(pooled.float()).float()
        return StreamOutput(features, self.logit(torch.tanh(features)).flatten().float())


class RGBStream(nn.Module):
    """A backbone on the normalised crop."""

    def __init__(self, settings: GatedSettings) -> None:
        super().__init__()
        self.backbone: Any = create_backbone(settings.backbone, settings.size)
        if settings.frozen_norms:
            freeze_norms(self.backbone)
        self.register_buffer("mean", _per_channel(self.backbone.mean), persistent=False)
        self.register_buffer("std", _per_channel(self.backbone.std), persistent=False)
        self.head = _Head(self.backbone.features, settings.width)

    def forward(self, crops: torch.Tensor) -> StreamOutput:
        x = (crops.float() / 255 - self.mean) / self.std
        return self.head(self.backbone(x.contiguous(memory_format=torch.channels_last)))


def _per_channel(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


class FrequencyStream(nn.Module):
    """Convolutions on the residual at full resolution and on the averaged spectrum."""

    def __init__(self, settings: GatedSettings) -> None:
        super().__init__()
        self.kind = settings.residual
        self.on_residual = nn.Sequential(
            _block(3, 32, 2), _block(32, 64, 2), _block(64, 96), _block(96, 192, 2)
        )
        self.on_spectrum = nn.Sequential(
            nn.BatchNorm2d(1),
            _block(1, 16, 2),
            _block(16, 32, 2),
            _block(32, 64, 2),
            nn.AdaptiveAvgPool2d((8, 4)),
            nn.Flatten(),
            nn.Linear(64 * 8 * 4, 128),
            nn.ReLU(),
        )
        self.head = _Head(2 * 192 + 128, settings.width)

    def forward(
        self,
        crops: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> StreamOutput:
        if residual is None:
            residual = maps.residual(crops, self.kind)
        if spectrum is None:
            spectrum = maps.spectrum(crops)
        x = (residual.float() / 16).contiguous(memory_format=torch.channels_last)
        x = self.on_residual(x).flatten(2).float()
        # How strong a trace is on average, and how unevenly it lies over the face.
        pooled = [x.mean(2), x.var(2, unbiased=False).add(1e-5).sqrt()]
        return self.head(torch.cat([*pooled, self.on_spectrum(spectrum.float()[:, None])], 1))


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class GatedFusion(nn.Module):
    """Gated multimodal unit: each channel takes its share of either stream, decided by both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, width)
        self.logit = nn.Sequential(nn.Dropout(0.2), nn.Linear(width, 1))

    def forward(self, rgb: torch.Tensor, frequency: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.gate(torch.cat([rgb, frequency], 1)))
        mixed = gate * torch.tanh(rgb) + (1 - gate) * torch.tanh(frequency)
        return self.logit(mixed).flatten().float()


def _last_map(stream: RGBStream, crops: torch.Tensor) -> nn.Module:
    """The part of a stream that gives its last feature map.

    A feature map is square, as crops are, smaller than the crop and more than a pooled vector.
    For a transformer that keeps its places in a list, that is the embedding of its patches.
    """
    found: list[nn.Module] = []

    def look(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            sides = [s for s in (output.shape[2:], output.shape[1:3]) if s[0] == s[1]]
            if sides and 1 < sides[0][0] < crops.shape[-1]:
                found.append(module)

    hooks = [module.register_forward_hook(look) for module in stream.modules()]
    try:
        with torch.no_grad():
            stream(crops)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        backbone = type(stream.backbone).__name__
        raise ValueError(f"expected a backbone with a feature map but {backbone} has none")
    return found[-1]
