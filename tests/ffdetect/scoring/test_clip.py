"""Clips: their frames over time, tracks, voice and the score of all; and clips that are odd."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import trim_mean

from ffdetect.models.tensor_file import read_tensors, write_tensors
from ffdetect.scoring import clip as video
from ffdetect.scoring.analysis import NoFaceError
from ffdetect.scoring.clip import any_of, pool, score_video
from ffdetect.scoring.detector import Detector
from ffdetect.scoring.fusion import Fusion
from ffdetect.voice import VoiceDetector
from preprocess.faces.tracks import clip_faces
from preprocess.io.decode import DecodeError
from tests.ffdetect.clips import write_talk
from tests.ffdetect.helpers import write_cache
from tests.fuzz import little_memory
from tests.preprocess.media import damage, small_photo, write
from tests.preprocess.sounds import buzz

GREY = np.full((120, 160, 3), 90, np.uint8)
CHECKS = np.kron(np.indices((12, 16)).sum(0) % 2 * 120, np.ones((10, 10)))[..., None].repeat(3, 2)
CHECKS = CHECKS.astype(np.uint8)


@pytest.fixture(scope="module")
def talk(astronaut, tmp_path_factory) -> Path:
    """2 s of a nodding head, then 2 s of another one beside it, all with sound."""
    head = cv2.resize(astronaut[:260, 90:350], (180, 180), interpolation=cv2.INTER_AREA)
    pictures = []
    for number in range(40):
        frame = np.full((240, 480, 3), 120, np.uint8)
        frame[20 + number % 4 : 200 + number % 4, 20:200] = head
        if number >= 20:
            frame[30:210, 260:440] = head[:, ::-1] // 2 + 30
        pictures.append(frame)
    file = tmp_path_factory.mktemp("talk") / "talk.mkv"
    return write_talk(file, pictures, buzz(4.0))


@pytest.fixture(scope="module")
def clips(tiny_weights) -> Detector:
    """Random weights whose logits count as those of the package do."""
    detector = Detector.load(tiny_weights, "cpu")
    detector.shipped = "best"
    return detector


def odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_frames_of_clips_have_margins_of_their_own(talk, tmp_path):
    with resources.as_file(resources.files("ffdetect.weights") / "fast.safetensors") as file:
        tensors, described = read_tensors(file)
    about = json.loads(described["ffdetect"])
    for kind in about["network"]["kinds"].values():
        kind["clip_margin"] -= 2
    moved = tmp_path / "moved.safetensors"
    write_tensors(moved, tensors, {"ffdetect": json.dumps(about)})
    detector = Detector.load(moved)
    frame = detector.score_video(talk, frames=2, voice=False).frames[0]
    logit = float(Detector.load("fast").crop_logits(frame.crop[None], clip=True)[0, 0]) + 2
    own = detector.calibration
    assert odds(frame.score) == pytest.approx(logit / own.temperature + own.bias, abs=1e-3)
    # So they have in a cache, among pictures.
    rows = [{"crop": frame.crop, "frame": number, "face": 0} for number in (-1, 0, -1, 5)]
    cached = write_cache(tmp_path / "cache", rows, size=320, margin=0.2, detail=176)
    logits = detector.cache_logits(cached, [3, 0, 1], batch_size=2)
    picture = float(detector.crop_logits(frame.crop[None])[0, 0])
    assert picture < logit - 0.1
    np.testing.assert_allclose(logits, [logit, picture, logit], atol=1e-3)


def test_frames_tracks_face_voice_and_all(talk, clips):
    seen = clips.score_video(talk, frames=8)
    fusion = Fusion.load().in_one_range()
    found = clip_faces(talk, clips.face_detector, clips.crop_settings, frames=8)
    crops = np.stack([one.crop for one in found])
    logits = clips.crop_logits(crops)[0].numpy()
    assert len(found) >= 12 and len(seen.tracks) == 2
    assert [(f.time, f.track) for f in seen.frames] == [(one.time, one.track) for one in found]
    for frame, one, logit in zip(seen.frames, found, logits, strict=True):
        np.testing.assert_array_equal(frame.crop, one.crop)
        np.testing.assert_array_equal(frame.box, one.face.box)
        assert odds(frame.score) == pytest.approx(fusion.face.log_ratio(logit), abs=1e-4)
    ratios, counts = [], []
    for track in seen.tracks:
        own = [logit for one, logit in zip(found, logits, strict=True) if one.track == track.track]
        ratios.append(fusion.face.log_ratio(trim_mean(own, 0.2)))
        counts.append(len(own))
        assert odds(track.score) == pytest.approx(ratios[-1], abs=1e-4)
        assert track.start == track.frames[0].time < track.end == track.frames[-1].time
    assert counts[0] > counts[1] >= 3
    face = np.log(np.dot(np.exp(ratios), counts) / np.sum(counts))
    assert odds(seen.face) == pytest.approx(face, abs=1e-4)
    voice = fusion.voice.log_ratio(odds(VoiceDetector.load().score(talk)))
    assert odds(seen.voice) == pytest.approx(voice, abs=1e-3)
    assert odds(seen.score) == pytest.approx(fusion.log_ratio(face, voice), abs=1e-3)
    assert [(w.start, w.end) for w in seen.windows] == [(0, pytest.approx(4, abs=0.01))]
    assert seen.notes == () and seen.name == str(talk)


def test_score_takes_clips(talk, tiny):
    expected = tiny.score_video(talk).score
    assert tiny.score(talk) == pytest.approx(expected, abs=1e-6)
    assert tiny.score(str(talk)) == pytest.approx(expected, abs=1e-6)


def test_other_weights_count_as_they_say(talk, tiny):
    seen = tiny.score_video(talk, frames=4, voice=False)
    crops = np.stack([frame.crop for frame in seen.frames])
    np.testing.assert_allclose(
        [frame.score for frame in seen.frames], tiny.score_crops(crops), atol=1e-5
    )
    assert seen.voice is None and seen.windows == () and seen.score == seen.face


def test_either_may_be_missing(talk, clips, tmp_path, astronaut):
    mute = write_talk(tmp_path / "mute.mp4", [astronaut] * 5)
    seen = clips.score_video(mute, frames=2)
    assert seen.score == seen.face and seen.voice is None
    assert seen.notes == () and seen.no_voice == "expected sound but it has no audio stream"
    blind = write_talk(tmp_path / "blind.mkv", [], buzz(2.0))
    seen = clips.score_video(blind, frames=2)
    assert seen.score == seen.voice and seen.face is None and seen.tracks == ()
    assert "no video stream" in seen.notes[0]
    with pytest.raises(DecodeError, match="no video stream"):
        clips.score_video(blind, voice=False)
    assert clips.score(blind) == seen.voice


def test_without_a_face(clips, tmp_path):
    dull = write_talk(tmp_path / "dull.mp4", [GREY] * 8)
    seen = clips.score_video(dull)
    assert math.isnan(seen.score) and seen.face is None and seen.notes[0] == "no face"
    with pytest.raises(NoFaceError, match=r"dull\.mp4: expected a face or a voice"):
        clips.score(dull)
    assert math.isnan(clips.score(dull, no_face="nan"))
    with pytest.raises(NoFaceError, match=r"dull\.mp4: expected a face or a voice"):
        clips.score(dull, no_face="whole")  # blank frames show nothing
    scene = write_talk(tmp_path / "scene.mp4", [CHECKS] * 8)
    whole = clips.score_video(scene, frames=3, no_face="whole")
    assert whole.notes == () and whole.whole and 0 <= whole.score <= 1
    assert len(whole.frames) == 3 and whole.frames[0].box is None
    assert clips.score(scene, no_face="whole") == pytest.approx(whole.score, abs=0.3)
    talking = write_talk(tmp_path / "talking.mkv", [GREY] * 8, buzz(1.0))
    seen = clips.score_video(talking)
    assert seen.score == seen.voice and seen.notes == ("no face",) and not seen.whole


@pytest.mark.parametrize(
    ("name", "samples", "options"),
    [
        ("short", buzz(0.3), {}),
        ("silent", np.zeros(32_000, np.float32), {}),
    ],
)
def test_sound_that_says_nothing(clips, tmp_path, name, samples, options):
    noise = np.random.default_rng(0).integers(0, 256, GREY.shape, np.uint8)  # grey says nothing
    clip = write_talk(tmp_path / f"{name}.mkv", [noise] * 10, samples, **options)
    seen = clips.score_video(clip, frames=2, no_face="whole")
    assert seen.voice is None and seen.windows == () and seen.score == seen.face
    assert seen.no_voice.startswith("expected at least 0.5 s of sound") and seen.whole


@pytest.mark.parametrize(("rate", "channels", "layout"), [(192_000, 1, "mono"), (16_000, 8, "7.1")])
def test_sound_of_many_channels_and_of_high_rates(clips, tmp_path, rate, channels, layout):
    samples = np.tile(buzz(1.0, rate), (channels, 1))
    clip = write_talk(tmp_path / "c.mkv", [GREY] * 10, samples, rate=rate, layout=layout)
    seen = clips.score_video(clip, frames=1)
    assert seen.score == seen.voice and 0 < seen.voice < 1
    assert seen.windows[-1].end == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("content", [b"", b"no clip" * 99])
def test_files_that_are_no_clips(clips, tmp_path, content):
    file = tmp_path / "odd.mp4"
    file.write_bytes(content)
    with pytest.raises(DecodeError, match=r"odd\.mp4: expected an mp4"):
        clips.score_video(file)
    with pytest.raises(DecodeError, match=r"gone\.mp4: expected a clip but got no file"):
        clips.score(tmp_path / "gone.mp4")


def test_a_clip_of_no_length(clips, tmp_path):
    file = tmp_path / "empty.mkv"
    write_talk(file, [GREY], np.zeros(16, np.float32))
    data = file.read_bytes()
    file.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # nothing after the header
    with pytest.raises(DecodeError, match=r"empty\.mkv: expected"):
        clips.score_video(file)


def test_a_broken_tail_scores_what_is_there(talk, clips, tmp_path):
    data = talk.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 2])
    seen = clips.score_video(cut, frames=4)
    assert 0 < seen.score < 1 and seen.frames[-1].time < 3


def test_three_hours_in_little_memory(clips, tmp_path, astronaut):
    """A picture every minute; sound for 8 s, then silence."""
    seconds, rate = 3 * 3600, 2_000
    samples = np.zeros(seconds * rate, np.float32)
    samples[: 8 * rate] = buzz(8.0, rate)
    pictures = [astronaut[:240, 100:340]] * 180
    file = write_talk(
        tmp_path / "long.mkv", pictures, samples, rate=rate, times=range(0, seconds, 60)
    )
    del samples
    clips.score_video(write_talk(tmp_path / "s.mkv", pictures[:2], buzz(1.0)))  # all is loaded
    with little_memory(300):
        seen = clips.score_video(file, frames=4)
    # Those on screen at 1/8, 3/8, 5/8 and 7/8 of the way to the last picture.
    assert [frame.time for frame in seen.frames] == [1320, 4020, 6660, 9360]
    assert len(seen.windows) == seconds / 4
    judged = [math.isfinite(window.score) for window in seen.windows]
    assert judged[:2] == [True, True] and not any(judged[3:])


def test_wrong_arguments(clips, talk):
    with pytest.raises(ValueError, match=r"expected frames to be .* at least 1 but got 0"):
        clips.score_video(talk, frames=0)
    with pytest.raises(ValueError, match="expected no_face to be 'nan' or 'whole' but got 'raise'"):
        score_video(clips, talk, no_face="raise")
    with pytest.raises(ValueError, match="expected no_face to be one of"):
        clips.score(talk, no_face="maybe")
    for clip in (5, None, b"talk.mp4"):
        with pytest.raises(DecodeError, match="expected the path of a clip but got"):
            clips.score_video(clip)


def test_frames_are_pooled_without_the_ends():
    rng = np.random.default_rng(0)
    for count in (1, 2, 4, 5, 8, 23):
        logits = rng.normal(size=count)
        assert pool(logits) == pytest.approx(trim_mean(logits, 0.2))
    steady = np.full(8, -1.0)
    assert pool(np.where(np.arange(8) == 3, 50, steady)) == -1


def test_a_fake_among_several_people_shows_and_a_glimpse_counts_little():
    real, fake = -1.0, 2.0
    alone = any_of(np.array([real]), np.array([8]))
    assert alone == pytest.approx(real)
    both = any_of(np.array([real, fake]), np.array([8, 8]))
    glimpse = any_of(np.array([real, fake]), np.array([8, 1]))
    assert real < glimpse < both - 1 < both < fake


def test_the_voice_is_loaded_when_first_needed(tiny_weights):
    code = (
        "import sys; from ffdetect import Detector; Detector.load(sys.argv[1], 'cpu');"
        "print('ffdetect.voice' in sys.modules, 'ffdetect.scoring.clip' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run(
        [sys.executable, "-c", code, tiny_weights],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["False", "False"]


def test_views_are_averaged(talk, tiny):
    seen = score_video(tiny, talk, frames=2, voice=False, tta="flip")
    crops = torch.from_numpy(np.stack([f.crop for f in seen.frames])).permute(0, 3, 1, 2)
    expected = tiny.crop_logits(crops, tta="flip").mean(0).sigmoid().numpy()
    np.testing.assert_allclose([f.score for f in seen.frames], expected, atol=1e-5)


def test_challenge_clips(shared, clips):
    for file in sorted((shared / "challenge/multiFFDV/phase1/valset").glob("*.mp4"))[:2]:
        seen = clips.score_video(file, frames=4)
        assert seen.face is not None and seen.voice is not None and 0 < seen.score < 1
        assert video.pool([frame.score for frame in seen.tracks[0].frames]) > 0


def test_damage_is_noted(astronaut, clips, tmp_path):
    whole = write(tmp_path / "whole.avi", [small_photo(astronaut, 160, 200)] * 20, "mpeg4")
    bad = damage(whole, tmp_path / "bad.avi", [7, 8])
    seen = clips.score_video(bad, frames=2, voice=False)
    assert seen.notes == ("2 damaged packets of pictures skipped",) and 0 < seen.score < 1
