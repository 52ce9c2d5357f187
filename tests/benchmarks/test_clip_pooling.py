"""The benchmark of pooling, on scores made up so that the answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.clip_pooling import (
    choose_elsewhere,
    clip_table,
    compare_gathering,
    compare_pooling,
    people,
)


def one_frame_tells(frames: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Logits by which only the first frame of a fake clip is told, and which frames are first."""
    logits = np.random.default_rng(0).normal(0, 1, len(frames))
    first = ~frames.duplicated("path").to_numpy()
    logits[first] += 6 * frames["target"].to_numpy()[first]
    return logits, first


def test_a_person_is_in_one_fold_whatever_the_source(clip_frames):
    faces = clip_frames.assign(
        group=[
            f"{'set' if kind == 'real' else kind}/{group.rsplit('/', 1)[1]}"
            for kind, group in zip(clip_frames["generator"], clip_frames["group"], strict=True)
        ]
    )
    fold = people(faces, 3)
    assert sorted(set(fold)) == [0, 1, 2]
    person = faces["group"].str.split("/").str[1]
    assert (pd.Series(fold).groupby(person).nunique() == 1).all()


def test_clips_are_judged_by_heads_that_knew_nothing_of_them(clip_frames):
    left = {name: np.arange(len(clip_frames)) + 1000.0 * i for i, name in enumerate(("one", "two"))}
    table = clip_table(clip_frames, left, {})
    assert len(table) == 2 * (24 + 12) and set(table["method"]) == {"one", "two"}
    for row in table.itertuples():
        rows = np.flatnonzero(clip_frames["path"] == row.path)
        np.testing.assert_array_equal(row.logits, left[row.method][rows])
        assert row.person == row.path.split("-")[0] and row.target == ("real" not in row.path)
    assert table.groupby("person")["fold"].nunique().eq(1).all()


def test_a_rule_that_sees_what_others_do_not_wins(clip_frames):
    logits, _ = one_frame_tells(clip_frames)
    table = clip_table(clip_frames, {"one": logits, "two": logits}, {})
    results = compare_pooling(table, rounds=40)
    assert max(results, key=lambda name: results[name]["all"]) == "highest logit"
    best = results["highest logit"]
    assert best["gain"].value > 0 and best["best"] > 0.5
    assert results["mean of logits"]["gain"].value == 0
    own = table[table["method"] == "one"]
    auc = roc_auc_score(own["target"], [x.max() for x in own["logits"]])
    assert best["all"] == pytest.approx(auc, abs=0.02)


def test_a_rule_is_chosen_on_other_people_than_it_is_judged_on(clip_frames):
    logits, first = one_frame_tells(clip_frames)
    table = clip_table(clip_frames, {"one": logits, "two": logits}, {})
    chosen = choose_elsewhere(table)
    assert chosen.rules == ("highest logit",) * 4 and chosen.auc > chosen.trimmed
    # Where the frame that tells is a real one's in one fold, that fold's choice fails on it.
    turned = logits.copy()
    own = table.loc[table["fold"] == 0, "path"].unique()
    turned[first & clip_frames["path"].isin(own).to_numpy()] *= -1
    table = clip_table(clip_frames, {"one": turned, "two": turned}, {})
    assert choose_elsewhere(table).rules[0] == "highest logit"
    assert choose_elsewhere(table).auc < chosen.auc - 0.1


def test_one_fake_among_several_people_is_harder_to_find_by_a_sum(clip_frames):
    nothing = np.zeros(len(clip_frames))
    table = clip_table(clip_frames, {"one": nothing, "two": nothing}, {})
    rng = np.random.default_rng(0)
    table["ratio"] = rng.normal(0, 1, len(table)) + 3 * table["target"]
    found = compare_gathering(table)
    assert all(values[2] > values[4] > 0.5 for values in found.values())
    assert found["mean of ratios"][4] > found["product of ratios"][4]
