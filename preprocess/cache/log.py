"""What a run has listed: `failures.csv` at its end, and `cache.journal`, a line at a time, before.

Writing the index and the list of failures anew with every part takes longer with each. So a run
adds a line of JSON for every part and every failure, and folds them into `cache.json` and
`failures.csv` when it ends. Of a killed run the journal stays behind; readers read it too, and the
next run folds it in. What a killed run has half written is a last line without an end, which
counts for nothing.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from preprocess.io.storage import as_path, read_bytes, remove, write_whole

from .errors import Failure, reading, writing

if TYPE_CHECKING:
    from preprocess.io.storage import AnyPath

JOURNAL_NAME = "cache.journal"


class Journal:
    """The lines of one run, in a cache's folder on a disk: object stores cannot add to a file."""

    def __init__(self, path: AnyPath) -> None:
        self._file = path / JOURNAL_NAME
        self._stream: io.FileIO | None = None

    def add(self, parts: dict[str, str], failures: Sequence[Failure]) -> None:
        """Have names and checksums of parts, and failures, on the disk.

        Raises:
            CacheError: the disk is full, or whatever else keeps them from being written.
        """
        entries: list[dict] = [{"part": name, "sha256": value} for name, value in parts.items()]
        entries += [{"failure": [f.path, f.kind, f.reason]} for f in failures]
        data = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
        if not data:
            return
        with writing(self._file):
            if self._stream is None:  # a new file, so never one that a link leads to
                self._file.unlink(missing_ok=True)
                self._stream = io.FileIO(str(self._file), "x")
            stream = self._stream
            size = stream.tell()
            try:
                while data:
                    data = data[stream.write(data) :]
                os.fsync(stream.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    stream.truncate(size)
                raise

    def drop(self) -> None:
        """Remove the file, after all that it says was written elsewhere."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            remove(self._file)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def read_journal(path: AnyPath) -> tuple[dict[str, str], list[Failure]]:
    """Checksums by name of part, and failures; both empty without a journal.

    Raises:
        CacheError: the journal is damaged.
    """
    file = path / JOURNAL_NAME
    parts: dict[str, str] = {}
    failures: list[Failure] = []
    advice = "; without this file, some parts have no checksum and some failures are tried again"
    with (
        reading(file, "lines of JSON", advice),
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
    ):
        for line in read_bytes(file).split(b"\n")[:-1]:
            entry = json.loads(line)
            if "part" in entry:
                parts[str(entry["part"])] = str(entry["sha256"])
            else:
                path_, kind, reason = map(str, entry["failure"])
                failures.append(Failure(path_, kind, reason))
    return parts, failures


def write_failures(path: AnyPath, failures: Iterable[Failure]) -> None:
    """Write `failures.csv`.

    Raises:
        CacheError: it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([field.name for field in fields(Failure)])
    writer.writerows((f.path, f.kind, f.reason) for f in failures)
    # Reasons may quote file names that are no text; those bytes are shown escaped.
    file = path / "failures.csv"
    with writing(file):
        write_whole(file, text.getvalue().encode("utf-8", "backslashreplace"))


def read_failures(path: str | AnyPath) -> list[Failure]:
    """The files of a cache that gave no face.

    Raises:
        CacheError: `failures.csv` is damaged, or the journal of a run.
    """
    _, newer = read_journal(as_path(path))  # first: what it loses from now on is in the list
    return list(dict.fromkeys([*_read_failures(as_path(path)), *newer]))


def _read_failures(path: AnyPath) -> list[Failure]:
    file = path / "failures.csv"
    columns = [field.name for field in fields(Failure)]
    with reading(file, f"rows of {', '.join(columns)}"):
        try:
            text = read_bytes(file).decode("utf-8")
        except FileNotFoundError:
            return []
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        if header != columns:
            raise ValueError(f"columns {', '.join(header)}")
        return [Failure(**dict(zip(columns, row, strict=True))) for row in rows]
