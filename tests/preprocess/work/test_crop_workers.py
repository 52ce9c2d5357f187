"""The command with worker processes: the same rows, and none lost, whatever happens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from preprocess import crop, fill
from preprocess.cache.check import check_cache
from preprocess.cache.log import read_failures
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.io.sources import Item
from preprocess.work.pool import Lost
from tests.preprocess.rows import SMALL

from .tasks import make_mortal_extract

ROOT = Path(__file__).parents[3]
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's fork and prctl")


@pytest.fixture
def portraits(tmp_path, astronaut):
    """Makes a folder of small portraits, no two the same, and two files without a face."""

    def make(count: int) -> Path:
        folder = tmp_path / "portraits"
        (folder / "real").mkdir(parents=True)
        for number in range(count):
            top, left = number // 40, 100 + number % 40
            Image.fromarray(astronaut[top : top + 220, left : left + 220]).save(
                folder / "real" / f"{number:02d}.png"
            )
        Image.new("RGB", (220, 220), "grey").save(folder / "real" / "05 wall.png")
        (folder / "real" / "10 notes.jpg").write_text("no pixels")
        return folder

    return make


def command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def environment() -> dict[str, str]:
    # The workers compute with one thread each; what they are compared with does so too.
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run_hard(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        command("tests.preprocess.work.hard_crop", *arguments),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        start_new_session=True,
    )


def run_here(*arguments: object) -> int:
    return crop.main([*map(str, arguments), "--workers", "0", "--quiet"])


def assert_same(path: Path, other: Path) -> None:
    """The same rows in the same order and the same failures."""
    one, two = CacheReader(path), CacheReader(other)
    pd.testing.assert_frame_equal(one.metadata, two.metadata)
    for index in range(len(one)):
        np.testing.assert_array_equal(one.crop(index), two.crop(index))
        np.testing.assert_array_equal(one.residual(index), two.residual(index))
        np.testing.assert_allclose(one.spectrum(index), two.spectrum(index), atol=0.01)
    assert sorted(read_failures(path), key=str) == sorted(read_failures(other), key=str)
    assert check_cache(path).whole and not check_cache(path).unsigned


def test_workers_write_what_one_process_writes_and_stop_when_told(portraits, tmp_path):
    """The command as it is: stopped by Ctrl-C, which a terminal sends to the workers too."""
    folder, out, report = portraits(96), tmp_path / "cache", tmp_path / "report.json"
    line = command("preprocess.crop", folder, "--out", out, "--workers", 2, "--report", report)
    with subprocess.Popen(
        line,
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        # A shell that runs the tests in the background has told them to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        said = b""
        # The bar counts files as they come; they are written in order, so the first must be there.
        while not re.search(rb" (1[2-9]|[2-9]\d)/98 ", said):
            byte = process.stderr.read(1)
            assert byte, said
            said += byte
        os.killpg(process.pid, signal.SIGINT)
        said += process.stderr.read()
    assert process.returncode == 130
    assert b"stopped; the same command goes on from here" in said and b"Traceback" not in said
    first = json.loads(report.read_text())
    assert not first["finished"] and first["done"] < first["files"] == 98
    assert first["faces"] == first["new_faces"] == len(CacheReader(out))

    line[line.index("--workers") + 1] = "1"
    done = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0
    second = json.loads(report.read_text())
    assert second["finished"] and second["done"] == second["files"] == 98
    assert second["faces"] == 96 and second["new_faces"] == 96 - first["faces"]
    assert second["failures"] == {"no_face": 1, "unreadable": 1, "crashed": 0, "timeout": 0}
    assert f"faces     96 ({second['new_faces']} new)" in done.stdout
    bars = [int(n) for n in re.findall(r" (\d+)/98 ", done.stderr)]
    assert bars[0] == first["done"] and bars[-1] == 98 and bars == sorted(bars)
    assert run_here(folder, "--out", tmp_path / "here") == 0
    assert_same(out, tmp_path / "here")


@linux
def test_a_file_that_crashes_its_decoder_is_named_and_the_others_done(
    portraits, tmp_path, monkeypatch, capsys
):
    folder, out, report = portraits(6), tmp_path / "cache", tmp_path / "report.json"
    file = folder / "real" / "01 segfault.png"
    file.write_bytes((folder / "real" / "00.png").read_bytes())
    arguments = map(str, (folder, "--out", out, "--workers", 2, "--report", report))
    with monkeypatch.context() as patch:
        patch.setattr(crop, "make_extract", partial(make_mortal_extract, tmp_path / "log"))
        patch.setattr(crop, "PICTURES_PER_WORKER", 1)
        assert crop.main([*arguments]) == 0
    assert list(CacheReader(out).metadata["path"]) == [f"real/{n:02d}.png" for n in range(6)]
    failures = {failure.path: failure for failure in read_failures(out)}
    assert {path: failure.kind for path, failure in failures.items()} == {
        "real/01 segfault.png": "crashed",
        "real/05 wall.png": "no_face",
        "real/10 notes.jpg": "unreadable",
    }
    reason = failures["real/01 segfault.png"].reason
    assert reason == f"{file}: its process was ended by SIGSEGV"
    assert "failed    2 (1 crashed)" in capsys.readouterr().out.splitlines()
    counts = json.loads(report.read_text())["failures"]
    assert counts == {"no_face": 1, "unreadable": 1, "crashed": 1, "timeout": 0}
    assert run_here(folder, "--out", out, "--retry") == 0  # a decoder that was mended
    assert len(CacheReader(out)) == 7


def test_a_file_that_hangs_is_named(portraits, tmp_path, monkeypatch):
    """test_pool.py has files that do hang; this is about what becomes of them."""

    def lose_all(task, items, *, timeout, **options):
        for item in items:
            yield item, Lost("timeout", f"no sign of life for {timeout:g} s")

    monkeypatch.setattr(fill, "work", lose_all)
    folder, out = portraits(1), tmp_path / "cache"
    assert crop.main([str(folder), "--out", str(out), "--workers", "1", "--timeout", "9"]) == 1
    (failure, *others) = read_failures(out)
    file = folder / "real" / "00.png"
    assert failure.kind == "timeout" and len(others) == 2
    assert failure.reason == f"{file}: no sign of life for 9 s"


@linux
def test_kills_lose_nothing_and_leave_nobody_behind(portraits, tmp_path):
    folder, out = portraits(24), tmp_path / "cache"
    done = run_hard("kill", folder, "--quiet", "--workers", 2, "--out", out)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stderr}"
    parts = [int(line) for line in done.stdout.split()]
    assert len(parts) == 8 and len({*parts}) > 2
    assert len(CacheReader(out)) == 24
    assert run_here(folder, "--out", tmp_path / "here") == 0
    assert_same(out, tmp_path / "here")
    assert not list(out.glob("*.tmp"))


@linux
def test_a_disk_that_fills_up(portraits, tmp_path):
    folder, out = portraits(10), tmp_path / "cache"
    done = run_hard("full", folder, "--out", out, "--workers", 2)
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if "error:" in line]
    assert f"{out}/part-00002.arrow: cannot be written (File too large" in error
    assert "what was written before is intact, and a new run goes on from there" in error
    assert len(CacheReader(out)) == 6 and not check_cache(out).damaged
    assert run_here(folder, "--out", out) == 0
    assert run_here(folder, "--out", tmp_path / "here") == 0
    assert_same(out, tmp_path / "here")


# The lock


def test_a_second_run_on_one_cache_is_refused(portraits, tmp_path, capsys):
    folder, out = portraits(1), tmp_path / "cache"
    assert run_here(folder, "--out", out, "--size", 128) == 0
    with CacheWriter(out, replace(SMALL, maps=())):
        for more in ([], ["--overwrite"]):
            assert run_here(folder, "--out", out, "--size", 128, *more) == 1
            error = capsys.readouterr().err
            assert f"error: {out}: another run is writing to this cache" in error
        assert len(CacheReader(out)) == 1  # reading needs no lock
    assert run_here(folder, "--out", out, "--size", 128) == 0


# Shards


def test_shards_together_hold_every_file_once(portraits, tmp_path, monkeypatch):
    folder = portraits(4)
    monkeypatch.chdir(tmp_path)
    for index in (1, 2):
        run_here(folder, "--shard", f"{index}/2", "--maps", "none")
    assert run_here(folder, "--out", "all", "--maps", "none") == 0
    shards, whole = CacheReader("cache/portraits-*-of-2"), CacheReader("all")
    assert len(shards.paths) == 2 and len(shards) == 4
    pd.testing.assert_frame_equal(
        shards.metadata.sort_values("key", ignore_index=True), whole.metadata
    )
    failures = [f for path in shards.paths for f in read_failures(path)]
    assert sorted(failures, key=str) == sorted(read_failures("all"), key=str)


def test_faces_that_are_in_two_caches_are_refused(portraits, tmp_path):
    folder = portraits(1)
    for name in ("a", "b"):
        assert run_here(folder, "--out", tmp_path / name) == 0
    with pytest.raises(ValueError, match=r"without faces in common but .*a and .*b both hold "):
        CacheReader([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(ValueError, match="expected every cache once but got"):
        CacheReader([tmp_path / "a", tmp_path / "b" / ".." / "a"])
    other = Image.open(folder / "real" / "00.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    other.save(folder / "real" / "00.png")  # other data with the same names is no mistake
    assert run_here(folder, "--out", tmp_path / "b", "--overwrite") == 0
    assert len(CacheReader([tmp_path / "a", tmp_path / "b"])) == 2


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "0/4"], "expected a shard of 1/N to N/N but got '0/4'"),
        (["--shard", "5/4"], "expected a shard of 1/N to N/N but got '5/4'"),
        (["--shard", "half"], "expected a shard of 1/N to N/N but got 'half'"),
        (["--timeout", "0"], "expected --workers of at least 0 and a --timeout above 0"),
        (["--workers", "-1"], "expected --workers of at least 0 and a --timeout above 0"),
    ],
)
def test_wrong_arguments_are_2(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        crop.main([str(tmp_path), "--out", str(tmp_path / "out"), *arguments])
    assert caught.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_quiet_says_nothing_and_reports(portraits, tmp_path, capsys):
    folder, report = portraits(1), tmp_path / "new" / "report.json"
    assert run_here(folder, "--out", tmp_path / "cache", "--report", report) == 0
    assert capsys.readouterr() == ("", "")
    values = json.loads(report.read_text())
    assert values.pop("seconds") > 0 and values.pop("faces_per_second") > 0
    size = sum(part.stat().st_size for part in (tmp_path / "cache").glob("part-*"))
    assert values == {
        "finished": True,
        "cache": str(tmp_path / "cache"),
        "files": 3,
        "done": 3,
        "faces": 1,
        "new_faces": 1,
        "bytes": size,
        "failures": {"no_face": 1, "unreadable": 1, "crashed": 0, "timeout": 0},
        "notes": {},
    }
    assert run_here(folder, "--out", folder, "--report", report) == 1
    values = json.loads(report.read_text())
    assert values["finished"] is False and "expected a cache or a new folder" in values["error"]


@pytest.mark.parametrize(("pictures", "workers"), [(1, 1), (4, 1), (5, 2), (40, 3)])
def test_a_worker_is_started_only_for_enough_pictures(tmp_path, monkeypatch, pictures, workers):
    started = []

    def count(task, jobs, *, workers, **options):
        started.append(workers)
        yield from ()

    monkeypatch.setattr(fill, "work", count)
    items = [Item(tmp_path / f"{number}.png", f"{number}.png") for number in range(pictures)]
    with CacheWriter(tmp_path / "cache", SMALL) as writer:
        crop.crop_items(items, writer, workers=3, quiet=True)
    assert started == [workers]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("crop", {"torch", "pandas", "scipy"}),
        ("extract", {"torch", "pandas", "scipy"}),
        ("faces.mtcnn", {"torchvision", "facenet_pytorch", "pandas"}),
    ],
)
def test_what_takes_long_to_import_is_left_to_those_who_need_it(module, heavy):
    program = f"import sys, preprocess.{module}; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("", 0)
