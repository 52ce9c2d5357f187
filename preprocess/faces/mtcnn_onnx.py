"""MTCNN's three networks on a CPU, run by ONNX Runtime; `mtcnn_networks` makes their files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .mtcnn_interface import Network, Networks
from .onnx_session import open_session

if TYPE_CHECKING:
    import numpy as np

    from .onnx_session import ort

WEIGHTS = Path(__file__).with_name("weights")
ONNX_FILES = ("pnet.onnx", "rnet.onnx", "onet.onnx")
_BATCH = 8  # candidates that go through a network at once, to fit the cache


def open_networks(threads: int = 1, folder: Path = WEIGHTS) -> Networks:
    """PNet, RNet and ONet.

    Args:
        threads: that compute.
        folder: with `ONNX_FILES`.
    """
    pnet, rnet, onet = (_network(folder / file, threads) for file in ONNX_FILES)
    return Networks(pnet, rnet, onet, _BATCH)


def _network(file: Path, threads: int) -> Network:
    return partial(_run, open_session(file, threads))


def _run(session: ort.InferenceSession, pixels: np.ndarray) -> list[np.ndarray]:
    return session.run(None, {"pixels": pixels})
