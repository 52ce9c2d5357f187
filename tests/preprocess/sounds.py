"""Sound made for tests: no recording of a person."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np

from preprocess.listen import make_listen


def buzz(seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """Overtones of a wandering pitch in noise, in syllables: float32 N, -1 to 1."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(3 * time)) / rate
    voice = sum(np.sin(k * phase) / k for k in range(1, 25))
    voice *= 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time)
    return (0.2 * voice + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def write_sound(
    file: Path,
    samples: np.ndarray,
    rate: int = 16_000,
    codec: str = "",
    layout: str = "mono",
    repeat: int = 1,
) -> Path:
    """Write float samples, N or channels x N, `repeat` times over; the name decides the format."""
    codec = (
        codec
        or {
            ".wav": "pcm_s16le",
            ".flac": "flac",
            ".mp3": "libmp3lame",
            ".m4a": "aac",
            ".mp4": "aac",
            ".mov": "aac",
            ".mkv": "libopus",
            ".webm": "libopus",
            ".ogg": "libopus",
        }[file.suffix]
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    planes = np.atleast_2d(samples).astype(np.float32)
    with av.open(str(file), "w") as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        convert = av.AudioResampler(stream.codec_context.format.name, layout, rate)
        for _ in range(repeat):
            frame = av.AudioFrame.from_ndarray(planes.T.reshape(1, -1), "flt", layout)
            frame.sample_rate = rate
            for part in convert.resample(frame):
                output.mux(stream.encode(part))
        for part in convert.resample(None):
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file


def make_mortal_listen(seconds: float, most: int):
    """A worker's task that ends its process where a file's name says so."""
    listen_all = make_listen(seconds, most)

    def listen_until_death(items, alive):
        if any("crash" in item.path for item in items):
            os._exit(7)
        return listen_all(items, alive)

    return listen_until_death
