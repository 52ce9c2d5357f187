"""What clips and sounds say: encoder, dates, handlers, edit lists, tags."""

from __future__ import annotations

import json
import struct

import av
import numpy as np
import pytest

from ffdetect.provenance import Says, read_provenance

from .files import WEB_UI, clip


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_clip(tmp_path, suffix):
    if suffix == ".webm":
        pytest.skip("x264 is no codec of WebM") if "libvpx" not in av.codecs_available else None
        file = tmp_path / "a.webm"
        with av.open(str(file), "w") as out:
            stream = out.add_stream("libvpx", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
            out.mux(stream.encode())
    else:
        file = clip(tmp_path / f"a{suffix}", creation_time="2024-05-06T07:08:09Z")
    found = read_provenance(file)
    about = found.container
    assert about and about.encoder.startswith("Lavf")
    assert found.claims[0].says is Says.SOFTWARE and found.errors == ()
    if suffix in (".mp4", ".mov"):
        assert about.created.startswith("2024-05-06T07:08:09")
        assert about.handlers == ("VideoHandler",)
    if suffix != ".webm":
        assert any(name.startswith("x264 - core") for name in about.codecs)


def test_sound(tmp_path):
    file = tmp_path / "a.mp3"
    with av.open(str(file), "w") as out:
        out.metadata["title"] = "speech"
        stream = out.add_stream("libmp3lame", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
        frame.rate = 16000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    about = read_provenance(file).container
    assert about and about.format == "mp3" and about.tags["title"] == "speech"


def test_generator_and_camera_in_tags(tmp_path):
    graph = json.dumps({"prompt": json.dumps({"1": {"class_type": "K", "inputs": {}}})})
    for value, tool in ((WEB_UI, "a Stable Diffusion web UI (v1.9.4)"), (graph, "ComfyUI")):
        found = read_provenance(clip(tmp_path / "a.mp4", comment=value))
        assert [one.tool for one in found.generators] == [tool] and found.says_generated
    tags = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.model": "iPhone 15"}
    found = read_provenance(clip(tmp_path / "a.mov", **tags))
    assert (found.claims[0].says, found.claims[0].text) == (Says.CAPTURED, "camera Apple iPhone 15")


def with_edits(file, entries: list[tuple[int, int, int]]) -> bytes:
    """The same MP4 file with another edit list of as many entries as it has."""
    data = bytearray(file.read_bytes())
    at = data.index(b"elst") + 4
    count = struct.unpack_from(">I", data, at + 4)[0]
    assert count == len(entries)
    for number, entry in enumerate(entries):
        struct.pack_into(">IiI", data, at + 8 + 12 * number, *entry)
    return bytes(data)


def test_edit_list(tmp_path):
    file = clip(tmp_path / "a.mp4")
    (edit,) = read_provenance(file).container.edits
    assert (edit.track, edit.rate) == (1, 1.0) and edit.duration == pytest.approx(0.4)
    file.write_bytes(with_edits(file, [(200, 25 * 512 // 5, 2 << 16)]))  # times in 1/1000, 1/12800
    (edit,) = read_provenance(file).container.edits
    assert (edit.start, edit.duration, edit.rate) == (0.2, 0.2, 2.0)
    file.write_bytes(with_edits(file, [(1000, -1, 1 << 16)]))
    (edit,) = read_provenance(file).container.edits
    assert (edit.start, edit.duration) == (-1.0, 1.0)


def test_errors_do_not_repeat_the_name(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    (error,) = read_provenance(tmp_path / "a.mp4").errors
    assert error.message.startswith("expected a clip or a sound but it cannot be decoded")


def test_broken_edit_list(tmp_path):
    file = clip(tmp_path / "a.mp4")
    data = bytearray(file.read_bytes())
    struct.pack_into(">I", data, data.index(b"elst") + 8, 50)
    file.write_bytes(data)
    found = read_provenance(file)
    assert [one.message for one in found.errors] == [
        "edit lists: expected 50 edits but 'elst' is cut off after 1"
    ]
    assert found.container and found.container.encoder.startswith("Lavf")
