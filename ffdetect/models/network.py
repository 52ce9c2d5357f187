"""The dual-stream network: crops in, one logit a face out.

RGB stream: a backbone (see `backbones`) on the crop. Frequency stream: a small convolutional
network on the high-frequency residual and another on the averaged log spectrum, both from
`preprocess.faces.maps`. Fusion: a gated multimodal unit (Arevalo et al. 2017, "Gated Multimodal
Units for Information Fusion"), which weighs the streams anew for every face.

What was measured (`benchmarks/results/`, matched protocol, generators unseen in training): a
linear probe gets a mean AUC of .52 on NPR (Tan et al. 2024), .50 on SRM, .49 on the median
residual and .56 on the plain pixels. No residual is best everywhere (NPR leads the median
residual on SDXL, .56 to .38, and trails it on StyleGAN2, .59 to .73); NPR has the best mean of the
three, by less than the interval of a single figure (+-.05). In the trained network the gated
fusion read .682, the plain mean of both streams .673, RGB alone .683, frequency alone .550: a
frequency stream trained in this way adds nothing. The shipped weights have another design, see
`traces`; this one is for training any timm backbone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from preprocess.faces import maps

from .backbones import create_backbone, freeze_norms, load_backbone

STREAMS = ("both", "rgb", "frequency")
DESIGNS = ("gated", "traces")


@dataclass(frozen=True)
class NetworkSettings:
    """What is needed to build a network again.

    Attributes:
        backbone: a name that `backbones.create_backbone` knows.
        size: side of the crops it is made for.
        residual: a name from `preprocess.faces.maps.RESIDUALS`.
        streams: "both", or one of them alone for comparisons.
        width: channels of each stream before the fusion.
        frozen_norms: the backbone's batch norms are folded and stay fixed.
        design: "gated" for a `DualStream`, "traces" for a `traces.TraceNet`.
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
        if self.design not in DESIGNS:
            raise ValueError(f"expected a design among {DESIGNS} but got {self.design!r}")
        # A file's settings are not trusted: they must not fill the memory before its tensors are
        # compared with them.
        for name, most in (("width", 4096), ("size", 2048)):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"expected {name} of 1 to {most} but got {value!r}")

    def to_dict(self) -> dict:
        return asdict(self)


def create_network(settings: NetworkSettings) -> Scorer:
    """Build the network of these settings with random weights."""
    if settings.design == "traces":
        from .traces import TraceNet

        return TraceNet(settings)
    return DualStream(settings)


class Logits(NamedTuple):
    """float32 N each; positive means fake. A stream that the network lacks is None."""

    fused: torch.Tensor
    rgb: torch.Tensor | None
    frequency: torch.Tensor | None
    face: torch.Tensor | None = None


class Scorer(nn.Module):
    """A network of any design, which has streams: its `stream_logits` tells what each says.

    uint8 N x 3 x H x W RGB crops -> float32 N logits.
    """

    def __init__(self, settings: NetworkSettings) -> None:
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


class DualStream(Scorer):
    """Two streams over any backbone, and their fusion; see the module."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        self.rgb = self.frequency = None
        if settings.streams != "frequency":
            self.rgb = RGBStream(settings)
        if settings.streams != "rgb":
            self.frequency = FrequencyStream(settings)
        if settings.streams == "both":
            self.fusion = GatedFusion(settings.width)

    @property
    def pretrained(self) -> list[nn.Parameter]:
        """What training changes slowly, since it may start from pretrained weights."""
        return [] if self.rgb is None else list(self.rgb.backbone.parameters())

    def load_pretrained(self, file: str | Path) -> None:
        """Start the backbone from a file, see `backbones.load_backbone`."""
        load_backbone(self.rgb.backbone, file)
        if getattr(self.rgb.backbone, "frozen_norms", False):
            self.settings = replace(self.settings, frozen_norms=True)

    def stream_logits(
        self,
        crops: torch.Tensor,
        spectrum: torch.Tensor | None = None,
        residual: torch.Tensor | None = None,
    ) -> Logits:
        """The fused logit and those of each stream alone, which training also supervises."""
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

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.backbone = create_backbone(settings.backbone, settings.size)
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

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.kind = settings.residual
        self.on_residual = nn.Sequential(
            _block(3, 32, 2), _block(32, 64, 2), _block(64, 96), _block(96, 192, 2)
        )
        self.on_spectrum = nn.Sequential(
            nn.BatchNorm2d(1), _block(1, 16, 2), _block(16, 32, 2), _block(32, 64, 2),
            nn.AdaptiveAvgPool2d((8, 4)), nn.Flatten(), nn.Linear(64 * 8 * 4, 128), nn.ReLU(),
        )  # fmt: skip
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
