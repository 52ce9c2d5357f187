"""Is every part of a cache what was written? And set aside what is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
from tqdm import tqdm

from preprocess.io.sources import printable
from preprocess.io.storage import StorageError, as_path, move, read_bytes

from .errors import CacheError, UnreadableError, reading
from .faces import CacheSettings, decode_crop
from .kinds import Settings, settings_from
from .lock import lock_cache
from .log import Journal, read_failures, write_failures
from .parts import (
    checksum,
    list_parts,
    open_part,
    read_index,
    write_index,
)

if TYPE_CHECKING:
    from preprocess.io.storage import AnyPath


@dataclass
class Findings:
    """What was found in one cache.

    Attributes:
        path: its folder.
        settings: of the cache.
        faces: rows of each whole part.
        failures: files that gave no face.
        unsigned: whole parts without a checksum, from before there were any.
        damaged: part, or `failures.csv` -> what is wrong with it.
        missing: parts that the index lists and that are not there.
    """

    path: AnyPath
    settings: Settings
    faces: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    unsigned: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not self.damaged and not self.missing

    def report(self) -> str:
        """What was found and what to do, in a few lines for people."""
        lines = [
            f"{self.path}: {'whole' if self.whole else 'not whole'}: {sum(self.faces.values())} "
            f"{self.settings.rows} in {len(self.faces)} whole parts, {self.failures} files without"
        ]
        lines += [f"  damaged: {name}: {reason}" for name, reason in self.damaged.items()]
        lines += [f"  missing: {name}: lost, or a run was stopped there" for name in self.missing]
        if self.unsigned:
            lines.append(
                f"  {len(self.unsigned)} parts have no checksum (made by an older version); "
                "they can be opened and read"
            )
        again = f"python -m {self.settings.made_by} DATA --out {self.path}"
        if self.damaged:
            lines.append(f"what to do: python -m preprocess.check {self.path} --repair")
            lines.append(f"      then: {again}")
        elif self.missing:
            lines.append(f"what to do: {again}")
        return printable("\n".join(lines))


def check_cache(path: str | AnyPath) -> Findings:
    """Verify every part of a cache, one at a time; show progress.

    Raises:
        CacheError: no cache, or its index is damaged, so that nothing can be said of its parts; or
            a file of it may not be read.
    """
    path = as_path(path)
    index = read_index(path)
    settings = settings_from(index["settings"])
    checksums, parts = index["parts"], list_parts(path)
    found = Findings(
        path, settings, missing=sorted(checksums.keys() - {part.name for part in parts})
    )
    keys: dict[str, str] = {}
    for part in tqdm(parts, unit="part", desc=printable(str(path))):
        try:
            table = _verify(part, settings, checksums.get(part.name))
            _refuse_repeated(table, part, keys)
        except UnreadableError:
            raise
        except CacheError as error:
            found.damaged[part.name] = error.reason
            continue
        keys.update(dict.fromkeys(table["key"].to_pylist(), part.name))
        found.faces[part.name] = len(table)
        if part.name not in checksums:
            found.unsigned.append(part.name)
    try:
        found.failures = len(read_failures(path))
    except UnreadableError:
        raise
    except CacheError as error:
        found.damaged["failures.csv"] = error.reason
    return found


def _verify(part: AnyPath, settings: Settings, expected: str | None) -> pa.Table:
    with reading(part, "an Arrow part"):
        data = pa.py_buffer(read_bytes(part))  # mapped, a bad sector would end the process
    if expected is not None and checksum(data) != expected:
        raise CacheError("is not what was written: its SHA-256 differs from that in cache.json")
    table = open_part(part, settings, data)
    if not isinstance(settings, CacheSettings):
        return table  # sound is stored plainly
    for key, crop in zip(table["key"], table["crop"], strict=True):
        try:
            decode_crop(crop.as_buffer(), settings.crop.size)
        except CacheError as error:
            raise CacheError(f"{key}: {error}") from error
    return table


def _refuse_repeated(table: pa.Table, part: AnyPath, keys: dict[str, str]) -> None:
    own = table["key"].to_pylist()
    repeated = [key for key in own if key in keys]
    if repeated:
        where = keys[repeated[0]]
        raise CacheError(f"{len(repeated)} of its rows are in {where} too (first: {repeated[0]})")
    if len(set(own)) < len(own):
        raise CacheError(f"{len(own) - len(set(own))} of its rows are in it twice")


def repair(path: str | AnyPath) -> Findings:
    """Set every damaged part aside, as NAME.damaged, so that its files are done again.

    Raises:
        CacheError: see `check_cache`; or another run writes to the cache.
    """
    path = as_path(path)
    read_index(path)  # no lock file is left in a folder that is no cache
    lock = lock_cache(path)
    try:
        found = check_cache(path)
        if found.whole:
            return found
        for name in found.damaged:
            move(path / name, f"{name}.damaged")
        index = read_index(path)
        kept = {name: value for name, value in index["parts"].items() if name in found.faces}
        settings = settings_from(index["settings"])
        failures = read_failures(path)
        write_index(path, settings, sum(found.faces.values()), len(failures), parts=kept)
        write_failures(path, failures)
        Journal(path).drop()
        return found
    except (OSError, StorageError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CacheError(f"{path}: cannot be repaired: {reason}") from error
    finally:
        lock.release()
