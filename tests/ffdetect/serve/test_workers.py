"""Whatever becomes of worker processes: no accepted picture or job is lost, others go on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from ffdetect.serve import tasks
from ffdetect.serve.errors import ServiceError
from ffdetect.serve.jobs import Jobs
from ffdetect.serve.messages import Fault, ScorePictures, Wanted
from ffdetect.serve.observe import Metrics
from ffdetect.serve.schemas import State
from ffdetect.serve.settings import Settings
from ffdetect.serve.workers import Workers

from . import mortal
from .running import PATIENCE, until


@pytest.fixture
def make() -> Iterator[Callable[..., Workers]]:
    """Starts workers that do what the bytes they get say."""
    started: list[Workers] = []

    def make(broken=lambda reason: None, task=mortal.make_task, **settings) -> Workers:
        settings = {"workers": 2, "silent_seconds": 3.0, "batch_wait": 0.2, **settings}
        workers = Workers(Settings(**settings), Metrics(), broken, task)
        started.append(workers)
        workers.start()
        return workers

    yield make
    for workers in started:
        workers.close(0)


def outcomes(futures: list[Future]) -> list[str]:
    """Names of what was scored, codes of faults."""
    wait(futures, PATIENCE)
    results = [future.result(0) for future in futures]
    return [r.code if isinstance(r, Fault) else r.answer.name for r in results]


def test_workers_compute_with_what_the_settings_name(monkeypatch):
    asked, load = [], tasks.Detector.load

    def told(*args: str) -> object:
        asked.append(args)
        return load("fast", "cpu")

    monkeypatch.setattr(tasks.Detector, "load", told)
    tasks.make_task(Settings(precision="bf16"))
    assert asked == [("best", "cpu", "bf16")]


def test_a_picture_that_crashes_its_worker_takes_no_other_with_it(make):
    workers = make(batch_size=8)
    files = [b"a", b"b", b"crash", b"c", b"bad", b"d"]
    assert outcomes(workers.score(files, Wanted())) == ["a", "b", "crashed", "c", "unreadable", "d"]
    assert outcomes(workers.score([b"e"], Wanted())) == ["e"]
    assert workers.held == 0


def test_a_worker_computes_with_the_threads_of_idle_ones(make, tmp_path):
    workers = make(workers=3, batch_wait=0)
    until(lambda: outcomes(workers.score([b"threads"], Wanted())) == ["threads 3"])
    busy = workers.score([b"until %s" % bytes(tmp_path / "end")], Wanted())
    until(busy[0].running)
    assert outcomes(workers.score([b"threads"], Wanted())) == ["threads 1"]
    (tmp_path / "end").touch()
    assert outcomes(busy) == [f"until {tmp_path / 'end'}"]


def test_a_picture_is_scored_by_as_many_threads_as_it_is_given(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    settings = Settings(weights="fast")
    task, seen = tasks.make_task(settings), []
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    limited = tasks.make_task(settings)
    picture = io.BytesIO()
    Image.fromarray(data.astronaut()).save(picture, "PNG")
    look = tasks.Detector.crop_logits

    def looked(self, *args, **options):
        seen.append(self.threads)
        return look(self, *args, **options)

    monkeypatch.setattr(tasks.Detector, "crop_logits", looked)
    wanted = Wanted(verdicts=False)
    found = [task(ScorePictures((picture.getvalue(),), wanted, n), print)[0] for n in (2, 1)]
    two, one = (scored.answer.faces[0].score for scored in found)
    assert seen == [2, 1] and two == pytest.approx(one, abs=1e-4)
    limited(ScorePictures((picture.getvalue(),), wanted, 2), print)
    assert seen[2:] == [1]


def test_a_picture_that_hangs_is_given_up_and_others_are_not(make):
    workers = make(batch_size=8)
    assert outcomes(workers.score([b"hang", b"a", b"b"], Wanted())) == ["timeout", "a", "b"]


def test_what_a_killed_worker_had_in_hand_is_done_by_another(make, tmp_path):
    workers = make(workers=1)
    files = [b"a", f"once {tmp_path / 'killed'}".encode(), b"b"]
    assert outcomes(workers.score(files, Wanted())) == [file.decode() for file in files]


def test_pictures_beyond_the_queue_are_refused_all_or_none(make, tmp_path):
    workers = make(workers=1, queue=3)
    end = tmp_path / "end"
    held = workers.score([b"until %s" % bytes(end), b"a"], Wanted())
    with pytest.raises(ServiceError, match="waiting") as caught:
        workers.score([b"b", b"c"], Wanted())
    assert caught.value.fault.code == "queue_full"
    held += workers.score([b"d"], Wanted())
    end.touch()
    assert outcomes(held) == [f"until {end}", "a", "d"]
    assert outcomes(workers.score([b"b", b"c"], Wanted())) == ["b", "c"]


def test_pictures_beyond_the_memory_of_the_queue_are_refused(make, tmp_path):
    workers = make(workers=1, queue_mb=1)
    held = workers.score([b"until %s" % bytes(tmp_path / "end")], Wanted())
    until(held[0].running)
    held += workers.score([bytes(2**20 - len(str(tmp_path)) - 10)], Wanted())
    with pytest.raises(ServiceError):
        workers.score([b"a", b"b"], Wanted())
    (tmp_path / "end").touch()
    wait(held, PATIENCE)
    assert outcomes(workers.score([b"a", b"b"], Wanted())) == ["a", "b"]


def test_long_jobs_leave_a_worker_to_pictures(make, tmp_path):
    workers = make()
    jobs = Jobs(Settings(), workers, Metrics())
    long = [submit(jobs, tmp_path / str(n), f"until {tmp_path / 'end'}") for n in range(2)]
    assert outcomes(workers.score([b"a"], Wanted())) == ["a"]
    assert all(job.is_open for job in long)
    (tmp_path / "end").touch()
    until(lambda: not any(job.is_open for job in long))
    assert [job.state for job in long] == [State.done] * 2


def submit(jobs: Jobs, path: Path, text: str, **options):
    path.write_text(text)
    return jobs.submit("clip", path, **options)


def test_a_job_tells_of_its_progress_and_leaves_no_file(make, tmp_path):
    jobs = Jobs(Settings(), make(), Metrics())
    job = submit(jobs, tmp_path / "clip", f"until {tmp_path / 'end'}", name="talk.mp4")
    until(lambda: job.progress == 0.5)
    assert jobs.answer(job).state == State.running
    (tmp_path / "end").touch()
    until(lambda: not job.is_open)
    answer = jobs.answer(jobs.get(job.id))
    assert (answer.state, answer.progress, answer.result.name) == (State.done, 1, "talk.mp4")
    assert not (tmp_path / "clip").exists()


def test_a_job_whose_worker_is_killed_is_done_all_the_same(make, tmp_path):
    jobs = Jobs(Settings(), make(), Metrics())
    job = submit(jobs, tmp_path / "clip", f"once {tmp_path / 'killed'}")
    until(lambda: not job.is_open)
    assert job.state == State.done and (tmp_path / "killed").exists()


def test_a_cancelled_job_frees_its_worker(make, tmp_path):
    jobs = Jobs(Settings(), make(workers=1), Metrics())
    running = submit(jobs, tmp_path / "a", f"until {tmp_path / 'never'}")
    waiting = submit(jobs, tmp_path / "b", "never")
    until(lambda: running.state == State.running)
    assert jobs.answer(waiting).state == State.queued
    jobs.cancel(waiting.id)
    jobs.cancel(running.id)
    until(lambda: not running.is_open)
    assert running.state == waiting.state == State.cancelled
    after = submit(jobs, tmp_path / "c", "after")
    until(lambda: not after.is_open)
    assert after.state == State.done and [*tmp_path.iterdir()] == []


def test_jobs_beyond_the_queue_are_refused_and_leave_no_file(make, tmp_path):
    jobs = Jobs(Settings(job_queue=1), make(), Metrics())
    first = submit(jobs, tmp_path / "a", f"until {tmp_path / 'end'}")
    with pytest.raises(ServiceError) as caught:
        submit(jobs, tmp_path / "b", "b")
    assert caught.value.fault.code == "queue_full" and not (tmp_path / "b").exists()
    (tmp_path / "end").touch()
    until(lambda: not first.is_open)
    assert submit(jobs, tmp_path / "c", "c").id


def test_results_are_kept_for_a_while_and_for_their_owner(make, tmp_path):
    jobs = Jobs(Settings(keep_results=1.0), make(), Metrics())
    job = submit(jobs, tmp_path / "a", "a", owner="ann")
    with pytest.raises(ServiceError):
        jobs.get(job.id, "bob")
    until(lambda: not job.is_open)
    assert job.expires is not None

    def forgotten() -> bool:
        try:
            jobs.get(job.id, "ann")
        except ServiceError as error:
            return error.fault.code == "not_found"
        return False

    until(forgotten)


def test_closing_finishes_what_was_accepted(make):
    workers = make(workers=1)
    futures = workers.score([b"a", b"b", b"c"], Wanted())
    workers.close(PATIENCE)
    assert all(future.done() for future in futures)
    assert outcomes(futures) == ["a", "b", "c"]
    with pytest.raises(ServiceError) as caught:
        workers.score([b"d"], Wanted())
    assert caught.value.fault.code == "unavailable"


def test_closing_gives_up_what_takes_too_long(make):
    workers = make(workers=1, silent_seconds=1000.0)
    futures = workers.score([b"hang"], Wanted())
    until(lambda: futures[0].running())
    workers.close(0.1)
    assert outcomes(futures) == ["unavailable"]


def test_workers_that_cannot_start_are_reported(make):
    reasons: list[str] = []
    workers = make(reasons.append, mortal.make_nothing, workers=1)
    until(lambda: reasons)
    assert "expected weights but got none" in reasons[0] and workers.ready == 0
