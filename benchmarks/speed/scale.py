"""python -m benchmarks.speed.scale DATA: what do a million faces cost, what grows faster than them?

CPU seconds of each stage on one thread, bytes of a face, then on made-up caches: the time and
memory of `CacheReader`, what its index and list of failures cost a run, and the memory
of drawing training pairs from a cache larger than the memory it is allowed. `docs/scale.md` says
what follows.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks._harness import Parser, in_fresh_process, machine, made_up_face, save_result
from ffdetect.evaluation.tables import markdown
from ffdetect.training.data import PairDataset
from preprocess.cache.arrow import to_array
from preprocess.cache.errors import Failure
from preprocess.cache.faces import CODECS, CachedFace, CacheSettings, to_table
from preprocess.cache.parts import checksum, encode_part, part_name, write_index
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.extract import face_rows
from preprocess.faces.detect import FaceDetector
from preprocess.faces.maps import residual, spectrum
from preprocess.io.decode import decode_image
from preprocess.io.sources import Item, find_items
from preprocess.io.storage import write_whole

MAPS = {
    "none": (),
    "spectrum": ("spectrum",),
    "residual": ("residual",),
    "both": ("spectrum", "residual"),
}
_ROWS = 128  # of a part, as `CacheWriter` fills them


@dataclass(frozen=True)
class Effort:
    """How much is measured: pictures, rows of made-up caches, parts of an index, MiB of a cache
    to draw pairs from and that may be taken beyond what is in use, pairs drawn."""

    pictures: int = 300
    rows: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    parts: tuple[int, ...] = (100, 1_000, 8_000)
    cache: int = 600
    allowed: int = 200
    pairs: int = 1_500


QUICK = Effort(pictures=4, rows=(300,), parts=(10,), cache=20, allowed=200, pairs=4)


def stages(items: Sequence[Item], folder: Path) -> tuple[dict[str, float], dict]:
    """CPU seconds per 1,000 faces of each stage, and bytes per face for each choice of maps."""
    settings = CacheSettings(maps=MAPS["both"])
    detector = FaceDetector(settings.crop, "cpu")
    spent: dict[str, float] = {}

    def timed(stage: str, action: Callable):
        start = time.process_time()
        result = action()
        spent[stage] = spent.get(stage, 0.0) + time.process_time() - start
        return result

    face_rows(items[0], decode_image(items[0].file), detector, settings)  # warm
    rows: list[CachedFace] = []
    for item in items:
        picture = timed("decode", lambda item=item: decode_image(item.file))
        rows += timed(
            "detect and crop", lambda i=item, p=picture: face_rows(i, p, detector, settings)
        )
    if not rows:
        raise ValueError(f"expected pictures with faces but none of {len(items)} has one")
    for row in rows:
        crop = torch.from_numpy(row.crop).permute(2, 0, 1)[None]
        row.spectrum = timed("spectrum", lambda c=crop: spectrum(c)[0].numpy())
        row.residual = timed("residual", lambda c=crop: residual(c, settings.residual)[0].numpy())
    part = timed("encode", lambda: encode_part(to_table(rows, settings)))
    timed("checksum", lambda: checksum(part))
    timed("write", lambda: write_whole(folder / part_name(0), part))
    size = {
        codec: {
            name: len(encode_part(to_table(rows, replace(settings, maps=maps, codec=codec))))
            / len(rows)
            for name, maps in MAPS.items()
        }
        for codec in CODECS
    }
    return {stage: 1000 * seconds / len(rows) for stage, seconds in spent.items()}, size


def made_up_rows(start: int, count: int, settings: CacheSettings, crop: bytes | None) -> pa.Table:
    """Rows whose names are as long as real ones; crops are the same bytes, of any number."""
    names = [
        f"fake/generator_{n % 7}/{n % 997:05d}/{n:09d}.jpg" for n in range(start, start + count)
    ]
    rng = np.random.default_rng(start)
    size = settings.crop.size
    row = made_up_face(
        np.zeros((size, size, 3), np.uint8),
        split="train",
        source_format="jpeg",
        spectrum=np.zeros((128, 65), np.float16),
        residual=np.zeros((3, size, size), np.int8),
    )
    table = to_table([row], settings).take(pa.array(np.zeros(count, np.int64)))
    columns: dict[str, Any] = {
        "key": [f"{name}#-1#0" for name in names],
        "path": names,
        "group": names,
        "generator": [f"generator_{n % 7}" for n in range(start, start + count)],
        "target": np.arange(start, start + count) % 2,
        "box": list(rng.random((count, 4), np.float32)),
        "landmarks": list(rng.random((count, 10), np.float32)),
    }
    if crop is not None:
        columns["crop"] = [crop] * count
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        table = table.set_column(place, field, to_array(values, field.type))
    return table


def write_made_up(folder: Path, rows: int, settings: CacheSettings, crop: bytes | None) -> Path:
    """A cache of `made_up_rows`, without waiting for the disk."""
    folder.mkdir()
    checksums = {}
    for number, start in enumerate(range(0, rows, _ROWS)):
        count = min(_ROWS, rows - start)
        part = encode_part(made_up_rows(start, count, settings, crop))
        (folder / part_name(number)).write_bytes(part)
        checksums[part_name(number)] = checksum(part)
    write_index(folder, settings, rows, 0, checksums)
    return folder


def opened(folder: Path) -> dict:
    """Seconds to open a cache, MiB of memory that this takes, at its peak and afterwards."""
    before, start = _memory("VmRSS"), time.perf_counter()
    reader = CacheReader(folder)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "peak_mib": _memory("VmHWM") - before,
        "anonymous_mib": _memory("RssAnon"),
        "bytes_per_row": reader.metadata.memory_usage(deep=True).sum() / len(reader),
    }


def drawn(folder: Path, allowed: int, pairs: int) -> dict:
    """MiB of memory of drawing pairs from a cache, when only `allowed` more may be taken.

    Mapped pages are no part of it: the system takes them back whenever it needs them.
    """
    torch.set_num_threads(1)
    reader = CacheReader(folder)
    pictures = PairDataset(reader, np.arange(len(reader)))
    pictures[0]
    resource.setrlimit(resource.RLIMIT_DATA, (int(_memory("VmData") + allowed) * 2**20,) * 2)
    peaks = []
    for number in range(pairs):
        pictures[number]
        peaks.append(_memory("RssAnon"))
    half = len(peaks) // 2
    return {
        "cache_mib": sum(part.stat().st_size for part in reader.parts) / 2**20,
        "allowed_mib": allowed,
        "first_half_mib": max(peaks[:half]),
        "second_half_mib": max(peaks[half:]),
    }


def _memory(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(s.split()[1]) / 1024 for s in status.splitlines() if s.startswith(name))


def listing(folder: Path, parts: int) -> dict:
    """Seconds of one flush of a cache of so many parts, and of the end of its run; bytes of its
    lists. Every tenth file has failed."""
    settings = CacheSettings(maps=())
    with CacheWriter(folder, settings) as writer:
        writer._checksums = {part_name(n): "0" * 64 for n in range(parts)}
        for number in range(parts * _ROWS // 10):
            path = f"fake/generator_{number % 7}/{number:09d}.jpg"
            writer.failures.append(Failure(path, "no_face", "no face was found"))
        writer.flush()
        writer.failures.append(Failure("another", "no_face", "no face was found"))
        start = time.perf_counter()
        writer.flush()
        seconds, start = time.perf_counter() - start, time.perf_counter()
    end = time.perf_counter() - start
    size = {name: (folder / name).stat().st_size for name in ("cache.json", "failures.csv")}
    return {"seconds": seconds, "seconds_at_the_end": end, "bytes": size}


def measure(data: Path, effort: Effort, folder: Path) -> dict:
    """Everything, as JSON values.

    Raises:
        ValueError: no pictures, or none with a face.
    """
    torch.set_num_threads(1)
    items = [item for item in find_items(data).items if not item.is_video]
    if not items:
        raise ValueError(f"{data}: expected pictures but found none")
    chosen = np.random.default_rng(0).permutation(len(items))[: effort.pictures]
    spent, size = stages([items[index] for index in chosen], folder)
    results = {"cpu_seconds_per_1000_faces": spent, "bytes_per_face": size, "opened": {}}
    plain = CacheSettings(maps=())
    for rows in effort.rows:
        cache = write_made_up(folder / f"rows-{rows}", rows, plain, b"")
        results["opened"][rows] = in_fresh_process(opened, cache)
    results["flush"] = {n: listing(folder / f"parts-{n}", n) for n in effort.parts}
    whole = CacheSettings(maps=MAPS["both"])
    rows = int(effort.cache * 2**20 / size["ppm"]["both"])
    cache = write_made_up(folder / "pairs", rows, whole, None)
    results["drawn"] = in_fresh_process(drawn, cache, effort.allowed, effort.pairs)
    return results


def table(results: dict) -> str:
    """The results for people."""
    spent = results["cpu_seconds_per_1000_faces"]
    sizes = [results["bytes_per_face"][codec] for codec in CODECS]
    d = results["drawn"]
    return "\n\n".join(
        [
            markdown(
                ["stage", "CPU s per 1,000 faces"],
                [
                    *([name, f"{value:.2f}"] for name, value in spent.items()),
                    ["all", f"{sum(spent.values()):.1f}"],
                ],
            ),
            markdown(
                ["maps", "ppm, KiB a face", "png"],
                [[name, *(f"{size[name] / 1024:.0f}" for size in sizes)] for name in MAPS],
            ),
            markdown(
                ["rows", "s to open", "peak MiB"],
                [
                    [f"{int(rows):,}", f"{found['seconds']:.2f}", f"{found['peak_mib']:.0f}"]
                    for rows, found in results["opened"].items()
                ],
            ),
            markdown(
                ["parts", "ms a flush", "ms at the end", "cache.json, KiB", "failures.csv, KiB"],
                [
                    [
                        f"{int(parts):,}",
                        f"{1000 * found['seconds']:.1f}",
                        f"{1000 * found['seconds_at_the_end']:.0f}",
                        *(f"{value / 1024:.0f}" for value in found["bytes"].values()),
                    ]
                    for parts, found in results["flush"].items()
                ],
            ),
            f"Pairs drawn from {d['cache_mib']:.0f} MiB with {d['allowed_mib']} MiB allowed: "
            f"{d['first_half_mib']:.0f} MiB in use at most in the first half, "
            f"{d['second_half_mib']:.0f} in the second.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(str(__doc__))
    parser.add_argument("data", type=Path, metavar="DATA", help="pictures with faces")
    parser.add_out()
    parser.add_argument("--quick", action="store_true", help="few of everything")
    args = parser.parse_args(argv)
    effort = QUICK if args.quick else Effort()
    with tempfile.TemporaryDirectory() as folder:
        try:
            results = measure(args.data, effort, Path(folder))
        except (ValueError, FileNotFoundError) as error:
            parser.error(str(error))
    values = {"effort": asdict(effort), "machine": machine(), **results}
    save_result(args.out, parser.command(argv), values, table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
