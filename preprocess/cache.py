"""The cache: a folder of Arrow IPC parts, one row a face, that any tool that reads Arrow can open.

    cache.json       format version, settings, counts, SHA-256 of every part
    cache.journal    while a run writes, what it will add to cache.json and failures.csv
    part-00000.arrow uncompressed, memory-mapped on reading; complete as soon as it has its name
    failures.csv     one row for every file without a face or that could not be read
    cache.lock       empty; held by the run that writes

A part always ends with a whole source file, so a killed run loses the part in hand and nothing
else: what is in a part or in the list of failures is done. A part and its checksum are listed
before the part gets its name, so a killed run leaves no part unlisted; at worst the last one that
is listed is not there, and its files are done again.
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from preprocess.io.storage import StorageError, as_path, is_remote, matching, names_in, remove

from .failures import read_failures, write_failures
from .journal import JOURNAL_NAME, Journal
from .lease import Lease
from .parts import (
    LOCK_NAME,
    checksum,
    encode_part,
    fetch_part,
    fetch_small_columns,
    list_parts,
    lock_cache,
    open_part,
    part_name,
    part_number,
    read_index,
    small_columns,
    write_index,
    write_whole,
)
from .schema import (
    CachedFace,
    CacheError,
    CacheSettings,
    Failure,
    decode_crop,
    schema,
    settings_difference,
    settings_from,
    to_table,
)

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from preprocess.io.storage import AnyPath

_ROWS_PER_PART = 128
_REQUESTS = 16  # at a time, of the parts of a cache at a URL


class CacheWriter:
    """Adds faces to a cache, part by part; continues a cache that is already there.

    It holds the cache's lock from its making to the end of its `with` block.

    Args:
        path: the cache's folder or URL; made if absent.
        settings: refused if the cache there was written with others.
        overwrite: drop the cache that is there and start afresh.
        retry: forget the recorded failures, so that those files are tried again.

    Attributes:
        done: source paths that need no work, with the target of their rows (None: a failure).
        faces: rows, those in hand included.
        failures: the files that gave no row.

    Raises:
        CacheError: other settings, another writer, a folder that is not a cache, or a failed
            write. Parts written before stay as they are.
    """

    reader_type: type[CacheReader] | None = None  # of other kinds of rows than faces

    def __init__(
        self,
        path: str | AnyPath,
        settings: CacheSettings,
        *,
        overwrite: bool = False,
        retry: bool = False,
    ) -> None:
        self.path = as_path(path)
        self.settings = settings
        self._make_folder()
        self._lock = lock_cache(self.path)
        self._journal = Journal(self.path)
        try:
            self._open(overwrite)
            self._take_over([] if retry else read_failures(self.path))
        except BaseException:
            self._lock.release()
            raise

    def _take_over(self, failures: list[Failure]) -> None:
        """Go on with the cache that is there."""
        self.failures = failures
        reader = (self.reader_type or CacheReader)(self.path)
        self.faces = len(reader)
        self._in_hand: list[pa.Table] = []
        self._next = max((part_number(part.name) for part in reader.parts), default=-1) + 1
        listed, there = read_index(self.path)["parts"], {part.name for part in reader.parts}
        self._checksums = {name: listed[name] for name in listed if name in there}
        targets = reader.metadata.groupby("path")["target"].first()
        self.done: dict[str, int | None] = {path: int(value) for path, value in targets.items()}
        self.done.update({failure.path: None for failure in self.failures})
        self._listed = len(self.failures)  # of the failures, those on the disk
        if JOURNAL_NAME in names_in(self.path):  # of a killed run
            self._fold()

    def _make_folder(self) -> None:
        try:
            there = set(names_in(self.path))
        except (OSError, StorageError) as error:
            raise CacheError(f"{self.path}: cannot write there: {error}") from error
        # What a run killed at its very start leaves makes no other folder of it.
        is_file = not is_remote(self.path) and self.path.exists() and not self.path.is_dir()
        if is_file or ("cache.json" not in there and there - {LOCK_NAME, "cache.json.tmp"}):
            raise CacheError(f"{self.path}: expected a cache or a new folder but got other files")
        if is_remote(self.path):
            return  # there are no folders
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f"{self.path}: cannot write there: {error.strerror}") from error

    def _open(self, overwrite: bool) -> None:
        there = names_in(self.path)
        if "cache.json" in there and not overwrite:
            difference = settings_difference(
                self.settings.to_dict(), read_index(self.path)["settings"]
            )
            if difference:
                raise CacheError(
                    f"{self.path}: holds a cache with other settings ({'; '.join(difference)}); "
                    "choose another --out, or start afresh with --overwrite"
                )
        unfinished = ("part-*.arrow.tmp", "failures.csv.tmp", "cache.json.tmp")
        # The index last: without it the folder would be no cache.
        dropped = (
            ("part-*.arrow*", "failures.csv*", JOURNAL_NAME, "cache.json") if overwrite else ()
        )
        try:
            for pattern in (*unfinished, *dropped):
                for name in fnmatch.filter(there, pattern):
                    remove(self.path / name)
        except OSError as error:
            raise CacheError(f"{self.path}: cannot write there: {error.strerror}") from error
        if "cache.json" not in there or overwrite:
            write_index(self.path, self.settings, faces=0, failures=0, parts={})

    def add(self, rows: Sequence[CachedFace]) -> None:
        """Add all faces of one source file."""
        if rows:
            self.add_table(to_table(rows, self.settings))

    def add_table(self, table: pa.Table) -> None:
        """Add all faces of one source file, as `schema.to_table` gives them."""
        self._in_hand.append(table)
        self.faces += len(table)
        self.done.update(zip(table["path"].to_pylist(), table["target"].to_pylist(), strict=True))
        if sum(map(len, self._in_hand)) >= _ROWS_PER_PART:
            self.flush()

    def fail(self, failure: Failure) -> None:
        """Record a source file that gave no face."""
        self.failures.append(failure)
        self.done[failure.path] = None
        if len(self.failures) % _ROWS_PER_PART == 0:
            self.flush()

    def flush(self) -> None:
        """Write what is in hand: list the part and the failures, then write the part."""
        if isinstance(self._lock, Lease):
            self._lock.check()
        data = encode_part(pa.concat_tables(self._in_hand)) if self._in_hand else None
        name = part_name(self._next)
        new = {} if data is None else {name: checksum(data)}
        self._checksums.update(new)
        if is_remote(self.path):
            self._fold()
        else:
            self._journal.add(new, self.failures[self._listed :])
            self._listed = len(self.failures)
        if data is not None:
            write_whole(self.path / name, data)
            self._in_hand = []  # first: if stopped here, these rows must not be written again
            self._next += 1

    def _fold(self) -> None:
        """Write the index and the list of failures anew."""
        write_index(self.path, self.settings, self.faces, len(self.failures), parts=self._checksums)
        write_failures(self.path, self.failures)
        self._journal.drop()

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or not issubclass(kind, CacheError):  # a failed write is not retried
                self.flush()
                self._fold()
        finally:
            self._journal.close()
            self._lock.release()


class CacheReader:
    """Random access to the faces of one cache or of several with the same settings.

    Args:
        paths: a cache's folder or URL, a glob of these, or a sequence.

    Raises:
        CacheError: no cache, a damaged one, other settings, or the same face in two caches.

    Attributes:
        settings: the `CacheSettings` all of them share.
        metadata: a DataFrame of every column but crop and maps, one row a face, in order.
        parts: the part files.
    """

    settings_type = CacheSettings

    def __init__(self, paths: str | AnyPath | Iterable[str | AnyPath]) -> None:
        given = [paths] if isinstance(paths, str) or hasattr(paths, "parts") else list(paths)
        self.paths = [match for path in given for match in _expand(as_path(path))]
        if not self.paths:
            raise CacheError(f"expected at least one cache but got {given!r}")
        real = {path if is_remote(path) else path.resolve() for path in self.paths}
        if len(real) < len(self.paths):
            raise CacheError(f"expected every cache once but got {[str(p) for p in self.paths]}")
        indices = [read_index(path) for path in self.paths]
        self.settings = self._shared_settings([index["settings"] for index in indices])
        listed = [list_parts(path) for path in self.paths]
        self.parts = [part for parts in listed for part in parts]
        self._checksums = [
            index["parts"].get(part.name)
            for index, parts in zip(indices, listed, strict=True)
            for part in parts
        ]
        # A part at a URL is fetched when one of its crops is first asked for.
        self._tables = [None if is_remote(p) else open_part(p, self.settings) for p in self.parts]
        rows = self._small_columns()
        self._ends = np.cumsum([len(table) for table in rows], dtype=np.int64)
        names = small_columns(self.settings)
        rows = rows or [schema(self.settings).empty_table().select(names)]
        self.metadata: pd.DataFrame = pa.concat_tables(rows).to_pandas()
        if len(self.paths) > 1:
            self._refuse_faces_twice()

    def _small_columns(self) -> list[pa.Table]:
        names = small_columns(self.settings)

        def read(part: AnyPath, table: pa.Table | None) -> pa.Table:
            if table is None:
                return fetch_small_columns(part, self.settings)
            return table.select(names)

        if None not in self._tables:
            return list(map(read, self.parts, self._tables))
        with ThreadPoolExecutor(_REQUESTS) as executor:
            return list(executor.map(read, self.parts, self._tables))

    def _shared_settings(self, indices: list[dict]) -> CacheSettings:
        for path, index in zip(self.paths[1:], indices[1:], strict=True):
            difference = settings_difference(indices[0], index)
            if difference:
                raise CacheError(
                    f"expected caches with the same settings but {self.paths[0]} and {path} "
                    f"differ in {'; '.join(difference)}"
                )
        settings = settings_from(indices[0])
        if not isinstance(settings, self.settings_type):
            expected = "sound" if self.settings_type is not CacheSettings else "faces"
            raise CacheError(f"{self.paths[0]}: expected a cache of {expected} but got another")
        return settings

    def _refuse_faces_twice(self) -> None:
        """Overlapping shards would give some faces double weight. The same key alone is allowed:
        other data may use the same file names."""
        parts = np.searchsorted(self._ends, np.arange(len(self)), side="right")
        seen: dict[tuple, AnyPath] = {}
        for index in np.flatnonzero(self.metadata.duplicated("key", keep=False)):
            cache, face = self.parts[parts[index]].parent, self._identity(index)
            if seen.setdefault(face, cache) != cache:
                raise CacheError(
                    f"expected caches without {self.settings.rows} in common but {seen[face]} "
                    f"and {cache} both hold {face[0]!r}; read one of them, or make them with "
                    "--shard I/N of one N"
                )

    def _identity(self, index: int) -> tuple:
        """What no two rows share, its key first."""
        row = self.metadata.iloc[index]
        return row["key"], row["box"].tobytes(), row["landmarks"].tobytes()

    def __reduce__(self) -> tuple:
        return type(self), (self.paths,)  # workers map the files themselves

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def crop(self, index: int) -> np.ndarray:
        """uint8 size x size x 3 RGB; read-only where the cache holds plain pixels."""
        data = self._value(index, "crop").as_buffer()
        try:
            return decode_crop(memoryview(data), self.settings.crop.size)
        except CacheError as error:
            raise CacheError(f"{self.metadata['key'].iat[index]}: {error}") from None

    def crops(self, indices: Iterable[int]) -> torch.Tensor:
        """uint8 N x 3 x size x size."""
        import torch

        return torch.from_numpy(np.stack([self.crop(i) for i in indices])).permute(0, 3, 1, 2)

    def spectrum(self, index: int) -> np.ndarray:
        """float16 128 x 65, see `preprocess.faces.maps.spectrum`."""
        return self._map(index, "spectrum")

    def residual(self, index: int) -> np.ndarray:
        """int8 3 x size x size, see `preprocess.faces.maps.residual`."""
        return self._map(index, "residual")

    def _map(self, index: int, name: str) -> np.ndarray:
        if name not in self.settings.maps:
            raise CacheError(f"{self.paths[0]}: expected a cached {name} but it has none")
        return self._value(index, name).to_numpy()

    def _value(self, index: int, column: str) -> pa.Scalar:
        if not 0 <= index < len(self):
            raise IndexError(f"expected an index of 0 to {len(self) - 1} but got {index}")
        part = int(np.searchsorted(self._ends, index, side="right"))
        start = self._ends[part - 1] if part else 0
        table = self._tables[part]
        if table is None:
            table = fetch_part(self.parts[part], self.settings, self._checksums[part])
            self._tables[part] = table
        return table.column(column)[int(index - start)]


def _expand(path: AnyPath) -> list[AnyPath]:
    if not glob.has_magic(str(path)):
        return [path]
    if is_remote(path):
        return matching(path)
    if path.exists():
        return [path]
    return [Path(found) for found in sorted(glob.glob(str(path)))]  # noqa: PTH207 (absolute too)
