"""Generator networks that turn a real face into an aligned fake: autoencoders and up-samplers.

A regenerator file is a safetensors file. `taef2` and the Real-ESRGAN files come from their
authors and are known by name; autoencoders trained by `train_regenerator` carry their
settings in the metadata and may have any name. Up-samplers in ncnn's format may have any name, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms import v2

from ffdetect.models.device import has_fast_bf16
from ffdetect.models.tensor_file import read_tensors, write_tensors

from .ncnn_upscaler import NcnnUpscaler

_ENDINGS = (".safetensors", ".fp16.safetensors", ".param")
UPSAMPLERS = ("nearest", "bilinear", "shuffle", "transposed")


@dataclass(frozen=True)
class Twins:
    """A regenerated face and the real one it is to be compared with, uint8 3 x H x W."""

    real: torch.Tensor
    fake: torch.Tensor


# Takes a uint8 3 x H x W crop and a seeded generator of random numbers.
Regenerator = Callable[[torch.Tensor, np.random.Generator], Twins]


@dataclass(frozen=True)
class AutoencoderSettings:
    """The shape of an autoencoder; the defaults are those of taef2.

    Attributes:
        width: channels of every layer.
        latent: channels of the latent.
        halvings: the latent is 2 to this power smaller than the picture.
        blocks: residual blocks at each scale.
        branches: the blocks at the smallest scale have a group-normalised branch.
        upsampler: one of `UPSAMPLERS`, what doubles the size in the decoder.
        noise: deviation of the noise added to the latent, in deviations of the latent.
        gain: deviation of the random factors, one a channel, that each doubled map is multiplied
            with. Every picture then has a decoder of its own; tones are taken from the input.
    """

    width: int = 64
    latent: int = 32
    halvings: int = 3
    blocks: int = 3
    branches: bool = True
    upsampler: str = "nearest"
    noise: float = 0.0
    gain: float = 0.0

    def __post_init__(self) -> None:
        if self.upsampler not in UPSAMPLERS:
            raise ValueError(f"expected an upsampler among {UPSAMPLERS} but got {self.upsampler!r}")
        # A file's settings are not trusted: they must not fill the memory before its tensors are
        # compared with them.
        for name, most in (("width", 1024), ("latent", 1024), ("halvings", 6), ("blocks", 32)):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"expected {name} of 1 to {most} but got {value!r}")


class Autoencoder(nn.Module):
    """float N x 3 x H x W in 0..1 -> the same; sides are multiples of 2 ** halvings.

    With the default settings it is the tiny autoencoder of FLUX.2's latent space (madebyollin's
    taesd family, MIT).
    """

    def __init__(self, settings: AutoencoderSettings | None = None) -> None:
        super().__init__()
        self.settings = s = settings or AutoencoderSettings()
        last = s.halvings - 1
        stages: list[nn.Module] = [_conv(3, s.width), _Block(s.width)]
        for i in range(s.halvings):
            stages.append(_conv(s.width, s.width, stride=2, bias=False))
            stages += [_Block(s.width, s.branches and i == last) for _ in range(s.blocks)]
        self.encoder = nn.Sequential(*stages, _conv(s.width, s.latent))
        stages = [_Squash(), _conv(s.latent, s.width), nn.ReLU()]
        self._doubled = []
        for i in range(s.halvings):
            stages += [_Block(s.width, s.branches and i == 0) for _ in range(s.blocks)]
            stages += _double(s.upsampler, s.width)
            self._doubled.append(len(stages) - 1)
        self.decoder = nn.Sequential(*stages, _Block(s.width), _conv(s.width, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        latent = self.encoder(x)
        if self.settings.noise:
            strength = self.settings.noise * latent.std((1, 2, 3), keepdim=True)
            latent = latent + strength * torch.randn_like(latent)
        if not self.settings.gain:
            return self.decoder(latent)
        y = latent
        for number, layer in enumerate(self.decoder):
            y = layer(y)
            if number in self._doubled:
                y = y * (1 + self.settings.gain * torch.randn(*y.shape[:2], 1, 1, device=y.device))
        return y + _tones(x - y)


def _conv(inputs: int, outputs: int, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def _tones(x: torch.Tensor) -> torch.Tensor:
    """What is left of a picture under a Gaussian blur of 3 pixels, in float32.

    In bfloat16 and channels-last PyTorch's depthwise convolution takes minutes a picture.
    """
    with torch.autocast(x.device.type, enabled=False):
        return v2.functional.gaussian_blur(x.float().contiguous(), [19, 19], [3.0, 3.0])


class _Squash(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(x / 3)


class _Block(nn.Module):
    def __init__(self, width: int, branch: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width)
        )
        self.pool = (
            nn.Sequential(
                nn.Conv2d(width, 4 * width, 1, bias=False),
                nn.GroupNorm(4, 4 * width),
                nn.ReLU(),
                nn.Conv2d(4 * width, width, 1, bias=False),
            )
            if branch
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return F.relu(x + self.conv(x))


def _double(upsampler: str, width: int) -> list[nn.Module]:
    """Two modules, so that a decoder's layers keep their numbers whatever doubles the size."""
    if upsampler == "shuffle":
        return [_conv(width, 4 * width, bias=False), nn.PixelShuffle(2)]
    if upsampler == "transposed":
        return [nn.Identity(), nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False)]
    smooth = {"align_corners": False} if upsampler == "bilinear" else {}
    doubled = nn.Upsample(scale_factor=2, mode=upsampler, **smooth)
    return [doubled, _conv(width, width, bias=False)]


def with_upsampler(
    network: Autoencoder, upsampler: str, noise: float = 0.0, gain: float = 0.0
) -> Autoencoder:
    """A copy of a network with "nearest" up-sampling that doubles sizes in another way.

    Pixel shuffle and transposed convolution can express nearest up-sampling followed by a 3 x 3
    convolution exactly, and start there; with "bilinear" the function changes.
    """
    old = asdict(network.settings)
    if old["upsampler"] != "nearest":
        raise ValueError(f"expected a nearest upsampler to start from but got {old['upsampler']}")
    changed = {"upsampler": upsampler, "noise": noise, "gain": gain}
    copy = Autoencoder(AutoencoderSettings(**{**old, **changed}))
    own, state = copy.state_dict(), network.state_dict()
    for number, module in enumerate(network.decoder):
        if isinstance(module, nn.Upsample):
            kernel = state.pop(f"decoder.{number + 1}.weight")
            place = number if upsampler == "shuffle" else number + 1
            state[f"decoder.{place}.weight"] = _converted(kernel, upsampler)
    assert own.keys() == state.keys()
    copy.load_state_dict(state)
    return copy


def _converted(kernel: torch.Tensor, upsampler: str) -> torch.Tensor:
    if upsampler in ("nearest", "bilinear"):
        return kernel
    # What each of the 2 x 2 positions of a doubled pixel sees of the small picture: three taps.
    phases = torch.zeros(2, 2, *kernel.shape)
    for a in (0, 1):
        for b in (0, 1):
            for u in (0, 1, 2):
                for v in (0, 1, 2):
                    phases[a, b, :, :, (a + u + 1) // 2, (b + v + 1) // 2] += kernel[:, :, u, v]
    if upsampler == "shuffle":
        return phases.permute(2, 0, 1, 3, 4, 5).reshape(-1, *kernel.shape[1:])
    turned = torch.zeros(kernel.shape[1], kernel.shape[0], 4, 4)
    taps = {(0, 3): 0, (0, 1): 1, (1, 2): 1, (1, 0): 2}  # phase, tap of 4 -> tap of 3
    for (a, k), i in taps.items():
        for (b, m), j in taps.items():
            turned[:, :, k, m] = phases[a, b, :, :, i, j].T
    return turned


def save_autoencoder(network: Autoencoder, file: str | Path, about: dict) -> None:
    """Write a network with its settings as float16 safetensors, whole or not at all."""
    metadata = {"settings": asdict(network.settings), "about": about}
    tensors = {n: t.detach().half().contiguous() for n, t in network.state_dict().items()}
    write_tensors(file, tensors, {"ffdetect-autoencoder": json.dumps(metadata)})


def load_autoencoder(file: str | Path) -> Autoencoder:
    """Read an autoencoder: one of ours, or taef2 as its author published it.

    Raises:
        ValueError: no such file, not safetensors, or tensors of another network.
    """
    state, metadata = read_tensors(file)
    try:
        described = json.loads(metadata.get("ffdetect-autoencoder", "{}"))
        with torch.device("meta"):  # no memory is taken before the shapes are known to agree
            network = Autoencoder(AutoencoderSettings(**described.get("settings", {})))
        tensors = {name: tensor.float() for name, tensor in state.items()}
        network.load_state_dict(tensors, assign=True)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: expected the tensors of an autoencoder: {error}") from error
    return network


def _autoencode(file: Path, device: str) -> Regenerator:
    loaded = load_autoencoder(file)
    network, step = _ready(loaded, device), 2**loaded.settings.halvings

    def regenerate(crop: torch.Tensor, rng: np.random.Generator) -> Twins:
        # Generators draw faces at many sizes before they are shrunk to what is posted.
        size = crop.shape[-1]
        working = step * round(size * rng.choice([1, 1, 1.25, 1.5]) / step)
        picture = _resize(crop[None].to(device).float() / 255, working)
        torch.manual_seed(int(rng.integers(2**31)))  # for the latent noise
        # bfloat16 moves taef2's pictures by 52 to 62 dB, far below what any codec does.
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16()):
            fake = network(picture).float()
        return Twins(*(_to_pixels(_resize(x, size)) for x in (picture, fake)))

    return regenerate


def _real_esrgan(file: Path, device: str) -> Regenerator:
    try:
        import spandrel
    except ImportError as error:
        raise ValueError("upscalers need spandrel: pip install 'ffdetect[train]'") from error
    try:
        model = spandrel.ModelLoader().load_from_state_dict(read_tensors(file)[0]).model
    except spandrel.UnsupportedModelError as error:
        raise ValueError(f"{file}: expected a Real-ESRGAN network but got another") from error
    # A milder loss at twice the size; at its own size the upscaler invents more.
    return _upscale(_ready(model, device), 4, (1, 2), device)


def _ncnn(file: Path, device: str) -> Regenerator:
    network = NcnnUpscaler(file)
    return _upscale(network, network.scale, (1,), device)


def _upscale(
    network: Callable[[torch.Tensor], torch.Tensor],
    scale: int,
    enlarged: tuple[int, ...],
    device: str,
) -> Regenerator:
    """Shrink a face that was enlarged so many times, and have the network undo the shrinking."""

    def regenerate(crop: torch.Tensor, rng: np.random.Generator) -> Twins:
        size = crop.shape[-1]
        picture = crop[None].to(device).float() / 255
        working = size * int(rng.choice(enlarged))
        picture = _resize(picture, working)
        small = _resize(picture, 2 * round(working / scale / 2))
        fake = _resize(network(small), size)
        # Half of the reals are softened alike, or the pair would teach softness.
        soft = _resize(small, working) if rng.random() < 0.5 else picture
        return Twins(_to_pixels(_resize(soft, size)), _to_pixels(fake))

    return regenerate


def create_regenerator(kind: str, folder: str | Path, device: str = "cpu") -> Regenerator:
    """Load the regenerator that a folder holds under a name.

    `KIND.safetensors` or `KIND.fp16.safetensors` is a Real-ESRGAN if its name says so, otherwise an
    autoencoder; `KIND.param` with `KIND.bin` is an up-sampler for ncnn.

    Raises:
        ValueError: no such file, or not a usable one.
    """
    for end in _ENDINGS:
        file = Path(folder) / f"{kind}{end}"
        if file.is_file():
            if end == ".param":
                return _ncnn(file, device)
            return (_real_esrgan if kind.startswith("realesr") else _autoencode)(file, device)
    found = regenerator_kinds(folder)
    raise ValueError(f"{folder}: expected {kind}.safetensors but there are only {found}")


def regenerator_kinds(folder: str | Path) -> list[str]:
    """What `create_regenerator` can load from a folder, by name; empty if there is none."""
    files = [file for end in _ENDINGS for file in Path(folder).glob(f"*{end}")]
    return sorted({file.name.split(".")[0] for file in files})


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
