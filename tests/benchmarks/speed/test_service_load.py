"""A short load of a real service."""

from __future__ import annotations

import json

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the [serve] extra")

from benchmarks.speed import service_load
from benchmarks.speed.service_load import page


def test_loads_hostile_files_and_what_the_queue_refuses(astronaut, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(2):
        Image.fromarray(astronaut[: 400 + number, 60:460]).save(pictures / f"{number}.jpg")
    out = tmp_path / "load"
    command = [str(pictures), "--count", "2", "--weights", "fast", "--clients", "2", "8"]
    command += ["--queue", "2", "--files", "2", "--requests", "5", "--every", "3"]
    assert service_load.main([*command, "--seconds", "1", "--out", str(out)]) == 0
    found = json.loads(out.with_suffix(".json").read_text())
    few, many = found["loads"]
    assert few["clients"] == 2 and set(few["statuses"]) == {"200"}
    assert (few["wrong"], few["lost"]) == (0, 0)
    assert 0 < few["p50 seconds"] <= few["p99 seconds"]
    assert set(many["statuses"]) == {"200", "429"} and (many["wrong"], many["lost"]) == (0, 0)
    together = found["together"]
    assert set(together["statuses"]) == {"200"} and (together["wrong"], together["lost"]) == (0, 0)
    assert together["pictures"] == 2 * together["statuses"]["200"] > 0
    hostile = found["hostile"]
    assert (hostile["wrong"], hostile["lost"]) == (0, 0)
    assert set(hostile["statuses"]) - {"200", "429"}  # some were refused for what they are
    rates = found["score_batch pictures a second"], found["analyze pictures a second"]
    assert min(rates) > 0 and f"`analyze` one by one: {rates[1]}" in page(found)
    assert found["megabytes before"] > 100
    assert [row["requests"] for row in found["memory"]] == [0, 3, 5]
    assert all(row["megabytes"] > 100 and not row["lost"] for row in found["memory"])
    said = capsys.readouterr().out
    assert "| 8 |" in said and "| 1, 2 files a request |" in said
