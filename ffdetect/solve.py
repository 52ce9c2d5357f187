"""What a `traces` network is solved from: statistics of many augmented pairs, read once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from .data import FaceDataset, PairDataset
from .device import has_fast_bf16
from .metrics import auc
from .traces import Statistics, TraceNet

_BATCH = 16  # pairs
_PART = 256  # pairs of one file


def read_statistics(
    network: TraceNet,
    pairs: PairDataset,
    count: int,
    folder: Path,
    *,
    resume: bool = False,
    workers: int = 0,
) -> tuple[Statistics, np.ndarray]:
    """Statistics of the first `count` pairs, kept in `folder` as they come.

    Args:
        resume: go on from the parts in the folder, which must be of the same command.
        workers: processes that draw and augment the pairs.

    Returns:
        statistics of 2 `count` faces, real and fake by turns, and bool `count`: see `Pair.swapped`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        for old in folder.glob("statistics-*.npz"):
            old.unlink()
    network.eval()
    parts = []
    with tqdm(total=count, unit="pair") as bar:
        for start in range(0, count, _PART):
            numbers = range(start, min(start + _PART, count))
            file = folder / f"statistics-{start:07d}-{numbers.stop:07d}.npz"
            if not file.exists():
                values = _read(network, pairs, numbers, workers)
                temporary = file.with_suffix(".tmp.npz")
                np.savez(temporary, **values)
                temporary.replace(file)
            with np.load(file) as stored:  # never pickle
                parts.append({name: stored[name] for name in stored.files})
            bar.update(len(numbers))
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    swapped = whole.pop("swapped")
    return Statistics(**{name: torch.from_numpy(v) for name, v in whole.items()}), swapped


def _read(
    network: TraceNet, pairs: PairDataset, numbers: range, workers: int
) -> dict[str, np.ndarray]:
    loader = DataLoader(pairs, _BATCH, sampler=numbers, num_workers=workers)
    found, swapped = [], []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16()):
        for batch in loader:
            found.append(network.statistics(batch.crops.flatten(0, 1)))
            swapped.append(batch.swapped)
    joined = Statistics(*(torch.cat(values).float() for values in zip(*found, strict=True)))
    return {**{n: v.numpy() for n, v in joined._asdict().items()},
            "swapped": torch.cat(swapped).numpy()}  # fmt: skip


def validation_auc(
    network: TraceNet,
    val: FaceDataset,
    names: np.ndarray,
    matches: dict[str, tuple[str, ...]],
) -> dict[str, float]:
    """AUC of each fake generator against reals of its kind.

    Args:
        names: generator or real source of every row of the cache.
        matches: fake generator -> real sources it is compared with; others with the rest.
    """
    rows, target, logit = [], [], []
    with torch.no_grad():
        for batch in tqdm(DataLoader(val, 32), unit="batch", desc="validation"):
            rows.append(batch["row"])
            target.append(batch["target"])
            logit.append(network(batch["crop"], residual=batch.get("residual")))
    name = names[torch.cat(rows).numpy()].astype(str)
    truth, score = torch.cat(target).numpy(), torch.cat(logit).double().numpy()
    kept = [source for sources in matches.values() for source in sources]
    aucs = {}
    for generator in sorted(set(name[truth == 1])):
        sources = matches.get(generator)
        fits = np.isin(name, sources) if sources else ~np.isin(name, kept)
        chosen = (fits & (truth == 0)) | ((name == generator) & (truth == 1))
        if len(np.unique(truth[chosen])) == 2:
            aucs[generator] = auc(truth[chosen], score[chosen])
    return aucs
