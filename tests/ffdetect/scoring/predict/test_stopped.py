"""The predict command goes on after a stop, with what still holds."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from ffdetect.models.weights import save_checkpoint, write_calibration
from ffdetect.scoring.detector import Detector
from preprocess.faces.face import CropSettings
from tests.ffdetect.helpers import CALIBRATION, encode, tiny_network

from .test_predict import table


def stop_after(monkeypatch, count: int) -> list[str]:
    """Lets the command stop after so many crops, as Ctrl-C would; tells which were cut out."""
    original, seen = Detector.crop_largest, []

    def crop_largest(self, picture):
        if len(seen) == count:
            raise KeyboardInterrupt
        seen.append(picture.name)
        return original(self, picture)

    monkeypatch.setattr(Detector, "crop_largest", crop_largest)
    return seen


def test_a_stopped_run_goes_on_where_it_was(run, pictures, tmp_path, monkeypatch, capsys):
    assert run(pictures, "--batch-size", "2") == 0
    file = tmp_path / "prediction.txt"
    undisturbed = table(file)
    file.unlink()
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        assert run(pictures, "--batch-size", "2") == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    partial = tmp_path / "prediction.txt.partial"
    assert not file.exists() and partial.exists()
    with partial.open("ab") as stream:  # the last row was torn in the middle of a letter
        stream.write("4.jpg,0.99,ä".encode()[:-1])
    seen = stop_after(monkeypatch, 100)
    assert run(pictures, "--batch-size", "2") == 0
    assert [name.rsplit("/", 1)[-1] for name in seen] == ["4.jpg", "5.jpg"]
    pd.testing.assert_frame_equal(table(file), undisturbed, atol=1e-4)
    assert not partial.exists()


def test_a_second_stop_loses_nothing(run, pictures, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(pictures, "--batch-size", "2") == 130
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        assert run(pictures, "--batch-size", "2") == 130
    seen = stop_after(monkeypatch, 100)
    assert run(pictures, "--batch-size", "2") == 0
    assert len(seen) == 2


def test_odd_names_and_notes_survive_a_stop(run, pictures, noise, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "names"
    folder.mkdir()
    shutil.copy(pictures / "0.jpg", folder / "a, b\nc ä.jpg")
    (folder / "a noise.png").write_bytes(encode(noise, "PNG"))
    (folder / "a text.png").write_text("no picture")
    shutil.copy(pictures / "1.jpg", folder / "z.jpg")
    assert run(folder, "--batch-size", "1") == 0
    undisturbed = table(tmp_path / "prediction.txt")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert run(folder, "--batch-size", "1") == 130
    capsys.readouterr()
    seen = stop_after(monkeypatch, 100)
    assert run(folder, "--batch-size", "1") == 0
    assert len(seen) == 1
    pd.testing.assert_frame_equal(table(tmp_path / "prediction.txt"), undisturbed, atol=1e-4)
    err = capsys.readouterr().err
    assert "a noise.png: no face, scored whole" in err and "a text.png: unreadable" in err


def test_scores_of_other_weights_are_not_taken_over(run, pictures, tmp_path, monkeypatch):
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, tiny_network(seed=1), CropSettings(), {"seed": 1})
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(pictures, "--batch-size", "2", "--weights", str(other)) == 130
    head = (tmp_path / "prediction.txt.partial").read_text().splitlines()[0]
    assert json.loads(head)["about"]["seed"] == 1
    seen = stop_after(monkeypatch, 100)
    assert run(pictures) == 0
    assert len(seen) == 6


@pytest.mark.parametrize("change", ["views", "calibration", "precision", "weights"])
def test_scores_of_another_kind_are_not_taken_over(run, pictures, tmp_path, monkeypatch, change):
    weights = tmp_path / "w.safetensors"
    save_checkpoint(weights, tiny_network(), CropSettings(), {})
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(pictures, "--batch-size", "2", "--weights", str(weights)) == 130
    if change == "calibration":
        write_calibration(weights, weights, CALIBRATION)
    if change == "weights":  # that say the same of themselves
        save_checkpoint(weights, tiny_network(seed=1), CropSettings(), {})
    more = {"views": ["--tta", "flip"], "precision": ["--precision", "bf16"]}.get(change, [])
    seen = stop_after(monkeypatch, 100)
    assert run(pictures, "--weights", str(weights), *more) == 0
    assert len(seen) == 6


def test_scores_of_pictures_that_changed_are_not_taken_over(run, pictures, tmp_path, monkeypatch):
    folder = tmp_path / "changing"
    shutil.copytree(pictures, folder)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(folder, "--batch-size", "2") == 130
    shutil.copy(pictures / "3.jpg", folder / "1.jpg")
    seen = stop_after(monkeypatch, 100)
    assert run(folder) == 0
    assert [name.rsplit("/", 1)[-1] for name in seen] == ["1.jpg", "4.jpg", "5.jpg"]
    rows = table(tmp_path / "prediction.txt").set_index("img_name")["y_pred"]
    assert rows["1.jpg"] == pytest.approx(rows["3.jpg"], abs=1e-4)


@pytest.mark.parametrize("damage", [(b"scored", b"s\0ored"), (b",scored", b"x,scored")])
def test_what_is_damaged_of_a_stopped_run_is_done_again(
    run, pictures, tmp_path, monkeypatch, damage
):
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(pictures, "--batch-size", "2") == 130
    partial = tmp_path / "prediction.txt.partial"
    partial.write_bytes(partial.read_bytes().replace(*damage, 1))
    seen = stop_after(monkeypatch, 100)
    assert run(pictures) == 0
    assert [name.rsplit("/", 1)[-1] for name in seen] == ["0.jpg", "4.jpg", "5.jpg"]
