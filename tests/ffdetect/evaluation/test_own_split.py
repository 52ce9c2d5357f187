"""Which rows of a cache train and which validate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ffdetect.evaluation.splits import split_rows


def table(**columns) -> pd.DataFrame:
    values = {"target": 0, "split": "", "group": "", "generator": "", **columns}
    return pd.DataFrame(values)


def test_a_split_column_decides():
    metadata = table(
        target=[0, 1, 0, 1, 0, 1, -1, -1],
        split=["train", "train", "dev", "test", "", "", "train", "dev"],
        group=list("aabbccdd"),
    )
    train, val = split_rows(metadata)
    assert train.tolist() == [0, 1, 4, 5]
    assert val.tolist() == [2, 3]
    train, val = split_rows(metadata, fit_all=True)
    assert train.tolist() == [0, 1, 2, 3, 4, 5]
    assert val.tolist() == [2, 3]


def test_a_split_is_the_same_however_it_is_written_and_others_are_errors():
    plain = table(target=[0, 1, 0, 1], split=["train", "train", "dev", "dev"], group=list("abcd"))
    written = plain.assign(split=[" train", "Train ", "val", "validation"])
    for one, other in zip(split_rows(written), split_rows(plain), strict=True):
        assert one.tolist() == other.tolist()
    with pytest.raises(ValueError, match=r"expected splits .* but got 'tran' \(2 rows\)"):
        split_rows(plain.assign(split=["tran", "tran", "dev", ""]))


@pytest.mark.parametrize("split", ["", "train"])
def test_without_a_split_a_tenth_of_the_groups_is_held_out(split):
    groups = [f"video {number // 4}" for number in range(4000)]
    targets = np.tile([0, 1, 1, -1], 1000)
    metadata = table(target=targets, group=groups, split=split)
    train, val = split_rows(metadata)
    assert not set(train) & set(val)
    assert sorted([*train, *val]) == np.flatnonzero(targets >= 0).tolist()
    names = np.array(groups)
    assert not set(names[train]) & set(names[val])
    assert 0.05 < len(val) / 3000 < 0.15
    # The side depends on the group's name alone, so twins in another cache share it.
    shuffled = metadata.sample(frac=0.5, random_state=0)
    again = shuffled.iloc[split_rows(shuffled)[1]]
    assert set(again.index) <= set(val) and len(again) > 0


def test_a_dev_split_without_labels_does_not_count_as_one():
    metadata = table(target=[0, 1, -1], split=["train", "train", "dev"], group=["a", "b", "c"])
    train, val = split_rows(metadata)
    assert sorted([*train, *val]) == [0, 1]


def chosen(metadata: pd.DataFrame, rows: np.ndarray) -> list[str]:
    return metadata["generator"].iloc[rows].tolist()


@pytest.fixture
def collected() -> pd.DataFrame:
    """Whole-face generators of both splits, and a swap whose videos are real faces too."""
    rows = [
        ("ffhq", 0, "train", "p1"),
        ("video", 0, "train", "v1"),
        ("swap", 1, "train", "v1"),
        ("gan", 1, "train", "gan"),
        ("ffhq", 0, "dev", "p2"),
        ("video", 0, "dev", "v2"),
        ("swap", 1, "dev", "v2"),
        ("swap", 1, "dev", "v3"),
        ("sd", 1, "dev", "sd"),
        ("sd", 1, "dev", "sd"),
        ("sdxl", -1, "dev", "sd"),
    ]
    return pd.DataFrame(rows, columns=["generator", "target", "split", "group"])


def test_left_out_names_neither_train_nor_validate(collected):
    train, val = split_rows(collected, without=["gan", "video"])
    assert chosen(collected, train) == ["ffhq", "swap"]
    assert chosen(collected, val) == ["ffhq", "swap", "swap", "sd", "sd"]
    train, val = split_rows(collected, fit_all=True, without=["sd"])
    assert len(train) == 8 and "sd" not in chosen(collected, train)
    assert chosen(collected, val) == ["ffhq", "video", "swap", "swap"]


@pytest.mark.parametrize("split", ["label", "hash"])
def test_leaving_names_out_moves_no_other_row_to_the_other_side(collected, split):
    if split == "hash":
        names = np.array(["ffhq", "gan", "sd"])[np.arange(900) % 3]
        collected = table(
            target=np.isin(names, ["gan", "sd"]).astype(int),
            generator=names,
            group=[f"group {number // 3}" for number in range(900)],
        )
    kept = np.flatnonzero(collected["generator"] != "sd")
    for options in ({}, {"fit_fakes": True}, {"fit_all": True}):
        whole, without = (split_rows(collected, **options, without=w) for w in ((), ["sd"]))
        for rows, fewer in zip(whole, without, strict=True):
            assert fewer.tolist() == [row for row in rows if row in kept]


def test_leaving_out_all_that_was_held_out_holds_no_other_rows_out():
    groups = [f"group {number}" for number in range(200)]
    metadata = table(
        target=[0, 1] * 100, generator=["ffhq", "gan"] * 100, group=groups, split="train"
    )
    metadata.loc[198:, ["split", "generator"]] = ["dev", "unseen"]
    train, val = split_rows(metadata, without=["unseen"])
    assert len(train) == 198 and len(val) == 0


def test_fakes_of_every_split_train_but_no_held_out_real_or_swap(collected):
    train, val = split_rows(collected, fit_fakes=True)
    assert chosen(collected, train) == ["ffhq", "video", "swap", "gan", "sd", "sd"]
    assert collected["split"].iloc[train].tolist() == ["train"] * 4 + ["dev"] * 2
    assert val.tolist() == split_rows(collected)[1].tolist()
    train, val = split_rows(collected, fit_fakes=True, without=["sd"])
    assert chosen(collected, train) == ["ffhq", "video", "swap", "gan"]
    assert "sd" not in chosen(collected, val)
    # A swap's real face may be missing from the cache: all its held-out fakes stay out.
    assert collected["group"].iloc[7] == "v3" and 7 not in train


def test_a_missing_group_ties_no_fake_to_a_real():
    metadata = table(target=[0, 0, 1, 1], split=["train", "dev", "train", "dev"])
    assert split_rows(metadata, fit_fakes=True)[0].tolist() == [0, 2, 3]
