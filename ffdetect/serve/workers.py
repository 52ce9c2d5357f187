"""Worker processes, and how what users send is shared out among them.

Each worker has a thread of this process that hands it one job at a time. Pictures of several
requests make one batch; a batch that takes its worker with it is done again picture by picture, so
that only the one at fault has no result. Nothing that was accepted is lost when a worker is killed.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from preprocess.work.pool import Alive, Guard, Lost, Task, WorkerError

from .errors import ServiceError
from .messages import Describe, Fault, Job, Scored, ScorePictures, Wanted
from .observe import Metrics
from .schemas import Version
from .settings import Settings

_TRIES = 3  # of a job whose process did not survive it: it may have been killed for another reason
_STARTS = 3  # in a row that may fail before a job is given up
_WAIT = 0.5  # seconds before the next start, times two each time


@dataclass(frozen=True)
class _Picture:
    """One that waits to be scored."""

    file: bytes
    wanted: Wanted
    future: Future[Scored | Fault] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Errand:
    """A job for a worker alone."""

    job: Job
    alive: Alive
    future: Future = field(default_factory=Future)


def make_task(settings: Settings) -> Task:
    """The task of a worker process."""
    from . import tasks  # and torch, which the process that answers does without

    refuse_connections()
    return tasks.make_task(settings)


def refuse_connections() -> None:
    """From now on this process asks no other for anything, whatever its libraries are told."""

    def look(event: str, args: tuple) -> None:
        elsewhere = event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple)
        if elsewhere or event == "socket.getaddrinfo":
            raise PermissionError("the service opens no connections")

    sys.addaudithook(look)


class Workers:
    """Scores pictures in batches and does longer jobs, in other processes.

    Args:
        settings: number of workers, sizes of batches and queues, limits.
        metrics: is kept up to date.
        broken: called with the reason if workers cannot start at all.
        make_task: what makes the task of a worker process, in it.

    Attributes:
        about: what the workers loaded; None until one is ready.
        ready: how many are.
        held: pictures that were accepted and have no result yet.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        broken: Callable[[str], None],
        make_task: Callable[[Settings], Task] = make_task,
    ) -> None:
        self._settings, self._metrics, self._broken = settings, metrics, broken
        plain = Settings(**dict(settings))  # options are of a class that brings the server along
        self._make_task = partial(make_task, plain)
        self.about: Version | None = None
        self.ready = 0
        self._changed = threading.Condition()
        self._pictures: deque[_Picture] = deque()
        self._errands: deque[_Errand] = deque()
        self.held = self._idle = self._long = self._bytes = 0
        self._errand_next = False
        self._closed = False
        self._abandoned = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, name=f"worker {number}", daemon=True)
            for number in range(settings.workers)
        ]

    def start(self) -> None:
        """Begin to start the processes, in the background."""
        for thread in self._threads:
            thread.start()

    def score(self, files: Sequence[bytes], wanted: Wanted) -> list[Future[Scored | Fault]]:
        """Accept pictures, all or none.

        Raises:
            ServiceError: "queue_full", "unavailable".
        """
        pictures = [_Picture(file, wanted) for file in files]
        size = sum(map(len, files))
        with self._changed:
            self._check_open()
            self.check_room(len(files), size)
            self.held += len(files)
            self._bytes += size
            self._pictures += pictures
            self._metrics.waiting.set(self.held)
            self._changed.notify_all()
        for picture in pictures:
            picture.future.add_done_callback(partial(self._answered, len(picture.file)))
        return [picture.future for picture in pictures]

    def check_room(self, pictures: int = 1, size: int = 0) -> None:
        """Raises ServiceError ("queue_full") where so many pictures would not be accepted."""
        most, bytes_ = self._settings.queue, self._settings.queue_bytes
        if self.held + pictures > most or (self.held and self._bytes + size > bytes_):
            raise ServiceError("queue_full", f"{self.held} pictures are waiting; try again later")

    def do(self, job: Job, alive: Alive = lambda progress=None: None) -> Future:
        """Accept a longer job.

        Args:
            alive: see `Guard.do`; an exception that it raises is the future's.

        Raises:
            ServiceError: "unavailable".
        """
        errand = _Errand(job, alive)
        with self._changed:
            self._check_open()
            self._errands.append(errand)
            self._changed.notify_all()
        return errand.future

    def close(self, seconds: float) -> None:
        """Finish what was accepted, as far as the time reaches, then end the processes."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0))
        self._abandoned.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise ServiceError("unavailable", "the service is stopping")

    def _answered(self, size: int, future: Future) -> None:
        with self._changed:
            self.held -= 1
            self._bytes -= size
            self._metrics.waiting.set(self.held)

    # What each thread does

    def _serve(self) -> None:
        worker = _Worker(
            self._make_task,
            self._settings.silent_seconds,
            self._metrics,
            self._abandoned,
        )
        try:
            about = worker.do(Describe(), _TRIES)
            if not isinstance(about, Version):
                self._broken(about.message)
                return
            with self._changed:
                self.about = about
                self.ready += 1
                self._metrics.workers.set(self.ready)
            while (work := self._take()) is not None:
                if isinstance(work, _Errand):
                    self._run(worker, work)
                else:
                    self._score(worker, work)
        finally:
            worker.close()

    def _take(self) -> _Errand | list[_Picture] | None:
        """What is to be done next; None at the end."""
        with self._changed:
            self._idle += 1
            try:
                while True:
                    # Long jobs leave one worker to pictures; a single worker does both in turn.
                    room = self._long < max(1, len(self._threads) - 1)
                    if self._errands and room and (self._errand_next or not self._pictures):
                        self._errand_next = False
                        self._long += 1
                        return self._errands.popleft()
                    if not self._pictures:
                        if self._closed and not self._errands:
                            return None
                        self._changed.wait()
                        continue
                    patience = self._settings.batch_wait + self._pictures[0].since
                    patience -= time.monotonic()
                    full = len(self._pictures) >= self._settings.batch_size
                    if full or patience <= 0 or self._closed:
                        self._errand_next = True
                        if batch := self._batch():
                            return batch
                        continue
                    self._changed.wait(patience)
            finally:
                self._idle -= 1

    def _batch(self) -> list[_Picture]:
        """The next pictures that are to be treated alike, an equal share for every idle worker."""
        share = math.ceil(len(self._pictures) / max(self._idle, 1))
        first = self._pictures[0]
        batch: list[_Picture] = []
        while self._pictures and len(batch) < min(share, self._settings.batch_size):
            if self._pictures[0].wanted != first.wanted:
                break
            one = self._pictures.popleft()
            if one.future.set_running_or_notify_cancel():
                batch.append(one)
        return batch

    def _run(self, worker: _Worker, errand: _Errand) -> None:
        try:
            if errand.future.set_running_or_notify_cancel():
                errand.alive()
                errand.future.set_result(worker.do(errand.job, _TRIES, errand.alive))
        except Exception as error:  # what `alive` raises: the job is not wanted any more
            errand.future.set_exception(error)
        finally:
            with self._changed:
                self._long -= 1
                self._changed.notify_all()

    def _score(self, worker: _Worker, batch: list[_Picture]) -> None:
        self._metrics.batch.observe(len(batch))
        alone = len(batch) == 1
        results = self._ask(worker, batch, _TRIES if alone else 1)
        if isinstance(results, Fault) and not alone:
            for picture in batch:
                self._settle(picture, self._ask(worker, [picture], _TRIES - 1))
            return
        for number, picture in enumerate(batch):
            self._settle(picture, results if isinstance(results, Fault) else results[number])

    def _ask(
        self, worker: _Worker, batch: Sequence[_Picture], tries: int
    ) -> Fault | list[Scored | Fault]:
        with self._changed:  # a worker computes with the threads of those that have nothing to do
            busy = max(self.ready - self._idle, 1)
        files = tuple(picture.file for picture in batch)
        job = ScorePictures(files, batch[0].wanted, max(self.ready // busy, 1))
        return worker.do(job, tries)

    def _settle(self, picture: _Picture, result: Fault | list[Scored | Fault] | Scored) -> None:
        found = result[0] if isinstance(result, list) else result
        self._metrics.pictures.labels(found.code if isinstance(found, Fault) else "scored").inc()
        picture.future.set_result(found)


class _Worker:
    """A guarded process that is started again when it must be."""

    def __init__(
        self,
        make_task: Callable[[], Task],
        silent_seconds: float,
        metrics: Metrics,
        abandoned: threading.Event,
    ) -> None:
        self._guard = Guard(make_task, silent_seconds)
        self._metrics, self._abandoned = metrics, abandoned

    def do(self, job: Job, tries: int, alive: Alive = lambda progress=None: None):
        """The job's result, or a `Fault` where no process survives it or none can be started."""

        def wanted(progress: float | None = None) -> None:
            if self._abandoned.is_set():
                raise _Abandoned
            alive(progress)

        starts = 0
        fault = Fault("unavailable", "the service is stopping")
        while tries:
            try:
                result = self._guard.do(job, tries=1, alive=wanted)
            except (WorkerError, OSError) as error:  # OSError: no process can be made
                starts += 1
                fault = Fault("unavailable", str(error))
                if starts == _STARTS:
                    break
                time.sleep(_WAIT * 2**starts)
            except _Abandoned:
                break
            else:
                if not isinstance(result, Lost):
                    return result
                tries -= 1
                fault = Fault(result.kind, f"the file cannot be processed: {result.reason}")
            self._metrics.losses.inc()
        return fault

    def close(self) -> None:
        self._guard.close()


class _Abandoned(Exception):
    """Nobody waits for the result any more."""
