"""Scores of a cache -> one honest row a generator, as a table and as files."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks.cross_generator import evaluate, main, save, score_cache, table
from ffdetect.evaluation.framing import MATCHED, RAW
from ffdetect.evaluation.metrics import calibration_error
from ffdetect.scoring.detector import Detector
from preprocess.cache.reader import CacheReader


@pytest.fixture(scope="module")
def faces() -> tuple[pd.DataFrame, np.ndarray]:
    """Made-up scores: swaps stand out among dfdc reals, which all score higher than portraits."""
    rng = np.random.default_rng(0)
    kinds = {
        "ffhq": (0, 0.3),
        "unsplash": (0, 0.35),
        "dfdc": (0, 0.6),
        "dfdc_swap": (1, 0.8),
        "sdxl": (1, 0.4),
        "sd21": (1, 0.7),
    }
    rows, scores = [], []
    for name, (target, mean) in kinds.items():
        rows += [{"generator": name, "target": target}] * 150
        scores.append(rng.normal(mean, 0.12, 150).clip(0, 1).round(2))
    order = rng.permutation(len(rows))
    return pd.DataFrame(rows).iloc[order], np.concatenate(scores)[order].astype(np.float32)


@pytest.fixture(scope="module")
def results(faces):
    return evaluate(*faces)


def test_results_agree_with_scikit_learn(faces, results):
    metadata, score = faces
    assert [result.generator for result in results] == ["dfdc_swap", "sd21", "sdxl"]
    for result in results:
        reals = ("dfdc",) if result.generator == "dfdc_swap" else ("ffhq", "unsplash")
        chosen = metadata["generator"].isin([result.generator, *reals]).to_numpy()
        t, s = metadata["target"].to_numpy()[chosen], score[chosen].astype(float)
        assert (result.fakes, result.reals) == (150, 150 * len(reals))
        assert result.auc.value == pytest.approx(roc_auc_score(t, s))
        assert result.auc.low < result.auc.value < result.auc.high
        flagged, caught, _ = roc_curve(t, s, drop_intermediate=False)
        assert result.tpr_at_fpr_1e2 == pytest.approx(caught[flagged <= 1e-2].max())
        assert result.tpr_at_fpr_1e3 == pytest.approx(caught[flagged <= 1e-3].max())
        nearest = np.abs(flagged - (1 - caught)).argmin()
        assert result.eer == pytest.approx((flagged + 1 - caught)[nearest] / 2, abs=0.02)
        assert result.ece == pytest.approx(calibration_error(t, s))


def test_the_table_has_a_row_a_generator_and_the_mean(results):
    lines = table(results).splitlines()
    assert len(lines) == 2 + 3 + 1
    assert {line.count("|") for line in lines} == {8}
    for line, result in zip(lines[2:], results, strict=False):
        assert line.startswith(f"| {result.generator} | {result.fakes} / {result.reals} |")
        assert str(result.auc) in line and f"{result.eer:.3f}" in line
    assert f"**{np.mean([result.auc.value for result in results]):.3f}**" in lines[-1]


def test_the_files_hold_every_result(results, tmp_path):
    save(results, {"command": "python -m x", "weights": {"a": 1}}, tmp_path / "new" / "out")
    values = json.loads((tmp_path / "new" / "out.json").read_text())
    assert values["command"] == "python -m x" and values["weights"] == {"a": 1}
    for got, result in zip(values["results"], results, strict=True):
        assert got["generator"] == result.generator
        assert got["auc"]["low"] == result.auc.low and got["ece"] == result.ece
    text = (tmp_path / "new" / "out.md").read_text()
    assert "`python -m x`" in text and table(results) in text


def test_scores_of_a_cache_are_in_its_order(matched, tiny):
    reader = CacheReader(matched)
    scores = score_cache(tiny, reader, batch_size=5)
    assert scores.dtype == np.float32 and scores.shape == (12,)
    alone = [float(tiny.score_crops(reader.crop(row)[None])[0]) for row in (0, 4, 5, 11)]
    np.testing.assert_allclose(scores[[0, 4, 5, 11]], alone, atol=1e-4)


def test_the_command_prints_and_writes(matched, tiny_weights, tmp_path, capsys):
    out = tmp_path / "results" / "cross"
    command = [str(matched), "--weights", str(tiny_weights), "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.strip() in out.with_suffix(".md").read_text()
    values = json.loads(out.with_suffix(".json").read_text())
    assert " ".join(command) in values["command"]
    assert values["protocol"] == MATCHED
    assert values["weights"] == Detector.load(tiny_weights, "cpu").about
    counts = {row["generator"]: (row["fakes"], row["reals"]) for row in values["results"]}
    assert counts == {"dfdc_swap": (3, 3), "gan": (3, 3)}


def test_a_raw_cache_is_marked_as_confounded(results, tmp_path):
    save(results, {"command": "x", "protocol": RAW}, tmp_path / "raw")
    assert "**raw: confounded**" in (tmp_path / "raw.md").read_text()
    save(results, {"command": "x", "protocol": MATCHED}, tmp_path / "matched", "more below")
    text = (tmp_path / "matched.md").read_text()
    assert "raw" not in text and text.endswith("|\n\nmore below\n")


def test_chosen_rows_are_scored(matched, tiny):
    reader = CacheReader(matched)
    scores = score_cache(tiny, reader, np.array([7, 2, 4]), batch_size=2)
    np.testing.assert_allclose(scores, score_cache(tiny, reader)[[7, 2, 4]], atol=1e-4)


def test_crops_of_other_settings_are_refused(faces_cache, tiny_weights, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(faces_cache), "--weights", str(tiny_weights)])
    assert caught.value.code == 2
    assert "size: 256, not 128" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["cache", "weights"])
def test_missing_files_end_with_a_message(matched, tiny_weights, tmp_path, capsys, missing):
    cache = tmp_path / "nowhere" if missing == "cache" else matched
    weights = tmp_path / "nowhere" if missing == "weights" else tiny_weights
    with pytest.raises(SystemExit) as caught:
        main([str(cache), "--weights", str(weights)])
    assert caught.value.code == 2
    assert "nowhere: expected" in capsys.readouterr().err
