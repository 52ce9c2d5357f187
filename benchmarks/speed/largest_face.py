"""python -m benchmarks.speed.largest_face FACES: is the face that is found fast the largest?

`FaceDetector.largest` against the first face of `FaceDetector.detect`, on pictures of FACES, spread
over its sources, and on pictures made of several of them: several faces of different sizes, two
of nearly the same size, and a large face upside down, which is none or a doubtful one, beside a
small upright one. Both searches take turns on one thread; times are CPU time. Of two faces within
2 % of each other's side either may count as the largest: a box a pixel wider turns the order.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch

from benchmarks._harness import Parser, save_result
from ffdetect.evaluation.tables import markdown_of
from ffdetect.scoring.sheet import new_sheet, save_sheet
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import Face
from preprocess.io.decode import decode_image

from .preprocess import overlap, spread_files

_SAME = 0.5  # overlap from which on two boxes are of one face; others of a picture are far away
_ALIKE = 0.02  # of a face's side: faces that differ by less are of one size
_AROUND = 0.5  # of a face's side, what of its picture is shown in a picture of several
_SHOWN = 24  # differences on a sheet

T = TypeVar("T")


@dataclass(frozen=True)
class Portrait:
    """A picture cut around its only face, whose longer side is `side` pixels."""

    pixels: np.ndarray
    side: float

    @classmethod
    def of(cls, pixels: np.ndarray, face: Face) -> Portrait:
        side = float((face.box[2:] - face.box[:2]).max())
        corner = np.maximum(face.box[:2] - _AROUND * side, 0).astype(int)
        end = (face.box[2:] + _AROUND * side).astype(int)
        return cls(pixels[corner[1] : end[1], corner[0] : end[0]], side)

    def sized(self, side: float) -> np.ndarray:
        """With a face of that side."""
        scale = side / self.side
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        return cv2.resize(self.pixels, None, fx=scale, fy=scale, interpolation=method)


def several(portraits: Sequence[Portrait], random: np.random.Generator) -> np.ndarray:
    """Three to six faces of 50 to 250 px."""
    count = int(random.integers(3, 7))
    return _beside([_one(portraits, random).sized(random.uniform(50, 250)) for _ in range(count)])


def two_alike(portraits: Sequence[Portrait], random: np.random.Generator) -> np.ndarray:
    """Two faces of 60 to 200 px, one up to a tenth larger."""
    side, more = random.uniform(60, 200), random.uniform(1, 1.1)
    return _beside([_one(portraits, random).sized(s) for s in (side, side * more)])


def false_beside_true(portraits: Sequence[Portrait], random: np.random.Generator) -> np.ndarray:
    """An upright face of 50 to 120 px, and one upside down that is 1.5 to 3 times as large."""
    side = random.uniform(50, 120)
    false = _one(portraits, random).sized(side * random.uniform(1.5, 3))[::-1]
    return _beside([false, _one(portraits, random).sized(side)])


GROUPS = {"several": several, "two alike": two_alike, "false beside true": false_beside_true}


def _one(portraits: Sequence[Portrait], random: np.random.Generator) -> Portrait:
    return portraits[int(random.integers(len(portraits)))]


def _beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in rows of three, on grey."""
    height = max(len(picture) for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    canvas = np.full((-(-len(pictures) // 3) * height, min(len(pictures), 3) * width, 3), 128)
    for number, picture in enumerate(pictures):
        top, left = number // 3 * height, number % 3 * width
        canvas[top : top + len(picture), left : left + picture.shape[1]] = picture
    return canvas.astype(np.uint8)


@dataclass(frozen=True)
class Look:
    """What both searches made of one picture, and their CPU seconds.

    Attributes:
        pixels: of a picture in which they found different faces, else None.
    """

    pixels: np.ndarray | None
    faces: list[Face]
    fast: Face | None
    full_seconds: float
    fast_seconds: float

    @property
    def full(self) -> Face | None:
        """The largest face of the full search."""
        return self.faces[0] if self.faces else None

    @property
    def same(self) -> bool:
        if self.full is None or self.fast is None:
            return self.full is self.fast
        return overlap(self.full.box, self.fast.box) >= _SAME

    @property
    def grown(self) -> float:
        """How many times as long the fast one's side is, of sides of equal squares; nan where only
        one found a face."""
        if self.full is None or self.fast is None:
            return 1.0 if self.same else float("nan")
        return float(np.sqrt(self.fast.area / self.full.area))


def look(detector: FaceDetector, pixels: np.ndarray, fast_first: bool) -> Look:
    """Both searches, in either order."""

    def timed(search: Callable[[], T]) -> tuple[T, float]:
        start = time.process_time()
        return search(), time.process_time() - start

    def full() -> list[Face]:
        return detector.detect(pixels)

    def fast() -> Face | None:
        return detector.largest(pixels)

    if fast_first:
        (quick, less), (whole, more) = timed(fast), timed(full)
    else:
        (whole, more), (quick, less) = timed(full), timed(fast)
    found = Look(pixels, whole, quick, more, less)
    return replace(found, pixels=None) if found.same else found


def look_at_all(faces: Path, count: int, groups: int) -> Iterator[tuple[str, list[Look]]]:
    """Kind of picture -> its looks: `count` pictures of a folder, and `groups` of each kind."""
    detector, portraits = FaceDetector(), []
    files = spread_files(faces, count, ".jpg")
    detector.largest(decode_image(files[0]).pixels)  # kernels are chosen on first use
    looks = []
    for number, file in enumerate(files):
        pixels = decode_image(file).pixels
        looks.append(look(detector, pixels, fast_first=number % 2 == 0))
        if len(looks[-1].faces) == 1:
            portraits.append(Portrait.of(pixels, looks[-1].faces[0]))
    yield "single", looks
    for kind, make in GROUPS.items():
        random = np.random.default_rng(0)
        pictures = (make(portraits, random) for _ in range(groups))
        yield kind, [look(detector, made, number % 2 == 0) for number, made in enumerate(pictures)]


def summary(looks: Sequence[Look]) -> dict:
    """Of one kind of picture."""
    both = [one for one in looks if one.same and one.full is not None]
    overlaps = [overlap(one.full.box, one.fast.box) for one in both]  # type: ignore[union-attr]
    other = [one.grown for one in looks if not one.same]
    full, fast = (
        np.array([getattr(one, f"{way}_seconds") for one in looks]) * 1000
        for way in ("full", "fast")
    )
    rows = np.random.default_rng(0).integers(0, len(looks), (1000, len(looks)))
    return {
        "pictures": len(looks),
        "with a face": sum(one.full is not None for one in looks),
        "same": sum(one.same for one in looks) / len(looks),
        "same or as large": 1 - sum(not abs(grown - 1) <= _ALIKE for grown in other) / len(looks),
        "missed": sum(one.full is not None and one.fast is None for one in looks),
        "smaller": sum(grown < 1 for grown in other),
        "larger": sum(grown > 1 for grown in other),
        "equal boxes": float(np.mean(np.array(overlaps) == 1)),
        "overlap": dict(zip(("0.5 %", "5 %", "50 %"), _quantiles(overlaps), strict=True)),
        "mean side": float(np.mean([one.grown for one in both])),
        "full, ms": float(full.mean()),
        "fast, ms": float(fast.mean()),
        "ratio": float(full.sum() / fast.sum()),
        "ratio, 95 %": np.quantile(full[rows].sum(1) / fast[rows].sum(1), [0.025, 0.975]).tolist(),
    }


def _quantiles(values: Sequence[float]) -> list[float]:
    return np.quantile(values, [0.005, 0.05, 0.5]).tolist()


def table(results: dict[str, dict]) -> str:
    """As Markdown."""
    return markdown_of(
        [
            {
                "pictures": kind,
                "": found["pictures"],
                "same face": f"{found['same']:.2%}",
                "same or as large": f"{found['same or as large']:.2%}",
                "none, smaller, larger instead": f"{found['missed']}, {found['smaller']}, "
                f"{found['larger']}",
                "overlap of boxes: .5 %, 5 %, 50 %": ", ".join(
                    f"{value:.2f}" for value in found["overlap"].values()
                ),
                "mean side": f"{found['mean side']:.3f}",
                "full, CPU ms": f"{found['full, ms']:.1f}",
                "fast, CPU ms": f"{found['fast, ms']:.1f}",
                "times faster [95 %]": "{:.2f} [{:.2f}, {:.2f}]".format(
                    found["ratio"], *found["ratio, 95 %"]
                ),
            }
            for kind, found in results.items()
        ]
    )


def draw(looks: Sequence[tuple[str, Look]], file: Path) -> None:
    """Pictures in which the two differ: the full search's face in green, the other in red."""
    rows = max(-(-len(looks) // 6), 1)
    figure = new_sheet(18, 3.2 * rows, f"{len(looks)} differences", "green: full, red: fast")
    for number, (kind, one) in enumerate(looks):
        axes = figure.add_subplot(rows, 6, number + 1)
        assert one.pixels is not None  # they are kept of differences
        axes.imshow(one.pixels)
        axes.set_axis_off()
        title = [kind]
        for face, colour in ((one.full, "lime"), (one.fast, "red")):
            if face is not None:
                left, top, right, bottom = face.box
                axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], colour)
            title.append("none" if face is None else f"{face.probability:.4f}")
        axes.set_title(", ".join(title), fontsize=8)
    save_sheet(figure, file)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(str(__doc__))
    add = parser.add_argument
    add("faces", type=Path, metavar="FACES", help="JPEG pictures of faces, a folder a source")
    add("--pictures", type=int, default=1000, help="single pictures (%(default)s)")
    add("--groups", type=int, default=400, help="made pictures of each kind (%(default)s)")
    add("--sheet", type=Path, metavar="PNG", help="draw the differences; it shows FACES's people")
    parser.add_out()
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    results, different = {}, []
    try:
        for kind, looks in look_at_all(args.faces, args.pictures, args.groups):
            results[kind] = summary(looks)
            different += [(kind, one) for one in looks if not one.same]
    except FileNotFoundError as error:
        parser.error(str(error))
    if args.sheet:
        draw(different[:_SHOWN], args.sheet)
    save_result(args.out, parser.command(argv), {"results": results}, table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
