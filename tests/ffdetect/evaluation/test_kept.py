"""What is kept is computed once, and never taken for what depends on something else."""

from __future__ import annotations

import numpy as np
import pytest

from ffdetect.evaluation.kept import Store, digest


def never() -> np.ndarray:
    raise AssertionError("computed again")


@pytest.mark.parametrize("values", [np.array([0.25, 0.5], np.float32), np.zeros((0, 3), int)])
def test_an_array_is_computed_once(tmp_path, values):
    store = Store(tmp_path / "new", weights="ab", faces=[1, 2])
    for compute in (lambda: values, never):
        found = store.array("scores", compute, condition="WebP 90")
        assert found.dtype == values.dtype and found.tolist() == values.tolist()
    again = Store(tmp_path / "new", faces=[1, 2], weights="ab")  # of another process
    again.array("scores", never, condition="WebP 90")
    assert [file.name for file in (tmp_path / "new").iterdir()] == [
        store.file("scores", condition="WebP 90").name
    ]


def test_what_depends_on_something_else_is_computed_anew(tmp_path):
    made = {"weights": "ab", "seed": 0, "settings": {"size": 256}}
    Store(tmp_path, **made).array("scores", lambda: np.zeros(2), condition="blur 1")
    others = [
        ({**made, "weights": "cd"}, "blur 1"),
        ({**made, "seed": 1}, "blur 1"),
        ({**made, "settings": {"size": 128}}, "blur 1"),
        (made, "blur 2"),
    ]
    for number, (other, condition) in enumerate(others, 1):
        found = Store(tmp_path, **other).array(
            "scores", lambda n=number: np.full(2, n), condition=condition
        )
        assert found.tolist() == [number] * 2
    kept = Store(tmp_path, **made).array("scores", never, condition="blur 1")
    assert kept.tolist() == [0, 0]


def test_a_failed_computation_keeps_nothing(tmp_path):
    with pytest.raises(AssertionError):
        Store(tmp_path / "new").array("scores", never)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04broken", "pickled"])
def test_a_damaged_file_is_computed_again_and_nothing_is_unpickled(tmp_path, content):
    store = Store(tmp_path)
    file = store.file("scores")
    if content == "pickled":
        np.savez(file, array=np.array([print], object))
    else:
        file.write_bytes(content)
    assert store.array("scores", lambda: np.ones(1)).tolist() == [1]
    assert store.array("scores", never).tolist() == [1]


def test_the_order_of_names_makes_no_difference():
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert len({digest(made) for made in ([1, 2], [2, 1], ["1", 2], {"a": [1, 2]})}) == 4
