"""Calibration: what turns a network's logits into probabilities, and where to draw the line.

Platt scaling (Platt 1999, "Probabilistic Outputs for Support Vector Machines"): the calibrated
logit is ``logit / temperature + bias``. Temperature alone (Guo et al. 2017, "On Calibration of
Modern Neural Networks") keeps the logit 0 where training put it; faces from elsewhere move the
scores of both classes together, and only a bias can move them back. Neither changes the order of
scores, so AUC stays as it is.

Real and fake weigh the same in the fit, so 0.5 means: as likely as not, had the face come from
either class with the same chance. Where fakes are rare, the share of fakes among faces that
score 0.5 is far lower; the thresholds hold regardless, as they only speak of real faces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.special import expit

FPRS = (0.1, 0.01, 0.001)
_TEMPERATURES = (1e-3, 1e3)
_BIAS = 1e3


@dataclass(frozen=True)
class Calibration:
    """Temperature, bias and operating points, measured on faces kept out of training.

    Attributes:
        temperature: logits are divided by it, 0.001 to 1000.
        bias: added afterwards, -1000 to 1000.
        thresholds: false-positive rate -> score; of real faces like those that were measured,
            at most that share is expected to score as high or higher. One for each of `FPRS`.
        reals, fakes: how many faces were measured.
        sources: name of a real source or generator -> how many of these faces are its own.
        date: when, as YYYY-MM-DD.
    """

    temperature: float
    bias: float
    thresholds: dict[float, float]
    reals: int
    fakes: int
    sources: dict[str, int]
    date: str

    def __post_init__(self) -> None:
        _check_number("temperature", self.temperature, *_TEMPERATURES)
        _check_number("bias", self.bias, -_BIAS, _BIAS)
        if sorted(self.thresholds) != sorted(FPRS):
            raise ValueError(
                f"expected thresholds at false-positive rates {list(FPRS)} "
                f"but got {list(self.thresholds)}"
            )
        for fpr, threshold in self.thresholds.items():
            _check_number(f"threshold at {fpr:g}", threshold, 0, 1)
        ordered = [self.thresholds[fpr] for fpr in FPRS]
        if ordered != sorted(ordered):
            raise ValueError(f"expected thresholds to rise as the rate falls but got {ordered}")
        for name, count in [("reals", self.reals), ("fakes", self.fakes), *self.sources.items()]:
            if type(count) is not int or count < 1:
                raise ValueError(f"expected a positive number of {name} but got {count!r}")

    def to_dict(self) -> dict:
        thresholds = {f"{fpr:g}": value for fpr, value in self.thresholds.items()}
        return {**asdict(self), "thresholds": thresholds}

    @classmethod
    def from_dict(cls, values: dict) -> Calibration:
        """Raises ValueError, TypeError, KeyError or AttributeError for what is no calibration."""
        thresholds = {float(fpr): value for fpr, value in values["thresholds"].items()}
        return cls(**{**values, "thresholds": thresholds})


def _check_number(name: str, value: object, low: float, high: float) -> None:
    # NaN fails the comparison; JSON may bring it.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"expected a {name} of {low:g} to {high:g} but got {value!r}")


def probabilities(logits: torch.Tensor, temperature: float, bias: float) -> torch.Tensor:
    """Float32 logits of any shape -> calibrated probabilities of fake."""
    return torch.sigmoid(logits / temperature + bias)


def fit_platt(target: np.ndarray, logit: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Temperature and bias with the least weighted negative log-likelihood.

    Targets are Platt's (N + 1) / (N + 2) and 1 / (N + 2) instead of 1 and 0, which keeps the fit
    finite where the classes do not overlap and hardly moves it elsewhere.

    Args:
        target: 0 real, 1 fake, N.
        logit: of the network, N.
        weight: at least 0, N; see `balanced_weights`.

    Raises:
        ValueError: a class is missing, or fakes do not score above reals.
    """
    from scipy.optimize import minimize

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


def balanced_weights(target: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Weights under which real and fake count the same within every kind: float64 N, sum N or less.

    A kind that is all real or all fake says nothing about telling them apart and gets 0.
    """
    weight = np.zeros(len(target))
    for name in np.unique(kind):
        own = kind == name
        counts = [np.count_nonzero(own & (target == value)) for value in (0, 1)]
        if all(counts):
            weight[own] = own.sum() / 2 / np.array(counts)[target[own]]
    return weight


def cross_fitted(
    target: np.ndarray, logit: np.ndarray, kind: np.ndarray, group: np.ndarray, folds: int = 5
) -> np.ndarray:
    """Calibrated probabilities of faces whose group had no part in the fit: float64 N.

    Raises:
        ValueError: too few groups to leave any out.
    """
    score = np.empty(len(target))
    for held_out in _folds(group, folds):
        rest = ~held_out
        weight = balanced_weights(target[rest], kind[rest])
        try:
            temperature, bias = fit_platt(target[rest], logit[rest], weight)
        except ValueError as error:
            raise ValueError(f"too few groups to leave some out: {error}") from error
        score[held_out] = expit(logit[held_out] / temperature + bias)
    return score


def _folds(group: np.ndarray, folds: int) -> Iterator[np.ndarray]:
    names, number = np.unique(group.astype(str), return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names)) % folds
    yield from (fold[number] == i for i in range(min(folds, len(names))))


def threshold_at(reals: np.ndarray, fpr: float) -> float:
    """The lowest score that at most `fpr` of further reals are expected to reach.

    With n reals that is just above the ceil((1 - fpr) (n + 1))-th smallest of them: a new real
    is as likely to fall into any of the n + 1 gaps between them (Vovk et al. 2005, "Algorithmic
    Learning in a Random World"). Fewer than 1 / fpr - 1 reals cannot promise that; then it is
    just above all of them, see `supported`.

    Args:
        reals: float32 scores of real faces.
    """
    reals = np.sort(np.asarray(reals, np.float32))
    rank = min(math.ceil((1 - fpr) * (len(reals) + 1) - 1e-9), len(reals))
    return float(np.nextafter(reals[rank - 1], np.float32(2)))


def supported(reals: int, fpr: float) -> bool:
    """Whether so many reals can hold a threshold at this false-positive rate."""
    return (reals + 1) * fpr >= 1 - 1e-9
