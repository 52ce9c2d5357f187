"""What can go wrong with a cache, and with a file that should have given it rows."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from preprocess.io.formats import DecodeError, FileError
from preprocess.io.sources import Item
from preprocess.io.storage import StorageError, free_space, is_remote, local_copy

if TYPE_CHECKING:
    from preprocess.io.storage import AnyPath

Value = TypeVar("Value")

_NOT_OPENED = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}


class CacheError(FileError):
    """A cache cannot be read or written; the message names the file and what is wrong."""


class UnreadableError(CacheError):
    """A file of a cache that cannot be opened (no permission, too many open files, a server that is
    away): nothing is known to be wrong with it."""


@dataclass(frozen=True)
class Failure:
    """A source file that gave no row.

    Attributes:
        path: as in the rows.
        kind: one of the `failure_kinds` of the cache's settings. "crashed" and "timeout" took two
            worker processes with them.
        reason: for people.
    """

    path: str
    kind: str
    reason: str


def attempt(
    item: Item, read: Callable[[Path], Value], alive: Callable[[], None]
) -> Value | Failure | StorageError:
    """What `read` makes of an item's file, or of a copy on this machine; or why it makes nothing.

    A `StorageError` is given back, not raised: it is no fault of the process, nor of the file.
    """
    try:
        with local_copy(item.file, alive) as file:
            return read(file)
    except DecodeError as error:
        # Named as it was asked for: what was read may be a copy.
        return Failure(item.path, error.failure, f"{item.file}: {error.reason}")
    except OSError as error:  # decoders have a `DecodeError` for theirs
        return Failure(item.path, "unreadable", f"{item.file}: cannot be read: {error}")
    except StorageError as error:
        return error


@contextmanager
def reading(file: AnyPath, expected: str, advice: str = "") -> Iterator[None]:
    """Turns what keeps a file of a cache from being read into a `CacheError` that says so; into an
    `UnreadableError` where it cannot be opened, or not be reached."""
    try:
        yield
    except CacheError:
        raise
    except StorageError as error:
        raise UnreadableError(str(error)) from error
    except Exception as error:  # bytes, JSON, CSV and Arrow raise many kinds on damage
        if isinstance(error, OSError) and error.errno in _NOT_OPENED:
            reason = os.strerror(error.errno)
            raise UnreadableError(f"cannot be read: {reason}", file) from error
        reason = f"expected {expected} but it is damaged: {error}{advice}"
        raise CacheError(reason, file) from error


@contextmanager
def opening(cache: AnyPath) -> Iterator[None]:
    """Turns what keeps a run from writing to a cache's folder into a `CacheError` that says so."""
    try:
        yield
    except (OSError, StorageError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CacheError(f"{cache}: cannot write there: {reason}") from error


@contextmanager
def writing(file: AnyPath) -> Iterator[None]:
    """Turns what keeps a file of a cache from being written into a `CacheError` that says so."""
    try:
        yield
    except (OSError, StorageError) as error:
        reason = getattr(error, "strerror", None) or error
        room = "" if is_remote(file) else f"; {free_space(file.parent)}"
        raise CacheError(
            f"{file}: cannot be written ({reason}{room}); what was written before is intact, "
            "and a new run goes on from there"
        ) from error
