"""python -m benchmarks.localisation CACHE --regenerators DIR: is the heat where a face was altered?

One half of each held-out real face of a cache, left or right at random, is replaced by its
regenerated twin, each regenerator in turn, or by a self-blended version of the face. The edge is
soft, so that there is no seam to find. Then more of what the heat map (`ffdetect.explain`) counts
as evidence for fake should lie in that half. Real faces have heat too, and perhaps more on one
side, so that each is compared with itself untouched. Both pictures are saved as JPEG 85.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import shutil
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from scipy import stats
from tqdm import tqdm

from ffdetect.evaluation.bootstrap import Interval
from ffdetect.evaluation.framing import JPEG_QUALITY
from ffdetect.evaluation.matching import spread
from ffdetect.evaluation.splits import split_rows
from ffdetect.fakes.blend import self_blend
from ffdetect.fakes.donors import read_landmarks
from ffdetect.fakes.regenerators import Twins, create_regenerator, regenerator_kinds
from ffdetect.models.device import pick_device
from ffdetect.models.network import Scorer
from ffdetect.models.weights import load_checkpoint
from ffdetect.scoring.detector import SHIPPED_WEIGHTS, Detector
from ffdetect.scoring.explain import heat_map
from ffdetect.training.augment import recode
from preprocess.cache.reader import CacheReader

from .kept import digest, kept_scores

SELF_BLEND = "self-blend"
_EDGE = 5.0  # deviation in pixels of the Gaussian between the halves
_BLOCK = 16  # faces that are kept together
_ROUNDS = 1000

# Row of the cache -> the face and its altered version; the generator decides how.
Alteration = Callable[[int, np.random.Generator], Twins]


@dataclass(frozen=True)
class Result:
    """Where the heat of altered faces lies. A share is of all heat that is evidence for fake.

    Attributes:
        kind: what altered them.
        faces: how many.
        found: share of the faces with more heat in the altered half than in the other one.
        found_untouched: the same for the same half of the untouched face.
        share: mean share of the heat that lies in the altered half.
        share_untouched: the same for the same half of the untouched face.
        change: mean of share less share_untouched, with its 95 % bootstrap interval over faces.
        grew: share of the faces whose change is positive; those without a change are left out.
        p_value: of the two-sided sign test on `grew`.
    """

    kind: str
    faces: int
    found: float
    found_untouched: float
    share: float
    share_untouched: float
    change: Interval
    grew: float
    p_value: float


def alterations(reader: CacheReader, folder: Path, device: torch.device) -> dict[str, Alteration]:
    """Self-blending and every regenerator of a folder.

    Raises:
        ValueError: no regenerator there, or one that cannot be used.
    """
    kinds = regenerator_kinds(folder)
    if not kinds:
        raise ValueError(f"{folder}: expected regenerators (.safetensors) but found none")

    def blend(row: int, rng: np.random.Generator) -> Twins:
        crop = reader.crop(row)
        fake = self_blend(crop, read_landmarks(reader, row), rng)
        return Twins(*(torch.from_numpy(x.copy()).permute(2, 0, 1) for x in (crop, fake)))

    ways: dict[str, Alteration] = {SELF_BLEND: blend}
    for kind in kinds:
        regenerate = create_regenerator(kind, folder, str(device))
        ways[kind] = lambda row, rng, regenerate=regenerate: regenerate(reader.crops([row])[0], rng)
    return ways


def is_left(key: str) -> bool:
    """Whether the left half of a face is the one to be altered; the same for every kind."""
    return bool(np.random.default_rng(zlib.crc32(key.encode())).random() < 0.5)


def alter_half(twins: Twins, left: bool) -> torch.Tensor:
    """The real face with one half of its twin: uint8 3 x H x W."""
    height, width = twins.real.shape[-2:]
    mask = np.zeros((height, width), np.float32)
    mask[:, : width // 2] = 1
    soft = torch.from_numpy(cv2.GaussianBlur(mask if left else 1 - mask, (0, 0), _EDGE))
    mixed = twins.real + (twins.fake.float() - twins.real) * soft
    return mixed.round().to(torch.uint8)


def heat_share(heat: np.ndarray, left: bool) -> float:
    """Share of the evidence for fake that lies in one half; without any, neither has more."""
    evidence = heat.clip(0)
    half = np.split(evidence, [heat.shape[1] // 2], axis=1)[0 if left else 1]
    return float(half.sum() / evidence.sum()) if evidence.any() else 0.5


def measure(
    network: Scorer, reader: CacheReader, rows: np.ndarray, kind: str, alter: Alteration
) -> np.ndarray:
    """float64 N x 2: share of the heat in the half to be altered, once it is and before."""
    device = next(network.parameters()).device
    shares = []
    for row in rows.tolist():
        key = str(reader.metadata["key"].iat[row])
        left = is_left(key)
        with torch.inference_mode():
            twins = alter(row, np.random.default_rng(zlib.crc32(f"{key}@{kind}".encode())))
            pictures = recode(
                torch.stack([alter_half(twins, left), twins.real]), "JPEG", quality=JPEG_QUALITY
            )
        heats = [heat_map(network, picture[None].to(device)) for picture in pictures]
        shares.append([heat_share(heat, left) for heat in heats])
    return np.array(shares)


def measure_all(
    network: Scorer,
    reader: CacheReader,
    rows: np.ndarray,
    ways: dict[str, Alteration],
    made: dict,
    partial: Path,
) -> dict[str, np.ndarray]:
    """Kind -> `measure` of all rows; finished blocks are kept in a folder.

    Args:
        made: what else decides the shares, see `kept_scores`.
    """
    keys = reader.metadata["key"]
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    shares: dict[str, list[np.ndarray]] = {kind: [] for kind in ways}
    with tqdm(total=len(rows) * len(ways), unit="face") as bar:
        for number, block in enumerate(blocks):
            made = {**made, "faces": digest(keys.iloc[block])}
            for kind, alter in ways.items():
                bar.set_postfix_str(kind)
                file = partial / f"{kind}-{number:04d}.npz"
                compute = functools.partial(measure, network, reader, block, kind, alter)
                shares[kind].append(kept_scores(file, made, compute))
                bar.update(len(block))
    return {kind: np.concatenate(parts) for kind, parts in shares.items()}


def evaluate(kind: str, shares: np.ndarray) -> Result:
    """What `measure` found, over at least two faces."""
    altered, untouched = shares.T
    change = altered - untouched
    grew, moved = int((change > 0).sum()), int((change != 0).sum())
    return Result(
        kind=kind,
        faces=len(shares),
        found=float((altered > 0.5).mean()),
        found_untouched=float((untouched > 0.5).mean()),
        share=float(altered.mean()),
        share_untouched=float(untouched.mean()),
        change=_interval(change),
        grew=grew / moved if moved else 0.5,
        p_value=float(stats.binomtest(grew, moved).pvalue) if moved else 1.0,
    )


def _interval(values: np.ndarray) -> Interval:
    """The mean with its 95 % interval."""
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=_ROUNDS, method="percentile", random_state=0
    ).confidence_interval
    return Interval(float(values.mean()), float(found.low), float(found.high))


def left_share(faces: pd.DataFrame, shares: np.ndarray) -> Interval:
    """Mean share of the heat in the left half of untouched faces: which side has more anyway?"""
    left = np.array([is_left(str(key)) for key in faces["key"]])
    return _interval(np.where(left, shares[:, 1], 1 - shares[:, 1]))


def choose_rows(faces: pd.DataFrame, limit: int | None = None) -> np.ndarray:
    """Held-out real faces, at most `limit` of each source.

    Raises:
        ValueError: less than two, too few for an interval.
    """
    held_out = split_rows(faces)[1]
    rows = held_out[faces["target"].to_numpy()[held_out] == 0]
    if limit is not None and len(rows):
        rows = spread(faces, rows, limit)
    if len(rows) < 2:
        raise ValueError(f"expected two held-out real faces or more but got {len(rows)}")
    return rows


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| altered by | faces | more heat in the altered half | the same half, untouched "
        "| share of the heat there | untouched | change [95 %] | faces where it grew | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.kind} | {r.faces} | {r.found:.1%} | {r.found_untouched:.1%} | {r.share:.3f} "
        f"| {r.share_untouched:.3f} "
        f"| {r.change.value:+.3f} [{r.change.low:+.3f}, {r.change.high:+.3f}] "
        f"| {r.grew:.1%} | {r.p_value:.2g} |"
        for r in results
    ]
    return "\n".join(lines)


def _explanation(faces: pd.DataFrame, left: Interval) -> str:
    counts = ", ".join(f"{name} {n}" for name, n in faces["generator"].value_counts().items())
    return (
        f"{len(faces)} held-out real faces ({counts}), one half altered, left or right at random. "
        "Heat: what the heat map counts as evidence for fake. A heat map that tells nothing has "
        "more heat in the altered half of 50 %, and a change of 0. Change: share of the heat in "
        "the altered half less that in the same half of the same face untouched, mean with a "
        "bootstrap interval over faces; p: sign test. Of the heat of untouched faces "
        f"{left} lies in the left half."
    )


def main(argv: Sequence[str] | None = None) -> int:
    name = "python -m benchmarks.localisation"
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser(name)
    args = parser.parse_args(argv)
    if args.limit is not None and args.limit < 1:
        parser.error(f"expected --limit of at least 1 but got {args.limit}")
    weights = args.weights or resources.files("ffdetect.weights") / SHIPPED_WEIGHTS
    device = pick_device()
    partial = args.out.with_name(args.out.name + ".partial")
    try:
        reader, checkpoint = CacheReader(args.cache), load_checkpoint(weights)
        Detector(checkpoint, device).check_cache(reader)
        rows = choose_rows(reader.metadata, args.limit)
        ways = alterations(reader, args.regenerators, device)
        made = {"weights": hashlib.sha256(weights.read_bytes()).hexdigest()}
        shares = measure_all(checkpoint.network, reader, rows, ways, made, partial)
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from here ({partial})", file=sys.stderr)
        return 130
    faces = reader.metadata.iloc[rows]
    results = [evaluate(kind, values) for kind, values in shares.items()]
    left = left_share(faces, shares[SELF_BLEND])
    command = " ".join([name, *argv])
    text = f"{_explanation(faces, left)}\n\n{table(results)}"
    values = {
        "command": command,
        "weights": checkpoint.about,
        "faces": {name: int(n) for name, n in faces["generator"].value_counts().items()},
        "left_share_untouched": asdict(left),
        "results": [asdict(result) for result in results],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    args.out.with_suffix(".md").write_text(f"`{command}`\n\n{text}\n", "utf-8")
    shutil.rmtree(partial)
    print(text)
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    add = parser.add_argument
    add("cache", type=Path, metavar="CACHE", help="written by evaluation.framing")
    add("--regenerators", type=Path, required=True, metavar="DIR", help="of KIND*.safetensors")
    add("--weights", type=Path, help="(default: the weights of the package)")
    add("--limit", type=int, help="faces a real source (default: all)")
    add("--out", type=Path, default=Path("benchmarks/results/localisation"),
        help="write OUT.json and OUT.md (%(default)s)")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
