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

import datetime
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ffdetect.evaluation.thresholds import FPRS

if TYPE_CHECKING:
    import torch

    from ffdetect.evaluation.calibration import OperatingPoints

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
        real_threshold: score that at most a tenth of the fakes of a further family is expected to
            stay under; None where that was not measured.
    """

    temperature: float
    bias: float
    thresholds: dict[float, float]
    reals: int
    fakes: int
    sources: dict[str, int]
    date: str
    real_threshold: float | None = None

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
        if self.real_threshold is not None:
            _check_number("threshold of real", self.real_threshold, 0, 1)
        if not isinstance(self.date, str):
            raise ValueError(f"expected a date as YYYY-MM-DD but got {self.date!r}")
        ordered = [self.thresholds[fpr] for fpr in FPRS]
        if ordered != sorted(ordered):
            raise ValueError(f"expected thresholds to rise as the rate falls but got {ordered}")
        for name, count in [("reals", self.reals), ("fakes", self.fakes), *self.sources.items()]:
            if type(count) is not int or count < 1:
                raise ValueError(f"expected a positive number of {name} but got {count!r}")

    def to_dict(self) -> dict:
        thresholds = {f"{fpr:g}": value for fpr, value in self.thresholds.items()}
        values = {**asdict(self), "thresholds": thresholds}
        if self.real_threshold is None:
            del values["real_threshold"]
        return values

    @classmethod
    def measured(
        cls, points: OperatingPoints, target: np.ndarray, source: np.ndarray
    ) -> Calibration:
        """What was measured today.

        Args:
            points: with a threshold for each of `FPRS`.
            target: int N, of all that was measured: 1 fake, 0 real.
            source: str N, of each its generator or real source.
        """
        names, counts = np.unique(source, return_counts=True)
        return cls(
            temperature=points.temperature,
            bias=points.bias,
            thresholds={fpr: min(score, 1.0) for fpr, score in points.thresholds.fake.items()},
            reals=int((target == 0).sum()),
            fakes=int((target == 1).sum()),
            sources=dict(zip(names.tolist(), counts.tolist(), strict=True)),
            date=datetime.date.today().isoformat(),
            real_threshold=max(points.thresholds.real, 0.0),
        )

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
    return (logits / temperature + bias).sigmoid()
