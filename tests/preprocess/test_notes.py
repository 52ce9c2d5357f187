"""What was damaged in a file is said where its rows are counted."""

from __future__ import annotations

import json

from preprocess import crop, sound
from tests.preprocess.media import damage, small_photo, write

from .sounds import buzz, write_sound


def test_of_a_clip(astronaut, tmp_path, capsys):
    face = small_photo(astronaut, 160, 200)
    whole = write(tmp_path / "whole.avi", [face] * 20, "mpeg4")
    (tmp_path / "data" / "real").mkdir(parents=True)
    damage(whole, tmp_path / "data" / "real" / "bad.avi", [7, 8])
    report = tmp_path / "report.json"
    arguments = [
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "cache"),
        "--workers",
        "0",
        "--frames",
        "2",
        "--maps",
        "none",
        "--report",
        str(report),
    ]
    assert crop.main(arguments) == 0
    line = "2 damaged packets of pictures skipped"
    assert json.loads(report.read_text())["notes"] == {"real/bad.avi": [line]}
    assert f"noted     1, first real/bad.avi: {line}" in capsys.readouterr().out.splitlines()


def test_of_sound(tmp_path, capsys):
    whole = write_sound(tmp_path / "whole.m4a", buzz(4.0))
    (tmp_path / "data" / "fake").mkdir(parents=True)
    damage(whole, tmp_path / "data" / "fake" / "bad.m4a", [3], "audio")
    report = tmp_path / "report.json"
    arguments = [
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "cache"),
        "--workers",
        "0",
        "--report",
        str(report),
    ]
    assert sound.main(arguments) == 0
    line = "1 damaged packet of sound skipped"
    assert json.loads(report.read_text())["notes"] == {"fake/bad.m4a": [line]}
    assert f"noted     1, first fake/bad.m4a: {line}" in capsys.readouterr().out.splitlines()
