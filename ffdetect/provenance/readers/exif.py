"""EXIF: camera, software, and comments that generators write."""

from __future__ import annotations

import struct
from typing import Any

from PIL import ExifTags, Image

from ffdetect.provenance.report import Camera, Findings, Says, tidy
from ffdetect.provenance.source_types import names_generator

from .generator_text import Text, is_graph_tag, read_texts

LARGEST = 4 * 2**20  # bytes
_COMMENTS = {
    ExifTags.Base.ImageDescription: "ImageDescription",
    ExifTags.Base.UserComment: "UserComment",
}
_XP_COMMENT = 0x9C9C  # Windows' own, in UTF-16


def read_exif(data: bytes, found: Findings) -> None:
    """Note camera, comments and claims of a block of EXIF."""
    if len(data) > LARGEST:
        size = f"{len(data) / 2**20:.1f} MiB"
        found.fail("exif", f"expected at most {LARGEST // 2**20} MiB but got {size}")
        return
    if _is_truncated(data):
        found.fail("exif", "expected a whole directory of tags but it is cut off")
    exif = Image.Exif()
    try:
        exif.load(data)
        tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except Exception as error:  # Pillow's reader raises many kinds on damaged data
        found.fail("exif", f"expected EXIF but it is damaged: {tidy(error)}")
        return
    texts = [
        Text("EXIF", name, _comment(tags[tag])) for tag, name in _COMMENTS.items() if tag in tags
    ]
    if _XP_COMMENT in tags:
        texts.append(Text("EXIF", "UserComment", _utf16(tags[_XP_COMMENT], "utf-16-le")))
    values = {name: _string(tags.get(tag)) for name, tag in _FIELDS.items()}
    for name in ("make", "model"):
        if is_graph_tag(values[name]):  # ComfyUI keeps its graph where cameras have their names
            texts.append(Text("EXIF", name, values[name]))
            values[name] = ""
    read_texts(texts, "exif", found)
    if any(values.values()):
        found.camera = Camera(**{name: tidy(value) for name, value in values.items()})
        _note(found.camera, found)


_FIELDS = {
    "make": ExifTags.Base.Make,
    "model": ExifTags.Base.Model,
    "lens": ExifTags.Base.LensModel,
    "software": ExifTags.Base.Software,
    "taken": ExifTags.Base.DateTimeOriginal,
    "changed": ExifTags.Base.DateTime,
}


def _note(camera: Camera, found: Findings) -> None:
    name = " ".join(part for part in (camera.make, camera.model) if part)
    for label, value in (("software", camera.software), ("camera", name)):
        if names_generator(value):
            found.claim(Says.GENERATED, f"{label} {value}", "exif")
        elif value and label == "camera":
            when = f", {camera.taken}" if camera.taken else ""
            found.claim(Says.CAPTURED, f"camera {name}{when}", "exif")
        elif value:
            found.claim(Says.SOFTWARE, value, "exif")


def _is_truncated(data: bytes) -> bool:
    """Whether the first directory ends before the entries that it counts."""
    body = data.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(body[:2])
    if order is None or len(body) < 8:
        return False  # not EXIF at all: Pillow says so
    start = struct.unpack_from(f"{order}I", body, 4)[0]
    if start + 2 > len(body):
        return True
    return start + 2 + 12 * struct.unpack_from(f"{order}H", body, start)[0] > len(body)


def _string(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).strip("\0 ") if isinstance(value, str | int | float) else ""


def _comment(value: Any) -> str:
    """A comment; UserComment begins with eight bytes that name its characters."""
    if not isinstance(value, bytes):
        return _string(value)
    code, rest = value[:8], value[8:]
    if code == b"UNICODE\0":  # in the byte order of the file, which few writers respect
        return _utf16(rest, "utf-16-be" if rest[:1] == b"\0" else "utf-16-le")
    if code in (b"ASCII\0\0\0", b"\0" * 8):
        return rest.decode("utf-8", "replace")
    return value.decode("utf-8", "replace")


def _utf16(value: Any, order: str) -> str:
    data = bytes(value) if isinstance(value, bytes | tuple | list) else b""
    return data.decode(order, "replace").strip("\0")
