"""Figures by generator and by source agree with scikit-learn, and intervals with what they are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from ffdetect.evaluation.breakdown import Breakdown, break_down
from ffdetect.evaluation.metrics import calibration_error

KINDS = {
    "ffhq": (0, 0.3),
    "unsplash": (0, 0.35),
    "dfdc": (0, 0.6),
    "dfdc_swap": (1, 0.8),
    "sdxl": (1, 0.4),
    "sd21": (1, 0.7),
}


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Target, score, unit: swaps stand out among dfdc reals, which score higher than portraits."""
    rng = np.random.default_rng(0)
    unit = np.repeat(list(KINDS), 150)
    target = np.array([KINDS[name][0] for name in unit])
    score = rng.normal([KINDS[name][1] for name in unit], 0.12).clip(0, 1).round(2)
    order = rng.permutation(len(unit))
    return target[order], score[order], unit[order]


@pytest.fixture(scope="module")
def found(rows) -> Breakdown:
    return break_down(*rows, rounds=60)


def test_generators_agree_with_scikit_learn(rows, found):
    target, score, unit = rows
    assert [result.generator for result in found.generators] == ["sdxl", "dfdc_swap", "sd21"]
    for result in found.generators:
        reals = ["dfdc"] if result.generator == "dfdc_swap" else ["ffhq", "unsplash"]
        own = np.isin(unit, [result.generator, *reals])
        t, s = target[own], score[own]
        assert (result.fakes, result.reals) == (150, 150 * len(reals))
        assert result.auc.value == pytest.approx(roc_auc_score(t, s))
        assert result.auc.low < result.auc.value < result.auc.high
        flagged, caught, _ = roc_curve(t, s, drop_intermediate=False)
        assert list(result.tpr) == [0.1, 0.01]  # 450 reals cannot show one in a thousand
        for fpr, tpr in result.tpr.items():
            assert tpr.value == pytest.approx(caught[flagged <= fpr].max())
            assert tpr.low <= tpr.value <= tpr.high
        nearest = np.abs(flagged - (1 - caught)).argmin()
        assert result.eer == pytest.approx((flagged + 1 - caught)[nearest] / 2, abs=0.02)
        assert result.ece == pytest.approx(calibration_error(t, s))


def test_all_and_the_mean(rows, found):
    target, score, _ = rows
    assert (found.fakes, found.reals) == (450, 450)
    assert found.auc.value == pytest.approx(roc_auc_score(target, score))
    mean = np.mean([result.auc.value for result in found.generators])
    assert found.mean_auc.value == pytest.approx(mean)


def test_the_loudest_source_comes_first_and_sources_share_the_rate(found):
    assert [source.source for source in found.sources] == ["dfdc", "unsplash", "ffhq"]
    shares = [source.flagged[0.1].value for source in found.sources]
    assert 0.07 < np.mean(shares) <= 0.1 and shares[0] > 0.2


def test_what_belongs_together_is_drawn_together():
    """Of 12 clips whose frames are all alike, twelve draws are worth twelve, not 240."""
    rng = np.random.default_rng(1)
    clip = np.arange(24).repeat(20)
    target = (clip % 2).astype(int)
    score = (0.5 + 0.1 * target + rng.normal(0, 0.1, 24)[clip]).clip(0, 1)
    unit = np.where(target, "gan", "film")
    widths = [
        break_down(target, score, unit, group, rounds=100).auc
        for group in (None, np.char.add("clip", clip.astype(str)))
    ]
    assert widths[1].high - widths[1].low > 2 * (widths[0].high - widths[0].low)


def test_it_reads_as_json_and_as_tables(found):
    values = json.loads(json.dumps(found.to_dict()))
    assert values["generators"][0]["tpr"]["0.1"]["value"] == found.generators[0].tpr[0.1].value
    text = found.markdown()
    assert f"| AUC | {found.auc} |" in text and "| dfdc | 150 |" in text
    assert f"| sdxl | 150 / 300 | {found.generators[0].auc} |" in text


def test_one_kind_alone_is_refused():
    with pytest.raises(ValueError, match="expected targets 0 and 1, both"):
        break_down(np.ones(3, int), np.ones(3), np.array(["a"] * 3))
    with pytest.raises(ValueError, match="expected reals of the kind of some generator"):
        break_down(np.array([0, 1]), np.array([0.1, 0.9]), np.array(["film", "dfdc_swap"]))
