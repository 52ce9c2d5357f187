"""Figures of faces left out are of matched comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from ffdetect.evaluation.metrics import auc
from ffdetect.models.calibration import Calibration
from ffdetect.solving.left_out import LeftOut, families, figures


def test_swaps_are_compared_with_reals_of_their_own_collection_alone():
    rng = np.random.default_rng(0)
    unit = np.repeat(["inswapper", "ffhq256", "a"], 40)
    target = np.repeat([1, 0, 0], 40)
    logit = np.repeat([0.0, 0.0, -9.0], 40) + rng.normal(size=120)  # source a is another world
    degraded = np.where(np.arange(120) % 2, logit[::-1], np.nan)
    rows = LeftOut(np.arange(120), np.full(120, "inswapper"), target, unit, logit, degraded)
    calibration = Calibration(
        1.0, 0.0, {0.1: 0.5, 0.01: 0.6, 0.001: 0.7}, 80, 40, {"a": 40}, "2026-01-01"
    )
    found = figures(rows, calibration)
    fold = found["folds"]["inswapper"]
    assert (fold["fakes"], fold["reals"]) == (40, 40)
    assert fold["auc"][0] < 0.7  # against source a too it would be above
    own = (unit != "a") & ~np.isnan(degraded)
    loss = found["degraded views"]
    assert loss["as they are"] == pytest.approx(auc(target[own], logit[own]), abs=1e-4)
    assert loss["degraded"] == pytest.approx(auc(target[own], degraded[own]), abs=1e-4)


def test_a_face_of_several_folds_counts_once():
    """Three folds that score alike leave no more certainty than one."""
    rng = np.random.default_rng(0)
    row, target = np.arange(60), np.repeat([1, 0], 30)
    unit, logit = np.where(target == 1, "flux", "a"), target + rng.normal(size=60)
    once, thrice = (
        families(
            LeftOut(
                *(np.tile(x, n) for x in (row, np.full(60, "flux"), target, unit, logit, logit))
            )
        )
        for n in (1, 3)
    )
    assert thrice["flux"]["fakes"] == once["flux"]["fakes"] == 30
    np.testing.assert_allclose(thrice["flux"]["auc"], once["flux"]["auc"], atol=0.02)
    assert thrice["flux"]["auc"][2] - thrice["flux"]["auc"][1] > 0.2
