"""Give every file that a cache lacks to a task, here or elsewhere, and record what comes of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any

from tqdm import tqdm

from preprocess.cache.errors import CacheError, Failure
from preprocess.cache.writer import CacheWriter
from preprocess.io.sources import Item
from preprocess.io.storage import StorageError
from preprocess.work.batches import batches
from preprocess.work.pool import Lost, Task, work

TIMEOUT = 120.0  # seconds; generous, for slow disks and the largest pictures
_UNWRITTEN = 64  # results that may wait for the disk
Engine = Callable[..., Generator[tuple[Sequence[Item], Any], None, None]]


def fill(
    items: Sequence[Item],
    writer: CacheWriter,
    make_task: Callable[[], Task],
    *,
    cost: Callable[[Item], int],
    per_job: int,
    per_worker: int,
    workers: int = 0,
    timeout: float = TIMEOUT,
    quiet: bool = False,
    engine: Engine | None = None,
) -> None:
    """Add the rows of every item that the cache does not hold yet; show progress.

    Rows are added in the order of the items, so stopped runs, and runs with any number of
    workers, fill a cache with the same rows in the same order.

    Args:
        make_task: see `pool.work`. Of several items it makes as many results: `extract.Rows` or
            what has the same methods, a `Failure`, or a `StorageError`.
        cost: of an item, relative to others.
        per_job, per_worker: cost of items that travel together, and that are worth a process.
        workers: processes, see `pool.work`; 0 works in this one, where a file that hangs or
            crashes its decoder stops the run.
        timeout: seconds for a picture, a frame of a clip, or a block of sound.
        engine: what works like `pool.work`, with workers of its own.

    Raises:
        CacheError: the cache cannot be written.
        StorageError: a file cannot be reached; those before it are in the cache.
        WorkerError: no worker process can be started.
    """
    todo = [item for item in items if item.path not in writer.done]
    if engine is None and workers:
        engine = partial(work, workers=min(workers, -(-sum(map(cost, todo)) // per_worker)))
    start, rows, kind = time.monotonic(), 0, writer.settings.rows

    def arrived(job: Sequence[Item], results: list | Lost) -> None:
        nonlocal rows
        if not isinstance(results, Lost):
            rows += sum(len(r) for r in results if not isinstance(r, Failure | StorageError))
            bar.set_postfix_str(f"{rows / (time.monotonic() - start):.1f} {kind}/s", refresh=False)
            bar.update(len(job))
        elif len(job) == 1:  # others are tried again
            bar.update()

    work_on = partial(engine or _work_here, make_task, timeout=timeout, arrived=arrived)
    left = len(items) - len(todo)
    with tqdm(total=len(items), initial=left, unit="file", disable=quiet) as bar:
        _record(_results(work_on, list(batches(todo, cost, per_job))), writer)


def _work_here(
    make_task: Callable[[], Task], jobs: Sequence[Sequence[Item]], *, arrived: Callable, **_: Any
) -> Generator[tuple[Sequence[Item], Any], None, None]:
    task = make_task() if jobs else None
    for item in (item for job in jobs for item in job):
        assert task is not None
        results = task([item], lambda progress=None: None)
        arrived([item], results)
        yield [item], results


def _results(
    work_on: Engine, jobs: Sequence[Sequence[Item]]
) -> Generator[tuple[Item, Any], None, None]:
    """Every item with what came of it, in order."""
    with closing(work_on(jobs)) as done:
        for job, results in done:
            if not isinstance(results, Lost):
                yield from zip(job, results, strict=True)
            elif len(job) > 1:  # one of them took the others with it
                yield from _results(work_on, [[item] for item in job])
            else:
                (item,) = job
                yield item, Failure(item.path, results.kind, f"{item.file}: {results.reason}")


def _record(results: Generator[tuple[Item, Any], None, None], writer: CacheWriter) -> None:
    """Give results to the writer in a thread, so that workers need not wait for the disk. A
    `StorageError` among them is raised, once all before it are recorded."""

    def add(item: Item, result: Any) -> None:
        if isinstance(result, Failure):
            writer.fail(result)
        else:
            writer.add_table(result.to_table(item, writer.settings))
            writer.note(item.path, result.notes)

    with closing(results), ThreadPoolExecutor(1) as executor:
        pending: deque[Future] = deque()
        try:
            for item, result in results:
                if isinstance(result, StorageError):
                    raise result
                pending.append(executor.submit(add, item, result))
                while len(pending) > _UNWRITTEN or (pending and pending[0].done()):
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        except CacheError:
            executor.shutdown(cancel_futures=True)  # a failed write is not retried
            raise
