"""python -m benchmarks.residuals CACHE MATCHED: which residual should the frequency stream see?

Trains the frequency stream alone with each residual, in the same way and as long, on the train
split of CACHE, and judges it by the generators of MATCHED (`benchmarks.protocol` on the dev split).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ffdetect import train
from ffdetect.detector import Detector
from preprocess.cache import CacheReader
from preprocess.maps import RESIDUALS

from .cross_generator import evaluate, score_cache


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.residuals", description=__doc__)
    parser.add_argument("cache", type=Path, metavar="CACHE")
    parser.add_argument("matched", type=Path, metavar="MATCHED")
    parser.add_argument("--twins", type=Path, help="cache written by ffdetect.regenerate")
    parser.add_argument("--steps", type=int, default=300, help="batches of 32 (%(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs/residuals"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/residuals.json"))
    args = parser.parse_args(argv)
    reader, results = CacheReader(args.matched), {}
    for kind in sorted(RESIDUALS):
        weights = args.runs / f"{kind}.safetensors"
        if not weights.exists():
            command = [str(args.cache), "--out", str(weights), "--streams", "frequency"]
            command += ["--residual", kind, "--window", "160", "--match", "dfdc_swap=dfdc"]
            command += ["--share-blends", "0.2", "--epochs", "1", "--steps", str(args.steps)]
            command += ["--val-limit", "4", "--workers", "1"]
            if args.twins:
                command += ["--twins", str(args.twins), "--share-twins", "0.2"]
            if train.main(command):
                return 1
        results[kind] = evaluate(reader, score_cache(Detector.load(weights), reader))
    names = [result.generator for result in results[kind]]
    print(f"| residual | {' | '.join(names)} | mean |")
    for kind, rows in results.items():
        values = [row.auc.value for row in rows]
        print(f"| {kind} | {' | '.join(f'{v:.3f}' for v in values)} | {np.mean(values):.3f} |")
    values = {
        "command": " ".join(["python -m benchmarks.residuals", *(argv or sys.argv[1:])]),
        "results": {kind: [asdict(row) for row in rows] for kind, rows in results.items()},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
