"""High dynamic range as a screen without it shows it."""

from __future__ import annotations

import numpy as np

_STRIP = 2**20  # samples that are mapped at once
TRANSFERS = {16: "PQ", 18: "HLG"}  # transfer functions of ITU-T H.273
_WHITE, _PEAK = 203.0, 1000.0  # nits of white in SDR (ITU-R BT.2408), and of HDR's brightest
_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)  # from the primaries of BT.2020 (ITU-R BT.2087, annex 2)


def from_hdr(signal: np.ndarray, transfer: str) -> np.ndarray:
    """HDR in the primaries of BT.2020 as sRGB: what is no brighter than a face keeps its light, and
    highlights are bent below white by the curve of ITU-R BT.2390-11, 5.4.1.

    Args:
        signal: float32 H x W x 3 R'G'B', 0 to 1.
        transfer: "PQ" or "HLG" (ITU-R BT.2100).

    Returns:
        uint8 H x W x 3.
    """
    nits = _pq_to_nits(signal) if transfer == "PQ" else _hlg_to_nits(signal)
    brightest = nits.max(2, keepdims=True)
    top, white = (float(_nits_to_pq(np.array(level))) for level in (_PEAK, _WHITE))
    here = np.minimum(_nits_to_pq(brightest) / top, 1)
    most = white / top
    knee = 1.5 * most - 0.5
    along = np.maximum(here - knee, 0) / (1 - knee)
    bent = (
        (2 * along**3 - 3 * along**2 + 1) * knee
        + (along**3 - 2 * along**2 + along) * (1 - knee)
        + (3 * along**2 - 2 * along**3) * most
    )
    shown = _pq_to_nits(np.where(here < knee, here, bent) * top)
    linear = np.clip(nits * (shown / np.maximum(brightest, 1e-6)) / _WHITE @ _TO_709.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)


def from_hdr_bytes(pixels: np.ndarray, transfer: str) -> np.ndarray:
    """The same of uint8 H x W x 3, in strips, since light takes many times a picture's room."""
    shown = np.empty_like(pixels)
    rows = max(_STRIP // pixels[:1].size, 1)
    for top in range(0, len(pixels), rows):
        strip = pixels[top : top + rows].astype(np.float32) / 255
        shown[top : top + rows] = from_hdr(strip, transfer)
    return shown


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq_to_nits(signal: np.ndarray) -> np.ndarray:
    power = signal ** (1 / _M2)
    return 10_000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def _nits_to_pq(nits: np.ndarray) -> np.ndarray:
    power = (nits / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _hlg_to_nits(signal: np.ndarray) -> np.ndarray:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    light = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    return _PEAK * scene * np.maximum(light, 1e-9)[..., None] ** 0.2
