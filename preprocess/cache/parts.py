"""The files of a cache: written whole, checked when opened."""

from __future__ import annotations

import hashlib
import json
import os
import re
from fnmatch import fnmatchcase
from mmap import mmap
from typing import TYPE_CHECKING

import pyarrow as pa

from preprocess.io.storage import (
    StorageError,
    is_remote,
    kept_copy,
    names_in,
    read_bytes,
    read_range,
    size_of,
    sizes_in,
    write_whole,
)

from .arrow import read_file
from .errors import CacheError, reading, writing
from .kinds import FORMAT, Settings, settings_from
from .log import read_journal

if TYPE_CHECKING:
    from preprocess.io.storage import AnyPath

_HEAD, _FOOT = 2**18, 2**15  # bytes of a part that hold its small columns, its table of contents
_HEADERS = 2**16  # at most, before the first column
_PART_NAME = re.compile(r"part-(\d{5,})\.arrow")


def list_parts(path: AnyPath) -> list[AnyPath]:
    """The complete parts of a cache, in the order they were written."""
    names = [name for name in names_in(path) if fnmatchcase(name, "part-*.arrow")]
    return [path / name for name in sorted(names, key=lambda name: (part_number(name), name))]


def part_sizes(path: AnyPath) -> list[tuple[str, int]]:
    """Name and bytes of every part."""
    return [(name, size) for name, size in sizes_in(path) if fnmatchcase(name, "part-*.arrow")]


def part_number(name: str) -> int:
    """The number in a part's name; -1 for other names."""
    match = _PART_NAME.fullmatch(name)
    return int(match[1]) if match else -1


def part_name(number: int) -> str:
    return f"part-{number:05d}.arrow"


def encode_part(table: pa.Table) -> pa.Buffer:
    """The bytes of a part: one uncompressed Arrow IPC file with one batch."""
    table = table.combine_chunks()
    counted = pa.MockOutputStream()  # memory that grows would be copied again and again
    _write_table(table, counted)
    data = pa.allocate_buffer(counted.size())
    _write_table(table, pa.FixedSizeBufferWriter(data))
    return data


def _write_table(table: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def checksum(data: pa.Buffer) -> str:
    """SHA-256 in hexadecimal, as `sha256sum` prints it."""
    return hashlib.sha256(data).hexdigest()


def open_part(part: AnyPath, settings: Settings, data: pa.Buffer | None = None) -> pa.Table:
    """The rows of a part, mapped from the disk if its bytes are not given.

    Raises:
        CacheError: the part is damaged or has other columns.
    """
    advice = f"; see python -m preprocess.check {part.parent}" if data is None else ""
    with reading(part, "an Arrow part", advice):
        source = pa.memory_map(os.fsencode(str(part))) if data is None else data
        table = _table(source, settings, part)
        table.validate(full=True)  # else offsets that lead out of a buffer end the process
        return table


def _table(source: pa.Buffer | pa.MemoryMappedFile, settings: Settings, part: AnyPath) -> pa.Table:
    table = read_file(source, settings.schema())
    if table is None:
        raise CacheError(f"expected the columns of cache format {FORMAT} but got others", part)
    return table


def fetch_part(part: AnyPath, settings: Settings, expected: str | None) -> pa.Table:
    """`open_part` for a URL: the part is copied to this machine and mapped from there.

    Args:
        expected: its checksum in the index.
    """
    assert is_remote(part)
    try:
        if expected is None:
            raise ValueError("cache.json has no checksum of it")
        copy = kept_copy(part, expected, checksum)
    except (ValueError, OSError, StorageError) as error:
        raise CacheError(f"cannot be read: {error}", part) from error
    return open_part(copy, settings)


def small_columns(settings: Settings) -> list[str]:
    """What a row is, without its pixels or samples and their maps."""
    return [name for name in settings.schema().names if name not in settings.large]


def fetch_small_columns(part: AnyPath, settings: Settings) -> pa.Table:
    """The `small_columns` of a part at a URL, in two requests or three: a small part of it.

    They come first in a part. So Arrow is given a buffer of the part's size that holds its head
    and its foot alone; memory that is never written to takes no room.

    Raises:
        CacheError: see `open_part`; or the part cannot be reached.
    """
    assert is_remote(part)
    with reading(part, "an Arrow part"):
        size = size_of(part)
        head, foot = min(_HEAD, size), min(_FOOT, size)
        whole = mmap(-1, max(size, 1))
        whole[size - foot : size] = read_range(part, size - foot, size)
        while True:
            whole[:head] = read_range(part, 0, head)
            table = _table(pa.py_buffer(whole), settings, part).select(small_columns(settings))
            if head == size or _HEADERS + _bytes_of(table) <= head:
                break
            head = min(8 * head, size)
        table.validate(full=True)
        # A copy: the buffer, and with it the address range of the whole part, is let go.
        return pa.ipc.open_stream(_as_stream(table)).read_all()


def _bytes_of(table: pa.Table) -> int:
    """As the batch's header says, which comes before all columns; padding included."""
    buffers = [b for column in table.columns for chunk in column.chunks for b in chunk.buffers()]
    return sum(b.size + 64 for b in buffers if b is not None)


def _as_stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def read_index(path: AnyPath) -> dict:
    """What `cache.json` says: format, settings, counts, and a checksum for each part; those of a
    run that goes on, or was killed, from its journal. "finished" are the names of the others.

    Raises:
        CacheError: no cache, another format version, or a damaged index.
    """
    index = path / "cache.json"
    listed, _ = read_journal(path)  # first: what it loses from now on is in the index
    with reading(index, "a cache's index"):
        try:
            values = json.loads(read_bytes(index).decode("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            reason = "expected a cache but there is no cache.json"
            raise CacheError(reason, path) from None
        if values["format"] != FORMAT:
            raise CacheError(
                f"expected cache format {FORMAT} but got {values['format']}; "
                "crop again with this version",
                index,
            )
        settings_from(values["settings"]).schema()  # raises, too, where a setting is no number
        values["parts"] = dict(values.get("parts", {}))  # older caches have no checksums
        if not all(isinstance(value, str) for value in values["parts"].values()):
            raise ValueError("expected a checksum for each part")
        values["finished"] = list(values["parts"])
        values["parts"].update(listed)
        return values


def write_index(
    path: AnyPath, settings: Settings, faces: int, failures: int, parts: dict[str, str]
) -> None:
    index = {
        "format": FORMAT,
        "settings": settings.to_dict(),
        "counts": {"faces": faces, "failures": failures},
        "parts": parts,
    }
    file = path / "cache.json"
    with writing(file):
        write_whole(file, (json.dumps(index, indent=2) + "\n").encode())
