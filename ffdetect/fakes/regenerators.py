"""Generator networks that turn a real face into an aligned fake: an autoencoder and up-samplers.

A regenerator is a safetensors file as its author published it, known by its tensors: taef2 (by
madebyollin, MIT) and the Real-ESRGAN files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ffdetect.models.device import has_fast_bf16
from ffdetect.models.tensor_file import read_tensors

_ENDINGS = (".safetensors", ".fp16.safetensors")
_WIDTH, _LATENT, _HALVINGS, _BLOCKS = 64, 32, 3, 3  # of taef2
_FIRST = "encoder.0.weight"  # a tensor that taef2 has, and no up-sampler
_SCALE = 4  # of a Real-ESRGAN


@dataclass(frozen=True)
class Regenerated:
    """A regenerated face and the real one it is to be compared with, uint8 3 x H x W."""

    real: torch.Tensor
    fake: torch.Tensor


# Takes a uint8 3 x H x W crop and a seeded generator of random numbers.
Regenerator = Callable[[torch.Tensor, np.random.Generator], Regenerated]


class Autoencoder(nn.Module):
    """float N x 3 x H x W in 0..1 -> the same; sides are multiples of 8.

    The tiny autoencoder of FLUX.2's latent space (madebyollin's taesd family).
    """

    def __init__(self) -> None:
        super().__init__()
        last = _HALVINGS - 1
        stages: list[nn.Module] = [_conv(3, _WIDTH), _Block()]
        for i in range(_HALVINGS):
            stages.append(_conv(_WIDTH, _WIDTH, stride=2, bias=False))
            stages += [_Block(branch=i == last) for _ in range(_BLOCKS)]
        self.encoder = nn.Sequential(*stages, _conv(_WIDTH, _LATENT))
        stages = [_Squash(), _conv(_LATENT, _WIDTH), nn.ReLU()]
        for i in range(_HALVINGS):
            stages += [_Block(branch=i == 0) for _ in range(_BLOCKS)]
            stages += [nn.Upsample(scale_factor=2), _conv(_WIDTH, _WIDTH, bias=False)]
        self.decoder = nn.Sequential(*stages, _Block(), _conv(_WIDTH, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x))


def _conv(inputs: int, outputs: int, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


class _Squash(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(x / 3)


class _Block(nn.Module):
    """A residual block; with a branch that is normalised by groups, at the smallest scale."""

    def __init__(self, branch: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(_WIDTH, _WIDTH),
            nn.ReLU(),
            _conv(_WIDTH, _WIDTH),
            nn.ReLU(),
            _conv(_WIDTH, _WIDTH),
        )
        self.pool = (
            nn.Sequential(
                nn.Conv2d(_WIDTH, 4 * _WIDTH, 1, bias=False),
                nn.GroupNorm(4, 4 * _WIDTH),
                nn.ReLU(),
                nn.Conv2d(4 * _WIDTH, _WIDTH, 1, bias=False),
            )
            if branch
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(x + self.conv(x))


def load_autoencoder(file: str | Path) -> Autoencoder:
    """Read taef2.

    Raises:
        ValueError: no such file, not safetensors, or tensors of another network.
    """
    tensors = {name: tensor.float() for name, tensor in read_tensors(file)[0].items()}
    with torch.device("meta"):  # the file's tensors are taken as they are
        network = Autoencoder()
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{file}: expected the tensors of taef2: {error}") from error
    return network


def _autoencode(file: Path, device: str) -> Regenerator:
    network, step = _ready(load_autoencoder(file), device), 2**_HALVINGS

    def regenerate(crop: torch.Tensor, rng: np.random.Generator) -> Regenerated:
        # Generators draw faces at many sizes before they are shrunk to what is posted.
        size = crop.shape[-1]
        working = step * round(size * rng.choice([1, 1, 1.25, 1.5]) / step)
        picture = _resize(crop[None].to(device).float() / 255, working)
        # What bfloat16 moves is far below what any codec does.
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16()):
            fake = network(picture).float()
        return Regenerated(*(_to_pixels(_resize(x, size)) for x in (picture, fake)))

    return regenerate


def _real_esrgan(file: Path, device: str) -> Regenerator:
    """Shrink a face, which may be enlarged before, and have the network undo the shrinking."""
    try:
        import spandrel
    except ImportError as error:
        raise ValueError("upscalers need spandrel: pip install 'ffdetect[train]'") from error
    try:
        model = spandrel.ModelLoader().load_from_state_dict(read_tensors(file)[0]).model
    except spandrel.UnsupportedModelError as error:
        raise ValueError(
            f"{file}: expected taef2 or a Real-ESRGAN network but got another"
        ) from error
    network = _ready(model, device)

    def regenerate(crop: torch.Tensor, rng: np.random.Generator) -> Regenerated:
        size = crop.shape[-1]
        # A milder loss at twice the size; at its own size the upscaler invents more.
        working = size * int(rng.choice([1, 2]))
        picture = _resize(crop[None].to(device).float() / 255, working)
        small = _resize(picture, 2 * round(working / _SCALE / 2))
        fake = _resize(network(small), size)
        # Half of the reals are softened alike, or the pair would teach softness.
        soft = _resize(small, working) if rng.random() < 0.5 else picture
        return Regenerated(_to_pixels(_resize(soft, size)), _to_pixels(fake))

    return regenerate


def create_regenerator(kind: str, folder: str | Path, device: str = "cpu") -> Regenerator:
    """Load the regenerator that a folder holds under a name.

    `KIND.safetensors` or `KIND.fp16.safetensors` is the autoencoder or a Real-ESRGAN.

    Raises:
        ValueError: no such file, or not a usable one.
    """
    for end in _ENDINGS:
        file = Path(folder) / f"{kind}{end}"
        if file.is_file():
            encodes = _FIRST in read_tensors(file)[0]
            return (_autoencode if encodes else _real_esrgan)(file, device)
    found = sorted({file.name.split(".")[0] for file in Path(folder).glob("*.safetensors")})
    raise ValueError(f"{folder}: expected {kind}.safetensors but there are only {found}")


def _ready(network: nn.Module, device: str) -> nn.Module:
    network = network.float().eval().requires_grad_(False).to(device)
    return network.to(memory_format=torch.channels_last)


def _resize(pictures: torch.Tensor, size: int) -> torch.Tensor:
    if pictures.shape[-1] == size:
        return pictures
    return F.interpolate(
        pictures, (size, size), mode="bicubic", align_corners=False, antialias=True
    ).clamp(0, 1)


def _to_pixels(picture: torch.Tensor) -> torch.Tensor:
    return picture[0].clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
