"""python -m benchmarks.cluster PICTURES: what `preprocess.crop --engine ray` costs and bears.

The same pictures by local processes and by a Ray of this machine, in turns; then by Ray while, a
third of the way, a process that works on files is killed, an actor is killed, or Ray's node and
its object store stand still for 20 s. The faces must be those of the local processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._harness import Parser, save_result
from ffdetect.evaluation.tables import markdown_of
from preprocess.cache.reader import CacheReader
from preprocess.io.sources import find_items
from preprocess.spread import evenly

_ACTOR = "ray::MapWorker"  # what Ray calls the processes of its pools
_NODE = "raylet"
_STILL = 20.0  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(__doc__ or "")
    add = parser.add_argument
    add("pictures", type=Path, metavar="PICTURES", help="a folder")
    add("--count", type=int, default=2000, help="pictures (%(default)s)")
    add("--workers", type=int, default=2, help="of both engines (%(default)s)")
    add("--rounds", type=int, default=2, help="without failures (%(default)s)")
    parser.add_out()
    args = parser.parse_args(argv)
    items = find_items(args.pictures.resolve(), media=("picture",)).items
    chosen = [items[i].file for i in evenly(np.arange(len(items)), args.count)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "pictures").mkdir()
        for number, file in enumerate(chosen):
            (folder / f"pictures/{number:05d}{Path(file).suffix}").symlink_to(file)
        runs = compare(folder, args.workers, args.rounds)
    values = {"cores": os.cpu_count(), "pictures": len(chosen), "runs": runs}
    text = f"{len(chosen)} pictures, {args.workers} workers, {os.cpu_count()} cores.\n\n"
    save_result(
        args.out,
        parser.command(argv),
        values,
        text + markdown_of(runs),
    )
    return 0


def compare(folder: Path, workers: int, rounds: int) -> list[dict[str, Any]]:
    """One row a run: engine, what failed, seconds, and faces that are not the first run's."""
    failures: list[tuple[str, Callable[[], None] | None]] = [("nothing", None)] * rounds
    plans = [("processes", *f) for f in failures] + [("ray", *f) for f in failures]
    plans += [
        ("ray", "a process that works on files is killed", kill_worker),
        ("ray", "an actor is killed", kill_actor),
        ("ray", f"the node stands still for {_STILL:g} s", pause_node),
    ]
    rows: list[dict[str, Any]] = []
    for number, (engine, what, fail) in enumerate(plans):
        out = folder / f"cache{number}"
        seconds = crop(folder / "pictures", out, engine, workers, fail)
        rows.append(
            {
                "engine": engine,
                "failure": what,
                "seconds": round(seconds, 1),
                "faces": len(CacheReader(out)),
                "other faces": differing(folder / "cache0", out),
            }
        )
        print(rows[-1], flush=True)
    return rows


def crop(
    pictures: Path, out: Path, engine: str, workers: int, fail: Callable[[], None] | None
) -> float:
    """Seconds of a run, with its start. A third of the way `fail` is called.

    Raises:
        RuntimeError: the run did not succeed.
    """
    options = ["--engine", engine, "--workers", str(workers), "--maps", "none", "--quiet"]
    command = [sys.executable, "-m", "preprocess.crop", str(pictures), "--out", str(out), *options]
    expected = len(list(pictures.iterdir())) / 128 / 3  # parts of a cache
    start = time.monotonic()
    with subprocess.Popen(command) as running:
        while fail and running.poll() is None:
            if len(list(out.glob("part-*.arrow"))) >= expected:
                fail()
                fail = None
            time.sleep(0.1)
    if running.returncode or fail:
        raise RuntimeError(f"expected a run that succeeds but got status {running.returncode}")
    return time.monotonic() - start


def kill_worker() -> None:
    """Of the processes behind actors, kill one."""
    actors = [pid for pid, _, _ in processes(_ACTOR)]
    os.kill(next(pid for pid, parent, _ in processes() if parent in actors), signal.SIGKILL)


def kill_actor() -> None:
    """Kill one, with its block of files."""
    os.kill(processes(_ACTOR)[0][0], signal.SIGKILL)


def pause_node() -> None:
    """Let what schedules actors and keeps their objects stand still."""
    ((node, _, _),) = processes(_NODE)
    os.kill(node, signal.SIGSTOP)
    time.sleep(_STILL)
    os.kill(node, signal.SIGCONT)


def processes(name: str = "") -> list[tuple[int, int, str]]:
    """Number, parent's number and command of those alive whose command's name starts so."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        if status[0] != "Z" and Path(command).name.startswith(name):
            found.append((int(folder.name), int(status[1]), command))
    return found


def differing(one: Path, other: Path) -> int:
    """Faces of one cache that the other lacks or has otherwise."""
    first, second = CacheReader(one), CacheReader(other)
    place = {key: row for row, key in enumerate(second.metadata["key"])}
    missing = [key not in place for key in first.metadata["key"]]
    same = [
        np.array_equal(first.crop(row), second.crop(place[key]))
        for row, key in enumerate(first.metadata["key"])
        if key in place
    ]
    return sum(missing) + same.count(False) + max(0, len(second) - len(first))


if __name__ == "__main__":
    sys.exit(main())
