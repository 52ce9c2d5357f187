"""Losses against those of torch and torchvision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, kl_divergence
from torchvision.ops import sigmoid_focal_loss

from ffdetect.training.losses import Objective, disagreement, target_loss


@pytest.fixture
def logit() -> torch.Tensor:
    return 3 * torch.randn(64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def soft() -> torch.Tensor:
    return torch.rand(64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_soft_targets_are_torchs_cross_entropy_of_two_classes(logit, soft, smoothing):
    two = torch.stack([torch.zeros_like(logit), logit], 1)
    shares = torch.stack([1 - soft, soft], 1)
    expected = F.cross_entropy(two, shares, label_smoothing=smoothing)
    torch.testing.assert_close(target_loss(logit, soft, smoothing), expected)


@pytest.mark.parametrize("gamma", [1.0, 2.0, 5.0])
def test_hard_targets_have_torchvisions_focal_loss(logit, soft, gamma):
    target = soft.round()
    expected = sigmoid_focal_loss(logit, target, alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(target_loss(logit, target, gamma=gamma), expected)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_focal_loss_is_lowest_where_the_probability_is_the_target(share):
    grid = torch.linspace(0.01, 0.99, 99)
    target = torch.tensor([share])
    losses = torch.stack([target_loss(p.logit()[None], target, gamma=2.0) for p in grid])
    assert float(grid[losses.argmin()]) == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_certain_logits_have_finite_gradients(gamma):
    logit = torch.tensor([-200.0, 200.0, -200.0, 200.0], requires_grad=True)
    target_loss(logit, torch.tensor([0.0, 1.0, 1.0, 0.0]), gamma=gamma).backward()
    assert logit.grad.isfinite().all() and torch.equal(logit.grad[:2], torch.zeros(2))
    assert logit.grad[2] < 0 < logit.grad[3]


def test_disagreement_is_the_symmetrised_divergence(logit):
    first, second = logit[:32], logit[32:]
    one, other = Bernoulli(logits=first), Bernoulli(logits=second)
    expected = (kl_divergence(one, other) + kl_divergence(other, one)).mean() / 2
    torch.testing.assert_close(disagreement(first, second), expected)
    assert disagreement(first, first) == 0


def test_both_views_learn_from_a_disagreement():
    first, second = (torch.tensor([z], requires_grad=True) for z in (1.0, -1.0))
    disagreement(first, second).backward()
    assert first.grad > 0 > second.grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mix": "mosaic"}, "expected a mix among .*'cutmix', 'mixup'.* but got 'mosaic'"),
        ({"label_smoothing": 1.0}, "expected label smoothing .* below 1 but got 1.0"),
        ({"label_smoothing": -0.1}, "expected label smoothing of at least 0"),
        ({"focal_gamma": 0.5}, "expected a focal exponent of 0 or at least 1 but got 0.5"),
        ({"focal_gamma": float("nan")}, "expected a focal exponent"),
        ({"consistency": -1.0}, "expected a weight of consistency of at least 0 but got -1.0"),
        ({"consistency": float("inf")}, "expected a weight of consistency"),
    ],
)
def test_an_impossible_objective_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Objective(**options)
