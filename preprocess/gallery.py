"""python -m preprocess.gallery CACHE --out sheet.png: crops beside their spectrum and residual."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from preprocess.arguments import check_outputs, finish, new_parser, unwritten
from preprocess.cache.errors import CacheError
from preprocess.cache.reader import CacheReader
from preprocess.io.sources import printable
from preprocess.io.storage import StorageError, as_path, write_whole
from preprocess.spread import evenly

PROG = "python -m preprocess.gallery"
_CAPTION = 34
_GAP = 8
_MOST = 2000  # faces on a sheet, which is in memory as a whole
_COLOURS = {0: (40, 120, 60), 1: (180, 40, 40), -1: (90, 90, 90)}
_NAMES = {0: "real", 1: "fake", -1: "unlabelled"}


def gallery(reader: CacheReader, count: int = 24, columns: int = 4, side: int = 160) -> Image.Image:
    """A contact sheet of `count` faces spread over the cache, real and fake in turn.

    Each face shows its crop, its log spectrum (zero frequency in the middle, bright is strong)
    and its residual (grey is zero, contrast stretched).
    """
    rows = _choose(reader.metadata["target"].to_numpy(), count)
    columns = min(columns, len(rows))
    width = 3 * side + _GAP
    height = side + _CAPTION + _GAP
    lines = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP, lines * height + _GAP), "white")
    for place, row in enumerate(rows):
        x, y = _GAP + place % columns * width, _GAP + place // columns * height
        for number, picture in enumerate(_pictures(reader, row)):
            tile = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(tile, (x + number * side, y + _CAPTION))
        _caption(sheet, (x, y), reader.metadata.iloc[row], 3 * side)
    return sheet


def _choose(target: np.ndarray, count: int) -> list[int]:
    """Rows spread evenly over each class, the classes taking turns; a long one fills up."""
    classes = [np.flatnonzero(target == value) for value in (0, 1, -1)]
    shares = [0] * len(classes)
    for _ in range(min(count, len(target))):
        open_classes = [i for i, rows in enumerate(classes) if shares[i] < len(rows)]
        shares[min(open_classes, key=lambda i: shares[i])] += 1
    spread = [evenly(rows, share) for rows, share in zip(classes, shares, strict=True) if share]
    longest = max(len(rows) for rows in spread)
    return [int(rows[i]) for i in range(longest) for rows in spread if i < len(rows)]


def _pictures(reader: CacheReader, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crop, spectrum and residual as uint8 RGB."""
    bright = show_spectrum(reader.spectrum(row))
    return reader.crop(row), np.repeat(bright[..., None], 3, 2), show_residual(reader.residual(row))


def show_spectrum(half: np.ndarray) -> np.ndarray:
    """A log spectrum of `maps.spectrum` for the eye: uint8 128 x 128, zero in row and column 64.

    The half spectrum of a real picture and its point reflection make the whole one. Contrast is
    stretched; bright is strong.
    """
    half = half.astype(np.float32)
    mirrored = np.roll(half[::-1, 1:-1][:, ::-1], 1, axis=0)
    whole = np.concatenate([mirrored[:, -(half.shape[1] - 2) :], half], 1)
    low, high = np.quantile(whole, [0.02, 0.995])
    bright = ((whole - low) / max(high - low, 1e-6)).clip(0, 1) * 255
    return bright.astype(np.uint8)


def show_residual(noise: np.ndarray) -> np.ndarray:
    """A residual C x H x W of `maps.residual` for the eye: uint8 H x W x C, grey is zero."""
    strength = max(float(np.quantile(np.abs(noise.astype(np.float32)), 0.98)), 1.0)
    stretched = (noise.astype(np.float32) / strength * 127 + 128).clip(0, 255)
    return stretched.astype(np.uint8).transpose(1, 2, 0)


def _caption(sheet: Image.Image, place: tuple[int, int], row, width: int) -> None:
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    target = int(row["target"])
    kind = _NAMES[target]
    label = kind if row["generator"] in ("", kind) else f"{kind} {row['generator']}"
    size = f"{row['source_width']}x{row['source_height']} {row['source_format']}"
    quality = f" q{row['jpeg_quality']}" if row["jpeg_quality"] >= 0 else ""
    name = row["path"] if row["frame"] < 0 else f"{row['path']} frame {row['frame']}"
    name = name.replace("\n", "\\n")  # Pillow measures single lines only
    while draw.textlength(name, font) > width and len(name) > 8:
        name = "..." + name[8:]
    draw.text(place, f"{label}   {size}{quality}", _COLOURS[target], font)
    draw.text((place[0], place[1] + 15), name, "black", font)


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "cache/data --out sheet.png --count 48 --columns 6")
    parser.add_argument("cache", type=as_path, metavar="CACHE")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"), help="(%(default)s)")
    parser.add_argument("--count", type=int, default=24, help="faces (%(default)s)")
    parser.add_argument("--columns", type=int, default=4, help="faces in a row (%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0; 1 if there is nothing to show, or it cannot be written; 2 wrong arguments."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    if not 1 <= args.count <= _MOST or args.columns < 1:
        parser.error(
            f"expected 1 to {_MOST} faces and at least 1 column "
            f"but got {args.count}, {args.columns}"
        )
    try:
        check_outputs({"--out": args.out})
        reader = CacheReader(args.cache)
    except (ValueError, StorageError) as error:
        parser.error(printable(str(error)))
    if not len(reader):
        print(printable(f"{args.cache}: expected faces but the cache is empty"), file=sys.stderr)
        return 1
    try:
        drawn = io.BytesIO()
        gallery(reader, args.count, args.columns).save(drawn, "PNG")
        write_whole(args.out, drawn.getvalue())
    except (CacheError, StorageError) as error:  # a part that cannot be read
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        return unwritten(args.out, error)
    print(printable(str(args.out)))
    return 0


if __name__ == "__main__":
    finish(main)
