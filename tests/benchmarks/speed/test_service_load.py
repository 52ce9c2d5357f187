"""A short load of a real service."""

from __future__ import annotations

import json

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the [serve] extra")

from benchmarks.speed import service_load


def test_a_load_is_answered_whole_and_hostile_files_are_refused(astronaut, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(2):
        Image.fromarray(astronaut[: 400 + number, 60:460]).save(pictures / f"{number}.jpg")
    out = tmp_path / "load"
    command = [str(pictures), "--count", "2", "--weights", "fast", "--clients", "2"]
    assert service_load.main([*command, "--seconds", "1.5", "--out", str(out)]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    (load,) = found["loads"]
    assert load["clients"] == 2 and set(load["statuses"]) == {"200"}
    assert (load["wrong"], load["lost"]) == (0, 0)
    assert 0 < load["p50 seconds"] <= load["p99 seconds"]
    hostile = found["hostile"]
    assert (hostile["wrong"], hostile["lost"]) == (0, 0)
    assert set(hostile["statuses"]) - {"200"}  # some were refused
    assert found["megabytes before"] > 100
