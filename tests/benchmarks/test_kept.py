"""Scores are computed once, and never taken for others."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.kept import digest, kept_scores


def never() -> np.ndarray:
    raise AssertionError("computed again")


def test_scores_are_computed_once(tmp_path):
    file, scores = tmp_path / "new" / "way.npz", np.array([0.25, 0.5], np.float32)
    made = {"epochs": 2, "faces": {"test": "ab"}, "models": ("a", "b")}
    for compute in (lambda: scores, never):
        kept = kept_scores(file, made, compute)
        assert kept.dtype == np.float32 and kept.tolist() == [0.25, 0.5]
    assert [found.name for found in file.parent.iterdir()] == ["way.npz"]


def test_scores_made_in_another_way_are_refused_naming_the_difference(tmp_path):
    file = tmp_path / "way.npz"
    kept_scores(file, {"epochs": 2, "faces": {"test": "ab"}}, lambda: np.zeros(2))
    with pytest.raises(ValueError, match=r"way.npz: expected .*epochs: 3, not 2"):
        kept_scores(file, {"epochs": 3, "faces": {"test": "ab"}}, never)
    with pytest.raises(ValueError, match=r"faces.test: 'cd', not 'ab'"):
        kept_scores(file, {"epochs": 2, "faces": {"test": "cd"}}, never)


def test_a_failed_computation_keeps_nothing(tmp_path):
    with pytest.raises(AssertionError):
        kept_scores(tmp_path / "way.npz", {}, never)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04broken"])
def test_damaged_scores_are_refused(tmp_path, content):
    file = tmp_path / "way.npz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"way.npz: expected kept scores but it is damaged"):
        kept_scores(file, {}, never)


def test_pickled_scores_are_not_unpickled(tmp_path):
    file = tmp_path / "way.npz"
    np.savez(file, scores=np.array([print], object), made="{}")
    with pytest.raises(ValueError, match="damaged"):
        kept_scores(file, {}, never)


def test_a_digest_depends_on_every_text_and_their_order():
    assert digest(["a", "b"]) == digest(iter(["a", "b"]))
    assert len({digest(texts) for texts in (["a", "b"], ["b", "a"], ["a"], ["ab"], [])}) == 5
