from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from ffdetect.voice.head import VoiceHead
from ffdetect.voice.statistics import STATISTICS, voice_statistics
from tests.preprocess.sounds import buzz


def samples(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((600, 12)).astype(np.float32)
    target = np.repeat([0, 1], [400, 200])
    x[target == 1, 0] += 1.5
    share = np.where(target == 1, 1.5, 0.75)
    return x, target, share


def test_a_head_is_weighted_ridge_regression() -> None:
    x, target, share = samples()
    head = VoiceHead.solve(x, target, share, [12], ridge=5.0)
    centre = np.average(x, axis=0, weights=share)
    scale = np.sqrt(np.average((x - centre) ** 2, axis=0, weights=share))
    z = (x - centre) / scale / np.sqrt(12)
    other = Ridge(5.0).fit(z, 2.0 * target - 1, share)
    got = head(torch.from_numpy(x)).numpy()
    assert got == pytest.approx(other.predict(z), abs=1e-3)


def test_blocks_count_alike_however_many_features_they_have() -> None:
    rng = np.random.default_rng(0)
    one = samples()[0][:, :1]
    _, target, share = samples()
    few = np.hstack([one, rng.standard_normal((600, 1))]).astype(np.float32)
    many = np.hstack([one, np.repeat(few[:, 1:], 30, 1)]).astype(np.float32)
    heads = [VoiceHead.solve(x, target, share, [1, x.shape[1] - 1], 0.5) for x in (few, many)]
    assert heads[0].weight[0].item() == pytest.approx(heads[1].weight[0].item(), rel=1e-3)


def test_what_a_head_cannot_be_solved_from() -> None:
    x, target, share = samples()
    with pytest.raises(ValueError, match="both"):
        VoiceHead.solve(x, np.ones(len(x), int), share, [12], 1.0)
    with pytest.raises(ValueError, match="expected 11 features but got 12"):
        VoiceHead.solve(x, target, share, [11], 1.0)


def test_calibration_divides_and_adds() -> None:
    x, target, share = samples()
    head = VoiceHead.solve(x, target, share, [12], 1.0)
    seen = torch.from_numpy(x)
    torch.testing.assert_close(head.calibrated(0.5, -1.0)(seen), head(seen) / 0.5 - 1.0)


def test_statistics_are_finite_and_ignore_level() -> None:
    sound = torch.from_numpy(buzz(1.0))
    values = voice_statistics(sound)
    assert values.shape == (STATISTICS,) and values.isfinite().all()
    assert torch.allclose(values, voice_statistics(0.01 * sound), atol=0.02)
    assert not torch.allclose(values, voice_statistics(torch.from_numpy(buzz(1.0, seed=1))))
    for odd in (torch.zeros(16_000), torch.ones(16_000), torch.eye(16_000)[99]):
        assert voice_statistics(odd).shape == values.shape
        assert voice_statistics(odd).isfinite().all()
