"""Jobs that are too small to travel alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Job = TypeVar("Job")


def batches(jobs: Iterable[Job], cost: Callable[[Job], int], most: int) -> Iterator[list[Job]]:
    """Neighbours together, up to a cost of `most`; a job that costs more is alone."""
    batch: list[Job] = []
    total = 0
    for job in jobs:
        own = cost(job)
        if batch and total + own > most:
            yield batch
            batch, total = [], 0
        batch.append(job)
        total += own
    if batch:
        yield batch
