from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ffdetect.models.weights import WeightsError
from ffdetect.voice.head import VoiceHead
from ffdetect.voice.statistics import voice_statistics
from tests.preprocess.sounds import buzz


def samples(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((600, 12)).astype(np.float32)
    target = np.repeat([0, 1], 300)
    x[target == 1, 0] += 1.5
    kinds = np.where(target == 1, "a", "real")
    return x, target, kinds


def test_one_kind_is_a_shrunk_discriminant() -> None:
    x, target, kinds = samples()
    head = VoiceHead.solve(x, target, kinds, shrinkage=1e-6)
    z = (x - x.mean(0)) / x.std(0)
    real = z[target == 0]
    expected = np.linalg.solve(np.cov(real.T), z[target == 1].mean(0) - real.mean(0))
    weight = head.weight.numpy()
    assert np.dot(weight, expected) / np.linalg.norm(weight) / np.linalg.norm(
        expected
    ) == pytest.approx(1, abs=1e-3)
    other = LinearDiscriminantAnalysis().fit(x, target).decision_function(x)
    assert np.corrcoef(other, head(torch.from_numpy(x)).numpy())[0, 1] > 0.98


def test_an_easy_kind_does_not_outvote() -> None:
    x, target, kinds = samples()
    x[450:, 0] -= 1.5
    x[450:, 1:8] += 10
    kinds[450:] = "easy"
    weight = VoiceHead.solve(x, target, kinds).weight.numpy()
    assert weight[0] / np.linalg.norm(weight[1:8]) == pytest.approx(1, abs=0.2)


def test_weights_survive_a_file(tmp_path: Path) -> None:
    x, target, kinds = samples()
    head = VoiceHead.solve(x, target, kinds, {"seed": 3})
    head.save(tmp_path / "a.safetensors")
    again = VoiceHead.load(tmp_path / "a.safetensors")
    assert again.about == {"seed": 3}
    torch.testing.assert_close(again(torch.from_numpy(x)), head(torch.from_numpy(x)))
    (tmp_path / "text.safetensors").write_text("words")
    for name in ("text", "none"):
        with pytest.raises(WeightsError, match=name):
            VoiceHead.load(tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match="both"):
        VoiceHead.solve(x, np.ones(len(x), int), kinds)


def test_statistics_are_finite_and_ignore_level() -> None:
    sound = torch.from_numpy(buzz(1.0))
    values = voice_statistics(sound)
    assert values.isfinite().all()
    assert torch.allclose(values, voice_statistics(0.01 * sound), atol=0.02)
    assert not torch.allclose(values, voice_statistics(torch.from_numpy(buzz(1.0, seed=1))))
    for odd in (torch.zeros(16_000), torch.ones(16_000), torch.eye(16_000)[99]):
        assert voice_statistics(odd).shape == values.shape
        assert voice_statistics(odd).isfinite().all()
