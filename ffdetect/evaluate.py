"""python -m ffdetect.evaluate SCORES --labels FILE: AUC and TPR, by generator and by real source.

SCORES are tables that `ffdetect predict` wrote, or caches of faces, which are scored with the
shipped weights or with `--weights`; of a cache no face of the split train counts. Figures have 95 %
intervals, in which what shares a group (a clip's frames, a person's pictures) is drawn together.
Real and fake that differ in size, framing or compression flatter every figure:
`python -m ffdetect.evaluation.framing` makes a cache in which they do not.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocess.arguments import check_outputs, finish, new_parser, unwritten
from preprocess.cache.reader import CacheReader
from preprocess.io.labels import FileIndex, Label, join, read_labels, text_of_table
from preprocess.io.storage import write_json

from .evaluation.breakdown import break_down
from .evaluation.framing import framing
from .evaluation.matching import KINDS, add_match, parse_matches
from .scoring.detector import Detector

PROG = "python -m ffdetect.evaluate"


@dataclass(frozen=True)
class Scored:
    """Rows that have a score and a label.

    Attributes:
        target: int N, 1 fake, 0 real.
        score: float N, 0 to 1.
        unit: str N, the generator of a fake, the source of a real.
        group: str N, "" for what belongs to nothing.
        about: what there is to say about where they come from.
    """

    target: np.ndarray
    score: np.ndarray
    unit: np.ndarray
    group: np.ndarray
    about: str


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0 when done, 1 if --json could not be written, 2 for wrong arguments or files,
    130 when stopped."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    try:
        if args.rounds < 1:
            raise ValueError(f"expected --rounds of at least 1 but got {args.rounds}")
        check_outputs({"--json": args.json}, (args.labels, *map(Path, args.scores)))
        scored = _read(args)
        result = break_down(
            scored.target,
            scored.score,
            scored.unit,
            scored.group,
            matches=KINDS | parse_matches(args.match),
            rounds=args.rounds,
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{scored.about}\n\n{result.markdown()}")
    if args.json:
        try:
            write_json(args.json, result.to_dict())
        except OSError as error:
            return unwritten(args.json, error)
    return 0


def _read(args: argparse.Namespace) -> Scored:
    tables = [path for path in args.scores if Path(path).is_file()]
    if not tables:
        if args.labels and not any(map(os.path.isdir, args.scores)):
            raise ValueError(f"{args.scores[0]}: expected a table of scores but got no such file")
        if args.labels:
            raise ValueError("expected tables with --labels but got caches, which have labels")
        return _from_cache(args)
    if len(tables) < len(args.scores):
        other = next(path for path in args.scores if path not in tables)
        raise ValueError(f"{other}: expected a file, as {tables[0]} is one")
    if not args.labels:
        raise ValueError(f"{tables[0]}: expected --labels FILE beside a table of scores")
    return _from_tables(tables, args.labels)


def _from_cache(args: argparse.Namespace) -> Scored:
    reader = CacheReader(args.scores)
    faces = reader.metadata
    wanted = faces["target"] >= 0
    if not args.all:
        wanted &= faces["split"] != "train"
    rows = np.flatnonzero(wanted)
    faces = faces.iloc[rows]
    if faces["target"].nunique() < 2:
        raise ValueError(
            f"{args.scores[0]}: expected real and fake faces but {len(rows)} of {len(reader)} have "
            "a label and are not of the split train, and these are not of both (--all takes train)"
        )
    detector = Detector.load(args.weights, args.device, threads=None)
    score = detector.score_cache(reader, rows)
    target, unit = faces["target"].to_numpy(), faces["generator"].to_numpy().astype(str)
    about = f"{len(rows)} of {len(reader)} faces, {framing(faces)}"
    return Scored(target, score, _named(unit, target), faces["group"].to_numpy().astype(str), about)


def _from_tables(tables: Sequence[str], labels: Path) -> Scored:
    scores: dict[str, float] = {}
    for table in tables:
        for name, score in read_predictions(Path(table)).items():
            if scores.setdefault(name, score) != score:
                raise ValueError(f"{table}: expected one score of {name} but tables give two")
    index = FileIndex(scores, labels.parent)
    named: dict[str, list[Label]] = {}
    without = 0
    for label in read_labels(labels):
        path = index.find(label.name)
        if isinstance(path, str):
            named.setdefault(path, []).append(label)
        else:
            without += 1
    joined = {path: join(same) for path, same in named.items()}
    rows = {path: label for path, (label, _) in joined.items() if label.target >= 0}
    if not rows:
        raise ValueError(f"{labels}: expected labels of files in {tables[0]} but found none")
    target = np.array([label.target for label in rows.values()])
    if len(np.unique(target)) < 2:
        raise ValueError(
            f"{labels}: expected labels of real and fake files but got {(target == 0).sum()} real "
            f"and {(target == 1).sum()} fake with a score in {tables[0]}"
        )
    about = f"{len(rows)} files with a score and a label"
    if rest := len(scores) - len(rows):
        about += f", {rest} without a label"
    if without:
        about += f"; {without} labels without a score"
    problems = Counter(problem for _, found in joined.values() for problem in found)
    about += "".join(f"; {kind}: {count}" for kind, count in problems.items())
    return Scored(
        target,
        np.array([scores[path] for path in rows]),
        _named(np.array([label.generator for label in rows.values()]), target),
        np.array([label.group for label in rows.values()]),
        about,
    )


def read_predictions(file: Path) -> dict[str, float]:
    """The scores of a table of `ffdetect predict`: file -> probability of fake.

    Raises:
        ValueError: it is no such table, or gives a file two scores.
    """
    try:
        text = text_of_table(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    rows = filter(None, csv.reader(io.StringIO(text, newline="")))  # without empty lines
    header = next(rows, [])
    if len(header) != 2 or header[1] != "y_pred":
        raise ValueError(
            f"{file}: expected a table with the columns of img_name,y_pred "
            f"but got {','.join(header)!r}"
        )
    scores: dict[str, float] = {}
    try:
        for row in rows:
            if len(row) != 2:
                raise ValueError(f"got {','.join(row)!r}")
            name, score = row[0], float(row[1])
            if not 0 <= score <= 1:
                raise ValueError(f"expected scores from 0 to 1 but got {score} for {name}")
            if scores.setdefault(name, score) != score:
                raise ValueError(f"{name} has the scores {scores[name]} and {score}")
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{file}: expected a name and its score in every row: {error}") from error
    return scores


def _named(unit: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Fakes and reals of which nobody says where they come from are a unit each."""
    return np.where(unit == "", np.where(target == 1, "fake", "real"), unit)


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(
        prog,
        __doc__,
        "prediction.txt --labels labels.csv",
        "cache/test --weights mine.safetensors --json figures.json",
    )
    add = parser.add_argument
    add("scores", nargs="+", metavar="SCORES", help="tables of predict, or caches of faces")
    add("--labels", type=Path, help="label file of the tables (path,target,generator,group)")
    add("--weights", type=Path, help="what scores caches: a file, best or fast (default: best)")
    add("--all", action="store_true", help="count faces of the split train too")
    add_match(parser, "compare this generator with these real sources alone")
    add("--json", type=Path, metavar="FILE", help="write the figures there, too")
    add("--rounds", type=int, default=1000, help="of the bootstrap (%(default)s)")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    return parser


if __name__ == "__main__":
    finish(main)
