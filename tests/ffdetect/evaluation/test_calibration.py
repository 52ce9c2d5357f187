"""Platt scaling against scikit-learn; operating points for sources and families left out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ffdetect.evaluation.calibration import (
    cross_fitted,
    fit_platt,
    operating_points,
    weights_within_kinds,
)
from ffdetect.evaluation.metrics import balanced_weights, calibration_error
from ffdetect.evaluation.thresholds import real_threshold, threshold_over_units


def draw(seed: int, count: int = 400, gap: float = 1.5):
    """Targets, logits that are too sure of themselves and lean to one side, and kinds."""
    rng = np.random.default_rng(seed)
    target = (rng.random(count) < 0.3).astype(int)
    logit = 40 + 6 * rng.normal(target * gap)
    return target, logit, rng.choice(["swap", ""], count)


def scikit_platt(target, logit, weight, soft: bool):
    """The same fit by scikit-learn; a soft target is a fake and a real that share the weight."""
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    fakes, reals = ((target == value) & (weight > 0) for value in (1, 0))
    wanted = target.astype(float)
    if soft:
        high, low = (fakes.sum() + 1) / (fakes.sum() + 2), 1 / (reals.sum() + 2)
        wanted = np.where(target == 1, high, low)
    x = (logit - logit.mean()) / logit.std()
    labels = np.repeat([1, 0], len(target))
    weights = np.concatenate([weight * wanted, weight * (1 - wanted)])
    model.fit(np.tile(x, 2)[:, None], labels, weights)
    slope = model.coef_[0, 0] / logit.std()
    return 1 / slope, model.intercept_[0] - slope * logit.mean()


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_equals_scikit_learns(seed):
    target, logit, kind = draw(seed)
    for weight in (np.ones(len(target)), weights_within_kinds(target, kind)):
        found = fit_platt(target, logit, weight)
        np.testing.assert_allclose(found, scikit_platt(target, logit, weight, True), rtol=1e-3)
        np.testing.assert_allclose(found, scikit_platt(target, logit, weight, False), rtol=0.05)


def test_it_finds_the_logits_that_the_targets_were_drawn_by():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, 200_000)
    target = (rng.random(len(true)) < expit(true)).astype(int)
    temperature, bias = fit_platt(target, 3 * (true - 5), np.ones(len(true)))
    assert temperature == pytest.approx(3, rel=0.02) and bias == pytest.approx(5, abs=0.05)


def test_classes_that_do_not_overlap_give_a_finite_fit():
    target = np.array([0, 0, 1, 1])
    temperature, bias = fit_platt(target, np.array([-3.0, -2, 2, 3]), np.ones(4))
    assert 0.01 < temperature < 100 and abs(bias) < 1e-6


@pytest.mark.parametrize(
    ("target", "weight", "message"),
    [
        ([0, 0, 0, 0], [1, 1, 1, 1], r"expected real and fake faces .* but got 4 and 0"),
        ([0, 0, 1, 1], [1, 1, 0, 0], r"expected real and fake faces .* but got 2 and 0"),
        ([1, 1, 0, 0], [1, 1, 1, 1], "expected fakes to score above reals"),
    ],
)
def test_what_cannot_be_fitted_is_refused(target, weight, message):
    with pytest.raises(ValueError, match=message):
        fit_platt(np.array(target), np.array([-3.0, -1, 1, 3]), np.array(weight, float))


def test_real_and_fake_weigh_the_same_within_each_kind():
    target = np.array([0, 0, 0, 1, 0, 1, 1, 0])
    kind = np.array(["a", "a", "a", "a", "b", "b", "b", "c"])
    weight = weights_within_kinds(target, kind)
    for name, total in (("a", 4), ("b", 3)):
        for value in (0, 1):
            assert weight[(kind == name) & (target == value)].sum() == pytest.approx(total / 2)
    assert weight[-1] == 0


def test_calibrated_scores_of_left_out_groups_are_better_calibrated():
    target, logit, kind = draw(1, 3000)
    group = np.arange(3000) // 3
    weight = weights_within_kinds(target, kind)
    before = calibration_error(target, expit(logit), weight=weight)
    after = calibration_error(target, cross_fitted(target, logit, kind, group), weight=weight)
    assert before > 0.3 and after < 0.04


def test_a_group_has_no_part_in_its_own_calibration():
    target, logit, kind = draw(2)
    group = np.arange(len(target)) // 4
    score = cross_fitted(target, logit, kind, group)
    own = group == 7
    flipped = np.where(own, 1 - target, target)
    changed = cross_fitted(flipped, logit, kind, group)
    np.testing.assert_allclose(changed[own], score[own], rtol=1e-6)
    assert not np.allclose(changed[~own], score[~own], rtol=1e-6)


def test_too_few_groups_are_told():
    target, logit, kind = draw(3)
    with pytest.raises(ValueError, match="too few groups to leave some out"):
        cross_fitted(target, logit, kind, np.zeros(len(target)))


def test_operating_points_are_read_off_calibrated_scores_of_the_units():
    rng = np.random.default_rng(0)
    unit = np.repeat([f"gan{i}" for i in range(5)] + [f"camera{i}" for i in range(6)], 60)
    target = np.char.startswith(unit, "gan").astype(int)
    logit = 30 + 5 * rng.normal(1.5 * target + np.repeat(rng.normal(0, 0.4, 11), 60))
    weight = balanced_weights(target, unit)
    found = operating_points(target, unit, logit, (0.1, 0.01))
    temperature, bias = scikit_platt(target, logit, weight, True)
    assert (found.temperature, found.bias) == pytest.approx((temperature, bias), rel=1e-3)
    score = found.probability(logit)
    np.testing.assert_allclose(score, expit(logit / temperature + bias), atol=1e-3)
    reals = target == 0
    for fpr, threshold in found.thresholds.fake.items():
        assert threshold == threshold_over_units(score[reals], unit[reals], fpr)
        assert np.mean([(score[unit == f"camera{i}"] >= threshold).mean() for i in range(6)]) <= fpr
    assert found.thresholds.real == real_threshold(score[~reals], unit[~reals])
    under = [(score[unit == f"gan{i}"] <= found.thresholds.real).mean() for i in range(5)]
    assert 0.02 < np.mean(under) <= 0.1
    assert found.thresholds.fake[0.1] <= found.thresholds.fake[0.01]
