"""One run at a time writes to a cache: a file lock, or a lease on an object store.

A lease is an object that one run makes and keeps renewing, as such stores have no locks.

Making it is atomic where the store can refuse to replace an object (S3 and its kin, Google,
Azure). A run that was killed renews nothing, and two minutes later the next one takes over. So
this is a lease and not a lock: a run that slept for minutes, or was cut off, may wake up after
another took over. It looks before every write whether the lease is still its own; at worst, one
write that was under way replaces a part of the same number, which `preprocess.check` then finds by
its checksum.

Times are compared between machines, whose clocks must agree to within a minute; S3 refuses
requests of clocks that are off by more than fifteen.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

from preprocess.io.storage import StorageError, is_remote, put, read_bytes, remove

from .errors import CacheError, opening

if TYPE_CHECKING:
    from filelock import FileLock
    from upath import UPath

    from preprocess.io.storage import AnyPath

LOCK_NAME = "cache.lock"
SECONDS = 120.0
_RENEWALS = 4  # in that time


def lock_cache(path: AnyPath) -> FileLock | Lease:
    """A held `filelock.FileLock` on a cache's folder, or a `Lease`; `release` it when done.

    The system lets go of a file lock when its process ends, however it ends; the file that stays
    behind locks nothing.

    Raises:
        CacheError: another process writes to the cache, or the folder cannot be written.
    """
    if is_remote(path):
        return Lease(path, LOCK_NAME)
    from filelock import FileLock, Timeout

    lock = FileLock(path / LOCK_NAME, timeout=0)
    with opening(path):
        try:
            lock.acquire()
        except Timeout:
            raise CacheError(
                f"{path}: another run is writing to this cache; let it finish or stop it, "
                "or choose another --out"
            ) from None
    return lock


class Lease:
    """A held lease on a cache; `release` it when done.

    Raises:
        CacheError: another run holds it, or the store cannot be written.
    """

    def __init__(self, cache: UPath, name: str) -> None:
        self._cache, self._file = cache, cache / name
        self._token, self._renewed = secrets.token_hex(8), 0.0
        self._lock, self._released = threading.Lock(), threading.Event()
        with opening(cache):
            self._take()
        threading.Thread(target=self._keep, daemon=True).start()

    def check(self) -> None:
        """Call before every write.

        Raises:
            CacheError: another run has taken over.
        """
        if time.time() - self._renewed > SECONDS / 2:  # slept, or was cut off
            self._renew()

    def release(self) -> None:
        self._released.set()
        with self._lock:
            try:
                if self._read().get("token") == self._token:
                    remove(self._file)
            except (OSError, StorageError):
                pass  # it ends by itself

    def _take(self) -> None:
        try:
            return self._write(new=True)
        except FileExistsError:
            held = self._read()
        if held.get("token") == self._token:  # made, but the answer was lost
            return
        age = time.time() - held.get("renewed", 0.0)
        if age < SECONDS:
            raise CacheError(
                f"{self._cache}: another run is writing to this cache ({held.get('owner')}); let "
                "it finish or stop it, or choose another --out. If it was killed, its lock ends "
                f"in {SECONDS - age:.0f} s"
            )
        remove(self._file)
        try:
            self._write(new=True)
        except FileExistsError:
            raise CacheError(
                f"{self._cache}: another run has begun writing to this cache"
            ) from None

    def _write(self, new: bool = False) -> None:
        now = time.time()
        owner = f"{socket.gethostname()}, process {os.getpid()}"
        body = {"owner": owner, "token": self._token, "renewed": now}
        put(self._file, json.dumps(body).encode(), new=new)
        self._renewed = now

    def _read(self) -> dict:
        try:
            held = json.loads(read_bytes(self._file))
            return {**held, "renewed": float(held["renewed"])}
        except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
            return {}

    def _renew(self) -> None:
        with self._lock:
            if self._released.is_set():
                return
            if self._read().get("token") != self._token:
                raise CacheError(
                    f"{self._cache}: another run has taken this cache over, since this one did "
                    f"not renew its lock for {SECONDS:.0f} s; what was written before is intact"
                )
            self._write()

    def _keep(self) -> None:
        while not self._released.wait(SECONDS / _RENEWALS):
            try:
                self._renew()
            except CacheError:
                self._renewed = 0.0  # `check` finds it too, and may raise
                return
            except (OSError, StorageError):
                continue
