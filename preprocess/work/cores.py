"""How many cores this process may compute on, and with how many threads it does."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GROUPS, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that are there for this process: those of its affinity, and no more than its control
    group's quota pays for, rounded up. A container's limit is such a quota."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(here, max(math.ceil(min(quota(), here)), 1))


def threads_allowed() -> float:
    """Threads that OMP_NUM_THREADS lets a process compute with; inf where it is not set."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(int(first), 1) if first.isdecimal() else math.inf


def quota(groups: Path = _GROUPS, mount: Path = _MOUNT) -> float:
    """Cores' worth of time that Linux's control groups give this process; inf without a limit.

    Args:
        groups: the file that says in which groups it is.
        mount: where groups are shown, of version 1 and 2.
    """
    try:
        lines = groups.read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return math.inf
    least = math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = mount / "cpu" if controllers else mount
        folder = top / path.lstrip("/")
        # In a container the path may be the host's, of which only the top is shown.
        for one in (folder, *folder.parents):
            least = min(least, _limit(one))
            if one == top:
                break
    return least


def _limit(folder: Path) -> float:
    """Of one control group."""

    def read(name: str) -> list[str]:
        try:
            return (folder / name).read_text("utf-8").split()
        except OSError:
            return []

    limit = read("cpu.max") or [*read("cpu.cfs_quota_us"), *read("cpu.cfs_period_us")]
    if len(limit) != 2 or limit[0] in ("max", "-1"):
        return math.inf
    return int(limit[0]) / int(limit[1])


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """PyTorch and OpenCV compute with so many threads meanwhile.

    Threads that share a core wait for each other at every step: where others compute too, two are
    slower than one.
    """
    import cv2

    torch = sys.modules.get("torch")  # not imported where something else runs the networks
    before = torch and torch.get_num_threads(), cv2.getNumThreads()
    if torch:
        torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
