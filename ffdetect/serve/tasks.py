"""What worker processes do: everything that touches the bytes of users, and the networks.

A job goes in, an answer or a `Fault` comes out; only a crash, a hang or a full memory takes the
process with it, and then another one tries again.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata, resources
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from ffdetect.provenance import read_provenance
from ffdetect.scoring.analysis import analyze_pictures
from ffdetect.scoring.clip import score_video, shipped_voice
from ffdetect.scoring.detector import Detector
from ffdetect.voice.statistics import WINDOW
from preprocess.io.decode import DecodeError, Picture, decode_image
from preprocess.io.formats import SAMPLE_RATE, FileError, TooLargeError, UnknownFormatError
from preprocess.io.media import open_media, streams
from preprocess.io.sound import SoundReader
from preprocess.io.video.timeline import Timeline
from preprocess.work.cores import threads_allowed
from preprocess.work.pool import Alive

from . import schemas
from .messages import (
    Describe,
    Explain,
    Fault,
    Job,
    Maps,
    Scored,
    ScoreFile,
    ScorePictures,
)
from .settings import Settings

PREVIEW_SIDE = 1024  # pixels
_THUMBNAIL_SIDE = 160
_C2PA_SECONDS = 5  # of computing; others wait meanwhile
_BLOCK = 10.0  # seconds of sound


def make_task(settings: Settings) -> Callable[[Job, Alive], object]:
    """The task of a worker process (see `preprocess.work.pool`)."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    detector = Detector.load(settings.weights, "cpu", settings.precision)
    detector.max_megapixels = settings.max_megapixels
    worker, most = _Worker(detector, settings), threads_allowed()

    def task(job: Job, alive: Alive) -> object:
        detector.threads = int(min(job.threads, most)) if isinstance(job, ScorePictures) else 1
        match job:
            case ScorePictures():
                return worker.pictures(job, alive)
            case ScoreFile():
                work = worker.clip if job.kind == "clip" else worker.sound
                return _caught(lambda: work(job, alive))
            case Explain():
                return _caught(lambda: worker.explain(job))
            case Describe():
                return worker.describe()

    return task


class _Worker:
    def __init__(self, detector: Detector, settings: Settings) -> None:
        self._detector, self._settings = detector, settings

    def pictures(self, job: ScorePictures, alive: Alive) -> list[Scored | Fault]:
        faults: dict[int, Fault] = {}
        extras: list[tuple[schemas.Provenance | None, tuple[bytes, ...]]] = []
        settings, wanted = self._settings, job.wanted
        decode = partial(decode_image, max_megapixels=settings.max_megapixels)

        def decoded() -> Iterator[Picture]:
            for number, file in enumerate(job.files):
                alive()
                picture = _caught(partial(decode, file))
                if isinstance(picture, Fault):
                    faults[number] = picture
                    continue
                said = _provenance(file) if wanted.provenance else None
                seen = (_jpeg(picture.pixels, PREVIEW_SIDE),) if wanted.previews else ()
                extras.append((said, seen))
                yield picture

        analyses = analyze_pictures(
            self._detector, decoded(), verdicts=wanted.verdicts, most_faces=settings.max_faces
        )
        scored = (
            _scored(schemas.Picture, analysis, previews, provenance=said)
            for analysis, (said, previews) in zip(analyses, extras, strict=True)
        )
        return [faults.get(number) or next(scored) for number in range(len(job.files))]

    def clip(self, job: ScoreFile, alive: Alive) -> Scored:
        watch = _Watch(alive, self._settings.job_seconds)
        _check_length(job.path, self._settings.max_seconds, watch)
        seen = score_video(self._detector, job.path, frames=self._settings.frames, alive=watch)
        shown = [frame.crop for track in seen.tracks for frame in track.frames if job.previews]
        thumbnails = tuple(_jpeg(crop, _THUMBNAIL_SIDE) for crop in shown)
        notes = [*seen.notes, *([f"no voice: {seen.no_voice}"] if seen.no_voice else [])]
        said = _provenance(job.path)
        return _scored(schemas.Clip, seen, thumbnails, notes=notes, provenance=said)

    def sound(self, job: ScoreFile, alive: Alive) -> Scored:
        watch = _Watch(alive, self._settings.job_seconds)
        seconds = _check_sound(job.path, self._settings.max_seconds, watch)
        windows = count(1)
        heard = shipped_voice().analyze(
            job.path, alive=lambda: watch(min(next(windows) * WINDOW / max(seconds, WINDOW), 1.0))
        )
        return Scored(schemas.Sound(name="", provenance=_provenance(job.path), **vars(heard)))

    def explain(self, job: Explain) -> Maps:
        from ffdetect.scoring.explain import draw_heat, explain
        from preprocess.gallery import show_residual, show_spectrum

        found = explain(self._detector, job.file, job.face)
        return Maps(
            _png(draw_heat(found)),
            _png(show_residual(found.residual)),
            _png(show_spectrum(found.spectrum)),
        )

    def describe(self) -> schemas.Version:
        detector = self._detector
        calibration = detector.calibration and detector.calibration.to_dict()
        thresholds = None
        if detector.thresholds is not None:
            thresholds = {f"{rate:g}": score for rate, score in detector.thresholds.items()}
        card = ""
        if detector.shipped:
            card = (resources.files("ffdetect.weights") / "README.md").read_text("utf-8")
        return schemas.Version(
            version=metadata.version("ffdetect"),
            weights=detector.shipped or Path(self._settings.weights).name,
            thresholds=thresholds,
            calibration=json.loads(json.dumps(calibration)),
            about=json.loads(json.dumps(detector.about, default=str)),
            card=card,
        )


class _Watch:
    """Passes signs of life on, until a job has taken too long."""

    def __init__(self, alive: Alive, seconds: float) -> None:
        self._alive, self._seconds = alive, seconds
        self._deadline = time.monotonic() + seconds

    def __call__(self, progress: float | None = None) -> None:
        if time.monotonic() > self._deadline:
            raise _TooSlow(f"it took longer than {self._seconds:g} s")
        self._alive(progress)


class _TooSlow(Exception):
    pass


def _caught(work: Callable[[], object]):
    """What it gives, or the `Fault` of a file that cannot be used; our name of it is left out."""
    try:
        return work()
    except _TooSlow as error:
        return Fault("timeout", str(error))
    except TooLargeError as error:
        return Fault("too_large", error.reason)
    except UnknownFormatError as error:
        return Fault("unsupported_type", error.reason)
    except ValueError as error:  # DecodeError, NoFaceError, a face that is not there
        return Fault("unreadable", error.reason if isinstance(error, FileError) else str(error))


def _check_length(path: Path, most: float, alive: Alive) -> None:
    with open_media(path, "a clip") as container:
        found = streams(container, "video")
        index = found[0].index if found else None
        has_sound = bool(streams(container, "audio"))
    if index is not None:
        timeline = Timeline(path, index, alive)
        seconds = timeline.seconds
        timeline.close()
        if seconds > most:
            raise TooLargeError(f"expected at most {most:g} s but got {seconds:.0f} s of pictures")
    if has_sound:
        _check_sound(path, most, alive)


def _check_sound(path: Path, most: float, alive: Alive) -> float:
    """Seconds of sound. It is decoded to know how long it is; no header can be believed."""
    seconds = 0.0
    try:
        with SoundReader(path) as reader:
            for block in reader.blocks(_BLOCK):
                seconds += len(block) / SAMPLE_RATE
                alive()
                if seconds > most:
                    raise TooLargeError(f"expected at most {most:g} s of sound but got more")
    except TooLargeError:
        raise
    except DecodeError:  # said by whoever listens
        pass
    return seconds


def _provenance(file: bytes | Path) -> schemas.Provenance:
    return schemas.Provenance.model_validate(read_provenance(file, c2pa_seconds=_C2PA_SECONDS))


def _scored(
    kind: type[schemas.Picture | schemas.Clip],
    seen: object,
    previews: tuple[bytes, ...],
    **more: object,
) -> Scored:
    """What a detector saw, without the name of our copy of a file."""
    return Scored(kind.model_validate(seen).model_copy(update={"name": "", **more}), previews)


def _jpeg(pixels: np.ndarray, side: int) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
