"""The benchmarks use the tiny network and the pictures of the detector's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import protocol

from ..ffdetect.conftest import faces_cache, faces_folder, tiny, tiny_weights

__all__ = ["faces_cache", "faces_folder", "matched", "tiny", "tiny_weights"]


@pytest.fixture(scope="session")
def matched(faces_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The matched cache of the pictures of `faces_folder`: 256 px, no maps."""
    out = tmp_path_factory.mktemp("matched") / "cache"
    assert protocol.main([str(faces_folder), "--out", str(out)]) == 0
    return out
