"""What a cache of sound holds: one row a window, in the same files as a cache of faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from preprocess.io.formats import FFT, HIGH_BANDS, HOP, MEL_BANDS, SAMPLE_RATE, WINDOW
from preprocess.io.sound import SoundFormat
from preprocess.io.sources import Item

from .arrow import to_array

_MILLISECONDS = 1000 / SAMPLE_RATE


@dataclass(frozen=True)
class SoundSettings:
    """Everything that decides what a cache of sound holds.

    Attributes:
        seconds: length of a window.
        windows: most windows of one file, spread evenly over it.
    """

    rows: ClassVar[str] = "windows"
    large: ClassVar[tuple[str, ...]] = ("samples", "mel", "high")
    identity: ClassVar[tuple[str, ...]] = ("key", "samples")
    failure_kinds: ClassVar[tuple[str, ...]] = ("no_sound", "unreadable", "crashed", "timeout")
    made_by: ClassVar[str] = "preprocess.sound"

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

    def to_dict(self) -> dict[str, Any]:
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
    def from_dict(cls, values: dict[str, Any]) -> SoundSettings:
        settings = cls(values["seconds"], values["windows"])
        if values != settings.to_dict():
            raise ValueError(f"expected the settings of a cache of sound but got {values}")
        return settings

    def schema(self) -> pa.Schema:
        """The Arrow schema of a part."""
        text = pa.string()
        return pa.schema(
            {
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
            }.items()
        )


def to_table(
    item: Item,
    windows: Sequence[tuple[float, np.ndarray]],
    source: SoundFormat,
    settings: SoundSettings,
) -> pa.Table:
    """The rows of one file, with the columns of `SoundSettings.schema`.

    Args:
        windows: start in seconds and samples of each, int16, 16 kHz mono.
        source: how the file stores its sound.
    """
    import torch

    from preprocess.io.mel import sound_maps

    count, frames = len(windows), settings.frames
    stored = np.zeros((count, settings.samples), np.int16)
    mel = np.empty((count, MEL_BANDS, frames), np.float16)
    high = np.empty((count, HIGH_BANDS, frames), np.float16)
    for row, (_, block) in enumerate(windows):
        stored[row, : len(block)] = block
        # From the stored samples, so that the maps can be had from them again; one at a time, as
        # one fits the cores' caches.
        maps = sound_maps(torch.from_numpy(stored[row : row + 1].astype(np.float32) / 32767))
        mel[row], high[row] = (values[0].half().numpy() for values in maps)
    schema, starts = settings.schema(), [start for start, _ in windows]
    values: dict[str, Sequence | np.ndarray] = {
        "key": [f"{item.path}#{start:g}" for start in starts],
        "path": [item.path] * count,
        "start": starts,
        "seconds": [len(block) / SAMPLE_RATE for _, block in windows],
        "target": [item.target] * count,
        "generator": [item.generator] * count,
        "group": [item.group] * count,
        "split": [item.split] * count,
        "source_rate": [source.sample_rate] * count,
        "source_channels": [source.channels] * count,
        "source_codec": [source.codec] * count,
        "samples": stored,
        "mel": mel,
        "high": high,
    }
    arrays = [to_array(values[field.name], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)
