"""Lines that keep real sources together, against the primal problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ffdetect.solving.ridge import Gram, RidgeSettings, balanced, solve_line


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


def test_classes_weigh_alike_and_units_by_the_root_of_their_size():
    target = np.array([0] * 9 + [0] * 4 + [1] * 5)
    unit = np.array(["a"] * 9 + ["b"] * 4 + ["f"] * 5)
    weight = balanced(target, unit)
    assert weight[target == 0].sum() == pytest.approx(weight[target == 1].sum())
    assert weight[:9].sum() / weight[9:13].sum() == pytest.approx(3 / 2)
    emphasis = np.where(np.arange(18) < 3, 0.5, 1.0)
    less = balanced(target, unit, emphasis)
    assert less[target == 0].sum() == pytest.approx(less[target == 1].sum())
    assert less[0] / less[3] == pytest.approx(0.5) and less[3] > weight[3]
    np.testing.assert_allclose(less[target == 1], weight[target == 1])
    with pytest.raises(ValueError, match="both classes but got none of target 1"):
        balanced(np.zeros(3, int), np.array(["a", "a", "b"]))


@pytest.mark.parametrize(("penalty", "emphasis"), [(0.0, None), (10.0, None), (10.0, 0.3)])
def test_the_dual_line_is_the_primal_one(problem, penalty, emphasis):
    x, target, unit = problem
    emphasis = emphasis and np.where(np.arange(350) % 2, emphasis, 1.0)
    gram, rows, rest = Gram(x), np.arange(300), np.arange(300, 350)
    line = solve_line(gram, rows, target, unit, RidgeSettings(1e-2, penalty), emphasis)
    z = gram.x.double().numpy()
    own = None if emphasis is None else emphasis[:300]
    weight = balanced(target[:300], unit[:300], own) / 300
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
