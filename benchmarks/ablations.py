"""python -m benchmarks.ablations FACES MATCHED --twins CACHE --init FILE: what do the parts add?

The trace heads are solved on statistics of frozen layers, so a mix of training data can be judged
in seconds: statistics of every component (each kind of twin, swaps, blends, each collected
generator) are read once from the train split, then heads are solved on mixes of them and judged
on MATCHED, a cache of the dev split by `evaluation.framing`. Where collected fakes take part,
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

from ffdetect.evaluation.matching import comparisons, parse_matches
from ffdetect.evaluation.metrics import auc
from ffdetect.evaluation.splits import split_rows
from ffdetect.models.network import NetworkSettings, create_network
from ffdetect.models.traces import HiddenHead, LinearHead, TraceNet
from ffdetect.training.data import Mix, PairDataset
from ffdetect.training.solve import read_statistics
from preprocess.cache.reader import CacheReader


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
        kinds: components of the mix.
        reading: "both" streams, "rgb" or "frequency".
        head: "discriminant" as in the network, "logistic" or "hidden" (with a hidden layer).
    """

    name: str
    kinds: tuple[str, ...]
    reading: str = "both"
    head: str = "discriminant"


def rows_to_try(
    kinds: Sequence[str], candidates: Sequence[str], collected: Sequence[str]
) -> list[Row]:
    """The table's rows, from one kind of twin to everything."""
    every = tuple(kinds)
    rows = [Row("all twins", every)]
    rows += [Row(f"all twins: {r} alone", every, reading=r) for r in ("rgb", "frequency")]
    rows += [Row(f"all twins: {h} head", every, head=h) for h in ("logistic", "hidden")]
    rows += [Row(f"{kind} alone", (kind,)) for kind in (*kinds, *candidates)]
    if len(kinds) > 1:
        rows += [Row(f"all but {kind}", tuple(k for k in kinds if k != kind)) for kind in kinds]
    rows += [Row(f"all and {kind}", (*every, kind)) for kind in candidates]
    rows += [Row(f"all and {kind}", (*every, kind)) for kind in ("swaps", "blends")]
    rows.append(Row("all and each other generator", (*every, *collected)))
    rows.append(Row("each other generator", tuple(collected)))
    rows.append(Row("each other generator: logistic head", tuple(collected), head="logistic"))
    return rows


def judge(
    row: Row, parts: dict[str, Part], matched: Part, generator: np.ndarray, target: np.ndarray
) -> dict[str, float]:
    """AUC of each generator against reals of its kind."""
    aucs, solved = {}, {}
    for name, chosen in comparisons(generator, target).items():
        kinds = tuple(kind for kind in row.kinds if kind != name)
        if not kinds:
            continue
        if kinds not in solved:
            solved[kinds] = _scores(kinds, row, parts, matched)
        aucs[name] = auc(target[chosen], solved[kinds][chosen])
    return aucs


def _scores(kinds: tuple[str, ...], row: Row, parts: dict[str, Part], matched: Part) -> np.ndarray:
    score = 0.0
    for stream in ("rgb", "frequency") if row.reading == "both" else (row.reading,):
        x = torch.cat([getattr(parts[kind], stream) for kind in kinds])
        names = np.repeat(kinds, [len(parts[kind].rgb) // 2 for kind in kinds])
        score = score + _solve(row.head, x, names)(getattr(matched, stream)).numpy()
    return score


@torch.no_grad()
def _solve(head: str, x: torch.Tensor, kinds: np.ndarray) -> nn.Module:
    target = np.tile([0, 1], len(kinds))
    if head == "hidden":
        made = HiddenHead(x.shape[1], 64)
        with torch.enable_grad():
            made.solve(x, target, seed=0, epochs=15)
        return made.eval().requires_grad_(False)
    made = LinearHead(x.shape[1])
    made.solve(x, kinds)
    if head == "logistic":
        from sklearn.linear_model import LogisticRegression

        solved = LogisticRegression(C=0.03, max_iter=1000)
        solved.fit(made.standardise(x).numpy(), target)
        made.linear.weight.copy_(torch.from_numpy(solved.coef_))
        made.linear.bias.copy_(torch.from_numpy(solved.intercept_))
    return made.requires_grad_(False)


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
        faces_seen = read_statistics(network, data, pairs, runs / name, resume=True).faces
        parts[name] = Part(faces_seen.rgb, faces_seen.frequency)
    return parts


@torch.no_grad()
def read_matched(network: TraceNet, reader: CacheReader, batch: int = 32) -> Part:
    found = []
    for start in tqdm(range(0, len(reader), batch), unit="batch", desc="matched"):
        found.append(
            network.statistics(reader.crops(range(start, min(start + batch, len(reader)))))
        )
    return Part(*(torch.cat([getattr(f, s) for f in found]) for s in ("rgb", "frequency")))


def main(argv: Sequence[str] | None = None) -> int:
    name = "python -m benchmarks.ablations"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    add = parser.add_argument
    add("faces", type=Path, metavar="FACES", help="cache of collected faces")
    add(
        "matched",
        type=Path,
        metavar="MATCHED",
        help="written by evaluation.framing --split dev",
    )
    add("--twins", nargs="+", type=Path, required=True, help="written by ffdetect.fakes.regenerate")
    add("--init", type=Path, required=True, help="mobilenetv2_100 weights")
    add("--match", action="append", default=["dfdc_swap=dfdc"], help="as in ffdetect.train")
    add("--candidates", default="", help="kinds of twins that are tried, but not in the mix")
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
    candidates = [name for name in args.candidates.split(",") if name]
    if unknown := sorted(set(candidates) - set(parts)):
        parser.error(f"expected --candidates among {sorted(parts)} but got {unknown}")
    kinds = [n for n in parts if n not in (*collected, *candidates, "swaps", "blends")]
    names = list(comparisons(generator, target))
    lines = [f"| mix | {' | '.join(names)} | mean |", "|---" * (len(names) + 2) + "|"]
    results = {}
    for row in tqdm(rows_to_try(kinds, candidates, collected), unit="mix"):
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
