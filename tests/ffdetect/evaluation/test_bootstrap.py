"""Intervals against scipy's bootstrap, and whether they cover as often as they say."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from ffdetect.evaluation.bootstrap import (
    FEWEST_GROUPS,
    Interval,
    auc_interval,
    bootstrap,
    bootstrap_all,
    resampled,
)
from ffdetect.evaluation.metrics import auc


def test_an_interval_equals_that_of_scipy():
    values = np.random.default_rng(0).gamma(2, size=80)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", random_state=1
    ).confidence_interval
    found = bootstrap(lambda rows: values[rows].mean(), np.zeros(80), rounds=4000)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.02)


def test_an_interval_covers_the_true_value_as_often_as_it_says():
    truth = NormalDist().cdf(1 / 2**0.5)  # AUC of two unit normals one apart
    covered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        target = np.repeat([0, 1], 60)
        interval = auc_interval(target, rng.normal(target), rounds=100)
        assert interval.low <= interval.value <= interval.high
        covered += interval.low <= truth <= interval.high
    assert covered >= 32  # 95 % of 40 is 38


def test_frames_of_one_video_are_no_independent_evidence():
    covered = {"group": 0, "row": 0}
    group = np.repeat(np.arange(30).astype(str), 10)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = np.repeat(rng.normal(size=30), 10) + rng.normal(0, 0.3, 300)
        for name, own in (("group", group), ("row", None)):
            found = bootstrap(lambda rows, x=values: x[rows].mean(), group == "", own, rounds=60)
            covered[name] += found.low <= 0 <= found.high
    assert covered["group"] >= 32 and covered["row"] < 24, covered  # of 40


def test_every_stratum_keeps_its_size_and_groups_are_drawn_whole():
    stratum = np.repeat(["a", "b", "c"], [40, 60, 14])
    group = np.array([f"{i // 4}" for i in range(40)] + [""] * 60 + ["one"] * 7 + ["two"] * 7)
    seen = set()
    for rows in resampled(stratum, group, rounds=50):
        assert (stratum[rows] == "a").sum() == 40 and (stratum[rows] == "b").sum() == 60
        times = np.bincount(rows, minlength=114)
        assert all(len(set(times[i : i + 4])) == 1 for i in range(0, 40, 4))
        assert len(set(times[40:100])) > 1  # without a group, by row
        seen.add(times[100:107].sum())
    assert len(seen) > 4  # two groups are too few to be drawn whole
    assert FEWEST_GROUPS > 2


def test_figures_of_one_call_are_of_the_same_draws():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 100)
    first = rng.normal(target)
    second = first + 0.001 * rng.normal(size=100)

    def figures(rows):
        one, two = auc(target[rows], first[rows]), auc(target[rows], second[rows])
        return {"first": one, "difference": one - two}

    found = bootstrap_all(figures, target, rounds=100)
    assert found["difference"].high - found["difference"].low < 0.005
    assert found["first"].high - found["first"].low > 0.05
    assert found["first"] == auc_interval(target, first, rounds=100)  # repeatable


def test_an_interval_reads_as_value_and_ends():
    assert str(Interval(0.91234, 0.85, 0.999)) == "0.912 [0.850, 0.999]"
    assert Interval(0.02, -0.01, 0.05).signed() == "+0.020 [-0.010, +0.050]"


def test_what_has_no_auc_is_refused():
    with pytest.raises(ValueError, match=r"expected targets 0 and 1"):
        auc_interval([1, 1], [0.1, 0.2])
