from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ffdetect.voice import VoiceDetector
from ffdetect.voice.copy_synthesis import METHODS, copy_synthesis
from ffdetect.voice.train import main
from preprocess.sound import main as cache_sound
from tests.preprocess.sounds import buzz, write_sound


@pytest.mark.parametrize("method", METHODS)
def test_a_twin_says_the_same_in_other_waves(method: str) -> None:
    pytest.importorskip("librosa", reason="makes twins")
    sound = buzz(1.0)
    twin = copy_synthesis(sound, method, 0)
    assert twin.shape == sound.shape and twin.dtype == np.float32
    level = [np.abs(np.fft.rfft(x)).reshape(-1)[:8000].reshape(40, -1).mean(1)
             for x in (sound, twin)]  # fmt: skip
    assert np.corrcoef(np.log(level[0]), np.log(level[1]))[0, 1] > 0.9
    assert np.corrcoef(sound, twin)[0, 1] < 0.95


def test_a_head_learns_from_a_cache(tmp_path: Path) -> None:
    for number in range(6):
        sound = buzz(1.0, seed=number)
        write_sound(tmp_path / "data" / "real" / f"{number}.wav", sound)
        crushed = np.round(sound * 12) / 12
        write_sound(tmp_path / "data" / "fake" / "crush" / f"{number}.wav", crushed)
    cache = str(tmp_path / "cache")
    assert cache_sound([str(tmp_path / "data"), "--out", cache, "--workers", "0", "--quiet"]) == 0
    out = tmp_path / "voice.safetensors"
    assert main([cache, "--out", str(out), "--split", "", "--views", "2"]) == 0
    first = load_file(out)
    assert main([cache, "--out", str(out), "--split", "", "--views", "2", "--resume"]) == 0
    for name, tensor in load_file(out).items():
        torch.testing.assert_close(tensor, first[name], rtol=1e-3, atol=1e-5)
    detector = VoiceDetector.load(out)
    sound = buzz(1.0, seed=9)
    assert detector.score(np.round(sound * 12) / 12) > detector.score(sound)
    assert main([cache, "--out", str(out)]) == 1  # nothing of the train split
