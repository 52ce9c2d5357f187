"""The verdict: what it takes to call a face fake or real, and what makes it uncertain."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ffdetect.models.calibration import Calibration
from ffdetect.models.weights import write_calibration
from ffdetect.scoring import verdict
from ffdetect.scoring.detector import Detector
from ffdetect.scoring.quality import Quality
from ffdetect.scoring.verdict import Verdict, judge, quality_reasons
from tests.ffdetect.helpers import CALIBRATION, encode

GOOD = Quality(side=180, blur=0.45, blocks=0.2, jpeg_quality=90, format="jpeg")
MEASURED = replace(CALIBRATION, thresholds={0.1: 0.5, 0.01: 0.75, 0.001: 0.875}, real_threshold=0.4)


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.0, "real"),
        (0.4, "real"),
        (0.401, "uncertain"),
        (0.5, "uncertain"),
        (0.749, "uncertain"),
        (0.75, "fake"),
        (1.0, "fake"),
    ],
)
def test_the_thresholds_decide_about_a_good_face(score, expected):
    found = judge(score, [score], GOOD, MEASURED)
    assert found.verdict == expected
    assert bool(found.reasons) == (expected == "uncertain")
    if found.reasons:
        assert found.reasons == (f"score {score:.3f} lies between 0.400 (real) and 0.750 (fake)",)


@pytest.mark.parametrize(
    ("score", "views"), [(0.8, [0.8, 0.9, 0.7]), (0.8, [0.1, 0.9]), (0.3, [0.3, 0.2, 0.45])]
)
def test_one_view_on_another_side_is_enough_to_doubt(score, views):
    found = judge(score, views, GOOD, MEASURED)
    span = f"{min(views):.3f} to {max(views):.3f}"
    assert found == Verdict("uncertain", (f"views of the face disagree: scores {span}",))


def test_views_that_agree_leave_the_verdict():
    assert judge(0.8, [0.76, 0.9], GOOD, MEASURED) == Verdict("fake")
    assert judge(0.2, [0.0, 0.39], GOOD, MEASURED) == Verdict("real")


BAD = [
    ({"side": verdict.MIN_SIDE - 1}, "px is smaller than"),
    ({"blur": verdict.MAX_BLUR + 0.01}, "blur .* is above"),
    ({"jpeg_quality": verdict.MIN_JPEG_QUALITY - 1}, "JPEG quality .* is below"),
    ({"jpeg_quality": 0}, "JPEG quality 0 is below"),
    ({"blocks": verdict.MAX_BLOCKS + 0.1}, "JPEG blocks of .* are above"),
    ({"format": "webp"}, "webp file: its coding makes real faces look fake"),
]


@pytest.mark.parametrize("score", [0.01, 0.99])
@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_face_that_shows_too_little_is_uncertain(score, change, message):
    found = judge(score, [score], replace(GOOD, **change), MEASURED)
    assert found.verdict == "uncertain" and len(found.reasons) == 1
    assert re.search(message, found.reasons[0])


def test_the_limits_themselves_are_good_enough():
    limits = Quality(
        verdict.MIN_SIDE, verdict.MAX_BLUR, verdict.MAX_BLOCKS, verdict.MIN_JPEG_QUALITY, "png"
    )
    assert quality_reasons(limits) == quality_reasons(replace(GOOD, jpeg_quality=-1)) == ()


def test_every_reason_is_told():
    found = judge(0.6, [0.6], Quality(20, 0.9, 3.0, 5, "webp"), MEASURED)
    assert found.verdict == "uncertain" and len(found.reasons) == 6


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_nobody_is_judged_without_a_calibration(score):
    found = judge(score, [score], GOOD, None)
    assert found.verdict == "uncertain" and found.reasons[0].startswith("uncalibrated")


def test_real_is_as_strong_a_word_as_fake():
    """It takes a score that few fakes stay under, and that most reals stay under too."""
    assert judge(0.45, [0.45], GOOD, MEASURED).verdict == "uncertain"
    higher = replace(MEASURED, real_threshold=0.7)
    assert judge(0.45, [0.45], GOOD, higher).verdict == "real"
    assert judge(0.6, [0.6], GOOD, higher).verdict == "uncertain"
    unknown = judge(0.01, [0.01], GOOD, replace(MEASURED, real_threshold=None))
    assert unknown.verdict == "uncertain"
    assert unknown.reasons == (
        "score 0.010 is below 0.750 (fake), and how many fakes score as low is not known",
    )
    assert judge(0.8, [0.8], GOOD, replace(MEASURED, real_threshold=None)).verdict == "fake"


@pytest.fixture
def judging(tiny, monkeypatch):
    """Gives the tiny detector a calibration for one test."""

    def calibrate(calibration: Calibration) -> Detector:
        monkeypatch.setattr(tiny, "calibration", calibration)
        return tiny

    return calibrate


def with_thresholds(low: float, high: float) -> Calibration:
    return replace(CALIBRATION, thresholds={0.1: low, 0.01: high, 0.001: 1.0}, real_threshold=low)


def test_a_detector_judges_each_face(tiny, judging, astronaut):
    """Thresholds far below or above every score make all faces fake or real."""
    small = np.array(Image.fromarray(astronaut).resize((128, 128), Image.Resampling.LANCZOS))
    two = np.zeros((512, 640, 3), np.uint8)
    two[:, :512], two[:128, 512:] = astronaut, small
    for face in tiny.analyze(two).faces:
        assert face.verdict == "uncertain" and face.reasons[0].startswith("uncalibrated")
    for thresholds, expected in (((1e-6, 2e-6), "fake"), ((0.9999, 1.0), "real")):
        large, little = judging(with_thresholds(*thresholds)).analyze(two).faces
        assert large.verdict == expected and large.reasons == ()
        assert little.verdict == "uncertain" and "px is smaller than" in little.reasons[0]


def test_a_detector_doubts_where_its_views_part(judging, astronaut):
    found = judging(CALIBRATION).analyze(astronaut, tta="flip+crops").faces[0]
    # The score is that of the mean logit, so some views lie below it and some above.
    judged = judging(with_thresholds(found.score, found.score))
    between = judged.analyze(astronaut, tta="flip+crops").faces[0]
    assert between.verdict == "uncertain"
    assert between.reasons[0].startswith("views of the face disagree")


def test_a_detector_looks_at_more_views_than_it_scores(judging, tiny, astronaut):
    plain = judging(CALIBRATION).analyze(astronaut).faces[0]
    logits = tiny.crop_logits(plain.crop[None], tta="flip+crops").flatten().tolist()
    other = max(logits[1:], key=lambda logit: abs(logit - logits[0]))
    middle = 1 / (1 + np.exp(0.25 - (logits[0] + other) / 4))
    face = judging(with_thresholds(middle, middle)).analyze(astronaut).faces[0]
    assert face.score == pytest.approx(plain.score, abs=1e-6)
    assert face.reasons and face.reasons[0].startswith("views of the face disagree")


def test_a_detector_sees_how_a_file_was_compressed(judging, astronaut):
    judged = judging(with_thresholds(1e-6, 2e-6))
    assert judged.analyze(encode(astronaut, "JPEG", quality=90)).faces[0].verdict == "fake"
    crushed = judged.analyze(encode(astronaut, "JPEG", quality=5)).faces[0]
    assert crushed.verdict == "uncertain" and crushed.reasons[0].startswith("JPEG quality 5")
    webp = judged.analyze(encode(astronaut, "WEBP", quality=90)).faces[0]
    assert webp.verdict == "uncertain" and "webp" in webp.reasons[-1]


def test_a_detector_tells_and_applies_its_calibration(tiny_weights, tiny, astronaut, tmp_path):
    assert tiny.thresholds is None and tiny.calibration is None
    write_calibration(tiny_weights, tmp_path / "w.safetensors", CALIBRATION)
    calibrated = Detector.load(tmp_path / "w.safetensors", "cpu")
    assert calibrated.thresholds == CALIBRATION.thresholds
    crop = tiny.analyze(astronaut).faces[0].crop[None]
    odds = np.exp(float(tiny.crop_logits(crop)[0, 0]) / 2 - 0.25)
    expected = pytest.approx(odds / (1 + odds), abs=1e-5)
    assert calibrated.score(astronaut) == expected
    assert calibrated.score_batch([astronaut])[0] == expected
    assert calibrated.analyze(astronaut).faces[0].score == expected
    assert abs(tiny.score(astronaut) - calibrated.score(astronaut)) > 0.02
