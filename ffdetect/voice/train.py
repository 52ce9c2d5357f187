"""python -m ffdetect.voice.train CACHE: solve a voice head from a cache of sound."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from preprocess.cache.errors import CacheError
from preprocess.cache.reader import SoundCache

from .augment import VoiceAugmentation
from .copy_synthesis import METHODS, copy_synthesis
from .head import SHRINKAGE, VoiceHead
from .statistics import voice_statistics

_PART = 64  # rows of one file, so that a stopped run loses little


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 if the cache cannot be used or lacks one of the classes."""
    parser = argparse.ArgumentParser(prog="python -m ffdetect.voice.train", description=__doc__)
    add = parser.add_argument
    add("cache", type=Path, metavar="CACHE", help="made by preprocess.sound")
    add("--out", type=Path, default=Path("voice.safetensors"), help="(%(default)s)")
    add("--split", default="train", help="rows to learn from; '' for all (%(default)s)")
    add("--views", type=int, default=3, help="augmented versions of a window (%(default)s)")
    add("--twins", action="store_true", help="add fakes made of the reals: " + ", ".join(METHODS))
    add("--seed", type=int, default=0, help="(%(default)s)")
    add("--workers", type=int, default=1, help="processes (%(default)s)")
    add("--resume", action="store_true", help="go on with a stopped run of the same command")
    args = parser.parse_args(argv)
    try:
        cache = SoundCache(args.cache)
        table = cache.metadata
        chosen = (table["target"] >= 0) & ((table["split"] == args.split) | (args.split == ""))
        rows = np.flatnonzero(chosen)
        if set(table["target"].iloc[rows]) != {0, 1}:
            raise ValueError(f"{args.cache}: expected real and fake rows of split {args.split!r}")
        folder = args.out.with_suffix(".run")
        seen = read_views(args.cache, rows, args.views, args.seed, folder=folder,
                          resume=args.resume, workers=args.workers)  # fmt: skip
        target = table["target"].to_numpy()[rows]
        kinds = table["generator"].to_numpy(str)[rows]
        parts = [(seen, target, kinds)]
        for method in METHODS if args.twins else ():
            reals = rows[target == 0]
            made = read_views(args.cache, reals, args.views, args.seed, method=method,
                              folder=folder, resume=args.resume,
                              workers=args.workers)  # fmt: skip
            parts.append((made, np.ones(len(reals), int), np.full(len(reals), method)))
    except (CacheError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    about = {
        "windows": {"real": int((target == 0).sum()), "fake": int((target == 1).sum())},
        "split": args.split,
        "views": args.views,
        "seed": args.seed,
        "twins": list(METHODS) if args.twins else [],
        "shrinkage": SHRINKAGE,
    }
    solve_views(parts, about).save(args.out)
    print(f"{args.out}: solved from {len(rows)} windows in {args.views} views")
    return 0


def solve_views(parts: Sequence[tuple], about: dict | None = None) -> VoiceHead:
    """A head from (statistics N x V x F, target N, kinds N) of several origins; every view is a
    row of its own."""
    statistics = np.concatenate([seen.reshape(-1, seen.shape[-1]) for seen, _, _ in parts])
    target, kinds = (
        np.concatenate([np.repeat(part[i], part[0].shape[1]) for part in parts]) for i in (1, 2)
    )
    return VoiceHead.solve(statistics, target, kinds, about)


def read_views(
    cache: Path,
    rows: np.ndarray,
    views: int,
    seed: int,
    *,
    folder: Path,
    method: str = "",
    resume: bool = False,
    workers: int = 1,
) -> np.ndarray:
    """Statistics of augmented versions of windows, float32 N x views x F.

    A row's real and its twin by any method go through the same augmentation. Parts are kept in
    `folder` as they come; `resume` takes those that are there, which must be of the same command.

    Args:
        method: make a twin by this method first, see `copy_synthesis`; "" for none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    task = partial(_views, cache, views=views, seed=seed, method=method)
    with ProcessPoolExecutor(workers, get_context("spawn")) as executor:
        for start in tqdm(range(0, len(rows), _PART), unit="part", desc=method or "voices"):
            some = rows[start : start + _PART]
            file = folder / f"views-{method or 'voices'}-{start:06d}.npy"
            if not (resume and file.exists()):
                values = np.stack(list(executor.map(task, some, chunksize=8)))
                temporary = file.with_suffix(".tmp.npy")
                np.save(temporary, values)
                temporary.replace(file)
            parts.append(np.load(file, allow_pickle=False))
    return np.concatenate(parts)


def _views(cache: Path, row: int, views: int, seed: int, method: str) -> np.ndarray:
    torch.set_num_threads(1)
    samples = _open(cache).samples(int(row)).astype(np.float32) / 32767
    if method:
        samples = copy_synthesis(samples, method, seed + int(row))
    draw = VoiceAugmentation().draw
    made = [draw(np.random.default_rng([seed, row, view]))(samples) for view in range(views)]
    return torch.stack([voice_statistics(torch.from_numpy(view)) for view in made]).numpy()


_opened: dict[Path, SoundCache] = {}


def _open(cache: Path) -> SoundCache:
    if cache not in _opened:
        _opened[cache] = SoundCache(cache)
    return _opened[cache]


if __name__ == "__main__":
    sys.exit(main())
