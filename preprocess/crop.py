"""python -m preprocess.crop DATA: find and align the faces of pictures and clips, write a cache."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from .cache import CacheWriter
from .decode import MAX_MEGAPIXELS, DecodeError, Picture, decode_image, decode_video
from .faces import ALIGNMENTS, CropSettings, FaceDetector, crop_face
from .maps import RESIDUALS, residual, spectrum
from .schema import CODECS, MAPS, CachedFace, CacheError, CacheSettings, Failure
from .sources import Item, find_items, printable


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, also if some files failed; 1 if none gave a face; 2 for wrong arguments."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        settings = _settings(args)
        listing = find_items(args.data, args.labels)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    print(listing.report())
    if not listing.items:
        print(f"{args.data}: expected pictures or clips but found none", file=sys.stderr)
        return 1
    name = args.data.resolve().name if args.data.is_dir() else args.data.stem
    out = args.out or Path("cache", name)
    start = time.monotonic()
    try:
        with CacheWriter(out, settings, overwrite=args.overwrite, retry=args.retry) as writer:
            before = writer.faces
            _check_labels(writer, listing.items)
            crop_items(listing.items, writer, device=args.device, max_megapixels=args.megapixels)
    except CacheError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from here ({out})", file=sys.stderr)
        return 130
    print(_report(out, writer, listing.items, writer.faces - before, time.monotonic() - start))
    return 0 if writer.faces else 1


def crop_items(
    items: Sequence[Item],
    writer: CacheWriter,
    *,
    device: str = "cpu",
    max_megapixels: float = MAX_MEGAPIXELS,
) -> None:
    """Add the faces of every item that the cache does not hold yet; show progress."""
    detector = FaceDetector(writer.settings.crop, device)
    todo = [item for item in items if item.path not in writer.done]
    start, before = time.monotonic(), writer.faces
    with tqdm(total=len(items), initial=len(items) - len(todo), unit="file") as bar:
        for item in todo:
            try:
                rows = crop_item(item, detector, writer.settings, max_megapixels)
            except DecodeError as error:
                writer.fail(Failure(item.path, "unreadable", str(error)))
            else:
                if rows:
                    writer.add(rows)
                else:
                    writer.fail(Failure(item.path, "no_face", "no face was found"))
            bar.update()
            speed = (writer.faces - before) / (time.monotonic() - start)
            bar.set_postfix_str(f"{speed:.1f} faces/s", refresh=False)


def crop_item(
    item: Item, detector: FaceDetector, settings: CacheSettings, max_megapixels: float
) -> list[CachedFace]:
    """All rows of one picture or clip, largest face of a picture first; empty without a face.

    Raises:
        DecodeError: the file cannot be read.
    """
    if item.is_video:
        pictures = decode_video(item.file, frames=settings.frames, max_megapixels=max_megapixels)
    else:
        pictures = [decode_image(item.file, max_megapixels=max_megapixels)]
    rows = [row for picture in pictures for row in face_rows(item, picture, detector, settings)]
    if rows and settings.maps:
        for row, maps in zip(rows, _maps(rows, settings), strict=True):
            row.spectrum, row.residual = maps
    return rows


def face_rows(
    item: Item, picture: Picture, detector: FaceDetector, settings: CacheSettings
) -> list[CachedFace]:
    """The rows of one decoded picture, without maps, largest face first."""
    faces = detector.detect(picture.pixels)
    if settings.faces == "largest":
        faces = faces[:1]
    return [
        CachedFace(
            key=f"{item.path}#{picture.frame}#{number}",
            path=item.path,
            frame=picture.frame,
            face=number,
            target=item.target,
            generator=item.generator,
            group=item.group,
            split=item.split,
            box=face.box,
            landmarks=face.landmarks,
            probability=face.probability,
            source_width=picture.width,
            source_height=picture.height,
            source_format=picture.format,
            jpeg_quality=picture.jpeg_quality,
            crop=crop_face(picture.pixels, face, settings.crop),
        )
        for number, face in enumerate(faces)
    ]


def _maps(rows: Sequence[CachedFace], settings: CacheSettings):
    for row in rows:
        crop = torch.from_numpy(row.crop).permute(2, 0, 1)[None]
        yield (
            spectrum(crop)[0].numpy() if "spectrum" in settings.maps else None,
            residual(crop, settings.residual)[0].numpy() if "residual" in settings.maps else None,
        )


def _check_labels(writer: CacheWriter, items: Sequence[Item]) -> None:
    """Rows keep the label they were written with, so other labels need another cache."""
    changed = [i.path for i in items if writer.done.get(i.path) not in (None, i.target)]
    if changed:
        raise CacheError(
            f"{writer.path}: {len(changed)} files were cached with another label "
            f"(first: {changed[0]!r}); choose another --out, or start afresh with --overwrite"
        )


def _report(out: Path, writer: CacheWriter, items: Sequence[Item], new: int, seconds: float) -> str:
    kinds = [failure.kind for failure in writer.failures]
    size = sum(part.stat().st_size for part in out.glob("part-*.arrow"))
    lines = [
        f"cache     {out}",
        f"files     {len(items)}",
        f"faces     {writer.faces} ({new} new)",
        f"no face   {kinds.count('no_face')}",
        f"failed    {kinds.count('unreadable')}",
        f"size      {size / 2**20:.1f} MiB",
        f"time      {seconds:.1f} s",
    ]
    if kinds:
        lines.append(f"reasons   {out / 'failures.csv'}")
    return printable("\n".join(lines))


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
    add("data", type=Path, metavar="DATA", help="a folder of pictures and clips, or one file")
    add("--out", type=Path, help="the cache's folder (default: cache/NAME of DATA)")
    add("--labels", type=Path, help="label file (default: looked for beside and in DATA)")
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
    add("--residual", choices=sorted(RESIDUALS), default=cache.residual, help="(%(default)s)")
    add("--codec", choices=CODECS, default=cache.codec, help="lossless coding (%(default)s)")
    add("--megapixels", type=float, default=MAX_MEGAPIXELS, help="refuse larger pictures "
        "(%(default)s)")  # fmt: skip
    add("--device", default="cpu", help="where MTCNN runs: cpu or cuda (%(default)s)")
    add("--overwrite", action="store_true", help="drop the cache that is there")
    add("--retry", action="store_true", help="try the files again that failed before")
    return parser


if __name__ == "__main__":
    sys.exit(main())
