"""What the commands that fill a cache have in common: `preprocess.crop` and `preprocess.sound`.

Their arguments, what they refuse, what is said and reported at the end, and the exit status. How
they get to all files: `fill`; what they do to a file is their own.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from preprocess.arguments import unwritten
from preprocess.cache.errors import CacheError
from preprocess.cache.kinds import Settings
from preprocess.cache.parts import part_sizes
from preprocess.cache.writer import CacheWriter
from preprocess.io.sources import Item, Shard, find_items, printable
from preprocess.io.storage import StorageError, as_path, is_remote, write_json
from preprocess.work.cores import cores
from preprocess.work.pool import WorkerError, prepare

from .fill import TIMEOUT


def add_common(parser: argparse.ArgumentParser, data: str, cache: str) -> None:
    """The arguments that all of them have.

    Args:
        data, cache: help on DATA, and the name of the default cache.
    """
    add = parser.add_argument
    add(
        "data",
        type=as_path,
        metavar="DATA",
        help=f"{data}; this and --out may be URLs, as s3://BUCKET/FOLDER",
    )
    add("--out", type=as_path, help=f"the cache's folder (default: cache/{cache} of DATA)")
    add("--labels", type=as_path, help="label file (default: looked for beside and in DATA)")
    add(
        "--workers",
        type=int,
        metavar="N",
        help="processes; 0: this one, without protection from "
        "files that hang or crash (default: one for each core)",
    )
    add(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="give a picture, a "
        "frame of a clip, or a block of sound up after this time (%(default)g)",
    )
    add(
        "--shard",
        metavar="I/N",
        help="do the I-th of N parts of the files, on "
        "a machine of its own; caches of all are read as one",
    )
    add("--overwrite", action="store_true", help="drop the cache that is there")
    add("--retry", action="store_true", help="try the files again that failed before")
    add("--quiet", action="store_true", help="say nothing but errors")
    add("--report", type=Path, metavar="FILE", help="write counts and times there, as JSON")


def run(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    *,
    holds: str,
    media: tuple[str, ...],
    settings: Callable[[argparse.Namespace], Settings],
    fill: Callable[..., None],
    ending: str = "",
    modules: tuple[str, ...] = (),
) -> int:
    """One command, which is given by what it does in its own way.

    Args:
        parser, argv: its arguments.
        holds: what DATA is expected to hold, for messages.
        media: that it takes, of "picture", "clip" and "sound".
        settings: from the arguments; raises ValueError.
        fill: adds to the cache what it lacks. Takes the items, the writer and the arguments; as
            options, those that all commands have.
        ending: of the default cache's name.
        modules: what workers import, while files are listed.

    Returns:
        Exit status: 0, also if some files failed; 1 if none gave a row or the cache cannot be
        written; 2 for wrong arguments; 130 if stopped.
    """
    args = parser.parse_args(argv)
    try:
        chosen = settings(args)
        _check_workers(args)
        shard = Shard.parse(args.shard) if args.shard else None
        if args.workers and modules and not _on_ray(args):
            prepare(*modules)  # while this process lists files and opens the cache
        listing = find_items(args.data, args.labels, media)
    except StorageError as error:
        return _failed(args.report, error)
    except (ValueError, OSError) as error:
        parser.error(printable(str(error)))
    say = (lambda text: None) if args.quiet else print
    say(listing.report())
    if not listing.items:
        print(f"{args.data}: expected {holds} but found none", file=sys.stderr)
        return 1
    items = shard.choose(listing.items) if shard else listing.items
    if shard:
        say(f"shard {args.shard}: {len(items)} of them")
    out = args.out or Path("cache", _name(args.data) + ending + _suffix(shard))
    start, stopped = time.monotonic(), False
    try:
        writer = CacheWriter(out, chosen, overwrite=args.overwrite, retry=args.retry)
        before = writer.faces
        try:
            with writer:
                _check_labels(writer, items)
                _note_changes(writer, items)
                options = {name: getattr(args, name) for name in ("workers", "timeout", "quiet")}
                fill(items, writer, args, **options)
        except KeyboardInterrupt:
            stopped = True
    except (CacheError, StorageError, WorkerError) as error:
        return _failed(args.report, error)
    report = _report(writer, items, writer.faces - before, time.monotonic() - start)
    if stopped:
        print(printable(f"stopped; the same command goes on from here ({out})"), file=sys.stderr)
        status = 130
    else:
        say(_text(report, chosen.rows))
        status = 0 if writer.faces or not items else 1
    return _write_report(args.report, {"finished": not stopped, **report}) or status


def _report(writer: CacheWriter, items: Sequence[Item], new: int, seconds: float) -> dict[str, Any]:
    """The fields of `--report`: "done" counts files that are in the cache or failed, now or before;
    "failures" are all of the cache's, by kind, first those that hold no row."""
    kind, counts = writer.settings.rows, Counter(failure.kind for failure in writer.failures)
    return {
        "cache": printable(str(writer.path)),
        "files": len(items),
        "done": sum(item.path in writer.done for item in items),
        kind: writer.faces,
        f"new_{kind}": new,
        "failures": {failure: counts[failure] for failure in writer.settings.failure_kinds},
        "bytes": sum(size for _, size in part_sizes(writer.path)),
        "seconds": round(seconds, 3),
        "notes": {printable(path): list(notes) for path, notes in writer.notes.items()},
        f"{kind}_per_second": round(new / max(seconds, 1e-3), 3),
    }


def _text(report: dict[str, Any], kind: str) -> str:
    """The same for people."""
    (empty, without), *others = report["failures"].items()
    lost = ", ".join(f"{n} {k}" for k, n in others if n and k in ("crashed", "timeout"))
    lines = [
        f"cache     {report['cache']}",
        f"files     {report['files']}",
        f"{kind:<9} {report[kind]} ({report[f'new_{kind}']} new)",
        f"{empty.replace('_', ' '):<9} {without}",
        f"failed    {sum(n for _, n in others)}" + (f" ({lost})" if lost else ""),
        f"size      {report['bytes'] / 2**20:.1f} MiB",
        f"time      {report['seconds']:.1f} s",
    ]
    for path, notes in [*report["notes"].items()][:1]:
        lines.append(f"noted     {len(report['notes'])}, first {path}: {notes[0]}")
    if any(report["failures"].values()):
        lines.append(f"reasons   {report['cache']}/failures.csv")
    return "\n".join(lines)


def _check_workers(args: argparse.Namespace) -> None:
    """Workers: None stays where Ray decides, which needs at least one."""
    if args.workers is None and not _on_ray(args):
        args.workers = cores()
    least = 1 if _on_ray(args) else 0
    if (args.workers is not None and args.workers < least) or not args.timeout > 0:
        raise ValueError(
            f"expected --workers of at least {least} and a --timeout above 0 "
            f"but got {args.workers} and {args.timeout:g}"
        )


def _on_ray(args: argparse.Namespace) -> bool:
    return getattr(args, "engine", None) == "ray"


def _name(data: Path) -> str:
    return data.resolve().name if not is_remote(data) and data.is_dir() else data.stem


def _suffix(shard: Shard | None) -> str:
    return f"-{shard.index}-of-{shard.count}" if shard else ""


def _check_labels(writer: CacheWriter, items: Sequence[Item]) -> None:
    """Rows keep the label they were written with, so other labels need another cache."""
    changed = [i.path for i in items if writer.done.get(i.path) not in (None, i.target)]
    if changed:
        raise CacheError(
            f"{writer.path}: {len(changed)} files were cached with another label "
            f"(first: {changed[0]!r}); choose another --out, or start afresh with --overwrite"
        )


def _note_changes(writer: CacheWriter, items: Sequence[Item]) -> None:
    """Rows stay as they were written, whatever became of their file."""
    note = "it was changed after it was cached; --overwrite starts afresh"
    for item in items:
        written = writer.written.get(item.path)
        if not written or is_remote(item.file):
            continue
        with contextlib.suppress(OSError):  # it is gone since it was listed
            if item.local.stat().st_mtime > written:
                writer.note(item.path, [note])


def _failed(report: Path | None, error: Exception) -> int:
    print(f"error: {printable(str(error))}", file=sys.stderr)
    return _write_report(report, {"finished": False, "error": str(error)}) or 1


def _write_report(file: Path | None, values: dict) -> int:
    """Exit status: 0, or 1 if the report cannot be written."""
    if file is None:
        return 0
    try:
        write_json(file, values)
    except OSError as error:
        return unwritten(file, error)
    return 0
