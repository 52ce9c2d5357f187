"""python -m benchmarks.ablations FACES MATCHED --twins CACHE --init FILE: what do the parts add?

The trace heads are solved on statistics of frozen layers, so a mix of training data can be judged
in seconds: statistics of every component (each kind of twin, swaps, blends, each collected
generator) are read once from the train split, then heads are solved on mixes of them and judged
on MATCHED, a cache of the dev split by `benchmarks.protocol`. Where collected fakes take part,
the generator that is judged is left out of the mix. The face stream takes no part.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ffdetect.data import Mix, PairDataset, split_rows
from ffdetect.device import has_fast_bf16
from ffdetect.metrics import auc
from ffdetect.network import NetworkSettings, create_network
from ffdetect.solve import read_statistics
from ffdetect.traces import HiddenHead, LinearHead, TraceNet
from preprocess.cache import CacheReader
from preprocess.matching import parse_matches

from .protocol import comparisons

_FREQUENCY_SHARE = 0.4  # as in the network


@dataclass(frozen=True)
class Part:
    """Statistics of pairs of one kind, real and fake by turns, float32 2 N x features."""

    rgb: torch.Tensor
    frequency: torch.Tensor


@dataclass(frozen=True)
class Row:
    """One thing that was tried.

    Attributes:
        name: what it was.
        weights: component -> its weight in the mix.
        reading: "both" streams, "rgb" or "frequency".
        head: "linear", or "hidden" for one with a hidden layer.
    """

    name: str
    weights: dict[str, float]
    reading: str = "both"
    head: str = "linear"


def rows_to_try(kinds: Sequence[str], collected: Sequence[str]) -> list[Row]:
    """The table's rows, from one kind of twin to everything."""
    every = dict.fromkeys(kinds, 1.0)
    swaps = {**every, "swaps": 0.2}
    rows = [Row(f"{kind} alone", {kind: 1.0}) for kind in kinds]
    rows.append(Row("all kinds of twins", every))
    if len(kinds) > 2:
        rows += [Row(f"all but {kind}", {k: 1.0 for k in kinds if k != kind}) for kind in kinds]
    rows.append(Row("swaps alone", {"swaps": 1.0}))
    rows += [Row(f"twins, swaps {w}", {**every, "swaps": w}) for w in (0.2, 1.0)]
    rows.append(Row("twins, swaps 0.2, blends 0.2", {**swaps, "blends": 0.2}))
    for weight in (0.02, 0.1, 0.5):
        name = f"twins, swaps 0.2, each other generator {weight}"
        rows.append(Row(name, {**swaps, **dict.fromkeys(collected, weight)}))
    rows.append(Row("collected generators alone", dict.fromkeys(collected, 1.0)))
    rows += [Row(f"twins, swaps 0.2: {r} alone", swaps, r) for r in ("rgb", "frequency")]
    rows.append(Row("twins, swaps 0.2: hidden layer", swaps, head="hidden"))
    return rows


def judge(
    row: Row, parts: dict[str, Part], matched: Part, generator: np.ndarray, target: np.ndarray
) -> dict[str, float]:
    """AUC of each generator against reals of its kind."""
    aucs, solved = {}, {}
    for name, chosen in comparisons(generator, target).items():
        weights = {k: w for k, w in row.weights.items() if k != name}
        if not weights:
            continue
        key = tuple(sorted(weights))
        if key not in solved:
            solved[key] = _scores(weights, row, parts, matched)
        aucs[name] = auc(target[chosen], solved[key][chosen])
    return aucs


def _scores(
    weights: dict[str, float], row: Row, parts: dict[str, Part], matched: Part
) -> np.ndarray:
    score, shares = 0.0, {"rgb": 1 - _FREQUENCY_SHARE, "frequency": _FREQUENCY_SHARE}
    for stream in shares if row.reading == "both" else [row.reading]:
        x = torch.cat([getattr(parts[name], stream) for name in weights])
        sizes = [len(parts[name].rgb) for name in weights]
        target = np.concatenate([np.tile([0, 1], size // 2) for size in sizes])
        each = [np.full(n, w / n) for n, w in zip(sizes, weights.values(), strict=True)]
        weight = np.concatenate(each) * sum(sizes) / sum(weights.values())
        head = _solve(row.head, x, target, weight)
        logit = head(getattr(matched, stream)).numpy()
        score = score + (shares[stream] if row.reading == "both" else 1.0) * logit
    return score


@torch.no_grad()
def _solve(head: str, x: torch.Tensor, target: np.ndarray, weight: np.ndarray) -> nn.Module:
    if head == "linear":
        made = LinearHead(x.shape[1])
        made.solve(x, target, weight)
        return made.requires_grad_(False)
    drawn = np.random.default_rng(0).choice(len(x), 2 * len(x), p=weight / weight.sum())
    made = HiddenHead(x.shape[1], 64)
    with torch.enable_grad():
        made.solve(x[drawn], target[drawn], seed=0, epochs=15)
    return made.eval().requires_grad_(False)


def read_parts(
    network: TraceNet, faces: CacheReader, twins: CacheReader, pairs: int, runs: Path,
    matches: dict[str, tuple[str, ...]], swapped: Sequence[str],
) -> dict[str, Part]:  # fmt: skip
    """Component -> statistics of so many of its pairs; kept in `runs`."""
    train = split_rows(faces.metadata)[0]
    table = faces.metadata
    mixes: dict[str, tuple[Mix, np.ndarray, np.ndarray | None]] = {}
    fit = split_rows(twins.metadata)[0]
    chosen = twins.metadata.iloc[fit]
    for kind in sorted(set(chosen["generator"][chosen["target"] == 1])):
        paths = set(chosen["path"][chosen["generator"] == kind])
        mixes[kind] = Mix(twins=1.0), train, fit[chosen["path"].isin(paths)]
    mixes["swaps"] = Mix(swaps=1.0, swapped=tuple(swapped), matches=matches), train, None
    mixes["blends"] = Mix(blends=1.0), train, None
    kept = [source for sources in matches.values() for source in sources]
    reals = train[((table["target"] == 0) & ~table["generator"].isin(kept)).iloc[train]]
    for name in sorted(set(table["generator"][table["target"] == 1]) - set(swapped)):
        fakes = np.flatnonzero((table["target"] == 1) & (table["generator"] == name))
        mixes[name] = Mix(), np.concatenate([reals, fakes]), None
    parts = {}
    for name, (mix, rows, twin_rows) in mixes.items():
        print(name)
        data = PairDataset(
            faces, rows, mix=mix, twins=twins if mix.twins else None, twin_rows=twin_rows,
            window=faces.settings.crop.size, mild=0.75,
        )  # fmt: skip
        seen, _ = read_statistics(network, data, pairs, runs / name, resume=True)
        parts[name] = Part(seen.rgb, seen.frequency)
    return parts


@torch.no_grad()
def read_matched(network: TraceNet, reader: CacheReader, batch: int = 32) -> Part:
    found = []
    with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16()):
        for start in tqdm(range(0, len(reader), batch), unit="batch", desc="matched"):
            crops = reader.crops(range(start, min(start + batch, len(reader))))
            found.append(network.statistics(crops))
    return Part(*(torch.cat([getattr(f, s) for f in found]).float() for s in ("rgb", "frequency")))


def main(argv: Sequence[str] | None = None) -> int:
    name = "python -m benchmarks.ablations"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    add = parser.add_argument
    add("faces", type=Path, metavar="FACES", help="cache of collected faces")
    add("matched", type=Path, metavar="MATCHED", help="written by benchmarks.protocol --split dev")
    add("--twins", nargs="+", type=Path, required=True, help="written by ffdetect.regenerate")
    add("--init", type=Path, required=True, help="mobilenetv2_100 weights")
    add("--match", action="append", default=["dfdc_swap=dfdc"], help="as in ffdetect.train")
    add("--swaps", default="dfdc_swap", help="as in ffdetect.train (%(default)s)")
    add("--pairs", type=int, default=512, help="of each component (%(default)s)")
    add("--runs", type=Path, default=Path("runs/ablations"), help="statistics (%(default)s)")
    add("--out", type=Path, default=Path("benchmarks/results/ablations"), help="OUT.json, OUT.md")
    args = parser.parse_args(argv)
    try:
        faces, matched = CacheReader(args.faces), CacheReader(args.matched)
        network = create_network(NetworkSettings(design="traces", residual="detail"))
        network.load_pretrained(args.init)
        network.to(memory_format=torch.channels_last)
        parts = read_parts(network, faces, CacheReader(args.twins), args.pairs, args.runs,
                           parse_matches(args.match), args.swaps.split(","))  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    table = matched.metadata
    generator, target = table["generator"].to_numpy().astype(str), table["target"].to_numpy()
    seen = read_matched(network, matched)
    collected = [n for n in parts if n in set(faces.metadata["generator"])]
    kinds = [n for n in parts if n not in (*collected, "swaps", "blends")]
    names = list(comparisons(generator, target))
    lines = [f"| mix | {' | '.join(names)} | mean |", "|---" * (len(names) + 2) + "|"]
    results = {}
    for row in tqdm(rows_to_try(kinds, collected), unit="mix"):
        aucs = judge(row, parts, seen, generator, target)
        results[row.name] = aucs
        cells = [f"{aucs[n]:.3f}" if n in aucs else "" for n in names]
        lines.append(f"| {row.name} | {' | '.join(cells)} | {np.mean(list(aucs.values())):.3f} |")
    print("\n".join(lines))
    command = " ".join([name, *(argv or sys.argv[1:])])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    record = {"command": command, "pairs": args.pairs, "results": results}
    args.out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    args.out.with_suffix(".md").write_text(f"`{command}`\n\n" + "\n".join(lines) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
