"""Ridge lines that keep real sources together: how the linear heads are solved.

Ridge regression (Hoerl & Kennard 1970) on standardised statistics with targets 0 and 1, in its
dual form, since there are more statistics than faces. Every real source and every family of
generators counts by the root of its size, and both classes count alike.

Real sources differ in camera, light and retouching, and a line that follows such differences
accuses a photographer. So the line is also held to give every real source the same mean score:
the means of sources are rows of their own whose wanted score is that of all reals (after Vapnik &
Izmailov's and Heinze-Deml & Meinshausen's use of within-class variance between groups as a
penalty: Heinze-Deml & Meinshausen 2021, "Conditional variance penalties and domain shift
robustness").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ffdetect.evaluation.metrics import balanced_weights
from ffdetect.models.heads import LinearHead

_FLAT = 1e-4  # deviation below which a statistic counts as flat


@dataclass(frozen=True)
class RidgeSettings:
    """Attributes:
    shrinkage: of the line, as a share of the statistics' total variance.
    source_penalty: weight of differences between the means of real sources.
    """

    shrinkage: float = 3e-4
    source_penalty: float = 30.0


class Gram:
    """Products of all rows with each other, for the many lines that folds and recipes ask for.

    Args:
        statistics: float N x features.
    """

    def __init__(self, statistics: np.ndarray) -> None:
        x = torch.from_numpy(np.ascontiguousarray(statistics, np.float32))
        self.head = LinearHead(x.shape[1])
        self.head.centre.copy_(x.mean(0))
        self.head.scale.copy_(x.std(0).clamp_min(_FLAT))
        self.x = self.head.standardise(x)
        self.products = self.x @ self.x.T / x.shape[1]

    def scores(self, line: Line, rows: np.ndarray) -> np.ndarray:
        """Scores of some rows by a line: float64."""
        products = self.products[torch.from_numpy(rows)[:, None], torch.from_numpy(line.rows)]
        return (products @ line.dual).double().numpy() + line.bias

    def head_of(self, line: Line) -> LinearHead:
        """The same line as a head for statistics that were not among the rows."""
        features = self.x.shape[1]
        head = LinearHead(features)
        head.centre.copy_(self.head.centre)
        head.scale.copy_(self.head.scale)
        weight = line.dual @ self.x[torch.from_numpy(line.rows)] / features
        with torch.no_grad():
            head.linear.weight.copy_(weight[None])
            head.linear.bias.fill_(line.bias)
        return head


@dataclass(frozen=True)
class Line:
    """A solved line over the rows it was solved from: score = products @ dual + bias."""

    rows: np.ndarray
    dual: torch.Tensor
    bias: float

    def stretched(self, low: float, high: float) -> Line:
        """The same line, with `low` of its scores at 0 and `high` at 1."""
        span = high - low
        return Line(self.rows, self.dual / span, (self.bias - low) / span)


def solve_line(
    gram: Gram,
    rows: np.ndarray,
    target: np.ndarray,
    unit: np.ndarray,
    settings: RidgeSettings,
    emphasis: np.ndarray | None = None,
) -> Line:
    """Solve a line from some rows.

    Args:
        gram: of all rows.
        rows: int M, to learn from.
        target, unit: of all rows, see `balanced_weights`.
        emphasis: float, of all rows: how much each counts among those of its class, beside that.
    """
    target, unit = target[rows], unit[rows]
    balance = balanced_weights(target, unit, 0.5, None if emphasis is None else emphasis[rows])
    weight = torch.from_numpy(balance / len(rows)).float()
    index = torch.from_numpy(rows)
    centred = gram.products[index[:, None], index]
    mean = centred @ weight
    middle = weight @ mean
    centred.sub_(mean[:, None]).sub_(mean[None]).add_(middle)
    wanted = torch.from_numpy(target.astype(np.float32))
    share = weight @ wanted
    shrink = settings.shrinkage * (weight @ torch.diagonal(centred))
    # One equation a face, and one a real source's mean, whose wanted score is that of all.
    root = weight.sqrt()
    system, goal = root[:, None] * centred * root, root * (wanted - share)
    between = _between_sources(target, unit) * settings.source_penalty**0.5
    crossed = between @ centred
    system = torch.cat(
        [
            torch.cat([system, (crossed * root).T], 1),
            torch.cat([crossed * root, crossed @ between.T], 1),
        ]
    )
    goal = torch.cat([goal, torch.zeros(len(between))])
    system.diagonal().add_(shrink)
    solved = torch.cholesky_solve(goal[:, None], torch.linalg.cholesky(system))[:, 0]
    dual = root * solved[: len(rows)] + between.T @ solved[len(rows) :]
    # Scores are of centred rows: what centring takes off goes into the dual and the bias.
    bias = float(share - dual @ mean + dual.sum() * middle)
    return Line(rows, dual - dual.sum() * weight, bias)


def _between_sources(target: np.ndarray, unit: np.ndarray) -> torch.Tensor:
    """float32 sources x rows: each source's mean less the mean of all sources' means."""
    names, number = np.unique(unit[target == 0], return_inverse=True)
    means = torch.zeros(len(names), len(target))
    real = torch.from_numpy(np.flatnonzero(target == 0))
    means[torch.from_numpy(number), real] = 1.0
    means /= means.sum(1, keepdim=True)
    return (means - means.mean(0)) / len(names) ** 0.5
