"""The line that tells fakes of several kinds, each alike: what linear heads are solved by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHRINKAGE = 4.0  # of the covariance, in variances of a statistic


class Line(NamedTuple):
    """Log odds of fake are `statistics @ weight + bias`; weight: float64 F."""

    weight: np.ndarray
    bias: float


def solve_line(
    statistics: np.ndarray,
    target: np.ndarray,
    away: np.ndarray,
    covariance: np.ndarray,
    share: np.ndarray,
    shrinkage: float,
) -> Line:
    """Fisher's linear discriminant (1936) for each kind of fake, the mean over kinds.

    Each kind has its own direction, in which it differs most from reals relative to how reals
    differ, with a covariance shrunk towards the identity. All directions are brought to one length
    before they are added: a kind that is told easily must not outvote those that are told with
    pains.

    Args:
        statistics: float64 N x F, standardised.
        target: N, 1 fake, 0 real.
        away: float64 F x kinds, the mean difference of each kind from reals.
        covariance: float64 F x F, of reals.
        share: float N, what each row counts in the odds; in all N.
        shrinkage: in variances of a statistic.
    """
    from sklearn.linear_model import LogisticRegression

    directions = np.linalg.solve(covariance + shrinkage * np.eye(len(away)), away)
    direction = (directions / np.sqrt((away * directions).sum(0))).mean(1)
    # One number a row is left; what it says in log odds is one line more.
    odds = LogisticRegression().fit((statistics @ direction)[:, None], target, share)
    return Line(odds.coef_.item() * direction, odds.intercept_.item())
