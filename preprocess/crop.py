"""python -m preprocess.crop DATA: find and align the faces of pictures and clips, write a cache."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial

from tqdm import tqdm

from preprocess.arguments import finish
from preprocess.cache.errors import Failure
from preprocess.cache.faces import CODECS, MAPS, CacheSettings
from preprocess.cache.writer import CacheWriter
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import ALIGNMENTS, CropSettings
from preprocess.io.decode import MAX_MEGAPIXELS
from preprocess.io.formats import RESIDUAL_NAMES
from preprocess.io.sources import Item
from preprocess.work.pool import work
from preprocess.work.ray import work_on_ray

from .arguments import new_parser
from .extract import Result, Rows, extract, make_extract
from .run import TIMEOUT, Command, add_common, record_all, run

PROG = "python -m preprocess.crop"
ENGINES = ("processes", "ray")
PICTURES_PER_WORKER = 4  # starting one costs about as much as cropping so many
# What the work is done with.
_WORK = ("preprocess.extract", "preprocess.faces.mtcnn_onnx")


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: see `run.run`."""
    command = Command(
        holds="pictures or clips",
        media=("picture", "clip"),
        ending="",
        modules=_WORK,
        settings=_settings,
        fill=lambda items, writer, args: crop_items(
            items,
            writer,
            device=args.device,
            max_megapixels=args.megapixels,
            workers=args.workers,
            timeout=args.timeout,
            quiet=args.quiet,
            engine=args.engine,
            ray_address=args.ray_address,
        ),
    )
    return run(command, make_parser(prog), argv)


def crop_items(
    items: Sequence[Item],
    writer: CacheWriter,
    *,
    device: str = "cpu",
    max_megapixels: float = MAX_MEGAPIXELS,
    workers: int | None = 0,
    timeout: float = TIMEOUT,
    quiet: bool = False,
    engine: str = "processes",
    ray_address: str | None = None,
) -> None:
    """Add the faces of every item that the cache does not hold yet; show progress.

    Rows are added in the order of the items, so stopped runs, and runs with any number of
    workers, fill a cache with the same rows in the same order.

    Args:
        workers: processes, see `pool.work`; 0 works in this one, where a file that hangs or
            crashes its decoder stops the run.
        timeout: seconds for a picture, or for a frame of a clip.
        engine: one of `ENGINES`; with "ray", `workers` may be None, for one on each core.
        ray_address: of a running Ray cluster; None starts one on this machine.

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
        faces += len(result.table) if isinstance(result, Rows) else 0
        bar.set_postfix_str(f"{faces / (time.monotonic() - start):.1f} faces/s", refresh=False)
        bar.update()

    frames = writer.settings.frames
    task = partial(make_extract, writer.settings, device, max_megapixels)
    if engine == "ray":
        results = work_on_ray(
            task,
            todo,
            workers=workers,
            timeout=timeout,
            address=ray_address,
            arrived=arrived,
            gpus=0 if device.startswith("cpu") else 1,
            cost=lambda item: frames if item.is_video else 1,
        )
    elif workers:
        crew = min(workers, _worth_starting(todo, frames))
        results = work(task, todo, workers=crew, timeout=timeout, arrived=arrived)
    else:
        results = _work_here(todo, writer.settings, device, max_megapixels, arrived)
    with bar, closing(results):
        record_all(results, writer, _record)


def _work_here(
    items: Sequence[Item],
    settings: CacheSettings,
    device: str,
    max_megapixels: float,
    arrived: Callable[[object], None],
) -> Generator[tuple[Item, Result], None, None]:
    detector = FaceDetector(settings.crop, device)
    for item in items:
        result = extract(item, detector, settings, max_megapixels)
        arrived(result)
        yield item, result


def _record(writer: CacheWriter[CacheSettings], item: Item, result: Rows | Failure) -> None:
    if isinstance(result, Rows):
        writer.add_table(result.table)
        writer.note(item.path, result.notes)
    else:
        writer.fail(result)


def _worth_starting(items: Sequence[Item], frames: int) -> int:
    """How many workers have enough to do to be worth their start."""
    pictures = sum(frames if item.is_video else 1 for item in items)
    return -(-pictures // PICTURES_PER_WORKER)


def _settings(args: argparse.Namespace) -> CacheSettings:
    if not args.megapixels > 0:
        raise ValueError(f"expected --megapixels above 0 but got {args.megapixels:g}")
    if args.engine != "ray":  # whose machines have other devices
        _check_device(args.device)
    maps = tuple(name for name in args.maps.split(",") if name and name != "none")
    crop = CropSettings(
        size=args.size,
        margin=args.margin,
        align=args.align,
        native=args.native,
        detail=args.detail,
        min_face=args.min_face,
        min_probability=args.min_probability,
    )
    return CacheSettings(crop, maps, args.residual, args.codec, args.faces, args.frames)


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # by how torch was built
        reason = str(error).splitlines()[0]
        raise ValueError(f"expected --device cpu or cuda but got {device!r}: {reason}") from error


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    crop, cache = CropSettings(), CacheSettings()
    parser = new_parser(
        prog, __doc__, "data/ --out cache/data", "clips/ --out cache/clips --frames 16"
    )
    add_common(parser, "a folder of pictures and clips, or one file", "NAME")
    add = parser.add_argument
    add("--size", type=int, default=crop.size, help="side of a crop in pixels (%(default)s)")
    add("--margin", type=float, default=crop.margin, help="share of the face's side (%(default)s)")
    add("--align", choices=ALIGNMENTS, default=crop.align, help="(%(default)s)")
    add(
        "--native",
        type=float,
        default=crop.native,
        help="never resample within this factor of "
        "the native scale; 1: always resample (%(default)s)",
    )
    add(
        "--detail",
        type=int,
        default=crop.detail,
        help="pixels across the crop that larger faces are shrunk to, before they are enlarged to "
        "--size; 0: they keep what the crop can hold (%(default)s)",
    )
    add(
        "--min-face",
        type=int,
        default=crop.min_face,
        help="in pixels; 1.25 times as large in pictures of more than 2 megapixels (%(default)s)",
    )
    add("--min-probability", type=float, default=crop.min_probability, help="(%(default)s)")
    add("--faces", choices=("largest", "all"), default=cache.faces, help="(%(default)s)")
    add("--frames", type=int, default=cache.frames, help="frames per clip (%(default)s)")
    add("--maps", default=",".join(MAPS), help="comma-separated, or none (%(default)s)")
    add("--residual", choices=RESIDUAL_NAMES, default=cache.residual, help="(%(default)s)")
    add("--codec", choices=CODECS, default=cache.codec, help="lossless coding (%(default)s)")
    add(
        "--megapixels",
        type=float,
        default=MAX_MEGAPIXELS,
        help="refuse larger pictures (%(default)s)",
    )
    add(
        "--device",
        default="cpu",
        help="where MTCNN's networks run: cpu, or cuda for "
        "networks of each worker on a GPU (%(default)s)",
    )
    add(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="ray: workers on all machines of a "
        "Ray cluster, whose machines see DATA under the same path (%(default)s)",
    )
    add(
        "--ray-address",
        metavar="ADDRESS",
        help="of that cluster, auto for the one this machine belongs to (default: start one here)",
    )
    return parser


if __name__ == "__main__":
    finish(main)
