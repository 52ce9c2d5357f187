"""Bytes to RGB pixels: the only place that touches codecs of still pictures (clips: `clips.py`).

Whatever the file says of itself is not trusted: the format is read from the bytes, the size is
checked before anything is decoded, and every failure is a `DecodeError` that names the picture.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image

from .colour import to_srgb
from .formats import (
    HEAD,
    DecodeError,
    TooLargeError,
    UnknownFormatError,
    is_text,
    is_url,
    media_of_content,
)
from .still.hdr import hdr_transfer
from .still.jpeg import jpeg_quality
from .still.memory import pixels_of_array, pixels_of_tensor
from .still.metadata import without_metadata
from .still.tiff import first_page, white_at_the_top
from .still.webp import is_lossless
from .video.hdr import from_hdr_bytes

# Camera metadata that is damaged concerns nobody who looks at the pixels.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Pillow knows formats that run other programs (EPS starts Ghostscript); only these are opened.
# MPO, as some cameras write it, is opened by the JPEG plug-in and has no name of its own here.
_PILLOW_FORMATS = ("WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "HEIF", "JPEG2000", "PPM", "QOI")
_PICTURE = "a jpg, png, webp, bmp, tiff, gif, avif, heic, jp2, ppm, qoi or tga picture"
_HEIC = frozenset(b"heic heix heim heis hevc hevx mif1 msf1".split())
_ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")  # others hold pages, bursts or depth

MAX_MEGAPIXELS = 100.0

STRIP = 2**20  # bytes of a picture that are copied at once

# Pillow's own guard is a global of the whole process; it is lifted only while a header is read
# under our own limit, which is checked for every picture and names the file.
_pillow_guard = threading.Lock()

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what sets it right


@dataclass(frozen=True)
class Picture:
    """Decoded pixels and what the file told about itself.

    Attributes:
        pixels: uint8, H x W x 3, RGB, upright (EXIF orientation applied).
        name: how messages call it (a path where there is one).
        format: "jpeg", "png", ...; "array" for pixels that came from memory.
        jpeg_quality: IJG quality 1-100 estimated from the luminance table, -1 if not a JPEG.
        frame: frame number in a clip, -1 for a still picture.
        animated: whether it is one frame of an animation (gif, apng, webp, avif).
        hdr: "PQ" or "HLG" of a picture that is stored so; its pixels are tone mapped to sRGB.
    """

    pixels: np.ndarray
    name: str
    format: str
    jpeg_quality: int = -1
    frame: int = -1
    animated: bool = False
    hdr: str | None = None

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]


@dataclass(frozen=True)
class Encoding:
    """How a still picture was written, read from its header alone.

    Attributes:
        format: "jpeg", "png", ...
        mode: Pillow's name of the stored colours: "RGB", "L", "RGBA", "P" ...
        progressive: a progressive JPEG.
        exif, icc: whether it carries camera metadata, a colour profile.
        quality: IJG quality 1-100 as in `Picture.jpeg_quality`, -1 if not a JPEG.
        luma, chroma: the 64 steps of the JPEG quantisation tables; empty where there is none.
        subsampling: share of chroma samples kept: 1 for 4:4:4, 0.5 for 4:2:2, 0.25 for 4:2:0;
            0 without chroma or if not a JPEG.
    """

    format: str
    mode: str
    progressive: bool
    exif: bool
    icc: bool
    quality: int
    luma: tuple[int, ...]
    chroma: tuple[int, ...]
    subsampling: float


def read_encoding(path: Path) -> Encoding:
    """Read how a still picture was written, without decoding its pixels.

    Raises:
        DecodeError: not a picture.
    """
    try:
        with path.open("rb") as stream, open_picture(stream, str(path)) as image:
            return encoding_of(image, stream)
    except OSError as error:
        reason = error.strerror or error
        raise DecodeError(f"expected a readable file but got: {reason}", path) from error


def encoding_of(image: Image.Image, stream: IO[bytes]) -> Encoding:
    """How an opened picture was written; see `open_picture`."""
    tables = getattr(image, "quantization", None) or {}
    layers = [layer[1:] for layer in getattr(image, "layer", [])]  # (h, v, table) of each
    kept = 0.0
    if len(layers) == 3:
        kept = layers[1][0] * layers[1][1] / max(layers[0][0] * layers[0][1], 1)
    chroma = tables.get(layers[1][2]) if len(layers) == 3 else None
    return Encoding(
        format=_format(image, stream),
        mode=image.mode,
        progressive=bool(image.info.get("progressive")),
        exif="exif" in image.info,
        icc="icc_profile" in image.info,
        quality=jpeg_quality(image),
        luma=tuple(tables.get(0, ())),
        chroma=tuple(chroma or ()),
        subsampling=kept,
    )


def decode_image(source: object, *, max_megapixels: float = MAX_MEGAPIXELS) -> Picture:
    """Decode one still picture.

    Args:
        source: a path, encoded `bytes`, a PIL image, a uint8 H x W x 3 RGB array, or a uint8
            3 x H x W RGB tensor.
        max_megapixels: larger pictures are refused before their pixels are decoded.

    Raises:
        UnknownFormatError: not a picture, or of a kind that is not read.
        TooLargeError: more than `max_megapixels`.
        DecodeError: damaged, or an array of another shape or dtype. The others are kinds of it.
    """
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if is_url(path):
            raise DecodeError("expected a path but got a URL; pictures are not fetched", path)
        return _decode_file(Path(os.fsdecode(path)), max_megapixels)
    if isinstance(source, bytes | bytearray | memoryview):
        name = f"<{memoryview(source).nbytes} bytes>"
        if not len(source):
            raise DecodeError(f"expected {_PICTURE} but got 0 bytes", name)
        return _decode_stream(io.BytesIO(bytes(source)), name, max_megapixels)
    if isinstance(source, Image.Image):
        name = getattr(source, "filename", "") or "<PIL image>"
        return _from_pil(source, _stream_of(source), str(name), max_megapixels)
    if isinstance(source, np.ndarray):
        return _from_array(pixels_of_array(source), "<array>", max_megapixels)
    torch = sys.modules.get("torch")  # not imported to be told that there is no tensor
    if torch is not None and isinstance(source, torch.Tensor):
        return _from_array(pixels_of_tensor(source), "<tensor>", max_megapixels)
    raise DecodeError(
        "expected a path, bytes, PIL image, uint8 H x W x 3 array or uint8 3 x H x W tensor "
        f"but got {type(source).__name__}"
    )


def _decode_file(path: Path, max_megapixels: float) -> Picture:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or device"
            raise DecodeError(f"expected {_PICTURE} but got {kind}", path)
        if not status.st_size:
            raise DecodeError(f"expected {_PICTURE} but got an empty file", path)
        with path.open("rb") as stream:
            return _decode_stream(stream, str(path), max_megapixels)
    except (OSError, ValueError) as error:
        if isinstance(error, DecodeError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DecodeError(f"expected a readable file but got: {reason}", path) from error


def _decode_stream(stream: IO[bytes], name: str, max_megapixels: float) -> Picture:
    try:
        with open_picture(stream, name) as image:
            return _from_pil(image, stream, name, max_megapixels)
    except TooLargeError:
        raise
    except DecodeError:  # perhaps of what follows the pixels and is none
        pixels = without_metadata(stream)
        with contextlib.suppress(DecodeError):
            if pixels:
                with _open(io.BytesIO(pixels), name) as image:
                    return _from_pil(image, None, name, max_megapixels)
        raise


def open_picture(stream: IO[bytes], name: str) -> Image.Image:
    """Read the header of a still picture, of any size; its pixels are not decoded yet.

    Raises:
        DecodeError: not a picture, or one of a kind that is not opened.
    """
    try:
        return _open(stream, name)
    except DecodeError:
        if pixels := without_metadata(stream):
            with contextlib.suppress(DecodeError):
                return _open(io.BytesIO(pixels), name)
        raise


def _open(stream: IO[bytes], name: str) -> Image.Image:
    head = stream.read(HEAD)
    stream.seek(0)
    try:
        formats = _formats(head, name)
        with _pillow_guard:
            guard, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(stream, formats=formats)
            finally:
                Image.MAX_IMAGE_PIXELS = guard
    except Exception as error:  # Pillow's plug-ins raise many kinds on damaged headers
        kind = DecodeError if media_of_content(head) == "picture" else UnknownFormatError
        raise kind(f"expected {_PICTURE} but {_what(head)}", name) from error


def _formats(head: bytes, name: str) -> tuple[str, ...]:
    """What Pillow is to try: one at once if that is clear, since the others take time to load."""
    if head.startswith(b"\xff\xd8\xff"):
        return ("JPEG",)
    if head.startswith(b"\x89PNG"):
        return ("PNG",)
    if _is_heic(head):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    by_name = ("TGA",) if name.lower().endswith(".tga") else ()  # nothing in it says what it is
    return tuple(kind for kind in _PILLOW_FORMATS + by_name if kind in Image.OPEN)


def _is_heic(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC and b"avif" not in head[8:64]


def _what(head: bytes) -> str:
    """What a file is that cannot be opened as a picture."""
    media = media_of_content(head)
    if _is_heic(head) and "HEIF" not in Image.OPEN:
        return "got heic, which pip install 'ffdetect[heic]' reads"
    if media == "picture":
        return "its header is damaged, or of a kind that is not read"
    if media:
        return f"the content is a {media}" if media == "clip" else "the content is sound"
    return "the content is text" if head and is_text(head) else "the content is none"


def _stream_of(image: Image.Image) -> IO[bytes] | None:
    """Where an opened picture came from whose file is asked more, as far as that can be had."""
    if image.format not in ("WEBP", "AVIF", "HEIF", "PNG"):
        return None
    if getattr(image, "fp", None) is None:  # closed, once the pixels were there
        with contextlib.suppress(OSError, ValueError):
            return io.BytesIO(Path(getattr(image, "filename", "")).read_bytes())
    return getattr(image, "fp", None)


def _format(image: Image.Image, stream: IO[bytes] | None = None) -> str:
    name = (image.format or "array").lower()
    if name == "webp":
        lossless = stream is not None and is_lossless(stream)
        return "webp-lossless" if lossless else name
    return {"mpo": "jpeg", "jpeg2000": "jp2", "heif": "heic"}.get(name, name)


def _from_pil(image: Image.Image, stream: IO[bytes] | None, name: str, most: float) -> Picture:
    format_name, quality = _format(image, stream), jpeg_quality(image)
    try:
        first_page(image)
        if getattr(image, "default_image", False) and image.tell() == 0:
            image.seek(1)  # a PNG shows another picture where animations are not played
        check_size(image.width, image.height, name, most)
        hdr = hdr_transfer(stream)
        image.load()
        pixels = _to_array(to_srgb(_upright(white_at_the_top(image)), profiled=not hdr))
        if hdr:
            pixels = from_hdr_bytes(pixels, hdr)
    except TooLargeError:
        raise
    except DecodeError as error:
        raise DecodeError(error.reason, name) from None
    except Exception as error:  # truncated or corrupt data: OSError, SyntaxError, struct.error ...
        raise DecodeError(
            f"expected a whole {format_name} picture but it is damaged: {error}", name
        ) from error
    return Picture(pixels, name, format_name, quality, animated=_is_animated(image), hdr=hdr)


def _is_animated(image: Image.Image) -> bool:
    """Asked when the pixels are there, since some formats look for a second frame."""
    with contextlib.suppress(Exception):  # of what follows, whatever is damaged
        return image.format in _ANIMATIONS and bool(getattr(image, "is_animated", False))
    return False


def _upright(image: Image.Image) -> Image.Image:
    """As its EXIF orientation says; without one, or with EXIF that is damaged, as it is stored."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow's reader raises many kinds, none of which concerns the pixels
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_array(image: Image.Image) -> np.ndarray:
    """What `np.array` makes of an RGB picture. That copies all of it three times; strips that fit
    the processor's cache take less time for large pictures."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(STRIP // (3 * image.width), 1)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _from_array(array: np.ndarray, name: str, max_megapixels: float) -> Picture:
    check_size(array.shape[1], array.shape[0], name, max_megapixels)
    return Picture(np.ascontiguousarray(array), name, "array")


def check_size(width: int, height: int, name: str, max_megapixels: float) -> None:
    """Refuse a picture without pixels, and one of more than `max_megapixels` million."""
    if width < 1 or height < 1:
        raise DecodeError(f"expected a picture but got {width} x {height} pixels", name)
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        raise TooLargeError(
            f"expected at most {max_megapixels:g} megapixels but got "
            f"{width} x {height} = {megapixels:.1f}; raise the limit with max_megapixels",
            name,
        )
