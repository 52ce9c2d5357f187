"""benchmarks.speed.throughput: fair turns, honest medians; files say where they were made."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.speed import throughput
from benchmarks.speed.precision import half_precisions
from benchmarks.speed.throughput import (
    Effort,
    Spread,
    choose_files,
    main,
    take_turns,
    write_synthetic,
)
from preprocess.work.cores import computing


def test_a_spread_is_median_and_quartiles():
    values = [5.0, 1.0, 2.0, 4.0, 3.0, 100.0]
    spread = Spread.of(values)
    assert (spread.median, spread.low, spread.high) == tuple(np.percentile(values, [50, 25, 75]))
    assert str(Spread(1234.5, 0.04567, 2)) == "1230 [0.0457, 2]"


def test_the_two_take_turns_and_the_ratio_is_that_of_each_repetition(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock[0])

    def work(name: str, seconds: float):
        def run() -> None:
            calls.append(name)
            # The machine is four times slower from the third repetition on; both suffer alike.
            clock[0] += seconds * (4 if len(calls) > 6 else 1)

        return run

    ways = {"rival": work("rival", 0.3), "ours": work("ours", 0.1)}
    found = take_turns(ways, faces=10, repetitions=5)
    assert "".join(call[0] for call in calls) == "ro" + "or" + "ro" + "or" + "ro" + "or"
    ours, rival = found["ours"], found["rival"]
    assert ours.speedup.median == ours.speedup.low == pytest.approx(3)
    assert ours.speedup.high == pytest.approx(3) and rival.speedup.median == 1
    assert ours.milliseconds.median == pytest.approx(40)
    assert ours.milliseconds.low == pytest.approx(10)
    assert rival.milliseconds.median == pytest.approx(120)


@pytest.fixture
def tiny_effort(monkeypatch) -> None:
    monkeypatch.setattr(throughput, "QUICK", Effort(files=2, batch=2, repetitions=2))


@pytest.mark.usefixtures("fast_for_best")
def test_made_up_pictures_are_measured_without_detection(
    tmp_path, capsys, tiny_effort, monkeypatch
):
    monkeypatch.setattr(throughput, "RIVALS", {"efficientnet_b0": None, "test_vit": 160})
    out = tmp_path / "new" / "speed"
    assert main(["--quick", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.strip()
    text = out.with_suffix(".md").read_text("utf-8")
    assert printed in text and f"throughput --quick --out {out}" in text
    assert "2 made-up JPEG files" in text and "not detected" in text
    assert "efficientnet_b0" in text
    values = json.loads(out.with_suffix(".json").read_text("utf-8"))
    spreads = []
    for weights in ("best", "fast"):
        stages = values["stages"][f"{weights}, cpu"]
        assert list(stages) == ["decode", "crop", "network", "all"]
        spreads += stages.values()
    for threads in ("1 thread", "2 threads"):
        scoring = values["scoring"][f"cpu, {threads}"]
        halves = [f"best, {precision}" for precision in half_precisions(torch.device("cpu"))]
        assert list(scoring) == ["efficientnet_b0", "test_vit", "best", "fast", *halves]
        spreads += [timing["milliseconds"] for timing in scoring.values()]
    spreads += [timing["speedup"] for timing in values["loading"]["cpu, 1 thread"].values()]
    for spread in spreads:
        assert 0 < spread["low"] <= spread["median"] <= spread["high"]
    machine = values["machine"]
    assert machine["cpu"] and machine["threads"] == 1
    assert machine["packages"]["torch"] == torch.__version__.split("+")[0]


@pytest.mark.usefixtures("fast_for_best")
def test_pictures_with_faces_are_searched_for_them(tmp_path, astronaut, tiny_effort, monkeypatch):
    monkeypatch.setattr(throughput, "RIVALS", {})  # they take long, and are of the test above
    data, out = tmp_path / "data", tmp_path / "speed"
    data.mkdir()
    for number in range(3):
        Image.fromarray(np.roll(astronaut, 8 * number, 1)).save(data / f"{number}.jpg")
    with computing(2):
        assert main(["--quick", "--data", str(data), "--out", str(out)]) == 0
    values = json.loads(out.with_suffix(".json").read_text("utf-8"))
    stages = values["stages"]["fast, cpu"]
    assert list(stages) == ["decode", "detect", "crop", "network", "all", "score(path)"]
    assert values["machine"]["threads"] == 1
    assert values["input"] == f"2 JPEG files of {data}"


def test_files_are_jpegs_that_can_be_read_spread_over_the_folder(tmp_path):
    files = write_synthetic(tmp_path, 9)
    with Image.open(files[0]) as picture:
        assert (picture.format, picture.size) == ("JPEG", (512, 512))
    assert files[0].read_bytes() != files[1].read_bytes()
    Image.new("RGB", (300, 300)).save(tmp_path / "0000.png")
    assert choose_files(tmp_path, 3) == [files[0], files[4], files[8]]
    assert choose_files(tmp_path, 100) == files
    files[4].write_bytes(b"no picture")
    assert choose_files(tmp_path, 3) == [files[0], files[8]]


@pytest.mark.parametrize("made", [False, True])
def test_data_without_pictures_ends_with_a_message(tmp_path, capsys, made):
    data = tmp_path / "nowhere"
    if made:
        data.mkdir()
    with pytest.raises(SystemExit) as caught:
        main(["--quick", "--data", str(data), "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    assert "nowhere: expected" in capsys.readouterr().err
