"""What face and voice are worth together."""

from __future__ import annotations

import json
import math
from dataclasses import astuple

import numpy as np
import pytest
from scipy.stats import norm

from ffdetect.models.weights import WeightsError
from ffdetect.scoring.fusion import Evidence, Fusion

FACE = Evidence(temperature=2.0, bias=0.5, low=-2.0, high=3.0, reals=50, fakes=60)
VOICE = Evidence(temperature=1.0, bias=0.0, low=-1.0, high=1.5, reals=70, fakes=80)
FUSION = Fusion(FACE, VOICE, (0.5, 0.2, 0.3), {"command": "none"})


@pytest.mark.parametrize("seen", [(-0.7, 1.3), (2.0, 2.0), (0.1, -1.5)])
def test_the_ratio_is_that_of_fake_to_real_clips(seen):
    """Scores of face and voice are Gaussian here, one higher for fakes."""
    real, fake = norm(0), norm(1)
    face, voice = seen
    among_fakes = (
        0.5 * fake.pdf(face) * real.pdf(voice)
        + 0.2 * real.pdf(face) * fake.pdf(voice)
        + 0.3 * fake.pdf(face) * fake.pdf(voice)
    )
    expected = np.log(among_fakes / (real.pdf(face) * real.pdf(voice)))
    ratios = [fake.logpdf(x) - real.logpdf(x) for x in seen]
    assert FUSION.log_ratio(*ratios) == pytest.approx(expected)


def test_what_is_missing_says_nothing():
    assert FUSION.log_ratio(1.2, None) == 1.2
    assert FUSION.log_ratio(None, -0.7) == -0.7
    assert FUSION.log_ratio(None, None) == 0


def test_a_fake_in_either_shows_beside_an_honest_other():
    honest = FUSION.log_ratio(-2, -1)
    assert FUSION.log_ratio(3, -1) > 2 and FUSION.log_ratio(-2, 1.5) > honest + 1
    for voice in (-50.0, -5.0):
        assert FUSION.log_ratio(3, voice) >= 3 + math.log(0.5)


def test_more_of_either_is_never_less():
    ratios = np.linspace(-3, 3, 13)
    grid = np.array([[FUSION.log_ratio(f, v) for v in ratios] for f in ratios])
    assert (np.diff(grid, axis=0) > 0).all() and (np.diff(grid, axis=1) > 0).all()


def test_logits_are_worth_what_held_out_clips_say():
    rng = np.random.default_rng(0)
    target = np.repeat([0, 1], 4000)
    # Log ratio of two Gaussians of deviation 1, 2 apart: 2 x - 2. The logits are 3 x + 1.
    logit = 3 * (rng.normal(size=8000) + 2 * target) + 1
    found = Evidence.fit(target, logit, np.ones(8000))
    assert found.temperature == pytest.approx(1.5, abs=0.08)
    assert found.bias == pytest.approx(-2 - 1 / 1.5, abs=0.15)
    seen = logit / found.temperature + found.bias
    assert [found.low, found.high] == pytest.approx(np.quantile(seen, [0.05, 0.95]), abs=0.02)
    assert found.log_ratio(1e9) == found.high and found.log_ratio(-1e9) == found.low
    bent = np.array([found.log_ratio(x) for x in np.linspace(-20, 20, 81)])
    assert (np.diff(bent) > 0).all()
    middle = -found.bias * found.temperature
    assert found.log_ratio(middle + 0.15) == pytest.approx(0.15 / found.temperature, abs=1e-3)
    assert (found.reals, found.fakes) == (4000, 4000)


def test_a_detector_that_knows_nothing_is_worth_next_to_nothing():
    rng = np.random.default_rng(0)
    target = np.repeat([0, 1], 2000)
    found = Evidence.fit(target, rng.normal(0.03 * target, 1), np.ones(4000))
    assert abs(found.log_ratio(4)) < 0.3 and abs(found.log_ratio(-4)) < 0.3


def test_recordings_of_weight_zero_do_not_count():
    target, logit = np.array([0, 1, 0, 1, 0, 1]), np.array([-1, 1, 0, 2, 90, -90.0])
    weight = np.array([1, 1, 1, 1, 0, 0.0])
    found = Evidence.fit(target, logit, weight)
    assert astuple(found) == pytest.approx(
        astuple(Evidence.fit(target[:4], logit[:4], weight[:4])), abs=1e-5
    )


def test_both_get_the_narrower_range():
    fusion = FUSION.in_one_range()
    assert [(e.low, e.high) for e in (fusion.face, fusion.voice)] == [(-1.0, 1.5)] * 2
    assert fusion.face.temperature == 2.0


def test_a_file_keeps_everything(tmp_path):
    FUSION.save(tmp_path / "fusion.json")
    assert Fusion.load(tmp_path / "fusion.json") == FUSION


def test_the_package_has_one():
    fusion = Fusion.load()
    assert {"face", "voice", "date"} <= set(fusion.about)
    assert fusion.face.reals > 50 and fusion.voice.reals > 100
    # The voice's weights fail on some sources: they may say no more than faces.
    assert fusion.voice.low < fusion.face.low and fusion.face.high < fusion.voice.high
    assert fusion.in_one_range().voice.high == fusion.face.high


def test_damaged_files_are_named(tmp_path):
    file = tmp_path / "fusion.json"
    with pytest.raises(WeightsError, match=r"fusion\.json: expected a fusion"):
        Fusion.load(file)
    FUSION.save(file)
    good = json.loads(file.read_text())
    face = good["face"]
    for bad in (
        {"format": 9},
        {"shares": [1, 1, 1]},
        {"face": {**face, "temperature": -1}},
        {"face": {**face, "low": "a"}},
        {"face": {**face, "low": -(10**400)}},
        {"shares": [10**400, 0.5, 0.5]},
        {"voice": None},
    ):
        file.write_text(json.dumps({**good, **bad}))
        with pytest.raises(WeightsError, match=r"fusion\.json: expected a fusion"):
            Fusion.load(file)
    file.write_text('{"format":' * 100_000)
    with pytest.raises(WeightsError, match=r"fusion\.json: expected a fusion"):
        Fusion.load(file)
