"""Views that heads learn from: repeatable, blind to the class, and of the protocol's shape."""

from __future__ import annotations

import io
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image

from ffdetect.solving import views
from ffdetect.solving.views import FRAME_SIDE, SIDE, degraded, jpeg, matched, middle


@pytest.fixture(scope="module")
def frame(astronaut) -> np.ndarray:
    """A face with its surroundings: uint8 388 x 388 x 3."""
    return np.ascontiguousarray(astronaut[:FRAME_SIDE, 40 : 40 + FRAME_SIDE])


def test_the_middle_is_the_protocols_square(frame):
    got = middle(frame)
    np.testing.assert_array_equal(got, frame[34:354, 34:354])
    assert got.shape == (SIDE, SIDE, 3)


def test_a_matched_view_is_coded_once(frame):
    stream = io.BytesIO()
    Image.fromarray(middle(frame)).save(stream, "JPEG", quality=85)
    np.testing.assert_array_equal(matched(frame, False), np.asarray(Image.open(stream)))


def test_a_large_face_has_the_detail_of_others(frame):
    plain, limited = middle(frame).astype(np.float32), matched(frame, True).astype(np.float32)
    steps = [np.abs(np.diff(x, axis=1)).mean() for x in (plain, limited)]
    assert steps[1] < 0.8 * steps[0]
    assert np.abs(cv2.blur(plain, (9, 9)) - cv2.blur(limited, (9, 9))).mean() < 1


def test_less_quality_changes_more(frame):
    x = middle(frame)
    loss = [np.abs(jpeg(x, quality).astype(float) - x).mean() for quality in (95, 70, 40)]
    assert 0 < loss[0] < loss[1] < loss[2]


def test_degraded_views_of_a_large_face_have_no_more_detail_than_others(frame):
    def detail(x: np.ndarray) -> float:
        return float(np.abs(np.diff(x.astype(np.float32), axis=1)).mean())

    limited = plain = 0.0
    for number in range(16):
        seen = degraded(frame, f"face {number}", large=True)
        assert seen.shape == (SIDE, SIDE, 3)
        np.testing.assert_array_equal(seen, degraded(frame, f"face {number}", large=True))
        limited += detail(seen)
        plain += detail(degraded(frame, f"face {number}"))
    assert limited < 0.85 * plain


@pytest.mark.parametrize("key", ["a", "b", "c", "d"])
def test_the_key_decides_everything(frame, key):
    first, second = degraded(frame, key), degraded(frame, key)
    assert first.shape == (SIDE, SIDE, 3) and first.dtype == np.uint8
    assert np.abs(first.astype(int) - second).max() <= 1
    assert np.abs(first.astype(int) - degraded(frame, key + "x")).mean() > 1


def test_h264_gives_the_same_view_every_time(frame, monkeypatch):
    coded: set[str] = set()
    with monkeypatch.context() as patch:
        patch.setattr(views, "recoded", lambda x, *_, **__: x)
        patch.setattr(views, "as_clip", lambda x, codec, *_: (coded.add(codec), x)[1])
        keys = []
        for number in range(150):
            coded.clear()
            degraded(frame, f"clip {number}")
            keys += [f"clip {number}"] if "libx264" in coded else []
    assert len(keys) > 5
    for key in keys:
        first, *more = (degraded(frame, key) for _ in range(5))
        assert all(np.array_equal(first, again) for again in more)


def test_a_view_still_shows_the_face(frame):
    wanted = cv2.resize(cv2.cvtColor(middle(frame), cv2.COLOR_RGB2GRAY), (32, 32)).astype(float)
    for number in range(6):
        seen = degraded(frame, f"face {number}")
        small = cv2.resize(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY), (32, 32)).astype(float)
        alike = max(np.corrcoef(x.ravel(), wanted.ravel())[0, 1] for x in (small, small[:, ::-1]))
        assert alike > 0.7


def test_the_picture_has_no_say_in_what_is_done_to_it(frame, monkeypatch):
    """Real and fake of one key go through the same codings, whatever they show."""
    done: list[tuple] = []
    recoded, as_clip = views.recoded, views.as_clip

    def note(x, coding, **options):
        done.append((x.shape, coding, tuple(sorted(options.items()))))
        return recoded(x, coding, **options)

    def note_clip(x, codec, crf, rng):
        done.append((x.shape, codec, crf))
        return as_clip(x, codec, crf, rng)

    monkeypatch.setattr(views, "recoded", note)
    monkeypatch.setattr(views, "as_clip", note_clip)
    other = np.ascontiguousarray(255 - frame[::-1])
    for number in range(4):
        degraded(frame, f"pair {number}")
        first = done.copy()
        done.clear()
        degraded(other, f"pair {number}")
        assert done == first
        done.clear()


def test_keys_draw_every_kind_of_coding(frame, monkeypatch):
    seen: Counter[str] = Counter()
    grey = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(views, "recoded", lambda x, coding, **_: (seen.update([coding]), x)[1])
    monkeypatch.setattr(views, "as_clip", lambda x, codec, *_: (seen.update([codec]), x)[1])
    for number in range(300):
        views.coded(grey, np.random.default_rng(number))
    assert seen.keys() == {"JPEG", "WEBP", "libx264", "libx265", "libvpx-vp9"}
    assert seen["JPEG"] > seen["libx264"] > 0
    assert sum(seen.values()) < 300  # some are not coded at all


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_a_frame_of_a_clip_is_the_picture_coded(frame, codec):
    x = middle(frame)[:101, :103]
    got = views.as_clip(x, codec, 28, np.random.default_rng(0))
    assert got.shape == (100, 102, 3) and got.dtype == np.uint8
    away = np.abs(got.astype(float) - x[:100, :102]).mean()
    assert 0.3 < away < 20
