"""What a `traces` network is solved from: statistics of many augmented pairs, read once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ffdetect.evaluation.metrics import generator_aucs
from ffdetect.models.traces import PairStatistics, Statistics, TraceNet

from .data import FaceDataset, PairDataset
from .ranks import Ranks

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
) -> PairStatistics:
    """Statistics of the first `count` pairs, kept in `folder` as they come.

    Args:
        resume: go on from the parts in the folder, which must be of the same command.
        workers: processes that draw and augment the pairs.

    Ranks take turns at the parts, in a folder that all of them see.
    """
    ranks = Ranks.of_environment()
    folder.mkdir(parents=True, exist_ok=True)
    with ranks.together():
        if not resume and ranks.first:
            for old in folder.glob("statistics-*.npz"):
                old.unlink()
    network.eval()
    wanted = {
        folder / f"statistics-{start:07d}-{min(start + _PART, count):07d}.npz": range(
            start, min(start + _PART, count)
        )
        for start in range(0, count, _PART)
    }
    with ranks.together(), tqdm(total=count, unit="pair", disable=not ranks.first) as bar:
        for number, (file, numbers) in enumerate(wanted.items()):
            if number % ranks.count == ranks.rank and not file.exists():
                values = _read(network, pairs, numbers, workers)
                temporary = file.with_suffix(".tmp.npz")
                np.savez(temporary, **values)
                temporary.replace(file)
            bar.update(len(numbers))
    parts = []
    for file in wanted:
        if not file.exists():
            raise ValueError(f"{file}: expected the parts of every rank in a folder they share")
        with np.load(file) as stored:  # never pickle
            parts.append({name: stored[name] for name in stored.files})
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    kinds, swapped = whole.pop("kinds"), whole.pop("swapped")
    faces = Statistics(**{name: torch.from_numpy(v) for name, v in whole.items()})
    return PairStatistics(faces, kinds, swapped)


def _read(
    network: TraceNet, pairs: PairDataset, numbers: range, workers: int
) -> dict[str, np.ndarray]:
    loader = DataLoader(pairs, _BATCH, sampler=numbers, num_workers=workers)
    found, kinds, swapped = [], [], []
    with torch.no_grad():  # in float32, as scores are: bfloat16 moved scores by .04, at most by .29
        for batch in loader:
            found.append(network.statistics(batch.crops.flatten(0, 1)))
            kinds += batch.kind
            swapped.append(batch.swapped)
    faces = Statistics(*(torch.cat(values) for values in zip(*found, strict=True)))
    values = {name: value.numpy() for name, value in faces._asdict().items()}
    return {**values, "kinds": np.array(kinds), "swapped": torch.cat(swapped).numpy()}


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
    seen, truth, score = (torch.cat(parts).numpy() for parts in (rows, target, logit))
    return generator_aucs(names[seen], truth, score, matches)
