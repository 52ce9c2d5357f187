"""What a cache of sound holds: one row a window, in the same files as a cache of faces."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from .cache import CacheReader, CacheWriter
from .mel import FFT, HIGH_BANDS, HOP, MEL_BANDS, WINDOW
from .sound import SAMPLE_RATE

FAILURE_KINDS = ("no_sound", "unreadable", "crashed", "timeout")
_MILLISECONDS = 1000 / SAMPLE_RATE


@dataclass(frozen=True)
class SoundSettings:
    """Everything that decides what a cache of sound holds.

    Attributes:
        seconds: length of a window.
        windows: most windows of one file, spread evenly over it.
    """

    large: ClassVar = ("samples", "mel", "high")  # columns that are not metadata
    rows: ClassVar = "windows"
    made_by: ClassVar = "preprocess.audio"

    seconds: float = 4.0
    windows: int = 15

    def __post_init__(self) -> None:
        if not 0.5 <= self.seconds <= 60 or self.windows < 1:
            raise ValueError(
                "expected windows of 0.5 to 60 seconds and at least 1 per file "
                f"but got {self.seconds:g} s and {self.windows}"
            )

    @property
    def samples(self) -> int:
        return round(self.seconds * SAMPLE_RATE)

    @property
    def frames(self) -> int:
        return 1 + self.samples // HOP

    def to_dict(self) -> dict:
        maps = {
            "sample_rate": SAMPLE_RATE,
            "window_ms": WINDOW * _MILLISECONDS,
            "hop_ms": HOP * _MILLISECONDS,
            "fft": FFT,
            "mel_bands": MEL_BANDS,
            "high_bands": HIGH_BANDS,
        }
        return {"kind": "sound", **asdict(self), "maps": maps}

    @classmethod
    def from_dict(cls, values: dict) -> SoundSettings:
        settings = cls(values["seconds"], values["windows"])
        if values != settings.to_dict():
            raise ValueError(f"expected the settings of a cache of sound but got {values}")
        return settings

    def schema(self) -> pa.Schema:
        """The Arrow schema of a part."""
        text = pa.string()
        return pa.schema({
            "key": text,
            "path": text,
            "start": pa.float64(),  # seconds from the start of the file
            "seconds": pa.float32(),  # of sound; what follows up to a whole window is zero
            "target": pa.int8(),
            "generator": text,
            "group": text,
            "split": text,
            "source_rate": pa.int32(),
            "source_channels": pa.int16(),
            "source_codec": text,
            "samples": pa.list_(pa.int16(), self.samples),
            "mel": pa.fixed_shape_tensor(pa.float16(), (MEL_BANDS, self.frames)),
            "high": pa.fixed_shape_tensor(pa.float16(), (HIGH_BANDS, self.frames)),
        }.items())  # fmt: skip


class SoundCache(CacheReader):
    """Random access to the windows of one cache of sound or of several with the same settings."""

    settings_type = SoundSettings

    def samples(self, index: int) -> np.ndarray:
        """int16, 16 kHz mono, without the silence that fills the window up."""
        whole = self._value(index, "samples").values.to_numpy()
        return whole[: round(float(self.metadata["seconds"].iat[index]) * SAMPLE_RATE)]

    def mel(self, index: int) -> np.ndarray:
        """float16 80 x T in dB, see `preprocess.mel.sound_maps`."""
        return self._value(index, "mel").to_numpy()

    def high(self, index: int) -> np.ndarray:
        """float16 128 x T in dB, 4 to 8 kHz, see `preprocess.mel.sound_maps`."""
        return self._value(index, "high").to_numpy()

    def _identity(self, index: int) -> tuple:
        return self.metadata["key"].iat[index], self.samples(index).tobytes()


class SoundWriter(CacheWriter):
    """Adds windows to a cache of sound; `faces` counts them."""

    reader_type = SoundCache
