"""Scores in half precision are compared with those of the same faces in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.speed import precision as precision_of
from benchmarks.speed.precision import compare_precisions


def test_half_precision_is_compared_on_the_same_faces(tmp_path, astronaut, monkeypatch):
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file in files:
        Image.fromarray(astronaut).save(file)
    scores = {"fp32": [0.1, 0.5, 0.7], "bf16": [0.1, 0.53, 0.69]}
    load = precision_of.Detector.load

    def changed(_name: str, device: torch.device, precision: str = "fp32"):
        detector = load("fast", device)
        detector.score_crops = lambda crops: np.array(scores[precision])[: len(crops)]
        levels = property(lambda _: {0.1: 0.4, 0.01: 0.52})
        monkeypatch.setattr(precision_of.Detector, "thresholds", levels)
        return detector

    monkeypatch.setattr(precision_of.Detector, "load", changed)
    monkeypatch.setattr(precision_of, "half_precisions", lambda device: ("bf16",))
    (found,) = compare_precisions(files, torch.device("cpu")).values()
    assert (found.faces, found.verdicts) == (3, 1)
    assert found.largest == pytest.approx(0.03)
    assert found.mean == pytest.approx(0.04 / 3)
    monkeypatch.setattr(precision_of, "half_precisions", lambda device: ())
    assert compare_precisions(files, torch.device("cpu")) == {}
    shown = precision_of.precision_table("cpu", {"bf16": found})
    assert "| bf16 | 3 | 0.0300 | 0.0133 | 1 |" in shown
