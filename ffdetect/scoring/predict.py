"""python -m ffdetect.predict DATA --out prediction.txt: score every picture or clip of a folder.

A picture scores as its largest face, a clip as its faces and its voice together (`video`).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ffdetect.evaluation.metrics import auc, tpr_at_fpr
from preprocess.arguments import new_parser
from preprocess.faces.crop import crop_whole
from preprocess.io.alone import alone
from preprocess.io.decode import DecodeError, decode_image
from preprocess.io.sources import Item, Listing, find_items, is_clip, printable

from .clip import FRAMES, score_video
from .detector import Detector
from .quality import nothing_to_judge
from .tta import TTA

PROG = "python -m ffdetect.predict"
UNREADABLE_SCORE = 0.5


@dataclass(frozen=True)
class Prediction:
    """The score of one file; `note` says why it is not that of a face ("" if it is)."""

    path: str
    score: float
    note: str = ""


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0, also if some files failed; 1 if none could be scored; 2 wrong arguments."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    for option, value in (("--batch-size", args.batch_size), ("--frames", args.frames)):
        if value < 1:
            parser.error(f"expected {option} of at least 1 but got {value}")
    if not args.megapixels > 0:
        parser.error(f"expected --megapixels above 0 but got {args.megapixels:g}")
    try:
        listing = find_items(args.data, args.labels)
        detector = Detector.load(args.weights, args.device, args.precision)
        detector.max_megapixels = args.megapixels
        detector.check_tta(args.tta)
    except (ValueError, OSError) as error:
        parser.error(printable(str(error)))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    for line in listing.left_out_lines():
        print(line.strip(), file=sys.stderr)
    if not listing.items:
        print(f"{args.data}: expected pictures or clips but found none", file=sys.stderr)
        return 1
    partial = args.out.with_name(args.out.name + ".partial")
    try:
        with alone(args.out):
            predictions = _predict_resumable(detector, listing.items, args, partial)
            written = write_predictions(predictions, listing.items, args.out)
            partial.unlink(missing_ok=True)
    except OSError as error:
        print(f"{args.out}: cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    for prediction in predictions:
        if prediction.note:
            print(f"{prediction.path}: {prediction.note}", file=sys.stderr)
    print("\n".join(f"{count} scores in {file}" for file, count in written.items()))
    if args.labels:
        print(evaluate(predictions, listing))
    failed = sum(p.note.startswith("unreadable") for p in predictions)
    return 1 if failed == len(predictions) else 0


def predict_items(
    detector: Detector,
    items: Sequence[Item],
    *,
    batch_size: int = 32,
    frames: int = FRAMES,
    voice: bool = True,
    tta: str = "none",
) -> Iterator[Prediction]:
    """Score files in order: pictures by their largest face, clips by `Detector.score_video`.

    What has no face is scored whole, a clip without pictures by its voice. A file that cannot be
    read, or shows nothing, gets 0.5. All carry a note.

    Args:
        frames: key frames of a clip.
        voice: whether to listen to clips.
    """
    waiting: list[tuple[Item, list[np.ndarray], str]] = []
    for item in items:
        if is_clip(item.file):
            yield from _score(detector, waiting, batch_size, tta)
            waiting = []
            yield _score_clip(detector, item, batch_size, frames, voice, tta)
            continue
        try:
            waiting.append((item, *_crop(detector, item)))
        except DecodeError as error:
            waiting.append((item, [], _unreadable(error)))
        if sum(len(crops) for _, crops, _ in waiting) >= batch_size:
            yield from _score(detector, waiting, batch_size, tta)
            waiting = []
    yield from _score(detector, waiting, batch_size, tta)


def _score_clip(
    detector: Detector, item: Item, batch_size: int, frames: int, voice: bool, tta: str
) -> Prediction:
    try:
        seen = score_video(
            detector,
            item.file,
            frames=frames,
            voice=voice,
            no_face="whole",
            tta=tta,
            batch_size=batch_size,
        )
    except DecodeError as error:
        return Prediction(item.path, UNREADABLE_SCORE, _unreadable(error))
    if np.isnan(seen.score):
        return Prediction(item.path, UNREADABLE_SCORE, _nothing("; ".join(seen.notes)))
    faces = [note for note in seen.notes if not note.startswith("no voice")]
    return Prediction(item.path, seen.score, "; ".join(faces))


def _unreadable(error: DecodeError) -> str:
    return f"unreadable, scored {UNREADABLE_SCORE}: {error}"


def _nothing(reason: str) -> str:
    return f"nothing to judge, scored {UNREADABLE_SCORE}: {reason}"


def _crop(detector: Detector, item: Item) -> tuple[list[np.ndarray], str]:
    picture = decode_image(item.file, max_megapixels=detector.max_megapixels)
    crop = detector.crop_largest(picture)
    if crop is not None:
        return [crop], ""
    if reason := nothing_to_judge(picture.pixels, detector.crop_settings.size):
        return [], _nothing(reason)
    return [crop_whole(picture.pixels, detector.crop_settings)], "no face, scored whole"


def _score(detector: Detector, waiting: list, batch_size: int, tta: str) -> Iterator[Prediction]:
    crops = [crop for _, crops, _ in waiting for crop in crops]
    scores = ()
    if crops:
        scores = detector.score_crops(np.stack(crops), batch_size=batch_size, tta=tta)
    start = 0
    for item, own, note in waiting:
        values = scores[start : start + len(own)]
        start += len(own)
        yield Prediction(item.path, float(np.mean(values)) if own else UNREADABLE_SCORE, note)


def write_predictions(
    predictions: Sequence[Prediction], items: Sequence[Item], out: Path
) -> dict[Path, int]:
    """Write the challenge's table; pictures and clips in one folder go to two files.

    Returns:
        the files written and their number of rows.
    """
    written = {}
    videos = [item.is_video for item in items]
    for wanted, column in ((False, "img_name"), (True, "video_name")):
        rows = [p for p, video in zip(predictions, videos, strict=True) if video == wanted]
        if not rows:
            continue
        file = out
        if wanted and not all(videos):
            file = out.with_name(f"{out.stem}_video{out.suffix}")
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(file.name + ".tmp")
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow([column, "y_pred"])
            writer.writerows((p.path, f"{p.score:.6f}") for p in rows)
        temporary.replace(file)
        written[file] = len(rows)
    return written


def evaluate(predictions: Sequence[Prediction], listing: Listing) -> str:
    """AUC and TPR at an FPR of 1e-3 over the labelled files, with what did not fit."""
    target = np.array([item.target for item in listing.items])
    score = np.array([prediction.score for prediction in predictions])
    known = target >= 0
    lines = [listing.report()]
    if len(np.unique(target[known])) == 2:
        lines.append(f"AUC          {auc(target[known], score[known]):.4f}")
        lines.append(f"TPR@FPR=1e-3 {tpr_at_fpr(target[known], score[known], 1e-3):.4f}")
    else:
        lines.append("AUC needs both real and fake among the labelled files")
    return "\n".join(lines)


def _predict_resumable(
    detector: Detector,
    items: Sequence[Item],
    args: argparse.Namespace,
    partial: Path,
) -> list[Prediction]:
    """Predictions in the order of items; each is kept in `partial` as soon as it is there."""
    run = {
        "data": str(args.data.resolve()),
        "weights": str(args.weights),
        "frames": args.frames,
        "tta": args.tta,
        "voice": not args.no_voice,
        "about": _about(detector),
    }
    head = json.dumps(run, sort_keys=True)
    done = _read_partial(partial, head)
    done = {path: p for path, p in done.items() if not p.note.startswith("unreadable")}
    todo = [item for item in items if item.path not in done]
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", newline="", encoding="utf-8") as stream:
        stream.write(head + "\n")
        writer = csv.writer(stream)
        writer.writerows((p.path, repr(p.score), p.note) for p in done.values())
        stream.flush()
        with tqdm(total=len(items), initial=len(done), unit="file") as bar:
            for prediction in predict_items(
                detector,
                todo,
                batch_size=args.batch_size,
                frames=args.frames,
                voice=not args.no_voice,
                tta=args.tta,
            ):
                done[prediction.path] = prediction
                writer.writerow((prediction.path, repr(prediction.score), prediction.note))
                stream.flush()
                bar.update()
    return [done[item.path] for item in items]


def _about(detector: Detector) -> dict:
    calibration = detector.calibration and detector.calibration.to_dict()
    return {**detector.about, "calibration": calibration}


def _read_partial(partial: Path, head: str) -> dict[str, Prediction]:
    """What a stopped run of the same command left; a torn last row is dropped."""
    if not partial.is_file():
        return {}
    # Bytes, since text would lose its \r\n; the torn row may end within a letter.
    first, _, rest = partial.read_bytes().decode("utf-8", "replace").partition("\n")
    if first != head:
        return {}
    whole = rest[: rest.rfind("\r\n") + 2]
    rows = csv.reader(io.StringIO(whole, newline=""))
    return {row[0]: Prediction(row[0], float(row[1]), row[2]) for row in rows if len(row) == 3}


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "valset/ --out prediction.txt", "portrait.jpg")
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="a folder of pictures or clips, or one file")
    add("--out", type=Path, default=Path("prediction.txt"), help="(%(default)s)")
    add("--labels", type=Path, help="label file: also print AUC and TPR@FPR=1e-3")
    add("--weights", type=Path, help="a file, or of this package best or fast (default: best)")
    add("--frames", type=int, default=FRAMES, help="key frames of a clip (%(default)s)")
    add("--no-voice", action="store_true", help="score clips by their faces alone")
    add("--batch-size", type=int, default=32, help="(%(default)s)")
    add("--tta", choices=list(TTA), default="none", help="views to average over (%(default)s)")
    add("--megapixels", type=float, default=100.0, help="refuse larger pictures (%(default)s)")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    add("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    return parser


if __name__ == "__main__":
    sys.exit(main())
