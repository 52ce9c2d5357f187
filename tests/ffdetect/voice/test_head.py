from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel

from ffdetect.voice.head import VoiceHead
from ffdetect.voice.prototypes import PrototypeSettings
from ffdetect.voice.statistics import STATISTICS, voice_statistics
from tests.preprocess.sounds import buzz

REACH, RIDGE = 1.5, 0.1


def samples(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eight features in two blocks, and four more; where fakes lie no line tells."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((300, 12)).astype(np.float32)
    target = (np.abs(x[:, 0]) + np.abs(x[:, 9]) > 1.8).astype(int)
    share = np.where(target == 1, 1.5, 0.75)
    return x, target, share / share.mean()


def solve(x: np.ndarray, target: np.ndarray, share: np.ndarray, known: int = 300) -> VoiceHead:
    states, statistics = PrototypeSettings(4, 4, 8, known), PrototypeSettings(4, 4, 4, known)
    return VoiceHead.solve(x, target, share, states, statistics, REACH, RIDGE)


def kernel(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The mean of two Gaussian kernels, one of each part."""
    z, among = (
        np.clip((part - known.mean(0)) / known.std(0, ddof=1), -6, 6) for part in (x, known)
    )
    parts = [np.arange(8), np.arange(8, 12)]
    mean = [np.square(among[:, part]).sum(1).mean() for part in parts]
    pairs = zip(parts, mean, strict=True)
    return np.mean([rbf_kernel(z[:, p], among[:, p], REACH / m) for p, m in pairs], 0)


def test_a_head_is_weighted_kernel_ridge_regression() -> None:
    x, target, share = samples()
    other = KernelRidge(alpha=RIDGE, kernel="precomputed")
    wanted = 2.0 * target - 1
    middle = np.average(wanted, weights=share)
    other.fit(kernel(x, x), wanted - middle, sample_weight=share)
    new = samples(1)[0]
    expected = other.predict(kernel(new, x)) + middle
    got = solve(x, target, share)(torch.from_numpy(new)).numpy()
    assert np.ptp(expected) > 1
    assert got == pytest.approx(expected, abs=0.03)  # axes and known voices have eight bits


def test_some_known_voices_stand_for_all() -> None:
    """Every row is there twice, so three quarters know nearly all."""
    x, target, share = (np.repeat(values, 2, 0) for values in samples())
    new = torch.from_numpy(samples(1)[0])
    few, every = solve(x, target, share, 450), solve(x, target, share, 600)
    assert few.likeness(new).shape == (300, 450)
    assert np.corrcoef(few(new), every(new))[0, 1] > 0.98


def test_what_a_head_cannot_be_solved_from() -> None:
    x, target, share = samples()
    with pytest.raises(ValueError, match="both"):
        solve(x, np.ones(len(x), int), share)
    with pytest.raises(ValueError, match="expected blocks that divide 7 features"):
        solve(x[:, 1:], target, share)


def test_calibration_divides_and_adds() -> None:
    x, target, share = samples()
    head, seen = solve(x, target, share), torch.from_numpy(x)
    torch.testing.assert_close(head.calibrated(0.5, -1.0)(seen), head(seen) / 0.5 - 1.0)


def test_a_head_survives_as_tensors_that_fit_together() -> None:
    x, target, share = samples()
    head, seen = solve(x, target, share, 50), torch.from_numpy(x)
    tensors = head.state_dict()
    assert torch.equal(VoiceHead.from_tensors(tensors)(seen), head(seen))
    with pytest.raises(RuntimeError, match=r"statistics\.axes"):
        VoiceHead.from_tensors({**tensors, "statistics.axes.values": torch.zeros(1)})


def test_statistics_are_finite_and_ignore_level() -> None:
    sound = torch.from_numpy(buzz(1.0))
    values = voice_statistics(sound)
    assert values.shape == (STATISTICS,) and values.isfinite().all()
    assert torch.allclose(values, voice_statistics(0.01 * sound), atol=0.02)
    assert not torch.allclose(values, voice_statistics(torch.from_numpy(buzz(1.0, seed=1))))
    for odd in (torch.zeros(16_000), torch.ones(16_000), torch.eye(16_000)[99]):
        assert voice_statistics(odd).shape == values.shape
        assert voice_statistics(odd).isfinite().all()
