"""benchmarks.streams: one network read in four ways."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.streams import READINGS, main, read_streams
from ffdetect.checkpoint import load_checkpoint
from preprocess.cache import CacheReader


def test_the_fused_reading_is_the_detectors_score(matched, tiny, tiny_weights):
    reader = CacheReader(matched)
    readings = read_streams(load_checkpoint(tiny_weights).network, reader, batch_size=5)
    assert readings.shape == (len(READINGS), len(reader))
    scores = tiny.score_crops(reader.crops(range(len(reader))))
    np.testing.assert_allclose(readings[0], scores, atol=1e-5)
    odds = np.log(readings / (1 - readings))
    np.testing.assert_allclose(odds[3], (odds[1] + odds[2]) / 2, atol=1e-4)
    assert not np.allclose(readings[0], readings[3], atol=1e-4)


def test_the_command_writes_every_reading(matched, tiny_weights, tmp_path, capsys):
    out = tmp_path / "streams.json"
    assert main([str(matched), "--weights", str(tiny_weights), "--out", str(out)]) == 0
    values = json.loads(out.read_text("utf-8"))["results"]
    assert list(values) == list(READINGS)
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in READINGS)
    assert {row["generator"] for row in values["fused"]} == {"dfdc_swap", "gan"}
