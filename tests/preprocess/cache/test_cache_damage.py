"""Caches that are damaged, interrupted or cannot be written: named, and nothing done is lost."""

from __future__ import annotations

import errno
import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from preprocess.cache import parts
from preprocess.cache.check import check_cache
from preprocess.cache.errors import CacheError, Failure
from preprocess.cache.log import read_failures
from preprocess.cache.parts import read_index
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.io import storage
from tests.preprocess.rows import SMALL, assert_rows, make_row, write_cache

# Damage


@pytest.mark.parametrize("keep", [0, 6, 100, 0.5, 0.99])
def test_a_truncated_part_is_named(tmp_path, keep):
    folder = write_cache(tmp_path / "c")
    part = folder / "part-00001.arrow"
    data = part.read_bytes()
    part.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    for open_cache in (CacheReader, lambda path: CacheWriter(path, SMALL)):
        with pytest.raises(CacheError, match=r"part-00001\.arrow: expected an Arrow part but"):
            open_cache(folder)


def test_a_part_with_other_columns_is_named(tmp_path):
    folder = write_cache(tmp_path / "c")
    other = write_cache(tmp_path / "other", settings=replace(SMALL, maps=()))
    (folder / "part-00001.arrow").write_bytes((other / "part-00001.arrow").read_bytes())
    with pytest.raises(CacheError, match=r"part-00001\.arrow: expected the columns of cache"):
        CacheReader(folder)


def test_a_damaged_crop_is_named_by_its_key(tmp_path):
    folder = write_cache(tmp_path / "c", [3])
    part = folder / "part-00000.arrow"
    part.write_bytes(part.read_bytes().replace(b"P6\n128 128", b"P6\n129 128"))
    with pytest.raises(CacheError, match=r"fake/picture 3\.jpg#-1#0: expected a lossless"):
        CacheReader(folder).crop(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        '{"format": 1, "settings": {}}',
        "\0\0",
        "\xff",
        "[" * 10**5,
    ],
    ids=range(10),
)
def test_a_damaged_index_is_named(tmp_path, text):
    folder = write_cache(tmp_path / "c")
    (folder / "cache.json").write_bytes(text.encode("latin-1"))
    for open_cache in (CacheReader, lambda path: CacheWriter(path, SMALL)):
        with pytest.raises(CacheError, match=r"cache\.json: expected a cache's index but it is"):
            open_cache(folder)
    CacheWriter(folder, SMALL, overwrite=True)
    assert len(CacheReader(folder)) == 0


def test_an_index_with_impossible_settings_is_named(tmp_path):
    folder = write_cache(tmp_path / "c")
    index = folder / "cache.json"
    for old, new in (('"size": 128', '"size": 5'), ('"codec"', '"codek"')):
        text = index.read_text()
        index.write_text(text.replace(old, new))
        with pytest.raises(CacheError, match=r"cache\.json: expected a cache's index"):
            CacheReader(folder)
        index.write_text(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("settings", None), ("settings", {"kind": "sound"}), ("parts", {"part-00000.arrow": 1})],
)
def test_an_index_of_other_types_is_named(tmp_path, name, value):
    folder = write_cache(tmp_path / "c")
    index = json.loads((folder / "cache.json").read_text())
    (folder / "cache.json").write_text(json.dumps({**index, name: value}))
    with pytest.raises(CacheError, match=r"cache\.json: expected a cache's index"):
        CacheReader(folder)


def test_a_part_that_is_a_table_of_contents_alone_is_named(tmp_path):
    folder = write_cache(tmp_path / "c", [3])
    part = folder / "part-00000.arrow"
    data = bytearray(part.read_bytes())
    data[8:16] = b"\xff" * 4 + b"\0" * 4  # the end of a stream where its schema should be
    part.write_bytes(data)
    with pytest.raises(CacheError, match=r"part-00000\.arrow: .*schema is not where it belongs"):
        CacheReader(folder)


def test_other_format_versions_are_refused(tmp_path):
    folder = write_cache(tmp_path / "c")
    index = folder / "cache.json"
    index.write_text(index.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CacheError, match="expected cache format 1 but got 2"):
        CacheReader(folder)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a,b\n1,2\n", b"path,kind,reason\nx\n"])
def test_a_damaged_failure_list_is_named(tmp_path, content):
    folder = write_cache(tmp_path / "c")
    (folder / "failures.csv").write_bytes(content)
    with pytest.raises(CacheError, match=r"failures\.csv: expected .* but"):
        CacheWriter(folder, SMALL)


def test_what_is_no_cache_is_refused(tmp_path):
    with pytest.raises(CacheError, match=r"expected a cache but there is no cache\.json"):
        CacheReader(tmp_path)
    with pytest.raises(CacheError, match=r"expected a cache but there is no cache\.json"):
        CacheReader(tmp_path / "missing")
    with pytest.raises(CacheError, match="expected at least one cache but got"):
        CacheReader(str(tmp_path / "none-*"))
    with pytest.raises(CacheError, match="expected at least one cache but got"):
        CacheReader([])


def test_offsets_out_of_a_column_are_named_and_end_no_process(tmp_path):
    folder = write_cache(tmp_path / "c", [3])
    part = folder / "part-00000.arrow"
    offset = int(parts.open_part(part, SMALL)["path"].chunk(0).buffers()[2].size)
    data = part.read_bytes()
    hostile = data.replace(struct.pack("<ii", 0, offset), struct.pack("<ii", 0, 2**30))
    assert hostile != data
    part.write_bytes(hostile)
    with pytest.raises(CacheError, match=r"part-00000\.arrow: expected an Arrow part but"):
        CacheReader(folder)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_compressed_part_is_refused_before_it_swells(tmp_path, codec):
    folder = write_cache(tmp_path / "c", [3])
    part = folder / "part-00000.arrow"
    table = parts.open_part(part, SMALL, pa.py_buffer(part.read_bytes()))
    zeros = pa.array([bytes(2**28)], pa.binary())
    table = table.set_column(table.schema.get_field_index("crop"), "crop", zeros)
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_file(str(part), table.schema, options=options) as writer:
        writer.write_table(table)
    del table, zeros
    assert part.stat().st_size < 2**22
    usual = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counting)
    try:
        with pytest.raises(CacheError, match=r"part-00000\.arrow: .*they are compressed"):
            CacheReader(folder)
    finally:
        pa.set_memory_pool(usual)
    assert counting.max_memory() < 2**20


def test_a_part_is_read_without_a_copy(tmp_path):
    folder = write_cache(tmp_path / "c", [3])
    before = pa.total_allocated_bytes()
    table = parts.open_part(folder / "part-00000.arrow", SMALL)
    assert len(table) == 1 and pa.total_allocated_bytes() - before < 2**14


# Interrupted and failing writes


def test_what_a_killed_run_left_over_is_cleaned(tmp_path):
    folder = write_cache(tmp_path / "c", range(2))
    (folder / "part-00001.arrow.tmp").write_bytes(b"half a part")
    assert len(CacheReader(folder)) == 2
    with CacheWriter(folder, SMALL) as writer:
        assert not list(folder.glob("*.tmp"))
        writer.add([make_row(2)])
    assert_rows(CacheReader(folder), [make_row(number) for number in range(3)])


def test_an_interruption_keeps_what_is_done(tmp_path):
    with pytest.raises(KeyboardInterrupt), CacheWriter(tmp_path / "c", SMALL) as writer:
        writer.add([make_row(0)])
        raise KeyboardInterrupt
    assert_rows(CacheReader(tmp_path / "c"), [make_row(0)])


@pytest.mark.parametrize(
    ("failing", "kept"), [("part-00001.arrow", 2), ("failures.csv", 3), ("cache.json", 3)]
)
def test_a_full_disk(tmp_path, monkeypatch, failing, kept):
    folder = write_cache(tmp_path / "c", range(2))
    rows = [make_row(number) for number in range(3)]

    def write_half(temporary: Path, data) -> None:
        write_new(temporary, data)
        if temporary.name == f"{failing}.tmp":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_new = storage.write_new
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_new", write_half)
        with (
            pytest.raises(CacheError, match=f"{failing}: cannot be written .No space left on"),
            CacheWriter(folder, SMALL) as writer,
        ):
            writer.add([rows[2]])
            writer.flush()
    assert not list(folder.glob("*.tmp"))
    assert_rows(CacheReader(folder), rows[:kept])
    with CacheWriter(folder, SMALL) as writer:  # the next run goes on
        if rows[2].path not in writer.done:
            writer.add([rows[2]])
    assert_rows(CacheReader(folder), rows)


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    folder = write_cache(tmp_path / "c", range(2))

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with CacheWriter(folder, SMALL) as writer:
        writer.add([make_row(2)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            with pytest.raises(CacheError, match=r"cache.journal: cannot be written .No space"):
                writer.flush()
        assert (folder / "cache.journal").read_bytes() == b""
        assert len(CacheReader(folder)) == 2


def test_a_killed_run_leaves_a_journal_that_is_read_and_folded_in(tmp_path):
    folder = write_cache(tmp_path / "c", range(2))
    failures = [
        Failure("strange\nname \udcff", "unreadable", "no, 'pixels'"),
        Failure("b", "no_face", ""),
    ]
    writer = CacheWriter(folder, SMALL)
    writer.add([make_row(2)])
    writer.fail(failures[0])
    writer.flush()
    before = {name: (folder / name).read_bytes() for name in ("cache.json", "failures.csv")}
    writer.add([make_row(3)])
    writer.fail(failures[1])
    writer.flush()
    assert all((folder / name).read_bytes() == before[name] for name in before)
    with (folder / "cache.journal").open("ab") as stream:
        stream.write(b'{"part": "part-00003.arr')  # the kill
    writer._journal.close()
    writer._lock.release()
    assert set(read_index(folder)["parts"]) == {f"part-{n:05}.arrow" for n in range(3)}
    assert read_failures(folder) == failures
    found = check_cache(folder)
    assert found.whole and not found.unsigned and found.failures == 2
    with CacheWriter(folder, SMALL) as writer:
        assert set(writer.done) == {make_row(n).path for n in range(4)} | {f.path for f in failures}
        assert not (folder / "cache.journal").exists()
    assert len(json.loads((folder / "cache.json").read_text())["parts"]) == 3
    assert [f.kind for f in read_failures(folder)] == ["unreadable", "no_face"]
    assert_rows(CacheReader(folder), [make_row(number) for number in range(4)])


@pytest.mark.parametrize("lines", ["nonsense\n", "[]\n", '{"part": "part-00000.arrow"}\n', "{}\n"])
def test_a_damaged_journal_is_an_error(tmp_path, lines):
    folder = write_cache(tmp_path / "c", range(2))
    (folder / "cache.journal").write_text(lines)
    for read in (CacheReader, read_failures, check_cache):
        with pytest.raises(CacheError, match=r"cache.journal: expected lines of JSON but it is"):
            read(folder)


def test_a_part_has_its_name_only_when_it_is_on_the_disk(tmp_path, monkeypatch):
    folder = write_cache(tmp_path / "c", range(2))
    seen = []

    def look(_descriptor: int) -> None:
        seen.append(sorted(file.name for file in folder.glob("part-*")))

    monkeypatch.setattr(os, "fsync", look)
    with CacheWriter(folder, SMALL) as writer:
        writer.add([make_row(2)])
    assert seen[0] == ["part-00000.arrow"]  # the journal, which announces the part
    assert seen[1] == ["part-00000.arrow", "part-00001.arrow.tmp"]
    assert seen[-1] == ["part-00000.arrow", "part-00001.arrow"]


def test_nothing_is_written_through_a_link(tmp_path):
    folder, outside = write_cache(tmp_path / "c", range(2)), tmp_path / "outside"
    outside.write_text("mine")
    for name in ("cache.json.tmp", "failures.csv.tmp", "part-00001.arrow.tmp"):
        (folder / name).symlink_to(outside)
    writer = CacheWriter(folder, SMALL)
    for name in ("cache.json.tmp", "failures.csv.tmp", "part-00001.arrow.tmp"):
        (folder / name).symlink_to(outside)  # again, after what was left over was cleaned
    with writer:
        writer.add([make_row(2)])
    assert outside.read_text() == "mine" and len(CacheReader(folder)) == 3
    (folder / "cache.lock").unlink(missing_ok=True)
    (folder / "cache.lock").symlink_to(outside)
    with pytest.raises(CacheError, match="cannot write there"):
        CacheWriter(folder, SMALL)
    assert outside.read_text() == "mine"


def test_output_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="cannot write there"):
        CacheWriter(tmp_path / "file" / "c", SMALL)

    def refuse(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CacheError, match=r"new: cannot write there: Permission denied"):
        CacheWriter(tmp_path / "new", SMALL)


def test_a_first_message_of_an_unknown_kind_is_not_read_as_a_schema(tmp_path):
    """Arrow does not verify where a message keeps its kind, and may end the process."""
    folder = write_cache(tmp_path / "c")
    part = folder / "part-00000.arrow"
    data = bytearray(part.read_bytes())
    data[29] = 2  # in the message's table of fields
    part.write_bytes(data)
    with pytest.raises(CacheError, match=r"part-00000\.arrow: .*schema is not where it belongs"):
        CacheReader(folder)
