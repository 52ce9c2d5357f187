"""Mean AUC over generators and the paired difference of two ways."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.paired import bootstrap_means, interval


@pytest.fixture(scope="module")
def faces() -> pd.DataFrame:
    kinds = {"ffhq": (0, 120), "unsplash": (0, 60), "dfdc": (0, 80), "dfdc_swap": (1, 80),
             "sdxl": (1, 150), "sd21": (1, 40)}  # fmt: skip
    rows = [{"generator": name, "target": t} for name, (t, n) in kinds.items() for _ in range(n)]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


@pytest.fixture(scope="module")
def scores(faces) -> dict[str, np.ndarray]:
    """Two ways that err on the same faces, the second a little worse; and a third by itself."""
    rng = np.random.default_rng(0)
    target = faces["target"].to_numpy()
    first = target + rng.normal(0, 1, len(faces))
    alone = target + rng.normal(0, 1, len(faces))
    return {"first": first, "worse": first + rng.normal(0, 0.3, len(faces)), "alone": alone}


def test_the_mean_is_over_generators_each_with_reals_of_its_kind(faces, scores):
    reals = {"dfdc_swap": ["dfdc"], "sdxl": ["ffhq", "unsplash"], "sd21": ["ffhq", "unsplash"]}
    for name, score in scores.items():
        expected = []
        for generator, sources in reals.items():
            rows = faces["generator"].isin([generator, *sources]).to_numpy()
            expected.append(roc_auc_score(faces["target"].to_numpy()[rows], score[rows]))
        means = bootstrap_means(faces, {name: score}, rounds=0)[name]
        assert means.tolist() == pytest.approx([np.mean(expected)])


def test_ways_are_paired_on_the_same_faces(faces, scores):
    means = bootstrap_means(faces, scores, rounds=300)
    assert all(values.shape == (301,) for values in means.values())
    paired, alone = (interval(means["first"] - means[name]) for name in ("worse", "alone"))
    assert paired.value == pytest.approx(means["first"][0] - means["worse"][0])
    assert paired.low < paired.value < paired.high
    # What both ways have in common cancels out.
    assert paired.high - paired.low < 0.6 * (alone.high - alone.low)
    same = bootstrap_means(faces, {"a": scores["first"], "b": scores["first"]}, rounds=20)
    assert (same["a"] == same["b"]).all()
    # A constant added to a way changes none of its ranks, hence nothing at all.
    shifted = bootstrap_means(faces, {"a": scores["first"] + 5}, rounds=20)
    np.testing.assert_allclose(shifted["a"], same["a"])


def test_the_interval_is_as_wide_as_the_figure_scatters(faces, scores):
    """Against fresh samples of the same distribution."""
    rounds = bootstrap_means(faces, {"a": scores["first"]}, rounds=300)["a"]
    rng = np.random.default_rng(1)
    target = faces["target"].to_numpy()
    samples = {str(i): target + rng.normal(0, 1, len(faces)) for i in range(200)}
    fresh = [means[0] for means in bootstrap_means(faces, samples, rounds=0).values()]
    assert np.mean(rounds[1:]) == pytest.approx(rounds[0], abs=0.01)
    assert np.std(rounds[1:]) == pytest.approx(np.std(fresh), rel=0.25)
    found = interval(rounds)
    assert (found.high - found.low) / 4 == pytest.approx(np.std(fresh), rel=0.3)


def test_rounds_depend_on_the_seed_alone(faces, scores):
    first, second, other = (
        bootstrap_means(faces, {"a": scores["first"]}, rounds=5, seed=seed)["a"]
        for seed in (0, 0, 1)
    )
    assert (first == second).all() and (first[1:] != other[1:]).all()
