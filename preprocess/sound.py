"""python -m preprocess.sound DATA: cut the sound of clips and audio files into windows, and cache
them with their spectrograms."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial

from tqdm import tqdm

from preprocess.arguments import finish
from preprocess.cache.errors import Failure
from preprocess.cache.sound import SoundSettings, to_table
from preprocess.cache.writer import CacheWriter
from preprocess.io.sources import Item
from preprocess.io.storage import is_remote
from preprocess.work.pool import Lost, work

from .arguments import new_parser
from .listen import Heard, Result, listen, make_listen
from .run import TIMEOUT, Command, add_common, record_all, run

PROG = "python -m preprocess.sound"
_FILES_PER_WORKER = 128  # starting one costs about as much as decoding so many short files
_BYTES_PER_FILE = 2**18  # a larger file counts as several
_FILES_PER_JOB, _BYTES_PER_JOB = 16, 2**20  # at most, unless one file is larger


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: see `run.run`."""
    command = Command(
        holds="clips or audio files",
        media=("sound", "clip"),
        ending="-sound",
        modules=(),  # they need little
        settings=lambda args: SoundSettings(args.seconds, args.windows),
        fill=lambda items, writer, args: cache_sound(
            items, writer, workers=args.workers, timeout=args.timeout, quiet=args.quiet
        ),
    )
    return run(command, make_parser(prog), argv)


def cache_sound(
    items: Sequence[Item],
    writer: CacheWriter[SoundSettings],
    *,
    workers: int = 0,
    timeout: float = TIMEOUT,
    quiet: bool = False,
) -> None:
    """Add the windows of every item that the cache does not hold yet, in the order of the items.

    Args:
        workers: processes, see `pool.work`; 0 works in this one.
        timeout: seconds without progress after which a file is given up.

    Raises:
        CacheError: the cache cannot be written.
        StorageError: a file cannot be reached; those before it are in the cache.
        WorkerError: no worker process can be started.
    """
    todo = [item for item in items if item.path not in writer.done]
    settings = writer.settings
    if workers:
        crew = min(workers, _worth_starting(todo))
        results = _listen_in_workers(list(_batches(todo)), settings, crew, timeout)
    else:
        results = ((item, listen(item, settings.seconds, settings.windows)) for item in todo)
    bar = tqdm(total=len(items), initial=len(items) - len(todo), unit="file", disable=quiet)

    def seen() -> Iterator[tuple[Item, Result | Lost]]:
        for pair in results:
            bar.update()
            yield pair

    with bar, closing(results):
        record_all(seen(), writer, _record)


def _listen_in_workers(
    batches: Sequence[Sequence[Item]], settings: SoundSettings, workers: int, timeout: float
) -> Generator[tuple[Item, Result | Lost], None, None]:
    """Every item with what a worker heard, in order."""
    task = partial(make_listen, settings.seconds, settings.windows)
    with closing(work(task, batches, workers=workers, timeout=timeout)) as results:
        for batch, (_, result) in zip(batches, results, strict=True):
            if not isinstance(result, Lost):
                yield from zip(batch, result, strict=True)
            elif len(batch) == 1:
                yield batch[0], result
            else:  # one of them took the others with it
                alone = [[item] for item in batch]
                yield from _listen_in_workers(alone, settings, 1, timeout)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Small files together, large ones alone."""
    batch: list[Item] = []
    size = 0
    for item in items:
        own = _size(item)
        if batch and (len(batch) == _FILES_PER_JOB or size + own > _BYTES_PER_JOB):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += own
    if batch:
        yield batch


def _size(item: Item) -> int:
    if is_remote(item.file):  # to be told would take a request for each
        return _BYTES_PER_FILE
    return item.file.stat().st_size if item.file.is_file() else 0


def _worth_starting(items: Sequence[Item]) -> int:
    """How many workers have enough to do to be worth their start: a film is, a word is not."""
    return -(-sum(1 + _size(item) // _BYTES_PER_FILE for item in items) // _FILES_PER_WORKER)


def _record(writer: CacheWriter[SoundSettings], item: Item, result: Heard | Failure) -> None:
    if isinstance(result, Heard):
        writer.add_table(to_table(item, result.windows, result.format, writer.settings))
        writer.note(item.path, result.notes)
    else:
        writer.fail(result)


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
