"""Tracks: who is who from key frame to key frame, and what of it is cached."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pytest

from preprocess import crop
from preprocess.cache.reader import CacheReader
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import CropSettings
from preprocess.faces.tracks import Tracker, clip_faces
from preprocess.io.decode import DecodeError

WIDTH, HEIGHT = 640, 360


def box(x: float, y: float, side: float) -> list[float]:
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def follow(frames, times=None, shots=None, sizes=None) -> list[list[int]]:
    """Tracks of the boxes of each frame, given as (x, y, side)."""
    tracker, numbers = Tracker(), []
    for index, faces in enumerate(frames):
        width, height = sizes[index] if sizes else (WIDTH, HEIGHT)
        boxes = np.array([box(*face) for face in faces]).reshape(-1, 4)
        time = times[index] if times else index / 2
        numbers.append(tracker.add(boxes, width, height, time, shots[index] if shots else 0))
    return numbers


def test_two_people_keep_their_tracks_whatever_the_order():
    left, right = (200, 150, 80), (400, 150, 82)
    assert follow([[left, right], [right, left], [left, right]]) == [[0, 1], [1, 0], [0, 1]]


def test_motion_tells_two_people_apart_who_pass_each_other():
    frames = [[(200 + 40 * i, 150, 80), (440 - 40 * i, 160, 80)] for i in range(7)]
    assert follow(frames) == [[0, 1]] * 7


def test_cuts_end_tracks():
    assert follow([[(200, 150, 80)]] * 4, shots=[0, 0, 1, 1]) == [[0], [0], [1], [1]]


def test_another_place_or_another_size_is_another_track():
    assert follow([[(150, 150, 80)], [(450, 150, 80)]]) == [[0], [1]]
    assert follow([[(150, 150, 60)], [(150, 150, 180)]]) == [[0], [1]]


def test_a_face_that_was_missed_goes_on_but_not_for_ever():
    face = [(200, 150, 80)]
    assert follow([face, [], [], face]) == [[0], [], [], [0]]
    assert follow([face, [], [], [], face]) == [[0], [], [], [], [1]]


def test_more_may_happen_in_more_time():
    frames = [[(200, 150, 80)], [(260, 150, 80)]]
    assert follow(frames, times=[0, 0.1]) == [[0], [1]]
    assert follow(frames, times=[0, 1.0]) == [[0], [0]]


def test_a_track_survives_a_change_of_the_frame_s_size():
    frames = [[(200, 150, 80)], [(400, 300, 160)]]
    assert follow(frames, sizes=[(640, 360), (1280, 720)]) == [[0], [0]]


def test_ranks_and_region():
    tracker = Tracker()
    assert tracker.region() is None and tracker.ranks() == {}
    tracker.add(np.array([box(100, 90, 60), box(500, 180, 90)]), WIDTH, HEIGHT, 0.0, 0)
    expected = [70 / WIDTH, 60 / HEIGHT, 545 / WIDTH, 225 / HEIGHT]
    np.testing.assert_allclose(tracker.region(), expected)
    tracker.add(np.array([box(100, 90, 60)]), WIDTH, HEIGHT, 0.5, 0)
    assert tracker.ranks() == {1: 0, 0: 1}  # 90 squared is more than twice 60 squared
    tracker.add(np.array([box(100, 90, 60)]), WIDTH, HEIGHT, 1.0, 0)
    assert tracker.ranks() == {0: 0, 1: 1}


# Clips of one face, large or small, in this place or that.


def stage(astronaut: np.ndarray, *places: tuple[int, int, float], shade: int = 90) -> np.ndarray:
    """A 360 x 640 frame with the portrait, shrunk, at (x, y) of its corner."""
    frame = np.full((HEIGHT, WIDTH, 3), shade, np.uint8)
    for x, y, scale in places:
        face = cv2.resize(
            astronaut[:260, 90:350], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
        )
        frame[y : y + len(face), x : x + face.shape[1]] = face
    return frame


def write(file: Path, frames, codec: str = "mpeg4", rate: int = 10) -> Path:
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.bit_rate = 4_000_000
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="module")
def interview(astronaut, tmp_path_factory) -> Path:
    """Two people for 2 s, one after the other drifting; then a cut to one of them, large."""
    both = [stage(astronaut, (30 + 4 * i, 60, 0.8), (400, 90, 0.6)) for i in range(20)]
    close = [stage(astronaut, (250, 40, 1.1), shade=200)] * 20
    folder = tmp_path_factory.mktemp("interview") / "data"
    folder.mkdir()
    return write(folder / "clip.mp4", [*both, *close])


def test_a_clip_of_two_shots_and_two_people(interview, detector):
    found = clip_faces(interview, detector, CropSettings(), frames=8)
    table = pd.DataFrame(
        [
            {
                "shot": f.shot,
                "track": f.track,
                "time": f.time,
                "x": float(f.face.box[[0, 2]].mean()),
            }
            for f in found
        ]
    )
    tracks = table.groupby("track")
    assert tracks["shot"].nunique().eq(1).all() and len(tracks) == 3
    assert tracks.size().tolist() == [4, 4, 4]
    assert tracks["shot"].first().tolist() == [1, 0, 0]  # the large one is first
    drift = tracks["x"].max() - tracks["x"].min()
    assert drift[1] > 40 and drift[2] < 10  # the one that moved is not the one that stood
    assert table["time"].is_monotonic_increasing
    assert (table["time"] >= 2).tolist() == (table["shot"] == 1).tolist()
    assert all(f.crop.shape == (256, 256, 3) and f.width == WIDTH for f in found)


def test_the_cache_holds_the_largest_track_of_each_shot_or_all(interview, tmp_path, detector):
    found = clip_faces(interview, detector, CropSettings(), frames=8)
    for faces, tracks in (("all", {0, 1, 2}), ("largest", {0, 1})):
        options = ["--maps", "none", "--workers", "0", "--quiet", "--faces", faces]
        out = tmp_path / faces
        assert crop.main([str(interview.parent), "--out", str(out), *options]) == 0
        reader = CacheReader(out)
        rows = reader.metadata
        assert rows["key"].is_unique and set(rows["face"]) == tracks
        assert rows["group"].nunique() == 1
        wanted = [f for f in found if f.track in tracks]
        assert rows["frame"].tolist() == [f.frame for f in wanted]
        for index in (0, len(rows) - 1):
            np.testing.assert_array_equal(reader.crop(index), wanted[index].crop)


def test_the_detector_is_asked_no_more_often_than_there_are_frames(interview, monkeypatch):
    looks = []
    detect = FaceDetector.detect
    monkeypatch.setattr(FaceDetector, "detect", lambda *a: looks.append(1) or detect(*a))
    clip_faces(interview, FaceDetector(), CropSettings(), frames=6)
    assert len(looks) == 6


def test_a_frame_where_the_main_face_is_missing_gives_no_other(astronaut, tmp_path, detector):
    frames = [
        stage(astronaut, *([(60, 40, 0.6)] if i // 4 != 2 else []), (480, 200, 0.35))
        for i in range(20)
    ]
    clip = write(tmp_path / "clip.mp4", frames)
    everyone = clip_faces(clip, detector, CropSettings(), frames=5)
    assert sorted(f.track for f in everyone) == [0] * 4 + [1] * 5
    assert {f.shot for f in everyone} == {0}
    largest = clip_faces(clip, detector, CropSettings(), frames=5, people="largest")
    assert [f.track for f in largest] == [0] * 4


def test_without_a_face_and_without_a_clip(tmp_path, detector):
    clip = write(tmp_path / "grey.mp4", [np.full((120, 160, 3), 90, np.uint8)] * 5)
    assert clip_faces(clip, detector, CropSettings(), frames=4) == []
    (tmp_path / "text.mp4").write_text("no clip")
    with pytest.raises(DecodeError, match=r"text\.mp4: expected an mp4"):
        clip_faces(tmp_path / "text.mp4", detector, CropSettings(), frames=4)
