"""What benchmarks share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from benchmarks._harness import (
    KEPT,
    RESULTS,
    Parser,
    cache_digest,
    in_fresh_process,
    save_result,
    weights_digest,
)
from preprocess.cache.reader import CacheReader

from ..ffdetect.helpers import write_cache


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


def test_a_fresh_process_has_its_own_environment(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert in_fresh_process(os.getenv, "OMP_NUM_THREADS", OMP_NUM_THREADS="3") == "3"
    assert in_fresh_process(os.getpid) != os.getpid()
    assert "OMP_NUM_THREADS" not in os.environ
