"""Clips to frames: evenly spread, upright, and whatever a broken file still gives."""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from preprocess.io.clips import decode_video, key_frames
from preprocess.io.decode import DecodeError
from tests.preprocess.media import numbered, write

# Clips: the brightness of a frame tells its number.


def write_clip(
    path: Path, codec: str, *, frames: int = 50, rate: int = 25, size=(64, 48), keys: int = 12
) -> Path:
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"this build of PyAV cannot encode {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = keys
        stream.bit_rate = 4_000_000
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), brightness(number), np.uint8)
            pixels[: size[1] // 2, : size[0] // 2] = 255  # the top left corner
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def brightness(number: int) -> int:
    return 4 * number % 240


CLIPS = [
    ("mp4", "libx264"),
    ("mov", "mpeg4"),
    ("avi", "mjpeg"),
    ("avi", "mpeg4"),
    ("mkv", "libx264"),
    ("webm", "libvpx-vp9"),
    ("mpg", "mpeg2video"),
]


@pytest.mark.parametrize(("suffix", "codec"), CLIPS)
def test_clips_give_evenly_spread_frames_in_order(tmp_path, suffix, codec):
    clip = write_clip(tmp_path / f"clip.{suffix}", codec)
    pictures = list(decode_video(clip, frames=5))
    assert [picture.frame for picture in pictures] == pytest.approx([5, 15, 25, 35, 45], abs=1)
    for picture in pictures:
        assert picture.pixels.shape == (48, 64, 3) and picture.pixels.dtype == np.uint8
        assert picture.name == str(clip) and picture.jpeg_quality == -1
        # The number is that of the frame whose pixels these are.
        off = 5 if suffix == "mpg" else 3  # a program stream's clock may be a frame off
        assert picture.pixels[30:, 40:].mean() == pytest.approx(brightness(picture.frame), abs=off)
        assert picture.pixels[:20, :28].mean() > 240


@pytest.mark.parametrize("count", [1, 2, 8, 49, 50, 51, 500])
def test_frame_numbers_increase_and_never_repeat(tmp_path, count):
    clip = write_clip(tmp_path / "clip.mp4", "libx264")
    numbers = [picture.frame for picture in decode_video(clip, frames=count)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == min(count, 50)


def test_long_clips_are_jumped_through(tmp_path):
    clip = write_clip(tmp_path / "long.mp4", "libx264", frames=900, rate=25, keys=50)
    pictures = list(decode_video(clip, frames=3))
    assert [picture.frame for picture in pictures] == pytest.approx([150, 450, 750], abs=1)
    for picture in pictures:
        assert picture.pixels[30:, 40:].mean() == pytest.approx(brightness(picture.frame), abs=3)


def test_a_clip_whose_name_is_no_text(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", "libx264", frames=5)
    try:
        clip = clip.rename(tmp_path / os.fsdecode(b"caf\xe9.mp4"))
    except OSError:
        pytest.skip("this file system takes only text")
    assert len(list(decode_video(clip, frames=2))) == 2


def test_more_frames_than_any_clip_has(tmp_path):
    clip = write(tmp_path / "a.mp4", map(numbered, range(20)), "mpeg4")
    assert len(list(key_frames(clip, frames=10**12))) == 20


def test_a_clip_of_one_frame(tmp_path):
    clip = write_clip(tmp_path / "one.mp4", "libx264", frames=1)
    assert [picture.frame for picture in decode_video(clip, frames=8)] == [0]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_in_the_metadata_is_applied(tmp_path, degrees):
    clip = write_clip(tmp_path / "clip.mp4", "libx264", frames=5)
    upright = next(decode_video(clip, frames=1)).pixels
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(with_rotation(clip.read_bytes(), degrees))
    pixels = next(decode_video(turned, frames=1)).pixels
    # A player turns the stored picture clockwise by the angle of the matrix.
    np.testing.assert_array_equal(pixels, np.rot90(upright, -degrees // 90))


def with_rotation(mp4: bytes, degrees: int) -> bytes:
    """The same mp4 with another display matrix in its only video track header."""
    one, zero, minus = 1 << 16, 0, -(1 << 16)
    corner = {90: (zero, one, minus, zero), 180: (minus, zero, zero, minus)}
    a, b, c, d = corner.get(degrees, (zero, minus, one, zero))
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    place = mp4.index(b"tkhd") + 4 + 40  # version 0: the matrix lies 40 bytes into the box
    return mp4[:place] + matrix + mp4[place + len(matrix) :]


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libx264"), ("avi", "mjpeg")])
def test_a_clip_with_a_broken_tail_gives_what_can_be_decoded(tmp_path, suffix, codec):
    clip = write_clip(tmp_path / f"clip.{suffix}", codec)
    data = clip.read_bytes()
    clip.write_bytes(data[: int(len(data) * 0.8)])
    pictures = list(decode_video(clip, frames=50))
    numbers = [picture.frame for picture in pictures]
    assert numbers[:25] == list(range(25)) and numbers[-1] < 45
    assert numbers == sorted(set(numbers))
    for picture in pictures[:-1]:
        assert picture.pixels[30:, 40:].mean() == pytest.approx(brightness(picture.frame), abs=3)


def test_the_last_frame_stands_for_a_missing_tail(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", "libx264")
    data = clip.read_bytes()
    clip.write_bytes(data[: int(len(data) * 0.8)])
    last = max(picture.frame for picture in decode_video(clip, frames=50))
    assert [picture.frame for picture in decode_video(clip, frames=1)] == [25]
    *_, two = decode_video(clip, frames=2)  # the second moment lies behind the cut
    assert two.frame == last < 37


def test_a_clip_need_not_be_read_to_its_end(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", "libx264")
    stream = decode_video(clip, frames=5)
    assert next(stream).frame == pytest.approx(5, abs=1)
    stream.close()  # the file is released
    clip.unlink()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.mp4", None, "no file"),
        ("empty.mp4", b"", "an empty file"),
        ("notes.mp4", b"these are no pixels\n" * 50, "cannot be decoded"),
        ("playlist.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n", "cannot be decoded"),
    ],
)
def test_files_that_are_no_clips(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DecodeError, match=f"{name}: expected an mp4, mov.* but .*{reason}"):
        list(decode_video(tmp_path / name, frames=4))


def test_a_clip_cut_off_in_its_header(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", "libx264")
    clip.write_bytes(clip.read_bytes()[:2000])  # an mp4's index lies at its end
    with pytest.raises(DecodeError, match=r"clip\.mp4: expected"):
        list(decode_video(clip, frames=4))


def test_a_file_with_sound_alone(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        samples = np.zeros((1, 16000), np.float32)
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        sound.sample_rate = 16000
        for packet in [*stream.encode(sound), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(DecodeError, match="no video stream"):
        list(decode_video(path, frames=4))


def test_clips_with_huge_frames_are_refused(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", "libx264", frames=2)
    with pytest.raises(DecodeError, match=r"clip\.mp4: expected at most 0.001 megapixels"):
        list(decode_video(clip, frames=1, max_megapixels=0.001))


def test_a_title_that_is_no_text_does_no_harm(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", "mpeg4")
    data = clip.read_bytes()
    assert data.count(b"VideoHandler") == 1
    clip.write_bytes(data.replace(b"VideoHandler", b"Video\x80\xffndler"))
    assert len(list(decode_video(clip, frames=3))) == 3


def test_an_unknown_codec_is_named(tmp_path):
    clip = write_clip(tmp_path / "clip.avi", "mpeg4")
    data = clip.read_bytes()
    assert b"FMP4" in data
    clip.write_bytes(data.replace(b"FMP4", b"zzzz"))
    with pytest.raises(DecodeError, match=r"clip\.avi: expected .* but its codec is not known"):
        list(decode_video(clip, frames=3))


# Sharp frames, cuts and time stamps.


def write_frames(path: Path, frames, times=None, *, rate: int = 25, options=None) -> Path:
    """Pictures as a clip; `times` in milliseconds, where they are not even."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.bit_rate = 8_000_000
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def scene(seed: int, blur: float = 0, size=(96, 128)) -> np.ndarray:
    """A picture of blotches with grain on them."""
    rng = np.random.default_rng(seed)
    blotches = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    pixels = cv2.resize(blotches, size[::-1], interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 12, (*size, 1))
    pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    return cv2.GaussianBlur(pixels, (0, 0), blur) if blur else pixels


def test_the_sharpest_frame_near_a_moment_is_taken(tmp_path):
    sharp = {7, 13, 25, 36, 30}
    frames = [scene(0, 0 if number in sharp else 2) for number in range(40)]
    clip = write_frames(tmp_path / "clip.mp4", frames)
    # 30 is too far from the moment at 35 to stand for it.
    assert [key.picture.frame for key in key_frames(clip, frames=4)] == [7, 13, 25, 36]


def test_sharpness_is_judged_where_the_faces_are(tmp_path):
    frames = []
    for number in range(10):
        left, right = scene(0, 2 * (number != 4)), scene(1, 2 * (number != 6))
        frames.append(np.concatenate([left, right], 1))
    clip = write_frames(tmp_path / "clip.mp4", frames)
    for region, best in (([0, 0, 0.5, 1], 4), ([0.5, 0, 1, 1], 6)):
        (key,) = key_frames(clip, frames=1, region=lambda: np.array(region))  # noqa: B023
        assert key.picture.frame == best


def test_cuts_part_shots_and_no_shot_goes_unseen(tmp_path):
    lengths = [30, 12, 58]
    frames = [scene(shot) for shot, length in enumerate(lengths) for _ in range(length)]
    keys = list(key_frames(write_frames(tmp_path / "clip.mp4", frames), frames=2))
    shots = [int(np.searchsorted(np.cumsum(lengths), key.picture.frame, "right")) for key in keys]
    assert shots == [0, 1, 2] and [key.shot for key in keys] == [0, 1, 2]
    assert 30 + 3 <= keys[1].picture.frame < 42


def test_a_gentle_pan_is_no_cut(tmp_path):
    wide = scene(0, size=(96, 400))
    clip = write_frames(tmp_path / "pan.mp4", [wide[:, x : x + 128] for x in range(0, 240, 4)])
    assert {key.shot for key in key_frames(clip, frames=10)} == {0}


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_frames_at_uneven_times_are_spread_over_time(tmp_path, suffix):
    # 20 frames in the first 0.2 s, then one every 100 ms.
    times = [*range(0, 200, 10), *range(200, 2200, 100)]
    frames = [np.full((48, 64, 3), 5 * number, np.uint8) for number in range(len(times))]
    keys = list(key_frames(write_frames(tmp_path / f"v.{suffix}", frames, times), frames=4))
    assert [key.time for key in keys] == pytest.approx([0.27, 0.8, 1.33, 1.87], abs=0.08)
    numbers = [key.picture.frame for key in key_frames(tmp_path / f"v.{suffix}", frames=100)]
    assert len(numbers) > 20 and numbers == sorted(set(numbers))
    for key in keys:
        shown = int(np.argmin(np.abs(np.array(times) / 1000 - key.time)))
        assert key.picture.pixels.mean() == pytest.approx(5 * shown, abs=4)


def test_a_clip_that_does_not_say_how_long_it_is(tmp_path):
    frames = [np.full((48, 64, 3), 4 * number, np.uint8) for number in range(50)]
    clip = write_frames(tmp_path / "live.mkv", frames, options={"live": "1"})
    with av.open(str(clip)) as container:
        assert not container.duration and not container.streams.video[0].duration
    keys = list(key_frames(clip, frames=5))
    assert [key.time for key in keys] == pytest.approx([0.2, 0.6, 1.0, 1.4, 1.8], abs=0.05)


@pytest.mark.parametrize("factor", [0.01, 1000])
def test_a_header_that_lies_about_the_length(tmp_path, factor):
    clip = write_clip(tmp_path / "clip.mp4", "libx264")
    data = bytearray(clip.read_bytes())
    for box in (b"mvhd", b"mdhd", b"tkhd"):
        place = data.index(box) + 4 + (16 if box != b"tkhd" else 20)
        told = struct.unpack_from(">I", data, place)[0]
        struct.pack_into(">I", data, place, int(told * factor))
    clip.write_bytes(data)
    frames = [picture.frame for picture in decode_video(clip, frames=5)]
    assert frames == pytest.approx([5, 15, 25, 35, 45], abs=1)


def test_frames_that_change_their_size(tmp_path):
    clip = tmp_path / "both.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        other = av.CodecContext.create("mpeg2video", "w")
        other.framerate, other.time_base = Fraction(25), Fraction(1, 25)
        for number, (encoder, width) in enumerate([(stream, 64), (other, 96)]):
            encoder.width, encoder.height, encoder.pix_fmt = width, 48, "yuv420p"
            packets = []
            for index in range(25):
                pixels = np.full((48, width, 3), brightness(index + 25 * number), np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = index + 25 * number, Fraction(1, 25)
                packets += encoder.encode(frame)
            for packet in [*packets, *encoder.encode(None)]:
                packet.stream = stream  # the second size is told within the stream alone
                container.mux(packet)
    keys = list(key_frames(clip, frames=10))
    assert [key.picture.width for key in keys] == [64] * 5 + [96] * 5
    for key in keys:
        assert key.picture.pixels.shape == (48, key.picture.width, 3)
        assert key.picture.pixels.mean() == pytest.approx(brightness(key.picture.frame), abs=4)


def test_a_clock_that_starts_again(tmp_path):
    clip = write_clip(tmp_path / "clip.mpg", "mpeg2video")
    clip.write_bytes(clip.read_bytes() * 2)
    keys = list(key_frames(clip, frames=200))
    times = [key.time for key in keys]
    assert times == sorted(set(times)) and len(times) >= 49


def test_three_hours_are_jumped_through(tmp_path):
    frames = [scene(0)] * 360
    clip = write_frames(tmp_path / "long.mkv", frames, range(0, 10_800_000, 30_000))
    keys = list(key_frames(clip, frames=4))
    assert [key.time for key in keys] == pytest.approx([1350, 4050, 6750, 9450], abs=30)
