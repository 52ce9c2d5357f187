"""One source file in, its rows out: the work of `preprocess.crop`, whichever process does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pyarrow as pa

from preprocess.cache.errors import Failure
from preprocess.cache.faces import CachedFace, CacheSettings, to_table
from preprocess.faces.crop import crop_face
from preprocess.faces.crop_maps import residual, spectrum
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import Face
from preprocess.faces.tracks import clip_faces
from preprocess.io.decode import DecodeError, Picture, decode_image
from preprocess.io.sources import Item, is_clip
from preprocess.io.storage import StorageError, local_copy


@dataclass(frozen=True)
class Rows:
    """What one file gave.

    Attributes:
        table: with the columns of `schema`, at least one row.
        notes: what was damaged or not read as it was meant, for people.
    """

    table: pa.Table
    notes: tuple[str, ...] = ()


Result = Rows | Failure | StorageError


def make_extract(
    settings: CacheSettings, device: str, max_megapixels: float
) -> Callable[[Item, Callable[[], None]], Result]:
    """The task of a worker process (see `pool.work`); it computes on one core.

    Args:
        device: where MTCNN runs.
    """
    cv2.setNumThreads(1)
    detector = FaceDetector(settings.crop, device)

    def extract_one(item: Item, alive: Callable[[], None]) -> Result:
        return extract(item, detector, settings, max_megapixels, alive)

    return extract_one


def extract(
    item: Item,
    detector: FaceDetector,
    settings: CacheSettings,
    max_megapixels: float,
    alive: Callable[[], None] = lambda: None,
) -> Result:
    """The rows of one file, or why there are none.

    A `StorageError` is given back, not raised: it is no fault of the process, nor of the file.
    """
    notes: list[str] = []
    try:
        with local_copy(item.file, alive) as file:
            local = replace(item, file=file)
            rows = crop_item(local, detector, settings, max_megapixels, alive, notes)
    except DecodeError as error:
        # Named as it was asked for: what was read may be a copy.
        return Failure(item.path, "unreadable", f"{item.file}: {error.reason}")
    except OSError as error:  # decoders have a `DecodeError` for theirs
        return Failure(item.path, "unreadable", f"{item.file}: cannot be read: {error}")
    except StorageError as error:
        return error
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
        rows = _clip_rows(item, detector, settings, max_megapixels, alive, notes)
    else:
        picture = decode_image(item.file, max_megapixels=max_megapixels)
        rows = face_rows(item, picture, detector, settings)
        alive()
    if rows and settings.maps:
        for row, maps in zip(rows, _maps(rows, settings), strict=True):
            row.spectrum, row.residual = maps
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
        _row(
            item,
            picture.frame,
            number,
            face,
            crop_face(picture.pixels, face, settings.crop),
            source_width=picture.width,
            source_height=picture.height,
            source_format=picture.format,
            jpeg_quality=picture.jpeg_quality,
        )
        for number, face in enumerate(faces)
    ]


def _clip_rows(
    item: Item,
    detector: FaceDetector,
    settings: CacheSettings,
    max_megapixels: float,
    alive: Callable[[], None],
    notes: list[str] | None,
) -> list[CachedFace]:
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
    return [
        _row(
            item,
            one.frame,
            one.track,
            one.face,
            one.crop,
            source_width=one.width,
            source_height=one.height,
            source_format=one.format,
            jpeg_quality=-1,
        )
        for one in found
        if one.face is not None
    ]


def _row(item: Item, frame: int, number: int, face: Face, crop: np.ndarray, **source) -> CachedFace:
    return CachedFace(
        key=f"{item.path}#{frame}#{number}",
        path=item.path,
        frame=frame,
        face=number,
        target=item.target,
        generator=item.generator,
        group=item.group,
        split=item.split,
        box=face.box,
        landmarks=face.landmarks,
        probability=face.probability,
        crop=crop,
        **source,
    )


def _maps(rows: Sequence[CachedFace], settings: CacheSettings):
    for row in rows:
        yield (
            spectrum(row.crop) if "spectrum" in settings.maps else None,
            residual(row.crop, settings.residual) if "residual" in settings.maps else None,
        )
