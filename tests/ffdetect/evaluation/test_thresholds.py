"""Thresholds against brute force; they hold on sources that had no part in them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from ffdetect.evaluation.metrics import balanced_weights
from ffdetect.evaluation.thresholds import (
    equal_weights,
    false_alarms,
    left_out_alarms,
    real_threshold,
    supported,
    threshold_at_fpr,
    threshold_over_units,
)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("fpr", [0.001, 0.01, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_smallest_score_that_at_most_a_share_of_reals_reaches(seed, fpr, weighted):
    rng = np.random.default_rng(seed)
    reals = rng.normal(size=rng.integers(1, 150))
    reals = reals.round(1) if seed % 2 else reals
    weight = rng.integers(1, 5, len(reals)) if weighted else np.ones(len(reals))
    threshold = threshold_at_fpr(reals, fpr, weight if weighted else None)
    best = min(
        (
            t
            for t in [-np.inf, *np.nextafter(reals, np.inf)]
            if (weight * (reals >= t)).sum() <= fpr * weight.sum() + 1e-9
        ),
    )
    assert threshold == best


def test_exactly_the_share_asked_for_may_be_flagged():
    assert 0.29 * 100 < 29  # in floating point
    assert (np.arange(100) >= threshold_at_fpr(np.arange(100), 0.29)).sum() == 29


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_threshold_is_just_above_a_score_in_its_own_precision(dtype):
    reals = np.linspace(0, 1, 50).astype(dtype)
    threshold = threshold_at_fpr(reals, 0)
    assert dtype(threshold) == threshold == np.nextafter(dtype(1), dtype(2))


@pytest.mark.parametrize("count", [1, 5, 9, 10, 99, 100, 998, 999, 1000, 4321])
@pytest.mark.parametrize("fpr", [0.1, 0.01, 0.001])
def test_a_threshold_is_the_conservative_quantile(count, fpr):
    reals = np.random.default_rng(count).random(count).astype(np.float32)
    threshold = threshold_at_fpr(reals, fpr, unseen=True)
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


@pytest.mark.parametrize("fpr", [0.1, 0.01, 0.001])
def test_reals_never_seen_are_flagged_no_more_often_than_promised(fpr):
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(300):
        scores = expit(rng.normal(-1, 2, 1200)).astype(np.float32)
        fresh = expit(rng.normal(-1, 2, 4000)).astype(np.float32)
        rates.append((fresh >= threshold_at_fpr(scores, fpr, unseen=True)).mean())
    error = np.std(rates) / np.sqrt(len(rates))
    assert fpr * 0.75 < np.mean(rates) < fpr + 3 * error


def test_units_weigh_alike_whatever_their_size():
    unit = np.array(["big"] * 90 + ["small"] * 10 + ["other"] * 20)
    weight = equal_weights(unit)
    assert {name: pytest.approx(40) for name in set(unit)} == {
        name: weight[unit == name].sum() for name in set(unit)
    }
    target = np.array([0] * 100 + [1] * 20)
    weight = balanced_weights(target, unit)
    assert weight[target == 1].sum() == pytest.approx(weight[target == 0].sum()) == 60
    assert weight[unit == "big"].sum() == pytest.approx(weight[unit == "small"].sum())


def sources_of_reals(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    sizes = rng.integers(20, 200, count)
    shift = rng.normal(0, 0.7, count)
    return rng.normal(np.repeat(shift, sizes)), np.repeat(np.arange(count).astype(str), sizes)


def test_thresholds_hold_on_further_sources():
    held = plain_held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        reals, source = sources_of_reals(rng, 12)
        further, other = sources_of_reals(rng, 150)
        weight = equal_weights(other) / len(other)
        threshold = threshold_over_units(reals, source, 0.1, rounds=200)
        held += weight[further >= threshold].sum() <= 0.1
        plain_held += weight[further >= threshold_at_fpr(reals, 0.1)].sum() <= 0.1
        assert threshold >= threshold_at_fpr(reals, 0.1, equal_weights(source), unseen=True)
    assert held >= 43 and plain_held < 36, (held, plain_held)  # of 60


def test_a_source_counts_once_however_many_reals_it_has():
    rng = np.random.default_rng(0)
    few, many = rng.normal(2, 1, 30), rng.normal(0, 1, 3000)
    names = np.array(["few"] * 30 + ["many"] * 3000)
    threshold = threshold_over_units(np.r_[few, many], names, 0.1)
    assert (few >= threshold).mean() <= 0.1 and threshold > threshold_at_fpr(np.r_[few, many], 0.1)


def test_a_single_source_has_the_plain_threshold():
    reals = np.random.default_rng(0).normal(size=300)
    expected = threshold_at_fpr(reals, 0.1, unseen=True)
    assert threshold_over_units(reals, np.full(300, "one"), 0.1) == expected


def test_few_fakes_of_any_family_stay_under_the_threshold_of_real():
    rng = np.random.default_rng(0)
    family = np.repeat(["hard", "easy", "usual"], [40, 400, 100])
    fakes = rng.normal(np.repeat([-1, 3, 1], [40, 400, 100]))
    threshold = real_threshold(fakes, family)
    shares = [(fakes[family == name] <= threshold).mean() for name in ("hard", "easy", "usual")]
    assert np.mean(shares) <= 0.1 and threshold < np.quantile(fakes, 0.1)
    assert real_threshold(fakes, np.full(540, "one")) == pytest.approx(
        np.quantile(fakes, 0.1), abs=0.1
    )


def test_false_alarms_name_the_worst_source_first():
    reals = np.array([0.1, 0.9, 0.5, 0.2, 0.3, 0.5])
    source = np.array(["a", "a", "b", "b", "b", "b"])
    found = [(alarm.source, alarm.reals, alarm.rate) for alarm in false_alarms(reals, source, 0.5)]
    assert found == [("a", 2, 0.5), ("b", 4, 0.5)]
    found = [(alarm.source, alarm.rate) for alarm in false_alarms(reals, source, 0.25)]
    assert found == [("b", 0.75), ("a", 0.5)]


def test_a_source_has_no_say_in_the_threshold_it_is_judged_by():
    rng = np.random.default_rng(0)
    reals, source = sources_of_reals(rng, 6)
    found = left_out_alarms(reals, source, [0.1])[0.1]
    assert sorted(alarm.source for alarm in found) == sorted(set(source))
    for alarm in found:
        own = source == alarm.source
        threshold = threshold_over_units(reals[~own], source[~own], 0.1)
        assert alarm.rate == pytest.approx((reals[own] >= threshold).mean())
    louder = reals + 100 * (source == "3")
    assert left_out_alarms(louder, source, [0.1])[0.1][0].source == "3"
    assert left_out_alarms(louder, source, [0.1])[0.1][0].rate == 1


@pytest.mark.parametrize("reals", [[], [0.1, float("nan")]])
def test_no_threshold_without_scores(reals):
    with pytest.raises(ValueError, match="expected scores of reals"):
        threshold_at_fpr(np.array(reals), 0.1)
