"""python -m preprocess.crop DATA: find and align the faces of pictures and clips, write a cache.

Crops, their spectra and residuals; `ffdetect crop` leaves out the maps, which the shipped networks
do not read and which a reader of the cache computes where they are asked for.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

from preprocess.arguments import finish
from preprocess.cache.faces import CODECS, MAPS, CacheSettings
from preprocess.cache.writer import CacheWriter
from preprocess.faces.crop_maps import RESIDUALS
from preprocess.faces.face import ALIGNMENTS, CropSettings
from preprocess.io.decode import MAX_MEGAPIXELS
from preprocess.io.sources import Item
from preprocess.work.ray import work_on_ray

from .arguments import new_parser
from .extract import make_extract
from .fill import fill
from .run import add_common, run

PROG = "python -m preprocess.crop"
ENGINES = ("processes", "ray")
PICTURES_PER_WORKER = 4  # starting one costs about as much as cropping so many
# What the work is done with.
_WORK = ("preprocess.extract", "preprocess.faces.mtcnn_onnx")


def main(argv: Sequence[str] | None = None, prog: str = PROG, maps: Sequence[str] = ()) -> int:
    """Exit status: see `run.run`; `maps` are cached if the arguments name none."""
    return run(
        make_parser(prog, maps),
        argv,
        holds="pictures or clips",
        media=("picture", "clip"),
        modules=_WORK,
        settings=_settings,
        fill=lambda items, writer, args, **options: crop_items(
            items,
            writer,
            device=args.device,
            max_megapixels=args.megapixels,
            engine=args.engine,
            ray_address=args.ray_address,
            **options,
        ),
    )


def crop_items(
    items: Sequence[Item],
    writer: CacheWriter[CacheSettings],
    *,
    device: str = "cpu",
    max_megapixels: float = MAX_MEGAPIXELS,
    workers: int | None = 0,
    engine: str = "processes",
    ray_address: str | None = None,
    **options: Any,
) -> None:
    """Add the faces of every item that the cache does not hold yet, in the order of the items.

    Args:
        workers: see `fill`; with "ray" it may be None, for one on each core.
        engine: one of `ENGINES`.
        ray_address: of a running Ray cluster; None starts one on this machine.
        options: `timeout` and `quiet`, see `fill`.

    Raises:
        CacheError, StorageError, WorkerError: see `fill`.
    """
    frames = writer.settings.frames

    def pictures(item: Item) -> int:
        return frames if item.is_video else 1

    on_ray = partial(
        work_on_ray,
        workers=workers,
        address=ray_address,
        gpus=0 if device.startswith("cpu") else 1,
        cost=lambda job: sum(map(pictures, job)),
    )
    fill(
        items,
        writer,
        partial(make_extract, writer.settings, device, max_megapixels),
        cost=pictures,
        per_job=1,
        per_worker=PICTURES_PER_WORKER,
        workers=workers or 0,
        engine=on_ray if engine == "ray" else None,
        **options,
    )


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


def make_parser(prog: str = PROG, maps: Sequence[str] = ()) -> argparse.ArgumentParser:
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
    add(
        "--maps",
        default=",".join(maps) or "none",
        help=f"what to keep beside the crop: {','.join(MAPS)}, one of them, or none (%(default)s)",
    )
    add("--residual", choices=RESIDUALS, default=cache.residual, help="(%(default)s)")
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
    finish(partial(main, maps=MAPS))
