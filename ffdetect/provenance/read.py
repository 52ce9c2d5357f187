"""A file -> everything that it says of itself, whatever of that can be read."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from preprocess.io.decode import encoding_of, open_picture
from preprocess.io.formats import HEAD, DecodeError, media_of_content

from .readers import c2pa_manifest
from .readers.containers import read_container
from .readers.exif import read_exif
from .readers.generator_text import Text, read_texts
from .readers.jpeg_tables import family_of
from .readers.png import SIGNATURE, read_png
from .readers.xmp import read_xmp
from .report import Findings, Provenance, tidy

_XMP_TAG = 700  # of TIFF
_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"


def read_provenance(
    source: str | Path | bytes, *, trust_list: str | Path | None = None, c2pa_seconds: int = 20
) -> Provenance:
    """Everything that a picture, clip or sound says of itself. Nothing is fetched from anywhere.

    What is damaged or hostile becomes an entry of `errors`, and the rest is read.

    Args:
        source: a path, or the bytes of a picture.
        trust_list: certificates (PEM) that signers of C2PA manifests are checked against, such as
            the list that C2PA publishes; without one no signer is trusted.
        c2pa_seconds: of computing that reading C2PA manifests may take.

    Raises:
        DecodeError: a path at which there is no file that can be read.
        ValueError: a trust list without certificates.
    """
    trusted = Path(trust_list) if trust_list else None
    if trusted:
        c2pa_manifest.check_trust_list(trusted)
    if isinstance(source, bytes):
        name = f"<{len(source)} bytes>"
        return _read(io.BytesIO(source), source, name, trusted, c2pa_seconds)
    path = Path(source)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise DecodeError("expected a file but got a pipe or device", path)
        with path.open("rb") as stream:
            return _read(stream, path, str(path), trusted, c2pa_seconds)
    except OSError as error:
        reason = error.strerror or error
        raise DecodeError(f"expected a readable file but got: {reason}", path) from error


def _read(
    stream: BinaryIO, source: Path | bytes, name: str, trust_list: Path | None, seconds: int
) -> Provenance:
    found = Findings()

    def attempt(source: str, read: Callable[[], None]) -> None:
        """An error of one reader does not stop the others."""
        try:
            stream.seek(0)
            read()
        except Exception as error:  # whatever a hostile file makes a parser raise
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            found.fail(source, tidy(reason) or type(error).__name__)

    if not c2pa_manifest.INSTALLED:
        found.not_read.append(c2pa_manifest.NOT_READ)
    elif c2pa_manifest.may_have_manifest(stream):
        attempt("c2pa", lambda: c2pa_manifest.read_manifests(source, found, seconds, trust_list))
    stream.seek(0)
    head = stream.read(HEAD)
    if head.startswith(SIGNATURE):
        attempt("text", lambda: _read_png(stream, found))
    elif media_of_content(head) == "picture":
        attempt("file", lambda: _read_picture(stream, name, found))
    elif isinstance(source, bytes):
        found.not_read.append("the container was not read: that needs a path")
    else:
        attempt("container", lambda: read_container(source, found))
    return found.report(name)


def _read_png(stream: BinaryIO, found: Findings) -> None:
    held = read_png(stream, found)
    read_texts((Text("PNG text", *pair) for pair in held.texts), "text", found)
    for packet in held.xmp:
        read_xmp(packet, found)
    for block in held.exif:
        read_exif(block, found)


def _read_picture(stream: BinaryIO, name: str, found: Findings) -> None:
    with open_picture(stream, name) as image:
        found.jpeg = family_of(encoding_of(image, stream))
        segments = [data for kind, data in getattr(image, "applist", []) if kind == "APP1"]
        packets = [part[len(_XMP_SEGMENT) :] for part in segments if part.startswith(_XMP_SEGMENT)]
        if not segments and (packet := image.info.get("xmp")):
            packets.append(packet)
        tags = getattr(image, "tag_v2", {})  # of a TIFF file, which is EXIF's own format
        if not packets and isinstance(tags.get(_XMP_TAG), bytes):
            packets.append(tags[_XMP_TAG])
        exif = image.info.get("exif")
        if exif is None and tags:
            exif = image.getexif().tobytes()
        comment = image.info.get("comment")
    for packet in packets:
        read_xmp(packet, found)
    if exif:
        read_exif(exif, found)
    if isinstance(comment, bytes):
        comment = comment.decode("utf-8", "replace")
    if comment:
        read_texts([Text("comment", "comment", comment)], "text", found)
