"""Damage of every kind is found and named; a repair keeps what is whole, and crop does the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from preprocess import check, crop
from preprocess.cache.check import check_cache
from preprocess.cache.errors import CacheError, Failure
from preprocess.cache.log import read_failures
from preprocess.cache.parts import encode_part, open_part
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.io import storage
from tests.preprocess.rows import SMALL, assert_rows, make_row, write_cache

ROWS = [make_row(number) for number in range(6)]


@pytest.fixture
def cache(tmp_path) -> Path:
    """Three parts of two faces, and a failure."""
    folder = write_cache(tmp_path / "c", range(6))
    with CacheWriter(folder, SMALL) as writer:
        writer.fail(Failure("broken.jpg", "unreadable", "damaged"))
    return folder


def run(*arguments: object) -> int:
    return check.main([str(argument) for argument in arguments])


def forget_checksums(cache: Path) -> None:
    """As a cache of an older version."""
    index = json.loads((cache / "cache.json").read_text())
    del index["parts"]
    (cache / "cache.json").write_text(json.dumps(index))


def flip(part: Path, position: float) -> None:
    data = bytearray(part.read_bytes())
    data[int(len(data) * position)] ^= 1
    part.write_bytes(data)


def cut(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-100])


def test_a_whole_cache(cache, capsys):
    before = {file: file.read_bytes() for file in cache.iterdir()}
    assert run(cache) == 0
    assert capsys.readouterr().out == (
        f"{cache}: whole: 6 faces in 3 whole parts, 1 files without\n"
    )
    assert run(cache, "--repair") == 0
    assert {file: file.read_bytes() for file in cache.iterdir()} == before


@pytest.mark.parametrize("position", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_one_flipped_bit_is_found_wherever_it_is(cache, position):
    flip(cache / "part-00001.arrow", position)
    found = check_cache(cache)
    assert list(found.damaged) == ["part-00001.arrow"] and not found.whole
    assert "its SHA-256 differs" in found.damaged["part-00001.arrow"]
    assert found.faces == {"part-00000.arrow": 2, "part-00002.arrow": 2}


def test_damage_is_named_with_what_to_do(cache, capsys):
    cut(cache / "part-00001.arrow")
    assert run(cache) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{cache}: not whole: 4 faces in 2 whole parts, 1 files without",
        "  damaged: part-00001.arrow: is not what was written: its SHA-256 differs from that in "
        "cache.json",
        f"what to do: python -m preprocess.check {cache} --repair",
        f"      then: python -m preprocess.crop DATA --out {cache}",
    ]
    with pytest.raises(CacheError, match=r"damaged: .*; see python -m preprocess\.check"):
        CacheReader(cache)


def test_caches_without_checksums(cache, capsys):
    forget_checksums(cache)
    assert len(CacheReader(cache)) == 6
    assert run(cache) == 0
    assert "3 parts have no checksum" in capsys.readouterr().out
    cut(cache / "part-00000.arrow")
    data = (cache / "part-00002.arrow").read_bytes()
    (cache / "part-00002.arrow").write_bytes(data.replace(b"P6\n128 128", b"P6\n129 128"))
    assert run(cache) == 1
    found = check_cache(cache).damaged
    assert "expected an Arrow part but it is damaged" in found["part-00000.arrow"]
    assert f"{ROWS[4].key}: expected a lossless 128 x 128 crop" in found["part-00002.arrow"]
    with pytest.raises(CacheError):
        CacheWriter(cache, SMALL)
    assert run(cache, "--repair") == 0
    with CacheWriter(cache, SMALL) as writer:  # goes on, and signs what it adds
        writer.add([ROWS[0]])
    assert check_cache(cache).unsigned == ["part-00001.arrow"]


def test_columns_that_are_damaged_or_others(cache, tmp_path):
    forget_checksums(cache)
    part = cache / "part-00001.arrow"
    data = part.read_bytes()
    text = ROWS[2].generator.encode() + ROWS[3].generator.encode()
    assert text in data
    part.write_bytes(data.replace(text, b"\xff" * len(text)))  # no text
    other = write_cache(tmp_path / "other", range(2), replace(SMALL, maps=()))
    (cache / "part-00002.arrow").write_bytes((other / "part-00000.arrow").read_bytes())
    found = check_cache(cache).damaged
    assert "expected an Arrow part but it is damaged: Column" in found["part-00001.arrow"]
    assert found["part-00002.arrow"] == "expected the columns of cache format 1 but got others"


def test_faces_that_are_there_twice(cache):
    (cache / "part-00003.arrow").write_bytes((cache / "part-00000.arrow").read_bytes())
    table = open_part(cache / "part-00001.arrow", SMALL)
    twice = encode_part(pa.concat_tables([table.slice(0, 1)] * 2))
    (cache / "part-00004.arrow").write_bytes(twice)
    (cache / "part-00001.arrow").unlink()
    found = check_cache(cache)
    assert found.damaged == {
        "part-00003.arrow": f"2 of its rows are in part-00000.arrow too (first: {ROWS[0].key})",
        "part-00004.arrow": "1 of its rows are in it twice",
    }
    assert found.missing == ["part-00001.arrow"]


def test_a_run_killed_between_index_and_part(tmp_path, monkeypatch, capsys):
    """The next run does the files of the part that was announced, and the cache is whole."""
    cache = write_cache(tmp_path / "c", range(4))

    class Killed(BaseException):
        pass

    def die(path, write):
        if path.suffix == ".arrow":
            raise Killed
        whole(path, write)

    whole = storage.write_whole
    writer = CacheWriter(cache, SMALL)
    writer.add(ROWS[4:])
    with monkeypatch.context() as patch:
        patch.setattr("preprocess.cache.writer.write_whole", die)
        with pytest.raises(Killed):
            writer.flush()
    del writer
    assert run(cache) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  missing: part-00002.arrow: lost, or a run was stopped there",
        f"what to do: python -m preprocess.crop DATA --out {cache}",
    ]
    with CacheWriter(cache, SMALL) as writer:
        assert not {row.path for row in ROWS[4:]} & writer.done.keys()
        writer.add(ROWS[4:])
    assert_rows(CacheReader(cache), ROWS)
    assert run(cache) == 0


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_lost_part_is_no_smaller_cache(cache, number):
    """Whoever trains or judges on the rest would not know; after a repair it is meant so."""
    (cache / f"part-{number:05}.arrow").unlink()
    with pytest.raises(CacheError, match=rf"c: expected its part part-{number:05}.arrow but"):
        CacheReader(cache)
    assert run(cache, "--repair") == 0
    assert len(CacheReader(cache)) == len(ROWS) - 2


def test_a_lost_part_in_the_middle_is_never_written_over(cache):
    (cache / "part-00001.arrow").unlink()
    with CacheWriter(cache, SMALL) as writer:
        writer.add(ROWS[2:4])
    assert_rows(CacheReader(cache), [*ROWS[:2], *ROWS[4:], *ROWS[2:4]])
    assert check_cache(cache).whole


def test_a_repair_and_a_new_run_bring_everything_back(astronaut_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("preprocess.cache.writer.ROWS_PER_PART", 1)
    folder, cache = astronaut_folder(real=2), tmp_path / "cache"
    (folder / "fake" / "notes.jpg").write_text("no pixels")
    arguments = [str(folder), "--out", str(cache), "--workers", "0", "--quiet"]
    assert crop.main(arguments) == 0
    before = CacheReader(cache)
    crops = {key: before.crop(i).copy() for i, key in enumerate(before.metadata["key"])}
    flip(cache / "part-00001.arrow", 0.5)
    (cache / "failures.csv").write_text("nonsense")
    assert crop.main(arguments) == 1
    reason = check_cache(cache).damaged["failures.csv"]
    assert reason.startswith("expected rows of path, kind, reason but it is damaged")
    assert run(cache, "--repair") == 0
    assert run(cache) == 0
    assert len(CacheReader(cache)) == 2 and read_failures(cache) == []
    assert sorted(file.name for file in cache.glob("*.damaged")) == [
        "failures.csv.damaged",
        "part-00001.arrow.damaged",
    ]
    assert crop.main(arguments) == 0
    after = CacheReader(cache)
    assert {key: after.crop(i).tobytes() for i, key in enumerate(after.metadata["key"])} == {
        key: pixels.tobytes() for key, pixels in crops.items()
    }
    assert [failure.path for failure in read_failures(cache)] == ["fake/notes.jpg"]
    assert run(cache) == 0
    assert crop.main([*arguments, "--overwrite"]) == 0
    assert not list(cache.glob("*.damaged"))


def test_a_part_that_cannot_be_reached_is_not_damaged(cache, monkeypatch, capsys):
    def cut_off(file: Path) -> bytes:
        raise storage.StorageError(f"{file}: cannot be reached: the connection dropped")

    with monkeypatch.context() as patch:
        patch.setattr("preprocess.cache.check.read_bytes", cut_off)
        assert run(cache, "--repair") == 1
    assert "part-00000.arrow: cannot be reached" in capsys.readouterr().err
    assert check_cache(cache).whole


def test_a_repair_waits_for_no_run(cache, capsys):
    flip(cache / "part-00001.arrow", 0.5)
    with CacheWriter(cache, SMALL):
        assert run(cache, "--repair") == 1
    assert "another run is writing to this cache" in capsys.readouterr().err
    assert (cache / "part-00001.arrow").exists()


def test_several_caches(tmp_path, capsys):
    one, two = write_cache(tmp_path / "one", range(2)), write_cache(tmp_path / "two", range(2, 4))
    assert run(one, two) == 0
    three = write_cache(tmp_path / "three", range(1, 3))
    assert run(one, three) == 1
    assert f"{one} and {three} both hold {ROWS[1].key!r}" in capsys.readouterr().err
    assert run(one, tmp_path / "missing") == 1
    assert "expected a cache but there is no cache.json" in capsys.readouterr().err
    assert run(tmp_path, "--repair") == 1
    assert not (tmp_path / "cache.lock").exists()
