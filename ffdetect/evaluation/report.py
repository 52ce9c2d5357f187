"""What a run of the nested protocol found: every figure with its interval, the worst by name."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .bootstrap import Interval, bootstrap_all
from .calibration import operating_points
from .matching import matched_rows
from .metrics import auc, balanced_weights, calibration_curve, calibration_error, tpr_at_fpr
from .protocol import Outcome, Scores
from .splits import Rows
from .thresholds import FPRS


@dataclass(frozen=True)
class FamilyResult:
    """How the fakes of a family that training did not see are told from unseen reals.

    Attributes:
        auc: against reals of its kind.
        caught: false-positive rate -> share of the fakes above the threshold of the inner folds.
        called_real: share of the fakes below the threshold of real.
    """

    family: str
    fakes: int
    reals: int
    auc: Interval
    caught: dict[float, float]
    called_real: float


@dataclass(frozen=True)
class SourceResult:
    """What happens to a source of reals that training did not see.

    Attributes:
        flagged: false-positive rate that was aimed at -> share that was flagged, by thresholds of
            the inner folds; a face that several folds test counts with its mean.
        called_real: share below the threshold of real.
    """

    source: str
    reals: int
    flagged: dict[float, float]
    called_real: float


@dataclass(frozen=True)
class Report:
    """Attributes:
    command: that made it.
    date: when, as YYYY-MM-DD.
    recipes: how many were compared inside.
    looks, reasons: see `ffdetect.evaluation.protocol.Outcome`.
    chosen: outer fold -> the recipe chosen inside.
    mean_auc: over families, each alike.
    pooled_auc: of all fakes against all reals, by calibrated scores.
    pooled_tpr: false-positive rate -> share of all fakes above the threshold that the tested
        reals themselves would set, every source alike.
    calibration_error: of calibrated scores, every family and source alike.
    families: worst AUC first.
    sources: most false alarms at the first rate first.
    curve: mean score, share of fakes and number of rows of every tenth of the scores.
    """

    command: str
    date: str
    recipes: int
    looks: int
    reasons: list[str]
    chosen: dict[str, str]
    mean_auc: Interval
    pooled_auc: Interval
    pooled_tpr: dict[float, Interval]
    calibration_error: float
    families: list[FamilyResult]
    sources: list[SourceResult]
    curve: list[tuple[float, float, int]]

    @property
    def worst_family(self) -> FamilyResult:
        return self.families[0]

    @property
    def worst_source(self) -> SourceResult:
        return self.sources[0]


def report(
    outcome: Outcome,
    rows: Rows,
    command: str,
    fprs: Sequence[float] = FPRS,
    rounds: int = 1000,
) -> Report:
    """Read what a run found; calibration and thresholds of a fold come from its inner folds.

    Args:
        outcome: of `NestedProtocol.run`.
        rows: those that the protocol was made of.
        command: that made it.
        fprs: rates aimed at.
        rounds: of the bootstrap: families and sources are strata; ties of the first kind, and
            the several scores of one row, are drawn together.
    """
    read = _read(outcome, rows, fprs)
    matched = _matched(outcome, rows)
    target, unit = rows.target[outcome.outer.row], rows.unit[outcome.outer.row]
    weight = balanced_weights(target, unit)

    def figures(drawn: np.ndarray) -> dict[str, float]:
        t, s, w = target[drawn], read.score[drawn], weight[drawn]
        inside = {name: own[drawn] for name, own in matched.items()}
        found = {f"family {name}": auc(t[own], s[own]) for name, own in inside.items()}
        found["mean"] = float(np.mean(list(found.values())))
        found["pooled"] = auc(t, s)
        found |= {f"tpr {fpr}": tpr_at_fpr(t, s, fpr, w) for fpr in fprs}
        return found

    found = bootstrap_all(figures, unit, _groups(outcome.outer, rows), rounds=rounds)
    families = [
        FamilyResult(
            name,
            fakes=int((own & (target == 1)).sum()),
            reals=int((own & (target == 0)).sum()),
            auc=found[f"family {name}"],
            caught={f: float(read.flagged[f][own & (target == 1)].mean()) for f in fprs},
            called_real=float(read.called_real[own & (target == 1)].mean()),
        )
        for name, own in matched.items()
    ]
    sources = []
    for name in np.unique(unit[target == 0]).tolist():
        own = (unit == name) & (target == 0)
        sources.append(
            SourceResult(
                name,
                reals=len(np.unique(outcome.outer.row[own])),
                flagged={f: float(read.flagged[f][own].mean()) for f in fprs},
                called_real=float(read.called_real[own].mean()),
            )
        )
    return Report(
        command=command,
        date=datetime.date.today().isoformat(),
        recipes=outcome.recipes,
        looks=outcome.looks,
        reasons=outcome.reasons,
        chosen={name: choice.recipe for name, choice in outcome.choices.items()},
        mean_auc=found["mean"],
        pooled_auc=found["pooled"],
        pooled_tpr={fpr: found[f"tpr {fpr}"] for fpr in fprs},
        calibration_error=calibration_error(target, read.score, weight=weight),
        families=sorted(families, key=lambda family: family.auc.value),
        sources=sorted(sources, key=lambda source: -source.flagged[fprs[0]]),
        curve=calibration_curve(target, read.score, weight),
    )


@dataclass(frozen=True)
class _Read:
    """Scores of the outer tests, read by what their inner folds measured."""

    score: np.ndarray
    flagged: dict[float, np.ndarray]
    called_real: np.ndarray


def _read(outcome: Outcome, rows: Rows, fprs: Sequence[float]) -> _Read:
    outer = outcome.outer
    read = _Read(
        np.empty(len(outer.row)),
        {fpr: np.empty(len(outer.row), bool) for fpr in fprs},
        np.empty(len(outer.row), bool),
    )
    for name, choice in outcome.choices.items():
        inner = choice.inner
        seen = rows.target[inner.row], rows.unit[inner.row]
        points = operating_points(*seen, inner.score, fprs)
        own = outer.fold == name
        score = points.probability(outer.score[own])
        read.score[own] = score
        for fpr in fprs:
            read.flagged[fpr][own] = score >= points.thresholds.fake[fpr]
        read.called_real[own] = score <= min(
            points.thresholds.real, points.thresholds.fake[fprs[0]]
        )
    return read


def _matched(outcome: Outcome, rows: Rows) -> dict[str, np.ndarray]:
    """family -> which of the outer scores it is judged by: bool N; those of its own fold."""
    found: dict[str, np.ndarray] = {}
    target, unit = rows.target[outcome.outer.row], rows.unit[outcome.outer.row]
    matches = rows.matches()
    for fold in outcome.folds:
        own = np.flatnonzero(outcome.outer.fold == fold.name)
        for name, chosen in matched_rows(unit[own], target[own], matches).items():
            mask = found.setdefault(name, np.zeros(len(unit), bool))
            if (target[own[chosen]] == 0).any():
                mask[own[chosen]] = True
    return {name: mask for name, mask in found.items() if mask.any()}


def _groups(scores: Scores, rows: Rows) -> np.ndarray:
    own = np.char.add("row ", scores.row.astype(str))
    tie = rows.ties[0][scores.row] if rows.ties else np.full(len(own), "")
    return np.where(tie == "", own, tie)
