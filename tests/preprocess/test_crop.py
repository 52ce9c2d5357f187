"""The command: what it writes and what it says."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from preprocess import crop
from preprocess.cache.log import read_failures
from preprocess.cache.reader import CacheReader
from preprocess.faces.crop import crop_face
from preprocess.faces.detect import FaceDetector
from preprocess.faces.maps import residual, spectrum
from preprocess.io.decode import decode_image
from tests.real import needs


def run(*arguments: object) -> int:
    """The command in this process; test_crop_workers.py is about the others."""
    return crop.main([str(argument) for argument in (*arguments, "--workers", 0)])


def part_times(cache: Path) -> dict[str, int]:
    return {part.name: part.stat().st_mtime_ns for part in cache.glob("part-*.arrow")}


def write_labels(folder: Path) -> Path:
    labels = folder / "labels.csv"
    labels.write_text("path,target\nreal/0.png,0\nfake/0.jpg,1\n")
    return labels


def test_a_run_starts_without_what_takes_seconds_to_import(astronaut_folder, out):
    arguments = [str(astronaut_folder()), "--out", str(out), "--quiet", "--workers", "0"]
    code = f"""
import sys
from preprocess.crop import main
assert main({arguments!r}) == 0
for name in ("torch", "pandas", "scipy", "facenet_pytorch"):
    assert name not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rows_hold_what_the_functions_give(astronaut_folder, out):
    folder = astronaut_folder()
    assert run(folder, "--out", out, "--margin", 0.3) == 0
    reader = CacheReader(out)
    assert len(reader) == 2
    for index, name in enumerate(("fake/0.jpg", "real/0.png")):
        picture = decode_image(folder / name)
        (face,) = FaceDetector().detect(picture.pixels)
        row = reader.metadata.iloc[index]
        assert row["key"] == f"{name}#-1#0" and row["path"] == row["group"] == name
        assert (row["frame"], row["face"], row["target"]) == (-1, 0, 1 - index)
        assert row["generator"] == ("fake", "real")[index]
        np.testing.assert_allclose(row["box"], face.box, atol=1 / 8)
        np.testing.assert_allclose(row["landmarks"].reshape(5, 2), face.landmarks, atol=1 / 8)
        assert row["probability"] == pytest.approx(face.probability, abs=1e-4)
        assert (row["source_width"], row["source_height"]) == (512, 512)
        assert row["source_format"] == ("jpeg", "png")[index]
        assert row["jpeg_quality"] == (90, -1)[index]
        pixels = crop_face(picture.pixels, face, reader.settings.crop)
        np.testing.assert_array_equal(reader.crop(index), pixels)
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        np.testing.assert_array_equal(reader.residual(index), residual(batch, "npr")[0])
        np.testing.assert_allclose(reader.spectrum(index), spectrum(batch)[0], atol=0.01)


def test_options_end_up_in_the_settings(astronaut_folder, out):
    options = "--size 224 --margin 0.4 --align similarity --native 1 --detail 200 --min-face 40 "
    options += "--min-probability 0.8 --residual srm --codec png --frames 3 --faces all "
    options += "--maps spectrum,residual"
    assert run(astronaut_folder(), "--out", out, *options.split()) == 0
    settings = json.loads((out / "cache.json").read_text())["settings"]
    assert settings == {
        "crop": {
            "size": 224,
            "margin": 0.4,
            "align": "similarity",
            "native": 1.0,
            "detail": 200,
            "min_face": 40,
            "min_probability": 0.8,
        },
        "maps": ["spectrum", "residual"],
        "residual": "srm",
        "codec": "png",
        "faces": "all",
        "frames": 3,
    }
    assert CacheReader(out).crop(0).shape == (224, 224, 3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], set()),
        (["--maps", "none"], set()),
        (["--maps", "spectrum"], {"spectrum"}),
        (["--maps", "spectrum,residual"], {"spectrum", "residual"}),
    ],
)
def test_maps_are_kept_where_they_are_asked_for(astronaut_folder, out, options, expected):
    assert run(astronaut_folder(), "--out", out, *options) == 0
    frame = pd.read_feather(out / "part-00000.arrow")
    assert set(frame.columns) & {"spectrum", "residual"} == expected


def test_run_as_a_module_it_keeps_both_maps(astronaut_folder, out):
    command = [sys.executable, "-m", "preprocess.crop", str(astronaut_folder()), "--out", str(out)]
    subprocess.run([*command, "--workers", "0", "--quiet"], check=True)
    assert CacheReader(out).settings.maps == ("spectrum", "residual")
    bare = out.with_name("bare")
    subprocess.run([*command[:-1], str(bare), "--workers", "0", "--maps", "none"], check=True)
    assert CacheReader(bare).settings.maps == ()


def test_largest_face_or_all_of_them(tmp_path, astronaut, out):
    (tmp_path / "two").mkdir()
    smaller = np.asarray(Image.fromarray(astronaut).resize((300, 300)))
    pair = np.full((512, 812, 3), 128, np.uint8)
    pair[:300, :300], pair[:, 300:] = smaller, astronaut
    Image.fromarray(pair).save(tmp_path / "two" / "pair.png")
    assert run(tmp_path / "two", "--out", out) == 0
    assert list(CacheReader(out).metadata["key"]) == ["pair.png#-1#0"]
    assert run(tmp_path / "two", "--out", tmp_path / "all", "--faces", "all") == 0
    rows = CacheReader(tmp_path / "all").metadata
    assert list(rows["key"]) == ["pair.png#-1#0", "pair.png#-1#1"]
    assert list(rows["face"]) == [0, 1] and rows["group"].nunique() == 1
    assert rows["box"][0][0] > 300 > rows["box"][1][0]  # the larger face first
    np.testing.assert_allclose(rows["box"][0], CacheReader(out).metadata["box"][0], atol=1 / 8)


def test_failures_are_listed_with_reasons(tmp_path, astronaut_folder, out, capsys):
    folder = astronaut_folder()
    Image.new("RGB", (300, 300), "grey").save(folder / "real" / "wall.png")
    (folder / "fake" / "notes.jpg").write_text("no pixels")
    (folder / "fake" / "empty.mp4").touch()
    Image.new("RGB", (20000, 50)).save(folder / "real" / "strip.png")
    Image.new("RGB", (1, 1)).save(folder / "real" / "dot.png")
    whole = (folder / "fake" / "0.jpg").read_bytes()
    (folder / "fake" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    assert run(folder, "--out", out) == 0
    with (out / "failures.csv").open(newline="") as stream:
        rows = {row["path"]: (row["kind"], row["reason"]) for row in csv.DictReader(stream)}
    assert {path: kind for path, (kind, _) in rows.items()} == {
        "fake/empty.mp4": "unreadable",
        "fake/half.jpg": "unreadable",
        "fake/notes.jpg": "unreadable",
        "real/dot.png": "no_face",
        "real/strip.png": "no_face",
        "real/wall.png": "no_face",
    }
    assert "got an empty file" in rows["fake/empty.mp4"][1]
    assert "it is damaged" in rows["fake/half.jpg"][1]
    assert "expected a jpg, png" in rows["fake/notes.jpg"][1]
    assert rows["real/wall.png"][1] == "no face was found"
    report = capsys.readouterr().out
    for line in ("files     8", "faces     2 (2 new)", "no face   3", "failed    3"):
        assert line in report.splitlines()
    assert f"reasons   {out / 'failures.csv'}" in report.splitlines()


def test_report(astronaut_folder, out, capsys):
    assert run(astronaut_folder(real=2), "--out", out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 files: 2 real, 1 fake, 0 without a label (labels: folder names)"
    assert [line.split()[0] for line in lines[1:]] == [
        "cache",
        "files",
        "faces",
        "no",
        "failed",
        "size",
        "time",
    ]
    assert lines[1] == f"cache     {out}" and lines[3] == "faces     3 (3 new)"
    size = sum(part.stat().st_size for part in out.glob("part-*")) / 2**20
    assert lines[6] == f"size      {size:.1f} MiB"


def test_cache_goes_to_the_cache_folder_by_default(tmp_path, astronaut_folder, monkeypatch):
    folder = astronaut_folder("portraits")
    monkeypatch.chdir(tmp_path)
    assert run(folder) == 0
    assert len(CacheReader(tmp_path / "cache" / "portraits")) == 2
    assert run(folder / "real" / "0.png") == 0  # a single file
    assert list(CacheReader(tmp_path / "cache" / "0").metadata["path"]) == ["0.png"]
    monkeypatch.chdir(folder)
    assert run(".", "--out", tmp_path / "here") == 0
    assert len(CacheReader(tmp_path / "here")) == 2


def test_labels_option(tmp_path, astronaut_folder, out):
    labels = tmp_path / "labels.csv"
    labels.write_text("path,target,generator,group\nreal/0.png,1,gan,a\nfake/0.jpg,0,camera,a\n")
    assert run(astronaut_folder(), "--out", out, "--labels", labels) == 0
    rows = CacheReader(out).metadata
    assert list(rows["target"]) == [0, 1] and list(rows["generator"]) == ["camera", "gan"]
    assert list(rows["group"]) == ["a", "a"]


def test_names_that_are_no_text(astronaut_folder, out, capsys):
    folder = astronaut_folder()
    good, bad = (os.fsdecode(name) for name in (b"gut\xe9.png", b"b\xe4d.jpg"))
    try:
        shutil.copy(folder / "real" / "0.png", folder / "real" / good)
    except OSError:
        pytest.skip("this file system takes only text")
    (folder / "fake" / bad).write_text("no pixels")
    assert run(folder, "--out", out) == 0
    assert r"real/gut\xe9.png" in list(CacheReader(out).metadata["path"])
    assert [failure.path for failure in read_failures(out)] == [r"fake/b\xe4d.jpg"]
    assert run(folder, "--out", out) == 0
    assert "faces     3 (0 new)" in capsys.readouterr().out


def test_a_folder_whose_name_is_no_text(tmp_path, astronaut_folder, monkeypatch, capsys):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        astronaut_folder().rename(folder)
    except OSError:
        pytest.skip("this file system takes only text")
    monkeypatch.chdir(tmp_path)
    assert run(folder, "--labels", write_labels(folder)) == 0
    assert r"caf\xe9" in capsys.readouterr().out
    assert len(CacheReader(tmp_path / "cache" / folder.name)) == 2


# Exit status


def test_no_face_at_all_is_1(tmp_path, out):
    (tmp_path / "walls").mkdir()
    Image.new("RGB", (200, 200), "white").save(tmp_path / "walls" / "a.png")
    assert run(tmp_path / "walls", "--out", out) == 1
    assert [failure.kind for failure in read_failures(out)] == ["no_face"]


def test_no_file_at_all_is_1(tmp_path, out, capsys):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", "--out", out) == 1
    assert "empty: expected pictures or clips but found none" in capsys.readouterr().err
    assert not out.exists()


def test_output_that_cannot_be_written_is_1(tmp_path, astronaut_folder, capsys):
    (tmp_path / "file").touch()
    assert run(astronaut_folder(), "--out", tmp_path / "file" / "cache") == 1
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing: expected a picture, a clip or a folder of these"),
        ([".", "--labels", "missing.csv"], "missing.csv: expected a label file"),
        ([".", "--size", "64"], "expected a crop size of 128 to 2048 px but got 64"),
        ([".", "--size", "big"], "invalid int value: 'big'"),
        ([".", "--maps", "wavelet"], "expected maps among"),
        ([".", "--frames", "0"], "expected at least 1 frame per clip but got 0"),
        ([".", "--faces", "none"], "invalid choice: 'none'"),
        ([".", "--megapixels", "-1"], "expected --megapixels above 0 but got -1"),
        (
            [".", "--device", "gpu 1"],
            "expected --device cpu or cuda but got 'gpu 1': Invalid device",
        ),
        ([".", "--unknown"], "unrecognized arguments"),
        ([], "the following arguments are required: DATA"),
    ],
)
def test_wrong_arguments_are_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_data_that_no_file_system_takes_is_2(out, capsys):
    with pytest.raises(SystemExit) as caught:
        run("x" * 5000, "--out", out)
    assert caught.value.code == 2
    assert "File name too long" in capsys.readouterr().err


def challenge_targets(root: Path, column: str) -> dict[str, int]:
    return {
        f"{part}/{row[column]}": row["target"]
        for part in ("trainset", "valset")
        for row in pd.read_csv(root / f"{part}_label.txt").to_dict("records")
    }


def test_challenge_pictures(shared, out, capsys):
    root = needs(shared / "challenge" / "multiFFDI" / "phase1")
    assert run(root, "--out", out) == 0
    rows = CacheReader(out).metadata
    assert dict(zip(rows["path"], rows["target"], strict=True)) == challenge_targets(
        root, "img_path"
    )
    assert set(rows["frame"]) == {-1}
    assert [path.split("/")[0] for path in rows["path"]] == [
        {"train": "trainset", "dev": "valset"}[split] for split in rows["split"]
    ]
    assert f"faces     {len(rows)} ({len(rows)} new)" in capsys.readouterr().out


def test_challenge_clips(shared, out):
    root = needs(shared / "challenge" / "multiFFDV" / "phase1")
    assert run(root, "--out", out, "--frames", 2, "--maps", "none") == 0
    rows = CacheReader(out).metadata
    expected = challenge_targets(root, "video_name")
    assert {
        path: int(target) for path, target in zip(rows["path"], rows["target"], strict=True)
    } == {path: expected[path] for path in set(rows["path"])}
    assert rows["key"].is_unique and (rows["frame"] >= 0).all()
    assert (rows.groupby("path").size() <= 2).all()
    # A split by group keeps the frames of a clip on one side.
    assert (rows.groupby("path")["group"].nunique() == 1).all()
    assert rows["group"].nunique() == rows["path"].nunique()
    for _, frames in rows.groupby("path")["frame"]:
        assert frames.is_monotonic_increasing and frames.is_unique
