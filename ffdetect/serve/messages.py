"""What goes to worker processes and comes back; importing it costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import schemas


@dataclass(frozen=True)
class Wanted:
    """What is to be told of pictures, beside their scores."""

    verdicts: bool = True
    provenance: bool = True
    previews: bool = False


@dataclass(frozen=True)
class ScorePictures:
    """Files of pictures -> a list with a `Scored` or a `Fault` for each, by so many threads."""

    files: tuple[bytes, ...]
    wanted: Wanted
    threads: int = 1


@dataclass(frozen=True)
class ScoreFile:
    """A clip or a sound, in a file of this machine -> a `Scored` or a `Fault`."""

    kind: Literal["clip", "sound"]
    path: Path
    previews: bool = False


@dataclass(frozen=True)
class Explain:
    """A file of a picture and the number of a face in it -> `Maps` or a `Fault`."""

    file: bytes
    face: int


@dataclass(frozen=True)
class Describe:
    """-> `schemas.Version`."""


Job = ScorePictures | ScoreFile | Explain | Describe


@dataclass(frozen=True)
class Scored:
    """Attributes:
    answer: its name is given by whoever knows it.
    previews: JPEG files; of a picture, or of every frame of a clip's tracks, one after the other.
    """

    answer: schemas.Picture | schemas.Clip | schemas.Sound
    previews: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Maps:
    """What moved the score of a face, as PNG files."""

    heat: bytes
    residual: bytes
    spectrum: bytes


@dataclass(frozen=True)
class Fault:
    """Why a file has no result.

    Attributes:
        code: one of `errors.STATUS`.
        message: for people.
    """

    code: str
    message: str
