"""python -m benchmarks.cross_generator CACHE: how well weights hold on each generator.

CACHE is a matched cache (`evaluation.framing`); figures of any other are marked as raw. Every
fake generator is scored against reals of its own kind. Whether a generator is unseen is up to the
weights: give weights trained on the train split and a cache of the dev split.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ffdetect.evaluation.bootstrap import Interval, auc_interval
from ffdetect.evaluation.framing import RAW, framing
from ffdetect.evaluation.matching import comparisons
from ffdetect.evaluation.metrics import calibration_error, eer, tpr_at_fpr
from ffdetect.evaluation.tables import save_record
from ffdetect.scoring.detector import Detector
from preprocess.cache.reader import CacheReader

from ._harness import Parser


@dataclass(frozen=True)
class Result:
    """How one generator's fakes are told from reals of their kind."""

    generator: str
    fakes: int
    reals: int
    auc: Interval
    tpr_at_fpr_1e2: float
    tpr_at_fpr_1e3: float
    eer: float
    ece: float


def score_cache(
    detector: Detector,
    reader: CacheReader,
    rows: Sequence[int] | np.ndarray | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """float32 N: the probability of fake for these rows of a cache, or for every face."""
    detector.check_cache(reader)
    rows = range(len(reader)) if rows is None else rows
    starts = tqdm(range(0, len(rows), batch_size), unit="batch")
    batches = (reader.crops(rows[i : i + batch_size]) for i in starts)
    return np.concatenate([detector.score_crops(batch) for batch in batches])


def evaluate(faces: pd.DataFrame, score: np.ndarray) -> list[Result]:
    """One result a generator, with bootstrap intervals; `faces` as `CacheReader.metadata`."""
    generator = faces["generator"].to_numpy().astype(str)
    target = faces["target"].to_numpy()
    results = []
    for name, rows in comparisons(generator, target).items():
        t, s = target[rows], score[rows].astype(np.float64)
        results.append(
            Result(
                generator=name,
                fakes=int(t.sum()),
                reals=int((1 - t).sum()),
                auc=auc_interval(t, s),
                tpr_at_fpr_1e2=tpr_at_fpr(t, s, 1e-2),
                tpr_at_fpr_1e3=tpr_at_fpr(t, s, 1e-3),
                eer=eer(t, s),
                ece=calibration_error(t, s),
            )
        )
    return results


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table with their mean."""
    lines = [
        "| generator | fakes / reals | AUC [95 %] | TPR@1e-2 | TPR@1e-3 | EER | ECE |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.generator} | {r.fakes} / {r.reals} | {r.auc} | {r.tpr_at_fpr_1e2:.3f} "
        f"| {r.tpr_at_fpr_1e3:.3f} | {r.eer:.3f} | {r.ece:.3f} |"
        for r in results
    ]
    lines.append(f"| **mean** | | **{np.mean([r.auc.value for r in results]):.3f}** | | | | |")
    return "\n".join(lines)


def save(results: Sequence[Result], about: dict, out: Path, more: str = "") -> None:
    """Write OUT.json, and OUT.md with `more` below the table."""
    values = {**about, "results": [asdict(result) for result in results]}
    save_record(out, values, "\n\n".join(filter(None, [heading(about), table(results), more])))


def heading(about: dict) -> str:
    """What stands above a table: the command, and whether its figures can be trusted."""
    lines = [f"`{about['command']}`"] if "command" in about else []
    if about.get("protocol") == RAW:
        lines.append(f"**{RAW}** (real and fake differ in size, framing or compression)")
    if about.get("quick"):
        lines.append("**smoke run**: a few steps on a few faces, its figures mean nothing")
    return "\n\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(str(__doc__))
    parser.add_cache()
    parser.add_out()
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args(argv)
    try:
        reader = CacheReader(args.cache)
        detector = Detector.load(args.weights, precision=args.precision)
        results = evaluate(reader.metadata, score_cache(detector, reader))
    except ValueError as error:
        parser.error(str(error))
    about = {
        "command": parser.command(argv),
        "protocol": framing(reader.metadata),
        "weights": detector.about,
    }
    print(f"{heading(about)}\n\n{table(results)}")
    save(results, about, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
