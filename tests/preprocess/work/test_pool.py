"""Results in order, whatever befalls a worker; and no worker that outlives its supervisor."""

from __future__ import annotations

import multiprocessing
import os
import re
import select
import signal
import subprocess
import sys
from contextlib import closing
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from preprocess.work import pool
from preprocess.work.pool import Guard, Lost, WorkerError, work

PATIENCE = 600.0  # seconds, for what should take none


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_ctrl_c_while_workers_are_prepared_is_left_to_the_supervisor():
    """A terminal sends it to all processes; one that imports would print a trace and end."""
    code = """
from multiprocessing import forkserver
from preprocess.work import pool
pool.prepare("json")
print(open(f"/proc/{forkserver._forkserver._forkserver_pid}/status").read())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (held,) = re.findall(r"^SigBlk:\s*(\w+)$", run.stdout, re.MULTILINE)
    assert int(held, 16) >> (signal.SIGINT - 1) & 1


STUCK = {
    "hang": signal.pause,
    "lock": lambda: re.match(r"(a+)+$", "a" * 60 + "b"),  # no other Python thread can run
}


def make_task(log: Path):
    """A task that does what its job says, and writes down every try."""

    def task(job: str, alive) -> str:
        with log.open("a") as stream:
            stream.write(f"{job} {os.getpid()}\n")
        name = job.split()[0]
        if name == "slow":  # until told
            log.with_name("go on").read_bytes()
        elif name in STUCK:
            STUCK[name]()
        elif name == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif name == "exit":
            os._exit(3)
        elif name == "raise":
            raise EOFError("no more bytes")
        elif name == "once" and log.read_text().count(job) == 1:
            os._exit(1)
        elif name == "environment":
            return os.environ.get("FFDETECT_TEST", "")
        elif name == "long":
            for number in range(1, 9):
                alive(number)
            log.with_name("go on").read_bytes()
        return f"{job}: {len(log.read_text().splitlines())}"

    return task


def make_nothing():
    raise RuntimeError("expected a GPU but there is none")


def make_death():
    os._exit(7)


def run(log: Path, jobs: list[str], **options) -> dict[str, object]:
    options = {"workers": 2, "timeout": PATIENCE, **options}
    with closing(work(partial(make_task, log), jobs, **options)) as results:
        pairs = list(results)
    assert [job for job, _ in pairs] == jobs  # each once, in order
    assert multiprocessing.active_children() == []
    return dict(pairs)


def tries(log: Path, job: str) -> int:
    return sum(line.startswith(f"{job} ") for line in log.read_text().splitlines())


@pytest.fixture
def go_on(tmp_path) -> Path:
    """A pipe that slow jobs wait for."""
    pipe = tmp_path / "go on"
    os.mkfifo(pipe)
    return pipe


SLOW_FIRST = ["slow 0", *(f"fast {number}" for number in range(1, 9))]


def test_results_come_in_order_and_are_announced_as_they_arrive(tmp_path, go_on):
    arrived = []

    def note(job: str, result: object) -> None:
        arrived.append(result)
        if len(arrived) == len(SLOW_FIRST) - 1:
            go_on.write_bytes(b".")

    results = run(tmp_path / "log", SLOW_FIRST, arrived=note)
    assert all(str(result).startswith(job) for job, result in results.items())
    assert arrived[-1] == results["slow 0"] and sorted(arrived) == sorted(results.values())


def test_jobs_that_end_their_worker_are_tried_twice_and_given_up(tmp_path):
    log = tmp_path / "log"
    results = run(log, ["fast 1", "segfault", "once", "exit", "raise", "fast 2"])
    assert results["segfault"] == Lost("crashed", "its process was ended by SIGSEGV")
    assert results["exit"] == Lost("crashed", "its process ended with status 3")
    assert results["raise"].kind == "crashed"
    assert re.fullmatch(r"EOFError: no more bytes \(test_pool\.py:\d+\)", results["raise"].reason)
    counts = {job: tries(log, job) for job in results}
    assert counts == {
        "fast 1": 1,
        "segfault": 2,
        "once": 2,
        "exit": 2,
        "raise": 2,
        "fast 2": 1,
    }
    assert all(str(results[job]).startswith(job) for job in ("fast 1", "once", "fast 2"))


@pytest.mark.parametrize("job", STUCK)
def test_jobs_that_hang_are_given_up(tmp_path, monkeypatch, job):
    log, limit = tmp_path / "log", 0.25
    log.touch()
    # Time passes when the job has begun.
    monkeypatch.setattr(pool, "monotonic", lambda: 2 * limit * tries(log, job))
    results = run(log, [job], timeout=limit)
    assert results == {job: Lost("timeout", "no sign of life for 0.25 s")}
    assert tries(log, job) == 2


def test_a_job_that_shows_life_may_take_long(guard, go_on, tmp_path, monkeypatch):
    signs = [0.0]

    def look(progress: float) -> None:
        signs.append(progress)
        if signs.count(8) == 2:  # it was looked at without a new sign
            go_on.write_bytes(b".")

    # From each sign to the next it takes nearly as long as there is.
    monkeypatch.setattr(pool, "monotonic", lambda: 0.9 * PATIENCE * signs[-1])
    assert str(guard.do("long", alive=look)).startswith("long")
    assert sorted({*signs}) == [*range(9)] and tries(tmp_path / "log", "long") == 1


@pytest.fixture
def guard(tmp_path):
    with closing(Guard(partial(make_task, tmp_path / "log"), PATIENCE)) as guard:
        yield guard


def test_a_guard_tries_as_often_as_it_is_told(guard, tmp_path):
    assert guard.do("segfault", tries=3) == Lost("crashed", "its process was ended by SIGSEGV")
    assert tries(tmp_path / "log", "segfault") == 3
    assert guard.do("once", tries=1).kind == "crashed"
    assert str(guard.do("once", tries=1)).startswith("once")


def test_a_guard_can_be_stopped(guard, tmp_path):
    (tmp_path / "log").touch()

    def stop(progress: float | None = None) -> None:
        if tries(tmp_path / "log", "hang"):
            raise KeyError("not wanted any more")

    with pytest.raises(KeyError, match="not wanted"):
        guard.do("hang", alive=stop)
    assert multiprocessing.active_children() == []
    assert tries(tmp_path / "log", "hang") == 1


def test_results_that_wait_for_their_turn_are_bounded(tmp_path, monkeypatch, go_on):
    happened, send = [], Connection.send

    def give(connection: Connection, job: object) -> None:
        happened.append(("given", job))
        send(connection, job)

    def note(job: str, result: object) -> None:
        happened.append(("done", job))
        if job == "fast 1":
            go_on.write_bytes(b".")

    monkeypatch.setattr(pool, "WAITING_BYTES", 1)
    monkeypatch.setattr(Connection, "send", give)
    run(tmp_path / "log", SLOW_FIRST, arrived=note)
    # While the first job was slow, one other could be done, and no more.
    first = [("given", "slow 0"), ("given", "fast 1"), ("done", "fast 1"), ("done", "slow 0")]
    assert happened[:4] == first and len(happened) == 2 * len(SLOW_FIRST)


def test_more_workers_than_jobs_and_no_job_at_all(tmp_path):
    assert len(run(tmp_path / "log", ["fast"], workers=8)) == 1
    assert len({line.split()[-1] for line in (tmp_path / "log").read_text().splitlines()}) == 1
    assert run(tmp_path / "log", []) == {}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_nothing, "RuntimeError: expected a GPU but there is none"),
        (make_death, "its process ended with status 7"),
    ],
)
def test_workers_that_cannot_start_are_an_error(make, reason):
    with pytest.raises(WorkerError, match=f"a worker process cannot start: {reason}"):
        list(work(make, ["job"], workers=2, timeout=PATIENCE))
    assert multiprocessing.active_children() == []


def test_workers_have_the_environment_of_the_moment(tmp_path, monkeypatch):
    """Credentials may change after the server that forks workers has started."""
    for value in ("one", "two"):
        monkeypatch.setenv("FFDETECT_TEST", value)
        assert run(tmp_path / "log", ["environment"]) == {"environment": value}


def test_closing_ends_the_workers(tmp_path):
    results = work(
        partial(make_task, tmp_path / "log"), ["fast", "hang"], workers=2, timeout=PATIENCE
    )
    next(results)
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert multiprocessing.active_children() == []


def make_holder(pipe: Path):
    """A task that never ends; the pipe is open for as long as its process lives."""

    def hold(job: str, alive) -> None:
        with pipe.open("w") as stream:
            stream.write(job)
            stream.flush()
            STUCK[job]()

    return hold


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_workers_end_with_a_killed_supervisor(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    script = (
        "import sys; from functools import partial; from pathlib import Path\n"
        "from preprocess.work.pool import work\n"
        "from tests.preprocess.work.test_pool import STUCK, make_holder\n"
        "if __name__ == '__main__':\n"
        "    task = partial(make_holder, Path(sys.argv[1]))\n"
        "    list(work(task, [*STUCK], workers=2, timeout=1000))\n"
    )
    (tmp_path / "script.py").write_text(script)
    root = Path(__file__).parents[3]
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    supervisor = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path / "pipe"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )

    def read() -> bytes:
        assert select.select([pipe], [], [], PATIENCE)[0]
        return os.read(pipe, 100)

    try:
        begun = b""
        while len(begun) < len("hanglock"):
            begun += read()
    finally:
        supervisor.kill()
        supervisor.wait()
    assert read() == b""  # its end: nobody holds it any more
    os.close(pipe)


def test_workers_do_not_run_the_program_again(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "from functools import partial\n"
        "from preprocess.listen import make_listen\n"
        "from preprocess.work.pool import work\n"
        "print('once')\n"
        "print(len(list(work(partial(make_listen, 1.0, 1), [(), ()], workers=2, timeout=60))))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, env=environment)
    assert (run.stdout, run.stderr) == ("once\n2\n", "")
