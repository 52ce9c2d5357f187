"""The predict command: its table, and what it does with odd files."""

from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from ffdetect.scoring import predict
from ffdetect.voice import VoiceDetector
from tests.ffdetect.clips import write_talk
from tests.ffdetect.helpers import encode
from tests.preprocess.sounds import buzz, write_sound
from tests.real import needs


def table(file) -> pd.DataFrame:
    return pd.read_csv(file, keep_default_na=False)


def test_the_challenge_pictures_give_one_row_each(run, shared, tmp_path):
    data = needs(shared / "challenge/multiFFDI/phase1")
    assert run(data) == 0
    lines = (tmp_path / "prediction.txt").read_text().splitlines()
    assert lines[0] == "img_name,y_pred"
    names = sorted(file.relative_to(data).as_posix() for file in data.rglob("*.jpg"))
    assert names and [line.split(",")[0] for line in lines[1:]] == names
    assert all(re.fullmatch(r"[01]\.\d{6}", line.split(",")[1]) for line in lines[1:])
    assert {file.name for file in tmp_path.iterdir()} == {"prediction.txt"}


def test_the_challenge_clips_give_one_row_each(run, shared, tmp_path):
    data = needs(shared / "challenge/multiFFDV/phase1/valset")
    assert run(data, "--frames", "2") == 0
    lines = (tmp_path / "prediction.txt").read_text().splitlines()
    assert lines[0] == "video_name,y_pred"
    assert [line.split(",")[0] for line in lines[1:]] == sorted(f.name for f in data.glob("*.mp4"))


def test_a_row_is_the_score_of_the_detector(run, tiny, pictures, tmp_path):
    assert run(pictures) == 0
    rows = table(tmp_path / "prediction.txt")
    assert rows["img_name"].tolist() == [f"{number}.jpg" for number in range(6)]
    expected = [tiny.score(pictures / name) for name in rows["img_name"]]
    np.testing.assert_allclose(rows["y_pred"], expected, atol=1e-5)


@pytest.mark.parametrize("tta", ["flip", "flip+crops"])
def test_the_views_of_a_face_are_averaged(run, tiny, pictures, tmp_path, tta):
    assert run(pictures, "--tta", tta) == 0
    rows = table(tmp_path / "prediction.txt")
    expected = tiny.score_batch([pictures / name for name in rows["img_name"]], tta=tta)
    np.testing.assert_allclose(rows["y_pred"], expected, atol=1e-4)
    assert np.abs(expected - tiny.score_batch([pictures / rows["img_name"][0]])[0]).max() > 1e-3


def test_the_size_of_a_batch_changes_nothing(run, pictures, tmp_path):
    for batch in ("1", "4"):
        assert run(pictures, "--batch-size", batch, out=tmp_path / f"{batch}.txt") == 0
    one, four = table(tmp_path / "1.txt"), table(tmp_path / "4.txt")
    assert one["img_name"].tolist() == four["img_name"].tolist()
    np.testing.assert_allclose(one["y_pred"], four["y_pred"], atol=1e-4)


def test_a_single_picture_will_do(run, pictures, tmp_path):
    assert run(pictures / "2.jpg") == 0
    assert table(tmp_path / "prediction.txt")["img_name"].tolist() == ["2.jpg"]


def test_pictures_and_clips_of_one_folder_go_to_two_files(run, tiny, astronaut, tmp_path, capsys):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "b.png").write_bytes(encode(astronaut, "PNG"))
    (folder / "c.png").write_bytes(encode(astronaut[:, ::-1], "PNG"))
    write_talk(folder / "a.mp4", [astronaut] * 6)
    assert run(folder, "--frames", "2") == 0
    pictures, clips = tmp_path / "prediction.txt", tmp_path / "prediction_video.txt"
    assert list(table(pictures)) == ["img_name", "y_pred"]
    assert table(pictures)["img_name"].tolist() == ["b.png", "c.png"]
    assert list(table(clips)) == ["video_name", "y_pred"]
    assert table(clips)["video_name"].tolist() == ["a.mp4"]
    assert table(pictures)["y_pred"][0] == pytest.approx(tiny.score(astronaut), abs=1e-4)
    out = capsys.readouterr().out
    assert f"2 scores in {pictures}" in out and f"1 scores in {clips}" in out


def test_a_clip_scores_by_its_faces_and_its_voice(run, tiny, astronaut, tmp_path):
    clip = write_talk(tmp_path / "clip.mkv", [astronaut] * 6, buzz(1.0))
    assert run(clip, "--frames", "3") == 0
    seen = tiny.score_video(clip, frames=3)
    assert seen.voice is not None and abs(seen.score - seen.face) > 1e-3
    assert table(tmp_path / "prediction.txt")["y_pred"][0] == pytest.approx(seen.score, abs=1e-4)
    assert run(clip, "--frames", "3", "--no-voice") == 0
    assert table(tmp_path / "prediction.txt")["y_pred"][0] == pytest.approx(seen.face, abs=1e-4)


def test_clips_without_faces_or_pictures_are_scored_and_named(run, tiny, tmp_path, capsys):
    folder = tmp_path / "odd"
    folder.mkdir()
    scene = np.kron(np.indices((12, 16)).sum(0) % 2 * 120, np.ones((10, 10))).astype(np.uint8)
    write_talk(folder / "dull.mkv", [scene[..., None].repeat(3, 2)] * 6)
    write_talk(folder / "blank.mkv", [np.full((120, 160, 3), 90, np.uint8)] * 6)
    write_talk(folder / "blind.mkv", [], buzz(1.0))
    assert run(folder, "--frames", "2") == 0
    scores = table(tmp_path / "prediction.txt").set_index("video_name")["y_pred"]
    whole = tiny.score_video(folder / "dull.mkv", frames=2, no_face="whole")
    assert scores["dull.mkv"] == pytest.approx(whole.score, abs=1e-4)
    assert scores["blind.mkv"] == pytest.approx(tiny.score(folder / "blind.mkv"), abs=1e-4)
    lines = capsys.readouterr().err.splitlines()
    assert "dull.mkv: no face, scored whole" in lines
    assert scores["blank.mkv"] == 0.5
    assert any(
        line.startswith("blank.mkv: nothing to judge, scored 0.5: no face") for line in lines
    )
    assert any(line.startswith("blind.mkv: no pictures: ") for line in lines)


def test_sound_scores_as_its_voice_in_a_table_of_its_own(run, pictures, tmp_path, capsys):
    folder = tmp_path / "heard"
    folder.mkdir()
    shutil.copy(pictures / "0.jpg", folder / "a.jpg")
    write_sound(folder / "b.wav", buzz(2.0))
    write_sound(folder / "c.wav", np.zeros(16_000, np.float32))
    (folder / "d.flac").write_bytes(b"fLaC but no more")
    found = tmp_path / "found.json"
    assert run(folder, "--json", str(found)) == 0
    voices = table(tmp_path / "prediction_audio.txt").set_index("audio_name")["y_pred"]
    assert voices.index.tolist() == ["b.wav", "c.wav", "d.flac"]
    assert voices["b.wav"] == pytest.approx(VoiceDetector.load().score(folder / "b.wav"), abs=1e-5)
    assert voices["c.wav"] == voices["d.flac"] == 0.5
    assert table(tmp_path / "prediction.txt")["img_name"].tolist() == ["a.jpg"]
    rows = json.loads(found.read_text())
    statuses = {row["path"]: row["status"] for row in rows}
    assert statuses == {
        "a.jpg": "scored",
        "b.wav": "scored",
        "c.wav": "nothing",
        "d.flac": "unreadable",
    }
    assert rows[1]["score"] == pytest.approx(voices["b.wav"], abs=1e-6)
    assert "c.wav: nothing to judge, scored 0.5: expected at least" in capsys.readouterr().err
    assert run(folder / "b.wav") == 0
    assert table(tmp_path / "prediction.txt")["audio_name"].tolist() == ["b.wav"]
    assert run(folder, "--no-voice", out=tmp_path / "seen.txt") == 0
    assert not (tmp_path / "seen_audio.txt").exists()


def test_a_stopped_run_of_clips_goes_on(run, astronaut, tmp_path, monkeypatch):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.avi", "b.avi", "c.avi"):
        write_talk(folder / name, [astronaut] * 6)
    seen, original = [], predict.score_video

    def stop_at_third(detector, file, **options):
        seen.append(file.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return original(detector, file, **options)

    monkeypatch.setattr(predict, "score_video", stop_at_third)
    assert run(folder, "--frames", "1") == 130
    assert run(folder, "--frames", "1") == 0
    assert seen == ["a.avi", "b.avi", "c.avi", "c.avi"]
    assert len(table(tmp_path / "prediction.txt")) == 3


def test_no_file_is_left_out_and_odd_ones_are_named(run, tiny, pictures, noise, tmp_path, capsys):
    folder = tmp_path / "odd"
    folder.mkdir()
    shutil.copy(pictures / "0.jpg", folder / "a.jpg")
    whole = (pictures / "1.jpg").read_bytes()
    (folder / "b cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "c text.png").write_text("no picture")
    (folder / "d noise.png").write_bytes(encode(noise, "PNG"))
    (folder / "e clip.mp4").write_bytes(b"no clip")
    (folder / "f black.png").write_bytes(encode(np.zeros((99, 99, 3), np.uint8), "PNG"))
    (folder / "notes.txt").write_text("not listed")
    (folder / "LICENSE").write_text("nor this")
    shutil.copy(pictures / "0.jpg", folder / "x.jpg?raw=1")
    shutil.copy(pictures / "0.jpg", folder / "y")
    (folder / "z.jxl").write_bytes(b"\xff\x0a" + bytes(20))  # nothing here reads these
    assert run(folder) == 0
    rows = table(tmp_path / "prediction.txt").set_index("img_name")["y_pred"]
    names = "a.jpg|b cut.jpg|c text.png|d noise.png|f black.png|x.jpg?raw=1|y|z.jxl"
    assert rows.index.tolist() == names.split("|")
    assert rows["b cut.jpg"] == rows["c text.png"] == rows["f black.png"] == rows["z.jxl"] == 0.5
    assert rows["a.jpg"] == pytest.approx(rows["x.jpg?raw=1"], abs=1e-5)
    assert rows["a.jpg"] == pytest.approx(rows["y"], abs=1e-5)
    assert rows["d noise.png"] == pytest.approx(tiny.score(noise, no_face="whole"), abs=1e-5)
    clips = table(tmp_path / "prediction_video.txt")
    assert clips.to_numpy().tolist() == [["e clip.mp4", 0.5]]
    lines = capsys.readouterr().err.splitlines()
    for name in ("b cut.jpg", "c text.png", "e clip.mp4"):
        assert any(line.startswith(f"{name}: unreadable, scored 0.5: ") for line in lines)
    assert "d noise.png: no face, scored whole" in lines
    assert any(line.startswith("f black.png: nothing to judge, scored 0.5: ") for line in lines)
    assert not any(line.startswith("a.jpg:") for line in lines)
    assert "left out, .txt: 1 ('notes.txt')" in lines
    assert "left out, content that is not known: 1 ('LICENSE')" in lines


def test_odd_names_come_through(run, pictures, tmp_path):
    names = ["comma, and.jpg", 'quote".jpg', "two\nlines.jpg", "smörgås 面孔.jpg", " space.jpg"]
    names += ["mac\rlines.jpg", "both\r\nlines.jpg"]
    folder = tmp_path / "names"
    (folder / "sub, dir").mkdir(parents=True)
    for name in names:
        shutil.copy(pictures / "0.jpg", folder / name)
    shutil.copy(pictures / "0.jpg", folder / "sub, dir" / "x.jpg")
    assert run(folder) == 0
    with (tmp_path / "prediction.txt").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["img_name", "y_pred"]
    assert sorted(row[0] for row in rows[1:]) == sorted([*names, "sub, dir/x.jpg"])
    assert [row[0] for row in rows[1:]] == sorted(row[0] for row in rows[1:])
    scores = [float(row[1]) for row in rows[1:]]
    assert np.ptp(scores) < 1e-5  # the same picture, whatever it is called


def test_labels_print_what_scikit_learn_finds_in_the_file(run, pictures, tmp_path, capsys):
    labels = pictures.parent / "labels.csv"
    assert run(pictures, "--labels", str(labels)) == 0
    out = capsys.readouterr().out
    joined = table(tmp_path / "prediction.txt").merge(table(labels), on="img_name")
    assert len(joined) == 6
    auc = roc_auc_score(joined["target"], joined["y_pred"])
    rates, hits, _ = roc_curve(joined["target"], joined["y_pred"], drop_intermediate=False)
    assert f"AUC          {auc:.4f}\n" in out
    assert f"TPR@FPR=1e-3 {hits[rates <= 1e-3].max():.4f}\n" in out
    assert "6 files: 4 real, 2 fake, 0 without a label" in out


def test_labels_of_one_kind_are_told(run, pictures, tmp_path, capsys):
    labels = tmp_path / "labels.csv"
    labels.write_text("img_name,target\n1.jpg,0\n2.jpg,0\nother.jpg,1\n")
    assert run(pictures, "--labels", str(labels)) == 0
    out = capsys.readouterr().out
    assert "AUC needs both real and fake" in out
    assert "label without a file: 1 ('other.jpg')" in out
    assert "file without a label: 4" in out


def test_nothing_readable_is_a_failure(run, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_text("no picture")
    assert run(tmp_path / "bad") == 1
    assert table(tmp_path / "prediction.txt")["y_pred"].tolist() == [0.5]
    (tmp_path / "none").mkdir()
    assert run(tmp_path / "none") == 1
    assert "expected pictures, clips or sound but found none" in capsys.readouterr().err


def test_an_out_that_cannot_be_written_is_named(run, pictures, tmp_path, capsys):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "prediction.txt"
    with pytest.raises(SystemExit) as ended:
        run(pictures / "0.jpg", out=out)
    assert ended.value.code == 2
    assert f"{out}: cannot be written" in capsys.readouterr().err


def test_a_new_folder_for_the_result_is_made(run, pictures, tmp_path):
    out = tmp_path / "new" / "folder" / "prediction.csv"
    assert run(pictures / "0.jpg", out=out) == 0
    assert len(table(out)) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors: expected a weights file"),
        (["--labels", "nowhere.csv"], "nowhere.csv: expected a label file"),
        (["--device", "quantum"], "expected a device .* but got 'quantum'"),
        (["--tta", "rotate"], "invalid choice: 'rotate'"),
        (["--precision", "fp16"], "expected fp32 or bf16 on a CPU"),
        (["--precision", "fp8"], "invalid choice: 'fp8'"),
        (["--batch-size", "0"], "expected --batch-size of at least 1 but got 0"),
        (["--frames", "0"], "expected --frames of at least 1 but got 0"),
    ],
)
def test_wrong_arguments_end_with_a_message(run, pictures, capsys, more, message):
    with pytest.raises(SystemExit) as caught:
        run(pictures, *more)
    assert caught.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("option", ["--out", "--json"])
@pytest.mark.parametrize("read", ["picture", "labels"])
def test_nothing_that_is_read_is_written_over(run, pictures, tmp_path, capsys, option, read):
    picture, labels = tmp_path / "a.jpg", tmp_path / "labels.csv"
    shutil.copy(pictures / "0.jpg", picture)
    labels.write_text("path,target\na.jpg,0\n")
    file = {"picture": picture, "labels": labels}[read]
    before = file.read_bytes()
    with pytest.raises(SystemExit, match="2"):
        run(picture, "--labels", str(labels), option, str(file))
    assert f"expected a file for {option} that nothing else uses" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_picture_of_the_folder_is_not_written_over(run, pictures, tmp_path, capsys):
    folder = tmp_path / "folder"
    shutil.copytree(pictures, folder)
    before = (folder / "0.jpg").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        run(folder, out=folder / "0.jpg")
    assert "expected a file for --out that nothing else uses" in capsys.readouterr().err
    assert (folder / "0.jpg").read_bytes() == before
    assert run(folder, out=folder / "prediction.txt") == 0


def test_two_results_are_not_written_to_one_file(run, pictures, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(pictures, "--json", str(tmp_path / "prediction.txt"))
    assert "expected a file for --json that nothing else uses" in capsys.readouterr().err


def test_missing_data_ends_with_a_message(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        run(tmp_path / "nowhere")
    assert caught.value.code == 2
    assert "nowhere: expected a picture, a clip or a folder" in capsys.readouterr().err


def test_the_shipped_weights_are_the_default(shipped, pictures, tmp_path):
    out = tmp_path / "prediction.txt"
    assert predict.main([str(pictures / "0.jpg"), "--out", str(out), "--device", "cpu"]) == 0
    assert table(out)["y_pred"][0] == pytest.approx(shipped.score(pictures / "0.jpg"), abs=1e-4)
