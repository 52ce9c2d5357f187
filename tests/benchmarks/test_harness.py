"""What a benchmark keeps is computed once, and never taken for what depends on something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks._harness import (
    KEPT,
    RESULTS,
    Parser,
    Store,
    cache_digest,
    digest,
    save_result,
    weights_digest,
)
from preprocess.cache.reader import CacheReader

from ..ffdetect.helpers import write_cache


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


def test_a_cache_is_told_by_its_faces_labels_and_settings(tmp_path):
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (3, 128, 128, 3), np.uint8)
    rows = [{"target": i % 2, "crop": crop} for i, crop in enumerate(crops)]
    first = write_cache(tmp_path / "a", rows, 128)
    assert cache_digest(first) == cache_digest(CacheReader(first.paths))
    changed = [
        write_cache(tmp_path / "b", rows[:2], 128),
        write_cache(tmp_path / "c", [{**rows[0], "target": 1}, *rows[1:]], 128),
        write_cache(tmp_path / "d", [{**rows[0], "crop": crops[1]}, *rows[1:]], 128),
    ]
    assert len({cache_digest(reader) for reader in (first, *changed)}) == 4


def test_weights_are_told_by_their_bytes(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    one, same, other = (weights_digest(tmp_path / name) for name in "abc")
    assert one == same != other != weights_digest(None)


def test_the_order_of_names_makes_no_difference():
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": [2, 3], "a": 1})
    assert len({digest(made) for made in ([1, 2], [2, 1], ["1", 2], {"a": [1, 2]})}) == 4


def test_arguments_follow_the_docstring():
    parser = Parser("python -m benchmarks.speed CACHE: how fast?\n\nMore.")
    parser.add_cache()
    parser.add_out()
    parser.add_kept()
    args = parser.parse_args(["a b", "--weights", "w"])
    assert (args.cache, args.weights) == (Path("a b"), Path("w"))
    assert (args.out, args.kept) == (RESULTS / "speed", KEPT)
    assert parser.command(["a b", "--weights", "w"]) == (
        "python -m benchmarks.speed 'a b' --weights w"
    )
    assert Parser("python -m benchmarks.speed: how fast?").command([]) == (
        "python -m benchmarks.speed"
    )


def test_a_result_says_how_it_was_made(tmp_path, capsys):
    save_result(tmp_path / "new" / "speed.v2", "python -m x", {"faces": 3}, "| a |")
    values = json.loads((tmp_path / "new" / "speed.v2.json").read_text("utf-8"))
    assert values == {"command": "python -m x", "faces": 3}
    text = (tmp_path / "new" / "speed.v2.md").read_text("utf-8")
    assert text == "`python -m x`\n\n| a |\n" == capsys.readouterr().out
