"""What the container of a clip or a sound says: encoder, dates, handlers, edit lists, tags."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import Any

from ffdetect.provenance.report import Container, Edit, Findings, Says, tidy
from ffdetect.provenance.source_types import names_generator
from preprocess.io.media import open_media, packets

from .edit_lists import read_edits
from .generator_text import Text, read_texts

_MOST = 50  # tags that are kept
_LONGEST = 4 * 2**20  # characters of a tag that are read
_LOOK = 4  # packets that are searched for the name of the encoder
_X264 = re.compile(rb"(x26[45] (?:- core|\(build) ?[\x20-\x7e]{1,60}?)(?: - | r\d|$)")
_OWN = ("encoder", "creation_time", "handler_name", "vendor_id", "language")
_CAMERA = ("com.apple.quicktime.make", "com.apple.quicktime.model", "make", "model")
_SOFTWARE = ("com.apple.quicktime.software", "software", "encoded_by", "encoding_tool")
_TEXTS = ("comment", "description", "prompt", "workflow", "parameters", "title", "aigc")


def read_container(path: Path, found: Findings) -> None:
    """Note what a clip or a sound says of itself.

    Raises:
        DecodeError: it cannot be opened.
    """
    with open_media(path, "a clip or a sound") as opened:
        tags = {key.lower(): value for key, value in opened.metadata.items()}
        streams = [dict(stream.metadata) for stream in opened.streams]
        codecs = [stream.get("encoder", "") for stream in streams] + [_written_by(opened)]
        format_name = opened.format.name
    edits: tuple[Edit, ...] = ()
    try:
        edits = read_edits(path)
    except (ValueError, OSError) as error:
        found.fail("container", f"edit lists: {tidy(error)}")
    found.container = container = Container(
        format=format_name,
        encoder=tidy(tags.get("encoder", "")),
        created=tidy(tags.get("creation_time", "")),
        handlers=_distinct(stream.get("handler_name", "") for stream in streams),
        codecs=_distinct(codecs),
        edits=edits,
        tags={
            tidy(key, 60): tidy(value)
            for key, value in islice(tags.items(), _MOST)
            if key not in _OWN
        },
    )
    texts = [Text("tag", key, value[:_LONGEST]) for key, value in tags.items() if key in _TEXTS]
    read_texts(texts, "container", found)
    camera = " ".join(tidy(tags[key], 100) for key in _CAMERA if tags.get(key))
    if camera:
        found.claim(Says.CAPTURED, f"camera {camera}", "container")
    named = _distinct([*(tags.get(key, "") for key in _SOFTWARE), container.encoder])
    for software in dict.fromkeys(named + container.handlers):
        if names_generator(software):
            found.claim(Says.GENERATED, f"written by {software}", "container")
        elif software in named:
            found.claim(Says.SOFTWARE, software, "container")


def _written_by(opened: Any) -> str:
    """The name that x264 and x265 write into the first picture."""
    video = opened.streams.video
    if not video:
        return ""
    for packet in islice(packets(opened, video[0]), _LOOK):
        if hasattr(packet, "size") and packet.size and (name := _X264.search(bytes(packet)[:8192])):
            return name[1].decode("ascii")
    return ""


def _distinct(values: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (tidy(value, 100) for value in values))))[:_MOST]
