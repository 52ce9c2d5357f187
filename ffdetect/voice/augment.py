"""What happens to a recording between a mouth and a file, the same for real and fake voices.

Sample rate, bit depth, loudness, codec and background give labels away in collected data, so no
recording keeps its own: every view of a voice is levelled, recoded and disturbed anew.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.signal import fftconvolve, resample_poly

from preprocess.io.formats import SAMPLE_RATE

# Encoder, container, bit rates in kbit/s as met with speech; all take 16 kHz.
CODECS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "mp3": ("libmp3lame", "mp3", (24, 32, 48, 64)),
    "aac": ("aac", "adts", (24, 32, 48, 64)),
    "opus": ("libopus", "ogg", (12, 16, 24, 32, 64)),
}
_AAC_DELAY = 1024  # samples that its bare stream starts late; the others' containers tell


@dataclass(frozen=True)
class VoiceAugmentation:
    """Draws a disturbance, to be applied to one voice or alike to several.

    Attributes:
        codec, noise, filter, speed, room: how likely each is, 0 to 1.
    """

    codec: float = 0.6
    noise: float = 0.7
    filter: float = 0.5
    speed: float = 0.3
    room: float = 0.15

    def draw(self, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
        """A function from float32 16 kHz mono samples to such samples of about that length."""
        steps: list[Callable[[np.ndarray], np.ndarray]] = []
        if rng.random() < self.speed:
            steps.append(partial(change_speed, percent=int(rng.integers(88, 113))))
        if rng.random() < self.room:
            steps.append(partial(add_room, seconds=rng.uniform(0.05, 0.4),
                                 seed=int(rng.integers(2**31))))  # fmt: skip
        if rng.random() < self.filter:
            steps.append(partial(tilt, decibels=rng.uniform(-9, 9)))
        if rng.random() < self.filter / 2:
            steps.append(
                partial(limit_band, low=rng.uniform(20, 250), high=rng.uniform(3400, 7900))
            )
        if rng.random() < self.noise:
            steps.append(partial(add_noise, decibels=rng.uniform(15, 50),
                                 colour=rng.uniform(0, 1.5),
                                 seed=int(rng.integers(2**31))))  # fmt: skip
        if rng.random() < self.codec:
            name = str(rng.choice(list(CODECS)))
            steps.append(partial(recode, codec=name, kbits=int(rng.choice(CODECS[name][2]))))
        steps.append(partial(quantise, peak=rng.uniform(0.05, 1.0)))

        def apply(samples: np.ndarray) -> np.ndarray:
            for step in steps:
                samples = step(samples)
            return samples.astype(np.float32)

        return apply


def recode(samples: np.ndarray, codec: str, kbits: int) -> np.ndarray:
    """What is left of float32 16 kHz mono samples after a lossy codec; the same length."""
    import av

    name, container, _ = CODECS[codec]
    buffer = io.BytesIO()
    level = 0.7 / max(float(np.abs(samples).max()), 1e-6)
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(name, rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = kbits * 1000
        frame = av.AudioFrame.from_ndarray(
            (samples * level).astype(np.float32)[None], "fltp", "mono"
        )
        frame.sample_rate = SAMPLE_RATE
        fifo = av.AudioResampler(
            stream.codec_context.format.name, stream.codec_context.layout.name, SAMPLE_RATE
        )
        for part in [*fifo.resample(frame), *fifo.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as source:
        back = av.AudioResampler("fltp", "mono", SAMPLE_RATE)
        parts = [p for f in source.decode(audio=0) for p in back.resample(f)] + back.resample(None)
    decoded = np.concatenate([part.to_ndarray()[0] for part in parts]) / level
    decoded = decoded[_AAC_DELAY if codec == "aac" else 0 :]
    return np.pad(decoded, (0, max(len(samples) - len(decoded), 0)))[: len(samples)]


def change_speed(samples: np.ndarray, percent: int) -> np.ndarray:
    """Played at this percentage of its speed, pitch and all."""
    return resample_poly(samples, 100, percent)


def add_room(samples: np.ndarray, seconds: float, seed: int) -> np.ndarray:
    """Reverberation: exponentially decaying noise that falls by 60 dB in `seconds`."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * np.exp(-6.9 * time / seconds)
    tail *= rng.uniform(0.05, 0.4) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return fftconvolve(samples, tail)[: len(samples)]


def tilt(samples: np.ndarray, decibels: float) -> np.ndarray:
    """A straight slope of the spectrum, `decibels` from the lowest to the highest band."""
    spectrum = np.fft.rfft(samples)
    slope = np.linspace(-decibels / 2, decibels / 2, len(spectrum))
    return np.fft.irfft(spectrum * 10 ** (slope / 20), len(samples))


def limit_band(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    """Keep what lies between two frequencies in Hz, with soft edges."""
    frequency = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    gain = 1 / (1 + (frequency / high) ** 24) / (1 + (low / np.maximum(frequency, 1)) ** 8)
    return np.fft.irfft(np.fft.rfft(samples) * gain, len(samples))


def add_noise(samples: np.ndarray, decibels: float, colour: float, seed: int) -> np.ndarray:
    """Steady noise at a signal-to-noise ratio; power falls with frequency to the `colour`."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-colour / 2)
    noise = np.fft.irfft(spectrum, len(samples))
    level = np.sqrt((samples**2).mean() / max((noise**2).mean(), 1e-20)) * 10 ** (-decibels / 20)
    return samples + level * noise


def quantise(samples: np.ndarray, peak: float) -> np.ndarray:
    """16-bit steps after scaling to a peak, as a file of that loudness has them."""
    scaled = samples * (peak / max(float(np.abs(samples).max()), 1e-6))
    return np.round(scaled * 32767) / 32767
