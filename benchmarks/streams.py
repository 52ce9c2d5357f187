"""python -m benchmarks.streams MATCHED --weights FILE: what does the fusion add to its streams?

One network, several ways to read it: the fused logit, each stream's own logit, and the plain mean
of the RGB and the frequency stream. MATCHED is a cache by `evaluation.framing`; the weights
should not have seen it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ffdetect.models.network import Scorer
from ffdetect.models.weights import load_checkpoint
from preprocess.cache.reader import CacheReader

from .cross_generator import compare, evaluate


@torch.inference_mode()
def read_streams(
    network: Scorer,
    reader: CacheReader,
    rows: Sequence[int] | None = None,
    batch_size: int = 32,
) -> dict[str, np.ndarray]:
    """Reading -> float64 N probabilities of the faces in `rows` (default: all)."""
    rows = range(len(reader)) if rows is None else rows
    parts: dict[str, list[torch.Tensor]] = {}
    for start in tqdm(range(0, len(rows), batch_size), unit="batch"):
        crops = reader.crops(rows[start : start + batch_size])
        logits = network.stream_logits(crops)
        readings = {n: logit for n, logit in logits._asdict().items() if logit is not None}
        readings["mean of both"] = (logits.rgb + logits.frequency) / 2
        for name, logit in readings.items():
            parts.setdefault(name, []).append(logit.double().sigmoid())
    return {name: torch.cat(values).numpy() for name, values in parts.items()}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("matched", type=Path, metavar="MATCHED")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/streams.json"))
    args = parser.parse_args(argv)
    try:
        reader, network = CacheReader(args.matched), load_checkpoint(args.weights).network
        if network.settings.streams != "both":
            raise ValueError(f"{args.weights}: expected both streams in one network")
    except ValueError as error:
        parser.error(str(error))
    scores = read_streams(network, reader)
    results = {name: evaluate(reader.metadata, score) for name, score in scores.items()}
    command = " ".join(["python -m benchmarks.streams", *(argv or sys.argv[1:])])
    compare(results, command, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
