"""What scores of faces left out of training are worth: the figures of a model card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from ffdetect.evaluation.bootstrap import auc_interval
from ffdetect.evaluation.metrics import auc, calibration_error, tpr_at_fpr
from ffdetect.evaluation.thresholds import FPRS, equal_weights, left_out_alarms
from ffdetect.models.calibration import Calibration

from .recipes import PAIRS

_FEWEST = 20  # reals of a source whose rate is worth a line


@dataclass(frozen=True)
class LeftOut:
    """Scores by lines that saw neither a face's family nor its source, or not its video.

    Attributes:
        row: int N, of the table of faces; a real is there once for every fold that tests it.
        fold: str N, what was left out.
        target: int N, 1 fake, 0 real.
        unit: str N, family of a fake, source of a real.
        logit: float N.
    """

    row: np.ndarray
    fold: np.ndarray
    target: np.ndarray
    unit: np.ndarray
    logit: np.ndarray


def _compared(left_out: LeftOut, family: str) -> np.ndarray:
    """bool N: fakes, and the reals that this family's are compared with.

    Swaps are compared with untouched pictures of their own collection alone, or collections would
    be told apart instead of real and fake.
    """
    paired = [source for sources in PAIRS.values() for source in sources]
    alike = np.isin(left_out.unit, PAIRS.get(family, ()))
    if family not in PAIRS:
        alike = ~np.isin(left_out.unit, paired)
    return (left_out.target == 1) | alike


def figures(left_out: LeftOut, calibration: Calibration) -> dict[str, Any]:
    """AUC of every fold with its interval, operating points, and false alarms by source."""
    target, unit, logit = left_out.target, left_out.unit, left_out.logit
    score = expit(logit / calibration.temperature + calibration.bias)
    folds: dict[str, dict[str, Any]] = {}
    for name in np.unique(left_out.fold).tolist():
        own = (left_out.fold == name) & _compared(left_out, name)
        interval = auc_interval(target[own], logit[own], unit[own])
        counts = [int((target[own] == value).sum()) for value in (1, 0)]
        ends = [round(float(x), 4) for x in (interval.value, interval.low, interval.high)]
        folds[name] = {"fakes": counts[0], "reals": counts[1], "auc": ends}
    means = {name: fold["auc"][0] for name, fold in folds.items()}
    reals = target == 0
    alarms = left_out_alarms(score[reals], unit[reals], FPRS)
    weight = np.where(reals, equal_weights(unit), 1.0)
    return {
        "folds": folds,
        "mean over families": round(float(np.mean(list(means.values()))), 4),
        "worst family": min(means, key=lambda name: means[name]),
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
