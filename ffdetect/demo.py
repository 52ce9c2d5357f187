"""python -m ffdetect.demo FOLDER: write a few real pictures and fakes of them to try things on.

With --sheet FILE.png PICTURE ... it draws what the shipped weights say of the real ones and of the
pictures given, largest face each.

The face is `skimage.data.astronaut()` (Eileen Collins, a NASA picture in the public domain) from
scikit-image's wheel; the fakes are self-blended from it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ffdetect.fakes.blend import self_blend
from ffdetect.scoring.detector import Detector
from preprocess.arguments import finish, new_parser
from preprocess.faces.detect import FaceDetector
from preprocess.io.storage import write_whole

_SIDE, _CAPTION, _GAP, _COLUMNS = 200, 40, 12, 5
_COLOURS = {"real": (40, 120, 60), "fake": (180, 40, 40), "uncertain": (130, 100, 20)}


def write_pictures(folder: Path) -> list[Path]:
    """Three real pictures under real/ and three self-blended ones under fake/."""
    from skimage.data import astronaut

    portrait = astronaut()
    landmarks = FaceDetector().detect(portrait)[0].landmarks
    files = []
    for target in ("real", "fake"):
        (folder / target).mkdir(parents=True, exist_ok=True)
        for number, (side, suffix) in enumerate([(512, "png"), (400, "jpg"), (320, "webp")]):
            pixels = portrait
            if target == "fake":
                pixels = self_blend(portrait, landmarks, np.random.default_rng(number))
            picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
            files.append(folder / target / f"astronaut_{side}.{suffix}")
            picture.save(files[-1], quality=92)
    return files


def verdict_sheet(files: Sequence[Path], detector: Detector) -> Image.Image:
    """Pictures in a grid, each with its largest face's box, verdict and score under it."""
    lines = -(-len(files) // _COLUMNS)
    width, height = _SIDE + _GAP, _SIDE + _CAPTION + _GAP
    size = (min(len(files), _COLUMNS) * width + _GAP, lines * height + _GAP)
    sheet = Image.new("RGB", size, "white")
    for number, file in enumerate(files):
        place = (_GAP + number % _COLUMNS * width, _GAP + number // _COLUMNS * height)
        sheet.paste(_tile(file, detector), place)
    return sheet


def _tile(file: Path, detector: Detector) -> Image.Image:
    """One picture over what is said of it."""
    tile = Image.new("RGB", (_SIDE, _SIDE + _CAPTION), "white")
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(13)
    faces = detector.analyze(file).faces
    with Image.open(file) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    scale = _SIDE / max(picture.size)
    tile.paste(picture.resize([round(length * scale) for length in picture.size]), (0, 0))
    said, colour = "no face", (90, 90, 90)
    if faces:
        face = faces[0]
        said, colour = f"{face.verdict} {face.score:.2f}", _COLOURS[face.verdict]
        draw.rectangle([float(end) * scale for end in face.box], outline=colour, width=2)
    draw.text((0, _SIDE + 3), said, colour, ImageFont.load_default(16))
    draw.text((0, _SIDE + 22), file.stem, "black", font)
    return tile


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser("python -m ffdetect.demo", __doc__, "pictures/ --sheet verdicts.png")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("pictures", type=Path, nargs="*", metavar="PICTURE")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png")
    args = parser.parse_args(argv)
    try:
        files = write_pictures(args.folder)
    except ImportError:
        parser.error("the demo needs the [demo] extra: pip install 'ffdetect[demo]'")
    print("\n".join(str(file) for file in files))
    if args.sheet:
        reals = [file for file in files if file.parent.name == "real"]
        drawn = io.BytesIO()
        verdict_sheet([*reals, *args.pictures], Detector.load()).save(drawn, "PNG")
        args.sheet.parent.mkdir(parents=True, exist_ok=True)
        write_whole(args.sheet, drawn.getvalue())
    return 0


if __name__ == "__main__":
    finish(main)
