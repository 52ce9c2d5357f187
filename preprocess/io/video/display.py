"""A decoded frame as players show it: the part that is to be seen, square pixels, upright, sRGB."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from preprocess.io.decode import check_size
from preprocess.io.formats import DecodeError

from .aperture import Crop, read_crop
from .hdr import TRANSFERS, from_hdr

_GREY_FIRST = frozenset(
    "gray yuv420p yuvj420p yuv422p yuvj422p yuv444p yuvj444p nv12 nv21".split()
)  # stored with a plane of 8-bit luma first
_SQUARE = 0.01  # nobody sees that pixels are not square by less, and resampling erases traces
_LONGEST = 8.0  # a pixel's sides are not further apart
_ASKEW = 0.02  # share of a turn's matrix that may be left over (1 degree)
_COMB = 12.0  # grey levels by which a line of a moving thing differs from those beside it
_FOREIGN = {8: "YCgCo", 11: "YDzDx", 13: "chroma-derived", 14: "ICtCp", 15: "IPT"} | dict.fromkeys(
    (16, 17), "YCgCo-R"
)  # colour spaces of ITU-T H.273 that FFmpeg does not convert
_ALIKE = {10: 9, 12: 2}  # those that are close to one which it does
_UNSPECIFIED, _BT709, _HD = 2, 1, (1280, 720)  # as players take it of pictures so wide or high


@dataclass(frozen=True)
class Turn:
    """One of the eight ways to lay a picture: swap its axes, then mirror what that gives."""

    swap: bool = False
    rows: bool = False
    columns: bool = False

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """A view of H x W or H x W x C."""
        if self.swap:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.rows else 1, :: -1 if self.columns else 1]


class Display:
    """How the frames of one stream are shown.

    Attributes:
        notes: what could not be shown as players would, or not as it was meant.
    """

    def __init__(self, path: Path, container: Any, stream: Any, max_megapixels: float) -> None:
        self._name, self._most = str(path), max_megapixels
        self._stream, self._context = stream, stream.codec_context
        self._coded_aspect = self._context.sample_aspect_ratio
        self._crop = read_crop(path, container, stream)
        self._matrix: bytes | None = None  # the last that a frame had
        self._converted = _make_converter()
        self.notes: list[str] = []
        if stream.metadata.get("alpha_mode") == "1" and not _has_alpha(self._context.format):
            self._note("its transparency is not read; what lies below it was shown")
        check_size(self._context.width, self._context.height, self._name, max_megapixels)

    def check(self, frame: Any) -> None:
        """Prepare a frame for the others; called for each, in order.

        Raises:
            DecodeError: its colours are none that can be shown.
        """
        self._matrix = self._matrix_of(frame)
        space = int(frame.colorspace)
        if space in _FOREIGN:
            raise DecodeError(
                f"expected colours as YCbCr or RGB but got {_FOREIGN[space]}", self._name
            )
        if space in _ALIKE:
            self._note("its colours are of a rare kind and may be slightly off")
            frame.colorspace = _ALIKE[space]
        is_hd = frame.width >= _HD[0] or frame.height >= _HD[1]
        if is_hd and space == _UNSPECIFIED and frame.color_trc not in TRANSFERS:
            frame.colorspace = _BT709  # FFmpeg takes it for BT.601

    def pixels(self, frame: Any) -> np.ndarray:
        """Uint8 H x W x 3 RGB.

        Raises:
            DecodeError: too large.
        """
        turn = self._turn(frame)
        aspect = self._aspect(turn is not None)  # FFmpeg's is of the matrix too
        wide, high = max(aspect, 1.0), max(1 / aspect, 1.0)  # enlarged, so that nothing is lost
        check_size(round(frame.width * wide), round(frame.height * high), self._name, self._most)
        self._note_views(frame)
        pixels = self._rgb(frame)
        if frame.interlaced_frame:
            pixels = _without_combs(pixels)
        pixels = self._cropped(pixels)
        if aspect != 1:
            size = round(pixels.shape[1] * wide), round(pixels.shape[0] * high)
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
        return np.ascontiguousarray((turn or Turn()).apply(pixels))

    def luma(self, frame: Any) -> np.ndarray:
        """Its brightness, uint8 H x W, upright; pixels may not be square."""
        return (self._turn(frame) or Turn()).apply(self._cropped(luma(frame)))

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _cropped(self, pixels: np.ndarray) -> np.ndarray:
        crop, (height, width) = self._crop, pixels.shape[:2]
        if crop == Crop():
            return pixels
        part = pixels[crop.top : height - crop.bottom, crop.left : width - crop.right]
        if crop.top + crop.bottom >= height or crop.left + crop.right >= width:
            self._note("its cropping would leave nothing and was not applied")
            return pixels
        return part

    def _aspect(self, told_by_container: bool) -> float:
        """Width of a pixel by its height. What the container says goes before what the codec says;
        where only the codec does, it may change midway."""
        told = self._stream.sample_aspect_ratio
        if not told or told == self._coded_aspect or not told_by_container:
            told = self._context.sample_aspect_ratio
        aspect = float(told or 1)
        if not 1 / _LONGEST <= aspect <= _LONGEST:
            self._note(f"its pixels would be {told} as wide as high, which was not applied")
            return 1.0
        return 1.0 if abs(aspect - 1) < _SQUARE else aspect

    def _matrix_of(self, frame: Any) -> bytes | None:
        """Of a stream that tells it now and then, frames have the last that was told."""
        matrix = _side_data(frame, "DISPLAYMATRIX")
        return self._matrix if matrix is None else bytes(matrix)[:36]

    def _turn(self, frame: Any) -> Turn | None:
        """None where the display matrix is not applied."""
        matrix = self._matrix_of(frame)
        if matrix is None:
            return Turn()
        turn = turn_of(struct.unpack("=9i", matrix))
        if turn is None:
            self._note("its display matrix is no turn by quarters or mirroring; it was not applied")
        return turn

    def _note_views(self, frame: Any) -> None:
        stereo = _side_data(frame, "STEREO3D")
        if stereo is not None and any(bytes(stereo)[:4]):
            self._note("it is stereoscopic; both views were taken as one picture")
        if _side_data(frame, "SPHERICAL") is not None:
            self._note("it is spherical; it was taken as a flat picture")

    def _rgb(self, frame: Any) -> np.ndarray:
        if transfer := TRANSFERS.get(frame.color_trc):
            self._note(f"it is HDR ({transfer}), shown in SDR by tone mapping")
            signal = self._converted(frame, "rgb48le").astype(np.float32) / 65535
            return from_hdr(signal, transfer)
        if _has_alpha(frame.format) or frame.format.name == "pal8":
            # Over white, as still pictures are.
            rgba = self._converted(frame, "rgba").astype(np.uint16)
            colour, alpha = rgba[..., :3], rgba[..., 3:]
            return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
        return self._converted(frame, "rgb24")


def _make_converter() -> Callable[[Any, str], np.ndarray]:
    """What makes pixels of another format of a frame's. It is kept for the next frame, and has no
    threads, which PyAV makes anew for every frame otherwise: there is a process for every core."""
    import av
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    one_thread = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}

    def converted(frame: Any, name: str) -> np.ndarray:
        return reformatter.reformat(frame, format=name, **one_thread).to_ndarray()

    return converted


def _has_alpha(pixel_format: Any) -> bool:
    return pixel_format is not None and any(part.is_alpha for part in pixel_format.components)


def luma(frame: Any) -> np.ndarray:
    """The brightness of a frame as it is stored, uint8 H x W."""
    if frame.format.name not in _GREY_FIRST:
        return frame.to_ndarray(format="gray")
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, abs(plane.line_size))
    return rows[: frame.height, : frame.width]


def turn_of(matrix: tuple[int, ...]) -> Turn | None:
    """What a display matrix does, as 9 numbers a b u c d v x y w that move a point (p, q) to
    (a p + c q, b p + d q); None for what is no turn by quarters or mirroring."""
    a, b, _, c, d = matrix[:5]
    plain, swapped = min(abs(a), abs(d)), min(abs(b), abs(c))
    if plain and max(abs(b), abs(c)) <= _ASKEW * plain:
        return Turn(False, rows=d < 0, columns=a < 0)
    if swapped and max(abs(a), abs(d)) <= _ASKEW * swapped:
        return Turn(True, rows=b < 0, columns=c < 0)
    return None


def _side_data(frame: Any, name: str) -> Any:
    try:
        return frame.side_data.get(name)
    except ValueError:  # one of its kinds is not known to PyAV
        return None


def _without_combs(pixels: np.ndarray) -> np.ndarray:
    """An interlaced frame whose second field is redone from the first where things moved in
    between: there, its lines are brighter or darker than those above and below."""
    if len(pixels) < 3:
        return pixels
    wide = pixels.astype(np.int16)
    above, here, below = wide[:-2:2], wide[1:-1:2], wide[2::2]
    apart = (here - above) * (here - below).astype(np.int32) > _COMB**2
    combed = np.asarray(apart.any(2), np.uint8)
    moved = cv2.dilate(combed, np.ones((3, 5), np.uint8)) > 0
    here[moved] = ((above[moved] + below[moved]) // 2).astype(np.int16)
    return wide.astype(np.uint8)
