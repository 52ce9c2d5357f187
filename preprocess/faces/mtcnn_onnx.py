"""MTCNN's three networks, run by ONNX Runtime without PyTorch; `ffdetect export` writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

try:
    import onnxruntime as ort
except ImportError as error:
    reason = "ONNX Runtime is not installed: pip install 'ffdetect[onnx]'"
    raise ImportError(reason, name="onnxruntime") from error

from .mtcnn_interface import ONNX_FILES, STRIDE, THRESHOLDS, Proposals, strips

_BATCH = 32  # candidates that go through a network at once, to fit the cache


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
        return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its kinds have no common base but this
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: expected an exported network but got: {reason}") from error


class OnnxNetworks:
    """PNet, RNet and ONet; see `mtcnn_interface.Networks`.

    Args:
        folder: with `ONNX_FILES`.
        threads: that compute.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self._pnet, self._rnet, self._onet = (
            open_session(folder / file, threads) for file in ONNX_FILES
        )

    def propose(self, level: np.ndarray) -> Proposals:
        """Where an H x W x 3 level may show a face."""
        parts = []
        for top, strip in strips(level):
            scores, shifts = self._pnet.run(None, {"pixels": strip})
            y, x = np.nonzero(scores >= THRESHOLDS[0])
            place = np.stack([x, y + top // STRIDE], 1).astype(np.float32)
            parts.append((place, scores[y, x], shifts[y, x]))
        places, probabilities, sides = (np.concatenate(part) for part in zip(*parts, strict=True))
        return places, probabilities, sides

    def refine(self, views: np.ndarray) -> list[np.ndarray]:
        """float32 N probabilities and N x 4 shifts of the sides of N x 24 x 24 x 3."""
        return _run(self._rnet, views)

    def finish(self, views: np.ndarray) -> list[np.ndarray]:
        """float32 N, N x 4 and N x 10 landmarks of N x 48 x 48 x 3."""
        return _run(self._onet, views)


def _run(session: ort.InferenceSession, views: np.ndarray) -> list[np.ndarray]:
    batches = [views[start : start + _BATCH] for start in range(0, max(len(views), 1), _BATCH)]
    outputs = [session.run(None, {"pixels": batch}) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]
