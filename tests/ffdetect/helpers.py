"""What several tests build: random networks, caches without pictures, portraits, coded bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ffdetect.models.calibration import Calibration
from ffdetect.models.gated import GatedNetwork, GatedSettings
from preprocess.cache.faces import CachedFace, CacheSettings
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.faces.crop import TEMPLATE
from preprocess.faces.face import CropSettings

CALIBRATION = Calibration(
    temperature=2.0,
    bias=-0.25,
    thresholds={0.1: 0.5, 0.01: 0.6, 0.001: 0.9},
    reals=1200,
    fakes=800,
    sources={"ffhq": 1200, "gan": 800},
    date="2024-05-06",
    real_threshold=0.45,
)


def tiny_network(seed: int = 0, **settings) -> GatedNetwork:
    """A random network in evaluation mode, whose scores spread over 0..1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GatedNetwork(GatedSettings(**{"backbone": "test_resnet", **settings}))
    network.eval()
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, torch.nn.BatchNorm2d) and not norm.weight.any():
                norm.weight.fill_(1)  # timm starts residual branches switched off
        if network.settings.streams == "both":
            logit, crops = network.fusion.logit[1], random_crops(8, network.settings.size)
            logit.weight.div_(2 * network(crops).std())
            logit.bias.sub_(network(crops).mean())
    return network


def random_crops(count: int, size: int = 128, seed: int = 0) -> torch.Tensor:
    """Uint8 N x 3 x size x size: smooth random pictures with a little noise."""
    rng = np.random.default_rng(seed)
    crops = []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        smooth = np.array(small.resize((size, size), Image.Resampling.BICUBIC), np.float64)
        noisy = smooth + rng.normal(0, rng.uniform(1, 12), smooth.shape)
        crops.append(noisy.clip(0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)


def write_cache(
    folder: Path, rows: Sequence[dict], size: int = 128, margin: float = 0.15, detail: int = 0
) -> CacheReader:
    """A cache without maps; crop i is the flat grey i unless a row brings its own."""
    settings = CacheSettings(crop=CropSettings(size=size, margin=margin, detail=detail), maps=())
    with CacheWriter(folder, settings) as writer:
        for number, row in enumerate(rows):
            path = f"{number}.png"
            # The box is as large as the crop, so that crop and picture coordinates agree.
            values = {
                "key": f"{path}#-1#0",
                "path": path,
                "frame": -1,
                "face": 0,
                "target": 0,
                "generator": "",
                "group": path,
                "split": "",
                "probability": 1.0,
                "box": np.array([0, 0, size, size], np.float32),
                "landmarks": (TEMPLATE * size).astype(np.float32),
                "source_width": size,
                "source_height": size,
                "source_format": "png",
                "jpeg_quality": -1,
                "crop": np.full((size, size, 3), number, np.uint8),
            }
            writer.add([CachedFace(**{**values, **row})])
    return CacheReader(folder)


def portraits(astronaut: np.ndarray, count: int, fake: bool = False) -> Iterator[np.ndarray]:
    """Variations of one face; the fake ones carry a faint grid, as bad up-sampling leaves it."""
    for number in range(count):
        side = 320 + 16 * number
        pixels = astronaut[:, ::-1] if number % 2 else astronaut
        picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
        values = np.array(picture) * (0.8 + 0.05 * number)
        if fake:
            values[::2, ::2] += 12
        yield values.clip(0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, format: str, **options) -> bytes:
    """Pixels as the bytes of a picture file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()
