"""python -m benchmarks.leave_one_out FACES MATCHED --runs DIR --out OUT: generators never seen.

For each generator, or family of them, a network is trained on the fakes of all others (and on
the reals that are not held out), then judged on MATCHED, a cache by `evaluation.framing`: every
generator's fakes against held-out reals of their kind. Only what was left out is unseen; the
other cells of the matrix tell how well the same network does on what it knows. Options after
`--` go to `ffdetect.train`. Finished folds and their scores stay in --runs and are not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ffdetect.evaluation.framing import framing
from ffdetect.evaluation.matching import comparisons, judged_rows
from ffdetect.evaluation.splits import split_rows
from ffdetect.scoring.detector import Detector
from ffdetect.training import train, train_options
from preprocess.cache.kinds import settings_difference
from preprocess.cache.reader import CacheReader

from .cross_generator import Result, evaluate, heading, save, score_cache, table
from .heat_map import NEW_PICTURES, SEEN, UNSEEN, draw_heat_map
from .kept import digest, kept_scores

# A smoke run: says that the command works, and nothing else.
_QUICK = "--window 128 --val-limit 2 --workers 0 --device cpu".split()
_QUICK_DESIGN = {
    "gated": "--backbone resnet18 --epochs 1 --steps 2 --batch 4 --precision fp32".split(),
    "traces": "--trace-pairs 16".split(),
}
_QUICK_FACES = 4  # of each generator and source
# Options that do not change what is learnt.
_ELSEWHERE = ("out", "device", "workers", "resume")


@dataclass(frozen=True)
class Fold:
    """One training: the generators that it leaves out, and where it lies."""

    name: str
    generators: tuple[str, ...]
    weights: Path
    command: tuple[str, ...]

    @property
    def record(self) -> Path:
        """The command that trained the weights."""
        return self.weights.with_suffix(".json")

    @property
    def scores(self) -> Path:
        return self.weights.with_suffix(".scores.npz")


@dataclass(frozen=True)
class Judged:
    """A fold's results, how much of each generator it had seen, and what its weights tell."""

    fold: Fold
    results: list[Result]
    seen: dict[str, str]
    about: dict

    def unseen(self) -> list[Result]:
        """Results of what was left out, named with what was left out beside it."""
        found = []
        for result in self.results:
            others = [name for name in self.fold.generators if name != result.generator]
            if result.generator in self.fold.generators:
                more = f" (also without {', '.join(others)})" if others else ""
                found.append(replace(result, generator=result.generator + more))
        return found


def left_out(
    generators: Sequence[str],
    families: Sequence[str] = (),
    chosen: str | None = None,
    others: Sequence[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Name of a fold -> generators to leave out.

    Args:
        generators: all that can be judged.
        families: "NAME=GENERATOR,GENERATOR"; by default each family is one fold and so is each
            generator in none.
        chosen: comma-separated generators and families to take instead.
        others: what trains but cannot be judged, and may belong to a family.

    Raises:
        ValueError: unknown names, or a family that cannot be judged.
    """
    named = {}
    for family in families:
        name, _, members = family.partition("=")
        if not name or not members or name in generators:
            raise ValueError(f"expected --family NAME=GENERATOR[,GENERATOR] but got {family!r}")
        named[name] = tuple(members.split(","))
        unknown = sorted(set(named[name]) - {*generators, *others})
        if unknown or not set(named[name]) & set(generators):
            raise ValueError(
                f"expected --family {name} of generators in {sorted({*generators, *others})}, some "
                f"of them in {sorted(generators)}, but got {list(named[name])}"
            )
    members = {member for family in named.values() for member in family}
    alone = {name: (name,) for name in generators}
    folds = {**named, **{name: alone[name] for name in generators if name not in members}}
    if chosen is None:
        return folds
    known = {**alone, **named}
    unknown = sorted(set(chosen.split(",")) - known.keys())
    if unknown:
        raise ValueError(f"expected --generators among {sorted(known)} but got {unknown}")
    return {name: known[name] for name in chosen.split(",")}


def check_fold(fold: Fold) -> None:
    """Refuse a fold that was begun with other training options; the message names them."""
    if not fold.record.exists():
        if fold.weights.exists():
            raise ValueError(f"{fold.weights}: expected its command in {fold.record.name}")
        return
    try:
        recorded = _recipe(json.loads(fold.record.read_text("utf-8"))["command"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{fold.record}: expected a fold's command: {error}") from error
    difference = settings_difference(_recipe(fold.command), recorded)
    if difference:
        raise ValueError(
            f"{fold.weights}: expected a fold trained as asked for but its record differs "
            f"({'; '.join(difference)}); choose another --runs, or delete the fold"
        )


def _quick(training: Sequence[str]) -> list[str]:
    design = train_options.read_options(["faces", "--out", "weights", *training])["design"]
    return [*_QUICK, *_QUICK_DESIGN[design]]


def _recipe(command: Sequence[str]) -> dict[str, object]:
    options = train_options.read_options(command)
    return {n: json.dumps(v, default=str) for n, v in options.items() if n not in _ELSEWHERE}


def train_fold(fold: Fold) -> int:
    """Train the weights of a fold if they are not there; the exit status of `ffdetect.train`."""
    if fold.weights.exists():
        return 0
    # Checkpoints without a record may come from other options: they are not gone on with.
    resume = ["--resume"] if fold.record.exists() else []
    fold.record.parent.mkdir(parents=True, exist_ok=True)
    fold.record.write_text(json.dumps({"command": fold.command}, indent=2) + "\n", "utf-8")
    fold.scores.unlink(missing_ok=True)
    print(f"training without {', '.join(fold.generators)}")
    return train.main([*fold.command, *resume])


def judge_fold(
    fold: Fold, faces: pd.DataFrame, matched: CacheReader, rows: Sequence[int]
) -> Judged:
    """Score the tested rows of the matched cache.

    Args:
        faces: metadata of the cache that was trained on.
        rows: of the matched cache.

    Raises:
        ValueError: the weights have seen what was left out, or reals that they are judged with.
    """
    detector = Detector.load(fold.weights)
    told = sorted(set(fold.generators) & set(detector.about.get("data", {})))
    if told:
        raise ValueError(f"{fold.weights}: expected weights trained without {told}")
    tested = matched.metadata.iloc[rows]
    seen = seen_of(fold, faces, tested)
    made = {
        "weights": hashlib.sha256(fold.weights.read_bytes()).hexdigest(),
        "faces": digest(tested["key"]),
    }
    scores = kept_scores(fold.scores, made, lambda: score_cache(detector, matched, rows))
    return Judged(fold, evaluate(tested, scores), seen, detector.about)


def seen_of(fold: Fold, faces: pd.DataFrame, tested: pd.DataFrame) -> dict[str, str]:
    """Generator -> how much of its tested fakes a fold has trained on.

    Raises:
        ValueError: it has trained on tested reals, or on others of their group.
    """
    options = train_options.read_options(fold.command)
    trained = faces.iloc[
        split_rows(
            faces, options["fit_all"], fit_fakes=options["fit_fakes"], without=options["without"]
        )[0]
    ]
    reals = trained[trained["target"] == 0]
    judging = tested[tested["target"] == 0]
    known = judging["path"].isin(reals["path"])
    known |= judging["group"].isin(reals["group"]) & (judging["group"] != "")
    if known.any():
        raise ValueError(
            f"expected tested reals that did not train but {int(known.sum())} of {len(known)} "
            f"did or share a group with one that did, as {judging['path'][known].iloc[0]}"
        )
    # A mix may leave collected fakes aside that the split would let it draw.
    fakes = trained["generator"][trained["target"] == 1]
    drawn = train_options.read_mix(fold.command).drawn(set(fakes))
    seen = {}
    for generator, fakes in tested[tested["target"] == 1].groupby("generator"):
        seen[generator] = UNSEEN
        if generator in drawn:
            seen[generator] = SEEN if fakes["path"].isin(trained["path"]).any() else NEW_PICTURES
    return seen


def matrices(judged: Sequence[Judged]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """AUCs and how much was seen: one row a fold, one column a generator."""
    names = [j.fold.name for j in judged]
    aucs = [{r.generator: r.auc.value for r in j.results} for j in judged]
    aucs = pd.DataFrame(aucs, index=names)
    # What was left out first and in the order of the folds, so that it lies on the diagonal.
    order = [name for j in judged for name in j.fold.generators]
    order = [name for name in dict.fromkeys([*order, *aucs.columns]) if name in aucs.columns]
    return aucs[order], pd.DataFrame([j.seen for j in judged], index=names)[order]


def matrix_table(aucs: pd.DataFrame, seen: pd.DataFrame) -> str:
    """Both matrices as one Markdown table: unseen generators bold, seen pictures in brackets."""
    forms = {UNSEEN: "**{:.3f}**", NEW_PICTURES: "{:.3f}", SEEN: "({:.3f})"}
    lines = [
        f"| trained without | {' | '.join(aucs.columns)} |",
        "|---" * (len(aucs.columns) + 1) + "|",
    ]
    for name in aucs.index:
        cells = (forms[s].format(a) for a, s in zip(aucs.loc[name], seen.loc[name], strict=True))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    note = "AUC on each generator. Bold: unseen. Plain: the generator was seen, these pictures " \
        "were not. In brackets: these very pictures trained."  # fmt: skip
    return "\n".join([note, "", *lines])


def report(judged: Sequence[Judged], about: dict, out: Path) -> None:
    """Print the results of unseen generators and write OUT.json, OUT.md and OUT.png."""
    aucs, seen = matrices(judged)
    unseen = [result for j in judged for result in j.unseen()]
    title = "AUC on generators seen and unseen\n" + about["protocol"]
    if about["quick"]:
        title += ", smoke run: no figures"
    draw_heat_map(aucs, seen, title, out.with_suffix(".png"))
    folds = {
        j.fold.name: {
            "without": j.fold.generators,
            "weights": j.about,
            "seen": j.seen,
            "results": [asdict(result) for result in j.results],
        }
        for j in judged
    }
    mean = float(np.mean([result.auc.value for result in unseen]))
    more = matrix_table(aucs, seen)
    save(unseen, {**about, "mean_unseen_auc": mean, "folds": folds}, out, more)
    print(f"{heading(about)}\n\n{table(unseen)}\n\n{more}")


def _folds(
    args: argparse.Namespace, training: Sequence[str], faces: pd.DataFrame, tested: pd.DataFrame
) -> list[Fold]:
    """What is to be trained; whatever stands against it is said before the first hour."""
    judged = comparisons(
        tested["generator"].to_numpy().astype(str), tested["target"].to_numpy()
    ).keys()
    can = [name for name in judged if name in set(faces["generator"][faces["target"] == 1])]
    if not can:
        raise ValueError(
            f"expected generators of {args.faces} and held-out reals of their kind in "
            f"{', '.join(args.matched)} but got {sorted(judged)}"
        )
    folds, others = [], sorted(set(faces["generator"]) - {""})
    for name, generators in left_out(can, args.family, args.generators, others).items():
        weights = args.runs / f"{name}.safetensors"
        command = [str(args.faces), "--out", str(weights), "--without", ",".join(generators)]
        command += ["--fit-fakes", *training]
        folds.append(Fold(name, generators, weights, tuple(command)))
        if train_options.read_options(command)["out"] != weights:
            raise ValueError("expected training options without --out, it is chosen by --runs")
        check_fold(folds[-1])
        seen_of(folds[-1], faces, tested)
    return folds


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 when done, 2 for wrong arguments, caches or folds, 130 when stopped."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name = "python -m benchmarks.leave_one_out"
    end = argv.index("--") if "--" in argv else len(argv)
    own, training = argv[:end], argv[end + 1 :]
    parser = _parser(name)
    args = parser.parse_args(own)
    try:
        faces, matched = CacheReader(args.faces), CacheReader(args.matched)
        rows = judged_rows(matched.metadata)
        if args.quick:
            rows = rows[matched.metadata.iloc[rows].groupby("generator").cumcount() < _QUICK_FACES]
        training = [*(_quick(training) if args.quick else []), *training]
        folds = _folds(args, training, faces.metadata, matched.metadata.iloc[rows])
        judged = []
        for number, fold in enumerate(folds, 1):
            print(f"fold {number} of {len(folds)}: {fold.name}")
            status = train_fold(fold)
            if status:
                return status
            judged.append(judge_fold(fold, faces.metadata, matched, rows))
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    about = {
        "command": " ".join([name, *argv]),
        "protocol": framing(matched.metadata),
        "quick": args.quick,
    }
    report(judged, about, args.out)
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name, description=__doc__, usage=f"{name} FACES MATCHED [options] [-- TRAIN OPTIONS]"
    )
    add = parser.add_argument
    add("faces", metavar="FACES", help="cache to train on, or a glob of caches")
    add("matched", nargs="+", metavar="MATCHED", help="written by evaluation.framing")
    add("--runs", type=Path, default=Path("runs/loo"), help="weights of folds (%(default)s)")
    add("--out", type=Path, default=Path("benchmarks/results/leave_one_out"),
        help="write OUT.json, OUT.md and OUT.png (%(default)s)")  # fmt: skip
    add("--generators", metavar="NAME[,NAME]", help="only these generators or families")
    add("--family", action="append", default=[], metavar="NAME=GENERATOR,GENERATOR",
        help="leave these out together")  # fmt: skip
    add("--quick", action="store_true", help="a smoke run of a few steps; its figures mean nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
