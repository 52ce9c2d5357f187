"""The plot of a clip: which frames it shows, its spectrogram, and the command."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ffdetect.scoring import plot_video as command
from ffdetect.scoring.clip import FrameScore, TrackScore, VideoScore
from ffdetect.scoring.plot_video import frames_that_matter, mel_over_time
from preprocess.io.mel import sound_maps
from tests.ffdetect.clips import write_talk
from tests.preprocess.sounds import buzz, write_sound

pytest.importorskip("matplotlib", reason="drawing needs matplotlib")


def frame(time: float, score: float, track: int = 0) -> FrameScore:
    return FrameScore(round(25 * time), time, track, score, None, np.zeros((8, 8, 3), np.uint8))


def video_of(*frames: FrameScore) -> VideoScore:
    return VideoScore("clip", 0.5, 0.5, None, (TrackScore(0, 0.5, frames),), (), ())


def test_the_highest_and_the_lowest_scores_are_shown_in_order_of_time():
    scores = [0.5, 0.9, 0.5, 0.1, 0.8, 0.5, 0.2]
    seen = video_of(*(frame(i, score) for i, score in enumerate(scores)))
    assert [f.time for f in frames_that_matter(seen, 4)] == [1, 3, 4, 6]
    assert len(frames_that_matter(seen, 9)) == 7 and frames_that_matter(video_of()) == []


def test_the_spectrogram_is_that_of_the_cache(tmp_path):
    samples = buzz(5.0)
    mel, step = mel_over_time(write_sound(tmp_path / "a.wav", samples))
    assert mel.shape == (80, 500) and step == 0.01
    expected = sound_maps(torch.from_numpy(samples)[None])[0][0].numpy()
    inner = [i for i in range(2, 498) if abs(i - 400) > 2]  # blocks end at 4 s
    np.testing.assert_allclose(mel[:, inner], expected[:, inner], atol=0.5)


def test_long_sound_is_drawn_in_fewer_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "MOST_COLUMNS", 500)
    mel, step = mel_over_time(write_sound(tmp_path / "a.wav", buzz(12.0)))
    assert step == 0.04 and mel.shape == (80, 300)


def test_a_clip_becomes_a_picture(tmp_path, astronaut, tiny_weights, capsys):
    clip = write_talk(tmp_path / "talk.mkv", [astronaut] * 10, buzz(1.0))
    out = tmp_path / "new" / "plot.png"
    options = ["--out", str(out), "--weights", str(tiny_weights), "--frames", "3"]
    assert command.main([str(clip), *options, "--device", "cpu"]) == 0
    pixels = np.array(Image.open(out).convert("RGB"))
    assert pixels.shape[:2] == (902, 1320) and str(out) in capsys.readouterr().out
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000
    assert [file.name for file in out.parent.iterdir()] == ["plot.png"]


def test_without_a_face_and_without_sound(tmp_path, tiny_weights, capsys):
    clip = write_talk(tmp_path / "dull.mp4", [np.full((120, 160, 3), 90, np.uint8)] * 5)
    options = ["--weights", str(tiny_weights), "--device", "cpu"]
    assert command.main([str(clip), "--out", str(tmp_path / "a.png"), *options]) == 0
    assert (tmp_path / "a.png").is_file()
    (tmp_path / "no.mp4").write_text("no clip")
    assert command.main([str(tmp_path / "no.mp4"), "--out", str(tmp_path / "b.png"), *options]) == 1
    assert "no.mp4: expected an mp4" in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()


def test_wrong_arguments_end_with_a_message(tmp_path, capsys):
    clip = str(tmp_path / "clip.mp4")
    for more, message in (
        (["--out", clip], "expected a file for --out that nothing else uses"),
        (["--out", "a.png", "--frames", "0"], "expected --frames of at least 1 but got 0"),
        (["--out", "a.png", "--weights", "none.safetensors"], "expected a weights file"),
    ):
        with pytest.raises(SystemExit) as caught:
            command.main([clip, *more])
        assert caught.value.code == 2 and message in capsys.readouterr().err
