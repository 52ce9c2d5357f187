from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ffdetect.evaluation.metrics import auc
from ffdetect.voice import VoiceDetector
from preprocess.io.decode import DecodeError
from preprocess.io.sound import NoSoundError
from tests.preprocess.sounds import buzz, write_sound
from tests.real import rows_of


@pytest.fixture(scope="module")
def detector() -> VoiceDetector:
    return VoiceDetector.load()


def test_scores_over_time(detector: VoiceDetector, tmp_path: Path) -> None:
    sound = buzz(9.0)
    sound[64_000:128_000] = 0
    found = detector.analyze(write_sound(tmp_path / "a.wav", sound))
    assert [(w.start, w.end) for w in found.windows] == [(0, 4), (4, 8), (8, 9)]
    assert np.isnan(found.windows[1].score) and found.windows[1].level == 0
    assert 0 <= found.score <= 1
    logits = [np.log(w.score / (1 - w.score)) for w in found.windows if w.level]
    assert np.log(found.score / (1 - found.score)) == pytest.approx(np.mean(logits), abs=1e-3)


def test_a_file_and_its_samples_score_alike(detector: VoiceDetector, tmp_path: Path) -> None:
    sound = buzz(4.0, 44_100)
    file = write_sound(tmp_path / "a.wav", sound, 44_100)
    assert detector.score(file) == pytest.approx(detector.score(sound, 44_100), abs=0.01)


def test_what_torch_defaults_to_changes_nothing(detector: VoiceDetector) -> None:
    sound = buzz(1.0)
    expected = detector.score(sound)

    def check() -> None:
        for one in (detector, VoiceDetector.load()):
            assert one.score(sound) == pytest.approx(expected, abs=1e-4)

    with torch.autocast("cpu", torch.bfloat16):
        check()
    try:
        torch.set_default_dtype(torch.float64)
        check()
        torch.set_default_device("meta")  # which holds nothing: whatever went there is lost
        check()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_what_cannot_be_scored_is_named(detector: VoiceDetector, tmp_path: Path) -> None:
    silence = write_sound(tmp_path / "silence.wav", np.zeros(32_000))
    short = write_sound(tmp_path / "short.wav", buzz(0.2))
    for file in (silence, short):
        with pytest.raises(NoSoundError, match=file.name):
            detector.score(file)
    (tmp_path / "text.wav").write_text("words " * 99)
    with pytest.raises(DecodeError, match="text"):
        detector.score(tmp_path / "text.wav")


def test_real_voices_are_told_from_made_ones(detector: VoiceDetector, shared: Path) -> None:
    """No measure, since the weights learnt from these: it tells a wrong file or path."""
    known = {"source": "a_waveflow_demo"}
    table = pd.concat(rows_of(shared / "av", 8, target=target, **known) for target in (0, 1))
    scores = [detector.score(file) for file in table["file"]]
    assert auc(table["target"].to_numpy(), np.array(scores)) > 0.8


def test_pictures_load_no_voice() -> None:
    code = "import sys, ffdetect; ffdetect.Detector; print('ffdetect.voice' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    code = "import sys, ffdetect.voice; print({'librosa', 'numba', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
