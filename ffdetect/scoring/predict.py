"""python -m ffdetect.predict DATA --out prediction.txt: score every picture, clip and sound file.

A picture scores as its largest face, a clip as its faces and its voice together, a file of sound as
its voice. Each kind has a table of its own, of the files' names and their scores.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ffdetect.evaluation.metrics import auc, tpr_at_fpr
from preprocess.arguments import check_outputs, new_parser, unwritten
from preprocess.faces.crop import crop_whole
from preprocess.io.alone import alone
from preprocess.io.decode import DecodeError, decode_image
from preprocess.io.formats import media_of_name
from preprocess.io.sound import NoSoundError
from preprocess.io.sources import Item, Listing, find_items, is_clip, printable
from preprocess.io.storage import write_json, write_whole

from .clip import FRAMES, score_video, shipped_voice
from .detector import Detector
from .quality import nothing_to_judge
from .tta import TTA

PROG = "python -m ffdetect.predict"
NEUTRAL_SCORE = 0.5  # of what cannot be judged
_TABLES = {"picture": "img_name", "clip": "video_name", "sound": "audio_name"}


class Status(str, Enum):
    """What a score is of."""

    SCORED = "scored"  # a face, a voice or both
    WHOLE = "whole"  # no face: the whole picture
    NOTHING = "nothing"  # there is nothing to judge: 0.5
    UNREADABLE = "unreadable"  # 0.5


@dataclass(frozen=True)
class Prediction:
    """The score of one file.

    Attributes:
        path: of the item.
        score: probability of fake, 0 to 1.
        status: what it is of.
        note: what more there is to say, for people; "" if nothing.
    """

    path: str
    score: float
    status: Status = Status.SCORED
    note: str = ""

    def message(self) -> str:
        """For people; "" if there is nothing to say."""
        words = {
            Status.SCORED: "",
            Status.WHOLE: "no face, scored whole",
            Status.NOTHING: f"nothing to judge, scored {NEUTRAL_SCORE}",
            Status.UNREADABLE: f"unreadable, scored {NEUTRAL_SCORE}",
        }
        return ": ".join(filter(None, (words[self.status], self.note)))


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
        media = [medium for medium in _TABLES if medium != "sound" or not args.no_voice]
        listing = find_items(args.data, args.labels, media)
        outputs = {"--out": args.out, "--json": args.json}
        names = {file.name for file in outputs.values() if file}
        alike = [item.local for item in listing.items if item.file.name in names]
        check_outputs(outputs, (args.data, args.labels, *alike))
        detector = Detector.load(args.weights, args.device, args.precision, threads=None)
        detector.max_megapixels = args.megapixels
        detector.check_tta(args.tta)
    except (ValueError, OSError) as error:
        parser.error(printable(str(error)))
    for line in listing.left_out_lines():
        print(line.strip(), file=sys.stderr)
    if not listing.items:
        print(f"{args.data}: expected pictures, clips or sound but found none", file=sys.stderr)
        return 1
    file, partial = args.out, args.out.parent / f"{args.out.name}.partial"
    try:
        with alone(args.out):
            predictions = _predict_resumable(detector, listing.items, args, partial)
            written = write_predictions(predictions, listing.items, args.out)
            if args.json:
                file = args.json
                write_json(file, [asdict(p) for p in predictions])
            partial.unlink(missing_ok=True)
    except OSError as error:
        return unwritten(file, error)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    for prediction in predictions:
        if message := prediction.message():
            print(f"{prediction.path}: {message}", file=sys.stderr)
    print("\n".join(f"{count} scores in {file}" for file, count in written.items()))
    if args.labels:
        print(evaluate(predictions, listing))
    return int(all(p.status is Status.UNREADABLE for p in predictions))


def predict_items(
    detector: Detector,
    items: Sequence[Item],
    *,
    batch_size: int = 32,
    frames: int = FRAMES,
    voice: bool = True,
    tta: str = "none",
) -> Iterator[Prediction]:
    """Score files in order: pictures by their largest face, clips by `Detector.score_video`, files
    of sound by `VoiceDetector.score`.

    What has no face is scored whole, a clip without pictures by its voice. A file that cannot be
    read, or shows nothing, gets 0.5.

    Args:
        frames: key frames of a clip.
        voice: whether to listen to clips.
    """
    score_crops = partial(detector.score_crops, batch_size=batch_size, tta=tta)
    options = {"frames": frames, "voice": voice, "tta": tta, "batch_size": batch_size}
    waiting: list[Prediction | tuple[Prediction, np.ndarray]] = []  # with a crop: not scored yet
    for item in items:
        sound, clip = medium_of(item) == "sound", is_clip(item.local)
        if not sound and not clip:
            waiting.append(_crop(detector, item))
        if sound or clip or sum(isinstance(one, tuple) for one in waiting) >= batch_size:
            yield from _scored(waiting, score_crops)
            waiting = []
        if sound:
            yield _score_sound(item)
        elif clip:
            yield _score_clip(detector, item, options)
    yield from _scored(waiting, score_crops)


def medium_of(item: Item) -> str:
    """Which table a file goes to: "picture", "clip" or "sound"."""
    return item.media or media_of_name(item.file.name) or "picture"


def _unreadable(item: Item, error: DecodeError) -> Prediction:
    return Prediction(item.path, NEUTRAL_SCORE, Status.UNREADABLE, str(error))


def _score_sound(item: Item) -> Prediction:
    try:
        return Prediction(item.path, shipped_voice().score(item.local))
    except NoSoundError as error:
        return Prediction(item.path, NEUTRAL_SCORE, Status.NOTHING, error.reason)
    except DecodeError as error:
        return _unreadable(item, error)


def _score_clip(detector: Detector, item: Item, options: dict[str, Any]) -> Prediction:
    try:
        seen = score_video(detector, item.local, no_face="whole", **options)
    except DecodeError as error:
        return _unreadable(item, error)
    note = "; ".join(seen.notes)
    if np.isnan(seen.score):
        note = "; ".join(filter(None, (note, seen.no_voice)))
        return Prediction(item.path, NEUTRAL_SCORE, Status.NOTHING, note)
    status = Status.WHOLE if seen.whole else Status.SCORED
    return Prediction(item.path, seen.score, status, note)


def _crop(detector: Detector, item: Item) -> Prediction | tuple[Prediction, np.ndarray]:
    """A prediction, or one that lacks its score, and the crop that is to be scored."""
    try:
        picture = decode_image(item.file, max_megapixels=detector.max_megapixels)
    except DecodeError as error:
        return _unreadable(item, error)
    note = "an animation, of which the first frame is looked at" if picture.animated else ""
    if picture.hdr:
        note = f"it is HDR ({picture.hdr}), shown in SDR by tone mapping"
    crop = detector.crop_largest(picture)
    if crop is not None:
        return Prediction(item.path, np.nan, note=note), crop
    if reason := nothing_to_judge(picture.pixels, detector.crop_settings.size):
        return Prediction(item.path, NEUTRAL_SCORE, Status.NOTHING, reason)
    whole = crop_whole(picture.pixels, detector.crop_settings)
    return Prediction(item.path, np.nan, Status.WHOLE, note), whole


def _scored(
    waiting: Sequence[Prediction | tuple[Prediction, np.ndarray]],
    score_crops: Callable[[np.ndarray], np.ndarray],
) -> Iterator[Prediction]:
    crops = [one[1] for one in waiting if isinstance(one, tuple)]
    scores = iter(score_crops(np.stack(crops)) if crops else ())
    for one in waiting:
        yield replace(one[0], score=float(next(scores))) if isinstance(one, tuple) else one


def write_predictions(
    predictions: Sequence[Prediction], items: Sequence[Item], out: Path
) -> dict[Path, int]:
    """Write the challenge's table; kinds of files in one folder go to files of their own.

    Returns:
        the files written and their number of rows.
    """
    written: dict[Path, int] = {}
    media = [medium_of(item) for item in items]
    for wanted, column in _TABLES.items():
        rows = [p for p, medium in zip(predictions, media, strict=True) if medium == wanted]
        if not rows:
            continue
        file = out
        if written:
            file = out.with_name(f"{out.stem}_{column.removesuffix('_name')}{out.suffix}")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, _table(column, rows).encode())
        written[file] = len(rows)
    return written


def _table(column: str, rows: Sequence[Prediction]) -> str:
    lines = io.StringIO(newline="")
    for row in ((column, "y_pred"), *((p.path, f"{p.score:.6f}") for p in rows)):
        # Only what a line may end with is quoted within a name, so a line ends with both.
        csv.writer(line := io.StringIO(newline=""), lineterminator="\r\n").writerow(row)
        lines.write(line.getvalue().removesuffix("\r\n") + "\n")
    return lines.getvalue()


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
    options = {"frames": args.frames, "voice": not args.no_voice, "tta": args.tta}
    calibration = detector.calibration and detector.calibration.to_dict()
    run = {
        "data": str(args.data.resolve()),
        "weights": [str(args.weights), _state(args.weights)],
        "precision": args.precision,
        **options,
        "about": {**detector.about, "calibration": calibration},
    }
    head = json.dumps(run, sort_keys=True)
    kept = _read_partial(partial, head)
    states = {item.path: _state(item.local) for item in items}
    done = {
        path: prediction
        for path, (prediction, state) in kept.items()
        if prediction.status is not Status.UNREADABLE and states.get(path) == state
    }
    todo = [item for item in items if item.path not in done]
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", newline="", encoding="utf-8") as stream:
        stream.write(head + "\n")
        writer = csv.writer(stream)
        writer.writerows(_row(p, states[p.path]) for p in done.values())
        stream.flush()
        with tqdm(total=len(items), initial=len(done), unit="file") as bar:
            for prediction in predict_items(detector, todo, batch_size=args.batch_size, **options):
                done[prediction.path] = prediction
                writer.writerow(_row(prediction, states[prediction.path]))
                stream.flush()
                bar.update()
    return [done[item.path] for item in items]


def _state(file: Path | None) -> str:
    """What changes where a file does; "" of one that is not there."""
    try:
        found = file.stat() if file else None
    except (OSError, ValueError):
        found = None
    return f"{found.st_size} {found.st_mtime_ns}" if found else ""


def _row(prediction: Prediction, state: str) -> tuple[str, str, str, str, str]:
    p = prediction
    return p.path, repr(p.score), p.status.value, p.note, state


def _read_partial(partial: Path, head: str) -> dict[str, tuple[Prediction, str]]:
    """What a stopped run of the same command left, with the state of each file then; what is torn
    or damaged is dropped."""
    if not partial.is_file():
        return {}
    # Bytes, since text would lose its \r\n; the torn row may end within a letter.
    first, _, rest = partial.read_bytes().decode("utf-8", "replace").partition("\n")
    if first != head:
        return {}
    whole = rest[: rest.rfind("\r\n") + 2]
    rows = csv.reader(io.StringIO(whole, newline=""))
    kept = {}
    with contextlib.suppress(csv.Error):
        for row in rows:
            with contextlib.suppress(ValueError):  # of other fields
                path, score, status, note, state = row
                kept[path] = Prediction(path, float(score), Status(status), note), state
    return kept


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "valset/ --out prediction.txt", "portrait.jpg")
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="a folder, or a picture, clip or sound")
    add("--out", type=Path, default=Path("prediction.txt"), help="(%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write scores and what they are of there, too")
    add("--labels", type=Path, help="label file: also print AUC and TPR@FPR=1e-3")
    add("--weights", type=Path, help="a file, or of this package best or fast (default: best)")
    add("--frames", type=int, default=FRAMES, help="key frames of a clip (%(default)s)")
    add("--no-voice", action="store_true", help="score clips by their faces alone, and no sound")
    add("--batch-size", type=int, default=32, help="(%(default)s)")
    add("--tta", choices=list(TTA), default="none", help="views to average over (%(default)s)")
    add("--megapixels", type=float, default=100.0, help="refuse larger pictures (%(default)s)")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    add("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    return parser
