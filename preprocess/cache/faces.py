"""What a cache of faces holds: its settings, its columns, and the lossless coding of a crop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa

from preprocess.faces.crop_maps import RESIDUALS, SPECTRUM_SHAPE
from preprocess.faces.face import CropSettings

from .arrow import to_array
from .errors import CacheError

MAPS = ("spectrum", "residual")
CODECS = ("ppm", "png")


@dataclass(frozen=True)
class CacheSettings:
    """Everything that decides what a cache holds.

    Attributes:
        crop: how a face is found and cut out.
        maps: which of `MAPS` are stored beside the crop.
        residual: which residual (a name from `crop_maps.RESIDUALS`).
        codec: lossless coding of crops: "ppm" (plain pixels, fastest to read) or "png" (less
            space, far slower to read).
        faces: "largest" or "all"; of a clip, the largest track of every shot or all tracks.
        frames: frames taken from a clip, spread over its tracks.
    """

    rows: ClassVar[str] = "faces"
    large: ClassVar[tuple[str, ...]] = ("crop", *MAPS)
    identity: ClassVar[tuple[str, ...]] = ("key", "box", "landmarks")
    failure_kinds: ClassVar[tuple[str, ...]] = ("no_face", "unreadable", "crashed", "timeout")
    made_by: ClassVar[str] = "preprocess.crop"

    crop: CropSettings = CropSettings()  # noqa: RUF009 (frozen)
    maps: tuple[str, ...] = ()
    residual: str = "npr"
    codec: str = "ppm"
    faces: str = "largest"
    frames: int = 8

    def __post_init__(self) -> None:
        if set(self.maps) - set(MAPS):
            raise ValueError(f"expected maps among {MAPS} but got {self.maps}")
        if self.residual not in RESIDUALS:
            raise ValueError(f"expected a residual among {[*RESIDUALS]} but got {self.residual!r}")
        if self.codec not in CODECS:
            raise ValueError(f"expected a codec among {CODECS} but got {self.codec!r}")
        if self.faces not in ("largest", "all"):
            raise ValueError(f"expected faces to be 'largest' or 'all' but got {self.faces!r}")
        if self.frames < 1:
            raise ValueError(f"expected at least 1 frame per clip but got {self.frames}")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "maps": list(self.maps)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CacheSettings:
        values = dict(values)
        crop = CropSettings(**values.pop("crop"))
        return cls(crop=crop, maps=tuple(values.pop("maps")), **values)

    def schema(self) -> pa.Schema:
        """The Arrow schema of a part."""
        text, size = pa.string(), self.crop.size
        columns = {
            "key": text,
            "path": text,
            "frame": pa.int32(),
            "face": pa.int16(),
            "target": pa.int8(),
            "generator": text,
            "group": text,
            "split": text,
            "box": pa.list_(pa.float32(), 4),
            "landmarks": pa.list_(pa.float32(), 10),
            "probability": pa.float32(),
            "source_width": pa.int32(),
            "source_height": pa.int32(),
            "source_format": text,
            "jpeg_quality": pa.int16(),
            "crop": pa.binary(),
        }
        if "spectrum" in self.maps:
            columns["spectrum"] = pa.fixed_shape_tensor(pa.float16(), SPECTRUM_SHAPE)
        if "residual" in self.maps:
            columns["residual"] = pa.fixed_shape_tensor(pa.int8(), (3, size, size))
        return pa.schema(list(columns.items()))


@dataclass
class CachedFace:
    """One row. Boxes and landmarks are in source pixels; crop is uint8 size x size x 3 RGB.

    `face` is the number of the face in a picture, the largest being 0, or that of its track in a
    clip (`tracks.ClipFace.track`); so `path` and `face` name a track. Caches written before there
    were tracks have the face's rank within its frame there.
    """

    key: str
    path: str
    frame: int
    face: int
    target: int
    generator: str
    group: str
    split: str
    box: np.ndarray
    landmarks: np.ndarray
    probability: float
    source_width: int
    source_height: int
    source_format: str
    jpeg_quality: int
    crop: np.ndarray
    spectrum: np.ndarray | None = None
    residual: np.ndarray | None = None


def to_table(rows: Sequence[CachedFace], settings: CacheSettings) -> pa.Table:
    """Rows as a table with the columns of `CacheSettings.schema`, crops coded."""
    columns, arrays = settings.schema(), []
    for field in columns:
        values = [getattr(row, field.name) for row in rows]
        if field.name == "crop":
            values = [encode_crop(crop, settings.codec) for crop in values]
        arrays.append(to_array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=columns)


def encode_crop(crop: np.ndarray, codec: str) -> bytes:
    """Code a uint8 H x W x 3 RGB crop without loss."""
    if codec == "ppm":
        height, width = crop.shape[:2]
        return b"P6\n%d %d\n255\n" % (width, height) + np.ascontiguousarray(crop).tobytes()
    encoded = cv2.imencode(".png", crop[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    return encoded.tobytes()


def decode_crop(data: bytes | memoryview, size: int) -> np.ndarray:
    """A stored crop as a read-only or fresh uint8 size x size x 3 RGB array."""
    header = b"P6\n%d %d\n255\n" % (size, size)
    if bytes(data[: len(header)]) == header and len(data) == len(header) + size * size * 3:
        return np.frombuffer(data, np.uint8, offset=len(header)).reshape(size, size, 3)
    if bytes(data[:4]) == b"\x89PNG":
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if decoded is not None and decoded.shape == (size, size, 3):
            return np.ascontiguousarray(decoded[..., ::-1])
    raise CacheError(f"expected a lossless {size} x {size} crop but got {len(data)} other bytes")
