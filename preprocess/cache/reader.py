"""Read one cache or several as one table of faces, or of windows of sound."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
import pyarrow as pa

from preprocess.faces.crop_maps import residual, spectrum
from preprocess.io.formats import SAMPLE_RATE
from preprocess.io.storage import as_path, is_remote, matching

from .errors import CacheError
from .faces import CacheSettings, decode_crop
from .kinds import Settings, settings_difference, settings_from
from .parts import (
    fetch_part,
    fetch_small_columns,
    list_parts,
    open_part,
    part_number,
    read_index,
    small_columns,
)
from .sound import SoundSettings

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from preprocess.io.storage import AnyPath

SettingsT = TypeVar("SettingsT", bound=Settings)
_REQUESTS = 16  # at a time, of the parts of a cache at a URL


class Reader(Generic[SettingsT]):
    """Random access to the rows of one cache or of several with the same settings.

    Args:
        paths: a cache's folder or URL, a glob of these, or a sequence.
        whole: refuse a cache that has lost parts; a writer makes their rows again.

    Raises:
        CacheError: no cache, a damaged one, other settings, or the same row in two caches.

    Attributes:
        settings: what all of them share.
        rows: an Arrow table of every column but pixels, samples and maps.
        metadata: the same as a DataFrame.
        parts: the part files.
    """

    kind: type[SettingsT] | None = None  # any

    def __init__(
        self, paths: str | AnyPath | Iterable[str | AnyPath], *, whole: bool = True
    ) -> None:
        if isinstance(paths, str) or not isinstance(paths, Iterable):
            paths = [paths]
        given = list(paths)
        self.paths = [match for path in given for match in _expand(as_path(path))]
        if not self.paths:
            raise CacheError(f"expected at least one cache but got {given!r}")
        real = {path if is_remote(path) else path.resolve() for path in self.paths}
        if len(real) < len(self.paths):
            raise CacheError(f"expected every cache once but got {[str(p) for p in self.paths]}")
        indices = [read_index(path) for path in self.paths]
        self.settings = self._shared_settings([index["settings"] for index in indices])
        listed = [list_parts(path) for path in self.paths]
        if whole:
            for path, index, parts in zip(self.paths, indices, listed, strict=True):
                _refuse_lost(path, set(index["finished"]), {part.name for part in parts})
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
        rows = rows or [pa.Table.from_batches([], self.settings.schema()).select(names)]
        self.rows: pa.Table = pa.concat_tables(rows)
        if len(self.paths) > 1:
            self._refuse_rows_twice()

    @cached_property
    def metadata(self) -> pd.DataFrame:
        """On first use, so that writing a cache loads no pandas."""
        return self.rows.to_pandas()

    def written(self) -> dict[str, float]:
        """Source path -> when its rows were written, in seconds since 1970; 0 at a URL."""
        times = [0.0 if is_remote(part) else part.stat().st_mtime for part in self.parts]
        rows = np.diff(self._ends, prepend=0)
        return dict(zip(self.rows["path"].to_pylist(), np.repeat(times, rows), strict=True))

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

    def _shared_settings(self, indices: list[dict[str, Any]]) -> SettingsT:
        for path, index in zip(self.paths[1:], indices[1:], strict=True):
            difference = settings_difference(indices[0], index)
            if difference:
                raise CacheError(
                    f"expected caches with the same settings but {self.paths[0]} and {path} "
                    f"differ in {'; '.join(difference)}"
                )
        settings = settings_from(indices[0])
        if self.kind and not isinstance(settings, self.kind):
            raise CacheError(
                f"{self.paths[0]}: expected a cache of {self.kind.rows} but got {settings.rows}"
            )
        return cast(SettingsT, settings)

    def _refuse_rows_twice(self) -> None:
        """Overlapping shards would give some rows double weight. The same key alone is allowed:
        other data may use the same file names."""
        parts = np.searchsorted(self._ends, np.arange(len(self)), side="right")
        seen: dict[tuple, AnyPath] = {}
        for index in np.flatnonzero(self.metadata.duplicated("key", keep=False)).tolist():
            cache, row = self.parts[parts[index]].parent, self._identity(index)
            if seen.setdefault(row, cache) != cache:
                raise CacheError(
                    f"expected caches without {self.settings.rows} in common but {seen[row]} "
                    f"and {cache} both hold {row[0]!r}; read one of them, or make them with "
                    "--shard I/N of one N"
                )

    def _identity(self, index: int) -> tuple:
        """What no two rows share, its key first."""
        names = self.settings.identity
        values = [
            self.metadata[n].iat[index] if n in self.metadata else self._value(index, n).as_py()
            for n in names
        ]
        return tuple(v if isinstance(v, str) else np.asarray(v).tobytes() for v in values)

    def __reduce__(self) -> tuple:
        return type(self), (self.paths,)  # workers map the files themselves

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

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


class CacheReader(Reader[CacheSettings]):
    """The faces of one cache or of several; see `Reader`."""

    kind = CacheSettings

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
        """float16 128 x 65, see `preprocess.faces.maps.spectrum`; computed if it is not cached."""
        if "spectrum" in self.settings.maps:
            return self._value(index, "spectrum").to_numpy()
        return spectrum(self.crop(index))

    def residual(self, index: int) -> np.ndarray:
        """int8 3 x size x size, see `preprocess.faces.maps.residual`; computed if not cached."""
        if "residual" in self.settings.maps:
            return self._value(index, "residual").to_numpy()
        return residual(self.crop(index), self.settings.residual)


class SoundCache(Reader[SoundSettings]):
    """The windows of sound of one cache or of several; see `Reader`."""

    kind = SoundSettings

    def samples(self, index: int) -> np.ndarray:
        """int16, 16 kHz mono, without the silence that fills the window up."""
        whole = self._value(index, "samples").values.to_numpy()
        return whole[: round(float(self.metadata["seconds"].to_numpy()[index]) * SAMPLE_RATE)]

    def mel(self, index: int) -> np.ndarray:
        """float16 80 x T in dB, see `preprocess.io.mel.sound_maps`."""
        return self._value(index, "mel").to_numpy()

    def high(self, index: int) -> np.ndarray:
        """float16 128 x T in dB, 4 to 8 kHz, see `preprocess.io.mel.sound_maps`."""
        return self._value(index, "high").to_numpy()


def _refuse_lost(path: AnyPath, finished: set[str], there: set[str]) -> None:
    """A listed part may be missing only where a run was killed before it had written it: on a disk
    the journal lists it, on an object store it is the last."""
    lost = sorted(finished - there)
    if is_remote(path):
        last = max(map(part_number, there), default=-1)
        lost = [name for name in lost if part_number(name) < last]
    if lost:
        raise CacheError(
            f"{path}: expected its part {lost[0]} but it is not there ({len(lost)} are lost); "
            f"see python -m preprocess.check {path}"
        )


def _expand(path: AnyPath) -> list[AnyPath]:
    if not glob.has_magic(str(path)):
        return [path]
    if is_remote(path):
        return matching(path)
    if path.exists():
        return [path]
    return [Path(found) for found in sorted(glob.glob(str(path)))]  # noqa: PTH207 (absolute too)
