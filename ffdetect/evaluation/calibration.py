"""Platt scaling and operating points, from scores by networks that did not see these faces.

Platt 1999, "Probabilistic Outputs for Support Vector Machines": the calibrated logit is
``logit / temperature + bias``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from .metrics import balanced_weights
from .splits import deal
from .thresholds import FPRS, Thresholds, thresholds


@dataclass(frozen=True)
class OperatingPoints:
    """How logits are read: Platt's temperature and bias, and thresholds of the probability."""

    temperature: float
    bias: float
    thresholds: Thresholds

    def probability(self, logit: np.ndarray) -> np.ndarray:
        """Logits of any shape -> probabilities of fake, float32."""
        return expit(np.asarray(logit) / self.temperature + self.bias).astype(np.float32)


def operating_points(
    target: np.ndarray, unit: np.ndarray, logit: np.ndarray, fprs: Sequence[float] = FPRS
) -> OperatingPoints:
    """Calibration that shall hold for sources and families left out; each counts alike.

    Args:
        target, unit, fprs: see `ffdetect.evaluation.thresholds.thresholds`.
        logit: float N, uncalibrated, by networks that saw neither the row nor its unit.

    Raises:
        ValueError: a class is missing, or fakes do not score above reals.
    """
    temperature, bias = fit_platt(target, logit, balanced_weights(target, unit))
    score = expit(logit / temperature + bias).astype(np.float32)
    return OperatingPoints(temperature, bias, thresholds(target, unit, score, fprs))


def fit_platt(target: np.ndarray, logit: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Temperature and bias with the least weighted negative log-likelihood.

    Targets are Platt's (N + 1) / (N + 2) and 1 / (N + 2) instead of 1 and 0, which keeps the fit
    finite where the classes do not overlap and hardly moves it elsewhere.

    Args:
        target: 0 real, 1 fake, N.
        logit: of the network, N.
        weight: at least 0, N; see `weights_within_kinds`.

    Raises:
        ValueError: a class is missing, or fakes do not score above reals.
    """
    fake, weight = target == 1, weight / max(weight.sum(), 1e-12)
    counts = [np.count_nonzero(weight[fake == kind]) for kind in (False, True)]
    if not all(counts):
        raise ValueError(
            f"expected real and fake faces of one kind but got {counts[0]} and {counts[1]}"
        )
    wanted = np.where(fake, (counts[1] + 1) / (counts[1] + 2), 1 / (counts[0] + 2))
    centre, scale = logit.mean(), max(logit.std(), 1e-6)
    x = (logit - centre) / scale  # so that one step size suits any network

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        z = parameters[0] * x + parameters[1]
        slope = weight * (expit(z) - wanted)
        value = np.sum(weight * (np.logaddexp(0, z) - wanted * z))
        return value, np.array([np.sum(slope * x), np.sum(slope)])

    slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, options={"gtol": 1e-9}).x
    if slope <= 0:
        raise ValueError("expected fakes to score above reals but the best fit turns them round")
    temperature = scale / slope
    return float(temperature), float(offset - centre / temperature)


def weights_within_kinds(target: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Weights under which real and fake count the same within every kind: float64 N, sum N or less.

    A kind that is all real or all fake says nothing about telling them apart and gets 0.
    """
    weight = np.zeros(len(target))
    for name in np.unique(kind):
        own = kind == name
        if len(np.unique(target[own])) == 2:
            weight[own] = balanced_weights(target[own], kind[own])
    return weight


def cross_fitted(
    target: np.ndarray, logit: np.ndarray, kind: np.ndarray, group: np.ndarray, folds: int = 5
) -> np.ndarray:
    """Calibrated probabilities of faces whose group had no part in the fit: float64 N.

    Raises:
        ValueError: too few groups to leave any out.
    """
    score, group = np.empty(len(target)), group.astype(str)
    names, sizes = np.unique(group, return_counts=True)
    parts = min(folds, len(names))
    for part in deal(names.tolist(), sizes.tolist(), parts, np.random.default_rng(0)):
        held_out = np.isin(group, part)
        rest = ~held_out
        weight = weights_within_kinds(target[rest], kind[rest])
        try:
            temperature, bias = fit_platt(target[rest], logit[rest], weight)
        except ValueError as error:
            raise ValueError(f"too few groups to leave some out: {error}") from error
        score[held_out] = expit(logit[held_out] / temperature + bias)
    return score
