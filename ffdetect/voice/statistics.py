"""What vocoders leave in a voice, as numbers that do not depend on what was said.

Vocoders draw the fine structure of a spectrum, and its phase, from a smooth picture of it, mostly
frame by frame. Where a throat makes noise and overtones wander, they smear, repeat or rustle. So
the statistics look past the coarse spectrum (who speaks, over which microphone):

- grain: how rough log power is within a band, in time and in frequency, at four window lengths;
- phase: instantaneous frequency and group delay, and how they move from frame to frame and from
  bin to bin, in 16 bands at two window lengths;
- bonds: how the levels of bands, and their changes, go together;
- lines: the cepstrum of the long-term spectrum, where the frame rate of a vocoder shows as lines
  at its multiples;
- cepstra: spread and shape of linear-frequency cepstral coefficients (LFCC, Sahidullah et al.
  2015), without their means.
"""

from __future__ import annotations

import math

import torch

WINDOW = 4.0  # seconds that one set of statistics is of, at most
STATISTICS = 1464  # how many there are
SHORTEST = 0.5  # seconds; below, statistics are too loose to mean anything
_LEVEL = 0.1  # root mean square that every window is brought to
_FLOOR = 1e-3  # of it: steady noise at -60 dB hides bit depth and digital silence
_QUIET = 40.0  # dB below the loudest frame, from which a frame is a pause
_BANDS = 16


def voice_statistics(samples: torch.Tensor) -> torch.Tensor:
    """Statistics of one window.

    Args:
        samples: float32 N, 16 kHz mono of any level, at least `SHORTEST` seconds.

    Returns:
        float32 F, always finite.
    """
    x = samples - samples.mean()
    x = x / x.square().mean().sqrt().clamp_min(1e-9)
    noise = torch.randn(len(x), generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    x = _LEVEL * (x + _FLOOR * noise)
    parts = [*_grain(x), *_phase(x), *_bonds(x), _lines(x), *_cepstra(x)]
    return torch.nan_to_num(torch.cat([part.flatten() for part in parts]))


def _stft(x: torch.Tensor, size: int, hop: int) -> torch.Tensor:
    window = torch.hann_window(size, dtype=torch.float32)
    return torch.stft(x, size, hop, window=window, center=False, return_complex=True)


def _spoken(power: torch.Tensor) -> torch.Tensor:
    """bool per frame of bins x frames: no pause."""
    level = 10 * torch.log10(power.sum(0) + 1e-12)
    return level > level.max() - _QUIET


def _by_band(values: torch.Tensor) -> torch.Tensor:
    """bins x frames -> bands x values, what does not fill a band left out."""
    width = len(values) // _BANDS
    return values[: width * _BANDS].reshape(_BANDS, -1)


def _grain(x: torch.Tensor):
    for size, hop in ((256, 64), (512, 128), (1024, 256), (2048, 512)):
        power = _stft(x, size, hop).abs().square()
        level = torch.log(power + 1e-8)[:, _spoken(power)]
        width = len(level) // _BANDS
        inside = level[: width * _BANDS].reshape(_BANDS, width, -1)
        rough = (inside - inside.mean(1, keepdim=True)).flatten(1)
        spread = _spread(rough)
        yield spread
        yield rough.pow(3).mean(1) / (spread.pow(3) + 1e-6)
        yield _spread(_by_band(level.diff(dim=1)))
        yield _spread(_by_band(level.diff(dim=0)))


def _phase(x: torch.Tensor):
    for size, hop in ((512, 64), (256, 32)):
        bins = _stft(x, size, hop)
        spoken = _spoken(bins.abs().square())
        turn = torch.exp(-2j * math.pi * torch.arange(len(bins)).float()[:, None] * hop / size)
        drift = torch.angle(bins[:, 1:] * bins[:, :-1].conj() * turn)  # off the bin's frequency
        delay = torch.angle(-bins[1:] * bins[:-1].conj())  # off the window's middle
        for angle in (drift, delay, drift.diff(dim=1), delay.diff(dim=0)):
            values = _by_band(angle[:, spoken[: angle.shape[1]]])
            values = torch.remainder(values + math.pi, 2 * math.pi) - math.pi
            yield from (values.abs().mean(1), values.cos().mean(1), (2 * values).cos().mean(1))
            yield values.mean(1)


def _bonds(x: torch.Tensor):
    power = _stft(x, 512, 160).abs().square()
    level = torch.log(_levels(power, 20) + 1e-9)[:, _spoken(power)]
    first, second = torch.triu_indices(20, 20, 1)
    for values in (level, level.diff(dim=1)):
        z = values - values.mean(1, keepdim=True)
        z = z / z.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
        yield (z @ z.T / z.shape[1])[first, second]


def _lines(x: torch.Tensor) -> torch.Tensor:
    size = 4096
    power = _stft(x, size, size // 4).abs().square()
    level = torch.log(power + 1e-9).mean(1)[: size // 2]
    smooth = torch.nn.functional.avg_pool1d(
        torch.nn.functional.pad(level[None, None], (32, 32), mode="reflect"), 65, 1
    )[0, 0]
    halves = (level - smooth).reshape(2, -1)
    window = torch.hann_window(halves.shape[1], dtype=torch.float32)
    cepstrum = torch.fft.rfft(halves * window).abs()
    return torch.log(cepstrum[:, 4:164] + 1e-3).reshape(2, -1, 2).mean(2)  # 1 to 41 ms


def _cepstra(x: torch.Tensor):
    power = _stft(x, 512, 160).abs().square()
    level = torch.log(_levels(power, 64) + 1e-9)[:, _spoken(power)]
    place = (torch.arange(64).float() + 0.5) * math.pi / 64
    cosines = torch.cos(torch.arange(1, 40)[:, None] * place) * math.sqrt(2 / 64)
    coefficients = cosines @ level
    centred = coefficients - coefficients.mean(1, keepdim=True)
    spread = _spread(coefficients)
    z = centred / (spread[:, None] + 1e-6)
    yield from (spread, z.pow(3).mean(1), z.pow(4).mean(1).clamp_max(20))
    yield _spread(coefficients.diff(dim=1)) / (spread + 1e-6)


def _levels(power: torch.Tensor, bands: int) -> torch.Tensor:
    """Mean power of equally wide bands up to 8 kHz: bins x frames -> bands x frames."""
    return torch.stack([part.mean(0) for part in torch.tensor_split(power[1:], bands)])


def _spread(values: torch.Tensor) -> torch.Tensor:
    centred = values - values.mean(1, keepdim=True)
    return centred.square().mean(1).sqrt()
