"""benchmarks.speed.largest_face: both searches side by side, and what they differ in is seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed import largest_face
from preprocess.faces.face import Face

PORTRAITS = Path(__file__).parents[3] / "examples/portraits"


def test_both_searches_find_the_same_in_portraits_and_groups(tmp_path):
    out, sheet = tmp_path / "found", tmp_path / "sheet.png"
    arguments = [PORTRAITS, "--pictures", 3, "--groups", 2, "--sheet", sheet, "--out", out]
    assert largest_face.main(list(map(str, arguments))) == 0
    results = json.loads(out.with_suffix(".json").read_text("utf-8"))["results"]
    assert {kind: found["pictures"] for kind, found in results.items()} == {
        "single": 3,
        "several": 2,
        "two alike": 2,
        "false beside true": 2,
    }
    assert results["single"]["same"] == results["single"]["equal boxes"] == 1
    assert results["single"]["with a face"] == 3
    assert "| several | 2 |" in out.with_suffix(".md").read_text("utf-8")
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_what_differs_is_counted_by_how_much():
    def face(side: float, left: float = 0) -> Face:
        box = np.array([left, 0, left + side, side], np.float32)
        return Face(box, np.zeros((5, 2), np.float32), 1.0)

    look = largest_face.Look(None, [face(100)], face(100), 2.0, 1.0)
    looks = [
        look,
        replace(look, fast=face(99, left=500)),  # another, of its size
        replace(look, fast=face(50, left=500)),
        replace(look, fast=face(150)),  # of the same place
        replace(look, fast=None),
        replace(look, faces=[], fast=None),
    ]
    found = largest_face.summary(looks)
    assert found["same"] == pytest.approx(2 / 6)
    assert found["same or as large"] == pytest.approx(3 / 6)
    assert (found["missed"], found["smaller"], found["larger"]) == (1, 2, 1)
    assert found["equal boxes"] == 1 and found["ratio"] == 2


def test_a_folder_without_pictures_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        largest_face.main([str(tmp_path)])
    assert "expected .jpg files" in capsys.readouterr().err
