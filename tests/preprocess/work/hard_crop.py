"""preprocess.crop as it is, but for small parts, on a full disk or killed again and again.

python -m tests.preprocess.work.hard_crop SCENARIO ARGUMENTS OF preprocess.crop
"""

from __future__ import annotations

import ctypes
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from preprocess import crop
from preprocess.cache import writer as cache
from preprocess.cache.writer import CacheWriter
from preprocess.io import storage

KILLS = 8
PATIENCE = 120  # seconds, for what should take none


def on_full_disk(arguments: list[str]) -> int:
    """The disk fills up after two parts."""
    add_table = CacheWriter.add_table

    def fill_up(writer, table) -> None:
        if len(list(writer.path.glob("part-*.arrow"))) == 2:
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit))
        add_table(writer, table)

    CacheWriter.add_table = fill_up
    return crop.main(arguments)


def killed(arguments: list[str]) -> int:
    """Kill the command at random steps, 8 times; each run goes on where the last one was killed.

    A run that is done before its kill is followed by one that starts afresh. Prints how many
    parts there were after each kill.
    """
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans become children of this one
    signal.signal(signal.SIGALRM, give_up)
    out = Path(arguments[-1])
    moments, afresh, kills = random.Random(0), [], 0
    while kills < KILLS:
        status = run([*arguments, *afresh], moments.randint(0, 40))
        if status > 0:
            return status
        afresh = [] if status else ["--overwrite"]
        if status:
            kills += 1
            print(len(list(out.glob("part-*.arrow"))))
    return run(arguments)


def run(arguments: list[str], steps: int = sys.maxsize) -> int:
    """Its status, after it was killed while it waited for leave to do what comes after so many
    steps; and after all that it started has ended."""
    (told, tell), (allowed, allow) = os.pipe(), os.pipe()
    command = [sys.executable, "-m", __spec__.name, "step", str(tell), str(allowed), *arguments]
    process = subprocess.Popen(command, pass_fds=(tell, allowed))
    os.close(tell)
    os.close(allowed)
    while steps and os.read(told, 1):
        os.write(allow, b".")
        steps -= 1
    if os.read(told, 1):
        process.kill()
    os.close(told)
    os.close(allow)
    status = process.wait()
    signal.alarm(PATIENCE)
    try:
        while True:
            os.wait()
    except ChildProcessError:  # all have ended
        signal.alarm(0)
    return status


def give_up(*_: object) -> None:
    print("an orphan lives on", file=sys.stderr, flush=True)
    os.killpg(0, signal.SIGKILL)  # with all of this test's processes


def by_steps(arguments: list[str]) -> int:
    """Waits for leave before every file, and every quarter of what is written."""
    tell, allowed = map(int, arguments[:2])

    def step() -> None:
        os.write(tell, b".")
        os.read(allowed, 1)

    def write_in_quarters(path: Path, data) -> None:
        with path.open("xb", buffering=0) as stream:
            for start in range(0, len(data), len(data) // 4 + 1):
                step()
                stream.write(data[start : start + len(data) // 4 + 1])

    def stepping(method: Callable) -> Callable:
        def run(*values):
            step()
            return method(*values)

        return run

    storage.write_new = write_in_quarters
    CacheWriter.add_table = stepping(CacheWriter.add_table)
    CacheWriter.fail = stepping(CacheWriter.fail)
    return crop.main(arguments[2:])


SCENARIOS = {"full": on_full_disk, "kill": killed, "step": by_steps}


if __name__ == "__main__":
    cache.ROWS_PER_PART = 3
    crop.PICTURES_PER_WORKER = 1
    sys.exit(SCENARIOS[sys.argv[1]](sys.argv[2:]))
