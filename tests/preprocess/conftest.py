"""Fixtures of the commands and of decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from preprocess import extract


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cropped(monkeypatch) -> list[str]:
    """The paths that were worked on."""
    paths = []
    crop_item = extract.crop_item

    def record(item, *arguments):
        paths.append(item.path)
        return crop_item(item, *arguments)

    monkeypatch.setattr(extract, "crop_item", record)
    return paths


@pytest.fixture
def picture(astronaut: np.ndarray) -> np.ndarray:
    """A small photograph that is neither square nor symmetric: uint8 96 x 160 x 3."""
    return astronaut[60:156, 150:310].copy()
