"""Face and voice -> one score: a clip is fake if either is.

Both detectors' logits become log likelihood ratios, log P(seen | fake) / P(seen | real), by Platt
scaling on clips and recordings whose makers had no part in training. A detector that seldom
knows gets small ratios, whatever its logits. Both are bent into one range, the narrower of the two
that were seen there: the voice's weights are sure of their own sources and fail on others, and may
not say more than a face can.

A fake clip has a fake face alone, a fake voice alone, or both, and which is not known. So its
ratio is the mean over the three, ``a F + b V + c F V`` for the ratios F and V of face and voice,
with shares that add up to 1; with equal ones it ranks as a noisy or, 1 - (1 - p) (1 - q), does.
A suspicious face stays suspicious beside an honest voice, which can at most take the share a of
it, and the other way round. What is missing says nothing, and the other decides alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from ffdetect.evaluation.calibration import fit_platt
from ffdetect.models.tensor_file import WeightsError
from preprocess.io.formats import DAMAGED
from preprocess.io.storage import write_json

FUSION = "fusion.json"
FORMAT = 1
_ENDS = (0.05, 0.95)  # of the held-out log ratios: the limits


@dataclass(frozen=True)
class Evidence:
    """What the logits of one detector are worth.

    Attributes:
        temperature, bias: log ratio = logit / temperature + bias.
        low, high: limits of log ratios.
        reals, fakes: how many clips or recordings this was measured on.
    """

    temperature: float
    bias: float
    low: float
    high: float
    reals: int
    fakes: int

    def __post_init__(self) -> None:
        numbers = (self.temperature, self.bias, self.low, self.high)
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
            raise ValueError(f"expected finite numbers but got {numbers}")
        if self.temperature <= 0 or not self.low < 0 < self.high:
            raise ValueError(f"expected temperature > 0 and low < 0 < high but got {numbers}")

    @classmethod
    def fit(cls, target: np.ndarray, logit: np.ndarray, weight: np.ndarray) -> Evidence:
        """Measure it on held-out logits.

        Args:
            target: 0 real, 1 fake, N.
            logit: of recordings that, like their makers, the detector did not learn from, N.
            weight: at least 0, N; real and fake weighing alike makes ratios of odds.

        Raises:
            ValueError: a class is missing, or fakes do not score above reals.
        """
        temperature, bias = fit_platt(target, logit, weight)
        used = weight > 0
        ratio = logit[used] / temperature + bias
        low, high = _weighted_quantiles(ratio, weight[used], _ENDS)
        counts = [int(np.count_nonzero(target[used] == kind)) for kind in (0, 1)]
        return cls(temperature, bias, low, high, *counts)

    def log_ratio(self, logit: float) -> float:
        """Bent towards the limits, so that what is higher stays higher."""
        ratio = logit / self.temperature + self.bias
        limit = self.high if ratio > 0 else self.low
        return limit * math.tanh(ratio / limit)


def _weighted_quantiles(
    values: np.ndarray, weight: np.ndarray, shares: Sequence[float]
) -> tuple[float, ...]:
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) / weight.sum() + 1e-9  # sums are rounded
    places = np.minimum(np.searchsorted(reached, shares), len(values) - 1)
    return tuple(float(value) for value in values[order][places])


@dataclass(frozen=True)
class Fusion:
    """See the module.

    Attributes:
        face, voice: what the logits of each are worth.
        shares: of fake clips with a fake face alone, a fake voice alone, and both.
        about: data, command, date.
    """

    face: Evidence
    voice: Evidence
    shares: tuple[float, float, float]
    about: dict

    def __post_init__(self) -> None:
        if len(self.shares) != 3 or min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"expected three shares that add up to 1 but got {self.shares}")

    def log_ratio(self, face: float | None, voice: float | None) -> float:
        """Join two log ratios, either of which may be None."""
        if face is None or voice is None:
            return (face or 0.0) + (voice or 0.0)
        face_only, voice_only, both = self.shares
        return float(logsumexp([face, voice, face + voice], b=[face_only, voice_only, both]))

    def in_one_range(self) -> Fusion:
        """With the narrower range of log ratios for both; files keep what each was measured at."""
        low, high = max(self.face.low, self.voice.low), min(self.face.high, self.voice.high)
        face, voice = (replace(e, low=low, high=high) for e in (self.face, self.voice))
        return replace(self, face=face, voice=voice)

    def save(self, file: str | Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_json(Path(file), {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, file: str | Path | None = None) -> Fusion:
        """What `save` wrote; without a file what the package ships.

        Raises:
            WeightsError: no such file, or it is damaged.
        """
        if file is None:
            return _shipped()
        try:
            return cls._from_json(Path(file).read_text("utf-8"))
        except (OSError, *DAMAGED) as error:
            raise WeightsError(f"{file}: expected a fusion of face and voice: {error}") from error

    @classmethod
    def _from_json(cls, text: str) -> Fusion:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT} but got {values['format']}")
        face, voice = (Evidence(**values[name]) for name in ("face", "voice"))
        return cls(face, voice, tuple(values["shares"]), values["about"])


@cache
def _shipped() -> Fusion:
    return Fusion._from_json((resources.files("ffdetect.weights") / FUSION).read_text("utf-8"))
