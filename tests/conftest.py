"""Fixtures that tests of every package share.

The fuzzing tests (`test_fuzz.py`, helped by `tests/fuzz.py`) try the same few cases each time, in
some 15 s. FFDETECT_FUZZ=50 in the environment tries 50 times as many, others at each run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; users' machines do not have it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "README.md").is_file():
        pytest.skip(f"needs the real data of {folder}, which is not here")
    return folder


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """A public-domain portrait with one face: uint8 512 x 512 x 3 RGB, read-only."""
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the test's face")
    pixels = np.ascontiguousarray(data.astronaut())
    pixels.flags.writeable = False
    return pixels


@pytest.fixture(scope="session")
def laid_out(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which snippets of the documents and examples can run; copy it before."""
    from tests.place import lay_out

    folder = tmp_path_factory.mktemp("place")
    lay_out(folder, astronaut)
    return folder


@pytest.fixture
def fast_for_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small shipped weights under the name of the best ones, which take many times as long."""
    from ffdetect.weights import SHIPPED

    monkeypatch.setitem(SHIPPED, "best", SHIPPED["fast"])


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """From the call on, no file can be longer than so many bytes."""
    resource = pytest.importorskip("resource", reason="needs limits on the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def astronaut_folder(tmp_path: Path, astronaut: np.ndarray) -> Callable[..., Path]:
    """Makes a folder with real/0.png, ..., fake/0.jpg, ... that all show the same face."""

    def make(name: str = "faces", real: int = 1, fake: int = 1) -> Path:
        folder = tmp_path / name
        for target, count in (("real", real), ("fake", fake)):
            (folder / target).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                # Shifted, so that no two pictures are the same.
                pixels = np.roll(astronaut, 8 * number, axis=1)
                suffix, options = (".png", {}) if target == "real" else (".jpg", {"quality": 90})
                Image.fromarray(pixels).save(folder / target / f"{number}{suffix}", **options)
        return folder

    return make
