"""What scores of faces left out of training are worth: the figures of a model card."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from ffdetect.evaluation.bootstrap import auc_interval
from ffdetect.evaluation.matching import matched_rows
from ffdetect.evaluation.metrics import auc, balanced_weights, calibration_error, tpr_at_fpr
from ffdetect.evaluation.thresholds import FPRS, equal_weights, left_out_alarms
from ffdetect.models.calibration import Calibration
from ffdetect.scoring.fusion import Evidence, Fusion

from .recipes import PAIRS

_FEWEST = 20  # reals of a source whose rate is worth a line
_FEWEST_CLIPS = 4  # of a method, likewise


@dataclass(frozen=True)
class LeftOut:
    """Scores by lines that saw neither a face's family nor its source, or not its video.

    Attributes:
        row: int N, of the table of faces, which is there once for every fold that tests it.
        fold: str N, what was left out.
        target: int N, 1 fake, 0 real.
        unit: str N, family of a fake, source of a real.
        logit: float N, of the matched view.
        degraded: float N, of a degraded view; nan where there is none.
    """

    row: np.ndarray
    fold: np.ndarray
    target: np.ndarray
    unit: np.ndarray
    logit: np.ndarray
    degraded: np.ndarray


def _folds(left_out: LeftOut) -> Iterator[tuple[str, np.ndarray]]:
    """Every fold's name and rows: the fakes of its family, and the reals of their kind.

    Swaps are compared with untouched pictures of their own collection alone, or collections would
    be told apart instead of real and fake.
    """
    for name in np.unique(left_out.fold).tolist():
        own = np.flatnonzero(left_out.fold == name)
        (rows,) = matched_rows(left_out.unit[own], left_out.target[own], PAIRS).values()
        yield name, own[rows]


def families(left_out: LeftOut) -> dict[str, dict[str, Any]]:
    """AUC of every fold with its interval, in which a face counts once."""
    folds: dict[str, dict[str, Any]] = {}
    for name, own in _folds(left_out):
        target, row = left_out.target[own], left_out.row[own]
        interval = auc_interval(target, left_out.logit[own], left_out.unit[own], row.astype(str))
        counts = [len(np.unique(row[target == value])) for value in (1, 0)]
        folds[name] = {"fakes": counts[0], "reals": counts[1], "auc": interval.rounded()}
    return folds


def _loss(left_out: LeftOut) -> dict[str, float]:
    """Mean AUC over folds of the faces that have a degraded view, as they are and degraded."""
    found: dict[str, list[float]] = {"as they are": [], "degraded": []}
    for _, rows in _folds(left_out):
        own = rows[~np.isnan(left_out.degraded[rows])]
        if len(np.unique(left_out.target[own])) == 2:
            found["as they are"].append(auc(left_out.target[own], left_out.logit[own]))
            found["degraded"].append(auc(left_out.target[own], left_out.degraded[own]))
    return {name: round(float(np.mean(values)), 4) for name, values in found.items() if values}


def figures(left_out: LeftOut, calibration: Calibration) -> dict[str, Any]:
    """AUC of every fold with its interval, operating points, and false alarms by source."""
    target, unit, logit = left_out.target, left_out.unit, left_out.logit
    score = expit(logit / calibration.temperature + calibration.bias)
    folds = families(left_out)
    means = {name: fold["auc"][0] for name, fold in folds.items()}
    reals = target == 0
    alarms = left_out_alarms(score[reals], unit[reals], FPRS)
    weight = np.where(reals, equal_weights(unit), 1.0)
    return {
        "folds": folds,
        "mean over families": round(float(np.mean(list(means.values()))), 4),
        "worst family": min(means, key=lambda name: means[name]),
        "degraded views": _loss(left_out),
        "pooled AUC": round(auc(target, logit), 4),
        "pooled TPR": {
            f"{fpr:g}": round(tpr_at_fpr(target, logit, fpr, weight), 4) for fpr in FPRS[:2]
        },
        "ECE": round(calibration_error(target, score), 4),
        "false alarms of sources left out": {
            f"{fpr:g}": {a.source: round(a.rate, 3) for a in found if a.reals >= _FEWEST}
            for fpr, found in alarms.items()
        },
    }


def clip_scores(left_out: LeftOut, path: np.ndarray, generator: np.ndarray) -> pd.DataFrame:
    """One row a clip: target, logit (the mean of its frames'), fold, unit and generator.

    Args:
        path, generator: str, of every row of the table of faces.
    """
    frames = pd.DataFrame(
        {
            "path": path[left_out.row],
            "target": left_out.target,
            "logit": left_out.logit,
            "fold": left_out.fold,
            "unit": left_out.unit,
            "generator": generator[left_out.row],
        }
    )
    first = dict.fromkeys(("target", "fold", "unit", "generator"), "first")
    return frames.groupby("path", as_index=False).agg({"logit": "mean", **first})


def clip_figures(clips: pd.DataFrame) -> dict[str, Any]:
    """AUC of clips of collections left out, over all and for each method against all reals."""
    target, logit = clips["target"].to_numpy(), clips["logit"].to_numpy()
    interval = auc_interval(target, logit, clips["unit"].to_numpy())
    methods = {}
    for name, own in clips[target == 1].groupby("generator"):
        if len(own) >= _FEWEST_CLIPS:
            beside = (target == 0) | (clips["generator"] == name).to_numpy()
            methods[str(name)] = round(auc(target[beside], logit[beside]), 3)
    return {
        "fakes": int((target == 1).sum()),
        "reals": int((target == 0).sum()),
        "auc": interval.rounded(),
        "TPR at FPR 0.1": round(tpr_at_fpr(target, logit, 0.1), 3),
        "mean over methods": round(float(np.mean(list(methods.values()))), 4) if methods else None,
        "methods": dict(sorted(methods.items(), key=lambda item: item[1])),
    }


def save_fusion(clips: pd.DataFrame, command: str, file: Path) -> None:
    """What logits are worth in clips left out; of voices it stays as the package has it.

    Of each class every source counts by the root of its size.
    """
    target, unit = clips["target"].to_numpy(), clips["unit"].to_numpy()
    weight = balanced_weights(target, unit, 0.5)
    face = Evidence.fit(target, clips["logit"].to_numpy(), weight)
    known = Fusion.load()
    about = {**known.about, "face": command, "date": datetime.date.today().isoformat()}
    Fusion(face, known.voice, known.shares, about).save(file)
