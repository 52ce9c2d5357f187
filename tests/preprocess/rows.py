"""Made-up cache rows for the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from preprocess.cache.faces import MAPS, CachedFace, CacheSettings
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.faces.face import CropSettings
from preprocess.faces.maps import residual, spectrum

SMALL = CacheSettings(CropSettings(size=128), maps=MAPS)
SMALL_COLUMNS = [n for n in SMALL.schema().names if n not in ("crop", "spectrum", "residual")]


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


def write_cache(path: Path, numbers=range(5), settings=SMALL, per_part: int = 2) -> Path:
    """A cache of `make_row(number)` for each number, `per_part` rows a part."""
    with CacheWriter(path, settings) as writer:
        for position, number in enumerate(numbers):
            writer.add([make_row(number, settings)])
            if position % per_part == per_part - 1:
                writer.flush()
    return path


def assert_rows(reader: CacheReader, rows: list[CachedFace]) -> None:
    """The reader holds just these rows, in order, in every column."""
    assert len(reader) == len(rows)
    for index, row in enumerate(rows):
        stored = reader.metadata.iloc[index]
        for name in SMALL_COLUMNS:
            expected = np.ravel(getattr(row, name))
            np.testing.assert_array_equal(np.ravel(stored[name]), expected, err_msg=name)
        np.testing.assert_array_equal(reader.crop(index), row.crop)
        if row.spectrum is not None:
            np.testing.assert_array_equal(reader.spectrum(index), row.spectrum)
        if row.residual is not None:
            np.testing.assert_array_equal(reader.residual(index), row.residual)
