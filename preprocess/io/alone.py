"""One run at a time writes a file."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

DEVICES = ("/dev", "/dev/fd", "/proc/self/fd")  # /dev/stdout may be a link to a file


def check_target(file: Path) -> None:
    """Refuse to write where something else than a file is: to put a file in place of a device would
    take the device from the whole machine.

    Raises:
        OSError: it is a folder, pipe or device.
    """
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(file))
    if str(file.parent) in DEVICES or (file.exists() and not file.is_file()):
        raise OSError(errno.EINVAL, "it is a pipe or device", str(file))


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Meanwhile no other run writes this file; the folders above it are made.

    Raises:
        BlockingIOError: another one does already.
        OSError: nothing can be written there.
    """
    from filelock import FileLock, Timeout

    check_target(file)
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
