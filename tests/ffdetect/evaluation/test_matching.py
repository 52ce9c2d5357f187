"""Fakes are judged by reals of their kind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ffdetect.evaluation.matching import matched_rows, parse_matches, spread


def test_matches_are_read_from_arguments():
    assert parse_matches([]) == {}
    given = parse_matches(["swap=video", "gan=photo,portrait"])
    assert given == {"swap": ("video",), "gan": ("photo", "portrait")}
    for wrong in ("swap", "swap=", "=video", ""):
        with pytest.raises(ValueError, match=rf"expected --match FAKE=REAL.* but got '{wrong}'"):
            parse_matches(["gan=photo", wrong])


def test_sources_are_kept_for_the_generators_that_name_them():
    generator = np.array(["video", "photo", "gan", "swap", "video", "swap", "unnamed", "old"])
    target = np.array([0, 0, 1, 1, 0, 1, 0, 1])
    rows = {name: r.tolist() for name, r in matched_rows(generator, target, {}).items()}
    assert rows == {"gan": [0, 1, 2, 4, 6], "old": [0, 1, 4, 6, 7], "swap": [0, 1, 3, 4, 5, 6]}
    matches = {"swap": ("video",), "old": ("photo", "video")}
    rows = {name: r.tolist() for name, r in matched_rows(generator, target, matches).items()}
    assert rows == {"gan": [2, 6], "old": [0, 1, 4, 7], "swap": [0, 3, 4, 5]}
    assert list(rows) == sorted(rows)


def test_faces_without_a_label_and_names_of_the_other_class_take_no_part():
    generator = np.array(["photo", "gan", "gan", "photo", "gan", "", ""])
    target = np.array([0, 1, -1, -1, 0, 1, 0])
    rows = {name: r.tolist() for name, r in matched_rows(generator, target, {}).items()}
    assert rows == {"": [0, 4, 5, 6], "gan": [0, 1, 4, 6]}  # a real may be named like a fake
    assert matched_rows(generator, target, {"gan": ("nothing",)})["gan"].tolist() == [1]
    assert matched_rows(generator[:1], target[:1], {}) == {}


def test_names_may_come_from_any_column():
    names, target = ["photo", "gan", "gan2"], np.array([0, 1, 1])
    for column in (pd.Series(names), pd.Series(names, dtype="category"), np.array(names, object)):
        rows = matched_rows(
            column.to_numpy() if hasattr(column, "to_numpy") else column,
            target,
            {"gan": ("photo",)},
        )
        assert {name: r.tolist() for name, r in rows.items()} == {"gan": [0, 1], "gan2": [2]}
        assert all(type(name) is str for name in rows)


def test_rows_are_spread_evenly_over_each_generator_from_first_to_last():
    names = np.array(["gan", "photo", "photo"])[np.arange(30) % 3]
    rows = np.delete(np.arange(30), 4)
    kept = spread(pd.DataFrame({"generator": names}), rows, 4)
    assert kept.tolist() == sorted(kept) and set(kept) <= set(rows)
    for name in ("gan", "photo"):
        own, chosen = rows[names[rows] == name], kept[names[kept] == name]
        assert len(chosen) == 4 and {own[0], own[-1]} <= set(chosen)
        assert np.ptp(np.diff(np.flatnonzero(np.isin(own, chosen)))) <= 1
    assert spread(pd.DataFrame({"generator": names}), rows, 99).tolist() == rows.tolist()
