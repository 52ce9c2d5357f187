"""Where data and caches lie: folders of this machine, or any fsspec URL (`s3://`, `gs://` ...).

`as_path` gives a `pathlib.Path` or, for a URL, a `upath.UPath`, which has the same methods; the
functions here are for what an object store does in its own way:

- It has no folders and no renaming. A put object is there whole or not at all, so it takes the
  place of "write under a temporary name, then rename".
- It has no locks; see `cache.lock`.
- Connections drop. What may pass is tried again, and then is a `StorageError`: nothing is known
  of the file, so nothing is recorded of it, and the next run asks again.
- Nothing can be memory-mapped. A part of a cache is copied to this machine when one of its crops
  is first read.

Credentials come from wherever the URL's library looks for them (environment, files, the machine's
role), never from the URL itself, since URLs end up in logs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from .alone import check_target

if TYPE_CHECKING:
    from typing_extensions import TypeIs
    from upath import UPath

    AnyPath = Path | UPath

Value = TypeVar("Value")

WAITS = (1.0, 3.0, 9.0)  # seconds before another try; the libraries below have tried some times
_CHUNK = 4 * 2**20
_ANSWERS = (  # about one file, which no second try changes
    FileNotFoundError,
    PermissionError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)
_SECRETS = re.compile(
    r"(?<=://)[^/@\s]+@|(?<=[?&])[^\s=&]*(?:sig|token|credential|key)[^\s&]*", re.IGNORECASE
)


class StorageError(RuntimeError):
    """A URL cannot be reached, after several tries; the message says why."""


def as_path(text: str | Path | UPath) -> AnyPath:
    """A local path or a URL as an object with `pathlib`'s methods.

    Raises:
        ValueError: credentials in a URL, a protocol that nothing here knows, or the [cloud]
            extra is not installed.
    """
    if not isinstance(text, str) or "://" not in text:
        return Path(text) if isinstance(text, str) else text
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    url = urlsplit(text)
    if url.password or (url.query and url.scheme.startswith("http")):
        raise ValueError(
            f"{url.scheme}://{url.hostname or ''}: expected a URL without credentials; give them "
            "by the environment or the configuration of the storage's library"
        )
    try:
        from upath import UPath

        # Listings are never kept: other runs write there too.
        path = UPath(text, use_listings_cache=False)
        file_system(path)
    except ImportError as error:
        raise ValueError(
            f"{text}: expected the library of {url.scheme}:// but got: {error}; "
            "pip install 'ffdetect[cloud]' brings that of s3://"
        ) from error
    return path


def is_remote(path: AnyPath) -> TypeIs[UPath]:
    return not isinstance(path, Path)


def file_system(path: UPath):
    """The fsspec file system of a URL: one for each process, since none outlives a fork."""
    import fsspec

    return fsspec.filesystem(path.protocol, **path.storage_options)


def reach(path: AnyPath, action: Callable[[], Value]) -> Value:
    """What `action` returns, tried again where a connection failed.

    Raises:
        OSError: whatever a local path raises, or an answer about the file: not there, not allowed.
        StorageError: no answer.
    """
    if not is_remote(path):
        return action()
    for wait in (*WAITS, None):
        try:
            return action()
        except _ANSWERS as error:
            raise type(error)(error.errno, error.strerror or without_secrets(error)) from None
        except Exception as error:  # every library has its own kinds
            if wait is None:
                # Not chained: a library's error may quote requests, with their headers.
                reason = f"{type(error).__name__}: {without_secrets(error)}"
                raise StorageError(f"{path}: cannot be reached: {reason}") from None
        time.sleep(wait)
    raise AssertionError("unreachable")


def without_secrets(error: object) -> str:
    """An error's text without what a URL in it may hold of credentials."""
    return _SECRETS.sub("...", str(error))


def walk(root: AnyPath, left_out: Callable[[str, str], None]) -> Iterator[tuple[AnyPath, str]]:
    """Every file below a folder, with its path from there, in no particular order.

    Links to folders are followed, but no folder is listed twice, be it by a loop, and a link to a
    folder around the root is none to more data. An object store is asked for all names below the
    root at once, a thousand in a request.

    Args:
        left_out: told the kind and the path of what is not listed: hidden files, what systems put
            into folders, pipes, links to where was listed already, folders that cannot be read.
    """
    if is_remote(root):
        found = reach(root, lambda: file_system(root).find(root.path))
        start = len(root.path.strip("/")) + 1
        for name in sorted(found):
            inside = name.strip("/")[start:]
            kind = next(filter(None, map(_clutter, inside.split("/"))), "")
            if kind:
                left_out(kind, inside)
            else:
                yield root / inside, inside
        return
    around = {_identity(folder) for folder in root.resolve().parents}
    listed: set[tuple[int, int]] = set()
    folders, links = deque([""]), deque[str]()
    while folders or links:  # links last, so that what they lead to has its own path if it has one
        linked = not folders
        inside = (links if linked else folders).popleft()
        try:
            own = _identity(root / inside)
            if own in listed or (linked and own in around):
                left_out(
                    "link to a folder listed elsewhere"
                    if own in listed
                    else "link to a folder around this one",
                    inside,
                )
                continue
            listed.add(own)
            with os.scandir(str(root / inside)) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            left_out("folder that cannot be read", inside)
            continue
        for entry in found:
            path = f"{inside}/{entry.name}" if inside else entry.name
            kind = _clutter(entry.name) or _what(entry)
            if kind == "folder":
                (links if entry.is_symlink() else folders).append(path)
            elif kind:
                left_out(kind, path)
            else:
                yield root / path, path


_CLUTTER = frozenset(
    (
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "@eadir",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    )
)


def _clutter(name: str) -> str:
    """What kind of clutter a file or folder is, "" if none."""
    if name.lower() in _CLUTTER:
        return name.strip()
    return "hidden" if name.startswith(".") else ""


def _what(entry: os.DirEntry) -> str:
    """ "folder", "" for a file or a link that leads nowhere, or what else it is."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():  # mostly known without asking for each
            return ""
        entry.stat()
        return "pipe or device"
    except OSError:  # reading it will say why
        return ""


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def names_in(folder: AnyPath) -> list[str]:
    """The names of what a folder holds, sorted; none if it does not exist."""
    if not is_remote(folder):
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    return [name for name, _ in sizes_in(folder)]


def sizes_in(folder: AnyPath) -> list[tuple[str, int]]:
    """Name and bytes of what a folder holds, sorted; none if it does not exist."""
    if not is_remote(folder):
        return [(name, (folder / name).stat().st_size) for name in names_in(folder)]
    try:
        found = reach(folder, lambda: file_system(folder).ls(folder.path, detail=True))
    except FileNotFoundError:
        return []
    own = folder.path.strip("/")
    entries = [(entry["name"].strip("/"), entry["size"] or 0) for entry in found]
    return sorted((name.rpartition("/")[2], size) for name, size in entries if name != own)


def read_bytes(file: AnyPath) -> bytes:
    """A whole file; see `reach`."""
    if not is_remote(file):
        return file.read_bytes()
    return reach(file, lambda: file_system(file).cat_file(file.path))


def read_head(file: AnyPath, size: int) -> bytes:
    """The first bytes of a file, none of a pipe, which would have to be waited for; see `reach`."""
    if is_remote(file):
        return read_range(file, 0, size) if size_of(file) else b""
    if file.exists() and not file.is_file():
        return b""
    with file.open("rb") as stream:
        return stream.read(size)


def read_range(file: UPath, start: int, end: int) -> bytes:
    return reach(file, lambda: file_system(file).cat_file(file.path, start=start, end=end))


def size_of(file: UPath) -> int:
    return reach(file, lambda: file_system(file).size(file.path))


def matching(pattern: UPath) -> list[AnyPath]:
    """What a glob finds, sorted."""
    from upath import UPath

    found = reach(pattern, lambda: file_system(pattern).glob(pattern.path))
    same = {"protocol": pattern.protocol, **pattern.storage_options}
    return [UPath(name, **same) for name in sorted(found)]


def put(file: UPath, data: bytes | memoryview, *, new: bool = False) -> None:
    """Store an object whole or not at all; see `reach`.

    Raises:
        FileExistsError: it is there already, and had to be new.
    """
    mode = "create" if new else "overwrite"
    reach(file, lambda: file_system(file).pipe_file(file.path, bytes(data), mode=mode))


def write_whole(file: AnyPath, data: bytes | memoryview) -> None:
    """Write a file whole or not at all: a reader sees the old one or the new one. OSError,
    StorageError: it cannot be written."""
    if is_remote(file):
        return put(file, data)
    check_target(file)
    temporary = file.with_name(file.name + ".tmp")
    try:
        temporary.unlink(missing_ok=True)
        write_new(temporary, data)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(file: Path, values: object) -> None:
    """Write values of JSON's types whole or not at all, and the folders above the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, (to_json(values, indent=1) + "\n").encode())


def to_json(values: object, indent: int | None = None) -> str:
    """JSON as everyone reads it: nan and infinity, which it does not have, are null."""
    return json.dumps(json.loads(json.dumps(values), parse_constant=lambda _: None), indent=indent)


def write_new(file: Path, data: bytes | memoryview) -> None:
    """Write a file that is not there yet, and never through a link to another."""
    with file.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def remove(file: AnyPath) -> None:
    """Remove a file, if it is there."""
    if not is_remote(file):
        return file.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        reach(file, lambda: file_system(file).rm_file(file.path))


def move(file: AnyPath, name: str) -> None:
    """Give a file another name in its folder; on an object store, by a copy."""
    if not is_remote(file):
        file.replace(file.with_name(name))
        return
    target = file.with_name(name).path
    reach(file, lambda: file_system(file).cp_file(file.path, target))
    remove(file)


@contextlib.contextmanager
def local_copy(file: AnyPath, alive: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """The file itself, or a temporary copy of an object that no decoder's request can outlive.

    Args:
        alive: called after every 4 MiB, so that a slow connection is no hanging decoder.
    """
    if not is_remote(file):
        yield file
        return
    # Nothing of the object's name but its kind, which decides how it is decoded.
    with tempfile.TemporaryDirectory(prefix="ffdetect-") as folder:
        copy = Path(folder, "file" + file.suffix.lower())

        def fetch() -> None:
            options = {"block_size": _CHUNK, "cache_type": "readahead"}
            source = file_system(file).open(file.path, "rb", **options)
            with source, copy.open("wb") as target:
                while data := source.read(_CHUNK):
                    target.write(data)
                    alive()

        reach(file, fetch)
        yield copy


def kept_copy(file: UPath, checksum: str, verify: Callable[[bytes], str]) -> Path:
    """A local copy of an object whose content never changes, made once for all processes.

    It lies under the name of its checksum in `ffdetect/` of the user's cache folder
    ($XDG_CACHE_HOME or ~/.cache), where it stays until somebody deletes it.

    Raises:
        ValueError: what came is not what the checksum promises.
        OSError: no room.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    copy = Path(home, "ffdetect", f"{checksum}{file.suffix}")
    if copy.exists():
        return copy
    data = read_bytes(file)
    if verify(data) != checksum:
        raise ValueError("its SHA-256 differs from that in cache.json")
    copy.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=copy.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(temporary).replace(copy)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return copy


def free_space(folder: Path) -> str:
    """For people: how much room there is."""
    return f"{shutil.disk_usage(folder).free / 2**20 if folder.exists() else 0:.0f} MiB free"
