"""python -m preprocess.audio DATA: cut the sound of clips and audio files into windows, and cache
them with their spectrograms."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm

from .crop import TIMEOUT, _check_labels, _default_workers, _record_all, _write_report
from .listen import Heard, Unheard, listen, make_listen
from .mel import HIGH_BANDS, MEL_BANDS, sound_maps
from .pool import Lost, WorkerError, work
from .schema import CacheError, Failure
from .sound import SAMPLE_RATE, SOUND_SUFFIXES
from .sound_cache import FAILURE_KINDS, SoundSettings, SoundWriter
from .sources import Item, Shard, find_items, printable

_FILES_PER_WORKER = 128  # starting one costs about as much as decoding so many short files
_BYTES_PER_FILE = 2**18  # a larger file counts as several
_FILES_PER_JOB, _BYTES_PER_JOB = 16, 2**20  # at most, unless one file is larger


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, also if some files failed; 1 if none gave sound or the cache cannot be
    written; 2 for wrong arguments; 130 if stopped."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        settings = SoundSettings(args.seconds, args.windows)
        workers = _default_workers() if args.workers is None else args.workers
        if workers < 0 or not args.timeout > 0:
            raise ValueError(
                "expected --workers of at least 0 and a --timeout above 0 "
                f"but got {workers} and {args.timeout:g}"
            )
        shard = Shard.parse(args.shard) if args.shard else None
        listing = find_items(args.data, args.labels, SOUND_SUFFIXES)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    say = (lambda text: None) if args.quiet else print
    say(listing.report())
    if not listing.items:
        print(f"{args.data}: expected clips or audio files but found none", file=sys.stderr)
        return 1
    items = shard.choose(listing.items) if shard else listing.items
    name = args.data.resolve().name if args.data.is_dir() else args.data.stem
    out = args.out or Path("cache", f"{name}-sound" + (f"-{args.shard.replace('/', '-of-')}"
                                                      if shard else ""))  # fmt: skip
    start, stopped = time.monotonic(), False
    try:
        with SoundWriter(out, settings, overwrite=args.overwrite, retry=args.retry) as writer:
            before = writer.faces
            _check_labels(writer, items)
            cache_sound(items, writer, workers=workers, timeout=args.timeout, quiet=args.quiet)
    except (CacheError, WorkerError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return _write_report(args.report, {"finished": False, "error": str(error)}) or 1
    except KeyboardInterrupt:
        stopped = True
    summary = SoundSummary.of(writer, items, writer.faces - before, time.monotonic() - start)
    if stopped:
        print(printable(f"stopped; the same command goes on from here ({out})"), file=sys.stderr)
        status = 130
    else:
        say(summary.text())
        status = 0 if writer.faces or not items else 1
    return _write_report(args.report, {"finished": not stopped, **asdict(summary)}) or status


def cache_sound(
    items: Sequence[Item],
    writer: SoundWriter,
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
        WorkerError: no worker process can be started.
    """
    todo = [item for item in items if item.path not in writer.done]
    settings = writer.settings
    if workers:
        crew = min(workers, _worth_starting(todo))
        results = _listen_in_workers(list(_batches(todo)), settings, crew, timeout)
    else:
        results = ((item, listen(item.file, settings.seconds, settings.windows)) for item in todo)
    bar = tqdm(total=len(items), initial=len(items) - len(todo), unit="file", disable=quiet)

    def seen() -> Iterator[tuple[Item, Heard | Unheard | Lost]]:
        for pair in results:
            bar.update()
            yield pair

    with bar, closing(results):
        _record_all(seen(), writer, _record)


def _listen_in_workers(
    batches: Sequence[Sequence[Item]], settings: SoundSettings, workers: int, timeout: float
) -> Iterator[tuple[Item, Heard | Unheard | Lost]]:
    """Every item with what a worker heard, in order."""
    jobs = [tuple(item.file for item in batch) for batch in batches]
    task = partial(make_listen, settings.seconds, settings.windows)
    with closing(work(task, jobs, workers=workers, timeout=timeout)) as results:
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
    return item.file.stat().st_size if item.file.is_file() else 0


def _worth_starting(items: Sequence[Item]) -> int:
    """How many workers have enough to do to be worth their start: a film is, a word is not."""
    return -(-sum(1 + _size(item) // _BYTES_PER_FILE for item in items) // _FILES_PER_WORKER)


def _record(writer: SoundWriter, item: Item, result: Heard | Unheard | Lost) -> None:
    if isinstance(result, Heard):
        writer.add_table(_to_table(item, result, writer.settings))
    elif isinstance(result, Unheard):
        writer.fail(Failure(item.path, result.kind, result.reason))
    else:
        writer.fail(Failure(item.path, result.kind, f"{item.file}: {result.reason}"))


def _to_table(item: Item, heard: Heard, settings: SoundSettings) -> pa.Table:
    windows, described = heard.windows, heard.format
    count, frames = len(windows), settings.frames
    stored = np.zeros((count, settings.samples), np.int16)
    mel = np.empty((count, MEL_BANDS, frames), np.float16)
    high = np.empty((count, HIGH_BANDS, frames), np.float16)
    for row, (_, block) in enumerate(windows):
        stored[row, : len(block)] = block
        # From the stored samples, so that the maps can be had from them again; one at a time, as
        # one fits the cores' caches.
        maps = sound_maps(torch.from_numpy(stored[row : row + 1].astype(np.float32) / 32767))
        mel[row], high[row] = (values[0].half().numpy() for values in maps)
    schema, starts = settings.schema(), [start for start, _ in windows]
    values = {
        "key": [f"{item.path}#{start:g}" for start in starts],
        "path": [item.path] * count,
        "start": starts,
        "seconds": [len(block) / SAMPLE_RATE for _, block in windows],
        "target": [item.target] * count,
        "generator": [item.generator] * count,
        "group": [item.group] * count,
        "split": [item.split] * count,
        "source_rate": [described.sample_rate] * count,
        "source_channels": [described.channels] * count,
        "source_codec": [described.codec] * count,
    }
    arrays = [pa.array(column, schema.field(name).type) for name, column in values.items()]
    arrays.append(
        pa.FixedSizeListArray.from_arrays(pa.array(stored.reshape(-1)), type=schema[-3].type)
    )
    for field, values_ in zip(list(schema)[-2:], (mel, high), strict=True):
        storage = pa.FixedSizeListArray.from_arrays(pa.array(values_.reshape(-1)), values_[0].size)
        arrays.append(pa.ExtensionArray.from_storage(field.type, storage))
    return pa.Table.from_arrays(arrays, schema=schema)


@dataclass(frozen=True)
class SoundSummary:
    """What a run did; the fields of `--report`.

    Attributes:
        cache: its folder.
        files: clips and audio files listed.
        done: those of them that are in the cache or failed, now or before.
        windows, new_windows: rows of the cache, and those that this run added.
        failures: how many files of the cache failed, by kind (`sound_cache.FAILURE_KINDS`).
        bytes: size of the parts.
        seconds: of this run.
    """

    cache: str
    files: int
    done: int
    windows: int
    new_windows: int
    failures: dict[str, int]
    bytes: int
    seconds: float

    @classmethod
    def of(
        cls, writer: SoundWriter, items: Sequence[Item], new: int, seconds: float
    ) -> SoundSummary:
        kinds = Counter(failure.kind for failure in writer.failures)
        return cls(
            cache=printable(str(writer.path)),
            files=len(items),
            done=sum(item.path in writer.done for item in items),
            windows=writer.faces,
            new_windows=new,
            failures={kind: kinds[kind] for kind in FAILURE_KINDS},
            bytes=sum(part.stat().st_size for part in writer.path.glob("part-*.arrow")),
            seconds=round(seconds, 3),
        )

    def text(self) -> str:
        lost = sum(count for kind, count in self.failures.items() if kind != "no_sound")
        lines = [
            f"cache     {self.cache}",
            f"files     {self.files}",
            f"windows   {self.windows} ({self.new_windows} new)",
            f"no sound  {self.failures['no_sound']}",
            f"failed    {lost}",
            f"size      {self.bytes / 2**20:.1f} MiB",
            f"time      {self.seconds:.1f} s",
        ]
        if any(self.failures.values()):
            lines.append(f"reasons   {Path(self.cache, 'failures.csv')}")
        return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    sound = SoundSettings()
    parser = argparse.ArgumentParser(prog="python -m preprocess.audio", description=__doc__)
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="a folder of clips and audio files, or one file")
    add("--out", type=Path, help="the cache's folder (default: cache/NAME-sound)")
    add("--labels", type=Path, help="label file (default: looked for beside and in DATA)")
    add("--seconds", type=float, default=sound.seconds, help="length of a window (%(default)s)")
    add("--windows", type=int, default=sound.windows, help="most of one file (%(default)s)")
    add("--workers", type=int, metavar="N", help="processes; 0: this one (default: the cores)")
    add("--timeout", type=float, default=TIMEOUT, metavar="SECONDS",
        help="give a file up after this time without progress (%(default)g)")  # fmt: skip
    add("--shard", metavar="I/N", help="do the I-th of N parts of the files")
    add("--overwrite", action="store_true", help="drop the cache that is there")
    add("--retry", action="store_true", help="try the files again that failed before")
    add("--quiet", action="store_true", help="say nothing but errors")
    add("--report", type=Path, metavar="FILE", help="write counts and times there, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
