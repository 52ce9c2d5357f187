"""The benchmark of pooling and fusion, on scores made up so that the answer is known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import clip_scores
from benchmarks.clip_scores import (
    alike,
    clip_table,
    compare_joining,
    compare_pooling,
    mixture,
    report,
)
from ffdetect.fusion import Evidence, Fusion


@pytest.fixture
def faces() -> pd.DataFrame:
    """6 frames each of 2 real and 2 fake clips for each of 12 people."""
    rows = [
        {"path": f"{person}-{kind}-{clip}", "target": int(kind != "real"), "generator": kind,
         "group": f"set/{person}"}
        for person in range(12) for kind, clip in (("real", 0), ("real", 1), ("one", 0), ("two", 0))
        for _ in range(6)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_clips_are_judged_by_heads_that_knew_nothing_of_them(faces):
    left = {name: np.arange(len(faces)) + 1000.0 * i for i, name in enumerate(("one", "two"))}
    table = clip_table(faces, left, {})
    assert len(table) == 2 * (24 + 12) and set(table["method"]) == {"one", "two"}
    for row in table.itertuples():
        rows = np.flatnonzero(faces["path"] == row.path)
        np.testing.assert_array_equal(row.logits, left[row.method][rows])
        assert row.person == row.path.split("-")[0] and row.target == ("real" not in row.path)
    assert table.groupby("person")["fold"].nunique().eq(1).all()


def test_a_rule_that_sees_what_others_do_not_wins(faces):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, len(faces))
    first = ~faces.duplicated("path").to_numpy()
    logits[first] += 6 * faces["target"].to_numpy()[first]  # one frame of each fake clip
    table = clip_table(faces, {"one": logits, "two": logits}, {})
    results = compare_pooling(table, rounds=40)
    assert max(results, key=lambda name: results[name]["all"]) == "highest logit"
    best = results["highest logit"]
    assert best["gain"].value > 0 and best["best"] > 0.5
    assert results["mean of logits"]["gain"].value == 0
    own = table[table["method"] == "one"]
    auc = roc_auc_score(own["target"], [x.max() for x in own["logits"]])
    assert best["all"] == pytest.approx(auc, abs=0.02)


def test_kinds_and_classes_count_alike():
    target, kind = np.array([0, 0, 0, 1, 1, 1, 1]), np.array(list("aabcccd"))
    weight = alike(target, kind)
    assert weight.tolist() == [0.25, 0.25, 0.5, *[1 / 6] * 3, 0.5]


def test_the_rule_of_the_fusion_is_the_one_that_is_measured():
    evidence = Evidence(1.0, 0.0, -9.0, 9.0, 1, 1)
    fusion = Fusion(evidence, evidence, clip_scores.SHARES, {})
    face, voice = np.array([-1.0, 0.5, 2.0]), np.array([0.3, -2.0, 1.0])
    expected = [fusion.log_ratio(f, v) for f, v in zip(face, voice, strict=True)]
    np.testing.assert_allclose(np.log(mixture(face, voice)), expected)


def test_a_fake_in_either_is_found_by_rules_that_look_at_both():
    rng = np.random.default_rng(0)
    parts = []
    for kind in "ab":
        target = np.repeat([0, 1], 30)
        ratio = rng.normal(2.0 * target - 1, 0.7)
        units = [f"{kind}{i}" for i in range(60)]
        parts.append(pd.DataFrame({"target": target, "kind": kind, "unit": units,
                                   "logit": ratio, "ratio": ratio}))  # fmt: skip
    table = pd.concat(parts)
    results = compare_joining(table, table, rounds=5)
    rule = results["mean over the three cases"]
    assert results["face alone"]["voice"].value == pytest.approx(0.5, abs=0.05)
    assert min(rule[case].value for case in ("face", "voice", "both")) > 0.85
    assert rule["mean"].value > max(results[n]["mean"].value for n in ("face alone", "voice alone"))
    assert rule["mean"].low <= rule["mean"].value <= rule["mean"].high


def test_the_report_has_every_rule(faces):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, len(faces))
    table = clip_table(faces, {"one": logits, "two": logits}, {})
    evidence = Evidence(1.0, 0.0, -9.0, 9.0, 1, 1)
    pooling = compare_pooling(table, rounds=3)
    clips = table.assign(kind=table["method"], unit=table["person"],
                         logit=[x.mean() for x in table["logits"]])  # fmt: skip
    clips["ratio"] = clips["logit"]
    joining = compare_joining(clips, clips, rounds=2)
    cost = {"face alone": {"all": 0.5, "heads": 0.5, "swaps": 0.5}}
    fusion = Fusion(evidence, evidence, clip_scores.SHARES, {})
    text = report("command", pooling, joining, cost, fusion)
    for name in (*clip_scores.POOLING, *clip_scores.JOINING):
        assert f"| {name} |" in text
    json.dumps([pooling, joining], default=lambda x: x.__dict__)
