"""preprocess.crop with strange files, full disks and kills, in processes that start at once.

    python -m tests.preprocess.work.forked_crop SCENARIO ARGUMENTS OF preprocess.crop

Workers are forked here, not spawned, so that they need no second of imports each and inherit the
strange behaviour; test_crop_workers.py also runs the command as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import onnxruntime  # noqa: F401 (imported once, for all that are forked)

from preprocess import crop, extract
from preprocess.cache import writer as cache
from preprocess.io import storage
from preprocess.work import pool

KILLS = 10


def decode_strangely(source, **options):
    """A decoder that dies of files with such a name."""
    if "segfault" in source.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return decode_image(source, **options)


decode_image = extract.decode_image


def fill_the_disk_after_two_parts(writer, item, result) -> None:
    if len(list(writer.path.glob("part-*.arrow"))) == 2:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit))
    record(writer, item, result)


record = crop._record


def kill_often(arguments: list[str]) -> int:
    """Kill the command at random moments, 10 times; each run goes on where the last one was killed.

    A run that is done before its kill is followed by one that starts afresh. Prints how many
    parts there were after each kill.
    """
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans become children of this one
    out = Path(arguments[-1])
    run([*arguments[:-1], f"{out} timed"])
    moments, afresh, kills = random.Random(0), [], 0
    while kills < KILLS:
        killed, progress = start_run([*arguments, *afresh])
        for _ in range(moments.randint(0, 16)):
            os.read(progress, 1)
        time.sleep(moments.choice([0, moments.uniform(0, 0.1)]))
        os.kill(killed, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(killed, 0)[1])
        if status > 0:
            return status
        afresh = [] if status else ["--overwrite"]
        if afresh:
            continue
        kills += 1
        os.close(progress)
        print(len(list(out.glob("part-*.arrow"))))
        end_of_patience = time.monotonic() + 30
        with contextlib.suppress(ChildProcessError):  # raised when all have ended
            while time.monotonic() < end_of_patience:
                os.waitpid(-1, os.WNOHANG)
                time.sleep(0.01)
            print("an orphan lives on", file=sys.stderr, flush=True)
            os.killpg(0, signal.SIGKILL)  # with all of this test's processes
    return run(arguments)


def start_run(arguments: list[str]) -> tuple[int, int]:
    """Its process, and a pipe that gets a byte for every file, and for each quarter of a part."""
    progress, sink = os.pipe()
    pid = os.fork()
    if not pid:

        def write_slowly(path: Path, data) -> None:
            with path.open("xb", buffering=0) as stream:
                for start in range(0, len(data), len(data) // 4 + 1):
                    stream.write(data[start : start + len(data) // 4 + 1])
                    os.write(sink, b".")
                    time.sleep(0.005)

        storage.write_new = write_slowly
        crop._record = lambda *values: (os.write(sink, b"."), record(*values))
        os._exit(crop.main(arguments))
    os.close(sink)
    return pid, progress


def run(arguments: list[str]) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(start_run(arguments)[0], 0)[1])


def main(scenario: str, *arguments: str) -> int:
    pool._CONTEXT = multiprocessing.get_context("fork")
    cache.ROWS_PER_PART = 3
    crop.PICTURES_PER_WORKER = 1
    if scenario == "strange":
        extract.decode_image = decode_strangely
    elif scenario == "full":
        crop._record = fill_the_disk_after_two_parts
    elif scenario == "kill":
        return kill_often(list(arguments))
    return crop.main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
