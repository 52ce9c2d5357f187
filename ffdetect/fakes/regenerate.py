"""ffdetect regenerate CACHE --regenerators DIR: aligned fakes of a cache.

A real face put through a generator's decoder keeps its content and framing and gets the
decoder's pixels, so that the pair teaches generator traces and nothing else (Zhang et al. 2019,
"Detecting and Simulating Artifacts in GAN Fake Images"; Rajan et al. 2024, "Aligned Datasets
Improve Detection of Latent Diffusion-Generated Images"). The result is a cache of pairs: the
regenerated face and the real one after the same resampling.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from preprocess.arguments import new_parser
from preprocess.cache.errors import CacheError
from preprocess.cache.faces import CachedFace, CacheSettings
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.spread import evenly

from .regenerators import Regenerated, Regenerator, create_regenerator

PROG = "ffdetect regenerate"


def regenerate_cache(
    reader: CacheReader,
    writer: CacheWriter,
    kinds: dict[str, Regenerator],
    indices: Sequence[int],
) -> None:
    """Add the pairs of the faces at `indices` by every kind; what is there already is kept."""
    todo = [
        (index, kind)
        for index in indices
        for kind in kinds
        if _pair_path(reader, index, kind) not in writer.done
    ]
    # In random order, so that a run that was stopped leaves a fair sample of all sources.
    np.random.default_rng(0).shuffle(todo)
    total = len(indices) * len(kinds)
    for index, kind in tqdm(todo, initial=total - len(todo), total=total, unit="pair"):
        path = _pair_path(reader, index, kind)
        rng = np.random.default_rng(zlib.crc32(path.encode()))
        with torch.inference_mode():
            made = kinds[kind](reader.crops([index])[0], rng)
        writer.add(list(_rows(reader, index, kind, path, made)))


def _pair_path(reader: CacheReader, index: int, kind: str) -> str:
    return f"{reader.metadata['key'].iat[index]}@{kind}"


def _rows(
    reader: CacheReader, index: int, kind: str, path: str, made: Regenerated
) -> Iterator[CachedFace]:
    row = {str(name): value for name, value in reader.metadata.iloc[index].items()}
    for target, crop in enumerate((made.real, made.fake)):
        values = {
            **row,
            "key": f"{path}@{target}",
            "path": path,
            "target": target,
            "generator": kind if target else row["generator"],
            "crop": crop.permute(1, 2, 0).numpy(),
        }
        yield CachedFace(**values)


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "cache/data --regenerators weights/ --out cache/pairs")
    add = parser.add_argument
    add("cache", type=Path, metavar="CACHE", help="a cache with real faces (target 0)")
    add("--regenerators", type=Path, required=True, help="folder with KIND*.safetensors")
    add("--kinds", default="taef2", help="comma-separated names of files there (%(default)s)")
    add("--out", type=Path, required=True, help="the cache of pairs")
    add("--sources", help="only reals of these sources, comma-separated (default: all)")
    add("--limit", type=int, help="at most so many reals, evenly spread (default: all)")
    add("--device", default="cpu", help="cpu or cuda (%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0 when done, 1 if the cache cannot be written, 2 for wrong arguments, 130 when
    stopped."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    try:
        reader = CacheReader(args.cache)
        # The pairs share the crop settings of the cache; maps are computed when training.
        settings = CacheSettings(crop=reader.settings.crop, maps=())
        kinds = {
            k: create_regenerator(k, args.regenerators, args.device) for k in args.kinds.split(",")
        }
    except ValueError as error:
        parser.error(str(error))
    wanted = reader.metadata["target"] == 0
    if args.sources:
        wanted &= reader.metadata["generator"].isin(args.sources.split(","))
    indices = np.flatnonzero(wanted)
    if args.limit:
        indices = evenly(indices, args.limit)
    if not len(indices):
        parser.error(f"{args.cache}: expected real faces (target 0) but found none")
    try:
        with CacheWriter(args.out, settings) as writer:
            regenerate_cache(reader, writer, kinds, indices.tolist())
    except CacheError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from here ({args.out})", file=sys.stderr)
        return 130
    print(f"{writer.faces // 2} pairs in {args.out}")
    return 0
