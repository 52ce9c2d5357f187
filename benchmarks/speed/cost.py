"""What commands cost: seconds by the clock, seconds of work and memory of all their processes.

Measured from a process of its own, which adopts what its commands leave behind and waits for it:
the system counts the work of a process for those alone who wait for its end.

    python -m benchmarks.speed.cost '[["COMMAND", "ARGUMENT", ...], ...]'
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux


@dataclass(frozen=True)
class Cost:
    """What commands took that ran at the same time.

    Attributes:
        wall: seconds until the last of them ended.
        cpu: seconds that processors worked for them and for all processes they started.
        peak: MiB of memory of the largest of these processes.
    """

    wall: float
    cpu: float
    peak: float

    @classmethod
    def of(cls, commands: Sequence[Sequence[str]], environment: Mapping[str, str] = {}) -> Cost:
        """Run the commands with some variables more.

        Raises:
            RuntimeError: one of them failed.
        """
        line = [sys.executable, "-m", __name__, json.dumps(commands)]
        done = subprocess.run(line, env={**os.environ, **environment}, stdout=subprocess.PIPE)
        if done.returncode:
            raise RuntimeError(f"expected commands that succeed but one failed: {commands}")
        return cls(**json.loads(done.stdout))

    @classmethod
    def least(cls, costs: Sequence[Cost]) -> Cost:
        """Of several tries, the least of each."""
        return cls(*(min(getattr(cost, field.name) for cost in costs) for field in fields(cls)))


def _measure(commands: Sequence[Sequence[str]]) -> int:
    import resource

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    start = time.perf_counter()
    running = [subprocess.Popen(command, stdout=sys.stderr) for command in commands]
    statuses = [process.wait() for process in running]
    wall = time.perf_counter() - start
    with contextlib.suppress(ChildProcessError):  # raised when all have ended
        while True:
            os.waitpid(-1, 0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024}
    print(json.dumps(cost))
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(_measure(json.loads(sys.argv[1])))
