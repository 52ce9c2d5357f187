"""python -m benchmarks.streams MATCHED --weights FILE: what does the fusion add to its streams?

One network, four ways to read it: the fused logit, each stream's own logit, and the plain mean of
the two. MATCHED is a cache by `benchmarks.protocol`; the weights should not have seen it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ffdetect.checkpoint import load_checkpoint
from preprocess.cache import CacheReader

from .cross_generator import compare, evaluate

READINGS = ("fused", "rgb", "frequency", "mean of both")


@torch.inference_mode()
def read_streams(network: torch.nn.Module, reader: CacheReader, batch_size: int = 32) -> np.ndarray:
    """float64 4 x N probabilities, in the order of `READINGS`."""
    parts = []
    for start in tqdm(range(0, len(reader), batch_size), unit="batch"):
        crops = reader.crops(range(start, min(start + batch_size, len(reader))))
        fused, rgb, frequency = network.stream_logits(crops)
        parts.append(torch.stack([fused, rgb, frequency, (rgb + frequency) / 2]).sigmoid())
    return torch.cat(parts, 1).double().numpy()


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
    scores = dict(zip(READINGS, read_streams(network, reader), strict=True))
    results = {name: evaluate(reader.metadata, score) for name, score in scores.items()}
    command = " ".join(["python -m benchmarks.streams", *(argv or sys.argv[1:])])
    compare(results, command, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
