"""benchmarks.streams: one network read in four ways."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.streams import main, read_streams
from ffdetect.models.weights import load_checkpoint
from preprocess.cache.reader import CacheReader

READINGS = ["fused", "rgb", "frequency", "mean of both"]


def test_the_fused_reading_is_the_detectors_score(matched, tiny, tiny_weights):
    reader = CacheReader(matched)
    readings = read_streams(load_checkpoint(tiny_weights).network, reader, batch_size=5)
    assert list(readings) == READINGS
    scores = tiny.score_crops(reader.crops(range(len(reader))))
    np.testing.assert_allclose(readings["fused"], scores, atol=1e-5)
    odds = {name: np.log(values / (1 - values)) for name, values in readings.items()}
    mean = (odds["rgb"] + odds["frequency"]) / 2
    np.testing.assert_allclose(odds["mean of both"], mean, atol=1e-4)
    assert not np.allclose(readings["fused"], readings["mean of both"], atol=1e-4)


def test_the_command_writes_every_reading(matched, tiny_weights, tmp_path, capsys):
    out = tmp_path / "streams.json"
    assert main([str(matched), "--weights", str(tiny_weights), "--out", str(out)]) == 0
    values = json.loads(out.read_text("utf-8"))["results"]
    assert list(values) == READINGS
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in READINGS)
    assert {row["generator"] for row in values["fused"]} == {"dfdc_swap", "gan"}
