"""The race of sound against the usual loop: what runs, and what it reports."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.speed.audio import has_sound, main

from ...ffdetect.clips import write_talk
from ...preprocess.sounds import buzz, write_sound

pytest.importorskip("librosa", reason="the usual loop needs the [train] extra")


def test_both_ways_hear_the_same_files(tmp_path):
    for number in range(2):
        write_sound(tmp_path / "data" / f"{number}.flac", buzz(1.0))
    out = tmp_path / "speed"
    assert (
        main(
            [
                str(tmp_path / "data"),
                "--repeat",
                "2",
                "--rounds",
                "1",
                "--workers",
                "1",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    (run,) = json.loads(out.with_suffix(".json").read_text())["runs"]
    assert run["files"] == 4 and run["seconds_of_sound"] == pytest.approx(4, abs=0.1)
    assert len(run["ours_seconds"]) == len(run["usual_seconds"]) == 1
    assert run["times_usual_loop"] > 0 and run["times_usual_loop_floor"] > 0
    assert f"| 4 | {run['seconds_of_sound']:g} |" in out.with_suffix(".md").read_text()
    assert run["floor_cpu_seconds"].keys() == {"decoding", "spectrograms"}


def test_clips_without_sound_take_no_part(tmp_path):
    write_sound(tmp_path / "voice.wav", buzz(1.0))
    write_talk(tmp_path / "mute.mp4", [np.zeros((64, 64, 3), np.uint8)] * 6)
    assert has_sound(tmp_path / "voice.wav") and not has_sound(tmp_path / "mute.mp4")
