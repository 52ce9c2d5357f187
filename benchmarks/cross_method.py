"""python -m benchmarks.cross_method CLIPS --init FILE: clips by methods, of people, never seen.

CLIPS is a cache of frames of clips. Each method is left out of training in turn, and the people
are parted into folds, so that neither the method nor anyone of the tested clips took part. The
heads for traces are those of `--design traces`, solved anew for each fold from augmented frames;
the face stream, if --face gives one, learnt from other data and stays as it is. A clip scores the
mean logit of its frames, and methods that work on given videos are judged against those videos
alone. All tested frames are saved as JPEG 85; their sizes and first codings are the clips' own, so
that what tells a source's camera from a generator's encoder can still help.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ffdetect.evaluation.bootstrap import Interval, auc_interval
from ffdetect.evaluation.framing import JPEG_QUALITY
from ffdetect.evaluation.matching import matched_rows, parse_matches
from ffdetect.models.network import NetworkSettings
from ffdetect.models.traces import Statistics, TraceNet
from ffdetect.models.weights import load_checkpoint
from ffdetect.scoring.detector import Detector
from ffdetect.training.augment import recode, training_transform
from preprocess.cache.errors import CacheError
from preprocess.cache.reader import CacheReader

_SOLVED = ("rgb", "frequency")  # streams
_BATCH = 16


@dataclass(frozen=True)
class Method:
    """How the clips of one method are told from real ones of their kind; `Interval`s of AUC.

    Attributes:
        unseen: neither the method nor the people were seen.
        new_people: other clips of the method were seen.
        pictures: by the weights for pictures that the package ships, which saw no clip.
    """

    method: str
    fakes: int
    reals: int
    unseen: Interval
    new_people: Interval
    pictures: Interval


def make_network(init: Path, size: int, face: Path | None, names: Sequence[str]) -> TraceNet:
    """A network whose heads for traces are still to be solved.

    Args:
        init: weights of its trunk.
        size: of crops.
        face: weights whose face stream it takes; without, that is silent.
        names: generators and real sources of the tested clips.

    Raises:
        ValueError: a file is not of such a network, or its face stream learnt from these.
    """
    network = TraceNet(NetworkSettings(design="traces", residual="detail", size=size))
    network.load_pretrained(init)
    network.face.silence()
    if face:
        given = load_checkpoint(face)
        swaps = given.about.get("recipe", {}).get("swaps", "").split(",")
        if known := set(swaps) & set(names):
            raise ValueError(f"{face}: expected a face stream that saw no tested clip but it "
                             f"learnt from {', '.join(sorted(known))}")  # fmt: skip
        if given.network.settings != network.settings:
            raise ValueError(f"{face}: expected a network with {network.settings} but got one with "
                             f"{given.network.settings}")  # fmt: skip
        network.face.load_state_dict(given.network.face.state_dict())
    return network.eval()


@torch.inference_mode()
def read_frames(network: TraceNet, reader: CacheReader, view: str) -> Statistics:
    """Statistics of every frame.

    Args:
        view: "tested" for JPEG 85, anything else seeds one augmentation as in training.
    """
    draw = training_transform(network.settings.size, 0.6)
    parts: list[Statistics] = []
    starts = range(0, len(reader), _BATCH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sum(view.encode()))
        for start in tqdm(starts, unit="batch", desc=view):
            crops = reader.crops(range(start, min(start + _BATCH, len(reader))))
            if view == "tested":
                crops = recode(crops, "JPEG", quality=JPEG_QUALITY)
            else:
                crops = torch.cat([draw(crop[None]) for crop in crops])
            parts.append(network.statistics(crops))
    return Statistics(*(torch.cat(values) for values in zip(*parts, strict=True)))


def learn(
    network: TraceNet,
    views: Sequence[Statistics],
    faces: pd.DataFrame,
    chosen: np.ndarray,
    matches: dict[str, tuple[str, ...]],
    sureness: float = 1.0,
) -> None:
    """Solve the streams for traces from some rows: every fake beside a random real of its kind.

    Args:
        sureness: see `TraceNet.solve`.
    """
    rng = np.random.default_rng(0)
    names, target = (faces[column].to_numpy() for column in ("generator", "target"))
    rows, kinds = [], []
    for name, compared in matched_rows(names[chosen], target[chosen], matches).items():
        own = chosen[compared]
        fakes, reals = own[target[own] == 1], own[target[own] == 0]
        if len(reals):
            rows += [np.stack([rng.choice(reals, len(fakes)), fakes], 1)]
            kinds += [name] * len(fakes)
    pairs = np.concatenate(rows).ravel()
    for stream in _SOLVED:
        seen, head = torch.cat([getattr(v, stream)[pairs] for v in views]), getattr(network, stream)
        head.solve(seen, np.array(kinds * len(views)))
        head.temper(sureness)


@torch.inference_mode()
def judge(network: TraceNet, tested: Statistics, rows: np.ndarray) -> np.ndarray:
    """Logits of some rows."""
    return network.judge(Statistics(*(values[rows] for values in tested))).fused.numpy()


def people(faces: pd.DataFrame, folds: int) -> np.ndarray:
    """A fold for every row. The last part of a group's name is the person: several sources hold
    clips of one."""
    person = faces["group"].str.rsplit("/", n=1).str[-1].to_numpy().astype(str)
    names = np.random.default_rng(0).permutation(np.unique(person))
    return np.array([{n: i % folds for i, n in enumerate(names)}[p] for p in person])


def clip_auc(faces: pd.DataFrame, logit: np.ndarray, rows: np.ndarray) -> Interval:
    """AUC of the mean logits of clips."""
    clips = faces.iloc[rows].assign(logit=logit[rows]).groupby("path")
    return auc_interval(clips["target"].first().to_numpy(), clips["logit"].mean().to_numpy())


def held_out_logits(
    network: TraceNet,
    reader: CacheReader,
    matches: dict[str, tuple[str, ...]],
    *,
    views: int,
    folds: int,
    sureness: float,
) -> dict[str, np.ndarray]:
    """Logits of every row by heads that knew neither its people nor the method that is the key;
    those of "" knew every method."""
    faces = reader.metadata
    names, target = (faces[column].to_numpy() for column in ("generator", "target"))
    seen = [read_frames(network, reader, f"view {number + 1}") for number in range(views)]
    tested = read_frames(network, reader, "tested")
    fold, compared = people(faces, folds), matched_rows(names, target, matches)
    left = {name: np.full(len(faces), np.nan) for name in [*compared, ""]}
    for number in tqdm(range(folds), unit="fold"):
        rows = np.flatnonzero(fold == number)
        for name, logit in left.items():
            known = np.flatnonzero((fold != number) & (names != name))
            learn(network, seen, faces, known, matches, sureness)
            logit[rows] = judge(network, tested, rows)
    return left


def measure(
    network: TraceNet,
    reader: CacheReader,
    matches: dict[str, tuple[str, ...]],
    *,
    views: int,
    folds: int,
    sureness: float,
    pictures: np.ndarray,
) -> list[Method]:
    """One result a method; `pictures`: logits of every row by the weights for pictures."""
    faces = reader.metadata
    names, target = (faces[column].to_numpy() for column in ("generator", "target"))
    compared = matched_rows(names, target, matches)
    left = held_out_logits(network, reader, matches, views=views, folds=folds, sureness=sureness)
    results = []
    for name, rows in compared.items():
        clips = faces.iloc[rows].groupby("path")["target"].first()
        aucs = [clip_auc(faces, logit, rows) for logit in (left[name], left[""], pictures)]
        results.append(Method(name, int(clips.sum()), int((1 - clips).sum()), *aucs))
    return results


def table(results: Sequence[Method]) -> str:
    """Markdown, with means."""
    lines = [
        "| method | fakes / reals | method and people unseen | people unseen | picture weights |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {r.method} | {r.fakes} / {r.reals} | {r.unseen} | {r.new_people} | {r.pictures} |"
              for r in results]  # fmt: skip
    means = [np.mean([getattr(r, name).value for r in results])
             for name in ("unseen", "new_people", "pictures")]  # fmt: skip
    return "\n".join([*lines, "| **mean** | | " + " | ".join(f"**{m:.3f}**" for m in means) + " |"])


def add_heads(parser: argparse.ArgumentParser) -> None:
    """Options of the heads that are solved."""
    add = parser.add_argument
    add("--init", type=Path, required=True, help="weights of mobilenetv2_100 as safetensors")
    add("--face", type=Path, metavar="FILE", help="weights whose face stream joins in")
    add("--sureness", type=float, default=1.0, help="as in ffdetect.train (%(default)s)")
    add("--views", type=int, default=2, help="augmented versions to learn from (%(default)s)")


def main(argv: Sequence[str] | None = None) -> int:
    name = "python -m benchmarks.cross_method"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    add = parser.add_argument
    add("clips", type=Path, metavar="CLIPS", help="written by preprocess.crop")
    add("--match", action="append", default=[], metavar="FAKE=REAL[,REAL]",
        help="judge this method against these real sources only")  # fmt: skip
    add_heads(parser)
    add("--folds", type=int, default=4, help="parts of the people (%(default)s)")
    add("--out", type=Path, help="write OUT.json and OUT.md")
    args = parser.parse_args(argv)
    try:
        reader, matches = CacheReader(args.clips), parse_matches(args.match)
        names = set(reader.metadata["generator"])
        network = make_network(args.init, reader.settings.crop.size, args.face, names)
        detector = Detector.load()
        detector.check_cache(reader)
    except (CacheError, ValueError) as error:
        parser.error(str(error))
    crops = (recode(reader.crops([row]), "JPEG", quality=JPEG_QUALITY)
             for row in range(len(reader)))  # fmt: skip
    logits = [detector.crop_logits(crop)[0] for crop in tqdm(crops, total=len(reader))]
    results = measure(network, reader, matches, views=args.views, folds=args.folds,
                      sureness=args.sureness, pictures=torch.cat(logits).numpy())  # fmt: skip
    command = " ".join([name, *(argv or sys.argv[1:])])
    text = f"`{command}`\n\n{table(results)}\n"
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        values = {"command": command, "results": [asdict(result) for result in results]}
        args.out.with_suffix(".json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")
        args.out.with_suffix(".md").write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
