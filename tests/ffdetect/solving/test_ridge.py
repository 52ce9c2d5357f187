"""Lines that keep real sources together, against the primal problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ffdetect.evaluation.metrics import balanced_weights
from ffdetect.solving.ridge import Gram, RidgeSettings, solve_line


@pytest.fixture(scope="module")
def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Statistics of 350 faces, targets and units; source c is off in the second statistic."""
    rng = np.random.default_rng(0)
    target = (rng.random(350) < 0.4).astype(int)
    unit = np.where(target == 1, rng.choice(["sd", "gan"], 350), rng.choice(["a", "b", "c"], 350))
    x = rng.normal(size=(350, 40)).astype(np.float32) * rng.uniform(0.5, 3, 40) + 2
    x[:, 0] += target
    x[:, 1] += 2 * target + 4 * (unit == "c")
    return x.astype(np.float32), target, unit


@pytest.mark.parametrize(("penalty", "emphasis"), [(0.0, None), (10.0, None), (10.0, 0.3)])
def test_the_dual_line_is_the_primal_one(problem, penalty, emphasis):
    x, target, unit = problem
    emphasis = emphasis and np.where(np.arange(350) % 2, emphasis, 1.0)
    gram, rows, rest = Gram(x), np.arange(300), np.arange(300, 350)
    line = solve_line(gram, rows, target, unit, RidgeSettings(1e-2, penalty), emphasis)
    z = gram.x.double().numpy()
    own = None if emphasis is None else emphasis[:300]
    weight = balanced_weights(target[:300], unit[:300], 0.5, own) / 300
    mean, share, width = weight @ z[:300], weight @ target[:300], z.shape[1]
    centred = z[:300] - mean
    reals = target[:300] == 0
    between = np.array([centred[reals & (unit[:300] == s)].mean(0) for s in "abc"])
    between = (between - between.mean(0)) * np.sqrt(penalty / 3)
    shrink = 1e-2 * (weight @ np.square(centred).sum(1)) / width
    system = centred.T @ (weight[:, None] * centred) + between.T @ between
    slope = np.linalg.solve(
        system / width + shrink * np.eye(width),
        centred.T @ (weight * (target[:300] - share)) / width,
    )
    expected = (z[rest] - mean) @ slope + share
    np.testing.assert_allclose(gram.scores(line, rest), expected, atol=1e-4)


def test_a_head_scores_as_its_line(problem):
    x, target, unit = problem
    gram = Gram(x)
    line = solve_line(gram, np.arange(300), target, unit, RidgeSettings())
    with torch.no_grad():
        scores = gram.head_of(line)(torch.from_numpy(x[300:]))
    np.testing.assert_allclose(scores, gram.scores(line, np.arange(300, 350)), atol=1e-4)


def test_the_penalty_brings_real_sources_together(problem):
    x, target, unit = problem
    gram, gaps = Gram(x), []
    for penalty in (0.0, 100.0):
        line = solve_line(gram, np.arange(350), target, unit, RidgeSettings(1e-2, penalty))
        score = gram.scores(line, np.arange(350))
        means = [score[(target == 0) & (unit == source)].mean() for source in "abc"]
        gaps.append(max(means) - min(means))
    assert gaps[1] < gaps[0] / 5
