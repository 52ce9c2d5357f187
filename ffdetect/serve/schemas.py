"""What the API answers, as OpenAPI shows it. Scores are 0 to 1, higher is more likely fake."""

from __future__ import annotations

import math
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    WithJsonSchema,
    model_validator,
)

from ffdetect.provenance import report
from ffdetect.scoring import verdict

# JSON has no nan, and no -1 or "" where there is nothing.
Number = Annotated[
    float | None, BeforeValidator(lambda x: None if x is None or math.isnan(x) else float(x))
]
Quantity = Annotated[int | None, BeforeValidator(lambda x: None if x == -1 else x)]
Verdict = Annotated[
    Literal["real", "fake", "uncertain"] | None, BeforeValidator(lambda x: x or None)
]


# For people; the page of the service, which is given the objects, tells their kinds apart.
Reason = Annotated[InstanceOf[verdict.Reason], WithJsonSchema({"type": "string"})]


class Answer(BaseModel):
    """Also made of what has attributes of these names, such as the results of a detector."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", from_attributes=True)


class Problem(Answer):
    """An error, after RFC 9457."""

    type: str = "about:blank"
    title: str
    """of the status"""
    status: int
    code: str
    """what to program with"""
    detail: str
    """for people"""
    request_id: str
    """of the request, to find it in the logs"""


class Box(Answer):
    """In pixels of the upright picture; may reach past it."""

    left: float = Field(examples=[171])
    top: float = Field(examples=[61])
    right: float = Field(examples=[277])
    bottom: float = Field(examples=[197])

    @model_validator(mode="before")
    @classmethod
    def _of_array(cls, box: Any) -> Any:
        named = isinstance(box, np.ndarray)
        return dict(zip(cls.model_fields, box.tolist(), strict=True)) if named else box


class Quality(Answer):
    side: float = Field(examples=[136])
    """longer side of the face in pixels of the picture"""
    blur: float = Field(examples=[0.31])
    """0 (sharp) to 1"""
    blocks: float = Field(examples=[0.4])
    """visibility of JPEG blocks: 1 and more catch the eye"""
    jpeg_quality: Quantity = Field(examples=[20])
    """1 to 100 by the file's tables, null if it is no JPEG"""
    format: str = Field(examples=["jpeg"])
    """of the file"""


class Face(Answer):
    box: Box
    probability: float = Field(examples=[0.9999])
    """how sure the face detector is that this is a face"""
    score: float = Field(examples=[0.93])
    """probability that the face is fake"""
    verdict: Verdict = Field(examples=["uncertain"])
    """null if it was not asked for"""
    reasons: list[Reason] = Field(examples=[["JPEG quality 20 is below 30"]])
    """why it is uncertain"""
    quality: Quality


class Provenance(Answer):
    """What a file says of itself. No score depends on it, and its absence proves nothing."""

    says_generated: bool = Field(examples=[False])
    """whether any claim, signed or not, says that all or part of it was generated"""
    summary: str = Field(examples=["The file says what software wrote it: GIMP 2.10 ..."])
    """for people"""
    claims: list[report.Claim]
    """"generated" first and "software" last, signed before unsigned"""
    manifests: list[report.Manifest]
    """of C2PA, the active one first"""
    generators: list[report.GeneratorText]
    camera: report.Camera | None
    """null without EXIF"""
    jpeg: report.JpegTables | None
    """null for other files"""
    container: report.Container | None
    """null for still pictures"""
    errors: list[report.ReadError]
    not_read: list[str]
    """what was not looked for"""


class Picture(Answer):
    name: str = Field(examples=["portrait.jpg"])
    """as it was sent, for people"""
    width: int = Field(examples=[512])
    height: int = Field(examples=[512])
    faces: list[Face]
    """largest first; empty if no face was found"""
    faces_left_out: int = Field(
        default=0, validation_alias=AliasChoices("faces_left_out", "left_out")
    )
    """smaller faces that were found and not scored"""
    provenance: Provenance | None = None
    """what the file says of itself; null if it was not asked for"""
    error: Problem | None = None
    """why this picture has no result, where others of the request have one"""


class Pictures(Answer):
    images: list[Picture]
    """in the order in which they were sent"""
    weights: str = Field(examples=["best"])


class Frame(Answer):
    """One face in one frame."""

    frame: int = Field(examples=[48])
    time: float = Field(examples=[1.92])
    """seconds from the start"""
    score: float = Field(examples=[0.93])
    box: Box


class Track(Answer):
    """One person from cut to cut."""

    track: int = Field(examples=[0])
    score: float = Field(examples=[0.93])
    start: float = Field(examples=[0.0])
    end: float = Field(examples=[7.6])
    frames: list[Frame]


class Window(Answer):
    """A stretch of sound."""

    start: float = Field(examples=[0.0])
    end: float = Field(examples=[4.0])
    score: Number = Field(examples=[0.87])
    """null for silence or a short rest"""
    level: float = Field(examples=[0.11])
    """root mean square, 0 to 1"""


class Clip(Answer):
    name: str = Field(examples=["talk.mp4"])
    score: Number = Field(examples=[0.91])
    """face and voice joined: fake if either is; null if there is neither"""
    face: float | None = Field(examples=[0.93])
    voice: float | None = Field(examples=[0.87])
    tracks: list[Track]
    windows: list[Window]
    notes: list[str]
    """why something is missing, and what was damaged"""
    provenance: Provenance | None = None


class Sound(Answer):
    name: str = Field(examples=["speech.wav"])
    score: float = Field(examples=[0.87])
    windows: list[Window]
    damaged: int = Field(examples=[0])
    """packets that could not be decoded, and were left out"""
    notes: list[str]
    """what was damaged or is missing"""
    provenance: Provenance | None = None


class State(str, Enum):
    queued = "queued"
    running = "running"
    done = "done"
    failed = "failed"
    cancelled = "cancelled"


class Job(Answer):
    id: str = Field(examples=["tSx0ca1wVq2Yb3mRk9nP5g"])
    kind: Literal["clip", "sound"] = Field(examples=["clip"])
    state: State = Field(examples=["running"])
    progress: float = Field(ge=0, le=1, examples=[0.4])
    """share of the work that is done, roughly"""
    waiting: int = Field(examples=[0])
    """jobs that come before it"""
    created: datetime = Field(examples=["2026-11-30T12:00:00Z"])
    expires: datetime | None
    """until when the result can be fetched; null while there is none"""
    result: Clip | Sound | None = None
    error: Problem | None = None


class Health(Answer):
    status: Literal["ok"] = "ok"


class Ready(Answer):
    ready: bool = Field(examples=[True])
    workers: int = Field(examples=[2])
    """that have loaded their weights"""
    pictures: int = Field(examples=[5])
    """accepted and not answered yet"""
    jobs: int = Field(examples=[0])
    """waiting or running"""


class Version(Answer):
    version: str = Field(examples=["1.0.0"])
    weights: str = Field(examples=["best"])
    """as the service was told"""
    thresholds: dict[str, float] | None = Field(
        examples=[{"0.1": 0.62, "0.01": 0.86, "0.001": 0.95}]
    )
    """false-positive rate -> score from which a face is flagged at it"""
    calibration: dict | None
    """what the scores were calibrated on"""
    about: dict = Field(examples=[{"date": "2026-11-30"}])
    """what the weights tell of their training"""
    card: str = Field(examples=["# Model card ..."])
    """the model card of shipped weights, in Markdown"""
