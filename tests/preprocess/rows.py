"""Made-up cache rows for the tests."""

from __future__ import annotations

import numpy as np
import torch

from preprocess.faces import CropSettings
from preprocess.maps import residual, spectrum
from preprocess.schema import CachedFace, CacheSettings

SMALL = CacheSettings(CropSettings(size=128))


def make_row(number: int, settings: CacheSettings = SMALL, **changes: object) -> CachedFace:
    """A row of noise, another one for every number, with the maps that the settings ask for."""
    generator = np.random.default_rng(number)
    size = settings.crop.size
    crop = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
    batch = torch.from_numpy(crop).permute(2, 0, 1)[None]
    path = f"fake/picture {number}.jpg"
    values = {
        "key": f"{path}#-1#0",
        "path": path,
        "frame": -1,
        "face": 0,
        "target": number % 2,
        "generator": f"gan{number % 3}",
        "group": f"group/{number}",
        "split": "dev",
        "box": generator.normal(100, 50, 4).astype(np.float32),
        "landmarks": generator.normal(100, 50, (5, 2)).astype(np.float32),
        "probability": float(np.float32(generator.uniform(0.9, 1))),
        "source_width": 640 + number,
        "source_height": 480 + number,
        "source_format": "jpeg",
        "jpeg_quality": 50 + number % 50,
        "crop": crop,
        "spectrum": spectrum(batch)[0].numpy() if "spectrum" in settings.maps else None,
        "residual": residual(batch, settings.residual)[0].numpy()
        if "residual" in settings.maps
        else None,
    }
    return CachedFace(**{**values, **changes})
