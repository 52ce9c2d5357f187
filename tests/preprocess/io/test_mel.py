from __future__ import annotations

import numpy as np
import pytest
import torch

from preprocess.io.mel import sound_maps
from tests.preprocess.sounds import buzz


def test_maps_equal_librosa() -> None:
    librosa = pytest.importorskip("librosa", reason="compares with librosa")
    sound = buzz(1.0)
    mel, high = sound_maps(torch.from_numpy(np.stack([sound, 0.1 * sound])))
    expected = librosa.feature.melspectrogram(
        y=sound,
        sr=16_000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        n_mels=80,
        pad_mode="constant",
    )
    expected = 10 * np.log10(np.maximum(expected, 1e-10))
    assert mel.shape == (2, 80, 101) and high.shape == (2, 128, 101)
    assert np.abs(mel[0].numpy() - expected).max() < 0.01
    bins = (
        np.abs(librosa.stft(sound, n_fft=512, win_length=400, hop_length=160, pad_mode="constant"))
        ** 2
    )
    bins = 10 * np.log10(np.maximum(bins[128:256], 1e-10))
    assert np.abs(high[0].numpy() - bins).max() < 0.1
    assert torch.allclose(mel[1].clamp_min(-60), (mel[0] - 20).clamp_min(-60), atol=0.01)
