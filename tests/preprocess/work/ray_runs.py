"""The rows of the plain run, from a Ray on this machine, whatever is killed.

Run by `test_ray`, each in a process of its own.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import ray
from PIL import Image

from preprocess import crop
from preprocess.cache.log import read_failures
from preprocess.work.pool import Lost, WorkerError
from preprocess.work.ray import work_on_ray
from tests.preprocess.work.tasks import make_mortal_echo, make_mortal_extract, make_nothing
from tests.preprocess.work.test_crop_workers import assert_same


@pytest.fixture
def portraits(tmp_path, astronaut) -> Path:
    """48 portraits, no two the same, and two files without a face."""
    folder = tmp_path / "portraits"
    (folder / "real").mkdir(parents=True)
    for number in range(48):
        pixels = astronaut[:220, 100 + number : 320 + number]
        Image.fromarray(pixels).save(folder / "real" / f"{number:02d}.png")
    Image.new("RGB", (220, 220), "grey").save(folder / "real" / "05 wall.png")
    (folder / "real" / "10 notes.jpg").write_text("no pixels")
    return folder


def run(*arguments: object) -> int:
    return crop.main([*map(str, arguments), "--quiet"])


def read_log(log: Path) -> list[tuple[str, int]]:
    """Each try: the job, and the actor's process."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(line.split("\t")[0], int(line.split("\t")[1])) for line in lines]


def test_the_rows_of_the_plain_run_though_a_worker_is_killed(
    portraits, tmp_path, monkeypatch, capfd
):
    log, out, plain = tmp_path / "log", tmp_path / "ray", tmp_path / "plain"
    crash, kill = portraits / "real" / "07 crash.png", portraits / "real" / "23 kill.png"
    for file in (crash, kill):
        file.write_bytes((portraits / "real" / "00.png").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(crop, "make_extract", partial(make_mortal_extract, log))
        assert run(portraits, "--out", out, "--engine", "ray", "--workers", 2) == 0
    assert not ray.is_initialized()
    actors = [actor for job, actor in read_log(log) if job == "real/23 kill.png"]
    assert len(actors) == len({*actors}) == 2  # another one did what the killed one had begun
    assert capfd.readouterr().err == ""
    (failure,) = [failure for failure in read_failures(out) if failure.kind == "crashed"]
    assert failure.path == "real/07 crash.png"
    assert failure.reason == f"{crash}: its process ended with status 7"

    # Nothing is left to do; a file that crashed is tried again when asked for, here without Ray.
    tries = len(read_log(log))
    assert run(portraits, "--out", out, "--engine", "ray") == 0
    assert len(read_log(log)) == tries
    crash.write_text("no pixels any more")
    assert run(portraits, "--out", out, "--retry", "--workers", 0) == 0
    assert run(portraits, "--out", plain, "--workers", 0) == 0
    assert_same(out, plain)


def test_results_come_in_order_and_a_ray_of_others_is_left_running(tmp_path):
    log, jobs = tmp_path / "log", [f"job {number}" for number in range(60)]
    jobs[20] = "crash"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        make_task = partial(make_mortal_echo, log)
        with closing(work_on_ray(make_task, jobs, workers=None, timeout=60)) as results:
            pairs = list(results)
        assert [job for job, _ in pairs] == jobs
        lost = Lost("crashed", "its process ended with status 7")
        assert [result for _, result in pairs] == [*jobs[:20], lost, *jobs[21:]]
        assert sorted(job for job, _ in read_log(log)) == sorted([*jobs, "crash"])
        with closing(work_on_ray(make_task, jobs, workers=2, timeout=60)) as results:
            assert next(results) == (jobs[0], jobs[0])  # and no more: as after Ctrl-C
        assert ray.is_initialized()
        with pytest.raises(WorkerError, match="cannot start: RuntimeError: expected a GPU"):
            list(work_on_ray(make_nothing, jobs, workers=1, timeout=60))
    finally:
        ray.shutdown()
