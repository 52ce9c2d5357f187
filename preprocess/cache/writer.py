"""Write a cache part by part; what is on the disk is whole whenever the run is stopped."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic

import pyarrow as pa

from preprocess.io.storage import as_path, is_remote, names_in, remove, write_whole

from .errors import CacheError, Failure, opening, writing
from .faces import CachedFace, CacheSettings, to_table
from .kinds import settings_difference
from .lock import LOCK_NAME, Lease, lock_cache
from .log import JOURNAL_NAME, Journal, read_failures, write_failures
from .parts import checksum, encode_part, part_name, part_number, read_index, write_index
from .reader import Reader, SettingsT

if TYPE_CHECKING:
    from preprocess.io.storage import AnyPath

ROWS_PER_PART = 128


class CacheWriter(Generic[SettingsT]):
    """Adds rows to a cache, part by part; continues a cache that is already there.

    It holds the cache's lock from its making to the end of its `with` block.

    Args:
        path: the cache's folder or URL; made if absent.
        settings: refused if the cache there was written with others.
        overwrite: drop the cache that is there and start afresh.
        retry: forget the recorded failures, so that those files are tried again.

    Attributes:
        done: source paths that need no work, with the target of their rows (None: a failure).
        written: when the rows that were there were written, see `Reader.written`.
        faces: rows, those in hand included.
        failures: the files that gave no row.

    Raises:
        CacheError: other settings, another writer, a folder that is not a cache, or a failed
            write. Parts written before stay as they are.
    """

    def __init__(
        self,
        path: str | AnyPath,
        settings: SettingsT,
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
        reader: Reader[SettingsT] = Reader(self.path, whole=False)
        self.faces = len(reader)
        self._in_hand: list[pa.Table] = []
        self.notes: dict[str, tuple[str, ...]] = {}
        self._next = max((part_number(part.name) for part in reader.parts), default=-1) + 1
        listed, there = read_index(self.path)["parts"], {part.name for part in reader.parts}
        self._checksums = {name: listed[name] for name in listed if name in there}
        paths, targets = (reader.rows[name].to_pylist() for name in ("path", "target"))
        self.done: dict[str, int | None] = dict(zip(paths, targets, strict=True))
        self.done.update({failure.path: None for failure in self.failures})
        self.written = reader.written()
        self._listed = len(self.failures)  # of the failures, those on the disk
        if JOURNAL_NAME in names_in(self.path):  # of a killed run
            self._fold()

    def _make_folder(self) -> None:
        with opening(self.path):
            there = set(names_in(self.path))
        # What a run killed at its very start leaves makes no other folder of it.
        is_file = not is_remote(self.path) and self.path.exists() and not self.path.is_dir()
        if is_file or ("cache.json" not in there and there - {LOCK_NAME, "cache.json.tmp"}):
            raise CacheError(f"{self.path}: expected a cache or a new folder but got other files")
        if not is_remote(self.path):  # where there are no folders
            with opening(self.path):
                self.path.mkdir(parents=True, exist_ok=True)

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
        with opening(self.path):
            for pattern in (*unfinished, *dropped):
                for name in fnmatch.filter(there, pattern):
                    remove(self.path / name)
        if "cache.json" not in there or overwrite:
            write_index(self.path, self.settings, faces=0, failures=0, parts={})

    def add(self: CacheWriter[CacheSettings], rows: Sequence[CachedFace]) -> None:
        """Add all faces of one source file."""
        if rows:
            self.add_table(to_table(rows, self.settings))

    def add_table(self, table: pa.Table) -> None:
        """Add all rows of one source file, with the columns of the settings' schema."""
        self._in_hand.append(table)
        self.faces += len(table)
        self.done.update(zip(table["path"].to_pylist(), table["target"].to_pylist(), strict=True))
        if sum(map(len, self._in_hand)) >= ROWS_PER_PART:
            self.flush()

    def note(self, path: str, notes: Sequence[str]) -> None:
        """Keep what is to be said of a source file at the end of this run."""
        if notes:
            self.notes[path] = tuple(notes)

    def fail(self, failure: Failure) -> None:
        """Record a source file that gave no row."""
        self.failures.append(failure)
        self.done[failure.path] = None
        if len(self.failures) % ROWS_PER_PART == 0:
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
            with writing(self.path / name):
                write_whole(self.path / name, memoryview(data))
            self._in_hand = []  # first: if stopped here, these rows must not be written again
            self._next += 1

    def _fold(self) -> None:
        """Write the index and the list of failures anew."""
        write_index(self.path, self.settings, self.faces, len(self.failures), parts=self._checksums)
        write_failures(self.path, self.failures)
        self._journal.drop()

    def __enter__(self) -> CacheWriter[SettingsT]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or not issubclass(kind, CacheError):  # a failed write is not retried
                self.flush()
                self._fold()
        finally:
            self._journal.close()
            self._lock.release()
