"""The benchmark of the fusion, on scores made up so that the answer is known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import clip_scores
from benchmarks.clip_pooling import (
    choose_elsewhere,
    clip_table,
    compare_gathering,
    compare_pooling,
)
from benchmarks.clip_scores import alike, compare_joining, mixture, report
from ffdetect.scoring.fusion import Evidence, Fusion


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


def test_the_report_has_every_rule(clip_frames):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, len(clip_frames))
    table = clip_table(clip_frames, {"one": logits, "two": logits}, {})
    evidence = Evidence(1.0, 0.0, -9.0, 9.0, 1, 1)
    pooling = compare_pooling(table, rounds=3)
    clips = table.assign(kind=table["method"], unit=table["person"],
                         logit=[x.mean() for x in table["logits"]])  # fmt: skip
    clips["ratio"] = clips["logit"]
    joining = compare_joining(clips, clips, rounds=2)
    cost = {"face alone": {"all": 0.5, "heads": 0.5, "swaps": 0.5}}
    fusion = Fusion(evidence, evidence, clip_scores.SHARES, {})
    chosen, gathering = choose_elsewhere(table), compare_gathering(clips)
    text = report("command", pooling, chosen, gathering, joining, cost, fusion)
    for name in (*pooling, *gathering, *clip_scores.JOINING):
        assert f"| {name} |" in text
    json.dumps([pooling, chosen, gathering, joining], default=lambda x: x.__dict__)
