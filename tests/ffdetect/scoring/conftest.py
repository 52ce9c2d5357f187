"""The predict command with the tiny weights, and pictures for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ffdetect.scoring import predict
from tests.ffdetect.helpers import encode, portraits


@pytest.fixture
def run(tiny_weights: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs the command with the tiny weights and gives its exit status."""

    def command(data, *more: str, out=tmp_path / "prediction.txt") -> int:
        options = ["--out", str(out), "--weights", str(tiny_weights), "--device", "cpu"]
        return predict.main([str(data), *options, *more])

    return command


@pytest.fixture(scope="session")
def pictures(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures with a face and labels for them, fake first."""
    folder = tmp_path_factory.mktemp("predict") / "pictures"
    folder.mkdir()
    lines = ["img_name,target"]
    for number, picture in enumerate(portraits(astronaut, 6)):
        (folder / f"{number}.jpg").write_bytes(encode(picture, "JPEG", quality=90))
        lines.append(f"{number}.jpg,{int(number % 3 == 0)}")
    (folder.parent / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder
