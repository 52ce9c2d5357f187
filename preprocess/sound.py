"""python -m preprocess.sound DATA: cut the sound of clips and audio files into windows, and cache
them with their spectrograms."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

from preprocess.arguments import finish
from preprocess.cache.sound import SoundSettings
from preprocess.cache.writer import CacheWriter
from preprocess.io.sources import Item
from preprocess.io.storage import is_remote

from .arguments import new_parser
from .fill import fill
from .listen import make_listen
from .run import add_common, run

PROG = "python -m preprocess.sound"
_FILES_PER_JOB = 16  # a message to a process takes as long as a short file
_FILES_PER_WORKER = 128  # starting one costs about as much as decoding so many short files
_BYTES_PER_FILE = 2**18  # a larger file counts as several


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: see `run.run`."""
    return run(
        make_parser(prog),
        argv,
        holds="clips or audio files",
        media=("sound", "clip"),
        ending="-sound",
        settings=lambda args: SoundSettings(args.seconds, args.windows),
        fill=lambda items, writer, args, **options: cache_sound(items, writer, **options),
    )


def cache_sound(items: Sequence[Item], writer: CacheWriter[SoundSettings], **options: Any) -> None:
    """Add the windows of every item that the cache does not hold yet, in the order of the items.

    Args:
        options: `workers`, `timeout` and `quiet`, see `fill`.

    Raises:
        CacheError, StorageError, WorkerError: see `fill`.
    """
    settings = writer.settings
    fill(
        items,
        writer,
        partial(make_listen, settings.seconds, settings.windows),
        cost=_cost,
        per_job=_FILES_PER_JOB,
        per_worker=_FILES_PER_WORKER,
        **options,
    )


def _cost(item: Item) -> int:
    """In short files: a film is worth a worker, a word is not."""
    if is_remote(item.file):  # to be told its size would take a request for each
        return 2
    return 1 + (item.file.stat().st_size if item.file.is_file() else 0) // _BYTES_PER_FILE


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    sound = SoundSettings()
    parser = new_parser(prog, __doc__, "speech/ --out cache/speech --seconds 4")
    add_common(parser, "a folder of clips and audio files, or one file", "NAME-sound")
    add = parser.add_argument
    add("--seconds", type=float, default=sound.seconds, help="length of a window (%(default)s)")
    add("--windows", type=int, default=sound.windows, help="most of one file (%(default)s)")
    return parser


if __name__ == "__main__":
    finish(main)
