"""python -m benchmarks.speed.onnx FACES: ONNX Runtime beside PyTorch, on the same pictures.

How far scores and boxes are apart, and how fast both are with one thread and with two. Each runs in
a process of its own, in turn; of several rounds the fastest counts: other work only adds time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._harness import Parser
from ffdetect.evaluation.tables import save_record
from ffdetect.onnx.detector import OnnxDetector
from ffdetect.scoring.analysis import PictureScorer
from preprocess.faces.crop import crop_face
from preprocess.io.decode import decode_image
from preprocess.io.sources import find_items

_THREADS = (1, 2)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(__doc__ or "")
    add = parser.add_argument
    add("faces", type=Path, metavar="FACES", help="a folder of pictures")
    add("--weights", default="best", help="a file, or of this package best or fast (%(default)s)")
    add("--pictures", type=int, default=500, help="(%(default)s)")
    add("--timed", type=int, default=32, help="of them, for speed (%(default)s)")
    add("--rounds", type=int, default=3, help="(%(default)s)")
    add("--run", help=argparse.SUPPRESS)
    parser.add_out()
    args = parser.parse_args(argv)
    if args.run:
        print(json.dumps(run(**json.loads(args.run))))
        return 0
    files = [str(item.file) for item in find_items(args.faces, media=("picture",)).items]
    files = [files[i] for i in np.linspace(0, len(files) - 1, args.pictures).astype(int)]
    with tempfile.TemporaryDirectory() as place:
        from ffdetect.onnx.export import export
        from ffdetect.scoring.detector import Detector

        export(Detector.load(args.weights, "cpu"), Path(place))
        common = {"weights": args.weights, "folder": place}
        timed = files[: args.timed]
        speeds = [
            asked({**common, "files": timed, "threads": threads, "runtime": runtime})
            for _ in range(args.rounds)
            for threads in _THREADS
            for runtime in ("torch", "onnx")
        ]
        seen = [
            asked({**common, "files": files, "threads": 1, "runtime": runtime})
            for runtime in ("torch", "onnx")
        ]
    record = {
        "command": parser.command(argv),
        "cores": os.cpu_count(),
        **agreement(*seen),
        "speed": fastest(speeds),
    }
    save_record(args.out, record, table(record))
    print(table(record))
    return 0


def asked(what: dict[str, Any]) -> dict[str, Any]:
    """What a fresh process measures."""
    threads = str(what["threads"])
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    command = [sys.executable, "-m", "benchmarks.speed.onnx", ".", "--run", json.dumps(what)]
    places = {**os.environ, **dict.fromkeys(names, threads)}
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=places)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def run(files: list[str], threads: int, runtime: str, weights: str, folder: str) -> dict[str, Any]:
    """Boxes, scores and CPU seconds of one runtime."""
    detector: PictureScorer = OnnxDetector.load(folder, threads=threads)
    if runtime == "torch":
        from ffdetect.scoring.detector import Detector

        detector = Detector.load(weights, "cpu", threads=threads)
    pictures = [decode_image(file).pixels for file in files]
    detector.face_detector.detect(pictures[0])
    start = time.monotonic()
    found = [detector.face_detector.detect(pixels)[:1] for pixels in pictures]
    detected = time.monotonic() - start
    pairs = zip(pictures, found, strict=True)
    crops = [crop_face(p, face, detector.crop_settings) for p, (*faces,) in pairs for face in faces]
    detector.score_crops(np.stack(crops[:1]))
    start = time.monotonic()
    scores = detector.score_crops(np.stack(crops))
    scored = time.monotonic() - start
    return {
        "runtime": runtime,
        "threads": threads,
        "boxes": [[face.box.tolist() for face in faces] for faces in found],
        "scores": scores.tolist(),
        "detect_per_second": len(pictures) / detected,
        "score_per_second": len(crops) / scored,
    }


def agreement(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Of the largest faces of the same pictures."""
    both = [(a, b) for a, b in zip(one["boxes"], other["boxes"], strict=True) if a and b]
    apart = [float(np.abs(np.subtract(a, b)).max()) for a, b in both]
    alike = len(one["scores"]) == len(other["scores"])
    scores = np.abs(np.subtract(one["scores"], other["scores"])).max() if alike else np.nan
    return {
        "pictures": len(one["boxes"]),
        "faces": len(both),
        "found_by_one_alone": sum(map(bool, one["boxes"]))
        + sum(map(bool, other["boxes"]))
        - 2 * len(both),
        "largest_difference_of_boxes_px": max(apart),
        "largest_difference_of_scores": float(scores),
    }


def fastest(speeds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best round of each runtime and number of threads."""
    kinds = dict.fromkeys(map(_kind, speeds))
    return [
        {
            "runtime": runtime,
            "threads": threads,
            **{
                name: round(
                    max(o[name] for o in speeds if _kind(o) == (runtime, threads)),
                    2,
                )
                for name in ("detect_per_second", "score_per_second")
            },
        }
        for runtime, threads in kinds
    ]


def _kind(one: dict[str, Any]) -> tuple[str, int]:
    return one["runtime"], one["threads"]


def table(record: dict[str, Any]) -> str:
    rows = [
        f"| {one['runtime']} | {one['threads']} | {one['detect_per_second']} | "
        f"{one['score_per_second']} |"
        for one in record["speed"]
    ]
    return "\n".join(
        [
            f"Of {record['faces']} faces, boxes are at most "
            f"{record['largest_difference_of_boxes_px']:.3f} px apart and scores "
            f"{record['largest_difference_of_scores']:.1e}; "
            f"{record['found_by_one_alone']} pictures have a face for one of both alone.",
            "",
            "| runtime | threads | pictures searched a second | faces scored a second |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
