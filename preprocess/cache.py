"""The cache: a folder of Arrow IPC parts, one row a face, that any tool that reads Arrow can open.

    cache.json       format version, settings, counts
    part-00000.arrow uncompressed, memory-mapped on reading; complete as soon as it has its name
    failures.csv     one row for every file without a face or that could not be read

A part always ends with a whole source file, so a killed run loses the part in hand and nothing
else: what is in a part or in `failures.csv` is done.
"""

from __future__ import annotations

import csv
import glob
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from .schema import (
    FORMAT,
    MAPS,
    CachedFace,
    CacheError,
    CacheSettings,
    Failure,
    decode_crop,
    encode_crop,
    schema,
    settings_difference,
)

_ROWS_PER_PART = 128


class CacheWriter:
    """Adds faces to a cache, part by part; continues a cache that is already there.

    Args:
        path: the cache's folder; made if absent.
        settings: refused if the cache there was written with others.
        overwrite: drop the cache that is there and start afresh.
        retry: forget the recorded failures, so that those files are tried again.

    Raises:
        CacheError: other settings, a folder that is not a cache, or a failed write. Parts
            written before stay as they are.
    """

    def __init__(
        self,
        path: str | Path,
        settings: CacheSettings,
        *,
        overwrite: bool = False,
        retry: bool = False,
    ) -> None:
        self.path = Path(path)
        self.settings = settings
        self._schema = schema(settings)
        self._rows: list[CachedFace] = []
        self._open(overwrite)
        self.failures = [] if retry else read_failures(self.path)
        reader = CacheReader(self.path)
        self.faces = len(reader)
        self._parts = len(reader.parts)
        targets = reader.metadata.groupby("path")["target"].first()
        self.done: dict[str, int | None] = {path: int(value) for path, value in targets.items()}
        """Source paths that need no work, with the target of their rows (None: a failure)."""
        self.done.update({failure.path: None for failure in self.failures})

    def _open(self, overwrite: bool) -> None:
        index = self.path / "cache.json"
        if index.exists() and not overwrite:
            difference = settings_difference(
                self.settings.to_dict(), _read_index(self.path)["settings"]
            )
            if difference:
                raise CacheError(
                    f"{self.path}: holds a cache with other settings ({'; '.join(difference)}); "
                    "choose another --out, or start afresh with --overwrite"
                )
        elif index.exists():
            for old in [index, self.path / "failures.csv", *self.path.glob("part-*.arrow*")]:
                old.unlink(missing_ok=True)
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise CacheError(f"{self.path}: expected a cache or a new folder but got other files")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for unfinished in self.path.glob("part-*.arrow.tmp"):
                unfinished.unlink()
        except OSError as error:
            raise CacheError(f"{self.path}: cannot write there: {error.strerror}") from error
        if not index.exists():
            self._write_index(faces=0, failures=0)

    def add(self, rows: Sequence[CachedFace]) -> None:
        """Add all faces of one source file."""
        self._rows.extend(rows)
        self.faces += len(rows)
        self.done.update({row.path: row.target for row in rows})
        if len(self._rows) >= _ROWS_PER_PART:
            self.flush()

    def fail(self, failure: Failure) -> None:
        """Record a source file that gave no face."""
        self.failures.append(failure)
        self.done[failure.path] = None
        if len(self.failures) % _ROWS_PER_PART == 0:
            self.flush()

    def flush(self) -> None:
        """Write what is in hand: a part first, then failures and counts."""
        if self._rows:
            table = _to_table(self._rows, self._schema, self.settings.codec)
            part = self.path / f"part-{self._parts:05d}.arrow"

            def write(temporary: Path) -> None:
                with (
                    pa.OSFile(os.fsencode(temporary), "wb") as sink,
                    pa.ipc.new_file(sink, table.schema) as writer,
                ):
                    writer.write_table(table)

            _write_whole(part, write)
            self._parts += 1
            self._rows = []
        _write_whole(self.path / "failures.csv", self._write_failures)
        self._write_index(self.faces, len(self.failures))

    def _write_failures(self, temporary: Path) -> None:
        # Reasons may quote file names that are no text; those bytes are shown escaped.
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            writer = csv.writer(stream)
            writer.writerow([field.name for field in fields(Failure)])
            writer.writerows((f.path, f.kind, f.reason) for f in self.failures)

    def _write_index(self, faces: int, failures: int) -> None:
        index = {
            "format": FORMAT,
            "settings": self.settings.to_dict(),
            "counts": {"faces": faces, "failures": failures},
        }
        text = json.dumps(index, indent=2) + "\n"
        _write_whole(self.path / "cache.json", lambda tmp: tmp.write_text(text, "utf-8"))

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, CacheError):  # a failed write is not retried
            self.flush()


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write under a temporary name, then rename: a reader sees the old file or the new one."""
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


def _to_table(rows: Sequence[CachedFace], schema: pa.Schema, codec: str) -> pa.Table:
    arrays = []
    for field in schema:
        values = [getattr(row, field.name) for row in rows]
        if field.name == "crop":
            arrays.append(pa.array([encode_crop(crop, codec) for crop in values], pa.binary()))
        elif field.name in MAPS:
            stacked = np.ascontiguousarray(np.stack(values))
            storage = pa.FixedSizeListArray.from_arrays(
                pa.array(stacked.reshape(-1)), stacked[0].size
            )
            arrays.append(pa.ExtensionArray.from_storage(field.type, storage))
        elif pa.types.is_fixed_size_list(field.type):
            arrays.append(pa.array([np.ravel(v).tolist() for v in values], field.type))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _read_index(path: Path) -> dict:
    index = path / "cache.json"
    try:
        values = json.loads(index.read_text("utf-8"))
        if values["format"] != FORMAT:
            raise CacheError(
                f"{index}: expected cache format {FORMAT} but got {values['format']}; "
                "crop again with this version"
            )
        CacheSettings.from_dict(values["settings"])
        return values
    except CacheError:
        raise
    except FileNotFoundError:
        raise CacheError(f"{path}: expected a cache but there is no cache.json") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{index}: expected a cache's index but it is damaged: {error}") from error


def read_failures(path: str | Path) -> list[Failure]:
    """The files of a cache that gave no face.

    Raises:
        CacheError: `failures.csv` is damaged.
    """
    file = Path(path) / "failures.csv"
    if not file.exists():
        return []
    columns = [field.name for field in fields(Failure)]
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
            if header != columns:
                raise ValueError(f"columns {', '.join(header)}")
            return [Failure(**dict(zip(columns, row, strict=True))) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise CacheError(
            f"{file}: expected rows of {', '.join(columns)} but it is damaged: {error}"
        ) from error


class CacheReader:
    """Random access to the faces of one cache or of several with the same settings.

    Args:
        paths: a cache's folder, a glob of folders, or a sequence of these.

    Attributes:
        settings: the `CacheSettings` all of them share.
        metadata: a DataFrame of every column but crop and maps, one row a face, in order.
        parts: the part files.
    """

    def __init__(self, paths: str | Path | Iterable[str | Path]) -> None:
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        self.paths = [Path(match) for path in given for match in _expand(str(path))]
        if not self.paths:
            raise CacheError(f"expected at least one cache but got {given!r}")
        self.settings = self._shared_settings()
        self.parts = [p for path in self.paths for p in sorted(path.glob("part-*.arrow"))]
        expected = schema(self.settings)
        self._tables = [_open_part(part, expected) for part in self.parts]
        self._ends = np.cumsum([len(table) for table in self._tables], dtype=np.int64)
        small = [name for name in expected.names if name not in ("crop", *MAPS)]
        tables = [t.select(small) for t in self._tables] or [expected.empty_table().select(small)]
        self.metadata: pd.DataFrame = pa.concat_tables(tables).to_pandas()

    def _shared_settings(self) -> CacheSettings:
        indices = [_read_index(path)["settings"] for path in self.paths]
        for path, index in zip(self.paths[1:], indices[1:], strict=True):
            difference = settings_difference(indices[0], index)
            if difference:
                raise CacheError(
                    f"expected caches with the same settings but {self.paths[0]} and {path} "
                    f"differ in {'; '.join(difference)}"
                )
        return CacheSettings.from_dict(indices[0])

    def __reduce__(self) -> tuple:
        return CacheReader, (self.paths,)  # workers map the files themselves

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
        return torch.from_numpy(np.stack([self.crop(i) for i in indices])).permute(0, 3, 1, 2)

    def spectrum(self, index: int) -> np.ndarray:
        """float16 128 x 65, see `preprocess.maps.spectrum`."""
        return self._map(index, "spectrum")

    def residual(self, index: int) -> np.ndarray:
        """int8 3 x size x size, see `preprocess.maps.residual`."""
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
        return self._tables[part].column(column)[int(index - start)]


def _expand(path: str) -> list[str]:
    if Path(path).exists() or not glob.has_magic(path):
        return [path]
    return sorted(glob.glob(path))  # noqa: PTH207 (absolute patterns too)


def _open_part(part: Path, expected: pa.Schema) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(os.fsencode(part))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise CacheError(f"{part}: expected an Arrow part but it is damaged: {error}") from error
    if not table.schema.equals(expected):
        raise CacheError(f"{part}: expected the columns of cache format {FORMAT} but got others")
    return table
