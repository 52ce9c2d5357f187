"""The files of a cache: locked against a second writer, written whole, checked when opened."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from .schema import FORMAT, CacheError, CacheSettings, settings_from

LOCK_NAME = "cache.lock"
_PART_NAME = re.compile(r"part-(\d{5,})\.arrow")


def lock_cache(path: Path):
    """A held `filelock.FileLock` on a cache's folder; `release` it when done.

    The system lets go of it when its process ends, however it ends; the file that stays behind
    locks nothing.

    Raises:
        CacheError: another process writes to the cache, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path / LOCK_NAME, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise CacheError(
            f"{path}: another run is writing to this cache; let it finish or stop it, "
            "or choose another --out"
        ) from None
    except OSError as error:
        raise CacheError(f"{path}: cannot write there: {error.strerror or error}") from error
    return lock


def list_parts(path: Path) -> list[Path]:
    """The complete parts of a cache, in the order they were written."""
    return sorted(path.glob("part-*.arrow"), key=lambda part: (part_number(part), part.name))


def part_number(part: Path) -> int:
    """The number in a part's name; -1 for other names."""
    match = _PART_NAME.fullmatch(part.name)
    return int(match[1]) if match else -1


def part_name(number: int) -> str:
    return f"part-{number:05d}.arrow"


def encode_part(table: pa.Table) -> pa.Buffer:
    """The bytes of a part: one uncompressed Arrow IPC file with one batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue()


def checksum(data: pa.Buffer) -> str:
    """SHA-256 in hexadecimal, as `sha256sum` prints it."""
    return hashlib.sha256(data).hexdigest()


def open_part(part: Path, expected: pa.Schema, data: pa.Buffer | None = None) -> pa.Table:
    """The rows of a part, mapped from the disk if its bytes are not given.

    Raises:
        CacheError: the part is damaged or has other columns.
    """
    try:
        source = pa.memory_map(os.fsencode(part)) if data is None else data
        table = pa.ipc.open_file(source).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        hint = "" if data is not None else f"; see python -m preprocess.check {part.parent}"
        raise CacheError(
            f"{part}: expected an Arrow part but it is damaged: {error}{hint}"
        ) from error
    if not table.schema.equals(expected):
        raise CacheError(f"{part}: expected the columns of cache format {FORMAT} but got others")
    return table


def read_index(path: Path) -> dict:
    """What `cache.json` says: format, settings, counts, and a checksum for each part.

    Raises:
        CacheError: no cache, another format version, or a damaged index.
    """
    index = path / "cache.json"
    try:
        values = json.loads(index.read_text("utf-8"))
        if values["format"] != FORMAT:
            raise CacheError(
                f"{index}: expected cache format {FORMAT} but got {values['format']}; "
                "crop again with this version"
            )
        settings_from(values["settings"])
        values["parts"] = dict(values.get("parts", {}))  # older caches have no checksums
        return values
    except CacheError:
        raise
    except FileNotFoundError:
        raise CacheError(f"{path}: expected a cache but there is no cache.json") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{index}: expected a cache's index but it is damaged: {error}") from error


def write_index(
    path: Path, settings: CacheSettings, faces: int, failures: int, parts: dict[str, str]
) -> None:
    index = {
        "format": FORMAT,
        "settings": settings.to_dict(),
        "counts": {"faces": faces, "failures": failures},
        "parts": parts,
    }
    text = json.dumps(index, indent=2) + "\n"
    write_whole(path / "cache.json", lambda temporary: temporary.write_text(text, "utf-8"))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write under a temporary name, then rename: a reader sees the old file or the new one.

    Raises:
        CacheError: the disk is full, or whatever else keeps the file from being written.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free / 2**20 if path.parent.exists() else 0
        raise CacheError(
            f"{path}: cannot be written ({error.strerror or error}; {free:.0f} MiB free); "
            "what was written before is intact, and a new run goes on from there"
        ) from error
