"""Which part of its pictures a container says is to be shown, where decoders do not know of it:
the clean aperture of MP4 and QuickTime, and the cropping of Matroska."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .boxes import Box, Boxes

_SAMPLE_ENTRY = 78  # bytes before the boxes of a video sample entry (ISO/IEC 14496-12, 12.1.3)
_SEGMENT, _TRACKS, _TRACK, _KIND, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0xE0
_CLUSTER = 0x1F43B675
_CROPS = {0x54CC: "left", 0x54BB: "top", 0x54DD: "right", 0x54AA: "bottom"}


@dataclass(frozen=True)
class Crop:
    """Pixels to leave out at each side of a picture as it is stored."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


def read_crop(path: Path, container: Any, stream: Any) -> Crop:
    """What the container leaves out of the pictures of a video stream; all zero where it says
    nothing, or nonsense."""
    name = container.format.name
    try:
        with path.open("rb") as file:
            if "mp4" in name:
                return _clean_aperture(file, stream.id)
            if "matroska" in name:
                videos = [one.index for one in container.streams.video]
                return _pixel_crop(file, videos.index(stream.index))
    except (OSError, ValueError, struct.error, ZeroDivisionError, OverflowError):
        pass
    return Crop()


def _clean_aperture(file: BinaryIO, track: int) -> Crop:
    boxes = Boxes(file)
    for trak in boxes.mp4(boxes.first(boxes.whole, b"moov")):
        if trak.kind != b"trak" or _track_id(boxes, trak) != track:
            continue
        place = trak
        for kind in (b"mdia", b"minf", b"stbl", b"stsd"):
            place = boxes.first(place, kind)
        for entry in boxes.mp4(place, skip=8):
            clap = boxes.first(entry, b"clap", skip=_SAMPLE_ENTRY)
            width, height = struct.unpack(">HH", boxes.bytes(entry.start + 24, 4))
            return _crop_of(struct.unpack(">8i", boxes.bytes(clap.start, 32)), width, height)
    return Crop()


def _track_id(boxes: Boxes, trak: Box) -> int:
    header = boxes.first(trak, b"tkhd")
    version = boxes.bytes(header.start, 1)[0]
    return struct.unpack(">I", boxes.bytes(header.start + (20 if version else 12), 4))[0]


def _crop_of(clap: tuple[int, ...], width: int, height: int) -> Crop:
    """Width, height and the centre's offset, as fractions, to what is left out."""
    wide, high, right, down = (clap[i] / clap[i + 1] for i in range(0, 8, 2))
    if not 0 < wide <= width or not 0 < high <= height:
        return Crop()
    left, top = round((width - wide) / 2 + right), round((height - high) / 2 + down)
    if left < 0 or top < 0 or left + wide > width + 0.5 or top + high > height + 0.5:
        return Crop()
    return Crop(left, top, width - left - round(wide), height - top - round(high))


def _pixel_crop(file: BinaryIO, number: int) -> Crop:
    """Of the video track with that number, from 0."""
    boxes, seen = Boxes(file), -1
    segment = next((box for box in boxes.ebml(boxes.whole) if box.kind == _SEGMENT), None)
    for tracks in boxes.ebml(segment) if segment else ():
        if tracks.kind == _CLUSTER:
            break
        for track in boxes.ebml(tracks) if tracks.kind == _TRACKS else ():
            parts = {box.kind: box for box in boxes.ebml(track)} if track.kind == _TRACK else {}
            if _KIND not in parts or _uint(boxes, parts[_KIND]) != 1:
                continue
            seen += 1
            if seen == number and _VIDEO in parts:
                found = {
                    _CROPS[box.kind]: _uint(boxes, box)
                    for box in boxes.ebml(parts[_VIDEO])
                    if box.kind in _CROPS
                }
                return Crop(**found)
    return Crop()


def _uint(boxes: Boxes, box: Box) -> int:
    return int.from_bytes(boxes.bytes(box.start, min(box.end - box.start, 8)), "big")
