"""Nothing that a fold tests, and nothing tied to it, is trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ffdetect.evaluation.matching import matched_rows
from ffdetect.evaluation.splits import Rows, check_fold, deal, group_folds, inner_folds, outer_folds

SHARED = Path(__file__).parents[4] / "shared"


def faces() -> pd.DataFrame:
    """Five families, of which one swaps faces of a source of its own, and six other sources."""
    rng = np.random.default_rng(0)
    fakes = {"gan": 40, "flux": 30, "gpt": 25, "grok": 12, "swap": 60}
    reals = {f"photos{number}": 20 + 5 * number for number in range(6)} | {"video": 50}
    names = np.repeat([*fakes, *reals], [*fakes.values(), *reals.values()])
    frame = pd.DataFrame({"family": names, "source": names})
    frame["target"] = np.isin(names, list(fakes)).astype(int)
    frame["group"] = [f"{name}/{i}" for i, name in enumerate(names)]
    frame.loc[frame.family.isin(["swap", "video"]), "group"] = rng.choice(30, 110).astype(str)
    frame.loc[[3, 45, 180], "group"] = "one photo"  # of gan, flux and a real source
    frame.loc[frame.family == "grok", "group"] = None
    return frame.sample(frac=1, random_state=0, ignore_index=True)


def voices() -> pd.DataFrame:
    """Sources with both classes, with reals alone, with fakes alone; speakers recur."""
    rng = np.random.default_rng(1)
    parts = []
    for number in range(14):
        target = [0] * 6 * (number not in (0, 1)) + [1] * 8 * (number < 10)
        parts.append(pd.DataFrame({"source": f"s{number}", "target": target}))
    frame = pd.concat(parts, ignore_index=True)
    frame["speaker"] = rng.choice(
        ["", "anna", "ben", "cora"], len(frame), p=[0.9, 0.04, 0.04, 0.02]
    )
    return frame.sample(frac=1, random_state=0, ignore_index=True)


def face_rows(frame: pd.DataFrame) -> Rows:
    return Rows.from_frame(frame, pairs={"swap": ["video"]})


@pytest.mark.parametrize("count", [None, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_families_and_sources_are_left_out_together(seed, count):
    frame = faces()
    rows = face_rows(frame)
    folds = outer_folds(rows, seed, count)
    assert len(folds) == (count or 5)
    tested = pd.concat([frame.iloc[fold.test] for fold in folds])
    assert (tested[tested.target == 1].index.value_counts() == 1).all()  # each fake once
    assert set(tested[tested.target == 1].index) == set(frame.index[frame.target == 1])
    for fold in folds:
        train, test = frame.iloc[fold.train], frame.iloc[fold.test]
        assert not set(train.family) & set(test.family)
        assert not set(train.group.dropna()) & set(test.group.dropna())
        assert set(train.target) == set(test.target) == {0, 1}
        free = set(test[test.target == 0].source) - {"video"}
        assert len(free) == 2  # a third of six
        assert ("video" in set(test.source)) == ("swap" in set(test.family))
        check_fold(rows, fold)


def test_parts_of_the_real_sources_take_turns():
    used = [s for fold in outer_folds(face_rows(faces())) for s in fold.sources if s != "video"]
    counts = pd.Series(used).value_counts()
    assert len(counts) == 6 and counts.max() - counts.min() <= 1


def test_every_family_meets_every_part_of_the_real_sources():
    rows, met = face_rows(faces()), {}
    for fold in outer_folds(rows, turns=3):
        check_fold(rows, fold)
        met.setdefault(fold.name, []).append(set(fold.sources) - {"video"})
    assert len(met) == 5
    for parts in met.values():
        assert [len(part) for part in parts] == [2, 2, 2] and len(set().union(*parts)) == 6


def test_the_seed_draws_which_sources_meet_which_family():
    rows = face_rows(faces())
    drawn = {tuple(fold.sources for fold in outer_folds(rows, seed)) for seed in range(6)}
    assert len(drawn) > 3
    again, first = outer_folds(rows, 4), outer_folds(rows, 4)
    for left, right in zip(again, first, strict=True):
        np.testing.assert_array_equal(left.train, right.train)
        np.testing.assert_array_equal(left.test, right.test)


def test_only_what_is_tied_to_the_test_is_dropped_from_training():
    frame = faces()
    for fold in outer_folds(face_rows(frame)):
        test = frame.iloc[fold.test]
        kept = ~frame.group.isin(test.group.dropna()) | frame.group.isna()
        kept &= ~frame.index.isin(fold.test)
        kept &= ~((frame.family == "swap") & ("video" in set(test.source)))
        assert fold.train.tolist() == np.flatnonzero(kept).tolist()


def test_fakes_do_not_train_without_the_reals_they_were_made_of():
    frame = faces()
    frame.loc[frame.family == "gpt", "family"] = "reenactment"  # of the same videos, other groups
    pairs = {"swap": ["video"], "reenactment": ["video"]}
    for fold in outer_folds(Rows.from_frame(frame, pairs=pairs)):
        if "video" in fold.sources:
            assert not set(frame.family[fold.train]) & set(pairs)
            assert set(fold.families) >= set(pairs)


def test_inner_folds_never_leave_the_training_rows():
    rows = face_rows(faces())
    for fold in outer_folds(rows):
        inside = inner_folds(rows, fold, parts=2)
        assert {name for f in inside for name in f.families} == set(
            rows.take(fold.train).families()
        )
        for inner in inside:
            assert np.isin(np.concatenate([inner.train, inner.test]), fold.train).all()
            assert not set(rows.unit[inner.train].tolist()) & set(rows.unit[inner.test].tolist())
            check_fold(rows, inner)


@pytest.mark.parametrize("count", [3, 5])
def test_a_source_of_voices_is_on_one_side_with_all_its_speakers(count):
    frame = voices()
    rows = Rows.from_frame(frame, fake="source", real="source", ties=["speaker"])
    folds = outer_folds(rows, count=count)
    tested = set()
    for fold in folds:
        train, test = frame.iloc[fold.train], frame.iloc[fold.test]
        assert not set(train.source) & set(test.source)
        assert not (set(train.speaker) & set(test.speaker)) - {""}
        tested |= set(test.source)
        own = test[test.source.isin(test[test.target == 1].source)]
        assert (own.groupby("source").target.nunique() == 2).sum() == own.source.nunique() - sum(
            name in ("s0", "s1") for name in own.source.unique()
        )
    assert tested == set(frame.source)


def test_each_family_is_matched_with_its_own_reals():
    rows = face_rows(faces())
    chosen = matched_rows(rows.unit, rows.target, rows.matches())
    assert set(rows.unit[chosen["swap"]].tolist()) == {"swap", "video"}
    assert "video" not in rows.unit[chosen["gan"]]
    voice = Rows.from_frame(voices(), fake="source", real="source", ties=["speaker"])
    chosen = matched_rows(voice.unit, voice.target, voice.matches())
    assert set(voice.unit[chosen["s5"]].tolist()) == {"s5"}
    assert set(voice.unit[chosen["s0"]].tolist()) == {"s0", "s10", "s11", "s12", "s13"}


def test_swaps_of_unseen_videos():
    frame = faces()
    rows = face_rows(frame)
    tested = []
    for fold in group_folds(rows, ["swap"], 3):
        train, test = frame.iloc[fold.train], frame.iloc[fold.test]
        assert set(test.family) == {"swap", "video"} and set(train.family) == set(frame.family)
        assert not set(train.group.dropna()) & set(test.group.dropna())
        assert len(train) + len(test) == len(frame)
        check_fold(rows, fold)
        tested += fold.test.tolist()
    assert sorted(tested) == np.flatnonzero(frame.family.isin(["swap", "video"])).tolist()


def test_rows_without_a_label_take_no_part():
    frame = faces()
    frame.loc[::7, "target"] = -1
    for fold in outer_folds(face_rows(frame)):
        assert (frame.target[np.concatenate([fold.train, fold.test])] >= 0).all()


def test_names_are_dealt_alike_in_number_and_size():
    sizes = [1000, 300, 220, 190, 180, 170, 90, 80, 80, 60]
    names = [str(i) for i in range(10)]
    dealt = deal(names, sizes, 3, np.random.default_rng(0))
    assert sorted(len(part) for part in dealt) == [3, 3, 4]
    assert sorted(np.concatenate(dealt)) == names
    for few in (sizes[:3], sizes[3:6], sizes[6:9]):  # one of each round everywhere
        assert all(sum(sizes[int(n)] in few for n in part) >= 1 for part in dealt)


def test_a_leak_planted_in_a_fold_is_found():
    frame = faces()
    rows = face_rows(frame)
    fold = outer_folds(rows)[0]
    for planted in (
        fold.test[:1],  # the row itself
        np.flatnonzero(frame.family == fold.families[0])[-1:],  # a fake of the family
        np.flatnonzero(frame.source == fold.sources[0])[-1:],
    ):
        leaking = replace(fold, train=np.union1d(fold.train, planted))
        with pytest.raises(ValueError, match=r"expected .* on one side but got"):
            check_fold(rows, leaking)
    frame.loc[fold.train[0], "group"] = frame.loc[fold.test[0], "group"] = "the same person"
    with pytest.raises(ValueError, match=r"tie 0 on one side but got \['the same person'\]"):
        check_fold(face_rows(frame), fold)


def test_what_cannot_be_split_is_refused():
    frame = faces()
    with pytest.raises(ValueError, match="expected 2 folds or more"):
        outer_folds(face_rows(frame), count=6)
    with pytest.raises(ValueError, match=r"expected 3 unpaired real sources or more but got"):
        outer_folds(face_rows(frame[~frame.source.isin([f"photos{i}" for i in range(4)])]))
    with pytest.raises(ValueError, match=r"reals of \['nowhere'\] for swap but got none"):
        Rows.from_frame(frame, pairs={"swap": ["nowhere"]})
    with pytest.raises(ValueError, match="expected as many values"):
        Rows(np.array(["a"]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"expected a family of fakes .* but 12 have none"):
        Rows.from_frame(frame.assign(family=frame.family.replace("grok", None)))
    with pytest.raises(ValueError, match="expected 99 groups or more"):
        group_folds(face_rows(frame), ["swap"], 99)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared faces are not here")
def test_real_manifests_split_cleanly():
    frame = pd.read_csv(SHARED / "faces" / "manifest.csv")
    frame["source"] = frame.generator
    pairs = {"dfdc_swap": ["dfdc"], "inswapper": ["ffhq256"]}
    pictures = Rows.from_frame(frame, pairs=pairs)
    av = pd.read_csv(SHARED / "av" / "manifest.csv")
    speech = av[av.path.str.startswith("speech/")]
    voice = Rows.from_frame(speech, "source", "source", ["group", "speaker"])
    for rows, count in ((pictures, 4), (voice, 3)):
        for fold in outer_folds(rows, count=count):
            check_fold(rows, fold)
            for inner in inner_folds(rows, fold, count=2):
                check_fold(rows, inner)
                assert np.isin(np.r_[inner.train, inner.test], fold.train).all()
