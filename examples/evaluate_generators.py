"""python examples/evaluate_generators.py CACHE [WEIGHTS]: on which generators do weights fail?"""

from __future__ import annotations

import sys

from ffdetect import Detector
from ffdetect.evaluation.breakdown import break_down
from preprocess.cache import CacheReader


def main(cache: str, weights: str | None = None) -> None:
    reader = CacheReader(cache)
    faces = reader.metadata[reader.metadata["target"] >= 0]
    score = Detector.load(weights).score_cache(reader, faces.index.to_numpy())
    found = break_down(
        faces["target"].to_numpy(), score, faces["generator"].to_numpy(), faces["group"].to_numpy()
    )
    for result in found.generators:  # worst first
        print(f"{result.generator}: AUC {result.auc} of {result.fakes} fakes, {result.reals} reals")
    for source in found.sources:
        print(f"{source.source}: {source.flagged[0.1]} flagged where 10 % of all reals are")


if __name__ == "__main__":
    main(*sys.argv[1:])
