"""benchmarks.speed.preprocess: fair inputs, the peer's faces, and figures that add up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.speed import decode, peer, preprocess
from benchmarks.speed.cost import Cost
from benchmarks.speed.preprocess import (
    Effort,
    enlarged,
    main,
    make_inputs,
    ratios,
    run_decode,
    run_ours,
    run_peer,
    spread_files,
)
from preprocess import crop
from preprocess.cache.reader import CacheReader
from preprocess.io.clips import decode_video


@pytest.fixture
def pictures(tmp_path: Path, astronaut: np.ndarray) -> Path:
    for folder, shift in (("one", 0), ("two", 30), ("two", 60)):
        file = tmp_path / "faces" / folder / f"{shift}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(astronaut[:260, 90 + shift : 350 + shift]).save(file, quality=95)
    return tmp_path / "faces"


def test_files_are_spread_over_folders(pictures):
    chosen = spread_files(pictures, 2, ".jpg")
    assert {file.parent.name for file in chosen} == {"one", "two"}
    assert len(spread_files(pictures, 9, ".jpg")) == 3
    with pytest.raises(FileNotFoundError, match=r"expected .png files in .* but found none"):
        spread_files(pictures, 1, ".png")


def test_an_enlarged_picture_is_in_the_middle_of_its_mirror_image(astronaut):
    large = enlarged(astronaut, 1920, 1080)
    assert large.shape == (1080, 1920, 3)
    left = (1920 - 1080) // 2
    np.testing.assert_array_equal(large[:, left - 1], large[:, left])


def test_a_clip_has_the_frames_it_was_made_of(tmp_path, astronaut):
    preprocess._write_clip(tmp_path / "clip.mp4", [astronaut[:480, :320]] * 5)
    looks = list(decode_video(tmp_path / "clip.mp4", frames=5))
    assert [look.pixels.shape for look in looks] == [(480, 320, 3)] * 5
    assert len(list(peer.frames(tmp_path / "clip.mp4"))) == 5


def test_a_short_clip_is_repeated_there_and_back(pictures, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "out").mkdir()
    greys = [np.full((48, 64, 3), grey, np.uint8) for grey in (60, 120, 180)]
    preprocess._write_clip(tmp_path / "clips/short.mp4", greys)
    effort = Effort(mixed=1, large=1, clips=1, frames=6)
    folders = make_inputs(pictures, tmp_path / "clips", effort, tmp_path / "out")
    (clip,) = folders["480p"].iterdir()
    looks = [look.pixels for look in decode_video(clip, frames=9)]
    assert looks[0].shape == (480, 854, 3)
    np.testing.assert_allclose([x.mean() for x in looks], [60, 120, 180, 120, 60, 120], atol=3)


def test_both_commands_do_their_work_and_its_cost_is_counted(pictures, tmp_path):
    costs = [
        run_peer(pictures / "one", tmp_path / "peer", 1),
        run_ours(pictures / "one", tmp_path / "ours", "--maps", "none"),
    ]
    assert all(cost.cpu > 0.1 and cost.wall > 0.1 and cost.peak > 50 for cost in costs)
    floor = run_decode(pictures / "one", tmp_path / "decode")
    assert 0.1 < floor.cpu < min(cost.cpu for cost in costs)
    assert Cost.least([Cost(1, 4, 9), Cost(2, 3, 8)]) == Cost(1, 3, 8)
    (found,) = json.loads((tmp_path / "peer/0/faces.json").read_text("utf-8")).values()
    assert len(found) == len(list((tmp_path / "peer/0").glob("*.jpg"))) == 1
    assert len(CacheReader(tmp_path / "ours")) == 1


def test_ratios_are_medians_of_rounds_without_the_start():
    start = {way: [Cost(1, 2, 0)] for way in ("peer", "largest", "all", "with maps", "decoding")}
    ways = {way: [Cost(3, 6, 0)] * 3 for way in start}
    ways["peer"] = [Cost(9, 10, 0), Cost(7, 6, 0), Cost(5, 22, 0)]  # 8, 6, 4 and 8, 4, 20 without
    found = ratios(ways, start, 10)
    assert found["ratio"]["largest"] == {"median": 3, "least": 2, "greatest": 4}
    assert found["CPU ratio"]["all"] == {"median": 2, "least": 1, "greatest": 5}
    assert found["pictures per second"]["largest"]["median"] == 5
    assert found["floor"]["all"]["median"] == 1


def test_clips_are_compared_frame_by_frame(tmp_path, astronaut):
    """A face that moves 12 px a frame: one of another frame would not be where it is."""
    frames = [np.roll(astronaut[:300, 60:420], 12 * i, axis=1) for i in range(5)]
    preprocess._write_clip(tmp_path / "clip.mp4", frames)
    assert decode.main([tmp_path / "clip.mp4"]) == 5
    peer.main(tmp_path / "peer" / "0", [tmp_path / "clip.mp4"])
    agreed = preprocess.agreement(tmp_path / "peer")
    assert agreed["faces of the peer"] == agreed["found"] == agreed["faces of ours"] == 5
    assert agreed["recall"] == 1 and agreed["unknown to the peer"] == 0
    assert agreed["landmark error"] < 0.03 and agreed["landmarks within 3 %"] >= 0.8


def test_all_is_measured_and_written_down(pictures, tmp_path, monkeypatch, capsys):
    """With both sides run in this process, which saves starting Python a dozen times."""

    def cost_of(run: Callable[[], object]) -> Cost:
        start, work = time.perf_counter(), time.process_time()
        run()
        return Cost(time.perf_counter() - start, time.process_time() - work, 1)

    def run_peer(folder: Path, out: Path, processes: int) -> Cost:
        return cost_of(lambda: peer.main(out / "0", sorted(folder.iterdir())))

    def run_decode(folder: Path, out: Path) -> Cost:
        return cost_of(lambda: decode.main(sorted(folder.iterdir())))

    def run_ours(folder: Path, out: Path, *options: str) -> Cost:
        arguments = [str(folder), "--out", str(out), "--overwrite", "--quiet", "--workers", "0"]
        return cost_of(lambda: crop.main([*arguments, *options]))

    monkeypatch.setattr(preprocess, "run_peer", run_peer)
    monkeypatch.setattr(preprocess, "run_decode", run_decode)
    monkeypatch.setattr(preprocess, "run_ours", run_ours)
    monkeypatch.setattr(preprocess, "QUICK", Effort(mixed=3, large=1, frames=2, rounds=2))
    out = tmp_path / "results" / "speed"
    start = time.perf_counter()
    assert main([str(pictures), "--quick", "--out", str(out)]) == 0
    whole = time.perf_counter() - start
    values = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert out.with_suffix(".md").read_text("utf-8").strip() in capsys.readouterr().out
    for name, count in (("mixed", 3), ("large", 1)):
        found = values["speed"]["inputs"][name]
        assert found["pictures"] == count and found["ratio"]["all"]["least"] > 0
        assert {len(tries) for tries in found["costs"].values()} == {2}
        assert sum(cost["wall"] for tries in found["costs"].values() for cost in tries) < whole
        agreed = values["agreement"][name]
        assert agreed["faces of the peer"] == agreed["found"] == agreed["faces of ours"] == count
        assert agreed["landmark error"] < 0.03 and agreed["unknown to the peer"] == 0
        stages = values["stages"][name]
        assert all(stages[stage] > 0 for stage in stages)
        assert sum(stages.values()) == pytest.approx(2 * stages["all"])
