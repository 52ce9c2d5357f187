"""python -m benchmarks.cross_generator CACHE: how well weights hold on each generator.

CACHE is a matched cache (`evaluation.framing`); figures of any other are marked as raw. Every
fake generator is scored against reals of its own kind. Whether a generator is unseen is up to the
weights: give weights trained on the train split and a cache of the dev split.
"""

from __future__ import annotations

import argparse
import json
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
from ffdetect.scoring.detector import Detector
from preprocess.cache.reader import CacheReader


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
    rows: Sequence[int] | None = None,
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
    out.parent.mkdir(parents=True, exist_ok=True)
    values = {**about, "results": [asdict(result) for result in results]}
    out.with_suffix(".json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    parts = [heading(about), table(results), more]
    out.with_suffix(".md").write_text("\n\n".join(filter(None, parts)) + "\n", "utf-8")


def heading(about: dict) -> str:
    """What stands above a table: the command, and whether its figures can be trusted."""
    lines = [f"`{about['command']}`"] if "command" in about else []
    if about.get("protocol") == RAW:
        lines.append(f"**{RAW}** (real and fake differ in size, framing or compression)")
    if about.get("quick"):
        lines.append("**smoke run**: a few steps on a few faces, its figures mean nothing")
    return "\n\n".join(lines)


def compare(results: dict[str, list[Result]], command: str, out: Path) -> None:
    """Print one line of AUCs for each way that was tried, and write all of it to a JSON file."""
    names = [result.generator for result in next(iter(results.values()))]
    print(f"| | {' | '.join(names)} | mean |")
    for way, found in results.items():
        mean = np.mean([result.auc.value for result in found])
        print(f"| {way} | {' | '.join(str(result.auc) for result in found)} | {mean:.3f} |")
    record = {
        "command": command,
        "results": {way: [asdict(result) for result in found] for way, found in results.items()},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    name = "python -m benchmarks.cross_generator"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("cache", type=Path, metavar="CACHE", help="written by evaluation.framing")
    parser.add_argument("--weights", type=Path, help="(default: the weights of the package)")
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args(argv)
    try:
        reader = CacheReader(args.cache)
        detector = Detector.load(args.weights, precision=args.precision)
        results = evaluate(reader.metadata, score_cache(detector, reader))
    except ValueError as error:
        parser.error(str(error))
    shown = " ".join([name, *(argv or sys.argv[1:])])
    about = {"command": shown, "protocol": framing(reader.metadata), "weights": detector.about}
    print(f"{heading(about)}\n\n{table(results)}")
    if args.out:
        save(results, about, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
