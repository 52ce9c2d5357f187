"""What the shipped weights say of inputs made here stays what it was; see `golden.py`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import logit

from . import golden

EXPECTED = json.loads(golden.FILE.read_text(encoding="utf-8"))
LOGITS = 0.05  # other processors and libraries round elsewhere; a change of the face path is more
TOLERANCES = {
    "spectrum": 0.01,  # of values up to 16, which are stored to 1/256
    "resampled": 1.0,  # grey level: boxes of resampled faces are rounded to 1/8 px
}


@pytest.fixture(scope="module")
def found(astronaut: np.ndarray) -> dict:
    return golden.measure(astronaut)


@pytest.mark.parametrize("name", EXPECTED["scores"])
def test_scores(found: dict, name: str) -> None:
    expected = logit(EXPECTED["scores"][name])
    assert logit(found["scores"][name]) == pytest.approx(expected, abs=LOGITS)


@pytest.mark.parametrize("name", EXPECTED["hashes"])
def test_a_native_crop_and_its_residual_are_exact(found: dict, name: str) -> None:
    assert found["hashes"][name] == EXPECTED["hashes"][name]


@pytest.mark.parametrize("name", TOLERANCES)
def test_maps_and_resampled_crops(found: dict, name: str) -> None:
    np.testing.assert_allclose(found[name], EXPECTED[name], rtol=0, atol=TOLERANCES[name])


def test_every_value_is_held(found: dict) -> None:
    assert {name: len(values) for name, values in found.items()} == {
        name: len(values) for name, values in EXPECTED.items()
    }
