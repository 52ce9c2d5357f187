"""python -m benchmarks.speed.onnx FACES: ONNX Runtime beside PyTorch, on the same pictures.

How far scores, boxes and verdicts are apart, and how fast both are with one thread and with two.
A verdict looks at a face in several views, so only some pictures get one. Each runs in a process of
its own, in turn; of several rounds the fastest counts: other work only adds time.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._harness import Parser, in_fresh_process, save_result
from ffdetect.evaluation.tables import markdown
from ffdetect.scoring.analysis import PictureScorer, analyze_pictures
from ffdetect.scoring.detector import Detector
from preprocess.faces.crop import crop_face
from preprocess.io.decode import decode_image
from preprocess.io.sources import find_items
from preprocess.spread import evenly

_RUNTIMES = ("torch", "onnx")
_THREADS = (1, 2)
_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(__doc__ or "")
    add = parser.add_argument
    add("faces", type=Path, metavar="FACES", help="a folder of pictures")
    add("--weights", default="best", help="a file, or of this package best or fast (%(default)s)")
    add("--pictures", type=int, default=500, help="(%(default)s)")
    add("--verdicts", type=int, default=100, help="of them, for verdicts (%(default)s)")
    add("--timed", type=int, default=32, help="of them, for speed (%(default)s)")
    add("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_out()
    args = parser.parse_args(argv)
    files = [str(item.file) for item in find_items(args.faces, media=("picture",)).items]
    files = [files[i] for i in evenly(np.arange(len(files)), args.pictures)]
    with tempfile.TemporaryDirectory() as place:
        from ffdetect.scoring.onnx.export import export

        export(Detector.load(args.weights, "cpu"), Path(place))
        weights = {"torch": args.weights, "onnx": place}

        def asked(files: list[str], threads: int, runtime: str, verdicts: int | None = None) -> Any:
            asks = files, threads, runtime, weights[runtime], verdicts
            return in_fresh_process(run, *asks, **dict.fromkeys(_LIMITS, str(threads)))

        speeds = [
            asked(files[: args.timed], threads, runtime)
            for _ in range(args.rounds)
            for threads in _THREADS
            for runtime in _RUNTIMES
        ]
        seen = [asked(files, 1, runtime, args.verdicts) for runtime in _RUNTIMES]
    record = {
        "cores": os.cpu_count(),
        **agreement(*seen),
        "speed": fastest(speeds),
    }
    save_result(args.out, parser.command(argv), record, table(record))
    return 0


def run(
    files: list[str], threads: int, runtime: str, weights: str, verdicts: int | None = None
) -> Any:
    """Speeds of one runtime; or, with a number of verdicts, box, score and, of so many, verdict of
    the largest face of each picture."""
    load: Any = Detector.load
    detector: PictureScorer = load(weights, "cpu", threads=threads, runtime=runtime)
    if verdicts is None:
        return {"runtime": runtime, "threads": threads, **speed(detector, files)}
    judged = set(evenly(np.arange(len(files)), verdicts).tolist())
    seen = []
    for number, file in enumerate(files):
        picture, judge = decode_image(file), number in judged
        (found,) = analyze_pictures(detector, [picture], verdicts=judge, most_faces=1)
        seen.append(
            [
                {"box": face.box.tolist(), "score": face.score, "verdict": face.verdict or None}
                for face in found.faces
            ]
        )
    return seen


def speed(detector: PictureScorer, files: Sequence[str]) -> dict[str, float]:
    """Pictures searched and faces scored a second."""
    pictures = [decode_image(file).pixels for file in files]
    detector.face_detector.detect(pictures[0])
    start = time.monotonic()
    found = [detector.face_detector.detect(pixels)[:1] for pixels in pictures]
    detected = time.monotonic() - start
    pairs = zip(pictures, found, strict=True)
    crops = [crop_face(p, face, detector.crop_settings) for p, faces in pairs for face in faces]
    detector.score_crops(np.stack(crops[:1]))
    start = time.monotonic()
    detector.score_crops(np.stack(crops))
    scored = time.monotonic() - start
    return {
        "detect_per_second": len(pictures) / detected,
        "score_per_second": len(crops) / scored,
    }


def agreement(one: Sequence[list[dict]], other: Sequence[list[dict]]) -> dict[str, Any]:
    """Of what two runtimes say of the largest faces of the same pictures."""
    both = [(a[0], b[0]) for a, b in zip(one, other, strict=True) if a and b]
    boxes = [np.abs(np.subtract(a["box"], b["box"])).max() for a, b in both]
    scores = [abs(a["score"] - b["score"]) for a, b in both]
    return {
        "pictures": len(one),
        "faces": len(both),
        "found_by_one_alone": sum(bool(a) != bool(b) for a, b in zip(one, other, strict=True)),
        "largest_difference_of_boxes_px": float(max(boxes, default=0)),
        "largest_difference_of_scores": float(max(scores, default=0)),
        "verdicts": sum(a["verdict"] is not None for a, _ in both),
        "other_verdicts": sum(a["verdict"] != b["verdict"] for a, b in both),
    }


def fastest(speeds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best round of each runtime and number of threads."""
    rates = ("detect_per_second", "score_per_second")
    kinds = dict.fromkeys((one["runtime"], one["threads"]) for one in speeds)
    rows = []
    for runtime, threads in kinds:
        rounds = [o for o in speeds if (o["runtime"], o["threads"]) == (runtime, threads)]
        best = {name: round(max(one[name] for one in rounds), 2) for name in rates}
        rows.append({"runtime": runtime, "threads": threads, **best})
    return rows


def table(record: dict[str, Any]) -> str:
    rates = ("detect_per_second", "score_per_second")
    rows = [[one["runtime"], one["threads"], *(one[r] for r in rates)] for one in record["speed"]]
    return (
        f"Of {record['faces']} faces, boxes are at most "
        f"{record['largest_difference_of_boxes_px']:.3f} px apart and scores "
        f"{record['largest_difference_of_scores']:.1e}. Of {record['verdicts']} verdicts "
        f"{record['other_verdicts']} differ; {record['found_by_one_alone']} pictures have a face "
        "for one of both alone.\n\n"
        + markdown(
            ["runtime", "threads", "pictures searched a second", "faces scored a second"], rows
        )
    )


if __name__ == "__main__":
    sys.exit(main())
