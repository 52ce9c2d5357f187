"""The search of clips: where it looks, and that it finds what a search of whole frames finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocess.faces.detect import FaceDetector
from preprocess.faces.search import ClipSearch
from preprocess.io.clips import key_frames
from tests.real import needs

from .test_faces import overlap
from .test_tracks import stage


class Recorder(FaceDetector):
    """Notes for every search how many faces it was near, "whole" for one of the whole frame."""

    def detect(self, pixels, near=None):
        self.searches.append("whole" if near is None else len(near))
        return super().detect(pixels, near)

    def large(self, pixels, share):
        self.searches.append("large")
        return super().large(pixels, share)


@pytest.fixture
def detector() -> Recorder:
    detector = Recorder()
    detector.searches = []
    return detector


LEFT, RIGHT = (60, 40, 0.6), (420, 120, 0.5)


def look(detector, astronaut, looks) -> list[int]:
    """How many faces are found in frames given as time, shot and what is where."""
    search = ClipSearch(detector)
    return [len(search.find(stage(astronaut, *places), *at)) for *at, places in looks]


def test_whole_frames_are_searched_every_half_second(detector, astronaut):
    counts = look(detector, astronaut, [(i / 8, 0, [LEFT]) for i in range(9)])
    assert counts == [1] * 9
    assert detector.searches == ["whole", 1, 1, 1] * 2 + ["whole"]


def test_who_comes_new_is_found_with_the_next_whole_frame(detector, astronaut):
    looks = [(i / 8, 0, [LEFT, RIGHT] if i >= 2 else [LEFT]) for i in range(6)]
    assert look(detector, astronaut, looks) == [1, 1, 1, 1, 2, 2]
    assert detector.searches == ["whole", 1, 1, 1, "whole", 2]


def test_a_cut_and_a_long_time_call_for_a_whole_frame(detector, astronaut):
    looks = [
        (0, 0, [LEFT]),
        (0.1, 0, [LEFT]),
        (0.2, 1, [RIGHT]),
        (0.3, 1, [RIGHT]),
        (0.6, 1, [RIGHT]),
    ]
    assert look(detector, astronaut, looks) == [1] * 5
    assert detector.searches == ["whole", 1, "whole", 1, "whole"]


def test_a_face_that_is_gone_is_looked_for_everywhere_once_and_then_where_it_was(
    detector, astronaut
):
    looks = [(i / 16, 0, [LEFT] if i in (2, 3) else [LEFT, RIGHT]) for i in range(6)]
    assert look(detector, astronaut, looks) == [2, 2, 1, 1, 2, 2]
    assert detector.searches == ["whole", 2, 2, "whole", 2, 2, 2]


def test_without_a_face_whole_frames_are_searched(detector, astronaut):
    assert look(detector, astronaut, [(i / 8, 0, []) for i in range(3)]) == [0, 0, 0]
    assert detector.searches == ["whole"] * 3


def test_faces_that_are_large_enough_are_looked_for_with_a_share(detector, astronaut):
    frames = [stage(astronaut, LEFT, RIGHT, (300, 20, 0.3)) for _ in range(5)]
    search = ClipSearch(detector, share=0.6)
    found = [search.find(frame, i / 8, 0) for i, frame in enumerate(frames)]
    assert detector.searches == ["large", 2, 2, 2, "large"]
    wanted = detector.detect(frames[0])
    assert len(wanted) == 3
    for faces in found:
        assert [overlap(a.box, b.box) > 0.95 for a, b in zip(faces, wanted, strict=False)] == [1, 1]


def test_real_clips_lose_no_face(shared: Path, detector):
    files = sorted(needs(shared / "av/video").rglob("*.mp4"))[::50]
    wanted = found = 0
    for file in files:
        search = ClipSearch(detector)
        for key, _ in zip(key_frames(file, frames=10_000), range(8), strict=False):
            faces = search.find(key.picture.pixels, key.time, key.shot)
            for face in detector.detect(key.picture.pixels):
                wanted += 1
                found += any(overlap(face.box, other.box) >= 0.95 for other in faces)
    assert wanted >= 20 and found >= 0.99 * wanted
    near = [count for count in detector.searches if count != "whole"]
    assert len(near) >= 0.8 * 8 * len(files)
