"""`failures.csv` of a cache: one row for every file without a face or that could not be read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from preprocess.io.storage import StorageError, as_path, read_bytes

from .journal import read_journal
from .parts import write_whole
from .schema import CacheError, Failure

if TYPE_CHECKING:
    from preprocess.io.storage import AnyPath


def write_failures(path: AnyPath, failures: Iterable[Failure]) -> None:
    """Write `failures.csv`.

    Raises:
        CacheError: see `write_whole`.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([field.name for field in fields(Failure)])
    writer.writerows((f.path, f.kind, f.reason) for f in failures)
    # Reasons may quote file names that are no text; those bytes are shown escaped.
    write_whole(path / "failures.csv", text.getvalue().encode("utf-8", "backslashreplace"))


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
    try:
        text = read_bytes(file).decode("utf-8")
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        if header != columns:
            raise ValueError(f"columns {', '.join(header)}")
        return [Failure(**dict(zip(columns, row, strict=True))) for row in rows]
    except FileNotFoundError:
        return []
    except StorageError as error:
        raise CacheError(str(error)) from error
    except (OSError, ValueError, csv.Error) as error:
        raise CacheError(
            f"{file}: expected rows of {', '.join(columns)} but it is damaged: {error}"
        ) from error
