"""Fixtures for tests of the network, its training and its use: tiny, with random weights."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ffdetect.evaluation import framing
from ffdetect.models.weights import save_checkpoint
from ffdetect.scoring.detector import Detector
from preprocess import crop
from preprocess.faces.face import CropSettings

from .helpers import portraits, tiny_network

TINY_CACHE_SIZE = 128


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of a random network with the default crop settings."""
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(file, tiny_network(), CropSettings(), {"data": "none", "seed": 0})
    return file


@pytest.fixture(scope="session")
def tiny(tiny_weights: Path) -> Detector:
    """A detector with random weights: its scores mean nothing, but depend on every pixel."""
    return Detector.load(tiny_weights, "cpu")


@pytest.fixture(scope="session")
def shipped() -> Detector:
    """The detector with the weights of the package."""
    return Detector.load(device="cpu")


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    """A picture without a face: uint8 160 x 200 x 3."""
    return np.random.default_rng(0).integers(0, 256, (160, 200, 3), np.uint8)


@pytest.fixture(scope="session")
def faces_folder(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """real/ and fake/ with 6 pictures each of two sources, 4 to train and 2 to validate on."""
    folder = tmp_path_factory.mktemp("faces")
    rows = []
    for target, names in enumerate((("dfdc", "ffhq"), ("dfdc_swap", "gan"))):
        place = folder / ("real", "fake")[target]
        place.mkdir()
        for number, picture in enumerate(portraits(astronaut, 6, fake=bool(target))):
            file = place / f"{number}.png"
            Image.fromarray(picture).save(file, compress_level=1)
            split = "train" if number < 4 else "dev"
            path = file.relative_to(folder).as_posix()
            rows.append((path, target, names[number % 2], split, f"group {number}"))
    columns = ["path", "target", "generator", "split", "group"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def faces_cache(faces_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of `faces_folder` with maps: 12 faces of 128 px."""
    out = tmp_path_factory.mktemp("caches") / "faces"
    options = ["--size", str(TINY_CACHE_SIZE), "--workers", "0", "--maps", "spectrum,residual"]
    assert crop.main([str(faces_folder), "--out", str(out), *options]) == 0
    return out


@pytest.fixture(scope="session")
def matched(faces_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The matched cache of the pictures of `faces_folder`: 256 px, no maps."""
    out = tmp_path_factory.mktemp("matched") / "cache"
    assert framing.main([str(faces_folder), "--out", str(out)]) == 0
    return out


@pytest.fixture
def keep_interrupts() -> Iterator[None]:
    """Lightning turns Ctrl-C off for good when it stops a run."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)
