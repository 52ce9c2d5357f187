"""Clips and recordings: work that outlasts a request, asked for by its number."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from . import schemas
from .errors import ServiceError, problem
from .messages import Fault, Scored, ScoreFile
from .observe import Metrics, log
from .schemas import State
from .settings import Settings
from .workers import Workers

_KEPT = 10_000  # results that are kept, whatever the settings say of how long


class _Cancelled(Exception):
    pass


@dataclass(eq=False)
class Job:
    """Attributes:
    owner: who may ask for it.
    name: of the file as it was sent, for people.
    path: of our copy of it, which is removed when the work ends.
    fetched: whether anybody asked since it ended.
    """

    kind: Literal["clip", "sound"]
    owner: str
    name: str
    path: Path
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    state: State = State.queued
    progress: float = 0.0
    created: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    ended: float | None = None
    expires: datetime | None = None
    scored: Scored | None = None
    fault: Fault | None = None
    fetched: bool = False
    future: Future | None = None

    @property
    def is_open(self) -> bool:
        return self.ended is None


class Jobs:
    """Accepts, follows, cancels and forgets jobs; safe to be called from any thread."""

    def __init__(self, settings: Settings, workers: Workers, metrics: Metrics) -> None:
        self._settings, self._workers, self._metrics = settings, workers, metrics
        self._jobs: dict[str, Job] = {}
        self._lock = threading.RLock()

    @property
    def open(self) -> int:
        """Jobs that wait or run."""
        return sum(job.is_open for job in self._jobs.values())

    @property
    def unfetched(self) -> int:
        """Jobs that wait or run, or whose result nobody has asked for."""
        with self._lock:
            self._forget()
            return sum(job.is_open or not job.fetched for job in self._jobs.values())

    def check_room(self) -> None:
        """Raises ServiceError ("queue_full") where no job would be accepted."""
        with self._lock:
            self._forget()
            if self.open >= self._settings.job_queue or len(self._jobs) >= _KEPT:
                raise ServiceError("queue_full", f"{self.open} jobs are waiting; try again later")

    def submit(
        self,
        kind: Literal["clip", "sound"],
        path: Path,
        *,
        name: str = "",
        owner: str = "",
        previews: bool = False,
    ) -> Job:
        """Accept a file, which belongs to the job from now on, also if this raises.

        Raises:
            ServiceError: "queue_full", "unavailable".
        """
        job = Job(kind, owner, name, path)
        try:
            with self._lock:
                self.check_room()
                work = ScoreFile(kind, path, previews)
                job.future = self._workers.do(work, self._progress_of(job))
                self._jobs[job.id] = job
                self._metrics.jobs_open.set(self.open)
        except ServiceError:
            path.unlink(missing_ok=True)
            raise
        job.future.add_done_callback(lambda future: self._end(job, future))
        return job

    def get(self, number: str, owner: str = "") -> Job:
        """Raises ServiceError ("not_found"), also for jobs of others and those forgotten."""
        with self._lock:
            self._forget()
            job = self._jobs.get(number)
            if job is None or job.owner != owner:
                raise ServiceError("not_found", "no such job; results are kept for a limited time")
            job.fetched = job.fetched or not job.is_open
            return job

    def cancel(self, number: str, owner: str = "") -> Job:
        """Stop a job and forget its result; one that has ended is forgotten."""
        with self._lock:
            job = self.get(number, owner)
            was_open, job.state = job.is_open, State.cancelled
            job.scored = job.fault = None
        if was_open and job.future is not None:
            job.future.cancel()  # one that runs learns it from `_progress_of`
        with self._lock:
            self._jobs.pop(number, None)
        return job

    def answer(self, job: Job) -> schemas.Job:
        with self._lock:
            ahead = [other for other in self._jobs.values() if other.state == State.queued]
            waiting = ahead.index(job) if job in ahead else 0
            result = job.scored and job.scored.answer.model_copy(update={"name": job.name})
            return schemas.Job(
                id=job.id,
                kind=job.kind,
                state=job.state,
                progress=job.progress,
                waiting=waiting,
                created=job.created,
                expires=job.expires,
                result=result,  # type: ignore[arg-type]
                error=problem(job.fault) if job.fault else None,
            )

    def _progress_of(self, job: Job) -> Callable:
        def alive(progress: float | None = None) -> None:
            with self._lock:
                if job.state == State.cancelled:
                    raise _Cancelled
                job.state = State.running
                job.progress = max(job.progress, progress or 0.0)

        return alive

    def _end(self, job: Job, future: Future) -> None:
        job.path.unlink(missing_ok=True)
        with self._lock:
            job.ended = time.monotonic()
            if future.cancelled() or isinstance(future.exception(), _Cancelled):
                job.state = State.cancelled
            elif job.state != State.cancelled:
                wrong = future.exception()
                result = Fault("internal", str(wrong)) if wrong else future.result()
                job.state = State.failed if isinstance(result, Fault) else State.done
                job.progress = 1.0
                job.scored = None if isinstance(result, Fault) else result
                job.fault = result if isinstance(result, Fault) else None
                kept = timedelta(seconds=self._settings.keep_results)
                job.expires = datetime.now(timezone.utc) + kept
            self._metrics.jobs.labels(job.kind, job.state.value).inc()
            self._metrics.jobs_open.set(self.open)
        log("job", job=job.id, kind=job.kind, state=job.state.value)

    def _forget(self) -> None:
        now = time.monotonic()
        over = [
            number
            for number, job in self._jobs.items()
            if job.ended is not None and now - job.ended > self._settings.keep_results
        ]
        for number in over:
            del self._jobs[number]
