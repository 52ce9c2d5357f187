"""One run at a time writes a file."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Meanwhile no other run writes this file; the folders above it are made.

    Raises:
        BlockingIOError: another one does already.
        OSError: nothing can be written there.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    path = file.with_name(file.name + ".lock")
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(errno.EWOULDBLOCK, "another run is writing it", str(file)) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            path.unlink()
        lock.release()
