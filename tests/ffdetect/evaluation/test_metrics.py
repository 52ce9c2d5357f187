"""Metrics against scikit-learn and against plain loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.calibration import calibration_curve as sklearn_curve
from sklearn.metrics import roc_auc_score, roc_curve

from ffdetect.evaluation.metrics import (
    auc,
    balanced_weights,
    calibration_curve,
    calibration_error,
    eer,
    generator_aucs,
    tpr_at_fpr,
)

CASES = [(seed, ties) for seed in range(6) for ties in (False, True)]


def draw(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(20, 400))
    target = (rng.random(count) < rng.uniform(0.1, 0.9)).astype(int)
    target[:2] = 0, 1
    score = rng.normal(target * rng.uniform(0, 2))
    return target, np.round(score, 0 if seed % 2 else 1) if ties else score


@pytest.mark.parametrize(("seed", "ties"), CASES)
def test_auc_equals_scikit_learn(seed, ties):
    target, score = draw(seed, ties)
    assert auc(target, score) == pytest.approx(roc_auc_score(target, score), abs=1e-12)


@pytest.mark.parametrize(("seed", "ties"), CASES)
def test_weighted_figures_equal_scikit_learn(seed, ties):
    target, score = draw(seed, ties)
    weight = np.random.default_rng(seed).integers(0, 4, len(target)).astype(float)
    weight[:2] = 1
    expected = roc_auc_score(target, score, sample_weight=weight)
    assert auc(target, score, weight) == pytest.approx(expected, abs=1e-12)
    rates, hits, _ = roc_curve(target, score, sample_weight=weight, drop_intermediate=False)
    for fpr in (0.01, 0.1, 0.37):
        expected = hits[rates <= fpr + 1e-9].max()
        assert tpr_at_fpr(target, score, fpr, weight) == pytest.approx(expected)


@pytest.mark.parametrize("matches", [{}, {"swap": ("video",)}])
def test_each_generator_has_its_auc_against_reals_of_its_kind(matches):
    rng = np.random.default_rng(0)
    names = rng.choice(["photo", "video", "gan", "swap"], 200)
    target = np.isin(names, ["gan", "swap"]).astype(int)
    target[rng.random(200) < 0.1] = -1
    score = rng.normal((names == "swap") - 0.5 * (names == "video")).round(1)
    reals = {"gan": ["photo"], "swap": ["video"]} if matches else {}
    expected = {}
    for generator in ("gan", "swap"):
        chosen = np.isin(names, [generator, *reals.get(generator, ["photo", "video"])])
        chosen &= target >= 0
        expected[generator] = pytest.approx(roc_auc_score(target[chosen], score[chosen]))
    assert generator_aucs(names, target, score, matches) == expected
    for generator in ("gan", "swap"):
        chosen = np.isin(names, [generator, *reals.get(generator, ["photo", "video"])])
        chosen &= target >= 0
        sizes = {name: (chosen & (names == name)).sum() for name in set(names)}
        weight = [1 / sizes[name] for name in names[chosen]]
        own, said = target[chosen], score[chosen]
        balanced = auc(own, said, balanced_weights(own, names[chosen]))
        assert balanced == pytest.approx(roc_auc_score(own, said, sample_weight=weight))
    alone = generator_aucs(names, target, score, {"swap": ("video", "photo")})
    assert list(alone) == ["swap"]  # no real is left for the other


def test_classes_weigh_alike_and_units_by_the_root_of_their_size():
    target = np.array([0] * 9 + [0] * 4 + [1] * 5)
    unit = np.array(["a"] * 9 + ["b"] * 4 + ["f"] * 5)
    weight = balanced_weights(target, unit, 0.5)
    assert weight[target == 0].sum() == pytest.approx(weight[target == 1].sum())
    assert weight[:9].sum() / weight[9:13].sum() == pytest.approx(3 / 2)
    emphasis = np.where(np.arange(18) < 3, 0.5, 1.0)
    less = balanced_weights(target, unit, 0.5, emphasis)
    assert less[target == 0].sum() == pytest.approx(less[target == 1].sum())
    assert less[0] / less[3] == pytest.approx(0.5) and less[3] > weight[3]
    np.testing.assert_allclose(less[target == 1], weight[target == 1])
    with pytest.raises(ValueError, match="both classes but got none of target 1"):
        balanced_weights(np.zeros(3, int), np.array(["a", "a", "b"]))


@pytest.mark.parametrize(("seed", "ties"), CASES)
@pytest.mark.parametrize("fpr", [1e-3, 1e-2, 0.1, 0.37, 1.0])
def test_tpr_at_fpr_is_the_best_allowed_threshold(seed, ties, fpr):
    target, score = draw(seed, ties)
    rates, hits, _ = roc_curve(target, score, drop_intermediate=False)
    got = tpr_at_fpr(target, score, fpr)
    assert got == pytest.approx(hits[rates <= fpr + 1e-12].max())
    best = 0.0
    for threshold in [-np.inf, *score]:
        flagged = score > threshold
        if flagged[target == 0].mean() <= fpr:
            best = max(best, flagged[target == 1].mean())
    assert got == pytest.approx(best)


def test_tpr_at_fpr_allows_exactly_the_share_asked_for():
    """0.29 * 100 is just below 29 in floating point; 29 reals may still be flagged."""
    assert 0.29 * 100 < 29
    target = np.array([0] * 100 + [1])
    score = np.array([*range(100), 70.5])
    assert tpr_at_fpr(target, score, 0.29) == 1.0
    assert tpr_at_fpr(target, score, 0.28) == 0.0


@pytest.mark.parametrize(("seed", "ties"), CASES)
def test_eer_is_where_the_roc_curve_meets_the_diagonal(seed, ties):
    target, score = draw(seed, ties)
    flagged, caught, _ = roc_curve(target, score, drop_intermediate=False)
    # Walk along the straight pieces of the curve in small steps.
    steps = np.linspace(0, 1, 20001)
    x = np.concatenate([a + steps * (b - a) for a, b in pairwise(flagged)])
    y = np.concatenate([a + steps * (b - a) for a, b in pairwise(caught)])
    nearest = np.abs(x - (1 - y)).argmin()
    assert eer(target, score) == pytest.approx(x[nearest], abs=1e-4)


@pytest.mark.parametrize(("score", "expected"), [([0, 1, 2, 3], 0), ([3, 2, 1, 0], 1)])
def test_perfect_and_inverted_scores(score, expected):
    target = [0, 0, 1, 1]
    assert eer(target, score) == expected
    assert auc(target, score) == 1 - expected
    assert tpr_at_fpr(target, score, 1e-3) == 1 - expected


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_a_loop_over_bins(seed, bins):
    rng = np.random.default_rng(seed)
    score = np.append(rng.random(300), [0, 1, 1])
    target = (rng.random(303) < score**0.5).astype(int)
    target[-2:] = 0  # a score of exactly 1 belongs to the last bin, also when it is wrong
    expected = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = (score >= low) & ((score < high) | (number == bins - 1))
        if inside.any():
            gap = abs(target[inside].mean() - score[inside].mean())
            expected += gap * inside.sum() / len(score)
    assert calibration_error(target, score, bins) == pytest.approx(expected)


def test_a_weight_counts_a_face_as_often():
    target, score = np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.5, 0.9])
    weight = np.array([1, 3, 0, 2])
    repeated = calibration_error(np.repeat(target, weight), np.repeat(score, weight), 5)
    weighted = calibration_error(target, score, 5, weight)
    assert weighted == pytest.approx(repeated)
    assert weighted != pytest.approx(calibration_error(target, score, 5))


@pytest.mark.parametrize("bins", [5, 10])
def test_the_curve_equals_scikit_learns(bins):
    rng = np.random.default_rng(0)
    score = np.append(rng.random(500), [0, 1])
    target = (rng.random(502) < score**2).astype(int)
    so, said = sklearn_curve(target, score, n_bins=bins)
    found = calibration_curve(target, score, np.ones(502), bins)
    np.testing.assert_allclose([(s, f) for s, f, _ in found], np.c_[said, so], atol=1e-12)


def test_the_curve_counts_faces_by_their_weight():
    target, score = np.array([0, 1, 1, 0]), np.array([0.05, 0.05, 1.0, 0.96])
    found = calibration_curve(target, score, np.array([3.0, 1.0, 1.0, 1.0]))
    assert found == [(pytest.approx(0.05), 0.25, 2), (pytest.approx(0.98), 0.5, 2)]


@pytest.mark.parametrize("metric", [auc, eer, calibration_error])
@pytest.mark.parametrize(
    ("target", "score", "message"),
    [
        ([0, 1], [0.5], r"\(2,\) and \(1,\)"),
        ([[0, 1]], [[0.1, 0.2]], r"\(1, 2\)"),
        ([1, 1], [0.1, 0.2], r"got \[1\]"),
        ([0, 1, -1], [0.1, 0.2, 0.3], r"got \[-1"),
        ([], [], "expected targets"),
        ([0, 1], [0.1, float("nan")], "1 are not a number"),
    ],
)
def test_wrong_input_is_refused(metric, target, score, message):
    with pytest.raises(ValueError, match=message):
        metric(np.array(target), np.array(score))


def test_calibration_error_wants_probabilities():
    with pytest.raises(ValueError, match=r"expected probabilities but got 0.5 to 1.5"):
        calibration_error([0, 1], [0.5, 1.5])
