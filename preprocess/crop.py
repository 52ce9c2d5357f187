"""python -m preprocess.crop DATA: find and align the faces of pictures and clips, write a cache."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from .cache import CacheWriter
from .decode import MAX_MEGAPIXELS
from .extract import extract, make_extract
from .faces import ALIGNMENTS, CropSettings, FaceDetector
from .formats import RESIDUAL_NAMES
from .parts import part_sizes
from .pool import WorkerError, prepare, work
from .schema import CODECS, FAILURE_KINDS, MAPS, CacheError, CacheSettings, Failure
from .sources import Item, Shard, find_items, printable
from .storage import StorageError, as_path, is_remote

TIMEOUT = 120.0  # seconds; generous, for slow disks and the largest pictures
_PICTURES_PER_WORKER = 4  # starting one costs about as much as cropping so many
_WORK = ("preprocess.extract", "preprocess.mtcnn", "preprocess.maps")  # what it is done with
_UNWRITTEN = 64  # results that may wait for the disk


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, also if some files failed; 1 if none gave a face or the cache cannot be
    written; 2 for wrong arguments; 130 if stopped."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        settings = _settings(args)
        workers = _default_workers(args.device) if args.workers is None else args.workers
        if workers < 0 or not args.timeout > 0:
            raise ValueError(
                "expected --workers of at least 0 and a --timeout above 0 "
                f"but got {workers} and {args.timeout:g}"
            )
        shard = Shard.parse(args.shard) if args.shard else None
        listing = find_items(args.data, args.labels)
    except StorageError as error:
        return _failed(args.report, error)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    say = (lambda text: None) if args.quiet else print
    say(listing.report())
    if not listing.items:
        print(f"{args.data}: expected pictures or clips but found none", file=sys.stderr)
        return 1
    if workers:
        prepare(*_WORK)  # while this process opens the cache
    name = args.data.stem
    if not is_remote(args.data) and args.data.is_dir():
        name = args.data.resolve().name
    items = listing.items
    if shard:
        items = shard.choose(items)
        name += f"-{shard.index}-of-{shard.count}"
        say(f"shard {args.shard}: {len(items)} of them")
    out = args.out or Path("cache", name)
    start, status, stopped = time.monotonic(), 0, ""
    try:
        with CacheWriter(out, settings, overwrite=args.overwrite, retry=args.retry) as writer:
            before = writer.faces
            _check_labels(writer, items)
            crop_items(items, writer, device=args.device, max_megapixels=args.megapixels,
                       workers=workers, timeout=args.timeout, quiet=args.quiet)  # fmt: skip
    except (CacheError, StorageError, WorkerError) as error:
        return _failed(args.report, error)
    except KeyboardInterrupt:
        stopped = f"stopped; the same command goes on from here ({out})"
        status = 130
    summary = Summary.of(writer, items, writer.faces - before, time.monotonic() - start)
    if stopped:
        print(printable(stopped), file=sys.stderr)
    else:
        say(summary.text())
        status = 0 if writer.faces or not items else 1
    return _write_report(args.report, {"finished": not stopped, **asdict(summary)}) or status


def crop_items(
    items: Sequence[Item],
    writer: CacheWriter,
    *,
    device: str = "cpu",
    max_megapixels: float = MAX_MEGAPIXELS,
    workers: int = 0,
    timeout: float = TIMEOUT,
    quiet: bool = False,
) -> None:
    """Add the faces of every item that the cache does not hold yet; show progress.

    Rows are added in the order of the items, so stopped runs, and runs with any number of
    workers, fill a cache with the same rows in the same order.

    Args:
        workers: processes, see `pool.work`; 0 works in this one, where a file that hangs or
            crashes its decoder stops the run.
        timeout: seconds for a picture, or for a frame of a clip.

    Raises:
        CacheError: the cache cannot be written.
        StorageError: a file cannot be reached; those before it are in the cache.
        WorkerError: no worker process can be started.
    """
    todo = [item for item in items if item.path not in writer.done]
    start, faces = time.monotonic(), 0
    bar = tqdm(total=len(items), initial=len(items) - len(todo), unit="file", disable=quiet)

    def arrived(result: object) -> None:
        nonlocal faces
        faces += len(result) if isinstance(result, pa.Table) else 0
        bar.set_postfix_str(f"{faces / (time.monotonic() - start):.1f} faces/s", refresh=False)
        bar.update()

    if workers:
        task = partial(make_extract, writer.settings, device, max_megapixels)
        crew = min(workers, _worth_starting(todo, writer.settings.frames))
        results = work(task, todo, workers=crew, timeout=timeout, arrived=arrived)
    else:
        detector = FaceDetector(writer.settings.crop, device)
        task = partial(extract, detector=detector, settings=writer.settings,
                       max_megapixels=max_megapixels)  # fmt: skip
        results = _work_here(task, todo, arrived)
    with bar, closing(results):
        _record_all(results, writer)


def _work_here(
    task: Callable[[Item], object], items: Sequence[Item], arrived: Callable[[object], None]
) -> Iterator[tuple[Item, object]]:
    for item in items:
        result = task(item)
        arrived(result)
        yield item, result


def _record_all(
    results: Iterator[tuple[Item, object]],
    writer: CacheWriter,
    record: Callable[[CacheWriter, Item, object], None] | None = None,
) -> None:
    """Give results to the writer in a thread, so that workers need not wait for the disk."""
    with ThreadPoolExecutor(1) as executor:
        pending: deque[Future] = deque()
        try:
            for item, result in results:
                if isinstance(result, StorageError):
                    raise result
                pending.append(executor.submit(record or _record, writer, item, result))
                while len(pending) > _UNWRITTEN or (pending and pending[0].done()):
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        except CacheError:
            executor.shutdown(cancel_futures=True)  # a failed write is not retried
            raise


def _record(writer: CacheWriter, item: Item, result: object) -> None:
    if isinstance(result, pa.Table):
        writer.add_table(result)
    elif isinstance(result, Failure):
        writer.fail(result)
    else:  # lost with two workers
        writer.fail(Failure(item.path, result.kind, f"{item.file}: {result.reason}"))


def _worth_starting(items: Sequence[Item], frames: int) -> int:
    """How many workers have enough to do to be worth their start."""
    pictures = sum(frames if item.is_video else 1 for item in items)
    return -(-pictures // _PICTURES_PER_WORKER)


def _default_workers(device: str) -> int:
    if not device.startswith("cpu"):
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_labels(writer: CacheWriter, items: Sequence[Item]) -> None:
    """Rows keep the label they were written with, so other labels need another cache."""
    changed = [i.path for i in items if writer.done.get(i.path) not in (None, i.target)]
    if changed:
        raise CacheError(
            f"{writer.path}: {len(changed)} files were cached with another label "
            f"(first: {changed[0]!r}); choose another --out, or start afresh with --overwrite"
        )


@dataclass(frozen=True)
class Summary:
    """What a run did; the fields of `--report`.

    Attributes:
        cache: its folder.
        files: pictures and clips listed.
        done: those of them that are in the cache or failed, now or before.
        faces, new_faces: rows of the cache, and those that this run added.
        failures: how many files of the cache failed, by kind (`schema.FAILURE_KINDS`).
        bytes: size of the parts.
        seconds, faces_per_second: of this run.
    """

    cache: str
    files: int
    done: int
    faces: int
    new_faces: int
    failures: dict[str, int]
    bytes: int
    seconds: float
    faces_per_second: float

    @classmethod
    def of(cls, writer: CacheWriter, items: Sequence[Item], new: int, seconds: float) -> Summary:
        kinds = Counter(failure.kind for failure in writer.failures)
        return cls(
            cache=printable(str(writer.path)),
            files=len(items),
            done=sum(item.path in writer.done for item in items),
            faces=writer.faces,
            new_faces=new,
            failures={kind: kinds[kind] for kind in FAILURE_KINDS},
            bytes=sum(size for _, size in part_sizes(writer.path)),
            seconds=round(seconds, 3),
            faces_per_second=round(new / seconds, 3),
        )

    def text(self) -> str:
        others = {kind: count for kind, count in self.failures.items() if kind != "no_face"}
        lost = ", ".join(f"{others[k]} {k}" for k in ("crashed", "timeout") if others[k])
        lines = [
            f"cache     {self.cache}",
            f"files     {self.files}",
            f"faces     {self.faces} ({self.new_faces} new)",
            f"no face   {self.failures['no_face']}",
            f"failed    {sum(others.values())}" + (f" ({lost})" if lost else ""),
            f"size      {self.bytes / 2**20:.1f} MiB",
            f"time      {self.seconds:.1f} s",
        ]
        if any(self.failures.values()):
            lines.append(f"reasons   {self.cache}/failures.csv")
        return "\n".join(lines)


def _failed(report: Path | None, error: Exception) -> int:
    print(f"error: {printable(str(error))}", file=sys.stderr)
    return _write_report(report, {"finished": False, "error": str(error)}) or 1


def _write_report(file: Path | None, values: dict) -> int:
    """Exit status: 0, or 1 if the report cannot be written."""
    if file is None:
        return 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    except OSError as error:
        print(f"error: {file}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _settings(args: argparse.Namespace) -> CacheSettings:
    maps = tuple(name for name in args.maps.split(",") if name and name != "none")
    crop = CropSettings(
        size=args.size,
        margin=args.margin,
        align=args.align,
        native=args.native,
        min_face=args.min_face,
        min_probability=args.min_probability,
    )
    return CacheSettings(crop, maps, args.residual, args.codec, args.faces, args.frames)


def _parser() -> argparse.ArgumentParser:
    crop, cache = CropSettings(), CacheSettings()
    parser = argparse.ArgumentParser(prog="python -m preprocess.crop", description=__doc__)
    add = parser.add_argument
    add("data", type=as_path, metavar="DATA", help="a folder of pictures and clips, or one file; "
        "this and --out may be URLs, as s3://BUCKET/FOLDER")  # fmt: skip
    add("--out", type=as_path, help="the cache's folder (default: cache/NAME of DATA)")
    add("--labels", type=as_path, help="label file (default: looked for beside and in DATA)")
    add("--size", type=int, default=crop.size, help="side of a crop in pixels (%(default)s)")
    add("--margin", type=float, default=crop.margin, help="share of the face's side (%(default)s)")
    add("--align", choices=ALIGNMENTS, default=crop.align, help="(%(default)s)")
    add("--native", type=float, default=crop.native, help="never resample within this factor of "
        "the native scale; 1: always resample (%(default)s)")  # fmt: skip
    add("--min-face", type=int, default=crop.min_face, help="in pixels (%(default)s)")
    add("--min-probability", type=float, default=crop.min_probability, help="(%(default)s)")
    add("--faces", choices=("largest", "all"), default=cache.faces, help="(%(default)s)")
    add("--frames", type=int, default=cache.frames, help="frames per clip (%(default)s)")
    add("--maps", default=",".join(MAPS), help="comma-separated, or none (%(default)s)")
    add("--residual", choices=RESIDUAL_NAMES, default=cache.residual, help="(%(default)s)")
    add("--codec", choices=CODECS, default=cache.codec, help="lossless coding (%(default)s)")
    add("--megapixels", type=float, default=MAX_MEGAPIXELS, help="refuse larger pictures "
        "(%(default)s)")  # fmt: skip
    add("--device", default="cpu", help="where MTCNN runs: cpu or cuda (%(default)s)")
    add("--workers", type=int, metavar="N", help="processes; 0: this one, without protection from "
        "files that hang or crash (default: one for each core, one for a GPU)")  # fmt: skip
    add("--timeout", type=float, default=TIMEOUT, metavar="SECONDS", help="give a picture, or a "
        "frame of a clip, up after this time (%(default)g)")  # fmt: skip
    add("--shard", metavar="I/N", help="do the I-th of N parts of the files, on "
        "a machine of its own; CacheReader reads the caches of all as one")  # fmt: skip
    add("--overwrite", action="store_true", help="drop the cache that is there")
    add("--retry", action="store_true", help="try the files again that failed before")
    add("--quiet", action="store_true", help="say nothing but errors")
    add("--report", type=Path, metavar="FILE", help="write counts and times there, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
