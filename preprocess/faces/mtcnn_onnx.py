"""MTCNN's three networks on a CPU, run by ONNX Runtime; `mtcnn_networks` makes their files."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

# It would send what it is used for to its maker, and complain where it may not write an identifier.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime as ort
except ImportError as error:
    reason = "ONNX Runtime is not installed: pip install onnxruntime"
    raise ImportError(reason, name="onnxruntime") from error

from .mtcnn_interface import Network, Networks

if TYPE_CHECKING:
    import numpy as np

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


class _Session(ort.InferenceSession):
    """Goes to another process, and is copied, as the file that it is of."""

    def __init__(self, file: Path, threads: int, options: ort.SessionOptions) -> None:
        self._opened = file, threads
        super().__init__(str(file), options, providers=["CPUExecutionProvider"])

    def __reduce__(self) -> tuple:
        return open_session, self._opened


def open_session(file: Path, threads: int) -> ort.InferenceSession:
    """A network on the CPU.

    Raises:
        ValueError: no such file, or no network that this version of ONNX Runtime can run.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    # Threads that wait for work in a loop take it from those of the other networks.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return _Session(file, threads, options)
    except Exception as error:  # its kinds have no common base but this
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: expected an exported network but got: {reason}") from error
