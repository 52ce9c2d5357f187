"""One source file in, its rows out: the work of `preprocess.crop`, whichever process does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from preprocess.cache.errors import Failure, attempt
from preprocess.cache.faces import CachedFace, CacheSettings, to_table
from preprocess.faces.crop import crop_face
from preprocess.faces.crop_maps import residual, spectrum
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import Face
from preprocess.faces.tracks import ClipFace, clip_faces
from preprocess.io.decode import Picture, decode_image
from preprocess.io.sources import Item, is_clip
from preprocess.io.storage import StorageError
from preprocess.work.cores import computing


@dataclass(frozen=True)
class Rows:
    """What one file gave.

    Attributes:
        table: with the columns of `schema`, at least one row.
        notes: what was damaged or not read as it was meant, for people.
    """

    table: pa.Table
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    def to_table(self, item: Item, settings: CacheSettings) -> pa.Table:
        """As it came: a worker process has the settings, too."""
        return self.table


Result = Rows | Failure | StorageError


def make_extract(
    settings: CacheSettings, device: str, max_megapixels: float
) -> Callable[[Sequence[Item], Callable[[], None]], list[Result]]:
    """The task of a worker process (see `fill`); it computes on one core.

    Args:
        device: where MTCNN runs.
    """
    detector = FaceDetector(settings.crop, device)

    def extract_all(items: Sequence[Item], alive: Callable[[], None]) -> list[Result]:
        with computing(1):
            return [extract(item, detector, settings, max_megapixels, alive) for item in items]

    return extract_all


def extract(
    item: Item,
    detector: FaceDetector,
    settings: CacheSettings,
    max_megapixels: float,
    alive: Callable[[], None] = lambda: None,
) -> Result:
    """The rows of one file, or why there are none; see `attempt`."""
    notes: list[str] = []

    def read(file: Path) -> list[CachedFace]:
        local = replace(item, file=file)
        return crop_item(local, detector, settings, max_megapixels, alive, notes)

    rows = attempt(item, read, alive)
    if isinstance(rows, Failure | StorageError):
        return rows
    if not rows:
        return Failure(item.path, "no_face", "; ".join(["no face was found", *notes]))
    return Rows(to_table(rows, settings), tuple(notes))


def crop_item(
    item: Item,
    detector: FaceDetector,
    settings: CacheSettings,
    max_megapixels: float,
    alive: Callable[[], None] = lambda: None,
    notes: list[str] | None = None,
) -> list[CachedFace]:
    """All rows of one picture or clip, empty without a face.

    Those of a picture are in order of size, those of a clip in order of time. `alive` is called
    after every picture. `notes`: see `clips.key_frames`.

    Raises:
        DecodeError: the file cannot be read.
    """
    if is_clip(item.local):
        found = clip_faces(
            item.local,
            detector,
            settings.crop,
            frames=settings.frames,
            people=settings.faces,
            max_megapixels=max_megapixels,
            alive=alive,
            notes=notes,
        )
        rows = [_row(item, one, one.track, one.face, one.crop) for one in found if one.face]
    else:
        picture = decode_image(item.file, max_megapixels=max_megapixels)
        rows = face_rows(item, picture, detector, settings)
        alive()
    for row in rows:
        if "spectrum" in settings.maps:
            row.spectrum = spectrum(row.crop)
        if "residual" in settings.maps:
            row.residual = residual(row.crop, settings.residual)
    return rows


def face_rows(
    item: Item, picture: Picture, detector: FaceDetector, settings: CacheSettings
) -> list[CachedFace]:
    """The rows of one decoded picture, without maps, largest face first."""
    if settings.faces == "largest":
        largest = detector.largest(picture.pixels)
        faces = [] if largest is None else [largest]
    else:
        faces = detector.detect(picture.pixels)
    return [
        _row(item, picture, number, face, crop_face(picture.pixels, face, settings.crop))
        for number, face in enumerate(faces)
    ]


def _row(
    item: Item, source: Picture | ClipFace, number: int, face: Face, crop: np.ndarray
) -> CachedFace:
    return CachedFace(
        key=f"{item.path}#{source.frame}#{number}",
        path=item.path,
        frame=source.frame,
        face=number,
        target=item.target,
        generator=item.generator,
        group=item.group,
        split=item.split,
        box=face.box,
        landmarks=face.landmarks,
        probability=face.probability,
        source_width=source.width,
        source_height=source.height,
        source_format=source.format,
        jpeg_quality=source.jpeg_quality if isinstance(source, Picture) else -1,
        crop=crop,
    )
