"""ONNX Runtime's sessions on a CPU. Whatever else is of it is imported from here, so that its
telemetry is switched off first."""

from __future__ import annotations

import os
from pathlib import Path

# It would send what it is used for to its maker, and complain where it may not write an identifier.
# It reads this once, when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime as ort
except ImportError as error:
    reason = "ONNX Runtime is not installed: pip install onnxruntime"
    raise ImportError(reason, name="onnxruntime") from error

__all__ = ["open_session", "ort"]


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
