"""Clips made for tests, and what happens to them: damaged packets, other matrices, joined files."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

SIZE = (96, 64)  # width and height


def brightness(number: int) -> int:
    return 16 + 2 * number % 238


def numbered(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture whose brightness tells its number, with a white corner at the top left."""
    width, height = size
    pixels = np.full((height, width, 3), brightness(number), np.uint8)
    pixels[: height // 3, : width // 4] = 255
    return pixels


def number_of(pixels: np.ndarray) -> float:
    """Which number a picture shows, roughly."""
    height, width = pixels.shape[:2]
    return (float(pixels[height // 2 :, width // 2 :].mean()) - 16) / 2


def write(
    file: Path,
    pictures: Iterable[np.ndarray],
    codec: str = "libx264",
    *,
    pix: str = "",
    gop: int = 10,
    rate: int = 25,
    stamps: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    change: Callable[[av.VideoStream], None] = lambda stream: None,
) -> Path:
    """A clip of uint8 H x W x 3 pictures; the name decides the container.

    Args:
        stamps: of the pictures, in frames.
        change: what else is to be said of the stream.
    """
    with av.open(str(file), "w") as out:
        stream = out.add_stream(codec, rate=rate)
        stream.pix_fmt = pix or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
        stream.codec_context.gop_size = gop
        stream.bit_rate = 2_000_000
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "10", **(options or {})}
        for number, pixels in enumerate(pictures):
            if not number:
                stream.height, stream.width = pixels.shape[:2]
                change(stream)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file


def damage(
    source: Path,
    target: Path,
    chosen: Iterable[int],
    kind: str = "video",
    change: Callable[[bytes], bytes] = lambda data: bytes(len(data)),
) -> Path:
    """A copy in which some packets of a stream hold nothing but zeros, or something else."""
    chosen = set(chosen)
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = getattr(old.streams, kind)[0]
        copy = new.add_stream_from_template(stream)
        for number, packet in enumerate(old.demux(stream)):
            if not packet.size:
                continue
            if number in chosen:
                bad = av.Packet(change(bytes(packet)))
                bad.pts, bad.dts, bad.duration = packet.pts, packet.dts, packet.duration
                bad.time_base, bad.is_keyframe = packet.time_base, packet.is_keyframe
                packet = bad
            packet.stream = copy
            new.mux(packet)
    return target


def overwrite(source: Path, target: Path, chosen: Iterable[int]) -> Path:
    """A copy in which the bytes of some packets are noise where they lie, so that not even a parser
    knows of them."""
    data, noise, chosen = bytearray(source.read_bytes()), np.random.default_rng(0), set(chosen)
    with av.open(str(source)) as file:
        for number, packet in enumerate(file.demux(file.streams[0])):
            if number in chosen:
                at = data.index(bytes(packet)[:32])
                data[at : at + packet.size] = noise.bytes(packet.size)
    target.write_bytes(data)
    return target


def with_matrix(mp4: bytes, a: float, b: float, c: float, d: float) -> bytes:
    """The same mp4 with another display matrix in its first track header."""
    place = mp4.index(b"tkhd") + 4 + 40  # version 0: the matrix lies 40 bytes into the box
    whole = [round(value * 65536) for value in (a, b, c, d)]
    matrix = struct.pack(">9i", whole[0], whole[1], 0, whole[2], whole[3], 0, 0, 0, 1 << 30)
    return mp4[:place] + matrix + mp4[place + len(matrix) :]


def with_clean_aperture(mp4: bytes, *clap: int) -> bytes:
    """The same mp4 with a `clap` box in its only sample entry: 8 integers (ISO/IEC 14496-12)."""
    box = struct.pack(">I4s8i", 40, b"clap", *clap)
    data = bytearray(mp4)
    entry = data.index(b"avc1", data.index(b"stsd")) - 4
    end = entry + struct.unpack_from(">I", data, entry)[0]
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = data.index(name) - 4 if name != b"avc1" else entry
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(box))
    assert data.index(b"moov") > data.index(b"mdat")  # so that no offset changes
    return bytes(data[:end]) + box + bytes(data[end:])


def small_photo(astronaut: np.ndarray, width: int = 96, height: int = 120) -> np.ndarray:
    return cv2.resize(astronaut[0:400, 60:380], (width, height), interpolation=cv2.INTER_AREA)
