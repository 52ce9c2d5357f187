"""What benchmarks share: arguments, what kept arrays depend on, results."""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import metadata, resources
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from ffdetect.evaluation.kept import digest
from ffdetect.scoring.detector import SHIPPED
from preprocess.cache.faces import CachedFace
from preprocess.cache.parts import read_index
from preprocess.cache.reader import CacheReader
from preprocess.io.storage import write_json, write_whole

RESULTS = Path("benchmarks/results")
KEPT = Path("cache/benchmarks")  # not in git
_PACKAGES = (
    "torch",
    "timm",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "pyarrow",
    "facenet-pytorch",
)


class Parser(argparse.ArgumentParser):
    """The arguments of a benchmark whose docstring starts with its command."""

    def __init__(self, doc: str) -> None:
        super().__init__(prog=" ".join(doc.split()[:3]).rstrip(":"), description=doc)

    def add_cache(self) -> None:
        """CACHE and --weights, of a benchmark that scores faces."""
        self.add_argument("cache", type=Path, metavar="CACHE", help="of matched faces")
        self.add_argument("--weights", type=Path, help="(default: the weights of the package)")

    def add_out(self, name: str | None = None) -> None:
        """--out, by default among the committed results under this or the benchmark's name."""
        self.add_argument(
            "--out",
            type=Path,
            default=RESULTS / (name or self.prog.rpartition(".")[2]),
            help="write OUT.json and OUT.md (%(default)s)",
        )

    def add_kept(self) -> None:
        """--kept, where arrays that took long are kept."""
        self.add_argument(
            "--kept",
            type=Path,
            default=KEPT,
            metavar="DIR",
            help="a stopped run goes on from what is here (%(default)s)",
        )

    def command(self, argv: Sequence[str] | None) -> str:
        """What was typed, for a result file."""
        return f"{self.prog} {shlex.join(map(str, sys.argv[1:] if argv is None else argv))}".strip()


def weights_digest(weights: Path | None) -> str:
    """SHA-256 of a weights file's bytes; None is the package's own."""
    file = resources.files("ffdetect.weights") / SHIPPED["best"] if weights is None else weights
    return hashlib.sha256(file.read_bytes()).hexdigest()


def cache_digest(reader: CacheReader) -> str:
    """What decides the faces of a cache: settings, keys, labels, and checksums of its parts."""
    indices = [read_index(path) for path in reader.paths]
    columns = reader.metadata[["key", "target", "generator", "group", "split"]]
    return digest([*indices, columns.astype(str).to_numpy().tolist()])


def save_result(out: Path, command: str, values: dict[str, Any], text: str) -> None:
    """Print a page, and write it to OUT.md and the values to OUT.json, each whole or not at all,
    with the command in both; the folder of OUT is made."""
    page = f"`{command}`\n\n{text.rstrip()}\n"
    write_json(out.with_name(out.name + ".json"), {"command": command, **values})
    write_whole(out.with_name(out.name + ".md"), page.encode())
    print(page, end="")


def in_fresh_process(action: Callable, *arguments: object, **environment: str) -> Any:
    """The result of a module's function in a process of its own, whose memory holds nothing else,
    with these variables of its environment."""
    with patch.dict(os.environ, environment), get_context("spawn").Pool(1) as pool:
        return pool.apply(action, arguments)


def made_up_face(crop: np.ndarray, **values: Any) -> CachedFace:
    """A row of a cache that nobody found in a picture; `values` are fields of it."""
    text = dict.fromkeys(("key", "path", "generator", "group", "split", "source_format"), "")
    unknown = dict.fromkeys(("frame", "target", "jpeg_quality"), -1)
    known = {"face": 0, "probability": 0.99, "source_width": 640, "source_height": 480}
    place = {"box": np.zeros(4, np.float32), "landmarks": np.zeros((5, 2), np.float32)}
    return CachedFace(crop=crop, **{**text, **unknown, **known, **place, **values})


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, threads, versions."""
    import torch

    return {
        "cpu": _cpu_model(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
