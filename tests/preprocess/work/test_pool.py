"""Results in order, whatever befalls a worker; and no worker that outlives its supervisor."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from preprocess.work import pool
from preprocess.work.pool import Guard, Lost, WorkerError, work

TIMEOUT = 3.0  # a machine under load may take seconds for what takes milliseconds


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


def make_task(log: Path):
    """A task that does what its job says, and writes down every try."""

    def task(job: str, alive) -> str:
        with log.open("a") as stream:
            stream.write(f"{job} {os.getpid()}\n")
        name = job.split()[0]
        if name == "slow":
            time.sleep(1)
        elif name == "hang":
            time.sleep(1000)
        elif name == "lock":  # for ever, and no other Python thread can run
            re.match(r"(a+)+$", "a" * 60 + "b")
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
        elif name == "half":
            alive(0.5)
            time.sleep(0.1)
        elif name == "long":
            for _ in range(8):
                time.sleep(TIMEOUT / 4)
                alive()
        return f"{job}: {len(log.read_text().splitlines())}"

    return task


def make_nothing():
    raise RuntimeError("expected a GPU but there is none")


def make_death():
    os._exit(7)


def run(log: Path, jobs: list[str], **options) -> dict[str, object]:
    options = {"workers": 2, "timeout": TIMEOUT, **options}
    with closing(work(partial(make_task, log), jobs, **options)) as results:
        pairs = list(results)
    assert [job for job, _ in pairs] == jobs  # each once, in order
    assert multiprocessing.active_children() == []
    return dict(pairs)


def tries(log: Path, job: str) -> int:
    return sum(line.startswith(f"{job} ") for line in log.read_text().splitlines())


def test_results_come_in_order_and_are_announced_as_they_arrive(tmp_path):
    arrived = []
    jobs = ["slow 0", *(f"fast {number}" for number in range(1, 9))]
    results = run(tmp_path / "log", jobs, arrived=lambda job, result: arrived.append(result))
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


def test_jobs_that_hang_are_given_up_but_not_those_that_show_life(tmp_path):
    log = tmp_path / "log"
    results = run(log, ["hang", "long", "lock", "fast"], workers=3)
    lost = Lost("timeout", f"no sign of life for {TIMEOUT:g} s")
    assert results["hang"] == results["lock"] == lost
    assert tries(log, "hang") == tries(log, "lock") == 2
    assert tries(log, "long") == tries(log, "fast") == 1
    assert results["long"].startswith("long") and results["fast"].startswith("fast")


@pytest.fixture
def guard(tmp_path):
    with closing(Guard(partial(make_task, tmp_path / "log"), TIMEOUT)) as guard:
        yield guard


def test_a_guard_tries_as_often_as_it_is_told(guard, tmp_path):
    assert guard.do("segfault", tries=3) == Lost("crashed", "its process was ended by SIGSEGV")
    assert tries(tmp_path / "log", "segfault") == 3
    assert guard.do("once", tries=1).kind == "crashed"
    assert str(guard.do("once", tries=1)).startswith("once")


def test_a_guard_tells_of_progress_and_can_be_stopped(guard, tmp_path):
    seen = []
    assert str(guard.do("half", alive=seen.append)).startswith("half")
    assert 0.5 in seen

    def stop(progress: float | None = None) -> None:
        if tries(tmp_path / "log", "hang"):
            raise KeyError("not wanted any more")

    with pytest.raises(KeyError, match="not wanted"):
        guard.do("hang", alive=stop)
    assert multiprocessing.active_children() == []
    assert tries(tmp_path / "log", "hang") == 1


def test_results_that_wait_for_their_turn_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "WAITING_BYTES", 1)
    jobs = ["slow 0", *(f"fast {number}" for number in range(1, 9))]
    results = run(tmp_path / "log", jobs)
    # While the first job was slow, one other could be done, and no more.
    assert results["slow 0"] == "slow 0: 2"


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
        list(work(make, ["job"], workers=2, timeout=TIMEOUT))
    assert multiprocessing.active_children() == []


def test_workers_have_the_environment_of_the_moment(tmp_path, monkeypatch):
    """Credentials may change after the server that forks workers has started."""
    for value in ("one", "two"):
        monkeypatch.setenv("FFDETECT_TEST", value)
        assert run(tmp_path / "log", ["environment"]) == {"environment": value}


def test_closing_ends_the_workers(tmp_path):
    results = work(partial(make_task, tmp_path / "log"), ["fast", "hang"], workers=2, timeout=1000)
    next(results)
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert multiprocessing.active_children() == []


def test_workers_end_with_a_killed_supervisor(tmp_path):
    log = tmp_path / "log"
    log.touch()
    script = (
        "import sys; from functools import partial; from pathlib import Path\n"
        "from preprocess.work.pool import work\n"
        "from tests.preprocess.work.test_pool import make_task\n"
        "if __name__ == '__main__':\n"
        "    task = partial(make_task, Path(sys.argv[1]))\n"
        "    list(work(task, ['hang', 'lock'], workers=2, timeout=1000))\n"
    )
    (tmp_path / "script.py").write_text(script)
    root = Path(__file__).parents[3]
    supervisor = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", log],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        assert wait_until(lambda: len(log.read_text().splitlines()) == 2)
    finally:
        supervisor.kill()
        supervisor.wait()
    pids = [int(line.split()[-1]) for line in log.read_text().splitlines()]
    ended = wait_until(lambda: not any(is_running(pid) for pid in pids), seconds=30)
    for pid in filter(is_running, pids):
        os.kill(pid, signal.SIGKILL)
    assert ended


def wait_until(condition, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


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
