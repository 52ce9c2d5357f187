"""Damaged clips: what is damaged is skipped and counted, all else is seen."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from preprocess.io.clips import key_frames
from preprocess.io.formats import DecodeError

from ..media import damage, number_of, numbered, overwrite, write

COUNT = 100  # frames, 4 s
KINDS = [
    ("mp4", "libx264"),
    ("mkv", "libx264"),
    ("mp4", "mpeg4"),
    ("avi", "mpeg4"),
    ("avi", "mjpeg"),
    ("mkv", "libvpx"),
    ("mkv", "mpeg2video"),
    ("flv", "flv"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Makes each kind of clip once."""
    folder, made = tmp_path_factory.mktemp("whole"), {}

    def make(suffix: str, codec: str) -> Path:
        if (suffix, codec) not in made:
            pictures = (numbered(number) for number in range(COUNT))
            made[suffix, codec] = write(folder / f"{codec}.{suffix}", pictures, codec)
        return made[suffix, codec]

    return make


def look(clip: Path, frames: int = 8) -> tuple[list[float], list[str]]:
    """Times of the key frames, which must show what was shown then; and the notes."""
    notes: list[str] = []
    keys = list(key_frames(clip, frames=frames, notes=notes))
    for key in keys:
        assert number_of(key.picture.pixels) == pytest.approx(key.picture.frame, abs=2.4)
        assert key.picture.frame == pytest.approx(25 * key.time, abs=0.6)
    return [key.time for key in keys], notes


@pytest.mark.parametrize(("suffix", "codec"), KINDS)
def test_a_damaged_packet_in_the_middle_costs_what_is_near_alone(whole, tmp_path, suffix, codec):
    clip = whole(suffix, codec)
    times, notes = look(clip)
    assert len(times) == 8 and not notes
    bad = damage(clip, tmp_path / f"bad.{suffix}", [43])
    seen, notes = look(bad)
    assert seen == pytest.approx(times, abs=0.4)
    assert notes == ["1 damaged packet of pictures skipped"]


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("avi", "mpeg4"), ("avi", "mjpeg"), ("mkv", "libvpx")]
)
def test_a_damaged_start_costs_the_first_group_alone(whole, tmp_path, suffix, codec):
    bad = damage(whole(suffix, codec), tmp_path / f"bad.{suffix}", range(3))
    seen, notes = look(bad)
    assert seen[0] < 0.5 and seen[1:] == pytest.approx(look(whole(suffix, codec))[0][1:], abs=0.13)
    assert "skipped" in notes[0]


@pytest.mark.parametrize(
    ("suffix", "codec", "change"),
    [
        ("wmv", "wmv2", lambda data: np.random.default_rng(1).bytes(len(data))),
        ("wmv", "wmv2", lambda data: data[: len(data) // 2]),
        ("avi", "mpeg4", lambda data: data[: len(data) // 2]),
        ("ts", "mpeg2video", lambda data: data[: len(data) // 2]),
    ],
    ids=["wmv2 noise", "wmv2 cut", "mpeg4 cut", "mpeg2video cut"],
)
def test_a_damaged_start_without_an_error_is_counted(tmp_path, suffix, codec, change):
    clip = write(tmp_path / f"a.{suffix}", [colours()] * COUNT, codec)
    notes: list[str] = []
    assert len(list(key_frames(clip, frames=8, notes=notes))) == 8 and not notes
    bad = damage(clip, tmp_path / f"bad.{suffix}", [0], change=change)
    first, *_ = key_frames(bad, frames=5, notes=notes)
    assert first.time >= 0.36
    assert notes == ["1 damaged packet of pictures skipped"]


def colours() -> np.ndarray:
    """A picture of blotches, of which decoders give something where half is missing."""
    return cv2.resize(np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8), (192, 128))


def test_frames_after_damage_are_taken_only_where_no_other_is_near(whole, tmp_path):
    # The moments are at 1 and 3 s; the groups of frames around 1 s begin at 0.8 and 1.2 s.
    bad = damage(whole("mp4", "libx264"), tmp_path / "bad.mp4", [21])
    seen, _ = look(bad, 2)
    assert seen[0] >= 1.19 and seen[1] == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mkv", "libvpx"), ("mkv", "ffv1"), ("avi", "mpeg4")]
)
def test_a_whole_frame_before_goes_before_a_damaged_one(tmp_path, suffix, codec):
    clip = write(tmp_path / f"a.{suffix}", map(numbered, range(COUNT)), codec, gop=25)
    bad = damage(clip, tmp_path / f"bad.{suffix}", range(40, 45), change=lambda data: data[:12])
    # The moment is at 1.75 s; what follows on 1.56 s is damaged until 2 s.
    expected = [0.25, 0.75, 1.25, 1.56, 2.25, 2.75, 3.25, 3.75]
    assert look(bad)[0] == pytest.approx(expected, abs=0.11)
    assert look(bad)[0][3] == pytest.approx(1.56, abs=0.02)


@pytest.mark.parametrize("suffix", ["avi", "mov", "mkv"])
def test_jpegs_that_are_cut_off_are_counted_and_avoided(tmp_path, suffix):
    clip, notes = write(tmp_path / f"a.{suffix}", [colours()] * COUNT, "mjpeg"), []
    cut = range(40, 45)
    bad = damage(clip, tmp_path / f"b.{suffix}", cut, change=lambda data: data[: len(data) // 2])
    times = [key.time for key in key_frames(bad, frames=8, notes=notes)]
    assert len(times) == 8 and not any(1.58 < time < 1.78 for time in times)
    assert notes == ["5 damaged packets of pictures skipped"]


@pytest.mark.parametrize("change", [lambda data: data[:-2], lambda data: data + bytes(len(data))])
def test_jpegs_are_whole_that_all_lack_their_end_or_are_padded(whole, tmp_path, change):
    clip = damage(whole("mov", "mjpeg"), tmp_path / "a.mov", range(COUNT), change=change)
    times, notes = look(clip)
    assert len(times) == 8 and not notes


def test_one_group_of_frames_with_damage_at_its_start_is_still_looked_at(tmp_path):
    clip = write(tmp_path / "one.mp4", map(numbered, range(50)), gop=1000)
    bad = damage(clip, tmp_path / "bad.mp4", [3])
    notes: list[str] = []
    keys = list(key_frames(bad, frames=4, notes=notes))
    assert [key.time for key in keys] == pytest.approx([0.08, 1.0, 1.5, 2.0], abs=0.3)
    assert notes == ["1 damaged packet of pictures skipped"]


def test_a_lost_packet_that_the_decoder_passes_over_is_counted(whole, tmp_path):
    bad = damage(whole("mkv", "mpeg2video"), tmp_path / "bad.mkv", [43, 44])
    with av.open(str(bad)) as container:  # no error
        assert sum(1 for _ in container.decode(video=0)) == COUNT - 2
    assert look(bad)[1] == ["2 damaged packets of pictures skipped"]


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_a_hole_in_a_broadcast(tmp_path, suffix):
    clip = write(tmp_path / f"a.{suffix}", map(numbered, range(COUNT)), "mpeg2video")
    assert look(clip)[1] == []
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 900] = bytes(900)
    clip.write_bytes(data)
    notes: list[str] = []
    keys = list(key_frames(clip, frames=8, notes=notes))
    assert len(keys) == 8 and keys[-1].time > 3.4
    assert len(notes) == 1 and "damaged packet" in notes[0]


@pytest.mark.parametrize(
    ("suffix", "codec"), [("ts", "libx264"), ("ts", "mpeg2video"), ("mpg", "mpeg2video")]
)
@pytest.mark.parametrize("start", [0, 43])
def test_what_never_became_a_packet_is_counted(whole, tmp_path, suffix, codec, start):
    clip = whole(suffix, codec)
    assert look(clip)[1] == []
    bad = overwrite(clip, tmp_path / f"bad.{suffix}", range(start, start + 2))
    notes: list[str] = []
    keys = list(key_frames(bad, frames=8, notes=notes))
    assert len(keys) == 8 and len(notes) == 1 and "skipped" in notes[0]


def test_pictures_of_a_broadcast_that_come_at_uneven_times_are_whole(tmp_path):
    stamps = [2 * number + number % 2 + 10 * (number > 60) for number in range(COUNT)]
    clip = write(tmp_path / "a.ts", map(numbered, range(COUNT)), stamps=stamps)
    notes: list[str] = []
    assert len(list(key_frames(clip, frames=8, notes=notes))) == 8 and not notes


def test_nothing_but_damage(whole, tmp_path):
    bad = damage(whole("avi", "mjpeg"), tmp_path / "bad.avi", range(COUNT))
    with pytest.raises(DecodeError, match=r"bad\.avi: expected .* not one frame could be decoded"):
        list(key_frames(bad, frames=4))


def test_an_error_that_stays_in_a_decoder_with_frame_threads_costs_one_frame(tmp_path):
    clip = write(tmp_path / "a.mov", map(numbered, range(COUNT)), "cfhd", pix="yuv422p10le")
    bad = damage(clip, tmp_path / "bad.mov", [0])
    seen, notes = look(bad)
    assert seen == pytest.approx(look(clip)[0], abs=0.13)
    assert notes == ["1 damaged packet of pictures skipped"]


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_missing_tail_is_said(tmp_path, share):
    clip = write(tmp_path / "a.mkv", map(numbered, range(COUNT)))
    clip.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * share)])
    notes: list[str] = []
    keys = list(key_frames(clip, frames=8, notes=notes))
    assert 4 * share - 1.3 < keys[-1].time < 4 * share + 0.4
    assert any("the pictures end at" in note and "of 4.0 s" in note for note in notes)


def test_the_next_stream_where_nothing_of_the_first_can_be_decoded(tmp_path):
    clip = tmp_path / "two.mkv"
    with av.open(str(clip), "w") as out:
        first, second = (out.add_stream("mjpeg", rate=25) for _ in range(2))
        for stream, size in ((first, (96, 64)), (second, (64, 48))):
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p"
        for number in range(20):
            for stream in (first, second):
                size = (stream.width, stream.height)
                frame = av.VideoFrame.from_ndarray(numbered(number, size), format="rgb24")
                frame.pts = number
                for packet in stream.encode(frame):
                    if stream is first:
                        bad = av.Packet(bytes(packet.size))
                        bad.pts, bad.dts, bad.time_base = packet.pts, packet.dts, packet.time_base
                        bad.stream, packet = stream, bad
                    out.mux(packet)
    notes: list[str] = []
    keys = list(key_frames(clip, frames=4, notes=notes))
    assert len(keys) == 4 and keys[0].picture.width == 64
