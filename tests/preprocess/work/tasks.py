"""What worker processes do in tests: their work, or something strange."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path


def make_mortal_extract(log: Path, *settings: object):
    """`preprocess.extract.make_extract`, but the process ends where a file's name says so."""
    from preprocess.extract import make_extract  # an echo needs no torch

    return _make_mortal(log, make_extract(*settings), lambda job: job[0].path)


def make_hasty_extract(*settings: object):
    """`preprocess.extract.make_extract`, but connections that fail are soon given up."""
    import s3fs

    from preprocess.extract import make_extract
    from preprocess.io import storage

    storage.WAITS = (0.1,)
    s3fs.S3FileSystem.retries = 2
    return make_extract(*settings)


def make_mortal_echo(log: Path):
    return _make_mortal(log, lambda job, alive: job, str)


def make_nothing():
    raise RuntimeError("expected a GPU but there is none")


def _make_mortal(log: Path, task, name):
    """Notes every job, with the number of the process that has this one do it; and ends where a
    name says so: this process, or the first time the other."""

    def until_death(job, alive):
        supervisor = multiprocessing.parent_process().pid
        with log.open("a") as stream:
            stream.write(f"{name(job)}\t{supervisor}\n")
        if "kill" in name(job) and log.read_text().count(name(job)) == 1:
            os.kill(supervisor, signal.SIGKILL)
            signal.pause()  # until this process ends with that one
        if "crash" in name(job):
            os._exit(7)
        if "segfault" in name(job):
            os.kill(os.getpid(), signal.SIGSEGV)
        return task(job, alive)

    return until_death
