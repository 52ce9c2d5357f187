"""Platt scaling against scikit-learn, thresholds against numpy and on reals never seen."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from ffdetect.evaluation.metrics import calibration_error
from ffdetect.models.calibration import (
    FPRS,
    Calibration,
    balanced_weights,
    cross_fitted,
    fit_platt,
    probabilities,
    supported,
    threshold_at,
)
from tests.ffdetect.helpers import CALIBRATION


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
    for weight in (np.ones(len(target)), balanced_weights(target, kind)):
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
    weight = balanced_weights(target, kind)
    for name, total in (("a", 4), ("b", 3)):
        for value in (0, 1):
            assert weight[(kind == name) & (target == value)].sum() == pytest.approx(total / 2)
    assert weight[-1] == 0


def test_calibrated_scores_of_left_out_groups_are_better_calibrated():
    target, logit, kind = draw(1, 3000)
    group = np.arange(3000) // 3
    weight = balanced_weights(target, kind)
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


@pytest.mark.parametrize("count", [1, 5, 9, 10, 99, 100, 998, 999, 1000, 4321])
@pytest.mark.parametrize("fpr", FPRS)
def test_a_threshold_is_the_conservative_quantile(count, fpr):
    reals = np.random.default_rng(count).random(count).astype(np.float32)
    threshold = threshold_at(reals, fpr)
    flagged = (reals >= threshold).sum()
    # One more real would be flagged by chance if it fell among the flagged ones or beside them.
    assert not supported(count, fpr) or (flagged + 1) / (count + 1) <= fpr + 1e-9
    if supported(count, fpr):
        assert (flagged + 2) / (count + 1) > fpr  # and no higher than it needs to be
        level = np.ceil((1 - fpr) * (count + 1) - 1e-9) / count
        order = np.quantile(reals, level, method="inverted_cdf")
        assert order < threshold <= np.nextafter(order, np.float32(2))
    else:
        assert flagged == 0 and threshold == np.nextafter(reals.max(), np.float32(2))
    assert supported(count, fpr) == (count >= round(1 / fpr) - 1)


def test_ties_are_not_flagged():
    assert (np.full(50, 0.25, np.float32) < threshold_at(np.full(50, 0.25), 0.1)).all()


@pytest.mark.parametrize("fpr", FPRS)
def test_reals_never_seen_are_flagged_no_more_often_than_promised(fpr):
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(300):
        scores = expit(rng.normal(-1, 2, 1200)).astype(np.float32)
        fresh = expit(rng.normal(-1, 2, 4000)).astype(np.float32)
        rates.append((fresh >= threshold_at(scores, fpr)).mean())
    error = np.std(rates) / np.sqrt(len(rates))
    assert fpr * 0.75 < np.mean(rates) < fpr + 3 * error


def test_probabilities_are_those_of_the_calibrated_logit():
    logits = torch.linspace(-9, 9, 7)
    found = probabilities(logits, 2.5, -0.5)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expit(logits.double().numpy() / 2.5 - 0.5), rtol=1e-6)


def test_a_calibration_survives_json():
    text = json.dumps(CALIBRATION.to_dict())
    assert Calibration.from_dict(json.loads(text)) == CALIBRATION


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0}, "expected a temperature of 0.001 to 1000 but got 0"),
        ({"temperature": -1.0}, "expected a temperature"),
        ({"temperature": float("nan")}, "expected a temperature .* but got nan"),
        ({"temperature": "1"}, "expected a temperature .* but got '1'"),
        ({"temperature": True}, "expected a temperature"),
        ({"bias": float("inf")}, "expected a bias of -1000 to 1000 but got inf"),
        ({"bias": None}, "expected a bias"),
        ({"thresholds": {0.1: 0.5, 0.01: 0.6}}, r"rates \[0.1, 0.01, 0.001\] but got"),
        ({"thresholds": {0.1: 0.5, 0.01: 0.6, 0.001: 1.5}}, "threshold at 0.001 of 0 to 1"),
        ({"thresholds": {0.1: 0.5, 0.01: 0.4, 0.001: 0.9}}, "expected thresholds to rise"),
        ({"reals": 0}, "expected a positive number of reals but got 0"),
        ({"fakes": 2.5}, "expected a positive number of fakes but got 2.5"),
        ({"sources": {"ffhq": -3}}, "expected a positive number of ffhq but got -3"),
    ],
)
def test_values_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CALIBRATION, **changes)
