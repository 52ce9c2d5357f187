"""Arrays that took long, kept on disk so that they cannot be stale."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np


class Store:
    """Arrays on disk, each under a name that everything it depends on decides.

    What was made of other weights, another cache, other settings or another seed has another name,
    so that nothing has to be deleted and nothing can be taken for something else.

    Args:
        folder: is made with the first array.
        made: JSON values that all arrays of this store depend on.
    """

    def __init__(self, folder: Path, **made: Any) -> None:
        self.folder, self.made = folder, made

    def file(self, name: str, **made: Any) -> Path:
        """Where an array is kept."""
        return self.folder / f"{name}-{digest({**self.made, **made})[:20]}.npz"

    def array(self, name: str, compute: Callable[[], np.ndarray], **made: Any) -> np.ndarray:
        """What is kept under this name and these dependencies, else what `compute` gives.

        Args:
            name: for people who look into the folder; of letters that a file name may have.
            compute: called if there is no such array, or if its file is damaged.
            made: JSON values that this array depends on beside those of the store.
        """
        file = self.file(name, **made)
        try:
            with np.load(file, allow_pickle=False) as stored:
                return stored["array"]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            array = compute()
        file.parent.mkdir(parents=True, exist_ok=True)
        save_arrays(file, array=array)
        return array


def save_arrays(file: Path, **arrays: Any) -> None:
    """Write an npz file whole or not at all; another run may write the same one meanwhile."""
    temporary = file.with_name(f"{file.name}.{uuid4().hex}.tmp")
    with temporary.open("wb") as stream:
        np.savez(stream, **arrays)
    temporary.replace(file)


def digest(made: Any) -> str:
    """SHA-256 of JSON values and dataclasses of them, whatever the order of their names.

    Raises:
        TypeError: anything else.
    """

    def plain(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        raise TypeError(f"expected settings of JSON's types but got {value!r}")

    text = json.dumps(made, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()
