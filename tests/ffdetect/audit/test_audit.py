"""A leak that was built into the pictures is found, and nothing else is accused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

pytest.importorskip("sklearn", reason="scikit-learn judges the cues")

from ffdetect.audit import audit as command
from preprocess.cache.faces import CacheSettings
from preprocess.cache.writer import CacheWriter
from tests.preprocess.rows import SMALL, make_row
from tests.real import rows_of

COUNT = 70  # of each class


def scene(seed: int, side: int = 96) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC))


def make_data(folder: Path, fake=lambda n: {}, count: int = COUNT, sides=lambda n: 96) -> Path:
    """real/photo/N.jpg and fake/gan/N.jpg; `fake`: how a fake is saved, `sides`: its side."""
    for target, name in enumerate(("real/photo", "fake/gan")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            side = sides(number) if target else 96
            options = {"quality": 90, **(fake(number) if target else {})}
            image = scene(2 * number + target, side)
            image.save(folder / name / f"{number}.jpg", "JPEG", **options)
    return folder


def run(data: Path, *options: str) -> tuple[int, dict]:
    out = data.parent / "audit.json"
    status = command.main([str(data), "--json", str(out), *options])
    return status, json.loads(out.read_text())


def verdicts(record: dict, fakes_of: str = "all") -> dict[str, str]:
    result = next(r for r in record["results"] if r["fakes_of"] == fakes_of)
    return {cue: found["verdict"] for cue, found in result["auc"].items()}


def leaking(record: dict, fakes_of: str = "all") -> set[str]:
    found = verdicts(record, fakes_of)
    return {cue for cue, verdict in found.items() if verdict == "leaks the label"}


def test_pictures_that_differ_in_nothing_are_clean(tmp_path, capsys):
    status, record = run(make_data(tmp_path / "data"), "--fail-above", "0.75")
    assert status == 0
    assert set(verdicts(record).values()) == {"clean"}
    for found in record["results"][0]["auc"].values():
        assert found["low"] <= 0.5 <= found["high"]
    shown = capsys.readouterr().out
    assert "Verdict: all cues together tell" in shown and ": clean." in shown
    assert "Before training" not in shown  # nothing to do


def test_jpeg_quality_is_found(tmp_path, capsys):
    # In the middle of the reals' qualities: no threshold tells them apart.
    data = make_data(tmp_path / "data", lambda n: {"quality": 80})
    for number in range(COUNT):
        file = data / "real" / "photo" / f"{number}.jpg"
        scene(2 * number).save(file, quality=(60, 95)[number % 2])
    status, record = run(data, "--fail-above", "0.9")
    assert status == 1
    assert {"JPEG setting", "all cues"} <= leaking(record)
    assert record["results"][0]["auc"]["JPEG setting"]["value"] == 1
    assert not {"file format", "picture size", "colour"} & leaking(record)
    shown = capsys.readouterr().out
    assert "AUC 1.00 [1.00, 1.00]: leaks the label" in shown
    assert "save real and fake again in one format with one setting" in shown


def test_chroma_subsampling_is_found_at_the_same_quality(tmp_path):
    data = make_data(tmp_path / "data", lambda n: {"subsampling": 0})
    assert "JPEG setting" in leaking(run(data)[1])


def test_picture_size_is_found(tmp_path):
    data = make_data(tmp_path / "data", sides=lambda n: 100)
    found = leaking(run(data)[1])
    assert "picture size" in found and not {"JPEG setting", "file format"} & found


def test_metadata_is_found(tmp_path):
    exif = Image.Exif()
    exif[271] = "camera"
    found = leaking(run(make_data(tmp_path / "data", lambda n: {"exif": exif}))[1])
    assert "file format" in found and "JPEG setting" not in found


def test_one_generator_of_two_leaks(tmp_path, capsys):
    data = make_data(tmp_path / "data")
    (data / "fake" / "old").mkdir()
    (data / "fake" / "rare").mkdir()
    for number in range(20):
        scene(1000 + number).save(data / "fake" / "old" / f"{number}.jpg", quality=50)
    for number in range(3):
        scene(2000 + number).save(data / "fake" / "rare" / f"{number}.jpg", quality=90)
    status, record = run(data, "--fail-above", "0.8")
    assert status == 1  # one generator is enough
    assert "JPEG setting" in leaking(record, "old")
    assert verdicts(record, "gan")["JPEG setting"] == "clean"
    assert "JPEG setting" not in leaking(record)  # drowned among all
    rare = next(r for r in record["results"] if r["fakes_of"] == "rare")
    assert rare["auc"] == {} and rare["too_few"] == "3 fakes: too few for 5 folds"
    assert (rare["fakes"], rare["reals"]) == (3, COUNT)
    shown = capsys.readouterr().out
    assert "3 fakes: too few for 5 folds" in shown and "the fakes of old" in shown


def test_matched_reals(tmp_path):
    """The swap's own reals share its quality; against all reals it would leak."""
    data = make_data(tmp_path / "data")
    for number in range(40):
        for kind in ("real/video", "fake/swap"):
            (data / kind).mkdir(exist_ok=True)
            seed = 3000 + 2 * number + (kind == "fake/swap")
            scene(seed).save(data / kind / f"{number}.jpg", quality=60)
    assert "JPEG setting" in leaking(run(data)[1], "swap")
    matched = run(data, "--match", "swap=video")[1]
    assert "JPEG setting" not in leaking(matched, "swap") | leaking(matched, "gan")
    counts = {r["fakes_of"]: (r["fakes"], r["reals"]) for r in matched["results"]}
    assert counts == {"all": (110, 110), "gan": (70, 70), "swap": (40, 40)}


def test_duplicates_across_splits_and_labels(tmp_path, capsys):
    data = make_data(tmp_path / "data", count=15)
    rows = []
    for number in range(15):
        split = "train" if number < 10 else "test"
        rows.append((f"real/photo/{number}.jpg", 0, f"r{number}", split))
        rows.append((f"fake/gan/{number}.jpg", 1, f"f{number}", split))
    for copy, side in ((("real/photo/14.jpg"), 70), (("fake/gan/3.jpg"), 96)):
        scene(0, 96).resize((side, side)).save(data / copy, quality=60)  # that of real/photo/0
    table = pd.DataFrame(rows, columns=["path", "target", "group", "split"])
    table.to_csv(data / "manifest.csv", index=False)
    found = run(data)[1]["duplicates"]
    copies = [["fake/gan/3.jpg", "real/photo/14.jpg"], ["real/photo/0.jpg", "real/photo/14.jpg"]]
    assert found["across splits"] == {"count": 2, "pairs": copies}
    assert found["across labels"]["pairs"] == [
        ["fake/gan/3.jpg", "real/photo/0.jpg"],
        ["fake/gan/3.jpg", "real/photo/14.jpg"],
    ]
    shown = capsys.readouterr().out
    assert "across splits: 2" in shown and "real/photo/0.jpg  real/photo/14.jpg" in shown


def test_a_cache(tmp_path):
    with CacheWriter(tmp_path / "cache", CacheSettings(SMALL.crop, maps=())) as writer:
        for number in range(100):
            side = 50 + 40 * (number % 2)
            box = np.array([10, 10, 10 + side, 10 + side], np.float32)
            same = {"source_width": 640, "source_height": 480, "jpeg_quality": 90}
            writer.add([make_row(number, writer.settings, box=box, **same)])
    record = run(tmp_path / "cache")[1]
    found = verdicts(record)
    assert found["face size"] == "leaks the label" and found["picture size"] == "clean"
    assert "bytes per pixel" not in found and record["files"] == 100


def test_unreadable_files_are_listed_and_stop_nothing(tmp_path, capsys):
    data = make_data(tmp_path / "data")
    (data / "real" / "photo" / "bad.jpg").write_bytes(b"nothing")
    status, record = run(data)
    assert status == 0 and record["files"] == 2 * COUNT
    assert [entry["path"] for entry in record["unreadable"]] == ["real/photo/bad.jpg"]
    assert "unreadable: 1" in capsys.readouterr().out


def test_too_few_files_are_no_verdict(tmp_path, capsys):
    status, record = run(make_data(tmp_path / "data", count=6))
    assert status == 0 and record["results"][0]["auc"] == {}
    assert "too few files to tell" in record["verdict"][0]
    # A gate that could not measure stays shut.
    assert run(tmp_path / "data", "--fail-above", "0.99")[0] == 1
    assert "too few files" in capsys.readouterr().err


def test_bad_input(tmp_path, capsys):
    def refused(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            command.main([str(argument) for argument in arguments])
        assert stopped.value.code == 2
        return capsys.readouterr().err

    assert "expected a picture, a clip or a folder" in refused(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    for gate in ("nan", "-0.1", "80"):  # a gate that never shuts, or always is
        said = refused(tmp_path / "empty", f"--fail-above={gate}")
        assert "expected --fail-above from 0 to 1" in said
    assert "expected real and fake files but got 0 real, 0 fake" in refused(tmp_path / "empty")
    data = make_data(tmp_path / "data", count=2)
    assert "expected --match FAKE=REAL" in refused(data, "--match", "gan")
    assert "but got 'swap'" in refused(data, "--match", "swap=photo")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "cache.json").write_text("{}")
    assert "cache.json: expected a cache's index" in refused(tmp_path / "cache")
    assert "expected a data folder" in refused(tmp_path / "cache", "--faces")
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(data, "--json", tmp_path / "file" / "x.json")


def test_a_record_that_could_not_be_written(tmp_path, full_disk, capsys):
    data = make_data(tmp_path / "data", count=1)
    full_disk(100)
    assert command.main([str(data), "--json", str(tmp_path / "a.json")]) == 1
    assert f"{tmp_path / 'a.json'}: cannot be written: File too large" in capsys.readouterr().err


def test_without_scikit_learn_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(SystemExit):
        command.main([str(make_data(tmp_path / "data", count=1))])
    assert "pip install 'ffdetect[bench]'" in capsys.readouterr().err


def test_the_known_confounds_of_real_data(shared, tmp_path):
    """Generated photos against real portraits: they differ in encoder, size and sharpness."""
    names = ("generated_photos", "sd21", "ffhq", "officials")
    chosen = pd.concat(rows_of(shared / "faces", 40, generator=name, split="dev") for name in names)
    for file, path in zip(chosen["file"], chosen["path"], strict=True):
        link = tmp_path / "data" / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    chosen.drop(columns="file").to_csv(tmp_path / "data" / "manifest.csv", index=False)
    record = run(tmp_path / "data")[1]
    assert record["files"] == len(chosen) and not record["unreadable"]
    assert "JPEG setting" in leaking(record, "generated_photos")
    assert {"picture size", "all cues"} <= leaking(record, "sd21")
