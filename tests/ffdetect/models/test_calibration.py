"""What a calibration is, and what it does to logits."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit

from ffdetect.evaluation.calibration import OperatingPoints
from ffdetect.evaluation.thresholds import Thresholds
from ffdetect.models.calibration import Calibration, probabilities
from tests.ffdetect.helpers import CALIBRATION


def test_probabilities_are_those_of_the_calibrated_logit():
    logits = torch.linspace(-9, 9, 7)
    found = probabilities(logits, 2.5, -0.5)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expit(logits.double().numpy() / 2.5 - 0.5), rtol=1e-6)


def test_measured_points_count_what_was_measured_and_stay_probabilities():
    above_all, below_all = np.nextafter(np.float32([1, 0]), np.float32([2, -1])).tolist()
    fake = {0.1: 0.625, 0.01: 0.875, 0.001: above_all}
    points = OperatingPoints(2.5, -0.5, Thresholds(fake, below_all))
    source = np.repeat(["gan", "camera", "phone"], [30, 40, 20])
    found = Calibration.measured(points, (source == "gan").astype(int), source)
    assert (found.temperature, found.bias, found.real_threshold) == (2.5, -0.5, 0)
    assert found.thresholds == {0.1: 0.625, 0.01: 0.875, 0.001: 1}
    assert (found.reals, found.fakes) == (60, 30)
    assert found.sources == {"camera": 40, "gan": 30, "phone": 20}
    assert json.loads(json.dumps(found.to_dict()))["sources"] == found.sources


@pytest.mark.parametrize("real", [None, 0.25])
def test_a_calibration_survives_json(real):
    calibration = replace(CALIBRATION, real_threshold=real)
    values = json.loads(json.dumps(calibration.to_dict()))
    assert Calibration.from_dict(values) == calibration
    assert ("real_threshold" in values) == (real is not None)


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
        ({"real_threshold": -0.1}, "expected a threshold of real of 0 to 1 but got -0.1"),
        ({"reals": 0}, "expected a positive number of reals but got 0"),
        ({"fakes": 2.5}, "expected a positive number of fakes but got 2.5"),
        ({"sources": {"ffhq": -3}}, "expected a positive number of ffhq but got -3"),
    ],
)
def test_values_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CALIBRATION, **changes)
