"""Clips with sound made for tests: no recording of a person."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_talk(
    file: Path,
    pictures: Sequence[np.ndarray],
    samples: np.ndarray | None = None,
    *,
    rate: int = 16_000,
    layout: str = "mono",
    times: Sequence[float] | None = None,
    fps: int = 10,
) -> Path:
    """An MPEG-4 clip, or sound alone without pictures.

    Args:
        pictures: uint8 H x W x 3, all of one size; may be none.
        samples: float32 channels x N, or N.
        times: of the pictures, in seconds, where they are not even.
    """
    with av.open(str(file), "w") as container:
        video = sound = None
        if len(pictures):
            video = container.add_stream("mpeg4", rate=fps)
            video.height, video.width = pictures[0].shape[:2]
            video.bit_rate = 4_000_000
            if times is not None:
                video.codec_context.time_base = Fraction(1, 1000)
        if samples is not None:
            sound = container.add_stream("pcm_s16le", rate=rate, layout=layout)
        for number, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[number]), Fraction(1, 1000)
            container.mux(video.encode(frame))
        if video:
            container.mux(video.encode())
        if sound:
            planes = np.atleast_2d(samples)
            for start in range(0, planes.shape[1], rate):
                part = np.round(planes[:, start : start + rate] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(part.T.reshape(1, -1), "s16", layout)
                frame.sample_rate, frame.pts = rate, start
                frame.time_base = Fraction(1, rate)
                container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return file
