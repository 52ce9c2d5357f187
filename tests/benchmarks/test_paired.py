"""Mean AUC over generators and the paired difference of two ways."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.paired import mean_aucs


@pytest.fixture(scope="module")
def faces() -> pd.DataFrame:
    kinds = {
        "ffhq": (0, 120),
        "unsplash": (0, 60),
        "dfdc": (0, 80),
        "dfdc_swap": (1, 80),
        "sdxl": (1, 150),
        "sd21": (1, 40),
    }
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
    means, differences = mean_aucs(faces, scores, [("first", "alone")], rounds=2)
    expected = {}
    for name, score in scores.items():
        aucs = []
        for generator, sources in reals.items():
            rows = faces["generator"].isin([generator, *sources]).to_numpy()
            aucs.append(roc_auc_score(faces["target"].to_numpy()[rows], score[rows]))
        expected[name] = np.mean(aucs)
        assert means[name].value == pytest.approx(expected[name])
    difference = differences["first", "alone"]
    assert difference.value == pytest.approx(expected["first"] - expected["alone"])


def test_what_two_ways_have_in_common_cancels_out(faces, scores):
    pairs = [("first", "worse"), ("first", "alone"), ("first", "same")]
    same = scores["first"] + 5  # a constant changes none of the ranks
    _, differences = mean_aucs(faces, {**scores, "same": same}, pairs, rounds=150)
    paired, alone, none = (differences[pair] for pair in pairs)
    assert paired.low < paired.value < paired.high
    assert paired.high - paired.low < 0.6 * (alone.high - alone.low)
    assert (none.low, none.value, none.high) == (0, 0, 0)


def test_the_interval_is_as_wide_as_the_figure_scatters(faces, scores):
    """Against fresh samples of the same distribution."""
    found = mean_aucs(faces, {"a": scores["first"]}, rounds=300)[0]["a"]
    rng = np.random.default_rng(1)
    target = faces["target"].to_numpy()
    samples = {str(i): target + rng.normal(0, 1, len(faces)) for i in range(200)}
    fresh = [mean.value for mean in mean_aucs(faces, samples, rounds=1)[0].values()]
    assert (found.high - found.low) / 4 == pytest.approx(np.std(fresh), rel=0.3)
