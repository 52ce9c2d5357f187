"""Statistics of a voice -> logit, and the file that it is kept in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ffdetect.models.discriminant import SHRINKAGE, solve_line
from ffdetect.models.tensor_file import WeightsError, as_weights_path, read_tensors, write_tensors

from .statistics import WINDOW

FORMAT = 1
_OUTLIER = 6.0  # deviations


@dataclass(frozen=True)
class VoiceHead:
    """A line on standardised statistics.

    Attributes:
        centre, scale, weight: float32 F.
        bias: float32, no dimension.
        about: data, recipe and settings.
    """

    centre: torch.Tensor
    scale: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    about: dict

    def __call__(self, statistics: torch.Tensor) -> torch.Tensor:
        """float32 N x F -> logits of fake, float32 N."""
        z = ((statistics.float() - self.centre) / self.scale).clamp(-_OUTLIER, _OUTLIER)
        return z @ self.weight + self.bias

    @classmethod
    def solve(
        cls,
        statistics: np.ndarray,
        target: np.ndarray,
        kinds: np.ndarray,
        about: dict | None = None,
        shrinkage: float = SHRINKAGE,
    ) -> VoiceHead:
        """A line in which every kind of fake counts alike, see `solve_line`.

        Args:
            statistics: float N x F.
            target: N, 1 fake, 0 real.
            kinds: str N, what made each fake; not read for reals.

        Raises:
            ValueError: one of the classes is absent.
        """
        target = np.asarray(target)
        if set(np.unique(target)) != {0, 1}:
            raise ValueError(f"expected targets 0 and 1, both, but got {np.unique(target)}")
        centre, scale = statistics.mean(0), np.maximum(statistics.std(0), 1e-6)
        z = np.clip((statistics - centre) / scale, -_OUTLIER, _OUTLIER).astype(np.float64)
        real = z[target == 0]
        names, count = np.unique(kinds[target == 1], return_counts=True)
        away = np.stack([z[(target == 1) & (kinds == n)].mean(0) - real.mean(0) for n in names], 1)
        # Reals and fakes count alike, and so does every kind of fake.
        own = dict(zip(names, 1 / (count * len(names)), strict=True))
        share = np.array([own[k] if t else 1 / len(real)
                          for k, t in zip(kinds, target, strict=True)])  # fmt: skip
        covariance = np.atleast_2d(np.cov(real.T, bias=True))
        weight, bias = solve_line(z, target, away, covariance, share * len(z) / 2, shrinkage)
        tensors = (centre, scale, weight, bias)
        return cls(*(torch.tensor(np.asarray(t), dtype=torch.float32) for t in tensors),
                   about or {})  # fmt: skip

    def save(self, file: str | Path) -> None:
        """Write a safetensors file, whole or not at all."""
        metadata = {"format": "ffdetect-voice", "version": FORMAT, "seconds": WINDOW,
                    "about": self.about}  # fmt: skip
        tensors = {name: getattr(self, name) for name in ("centre", "scale", "weight", "bias")}
        write_tensors(file, tensors, {"ffdetect-voice": json.dumps(metadata)})

    @classmethod
    def load(cls, file: str | Path) -> VoiceHead:
        """Read what `save` wrote.

        Raises:
            WeightsError: no such file, not safetensors, of another program or version.
        """
        file = as_weights_path(file)
        tensors, described = read_tensors(file)
        metadata = described.get("ffdetect-voice")
        if metadata is None:
            raise WeightsError(f"{file}: expected weights written by ffdetect.voice.train")
        try:
            values = json.loads(metadata)
            if (values["version"], values["seconds"]) != (FORMAT, WINDOW):
                raise ValueError(f"expected format {FORMAT} but got {values['version']}")
            return cls(**tensors, about=values["about"])
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise WeightsError(f"{file}: expected voice weights but got: {error}") from error
