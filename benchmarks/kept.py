"""Scores that took long to make are kept in a file, so that a stopped run goes on from there."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from preprocess.cache.kinds import settings_difference


def kept_scores(file: Path, made: dict, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The scores in FILE.npz if there are any, else what `compute` gives, which is kept there.

    Args:
        file: is made with its folder if absent.
        made: JSON values that decide the scores: settings, data, weights.
        compute: called only if there is no file.

    Raises:
        ValueError: the file is damaged or holds scores that were made in another way.
    """
    made = json.loads(json.dumps(made))
    if not file.exists():
        scores = compute()
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(file.name + ".tmp")
        with temporary.open("wb") as stream:
            np.savez(stream, scores=scores, made=json.dumps(made))
        temporary.replace(file)
        return scores
    try:
        with np.load(file, allow_pickle=False) as values:
            scores, recorded = values["scores"], json.loads(str(values["made"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file}: expected kept scores but it is damaged: {error}") from error
    difference = settings_difference(made, recorded)
    if difference:
        raise ValueError(
            f"{file}: expected scores made as asked for but got others "
            f"({'; '.join(difference)}); choose another folder, or delete the file"
        )
    return scores


def digest(texts: Iterable[str]) -> str:
    """A short name for a list of texts, in order."""
    return f"{zlib.crc32(chr(10).join(texts).encode('utf-8', 'surrogateescape')):08x}"


def file_digest(file: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
