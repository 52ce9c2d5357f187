"""When pictures are shown: starts, joins, gaps, streams of other lengths, and what jumps cost."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from preprocess.io.clips import key_frames
from preprocess.io.formats import DecodeError
from preprocess.io.media import Decoding, Frames
from preprocess.io.video import timeline
from tests.preprocess.media import number_of, numbered, write


def shown(clip: Path, frames: int) -> list[float]:
    """Which of the numbered pictures are taken."""
    return [number_of(key.picture.pixels) for key in key_frames(clip, frames=frames)]


@pytest.mark.parametrize("small", [2**25, 0], ids=["read whole", "read from its end"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov", "ts"])
@pytest.mark.parametrize("late", [0, 500])
def test_a_clip_that_starts_late(tmp_path, monkeypatch, suffix, late, small):
    monkeypatch.setattr(timeline, "SMALL", small)
    stamps = range(late, late + 50)
    clip = write(tmp_path / f"a.{suffix}", map(numbered, range(50)), stamps=stamps)
    assert shown(clip, 5) == pytest.approx([5, 15, 25, 35, 45], abs=2)


@pytest.mark.parametrize("small", [2**25, 0], ids=["read whole", "read from its end"])
def test_sound_that_lasts_longer_than_the_pictures(tmp_path, monkeypatch, small):
    monkeypatch.setattr(timeline, "SMALL", small)
    clip = tmp_path / "a.mkv"
    with av.open(str(clip), "w") as out:
        video, sound = out.add_stream("mpeg4", rate=25), out.add_stream("pcm_s16le", rate=8000)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for second in range(10):
            samples = np.zeros((1, 8000), np.int16)
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.pts = 8000, 8000 * second
            out.mux(sound.encode(frame))
    notes: list[str] = []
    keys = list(key_frames(clip, frames=5, notes=notes))
    assert [number_of(key.picture.pixels) for key in keys] == pytest.approx(
        [5, 15, 25, 35, 45], abs=2
    )
    assert not notes


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mpg", "mpeg2video"), ("ts", "mpeg2video"), ("ts", "libx264"), ("mkv", "libx264")],
)
@pytest.mark.parametrize("late", [0, 90_000])
def test_files_put_one_after_the_other(tmp_path, suffix, codec, late):
    first = write(tmp_path / f"a.{suffix}", map(numbered, range(40)), codec)
    stamps = range(late, late + 30)
    second = write(tmp_path / f"b.{suffix}", map(numbered, range(40, 70)), codec, stamps=stamps)
    if suffix == "mkv" and late:
        pytest.skip("an hour between two pictures is no fault in Matroska")
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    notes: list[str] = []
    keys = list(key_frames(both, frames=7, notes=notes))
    seen = [number_of(key.picture.pixels) for key in keys]
    assert seen == pytest.approx([5, 15, 25, 35, 45, 55, 65], abs=3)
    assert [25 * key.time for key in keys] == pytest.approx(seen, abs=2)
    assert not notes


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_a_pause_over_which_frames_are_reordered(tmp_path, suffix):
    stamps = [*range(25), *range(100, 125)]  # 3 s in which one picture is seen
    options = {"bf": "3", "b-adapt": "0", "preset": "fast"}
    clip = write(tmp_path / f"a.{suffix}", map(numbered, range(50)), stamps=stamps, options=options)
    notes: list[str] = []
    keys = list(key_frames(clip, frames=10, notes=notes))
    assert not notes
    assert keys[0].time == pytest.approx(0.25, abs=0.2) and keys[-1].time < 5
    assert [number_of(keys[i].picture.pixels) for i in (0, 1, -1)] == pytest.approx(
        [6, 19, 44], abs=4
    )


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_what_is_seen_through_a_pause_is_taken(tmp_path, suffix):
    stamps = [0, 500, 1000]  # pictures of 20 s, which differ too little for cuts
    codec = "libvpx" if suffix == "webm" else "libx264"
    clip = write(tmp_path / f"a.{suffix}", map(numbered, (20, 24, 28)), codec, stamps=stamps)
    keys = list(key_frames(clip, frames=3))
    assert [key.time for key in keys] == pytest.approx([0, 20, 40], abs=0.1)
    assert [number_of(key.picture.pixels) for key in keys] == pytest.approx([20, 24, 28], abs=2)


WILD = "the times of some pictures lie far from all others and are not believed"


@pytest.mark.parametrize("small", [2**25, 0], ids=["read whole", "read from its end"])
@pytest.mark.parametrize(
    ("suffix", "codec", "wild", "seconds"),
    [
        ("mkv", "libvpx", 50, 1000),
        ("mkv", "libvpx", 99, 3600),
        ("mp4", "libx264", 99, 3600),
        ("mkv", "libvpx", 0, -3600),
    ],
)
def test_one_wild_time_hides_no_pictures(
    tmp_path, monkeypatch, suffix, codec, wild, seconds, small
):
    monkeypatch.setattr(timeline, "SMALL", small if wild == 99 else 2**25)
    clip = write(tmp_path / f"a.{suffix}", map(numbered, range(100)), codec)
    bad = tmp_path / f"bad.{suffix}"
    with av.open(str(clip)) as old, av.open(str(bad), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for number, packet in enumerate(old.demux(stream)):
            if packet.size:
                moved = number == wild if seconds > 0 else number != wild
                later = moved * round(abs(seconds) / packet.time_base)
                packet.pts += later
                packet.dts += 0 if wild == 50 else later
                packet.stream = copy
                new.mux(packet)
    notes: list[str] = []
    keys = list(key_frames(bad, frames=8, notes=notes))
    assert [key.time for key in keys] == pytest.approx(np.arange(0.25, 4, 0.5), abs=0.15)
    for key in keys:
        assert number_of(key.picture.pixels) == pytest.approx(25 * key.time, abs=3)
    assert notes == [WILD]


def test_a_long_pause_in_the_middle_is_believed(tmp_path):
    stamps = [*range(50), *range(1050, 1100)]
    clip = write(tmp_path / "a.mkv", map(numbered, range(100)), stamps=stamps)
    notes: list[str] = []
    assert list(key_frames(clip, frames=8, notes=notes))[-1].time > 40 and not notes


def test_two_files_of_ivf(tmp_path):
    clip = write(tmp_path / "a.ivf", map(numbered, range(100)), "libvpx")
    clip.write_bytes(2 * clip.read_bytes())  # the second is one packet without end, at a wild time
    assert shown(clip, 8) == pytest.approx([6, 19, 31, 44, 56, 69, 81, 94], abs=4)


def test_a_stamp_that_runs_back_a_little_does_not_stretch_time(tmp_path):
    # AVI has no time stamps of frames that are sent in another order than shown.
    clip = write(tmp_path / "a.avi", map(numbered, range(50)), options={"bf": "2"})
    with av.open(str(clip)) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
    assert stamps != sorted(stamps)
    assert list(key_frames(clip, frames=5))[-1].time == pytest.approx(1.8, abs=0.2)


@pytest.mark.parametrize("suffix", ["h264", "m4v", "mjpeg"])
def test_streams_without_a_container(tmp_path, suffix):
    codec = {"h264": "libx264", "m4v": "mpeg4", "mjpeg": "mjpeg"}[suffix]
    clip = write(tmp_path / f"a.{suffix}", map(numbered, range(50)), codec)
    assert shown(clip, 5) == pytest.approx([5, 15, 25, 35, 45], abs=2)


def with_edits(mp4: bytes, *edits: tuple[int, int]) -> bytes:
    """The same mp4 with an edit list: (duration in milliseconds, time in units of the media)."""
    rows = b"".join(struct.pack(">Iihh", *edit, 1, 0) for edit in edits)
    elst = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(edits)) + rows
    box = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    data = bytearray(mp4)
    old = data.find(b"edts")
    if old >= 0:
        data[old : old + 4] = b"free"
    trak, moov = data.index(b"trak") - 4, data.index(b"moov") - 4
    end = trak + struct.unpack_from(">I", data, trak)[0]
    for at in (trak, moov):
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(box))
    assert moov > data.index(b"mdat")  # so that no offset changes
    return bytes(data[:end]) + box + bytes(data[end:])


@pytest.mark.parametrize("small", [2**25, 0], ids=["read whole", "read from its end"])
@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([(1000, 12800)], [27.5, 32.5, 37.5, 42.5, 47.5]),  # the second half alone
        ([(2000, -1), (2000, 0)], [5, 15, 25, 35, 45]),  # after two empty seconds
        ([(400, 6400)], [13, 15, 17, 19, 21]),  # a short stretch, from within a group of frames
    ],
)
def test_edit_lists(tmp_path, monkeypatch, edits, expected, small):
    monkeypatch.setattr(timeline, "SMALL", small)
    clip = write(tmp_path / "a.mp4", map(numbered, range(50)))
    with av.open(str(clip)) as container:
        assert container.streams.video[0].time_base.denominator == 12800
    clip.write_bytes(with_edits(clip.read_bytes(), *edits))
    assert shown(clip, 5) == pytest.approx(expected, abs=2)


# Which stream.


def two_streams(clip: Path, first: int, second: int) -> Path:
    """A still or clip of 32 x 32, then one of 96 x 64, with so many frames."""
    with av.open(str(clip), "w") as out:
        streams = [out.add_stream("mjpeg", rate=25) for _ in range(2)]
        for stream, size in zip(streams, [(32, 32), (96, 64)], strict=True):
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p"
        for stream, count in zip(streams, (first, second), strict=True):
            for number in range(count):
                size = (stream.width, stream.height)
                frame = av.VideoFrame.from_ndarray(numbered(number, size), format="rgb24")
                frame.pts = number
                out.mux(stream.encode(frame))
    return clip


def test_a_cover_before_the_film(tmp_path):
    keys = list(key_frames(two_streams(tmp_path / "a.mkv", 1, 40), frames=4))
    assert [key.picture.width for key in keys] == [96] * 4


def test_a_cover_alone_is_no_clip(tmp_path):
    song = tmp_path / "song.mp3"
    with av.open(str(song), "w") as out:
        sound, cover = out.add_stream("libmp3lame", rate=16000), out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame.from_ndarray(numbered(1, (32, 32)), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), "s16p", "mono")
        frame.sample_rate = 16000
        out.mux([*sound.encode(frame), *sound.encode()])
    with av.open(str(song)) as container:
        assert container.streams.video
    with pytest.raises(DecodeError, match=r"song\.mp3: expected .* no video stream"):
        list(key_frames(song, frames=4))


# What jumps cost.


@pytest.fixture()
def decoded(monkeypatch) -> list:
    """Grows by an entry for each frame that is decoded, and by "jump" for each jump."""
    events: list = []
    step, seek = Frames.__next__, Frames.seek

    def count(self):
        frame = step(self)
        events.append(frame.pts)
        return frame

    def jump(self, stamp):
        events.append("jump")
        seek(self, stamp)

    monkeypatch.setattr(Frames, "__next__", count)
    monkeypatch.setattr(Frames, "seek", jump)
    return events


@pytest.mark.parametrize("small", [2**25, 0], ids=["read whole", "read from its end"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_clip_with_one_key_frame_is_decoded_once(tmp_path, monkeypatch, decoded, suffix, small):
    monkeypatch.setattr(timeline, "SMALL", small)
    pictures = (numbered(number // 5) for number in range(300))  # 60 s
    clip = write(
        tmp_path / f"a.{suffix}",
        pictures,
        gop=10_000,
        rate=5,
        options={"x264-params": "scenecut=0:keyint=infinite"},
    )
    keys = list(key_frames(clip, frames=6))
    assert [key.time for key in keys] == pytest.approx([5, 15, 25, 35, 45, 55], abs=1)
    assert "jump" not in decoded and len(decoded) <= 300


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_jump_goes_where_a_key_frame_lies_beyond(tmp_path, decoded, suffix):
    pictures = (numbered(number // 5) for number in range(600))  # 120 s, a key frame every 8 s
    clip = write(tmp_path / f"a.{suffix}", pictures, gop=40, rate=5)
    keys = list(key_frames(clip, frames=4))
    assert [key.time for key in keys] == pytest.approx([15, 45, 75, 105], abs=1)
    for key in keys:
        assert number_of(key.picture.pixels) == pytest.approx(int(key.time), abs=1.7)
    assert decoded.count("jump") == 4 and len(decoded) < 250


def test_a_broadcast_that_goes_on_with_other_streams(tmp_path):
    """As where a receiver went from one programme to another: PyAV does not know of those."""
    first, second = tmp_path / "1.ts", tmp_path / "2.ts"
    for number, clip in enumerate((first, second), 1):
        options = {
            "mpegts_start_pid": str(256 * number),
            "mpegts_pmt_start_pid": str(4096 + number),
        }
        with av.open(str(clip), "w", options=options) as out:
            stream = out.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for value in range(50):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(value), format="rgb24")))
            out.mux(stream.encode())
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    notes: list[str] = []
    keys = list(key_frames(joined, frames=5, notes=notes))
    assert [number_of(key.picture.pixels) for key in keys] == pytest.approx(
        [5, 15, 25, 35, 45], abs=4
    )
    [note] = notes
    assert "of streams that begin late" in note


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "mpeg4"), ("flv", "flv"), ("wmv", "wmv2")])
def test_films_of_which_players_see_the_first_alone(tmp_path, suffix, codec):
    clip = write(tmp_path / f"a.{suffix}", map(numbered, range(50)), codec)
    notes: list[str] = []
    assert len(list(key_frames(clip, frames=5, notes=notes))) == 5
    assert not notes
    clip.write_bytes(2 * clip.read_bytes())
    assert len(list(key_frames(clip, frames=5, notes=notes))) == 5
    assert notes == ["another film follows in the file, which players do not show"]


def test_another_part_begins_where_the_time_of_decoding_runs_back():
    """Milliseconds: shown, decoded. The first packets may lack the second."""
    pause = [(0, None), (120_000, None), (60_000, 0), (180_000, 60_000), (90_000, None)]
    decoding = Decoding(Fraction(1, 1000))
    assert not any(decoding.restarts(*stamps) for stamps in pause)
    assert decoding.restarts(0, 0) and not decoding.restarts(40, 40)
    shown_alone = Decoding(Fraction(1, 1000))
    assert [shown_alone.restarts(at, None) for at in (0, 5000, 4500, 0)] == [False] * 3 + [True]
