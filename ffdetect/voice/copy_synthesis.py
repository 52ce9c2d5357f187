"""Fakes made from real voices: the same words by the same speaker, drawn anew by a vocoder.

Real and twin differ in nothing but the vocoder, so nothing else can be learnt from the pair.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import resample_poly

METHODS = ("griffin_lim",)


def copy_synthesis(samples: np.ndarray, method: str, seed: int) -> np.ndarray:
    """A twin of float32 16 kHz mono samples, as long; one of `METHODS`."""
    if method == "griffin_lim":
        rng = np.random.default_rng(seed)
        return griffin_lim(
            samples,
            bands=int(rng.choice([80, 100, 128])),
            hop=int(rng.choice([200, 256, 300])),
            rounds=int(rng.choice([16, 32, 60])),
            seed=seed,
        )
    raise ValueError(f"expected one of {METHODS} but got {method!r}")


def griffin_lim(
    samples: np.ndarray, *, bands: int = 80, hop: int = 256, rounds: int = 32, seed: int = 0
) -> np.ndarray:
    """Through a mel spectrogram at 22.05 kHz and back: its phase found by iteration.

    The algorithm of Griffin and Lim (1984) with the momentum of Perraudin et al. (2013).
    """
    import librosa

    rate, size, momentum = 22_050, 1024, 0.99
    x = torch.from_numpy(resample_poly(samples, 441, 320).astype(np.float32))
    window = torch.hann_window(size)
    bins = torch.stft(x, size, hop, window=window, return_complex=True)
    mel = torch.from_numpy(librosa.filters.mel(sr=rate, n_fft=size, n_mels=bands, fmax=rate / 2))
    amplitude = (torch.linalg.pinv(mel) @ (mel @ bins.abs())).clamp_min(0)
    generator = torch.Generator().manual_seed(seed)
    turn = torch.exp(2j * torch.pi * torch.rand(bins.shape, generator=generator))
    before = torch.zeros_like(bins)
    for _ in range(rounds):
        y = torch.istft(amplitude * turn, size, hop, window=window, length=len(x))
        after = torch.stft(y, size, hop, window=window, return_complex=True)
        turn = after - momentum / (1 + momentum) * before
        turn, before = turn / turn.abs().clamp_min(1e-8), after
    y = torch.istft(amplitude * turn, size, hop, window=window, length=len(x))
    return _as_long(resample_poly(y.numpy(), 320, 441), samples)


def _as_long(made: np.ndarray, samples: np.ndarray) -> np.ndarray:
    made = made[: len(samples)]
    return np.pad(made, (0, len(samples) - len(made))).astype(np.float32)
