"""ffdetect calibrate WEIGHTS CACHE [CACHE ...] --out FILE: measure what scores mean.

Scores labelled faces that had no part in training, fits temperature and bias (`calibration`),
reads thresholds off the real faces, and writes the weights again with all of it in their
metadata; no tensor changes. Faces that the weights were trained on score too well and would make
every figure a lie, so by default only validation rows are taken. Weights that were trained on all
faces are calibrated by those of another network (`--judge`): the same recipe without these faces.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ffdetect.evaluation.calibration import (
    OperatingPoints,
    cross_fitted,
    fit_platt,
    weights_within_kinds,
)
from ffdetect.evaluation.matching import add_match, parse_matches
from ffdetect.evaluation.metrics import calibration_curve, calibration_error
from ffdetect.evaluation.splits import split_rows
from ffdetect.evaluation.thresholds import FPRS, supported, thresholds
from ffdetect.models.calibration import Calibration, probabilities
from ffdetect.models.weights import load_checkpoint, write_calibration
from ffdetect.scoring.detector import Detector
from preprocess.arguments import check_outputs, new_parser, unwritten
from preprocess.cache.kinds import settings_difference
from preprocess.cache.reader import CacheReader

PROG = "ffdetect calibrate"


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Exit status: 0 when written, 1 if it could not be, 2 for wrong arguments, weights or caches,
    130 when stopped."""
    parser = make_parser(prog)
    args = parser.parse_args(argv)
    try:
        matches = parse_matches(args.match)
        check_outputs({"--out": args.out})
        detector = Detector.load(args.judge or args.weights, args.device, threads=None)
        _check_judge(args)
        reader = CacheReader(args.caches)
        rows = _rows(reader, args.all)
        faces = reader.metadata.iloc[rows]
        kind = kinds(faces, matches)
        logit = detector.cache_logits(reader, rows)
        calibration = calibrate(faces, logit, kind)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    try:
        write_calibration(args.weights, args.out, calibration)
    except OSError as error:
        return unwritten(args.out, error)
    print(report(calibration, faces, logit, kind))
    if (detector.about.get("recipe") or {}).get("fit_all"):
        print(
            f"warning: {args.judge or args.weights} was trained with --fit-all, so perhaps on "
            "these very faces; then real ones score too low here, and the thresholds flag more of "
            "others",
            file=sys.stderr,
        )
    if not supported(calibration.reals, min(FPRS)):
        needed = round(1 / min(FPRS)) - 1
        print(
            f"warning: expected at least {needed} real faces for a threshold at a false-positive "
            f"rate of {min(FPRS):g} but got {calibration.reals}; it is just above all of their "
            "scores, and the rate is not known",
            file=sys.stderr,
        )
    print(f"{args.out}: calibrated weights")
    return 0


def _check_judge(args: argparse.Namespace) -> None:
    """What one network's scores mean holds for another only if both were made alike."""
    if args.judge is None:
        return
    judge, own = (
        {"network": c.network.settings.to_dict(), "crop": c.crop.to_dict()}
        for c in map(load_checkpoint, (args.judge, args.weights))
    )
    if difference := settings_difference(own, judge):
        raise ValueError(
            f"{args.judge}: expected the settings of {args.weights} but they differ "
            f"({'; '.join(difference)})"
        )


def _rows(reader: CacheReader, every: bool) -> np.ndarray:
    target = reader.metadata["target"].to_numpy()
    rows = np.flatnonzero(target >= 0) if every else split_rows(reader.metadata)[1]
    reals, fakes = ((target[rows] == value).sum() for value in (0, 1))
    if not reals or not fakes:
        raise ValueError(
            f"{reader.paths[0]}: expected real and fake faces to calibrate on but got {reals} "
            f"and {fakes} (--all takes the train split too)"
        )
    return rows


def kinds(faces: pd.DataFrame, matches: dict[str, tuple[str, ...]]) -> np.ndarray:
    """Within which kind real and fake shall weigh the same: a string for every face.

    A generator of `matches` and the real sources it names are of one kind, all others of another.
    Otherwise a detector is taken to be surer than it is, or less sure, because one source has
    more reals than fakes.
    """
    generator = faces["generator"].to_numpy().astype(str)
    for name, sources in matches.items():
        for wanted in (name, *sources):
            if wanted not in generator:
                raise ValueError(f"expected faces of {wanted} for --match but found none")
    own: dict[str, tuple[str, ...]] = {}
    for name, sources in matches.items():
        for member in (name, *sources):
            if own.setdefault(member, sources) != sources:
                raise ValueError(f"expected {member} in one --match or the same but got several")
    return np.array([",".join(own.get(name, ())) for name in generator])


def calibrate(faces: pd.DataFrame, logit: torch.Tensor, kind: np.ndarray) -> Calibration:
    """Fit temperature and bias, and take thresholds that shall hold for sources left out.

    Args:
        faces: rows of `CacheReader.metadata`, all with a label.
        logit: float32 N, uncalibrated.
        kind: see `kinds`.

    Raises:
        ValueError: no kind has both reals and fakes, or fakes do not score above reals.
    """
    target, unit = faces["target"].to_numpy(), faces["generator"].to_numpy().astype(str)
    weight = weights_within_kinds(target, kind)
    temperature, bias = fit_platt(target, logit.double().numpy(), weight)
    score = probabilities(logit, temperature, bias).numpy()  # rounded as the detector's are
    points = OperatingPoints(temperature, bias, thresholds(target, unit, score, FPRS))
    return Calibration.measured(points, target, unit)


def report(
    calibration: Calibration, faces: pd.DataFrame, logit: torch.Tensor, kind: np.ndarray
) -> str:
    """What was found, with errors that are honest: of faces whose group was left out."""
    target, group = faces["target"].to_numpy(), faces["group"].to_numpy()
    weight = weights_within_kinds(target, kind)
    values = logit.double().numpy()
    before = calibration_error(target, torch.sigmoid(logit).numpy(), weight=weight)
    curve: list[str] = []
    try:
        honest = cross_fitted(target, values, kind, group)
        curve = [
            f"mean score {said:.3f}: fake {so:.3f} of {count} faces"
            for said, so, count in calibration_curve(target, honest, weight)
        ]
        after = f"{calibration_error(target, honest, weight=weight):.4f} (fitted on other groups)"
    except ValueError as error:
        after = f"not known: {error}"
    score = probabilities(logit, calibration.temperature, calibration.bias).numpy()
    lines = [
        f"faces        {calibration.reals} real, {calibration.fakes} fake",
        f"temperature  {calibration.temperature:.4f}",
        f"bias         {calibration.bias:+.4f}",
        f"ECE before   {before:.4f}",
        f"ECE after    {after}",
        *curve,
    ]
    for fpr, threshold in calibration.thresholds.items():
        caught = (score[target == 1] >= threshold).mean()
        lines.append(f"FPR {fpr:<8g} score >= {threshold:.4f} catches {caught:.3f} of these fakes")
    lines.append(f"real          score <= {calibration.real_threshold:.4f}")
    flagged = pd.Series(score >= calibration.thresholds[0.01])[target == 0]
    sources = faces["generator"].to_numpy()[target == 0]
    shares = ", ".join(
        f"{name or '?'} {share:.3f}" for name, share in flagged.groupby(sources).mean().items()
    )
    return "\n".join([*lines, f"reals above the threshold of FPR 0.01 by source: {shares}"])


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    parser = new_parser(prog, __doc__, "mine.safetensors cache/heldout --out mine.safetensors")
    add = parser.add_argument
    add("weights", type=Path, metavar="WEIGHTS", help="written by ffdetect train")
    add("caches", nargs="+", type=Path, metavar="CACHE", help="written by preprocess.crop")
    add("--out", type=Path, required=True, help="the calibrated weights file; may be WEIGHTS")
    add(
        "--judge",
        type=Path,
        help="weights of the same recipe, trained without these faces, "
        "that score them (default: WEIGHTS)",
    )
    add("--all", action="store_true", help="take every labelled face, not only validation rows")
    add_match(parser, "weigh this generator against these real sources only")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    return parser
