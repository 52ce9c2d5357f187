"""python -m benchmarks.robustness CACHE: what do compression, size, blur and tone do to the scores?

CACHE is a matched cache (`evaluation.framing`). Its crops are disturbed one way at a time, real
and fake alike (`benchmarks.disturbances`), and scored again. Told apart are: how well the classes
are still told from each other (AUC, each generator against reals of its own kind), and where the
scores go. A real face that looks fake after a disturbance is one harm, a fake one that looks real
is another, and an AUC hides both when all scores move together. Whether a generator is unseen is
up to the weights, as in `ffdetect.evaluate`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import util
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logit
from tqdm import tqdm

from ffdetect.evaluation.bootstrap import Interval, bootstrap_all
from ffdetect.evaluation.kept import Store
from ffdetect.evaluation.matching import comparisons, spread
from ffdetect.evaluation.metrics import RankedAuc, auc
from ffdetect.evaluation.tables import markdown_of
from ffdetect.evaluation.thresholds import threshold_at_fpr
from ffdetect.scoring.detector import Detector
from preprocess.cache.reader import CacheReader

from ._harness import Parser, cache_digest, save_result, weights_digest
from .disturbances import DISTURBANCES, UNDISTURBED

FPR = 0.1  # the operating point flags this share of the undisturbed reals of a kind
_ROUNDS = 400
_EDGE = 1e-7  # scores are float32: beyond this, logits would tell of rounding
_BATCH = 32


# Name -> (crop of a cache's row, the row) -> disturbed crop, both uint8 S x S x 3.
CONDITIONS: dict[str, Callable[..., np.ndarray]] = {
    UNDISTURBED: lambda crop, row: crop,
    **{
        kind.label(strength): partial(kind.apply, strength=strength)
        for kind in DISTURBANCES
        for strength in kind.strengths
        if strength is not None
    },
}


@dataclass(frozen=True)
class Shift:
    """Where the scores of one class go; positive is towards fake.

    Attributes:
        logit: median over the faces of the change of the score's logit.
        logit_quartiles: first and third quartile of the same.
        probability: median change of the score.
        newly_above: share of all faces of the class that came above the operating point.
        newly_below: share that fell below it.
    """

    logit: float
    logit_quartiles: tuple[float, float]
    probability: float
    newly_above: float
    newly_below: float


@dataclass(frozen=True)
class Outcome:
    """What one condition did.

    Attributes:
        condition: its name.
        auc: generator -> AUC against reals of its kind.
        mean_auc: over the generators.
        change: of the mean AUC against undisturbed, with its paired bootstrap interval.
        reals, fakes: where their scores go.
    """

    condition: str
    auc: dict[str, float]
    mean_auc: float
    change: Interval
    reals: Shift
    fakes: Shift


def choose_rows(faces: pd.DataFrame, limit: int | None = None) -> np.ndarray:
    """Rows that take part in a comparison, at most `limit` of each generator and real source.

    Raises:
        ValueError: no generator has reals of its kind here.
    """
    groups = comparisons(*_labels(faces))
    if not groups:
        raise ValueError("expected fakes and reals of their kind but found no such pair")
    rows = np.unique(np.concatenate(list(groups.values())))
    return rows if limit is None else spread(faces, rows, limit)


def _labels(faces: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return faces["generator"].to_numpy().astype(str), faces["target"].to_numpy()


def score_conditions(
    detector: Detector, reader: CacheReader, rows: np.ndarray, store: Store
) -> dict[str, np.ndarray]:
    """Name of a condition -> float32 scores of the rows; what the store holds is not scored again.

    Args:
        store: decided by weights, cache and rows.
    """
    with tqdm(total=len(CONDITIONS) * len(rows), unit="face", smoothing=0.05) as bar:

        def score(condition: str) -> np.ndarray:
            bar.set_postfix_str(condition)
            parts = []
            for start in range(0, len(rows), _BATCH):
                batch = rows[start : start + _BATCH]
                crops = [
                    CONDITIONS[condition](reader.crop(int(row)), row=int(row)) for row in batch
                ]
                parts.append(detector.score_crops(np.stack(crops)))
                bar.update(len(batch))
            return np.concatenate(parts)

        return {
            name: store.array("robustness", partial(score, name), condition=name)
            for name in CONDITIONS
        }


def evaluate(faces: pd.DataFrame, scores: dict[str, np.ndarray]) -> list[Outcome]:
    """One outcome a condition, the undisturbed one first.

    Args:
        faces: as `CacheReader.metadata`, of the rows that were scored.
        scores: condition -> probabilities of these rows.
    """
    generator, target = _labels(faces)
    groups = comparisons(generator, target)
    before = next(iter(scores.values())).astype(np.float64)
    threshold = operating_points(before, target, groups)
    changes = mean_changes(faces, scores)
    outcomes = []
    for name, after in scores.items():
        after = after.astype(np.float64)
        found = {str(g): auc(target[rows], after[rows]) for g, rows in groups.items()}
        outcomes.append(
            Outcome(
                condition=name,
                auc=found,
                mean_auc=float(np.mean(list(found.values()))),
                change=changes[name],
                reals=_shift(before, after, threshold, target == 0),
                fakes=_shift(before, after, threshold, target == 1),
            )
        )
    return outcomes


def mean_changes(faces: pd.DataFrame, scores: dict[str, np.ndarray]) -> dict[str, Interval]:
    """What each condition adds to the mean AUC of the first.

    All see the same draws, so that what they have in common cancels out; faces are drawn within
    their generator or source, once for all generators that a source is compared with.
    """
    names, target = _labels(faces)
    compared = list(comparisons(names, target).values())
    ranked = {
        name: [(own, RankedAuc(target[own], score[own])) for own in compared]
        for name, score in scores.items()
    }

    def figures(rows: np.ndarray) -> dict[str, float]:
        times = np.bincount(rows, minlength=len(target)).astype(float)
        means = {
            name: float(np.mean([auc(times[own]) for own, auc in aucs]))
            for name, aucs in ranked.items()
        }
        first = next(iter(means.values()))
        return {name: mean - first for name, mean in means.items()}

    return bootstrap_all(figures, np.char.add(names, target.astype(str)), rounds=_ROUNDS)


def operating_points(
    score: np.ndarray, target: np.ndarray, groups: dict[str, np.ndarray]
) -> np.ndarray:
    """Per face, the threshold for `FPR` of the reals it is compared with."""
    points = np.full(len(score), np.nan)
    for rows in groups.values():
        points[rows] = threshold_at_fpr(score[rows[target[rows] == 0]], FPR)
    return points


def _shift(
    before: np.ndarray, after: np.ndarray, threshold: np.ndarray, chosen: np.ndarray
) -> Shift:
    before, after, threshold = before[chosen], after[chosen], threshold[chosen]
    moved = logit(after.clip(_EDGE, 1 - _EDGE)) - logit(before.clip(_EDGE, 1 - _EDGE))
    low, middle, high = np.quantile(moved, [0.25, 0.5, 0.75])
    return Shift(
        logit=float(middle),
        logit_quartiles=(float(low), float(high)),
        probability=float(np.median(after - before)),
        newly_above=float(((before < threshold) & (after >= threshold)).mean()),
        newly_below=float(((before >= threshold) & (after < threshold)).mean()),
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """Two Markdown tables: what happens to the scores, and the AUC of each generator."""
    moves = [
        {
            "": o.condition,
            "mean AUC": f"{o.mean_auc:.3f}",
            "change [95 %]": o.change.signed(),
            "reals newly flagged": f"{o.reals.newly_above:.1%}",
            "reals: logit": f"{o.reals.logit:+.2f}",
            "reals: score": f"{o.reals.probability:+.3f}",
            "fakes newly missed": f"{o.fakes.newly_below:.1%}",
            "fakes: logit": f"{o.fakes.logit:+.2f}",
            "fakes: score": f"{o.fakes.probability:+.3f}",
        }
        for o in outcomes
    ]
    aucs = [
        {"AUC": o.condition, **{name: f"{value:.3f}" for name, value in o.auc.items()}}
        for o in outcomes
    ]
    return f"{markdown_of(moves)}\n\n{markdown_of(aucs)}"


def _explanation(faces: pd.DataFrame, files: Sequence[str]) -> str:
    counts = ", ".join(f"{name} {n}" for name, n in faces["generator"].value_counts().items())
    pictures = "\n".join(f"![]({name})" for name in files)
    return (
        f"{len(faces)} faces ({counts}). Ready crops are disturbed, both classes alike. Change: "
        "of the mean AUC, with a paired bootstrap interval. Newly flagged, newly missed: share "
        "of all reals that come above, and of all fakes that fall below, the operating point, "
        f"which flags at most {FPR:.0%} of the undisturbed reals of a kind. Logit, score: median "
        "change of a face's own; positive is towards fake. Small face: side of the whole crop, "
        f"of which the face takes about three quarters.\n\n{pictures}\n\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(str(__doc__))
    parser.add_cache()
    parser.add_argument("--limit", type=int, help="faces a generator or source (default: all)")
    parser.add_kept()
    parser.add_out()
    args = parser.parse_args(argv)
    if args.limit is not None and args.limit < 1:
        parser.error(f"expected --limit of at least 1 but got {args.limit}")
    if util.find_spec("matplotlib") is None:
        parser.error("the plots need the [bench] extra: pip install 'ffdetect[bench]'")
    try:
        reader = CacheReader(args.cache)
        detector = Detector.load(args.weights, threads=None)
        detector.check_cache(reader)
        rows = choose_rows(reader.metadata, args.limit)
        store = Store(
            args.kept,
            weights=weights_digest(args.weights),
            cache=cache_digest(reader),
            rows=rows.tolist(),
        )
        scores = score_conditions(detector, reader, rows, store)
    except ValueError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from here ({args.kept})", file=sys.stderr)
        return 130
    faces = reader.metadata.iloc[rows]
    outcomes = evaluate(faces, scores)
    save(outcomes, faces, parser.command(argv), detector.about, args.out)
    return 0


def save(
    outcomes: Sequence[Outcome], faces: pd.DataFrame, command: str, weights: dict, out: Path
) -> None:
    """Print the tables, and write OUT.json, OUT.md and the plots OUT_*.png."""
    from .robustness_plots import plot

    out.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "weights": weights,
        "faces": {name: int(n) for name, n in faces["generator"].value_counts().items()},
        "operating_point_fpr": FPR,
        "results": [asdict(outcome) for outcome in outcomes],
    }
    files = plot(outcomes, out)
    text = _explanation(faces, [file.name for file in files]) + table(outcomes)
    save_result(out, command, values, text)


if __name__ == "__main__":
    sys.exit(main())
