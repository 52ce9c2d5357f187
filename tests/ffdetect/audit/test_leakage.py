"""The AUC of a cue is what an independent computation gives, and groups are kept apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn judges the cues")

from ffdetect.audit.leakage import (  # noqa: E402
    FOLDS,
    FoldAuc,
    Leak,
    comparisons,
    folds,
    measure_leak,
)


def faces(target, generator="", group=None) -> pd.DataFrame:
    target = np.asarray(target)
    paths = [f"{number}.png" for number in range(len(target))]
    groups = paths if group is None else [str(name) for name in group]
    return pd.DataFrame({"path": paths, "target": target, "generator": generator, "group": groups})


def judge(features, table: pd.DataFrame, seed: int = 0) -> Leak:
    comparison = comparisons(table, {})[0]
    features = np.asarray(features, float).reshape(len(table), -1)
    return measure_leak(features, comparison, folds(comparison, seed), seed)


def test_auc_within_folds_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    target, fold = rng.integers(0, 2, 300), rng.integers(0, 3, 300)
    score = np.round(rng.normal(target, 1.5), 1)  # with ties
    score += 10 * fold  # scores of different folds do not compare
    auc = FoldAuc(target, score, fold)
    for rows in (np.arange(300), rng.integers(0, 300, 300)):
        weight = np.bincount(rows, minlength=300)
        above = pairs = 0.0
        for f in range(3):
            t, w = target[fold == f], weight[fold == f]
            count = w[t == 1].sum() * w[t == 0].sum()
            above += count * metrics.roc_auc_score(t, score[fold == f], sample_weight=w)
            pairs += count
        assert auc(rows) == pytest.approx(above / pairs, abs=1e-12)


def test_a_group_is_in_one_fold_and_classes_are_spread():
    rng = np.random.default_rng(1)
    group = rng.integers(0, 90, 600)
    target = (group % 3 == 0).astype(int)
    comparison = comparisons(faces(target, group=group), {})[0]
    fold = folds(comparison)
    assert sorted(set(fold)) == list(range(FOLDS))
    assert pd.Series(fold).groupby(group).nunique().max() == 1
    for number in range(FOLDS):
        assert target[fold == number].mean() == pytest.approx(target.mean(), abs=0.06)


def test_a_group_that_is_there_many_times_does_not_leak():
    """Noise that marks each group: a judge that had seen the group would know its label."""
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(60), 12)
    target = rng.permutation(np.arange(60) % 2)[group]
    mark = rng.normal(size=(60, 3))[group]
    apart = judge(mark, faces(target, group=group))
    assert apart.low < 0.55 and apart.value < 0.62
    assert judge(mark, faces(target)).value > 0.9  # what it would be without the groups
    # A dozen copies are no more evidence than one: the interval is that of 60 files.
    once = judge(mark[::12], faces(target[::12]))
    assert 0.5 < (apart.high - apart.low) / (once.high - once.low) < 2


def test_relations_need_not_be_monotone():
    size = np.repeat([1, 2, 3, 4], 40)
    target = np.isin(size, (2, 3)).astype(int)
    leak = judge(size, faces(target))
    assert leak.value == 1 and leak.verdict == "leaks the label"


def test_a_missing_value_tells_as_much_as_any_other():
    target = np.arange(100) % 2
    assert judge(np.where(target, np.nan, 90.0), faces(target)).value == 1


def test_what_is_the_same_everywhere_is_clean():
    target = np.arange(100) % 2
    same = np.tile([90, np.nan], (100, 1))
    assert judge(same, faces(target)) == Leak(0.5, 0.5, 0.5)


def test_a_value_that_one_file_alone_has_says_little():
    target = np.arange(100) % 2
    value = np.full(100, np.nan)
    value[3] = 90  # its fold is tested by a judge that has seen no value at all
    assert judge(value, faces(target)).verdict == "clean"


def test_noise_is_clean_and_its_interval_holds_one_half():
    rng = np.random.default_rng(3)
    target = np.arange(1000) % 2
    leak = judge(rng.normal(size=(1000, 4)), faces(target))
    assert leak.low < 0.5 < leak.high and leak.verdict == "clean"
    assert 0.05 < leak.high - leak.low < 0.1  # 4 standard errors of sqrt(1 / 6000)


@pytest.mark.parametrize(
    "low, value, high, verdict",
    [
        (0.9, 0.95, 0.99, "leaks the label"),
        (0.6, 0.65, 0.7, "weak"),
        (0.45, 0.5, 0.55, "clean"),
        (0.4, 0.6, 0.8, "unclear: too few files"),
    ],
)
def test_verdicts_follow_the_interval(low, value, high, verdict):
    assert Leak(value, low, high).verdict == verdict


def test_each_generator_is_compared_with_its_reals():
    generator = ["video", "video", "photo", "photo", "swap", "gan", "", "video"]
    target = [0, 0, 0, 0, 1, 1, -1, -1]
    table = faces(target, generator)
    rows = {c.name: c.rows.tolist() for c in comparisons(table, {})}
    assert rows == {
        "all": [0, 1, 2, 3, 4, 5],
        "gan": [0, 1, 2, 3, 5],
        "swap": [0, 1, 2, 3, 4],
    }
    rows = {c.name: c.rows.tolist() for c in comparisons(table, {"swap": ("video",)})}
    assert rows == {"all": [0, 1, 2, 3, 4, 5], "gan": [2, 3, 5], "swap": [0, 1, 4]}
    for wrong in ({"swop": ("video",)}, {"swap": ("vidio",)}):
        with pytest.raises(ValueError, match=r"expected .* but got .*(swop|vidio)"):
            comparisons(table, wrong)


def test_fakes_without_a_name_are_judged_with_all():
    table = faces([0, 1, 1], ["photo", "", "gan"])
    rows = {c.name: c.rows.tolist() for c in comparisons(table, {})}
    assert rows == {"all": [0, 1, 2], "gan": [0, 2]}


def test_small_classes_are_named_not_dropped():
    target = [0] * 50 + [1] * 40 + [1] * 9
    generator = ["real"] * 50 + ["many"] * 40 + ["few"] * 9
    found = {c.name: c for c in comparisons(faces(target, generator), {})}
    assert not found["many"].too_few and not found["all"].too_few
    assert found["few"].too_few == "9 fakes: too few for 5 folds"
    assert (found["few"].fakes, found["few"].reals) == (9, 50)


def test_a_generator_of_one_group_is_dealt_out_by_file_and_named():
    target = [0] * 50 + [1] * 40
    generator = ["photos"] * 50 + ["gan"] * 40
    group = [f"photo {i}" for i in range(50)] + ["gan"] * 40
    comparison = comparisons(faces(target, generator, group), {})[0]
    assert comparison.by_file == ("gan (fake)",) and not comparison.too_few
    assert len(set(folds(comparison)[50:])) == FOLDS


def test_frames_of_one_clip_stay_together():
    table = faces(np.repeat([0, 1], 60), group=[""] * 120)
    table["path"] = np.repeat([f"clip{i}" for i in range(30)], 4)
    comparison = comparisons(table, {})[0]
    assert len(np.unique(comparison.unit)) == 30
    assert pd.Series(folds(comparison)).groupby(table["path"]).nunique().max() == 1
