"""Maps of sound, as pure torch functions on batches of 16 kHz samples.

Windows are 25 ms (400 samples, Hann) every 10 ms (160 samples), in an FFT of 512 points.
"""

from __future__ import annotations

from functools import cache

import torch

from .formats import FFT, HIGH_BANDS, HOP, MEL_BANDS, SAMPLE_RATE, WINDOW

_FLOOR = 1e-10  # of power: -100 dB


def sound_maps(samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-mel spectrogram and high band, from one FFT.

    Args:
        samples: float32 N x S, 16 kHz mono, -1 to 1.

    Returns:
        float32 N x 80 x T and N x 128 x T in dB of power, at least -100; T = 1 + S // 160, frames
        centred on their time. The mel bands are those of librosa's default (Slaney 1998).
    """
    window = torch.hann_window(WINDOW, dtype=torch.float32)
    bins = torch.stft(
        samples, FFT, HOP, WINDOW, window, center=True, pad_mode="constant", return_complex=True
    )
    power = bins.real.square().add_(bins.imag.square())
    high = power[:, -HIGH_BANDS - 1 : -1].contiguous()
    return _decibels(mel_filters() @ power), _decibels(high)


def _decibels(power: torch.Tensor) -> torch.Tensor:
    """In place: new memory takes longer than the logarithm."""
    return power.clamp_min_(_FLOOR).log10_().mul_(10)


@cache
def mel_filters(fft: int = FFT) -> torch.Tensor:
    """Triangles of equal area from 0 to 8 kHz, equally wide in mel, float32 80 x fft // 2 + 1.

    The mel scale of Slaney's Auditory Toolbox (1998): linear up to 1 kHz, then logarithmic.
    """
    linear, step, knee = 200 / 3, torch.log(torch.tensor(6.4, dtype=torch.float64)) / 27, 15.0
    highest = knee + torch.log(torch.tensor(SAMPLE_RATE / 2 / 1000, dtype=torch.float64)) / step
    mels = torch.linspace(0, float(highest), MEL_BANDS + 2, dtype=torch.float64)
    edges = torch.where(mels < knee, mels * linear, 1000 * torch.exp(step * (mels - knee)))
    frequency = torch.linspace(0, SAMPLE_RATE / 2, fft // 2 + 1, dtype=torch.float64)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequency - low) / (middle - low), (high - frequency) / (high - middle)
    return (torch.minimum(rising, falling).clamp_min(0) * 2 / (high - low)).float()
