"""Work on files on every machine of a Ray cluster: `preprocess.crop --engine ray`.

A Ray Data pipeline: blocks of files -> a pool of actors -> results, in the order of the files.
Ray hands out the blocks, and does those of an actor again that was lost, with its process or with
its machine. Files that hang or crash a decoder never reach the actor: each works through a process
of its own (`pool.Guard`), by the same rules as the workers of one machine. The cache is written by
the process that runs the command, and by no other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from .batches import batches
from .cores import cores
from .pool import Guard, Task, WorkerError

Job = TypeVar("Job")

_STORE_BYTES = 2**28  # of a local Ray, for blocks and results on their way
_BLOCK_COST = 32  # of the jobs of a block: what an actor that is lost did for nothing
_BLOCKS_PER_ACTOR = 4  # at least, so that none waits long for the last


def work_on_ray(
    make_task: Callable[[], Task],
    jobs: Sequence[Job],
    *,
    workers: int | None,
    timeout: float,
    address: str | None = None,
    gpus: float = 0,
    cost: Callable[[Job], int] = lambda job: 1,
    arrived: Callable[[Job, Any], None] = lambda job, result: None,
) -> Generator[tuple[Job, Any], None, None]:
    """Yield every job with its result, or with a `pool.Lost`, in order, as `pool.work` does.

    A Ray that this program has started already is used and left running.

    Args:
        make_task, jobs, timeout: see `pool.work`. The machines of a cluster need this package,
            and see the files under the same paths.
        workers: actors, one core each; None: as many as there are cores.
        address: of a running cluster (`ray.init`'s); None starts one on this machine.
        gpus: how many each actor takes.
        cost: of a job, relative to others; jobs travel in blocks of about the same cost.

    Raises:
        WorkerError: no Ray, no such cluster, or it fails; the message says why.
    """
    if not jobs:
        return
    with _connected(address, workers) as ray:
        actors = min(workers or int(ray.cluster_resources().get("CPU", 1)), len(jobs))
        blocks = list(_blocks(jobs, cost, actors))
        rows = _results(ray, make_task, blocks, actors, timeout, gpus)
        for number, job in enumerate(jobs):
            try:
                row = next(rows)
            except StopIteration:
                raise WorkerError(f"Ray gave {number} results of {len(jobs)}") from None
            except ray.exceptions.RayError as error:
                raise WorkerError(f"Ray failed: {_last_line(error)}") from None
            assert row["number"] == number, "Ray Data keeps the order"
            result = pickle.loads(row["result"])
            if isinstance(result, WorkerError):
                raise result
            arrived(job, result)
            yield job, result


def _results(
    ray,
    make_task: Callable[[], Task],
    blocks: list[bytes],
    actors: int,
    timeout: float,
    gpus: float,
) -> Iterator[dict]:
    data = ray.data.from_items(
        [{"jobs": block} for block in blocks], override_num_blocks=len(blocks)
    )
    results = data.map_batches(
        _Actor,
        fn_constructor_args=(pickle.dumps(make_task), timeout),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=1,
        num_gpus=gpus or None,
    )
    results.context.execution_options.preserve_order = True
    results.context.enable_progress_bars = False  # the command has its own
    return iter(results.iter_rows())


class _Actor:
    """Does blocks of jobs. Jobs and results pass through it pickled, so that only the process
    behind it imports what the work needs."""

    def __init__(self, make_task: bytes, timeout: float) -> None:
        self._guard = Guard(partial(_make_task_on_bytes, make_task), timeout)

    def __call__(self, blocks: pa.Table) -> pa.Table:
        jobs = [job for block in blocks["jobs"] for job in pickle.loads(block.as_py())]
        results = [self._do(job) for _, job in jobs]
        return pa.table(
            {
                "number": [number for number, _ in jobs],
                "result": pa.array(results, pa.large_binary()),
            }
        )

    def _do(self, job: bytes) -> bytes:
        try:
            result = self._guard.do(job)
        except WorkerError as error:  # Ray would try again, on and on
            result = error
        return result if isinstance(result, bytes) else pickle.dumps(result)


def _make_task_on_bytes(make_task: bytes) -> Callable[[bytes, Callable[[], None]], bytes]:
    task = pickle.loads(make_task)()

    def do(job: bytes, alive: Callable[[], None]) -> bytes:
        return pickle.dumps(task(pickle.loads(job), alive), pickle.HIGHEST_PROTOCOL)

    return do


def _blocks(jobs: Sequence[Job], cost: Callable[[Job], int], actors: int) -> Iterator[bytes]:
    """Jobs with their numbers, pickled twice: the actor opens a block, its process each job."""
    most = max(1, min(_BLOCK_COST, sum(map(cost, jobs)) // (actors * _BLOCKS_PER_ACTOR)))
    for block in batches(enumerate(jobs), lambda numbered: cost(numbered[1]), most):
        yield pickle.dumps([(number, pickle.dumps(job)) for number, job in block])


@contextlib.contextmanager
def _connected(address: str | None, workers: int | None):
    """The `ray` module with a cluster behind it."""
    # Read when Ray is imported: no report to its makers, no lines of its own between ours.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # At Ray's 15 its workers get next to nothing beside other programs; the plain ones have 0.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise WorkerError(
            f"expected Ray but got: {error}; pip install 'ffdetect[ray]' brings it"
        ) from error
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        options |= {
            "address": "local",
            "num_cpus": workers or cores(),
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
        }
    else:
        options["address"] = address
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        try:
            with _stderr_muted():  # where Ray says at which level it logs
                ray.init(**options)
        except Exception as error:  # Ray raises bare ones too
            raise WorkerError(
                f"no Ray at {address or 'this machine'}: {_last_line(error)}"
            ) from error
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _stderr_muted():
    before = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
