"""What happens to a recording between a mouth and a file, the same for real and fake voices.

Sample rate, bit depth, loudness, codec, room and background give labels away in collected data, so
no recording keeps its own: every view of a voice is disturbed, coded and levelled anew.

audiomentations draws from the global random numbers of its process, so a view could not be made
again by row, and has MP3 alone of these codecs: what is left of it is a few lines of SciPy each.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.signal import fftconvolve, resample_poly

from preprocess.io.formats import SAMPLE_RATE

# Encoder, container, sample rate, bit rates in bit/s as met with speech.
CODECS: dict[str, tuple[str, str, int, tuple[int, ...]]] = {
    "mp3": ("libmp3lame", "mp3", 16_000, (24_000, 32_000, 48_000, 64_000)),
    "aac": ("aac", "adts", 16_000, (24_000, 32_000, 48_000, 64_000)),
    "opus": ("libopus", "ogg", 16_000, (12_000, 16_000, 24_000, 32_000, 64_000)),
    "g722": ("g722", "wav", 16_000, (64_000,)),
    "g711": ("pcm_mulaw", "wav", 8_000, (64_000,)),
    "amr": ("libopencore_amrnb", "amr", 8_000, (5_900, 7_950, 12_200)),
}
_TELEPHONE = ("g711", "amr")
_DELAYS = {"aac": 1024, "g722": 22, "amr": 80}  # samples; the others' containers tell theirs
_RATES = (8_000, 11_025, 12_000)  # Hz, at which recordings are kept to save room


@dataclass(frozen=True)
class VoiceAugmentation:
    """Draws a disturbance, to be applied to one voice or alike to several.

    Attributes:
        speed, room, noise, babble, filter, rate, codec, telephone, clip: how likely each is, 0 to
            1.
    """

    speed: float = 0.3
    room: float = 0.25
    noise: float = 0.5
    babble: float = 0.15
    filter: float = 0.5
    rate: float = 0.1
    codec: float = 0.5
    telephone: float = 0.12
    clip: float = 0.05

    def draw(
        self, rng: np.random.Generator, background: Sequence[np.ndarray] = ()
    ) -> Callable[[np.ndarray], np.ndarray]:
        """A function from float32 16 kHz mono samples to such samples of about that length.

        Args:
            background: other voices, to be heard murmuring behind; none without them.
        """
        steps: list[Callable[[np.ndarray], np.ndarray]] = []

        def then(step: Callable, **how: Any) -> None:
            steps.append(partial(step, **how))

        if rng.random() < self.speed:
            then(change_speed, percent=int(rng.integers(90, 111)))
        if rng.random() < self.room:
            then(add_room, seconds=rng.uniform(0.1, 0.8), seed=_seed(rng))
        if rng.random() < self.filter:
            then(tilt, decibels=rng.uniform(-9, 9))
        if rng.random() < self.babble and background:
            then(add_babble, background=background, decibels=rng.uniform(5, 25), seed=_seed(rng))
        if rng.random() < self.noise:
            decibels, colour = rng.uniform(5, 45), rng.uniform(0, 2)
            then(add_noise, decibels=decibels, colour=colour, seed=_seed(rng))
        if rng.random() < self.filter / 2:
            then(limit_band, low=rng.uniform(20, 250), high=rng.uniform(3400, 7900))
        if rng.random() < self.clip:
            then(clip, share=rng.uniform(0.3, 0.9))
        if rng.random() < self.rate:
            then(change_rate, rate=int(rng.choice(_RATES)))
        if rng.random() < self.telephone:
            name = str(rng.choice(_TELEPHONE))
            then(limit_band, low=rng.uniform(150, 350), high=3400)
            then(recode, codec=name, bit_rate=int(rng.choice(CODECS[name][3])))
        elif rng.random() < self.codec:
            name = str(rng.choice([name for name in CODECS if name not in _TELEPHONE]))
            then(recode, codec=name, bit_rate=int(rng.choice(CODECS[name][3])))
        then(quantise, peak=rng.uniform(0.05, 1.0))

        def apply(samples: np.ndarray) -> np.ndarray:
            for step in steps:
                samples = step(samples)
            return samples.astype(np.float32)

        return apply


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def recode(samples: np.ndarray, codec: str, bit_rate: int) -> np.ndarray:
    """What is left of float32 16 kHz mono samples after a lossy codec; the same length."""
    import av

    name, container, rate, _ = CODECS[codec]
    buffer = io.BytesIO()
    level = 0.7 / max(float(np.abs(samples).max()), 1e-6)
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(name, rate=rate, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(
            (samples * level).astype(np.float32)[None], "fltp", "mono"
        )
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler(
            stream.codec_context.format.name,
            stream.codec_context.layout.name,
            rate,
            frame_size=stream.codec_context.frame_size,
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, format=container) as source:
        back = av.AudioResampler("fltp", "mono", SAMPLE_RATE)
        parts = [p for f in source.decode(audio=0) for p in back.resample(f)] + back.resample(None)
    decoded = np.concatenate([part.to_ndarray()[0] for part in parts]) / level
    decoded = decoded[_DELAYS.get(codec, 0) :]
    return np.pad(decoded, (0, max(len(samples) - len(decoded), 0)))[: len(samples)]


def change_speed(samples: np.ndarray, percent: int) -> np.ndarray:
    """Played at this percentage of its speed, pitch and all."""
    return resample_poly(samples, 100, percent)


def change_rate(samples: np.ndarray, rate: int) -> np.ndarray:
    """Kept at a lower sample rate in Hz and brought back; about the same length."""
    return resample_poly(resample_poly(samples, rate, SAMPLE_RATE), SAMPLE_RATE, rate)


def add_room(samples: np.ndarray, seconds: float, seed: int) -> np.ndarray:
    """Reverberation: exponentially decaying noise that falls by 60 dB in `seconds`."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * np.exp(-6.9 * time / seconds)
    tail *= rng.uniform(0.05, 0.6) / np.sqrt((tail**2).sum())
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
    return _mix(samples, np.fft.irfft(spectrum, len(samples)), decibels)


def add_babble(
    samples: np.ndarray, background: Sequence[np.ndarray], decibels: float, seed: int
) -> np.ndarray:
    """Some of the other voices at once, each from a random place, at a signal-to-noise ratio."""
    rng = np.random.default_rng(seed)
    babble = np.zeros(len(samples))
    for number in rng.integers(len(background), size=rng.integers(3, 7)):
        voice = np.roll(background[number], rng.integers(len(background[number])))
        babble += np.resize(voice / max(float(np.std(voice)), 1e-6), len(samples))
    return _mix(samples, babble, decibels)


def _mix(samples: np.ndarray, noise: np.ndarray, decibels: float) -> np.ndarray:
    level = np.sqrt((samples**2).mean() / max((noise**2).mean(), 1e-20)) * 10 ** (-decibels / 20)
    return samples + level * noise


def clip(samples: np.ndarray, share: float) -> np.ndarray:
    """Cut off at a share of the peak, as an overdriven microphone does."""
    limit = share * float(np.abs(samples).max())
    return np.clip(samples, -limit, limit)


def quantise(samples: np.ndarray, peak: float) -> np.ndarray:
    """16-bit steps after scaling to a peak, as a file of that loudness has them."""
    scaled = samples * (peak / max(float(np.abs(samples).max()), 1e-6))
    return np.round(scaled * 32767) / 32767
