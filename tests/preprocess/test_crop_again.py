"""A second run of the crop command: what is kept, added, tried again and refused."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
import torch

from preprocess import extract
from preprocess.arguments import status_of
from preprocess.cache.log import read_failures
from preprocess.cache.reader import CacheReader
from tests.preprocess.test_crop import part_times, run, write_labels


def test_other_settings_are_1_and_named(astronaut_folder, out, capsys):
    folder = astronaut_folder()
    assert run(folder, "--out", out) == 0
    before = part_times(out)
    assert run(folder, "--out", out, "--margin", 0.5) == 1
    assert "crop.margin: 0.5, not 0.15" in capsys.readouterr().err
    assert part_times(out) == before


def test_nothing_is_done_when_all_is_done(astronaut_folder, out, cropped, capsys):
    folder = astronaut_folder()
    (folder / "fake" / "broken.jpg").write_text("no pixels")
    assert run(folder, "--out", out) == 0
    before = part_times(out)
    cropped.clear()
    assert run(folder, "--out", out) == 0
    assert cropped == [] and part_times(out) == before
    report = capsys.readouterr().out
    assert "faces     2 (0 new)" in report and "failed    1" in report
    assert len(read_failures(out)) == 1


def test_new_files_are_added(astronaut_folder, out, cropped):
    folder = astronaut_folder()
    assert run(folder, "--out", out) == 0
    before = part_times(out)
    cropped.clear()
    astronaut_folder(real=2)
    assert run(folder, "--out", out) == 0
    assert cropped == ["real/1.png"]
    assert len(CacheReader(out)) == 3
    assert part_times(out).items() > before.items()


def test_an_interrupted_run_goes_on(astronaut_folder, out, monkeypatch, capsys, tmp_path):
    folder = astronaut_folder(real=2, fake=2)
    crop_item, started = extract.crop_item, []

    def stop_at_third(item, *arguments):
        started.append(item.path)
        if len(started) == 3:
            raise KeyboardInterrupt
        return crop_item(item, *arguments)

    monkeypatch.setattr(extract, "crop_item", stop_at_third)
    assert run(folder, "--out", out) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert list(CacheReader(out).metadata["path"]) == ["fake/0.jpg", "fake/1.jpg"]
    before = part_times(out)
    assert run(folder, "--out", out) == 0
    assert started[3:] == ["real/0.png", "real/1.png"]  # no file is done twice
    assert part_times(out).items() > before.items()

    monkeypatch.setattr(extract, "crop_item", crop_item)
    assert run(folder, "--out", tmp_path / "at once") == 0
    one, other = CacheReader(out), CacheReader(tmp_path / "at once")
    pd.testing.assert_frame_equal(one.metadata, other.metadata)
    assert torch.equal(one.crops(range(4)), other.crops(range(4)))


@pytest.mark.parametrize(
    "stage", ["crop.CacheSettings", "run.find_items", "cache.writer.CacheWriter.__init__"]
)
def test_a_stop_before_there_is_a_cache_is_130_without_a_trace(
    astronaut_folder, out, monkeypatch, capsys, stage
):
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    folder = astronaut_folder()
    with monkeypatch.context() as patch:
        patch.setattr(f"preprocess.{stage}", stop)
        assert status_of(lambda: run(folder, "--out", out)) == 130
    assert capsys.readouterr().err == "stopped\n"
    assert run(folder, "--out", out) == 0


def test_overwrite_does_it_all_again(astronaut_folder, out, cropped):
    folder = astronaut_folder()
    assert run(folder, "--out", out) == 0
    assert run(folder, "--out", out, "--overwrite", "--margin", 0.5, "--maps", "none") == 0
    assert cropped == ["fake/0.jpg", "real/0.png"] * 2
    reader = CacheReader(out)
    assert len(reader) == 2 and reader.settings.crop.margin == 0.5 and reader.settings.maps == ()


def test_a_picture_that_was_replaced_is_said(astronaut_folder, out, cropped, capsys):
    folder = astronaut_folder()
    assert run(folder, "--out", out) == 0 and run(folder, "--out", out) == 0
    assert "noted" not in capsys.readouterr().out
    shutil.copy(folder / "fake" / "0.jpg", folder / "fake" / "1.jpg")
    shutil.copyfile(folder / "fake" / "1.jpg", folder / "fake" / "0.jpg")  # it is newer now
    cropped.clear()
    for _ in range(2):  # the second time a part is newer than the picture, but not its own
        assert run(folder, "--out", out) == 0
        said = capsys.readouterr().out
        assert "noted     1, first fake/0.jpg: it was changed after it was cached" in said
    assert cropped == ["fake/1.jpg"]


def test_retry_tries_failures_again(astronaut_folder, out, cropped):
    folder = astronaut_folder()
    broken = folder / "fake" / "broken.png"
    broken.write_text("no pixels")
    assert run(folder, "--out", out) == 0
    shutil.copy(folder / "real" / "0.png", broken)
    cropped.clear()
    assert run(folder, "--out", out) == 0 and cropped == []
    assert run(folder, "--out", out, "--retry") == 0
    assert cropped == ["fake/broken.png"]
    assert read_failures(out) == [] and len(CacheReader(out)) == 3


def test_changed_labels_are_refused(astronaut_folder, out, capsys):
    folder = astronaut_folder()
    labels = write_labels(folder)
    assert run(folder, "--out", out, "--labels", labels) == 0
    before = part_times(out)
    labels.write_text("path,target\nreal/0.png,1\nfake/0.jpg,1\n")
    assert run(folder, "--out", out, "--labels", labels) == 1
    error = capsys.readouterr().err
    assert "1 files were cached with another label (first: 'real/0.png')" in error
    assert part_times(out) == before
    assert run(folder, "--out", out, "--labels", labels, "--overwrite") == 0
    assert list(CacheReader(out).metadata["target"]) == [1, 1]


def test_a_folder_that_is_no_cache_is_refused(tmp_path, astronaut_folder, capsys):
    folder = astronaut_folder()
    assert run(folder, "--out", folder, "--overwrite") == 1
    assert "expected a cache or a new folder but got other files" in capsys.readouterr().err
    assert (folder / "real" / "0.png").is_file()
