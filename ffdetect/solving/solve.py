"""python -m ffdetect.solving.solve STORE --manifest FILE --out FILE: solve the shipped network.

STORE holds statistics of faces (`ffdetect.solving.statistics`); the manifest has the columns
path, target, generator, family, source and group. Lines are solved from all faces. What a score
means, and where thresholds lie, is measured on faces whose family, or real source, was left out:
the recipe is solved anew for every fold. Which real sources are left out together matters, so that
they are dealt into thirds several times. Of swaps in videos the maker stays in training, and the
videos do not. Frames of clips are learnt from beside pictures; clips are judged by folds that leave
out the collections, real and fake, that they came from. --report keeps the figures of these scores,
--fusion what they are worth in clips (`ffdetect.scoring.fusion`).
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from ffdetect.evaluation.calibration import operating_points
from ffdetect.evaluation.framing import FRAME
from ffdetect.evaluation.splits import Fold, Rows, group_folds, outer_folds
from ffdetect.models.calibration import Calibration
from ffdetect.models.dual_stream import DualStream, DualStreamSettings, Kind
from ffdetect.models.weights import save_checkpoint
from preprocess.arguments import check_outputs, finish, new_parser
from preprocess.faces.face import CropSettings
from preprocess.io.storage import to_json, write_json

from .left_out import LeftOut, clip_figures, clip_scores, families, figures, save_fusion
from .recipes import BEST, FAST, GAN, Faces, Recipe, Solver
from .ridge import Line, RidgeSettings
from .statistics import MATCHED, Store

PROG = "python -m ffdetect.solving.solve"
NETWORKS = {"best": BEST, "fast": FAST}
PARTS = 3  # of the real sources; every family is judged beside each
DRAWS = 3  # of these parts
SAME_MAKER = {"sfhq_stylegan2": "stylegan2"}
VIDEO_FAMILY = "dfdc_swap"  # judged on unseen videos: its maker is known, people are not
CROP = replace(FRAME, native=CropSettings().native)  # pixels are kept where they can be


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(
        prog, __doc__, "cache/statistics --manifest data/manifest.csv --out mine.safetensors"
    )
    add_recipe(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the weights file")
    add("--draws", type=int, default=DRAWS, metavar="N", help="of thirds of sources (%(default)s)")
    add("--report", type=Path, metavar="FILE.json", help="figures of faces left out")
    add("--fusion", type=Path, metavar="FILE.json", help="what scores are worth in clips")
    return parser


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0 when solved, 2 for wrong arguments or stores."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    try:
        check_outputs({"--out": args.out, "--report": args.report, "--fusion": args.fusion})
        recipe = recipe_of(args)
        faces = read_faces(args, recipe.degraded)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    solver = Solver(faces)
    left_out = score_left_out(solver, recipe, picture_folds(faces, args.draws), "fused")
    calibration = calibrate(solver, left_out)
    network = solved_network(solver, recipe)
    about = {
        "date": datetime.date.today().isoformat(),
        "data": {str(n): int(c) for n, c in faces.table["generator"].value_counts().items()},
        "recipe": recipe.to_dict(),
    }
    save_checkpoint(args.out, network, CROP, about, half=False, calibration=calibration)
    command = f"{prog} " + " ".join(map(str, argv or sys.argv[1:]))
    result = {"command": command, **figures(left_out, calibration)}
    if makers := maker_folds(faces):
        result["makers of GANs"] = families(score_left_out(solver, recipe, makers, "fused"))
    if len(faces.clips):
        seen = score_left_out(solver, recipe, clip_folds(faces), "clip")
        clips = clip_scores(
            seen, faces.table["path"].to_numpy(), faces.table["generator"].to_numpy()
        )
        result["clips"] = clip_figures(clips)
        if args.fusion:
            save_fusion(clips, command, args.fusion)
    if args.report:
        write_json(args.report, result)
    print(to_json(result, indent=1))
    return 0


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Arguments that name data and recipe, for benchmarks too."""
    default = BEST
    add = parser.add_argument
    add("stores", nargs="+", type=Path, metavar="STORE")
    add("--manifest", nargs="+", type=Path, required=True, metavar="FILE.csv")
    add("--most", type=int, default=100, help="faces of a generator or source (%(default)s)")
    add("--network", choices=sorted(NETWORKS), default="best", help="whose readers (%(default)s)")
    add("--degraded", type=int, default=default.degraded, metavar="N", help="(%(default)s)")
    add("--shrinkage", type=float, default=default.ridge.shrinkage, help="(%(default)s)")
    add("--source-penalty", type=float, default=default.ridge.source_penalty, help="(%(default)s)")


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The recipe that arguments ask for."""
    ridge = RidgeSettings(args.shrinkage, args.source_penalty)
    return replace(NETWORKS[args.network], degraded=args.degraded, ridge=ridge)


def read_faces(args: argparse.Namespace, degraded: int) -> Faces:
    """The faces that arguments name."""
    manifest = read_manifest(args)
    views = [MATCHED, *(f"P{number}" for number in range(1, degraded + 1))]
    return Faces.read([Store(folder) for folder in args.stores], manifest, views, args.most)


def read_manifest(args: argparse.Namespace) -> pd.DataFrame:
    """What is known of the pictures."""
    tables = [pd.read_csv(file, keep_default_na=False) for file in args.manifest]
    return pd.concat(tables, ignore_index=True)


def picture_folds(faces: Faces, draws: int = DRAWS) -> list[Fold]:
    """Every family left out with each third of the real sources in turn, however often thirds are
    drawn; of video swaps, videos. Frames of clips are always learnt from."""
    rows = faces.rows
    pictures = _pictures(faces)
    own = rows.take(pictures)
    folds: list[Fold] = []
    for seed in range(draws):
        drawn = outer_folds(own, seed, parts=PARTS, turns=PARTS)
        folds += [fold for fold in drawn if fold.name != VIDEO_FAMILY]
        if VIDEO_FAMILY in own.families():
            folds += group_folds(own, [VIDEO_FAMILY], seed=seed)
    return [_beside(fold, pictures, faces.clips, faces) for fold in folds]


def maker_folds(faces: Faces) -> list[Fold]:
    """GANs left out one by one, with each third of the real sources, where others are known."""
    rows = faces.rows
    gan = rows.unit == GAN
    maker = faces.table["generator"].replace(SAME_MAKER).to_numpy().astype(str)
    pictures = _pictures(faces)
    named = replace(rows, unit=np.where(gan, np.char.add(f"{GAN}: ", maker), rows.unit))
    own = named.take(pictures)
    if len([name for name in own.families() if name.startswith(f"{GAN}: ")]) < 2:
        return []
    folds = outer_folds(own, parts=PARTS, turns=PARTS)
    folds = [fold for fold in folds if fold.name.startswith(f"{GAN}: ")]
    return [_beside(fold, pictures, faces.clips, faces) for fold in folds]


def clip_folds(faces: Faces) -> list[Fold]:
    """A fifth of the collections that clips came from left out, real and fake, however many frames
    of them there are. Pictures are always learnt from."""
    rows = faces.clips
    table = faces.table.iloc[rows]
    _, first, clip = np.unique(table["path"].astype(str), return_index=True, return_inverse=True)
    source, target, group = (table[n].to_numpy()[first] for n in ("source", "target", "group"))
    clips = Rows(source.astype(str), target, (group.astype(str),))
    frames = [
        replace(
            fold,
            train=np.flatnonzero(np.isin(clip, fold.train)),
            test=np.flatnonzero(np.isin(clip, fold.test)),
        )
        for fold in outer_folds(clips, count=5)
    ]
    return [_beside(fold, rows, _pictures(faces), faces) for fold in frames]


def _pictures(faces: Faces) -> np.ndarray:
    """int, rows of pictures as they are."""
    return np.setdiff1d(np.arange(len(faces.table)), np.append(faces.clips, faces.pairs))


def _beside(fold: Fold, rows: np.ndarray, others: np.ndarray, faces: Faces) -> Fold:
    """A fold of some rows, as one of all rows that learns from others too, and from the pairs that
    were not made of faces of a source that it tests."""
    test, real = rows[fold.test], faces.table["real"]
    tested = real.iloc[test][faces.table["target"].iloc[test] == 0]
    pairs = faces.pairs[~real.iloc[faces.pairs].isin(tested)]
    train = np.sort(np.concatenate([rows[fold.train], others, pairs]))
    return replace(fold, train=train, test=test)


def score_left_out(solver: Solver, recipe: Recipe, folds: Sequence[Fold], score: str) -> LeftOut:
    """Scores of every fold's faces by lines that did not see their like.

    Args:
        score: which, see `Solver.scores`.
    """
    rows, scores, worse, names = [], [], [], []
    for fold in tqdm(folds, unit="fold"):
        solved = solver.solve(recipe, fold.train)
        found = solver.scores(recipe, solved, fold.test)[score]
        name = VIDEO_FAMILY if fold.name.startswith(VIDEO_FAMILY) else fold.name
        rows.append(fold.test)
        scores.append(found)
        worse.append(solver.scores(recipe, solved, fold.test, min(recipe.degraded, 1))[score])
        names.append(np.full(len(found), name))
    row, name_of = np.concatenate(rows), np.concatenate(names)
    target, unit = solver.target[row], solver.unit[row]
    return LeftOut(row, name_of, target, unit, np.concatenate(scores), np.concatenate(worse))


def calibrate(solver: Solver, left_out: LeftOut) -> Calibration:
    """What scores mean, measured on families and real sources left out."""
    points = operating_points(left_out.target, left_out.unit, left_out.logit)
    generator = solver.faces.table["generator"].to_numpy().astype(str)
    return Calibration.measured(points, solver.target, generator)


def solved_network(solver: Solver, recipe: Recipe) -> DualStream:
    """The network with lines solved from all faces, for every kind of which there are fakes."""
    solved = solver.solve(recipe, np.arange(len(solver.target)))
    known = {name for name, _ in solved.kinds}
    kinds = {
        name: Kind(kind.rgb, kind.frequency, kind.margin, kind.frame_margin, kind.clip_margin)
        for name, kind in recipe.kinds.items()
        if name in known
    }
    network = DualStream(DualStreamSettings(kinds, tuple(solved.frames)))

    def take(head: nn.Module, reader: str, line: Line) -> None:
        head.load_state_dict(solver.gram(reader, recipe.degraded).head_of(line).state_dict())

    for (name, reader), line in solved.kinds.items():
        take(network.heads[name][reader], reader, line)
    for reader, line in solved.frames.items():
        take(network.frames[reader], reader, line)
    with torch.no_grad():
        for name in kinds:
            shares = list(recipe.kinds[name].shares().values())
            weights = recipe.slope * torch.tensor([shares])
            network.fusions[name].weight.copy_(weights)
            network.fusions[name].bias.zero_()
    return network


if __name__ == "__main__":
    finish(main)
