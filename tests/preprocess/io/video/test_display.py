"""Frames as players show them: laid right, of square pixels, cropped, in a screen's colours."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from preprocess.io.clips import key_frames
from preprocess.io.decode import DecodeError
from tests.preprocess.io.video.light import TO_2020, to_light, to_pq
from tests.preprocess.media import small_photo, with_clean_aperture, with_matrix, write

# How a player lays a stored picture, for a display matrix (a, b, c, d).
LAID = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),  # clockwise, as phones write it
    (0, -1, 1, 0): lambda p: np.rot90(p),
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, -1, -1, 0): lambda p: p[::-1, ::-1].swapaxes(0, 1),
}


@pytest.fixture(scope="module")
def photo(astronaut) -> np.ndarray:
    return small_photo(astronaut)


def shown(clip: Path, **options) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    (key,) = key_frames(clip, frames=1, notes=notes, **options)
    return key.picture.pixels, notes


def difference(left: np.ndarray, right: np.ndarray) -> float:
    assert left.shape == right.shape
    return float(np.abs(left.astype(int) - right).mean())


@pytest.mark.parametrize("matrix", LAID)
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_display_matrices(tmp_path, photo, suffix, matrix):
    clip = write(tmp_path / f"a.{suffix}", [photo] * 3)
    clip.write_bytes(with_matrix(clip.read_bytes(), *matrix))
    pixels, notes = shown(clip)
    assert difference(pixels, LAID[matrix](photo)) < 4 and not notes


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_display_matrix_in_matroska(tmp_path, photo, mirrored):
    def turn(stream):
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this version of PyAV writes no display matrix")
        stream.set_display_rotation(90, hflip=mirrored)

    pixels, _ = shown(write(tmp_path / "a.mkv", [photo] * 3, change=turn))
    expected = np.rot90(photo)
    assert difference(pixels, expected[:, ::-1] if mirrored else expected) < 4


def test_a_matrix_that_is_no_quarter_turn_is_named_and_left(tmp_path, photo):
    clip = write(tmp_path / "a.mp4", [photo] * 3)
    clip.write_bytes(with_matrix(clip.read_bytes(), 0.9, 0.43, -0.43, 0.9))
    pixels, notes = shown(clip)
    assert difference(pixels, photo) < 4
    assert len(notes) == 1 and "display matrix" in notes[0] and "not applied" in notes[0]


def test_a_matrix_that_shears_is_left_as_a_whole(tmp_path, photo):
    clip = write(tmp_path / "a.mp4", [photo] * 3)
    clip.write_bytes(with_matrix(clip.read_bytes(), 1, 0.5, 0, 1))
    pixels, notes = shown(clip)
    assert difference(pixels, photo) < 4 and len(notes) == 1


@pytest.mark.parametrize("rate", [25, 2])
@pytest.mark.parametrize(
    ("told", "laid"),
    [("rotate=90", np.rot90), ("flip=horizontal", lambda p: p[:, ::-1])],
)
def test_the_first_picture_of_h264_tells_how_all_are_laid(tmp_path, photo, rate, told, laid):
    clip = write(tmp_path / "a.mp4", [photo] * 60, rate=rate)
    with av.open(str(clip)) as old, av.open(str(tmp_path / "b.mp4"), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        told = f"h264_metadata=display_orientation=insert:{told}"
        context = av.bitstream.BitStreamFilterContext(told, stream, copy)
        for packet in old.demux(stream):
            for changed in context.filter(packet if packet.size else None):
                changed.stream = copy
                new.mux(changed)
    keys = list(key_frames(tmp_path / "b.mp4", frames=2))  # at a rate of 2 the first is jumped over
    assert len(keys) == 2 and keys[0].time > 0.2
    for key in keys:
        assert difference(key.picture.pixels, laid(photo)) < 4


def aspect_of(ratio: Fraction):
    def change(stream):
        stream.codec_context.sample_aspect_ratio = ratio

    return change


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("mkv", "libx264"), ("ts", "libx264"), ("avi", "mpeg4")],
)
@pytest.mark.parametrize("ratio", [Fraction(4, 3), Fraction(2, 3)])
def test_pixels_that_are_not_square(tmp_path, photo, suffix, codec, ratio):
    height, width = photo.shape[:2]
    stored = cv2.resize(
        photo,
        (round(width / ratio), height) if ratio > 1 else (width, round(height * ratio)),
        interpolation=cv2.INTER_AREA,
    )
    clip = write(tmp_path / f"a.{suffix}", [stored] * 3, codec, change=aspect_of(ratio))
    pixels, notes = shown(clip)
    assert difference(pixels, photo) < 10 and not notes


def test_pixels_that_are_not_square_in_a_turned_picture(tmp_path, photo):
    stored = cv2.resize(photo, (72, 120), interpolation=cv2.INTER_AREA)
    clip = write(tmp_path / "a.mp4", [stored] * 3, change=aspect_of(Fraction(4, 3)))
    clip.write_bytes(with_matrix(clip.read_bytes(), 0, 1, -1, 0))
    assert difference(shown(clip)[0], np.rot90(photo, -1)) < 10


def test_pixels_that_are_nearly_square_are_not_resampled(tmp_path, photo):
    clip = write(tmp_path / "a.mp4", [photo] * 3, change=aspect_of(Fraction(1001, 1000)))
    plain = write(tmp_path / "b.mp4", [photo] * 3)
    np.testing.assert_array_equal(shown(clip)[0], shown(plain)[0])


def test_an_aspect_that_is_nonsense_is_named_and_left(tmp_path, photo):
    clip = write(tmp_path / "a.mp4", [photo] * 3, change=aspect_of(Fraction(50, 1)))
    pixels, notes = shown(clip)
    assert pixels.shape == photo.shape and len(notes) == 1 and "not applied" in notes[0]


def test_the_limit_counts_pixels_as_shown(tmp_path, photo):
    clip = write(tmp_path / "a.mp4", [photo] * 3, change=aspect_of(Fraction(4, 1)))
    with pytest.raises(DecodeError, match=r"at most 0\.02 megapixels but got 384 x 120"):
        shown(clip, max_megapixels=0.02)


def test_the_clean_aperture_of_an_mp4(tmp_path, photo):
    clip = write(tmp_path / "a.mp4", [photo] * 3)
    # 64 x 80 around a centre that lies 8 pixels right of the middle and 10 above it
    changed = with_clean_aperture(clip.read_bytes(), 64, 1, 80, 1, 8, 1, -10, 1)
    clip.write_bytes(changed)
    with av.open(str(clip)) as container:
        assert container.streams.video[0].codec_context.width == 96
    pixels, notes = shown(clip)
    assert difference(pixels, photo[10:90, 24:88]) < 4 and not notes


def with_pixel_crop(mkv: bytes, side: bytes, pixels: int) -> bytes:
    """The same mkv with an element of cropping in place of the display's unit."""
    assert mkv.count(b"\x54\xb2\x81\x04") == 1
    return mkv.replace(b"\x54\xb2\x81\x04", side + bytes([0x81, pixels]))


@pytest.mark.parametrize(
    ("side", "part"),
    [
        (b"\x54\xcc", np.s_[:, 16:]),
        (b"\x54\xdd", np.s_[:, :-16]),
        (b"\x54\xbb", np.s_[16:]),
        (b"\x54\xaa", np.s_[:-16]),
    ],
)
def test_the_cropping_of_matroska(tmp_path, photo, side, part):
    clip = write(tmp_path / "a.mkv", [photo] * 3)
    clip.write_bytes(with_pixel_crop(clip.read_bytes(), side, 16))
    pixels, notes = shown(clip)
    assert difference(pixels, photo[part]) < 4 and not notes


@pytest.mark.parametrize(
    ("side", "part"), [(b"\x54\xcc", np.s_[:, 48:]), (b"\x54\xdd", np.s_[:, :-48])]
)
def test_the_size_that_matroska_tells_is_of_what_cropping_leaves(tmp_path, photo, side, part):
    clip = write(tmp_path / "a.mkv", [photo] * 3)
    data, void = clip.read_bytes(), bytes.fromhex("ec01000000000000020000")
    told = side + b"\x81\x30" + b"\x54\xb0\x81\x60" + b"\x54\xba\x81\x78"  # 48, 96 x 120
    size = bytes.fromhex("e08ab08160ba8178")  # and the display's unit
    assert data.count(size + b"\x54\xb2\x81\x04" + b"\x55\xee\x81\x00" + void) == 1
    grown = b"\xe0\x92" + size[2:] + told + b"\x55\xee\x81\x00" + b"\xec\x81\x00"
    clip.write_bytes(data.replace(size + b"\x54\xb2\x81\x04" + b"\x55\xee\x81\x00" + void, grown))
    assert clip.stat().st_size == len(data)
    pixels, notes = shown(clip)
    wide = cv2.resize(photo[part], (96, 120), interpolation=cv2.INTER_CUBIC)
    assert difference(pixels, wide) < 6 and not notes


def test_transparent_pixels_are_shown_over_white(tmp_path, photo):
    clip = tmp_path / "a.mov"
    with av.open(str(clip), "w") as out:
        stream = out.add_stream("qtrle", rate=25)
        stream.height, stream.width = photo.shape[:2]
        stream.pix_fmt = "argb"
        rgba = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
        rgba[:40] = 0
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgba), format="rgba")
        out.mux([*stream.encode(frame), *stream.encode()])
    pixels, _ = shown(clip)
    assert (pixels[:40] == 255).all() and difference(pixels[40:], photo[40:]) < 1


def test_transparency_that_is_not_read_is_named(tmp_path, photo):
    for pix, named in (("yuva420p", 1), ("yuv420p", 0)):
        clip = write(tmp_path / f"{pix}.webm", [photo] * 3, "libvpx-vp9", pix=pix)
        notes: list[str] = []
        assert list(key_frames(clip, frames=1, notes=notes))
        assert [note for note in notes if "its transparency is not read" in note] == notes
        assert len(notes) == named


def test_lines_of_two_moments_are_parted_where_things_moved(tmp_path, photo):
    photo = cv2.GaussianBlur(photo, (0, 0), 2)  # still lines differ little from those beside them
    later = np.roll(photo, 8, axis=1)
    later[60:] = photo[60:]  # the lower half stands still
    woven = photo.copy()
    woven[1::2] = later[1::2]

    def interlace(stream):
        stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct
        stream.options = {**stream.options, "x264-params": "interlaced=1"}

    clip = write(tmp_path / "a.mp4", [woven] * 3, change=interlace)
    with av.open(str(clip)) as container:
        frame = next(container.decode(video=0))
        assert frame.interlaced_frame
        stored = frame.to_ndarray(format="rgb24")
    pixels, _ = shown(clip)
    assert difference(pixels[:56], photo[:56]) < 0.6 * difference(woven[:56], photo[:56])
    assert difference(pixels[64:], stored[64:]) < 1


# High dynamic range.


def test_an_hdr_clip(tmp_path, photo):
    signal = to_pq(203 * to_light((photo * 0.7).astype(np.uint8)) @ TO_2020.T)
    frame = av.VideoFrame.from_ndarray((signal * 65535).astype(np.uint16), format="rgb48le")
    frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
    clip = tmp_path / "a.mkv"
    with av.open(str(clip), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width = photo.shape[:2]
        stream.pix_fmt, stream.options = "yuv420p10le", {"crf": "8"}
        context = stream.codec_context
        context.color_trc, context.color_primaries = 16, 9
        context.colorspace, context.color_range = 9, 1
        out.mux([*stream.encode(frame), *stream.encode()])
    pixels, notes = shown(clip)
    assert difference(pixels, (photo * 0.7).astype(np.uint8)) < 6
    assert notes == ["it is HDR (PQ), shown in SDR by tone mapping"]


def coloured(clip: Path, photo: np.ndarray, space: int) -> Path:
    """A lossless clip that says its colours to be of a space of ITU-T H.273."""
    with av.open(str(clip), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.height, stream.width = photo.shape[:2]
        stream.pix_fmt, stream.codec_context.colorspace = "yuv444p", space
        frame = av.VideoFrame.from_ndarray(photo, format="rgb24").reformat(format="yuv444p")
        frame.colorspace = space
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return clip


@pytest.mark.parametrize("space", range(18))
def test_colour_spaces_are_shown_or_named(tmp_path, photo, space):
    clip = coloured(tmp_path / "a.mkv", photo, space)
    if space in (8, 11, 13, 14, 15, 16, 17):
        with pytest.raises(DecodeError, match=r"a\.mkv: expected colours as YCbCr or RGB but got"):
            shown(clip)
        return
    pixels, notes = shown(clip)
    assert difference(pixels, photo) < 8
    assert notes == (
        ["its colours are of a rare kind and may be slightly off"] * (space in (10, 12))
    )


@pytest.mark.parametrize(
    ("size", "space", "told", "codec"),
    [
        ((1280, 528), 1, 2, "libx264"),
        ((480, 720), 1, 2, "libx264"),
        ((640, 480), 5, 2, "libx264"),
        ((1280, 720), 5, 5, "libx264"),
        ((640, 480), 1, 1, "libx264"),
        ((1280, 720), 5, 2, "mjpeg"),  # the standard of JPEG files tells its colours
    ],
)
def test_colours_that_are_not_told_are_those_that_players_take(
    tmp_path, photo, size, space, told, codec
):
    picture = cv2.resize(photo, size)
    ranged = {"dst_color_range": 2} if codec == "mjpeg" else {"dst_color_range": 1}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    pix = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    frame = frame.reformat(format=pix, dst_colorspace=space, **ranged)
    frame.colorspace = told
    clip = tmp_path / "a.mov"
    with av.open(str(clip), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt, stream.codec_context.colorspace = pix, told
        stream.options = {"crf": "4"} if codec == "libx264" else {"qscale": "2"}
        stream.bit_rate = 50_000_000
        out.mux([*stream.encode(frame), *stream.encode()])
    pixels, notes = shown(clip)
    assert np.abs(pixels.astype(float) - picture).mean((0, 1)).max() < 2.5 and not notes
