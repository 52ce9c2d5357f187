"""Files and folders that this user may not read: named, and none is taken for damaged."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from preprocess import crop
from preprocess.cache.check import check_cache, repair
from preprocess.cache.errors import CacheError, UnreadableError
from preprocess.cache.log import read_failures
from preprocess.cache.reader import CacheReader
from preprocess.io.sources import find_items
from tests.fuzz import files_in
from tests.preprocess.rows import write_cache

_NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything, so for a while this is another user."""
    if os.geteuid():
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody can reach, which pytest's are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("name", "uses"),
    [
        ("part-00001.arrow", (CacheReader, check_cache, repair)),
        ("cache.json", (CacheReader, check_cache, repair)),
        ("cache.journal", (CacheReader, read_failures, check_cache, repair)),
        ("failures.csv", (read_failures, check_cache, repair)),
    ],
)
def test_a_part_that_may_not_be_read_is_not_damaged(place, name, uses):
    folder = write_cache(place / "c")
    (folder / "cache.journal").touch()
    (folder / "cache.lock").unlink(missing_ok=True)
    folder.chmod(0o777)
    before = files_in(folder)
    (folder / name).chmod(0)
    for use in uses:
        with (
            unprivileged(),
            pytest.raises(UnreadableError, match=f"{name}: cannot be read: Permission denied"),
        ):
            use(folder)
    (folder / name).chmod(0o644)
    after = files_in(folder)
    assert all(after[file] == before[file] for file in before)
    (folder / "cache.journal").unlink()
    assert check_cache(folder).whole


def test_a_cache_in_a_folder_that_may_not_be_read(place):
    folder = write_cache(place / "c")
    folder.chmod(0)
    for use in (CacheReader, check_cache, repair):
        with unprivileged(), pytest.raises(CacheError, match=r"/c/.*: cannot be read: Permission"):
            use(folder)


def test_pictures_and_folders_that_may_not_be_read(place, astronaut_folder, capsys):
    data = place / "data"
    shutil.copytree(astronaut_folder(real=2, fake=1), data)
    command = [str(data), "--workers", "0", "--maps", "none", "--out"]
    assert crop.main([*command, str(place / "all")]) == 0  # loads what it needs
    (data / "real/1.png").chmod(0)
    with unprivileged():
        assert crop.main([*command, str(place / "some")]) == 0
    assert len(CacheReader(place / "some")) == 2
    ((path, kind, reason),) = [(f.path, f.kind, f.reason) for f in read_failures(place / "some")]
    assert (path, kind) == ("real/1.png", "unreadable") and reason.endswith("Permission denied")
    (data / "fake").chmod(0)
    with unprivileged():
        assert crop.main([*command, str(place / "fewer")]) == 0
    assert "folder that cannot be read: 1 ('fake')" in capsys.readouterr().out
    data.chmod(0o300)
    with unprivileged(), pytest.raises(PermissionError, match=f"{data}: expected a folder"):
        find_items(data)
    with unprivileged(), pytest.raises(SystemExit, match="2"):
        crop.main([*command, str(place / "none")])
    assert f"{data}: expected a folder that can be read" in capsys.readouterr().err
