"""python -m ffdetect.regenerate CACHE --regenerators DIR: aligned fakes of a cache's real faces.

A real face put through a generator's decoder keeps its content and framing and gets the
decoder's pixels, so that the pair teaches generator traces and nothing else (Zhang et al. 2019,
"Detecting and Simulating Artifacts in GAN Fake Images"; Rajan et al. 2024, "Aligned Datasets
Improve Detection of Latent Diffusion-Generated Images"). The result is a cache of pairs: the
regenerated face and the real one after the same resampling.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from preprocess.cache import CacheReader, CacheWriter
from preprocess.schema import CachedFace, CacheError, CacheSettings


@dataclass(frozen=True)
class Twins:
    """A regenerated face and the real one it is to be compared with, uint8 3 x H x W."""

    real: torch.Tensor
    fake: torch.Tensor


# Takes a uint8 3 x H x W crop and a seeded generator of random numbers.
Regenerator = Callable[[torch.Tensor, np.random.Generator], Twins]


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


def _conv(inputs: int, outputs: int, **options) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


class _Squash(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(x / 3)


class TinyAutoencoder(nn.Module):
    """The tiny autoencoder of FLUX.2's latent space (madebyollin's taesd family, MIT).

    float N x 3 x H x W in 0..1 -> the same; sides are multiples of 8, the latent is 8 x smaller.
    """

    def __init__(self, width: int = 64, latent: int = 32) -> None:
        super().__init__()
        stages = [[_conv(3, width), _Block(width)]]
        for branch in (False, False, True):
            stages.append([_conv(width, width, stride=2, bias=False)])
            stages[-1] += [_Block(width, branch) for _ in range(3)]
        self.encoder = nn.Sequential(*[m for s in stages for m in s], _conv(width, latent))
        stages = [[_Squash(), _conv(latent, width), nn.ReLU()]]
        for branch in (True, False, False):
            stages.append([_Block(width, branch) for _ in range(3)])
            stages[-1] += [nn.Upsample(scale_factor=2), _conv(width, width, bias=False)]
        self.decoder = nn.Sequential(
            *[m for s in stages for m in s], _Block(width), _conv(width, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x))


def _autoencode(file: Path, device: str) -> Regenerator:
    network = TinyAutoencoder()
    try:
        network.load_state_dict({name: t.float() for name, t in _load(file).items()})
    except RuntimeError as error:
        raise ValueError(f"{file}: expected the tensors of taef2 but got others") from error
    network = _ready(network, device)

    def regenerate(crop: torch.Tensor, rng: np.random.Generator) -> Twins:
        # Generators draw faces at many sizes before they are shrunk to what is posted.
        size = crop.shape[-1]
        working = 8 * round(size * rng.choice([1, 1, 1.25, 1.5]) / 8)
        picture = _resize(crop[None].to(device).float() / 255, working)
        return Twins(*(_to_pixels(_resize(x, size)) for x in (picture, network(picture))))

    return regenerate


def _upscale(file: Path, device: str) -> Regenerator:
    try:
        import spandrel
    except ImportError as error:
        raise ValueError("upscalers need spandrel: pip install 'ffdetect[train]'") from error
    try:
        model = spandrel.ModelLoader().load_from_state_dict(_load(file)).model
    except spandrel.UnsupportedModelError as error:
        raise ValueError(f"{file}: expected a Real-ESRGAN network but got another") from error
    network = _ready(model, device)

    def regenerate(crop: torch.Tensor, rng: np.random.Generator) -> Twins:
        size = crop.shape[-1]
        picture = crop[None].to(device).float() / 255
        # A milder loss at twice the size; at its own size the upscaler invents more.
        working = size * int(rng.choice([1, 2]))
        picture = _resize(picture, working)
        small = _resize(picture, working // 4)
        fake = _resize(network(small), size)
        # Half of the reals are softened alike, or the pair would teach softness.
        soft = _resize(small, working) if rng.random() < 0.5 else picture
        return Twins(_to_pixels(_resize(soft, size)), _to_pixels(fake))

    return regenerate


_KINDS: dict[str, Callable[[Path, str], Regenerator]] = {
    "taef2": _autoencode,
    "realesr_general_x4v3": _upscale,
    "realesr_general_wdn_x4v3": _upscale,
}


def create_regenerator(kind: str, folder: str | Path, device: str = "cpu") -> Regenerator:
    """Load one regenerator from a folder that holds `KIND*.safetensors`.

    Raises:
        ValueError: an unknown kind, or no usable file for it.
    """
    if kind not in _KINDS:
        raise ValueError(f"expected a regenerator among {sorted(_KINDS)} but got {kind!r}")
    files = sorted(Path(folder).glob(f"{kind}*.safetensors"))
    if not files:
        raise ValueError(f"{folder}: expected {kind}*.safetensors but there is none")
    return _KINDS[kind](files[0], device)


def _load(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file}: expected a safetensors file but got: {error}") from error


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


def regenerate_cache(
    reader: CacheReader,
    writer: CacheWriter,
    kinds: dict[str, Regenerator],
    indices: Sequence[int],
) -> None:
    """Add the twins of the faces at `indices` by every kind; what is there already is kept."""
    todo = [
        (index, kind)
        for index in indices
        for kind in kinds
        if _pair_path(reader, index, kind) not in writer.done
    ]
    # In random order, so that a run that was stopped leaves a fair sample of all sources.
    np.random.default_rng(0).shuffle(todo)
    total = len(indices) * len(kinds)
    for index, kind in tqdm(todo, initial=total - len(todo), total=total, unit="pair"):
        path = _pair_path(reader, index, kind)
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        with torch.inference_mode():
            twins = kinds[kind](reader.crops([index])[0], rng)
        writer.add(list(_rows(reader, index, kind, path, twins)))


def _pair_path(reader: CacheReader, index: int, kind: str) -> str:
    return f"{reader.metadata['key'].iat[index]}@{kind}"


def _rows(
    reader: CacheReader, index: int, kind: str, path: str, twins: Twins
) -> Iterator[CachedFace]:
    row = reader.metadata.iloc[index].to_dict()
    for target, crop in enumerate((twins.real, twins.fake)):
        values = {
            **row,
            "key": f"{path}@{target}",
            "path": path,
            "target": target,
            "generator": kind if target else row["generator"],
            "crop": crop.permute(1, 2, 0).numpy(),
        }
        yield CachedFace(**values)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ffdetect.regenerate", description=__doc__)
    add = parser.add_argument
    add("cache", type=Path, metavar="CACHE", help="a cache with real faces (target 0)")
    add("--regenerators", type=Path, required=True, help="folder with KIND*.safetensors")
    add("--kinds", default="taef2", help=f"comma-separated, of {', '.join(_KINDS)} (%(default)s)")
    add("--out", type=Path, required=True, help="the cache of pairs")
    add("--sources", help="only reals of these sources, comma-separated (default: all)")
    add("--limit", type=int, help="at most so many reals, evenly spread (default: all)")
    add("--device", default="cpu", help="cpu or cuda (%(default)s)")
    args = parser.parse_args(argv)
    try:
        reader = CacheReader(args.cache)
        # The pairs share the crop settings of the cache; maps are computed when training.
        settings = CacheSettings(crop=reader.settings.crop, maps=())
        kinds = {k: create_regenerator(k, args.regenerators, args.device)
                 for k in args.kinds.split(",")}  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    wanted = reader.metadata["target"] == 0
    if args.sources:
        wanted &= reader.metadata["generator"].isin(args.sources.split(","))
    indices = np.flatnonzero(wanted)
    if args.limit and len(indices) > args.limit:
        indices = indices[np.linspace(0, len(indices) - 1, args.limit).round().astype(int)]
    if not len(indices):
        parser.error(f"{args.cache}: expected real faces (target 0) but found none")
    try:
        with CacheWriter(args.out, settings) as writer:
            regenerate_cache(reader, writer, kinds, indices)
    except CacheError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from here ({args.out})", file=sys.stderr)
        return 130
    print(f"{writer.faces // 2} pairs in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
