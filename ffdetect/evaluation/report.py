"""What a run of the nested protocol found: every figure with its interval, the worst by name."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .breakdown import Breakdown, figures_of
from .calibration import operating_points
from .matching import comparisons
from .metrics import balanced_weights, calibration_curve, calibration_error
from .protocol import Outcome, Scores
from .splits import Rows
from .tables import markdown
from .thresholds import FPRS


@dataclass(frozen=True)
class Report:
    """Attributes:
    command: that made it.
    date: when, as YYYY-MM-DD.
    recipes: how many were compared inside.
    looks, reasons: see `ffdetect.evaluation.protocol.Outcome`.
    chosen: outer fold -> the recipe chosen inside.
    figures: of calibrated scores; a family (`generators`) is judged in its own fold, and flagged is
        what exceeds the threshold of the inner folds. The worst come first.
    called_real: family of fakes, or source of reals -> share below the threshold of real.
    calibration_error: of calibrated scores, every family and source alike.
    curve: mean score, share of fakes and number of rows of every tenth of the scores.
    """

    command: str
    date: str
    recipes: int
    looks: int
    reasons: list[str]
    chosen: dict[str, str]
    figures: Breakdown
    called_real: dict[str, float]
    calibration_error: float
    curve: list[tuple[float, float, int]]

    def markdown(self) -> str:
        """Headline figures, then a line a family and a line a real source, the worst first."""
        again = f" Outer folds were run {self.looks} times." if self.looks > 1 else ""
        again += "".join(f" Reason: {reason}." for reason in self.reasons)
        return "\n\n".join(
            [
                f"`{self.command}` ({self.date})",
                f"{self.recipes} recipes were compared inside the outer folds; chosen: "
                f"{', '.join(sorted(set(self.chosen.values())))}.{again}",
                "Rates are those that the inner folds' thresholds were set for. Calibration "
                f"error: {self.calibration_error:.3f}.",
                self.figures.markdown(),
                markdown(
                    ["unit", 'called "real"'],
                    [[name, f"{share:.1%}"] for name, share in self.called_real.items()],
                ),
                markdown(
                    ["mean score", "share of fakes", "rows"],
                    [[f"{said:.2f}", f"{so:.2f}", count] for said, so, count in self.curve],
                ),
            ]
        )


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
    outer = outcome.outer
    target, unit = rows.target[outer.row], rows.unit[outer.row]
    score, called_real = np.empty(len(unit)), np.empty(len(unit), bool)
    flagged = {fpr: np.empty(len(unit), bool) for fpr in fprs}
    judged: dict[str, list[np.ndarray]] = {}
    for name, choice in outcome.choices.items():
        inner = choice.inner
        points = operating_points(rows.target[inner.row], rows.unit[inner.row], inner.score, fprs)
        own = np.flatnonzero(outer.fold == name)
        score[own] = read = points.probability(outer.score[own])
        lines = points.thresholds
        for fpr in fprs:
            flagged[fpr][own] = read >= lines.fake[fpr]
        called_real[own] = read <= min(lines.real, lines.fake[fprs[0]])
        for family, chosen in comparisons(unit[own], target[own], rows.matches()).items():
            judged.setdefault(family, []).append(own[chosen])
    figures = figures_of(
        target,
        score,
        unit,
        _groups(outer, rows),
        {family: np.concatenate(parts) for family, parts in judged.items()},
        lambda drawn, fpr, _: flagged[fpr][drawn],
        fprs,
        rounds,
    )
    # A real that several folds test has several scores.
    count = {
        name: len(np.unique(outer.row[(unit == name) & (target == 0)])) for name in rows.sources()
    }
    figures = replace(
        figures,
        reals=sum(count.values()),
        sources=[replace(source, reals=count[source.source]) for source in figures.sources],
    )
    weight = balanced_weights(target, unit)
    return Report(
        command=command,
        date=datetime.date.today().isoformat(),
        recipes=outcome.recipes,
        looks=outcome.looks,
        reasons=outcome.reasons,
        chosen={name: choice.recipe for name, choice in outcome.choices.items()},
        figures=figures,
        called_real={
            f"{name} ({kind})": float(called_real[(unit == name) & (target == value)].mean())
            for kind, value in (("fake", 1), ("real", 0))
            for name in np.unique(unit[target == value]).tolist()
        },
        calibration_error=calibration_error(target, score, weight=weight),
        curve=calibration_curve(target, score, weight),
    )


def _groups(scores: Scores, rows: Rows) -> np.ndarray:
    """What is drawn together: rows that are tied, and all scores of one row."""
    own = np.char.add("row ", scores.row.astype(str))
    tie = rows.ties[0][scores.row] if rows.ties else np.full(len(own), "")
    return np.where(tie == "", own, tie)
