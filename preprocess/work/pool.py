"""Work on files in other processes, so that one that hangs or crashes a decoder stops nothing.

The supervisor hands each worker one job at a time, so it knows which job a worker died of, and
no job waits in memory: a worker holds what its one job needs. Results come back in the order of
the jobs. Workers never outlive the supervisor, however it ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
import types
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any, Protocol, TypeVar

Job = TypeVar("Job")


class Alive(Protocol):
    """Called by a job now and then to show that it is alive, and how much of it is done."""

    def __call__(self, progress: float | None = None) -> None: ...


Task = Callable[[Job, Alive], object]
"""Does one job."""

_START_SECONDS = 600.0  # imports from a cold or busy disk
_GLANCE = 0.5  # seconds between looks at whether a job is still wanted
_LARGE = 2**15  # bytes of an array, or of a column, that travels on its own
WAITING_BYTES = 512 * 2**20  # results held back until their turn, while an earlier job is slow
# A fork of this process would copy threads' locks as they happen to be, and a fresh process takes
# seconds to import what it needs. So workers are forks of one process that imports it once and
# does nothing else; libraries whose threads wait there (OpenBLAS, Arrow) are made for that.
# Elsewhere than on Linux, libraries of the system do not survive a fork.
_starting = threading.Lock()  # what is hidden meanwhile is of the whole process
if sys.platform == "linux":
    _CONTEXT = multiprocessing.get_context("forkserver")
else:
    _CONTEXT = multiprocessing.get_context("spawn")


class WorkerError(RuntimeError):
    """No worker process can be started; the message says why."""


@dataclass(frozen=True)
class Lost:
    """What a job gives that took its worker with it twice.

    Attributes:
        kind: "crashed" or "timeout".
        reason: for people.
    """

    kind: str
    reason: str


def prepare(*modules: str) -> None:
    """Begin to import what workers will need, in the background; `work` then finds it done.

    Only the first call in a process counts.
    """
    if _CONTEXT.get_start_method() == "forkserver":
        from multiprocessing import forkserver, resource_tracker

        _CONTEXT.set_forkserver_preload([*modules])
        resource_tracker.ensure_running()  # first: its start lets interrupts through again
        with interrupts_held():
            forkserver.ensure_running()


def work(
    make_task: Callable[[], Task],
    jobs: Sequence[Job],
    *,
    workers: int,
    timeout: float,
    arrived: Callable[[Job, Any], None] = lambda job, result: None,
) -> Generator[tuple[Job, Any], None, None]:
    """Yield every job with its result, or with a `Lost`, in order.

    Close the iterator (`contextlib.closing`) to end the workers before the last job.

    Args:
        make_task: called once in every worker; a function of a module, or a `functools.partial`
            of one. What it raises stops everything.
        jobs: sent to the workers; results are sent back. Both are pickled between these
            processes only.
        workers: how many processes, at least 1.
        timeout: seconds without a sign of life from a job after which its worker is killed.
        arrived: called with each job and its result as soon as that is there, in any order.

    Raises:
        WorkerError: a worker process ended before it took its first job.
    """
    waiting = deque(range(len(jobs)))
    faults: dict[int, int] = {}
    results: dict[int, tuple[object, int]] = {}  # with their size in bytes
    crew: list[_Worker] = []

    def hand_out(turn: int) -> None:
        for worker in crew:
            full = sum(size for _, size in results.values()) >= WAITING_BYTES
            if waiting and worker.idle and (not full or waiting[0] == turn):
                number = waiting.popleft()
                worker.give(number, jobs[number])

    def settle(number: int, result: object, size: int = 0) -> None:
        results[number] = (result, size)
        arrived(jobs[number], result)

    def replace(worker: _Worker, lost: Lost) -> None:
        """Start another worker; its job is tried once more, before all others."""
        worker.kill()
        if not worker.ready:
            raise WorkerError(f"a worker process cannot start: {lost.reason}")
        crew[crew.index(worker)] = _Worker(make_task, timeout)
        if worker.job is None:
            return
        faults[worker.job] = faults.get(worker.job, 0) + 1
        if faults[worker.job] < 2:
            waiting.appendleft(worker.job)
        else:
            settle(worker.job, lost)

    try:
        if jobs:
            prepare(_home(make_task))
        for _ in range(min(workers, len(jobs))):
            crew.append(_Worker(make_task, timeout))
        for turn, job in enumerate(jobs):
            hand_out(turn)
            while turn not in results:
                _wait_for(crew)
                for worker in crew.copy():
                    try:
                        if message := worker.receive():
                            settle(*message)
                    except _Gone as gone:
                        replace(worker, gone.lost)
                hand_out(turn)  # before whoever takes results takes time for it
            yield job, results.pop(turn)[0]
    finally:
        for worker in crew:
            worker.kill()


class Guard:
    """One worker process for jobs that come one at a time, by the rules of `work`.

    Args:
        make_task, timeout: see `work`.
    """

    def __init__(self, make_task: Callable[[], Task], timeout: float) -> None:
        self._make_task, self._timeout = make_task, timeout
        self._worker: _Worker | None = None

    def do(
        self, job: object, *, tries: int = 2, alive: Alive = lambda progress=None: None
    ) -> object:
        """The job's result, or a `Lost` where it took its process with it every time.

        Args:
            tries: how often a job that its process did not survive is done.
            alive: called now and then with the job's progress. What it raises ends the process,
                and is raised here.

        Raises:
            WorkerError: the process ended before it took its first job.
        """
        for _ in range(tries):
            worker = self._worker = self._worker or _Worker(self._make_task, self._timeout)
            try:
                while True:
                    if worker.idle:
                        worker.give(0, job)
                    _wait_for([worker], _GLANCE)
                    if message := worker.receive():
                        return message[1]
                    alive(worker.progress)
            except _Gone as gone:
                lost = gone.lost
                self.close()
            except BaseException:
                self.close()
                raise
            if not worker.ready:
                raise WorkerError(f"a worker process cannot start: {lost.reason}")
        return lost

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None


def _wait_for(crew: Sequence[_Worker], most: float = 3600.0) -> None:
    """Until workers have something to say or have ended, one is overdue, or for `most` seconds."""
    patience = min(worker.deadline for worker in crew) - monotonic()
    wait([worker.connection for worker in crew], min(max(patience, 0), most))


class _Gone(Exception):
    """A worker process ended, is about to after an error, or gave no sign of life."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.lost = Lost(kind, reason)


class _Worker:
    """One process, as its supervisor sees it."""

    def __init__(self, make_task: Callable[[], Task], timeout: float) -> None:
        self._timeout = timeout
        self.connection, theirs = _CONTEXT.Pipe()
        # The fork server may be older than the environment, and with it its credentials.
        shared = theirs, make_task, dict(os.environ)
        self._process = _CONTEXT.Process(target=_serve, args=shared, daemon=True)
        with _starting, interrupts_held(), main_hidden(unless=_home(make_task) == "__main__"):
            self._process.start()
        theirs.close()  # so that its end is seen when the process ends
        self.ready = False
        self.job: int | None = None
        self.progress = 0.0
        self.deadline = monotonic() + _START_SECONDS

    @property
    def idle(self) -> bool:
        return self.ready and self.job is None

    def give(self, number: int, job: object) -> None:
        self.job, self.progress = number, 0.0
        self.deadline = monotonic() + self._timeout
        with contextlib.suppress(OSError):  # died while idle: seen when its end is read
            self.connection.send(job)

    def receive(self) -> tuple[int, object, int] | None:
        """A finished job's number, result and size in bytes; None for a sign of life, or for none
        that is overdue.

        Raises:
            _Gone: see there.
        """
        overdue = monotonic() >= self.deadline  # asked for first: it may say something meanwhile
        try:
            if not self.connection.poll():
                if overdue:
                    seconds = self._timeout if self.ready else _START_SECONDS
                    raise _Gone("timeout", f"no sign of life for {seconds:g} s")
                return None
            count, data = pickle.loads(self.connection.recv_bytes())
            buffers = [self.connection.recv_bytes() for _ in range(count)]
        except (EOFError, OSError):
            self._process.join()
            raise _Gone("crashed", _ending(self._process.exitcode)) from None
        kind, value = pickle.loads(data, buffers=buffers)
        if kind == "raised":
            raise _Gone("crashed", value)
        if kind == "alive":
            self.progress = self.progress if value is None else value
            self.deadline = monotonic() + self._timeout
            return None
        self.deadline = float("inf")
        if kind == "ready":
            self.ready = True
            return None
        number, self.job = self.job, None
        assert number is not None  # it was given one
        return number, value, len(data) + sum(map(len, buffers))

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with status {code}"


@contextlib.contextmanager
def interrupts_held():
    """A process started here leaves Ctrl-C, which a terminal sends to all, to the supervisor."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _home(make_task: Callable[[], Task]) -> str:
    """The module that a task comes from."""
    return getattr(make_task, "func", make_task).__module__


@contextlib.contextmanager
def main_hidden(unless: bool):
    """A process started here does not import the program's main module again, nor all that it
    imports, unless the task is defined there. So scripts need no `if __name__ == "__main__"`."""
    if unless:
        yield
        return
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(
    connection: Connection, make_task: Callable[[], Task], environment: dict[str, str]
) -> None:
    """The life of a worker: until its supervisor ends, or a job raises."""
    if environment != dict(os.environ):
        os.environ.clear()
        os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()

    def tell(kind: str, value: object = None) -> None:
        large: list[pickle.PickleBuffer] = []  # pixels are sent from where they are

        def keep(buffer: pickle.PickleBuffer) -> bool:
            if own := buffer.raw().nbytes >= _LARGE:
                large.append(buffer)
            return not own

        data = pickle.dumps((kind, value), 5, buffer_callback=keep)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send_bytes(pickle.dumps((len(large), data)))
            for buffer in large:
                connection.send_bytes(buffer.raw())

    try:
        task = make_task()
        tell("ready")
        while True:
            try:
                job = connection.recv()
            except (EOFError, OSError):
                return
            tell("done", task(job, lambda progress=None: tell("alive", progress)))
    except Exception as error:  # the next try gets a fresh process
        where = traceback.extract_tb(error.__traceback__)[-1]
        name = os.path.basename(where.filename)  # noqa: PTH119 (may be no path)
        tell("raised", f"{type(error).__name__}: {error} ({name}:{where.lineno})")


def end_with_parent() -> None:
    """End this process when the one that started it does, even in a job that never returns."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    if sys.platform == "linux":  # the kernel kills, whatever native code keeps Python's lock
        import fcntl

        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(parent.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, os.O_ASYNC)  # signals the end of the pipe

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
