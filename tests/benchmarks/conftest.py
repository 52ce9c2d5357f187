"""The benchmarks use the tiny network and the pictures of the detector's tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import baselines, cross_generator, protocol
from preprocess.cache.reader import CacheReader

from ..ffdetect.conftest import faces_cache, faces_folder, tiny, tiny_weights
from ..ffdetect.helpers import random_crops, write_cache

__all__ = ["faces_cache", "faces_folder", "matched", "tiny", "tiny_weights"]


@pytest.fixture(scope="session")
def matched(faces_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The matched cache of the pictures of `faces_folder`: 256 px, no maps."""
    out = tmp_path_factory.mktemp("matched") / "cache"
    assert protocol.main([str(faces_folder), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> CacheReader:
    """54 made-up faces of 128 px as a matched cache, both splits: smooth noise, fakes noisier.

    Reals ffhq and dfdc and fakes dfdc_swap (of the same videos) are in both splits, pggan trains,
    sd21 and sdxl are held out.
    """
    both, train, dev = ("train", "dev"), ("train",), ("dev",)
    places = {"ffhq": both, "dfdc": both, "dfdc_swap": both, "pggan": train, "sd21": dev,
              "sdxl": dev}  # fmt: skip
    rows = []
    for generator, splits in places.items():
        for split, number in ((split, number) for split in splits for number in range(6)):
            fake = generator not in ("ffhq", "dfdc")
            crop = random_crops(1, seed=len(rows))[0].permute(1, 2, 0).numpy().copy()
            crop[::2, ::2] //= 2 if fake else 1
            name = f"{split}/{generator}/{number}.png"
            group = f"{split} video {number}" if generator.startswith("dfdc") else name
            rows.append({
                "key": f"{name}#-1#0", "path": name, "target": int(fake), "generator": generator,
                "split": split, "group": group, "source_width": 320, "source_height": 320,
                "jpeg_quality": 85, "crop": crop,
            })  # fmt: skip
    return write_cache(tmp_path_factory.mktemp("generated") / "matched", rows)


@pytest.fixture(scope="module")
def few_rounds() -> Iterator[None]:
    """Intervals from few samples, for tests of something else."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((cross_generator, "bootstrap"), (baselines, "bootstrap_means")):
            patch.setattr(module, name, partial(getattr(module, name), rounds=25))
        yield


@pytest.fixture
def clip_frames() -> pd.DataFrame:
    """6 frames each of 2 real and 2 fake clips for each of 12 people; no pictures."""
    rows = [
        {"path": f"{person}-{kind}-{clip}", "target": int(kind != "real"), "generator": kind,
         "group": f"set/{person}"}
        for person in range(12) for kind, clip in (("real", 0), ("real", 1), ("one", 0), ("two", 0))
        for _ in range(6)
    ]  # fmt: skip
    return pd.DataFrame(rows)
