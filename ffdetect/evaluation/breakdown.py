"""How well scores tell fakes, in all, by generator and by source of reals, each with its interval.

For scores that are there: of a cache, or of a table that `ffdetect predict` wrote. Whether a
generator is unseen is up to what scored it; `ffdetect.evaluation.protocol` sees to that itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .bootstrap import Interval, bootstrap_all
from .matching import KINDS, comparisons
from .metrics import auc, calibration_error, eer
from .tables import markdown, plain
from .thresholds import FPRS, equal_weights, supported, threshold_at_fpr


@dataclass(frozen=True)
class GeneratorResult:
    """How one generator's fakes are told from reals of their kind.

    Attributes:
        tpr: false-positive rate among these reals -> share of the fakes that is caught.
        eer: equal error rate.
        ece: expected calibration error of the scores as probabilities.
    """

    generator: str
    fakes: int
    reals: int
    auc: Interval
    tpr: dict[float, Interval]
    eer: float
    ece: float


@dataclass(frozen=True)
class SourceResult:
    """What happens to one source of reals.

    Attributes:
        flagged: false-positive rate -> share of this source that is flagged where so many of all
            reals are, every source counting alike.
    """

    source: str
    reals: int
    flagged: dict[float, Interval]


@dataclass(frozen=True)
class Breakdown:
    """Attributes:
    auc, tpr: of all fakes against all reals, every row counting alike.
    mean_auc: of the generators, each alike.
    generators: lowest AUC first.
    sources: most false alarms at the first rate first.
    """

    fakes: int
    reals: int
    auc: Interval
    mean_auc: Interval
    tpr: dict[float, Interval]
    generators: list[GeneratorResult]
    sources: list[SourceResult]

    def to_dict(self) -> dict[str, Any]:
        """JSON's types."""
        return plain(asdict(self))

    def markdown(self) -> str:
        """Three tables: all, by generator, by source."""
        rates = list(self.tpr)
        whole: list[Sequence[object]] = [
            ["AUC", self.auc],
            ["mean AUC over generators", self.mean_auc],
            *[[f"TPR at FPR {rate:g}", found] for rate, found in self.tpr.items()],
        ]
        generators = [
            [g.generator, f"{g.fakes} / {g.reals}", g.auc, *[g.tpr[rate] for rate in rates]]
            + [f"{g.eer:.3f}", f"{g.ece:.3f}"]
            for g in self.generators
        ]
        sources = [[s.source, s.reals, *[s.flagged[rate] for rate in rates]] for s in self.sources]
        caught = [f"TPR at FPR {rate:g}" for rate in rates]
        flagged = [f"flagged at {rate:g}" for rate in rates]
        return "\n\n".join(
            (
                markdown([f"{self.fakes} fake, {self.reals} real", "figure [95 %]"], whole),
                markdown(
                    ["generator", "fakes / reals", "AUC [95 %]", *caught, "EER", "ECE"], generators
                ),
                markdown(["real source", "reals", *flagged], sources),
            )
        )


def break_down(
    target: np.ndarray,
    score: np.ndarray,
    unit: np.ndarray,
    group: np.ndarray | None = None,
    *,
    matches: Mapping[str, Sequence[str]] = KINDS,
    fprs: Sequence[float] = FPRS,
    rounds: int = 1000,
) -> Breakdown:
    """Figures of scores, with intervals from a bootstrap in which units are strata.

    Args:
        target: int N, 1 fake, 0 real.
        score: float N, probabilities of fake, 0 to 1.
        unit: str N, the generator of a fake, the source of a real.
        group: str N, what belongs together, such as a clip's frames; "" belongs to nothing.
        matches: see `ffdetect.evaluation.matching.matched_rows`. A generator without reals of its
            kind has no result.
        fprs: false-positive rates; those that so few reals cannot show are left out.
        rounds: of the bootstrap.

    Raises:
        ValueError: not both of real and fake, or scores that are not a number.
    """
    target, unit = np.asarray(target), np.asarray(unit).astype(str)
    score = np.asarray(score, np.float64)
    auc(target, score)  # refuses what is wrong before anything is drawn
    reals = int((target == 0).sum())
    rates = [fpr for fpr in fprs if supported(reals, fpr)] or [max(fprs)]

    number = np.unique(unit, return_inverse=True)[1]  # numbers are counted faster than names

    def flag(rows: np.ndarray, fpr: float, sources_alike: bool) -> np.ndarray:
        clean = rows[target[rows] == 0]
        weight = equal_weights(number[clean]) if sources_alike else None
        return score[rows] >= threshold_at_fpr(score[clean], fpr, weight)

    matched = comparisons(unit, target, matches)
    return figures_of(target, score, unit, group, matched, flag, rates, rounds)


Flag = Callable[[np.ndarray, float, bool], np.ndarray]
"""(rows that were drawn, false-positive rate, whether sources of reals count alike) -> bool, which
of the rows are flagged."""


def figures_of(
    target: np.ndarray,
    score: np.ndarray,
    unit: np.ndarray,
    group: np.ndarray | None,
    matched: Mapping[str, np.ndarray],
    flag: Flag,
    rates: Sequence[float],
    rounds: int,
) -> Breakdown:
    """`break_down` where somebody else says which rows judge a generator, and which are flagged.

    Args:
        matched: generator -> int rows, of both classes.
        flag: see `Flag`.
        rates: false-positive rates.
    """
    if not matched:
        raise ValueError("expected reals of the kind of some generator but found none")
    judges = {name: np.isin(np.arange(len(target)), rows) for name, rows in matched.items()}
    names = np.unique(unit[target == 0]).tolist()
    reals_of = {name: (target == 0) & (unit == name) for name in names}

    def figures(drawn: np.ndarray) -> dict[tuple, float]:
        found: dict[tuple, float] = {("auc",): auc(target[drawn], score[drawn])}
        for name, mask in judges.items():
            own = drawn[mask[drawn]]
            found["auc", name] = auc(target[own], score[own])
            for fpr in rates:
                found["tpr", name, fpr] = flag(own, fpr, False)[target[own] == 1].mean()
        found["mean",] = float(np.mean([found["auc", name] for name in judges]))
        for fpr in rates:
            found["tpr", fpr] = flag(drawn, fpr, False)[target[drawn] == 1].mean()
            flagged = flag(drawn, fpr, True)
            for name, mask in reals_of.items():
                found["flagged", name, fpr] = flagged[mask[drawn]].mean()
        return found

    found = bootstrap_all(figures, np.char.add(target.astype(str), unit), group, rounds=rounds)
    generators = [
        GeneratorResult(
            name,
            fakes=int(target[rows].sum()),
            reals=int((target[rows] == 0).sum()),
            auc=found["auc", name],
            tpr={fpr: found["tpr", name, fpr] for fpr in rates},
            eer=eer(target[rows], score[rows]),
            ece=calibration_error(target[rows], score[rows]),
        )
        for name, rows in matched.items()
    ]
    sources = [
        SourceResult(
            name,
            reals=int(mask.sum()),
            flagged={fpr: found["flagged", name, fpr] for fpr in rates},
        )
        for name, mask in reals_of.items()
    ]
    return Breakdown(
        fakes=int((target == 1).sum()),
        reals=int((target == 0).sum()),
        auc=found["auc",],
        mean_auc=found["mean",],
        tpr={fpr: found["tpr", fpr] for fpr in rates},
        generators=sorted(generators, key=lambda result: result.auc.value),
        sources=sorted(sources, key=lambda result: -result.flagged[rates[0]].value),
    )
