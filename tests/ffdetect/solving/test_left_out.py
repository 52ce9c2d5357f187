"""Figures of faces left out are of matched comparisons."""

from __future__ import annotations

import numpy as np

from ffdetect.models.calibration import Calibration
from ffdetect.solving.left_out import LeftOut, figures


def test_swaps_are_compared_with_reals_of_their_own_collection_alone():
    rng = np.random.default_rng(0)
    unit = np.repeat(["inswapper", "ffhq256", "a"], 40)
    target = np.repeat([1, 0, 0], 40)
    logit = np.repeat([0.0, 0.0, -9.0], 40) + rng.normal(size=120)  # source a is another world
    rows = LeftOut(np.arange(120), np.full(120, "inswapper"), target, unit, logit)
    calibration = Calibration(
        1.0, 0.0, {0.1: 0.5, 0.01: 0.6, 0.001: 0.7}, 80, 40, {"a": 40}, "2026-01-01"
    )
    fold = figures(rows, calibration)["folds"]["inswapper"]
    assert (fold["fakes"], fold["reals"]) == (40, 40)
    assert fold["auc"][0] < 0.7  # against source a too it would be above
