"""What a stream reads of a crop: one vector of statistics of a frozen trunk's layers.

| name | of what |
|---|---|
| clip_resized | CLIP on the whole crop, shrunk to the trunk's side |
| clip_native | CLIP on the middle of the crop, no pixel resampled |
| clip_inner | CLIP on the inner face, from the brows to the mouth, enlarged |
| lite_rgb | EfficientNet-Lite0's early stages on the crop, by regions of the face |
| lite_residual | the same on the crop's high-frequency residual |

Another reader is a class and an entry in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from preprocess.faces import maps

from .pooling import (
    face_ellipse,
    middle,
    region_moments,
    region_shares,
    resized,
    token_moments,
    token_shares,
)
from .trunks import ClipTrunk, LiteTrunk, load_trunk

_CLIP_TAPS = (5, 6, 7, 8)
_PATCH = 16  # pixels of a token's side
_RGB_STAGES = 5  # later ones see too much of the face to tell its regions apart
_RESIDUAL_STAGES = 3
RESIDUAL = "detail"
_RESIDUAL_LIMIT = 4.0
_RESIDUAL_GAIN = 6.0  # residuals are a few grey levels; the trunk is used to pictures


class Window(NamedTuple):
    """The middle of the crop, which is shrunk or enlarged to the trunk's side.

    Attributes:
        side: pixels of the crop; None for all of it.
        ellipse: half axes of the face in it, as shares of its side.
    """

    side: int | None
    ellipse: tuple[float, float]


class ClipReader(nn.Module):
    """Moments of the tokens after some blocks of CLIP.

    Args:
        trunk: shared by all readers of it.
        window: what it is shown of the crop.
    """

    def __init__(self, trunk: ClipTrunk, window: Window) -> None:
        super().__init__()
        self.trunk, self.window = trunk, window
        self.features = len(_CLIP_TAPS) * 7 * trunk.width
        for name, values in (("mean", trunk.mean), ("std", trunk.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def view(self, crops: torch.Tensor) -> torch.Tensor:
        """float32 N x 3 x 224 x 224, what the trunk is given of uint8 N x 3 x H x W."""
        shown = crops if self.window.side is None else middle(crops, self.window.side)
        return (resized(shown, self.trunk.side) / 255 - self.mean) / self.std

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """uint8 N x 3 x H x W -> float32 N x features."""
        moments = [token_moments(x, self._inside(crops)).flatten(1) for x in self._tapped(crops)]
        return torch.cat(moments, 1)

    def shares(
        self, crops: torch.Tensor, slope: torch.Tensor, offset: torch.Tensor
    ) -> list[torch.Tensor]:
        """What each place of the crop adds to a line on what is read: float32 N x 1 x h x w each.

        Args:
            slope, offset: float32 N x features, see `pooling.token_shares`.
        """
        tapped = self._tapped(crops)
        both = (v.view(len(crops), len(tapped), 7, -1).unbind(1) for v in (slope, offset))
        lines = zip(tapped, *both, strict=True)
        places = torch.stack([token_shares(x, self._inside(crops), *line) for x, *line in lines])
        side = self.trunk.side // _PATCH
        around = round(side * (crops.shape[-1] / (self.window.side or crops.shape[-1]) - 1) / 2)
        return [nn.functional.pad(places.sum(0).view(-1, 1, side, side), [around] * 4)]

    def _tapped(self, crops: torch.Tensor) -> list[torch.Tensor]:
        return self.trunk(self.view(crops), _CLIP_TAPS)

    def _inside(self, crops: torch.Tensor) -> torch.Tensor:
        return face_ellipse(self.trunk.side // _PATCH, *self.window.ellipse, crops.device)


class LiteReader(nn.Module):
    """Moments of EfficientNet-Lite0's early channels by regions of the face: what differs from
    place to place where a part was changed.

    Args:
        trunk: shared by all readers of it.
        residual: of the high-frequency residual, not of the picture itself.
    """

    def __init__(self, trunk: LiteTrunk, residual: bool) -> None:
        super().__init__()
        self.trunk, self.residual = trunk, residual
        with torch.no_grad():
            self.features = self(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape[1]

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """uint8 N x 3 x H x W -> float32 N x features."""
        return torch.cat([region_moments(stage) for stage in self._stages(crops)], 1)

    def shares(
        self, crops: torch.Tensor, slope: torch.Tensor, offset: torch.Tensor
    ) -> list[torch.Tensor]:
        """What each place of the crop adds to a line on what is read: float32 N x 1 x h x w each.

        Args:
            slope, offset: float32 N x features, see `pooling.token_shares`.
        """
        stages = self._stages(crops)
        sizes = [8 * stage.shape[1] for stage in stages]
        lines = zip(stages, slope.split(sizes, 1), offset.split(sizes, 1), strict=True)
        return [region_shares(stage, *line)[:, None] for stage, *line in lines]

    def _stages(self, crops: torch.Tensor) -> list[torch.Tensor]:
        x = _filtered(crops) if self.residual else (crops.float() - 127) / 128
        return self.trunk(x, _RESIDUAL_STAGES if self.residual else _RGB_STAGES)


def _filtered(pixels: torch.Tensor) -> torch.Tensor:
    """The high-frequency residual, as strong as the trunk is used to pictures."""
    x = maps.residual(pixels, RESIDUAL).float() * (_RESIDUAL_GAIN / 128)
    return x.clamp(-_RESIDUAL_LIMIT, _RESIDUAL_LIMIT)


class Entry(NamedTuple):
    """Name of a trunk, and what makes the reader on it."""

    trunk: str
    create: Callable[[Any], ClipReader | LiteReader]


READERS: dict[str, Entry] = {
    "clip_resized": Entry("clip_vit_b16", partial(ClipReader, window=Window(None, (0.30, 0.38)))),
    "clip_native": Entry("clip_vit_b16", partial(ClipReader, window=Window(224, (0.42, 0.50)))),
    "clip_inner": Entry("clip_vit_b16", partial(ClipReader, window=Window(160, (0.42, 0.42)))),
    "lite_rgb": Entry("efficientnet_lite0", partial(LiteReader, residual=False)),
    "lite_residual": Entry("efficientnet_lite0", partial(LiteReader, residual=True)),
}


def create_readers(names: Sequence[str]) -> nn.ModuleDict:
    """Readers by name, those of one trunk sharing it, which is loaded and frozen."""
    trunks = {name: load_trunk(name) for name in {READERS[name].trunk for name in names}}
    return nn.ModuleDict({n: READERS[n].create(trunks[READERS[n].trunk]) for n in names})
