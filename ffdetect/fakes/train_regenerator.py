"""python -m ffdetect.fakes.train_regenerator CACHE --out FILE: one more decoder that leaves traces.

One decoder is one fingerprint, and a detector trained on one learns that one. This command makes
more of them: it fine-tunes the decoder of an autoencoder (`--start`) with another up-sampler,
another loss or a noisy latent, or trains a small autoencoder from nothing. A fake is useful only
if it is faithful, so the command prints the PSNR on faces held out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from ffdetect.evaluation.splits import split_rows
from ffdetect.models.backbones import create_backbone, load_backbone
from ffdetect.models.device import has_fast_bf16, pick_device
from preprocess.cache.reader import CacheReader

from .regenerators import (
    UPSAMPLERS,
    Autoencoder,
    AutoencoderSettings,
    load_autoencoder,
    save_autoencoder,
    with_upsampler,
)

LOSSES = ("l1", "perceptual", "adversarial")
_HELD_OUT = 24  # faces for the PSNR


class Perceptual(nn.Module):
    """Mean distance of the features of a frozen ImageNet network at strides 2 to 8.

    Johnson et al. 2016, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution".
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.first = nn.Sequential(backbone.conv_stem, backbone.bn1)
        self.stages = backbone.blocks[:3]
        self.register_buffer("mean", torch.tensor(backbone.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        x = self.first((torch.cat([fake, real]) - self.mean) / self.std)
        total = 0.0
        for stage in self.stages:
            x = stage(x)
            a, b = x.chunk(2)
            total = total + (a - b).abs().mean() / b.detach().abs().mean()
        return total


def discriminator(width: int = 48) -> nn.Sequential:
    """A patch discriminator (Isola et al. 2017): every output sees 22 x 22 pixels."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, width), (width, 2 * width)):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(2 * width, 2 * width, 3, 1, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(2 * width, 1, 3, 1, 1))


def train(
    network: Autoencoder,
    reader: CacheReader,
    rows: np.ndarray,
    *,
    steps: int,
    rate: float,
    losses: Sequence[str],
    perceptual: Perceptual | None,
    decoder_only: bool,
    window: int = 96,
    batch: int = 8,
    seed: int = 0,
) -> None:
    """Fit a network to the faces in `rows`, in place."""
    rng = np.random.default_rng(seed)
    parameters = list((network.decoder if decoder_only else network).parameters())
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.0)
    if steps:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    critic = discriminator() if "adversarial" in losses else None
    against = torch.optim.Adam(critic.parameters(), 2e-4, (0.5, 0.9)) if critic else None
    network.train().to(memory_format=torch.channels_last)
    bar = tqdm(range(steps), unit="step")
    for _ in bar:
        real = _windows(reader, rows, rng, window, batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16()):
            fake = network(real).float()
            loss = (fake - real).abs().mean()
            bar.set_postfix(l1=f"{loss.item():.4f}")
            if perceptual:
                loss = loss + 0.1 * perceptual(fake, real)
            if critic:
                loss = loss - 0.005 * critic(fake).float().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if critic and against:
            with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16()):
                true, false = critic(real).float(), critic(fake.detach()).float()
            hinge = F.relu(1 - true).mean() + F.relu(1 + false).mean()
            against.zero_grad(set_to_none=True)
            hinge.backward()
            against.step()
    network.eval()


def _windows(
    reader: CacheReader, rows: np.ndarray, rng: np.random.Generator, window: int, batch: int
) -> torch.Tensor:
    """float batch x 3 x window x window in 0..1, cut at random places."""
    crops = reader.crops(rng.choice(rows, batch))
    top, left = rng.integers(crops.shape[-1] - window + 1, size=2)
    cut = crops[..., top : top + window, left : left + window].float() / 255
    return (cut.flip(-1) if rng.random() < 0.5 else cut).contiguous()


@torch.inference_mode()
def psnr(network: Autoencoder, reader: CacheReader, rows: Sequence[int]) -> float:
    """Mean peak signal-to-noise ratio of whole crops in dB."""
    values = []
    for row in rows:
        real = reader.crops([row]).float() / 255
        error = (network(real).clamp(0, 1) - real).square().mean()
        values.append(-10 * torch.log10(error).item())
    return float(np.mean(values))


def _network(args: argparse.Namespace) -> Autoencoder:
    if args.start:
        return with_upsampler(load_autoencoder(args.start), args.upsampler, args.noise, args.gain)
    settings = AutoencoderSettings(
        width=args.width,
        latent=args.latent,
        halvings=args.halvings,
        blocks=args.blocks,
        branches=False,
        upsampler=args.upsampler,
        noise=args.noise,
        gain=args.gain,
    )
    return Autoencoder(settings)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ffdetect.fakes.train_regenerator", description=__doc__
    )
    add = parser.add_argument
    add("cache", type=Path, metavar="CACHE", help="a cache with real faces (target 0)")
    add("--out", type=Path, required=True, help="the autoencoder, KIND.safetensors")
    add("--start", type=Path, help="fine-tune this autoencoder's decoder, such as taef2")
    add("--upsampler", choices=UPSAMPLERS, default="nearest", help="(%(default)s)")
    add("--losses", default="l1", help=f"comma-separated, of {', '.join(LOSSES)} (%(default)s)")
    add("--noise", type=float, default=0.0, help="on the latent, in its deviations (%(default)s)")
    add("--gain", type=float, default=0.0, help="of random channel factors (%(default)s)")
    add("--backbone", type=Path, help="mobilenetv2_100 weights for the perceptual loss")
    add("--width", type=int, default=32, help="without --start: channels (%(default)s)")
    add("--latent", type=int, default=8, help="without --start: latent channels (%(default)s)")
    add("--halvings", type=int, default=2, help="without --start: of the size (%(default)s)")
    add("--blocks", type=int, default=1, help="without --start: at each scale (%(default)s)")
    add("--sources", help="only reals of these sources, comma-separated (default: all)")
    add("--steps", type=int, default=300, help="0: no training (%(default)s)")
    add("--rate", type=float, default=5e-4, help="peak learning rate (%(default)s)")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    losses = args.losses.split(",")
    try:
        if unknown := set(losses) - set(LOSSES):
            raise ValueError(f"expected losses among {LOSSES} but got {sorted(unknown)}")
        perceptual = None
        if "perceptual" in losses:
            if not args.backbone:
                raise ValueError("expected --backbone for the perceptual loss")
            backbone = create_backbone("mobilenetv2_100", 96)
            load_backbone(backbone, args.backbone)
            perceptual = Perceptual(backbone)
        pick_device("cpu")
        torch.manual_seed(args.seed)
        network, reader = _network(args), CacheReader(args.cache)
        rows = split_rows(reader.metadata)[0]
        chosen = reader.metadata.iloc[rows]
        wanted = chosen["target"] == 0
        if args.sources:
            wanted &= chosen["generator"].isin(args.sources.split(","))
        rows = np.random.default_rng(args.seed).permutation(rows[wanted.to_numpy()])
        if len(rows) <= _HELD_OUT:
            raise ValueError(
                f"{args.cache}: expected more than {_HELD_OUT} real faces but got {len(rows)}"
            )
    except ValueError as error:
        parser.error(str(error))
    train(
        network,
        reader,
        rows[_HELD_OUT:],
        steps=args.steps,
        rate=args.rate,
        losses=losses,
        perceptual=perceptual,
        decoder_only=args.start is not None,
        seed=args.seed,
    )
    fidelity = psnr(network, reader, rows[:_HELD_OUT])
    recipe = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_autoencoder(network, args.out, {"psnr": round(fidelity, 2), "recipe": recipe})
    print(json.dumps({"file": str(args.out), "psnr": round(fidelity, 2)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
